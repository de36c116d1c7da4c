"""The Dirichlet-multinomial family: a model of counts, fitted by gradient ascent, whose posterior is known exactly."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

from kakusan.run.families.base import Family, ModelConfig, TrainingLoss
from kakusan.settings import Between, check

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from kakusan.data.dataset import Dataset
    from kakusan.data.scale import Unscaled
    from kakusan.likelihood.evaluation import Estimate
    from kakusan.noise import Randomness
    from kakusan.run.tools.latents import SimplexLatents
    from kakusan.run.trained_model import TrainedModel

POSTERIORS = "log_gamma"  # posteriors of the training rows, which only training needs


@dataclass(frozen=True)
class DirichletConfig(ModelConfig):
    """Settings of a Dirichlet-multinomial model of counts, fitted by gradient ascent on the ELBO."""

    family = "dirichlet"

    concentration: Annotated[float, Between(1e-6, 1e6)] = 2.0
    """Concentration of the prior, the same for every category."""
    learn_concentration: bool | None = None
    """Fit the concentration of the prior, one number for each category. Default: yes with --data, otherwise no."""

    def __post_init__(self):
        check(self, "model")


class DirichletFamily(Family):
    """Family of Dirichlet-multinomial models of counts."""

    name = "dirichlet"
    config = DirichletConfig
    kind = "counts"
    draws_latents = False
    closed_form = True

    def build(self, config: DirichletConfig, event_shape: tuple[int, ...]) -> nn.Module:
        """Build a model with a learned posterior for each training row."""
        from kakusan.models.dirichlet_fit import ConjugateFit

        return ConjugateFit(config.concentration, bool(config.learn_concentration), event_shape)

    def for_data(self, config: DirichletConfig, dataset: Dataset, own_data: bool) -> DirichletConfig:
        """Return the settings with a fitted concentration for data of --data, so that samples have the data's frequencies."""
        if config.learn_concentration is not None:
            return config
        return dataclasses.replace(config, learn_concentration=own_data)

    def chain(self, module: Any) -> Any:
        """Return the fitted model with its exact posterior."""
        return module.chain()

    def scale(self, config: DirichletConfig) -> Unscaled:
        """Return the identity scale: the model takes the counts themselves."""
        from kakusan.data.scale import COUNTS

        return COUNTS

    def prepare(self, module: Any, data: Tensor, augment: str) -> None:
        """Allocate the posteriors of the training rows."""
        module.start_at(data)

    def loss(self, config: DirichletConfig) -> TrainingLoss:
        """Return the loss: minus the exact ELBO of each row under its learned posterior."""
        return lambda module, x, indices, randomness: -module.elbo(x, indices)

    def terms(
        self, config: DirichletConfig, module: Any, x: Tensor, randomness: Randomness, cond: Tensor | None = None
    ) -> dict[str, Tensor]:
        """Return no terms, because the bound is computed as a whole."""
        return {}

    def latents(self, model: TrainedModel, steps: int | None = None, solver: Any = None) -> SimplexLatents:
        """Return the posterior means of the category probabilities as latents."""
        from kakusan.run.tools.latents import SimplexLatents, refuse_solver

        refuse_solver(model, steps, solver)
        return SimplexLatents(model.chain)

    def density_bin_width(self, config: DirichletConfig) -> None:
        """Return None, because counts have probabilities, not densities."""

    def estimate(
        self, model: TrainedModel, data: Tensor, seed: int, law: Any, labels: Tensor | None = None
    ) -> Estimate:
        """Return the exact log-likelihood, in closed form."""
        import torch

        from kakusan.likelihood.chains import in_closed_form

        return in_closed_form(model.chain, model.batches(data, seed)(torch.arange(len(data))))

    def figures(self, model: TrainedModel, held_out: Tensor) -> dict:
        """Return no figures."""
        return {}

    def finish(self, module: Any, data: Tensor) -> tuple[dict[str, Any], list[str]]:
        """Return the distance between the learned posteriors and the exact ones."""
        distance = module.distance_to_exact(data.to(module.log_gamma.device))
        line = f"gradient ascent ended at gamma = (x + alpha)(1 ± {distance:.1e})"
        return {"largest_relative_distance_to_exact_posterior": distance}, [line]

    def optional_weights(self, event_shape: tuple[int, ...]) -> dict[str, torch.Tensor]:
        """Return posteriors of zero rows, because only training needs them."""
        import torch

        return {POSTERIORS: torch.zeros((0, *event_shape), dtype=torch.float64)}
