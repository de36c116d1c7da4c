"""A folder of PNG becomes one tensor: looked through before training, what is bad named with its reason."""

import hashlib
import json
import os
import random
import re
import signal
import struct
import subprocess
import sys
import tracemalloc
import unicodedata
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
from PIL import Image

from harness.faults import catches
from harness.image_corpus import (
    NUM_GOOD,
    SIDE,
    chunk,
    colors,
    encoded,
    exif_of,
    good_files,
    hostile_files,
    more_hostile_files,
    other_files,
    patched,
    png,
    segment,
    table_bomb,
)
from harness.support import call
from kakusan.data.folder import MOST_LINES, _contents, _preparation, _sizes, _suggestion
from kakusan.data.image_file import JPEG, Unusable, _check_decoding, _opener, centered_box, read_image, shrinkage
from kakusan.data.open import open_data
from kakusan.data.options import ImageOptions, size_named
from kakusan.data.scan import Scan, scan
from kakusan.data.sizes import choose_size
from kakusan.errors import InputError, printable
from kakusan.images import Images
from kakusan.recipes import find
from kakusan.run.build import family_of
from kakusan.run.evaluation_data import data_of
from kakusan.run.trained_model import TrainedModel

pytestmark = pytest.mark.reliability

TINY = ["--model.hidden", "8", "--model.latent", "2", "--optim.batch", "8"]
AT_16 = ImageOptions(size=(16, 16))
SKIP = ImageOptions(size=(16, 16), bad="skip")


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """The folder, the names of its good files, and what the reason of each bad one must say."""
    folder = tmp_path_factory.mktemp("data") / "corpus"
    folder.mkdir()
    good = good_files(folder)
    assert other_files(folder) == 2
    return folder, good, hostile_files(folder)


def save(folder: Path, name: str, pixels: np.ndarray, form: str = "PNG", **options) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(encoded(Image.fromarray(pixels), form, **options))
    return path


def pixels_of(path: Path, wanted: ImageOptions | None = None) -> np.ndarray:
    """(H, W, C)."""
    return read_image(path, wanted or ImageOptions()).pixels.transpose(1, 2, 0)


# What is bad


@catches("""data/image_file.py: a PNG may hold any number of chunks
- _check_png(content)
-         return
+ return""")
@catches("""data/image_file.py: compressed texts of a PNG have no limit
- if packed > MOST_PACKED:
+ if False:""")
def test_the_scan_names_exactly_the_40_bad_files_with_their_reasons(corpus):
    folder, good, bad = corpus
    found = scan(folder, AT_16)
    assert len(bad) == 40
    assert set(found.bad) == {printable(name) for name in bad}
    for name, words in bad.items():
        assert words in found.bad[printable(name)], name
    assert found.names == sorted(good)
    assert len(good) == NUM_GOOD
    assert found.others == 2


def test_more_kinds_of_bad_files_are_named(tmp_path):
    expected = more_hostile_files(tmp_path)
    found = scan(tmp_path, AT_16)
    assert set(found.bad) == set(expected)
    for name, words in expected.items():
        assert words in found.bad[name], name


# In a process of its own: says of each file the reason, and the memory of the process at its peak
MEASURE = """
import json, os, resource, sys
from pathlib import Path
from kakusan.data.image_file import Unusable, read_image
from kakusan.data.options import ImageOptions

for line in sys.stdin.read().split():
    try:
        read_image(Path(os.fsdecode(bytes.fromhex(line))), ImageOptions(size=(16, 16)))
        reason = "an image"
    except Unusable as error:
        reason = str(error)
    print(json.dumps([reason, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss]))
"""
MOST_KIB = 200 * 2**10


