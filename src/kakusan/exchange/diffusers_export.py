"""Export as a pipeline folder of diffusers, checked against the model itself."""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from kakusan.errors import InputError
from kakusan.exchange.base import Exported, ExportFormat
from kakusan.exchange.classic_unet import as_unet
from kakusan.exchange.diffusers_import import PREDICTIONS
from kakusan.models.mixture import split
from kakusan.noise import example_streams, randn, stream
from kakusan.progress import stages
from kakusan.run.families.diffusers import DiffusersConfig, UNetSettings, library, unet_of
from kakusan.run.source import ModelSource
from kakusan.run.trained_model import TrainedModel, of_file
from kakusan.solvers.ancestral import Ancestral
from kakusan.solvers.loop import sample

OUTPUT_TOLERANCE, IMAGE_TOLERANCE = 1e-5, 1 / 255
NUM, STEPS = 4, 50  # number of samples and steps in the check
COMPONENT = "kakusan.exchange.component"
VARIANCES = {
    "beta_tilde": "fixed_small",
    "beta": "fixed_large",
    "fixed_large": "fixed_large",
    "learned": "learned_range",
}
TYPES = {ours: theirs for theirs, ours in PREDICTIONS.items()}


class DiffusersFolder(ExportFormat):
    """A folder that diffusers' DDPMPipeline.from_pretrained loads.

    The classic U-Net becomes a UNet2DModel and does not need kakusan. Other networks become a component that diffusers
    finds once `kakusan.exchange.component` is imported.
    """

    suffix = ""

    def make(self, source: ModelSource) -> Exported:
        """Return the files, after a comparison of the loaded folder with the model."""
        library()
        shared = source.read() if source.run is None else source.read_shareable()
        model = of_file(shared, torch.device("cpu"), source.path)
        if not model.family.estimators or not model.family.form.has_pixels:
            kind = (
                "a student, whose solver it lacks" if not model.family.has_bound else f"a {model.recipe.family} model"
            )
            raise InputError(
                f"diffusers samples diffusion models of images, and {source.path} is {kind}; choose another --format"
            )
        pipeline = pipeline_of(model)
        with tempfile.TemporaryDirectory() as folder, stages("exporting", 3) as done:
            done()
            pipeline.save_pretrained(folder)
            _own_names_only(Path(folder))
            with quiet_library():
                loaded = library().DDPMPipeline.from_pretrained(folder, low_cpu_mem_usage=False)
            done()
            lines = [_kind(pipeline), *agreement(model, loaded)]
            content = {path.relative_to(folder).as_posix(): path.read_bytes() for path in _files(Path(folder))}
        return Exported(content, lines)

    def use(self, out: Path) -> str:
        """Return the Python code that loads the folder."""
        return f"load it with: diffusers.DDPMPipeline.from_pretrained({str(out)!r})"


@contextmanager
def quiet_library() -> Iterator[None]:
    """Hide progress bars and advice of diffusers in the block; restore its settings afterwards."""
    logging = library().utils.logging
    before, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(before)
        if bars:
            logging.enable_progress_bar()


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def _own_names_only(folder: Path) -> None:
    """Raise an error if a configuration contains a path of this machine, e.g. the temporary folder."""
    for path in _files(folder):
        if path.suffix == ".json" and str(folder) in path.read_text():
            raise RuntimeError(f"{path.name} names a path of this machine")


def pipeline_of(model: TrainedModel) -> Any:
    """Build a DDPMPipeline of a diffusion model."""
    chain, classes = split(model.chain)
    config: Any = model.recipe.model
    network = chain.denoiser
    converted = None if classes is not None else as_unet(network, model.event_shape, chain.depth)
    if isinstance(config, DiffusersConfig):
        converted = config.unet, dict(network.module.state_dict())
    unet = _component(model, chain, classes) if converted is None else _unet(*converted)
    return library().DDPMPipeline(unet.eval(), scheduler_of(chain, config))


def _unet(settings: UNetSettings, weights: dict[str, Tensor]) -> Any:
    unet = unet_of(settings)
    unet.load_state_dict(weights)
    return unet


