"""Files that the tools read and write: data of a model's shape, one example, and new files without overwriting."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from torch import Tensor

from kakusan.console import tell
from kakusan.data.dataset import Dataset
from kakusan.data.image_file import MadeHere, Unusable, read_image
from kakusan.data.options import ImageOptions
from kakusan.errors import InputError
from kakusan.run.directory import check_new
from kakusan.run.evaluation_data import data_of
from kakusan.run.source import open_source
from kakusan.run.trained_model import load
from kakusan.storage import files

if TYPE_CHECKING:
    from kakusan.run.trained_model import TrainedModel


def examples_of(run: Path | str, path: str, device: str) -> tuple[TrainedModel, Dataset]:
    """Load the model of a run, and all data of a file or folder in its shape."""
    source = open_source(run)
    model = load(run, device)
    dataset = data_of(source, model, path, "PATH")
    if not dataset.prepared:  # otherwise already described
        tell(f"on {dataset.describe()}")
    return model, dataset


def one_example(model: TrainedModel, run: Path | str, word: str) -> Tensor:
    """Return one stored example, (1, *event). A whole number means a held-out example of the run; other words name a file.

    Raises:
        InputError: If there is no such example, or the file is not an image.
    """
    if word.isdecimal():
        held_out = data_of(open_source(run), model, None).test
        if int(word) >= len(held_out):
            raise InputError(f"held-out examples are 0..{len(held_out) - 1}, got {word}")
        return held_out[int(word)][None]
    path = Path(word).expanduser()
    if len(model.event_shape) != 3 or not path.is_file():
        raise InputError(f"expected the number of a held-out example or an image file, got {word!r}")
    channels, height, width = model.event_shape
    try:
        decoded = read_image(path, ImageOptions((height, width), channels))
    except (Unusable, MadeHere) as error:
        raise InputError(f"{path} is not a usable image ({error}); give one image file of any size") from error
    return model.examples(decoded.pixels[None].copy())  # a decoder's array is read-only


def check_file(path: Path, suffixes: tuple[str, ...]) -> None:
    """Raise InputError unless this can be the path of a new file with one of these endings."""
    if path.suffix.lower() not in suffixes:
        raise InputError(f"--out must end in {' or '.join(suffixes)}, got {path}")
    check_new(path)


def write_new(path: Path, content: bytes) -> None:
    """Write a file completely or not at all; missing folders are created."""
    make_folder_of(path)
    with files.writing(path):
        files.replace(path, content)


def make_folder_of(path: Path) -> None:
    """Create the folder of a file and its missing parents."""
    with files.writing(path):
        files.make_folders(path.parent)
