"""Readers for the `--data` argument. A new kind of data is one file and one line in `KINDS`."""

from __future__ import annotations

from pathlib import Path

from kakusan.data.dataset import DataKind, Dataset, Tell
from kakusan.data.labels import of_rows
from kakusan.data.options import CHOICES, ImageOptions
from kakusan.errors import InputError, printable
from kakusan.registry import Registry, did_you_mean

EMBEDDED = Registry(
    "data set",
    {
        "mnist": "kakusan.data.digits:mnist",
        "mnist-binary": "kakusan.data.digits:mnist_binary",
        "mnist-labels": "kakusan.data.digits:mnist_label_counts",
    },
)
KINDS = Registry(  # the first one that recognizes a path opens it
    "kind of data",
    {
        "arrays": "kakusan.data.arrays:ArrayFile",
        "tables": "kakusan.data.table_file:TableFile",
        "idx": "kakusan.data.idx:IDXFolder",
        "images": "kakusan.data.folder:ImageFolder",
    },
)
CONVERT = {
    "images": "one image is not a data set: put many images into a folder and give its name",
    "table": "save the table as .csv",
    "archive": "unpack it, and give the folder",
    "tensor": "save the array with np.save('x.npy', x)",
}
SUFFIXES = {
    **dict.fromkeys([".png", ".jpg", ".jpeg", ".webp", ".gif", ".tif", ".tiff", ".bmp", ".avif", ".heic"], "images"),
    **dict.fromkeys([".xls", ".xlsx", ".ods"], "table"),
    **dict.fromkeys([".zip", ".tar", ".gz", ".tgz", ".7z"], "archive"),
    **dict.fromkeys([".pt", ".pth", ".pkl", ".h5", ".hdf5", ".mat", ".safetensors"], "tensor"),
}


def open_data(
    spec: str | Path, options: ImageOptions | None = None, tell: Tell | None = None, *, whole: bool = False
) -> Dataset:
    """Open an embedded data set by its name, or a file or folder of one of `KINDS`.

    Args:
        spec: Name or path, as in --data.
        options: Size and channels of a folder of images, and what to do about bad files.
        tell: Called from time to time with the progress of reading.
        whole: Do not split data without a test part; for evaluation.

    Raises:
        InputError: If the data cannot be opened.
    """
    spec, options = str(spec), options or ImageOptions()
    kind = kind_of(spec)
    for option in options.given():
        if kind is None or option not in kind.options:
            takers = " or ".join(each.summary for each in KINDS.values() if option in each.options)
            raise InputError(f"--{option} is for {takers}, and {printable(spec)} is not one")
    if kind is None:
        return of_rows(EMBEDDED[spec](), options.labels)
    try:
        dataset = kind.open(_path(spec).resolve(), options, whole, tell)
        return dataset if "labels" in kind.options else of_rows(dataset, options.labels)
    except OSError as error:
        raise InputError(f"{printable(spec)}: cannot be read ({error.strerror or error})") from error


def takes(spec: str, option: str) -> bool:
    """True if the kind of data at a path has this option, such as "size"."""
    kind = kind_of(spec)
    return kind is not None and option in kind.options


def kind_of(spec: str) -> DataKind | None:
    """Kind of data at a path; None for the name of an embedded data set.

    Raises:
        InputError: If the path does not exist or no kind of data recognizes it.
    """
    choices = f"{', '.join(EMBEDDED)}, {', '.join(kind.summary for kind in KINDS.values())}"
    if not spec.strip():
        raise InputError(f"--data is empty; give {choices}")
    if spec in EMBEDDED:
        return None
    path = _path(spec)
    try:
        path.stat()
        for kind in KINDS.values():
            if kind.recognizes(path):
                return kind
    except FileNotFoundError:
        near = did_you_mean(spec, EMBEDDED)
        raise InputError(f"no data at {printable(repr(spec))}; {near}give {choices}") from None
    except (OSError, ValueError) as error:  # ValueError: a null byte
        reason = error.strerror if isinstance(error, OSError) else error
        raise InputError(f"{printable(spec)[:200]}: cannot be read ({reason})") from error
    suffix = path.suffix.lower()
    advice = CONVERT.get(SUFFIXES.get(suffix, ""), f"give {choices}")
    raise InputError(
        f"{printable(spec)}: a file {printable(suffix) or 'without ending'} is not readable as data; {advice}"
    )


def lasting(spec: str) -> str:
    """Name of the data that is valid in any directory: an absolute path, or the name of an embedded data set."""
    return spec if spec in EMBEDDED else str(_path(spec).resolve())


def lasting_labels(choice: str | None) -> str | None:
    """Choice of labels that is valid in any directory: the absolute path of a table, or the choice itself."""
    return choice if choice is None or choice in CHOICES else str(_path(choice).resolve())


def _path(spec: str) -> Path:
    try:
        return Path(spec).expanduser()
    except RuntimeError as error:  # ~somebody
        raise InputError(f"{printable(spec)}: there is no such user; give the full path") from error