def _component(model: TrainedModel, chain: Any, classes: Any) -> Any:
    from kakusan.exchange.component import KakusanUNet

    channels, height, width = model.event_shape
    component = KakusanUNet(
        record=model.recipe.record(),
        event_shape=list(model.event_shape),
        sample_size=[height, width],
        in_channels=channels,
        class_probs=None if classes is None else classes.share.tolist(),
    )
    component.denoiser.load_state_dict(chain.denoiser.state_dict())
    return component


def scheduler_of(chain: Any, config: Any) -> Any:
    """Build the DDPMScheduler of a chain, with its betas, prediction, variance and clipping."""
    if chain.variance not in VARIANCES:
        raise InputError(
            f"diffusers has no variance {chain.variance!r}; it has {', '.join(VARIANCES)}: "
            "train with another --model.variance"
        )
    noise: dict[str, Any] = {"trained_betas": chain.schedule.beta[1:].tolist(), "num_train_timesteps": chain.depth}
    if isinstance(config, DiffusersConfig) and config.begin is None:
        noise = dataclasses.asdict(config.scheduler)
    return library().DDPMScheduler(
        **noise,
        variance_type=VARIANCES[chain.variance],
        prediction_type=TYPES.get(chain.prediction, "sample"),
        clip_sample=chain.clip is not None,
        clip_sample_range=1.0 if chain.clip is None else chain.clip[1],
    )


def _kind(pipeline: Any) -> str:
    if type(pipeline.unet).__name__ == "UNet2DModel":
        return "the network is a UNet2DModel: diffusers loads it without kakusan"
    return f"the network is a component of kakusan: type import {COMPONENT} before it is loaded"


def agreement(model: TrainedModel, pipeline: Any) -> list[str]:
    """Compare network outputs and images of a loaded pipeline and the model, and return lines of text about it.

    Raises:
        InputError: If outputs differ by more than 1e-5 of the largest output, or images by more than 1/255.
    """
    pipeline.set_progress_bar_config(disable=True)
    chain, classes = split(model.chain)
    cond = None if classes is None else classes.draw(NUM, stream("agreement classes"))
    if cond is not None:
        pipeline.unet.classes = cond
    output = max(_difference(chain, pipeline.unet, t, cond) for t in {1, (1 + chain.depth) // 2, chain.depth})
    times = leading_times(chain.depth, STEPS)
    mine = sample(model.chain, NUM, solver=Ancestral(), times=times, cond=cond, seed=0)
    theirs = pipeline(
        batch_size=NUM, generator=example_streams(0, range(NUM)), num_inference_steps=len(times), output_type="np"
    ).images
    pixels = (mine / 2 + 0.5).clamp(0, 1).permute(0, 2, 3, 1)
    image = (pixels - torch.from_numpy(theirs)).abs().max().item()
    if not (output <= OUTPUT_TOLERANCE and image <= IMAGE_TOLERANCE):
        raise InputError(
            f"the exported pipeline differs from the model: outputs by {output:.1e} (at most {OUTPUT_TOLERANCE:.0e}), "
            f"images by {255 * image:.2f}/255 (at most 1); nothing was written"
        )
    return [
        f"outputs of the network differ by at most {output:.1e} of the largest (tolerance {OUTPUT_TOLERANCE:.0e})",
        f"{NUM} images of {len(times)} steps from the same noise differ by at most {255 * image:.4f}/255 (tolerance 1)",
    ]


def leading_times(depth: int, num: int) -> list[int]:
    """Return at most `num` equally spaced steps in 1..T, starting at 1: the "leading" spacing of diffusers."""
    num = min(num, depth)
    return [1 + depth // num * k for k in range(num)]


@torch.no_grad()
def _difference(chain: Any, unet: Any, t: int, cond: Tensor | None) -> float:
    """Return the largest difference of the networks' outputs at step t, relative to the largest output if above 1."""
    z = randn((NUM, *chain.event_shape), stream("agreement", t), torch.float32, "cpu")
    mine, v = chain.predict(z, t, cond)
    if chain.prediction not in TYPES:
        mine = chain.x_from(mine, z, t)
    parts = [mine] if v is None else [mine, 2 * v - 1]
    theirs = unet(z, torch.tensor(t - 1)).sample
    mine = torch.cat(parts, dim=1)
    return (mine - theirs).abs().max().item() / max(1.0, mine.abs().max().item())
