"""Every kind of data becomes one tensor with its labels, or one clear line."""

import gzip
import hashlib
import io
import itertools
import math
import os
import struct
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from harness.faults import catches
from harness.support import call
from kakusan import data as kk_data
from kakusan.data import open as opening
from kakusan.data.arrays import dataset_of
from kakusan.data.dataset import class_indices, from_arrays, split_rows
from kakusan.data.digits import mnist, mnist_labels
from kakusan.data.forms import FORMS
from kakusan.data.idx import read_idx
from kakusan.data.open import lasting, open_data
from kakusan.data.scale import BINARY, SIGNED, UNIT
from kakusan.data.splits import pair
from kakusan.errors import InputError
from kakusan.registry import Registry

# SHA-256 of the raw arrays of the distributed set, as published with the file
TRAIN_SHA = "741c988805d008ac6e4c904b69001ba184c24b2c540a4ef403f4c71b676cf757"
TEST_SHA = "6d87418db22cc8025d05968bec9bd5c3932904b23485740db143a061a2c9d161"


def write_idx(path, array):
    head = struct.pack(">HBB", 0, 8, array.ndim) + struct.pack(f">{array.ndim}I", *array.shape)
    content = head + array.tobytes()
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)


def images(n, *shape, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (n, *shape), dtype=np.uint8)


@catches("""data/digits.py: test digits have the labels of training digits
- test_labels=arrays["test_labels"]
+ test_labels=arrays["train_labels"][:10000]""")
def test_the_embedded_digits_are_the_distributed_ones_with_their_labels():
    data = mnist()
    assert hashlib.sha256(data.train.numpy().tobytes()).hexdigest() == TRAIN_SHA
    assert hashlib.sha256(data.test.numpy().tobytes()).hexdigest() == TEST_SHA
    assert data.event_shape == (1, 28, 28)
    train, test = mnist_labels()
    assert [len(train), len(test)] == [60_000, 10_000]
    assert np.array_equal(data.train_cond, train)
    assert np.array_equal(data.test_cond, test)
    assert data.classes == tuple("0123456789")
    assert "10 classes" in data.describe()


def test_label_counts_add_up_to_their_group():
    data = open_data("mnist-labels")
    assert data.kind == "counts"
    assert data.event_shape == (10,)
    assert (data.train.sum(1) == 60).all()


@catches("""data/idx.py: the rows of an IDX file are its columns
- reshape(shape)
+ reshape(shape[::-1]).T""")
@catches("""data/idx.py: IDX: training images are held out
- TEST_PREFIXES = ("t10k", "test")
+ TEST_PREFIXES = ("train",)""")
@catches("""data/idx.py: IDX: test images have training labels
- f"{prefix}-labels" for prefix
+ f"train-labels" for prefix""")
@pytest.mark.parametrize("ending", ["", ".gz"])
def test_a_folder_of_idx_files_is_read_with_its_labels(tmp_path, ending):
    train, test = images(20, 8, 6), images(5, 8, 6, seed=1)
    write_idx(tmp_path / f"train-images-idx3-ubyte{ending}", train)
    write_idx(tmp_path / f"t10k-images-idx3-ubyte{ending}", test)
    write_idx(tmp_path / f"train-labels-idx1-ubyte{ending}", np.arange(20, dtype=np.uint8) % 4)
    write_idx(tmp_path / f"t10k-labels-idx1-ubyte{ending}", np.array([3, 2, 1, 0, 0], np.uint8))
    data = open_data(str(tmp_path))
    assert np.array_equal(data.train[:, 0].numpy(), train)
    assert np.array_equal(data.test[:, 0].numpy(), test)
    assert data.train_cond.tolist() == [0, 1, 2, 3] * 5
    assert data.test_cond is not None
    assert data.test_cond.tolist() == [3, 2, 1, 0, 0]


@catches("""data/arrays.py: images with their channels last are turned on their side
- array.transpose(0, 3, 1, 2)
+ array.transpose(0, 3, 2, 1)""")
@catches("""data/dataset.py: held-out examples were trained on
- return order[held_out:], order
+ return order[:-held_out], order""")
@pytest.mark.parametrize(
    ("shape", "event"), [((8, 6), (1, 8, 6)), ((8, 6, 1), (1, 8, 6)), ((8, 6, 3), (3, 8, 6)), ((3, 8, 6), (3, 8, 6))]
)
def test_an_array_of_images_may_have_its_channels_on_either_side(tmp_path, shape, event):
    array = images(30, *shape)
    np.save(tmp_path / "x.npy", array)
    data = open_data(str(tmp_path / "x.npy"))
    assert data.event_shape == event
    assert (len(data.train), len(data.test)) == (27, 3)
    first = np.sort(array.reshape(30, -1).sum(1))
    assert np.array_equal(np.sort(np.concatenate([data.train, data.test]).reshape(30, -1).sum(1)), first)
    if shape[-1] == 3:
        assert {bytes(one.permute(1, 2, 0).numpy().tobytes()) for one in data.train} <= {one.tobytes() for one in array}


