"""A trained model as its users meet it: load, sample, evaluate."""

from __future__ import annotations

import functools
import math
from pathlib import Path
from typing import NamedTuple, cast, get_args

import numpy as np
import torch
from torch import Tensor

from kakusan import distributed
from kakusan.bound import ancestral_sample, importance_bound
from kakusan.checks import check_count
from kakusan.data.dataset import Dataset
from kakusan.data.scale import Scale
from kakusan.distributions import add
from kakusan.errors import InputError
from kakusan.guidance import guided
from kakusan.images import Images
from kakusan.likelihood.chains import GetBatch, of_terms
from kakusan.likelihood.diffusion import of_diffusion
from kakusan.likelihood.evaluation import Estimate, Evaluation, mean_spread, summarise
from kakusan.likelihood.information import LatentLevel, of_latents
from kakusan.models.diffusion import Denoiser, Diffusion
from kakusan.models.dirichlet_multinomial import DirichletMultinomial
from kakusan.models.hierarchical_vae import HierarchicalVAE, ThirdTerm
from kakusan.models.vae import VAE
from kakusan.noise import example_streams, stream
from kakusan.run import model_file
from kakusan.run.build import (
    Model,
    Trainable,
    blueprint,
    check_kind,
    event_shape_of,
    exact_chain,
    scale_of,
    with_weights,
)
from kakusan.run.directory import RunDirectory
from kakusan.run.recipe import DiffusionConfig, DirichletConfig, Recipe, from_record
from kakusan.run.student import used_weights
from kakusan.solvers import sampler, times
from kakusan.storage.tensors import check_expected
from kakusan.timesteps import StepLaw
from kakusan.train import checkpoint
from kakusan.train.device import device_named
from kakusan.units import grid_nats

SAMPLE_BATCH = 250
DRAWS = 2  # of the latents of each example, in an evaluation of a VAE


class Way(NamedTuple):
    """How a diffusion model is sampled unless told otherwise."""

    sampler: str
    steps: int
    spacing: str


# As good as 50 ancestral steps in 27 network calls (29 where samples end at log SNR 3) instead of 75: docs/log.md
USUAL = Way("dpm++2m-sde", 20, "karras")
OF_STUDENT = Way("renoise", 1, "uniform")
OF_ANOTHER = "renoise is for students: the samples of a model that was not distilled have less spread than its data; leave it out"


