"""Records of a run directory: each is checked once, when it is read. Does not import torch."""

from __future__ import annotations

import math
from typing import Any

from kakusan.errors import InputError, shown

TEXT, WHOLE, NUMBER, UNKNOWN, ANY = "text", "a whole number", "a number", "a number or null", "anything"
LONGEST_TEXT = 100_000
MOST_WHOLE = 2**63

# A record is a table: name -> kind. A name with "?" may be missing, "*" means any name, [kind] is a list.
_ERROR = {"bits_per_dim": NUMBER, "standard_error": UNKNOWN}
_LIKELIHOOD = {
    **_ERROR,
    "standard_error_monte_carlo?": UNKNOWN,
    "standard_error_images?": UNKNOWN,
    "nats": NUMBER,
    "elbo_nats?": NUMBER,
    "bits_per_example": NUMBER,
    "num_images": WHOLE,
    "estimator": TEXT,
    "terms": {"*": NUMBER},
    "levels?": [{"name": TEXT, **_ERROR, "log_snr": ANY}],
}
_MEASURES = {"*": {"value": NUMBER, "standard_error?": UNKNOWN}}
RECORDS: dict[str, dict[str, Any]] = {
    "run.json": {
        "recipe": {"*": ANY},
        "seed": ANY,  # a whole number of any size
        "device": TEXT,
        "parameters": WHOLE,
        "command": [TEXT],
        "started": TEXT,
        "versions": {"*": TEXT},
        "job?": TEXT,
        "resumed?": [[TEXT]],
        "budgets_before?": [{"until": WHOLE, "minutes": UNKNOWN, "steps": UNKNOWN}],
        "rollbacks?": [WHOLE],
        "teacher_sha256?": TEXT,
        "first_data?": TEXT,
    },
    "data.json": {
        "name": TEXT,
        "kind": TEXT,
        "event_shape": [WHOLE],
        "train": WHOLE,
        "held_out": WHOLE,
        "digest": TEXT,
        "split?": TEXT,
    },
    "summary.json": {
        "lines": [TEXT],
        "steps": WHOLE,
        "seconds": NUMBER,
        "examples": WHOLE,
        "weights_sha256": TEXT,
        "likelihood?": _LIKELIHOOD,
        "floor_bits_per_dim?": NUMBER,
        "latents?": [{"name": TEXT, "bits": [NUMBER], "total": NUMBER, "collapsed": [WHOLE]}],
        "third_term?": {"*": {"bits_per_dim": NUMBER, "nats": NUMBER}},
        "recognised?": {"samples": NUMBER, "num_samples": WHOLE, "real": NUMBER},
        "samples?": {
            "num_samples": WHOLE,
            "num_reference": WHOLE,
            "features": TEXT,
            "measures": _MEASURES,
            "floor": _MEASURES,
        },
    },
    "history.jsonl": {
        "step": WHOLE,
        "examples?": WHOLE,
        "seconds?": NUMBER,
        "loss?": UNKNOWN,
        "bits_per_dim?": NUMBER,
        "standard_error?": UNKNOWN,
        "train_bits_per_dim?": NUMBER,
        "train_standard_error?": UNKNOWN,
        "terms?": {"*": NUMBER},
    },
}


def check_record(name: str, value: Any, where: str = "") -> dict[str, Any]:
    """Check and return a record by its name in `RECORDS`; an InputError names the first entry that does not fit."""
    _check(value, RECORDS[name], where or name)
    if name == "run.json" and type(value["seed"]) is not int:
        raise InputError(f"{where or name}: seed must be a whole number, got {shown(value['seed'])}")
    return value


def _check(value: Any, kind: Any, where: str) -> None:
    if isinstance(kind, dict):
        _check_table(value, kind, where)
    elif isinstance(kind, list):
        if not isinstance(value, list):
            raise InputError(f"{where} must be a list, got {shown(value)}")
        for number, one in enumerate(value, 1):
            _check(one, kind[0], f"{where}, entry {number}")
    elif not _fits(value, kind):
        raise InputError(f"{where} must be {kind}, got {shown(value)}")


def _check_table(value: Any, kind: dict[str, Any], where: str) -> None:
    if not isinstance(value, dict):
        raise InputError(f"{where} must be a table, got {shown(value)}")
    for name, inner in kind.items():
        if name == "*":
            for entry, one in value.items():
                _check(one, inner, f"{where}: {shown(entry)}")
        elif name.rstrip("?") in value:
            _check(value[name.rstrip("?")], inner, f"{where}: {name.rstrip('?')}")
        elif not name.endswith("?"):
            raise InputError(f"{where} has no {name}")


def _fits(value: Any, kind: str) -> bool:
    if kind == ANY:
        return True
    if kind == TEXT:
        return isinstance(value, str) and len(value) <= LONGEST_TEXT
    if type(value) is int:
        return abs(value) < MOST_WHOLE
    if kind == UNKNOWN and value is None:
        return True
    return kind in (NUMBER, UNKNOWN) and isinstance(value, float) and math.isfinite(value)