def test_the_split_is_the_same_every_time_and_that_of_version_0_3(tmp_path):
    np.save(tmp_path / "x.npy", images(50, 4, 4))
    first, second = (open_data(str(tmp_path / "x.npy")) for _ in range(2))
    assert first.digest() == second.digest()
    order = torch.randperm(50, generator=torch.Generator().manual_seed(0))
    assert split_rows(50)[1].tolist() == order[:5].tolist()
    assert split_rows(50)[0].tolist() == order[5:].tolist()


# Labels


@catches("""data/dataset.py: labels of the split are swapped
- indices[rows], indices[held_out]
+ indices[held_out], indices[rows]""")
@catches("""data/dataset.py: labels keep the files' order, examples do not
- indices, test_indices = indices[rows]
+ indices, test_indices = indices[: len(rows)]""")
def test_labels_follow_their_examples_through_the_split(tmp_path):
    array = images(40, 4, 4)
    names = np.array(["cat", "dog", "ant", "bee"])[array[:, 0, 0] % 4]
    np.savez(tmp_path / "x.npz", images=array, labels=names)
    data = open_data(tmp_path / "x.npz")
    assert data.classes == ("ant", "bee", "cat", "dog")
    for part, cond in ((data.train, data.train_cond), (data.test, data.test_cond)):
        assert cond.dtype == torch.int64
        corner = part[:, 0, 0, 0].numpy() % 4
        assert [data.classes[k] for k in cond] == np.array(["cat", "dog", "ant", "bee"])[corner].tolist()


def test_the_digest_does_not_see_labels(tmp_path):
    array = images(9, 4, 4)
    np.savez(tmp_path / "x.npz", images=array, labels=np.arange(9) % 2)
    np.save(tmp_path / "x.npy", array)
    assert open_data(tmp_path / "x.npz").digest() == open_data(tmp_path / "x.npy").digest()


def test_values_that_are_almost_all_different_are_no_classes(tmp_path):
    np.savez(tmp_path / "x.npz", images=images(30, 4, 4), labels=np.arange(30))
    data = open_data(tmp_path / "x.npz")
    assert (data.classes, data.train_cond) == ((), None)
    np.savez(tmp_path / "y.npz", x_train=images(8, 4, 4), x_test=images(4, 4, 4), y_train=np.arange(5) % 2)
    data = open_data(tmp_path / "y.npz")
    assert (data.classes, data.train_cond) == ((), None)
    assert "arrays not used: y_train" in data.describe()


# Which part is for training


@pytest.mark.parametrize(
    ("names", "train", "test"),
    [
        (["x_train", "x_test"], "x_train", "x_test"),
        (["X_Train", "X_Test", "Y_Train", "Y_Test"], "X_Train", "X_Test"),
        (["train_images", "val_images", "train_labels", "val_labels"], "train_images", "val_images"),
        (["training", "testing"], "training", "testing"),
        (["trainImages", "validationImages"], "trainImages", "validationImages"),
        (["train", "val", "test"], "train", "test"),
    ],
)
def test_an_npz_with_its_own_parts_keeps_them_under_any_usual_name(tmp_path, names, train, test):
    arrays = {name: images(10 if name == train else 4, 4, 4, seed=i) for i, name in enumerate(names)}
    for name in names:
        if "label" in name or name[0] == "Y":
            arrays[name] = np.arange(10 if "rain" in name else 4) % 2
    np.savez(tmp_path / "x.npz", **arrays)
    data = open_data(tmp_path / "x.npz")
    assert np.array_equal(data.train[:, 0], arrays[train])
    assert np.array_equal(data.test[:, 0], arrays[test])
    assert (data.train_cond is None) == (len(names) != 4)


@catches('''data/splits.py: validation images are preferred to test images
- HELD_OUT = ("test", "testing", "val"
+ HELD_OUT = ("val", "test", "testing"''')
@catches("""data/splits.py: names of parts are case-sensitive
- " ", name).lower())
+ " ", name))""")
def test_parts_are_known_by_whole_words_in_any_case():
    assert pair(["Train", "Test"], "x") == ("Train", "Test")
    assert pair(["train", "VAL", "Test"], "x") == ("train", "Test")
    assert pair(["training", "validation"], "x") == ("training", "validation")
    assert pair(["held_out", "train"], "x") == ("train", "held_out")
    assert pair(["trains", "contest"], "x") is None
    assert pair(["train"], "x") is None
    with pytest.raises(InputError, match="expected one training part, got Train, train"):
        pair(["Train", "train", "test"], "x")


def test_unnamed_arrays_are_examples_and_their_labels(tmp_path):
    array = images(30, 4, 4, 3)
    np.savez(tmp_path / "x.npz", array, np.arange(30) % 3)
    data = open_data(tmp_path / "x.npz")
    assert data.event_shape == (3, 4, 4)
    assert data.labels() == "3 classes"
    assert "27 to train, 3 held out (a fixed random tenth)" in data.describe()


