"""The README is short, and its code blocks and commands run in the order in which they stand."""

import re
import shlex

import pytest
import torch

import kakusan as kk
from harness.pages import ROOT, blocks, prose
from harness.support import call

PYTHON = blocks("README.md", "python")
COMMANDS = [line for block in blocks("README.md", "sh") for line in block.splitlines() if line.startswith("kakusan ")]
SMALL = [  # budgets and sizes of the README, and those of the tests
    (r"range\(2000\)", "range(2)"),
    (r"\(48,\)", "(4,)"),
    (r"\.train / ", ".train[:200] / "),
    (r"num_steps=1000", "num_steps=20"),
    (r"cosine\(1000\)", "cosine(20)"),
    (r"sample\(chain, 16", "sample(chain, 2"),
]


def smaller(code: str) -> str:
    """The same code with budgets for a test."""
    for long, short in SMALL:
        code = re.sub(long, short, code)
    return code


def test_the_readme_has_at_most_130_lines_and_30_numbers():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 130
    assert len(re.findall(r"\d[\d.,]*", prose("README.md"))) <= 30


def test_every_small_budget_replaces_one_of_the_readme():
    text = "".join(PYTHON)
    assert [long for long, _ in SMALL if not re.search(long, text)] == []


@pytest.fixture(scope="module")
def names(tmp_path_factory):
    """Names that the Python blocks of the README define, run in order in an empty folder."""
    found: dict = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("readme"))
        torch.manual_seed(0)
        for number, code in enumerate(PYTHON):
            exec(compile(smaller(code), f"README.md block {number}", "exec"), found)
    return found


def test_the_python_blocks_run_in_order(names):
    assert names["samples"].shape == (2, 1, 28, 28)
    assert names["nats"].shape == (100,)
    assert names["loss"].isfinite()


def test_the_exact_world_of_the_readme_has_the_bound_that_it_says(names):
    bounds, exact = names["bounds"], names["world"].exact_elbo(names["betas"])
    assert (bounds.mean() - exact).abs() < 4.5 * bounds.std() / len(bounds) ** 0.5  # false alarm 7e-6


def test_a_loop_of_the_users_own_has_at_most_25_lines_of_public_names():
    lines = [line for line in PYTHON[0].splitlines() if line.strip()]
    assert len(lines) <= 25
    assert set(re.findall(r"^(?:import|from) (\S+)", PYTHON[0], re.MULTILINE)) == {"torch", "kakusan"}
    for name in re.findall(r"\bkk\.(\w+)", "".join(PYTHON)):
        assert name in dir(kk)


def test_the_readme_in_japanese_has_the_same_code_and_commands():
    for language in ("python", "sh"):
        assert blocks("README.ja.md", language) == blocks("README.md", language)
    text = (ROOT / "README.ja.md").read_text(encoding="utf-8")
    assert "書籍の著者・出版社とは無関係" in text
    assert len(text.splitlines()) <= 130
    assert "README.ja.md" in (ROOT / "README.md").read_text(encoding="utf-8").splitlines()[2]


def test_the_commands_run_in_order(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for line in COMMANDS:
        words = shlex.split(line, comments=True)[1:]
        if "--steps" in words:
            words[words.index("--steps") + 1] = "4" if "--resume" in words else "2"
        if "RUN" in words or "RECIPE" in words:
            continue
        code, out, err = call(capsys, *words)
        assert code == 0, f"{line}\n{out}{err}"
