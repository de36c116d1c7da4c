"""Classification of examples by Bayes' rule with a trained model of labels, and its accuracy."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from kakusan.console import counted
from kakusan.errors import InputError
from kakusan.likelihood.classes import MOST, Posterior
from kakusan.likelihood.evaluation import Evaluation
from kakusan.run.evaluation_data import data_of
from kakusan.run.families.conditional import known_labels
from kakusan.run.source import open_source
from kakusan.run.trained_model import load
from kakusan.storage.arrays import csv_bytes
from kakusan.units import bits_per_dim

CLASSIFIED = 200  # number of examples that an evaluation classifies
SHOWN = 20  # number of examples in the printed table


@dataclass(frozen=True)
class Classified:
    """Result of classification by Bayes' rule.

    Attributes:
        classes: Names of the classes.
        names: Name of each example.
        found: Class probabilities of each example.
        labels: Known class of each example, -1 for unknown; None without labels.
        bits: Bound on log p(x) in bits/dim with q(k | x) from Bayes' rule, and its standard error; None if not measured.
        rate: The same in words, in the unit of the data.
        cautions: Lines of text on a bound that is too poor for a comparison of classes.
    """

    classes: tuple[str, ...]
    names: tuple[str, ...]
    found: Posterior
    labels: Tensor | None = None
    bits: tuple[float, float | None] | None = None
    rate: str = ""
    cautions: tuple[str, ...] = ()

    @property
    def accuracy(self) -> tuple[float, float, int] | None:
        """Share of labeled examples whose likeliest class is the label, its standard error, and the number of such examples."""
        known = None if self.labels is None else self.labels >= 0
        if self.labels is None or known is None or not known.any():
            return None
        right, num = int((self.found.k[known] == self.labels[known]).sum()), int(known.sum())
        near = (right + 1) / (num + 2)  # Laplace's estimate, so that an accuracy of 100 % has an error above 0
        return right / num, math.sqrt(near * (1 - near) / num), num

    def record(self) -> dict[str, Any]:
        """Return plain JSON values."""
        record: dict[str, Any] = {
            "num_examples": len(self.names),
            "classes": list(self.classes),
            "network_evaluations": self.found.evaluations,
        }
        if self.accuracy is not None:
            share, stderr, num = self.accuracy
            record |= {"accuracy": share, "accuracy_standard_error": stderr, "num_labeled": num}
        if self.bits is not None:
            record |= {"bits_per_dim": self.bits[0], "standard_error": self.bits[1]}
        return record

    def examples(self) -> list[dict[str, Any]]:
        """Return plain JSON values, one table for each example."""
        rows = zip(self.names, self.found.k.tolist(), self.found.probs.tolist(), self.found.stderr.tolist())
        return [
            {"name": name, "label": self.classes[k], "probabilities": probs, "log_odds_standard_error": stderr}
            for name, k, probs, stderr in rows
        ]

    def lines(self) -> list[str]:
        """Return the accuracy and the bound as lines of text."""
        lines = list(self.cautions)
        if self.bits is not None:
            lines.append(
                f"  bound on p(x)   {aligned(self.rate)}, summed over the classes "
                f"of the first {counted(len(self.names), 'example')}"
            )
        if self.accuracy is not None:
            share, stderr, num = self.accuracy
            lines.append(
                f"  Bayes' rule finds the label of {100 * share:.1f} ± {100 * stderr:.1f} % of {counted(num, 'example')}"
            )
        return lines

    def table(self) -> str:
        """Return a readable table: name, likeliest label, its probability, and the log-odds to the next with its error."""
        found = self.found
        columns = (found.k.tolist(), found.probs, found.log_odds.tolist(), found.stderr.tolist())
        rows = [
            (name, self.classes[k], f"{probs[k].item():.4f}", f"{odds:.2f}", f"{stderr:.2f}")
            for name, k, probs, odds, stderr in zip(self.names, *columns)
        ]
        header = ("name", "label", "probability", "log_odds", "log_odds_stderr")
        return csv_bytes([header, *rows]).decode().rstrip("\n")


def classify(
    run: Path | str,
    data: str | None = None,
    *,
    split: str = "test",
    limit: int | None = None,
    evaluations: int = MOST,
    seed: int = 0,
    device: str = "auto",
) -> Classified:
    """Classify data by Bayes' rule with the model of a run directory or an exported file.

    Args:
        run: Run directory or exported file.
        data: Data of the same shape (default: the run's own).
        split: Part of the run's own data, "test" (held out) or "train". Other data are used whole.
        limit: Number of examples, from the first one on (default: all).
        evaluations: Largest number of network evaluations for each example and class.
        seed: Random seed.
        device: "auto", "cpu", "cuda" or "cuda:N".
    """
    from kakusan.run.summary import noise_caution  # it imports this module

    if limit is not None and limit < 1:
        raise InputError(f"--limit must be at least 1, got {limit}")
    model = load(run, device)
    dataset = data_of(open_source(run), model, data, "DATA")
    part = "test" if data is not None else split
    examples, names = getattr(dataset, part)[:limit], dataset.names or None
    found = model.classify(examples, evaluations, seed)
    labels = known_labels(model.recipe.model, dataset, part, limit) if dataset.classes else None
    listed = tuple(map(str, range(len(examples)))) if names is None else names[:limit]
    mean = found.bounds.gather(1, found.k[:, None]).mean().item() + model.grid_nats()
    cautions = noise_caution(model, bits_per_dim(mean, model.num_dims))
    return Classified(model.classes, listed, found, labels, cautions=tuple(cautions))


def given_labels(result: Evaluation, labels: Tensor) -> dict[str, Any]:
    """Return the bits per dimension of p(x | label) if every example is labeled; otherwise an empty table."""
    if "class" not in result.terms or not bool((labels >= 0).all()):
        return {}
    bits = result.bits_per_dim - result.terms["class"]
    return {"bits_per_dim": bits, "standard_error": result.standard_error}


def given_line(rate: str) -> str:
    """Return the bound given the labels as a line of text, from its rate in the unit of the data."""
    return f"  given the label {aligned(rate)}, without log p(label)"


def aligned(rate: str) -> str:
    """Pad a number and its unit so that the number ends in column 10."""
    return rate.rjust(len(rate) + 10 - rate.index(" "))
