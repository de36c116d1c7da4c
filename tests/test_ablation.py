"""The ablation from book-ddpm to mnist-ddpm: its ends are those recipes, and a finished row is not measured again."""

import argparse
import importlib
import itertools
import json
import re
import sys
from pathlib import Path

import pytest

from kakusan.recipes import find

FOLDER = Path(__file__).parent.parent / "benchmarks"


@pytest.fixture
def ablation(monkeypatch):
    """The script as a module, forgotten after the test."""
    before = set(sys.modules)
    monkeypatch.syspath_prepend(str(FOLDER))
    yield importlib.import_module("ablation")
    for name in set(sys.modules) - before:
        if str(FOLDER) in str(getattr(sys.modules[name], "__file__", None)):
            del sys.modules[name]


def row(number):
    return {
        "change": str(number), "steps": 1, "images": 32, "bits/dim": 2.0 + number, "error of bits/dim": 0.1, "n": 5,
        "Fréchet distance": 1.0, "standard error": 0.1, "without bias": 0.5, "recognized": 0.9,
    }  # fmt: skip


@pytest.fixture
def measured(ablation, monkeypatch, tmp_path):
    """Numbers of the rows that were measured, and a call of the script."""
    numbers = []
    monkeypatch.setattr(ablation, "measure_row", lambda number, seed, given: numbers.append(number) or row(number))

    def run(*flags):
        where = ["--folder", str(tmp_path / "runs"), "--out", str(tmp_path / "docs")]
        monkeypatch.setattr(sys, "argv", ["ablation.py", *where, *flags])
        ablation.main()
        return (tmp_path / "docs" / "ablation.md").read_text()

    return numbers, run


def test_the_first_row_is_book_ddpm_and_the_last_is_mnist_ddpm(ablation):
    assert ablation.recipe_of(0) == find("book-ddpm")
    last = ablation.recipe_of(len(ablation.CHANGES) - 1)
    assert (last.model, last.optim) == (find("mnist-ddpm").model, find("mnist-ddpm").optim)


def test_every_row_changes_the_recipe_and_a_row_of_sampling_no_weights(ablation):
    recipes = [ablation.recipe_of(number) for number in range(len(ablation.CHANGES))]
    assert all(one != other for one, other in itertools.pairwise(recipes))
    sampling = [number for number, change in enumerate(ablation.CHANGES) if change.sampling]
    for number in sampling:
        assert ablation.trained_row(number) == min(sampling) - 1
        assert set(ablation.CHANGES[number].settings) <= {"guidance", "end_log_snr"}
        assert recipes[number].optim == recipes[number - 1].optim


def test_the_commands_of_its_words_parse(ablation):
    commands = re.findall(r"python benchmarks/ablation.py((?: -\S+(?: \d+)?)*)", ablation.__doc__)
    assert len(commands) == 4
    for flags in commands:
        ablation.parser().parse_args(flags.split())


def test_an_interrupted_ablation_measures_what_is_missing(measured):
    numbers, run = measured
    assert "10 of 12 rows are not measured yet" in run("--rows", "2", "--images", "1")
    page = run("--images", "1")
    assert numbers == list(range(12))
    assert "not measured yet" not in page
    assert "| 11 | 1 | 32 | 13 |" in page


def test_rows_of_another_budget_are_refused(measured):
    _, run = measured
    run("--rows", "1", "--images", "1")
    with pytest.raises(SystemExit, match="choose another --folder"):
        run("--rows", "1", "--images", "2")


def test_several_seeds_give_means_and_deviations(ablation, tmp_path):
    given = argparse.Namespace(folder=tmp_path)
    budget = {"images": 1, "minutes": None, "n": 5, "limit": 5}
    for seed, rate in ((0, 2.0), (1, 3.0)):
        file = tmp_path / f"seed-{seed}" / "00.json"
        file.parent.mkdir()
        file.write_text(json.dumps({"budget": budget | {"seed": seed}, "row": row(0) | {"bits/dim": rate}}))
    result = ablation.collected(given)
    assert result.rows[0]["bits/dim"] == 2.5
    assert result.rows[0]["bits/dim, between seeds"] == pytest.approx(0.7071)
    assert result.facts["seeds"] == 2


def test_without_rows_the_report_says_how_to_measure_them(measured):
    _, run = measured
    with pytest.raises(SystemExit, match="no finished rows"):
        run("--report")
