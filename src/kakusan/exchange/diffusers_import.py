"""Import of a pipeline folder of diffusers: a DDPMPipeline or DDIMPipeline with a UNet2DModel.

Only JSON and safetensors files are read, and each is checked before it is used. No code of the folder runs. No pickle is
loaded. The folder's own schedule, prediction, variance and clipping become those of a `Diffusion`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from kakusan import __version__
from kakusan.console import quoted
from kakusan.errors import InputError, shown
from kakusan.run.build import blueprint, event_shape_of
from kakusan.run.families.diffusers import DiffusersConfig, SchedulerSettings, UNetSettings, library
from kakusan.run.model_file import ExportedModel, Facts, Source
from kakusan.run.recipe import Recipe
from kakusan.settings import from_values, settings_of
from kakusan.storage import files, records, tensors
from kakusan.training.settings import Optim

MOST_JSON = 2**20
WEIGHTS = "diffusion_pytorch_model.safetensors"
PREFIX = "denoiser.module."  # prefix of the network's weights in our files
PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl")
PIPELINES = ("DDPMPipeline", "DDIMPipeline")
SCHEDULERS = ("DDPMScheduler", "DDIMScheduler")
PREDICTIONS = {"epsilon": "eps", "sample": "x", "v_prediction": "v"}
VARIANCES = {
    "fixed_small": "beta_tilde",
    "fixed_small_log": "beta_tilde",
    "fixed_large": "fixed_large",
    "learned_range": "learned",
}
OF_SAMPLING = {  # settings of a scheduler that select steps, which is the task of our solvers
    "timestep_spacing",
    "steps_offset",
    "set_alpha_to_one",
    "dynamic_thresholding_ratio",
    "sample_max_value",
    "skip_prk_steps",
}
OF_MODEL = {"variance_type", "prediction_type", "clip_sample", "clip_sample_range", "thresholding"}
OLD_NAMES = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}  # in attention, before 2023
UNKNOWN_DATA, NO_DIGEST = "unknown", "0" * 64


def read_pipeline(folder: Path | str) -> ExportedModel:
    """Read the model of a pipeline folder. Its data are recorded as unknown.

    Raises:
        InputError: If it is not such a pipeline, a setting has no counterpart here, or its weights are a pickle.
    """
    folder = Path(folder)
    if folder.suffix in PICKLES and folder.is_file():
        raise InputError(_no_pickle(folder))
    if not folder.is_dir():
        raise InputError(f"{folder} is not a folder; give a pipeline folder of diffusers, with model_index.json in it")
    library()
    _check_index(_json(folder / "model_index.json"), folder)
    unet = _settings(UNetSettings, _json(folder / "unet" / "config.json"), f"{folder}/unet")
    config = _config(unet, _json(folder / "scheduler" / "scheduler_config.json"), folder)
    size = unet.sample_size
    if size is None:
        raise InputError(f'{folder}/unet: sample_size must be the size of the images, got None; add "sample_size": 32')
    height, width = size if isinstance(size, tuple) else (size, size)
    shape = event_shape_of(config, [unet.in_channels, height, width])
    recipe = Recipe("diffusers", f"Imported from {_index_class(folder)}", config, UNKNOWN_DATA, optim=_optim(), steps=1)
    versions = {"kakusan": __version__, "diffusers": library().__version__, "torch": torch.__version__}
    facts = Facts(recipe, shape, Source(UNKNOWN_DATA, "images", NO_DIGEST), versions)
    return ExportedModel(facts, _weights(folder / "unet", facts))


def _optim() -> Optim:
    """Return optimizer settings for fine-tuning; a UNet2DModel is trained with AdamW."""
    return Optim(method="adam", lr=1e-4, ema=0.1)


def _json(path: Path) -> dict[str, Any]:
    try:
        content = files.read_regular(path, MOST_JSON)
    except OSError as error:
        raise InputError(
            f"{path} cannot be read ({error.strerror}); expected a folder that pipeline.save_pretrained wrote"
        ) from error
    table = records.parse(content, str(path), MOST_JSON)
    if not isinstance(table, dict):
        raise InputError(f"{path} must be a table, got {shown(table)}")
    return table


def _index_class(folder: Path) -> str:
    return _json(folder / "model_index.json")["_class_name"]


def _check_index(index: dict[str, Any], folder: Path) -> None:
    if index.get("_class_name") not in PIPELINES:
        raise InputError(f"{folder}: expected a {' or '.join(PIPELINES)}, got {shown(index.get('_class_name'))}")
    for part, known in (("unet", ("UNet2DModel",)), ("scheduler", SCHEDULERS)):
        entry = index.get(part)
        if not (isinstance(entry, list) and len(entry) == 2 and entry[0] == "diffusers" and entry[1] in known):
            raise InputError(
                f"{folder}: its {part} must be diffusers' {' or '.join(known)}, got {shown(entry)}; "
                "code of a folder is never run: build the network in Python and use kakusan.Diffusion.wrap"
            )


def _settings(kind: type, content: dict[str, Any], where: str) -> Any:
    """Return the settings of a JSON file, without diffusers' private entries, whose names begin with _."""
    try:
        return from_values(kind, {name: v for name, v in content.items() if not name.startswith("_")}, kind.__name__)
    except InputError as error:
        raise InputError(f"{where}: {error}") from error