def largest_files(folder: Path) -> dict[str, str]:
    """Just within the limits by what they say, and damaged at the end: these cost most."""
    cut = {
        "gray.png": encoded(Image.new("L", (8000, 8000)), "PNG"),
        "color.png": encoded(Image.new("RGB", (6400, 6400)), "PNG"),
        "alpha.png": encoded(Image.new("RGBA", (4500, 4500)), "PNG"),
        "baseline.jpg": encoded(Image.new("RGB", (8000, 8000)), "JPEG"),
        "passes.jpg": encoded(Image.new("RGB", (4000, 4000)), "JPEG", progressive=True),
    }
    for name, content in cut.items():
        (folder / name).write_bytes(content[: -len(content) // 10])
    return dict.fromkeys(cut, "truncated")


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the unit of ru_maxrss differs")
@catches("""data/scan.py: tiny images are enlarged without a word
- if min(image.size) < SMALLEST:
+ if False:""")
def test_tiny_images_that_are_enlarged_are_counted_and_named(tmp_path):
    for name, side in (("a.png", 1), ("b.png", 5), ("c.png", 7), ("d.png", 20)):
        save(tmp_path, name, np.zeros((side, side), np.uint8))
    words = open_data(tmp_path, AT_16).prepared
    assert "3 images smaller than 8 pixels enlarged, the smallest 1 x 1 (a.png, b.png)" in words


def test_no_bad_file_takes_200_mib(corpus, tmp_path):
    folder, good, bad = corpus
    paths = {folder / name: words for name, words in bad.items() if name != "up"}
    (tmp_path / "more").mkdir()
    more = more_hostile_files(tmp_path / "more")
    paths |= {tmp_path / "more" / name: words for name, words in more.items() if "\\" not in name}
    paths |= {tmp_path / name: words for name, words in largest_files(tmp_path).items()}
    names = "\n".join(os.fsencode(path).hex() for path in [folder / good[0], *paths])
    done = subprocess.run([sys.executable, "-c", MEASURE], input=names, capture_output=True, text=True, check=True)
    (_, before), *lines = (json.loads(line) for line in done.stdout.splitlines())
    assert len(lines) == len(paths)
    for (path, words), (reason, peak) in zip(paths.items(), lines):
        assert words in reason, f"{path}: {reason}"
        assert peak - before < MOST_KIB, f"{path} took {(peak - before) // 2**10} MiB"


def claiming(form: str, side: int, **options) -> bytes:
    """A small picture whose header says that it is a large one."""
    small = encoded(Image.fromarray(colors(0)), form, **options)
    if form == "WEBP":
        return patched(small, 26, struct.pack("<HH", side, side))
    frame = small.index(b"\xff\xc2" if "progressive" in options else b"\xff\xc0")
    return patched(small, frame + 5, struct.pack(">HH", side, side))


@catches("""data/image_file.py: memory for decoding has no limit
- or needed > MOST_DECODING
+ or False""")
@pytest.mark.parametrize(
    ("content", "wanted"),
    [
        (png(8300, 8300, rows=b"x"), AT_16),
        (png(6500, 6500, color=2, rows=b"x"), AT_16),
        (png(4600, 4600, color=6, rows=b"x"), AT_16),
        (png(3800, 3800, color=3, beside=chunk(b"PLTE", bytes(6)), rows=b"x"), AT_16),
        (claiming("WEBP", 3020), AT_16),
        (claiming("JPEG", 6500), ImageOptions()),
        (claiming("JPEG", 8300), AT_16),
        (claiming("JPEG", 5300, progressive=True), AT_16),
    ],
    ids=["gray", "color", "alpha", "palette", "WebP", "whole JPEG", "JPEG", "progressive"],
)
def test_what_lies_a_little_beyond_the_limits_is_refused_unread(tmp_path, content, wanted):
    """The test above measures what lies just within."""
    (tmp_path / "x").write_bytes(content)
    with pytest.raises(Unusable, match="the limits are 160 MiB and 64 megapixels"):
        read_image(tmp_path / "x", wanted)


def test_a_fifo_put_there_at_the_last_moment_keeps_nobody_waiting(tmp_path, monkeypatch):
    ordinary = os.stat(__file__)
    os.mkfifo(tmp_path / "x")

    def waits(*_):
        raise AssertionError("waits for a writer")

    before = signal.signal(signal.SIGALRM, waits)
    signal.alarm(5)
    try:
        with monkeypatch.context() as patch:
            patch.setattr(os, "stat", lambda *_: ordinary)
            with pytest.raises(Unusable, match="a FIFO"):
                read_image(tmp_path / "x", AT_16)
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def test_bad_pictures_are_refused_with_a_line_for_each_of_the_first(corpus, capsys):
    folder, _, bad = corpus
    code, out, err = call(capsys, "train", "mnist-ddpm", "--data", folder, "--size", "16", "--steps", "1")
    assert (code, out) == (2, "")
    lines = err.splitlines()
    assert "40 of 240 files are not usable images" in lines[0]
    assert "--bad-images skip" in lines[0]
    assert len(lines) == MOST_LINES + 2
    assert f"{len(bad) - MOST_LINES} more" in lines[-1]


@pytest.mark.filterwarnings("default:left out")
def test_training_goes_on_without_bad_pictures_and_the_record_says_which(corpus, capsys, tmp_path):
    folder, _, bad = corpus
    run = tmp_path / "run"
    flags = ["--data", folder, "--size", 16, "--bad-images", "skip", "--steps", 3, "--out", run, *TINY]
    code, _, err = call(capsys, "train", "mnist-vae", *flags)
    assert code == 0, err
    assert "left out 40 bad of 240 files" in err
    record = json.loads((run / "data.json").read_text())
    assert set(record["skipped"]) == {printable(name) for name in bad}
    assert record["event_shape"] == [3, 16, 16]
    assert record["train"] + record["held_out"] == NUM_GOOD
    code, out, err = call(capsys, "evaluate", run, "--limit", 2, "--json")  # opens the same data by the run's record
    assert code == 0, err
    assert json.loads(out)["num_images"] == 2


def test_kakusan_data_lists_what_is_good_and_all_that_is_bad(corpus, capsys):
    folder, _, bad = corpus
    code, out, _ = call(capsys, "data", folder, "--size", "16x12")
    assert code == 0
    assert "200 images (155 in color, 45 gray, 44 with an alpha channel)" in out
    assert "40 unusable files:" in out
    assert all(f"  {printable(name)}: " in out for name in bad)
    assert "16 x 12" in out
    assert "--size 16x12 --bad-images skip" in out


def test_no_name_steers_the_terminal(corpus, capsys):
    folder, *_ = corpus
    for arguments in (["data", folder, "--size", 8], ["data", folder], ["train", "mnist-vae", "--data", folder]):
        _, out, err = call(capsys, *arguments)
        assert all(letter.isprintable() or letter == "\n" for letter in out + err)


def test_a_folder_that_cannot_be_read_is_named(tmp_path, monkeypatch):
    save(tmp_path, "a.png", colors(0))
    save(tmp_path, "closed/b.png", colors(0))
    real = os.scandir

    def scandir(path):
        if Path(path).name == "closed":
            raise PermissionError(13, "Permission denied")
        return real(path)

    monkeypatch.setattr(os, "scandir", scandir)  # an administrator may read everything: chmod would not do
    found = scan(tmp_path, ImageOptions())
    assert found.names == ["a.png"]
    assert found.bad == {"closed": "a folder that cannot be read (Permission denied)"}


def test_a_file_that_cannot_be_read_is_named(tmp_path, monkeypatch):
    path = save(tmp_path, "a.png", colors(0))

    def refuse(*_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(Unusable, match="Permission denied"):
        read_image(path, ImageOptions())


def test_folders_deeper_than_the_stack_are_read(tmp_path):
    here = os.open(tmp_path, os.O_RDONLY)
    for _ in range(1100):  # by relative steps: the whole path stays below the system's 4,096 bytes
        os.mkdir("d", dir_fd=here)
        here, above = os.open("d", os.O_RDONLY, dir_fd=here), here
        os.close(above)
    os.close(here)
    save(tmp_path, "a.png", colors(0))
    try:
        assert scan(tmp_path, ImageOptions()).names == ["a.png"]
    finally:
        subprocess.run(["rm", "-r", str(tmp_path / "d")], check=True)  # shutil is recursive


def test_damage_of_any_kind_ends_in_a_picture_or_a_reason(tmp_path):
    """1,500 files with bytes changed, cut away or doubled: none may end in another exception."""
    draw = random.Random(0)
    image = Image.fromarray(colors(0))
    whole = [
        encoded(image, "PNG"),
        encoded(image.convert("P"), "PNG", transparency=0, exif=exif_of(6)),
        encoded(image, "JPEG", exif=exif_of(6)),
        encoded(image, "JPEG", progressive=True),
        encoded(image, "WEBP", exif=exif_of(6)),
        encoded(image.convert("RGBA"), "WEBP", lossless=True),
        encoded(image, "GIF", save_all=True, append_images=[image.rotate(90)]),
        encoded(Image.fromarray(colors(0, channels=1).astype(np.uint16) * 257), "PNG"),
    ]
    path = tmp_path / "x.png"
    usable = 0
    for index in range(1500):
        content = bytearray(whole[index % len(whole)])
        near = len(content) if index % 2 else min(200, len(content))  # half of them in the header
        for _ in range(draw.randint(1, 4)):
            content[draw.randrange(near)] = draw.randrange(256)
        if draw.random() < 0.2:
            del content[draw.randrange(len(content)) :]
        if draw.random() < 0.1:
            start = draw.randrange(len(content) + 1)
            content[start:start] = content[start : start + 50]
        path.write_bytes(content)
        try:
            picture = read_image(path, AT_16)
        except Unusable:
            pass
        else:
            usable += 1
            assert picture.pixels.shape[1:] == (16, 16)
            assert picture.pixels.dtype == np.uint8
    assert 150 < usable < 1350, "the damage is too weak or too strong to say anything"


# What is good


@pytest.mark.parametrize("form", ["PNG", "WEBP"])
@pytest.mark.parametrize("channels", [1, 3])
def test_pixels_are_those_of_the_file(tmp_path, form, channels):
    expected = colors(0, 9, 7, channels)
    options = {"lossless": True} if form == "WEBP" else {}
    read = pixels_of(save(tmp_path, "x", expected, form, **options))
    if form == "WEBP" and channels == 1:  # WebP has no grey
        expected = expected[:, :, None].repeat(3, axis=2)
    assert np.array_equal(read, expected.reshape(9, 7, -1))


# As the file holds it, for an upright picture; EXIF 2.3, section 4.6.4: where its row 0 and column 0 are seen
STORED = {
    1: lambda a: a,  # top, left
    2: lambda a: a[:, ::-1],  # top, right
    3: lambda a: a[::-1, ::-1],  # bottom, right
    4: lambda a: a[::-1],  # bottom, left
    5: lambda a: a.swapaxes(0, 1),  # left, top
    6: lambda a: a[:, ::-1].swapaxes(0, 1),  # right, top
    7: lambda a: a[::-1, ::-1].swapaxes(0, 1),  # right, bottom
    8: lambda a: a[::-1].swapaxes(0, 1),  # left, bottom
}


@catches("""data/image_file.py: images lie on their side, whatever EXIF says
- if turn in TURNS:
+ if False:""")
@catches("""data/image_file.py: one EXIF orientation is turned the wrong way
- 6: Image.Transpose.ROTATE_270
+ 6: Image.Transpose.ROTATE_90""")
@catches("""data/image_file.py: an image on its side is cropped to the wrong proportions
- if turn < 5 else options.size
+ if turn > 5 else options.size""")
@pytest.mark.parametrize("orientation", STORED)
@pytest.mark.parametrize("form", ["PNG", "WEBP"])
def test_pictures_stand_upright_as_exif_says(tmp_path, orientation, form):
    upright = colors(0, 9, 6)
    stored = np.ascontiguousarray(STORED[orientation](upright))
    options = {"lossless": True, "exact": True} if form == "WEBP" else {}
    path = save(tmp_path, "x", stored, form, exif=exif_of(orientation), **options)
    assert np.array_equal(pixels_of(path), upright)
    assert read_image(path, ImageOptions()).size == (9, 6)
    middle = ImageOptions(size=(9, 2))  # cropped by height and width as seen, at full scale: no pixel is mixed
    assert np.array_equal(pixels_of(path, middle), upright[:, 2:4])


def test_a_jpeg_is_turned_too_and_an_orientation_that_does_not_exist_is_upright(tmp_path):
    upright = np.zeros((16, 24, 3), np.uint8)
    upright[:8] = 255
    turned = np.ascontiguousarray(STORED[6](upright))
    read = pixels_of(save(tmp_path, "x.jpg", turned, "JPEG", quality=95, exif=exif_of(6)))
    assert np.abs(read.astype(int) - upright).max() < 10  # JPEG's loss; a turned picture would be off by 255
    odd = pixels_of(save(tmp_path, "y.png", upright, "PNG", exif=exif_of(9)))
    assert np.array_equal(odd, upright)


@catches("""data/image_file.py: alpha is ignored
- white.paste(opaque, mask=image.getchannel("A"))
+ white.paste(opaque)""")
def test_what_is_see_through_has_white_behind_it(tmp_path):
    straight = colors(0, 8, 8, 4)
    colour, alpha = straight[..., :3].astype(float), straight[..., 3:] / 255
    expected = alpha * colour + (1 - alpha) * 255
    read = pixels_of(save(tmp_path, "x.png", straight))
    assert np.abs(read - expected).max() <= 0.51  # rounding to whole levels
    assert (pixels_of(save(tmp_path, "clear.png", np.zeros((4, 4, 4), np.uint8))) == 255).all()
    grey = Image.fromarray(colors(1, 8, 8, 1))
    path = tmp_path / "grey.png"
    path.write_bytes(encoded(grey, "PNG", transparency=int(np.asarray(grey)[0, 0])))
    level = np.asarray(grey)
    assert np.array_equal(pixels_of(path)[..., 0], np.where(level == level[0, 0], 255, level))


def test_the_middle_is_kept_and_resized(tmp_path):
    stripes = np.zeros((32, 64, 3), np.uint8)
    stripes[:, :16, 0] = stripes[:, 16:48, 1] = stripes[:, 48:, 2] = 200
    path = save(tmp_path, "x.png", stripes)
    tall = save(tmp_path, "y.png", stripes.swapaxes(0, 1).copy())
    for side, edge in (
        (32, 0),
        (16, 3),
    ):  # at full scale no pixel is mixed; else the filter reaches 3 pixels over the edge
        middle = slice(edge, side - edge)
        for each in (path, tall):
            read = pixels_of(each, ImageOptions(size=(side, side)))
            assert (read[middle, middle] == (0, 200, 0)).all()
            assert read.shape == (side, side, 3)
    ramp = np.arange(256, dtype=np.uint8)[None].repeat(256, axis=0)
    halved = pixels_of(save(tmp_path, "z.png", ramp), ImageOptions(size=(128, 128)))[:, :, 0]
    expected = 2 * np.arange(128) + 0.5  # a straight ramp stays one under any symmetric filter, but for its ends
    assert np.abs(halved - expected)[:, 4:-4].max() <= 0.51


@catches("""data/image_file.py: the crop is at the left
- left, top = (own[0] - width) // 2
+ left, top = 0""")
@pytest.mark.parametrize("own", [(640, 480), (480, 640), (1, 1), (7, 5), (4000, 3)])
@pytest.mark.parametrize("wanted", [(64, 64), (48, 40), (1, 4096)])
def test_the_crop_is_as_large_as_its_proportions_allow(own, wanted):
    left, top, right, bottom = centered_box(own, wanted)
    width, height = right - left, bottom - top
    assert 0 <= left < right <= own[0]
    assert 0 <= top < bottom <= own[1]
    assert width == own[0] or height == own[1]
    assert abs(left - (own[0] - right)) <= 1
    assert abs(top - (own[1] - bottom)) <= 1
    assert abs(width - height * wanted[0] / wanted[1]) <= 1 or abs(height - width * wanted[1] / wanted[0]) <= 1


def test_a_large_photograph_is_read_at_a_fraction_of_its_size(tmp_path):
    """48 megapixels, as telephones make them: whole they would take 190 MiB."""
    fine = Image.fromarray(colors(0, 60, 80)).resize((8000, 6000), Image.Resampling.BICUBIC)
    path = tmp_path / "photograph.jpg"
    path.write_bytes(encoded(fine, "JPEG", quality=50))
    read = pixels_of(path, ImageOptions(size=(60, 80))).astype(float)
    expected = np.asarray(fine.reduce(100)).astype(float)  # means of 100 x 100 pixels
    assert np.abs(read - expected).mean() < 6  # another filter and JPEG's loss; noise of this kind differs by 85
    with pytest.raises(Unusable, match="would take"):
        read_image(path, ImageOptions())


@catches("""data/image_file.py: a JPEG is shrunk so far that resizing enlarges it
- s >= 2 * by * want
+ s >= by * want""")
@pytest.mark.parametrize("orientation", [1, 6])
def test_a_jpeg_is_never_shrunk_below_twice_what_is_wanted(orientation):
    for wide, tall, want in [(399, 900, 100), (400, 900, 100), (799, 799, 50), (800, 801, 50), (64, 64, 32), (5, 5, 1)]:
        size = (tall, wide) if orientation < 5 else (wide, tall)
        shrinks = [by for by in (1, 2, 4, 8) if by == 1 or min(wide, tall) >= 2 * by * want]
        assert shrinkage("JPEG", size, (want, want)) == shrinks[-1]
    assert [shrinkage("JPEG", (200, 400), want) for want in [(50, 100), (100, 50)]] == [2, 1]
    assert [shrinkage("JPEG", (400, 200), want) for want in [(50, 100), (100, 50)]] == [1, 2]
    assert shrinkage("PNG", (4000, 4000), (1, 1)) == 1


@catches("""data/folder.py: gray images get three channels
- (3 if found.color else 1)
+ 3""")
def test_grey_pictures_make_one_channel_and_any_colour_three(tmp_path):
    grey, colour = colors(0, 6, 5, 1), colors(1, 6, 5)
    for index in range(4):
        save(tmp_path, f"g{index}.png", grey)
    assert open_data(str(tmp_path)).event_shape == (1, 6, 5)
    save(tmp_path, "h.png", colour)
    data = open_data(str(tmp_path))
    assert data.event_shape == (3, 6, 5)
    assert "4 gray ones as color" in data.describe()
    read = np.concatenate([data.train, data.test]).astype(int)
    assert sum(np.array_equal(picture, np.stack([grey] * 3)) for picture in read) == 4
    data = open_data(str(tmp_path), ImageOptions(channels=1))
    assert data.event_shape == (1, 6, 5)
    assert "1 color ones as gray" in data.describe()
    luma = colour @ np.array([0.299, 0.587, 0.114])  # ITU-R BT.601
    read = np.concatenate([data.train, data.test])[:, 0].astype(float)
    assert min(np.abs(picture - luma).max() for picture in read) <= 1  # rounding


def test_folders_in_folders_and_any_spelling_of_an_ending_are_read(tmp_path):
    for index, name in enumerate(["a.PNG", "b/c.Jpg", "b/d/e.JPEG", "b/d/f.webp", "g.png"]):
        save(tmp_path, name, colors(index), {"P": "PNG", "p": "PNG", "J": "JPEG", "w": "WEBP"}[name.split(".")[1][0]])
    (tmp_path / "linked.png").symlink_to(tmp_path / "g.png")
    (tmp_path / "notes.txt").write_text("not a picture, and not said to be one")
    found = scan(tmp_path, ImageOptions())
    assert found.names == ["a.PNG", "b/c.Jpg", "b/d/e.JPEG", "b/d/f.webp", "g.png", "linked.png"]
    assert (found.bad, found.others) == ({}, 1)


@catches("""data/folder.py: the test folder is trained on
- for part in found.parts)
+ for part in found.parts[::-1])""")
def test_train_and_test_folders_stay_apart(tmp_path):
    for index in range(3):
        save(tmp_path, f"train/class/{index}.png", np.full((4, 4), index, np.uint8))
    for index in range(2):
        save(tmp_path, f"test/{index}.png", np.full((4, 4), 10 + index, np.uint8))
    save(tmp_path, "thumbnail.png", np.full((2, 2), 99, np.uint8))
    data = open_data(str(tmp_path))
    assert data.train[:, 0, 0, 0].tolist() == [0, 1, 2]
    assert data.test[:, 0, 0, 0].tolist() == [10, 11]
    assert "train and test" in data.describe()
    for path in (tmp_path / "test").iterdir():
        path.unlink()
    with pytest.raises(InputError, match="must both hold images, got 3 and 0"):
        open_data(str(tmp_path))


def test_pictures_of_several_sizes_need_a_size(tmp_path, capsys):
    for index, side in enumerate([40, 40, 40, 30, 20]):
        save(tmp_path, f"{index}.png", colors(index, side, 50))
    code, _, err = call(capsys, "train", "mnist-ddpm", "--data", tmp_path, "--steps", 1)
    assert code == 2
    assert "40 x 50 (3), 20 x 50 (1), 30 x 50 (1)" in err
    advice = re.search(r"--size (\d+)", err)
    assert advice is not None
    assert open_data(str(tmp_path), ImageOptions(size=size_named(advice[1]))).event_shape == (3, 40, 40)
    assert open_data(str(tmp_path), ImageOptions(size=size_named("48x40"))).event_shape == (3, 48, 40)


@pytest.mark.parametrize("words", ["", "x", "64x", "0", "8x8x8", "-4", "4097", "1e3", "٣", "9" * 5000, "64 64"])
def test_a_size_that_is_none_is_refused_in_one_line(words):
    with pytest.raises(InputError) as caught:
        ImageOptions(size=size_named(words))
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize(
    ("names", "words"),
    [([], "expected images"), (["one.png"], "at least 2 examples, got 1"), (["notes.txt"], "expected images")],
)
def test_a_folder_with_too_little_in_it_is_refused(tmp_path, names, words):
    for name in names:
        save(tmp_path, name, colors(0))
    with pytest.raises(InputError, match=words):
        open_data(str(tmp_path))


def test_a_folder_of_nothing_but_bad_files_is_refused_even_if_they_are_skipped(tmp_path):
    (tmp_path / "a.png").write_text("no")
    with pytest.raises(InputError, match="no usable image among 1 files"):
        open_data(str(tmp_path), SKIP)


def test_size_and_channels_are_for_folders_of_pictures(tmp_path):
    np.save(tmp_path / "x.npy", colors(0, 4, 4)[None].repeat(5, 0))
    for spec in ("mnist", str(tmp_path / "x.npy")):
        with pytest.raises(InputError, match="folder of PNG"):
            open_data(spec, ImageOptions(channels=1))


def test_more_pixels_than_memory_are_refused_before_they_are_read(tmp_path, monkeypatch):
    for index in range(5):
        save(tmp_path, f"{index}.png", colors(index))
    monkeypatch.setattr("kakusan.data.scan.memory_for_data", lambda: 3 * SIDE * SIDE * 3)
    with pytest.raises(InputError, match="--size 12"):
        open_data(str(tmp_path))


# The same data again


def test_data_are_known_by_their_pixels_and_not_by_their_names(tmp_path):
    folder = tmp_path / "first"
    for index in range(6):
        save(folder, f"{index}.jpg", colors(index), "JPEG")
    digest = open_data(folder).digest()
    folder = folder.rename(tmp_path / "moved")
    assert open_data(folder).digest() == digest
    path = folder / "3.jpg"
    path.rename(folder / "3a.jpg")  # the same images in the same order
    assert open_data(folder).digest() == digest
    content = (folder / "3a.jpg").read_bytes()
    path.write_bytes(content[:-20] + bytes([content[-20] ^ 4]) + content[-19:])  # decodes, to another image
    (folder / "3a.jpg").unlink()
    assert open_data(folder).digest() != digest
    path.unlink()
    assert open_data(folder).digest() != digest


@catches("""data/scan.py: the spelling of accents in names orders the data
- unicodedata.normalize("NFC", name), name
+ name""")
def test_composed_and_decomposed_names_are_the_same_data(tmp_path):
    for folder, form in (("c", "NFC"), ("d", "NFD")):
        for index, name in enumerate(["e", "\u00e9", "f", "\u00fc", "z"]):
            save(tmp_path / folder, f"{unicodedata.normalize(form, name)}.png", colors(index))
    assert open_data(tmp_path / "c").digest() == open_data(tmp_path / "d").digest()


@catches("""data/dataset.py: folders of version 0.3 have changed
- with_files.update(self.files.encode())
+ pass""")
@catches("""data/dataset.py: any data are those of the record
- return digest in self._digests
+ return True""")
def test_the_digest_that_version_0_3_recorded_is_still_accepted(tmp_path):
    """SHA-256 over both tensors as now, then over the SHA-256 of names, lengths and contents of the files."""
    for index in range(6):
        save(tmp_path, f"{index}.png", colors(index, 4, 4))
    data = open_data(tmp_path)
    files = hashlib.sha256()
    for index in range(6):
        content = (tmp_path / f"{index}.png").read_bytes()
        files.update(f"5 {len(content)} {hashlib.sha256(content).hexdigest()} {index}.png".encode())
    whole = hashlib.sha256()
    for part in (data.train, data.test):
        whole.update(f"({tuple(part.shape)}, 'torch.uint8')".encode() + part.numpy().tobytes())
    assert data.matches(whole.hexdigest())  # arrays in 0.3, and everything now
    whole.update(files.hexdigest().encode())
    assert data.matches(whole.hexdigest())
    assert not data.matches("")


def test_other_pictures_are_fitted_to_the_model_that_they_are_to_measure(tmp_path, capsys):
    save(tmp_path, "a.png", colors(1, 50, 40))
    save(tmp_path, "b.png", colors(2, 30, 40))
    recipe = find("mnist-ddpm")
    family = family_of(recipe.model)
    model = SimpleNamespace(event_shape=(1, 12, 8), recipe=recipe, family=family, check_data=lambda *_: None)
    source = cast(Any, SimpleNamespace(path=tmp_path / "run", run=None))
    data = data_of(source, cast(TrainedModel, model), str(tmp_path))
    assert data.event_shape == (1, 12, 8)
    assert "cropped in the middle and resized (Lanczos) to 12 x 8" in capsys.readouterr().err  # and it is said


def test_a_run_opens_the_same_pictures_again_and_notices_a_changed_one(tmp_path, capsys):
    folder, run = tmp_path / "data", tmp_path / "run"
    for index in range(20):
        save(folder, f"{index:02d}.jpg", colors(index, 20 + index % 2, 20), "JPEG")
    flags = ["--data", folder, "--size", "12x8", "--channels", 1, "--out", run, *TINY]
    code, _, err = call(capsys, "train", "mnist-vae", *flags, "--steps", 2)
    assert code == 0, err
    recipe = json.loads((run / "run.json").read_text())["recipe"]
    assert recipe["pictures"] == {"size": [12, 8], "channels": 1, "bad": "refuse", "labels": None, "columns": None}
    code, _, err = call(capsys, "train", "--resume", run, "--steps", 4)
    assert code == 0, err
    path = folder / "07.jpg"
    content = path.read_bytes()
    path.write_bytes(content[:-20] + bytes([content[-20] ^ 4]) + content[-19:])
    for command in (["train", "--resume", run, "--steps", 6], ["evaluate", run]):
        code, _, err = call(capsys, *command)
        assert code == 2
        assert "has changed" in err


# Parts, classes, and what is no data


@catches("""data/folder.py: the parts of a folder are its classes
- found.names, options.labels, 1 if found.parts else 0)
+ found.names, options.labels, 0)""")
@catches("""data/folder.py: held-out images have training labels
- labels[test_rows]
+ labels[train_rows][: len(test_rows)]""")
@pytest.mark.parametrize(("train", "test"), [("Train", "Test"), ("training", "validation"), ("train", "val")])
def test_parts_in_any_usual_spelling_stay_apart_and_class_folders_are_labels(tmp_path, train, test):
    for index in range(4):
        save(tmp_path, f"{train}/{'dog' if index > 2 else 'cat'}/{index}.png", np.full((4, 4), index, np.uint8))
    for index in (10, 11):
        save(tmp_path, f"{test}/{'cat' if index > 10 else 'dog'}/{index}.png", np.full((4, 4), index, np.uint8))
    data = open_data(tmp_path)
    assert data.train[:, 0, 0, 0].tolist() == [0, 1, 2, 3]
    assert data.test[:, 0, 0, 0].tolist() == [11, 10]
    assert data.classes == ("cat", "dog")
    assert (data.train_cond.tolist(), data.test_cond.tolist()) == ([0, 0, 0, 1], [0, 1])
    assert f"only the folders {train} and {test} are read" in data.describe()


@catches("""data/folder.py: nine tenths of a folder are held out
- split_rows(len(found.names))
+ split_rows(len(found.names))[::-1]""")
def test_labels_follow_the_images_of_a_folder_through_the_split(tmp_path):
    for index in range(30):
        save(tmp_path, f"{'odd' if index % 2 else 'even'}/{index}.png", np.full((4, 4), index, np.uint8))
    data = open_data(tmp_path)
    assert (len(data.train), len(data.test)) == (27, 3)
    for part, cond in ((data.train, data.train_cond), (data.test, data.test_cond)):
        assert (part[:, 0, 0, 0].long() % 2 == cond).all()
    save(tmp_path, "top.png", np.zeros((4, 4), np.uint8))
    assert open_data(tmp_path).classes == ()


@catches("""data/scan.py: figures in a run directory are data
- if (RUN_RECORD, False) in content:
+ if False:""")
@catches("""data/image_file.py: samples are data
- if MADE_HERE in content[:4096]:
+ if False:""")
def test_runs_and_images_of_this_library_are_passed_over(tmp_path, monkeypatch):
    for index in range(5):
        save(tmp_path, f"{index}.png", colors(index))
    monkeypatch.chdir(tmp_path)
    before = open_data(".", AT_16)
    assert before.name == tmp_path.name
    save(tmp_path, "runs/demo/figure.png", colors(9))
    (tmp_path / "runs" / "demo" / "run.json").write_text("{}")
    Images(colors(0)[None]).save(tmp_path / "samples.png")
    after = open_data(".", AT_16)
    assert after.digest() == before.digest()
    assert "2 figures or runs of kakusan passed over" in after.describe()
    with pytest.raises(InputError, match="1 figures or runs of kakusan"):
        open_data("runs")


def test_images_whose_values_are_0_and_1_are_black_and_white(tmp_path):
    for index in range(4):
        save(tmp_path, f"{index}.png", colors(index, channels=1) % 2)
    data = open_data(tmp_path)
    assert sorted(data.train.unique().tolist()) == [0, 255]
    assert "values 0 and 1 taken as black and white" in data.describe()


def test_alpha_is_kept_if_four_channels_are_asked_for(tmp_path):
    straight = colors(0, 8, 8, 4)
    read = pixels_of(save(tmp_path, "x.png", straight), ImageOptions(channels=4))
    assert np.array_equal(read, straight)
    opaque = pixels_of(save(tmp_path, "y.png", colors(1)), ImageOptions(channels=4))
    assert np.array_equal(opaque[..., :3], colors(1))
    assert (opaque[..., 3] == 255).all()


def test_a_table_that_claims_itself_5000_times_costs_nothing(tmp_path):
    """EXIF and the index of further images (MPF), of which Pillow alone would take 300 MB."""
    whole = encoded(Image.fromarray(colors(1)), "JPEG")
    bombs = [segment(0xE1, b"Exif\0\0" + table_bomb()), segment(0xE2, b"MPF\0" + table_bomb())]
    tracemalloc.start()
    for bomb in bombs:
        (tmp_path / "x.jpg").write_bytes(whole[:2] + bomb + whole[2:])
        assert pixels_of(tmp_path / "x.jpg").shape == (SIDE, SIDE, 3)
    assert tracemalloc.get_traced_memory()[1] < 2**23
    tracemalloc.stop()


def test_other_formats_are_refused_with_a_way_to_convert_them(tmp_path):
    for name in ("a.bmp", "b.tif", "c.heic"):
        (tmp_path / name).write_bytes(b"x")
    assert all("convert('RGB').save('x.png')" in reason for reason in scan(tmp_path, AT_16).bad.values())


def test_a_folder_of_data_is_held_in_memory_once(tmp_path):
    for index in range(40):
        save(tmp_path, f"{index}.png", np.full((200, 200), index, np.uint8))
    tracemalloc.start()
    data = open_data(tmp_path)
    assert len(data.train) == 36
    assert tracemalloc.get_traced_memory()[1] < 1.5 * 40 * 200 * 200  # numpy's part: tensors are torch's
    tracemalloc.stop()


@catches("""data/image_file.py: images are resized by another filter
- Image.Resampling.LANCZOS
+ Image.Resampling.BICUBIC""")
def test_images_are_resized_by_the_lanczos_filter_that_the_description_names(tmp_path):
    pixels = colors(3, 30, 20)
    path = save(tmp_path, "x.png", pixels)
    expected = Image.fromarray(pixels).resize((8, 8), Image.Resampling.LANCZOS, box=(0, 5, 20, 25))
    assert np.array_equal(pixels_of(path, ImageOptions(size=(8, 8))), np.asarray(expected))
    save(tmp_path, "y.png", pixels)
    assert "resized (Lanczos) to 8 x 8" in open_data(tmp_path, ImageOptions(size=(8, 8))).prepared


@catches("""data/image_file.py: the transparent color of a palette is opaque
- transparent = "transparency" in image.info or image.mode
+ transparent = image.mode""")
def test_the_transparent_color_of_a_palette_has_white_behind_it(tmp_path):
    indices = np.array([[0, 1], [1, 0]], np.uint8)
    image = Image.fromarray(indices).convert("P")
    image.putpalette([200, 10, 10, 10, 200, 10])
    path = tmp_path / "x.png"
    path.write_bytes(encoded(image, "PNG", transparency=1))
    assert pixels_of(path).tolist() == [[[200, 10, 10], [255] * 3], [[255] * 3, [200, 10, 10]]]
    assert read_image(path, ImageOptions()).blended


@catches("""data/folder.py: the size of photographs is suggested for training
- {min(SMALL_SIDE, sides.most_common(1)[0][0])}
+ {sides.most_common(1)[0][0]}""")
@catches("""data/folder.py: images with an alpha channel are counted as images of 16 bits
- f"{found.deep:,} of 16 bits, "
+ f"{found.blended:,} of 16 bits, \"""")
def test_a_small_size_is_suggested_and_the_contents_of_a_folder_are_counted():
    found = Scan(names=["a", "b", "c"], color=2, blended=1, deep=3, sizes=Counter({(400, 300): 2, (200, 500): 1}))
    assert _suggestion(found) == "--size 64"
    assert _suggestion(Scan(sizes=Counter({(40, 30): 2, (20, 50): 1}))) == "--size 30"
    assert _contents(found) == (
        "3 images (2 in color, 1 gray, 3 of 16 bits, 1 with an alpha channel): width / height 0.75 to 2.50; "
        "400 x 300 (2), 200 x 500 (1)"
    )


@catches("""data/image_file.py: images of two levels have color
- elif image.mode == "1":
-         image = image.convert("L")
+ elif image.mode == "1":
+         image = image.convert("RGB")""")
def test_an_image_of_two_levels_is_gray(tmp_path):
    levels = colors(0, 6, 5, 1) > 127
    path = save(tmp_path, "x.png", levels)
    with Image.open(path) as image:
        assert image.mode == "1"
    assert np.array_equal(pixels_of(path), levels[..., None] * 255)


@catches("""data/image_file.py: a large JPEG may have as many scans as a small one
- min(MOST_SCANS, MOST_SCANNED // pixels)
+ MOST_SCANS""")
def test_the_scans_of_a_jpeg_are_limited_by_all_their_pixels():
    image = SimpleNamespace(size=(4000, 4000), mode="L", info={}, format="JPEG")
    _check_decoding(cast(Any, image), b"\xff\xda" * 33, 1)  # 33 * 16 million pixels
    with pytest.raises(Unusable, match="34 passes over its pixels, at most 33"):
        _check_decoding(cast(Any, image), b"\xff\xda" * 34, 1)


@catches("""data/forms/base.py: the mean of values is one for each example
- {total / values.numel():.4g}
+ {total / len(values):.4g}""")
def test_the_facts_of_images_are_the_range_and_the_mean_of_their_values(tmp_path):
    np.save(tmp_path / "x.npy", np.array([[[0, 10], [20, 30]], [[40, 50], [60, 255]]], np.uint8))
    data = open_data(tmp_path / "x.npy", whole=True)
    assert data.form.facts(data) == ["values from 0 to 255, mean 58.12"]


def decoding(mode, info, form, width, height):
    bands = {"L": "L", "1": "1", "RGB": "RGB", "RGBA": "RGBA", "P": "P"}[mode]
    return cast(
        Any, SimpleNamespace(mode=mode, info=info, format=form, size=(width, height), getbands=lambda: tuple(bands))
    )


@pytest.mark.parametrize(
    ("mode", "info", "form", "most", "needed"),
    [
        ("L", {}, "PNG", 65_536, 129),  # 64 megapixels, before memory is the limit
        ("RGB", {}, "PNG", 40_960, 161),
        ("RGBA", {}, "PNG", 20_480, 161),
        ("P", {}, "PNG", 13_653, 161),
        ("RGB", {"transparency": 1}, "PNG", 13_653, 161),
        ("RGB", {}, "WEBP", 8_856, 161),
        ("L", {"progressive": 1}, "JPEG", 40_960, 161),
        ("RGB", {"progressive": 1}, "JPEG", 16_384, 161),
    ],
)
def test_the_memory_for_decoding_is_limited_by_the_kind_of_pixels(mode, info, form, most, needed):
    _check_decoding(decoding(mode, info, form, 1024, most), b"", 1)
    with pytest.raises(Unusable) as caught:
        _check_decoding(decoding(mode, info, form, 1024, most + 1), b"", 1)
    assert str(caught.value) == (
        f"1,024 x {most + 1:,} pixels as {form} would take {needed} MiB to decode; the limits are 160 MiB and 64 "
        "megapixels: save it smaller"
    )


def test_the_parts_of_a_file_are_limited_exactly():
    whole = encoded(Image.fromarray(colors(1)), "WEBP")
    pixels, extra = b"\xff\xda\0\0", segment(0xFE, b"")
    beside = chunk(b"tEXt", b"x" * (4 * 2**20 - 13))  # the header has 13 bytes
    for good, bad, words in (
        (png(4, 4, beside=chunk(b"abCd", b"") * 19_997), chunk(b"abCd", b""), "more than 20,000 chunks"),
        (
            png(4, 4, beside=chunk(b"zTXt", b"") * 16),
            chunk(b"iTXt", b""),
            "17 compressed texts or profiles, at most 16",
        ),
        (png(4, 4, beside=beside), chunk(b"tEXt", b"y"), "4 MiB of metadata, at most 4"),
    ):
        assert _opener(good).format == "PNG"
        with pytest.raises(Unusable, match=f"^{words}$"):
            _opener(good[:33] + bad + good[33:])
    assert _opener(JPEG + extra[1:] + extra * 998 + pixels).format == "JPEG"
    with pytest.raises(Unusable, match=r"^more than 1,000 segments before its pixels$"):
        _opener(JPEG + extra[1:] + extra * 999 + pixels)
    for marker in range(0xC0, 0xD0):
        content = JPEG[:2] + segment(marker, b"") + pixels
        if marker in (0xC0, 0xC1, 0xC2, 0xC4, 0xC8, 0xCC):
            assert _opener(content).format == "JPEG"
            continue
        words = rf"^an unusual kind of JPEG \(frame {marker:x}\); save it as an ordinary one$"
        with pytest.raises(Unusable, match=words):
            _opener(content)
    assert _opener(whole).format == "WEBP"
    with pytest.raises(Unusable, match=rf"^truncated \({len(whole):,} bytes announced\)$"):
        _opener(whole[:-1])


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"BM\0\1", "a BMP"),
        (b"II*\0", "a TIFF"),
        (b"MM\0*", "a TIFF"),
        (b"%PDF", "a PDF"),
        (b"PK\3\4", "a zip file"),
        (b"\xff\x0a", "a JPEG XL"),
        (b"\x93NUMPY", "a numpy array"),
        (b"\0\0\0\x1cftypavif", "a HEIF, AVIF or video"),
        (b"words ~\t\r\n", "text"),
        (b"words\x7f", "unknown content (it begins with 77 6f 72 64)"),
        (b"\1\2\3\4\5", "unknown content (it begins with 01 02 03 04)"),
    ],
)
def test_a_file_of_another_format_is_named_by_its_first_bytes(tmp_path, content, words):
    (tmp_path / "x.png").write_bytes(content)
    with pytest.raises(Unusable) as caught:
        read_image(tmp_path / "x.png", ImageOptions())
    assert str(caught.value) == f"{words}, not a PNG, JPEG, WebP or GIF image"


