"""Trained models: loading, sampling, evaluation and scores."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from kakusan import distributed
from kakusan.checks import array_tensor, check_count
from kakusan.console import command
from kakusan.data.dataset import Dataset
from kakusan.errors import InputError
from kakusan.images import Images
from kakusan.likelihood.chains import GetBatch
from kakusan.likelihood.classes import MOST, Posterior, posterior
from kakusan.likelihood.evaluation import Evaluation, summarize
from kakusan.models.diffusion import Diffusion
from kakusan.models.mixture import split
from kakusan.noise import stream
from kakusan.progress import progress
from kakusan.run.build import blueprint, check_kind, family_for, family_of, with_weights
from kakusan.run.importance import importance_estimate
from kakusan.run.labels import cond_of, indices_of
from kakusan.run.model_file import ExportedModel
from kakusan.run.recipe import Recipe
from kakusan.run.source import open_source
from kakusan.settings import seed_of
from kakusan.solvers import Solver
from kakusan.solvers.loop import BATCH, Callback
from kakusan.storage.tensors import check_expected
from kakusan.timesteps import StepLaw
from kakusan.training.device import device_named
from kakusan.units import grid_nats


class TrainedModel:
    """Trained chain with pixels, counts or table rows as input and output.

    Attributes:
        chain: The `LatentChain`, in evaluation mode; a `Mixture` for a conditional model.
        recipe: The settings with which it was built and trained.
        weaker: The same chain with weights from early in the run, if they were kept; it guides sampling.
        family: Its model family.
    """

    def __init__(
        self,
        recipe: Recipe,
        module: nn.Module,
        event_shape: tuple[int, ...],
        device: torch.device,
        early: dict[str, Tensor] | None = None,
    ):
        self.recipe = recipe
        self.family = family_for(recipe)
        self.weaker: Any = None
        if early is not None:
            self.weaker = with_weights(recipe.model, event_shape, early).to(device).eval()
        self.chain: Any = self.family.chain(module).to(device).eval()
        self.event_shape = event_shape
        self.device = device

    @property
    def diffusion(self) -> Diffusion | None:
        """The diffusion chain without its classes; None for other models."""
        chain = split(self.chain)[0]
        return chain if isinstance(chain, Diffusion) else None

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names of a model of labels, in the order of the class indices; empty for other models."""
        classes = split(self.chain)[1]
        config: Any = self.recipe.model
        return config.classes if classes is not None and classes.labeled else ()

    def classify(self, data: Tensor | np.ndarray | Images, evaluations: int = MOST, seed: int = 0) -> Posterior:
        """Return class probabilities by Bayes' rule, p(label | x) proportional to p(label) p(x | label).

        Args:
            data: As in `evaluate`.
            evaluations: Largest number of network evaluations for each example and class; clearly worse classes get fewer.
            seed: Random seed of the noise, which all classes share.

        Returns:
            `probs` (n, K) in the order of `classes`, `k` (n,) the likeliest class, `stderr` of the log-odds.

        Raises:
            InputError: If the model is not conditional on labels, or the examples do not fit it.
        """
        self.check_bound()
        if not self.classes:
            raise InputError(
                f"this model of the recipe {self.recipe.name} has no labels, so it cannot classify; train images on data with labels"
            )
        examples, seed = self.examples(data), seed_of(seed)
        return posterior(self.chain, self.batches(examples, seed), len(examples), evaluations, seed)

    @property
    def scale(self) -> Any:
        """The scale that maps stored values to the model's values, a `kakusan.data.Scale` for images."""
        return self.family.scale(self.recipe.model)

    @property
    def num_dims(self) -> int:
        """Number of scalars in one example."""
        return math.prod(self.event_shape)

    # Sampling

    def sample(
        self,
        n: int | None = None,
        seed: int = 0,
        steps: int | None = None,
        solver: Solver | str | None = None,
        first: int = 0,
        guidance: float | None = None,
        spacing: str | None = None,
        end_log_snr: float | None = None,
        cond: Tensor | int | None = None,
        callback: Callback | None = None,
        *,
        label: str | int | Sequence[str] | None = None,
        autoguidance: float | None = None,
    ) -> Images | np.ndarray:
        """Draw n examples. Example i depends only on (seed, first + i), not on n or any batch size.

        Args:
            n: Number of examples; default: the number of labels, else 1.
            seed: Random seed.
            steps: Number of steps, diffusion only; default: 20, or 1 for a student.
            solver: A solver or its name, diffusion only; default: "dpm++2m-sde", or "renoise" for a student.
            first: Index of the first example.
            guidance: Scale of classifier-free guidance for a model of labels: 0 unconditional, 1 (default) the model
                itself, above 1 closer to the class. For other diffusion models the same as `autoguidance`.
            spacing: "karras" (default), "log-snr" or "uniform" (default of a student), diffusion only.
            end_log_snr: Log SNR at which few-step sampling returns the estimate of x, -100 to 100, diffusion only;
                default: the recipe's. 100 keeps the finest detail and the remaining noise.
            cond: Class of each example for a conditional model, or one for all; default: drawn.
            callback: Called after each step, diffusion only.
            label: Name of a class, its index, or one name for each example; "each": all classes in turn.
            autoguidance: Autoguidance weight, diffusion only; 1 disables it; default: the recipe's.

        Returns:
            For 8-bit images uint8 (n, H, W, C) that notebooks show as a grid; for counts int64 (n, K).

        Raises:
            InputError: If an argument does not fit the model, or samples are not finite.
        """
        if n is None:
            n = len(label) if label is not None and not isinstance(label, str | int) else 1
        if isinstance(n, bool) or not isinstance(n, int) or n < 0:
            raise InputError(f"the number of samples must be a whole number, 0 or more, got {n!r}")
        options: dict[str, Any] = {"steps": steps, "solver": solver, "guidance": guidance}
        options |= {"spacing": spacing, "end_log_snr": end_log_snr, "autoguidance": autoguidance, "callback": callback}
        if label is not None:
            cond = cond_of(self.classes, label, n, first)
        if isinstance(cond, int):
            cond = torch.full((n,), cond)
        draw, seed = self.sampling.sampler(**options), seed_of(seed)
        done = {}
        for number, start in enumerate(progress(range(0, n, BATCH), "sampling")):
            if distributed.owned_by_rank(number):
                known = None if cond is None else cond[start : start + BATCH]
                size = min(BATCH, n - start)
                x = draw(size, first=first + start, seed=seed, cond=known)
                done[number] = {"x": x}
        return self.stored([one["x"] for one in distributed.all_gather(done)])

    def encode(self, data: Any, steps: int | None = None, solver: Solver | str | None = None) -> np.ndarray:
        """Return the latents of given examples, see `run.tools.encode.encode`."""
        from kakusan.run.tools.encode import encode

        return encode(self, data, steps=steps, solver=solver)

    def reconstruct(self, data: Any, t: int | None = None, **choices: Any) -> Images | np.ndarray:
        """Encode given examples and decode their latents, see `run.tools.reconstruct.reconstruct`."""
        from kakusan.run.tools.reconstruct import reconstruct

        return reconstruct(self, data, t, **choices)

    def interpolate(self, a: Any, b: Any, n: int = 8, **choices: Any) -> Images | np.ndarray:
        """Interpolate between pairs of examples, see `run.tools.interpolate.interpolate`."""
        from kakusan.run.tools.interpolate import interpolate

        return interpolate(self, a, b, n, **choices)

    def stored(self, parts: list[Tensor]) -> Images | np.ndarray:
        """Convert batches of samples to the form of stored data."""
        if not all(part.isfinite().all() for part in parts):
            raise InputError("this model's samples are not finite numbers: its weights are damaged or too large")
        return self.family.form.from_model(parts, self.event_shape, self.scale)

    @property
    def sampling(self) -> Any:
        """Sampling settings: a `SamplingPolicy` for diffusion models, `OnePass` for others."""
        return self.family.sampling(self.chain, self.weaker, self.recipe)

    # Evaluation

    def check_bound(self) -> None:
        """Raise InputError if the model has no bound, e.g. a student."""
        if not self.family.has_bound:
            raise InputError(
                "a student has no bound, because it cannot score given examples; measure its samples "
                f"with: {command('evaluate', 'RUN', '--samples', 1000)}"
            )

    def evaluate(
        self,
        data: Tensor | np.ndarray | Images,
        seed: int = 0,
        importance_samples: int | None = None,
        law: StepLaw | None = None,
        labels: Tensor | Sequence[str] | None = None,
    ) -> Evaluation:
        """Measure the bits per dimension of examples.

        Args:
            data: uint8 images (n, C, H, W) or (n, H, W, C) as `sample` returns them, or counts (n, K).
            seed: Random seed of the noise.
            importance_samples: K of the importance-weighted bound, for VAE and hierarchical VAE; default: the ELBO.
            law: Timestep distribution for a diffusion model; default: adapted to the data.
            labels: Label of each example for a model of labels, names or indices; -1 or "": unknown.

        Raises:
            InputError: If there are no examples, or they do not fit the model.
        """
        self.check_bound()
        examples, seed = self.examples(data), seed_of(seed)
        check_count(len(examples))
        known = {} if labels is None else {"labels": indices_of(self.classes, labels)}
        if importance_samples is not None:
            estimate = importance_estimate(self, examples, importance_samples, seed, **known)
        else:
            estimate = self.family.estimate(self, examples, seed, law, **known)
        return summarize(estimate, self.num_dims, self.grid_nats())

    def score_samples(
        self, data: Tensor | np.ndarray | Images, error: float | None = None, seed: int = 0, evaluations: int = 128
    ) -> Any:
        """Return the log-likelihood bound of each example and its standard error; see `likelihood.scores.score_examples`.

        Args:
            data: As in `evaluate`.
            error: Wanted standard error of each example in nats; evaluations are added until it is reached.
            seed: Random seed.
            evaluations: Initial number of draws per example, at least 2.
        """
        from kakusan.likelihood.scores import per_observed, score_examples

        self.check_bound()
        examples, seed = self.examples(data), seed_of(seed)
        found = score_examples(
            self.chain, self.batches(examples, seed), len(examples), self.num_dims, evaluations, error, seed,
            self.grid_nats(),
        )  # fmt: skip
        return per_observed(found, examples)

    def batches(self, data: Tensor, seed: int = 0) -> GetBatch:
        """Return a function from indices to examples on the model's scale and device; the seed determines random bits."""

        def batch(indices: Tensor) -> Tensor:
            randomness = [stream(seed, "binarise", int(i)) for i in indices] if self.scale.binary else None
            return self.scale.to_model(data[indices].to(self.device), randomness)

        return batch

    def grid_nats(self) -> float:
        """Offset in nats from a density of scaled pixels to an approximate probability of gray levels (M11); 0 otherwise."""
        width = self.family.density_bin_width(self.recipe.model)
        return 0.0 if width is None else grid_nats(self.num_dims, width)

    @property
    def measured_in(self) -> str:
        """Name of the measured quantity; models with different names cannot be compared."""
        return self.scale.measured_in

    def examples(self, data: Tensor | np.ndarray | Images) -> Tensor:
        """Convert examples to stored data: uint8 (n, C, H, W) or counts (n, K).

        Raises:
            InputError: If type or shape does not fit the model.
        """
        return self.family.form.stored(array_tensor(data), self.event_shape)

    def check_data(self, dataset: Dataset, argument: str = "--data") -> None:
        """Raise InputError, which names the argument, unless examples have the model's shape and kind of values."""
        if dataset.event_shape != self.event_shape:
            raise InputError(
                f"the model was trained on examples of shape {self.event_shape}, and {dataset.name} has "
                f"{dataset.event_shape}; give {argument} with that shape"
            )
        check_kind(self.recipe, dataset)

    def __repr__(self) -> str:
        parameters = sum(p.numel() for p in self.chain.parameters())
        return (
            f"TrainedModel({self.recipe.name}, depth {self.chain.depth}, {parameters:,} parameters, on {self.device})"
        )