def _config(unet: UNetSettings, scheduler: dict[str, Any], folder: Path) -> DiffusersConfig:
    """Return the settings of our model; InputError for a setting that `Diffusion` does not support."""
    where = f"{folder}/scheduler"
    own = {setting.name for setting in settings_of(SchedulerSettings)}
    rest = {name for name in scheduler if not name.startswith("_")} - own - OF_SAMPLING - OF_MODEL
    if rest:
        raise InputError(
            f"{where}: the setting {shown(min(rest))} is not known here; a DDPM or DDIM scheduler has none"
        )
    noise = _settings(SchedulerSettings, {name: v for name, v in scheduler.items() if name in own}, where)
    if scheduler.get("thresholding", False):
        raise InputError(f"{where}: dynamic thresholding depends on the whole image and has no bound; set it to false")
    chosen: dict[str, Any] = {}
    for name, known, default in (
        ("prediction_type", PREDICTIONS, "epsilon"),
        ("variance_type", VARIANCES, "fixed_small"),  # a DDIM scheduler has no variance_type; its eta = 1 is beta_tilde
    ):
        value = scheduler.get(name, default)
        if not isinstance(value, str) or value not in known:
            raise InputError(f"{where}: {name} must be one of {', '.join(known)}, got {shown(value)}")
        chosen[name] = known[value]
    learned = chosen["variance_type"] == "learned"
    if unet.out_channels != unet.in_channels * (2 if learned else 1):
        raise InputError(
            f"{folder}/unet: out_channels must be {unet.in_channels * (2 if learned else 1)} for this variance_type, "
            f"got {unet.out_channels}"
        )
    clip = scheduler.get("clip_sample_range", 1.0) if scheduler.get("clip_sample", True) else None
    return DiffusersConfig(
        depth=noise.num_train_timesteps,
        prediction=chosen["prediction_type"],
        variance=chosen["variance_type"],
        unet=unet,
        scheduler=noise,
        clip_range=clip,
    )


def _weights(folder: Path, facts: Facts) -> dict[str, Tensor]:
    """Read the network's weights in float32. Nothing is allocated before names and shapes have been checked."""
    path = folder / WEIGHTS
    if not path.exists():
        if (folder / (WEIGHTS + ".index.json")).exists():
            raise InputError(
                f"{folder}: weights in several parts are not read; save them as one file: "
                'save_pretrained(NEW, max_shard_size="100GB"), and import NEW'
            )
        pickled = sorted(found for found in folder.iterdir() if found.suffix in PICKLES)
        raise InputError(_no_pickle(pickled[0]) if pickled else f"{path} is missing; expected the network's weights")
    expected = {
        name.removeprefix(PREFIX): shape
        for name, (shape, _) in blueprint(facts.recipe.model, facts.event_shape).items()
    }

    def checked(head: tensors.Header) -> tensors.Expected:
        found = {_new_name(name): (entry.shape, entry.dtype) for name, entry in head.entries.items()}
        if len(found) < len(head.entries):
            raise InputError(f"{path}: a tensor of an attention appears twice, under its old and its new name")
        floats = {name: found[name][1] if name in found else torch.float32 for name in expected}
        for name, dtype in floats.items():
            if not dtype.is_floating_point:
                raise InputError(f"{path}: {name} must hold floating-point numbers, got {dtype}")
        tensors.check_expected(found, {name: (shape, floats[name]) for name, shape in expected.items()}, path)
        return {name: (entry.shape, entry.dtype) for name, entry in head.entries.items()}

    named = tensors.read(path, checked)[0]
    weights = {_new_name(name): tensor.float() for name, tensor in named.items()}
    tensors.check_finite(weights, path)
    return {PREFIX + name: tensor for name, tensor in weights.items()}


def _new_name(name: str) -> str:
    """Return the current name of a tensor of an attention layer, which older files name differently."""
    start, _, last = name.rpartition(".")
    block, _, layer = start.rpartition(".")
    return f"{block}.{OLD_NAMES[layer]}.{last}" if ".attentions." in name and layer in OLD_NAMES else name


def _no_pickle(path: Path) -> str:
    return (
        f"{path} is a pickle, which can run any code, and is never loaded; where it is trusted, save it again by "
        f"diffusers' DDPMPipeline.from_pretrained({quoted(path.parent.parent)}).save_pretrained(NEW), and import NEW"
    )