@catches("""data/dataset.py: given data are measured in part
- train = test = train.contiguous()
+ train, test = train[1:], train[:1]""")
def test_data_opened_whole_are_measured_whole_and_one_example_is_enough(tmp_path):
    array = images(30, 4, 4)
    np.save(tmp_path / "x.npy", array)
    data = open_data(tmp_path / "x.npy", whole=True)
    assert np.array_equal(data.test[:, 0], array)
    assert "30 gray images" in data.describe()
    np.save(tmp_path / "x.npy", array[:1])
    assert len(open_data(tmp_path / "x.npy", whole=True).test) == 1
    np.savez(tmp_path / "x.npz", x_train=array, x_test=array[:4])
    assert len(open_data(tmp_path / "x.npz", whole=True).test) == 4  # it has a test part of its own


# Values


@catches("""data/forms/images.py: masks of 0 and 1 are nearly black images
- default=0) != 1:
+ default=0) != -1:""")
@pytest.mark.parametrize("dtype", [bool, np.uint8])
def test_zero_and_one_are_black_and_white(tmp_path, dtype):
    mask = images(30, 4, 4) > 127
    np.save(tmp_path / "x.npy", mask.astype(dtype))
    np.save(tmp_path / "y.npy", mask.astype(np.uint8) * 255)
    data = open_data(tmp_path / "x.npy")
    assert data.digest() == open_data(tmp_path / "y.npy").digest()
    assert "values 0 and 1 taken as black and white" in data.describe()


@pytest.mark.parametrize(
    ("array", "advice"),
    [
        (images(5, 4, 4) / 255, "(255 * x).round().astype('uint8')"),
        (images(5, 4, 4) % 17 * 1.0, "(x * (255 / 16)).round().astype('uint8')"),
        (images(5, 4, 4) * 1.0, "[0, 248], save x.round().astype('uint8')"),
        (images(5, 4, 4) / 127.5 - 1, "[-1, 1], save (127.5 * (x + 1)).round().astype('uint8')"),
        (images(5, 4, 4) - 99.5, "((x + 98.5) * (255 / "),
        (images(5, 4, 4) * np.uint16(257), "(x * (255 / 63736))"),
        (np.full((5, 4, 4), np.nan), "NaN"),
    ],
)
def test_the_advice_for_other_numbers_is_their_real_scaling(tmp_path, array, advice):
    np.save(tmp_path / "x.npy", array)
    with pytest.raises(InputError) as caught:
        open_data(tmp_path / "x.npy")
    assert advice in str(caught.value)


# What is refused


def bad_files(folder):
    np.save(folder / "floats.npy", np.zeros((5, 4, 4)))
    np.save(folder / "line.npy", np.zeros(5))
    np.save(folder / "endless.npy", np.array([[1, -2], [3, np.inf]]))
    np.save(folder / "missing.npy", np.array([[0.5, np.nan], [3, np.nan]]))
    np.save(folder / "mask.npy", np.ones((5, 4), bool))
    np.save(folder / "huge.npy", np.array([[1, 2, 3], [2**62] * 3]))
    np.save(folder / "pixel.npy", np.zeros((5, 1, 1), np.uint8))
    np.save(folder / "photo.npy", np.zeros((48, 64, 3), np.uint8))
    np.save(folder / "alpha.npy", np.zeros((48, 64, 4), np.uint8))
    np.save(folder / "one-category.npy", np.ones((4, 1), int))
    np.save(folder / "single.npy", images(1, 4, 4))
    np.save(folder / "many-channels.npy", images(5, 9, 9, 9))
    np.savez(folder / "names.npz", a=images(3, 4, 4), b=images(3, 4, 4))
    np.savez(folder / "shapes.npz", x_train=images(3, 4, 4), x_test=images(3, 5, 4))
    (folder / "text.npy").write_text("not numbers")
    (folder / "image.jpg").write_bytes(b"jpg")
    (folder / "table.csv").write_bytes(b"1,2\n3")
    (folder / "table.xlsx").write_bytes(b"1,2")
    (folder / "without").write_bytes(b"1,2")
    (folder / "empty").mkdir()
    (folder / "cut").mkdir()
    write_idx(folder / "cut" / "train-images-idx3-ubyte", images(3, 4, 4))
    whole = (folder / "cut" / "train-images-idx3-ubyte").read_bytes()
    (folder / "cut" / "train-images-idx3-ubyte").write_bytes(whole[:-5])


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("floats.npy", "uint8"),
        ("line.npy", "expected images"),
        ("endless.npy", "column column2 holds an infinite value"),
        ("missing.npy", "column column2 has no values"),
        ("mask.npy", "x.reshape(n, height, width)"),
        ("photo.npy", "is one image of 3 channels"),
        ("alpha.npy", "is one image of 4 channels"),
        ("one-category.npy", "K >= 2"),
        ("single.npy", "at least 2"),
        ("many-channels.npy", "channels"),
        ("names.npz", "train_images"),
        ("shapes.npz", "one shape"),
        ("text.npy", "Python objects, or is not an array"),
        ("huge.npy", "got 13,835,058,055,282,163,712 in row 1"),
        ("pixel.npy", "at least two values"),
        ("image.jpg", "put many images into a folder"),
        ("table.csv", "line 2 has 1 columns"),
        ("table.xlsx", "save the table as .csv"),
        ("without", "without ending"),
        ("empty", "train-images"),
        ("cut", "bytes of data"),
        ("absent", "no data at"),
        ("~nobody-of-this-name/x", "no such user"),
        ("x" * 300, "cannot be read"),
        ("x\0.npy", "cannot be read"),
        ("", "--data is empty"),
    ],
)
def test_unusable_data_is_refused_in_one_line(tmp_path, monkeypatch, name, words):
    bad_files(tmp_path)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError) as caught:
        open_data(name)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def npy(header: bytes, content: bytes = b"") -> bytes:
    header += b" " * (-(len(header) + 11) % 64) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + content