def test_the_size_of_a_folder_is_chosen_from_its_median_and_its_proportions(tmp_path):
    def chosen(*sizes):
        for k, (height, width) in enumerate(sizes):
            (tmp_path / f"{k}.png").write_bytes(png(width, height))
        return choose_size(tmp_path, [f"{k}.png" for k in range(len(sizes))])

    assert chosen((64, 80)) == ((64, 80), "")
    words = "size 64 x 80: the median shorter side is 65, limited to 64; --size sets another"
    assert chosen((65, 81)) == ((64, 80), words)
    assert chosen((7, 9), (7, 9)) == ((7, 9), "")
    assert chosen((4, 8), (5, 10), (6, 12)) == (
        (8, 16),
        "size 8 x 16: the median shorter side is 5; --size sets another",
    )
    wide, square = (20, 40), (20, 20)
    assert chosen(*[wide] * 9, square) == (
        (20, 40),
        "size 20 x 40: the median shorter side is 20; --size sets another",
    )
    assert chosen(*[wide] * 8, square, square)[0] == (20, 20)
    assert chosen(*[(100, 200)] * 8, (100, 206), (100, 194))[0] == (64, 128)
    assert chosen(*[(100, 200)] * 8, (100, 207), (100, 207))[0] == (64, 64)
    assert choose_size(tmp_path, []) is None
    assert choose_size(tmp_path, ["absent.png"]) is None


