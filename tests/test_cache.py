"""Data larger than memory: converted once to files that are mapped, equal to the data in memory."""

import hashlib
import os
import re
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from harness.faults import catches
from harness.image_corpus import colors
from kakusan.data import arrays, cache, scan
from kakusan.data.open import open_data
from kakusan.data.options import ImageOptions
from kakusan.errors import InputError

SIDE = 8


@pytest.fixture
def photos(tmp_path, monkeypatch):
    """A folder of 40 images, with a limit of memory that 10 of them exceed."""
    monkeypatch.setattr(scan, "CACHE_FROM", 10 * 3 * SIDE**2)
    for index in range(40):
        path = tmp_path / "photos" / "ab"[index % 2] / f"{index}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(colors(index, SIDE, SIDE)).save(path)
    return tmp_path / "photos"


def options(folder: Path, **other) -> ImageOptions:
    return ImageOptions(cache=str(folder.parent / "data-cache"), **other)


def folders(photos: Path) -> list[Path]:
    return sorted(path for path in (photos.parent / "data-cache").iterdir() if path.is_dir())


@catches("""data/cache.py: the rows of a part are not those of the split
- everything[rows[start : start + ROWS], :channels]
+ everything[start : start + len(rows[start : start + ROWS]), :channels]""")
def test_cached_data_equal_those_in_memory(photos, monkeypatch):
    monkeypatch.setattr(cache, "ROWS", 7)
    cached, plain = open_data(photos, options(photos)), open_data(photos)
    assert len(folders(photos)) == 1
    assert torch.equal(cached.train, plain.train)
    assert torch.equal(cached.test, plain.test)
    assert cached.digest() == plain.digest()
    assert cached.matches(plain.digest())
    assert (cached.classes, cached.describe()) == (plain.classes, plain.describe())
    assert cached.train_cond is not None
    assert torch.equal(cached.train_cond, plain.train_cond)
    assert torch.equal(cached.train[torch.tensor([3, 1])], plain.train[[3, 1]])


def test_cached_data_are_not_read_again(photos, monkeypatch):
    first = open_data(photos, options(photos))
    monkeypatch.setattr(scan, "read_image", lambda *_: pytest.fail("read again"))
    assert open_data(photos, options(photos)).digest() == first.digest()


def test_gray_images_are_cached_with_one_channel(photos):
    for path in photos.glob("*/*.png"):
        Image.open(path).convert("L").save(path)
    cached = open_data(photos, options(photos))
    assert cached.event_shape == (1, SIDE, SIDE)
    assert cached.digest() == open_data(photos).digest()


def test_cached_images_of_0_and_1_are_black_and_white(photos):
    for path in photos.glob("*/*.png"):
        Image.fromarray(np.asarray(Image.open(path)) % 2).save(path)
    cached, plain = open_data(photos, options(photos)), open_data(photos)
    assert cached.digest() == plain.digest()
    assert "values 0 and 1 taken as black and white" in cached.describe()


@catches("""data/cache.py: a cache of other files is used
- (record.get("format"), record.get("state")) == (FORMAT, self.state)
+ record.get("format") == FORMAT""")
def test_changed_files_are_converted_again(photos):
    before = open_data(photos, options(photos))
    Image.fromarray(colors(99, SIDE, SIDE)).save(photos / "a" / "0.png", compress_level=0)
    after = open_data(photos, options(photos))
    assert after.digest() != before.digest()
    assert after.digest() == open_data(photos).digest()
    assert len(folders(photos)) == 1


@catches("""data/folder.py: changed labels of cached images stay the old ones
- [*names, *tables_of(path, options.labels)]
+ names""")
def test_a_changed_table_of_labels_is_read_again(photos):
    for label in ("cat", "bird"):
        rows = "".join(f"a/{index}.png,{label}\nb/{index + 1}.png,dog\n" for index in range(0, 40, 2))
        (photos / "labels.csv").write_text(rows)
        assert open_data(photos, options(photos)).classes == tuple(sorted((label, "dog")))


@catches("""data/cache.py: a damaged cache is used
- dataset.digest() != record["digest"]
+ False""")
def test_a_damaged_cache_is_refused_and_named(photos):
    open_data(photos, options(photos))
    path = folders(photos)[0] / "train.u8"
    content = bytearray(path.read_bytes())
    content[5] ^= 1
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"is damaged.*--forget"):
        open_data(photos, options(photos))