def npz(content: bytes, method: int = zipfile.ZIP_STORED, flags: int = 0) -> bytes:
    """A zip archive of one member, with any method and flags in its directory and its local header."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("a.npy", content)
    whole = bytearray(buffer.getvalue())
    directory = whole.index(b"PK\x01\x02")
    for place in (6, directory + 8):
        struct.pack_into("<HH", whole, place, flags, method)
    return bytes(whole)


def hostile_arrays() -> dict[str, bytes]:
    """Files that claim, hide or break something."""
    head = b"{'descr': '|u1', 'fortran_order': False, 'shape': %s, }"
    good = npy(head % b"(4, 2, 2)", bytes(16))
    return {
        "terabytes.npy": npy(head % b"(1000000000000, 2, 2)", b"x"),
        "overflow.npy": npy(head % b"(99999999999999999999999, 2, 2)", b"x"),
        "negative.npy": npy(head % b"(-4, 2, 2)", b"x"),
        "deep.npy": npy(head % (b"(" * 900 + b")" * 900)),
        "long.npy": npy(head % (b"(" + b"1," * 12_000 + b")")),
        "short.npy": good[:-3],
        "header.npy": good[:30],
        "objects.npy": npy(b"{'descr': '|O', 'fortran_order': False, 'shape': (1,), }"),
        "dtype.npy": npy(b"{'descr': 'zz', 'fortran_order': False, 'shape': (1,), }"),
        "fields.npy": npy(b"{'descr': [('a', '<i4')], 'fortran_order': False, 'shape': (3, 2, 2), }", bytes(48)),
        "code.npy": npy(b"__import__('os').abort()"),
        "no-dictionary.npy": npy(b"[1, 2]"),
        "encrypted.npz": npz(good, flags=1),
        "patched.npz": npz(good, flags=0x20),
        "method.npz": npz(good, method=99),
        "lzma.npz": npz(good, method=14),
        "deflated.npz": npz(good, method=8),
        "no-array.npz": npz(b"hello"),
        "cut.npz": npz(good)[:-30],
        "none.npz": b"PK\x05\x06" + bytes(18),
        "text.npz": b"hello",
        "terabytes.npz": npz(npy(head % b"(1000000000000, 2, 2)", b"x")),
        "empty.npy": b"",
    }


@pytest.mark.reliability
@pytest.mark.parametrize("name", hostile_arrays())
def test_a_hostile_array_file_is_refused_in_one_line(tmp_path, name):
    (tmp_path / name).write_bytes(hostile_arrays()[name])
    with pytest.raises(InputError) as caught:
        open_data(tmp_path / name)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 300 + len(str(tmp_path))


MEASURE = """
import resource, sys
from kakusan.data.open import open_data
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for path in sys.argv[1:]:
    try:
        open_data(path)
    except ValueError:
        pass
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


@pytest.mark.reliability
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the unit of ru_maxrss differs")
def test_refusing_hostile_files_takes_little_memory(tmp_path):
    for name, content in hostile_arrays().items():
        (tmp_path / name).write_bytes(content)
    for name in ("sparse.npy", "sparse.npz"):
        with (tmp_path / name).open("wb") as file:
            file.truncate(2**36)
    bomb = tmp_path / "bomb" / "train-images-idx3-ubyte.gz"
    bomb.parent.mkdir()
    bomb.write_bytes(gzip.compress(struct.pack(">HBB3I", 0, 8, 3, 2, 4, 4) + bytes(2**28), 1))
    names = [str(tmp_path / name) for name in [*hostile_arrays(), "sparse.npy", "sparse.npz", "bomb"]]
    done = subprocess.run([sys.executable, "-c", MEASURE, *names], capture_output=True, text=True, check=True)
    assert int(done.stdout) < 200 * 2**10  # KiB


@pytest.mark.reliability
def test_what_is_no_regular_file_is_refused_without_waiting(tmp_path):
    (tmp_path / "zero.npy").symlink_to("/dev/zero")
    (tmp_path / "loop.npy").symlink_to("loop.npy")
    with pytest.raises(InputError, match="a device, not a file"):
        open_data(tmp_path / "zero.npy")
    os.mkfifo(tmp_path / "queue.npy")
    with pytest.raises(InputError, match="a FIFO, not a file"):
        open_data(tmp_path / "queue.npy")
    with pytest.raises(InputError, match="symbolic links"):
        open_data(tmp_path / "loop.npy")
    name = os.fsdecode(b"\xff\x1b[31m.npy")
    np.save(tmp_path / name, images(5, 4, 4))
    assert open_data(tmp_path / name).name == "\\udcff\\x1b[31m.npy"


