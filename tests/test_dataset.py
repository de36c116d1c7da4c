"""Every kind of data becomes one tensor, or one clear line."""

import gzip
import struct

import numpy as np
import pytest
import torch

from harness.faults import catches
from kakusan.data.dataset import from_arrays
from kakusan.data.mnist import mnist, mnist_labels
from kakusan.data.open import open_data
from kakusan.data.scale import BINARY, SIGNED, UNIT
from kakusan.errors import InputError

# SHA-256 of the raw arrays of the distributed set, as published beside the file
TRAIN_SHA = "741c988805d008ac6e4c904b69001ba184c24b2c540a4ef403f4c71b676cf757"
TEST_SHA = "6d87418db22cc8025d05968bec9bd5c3932904b23485740db143a061a2c9d161"


def write_idx(path, array):
    head = struct.pack(">HBB", 0, 8, array.ndim) + struct.pack(f">{array.ndim}I", *array.shape)
    content = head + array.tobytes()
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)


def pictures(n, *shape):
    return np.random.default_rng(0).integers(0, 256, (n, *shape), dtype=np.uint8)


@pytest.mark.proves("S28")
def test_the_embedded_digits_are_the_distributed_ones():
    import hashlib

    data = mnist()
    assert hashlib.sha256(data.train.numpy().tobytes()).hexdigest() == TRAIN_SHA
    assert hashlib.sha256(data.test.numpy().tobytes()).hexdigest() == TEST_SHA
    assert data.event_shape == (1, 28, 28)
    assert [len(part) for part in mnist_labels()] == [60_000, 10_000]


def test_label_counts_add_up_to_their_group():
    data = open_data("mnist-labels")
    assert data.kind == "counts"
    assert data.event_shape == (10,)
    assert (data.train.sum(1) == 60).all()


@catches(
    "data/idx.py",
    "offset=start).reshape(shape)",
    "offset=start).reshape(shape[0], shape[2], shape[1]).transpose(0, 2, 1)",
    "the rows of an IDX file are its columns",
)
@pytest.mark.parametrize("ending", ["", ".gz"])
def test_a_folder_of_idx_files_is_read(tmp_path, ending):
    train, test = pictures(20, 8, 6), pictures(5, 8, 6)
    write_idx(tmp_path / f"train-images-idx3-ubyte{ending}", train)
    write_idx(tmp_path / f"t10k-images-idx3-ubyte{ending}", test)
    data = open_data(str(tmp_path))
    assert np.array_equal(data.train[:, 0].numpy(), train)
    assert np.array_equal(data.test[:, 0].numpy(), test)


@catches(
    "data/arrays.py",
    "array.transpose(0, 3, 1, 2)",
    "array.transpose(0, 3, 2, 1)",
    "pictures with their channels last are turned on their side",
)
@catches("data/dataset.py", "train[order[held:]]", "train[order[:-held]]", "what is held out was trained on")
@pytest.mark.parametrize(
    ("shape", "event"), [((8, 6), (1, 8, 6)), ((8, 6, 1), (1, 8, 6)), ((8, 6, 3), (3, 8, 6)), ((3, 8, 6), (3, 8, 6))]
)
def test_an_array_of_images_may_have_its_channels_on_either_side(tmp_path, shape, event):
    array = pictures(30, *shape)
    np.save(tmp_path / "x.npy", array)
    data = open_data(str(tmp_path / "x.npy"))
    assert data.event_shape == event
    assert (len(data.train), len(data.test)) == (27, 3)
    first = np.sort(array.reshape(30, -1).sum(1))
    assert np.array_equal(np.sort(np.concatenate([data.train, data.test]).reshape(30, -1).sum(1)), first)


def test_an_npz_with_its_own_test_part_keeps_it(tmp_path):
    np.savez(tmp_path / "x.npz", x_train=pictures(9, 4, 4), x_test=pictures(4, 4, 4))
    data = open_data(str(tmp_path / "x.npz"))
    assert (len(data.train), len(data.test)) == (9, 4)


def test_the_split_is_the_same_every_time(tmp_path):
    np.save(tmp_path / "x.npy", pictures(50, 4, 4))
    first, second = (open_data(str(tmp_path / "x.npy")) for _ in range(2))
    assert first.digest() == second.digest()


