"""kakusan evaluate: bits per dimension with a standard error, by term; and with --samples, how good samples are."""

from __future__ import annotations

import json
from pathlib import Path

from kakusan.cli.arguments import Evaluate
from kakusan.console import counted, tell_measuring
from kakusan.data.dataset import Dataset
from kakusan.errors import InputError
from kakusan.likelihood.evaluation import Part, stderr_words
from kakusan.measure.classifier import SHIPPED
from kakusan.measure.samples import Quality
from kakusan.run.evaluation_data import data_of
from kakusan.run.quality import file_quality, sample_quality
from kakusan.run.summary import NO_BOUND, error_words, measure_bound
from kakusan.run.trained_model import TrainedModel, load


def main(command: Evaluate) -> int:
    """Evaluate and print; with --json one object alone on stdout. Of a student only samples, which must be asked for."""
    if command.limit is not None and command.limit < 1:
        raise InputError(f"--limit must be at least 1, got {command.limit}")
    if command.importance is not None and command.importance < 1:
        raise InputError(f"--importance must be at least 1, which is the ELBO itself, got {command.importance}")
    model = load(command.run, command.device)
    if command.samples is None and command.features is None:
        model.check_bound()
    if model.is_student:
        _check_samples_only(command)
    dataset = data_of(command.run, model, command.data)
    quality = _quality(command, model, dataset)
    if model.is_student:
        assert quality is not None, "there is nothing else to say of a student"
        print(json.dumps({"samples": quality.record()}) if command.json else "\n".join([NO_BOUND, *quality.lines()]))
        return 0
    data = (dataset.test if command.split == "test" else dataset.train)[: command.limit]
    tell_measuring(len(data))
    measured = measure_bound(model, data, command.seed, command.importance)
    result = measured.result
    if command.json:
        samples = {"samples": quality.record()} if quality else {}
        print(json.dumps({**result.record(), **measured.parts(), **samples}))
        return 0
    print(f"{result}   {error_words(result)}")
    print(
        f"{result.nats:.2f} ± {stderr_words(result.nats_standard_error)} nats, {result.bits_per_example:.1f} bits an example"
    )
    print(
        f"{counted(result.num_images, 'example')} of {dataset.name}, {counted(result.network_evaluations, 'network call')}; {result.estimator}"
    )
    for name, value in result.terms.items():
        print(f"  {name:<16}{value:10.4f} ± {stderr_words(result.term_errors[name])} bits/dim")
    for part in result.levels[1:]:
        print(f"    {part.name:<14}{part.bits_per_dim:10.4f} ± {stderr_words(part.standard_error)}{_range(part)}")
    for line in [*measured.lines(), *(quality.lines() if quality else [])]:
        print(line)
    return 0


def _check_samples_only(command: Evaluate) -> None:
    """InputError for a flag that is of the bound."""
    flags = {"--importance": command.importance, "--limit": command.limit, "--split": command.split}
    for name, value in flags.items():
        if value not in (None, "test"):
            raise InputError(f"{name} is of the bound, and a student has none, got {value}; leave it out")


def _quality(command: Evaluate, model: TrainedModel, dataset: Dataset) -> Quality | None:
    """What --samples and --features ask for, before the bound: a mistake shows at once."""
    features = command.features
    if features is not None and features not in SHIPPED:
        if command.samples is not None:
            raise InputError("give --samples, or --features with a file, which brings its samples' features along")
        return file_quality(Path(features))
    if command.samples is None:
        if features is not None:
            raise InputError(
                f"--features {features} says by what to measure samples: say how many with --samples 10000"
            )
        return None
    return sample_quality(model, dataset, command.samples, command.seed, features or "digits")


def _range(part: Part) -> str:
    return f"   log SNR {part.log_snr[0]:+.1f} to {part.log_snr[1]:+.1f}" if part.log_snr else ""
