"""A denoiser of kakusan as a component of diffusers, for networks that are not equal to any UNet2DModel.

Import this module before `DDPMPipeline.from_pretrained`. diffusers takes a component from a module that the caller has
imported. So the exported folder holds no code, and `trust_remote_code` is not needed. Needs the extra diffusers.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from diffusers.models.unets.unet_2d import UNet2DOutput
from torch import Tensor

from kakusan.models.mixture import split
from kakusan.run.build import build, event_shape_of
from kakusan.run.recipe import from_record

AS_X = ("mean", "score")  # predictions that no scheduler supports; the estimate of x replaces them


class KakusanUNet(ModelMixin, ConfigMixin):
    """Denoiser of a trained model with the interface of diffusers: component(z_t, step).sample, with steps from 0.

    A model with clusters draws the cluster of each sample when a new reverse process begins, i.e. when the step does not
    decrease. Set `classes` to int64 (b,) to choose the clusters.

    Args:
        record: The recipe's record.
        event_shape: [C, H, W].
        sample_size: [H, W], which pipelines read.
        in_channels: C.
        class_probs: Probability of each cluster; None without clusters.
    """

    @register_to_config
    def __init__(
        self,
        record: dict[str, Any],
        event_shape: Sequence[int],
        sample_size: Sequence[int],
        in_channels: int,
        class_probs: Sequence[float] | None = None,
    ):
        super().__init__()
        recipe = from_record(record)
        chain = split(build(recipe.model, event_shape_of(recipe.model, list(event_shape))))[0]
        self.denoiser = chain.denoiser
        self._chain = (chain,)  # in a tuple, so that its network is not registered twice
        self.classes: Tensor | None = None
        self._drawn: Tensor | None = None
        self._last = -1

    def forward(
        self,
        sample: Tensor,
        timestep: Tensor | float | int,
        class_labels: Tensor | None = None,
        return_dict: bool = True,
    ) -> Any:
        """Return the prediction for steps 0..T-1; a learned variance doubles the channels."""
        chain = self._chain[0]
        steps = torch.as_tensor(timestep, device=sample.device).long().expand(len(sample)) + 1
        cond = self._cond(len(sample), steps, class_labels)
        prediction, v = chain.predict(sample, steps, cond)
        if chain.prediction in AS_X:
            prediction = chain.x_from(prediction, sample, steps)
        output = prediction if v is None else torch.cat([prediction, 2 * v - 1], dim=1)
        return UNet2DOutput(sample=output) if return_dict else (output,)

    def _cond(self, num: int, steps: Tensor, class_labels: Tensor | None) -> Tensor | None:
        probs = self.config["class_probs"]
        if probs is None:
            return None
        chosen = self.classes if class_labels is None else class_labels
        if chosen is not None:
            return chosen.to(steps.device)
        step = int(steps[0])
        if self._drawn is None or len(self._drawn) != num or step >= self._last:
            self._drawn = torch.multinomial(torch.tensor(probs), num, replacement=True).to(steps.device)
        self._last = step
        return self._drawn
