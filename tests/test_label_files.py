"""Labels of data: from class subfolders, from a table with holes, and from the data's own files; none is lost silently."""

import dataclasses
import json

import numpy as np
import pytest
import torch
from PIL import Image

from harness.faults import catches
from kakusan.data import ImageOptions, open_data
from kakusan.data.dataset import class_indices
from kakusan.data.idx import UNSIGNED_BYTE
from kakusan.data.labels import indices_for, read_table
from kakusan.errors import InputError


def save(path, value=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((4, 4), value, np.uint8)).save(path)


def folder(root, *names):
    """Images whose only value is their number."""
    for value, name in enumerate(names):
        save(root / name, value)
    return root


def labels_of(data):
    """Label of each example by its value; None for unlabeled."""
    pairs = [(data.train, data.train_cond), (data.test, data.test_cond)]
    return {
        int(image.flatten()[0]): None if k < 0 else data.classes[k]
        for part, cond in pairs
        for image, k in zip(part, cond.tolist())
    }


def test_class_subfolders_are_labels_without_a_flag_and_a_line_says_so(tmp_path):
    data = open_data(folder(tmp_path, "cat/a.png", "cat/b.png", "dog/a.png", "dog/b.png"))
    assert labels_of(data) == {0: "cat", 1: "cat", 2: "dog", 3: "dog"}
    assert "2 classes from subfolders" in data.describe()


def test_subfolders_beside_loose_images_are_named_and_become_labels_by_a_flag(tmp_path):
    root = folder(tmp_path, "cat/a.png", "cat/b.png", "dog/a.png", "loose.png")
    assert "2 subfolders not taken as labels, because 1 images lie outside of them" in open_data(root).prepared
    data = open_data(root, ImageOptions(labels="folders"))
    assert labels_of(data) == {0: "cat", 1: "cat", 2: "dog", 3: None}
    assert "unlabeled" in data.labels() or (data.test_cond < 0).any()


@catches("""data/labels.py: a single subfolder is taken as the only class
- if subfolders < 2:
+ if subfolders < 1:""")
def test_a_single_subfolder_is_no_choice_of_classes(tmp_path):
    root = folder(tmp_path, "cat/a.png", "cat/b.png", "c.png")
    with pytest.raises(InputError) as refused:
        open_data(root, ImageOptions(labels="folders"))
    assert "needs at least two subfolders with images, got 1" in str(refused.value)


@catches("""data/labels.py: a hole in the table gets the first label
- values = [table[key] if fits else "" for
+ values = [table[key] if fits else next(iter(table.values())) for""")
def test_a_table_in_the_folder_labels_images_by_path_or_by_name_and_leaves_holes(tmp_path):
    root = folder(tmp_path, "a.png", "deep/b.png", "c.png", "deep/c.png", "d.png", "e.png")
    (root / "labels.csv").write_text("name,label\na.png,cat\nb.png,dog\ndeep/c.png,dog\nd.png,\nnowhere.png,cat\n")
    data = open_data(root)
    assert labels_of(data) == {0: "cat", 1: "dog", 2: None, 3: "dog", 4: None, 5: None}
    assert "2 classes from labels.csv" in data.labels()
    assert "1 names of labels.csv fit no image, the first nowhere.png" in data.prepared


@catches("""data/labels.py: a dataset.json counts only next to a labels.csv
- TABLES = ("labels.csv", "dataset.json")
+ TABLES = ("labels.csv", "labels.json")""")
def test_a_dataset_json_in_the_folder_labels_images_by_path(tmp_path):
    root = folder(tmp_path, *(f"00000/{name}.png" for name in "abcde"))
    pairs = [["00000/c.png", 1], ["00000/a.png", 10], ["00000/b.png", 2], ["00000/d.png", -1], ["00000/e.png", None]]
    (root / "dataset.json").write_text(json.dumps({"labels": pairs}))
    data = open_data(root)
    assert "3 classes from dataset.json" in data.labels()
    assert labels_of(data) == {0: "10", 1: "2", 2: "1", 3: None, 4: None}
    assert data.classes == ("1", "2", "10")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "a file that is not JSON"),
        ("[" * 100_000, "a file that is not JSON"),
        ("[]", "got no list of labels"),
        ('{"labels": null}', "got no list of labels"),
        ('{"labels": [["a.png", true]]}', "got \\['a.png', True\\]"),
        ('{"labels": [["a.png"]]}', r"got \['a.png'\]"),
        ('{"labels": [["a.png", 0], ["a.png", 1]]}', "a.png has two labels, 0 and 1"),
        ('{"labels": [["nowhere.png", 0]]}', "no name matches an example, got 1 names, the first nowhere.png"),
    ],
)
def test_a_damaged_dataset_json_is_refused_in_one_line_and_not_used_by_default(tmp_path, text, words):
    root = folder(tmp_path / "images", "a.png", "b.png")
    (root / "dataset.json").write_text(text)
    with pytest.raises(InputError, match=words) as caught:
        open_data(root, ImageOptions(labels=str(root / "dataset.json")))
    assert "\n" not in str(caught.value)
    assert "dataset.json not used" in open_data(root).prepared


