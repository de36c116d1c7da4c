"""The report of kakusan data: duplicates, memory, time, a figure, and the deletion of a cache."""

from types import SimpleNamespace

import numpy as np
import torch
from PIL import Image

from harness.faults import catches
from harness.image_corpus import colors
from harness.support import call
from kakusan.data import duplicates as module
from kakusan.data import scan
from kakusan.data.duplicates import duplicates
from kakusan.data.forms import base
from kakusan.data.open import open_data
from kakusan.run.quality import can_measure


def smooth(seed: int) -> torch.Tensor:
    """An image of 4 x 4 random squares, uint8 (3, 16, 16)."""
    draw = torch.randint(20, 236, (3, 4, 4), generator=torch.Generator().manual_seed(seed), dtype=torch.uint8)
    return draw.repeat_interleave(4, 1).repeat_interleave(4, 2)


@catches("""data/duplicates.py: an image is its own near duplicate
- .tril(start - 1)
+ .tril(start)""")
@catches("""data/duplicates.py: equal images are counted twice
- len(images) - len(distinct)
+ 2 * (len(images) - len(distinct))""")
def test_equal_and_nearly_equal_images_are_counted(monkeypatch):
    monkeypatch.setattr("kakusan.data.duplicates.ROWS", 3)
    images = [smooth(seed) for seed in range(8)]
    images += [images[2], images[2], images[5] + 2, images[0].flip(2)]
    found = duplicates(torch.stack(images))
    assert (found.equal, found.near, found.compared) == (2, 1, 10)
    assert found.examples == [(5, 10)]


def test_flat_images_are_near_duplicates_only_if_equal():
    found = duplicates(torch.stack([torch.full((1, 8, 8), value, dtype=torch.uint8) for value in (10, 10, 12)]))
    assert (found.equal, found.near) == (1, 0)


@catches("""data/duplicates.py: all images are read at once
- rows.split(at_once)
+ rows.split(len(rows))""")
def test_duplicates_are_found_across_parts_with_few_images_in_memory(monkeypatch):
    monkeypatch.setattr(module, "NUMBERS_AT_ONCE", 3 * smooth(0).numel())
    sizes, small = [], module._small
    monkeypatch.setattr(module, "_small", lambda some: (sizes.append(len(some)), small(some))[1])
    train = torch.stack([smooth(seed) for seed in range(6)])
    found = duplicates(train, torch.stack([train[2], train[4] + 2]))
    assert (found.equal, found.near, found.compared, found.examples) == (1, 1, 7, [(4, 7)])
    assert sizes == [3, 3, 1]


@catches("""data/forms/base.py: a part holds all examples
- max(1, NUMBERS_AT_ONCE // max(1, examples[:1].numel()))
+ len(examples)""")
def test_examples_are_compared_in_parts_of_few_values(monkeypatch):
    monkeypatch.setattr(base, "NUMBERS_AT_ONCE", 100)
    assert [len(part) for part in base.in_parts(torch.zeros(7, 1, 6, 6))] == [2, 2, 2, 1]
    assert [len(part) for part in base.in_parts(torch.zeros(2, 1, 20, 20))] == [1, 1]


def test_the_time_of_large_images_is_not_measured(tmp_path, capsys):
    Image.fromarray(colors(0, 270, 260)).save(tmp_path / "one.png")
    Image.fromarray(colors(1, 270, 260)).save(tmp_path / "two.png")
    code, out, _ = call(capsys, "data", tmp_path, "--size", "270x260")
    assert code == 0
    assert "not measured for images larger than 256 x 256; --size 256" in out


def test_the_report_has_duplicates_memory_time_figure_and_command(tmp_path, capsys):
    folder = tmp_path / "photos"
    folder.mkdir()
    for seed in range(10):
        Image.fromarray(colors(seed, 20 + seed, 30)).save(folder / f"{seed}.png")
    Image.fromarray(colors(3, 23, 30)).save(folder / "again.png")
    figure = tmp_path / "figure.png"
    code, out, err = call(capsys, "data", folder, "--figure", figure)
    assert code == 0, err
    assert "size 24 x 24: the median shorter side" in err
    assert "width / height 1.03 to 1.50" in out
    assert "duplicates: 1 equal, 0 nearly equal" in out
    assert "MiB of pixels" in out
    assert "images/s here, an epoch in" in out
    assert f"train on it with: kakusan train images --data {folder}" in out.replace("python -m ", "")
    with Image.open(figure) as shown:
        assert shown.size[0] > 24
    code, out, _ = call(capsys, "data", tmp_path / "photos", "--size", 8)
    assert "11 color images, 8 x 8" in out


def test_a_cache_is_forgotten_on_request(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(scan, "CACHE_FROM", 500)
    folder, root = tmp_path / "photos", tmp_path / "cache"
    folder.mkdir()
    for seed in range(10):
        Image.fromarray(colors(seed, 9, 9)).save(folder / f"{seed}.png")
    assert call(capsys, "data", folder, "--cache", root)[0] == 0
    assert [path for path in root.iterdir() if path.is_dir()]
    code, out, _ = call(capsys, "data", folder, "--cache", root, "--forget")
    assert code == 0
    assert "bytes deleted" in out
    assert not [path for path in root.iterdir() if path.is_dir()]


@catches("""run/quality.py: samples of series are taken for images
- dataset.form.has_pixels
+ dataset.form.has_figure""")
def test_series_are_described_and_drawn_but_never_compared_as_images(tmp_path, capsys):
    walks, figure = tmp_path / "walks.npy", tmp_path / "walks.png"
    np.save(walks, np.random.default_rng(0).normal(size=(1200, 12, 2)))
    code, out, err = call(capsys, "data", walks, "--figure", figure)
    assert code == 0, err
    assert "1,200 series of length 12 with 2 channels" in out
    assert "duplicates" not in out
    with Image.open(figure) as shown:
        assert shown.size[0] > shown.size[1] / 2
    dataset = open_data(walks)
    assert not can_measure(SimpleNamespace(event_shape=dataset.event_shape), dataset, 1000)


@catches("""cli/commands.py: a figure of data without one is left out in silence
- if command.figure is not None:
+ if command.figure is not None and dataset.form.has_figure:""")
def test_a_figure_of_a_table_is_refused(tmp_path, capsys):
    table, figure = tmp_path / "t.csv", tmp_path / "t.png"
    table.write_text("a,b\n" + "".join(f"{row}.5,{row % 3}\n" for row in range(40)))
    code, _, err = call(capsys, "data", table, "--figure", figure)
    assert code == 2
    assert f"tables have no figure; omit {figure}" in err
    assert not figure.exists()


def test_counts_have_no_figure_and_no_duplicates(tmp_path, capsys):
    np.save(tmp_path / "x.npy", np.arange(40).reshape(10, 4))
    code, out, _ = call(capsys, "data", tmp_path / "x.npy")
    assert code == 0
    assert "duplicates" not in out
