"""Labels of examples from class subfolders, from a table with the columns name and label, or from a dataset.json.

A table names images by their path in the folder, or by their file name where that is unique. For arrays, IDX files and
embedded data the name is the number of the training example, from 0. An empty label, or an example that the table does
not name, is unlabeled.
"""

from __future__ import annotations

import csv
import dataclasses
import io
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from kakusan.data.dataset import OWN_TEST_PART, WHOLE, Dataset, class_indices, split_rows
from kakusan.data.label_column import has_column, of_column
from kakusan.errors import InputError, printable, shown
from kakusan.registry import did_you_mean
from kakusan.storage.files import read_regular

FOLDERS, NONE = "folders", "none"  # values of --labels besides a path
TABLES = ("labels.csv", "dataset.json")  # the first one in a folder of images is read automatically
HEADS = ("name", "file", "filename", "path", "image", "example", "row", "index")
MOST_BYTES = 256 * 2**20
COLUMNS = "expected two columns, name and label, e.g. cat1.png,cat"
PAIRS = 'expected {"labels": [["cat1.png", 0], ...]}'


@dataclass(frozen=True)
class Found:
    """Labels of some examples.

    Attributes:
        values: Label of each example as text, "" for unlabeled; None without labels.
        source: Origin of the labels, in words.
        note: Message for the user, e.g. about labels that are not used.
    """

    values: np.ndarray | None = None
    source: str = ""
    note: str = ""


def of_folder(folder: Path, names: Sequence[str], choice: str | None, inside: int) -> Found:
    """Labels of the images of a folder.

    Args:
        folder: The folder.
        names: Path of each image in it.
        choice: "folders", "none" or the path of a table; default: labels.csv or dataset.json if there is one, else class
            subfolders if all images are in two or more.
        inside: Number of folders above the classes: 1 if there are folders for training and testing.

    Raises:
        InputError: If the choice gives no labels, or a table is damaged.
    """
    if choice == NONE:
        return Found()
    if choice not in (None, FOLDERS):
        return _of_table(Path(choice), names)
    notes = []
    for table in tables_of(folder, choice):
        try:
            return _of_table(folder / table, names)
        except InputError as error:  # a file of that name may be something else
            notes.append(f"{table} not used ({error})")
    note = "; ".join(notes)
    parts = [name.split("/")[inside:] for name in names]
    classes = [part[0] if len(part) > 1 else "" for part in parts]
    counts = Counter(classes)
    outside, subfolders = counts.pop("", 0), len(counts)
    if choice == FOLDERS:
        if subfolders < 2:
            raise InputError(
                f"{printable(str(folder))}: --labels folders needs at least two subfolders with images, got {subfolders}"
            )
        return Found(np.array(classes), "subfolders")
    if subfolders > 1 and outside:
        note = f"{subfolders:,} subfolders not taken as labels, because {outside:,} images lie outside of them"
    if subfolders < 2 or outside:
        return Found(note=note)
    return Found(np.array(classes), "subfolders", note)


def tables_of(folder: Path, choice: str | None) -> list[str]:
    """Paths of the label tables in the order in which they are tried, relative to the folder or absolute."""
    paths = TABLES if choice is None else [choice]
    return [path for path in paths if path not in (FOLDERS, NONE) and (folder / path).is_file()]


def _of_table(path: Path, names: Sequence[str]) -> Found:
    table = read_table(path)
    bases = Counter(name.rsplit("/", 1)[-1] for name in names)
    keys = [name if name in table else name.rsplit("/", 1)[-1] for name in names]
    fitting = [key in table and (key == name or bases[key] == 1) for key, name in zip(keys, names)]
    values = [table[key] if fits else "" for key, fits in zip(keys, fitting)]
    left = set(table) - {key for key, fits in zip(keys, fitting) if fits}
    return _found(path, values, sorted(left), "no image")


def _found(path: Path, values: list[str], left: list[str], what: str) -> Found:
    """Labels of a table; InputError if it names no example."""
    if not any(values):
        first = f", the first {printable(left[0])}" if left else ""
        raise InputError(f"{path}: no name matches an example, got {len(left):,} names{first}; {_form_of(path)}")
    note = f"{len(left):,} names of {printable(path.name)} fit {what}, the first {printable(left[0])}" if left else ""
    return Found(np.array(values), printable(path.name), note)