def test_a_folder_without_images_says_what_it_holds(tmp_path):
    start = f"{tmp_path}: expected images (.png, .jpg, .webp or .gif), or IDX files (train-images-idx3-ubyte), got "
    for count, listing in ((0, "an empty folder"), (4, "0.txt, 1.txt, 2.txt, 3.txt"), (5, None)):
        for k in range(count):
            (tmp_path / f"{k}.txt").write_text("x")
        with pytest.raises(InputError) as caught:
            open_data(tmp_path)
        assert str(caught.value) == start + (listing or "0.txt, 1.txt, 2.txt, 3.txt and 1 more")
    (tmp_path / "run.json").write_text("{}")
    with pytest.raises(InputError, match=r"got 0.txt.* and 2 more \(1 figures or runs of kakusan passed over\)$"):
        open_data(tmp_path)


def test_the_most_common_sizes_of_a_folder_are_listed_first():
    sizes = Counter({(9, 9): 1, (8, 9): 1, (70, 90): 2000, (5, 6): 3, (4, 6): 3, (3, 3): 1, (2, 2): 1})
    assert _sizes(Scan(sizes=sizes)) == ("70 x 90 (2,000), 4 x 6 (3), 5 x 6 (3), 2 x 2 (1), 3 x 3 (1), 2 other sizes")


