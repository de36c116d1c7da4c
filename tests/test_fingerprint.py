"""A run goes on as the run that it was, or says what has changed: twelve changes, twelve right answers."""

import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from harness import torture
from harness.faults import catches
from harness.support import status
from kakusan.errors import InputError
from kakusan.recipes import find
from kakusan.run import fingerprint as origin
from kakusan.run.recipe import from_record

pytestmark = pytest.mark.reliability


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A finished run, and its data."""
    data = torture.make_data(tmp_path_factory.mktemp("data"))
    path = tmp_path_factory.mktemp("runs") / "run"
    assert status("train", *torture.FAMILIES["vae"], "--data", data, "--out", path, *torture.COMMON) == 0
    return path, data


def copied(run, tmp_path, change=lambda record: None):
    """A copy of the run whose run.json was changed by hand."""
    path = shutil.copytree(run[0], tmp_path / "run")
    record = json.loads((path / "run.json").read_text())
    change(record)
    (path / "run.json").write_text(json.dumps(record))
    return path


def test_a_run_that_is_as_it_was_goes_on_without_a_word(run, tmp_path, capsys):
    assert status("train", "--resume", copied(run, tmp_path), "--steps", "14") == 0
    assert "resume is not bit-exact" not in capsys.readouterr().err


CHANGES = {
    "a setting of the model": lambda record: record["recipe"]["model"].update(activation="tanh"),
    "a setting of the optimiser": lambda record: record["recipe"]["optim"].update(lr=0.5),
    "the number of groups": lambda record: record["recipe"]["optim"].update(groups=2),
    "the seed": lambda record: record.update(seed=6),
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_run_with_other_settings_is_another_run(run, tmp_path, capsys, name):
    assert status("train", "--resume", copied(run, tmp_path, CHANGES[name]), "--steps", "14") == 2
    error = capsys.readouterr().err.splitlines()[-1]
    words = "the seed in run.json" if name == "the seed" else "the settings in run.json"
    assert words in error
    assert "start a new run with another --out" in error


# as commit 1dc6e1f computed them
EARLIER = {
    "mnist-ddpm": "24289b5589904d5630e598f4600443dcf17d975a4d7655e79e7133a697ac99f8",
    "mnist-vae": "6ab2ccfb837da6e818bb3e848bd551e9fdcf883dda91824ff992a16f0ac87795",
    "counts-dirichlet": "f82c55c9f1d4b4516c7ff9b12afb4274eb0e26dcfbd192fa62d1ebab00520ce6",
}


@pytest.mark.parametrize("name", EARLIER)
def test_a_run_from_before_a_setting_was_there_is_still_the_same_run(name):
    record = json.loads((Path(__file__).parent / "golden" / "recipes-of-0.1.0.json").read_text())[name]
    assert origin.origin(from_record(record), 0, "data", torch.device("cpu"))["recipe"] == EARLIER[name]


@pytest.mark.parametrize("change", ["values", "shape"])
def test_a_run_with_other_data_is_another_run(run, tmp_path, capsys, change):
    path, data = copied(run, tmp_path), run[1]
    before = data.read_bytes()
    arrays = dict(np.load(data))
    arrays["train_images"] = arrays["train_images"] // 2 if change == "values" else arrays["train_images"][:, :3]
    arrays["test_images"] = arrays["test_images"] if change == "values" else arrays["test_images"][:, :3]
    try:
        np.savez(data, **arrays)
        assert status("train", "--resume", path, "--steps", "14") == 2
    finally:
        data.write_bytes(before)
    assert "has changed since" in capsys.readouterr().err.splitlines()[-1]


@pytest.mark.parametrize("name", ["kakusan", "python", "torch", "numpy", "threads", "machine", "device"])
def test_other_versions_and_machines_are_named_and_gone_on_with(run, tmp_path, capsys, monkeypatch, name):
    honest = origin.versions
    monkeypatch.setattr(origin, "versions", lambda device: {**honest(device), name: "another"})
    assert status("train", "--resume", copied(run, tmp_path), "--steps", "14") == 0
    said = [line for line in capsys.readouterr().err.splitlines() if "resume is not bit-exact" in line]
    assert len(said) == 1
    assert f": {name} changed from " in said[0]
    assert said[0].endswith("to another")


@catches("""run/fingerprint.py: a run does not know how many threads computed a group
- torch.get_num_threads() // parallel
+ torch.get_num_threads()""")
def test_how_many_threads_compute_a_group_is_named_for_it_decides_its_bits(tmp_path):
    path, before = tmp_path, torch.get_num_threads()
    facts = origin.origin(find("mnist-ddpm"), 0, "data", torch.device("cpu"))
    try:
        torch.set_num_threads(4)
        kinds = [
            origin.origin(find("mnist-ddpm"), 0, "data", torch.device("cpu"), parallel=parallel)
            for parallel in (1, 2, 8)
        ]
    finally:
        torch.set_num_threads(before)
    assert [kind["threads a group"] for kind in kinds] == ["4", "2", "1"]
    assert origin.check_origin(path, kinds[0], kinds[1]) == ["threads per micro-batch changed from 4 to 2"]
    older = {
        name: value for name, value in kinds[0].items() if name != "threads a group"
    }  # of a version that did not record it
    assert origin.check_origin(path, older, kinds[0]) == []
    assert origin.check_origin(path, older, kinds[1]) == ["threads per micro-batch changed from 4 to 2"]
    assert facts["threads a group"] == facts["threads"]


@catches("""run/fingerprint.py: ranks that change the order of a sum are not in the fingerprint
- if recipe.optim.num_groups > 2 else
+ if recipe.optim.num_groups > 9 else""")
@pytest.mark.parametrize(("groups", "named"), [(1, False), (2, False), (3, True), (8, True)])
def test_ranks_are_in_the_fingerprint_where_they_change_the_order_of_a_sum(groups, named):
    recipe = find("mnist-ddpm")
    recipe = dataclasses.replace(recipe, optim=dataclasses.replace(recipe.optim, batch=24, groups=groups))
    facts = origin.origin(recipe, 0, "data", torch.device("cpu"), processes=2)
    assert facts.get("processes") == ("2" if named else None)


def test_a_run_whose_data_changed_is_another_run(tmp_path):
    with pytest.raises(InputError, match="the data have changed"):
        origin.check_origin(tmp_path, {"data": "a", "threads": "1"}, {"data": "b", "threads": "1"})
