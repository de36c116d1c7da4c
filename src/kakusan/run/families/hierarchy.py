"""The hierarchical VAE family: multi-layer perceptrons between an image and L latent levels."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal

from kakusan.errors import InputError
from kakusan.likelihoods import LIKELIHOODS
from kakusan.run.families.base import DRAWS, TrainingLoss, Units
from kakusan.run.families.conditional import ConditionalConfig, conditioned
from kakusan.run.families.vae import PerceptronFamily, check_sizes, data_decoder, perceptrons
from kakusan.settings import Between, Length, check

if TYPE_CHECKING:
    from torch import Tensor, nn

    from kakusan.noise import Randomness
    from kakusan.run.trained_model import TrainedModel

    LikelihoodName = str
else:
    LikelihoodName = Literal[*LIKELIHOODS]


@dataclass(frozen=True)
class HierarchyConfig(ConditionalConfig):
    """Settings of a hierarchical VAE. Defaults are those of the study notes."""

    family = "hierarchy"

    hidden: Units = 100
    """Width of the hidden layers between the data and z_1."""
    upper_hidden: Units | None = None
    """Width of the hidden layers above z_1. Default: the same as hidden."""
    layers: Annotated[int, Between(1, 16)] = 1
    """Number of hidden layers of each network."""
    latents: Annotated[tuple[Units, ...], Length(1, 16)] = (20, 20)
    """Dimensions of z_1, ..., z_L. Their number is the number of levels."""
    likelihood: LikelihoodName = "gaussian"
    """Likelihood of the data. gaussian: unit variance, pixels in [0, 1]. bernoulli: binary pixels. discretized: 8-bit levels."""
    variance: Literal["unit", "learned"] = "unit"
    """Variance of p(z_l | z_{l+1}). unit: 1, as in the study notes."""
    activation: Literal["relu", "tanh", "silu"] = "relu"
    """Activation function of the hidden layers."""
    residual: bool = False
    """Add a skip connection around each hidden layer whose input has the same width."""
    third_term: Literal["exact", "notes"] = "exact"
    """Training objective. exact: the ELBO. notes: a different bound, with the study notes' form of the terms between levels."""
    importance_samples: Annotated[int, Between(1, 10_000)] = 1
    """Number of samples K of the importance-weighted training bound. 1: the ELBO with its top KL in closed form."""

    def __post_init__(self):
        check(self, "model")


class HierarchyFamily(PerceptronFamily):
    """Family of hierarchical VAEs of images."""

    name = "hierarchy"
    config = HierarchyConfig

    def build(self, config: HierarchyConfig, event_shape: tuple[int, ...]) -> nn.Module:
        """Build a hierarchical VAE of perceptrons."""
        from kakusan.models.hierarchical_vae import HierarchicalVAE

        upper_hidden = config.hidden if config.upper_hidden is None else config.upper_hidden
        sizes = {"hidden": config.hidden, "upper_hidden": upper_hidden, "layers": config.layers}
        check_sizes(
            **{name: (size,) for name, size in sizes.items()},
            latents=config.latents,
            importance_samples=(config.importance_samples,),
        )
        if config.importance_samples > 1 and config.third_term == "notes":
            raise InputError("importance_samples above 1 need the exact form of the bound; leave third_term exact")
        if config.num_conditions and config.third_term == "notes":
            raise InputError(
                "a model with labels or clusters needs the exact form of the bound; leave third_term exact"
            )
        gaussian_mlp, mlp = perceptrons(config)
        shapes = [event_shape, *((size,) for size in config.latents)]
        pairs = list(itertools.pairwise(shapes))
        hidden = [(config.hidden,) * config.layers, *[(upper_hidden,) * config.layers] * (len(pairs) - 1)]
        encoders = [gaussian_mlp(below, wide, above) for (below, above), wide in zip(pairs, hidden)]
        decoders = [data_decoder(config, shapes[1], hidden[0], event_shape)]
        upper = gaussian_mlp if config.variance == "learned" else mlp
        decoders += [upper(above, wide, below) for (below, above), wide in zip(pairs[1:], hidden[1:])]
        chain = HierarchicalVAE(encoders, decoders, shapes[1:], config.likelihood, event_shape)
        return conditioned(chain, config, event_shape)

    def lowest_decoder(self, module: Any) -> Any:
        """Return the network of p(x | z_1)."""
        return module.decoders[0]

    def loss(self, config: HierarchyConfig) -> TrainingLoss:
        """Return the loss: minus the ELBO, its form in the notes, or the importance-weighted bound, per dimension."""
        from kakusan.distributions import add
        from kakusan.objectives.notes_third_term import notes_third_term

        if config.third_term == "exact":
            return super().loss(config)
        return lambda module, x, indices, randomness: (
            -add(notes_third_term(module, x, randomness).values()) / x[0].numel()
        )

    def terms(
        self, config: HierarchyConfig, module: Any, x: Tensor, randomness: Randomness, cond: Tensor | None = None
    ) -> dict[str, Tensor]:
        """Return the terms of the bound in the form that is trained."""
        from kakusan.objectives.notes_third_term import notes_third_term

        exact = config.third_term == "exact"
        return super().terms(config, module, x, randomness, cond) if exact else notes_third_term(module, x, randomness)

    def details(self, model: TrainedModel, data: Tensor, seed: int) -> dict[str, Any]:
        """Return the bits that each latent carries; with two or more levels, also the ELBO and its form in the notes (S19)."""
        details = super().details(model, data, seed)
        if model.chain.depth < 2 or not details:
            return details
        from kakusan.likelihood.chains import of_terms
        from kakusan.likelihood.evaluation import summarize
        from kakusan.objectives.notes_third_term import notes_third_term

        chain, forms = model.chain, {}
        for form in ("exact", "notes"):

            def terms(x: Tensor, generator: Randomness, form: str = form) -> dict[str, Tensor]:
                return (
                    chain.draw_terms(x, None, generator) if form == "exact" else notes_third_term(chain, x, generator)
                )

            words = f"{DRAWS} draws of the latents per example, KL terms in closed form"
            batch = model.batches(data, seed)
            estimate = of_terms(terms, batch, len(data), DRAWS, 2 * chain.depth, words, seed)
            forms[form] = summarize(estimate, model.num_dims, model.grid_nats()).record()
        return details | {"third_term": forms}

    def detail_lines(self, details: dict[str, Any]) -> list[str]:
        """Return one line for each level of latents, and for each form of the terms between levels."""
        from kakusan.likelihood.evaluation import stderr_words

        words = {"exact": "the ELBO", "notes": "the study notes' form of the third term"}
        return super().detail_lines(details) + [
            f"  third term {form:<6}{e['bits_per_dim']:9.4f} ± {stderr_words(e['standard_error'])} bits/dim "
            f"= {e['nats']:.3f} nats: {words[form]}"
            for form, e in details.get("third_term", {}).items()
        ]