def test_every_change_to_the_images_of_a_folder_is_described():
    sizes = Counter({(4, 20): 2, (6, 6): 1, (30, 60): 9})
    found = Scan(names=[f"{k}.png" for k in range(12)], sizes=sizes, tiny=["0.png", "1.png", "2.png"], color=5)
    found.blended, found.deep, found.animated, found.others, found.made_here = 3, 2, 4, 1, 6
    found.bad, found.parts = {"x.png": "empty"}, ("train", "test")
    resized = "cropped in the middle and resized (Lanczos) to 8 x 9 from 30 x 60 (9), 4 x 20 (2), 6 x 6 (1)"
    small = "3 images smaller than 8 pixels enlarged, the smallest 4 x 20 (0.png, 1.png)"
    others = [
        "3 with an alpha channel put on white",
        "2 of 16 bits reduced to their upper 8",
        "4 animated ones: first frame only",
    ]
    rest = [
        "1 bad files left out",
        "only the folders train and test are read",
        "1 other file passed over",
        "6 figures or runs of kakusan passed over",
    ]
    gray, color = "7 gray ones as color", "5 color ones as gray (ITU-R 601 luma)"
    assert _preparation(found, ImageOptions((8, 9)), 3).split("; ") == [resized, small, *others, gray, *rest]
    assert _preparation(found, ImageOptions((7, 9)), 1).split("; ")[1:] == [*others, color, *rest]
    assert _preparation(Scan(names=["a.png"], sizes=Counter({(8, 9): 1}), color=1), ImageOptions((8, 9)), 3) == ""
    assert _contents(found) == (
        "12 images (5 in color, 7 gray, 2 of 16 bits, 3 with an alpha channel): width / height 1.00 to 5.00; "
        "30 x 60 (9), 4 x 20 (2), 6 x 6 (1)"
    )
