"""The numbered examples run, use public names only, and are listed in docs/examples.md."""

import ast
import re
import runpy

import pytest
import torch

from harness.pages import ROOT

EXAMPLES = sorted((ROOT / "examples").glob("[0-9][0-9]_*.py"))
PAGE = (ROOT / "docs" / "examples.md").read_text(encoding="utf-8")
PUBLIC = {"kakusan", *(f"kakusan.{name}" for name in ("data", "measure", "nets", "objectives", "oracles", "solvers"))}


@pytest.fixture
def own_state(monkeypatch, tmp_path):
    """A folder of its own, and the random state of torch as it was before."""
    monkeypatch.chdir(tmp_path)
    with torch.random.fork_rng():
        yield tmp_path


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_runs_prints_and_leaves_nothing_behind(path, own_state, capsys):
    runpy.run_path(str(path), run_name="__main__")
    assert len(capsys.readouterr().out.splitlines()) >= 3
    assert list(own_state.iterdir()) == []


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_is_a_notebook_with_a_title_and_cells_in_turn(path):
    text = path.read_text(encoding="utf-8")
    assert re.match(r"# %% \[markdown\]\n# # \S", text)
    cells = re.split(r"^# %%", text, flags=re.MULTILINE)[1:]
    for cell in cells:
        if cell.startswith(" [markdown]"):
            assert all(line.startswith("#") or not line for line in cell.splitlines()[1:])
    assert sum(not cell.startswith(" [markdown]") for cell in cells) >= 2


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_imports_public_modules_only(path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    modules = [node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    modules += [alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names]
    ours = [module for module in modules if module.split(".")[0] == "kakusan"]
    assert ours
    assert all(".".join(module.split(".")[:2]) in PUBLIC for module in ours)


def test_the_page_lists_every_example_once_with_one_sentence():
    rows = re.findall(r"^\| \[(.+?)\]\(\.\./examples/(.+?)\) \| (.+?) \|$", PAGE, re.MULTILINE)
    assert [shown for shown, *_ in rows] == [file for _, file, _ in rows] == [path.name for path in EXAMPLES]
    for *_, sentence in rows:
        assert sentence.count(". ") == 0
        assert sentence.endswith(".")


def test_the_site_shows_every_example_once():
    assert re.findall(r"^<!-- example: (\S+) -->$", PAGE, re.MULTILINE) == [path.name for path in EXAMPLES]