def bad_files(folder):
    np.save(folder / "floats.npy", np.zeros((5, 4, 4)))
    np.save(folder / "line.npy", np.zeros(5))
    np.save(folder / "negative.npy", np.array([[1, -2], [3, 4]]))
    np.save(folder / "fractional.npy", np.array([[1.5, 2], [3, 4]]))
    np.save(folder / "huge.npy", np.array([[1, 2, 3], [2**62] * 3]))
    np.save(folder / "pixel.npy", np.zeros((5, 1, 1), np.uint8))
    np.save(folder / "one-category.npy", np.ones((4, 1), int))
    np.save(folder / "single.npy", pictures(1, 4, 4))
    np.save(folder / "many-channels.npy", pictures(5, 9, 9, 9))
    np.savez(folder / "names.npz", a=pictures(3, 4, 4), b=pictures(3, 4, 4))
    np.savez(folder / "shapes.npz", x_train=pictures(3, 4, 4), x_test=pictures(3, 5, 4))
    (folder / "text.npy").write_text("not numbers")
    (folder / "picture.jpg").write_bytes(b"jpg")
    (folder / "objects.npy").write_bytes(
        b"\x93NUMPY\x01\x00v\x00{'descr': '|O', 'fortran_order': False, 'shape': (1,), }"
    )
    (folder / "empty").mkdir()
    (folder / "cut").mkdir()
    write_idx(folder / "cut" / "train-images-idx3-ubyte", pictures(3, 4, 4))
    whole = (folder / "cut" / "train-images-idx3-ubyte").read_bytes()
    (folder / "cut" / "train-images-idx3-ubyte").write_bytes(whole[:-5])


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("floats.npy", "uint8"),
        ("line.npy", "expected images"),
        ("negative.npy", "whole numbers >= 0, got -2"),
        ("fractional.npy", "whole numbers >= 0, got 1.5"),
        ("one-category.npy", "K >= 2"),
        ("single.npy", "at least 2"),
        ("many-channels.npy", "channels"),
        ("names.npz", "train_images"),
        ("shapes.npz", "one shape"),
        ("text.npy", "no such file, or holds Python objects"),
        ("objects.npy", "cannot read"),
        ("huge.npy", "got 13,835,058,055,282,163,712 in row 1"),
        ("pixel.npy", "two numbers or more"),
        ("picture.jpg", ".npy or .npz"),
        ("empty", "train-images"),
        ("cut", "bytes of data"),
        ("missing", "no data at"),
    ],
)
def test_unusable_data_is_refused_in_one_line(tmp_path, name, words):
    bad_files(tmp_path)
    with pytest.raises(InputError) as caught:
        open_data(str(tmp_path / name))
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.proves("S28")
@catches("data/scale.py", ".permute(0, 2, 3, 1)", ".permute(0, 3, 2, 1)", "pictures come back on their side")
@catches("data/scale.py", ".round().clamp(0, TOP)", ".clamp(0, TOP)", "grey levels are rounded down")
@pytest.mark.parametrize("scale", [SIGNED, UNIT])
def test_scaling_goes_there_and_back_for_every_level(scale):
    levels = torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16)
    assert np.array_equal(scale.to_pixels(scale.to_model(levels))[..., 0], levels[:, 0].numpy())


@catches(
    "data/scale.py",
    "randomness, grey.dtype, grey.device) < grey)",
    "randomness, grey.dtype, grey.device) > grey)",
    "a bit is one with the probability of a zero",
)
def test_binarisation_draws_one_with_the_pixels_share():
    grey = torch.full((100_000, 1, 1, 1), 51, dtype=torch.uint8)  # one fifth
    share = BINARY.to_model(grey, torch.Generator().manual_seed(0)).mean().item()
    assert abs(share - 0.2) < 4.5 * (0.2 * 0.8 / 100_000) ** 0.5  # false alarm 7e-6


@catches(
    "data/dataset.py",
    "for part in (self.train, self.test):",
    "for part in (self.train,):",
    "the digest of the data does not see what is held out",
)
@catches(
    "data/dataset.py",
    "digest.update(repr((tuple(part.shape), str(part.dtype))).encode())",
    "pass",
    "the digest of the data does not see its shape",
)
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
