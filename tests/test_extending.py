"""The code of docs/extending.md runs: as objects of a user, and as built-in files with one line in a registry each."""

import ast
import importlib.util
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import kakusan as kk
import test_denoisers
import test_laws
from harness.pages import ROOT, blocks
from harness.support import F64, f64

PACKAGE = ROOT / "src" / "kakusan"
PYTHON = blocks("docs/extending.md", "python")
FILES = {code.splitlines()[0].removeprefix("# src/kakusan/"): code for code in PYTHON if code.startswith("# src/")}
USES = [code for code in PYTHON if not code.startswith("# src/")]
LINES = [line for code in blocks("docs/extending.md", "registry") for line in code.splitlines()]
NAMES = ["solver", "denoiser", "likelihood", "family", "metric", "data"]


def test_the_page_has_a_file_a_use_and_a_line_for_each_kind_of_part():
    assert len(FILES) == len(USES) == len(LINES) == len(NAMES)


@pytest.fixture
def used(request, tmp_path, monkeypatch):
    """Names of a user's module that holds one file of the page and its use as an own object."""
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    number = NAMES.index(request.param)
    path = tmp_path / "own_code.py"
    path.write_text([*FILES.values()][number] + USES[number])
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, path.stem, module)
    spec.loader.exec_module(module)
    return vars(module)


def using(name):
    return pytest.mark.parametrize("used", [name], indirect=True)


@using("solver")
def test_an_own_solver_samples_and_equals_ddim_with_all_noise(used):
    assert used["samples"].shape == (1000, 1)
    options = {"steps": 20, "seed": 3}
    own = kk.sample(used["chain"], 50, solver=used["EulerAncestral"](), **options)
    known = kk.sample(used["chain"], 50, solver=kk.solvers.DDIM(eta=1.0), **options)
    torch.testing.assert_close(own, known, rtol=0, atol=1e-12)  # the same noise, float64, 20 steps


@using("solver")
def test_an_own_solver_passes_the_suite_of_laws(used, monkeypatch):
    monkeypatch.setitem(test_laws.SOLVERS_OF_AN_ORDER, "own", used["EulerAncestral"]())
    test_laws.test_its_law_nears_that_of_exact_steps_at_its_declared_order("own", monkeypatch)
    test_laws.test_on_equal_steps_of_the_angle_its_law_nears_the_data("own", monkeypatch)


@using("denoiser")
def test_an_own_denoiser_passes_the_suite_of_laws(used, monkeypatch):
    def small(name, shape=(1, 8, 8), time="sinusoidal", variance="beta"):
        torch.manual_seed(0)
        return used["Gated"](shape[0], shape[1:], 10, width=8, time=time, gate=variance == "learned").double()

    monkeypatch.setattr(test_denoisers, "small", small)
    test_denoisers.test_a_network_takes_any_height_and_width("own", "sinusoidal", (5, 7))
    test_denoisers.test_the_output_of_a_network_depends_on_the_timestep("own")
    test_denoisers.test_an_example_is_denoised_by_itself("own")
    test_denoisers.test_every_parameter_has_a_gradient("own")


@using("denoiser")
def test_an_own_denoiser_is_trained_and_sampled_by_class(used):
    assert used["samples"].shape == (4, 1, 8, 8)
    with pytest.raises(kk.InputError, match="class-conditional on 3 classes"):
        used["chain"].loss(used["images"])


@using("likelihood")
def test_an_own_likelihood_passes_the_suite_of_laws(used, monkeypatch):
    x, weights = map(f64, np.polynomial.laguerre.laggauss(40))  # exact for polynomials times exp(-|x - mean|)
    mean, points, weights = f64([[0.3]]), torch.cat([0.3 + x, 0.3 - x])[:, None], (weights * x.exp()).repeat(2)
    listed = test_laws.Listed(used["LaplaceDistribution"](mean), points, weights)
    monkeypatch.setitem(test_laws.DISTRIBUTIONS, "own", lambda: listed)
    test_laws.test_its_shapes_are_those_of_whole_examples("own")
    test_laws.test_its_probability_is_one_and_its_mean_its_first_moment("own")
    test_laws.test_its_draws_have_the_moments_of_its_log_density("own")


@using("likelihood")
def test_an_own_likelihood_bounds_and_refuses_what_it_does_not_model(used):
    assert used["bound"].isfinite().all()
    with pytest.raises(kk.InputError):
        kk.elbo(used["vae"], torch.full((1, 5), torch.nan))


@using("family")
def test_an_own_chain_passes_the_suite_of_laws(used, monkeypatch):
    torch.testing.assert_close(used["one"], used["other"], rtol=0, atol=1e-10)
    chain = used["chain"]
    cov = chain.weight() @ chain.weight().T + (2 * chain.log_std).exp() * torch.eye(6, dtype=F64)
    world = kk.oracles.GaussianWorld(chain.bias.tolist(), cov.tolist())
    exact = test_laws.Exact(chain, used["x"], world.log_prob, -world.entropy().item())
    monkeypatch.setitem(test_laws.CHAINS, "own", lambda: exact)
    test_laws.test_each_of_its_steps_leads_to_the_shape_of_its_neighbour("own")
    test_laws.test_every_path_of_an_exact_chain_weighs_the_evidence("own")
    with torch.no_grad():
        test_laws.test_its_draws_follow_its_evidence("own")
    assert used["samples"].shape == (10, 6)


