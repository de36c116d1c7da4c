"""kakusan sample: new examples as a picture and an array."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from kakusan import distributed
from kakusan.cli.arguments import Sample
from kakusan.console import tell, writing
from kakusan.errors import InputError
from kakusan.images import Images
from kakusan.run.directory import refuse_inside_a_run
from kakusan.run.trained_model import load
from kakusan.solvers.calls import counted

LARGEST_SHEET = 400


def main(command: Sample) -> int:
    """Draw and write; prints where."""
    if command.n < 1:
        raise InputError(f"-n must be at least 1, got {command.n}")
    model = load(command.run, command.device)
    out = command.out or Path("samples") / _name(command)
    refuse_inside_a_run(out)
    choices = {name: getattr(command, name) for name in ("steps", "guidance", "spacing", "eta", "churn", "end_log_snr")}
    if remark := model.remark(command.sampler, command.steps, command.spacing):
        tell(remark)
    with counted(*model.denoisers) as calls:
        samples = model.sample(command.n, command.seed, sampler_name=command.sampler, **choices)
    (total,) = distributed.all_reduce_sum([float(calls.total)])
    if total:
        tell(f"{total / command.n:g} network call{'' if total == command.n else 's'} a sample")
    if not distributed.is_rank0():
        return 0
    with writing(out):
        out.mkdir(parents=True, exist_ok=True)
        np.save(out / "samples.npy", np.asarray(samples))
    written = [out / "samples.npy"]
    if isinstance(samples, Images):
        facts = {"run": command.run, "n": command.n, "seed": command.seed, "sampler": command.sampler, **choices}
        with writing(out):
            sheet = Images(samples[:LARGEST_SHEET])
            sheet.save(out / "samples.png", {k: v for k, v in facts.items() if v is not None})
        written.insert(0, out / "samples.png")
        if len(samples) > LARGEST_SHEET:
            tell(f"the picture shows the first {LARGEST_SHEET}; the array holds all {len(samples):,}")
    for path in written:
        print(path)
    return 0


def _name(command: Sample) -> str:
    """A folder for each different request."""
    words = "".join(f"-{word}" for word in (command.sampler, command.spacing) if word)
    given = [(name, getattr(command, name)) for name in ("steps", "eta", "churn", "guidance", "end_log_snr")]
    numbers = "".join(f"-{name.replace('_', '-')}{value:g}" for name, value in given if value is not None)
    run = command.run.resolve()
    name = run.stem if run.is_file() else run.name
    return f"{name}{words}{numbers}-seed{command.seed}-n{command.n}"
