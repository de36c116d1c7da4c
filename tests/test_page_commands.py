"""The shell commands of the pages about labels, images, tables and tools run in the order in which they stand."""

import dataclasses

import numpy as np
import pytest
from PIL import Image

from harness.pages import blocks, commands, shortened
from harness.support import call
from kakusan.data import digits

PAGES = ("labels", "images", "tables", "tools")


@pytest.fixture
def home(tmp_path, monkeypatch):
    """Folder with small data of the names that the pages use; mnist has 400 digits to train on, and 40 held out."""
    whole, rng = digits.mnist(), np.random.default_rng(0)
    assert whole.train_cond is not None
    assert whole.test_cond is not None
    small = dataclasses.replace(
        whole,
        train=whole.train[:400],
        test=whole.test[:40],
        train_cond=whole.train_cond[:400],
        test_cond=whole.test_cond[:40],
    )
    monkeypatch.setattr(digits, "mnist", lambda: small)
    monkeypatch.chdir(tmp_path)
    for folder in ("photos/cat", "photos/dog", "new-photos", "others/cat", "others/dog"):
        (tmp_path / folder).mkdir(parents=True)
        for number in range(12):
            pixels = rng.integers(0, 255, (12, 12)).astype(np.uint8)
            Image.fromarray(pixels).save(tmp_path / folder / f"{number}.png")
    (tmp_path / "few.csv").write_text("name,label\n" + "".join(f"{k},{whole.train_cond[k]}\n" for k in range(40)))
    cities, heights = ("Kyoto", "Oslo", "Rome"), [f"{170 + 9 * rng.normal():.1f}" for _ in range(60)]
    rows = [f"{100 + k},{20 + k % 31},{cities[k % 3]},{'' if k % 9 == 4 else heights[k]}" for k in range(60)]
    (tmp_path / "people.csv").write_text("\n".join(["id,age,city,height", *rows, ""]))
    np.save(tmp_path / "walks.npy", rng.normal(size=(40, 16, 2)).cumsum(1))
    return tmp_path


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES)
def test_the_commands_of_a_page_run_in_order(page, home, capsys):
    for line in commands(f"docs/{page}.md"):
        code, out, err = call(capsys, *shortened(line))
        assert code == 0, f"{line}\n{out}{err}"


def test_the_python_of_the_page_of_tables_runs(home):
    for number, code in enumerate(blocks("docs/tables.md", "python")):
        names: dict = {}
        exec(compile(code.replace("steps=50", "steps=2"), f"tables.md block {number}", "exec"), names)
        assert names["rows"].shape == (10, 4)


def test_a_shortened_command_keeps_what_it_is_about():
    assert shortened("kakusan train tables --data p.csv --minutes 5 --out r  # a remark") == [
        *("train", "tables", "--data", "p.csv", "--out", "r", "--steps", "2")
    ]
    assert shortened("kakusan train images --data p --init r")[2:] == ["--data", "p", "--init", "r", "--steps", "2"]
    assert shortened("kakusan train --resume r --minutes 60") == ["train", "--resume", "r", "--steps", "4"]
    assert shortened("kakusan sample r -n 64 --label cat") == ["sample", "r", "--label", "cat", "-n", "2"]
    assert shortened("kakusan evaluate r --error 0.002")[-2:] == ["--error", "1.0"]