@using("metric")
def test_an_own_metric_measures_what_it_says(used):
    assert used["value"].value == pytest.approx(8**0.5, rel=1e-6)  # all eight means differ by 1; float32


@using("data")
def test_an_own_kind_of_data_is_read_and_modeled(used):
    dataset = used["dataset"]
    assert dataset.kind == "counts"
    assert len(dataset.train) + len(dataset.test) == 4
    assert used["log_evidence"].shape == (len(dataset.train),)


# Built in: one file and one line each, in a copy of the package


@pytest.fixture(scope="module")
def extended(tmp_path_factory) -> Path:
    """A folder whose package has every part of the page built in."""
    home = tmp_path_factory.mktemp("extended")
    package = home / "kakusan"
    shutil.copytree(PACKAGE, package, ignore=shutil.ignore_patterns("__pycache__", "*.npz", "*.safetensors"))
    for data in [*PACKAGE.rglob("*.npz"), *PACKAGE.rglob("*.safetensors")]:
        (package / data.relative_to(PACKAGE)).symlink_to(data)
    for name, code in FILES.items():
        assert not (package / name).exists()
        (package / name).write_text(code)
    for line in LINES:
        registry, entry = line.split(": ", 1)
        (place,) = [path for path in PACKAGE.rglob("*.py") if f"{registry} = Registry(" in path.read_text()]
        path = package / place.relative_to(PACKAGE)
        text, count = re.subn(rf"({registry} = Registry\([^{{]*{{)", rf"\1\n        {entry}", path.read_text(), count=1)
        assert count == 1, registry
        ast.parse(text)
        path.write_text(text)
    return home


def kakusan(home: Path, *arguments: object, cwd: Path | None = None) -> str:
    """Output of the command of the extended package."""
    command = [sys.executable, "-m", "kakusan", *map(str, arguments)]
    done = subprocess.run(
        command, cwd=cwd or home, env={"PYTHONPATH": str(home), "COLUMNS": "200"}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


def test_each_part_is_one_file_and_one_line(extended):
    changed = [
        path.relative_to(extended / "kakusan").as_posix()
        for path in (extended / "kakusan").rglob("*.py")
        if not (PACKAGE / (name := path.relative_to(extended / "kakusan"))).exists()
        or (PACKAGE / name).read_text() != path.read_text()
    ]
    assert set(changed) - set(FILES) == {
        "solvers/__init__.py",
        "nets/__init__.py",
        "likelihoods/__init__.py",
        "run/families/__init__.py",
        "measure/__init__.py",
        "data/open.py",
    }
    assert len(changed) == 2 * len(NAMES)


def test_the_command_line_knows_the_new_names(extended):
    assert "gated" in kakusan(extended, "train", "mnist-ddpm", "--help")
    assert "laplace" in kakusan(extended, "train", "mnist-vae", "--help")


RECORDS = """
from kakusan.measure import METRICS
from kakusan.run.build import build
from kakusan.run.families import FAMILIES
from kakusan.solvers import SOLVERS
from kakusan.data import open_data
import numpy as np, pathlib
assert SOLVERS["euler-ancestral"]().order == 1
assert set(METRICS["mean-distance"].columns) == {"mean_distance"}
config = FAMILIES["factors"].config(num_factors=3)
assert build(config, (1, 4, 4)).log_scale.shape == (3,)
pathlib.Path("words.csv").write_text("3,0,1\\n2,2,2\\n0,5,1\\n1,1,4\\n")
assert open_data("words.csv").event_shape == (3,)
"""


def test_registries_load_the_new_parts(extended, tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", RECORDS], cwd=tmp_path, env={"PYTHONPATH": str(extended)}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


def test_a_run_with_new_network_and_solver_is_trained_and_sampled(extended, tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (120, 8, 8), dtype=np.uint8)
    np.save(tmp_path / "images.npy", images)
    options = ("--steps", 2, "--model.network", "gated", "--model.clusters", 0, "--model.depth", 20)
    kakusan(extended, "train", "mnist-ddpm", "--data", "images.npy", *options, "--out", "run", cwd=tmp_path)
    kakusan(extended, "sample", "run", "-n", 4, "--sampler", "euler-ancestral", "--steps", 3, cwd=tmp_path)


def test_the_suite_of_laws_holds_for_the_new_solver(extended):
    options = ["-q", "-n", "0", "-p", "no:cacheprovider", "tests/test_laws.py", "-k", "euler-ancestral"]
    command = [sys.executable, "-m", "pytest", *options]
    done = subprocess.run(command, cwd=ROOT, env={"PYTHONPATH": str(extended)}, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.startswith(".."), "its order, and that it nears the data"