def test_labels_are_left_out_on_request(tmp_path):
    data = open_data(folder(tmp_path, "cat/a.png", "dog/a.png"), ImageOptions(labels="none"))
    assert (data.classes, data.train_cond, data.labels()) == ((), None, "")
    assert open_data("mnist", ImageOptions(labels="none")).classes == ()


@catches("""data/labels.py: rows are counted twice if nothing is held out
- own or dataset.source == WHOLE else
+ own else""")
@catches("""data/labels.py: row numbers count after the split
- found.values[rows.numpy()], found.values[held_out.numpy()]
+ found.values[: len(rows)], found.values[len(rows) :]""")
def test_a_table_of_row_numbers_labels_an_array_through_its_split(tmp_path):
    values = np.arange(40, dtype=np.uint8)
    np.save(tmp_path / "x.npy", np.broadcast_to(values[:, None, None], (40, 4, 4)))
    table = tmp_path / "few.csv"
    table.write_text("".join(f"{row},{'odd' if row % 2 else 'even'}\n" for row in range(0, 40, 3)))
    for whole in (False, True):
        data = open_data(tmp_path / "x.npy", ImageOptions(labels=str(table)), whole=whole)
        expected = {row: ("odd" if row % 2 else "even") if row % 3 == 0 else None for row in range(40)}
        assert labels_of(data) == expected
        assert (len(data.train_cond), len(data.test_cond)) == (len(data.train), len(data.test))


def test_a_table_of_row_numbers_replaces_training_labels_and_keeps_those_of_the_test_part(tmp_path):
    train, test = np.arange(12, dtype=np.uint8), np.arange(100, 104, dtype=np.uint8)
    images = {
        name: np.broadcast_to(v[:, None, None], (len(v), 4, 4)) for name, v in (("x_train", train), ("x_test", test))
    }
    np.savez(tmp_path / "x.npz", **images, y_train=train % 3, y_test=test % 3)
    (tmp_path / "few.csv").write_text("0,0\n7,1\n2,2\n")
    data = open_data(tmp_path / "x.npz", ImageOptions(labels=str(tmp_path / "few.csv")))
    assert data.classes == ("0", "1", "2")
    assert labels_of(data) == {row: {0: "0", 7: "1", 2: "2"}.get(row) for row in range(12)} | {
        row: str(row % 3) for row in range(100, 104)
    }
    assert "9 training examples unlabeled" in data.labels()


def test_minus_one_is_unlabeled_beside_two_other_numbers_and_a_class_beside_one():
    indices, _, names = class_indices(np.array([-1, 4, 7, 4, -1, 7]), None)
    assert (indices.tolist(), names) == ([-1, 0, 1, 0, -1, 1], ("4", "7"))
    indices, _, names = class_indices(np.array([-1, 1, -1, 1, 1, 1]), None)
    assert (indices.tolist(), names) == ([0, 1, 0, 1, 1, 1], ("-1", "1"))


@catches("""data/dataset.py: class names that are numbers are ordered as text
- key=lambda place: (len(digits[place]), digits[place], values[place]))
+ key=lambda place: values[place])
""")
def test_class_names_that_are_numbers_are_ordered_by_value():
    labels = np.array(["10", "2", "", "1", "10", "02", "2"])
    indices, test, names = class_indices(labels, np.array(["9", "2"]), certain=True)
    assert names == ("1", "02", "2", "9", "10")
    assert indices is not None
    assert test is not None
    assert ["" if k < 0 else names[k] for k in indices.tolist()] == labels.tolist()
    assert [names[k] for k in test.tolist()] == ["9", "2"]
    assert class_indices(np.array(["10", "2", "b", "b"]), None, certain=True)[2] == ("10", "2", "b")


