"""Evaluation of a trained model: the bound in bits per dimension by term, and measures of its samples."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from kakusan.console import counted, tell, tell_measuring
from kakusan.data.forms.base import Form
from kakusan.data.forms.images import ImageForm
from kakusan.distributions import add
from kakusan.errors import InputError
from kakusan.likelihood.diffusion import FEWEST
from kakusan.likelihood.evaluation import Evaluation, Part, stderr_words, stratified_var, var_of_mean
from kakusan.likelihood.three import three_estimates
from kakusan.measure.classifier import SHIPPED
from kakusan.measure.samples import ANY, Quality
from kakusan.progress import progress
from kakusan.run.bayes import CLASSIFIED, Classified, aligned, given_labels, given_line
from kakusan.run.evaluation_data import data_of
from kakusan.run.families.conditional import known_labels
from kakusan.run.precision import repeated_until
from kakusan.run.quality import file_quality, sample_quality
from kakusan.run.source import open_source
from kakusan.run.trained_model import TrainedModel, load
from kakusan.units import bits_per_dim

NO_BOUND = "a student has no bound: it draws samples in few network evaluations and does not score given examples"
NOT_SPLIT = "the Monte Carlo part of the error was not measured"
SMALLEST_SHOWN = 0.00005  # bits/dim; the least value that four decimals do not round to 0


@dataclass(frozen=True)
class Measured:
    """Bound of examples, with further measures of the model family.

    Attributes:
        result: The bound.
        details: Further measures by name, as plain JSON values.
        lines: The details as lines of text.
    """

    result: Evaluation
    details: dict[str, Any]
    lines: list[str]


@dataclass(frozen=True)
class Evaluated:
    """Result of `evaluate`. `measured` is None for a student; `quality` is None unless samples were requested."""

    data: str
    measured: Measured | None
    quality: Quality | None
    form: Form = field(default_factory=ImageForm, compare=False)  # of the examples; defines the unit of the bound

    def record(self) -> dict[str, Any]:
        """Return plain JSON values."""
        samples = {"samples": self.quality.record()} if self.quality else {}
        return {**(self.measured.result.record() | self.measured.details if self.measured else {}), **samples}

    def _rate(self, bits_per_dim: float, standard_error: float | None) -> str:
        return self.form.rate(bits_per_dim, standard_error, self.measured.result.num_dims if self.measured else 1)

    def _level_line(self, part: Part) -> str:
        levels = f"   log SNR {part.log_snr[0]:+.1f} to {part.log_snr[1]:+.1f}" if part.log_snr else ""
        return f"    {part.name:<14}{aligned(self._rate(part.bits_per_dim, part.standard_error))}{levels}"

    def lines(self) -> list[str]:
        """Return the result as lines of text."""
        quality = self.quality.lines() if self.quality else []
        if self.measured is None:
            return [NO_BOUND, *quality]
        result = self.measured.result
        sign = -1 if self.form.shows_elbo else 1
        bits = f"{sign * result.bits_per_example:z.1f} bits per example"
        return [
            f"{self._rate(result.bits_per_dim, result.standard_error)}   {error_words(result, self.form)}",
            f"{sign * result.nats:z.2f} ± {stderr_words(result.nats_standard_error)} nats, {bits}",
            f"{counted(result.num_images, 'example')} of {self.data}, "
            f"{counted(result.network_evaluations, 'network evaluation')}; {result.estimator}",
            *(
                f"  {name:<16}{aligned(self._rate(value, result.term_errors[name]))}"
                for name, value in result.terms.items()
            ),
            *[self._level_line(level) for level in result.levels[1:] if level.evaluated],
            *self.measured.lines,
            *quality,
        ]


def evaluate(
    run: Path | str,
    *,
    split: str = "test",
    limit: int | None = None,
    data: str | None = None,
    repeats: int | None = None,
    importance: int | None = None,
    error: float | None = None,
    estimators: bool = False,
    classified: int = CLASSIFIED,
    samples: int | None = None,
    features: str | None = None,
    seed: int = 0,
    device: str = "auto",
) -> Evaluated:
    """Evaluate the model of a run directory or an exported file.

    Args:
        run: Run directory or exported file.
        split: "test" (held out) or "train".
        limit: Number of examples, from the first one on (default: all).
        data: Other data of the same shape, all of which are measured (default: the run's own).
        repeats: Independent estimates to average (default: 1, more for fewer than 250 examples).
        importance: K of the importance-weighted bound of a VAE or hierarchical VAE (default: the ELBO).
        error: Wanted standard error in bits/dim; estimates are repeated until it is reached (default: none).
        estimators: Also estimate the ELBO of a few examples from paths, pairs and single latents.
        classified: Number of examples, from the first one on, that a model of labels classifies by Bayes' rule.
        samples: Number of samples to draw and measure (default: none).
        features: Features in which samples are measured: "digits", "fashion", "multiscale", or a file of features.
        seed: Random seed.
        device: "auto", "cpu", "cuda", "cuda:N" or "mps".
    """
    for name, value in {"limit": limit, "importance": importance, "repeats": repeats}.items():
        if value is not None and value < 1:
            raise InputError(f"--{name} must be at least 1, got {value}")
    model = load(run, device)
    if samples is None and features is None:
        model.check_bound()
    if estimators and model.family.has_bound and not model.family.estimators:
        raise InputError(f"--estimators is for diffusion models; omit it for the model {model.recipe.name}")
    if not model.family.has_bound:
        other_split = None if split == "test" else split
        options = {"--importance": importance, "--limit": limit, "--repeats": repeats, "--split": other_split}
        _refuse_bound_options(options | {"--estimators": estimators or None, "--error": error})
    dataset = data_of(open_source(run), model, data)
    quality = _quality(model, dataset, samples, features, seed)
    if not model.family.has_bound:
        return Evaluated(dataset.name, None, quality, dataset.form)
    _check_split(split, data)
    examples = (dataset.test if split == "test" else dataset.train)[:limit]
    tell_measuring(len(examples))
    labels = known_labels(model.recipe.model, dataset, split, limit)
    measured = measure_bound(model, examples, seed, importance, repeats, labels, error)
    if model.classes and classified:
        measured = _with_classes(measured, model, examples[:classified], labels, seed, repeats)
    if estimators:
        measured = _with_estimators(measured, model, examples, seed)
    return Evaluated(dataset.name, measured, quality, dataset.form)


def _check_split(split: str, data: str | None) -> None:
    if split != "test" and data is not None:
        raise InputError(
            f"--split {split} is a part of the run's own data, and --data is measured whole; give one of them"
        )


def _with_estimators(measured: Measured, model: TrainedModel, examples: Tensor, seed: int) -> Measured:
    batch = model.batches(examples)
    three = three_estimates(model.chain, batch, len(examples), seed, offset_nats=model.grid_nats())
    details, lines = {**measured.details, "three_estimates": three}, measured.lines + _estimator_lines(three)
    return Measured(measured.result, details, lines)


def _with_classes(
    measured: Measured, model: TrainedModel, examples: Tensor, labels: Tensor | None, seed: int, repeats: int | None
) -> Measured:
    """Add the accuracy of Bayes' rule, and the bound on log p(x) with q(k | x) from Bayes' rule with independent noise."""
    found = model.classify(examples, seed=seed)
    turns = range(repeats or model.family.repeats(len(examples)))
    summed = averaged([model.evaluate(examples, seed + _REPEAT * k, labels=found.probs) for k in turns])
    names = tuple(map(str, range(len(examples))))
    known = None if labels is None else labels[: len(examples)]
    bits = (summed.bits_per_dim, summed.standard_error)
    rate = model.family.form.rate(*bits, model.num_dims)
    found = Classified(model.classes, names, found, known, bits, rate)
    return Measured(measured.result, measured.details | {"classes": found.record()}, measured.lines + found.lines())


def measure_bound(
    model: TrainedModel,
    data: Tensor,
    seed: int = 0,
    importance: int | None = None,
    repeats: int | None = None,
    labels: Tensor | None = None,
    error: float | None = None,
) -> Measured:
    """Measure the bound of examples, with details. Arguments as in `evaluate`; `labels` has the label of each example."""
    if repeats is None:
        repeats = model.family.repeats(len(data))
    estimates: list[Evaluation] = []

    def repeat(num: int) -> Evaluation:
        """Return the average of `num` estimates; earlier estimates are reused."""
        for k in progress(range(len(estimates), num), "measuring the bound"):
            estimates.append(model.evaluate(data, seed + _REPEAT * k, importance, labels=labels))
        return averaged(estimates)

    result, reached = repeat(repeats), []
    if error is not None:
        result, reached = repeated_until(error, repeat, repeats, tell)
    details = model.family.details(model, data, seed)
    lines = [*reached, *model.family.detail_lines(details)]
    if labels is not None and (given := given_labels(result, labels)):
        rate = model.family.form.rate(given["bits_per_dim"], given["standard_error"], model.num_dims)
        details, lines = details | {"given_labels": given}, [given_line(rate), *lines]
    return Measured(result, details, lines)


_REPEAT = 1_000_003  # difference between the seeds of repeated estimates


def averaged(estimates: Sequence[Evaluation]) -> Evaluation:
    """Average independent estimates of the bound of the same examples.

    The variation between the estimates gives the Monte Carlo part of the variance. The rest is due to the choice of
    examples. The variance is at most that of the averages of the examples, if there are 10 or more.
    """
    first, count = estimates[0], len(estimates)
    if count == 1:
        return first

    def mean(values: Sequence[float]) -> float:
        return sum(values) / count

    def of(value: Callable[[Evaluation], float], stated: Callable[[Evaluation], float | None]) -> Any:
        return _errors([value(one) for one in estimates], [stated(one) for one in estimates])

    whole, noise, examples = of(lambda e: e.bits_per_dim, lambda e: e.standard_error)
    nats_error, nats_noise, _ = of(lambda e: e.nats, lambda e: e.nats_standard_error)
    if whole is None:  # one estimate has too few evaluations to tell, and many of them have enough
        nats_error, _, nats_examples = of(lambda e: e.nats, _by_strata)
        whole, examples = (
            None if one is None else -bits_per_dim(one, first.num_dims) for one in (nats_error, nats_examples)
        )
    per_example = add(e.per_example for e in estimates) / count
    spread = max(math.sqrt(var_of_mean(per_example) or 0.0), nats_noise)  # examples may share noise
    if first.num_images >= FEWEST and spread < (nats_error or 0.0):  # both are overestimates
        nats_error, whole = spread, -bits_per_dim(spread, first.num_dims)
        examples = math.sqrt(max(whole**2 - noise**2, 0.0))
    levels = []
    for k, level in enumerate(first.levels):
        error = of(lambda e, k=k: e.levels[k].bits_per_dim, lambda e, k=k: e.levels[k].standard_error)[0]
        evaluated = any(e.levels[k].evaluated for e in estimates)
        bits = mean([e.levels[k].bits_per_dim for e in estimates])
        levels.append(Part(level.name, bits, error, level.log_snr, evaluated))
    return dataclasses.replace(
        first,
        bits_per_dim=mean([e.bits_per_dim for e in estimates]),
        standard_error=whole,
        standard_error_monte_carlo=noise,
        standard_error_images=examples,
        nats=mean([e.nats for e in estimates]),
        nats_standard_error=nats_error,
        bits_per_example=mean([e.bits_per_example for e in estimates]),
        network_evaluations=sum(e.network_evaluations for e in estimates),
        terms={name: mean([e.terms[name] for e in estimates]) for name in first.terms},
        term_errors={
            name: of(lambda e, name=name: e.terms[name], lambda e, name=name: e.term_errors[name])[0]
            for name in first.terms
        },
        levels=levels,
        estimator=f"{first.estimator}; average of {count} estimates",
        per_example=per_example,
    )


def _errors(values: Sequence[float], stated: Sequence[float | None]) -> tuple[float | None, float, float | None]:
    """Return the standard error, its Monte Carlo part, and its part from the examples."""
    count = len(values)
    center = sum(values) / count
    noise = sum((value - center) ** 2 for value in values) / (count - 1)
    if all(one is None for one in stated):  # there is only one example
        return None, math.sqrt(noise / count), None
    examples = max(sum((one or 0.0) ** 2 for one in stated) / count - noise, 0.0)
    return math.sqrt(examples + noise / count), math.sqrt(noise / count), math.sqrt(examples)


def _by_strata(estimate: Evaluation) -> float | None:
    """Standard error of the nats of one estimate, however few its evaluations are; None without strata."""
    var = stratified_var(estimate.per_example, estimate.strata) if estimate.strata else None
    return None if var is None else math.sqrt(var)


def _refuse_bound_options(options: dict[str, Any]) -> None:
    """Raise InputError if an option of the bound is set; a student has no bound."""
    for name, value in options.items():
        if value is not None:
            raise InputError(
                f"{name} is an option of the bound, which a student does not have, got {value}; omit {name}"
            )


def _quality(model: TrainedModel, dataset: Any, samples: int | None, features: str | None, seed: int) -> Quality | None:
    """Measure samples. `evaluate` does so before the bound, so that mistakes show at once."""
    if features is not None and features not in (*SHIPPED, ANY):
        if samples is not None:
            raise InputError("give --samples, or --features with a file, which contains features of samples")
        return file_quality(Path(features))
    if samples is None:
        if features is not None:
            raise InputError(f"--features {features} needs a number of samples: add --samples 10000")
        return None
    return sample_quality(model, dataset, samples, seed, features)


def error_words(result: Evaluation, form: Form | None = None) -> str:
    """Describe the sources of the standard error, in the unit of the form (default: bits/dim)."""
    form = form or ImageForm()
    if result.standard_error_monte_carlo is None:
        few = result.standard_error is None and result.num_images > 1
        return "too few network evaluations to tell the error (--repeats adds some)" if few else NOT_SPLIT
    if result.standard_error_monte_carlo == 0:
        return "no Monte Carlo error"
    noise = form.in_unit(result.standard_error_monte_carlo, result.num_dims)
    words = f"Monte Carlo error {noise:.4f} (--repeats lowers it), "
    if result.standard_error_images is None:
        return words + "error from the examples unknown"
    if result.standard_error_images < SMALLEST_SHOWN:
        return words + "error from the examples too small to tell"
    own = form.in_unit(result.standard_error_images, result.num_dims)
    return words + f"error from the examples {own:.4f} (more examples lower it)"


def _estimator_lines(estimates: dict[str, dict[str, float]]) -> list[str]:
    return [
        f"  {name:<6} {e['bits_per_dim']:9.4f} ± {e['standard_error']:.4f} bits/dim "
        f"from {e['network_evaluations']:,} network evaluations"
        + (f", {e['errors_from_path']:+.1f} standard errors from path" if "errors_from_path" in e else "")
        for name, e in estimates.items()
    ]
