"""Which reader a `--data` argument asks for. A new kind of data goes here."""

from __future__ import annotations

from pathlib import Path

from kakusan.data.arrays import read_array_file
from kakusan.data.binarized import mnist_binary
from kakusan.data.dataset import Dataset
from kakusan.data.idx import read_idx_folder
from kakusan.data.mnist import mnist, mnist_label_counts
from kakusan.errors import InputError

EMBEDDED = {"mnist": mnist, "mnist-binary": mnist_binary, "mnist-labels": mnist_label_counts}
ARRAY_SUFFIXES = (".npy", ".npz")


def open_data(spec: str) -> Dataset:
    """An embedded name, a folder of IDX files, or a `.npy` / `.npz` file.

    Raises:
        InputError: With what was expected, what was found and what to type.
    """
    if spec in EMBEDDED:
        return EMBEDDED[spec]()
    path = Path(spec)
    if path.is_dir():
        return read_idx_folder(path)
    if not path.exists():
        raise InputError(
            f"no data at {spec!r}; give {', '.join(EMBEDDED)}, a folder of IDX files, or a .npy or .npz file"
        )
    if path.suffix not in ARRAY_SUFFIXES:
        raise InputError(
            f"{spec}: expected a .npy or .npz file or a folder of IDX files, got a file {path.suffix or 'without ending'}"
        )
    return read_array_file(path)


def lasting(spec: str) -> str:
    """The same `--data` argument, to be understood from any folder."""
    return spec if spec in EMBEDDED else str(Path(spec).resolve())