@catches("""data/cache.py: data without labels are read from the cache of those with labels [other2-False]
- options.labels, whole]
+ None, whole]""")
@catches("""data/cache.py: whole data are read from the cache of those with a held-out part [other3-True]
- options.labels, whole]
+ options.labels]""")
@pytest.mark.parametrize(
    ("other", "whole"),
    [({"size": (4, 4)}, False), ({"channels": 1}, False), ({"labels": "none"}, False), ({}, True)],
)
def test_other_options_have_another_cache(photos, other, whole):
    open_data(photos, options(photos))
    changed = open_data(photos, options(photos, **other), whole=whole)
    plain = open_data(photos, ImageOptions(**other), whole=whole)
    assert changed.digest() == plain.digest()
    assert changed.describe() == plain.describe()
    assert changed.classes == plain.classes


def test_small_data_stay_in_memory(photos, monkeypatch):
    monkeypatch.setattr(scan, "CACHE_FROM", 2**20)
    open_data(photos, options(photos))
    assert not (photos.parent / "data-cache").exists()


def test_an_interrupted_conversion_leaves_nothing(photos, monkeypatch):
    real, count = scan.read_image, []

    def interrupted(path, wanted):
        count.append(path)
        if len(count) == 30:
            raise KeyboardInterrupt
        return real(path, wanted)

    monkeypatch.setattr(scan, "read_image", interrupted)
    with pytest.raises(KeyboardInterrupt):
        open_data(photos, options(photos))
    assert folders(photos) == []
    monkeypatch.setattr(scan, "read_image", real)
    assert open_data(photos, options(photos)).digest() == open_data(photos).digest()


@catches("""data/cache.py: images without the bad files are read where bad files are refused
- options.bad, options.labels
+ options.labels""")
def test_bad_files_are_refused_and_leave_no_cache(photos):
    (photos / "z.png").write_bytes(b"no image")
    with pytest.raises(InputError, match="1 of 41 files are not usable"):
        open_data(photos, options(photos))
    assert folders(photos) == []
    skipped = open_data(photos, options(photos, bad="skip"))
    assert skipped.digest() == open_data(photos, ImageOptions(bad="skip")).digest()
    assert list(open_data(photos, options(photos, bad="skip")).skipped) == ["z.png"]
    with pytest.raises(InputError, match="1 of 41 files are not usable"):  # also where the others are cached
        open_data(photos, options(photos))


@catches("""data/cache.py: after five seconds every image has a line
- self.told = time.monotonic()
+ pass""")
@catches("""data/scan.py: reading a folder shows no progress
- tick(index)
+ pass""")
def test_the_progress_of_reading_is_told_every_five_seconds(photos, monkeypatch):
    now, said, real = [0.0], [], scan.read_image
    monkeypatch.setattr(cache, "time", SimpleNamespace(monotonic=lambda: now[0]))

    def slow(path, wanted):
        now[0] += 1.0
        return real(path, wanted)

    monkeypatch.setattr(scan, "read_image", slow)
    open_data(photos, tell=said.append)
    assert said == [f"photos: {done} of 40 images converted" for done in (6, 12, 18, 24, 30, 36)]


def test_another_process_that_was_faster_is_waited_for(photos):
    """Its cache is found after the lock is free, and this process converts nothing."""
    one = open_data(photos, options(photos))
    done, away = folders(photos)[0], photos.parent / "away"
    shutil.move(done, away)
    real = cache.Cache.start

    def start(self, shape):
        shutil.move(away, done)
        return real(self, shape)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cache.Cache, "start", start)
        assert open_data(photos, options(photos)).digest() == one.digest()


@catches("""data/cache.py: a record is read through a link [link]
- content = files.read_regular(path, MOST_RECORD, follow=False)
+ content = path.read_bytes()""")
@pytest.mark.parametrize("kind", ["list", "text", "deep", "fifo", "link"])
def test_a_record_that_is_none_is_refused_at_once(photos, kind):
    open_data(photos, options(photos))
    record = folders(photos)[0] / cache.RECORD
    content = {"list": b"[]", "text": b"\xff", "deep": b"[" * 100_000}.get(kind)
    kept = record.rename(record.with_name("kept"))
    if kind == "fifo":
        os.mkfifo(record)
    elif kind == "link":
        record.symlink_to(kept)
    else:
        record.write_bytes(content)
    for use in (lambda: open_data(photos, options(photos)), lambda: cache.forget(record.parent.parent, photos)):
        with pytest.raises(InputError, match=re.escape(str(record))):
            use()
    record.unlink()