class TrainedModel:
    """A chain with what it needs to speak pixels or counts.

    Attributes:
        chain: The `LatentChain`, in evaluation mode.
        recipe: The settings that it was built and trained with.
        weaker: The same chain with the weights of the run's beginning, if they were kept; it guides sampling.
    """

    def __init__(
        self,
        recipe: Recipe,
        module: Trainable,
        event_shape: tuple[int, ...],
        device: torch.device,
        early: dict[str, Tensor] | None = None,
    ):
        self.recipe = recipe
        self.weaker: Diffusion | None = None
        if early is not None and isinstance(module, Diffusion):
            self.weaker = cast(Diffusion, with_weights(recipe.model, event_shape, early)).to(device).eval()
        self.chain: Model = exact_chain(module).to(device).eval()
        self.event_shape = event_shape
        self.device = device
        self.is_counts = isinstance(recipe.model, DirichletConfig)

    @property
    def scale(self) -> Scale:
        """Between pixels and the model's numbers; for images alone."""
        return scale_of(self.recipe.model)

    @property
    def num_dims(self) -> int:
        """Scalars in one example."""
        return math.prod(self.event_shape)

    @property
    def is_student(self) -> bool:
        """Whether it was made by distillation: it samples in a few calls, and has no bound."""
        return self.recipe.distil is not None

    @property
    def usual(self) -> Way:
        """How it is sampled unless told otherwise, if it is a diffusion model."""
        return OF_STUDENT if self.is_student else USUAL

    def remark(self, sampler_name: str | None, steps: int | None, spacing: str | None) -> str | None:
        """What is to be said of such samples: a student asked for steps that it was not trained at, or its sampler of another."""
        distil = self.recipe.distil
        if not isinstance(self.chain, Diffusion):
            return None
        if distil is None:
            return OF_ANOTHER if sampler_name == OF_STUDENT.sampler else None
        if steps in (None, self.usual.steps):
            return None
        return f"a student is trained for --steps {self.usual.steps}; {steps} steps use noise levels that it was not trained at"

    def check_bound(self) -> None:
        """InputError if there is no bound to evaluate."""
        if self.is_student:
            raise InputError(
                "a student has no bound: it makes samples, and says nothing of given examples; measure its samples with "
                "kakusan evaluate RUN --samples 1000"
            )

    def sample(
        self,
        n: int,
        seed: int = 0,
        steps: int | None = None,
        sampler_name: str | None = None,
        first: int = 0,
        guidance: float | None = None,
        spacing: str | None = None,
        eta: float | None = None,
        churn: float | None = None,
        end_log_snr: float | None = None,
    ) -> Images | np.ndarray:
        """Draw n examples. Example i depends on (seed, first + i) alone: not on n, nor on any batch.

        Args:
            n: How many.
            seed: Of the noise.
            steps: Steps down the chain, diffusion only; 20 unless given, 1 of a student. Each is a network call, two where
                guided, and twice as many with "heun"; `kakusan.solvers.calls` counts them.
            sampler_name: One of `kakusan.solvers.SAMPLERS`, diffusion only; "dpm++2m-sde" unless given, of a student
                "renoise".
            first: Index of the first one.
            guidance: Weight of the guidance by the run's early weights, diffusion only; 1 for none, the recipe's unless
                given.
            spacing: Which steps: "karras" (the default), "log-snr" or "uniform" (that of a student), diffusion only.
            eta: Of "ddim": the share of fresh noise, 0 (the default) to 1.
            churn: Of "heun": how much fresh noise, from 0 (the default).
            end_log_snr: Log SNR from which samples of few steps go to the data estimate at once, -100 to 100, diffusion
                only; the recipe's unless given. 100 is no such end: all detail, and what noise the network leaves.

        Returns:
            For 8-bit images uint8 (n, H, W, C) that notebooks show as a grid; for counts int64 (n, K).
        """
        if n < 0:
            raise InputError(f"the number of samples must be 0 or more, got {n}")
        chosen = any(choice is not None for choice in (steps, sampler_name, guidance, spacing, eta, churn, end_log_snr))
        if chosen and not isinstance(self.chain, Diffusion):
            raise InputError(
                "steps, sampler, spacing, eta, churn, guidance and end_log_snr are for diffusion models; "
                f"{self.recipe.name} samples in one pass"
            )
        draw = functools.partial(ancestral_sample, self.chain, mean_output=not self.is_counts)
        if isinstance(self.chain, Diffusion):
            chosen_one = sampler(sampler_name or self.usual.sampler, eta=eta, churn=churn)
            draw = functools.partial(chosen_one, self.sampling_chain(steps, guidance, spacing, end_log_snr))
        done = {}
        for number, start in enumerate(range(first, first + n, SAMPLE_BATCH)):
            if distributed.owned_by_rank(number):
                streams = example_streams(seed, range(start, min(start + SAMPLE_BATCH, first + n)))
                done[number] = {"x": draw(len(streams), streams)}
        parts = [one["x"] for one in distributed.all_gather(done)]
        if not all(part.isfinite().all() for part in parts):
            raise InputError("this model's samples are not finite numbers: its weights are damaged or too large")
        if self.is_counts:
            return (
                torch.cat(parts).cpu().numpy().astype(np.int64) if parts else np.zeros((0, *self.event_shape), np.int64)
            )
        channels, height, width = self.event_shape
        empty = np.zeros((0, height, width, channels), np.uint8)
        return Images(np.concatenate([empty, *(self.scale.to_pixels(part) for part in parts)]))

    def sampling_chain(
        self,
        steps: int | None = None,
        guidance: float | None = None,
        spacing: str | None = None,
        end_log_snr: float | None = None,
    ) -> Diffusion:
        """The chain that samples come from: of fewer steps, and guided; arguments as `sample`."""
        assert isinstance(self.chain, Diffusion)
        assert isinstance(self.recipe.model, DiffusionConfig)
        chain, config = self.chain, self.recipe.model
        if self.weaker is not None:
            weight = config.guidance if guidance is None else guidance
            chain = guided(chain, self.weaker, weight, config.guidance_range)
        elif guidance not in (None, 1):
            raise InputError(
                f"guidance {guidance} needs weights of the run's beginning, and this run kept none; "
                "leave it out, or train with --optim.early 0.1"
            )
        num_steps = min(self.usual.steps, chain.depth) if steps is None else steps
        end = config.end_log_snr if end_log_snr is None else end_log_snr
        return chain.respaced(times(chain.schedule, num_steps, spacing or self.usual.spacing, end))

    @property
    def denoisers(self) -> list[Denoiser]:
        """The networks that sampling asks, that of the guide among them; diffusion only."""
        return [chain.denoiser for chain in (self.chain, self.weaker) if isinstance(chain, Diffusion)]

    def evaluate(
        self, data: Tensor, seed: int = 0, importance_samples: int | None = None, law: StepLaw | None = None
    ) -> Evaluation:
        """Bits per dimension of examples (uint8 images or counts), each counted once.

        Args:
            data: As `Dataset.train` and `Dataset.test` hold it.
            seed: Of the noise.
            importance_samples: K of the importance-weighted bound, for VAE and hierarchical VAE; None for the ELBO.
            law: Of the steps that a diffusion model is asked about; made from the data unless given.
        """
        check_count(len(data))
        self.check_bound()
        self._check_examples(data)
        batch, num = self.batches(data, seed), len(data)
        offset = self.grid_nats()
        if importance_samples is not None:
            return self._importance(batch, num, importance_samples, seed, offset)
        if isinstance(self.chain, Diffusion):
            return summarise(of_diffusion(self.chain, batch, num, seed, law), self.num_dims, offset)
        if law is not None:
            raise InputError(f"a step law is for diffusion models; {self.recipe.name} has none to choose")
        return self._by_terms(batch, num, "exact", seed, offset)

    def evaluate_third_terms(self, data: Tensor, seed: int = 0) -> dict[str, Evaluation]:
        """Of a hierarchy: the ELBO, and the study notes' form of it, from the same draws; else nothing (S19)."""
        if not isinstance(self.chain, HierarchicalVAE) or self.chain.depth < 2:
            return {}
        batch, offset = self.batches(data, seed), self.grid_nats()
        return {form: self._by_terms(batch, len(data), form, seed, offset) for form in get_args(ThirdTerm)}

    def _by_terms(self, batch: GetBatch, num: int, form: ThirdTerm, seed: int, offset: float) -> Evaluation:
        chain = self.chain
        if isinstance(chain, DirichletMultinomial):
            return summarise(_in_closed_form(chain, batch(torch.arange(num))), self.num_dims)
        assert isinstance(chain, HierarchicalVAE | VAE)
        terms = functools.partial(chain.terms, third_term=form) if isinstance(chain, HierarchicalVAE) else chain.terms
        words = f"{DRAWS} draws of the latents an example, KL terms in closed form"
        return summarise(of_terms(terms, batch, num, DRAWS, 2 * chain.depth, words, seed), self.num_dims, offset)

    def _importance(self, batch: GetBatch, num: int, samples: int, seed: int, offset: float) -> Evaluation:
        if isinstance(self.chain, Diffusion) or self.is_counts:
            raise InputError("the importance-weighted bound is offered for VAE and hierarchical VAE; leave it out here")
        done = {}
        for number, part in enumerate(torch.arange(num).split(SAMPLE_BATCH)):
            if distributed.owned_by_rank(number):
                generator = stream(seed, "importance", int(part[0]))
                with torch.no_grad():
                    done[number] = {"bound": importance_bound(self.chain, batch(part), samples, generator).cpu()}
        bounds = [one["bound"] for one in distributed.all_gather(done)]
        calls = num * (1 + (2 * self.chain.depth - 1) * samples)  # the lowest encoder once an image
        terms = {"bound": torch.cat(bounds).double()}
        spread = mean_spread(terms["bound"])
        words = f"importance-weighted, K = {samples}"
        return summarise(Estimate(terms, {"bound": spread}, spread, None, calls, words), self.num_dims, offset)

    def batches(self, data: Tensor, seed: int = 0) -> GetBatch:
        """indices -> examples in the model's scale, on its device; binarised ones are a fixed draw of the seed."""
        if self.is_counts:
            return lambda indices: data[indices].to(self.device)

        def batch(indices: Tensor) -> Tensor:
            randomness = [stream(seed, "binarise", int(i)) for i in indices] if self.scale.binary else None
            return self.scale.to_model(data[indices].to(self.device), randomness)

        return batch

    def grid_nats(self) -> float:
        """What turns a density of scaled pixels into a probability of grey levels, approximately (M11); else 0."""
        if self.is_counts or getattr(self.recipe.model, "likelihood", None) != "gaussian":
            return 0.0
        return grid_nats(self.num_dims, self.scale.bin_width)

    @property
    def measured_in(self) -> str:
        """What the rate counts the bits of: two models with different answers cannot be compared."""
        if self.is_counts:
            return "counts"
        return "random bits" if self.scale.binary else "grey levels"

    def latents(self, data: Tensor, seed: int = 0) -> list[LatentLevel]:
        """What each latent of a VAE or a hierarchy tells, in bits; nothing for other models."""
        if not isinstance(self.chain, VAE | HierarchicalVAE):
            return []
        return of_latents(self.chain, self.batches(data, seed), len(data), seed)

    def _check_examples(self, data: Tensor) -> None:
        """InputError unless these are pixels, or counts, of the model's shape."""
        kind = "counts" if self.is_counts else "uint8 pixels"
        if tuple(data.shape[1:]) != self.event_shape or not (self.is_counts or data.dtype == torch.uint8):
            raise InputError(
                f"the model evaluates {kind} of shape (n, {', '.join(map(str, self.event_shape))}), got {data.dtype} "
                f"{tuple(data.shape)}; kakusan.data.open.open_data(name).test holds them so"
            )

    def check_data(self, dataset: Dataset) -> None:
        """InputError unless the examples have the model's shape and kind of values."""
        if dataset.event_shape != self.event_shape:
            raise InputError(
                f"the model was trained on examples of shape {self.event_shape}, and {dataset.name} has "
                f"{dataset.event_shape}; give --data with that shape"
            )
        check_kind(self.recipe, dataset)

    def __repr__(self) -> str:
        parameters = sum(p.numel() for p in self.chain.parameters())
        return (
            f"TrainedModel({self.recipe.name}, depth {self.chain.depth}, {parameters:,} parameters, on {self.device})"
        )