def test_labels_that_cannot_be_used_are_named(tmp_path):
    np.savez(tmp_path / "x.npz", images=np.zeros((30, 4, 4), np.uint8), labels=np.arange(30))
    assert "labels left out: almost all differ" in open_data(tmp_path / "x.npz").prepared
    head = bytes([0, 0, UNSIGNED_BYTE])
    (tmp_path / "train-images-idx3-ubyte").write_bytes(
        head + bytes([3]) + b"".join(n.to_bytes(4, "big") for n in (5, 4, 4)) + bytes(range(80))
    )
    (tmp_path / "train-labels-idx1-ubyte").write_bytes(head + bytes([1]) + (3).to_bytes(4, "big") + bytes(3))
    assert "train-labels-idx1-ubyte left out: 3 labels for 5 images" in open_data(tmp_path).prepared


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a.png,cat,3\n", "got 3 in line 1"),
        ("a.png,cat\na.png,dog\n", "a.png has two labels, cat and dog"),
        ("x.png,cat\n", "no name matches an example, got 1 names, the first x.png"),
        ("", "no name matches an example, got 0 names"),
        ("a.png\n", "got 1 in line 1"),
    ],
)
def test_a_damaged_table_is_refused_in_one_line(tmp_path, text, words):
    root = folder(tmp_path / "images", "a.png", "b.png")
    (root / "labels.csv").write_text(text)
    with pytest.raises(InputError, match=words) as caught:
        open_data(root, ImageOptions(labels=str(root / "labels.csv")))
    assert "\n" not in str(caught.value)
    assert "labels.csv not used" in open_data(root).prepared


@pytest.mark.parametrize(
    ("data", "labels", "words"),
    [
        ("images", "folders", "at least two subfolders with images, got 0"),
        ("images", "nowhere.csv", "not a table of labels"),
        ("mnist", "folders", "mnist is not one"),
    ],
)
def test_a_choice_that_gives_no_labels_is_refused(tmp_path, data, labels, words):
    root = folder(tmp_path / "images", "a.png", "b.png")
    with pytest.raises(InputError, match=words):
        open_data(root if data == "images" else data, ImageOptions(labels=labels))


def test_a_table_with_a_byte_order_mark_and_quotes_is_read(tmp_path):
    path = tmp_path / "labels.csv"
    path.write_bytes('\ufeffFile,Label\n"a, b.png","big cat"\n./c.png,dog\n'.encode())
    assert read_table(path) == {"a, b.png": "big cat", "c.png": "dog"}


def test_labels_of_other_data_are_matched_by_name(tmp_path):
    data = open_data(folder(tmp_path, "cat/a.png", "dog/a.png", "dog/b.png"), whole=True)
    assert data.names == ("cat/a.png", "dog/a.png", "dog/b.png")
    assert indices_for(("dog", "bird", "cat"), data, "test").tolist() == [2, 0, 0]
    with pytest.raises(InputError, match="the label dog is not among the model's classes, cat, emu"):
        indices_for(("cat", "emu"), data, "test")
    assert indices_for(("cat",), dataclasses.replace(data, test_cond=None), "test") is None


@catches("""data/labels.py: a label goes to both images of one name
- (key == name or bases[key] == 1)
+ (key == name or bases[key] >= 1)""")
def test_a_name_that_two_images_share_labels_neither_of_them(tmp_path):
    root = folder(tmp_path, "a/x.png", "b/x.png", "b/y.png")
    (root / "labels.csv").write_text("x.png,cat\ny.png,dog\n")
    data = open_data(root)
    assert labels_of(data) == {0: None, 1: None, 2: "dog"}
    assert "1 names of labels.csv fit no image, the first x.png" in data.prepared


@catches("""data/labels.py: a path with backslashes is another name
- .replace("\\\\", "/")
+ .strip()""")
@catches("""data/labels.py: a row with the name of a header is left out
- if number > 1 or row[0].strip().lower() not in HEADS:
+ if row[0].strip().lower() not in HEADS:""")
def test_a_table_names_images_by_paths_of_either_system_below_its_header(tmp_path):
    path = tmp_path / "labels.csv"
    path.write_text("name,label\ndeep\\b.png,dog\nfile,cat\n")
    assert read_table(path) == {"deep/b.png": "dog", "file": "cat"}


@catches("""data/labels.py: examples without a label get that of the last class
- torch.tensor([*places, -1])[cond]
+ torch.tensor(places)[cond]""")
def test_unlabeled_examples_of_other_data_stay_unlabeled_in_either_part(tmp_path):
    data = open_data(folder(tmp_path, "cat/a.png", "dog/a.png", "dog/b.png"), whole=True)
    train, test = torch.tensor([0, -1, 1]), torch.tensor([-1, 1, 0])
    data = dataclasses.replace(data, train_cond=train, test_cond=test)
    assert indices_for(("dog", "cat"), data, "train").tolist() == [1, -1, 0]
    assert indices_for(("dog", "cat"), data, "test").tolist() == [-1, 0, 1]