def test_a_forgotten_source_frees_its_bytes(photos):
    open_data(photos, options(photos))
    root = photos.parent / "data-cache"
    assert cache.forget(root, photos.parent) == 0
    assert cache.forget(root, photos) > 40 * 3 * SIDE**2
    assert folders(photos) == []


@pytest.mark.parametrize("shape", [(50, 8, 8), (50, 8, 8, 3), (50, 3, 8, 8)])
@pytest.mark.parametrize("whole", [False, True])
def test_a_large_array_is_cached_as_it_would_be_read(tmp_path, monkeypatch, shape, whole):
    monkeypatch.setattr(arrays, "CACHE_FROM", 1000)
    np.save(tmp_path / "x.npy", np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8))
    wanted = ImageOptions(cache=str(tmp_path / "data-cache"))
    cached, plain = (open_data(tmp_path / "x.npy", each, whole=whole) for each in (wanted, ImageOptions()))
    assert cached.digest() == plain.digest()
    assert cached.describe() == plain.describe()
    assert open_data(tmp_path / "x.npy", wanted, whole=whole).digest() == plain.digest()


@catches("""data/large_array.py: a large array of few dark images is taken for black and white [True]
- (0 and 255)" if pixels.most == 1
+ (0 and 255)" if array[:2].max() == 1""")
@pytest.mark.parametrize("whole", [False, True])
def test_the_first_images_of_a_large_array_do_not_describe_the_others(tmp_path, monkeypatch, whole):
    monkeypatch.setattr(arrays, "CACHE_FROM", 1000)
    values = np.random.default_rng(0).integers(0, 256, (50, 8, 8), dtype=np.uint8)
    values[:2] %= 2
    np.save(tmp_path / "x.npy", values)
    wanted = ImageOptions(cache=str(tmp_path / "data-cache"))
    cached, plain = (open_data(tmp_path / "x.npy", each, whole=whole) for each in (wanted, ImageOptions()))
    assert cached.digest() == plain.digest()
    assert cached.describe() == plain.describe()


@catches("""data/large_array.py: a large array of series is taken for images
- array.ndim == ROWS_NDIM or is_series(array)
+ array.ndim == ROWS_NDIM""")
@pytest.mark.parametrize("shape", [(50, 9, 2), (300, 4)])
def test_large_arrays_of_series_and_of_numbers_are_read_as_small_ones(tmp_path, monkeypatch, shape):
    np.save(tmp_path / "x.npy", np.random.default_rng(0).normal(size=shape).round())
    columns = "column2=categorical" if len(shape) == 2 else None
    plain = open_data(tmp_path / "x.npy", ImageOptions(columns=columns))
    monkeypatch.setattr(arrays, "CACHE_FROM", 1000)
    large = open_data(tmp_path / "x.npy", ImageOptions(cache=str(tmp_path / "data-cache"), columns=columns))
    assert (large.kind, large.digest(), large.columns) == (plain.kind, plain.digest(), plain.columns)


def test_the_progress_of_a_conversion_is_told_after_five_seconds_each(monkeypatch):
    now, lines = [0.0], []
    monkeypatch.setattr(cache.time, "monotonic", lambda: now[0])
    tick = cache.Ticker(lines.append, "x\n", 20_000)
    for seconds, done in ((5.0, 1), (5.5, 1000), (10.4, 1001), (10.6, 1002)):
        now[0] = seconds
        tick(done)
    assert lines == ["x\\n: 1,000 of 20,000 images converted", "x\\n: 1,002 of 20,000 images converted"]


def test_the_state_of_files_is_their_names_sizes_and_times(tmp_path):
    paths = [tmp_path / name for name in ("a", "b")]
    for path in paths:
        path.write_bytes(b"1")
        os.utime(path, ns=(5, 7))
    first = cache.state_of_files(tmp_path, ["a", "b"])
    assert first == hashlib.sha256(b"a\0" + b"1 7\nb\0" + b"1 7\n").hexdigest()
    assert cache.state_of_files(tmp_path, ["c"]) == hashlib.sha256(b"c\0unreadable\n").hexdigest()


def test_the_record_of_a_cache_that_is_none_is_named(tmp_path):
    path = tmp_path / "cache.json"
    with pytest.raises(InputError) as caught:
        cache._read_record(path)
    assert str(caught.value) == f"{path} cannot be read (No such file or directory); delete its folder"
    path.write_text("[]")
    with pytest.raises(InputError) as caught:
        cache._read_record(path)
    assert str(caught.value) == f"{path} is not the record of a cache; delete its folder"