def of_rows(dataset: Dataset, choice: str | None) -> Dataset:
    """Return a data set with the labels of a column, or of a table that names examples by number, or without labels.

    A column is removed from the features. A table of labels replaces the labels of the training examples. The labels of a
    separate test part are kept.

    Raises:
        InputError: If the choice does not fit such data, or a table is damaged.
    """
    if choice is None:
        return dataset
    if has_column(dataset, choice):
        return of_column(dataset, choice)
    if choice == NONE:
        return dataclasses.replace(dataset, train_cond=None, test_cond=None, classes=(), labeled_by="")
    if choice == FOLDERS:
        raise InputError(
            f"--labels folders is for a folder of images, and {dataset.name} is not one; give a table, or --labels none"
        )
    path = Path(choice)
    if dataset.columns and not path.is_file():
        names = [column.name for column in dataset.columns]
        raise InputError(
            f"{dataset.name}: --labels {shown(choice)} is neither a column nor a file; {did_you_mean(choice, names)}there "
            f"are the columns {', '.join(names[:12])}"
        )
    own = dataset.source == OWN_TEST_PART
    num = len(dataset.train) + (0 if own or dataset.source == WHOLE else len(dataset.test))
    table = read_table(path)
    values = [table.pop(str(row), "") for row in range(num)]
    found = _found(path, values, sorted(table), f"none of the {num:,} training examples")
    assert found.values is not None, "it names an example"
    test: np.ndarray | None = None
    train = found.values
    if dataset.source == WHOLE:
        test = train
    elif not own:
        rows, held_out = split_rows(num)
        train, test = found.values[rows.numpy()], found.values[held_out.numpy()]
    elif dataset.test_cond is not None:
        names = np.array([*dataset.classes, ""])
        test = names[dataset.test_cond.numpy()]  # -1 is the last, unlabeled
    indices, test_indices, classes = class_indices(train, test, certain=True)
    prepared = "; ".join(filter(None, [dataset.prepared, found.note]))
    return dataclasses.replace(
        dataset,
        train_cond=indices,
        test_cond=test_indices,
        classes=classes,
        labeled_by=found.source,
        prepared=prepared,
    )


def read_table(path: Path) -> dict[str, str]:
    """The label of each name in a .csv file with two columns, with or without a header, or in a .json file of pairs.

    Raises:
        InputError: If the file cannot be read, an entry is not a name and a label, or a name has two labels.
    """
    try:
        text = read_regular(path, MOST_BYTES).decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8 text"
        raise InputError(f"{printable(str(path))}: not a table of labels ({reason}); {_form_of(path)}") from error
    table: dict[str, str] = {}
    for given, value in _json_pairs(path, text) if _form_of(path) == PAIRS else _csv_pairs(path, text):
        name, label = given.strip().removeprefix("./").replace("\\", "/"), printable(value.strip())
        if table.setdefault(name, label) != label:
            raise InputError(f"{path}: {printable(name)} has two labels, {table[name]} and {label}; keep one of them")
    return table


def _form_of(path: Path) -> str:
    return PAIRS if path.suffix.lower() == ".json" else COLUMNS


def _csv_pairs(path: Path, text: str) -> Iterator[tuple[str, str]]:
    rows = csv.reader(io.StringIO(text, newline=""))
    try:
        for number, row in enumerate(rows, 1):
            if not any(cell.strip() for cell in row):
                continue
            if len(row) != 2:
                raise InputError(
                    f"{path}: {COLUMNS}, got {len(row)} in line {number:,}: {printable(','.join(row))[:80]}"
                )
            if number > 1 or row[0].strip().lower() not in HEADS:
                yield row[0], row[1]
    except csv.Error as error:
        raise InputError(f"{path}: {COLUMNS}; line {rows.line_num:,} cannot be read ({error})") from error


def _json_pairs(path: Path, text: str) -> Iterator[tuple[str, str]]:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: {PAIRS}, got a file that is not JSON") from error
    pairs = found.get("labels") if isinstance(found, dict) else None
    if not isinstance(pairs, list):
        raise InputError(f"{path}: {PAIRS}, got no list of labels")
    for pair in pairs:
        named = isinstance(pair, list) and len(pair) == 2 and isinstance(pair[0], str)
        if not named or not (pair[1] is None or type(pair[1]) in (int, str)):
            raise InputError(f"{path}: {PAIRS}, got {printable(str(pair))[:80]}")
        yield pair[0], "" if pair[1] in (None, -1) else str(pair[1])


def indices_for(classes: Sequence[str], dataset: Dataset, part: str) -> torch.Tensor | None:
    """Index among `classes` of each example's label, int64 (N,), -1 for unlabeled; None without labels.

    Args:
        classes: Names of a model's classes.
        dataset: Labeled data.
        part: "train" or "test".

    Raises:
        InputError: If a label is not among the classes.
    """
    cond = dataset.train_cond if part == "train" else dataset.test_cond
    if cond is None:
        return None
    unknown = sorted({dataset.classes[k] for k in cond.unique().tolist() if k >= 0} - set(classes))
    if unknown:
        raise InputError(
            f"{dataset.name}: the label {printable(unknown[0])} is not among the model's classes, "
            f"{', '.join(map(printable, list(classes)[:20]))}; rename it, or leave it empty"
        )
    places = [classes.index(name) if name in classes else -1 for name in dataset.classes]
    return torch.tensor([*places, -1])[cond]