PAIR_WORDS = 'expected {"labels": [["cat1.png", 0], ...]}'
COLUMN_WORDS = "expected two columns, name and label, e.g. cat1.png,cat"


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("x.csv", b"a.png,cat\n\na.png,dog\n", "a.png has two labels, cat and dog; keep one of them"),
        ("x.csv", b"a.png,cat\n\nb.png\n", f"{COLUMN_WORDS}, got 1 in line 3: b.png"),
        ("x.csv", b"a.png,cat,3\n", f"{COLUMN_WORDS}, got 3 in line 1: a.png,cat,3"),
        ("x.csv", b"\xff", f"not a table of labels (it is not UTF-8 text); {COLUMN_WORDS}"),
        ("y.csv", None, f"not a table of labels (No such file or directory); {COLUMN_WORDS}"),
        ("y.JSON", None, f"not a table of labels (No such file or directory); {PAIR_WORDS}"),
        ("x.json", b"{", f"{PAIR_WORDS}, got a file that is not JSON"),
        ("x.json", b"[]", f"{PAIR_WORDS}, got no list of labels"),
        ("x.json", b'{"labels": {}}', f"{PAIR_WORDS}, got no list of labels"),
        ("x.json", b'{"labels": [["a", 1], ["b", 1.5]]}', f"{PAIR_WORDS}, got ['b', 1.5]"),
        ("x.json", b'{"labels": [["a", true]]}', f"{PAIR_WORDS}, got ['a', True]"),
        ("x.json", b'{"labels": [[1, 2]]}', f"{PAIR_WORDS}, got [1, 2]"),
    ],
)
def test_a_table_of_labels_that_is_none_is_refused_with_its_line(tmp_path, name, content, sentence):
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError) as caught:
        read_table(path)
    assert str(caught.value) == f"{path}: {sentence}"


def test_a_table_of_labels_may_have_any_usual_header_and_holes(tmp_path):
    heads = ("name", "file", "filename", "path", "image", "example", "row", "index", " Name ")
    for head in heads:
        (tmp_path / "x.csv").write_text(f"{head},label\n ./a\\b.png , cat \nname,\n")
        assert read_table(tmp_path / "x.csv") == {"a/b.png": "cat", "name": ""}
    (tmp_path / "x.csv").write_text("nam,label\n")
    assert read_table(tmp_path / "x.csv") == {"nam": "label"}
    (tmp_path / "x.json").write_text('{"labels": [["a", null], ["b", -1], ["c", 0], ["d", "-1"]]}')
    assert read_table(tmp_path / "x.json") == {"a": "", "b": "", "c": "0", "d": "-1"}


def test_names_of_a_table_that_fit_nothing_are_counted_and_the_first_is_named(tmp_path):
    np.save(tmp_path / "x.npy", np.arange(40, dtype=np.uint8).reshape(10, 2, 2))
    table = tmp_path / "t.csv"
    table.write_text("0,cat\n3,dog\n10,dog\n99,cow\n")
    data = open_data(tmp_path / "x.npy", ImageOptions(labels=str(table)))
    assert data.prepared == "2 names of t.csv fit none of the 10 training examples, the first 10"
    assert data.labels() == "2 classes from t.csv, 7 training examples unlabeled"
    table.write_text("10,dog\n99,cow\n")
    with pytest.raises(InputError) as caught:
        open_data(tmp_path / "x.npy", ImageOptions(labels=str(table)))
    assert str(caught.value) == f"{table}: no name matches an example, got 2 names, the first 10; {COLUMN_WORDS}"
    with pytest.raises(InputError) as caught:
        open_data(tmp_path / "x.npy", ImageOptions(labels="folders"))
    assert str(caught.value) == (
        "--labels folders is for a folder of images, and x.npy is not one; give a table, or --labels none"
    )
    np.save(tmp_path / "r.npy", np.linspace(0, 1, 20).reshape(10, 2))
    with pytest.raises(InputError) as caught:
        open_data(tmp_path / "r.npy", ImageOptions(labels="colum1"))
    assert str(caught.value) == (
        "r.npy: --labels 'colum1' is neither a column nor a file; did you mean 'column1'? there are the columns "
        "column1, column2"
    )


def test_a_label_that_a_model_does_not_know_is_named_with_those_that_it_knows(tmp_path):
    data = open_data(folder(tmp_path / "x", "ant/a.png", "bee/b.png", "cat/c.png"), whole=True)
    assert indices_for(["cat", "dog", "bee", "ant"], data, "train").tolist() == [3, 2, 0]
    with pytest.raises(InputError) as caught:
        indices_for(["dog", "bee"], data, "test")
    assert str(caught.value) == (
        "x: the label ant is not among the model's classes, dog, bee; rename it, or leave it empty"
    )