# Names and kinds


def test_a_home_folder_and_a_relative_path_are_understood(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    np.save(tmp_path / "x.npy", images(5, 4, 4))
    assert open_data("~/x.npy").event_shape == (1, 4, 4)
    assert lasting("~/x.npy") == str(tmp_path / "x.npy")
    monkeypatch.chdir(tmp_path)
    assert lasting("x.npy") == str(tmp_path / "x.npy")
    assert lasting("mnist") == "mnist"


class Constant:
    """A kind of data of one's own."""

    summary = "a .gray file of one gray level"
    options = ()

    @staticmethod
    def recognizes(path):
        return path.suffix == ".gray"

    @staticmethod
    def open(path, options, whole, tell):
        return from_arrays(path.name, "images", torch.full((20, 1, 2, 2), int(path.read_text()), dtype=torch.uint8))


def test_a_new_kind_of_data_is_a_class_and_a_line_in_the_registry(tmp_path, monkeypatch, capsys):
    kinds = {name: KINDS_PLACES[name] for name in KINDS_PLACES} | {"gray": f"{__name__}:Constant"}
    monkeypatch.setattr(opening, "KINDS", Registry("kind of data", kinds))
    monkeypatch.setitem(sys.modules, __name__, sys.modules[Constant.__module__])
    (tmp_path / "x.gray").write_text("9")
    code, out, _ = call(capsys, "data", tmp_path / "x.gray")
    assert code == 0
    assert "20 gray images, 2 x 2" in out
    with pytest.raises(InputError, match=r"a \.gray file of one gray level"):
        open_data(tmp_path / "absent")


KINDS_PLACES = {
    "arrays": "kakusan.data.arrays:ArrayFile",
    "idx": "kakusan.data.idx:IDXFolder",
    "images": "kakusan.data.folder:ImageFolder",
}


def test_the_command_names_classes_and_a_recipe_in_lines_of_80_columns(tmp_path, capsys, monkeypatch):
    np.savez(tmp_path / "x.npz", images=images(200, 4, 4) // 128 * 255, labels=np.arange(200) % 5)
    monkeypatch.chdir(tmp_path)
    code, out, _ = call(capsys, "data", "x.npz")
    assert code == 0
    assert "5 classes" in out
    assert "kakusan train binary-best --data x.npz" in out
    assert max(map(len, out.splitlines())) <= 80


def test_the_module_offers_its_names_and_imports_nothing_before_they_are_used():
    code = "import sys, kakusan.data; print([m for m in ('torch', 'numpy', 'PIL') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
    for name in kk_data.__all__:
        assert getattr(kk_data, name) is not None
    with pytest.raises(AttributeError):
        kk_data.nothing  # noqa: B018


# Scales


@catches("""data/scale.py: images come back on their side
- .permute(0, 2, 3, 1)
+ .permute(0, 3, 2, 1)""")
@catches("""data/scale.py: gray levels are rounded down
- .round().clamp(0, TOP)
+ .clamp(0, TOP)""")
@pytest.mark.parametrize("scale", [SIGNED, UNIT])
def test_scaling_goes_there_and_back_for_every_level(scale):
    levels = torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16)
    assert np.array_equal(scale.to_pixels(scale.to_model(levels))[..., 0], levels[:, 0].numpy())


@catches("""data/scale.py: a bit is one with the probability of a zero
- randomness, gray.dtype, gray.device) < gray)
+ randomness, gray.dtype, gray.device) > gray)""")
def test_binarization_draws_one_with_the_pixels_share():
    gray = torch.full((100_000, 1, 1, 1), 51, dtype=torch.uint8)  # one fifth
    share = BINARY.to_model(gray, torch.Generator().manual_seed(0)).mean().item()
    assert abs(share - 0.2) < 4.5 * (0.2 * 0.8 / 100_000) ** 0.5  # false alarm 7e-6


@catches("""data/dataset.py: the digest of the data does not see what is held out
- for part in (self.train, self.test):
+ for part in (self.train,):""")
@catches("""data/dataset.py: the digest of the data does not see its shape
- digest.update(repr((tuple(part.shape), str(part.dtype))).encode())
+ pass""")
def test_the_digest_of_the_data_is_of_both_parts_and_of_their_shapes():
    def digest(train, test):
        return from_arrays("x", "counts", torch.tensor(train), torch.tensor(test)).digest()

    first = digest([[1, 2], [3, 4]], [[5, 6]])
    assert first == digest([[1, 2], [3, 4]], [[5, 6]])
    others = [
        digest([[1, 2], [3, 5]], [[5, 6]]),
        digest([[1, 2], [3, 4]], [[5, 7]]),
        digest([[1, 2]], [[3, 4], [5, 6]]),  # the same bytes in the same order, cut elsewhere
        digest([[1], [2], [3], [4]], [[5], [6]]),
    ]
    assert len({first, *others}) == 5


@catches("""data/idx.py: bytes after the images are taken
- len(content) != size:
+ len(content) < size:""")
def test_a_byte_after_the_images_of_an_idx_file_is_refused(tmp_path):
    write_idx(tmp_path / "train-images-idx3-ubyte", images(3, 4, 4))
    with (tmp_path / "train-images-idx3-ubyte").open("ab") as file:
        file.write(b"x")
    with pytest.raises(ValueError, match=r"bytes|size") as caught:
        read_idx(tmp_path / "train-images-idx3-ubyte")
    assert isinstance(caught.value, InputError)


@catches("""data/arrays.py: counts are added up beyond what float64 holds
- MOST_COUNTED = 2**53
+ MOST_COUNTED = 2**63""")
def test_counts_whose_sum_float64_does_not_hold_are_refused(tmp_path):
    np.save(tmp_path / "x.npy", np.array([[3, 4], [2**53, 2]]))
    with pytest.raises(InputError, match=r"at most 9,007,199,254,740,992, got .* in row 1"):
        open_data(tmp_path / "x.npy", whole=True)


NOT_PIXELS = "x: images must be uint8 from 0 to 255, got "
CORNERS = np.zeros((5, 4, 4))


def with_corner(low, high, dtype=np.float64):
    array = np.full((5, 4, 4), low, dtype)
    array[4, 3, 3] = high
    return array


@pytest.mark.parametrize(
    ("array", "sentence"),
    [
        (
            with_corner(0, 1),
            f"{NOT_PIXELS}float64; if black to white is [0, 1], save (255 * x).round().astype('uint8')",
        ),
        (
            with_corner(-1, 1, np.float32),
            f"{NOT_PIXELS}float32; if black to white is [-1, 1], save (127.5 * (x + 1)).round().astype('uint8')",
        ),
        (
            with_corner(-1, 1.5),
            f"{NOT_PIXELS}float64; if black to white is [-1, 1.5], save ((x + 1) * (255 / 2.5)).round().astype('uint8')",
        ),
        (
            with_corner(-1.25, 0.75),
            f"{NOT_PIXELS}float64; if black to white is [0, 1], save ((x + 1.25) * (255 / 2)).round().astype('uint8')",
        ),
        (
            with_corner(0, 127),
            f"{NOT_PIXELS}float64; if black to white is [0, 127], save (x * (255 / 127)).round().astype('uint8')",
        ),
        (with_corner(0, 128), f"{NOT_PIXELS}float64; if black to white is [0, 128], save x.round().astype('uint8')"),
        (with_corner(3, 255), f"{NOT_PIXELS}float64; if black to white is [0, 255], save x.round().astype('uint8')"),
        (
            with_corner(0, 256),
            f"{NOT_PIXELS}float64; if black to white is [0, 256], save (x * (255 / 256)).round().astype('uint8')",
        ),
        (with_corner(0, np.inf), f"{NOT_PIXELS}float64; it holds NaN or infinite values, which no pixel has"),
        (CORNERS.astype(complex), f"{NOT_PIXELS}complex128; save numbers from 0 to 255 with .astype('uint8')"),
        (CORNERS[:0], f"{NOT_PIXELS}float64; save numbers from 0 to 255 with .astype('uint8')"),
        (np.zeros(5), "x: expected images (N, H, W), (N, H, W, C) or counts (N, K), got shape (5,) of float64"),
        (
            np.zeros((16, 16, 3), np.uint8),
            "x: shape (16, 16, 3) is one image of 3 channels; expected many images, (N, H, W, C)",
        ),
        (np.zeros((5, 1, 1), np.uint8), "x: an image must have at least two values, got shape (5, 1, 1, 1)"),
        (
            np.zeros((5, 9, 9, 2), np.uint8),
            "x: expected 1, 3 or 4 channels in the last or second axis, got shape (5, 9, 9, 2)",
        ),
        (np.ones((4, 1), int), "x: counts need K >= 2 categories, got shape (4, 1)"),
        (
            np.ones((4, 2), bool),
            "x: an array (N, K) must hold counts, got bool; flattened images belong into x.reshape(n, height, width)",
        ),
        (np.full((2, 4097), 0.5), "x: a table has at most 4,096 columns, got 4,097"),
    ],
)
def test_an_array_that_is_no_data_set_is_refused_with_the_way_to_make_it_one(array, sentence):
    with pytest.raises(InputError) as caught:
        dataset_of("x", array)
    assert str(caught.value) == sentence


def test_a_short_array_of_three_columns_is_many_images_and_no_photograph():
    data = dataset_of("x", images(15, 16, 3))
    assert (data.kind, data.event_shape) == ("images", (1, 16, 3))


@pytest.mark.parametrize(
    ("arrays", "sentence"),
    [
        (
            {"a": (3, 4, 4), "b": (3, 4, 4)},
            ": expected one array, or arrays named train_images and test_images, got a, b",
        ),
        ({}, ": expected one array, or arrays named train_images and test_images, got none"),
        (
            {"x_train": (3, 4, 4), "x_test": (3, 5, 4)},
            ": training and test examples must have one shape, got (1, 4, 4) and (1, 5, 4)",
        ),
        (
            {"x_train": (3, 4, 4), "x_test": (3, 4)},
            ": training and test arrays must be of one kind, got images and counts",
        ),
        ({"train": (3, 4, 4), "training": (3, 4, 4), "test": (3, 4, 4)}, "train, training; rename one"),
        ({"x_train": (0, 4, 4), "x_test": (2, 4, 4)}, ": expected examples to train on and to hold out, got 0 and 2"),
    ],
)
def test_an_archive_that_is_no_data_set_says_which_arrays_it_has(tmp_path, arrays, sentence):
    np.savez(tmp_path / "x.npz", **{name: images(*shape) for name, shape in arrays.items()})
    with pytest.raises(InputError) as caught:
        open_data(tmp_path / "x.npz")
    assert str(caught.value).endswith(sentence)


def test_data_may_take_half_of_the_memory_and_what_takes_more_is_refused_with_its_size(tmp_path, monkeypatch):
    from kakusan.data import arrays

    assert arrays.memory_for_data() == os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2
    np.save(tmp_path / "x.npy", images(4, 8, 8))
    np.savez(tmp_path / "x.npz", x=images(4, 8, 8))
    monkeypatch.setattr(arrays, "memory_for_data", lambda: 4 * 64 + 128)  # the header of the file has 128 bytes
    assert len(open_data(tmp_path / "x.npy", whole=True).train) == len(open_data(tmp_path / "x.npz", whole=True).train)
    monkeypatch.setattr(arrays, "memory_for_data", lambda: 4 * 64 + 127)
    for name, words in (("x.npy", "0 GiB do not fit"), ("x.npz", "0 GiB unpacked do not fit")):
        with pytest.raises(InputError, match=f"{name}: {words} into half of this machine's memory"):
            open_data(tmp_path / name)


CONVERSIONS = {
    "one image is not a data set: put many images into a folder and give its name": (
        ".png .jpg .jpeg .webp .gif .tif .tiff .bmp .avif .heic .JPG"
    ),
    "save the table as .csv": ".xls .xlsx .ods",
    "unpack it, and give the folder": ".zip .tar .gz .tgz .7z",
    "save the array with np.save('x.npy', x)": ".pt .pth .pkl .h5 .hdf5 .mat .safetensors",
}


@pytest.mark.parametrize("advice", CONVERSIONS)
def test_a_file_of_another_kind_is_refused_with_the_way_to_convert_it(tmp_path, advice):
    for ending in CONVERSIONS[advice].split():
        path = tmp_path / f"x{ending}"
        path.write_bytes(b"x")
        with pytest.raises(InputError) as caught:
            open_data(path)
        assert str(caught.value) == f"{path}: a file {ending.lower()} is not readable as data; {advice}"


def test_labels_are_classes_if_at_most_half_of_them_differ_or_the_user_chose_them():
    half, more = np.arange(10) // 2, np.array([0, 1, 2, 3, 4, 5, 0, 1, 2, 3])
    assert class_indices(half, None)[2] == ("0", "1", "2", "3", "4")
    assert class_indices(more, None) == (None, None, ())
    assert class_indices(more, None, certain=True)[2] == ("0", "1", "2", "3", "4", "5")
    assert class_indices(np.array([0, 1]), None)[2] == ("0", "1")  # two classes are always few
    assert class_indices(np.array([0, 1, 2]), None)[2] == ()
    assert len(class_indices(np.arange(10_000), None, certain=True)[2]) == 10_000
    assert class_indices(np.arange(10_001), None, certain=True)[2] == ()


def test_a_data_set_describes_its_parts_classes_and_unlabeled_examples():
    labels = np.array(["a", "b", "", "a", "b", "a"])
    data = from_arrays("x", "counts", torch.ones(6, 3), torch.ones(2, 3), labels=labels)
    assert data.describe() == (
        "x: 8 count vectors of 3 categories; 6 to train, 2 held out (its own test part); "
        "2 classes, 1 training examples unlabeled"
    )
    one = from_arrays("x", "counts", torch.ones(4, 3), labels=np.array(["a"] * 4), whole=True)
    assert one.describe() == "x: 4 count vectors of 3 categories; taken whole; 1 class"
    assert one.num_dims == 3
    different = from_arrays("x", "counts", torch.ones(4, 3), labels=np.arange(4))
    assert different.prepared == "labels left out: almost all differ"
    for whole, words in ((False, "at least 2 examples, got 1"), (True, "at least 1 example, got 0")):
        with pytest.raises(InputError, match=f"x: expected {words}$"):
            from_arrays("x", "counts", torch.ones(1 - whole, 3), whole=whole)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"\0\0\x09\3" + bytes(12), "expected an IDX file of unsigned bytes (first bytes 0, 0, 8), got [0, 0, 9]"),
        (b"\0\1\x08\3" + bytes(12), "expected an IDX file of unsigned bytes (first bytes 0, 0, 8), got [0, 1, 8]"),
        (
            struct.pack(">HBB3I", 0, 8, 3, 2, 2, 2) + bytes(7),
            "expected images (N, H, W) and their bytes, got 3 dimensions, shape (2, 2, 2) and 7 bytes of data",
        ),
        (
            struct.pack(">HBB3I", 0, 8, 3, 2, 2, 2) + bytes(9),
            "expected images (N, H, W) and their bytes, got 3 dimensions, shape (2, 2, 2) and more bytes of data",
        ),
        (
            struct.pack(">HBB3I", 0, 8, 1, 2, 2, 2) + bytes(8),
            "expected images (N, H, W) and their bytes, got 1 dimensions, shape (2, 2, 2) and 8 bytes of data",
        ),
        (
            struct.pack(">HBB3I", 0, 8, 3, 2**31, 2**31, 9),
            "shape (2147483648, 2147483648, 9) does not fit into half of this machine's memory",
        ),
    ],
)
def test_a_damaged_idx_file_is_refused_with_what_it_holds(tmp_path, content, sentence):
    path = tmp_path / "train-images-idx3-ubyte"
    path.write_bytes(content)
    with pytest.raises(InputError) as caught:
        read_idx(path)
    assert str(caught.value) == f"{path}: {sentence}"


