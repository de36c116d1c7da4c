"""Which reader a `--data` argument asks for. A new kind of data goes here."""

from __future__ import annotations

from pathlib import Path

from kakusan.data.arrays import read_array_file
from kakusan.data.binarized import mnist_binary
from kakusan.data.dataset import Dataset
from kakusan.data.folder import read_picture_folder
from kakusan.data.idx import has_idx, read_idx_folder
from kakusan.data.mnist import mnist, mnist_label_counts
from kakusan.data.options import Pictures
from kakusan.data.scan import Say
from kakusan.errors import InputError

EMBEDDED = {"mnist": mnist, "mnist-binary": mnist_binary, "mnist-labels": mnist_label_counts}
ARRAY_SUFFIXES = (".npy", ".npz")


def open_data(spec: str, pictures: Pictures | None = None, say: Say | None = None) -> Dataset:
    """An embedded name, a folder of pictures or of IDX files, or a `.npy` / `.npz` file.

    Args:
        spec: The `--data` argument.
        pictures: Size and channels of a folder of pictures, and what to do about bad ones.
        say: Told from time to time how far a long reading is.

    Raises:
        InputError: With what was expected, what was found and what to type.
    """
    wanted = pictures or Pictures()
    if is_picture_folder(spec):
        return read_picture_folder(Path(spec), wanted, say)
    if not wanted.plain:
        raise InputError(f"--size and --channels are for a folder of pictures, and {spec} is none")
    if spec in EMBEDDED:
        return EMBEDDED[spec]()
    path = Path(spec)
    if path.is_dir():
        return read_idx_folder(path)
    if not path.exists():
        raise InputError(
            f"no data at {spec!r}; give {', '.join(EMBEDDED)}, a folder of pictures or of IDX files, or a .npy or .npz file"
        )
    if path.suffix not in ARRAY_SUFFIXES:
        raise InputError(
            f"{spec}: expected a .npy or .npz file, or a folder of pictures or of IDX files, "
            f"got a file {path.suffix or 'without ending'}"
        )
    return read_array_file(path)


def is_picture_folder(spec: str) -> bool:
    """Whether a `--data` argument names a folder in which each picture is a file."""
    if not spec.strip():
        raise InputError(f"--data is empty; give {', '.join(EMBEDDED)}, a folder, or a .npy or .npz file")
    return spec not in EMBEDDED and Path(spec).is_dir() and not has_idx(Path(spec))


def lasting(spec: str) -> str:
    """The same `--data` argument, to be understood from any folder."""
    return spec if spec in EMBEDDED else str(Path(spec).resolve())
