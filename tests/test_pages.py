"""The theory pages: every equation has code and tests, every block runs, and both languages say the same."""

import ast
import re
import shlex

import pytest

import kakusan as kk
from harness.equations import Place, equations, place_of, proofs_of
from harness.pages import ROOT, blocks
from harness.support import call

DOCS = ROOT / "docs"
THEORY = sorted((DOCS / "theory").glob("*.md"))
JAPANESE = sorted(path.relative_to(DOCS / "ja") for path in (DOCS / "ja").rglob("*.md") if path.name != "index.md")
RUNNABLE = [*THEORY, *sorted((DOCS / "research").glob("*.md"))]
COMMANDS = [
    line
    for path in sorted([*(DOCS / "start").glob("*.md"), *RUNNABLE])
    for block in blocks(str(path.relative_to(ROOT)), "sh")
    for line in block.splitlines()
    if line.startswith("kakusan ")
]
FENCE = re.compile(r"^```(\S+).*\n((?:.*\n)*?)```$", re.MULTILINE)
LINK = re.compile(r"\]\(([^)#\s]*)(?:#([\w.-]+))?\)")


def name(path):
    """Name of a page in a report."""
    return str(path.relative_to(DOCS))


@pytest.mark.parametrize("page", RUNNABLE, ids=name)
def test_the_blocks_of_a_page_run_in_order(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names: dict = {}
    for number, code in enumerate(blocks(str(page.relative_to(ROOT)), "python")):
        exec(compile(code, f"{page.name} block {number}", "exec"), names)


@pytest.mark.parametrize("page", THEORY, ids=name)
def test_every_equation_has_code_and_tests(page):
    found = equations(page.read_text(encoding="utf-8"))
    assert len(found) >= (page.name != "traps.md")
    for equation in found:
        assert [place_of(code) for code in equation.code] != []
        assert proofs_of(equation.statements) != []


@pytest.mark.parametrize("page", THEORY, ids=name)
def test_a_theory_page_has_a_script_and_two_exercises_with_checked_answers(page):
    script, exercises = page.read_text(encoding="utf-8").split("## Exercises")
    assert "```python" in script
    assert re.findall(r"^\*\*(\d)\.\*\*", exercises, re.MULTILINE) == ["1", "2"]
    answers = re.findall(r"<details>(.*?)</details>", exercises, re.DOTALL)
    assert ["assert " in answer for answer in answers] == [True, True]


@pytest.mark.parametrize("page", THEORY, ids=name)
def test_every_theory_page_exists_in_japanese(page):
    assert page.relative_to(DOCS) in JAPANESE


@pytest.mark.parametrize("page", JAPANESE, ids=str)
def test_both_languages_have_the_same_equations_code_and_links(page):
    english, japanese = ((folder / page).read_text(encoding="utf-8") for folder in (DOCS, DOCS / "ja"))
    assert equations(english) == equations(japanese)
    assert cells(english) == cells(japanese)
    assert targets(english, DOCS / page) == targets(japanese, DOCS / "ja" / page)
    assert english.count("\n#") == japanese.count("\n#")


def cells(text):
    """Code of a page: Python without its comments, other blocks as they are."""
    return [ast.dump(ast.parse(code)) if kind == "python" else (kind, code) for kind, code in FENCE.findall(text)]


def targets(text, page):
    """Pages that a page links to, without their language."""
    found = {((page.parent / path).resolve(), anchor) for path, anchor in LINK.findall(text) if path}
    return {(str(path.relative_to(DOCS)).removeprefix("ja/"), anchor) for path, anchor in found}


def test_japanese_pages_are_in_japanese_and_say_that_the_book_is_independent():
    for page in JAPANESE:
        assert re.search("[ぁ-ん]", (DOCS / "ja" / page).read_text(encoding="utf-8"))
    for page in (DOCS / "theory" / "traps.md", DOCS / "theory.md"):
        assert "independent of the book's author and publisher" in page.read_text(encoding="utf-8")
    for page in (DOCS / "ja" / "index.md", DOCS / "ja" / "theory" / "traps.md"):
        assert "書籍の著者・出版社とは無関係" in page.read_text(encoding="utf-8")


@pytest.mark.parametrize("lost", ["kakusan.bound.elbow", "kakusan.Diffusion.elbo_triple", "kakusan.nowhere.elbo"])
def test_an_equation_whose_function_is_gone_is_found(lost):
    with pytest.raises(ValueError, match="there is no kakusan"):
        place_of(lost)


@pytest.mark.parametrize(("lost", "words"), [("X1", "defines no X1"), ("E2", "no test proves E2")])
def test_an_equation_whose_tests_are_gone_is_found(lost, words):
    with pytest.raises(ValueError, match=words):
        proofs_of(("S7", lost))


def test_a_place_is_the_line_of_a_definition():
    place = place_of("kakusan.Diffusion.elbo_pair")
    assert place.file == "src/kakusan/models/diffusion.py"
    assert "def elbo_pair" in (ROOT / place.file).read_text(encoding="utf-8").splitlines()[place.line - 1]
    assert isinstance(proofs_of(("S7",))[0], Place)


def test_every_public_name_is_in_the_reference():
    reference = (DOCS / "reference" / "api.md").read_text(encoding="utf-8")
    modules = {"data", "measure", "nets", "objectives", "oracles", "solvers"}
    for public in set(kk.__all__) - modules:
        assert f" kakusan.{public}\n" in reference
    for module in modules:
        assert f"## kakusan.{module}\n" in reference


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Folder with a small run in runs/demo, as the pages use it."""
    home = tmp_path_factory.mktemp("pages")
    kk.train("mnist-ddpm", steps=1, out=home / "runs" / "demo")
    return home


@pytest.mark.slow
@pytest.mark.parametrize("line", COMMANDS)
def test_the_commands_of_the_pages_run(line, folder, capsys, monkeypatch):
    monkeypatch.chdir(folder)
    words = shlex.split(line, comments=True)[1:]
    small = {"sample": ["-n", "2", "--out", str(folder / f"samples{len(line)}")], "evaluate": ["--limit", "20"]}
    small["ladder"] = ["--steps", "1", "--limit", "20", "--samples", "0"]
    words = [word for word in words if word not in ("--limit", "1000")] + small.get(words[0], [])
    code, out, err = call(capsys, *words)
    assert code == 0, f"{line}\n{out}{err}"