def test_idx_labels_of_another_number_are_left_out_and_damaged_ones_are_refused(tmp_path):
    write_idx(tmp_path / "train-images-idx3-ubyte", images(20, 4, 4))
    write_idx(tmp_path / "train-labels-idx1-ubyte", np.zeros(19, np.uint8))
    write_idx(tmp_path / "test-images-idx3-ubyte", images(5, 4, 4))
    data = open_data(tmp_path)
    assert (len(data.train), len(data.test), data.train_cond) == (20, 5, None)
    assert data.prepared == "train-labels-idx1-ubyte left out: 19 labels for 20 images"
    write_idx(tmp_path / "train-labels-idx1-ubyte", images(2, 4, 4))
    with pytest.raises(InputError, match=r"expected labels \(N\) and their bytes, got 3 dimensions"):
        open_data(tmp_path)


def test_each_form_describes_its_examples_and_its_bound():
    forms = {name: FORMS[name]() for name in FORMS}
    described = {
        ("images", (1, 28, 20), True): "1,000 gray images, 28 x 20, bits",
        ("images", (3, 28, 20), False): "1,000 color images, 28 x 20, 8-bit",
        ("images", (4, 28, 20), False): "1,000 color with alpha images, 28 x 20, 8-bit",
        ("counts", (7,), False): "1,000 count vectors of 7 categories",
        ("tables", (1,), False): "1,000 rows of 1 column",
        ("tables", (2,), False): "1,000 rows of 2 columns",
        ("series", (1200, 1), False): "1,000 series of length 1,200 with 1 channel",
        ("series", (8, 2), False): "1,000 series of length 8 with 2 channels",
    }
    assert {key: forms[key[0]].describe(1000, *key[1:]) for key in described} == described
    ln4 = 2 * math.log(2)  # one bit for each of two dimensions
    assert forms["images"].rate(1.0, 0.25, 2) == "1.0000 ± 0.2500 bits/dim"
    assert forms["counts"].rate(-1e-9, None, 2, digits=3) == "0.000 ± unknown bits/dim"
    assert forms["tables"].rate(1.0, 0.25, 2) == f"{-ln4:.3f} ± {ln4 / 4:.3f} nats per row"
    assert forms["series"].rate(0.0, None, 2) == "0.000 ± unknown nats per series"
    assert [forms[name].in_unit(1.0, 2) for name in ("images", "counts", "tables", "series")] == [1.0, 1.0, ln4, ln4]
    sides = {"images": [(1, 2, 2), (3, 2, 2), (4, 2, 2)], "counts": [(5,)], "tables": [(4096,)], "series": [(8, 2)]}
    shapes = [*itertools.chain(*sides.values()), (4097,), (2, 2, 2), (8, 2, 2, 2)]
    fitting = {name: [shape for shape in shapes if form.fits(shape)] for name, form in forms.items()}
    assert fitting == {**sides, "counts": [(5,), (4096,), (4097,)], "tables": [(5,), (4096,)]}


@pytest.mark.parametrize(
    ("kind", "examples", "event", "sentence"),
    [
        (
            "images",
            torch.zeros(2, 8, 8, dtype=torch.uint8),
            (1, 8, 8),
            "the model takes uint8 pixels of shape (n, 1, 8, 8) or (n, 8, 8, 1), got torch.uint8 (2, 8, 8); "
            "x[:, None] has one channel",
        ),
        (
            "series",
            torch.zeros(8, 2),
            (8, 2),
            "the model takes series of shape (n, 8, 2), got torch.float32 (8, 2); x[None] is a batch of one",
        ),
        (
            "tables",
            torch.zeros(8, 3),
            (2,),
            "the model takes rows of shape (n, 2), got torch.float32 (8, 3); kakusan.data.open_data(path).test has that "
            "form",
        ),
    ],
)
def test_examples_of_another_form_are_refused_with_the_form_of_the_model(kind, examples, event, sentence):
    with pytest.raises(InputError) as caught:
        FORMS[kind]().stored(examples, event)
    assert str(caught.value) == sentence
    with pytest.raises(InputError, match=r"^counts have no figure; omit x.png$"):
        FORMS["counts"]().save_figure(np.zeros((1, 2)), Path("x.png"))