def _in_closed_form(chain: DirichletMultinomial, counts: Tensor) -> Estimate:
    terms = {name: value.double().cpu() for name, value in chain.terms(counts).items()}
    spreads = {name: mean_spread(value) for name, value in terms.items()}
    words = "in closed form; the bound is the log-likelihood itself"
    return Estimate(terms, spreads, mean_spread(add(terms.values())), 0.0, 0, words)


def load(source: Path | str, device: str = "auto") -> TrainedModel:
    """The model of a run directory, with its averaged weights, or of a file that `kakusan export` wrote.

    Everything is rebuilt from the run's or the file's own record. A file may come from anyone: nothing in it is
    executed, and it is refused before memory is spent on it unless it is what it says (see SECURITY.md).

    Raises:
        InputError: If there is no such run or file, or it is damaged or not a model of this version.
    """
    path, where = Path(source), device_named(device)
    if path.is_file():
        return of_artefact(model_file.read(path), where, path)
    directory = RunDirectory.open(path)
    recipe = from_record(directory.read("run.json").get("recipe"))
    event_shape = event_shape_of(recipe.model, directory.read("data.json").get("event_shape"))
    newest = checkpoint.latest(directory.checkpoints)
    weights = used_weights(recipe, checkpoint.averaged_weights(newest))
    early = checkpoint.early_weights(newest) if recipe.family == "diffusion" else None
    return _rebuilt(recipe, event_shape, weights, early, where, path)


def of_artefact(shared: model_file.Artefact, device: torch.device, source: Path) -> TrainedModel:
    """The model of a file that has been read; `source` names it in errors."""
    return _rebuilt(shared.facts.recipe, shared.facts.event_shape, shared.weights, shared.early, device, source)


def _rebuilt(
    recipe: Recipe,
    event_shape: tuple[int, ...],
    weights: dict[str, Tensor],
    early: dict[str, Tensor] | None,
    device: torch.device,
    source: Path,
) -> TrainedModel:
    if recipe.family == "dirichlet":  # what was learned of each row of the training data is not needed to use the model
        weights = {**weights, model_file.ROWS: torch.zeros((0, *event_shape), dtype=torch.float64)}
    expected = blueprint(recipe.model, event_shape)
    for part in (weights, early) if early is not None else (weights,):
        check_expected({name: (tuple(tensor.shape), tensor.dtype) for name, tensor in part.items()}, expected, source)
    model = TrainedModel(recipe, with_weights(recipe.model, event_shape, weights), event_shape, device, early)
    for chain in (model.chain, model.weaker):
        if isinstance(chain, Diffusion) and chain.clusters is not None:
            chain.clusters.check(source)
    return model