def load(source: Path | str, device: str = "auto") -> TrainedModel:
    """Load the model of a run directory, with its averaged weights, or of a file that `kakusan export` wrote.

    The model is rebuilt from the record of the run or file. Untrusted files are safe: nothing in them is executed, and an
    invalid file is refused before memory is allocated (see SECURITY.md).

    Args:
        source: Run directory or file.
        device: "auto" (default), "cpu", "cuda", "cuda:N" or "mps".

    Raises:
        InputError: If there is no such run or file, or it is damaged or not a model of this version.
    """
    found, where = open_source(source), device_named(device)
    return of_file(found.read(), where, found.path)


def of_file(shared: ExportedModel, device: torch.device, source: Path) -> TrainedModel:
    """Build the model of a file or run that has been read; `source` names it in errors."""
    return _rebuilt(shared.facts.recipe, shared.facts.event_shape, shared.weights, shared.early, device, source)


def _rebuilt(
    recipe: Recipe,
    event_shape: tuple[int, ...],
    weights: dict[str, Tensor],
    early: dict[str, Tensor] | None,
    device: torch.device,
    source: Path,
) -> TrainedModel:
    weights = {**weights, **family_of(recipe.model).optional_weights(event_shape)}
    expected = blueprint(recipe.model, event_shape)
    for part in (weights, early) if early is not None else (weights,):
        check_expected({name: (tuple(tensor.shape), tensor.dtype) for name, tensor in part.items()}, expected, source)
    module = with_weights(recipe.model, event_shape, weights)
    model = TrainedModel(recipe, module, event_shape, device, early)
    for chain in (model.chain, model.weaker):
        classes = split(chain)[1]
        if classes is not None:
            classes.check(source)
    return model
