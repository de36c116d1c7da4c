"""What is for a GPU and runs without one: the transformer's recipe, Muon in batches, reading verdicts at once, the benchmark."""

import importlib
import json
import math
import sys
from pathlib import Path

import pytest
import torch

from harness import engine_job
from harness.faults import catches
from harness.support import call, seeded
from kakusan.recipes import find
from kakusan.run.build import blueprint
from kakusan.train import muon
from kakusan.train.muon import Muon, orthogonalised

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"
SMALL = ["--width", "32", "--blocks", "1", "--patch", "7", "--batch", "16", "--compile", "none"]


@catches(
    "train/muon.py",
    "torch.linalg.vector_norm(x, dim=(-2, -1), keepdim=True)",
    "torch.linalg.vector_norm(x)",
    "matrices of one shape get one size together",
)
def test_matrices_of_one_shape_are_orthogonalised_together_as_they_are_alone():
    batch = torch.randn(3, 6, 20, dtype=torch.float64, generator=seeded(0))
    for matrices in (batch, batch.mT):
        alone = torch.stack([orthogonalised(matrix) for matrix in matrices])
        torch.testing.assert_close(orthogonalised(matrices), alone, rtol=0, atol=1e-12)  # float64, fifteen products


@pytest.mark.parametrize("skip", [None, torch.zeros(()), torch.ones(())])
def test_muon_moves_matrices_together_as_one_by_one(skip, monkeypatch):
    shapes = [(6, 4), (4, 6), (6, 2, 2, 1), (4, 6), (6, 4), (5, 5)]
    ends, sizes = [], []
    for most in (1, 3 * 24, 2**20):
        monkeypatch.setattr(muon, "MOST_AT_ONCE", most)
        generator = seeded(1)
        weights = [torch.nn.Parameter(torch.randn(s, dtype=torch.float64, generator=generator)) for s in shapes]
        start = [w.detach().clone() for w in weights]
        optimizer = Muon(weights, lr=0.1, weight_decay=0.1)
        for _ in range(3):
            for w in weights:
                w.grad = torch.randn(w.shape, dtype=torch.float64, generator=generator)
            optimizer.found_inf = skip
            optimizer.step()
        ends.append(weights)
        sizes.append([len(batch) for batch in muon.batches(weights)])
    assert sizes == [[1] * 6, [3, 2, 1], [5, 1]]
    for alone, some, most, first in zip(*ends, start):
        torch.testing.assert_close(some, alone, rtol=0, atol=1e-12)  # float64, a few steps of size 0.1
        torch.testing.assert_close(most, alone, rtol=0, atol=1e-12)
        assert torch.equal(alone, first) == (skip is not None and skip.item() == 1)


def test_verdicts_left_on_the_device_are_read_together_and_noted_in_their_order():
    one, plain = engine_job.trainer(), engine_job.trainer()
    losses = [3.0, math.nan, 2.5, 7.25]
    one._unread = [(k, torch.tensor(not math.isfinite(x)), torch.tensor(x)) for k, x in enumerate(losses)]
    one.settle()
    for k, x in enumerate(losses):
        plain._note(k, not math.isfinite(x), x)
    assert one._unread == []
    assert (one.state.skipped, one.state.num_skipped, one.state.loss) == ([1], 1, plain.state.loss)


def test_the_transformer_is_made_for_tensor_units_and_for_digits():
    recipe = find("mnist-transformer")
    assert (recipe.optim.precision, recipe.optim.compile) == ("bfloat16", "default")
    assert recipe.optim.augment == "shift"  # never mirrored: a mirrored 3 is no digit
    assert sum(math.prod(shape) for shape, _ in blueprint(recipe.model, (1, 28, 28)).values()) > 20_000_000


def test_the_recipe_runs_small_on_a_cpu(capsys, tmp_path):
    folder = tmp_path / "pictures"
    folder.mkdir()
    from PIL import Image

    for k in range(12):
        Image.frombytes("L", (8, 8), bytes((k * 7 + 3 * i) % 256 for i in range(64))).save(folder / f"{k}.png")
    small = ["--model.width", "32", "--model.blocks", "1", "--model.depth", "10", "--optim.compile", "none"]
    small += ["--data", folder, "--optim.batch", "4", "--steps", "3", "--device", "cpu"]
    code, _, told = call(capsys, "train", "mnist-transformer", *small, "--out", tmp_path / "run")
    assert code == 0, told
    last = json.loads((tmp_path / "run" / "history.jsonl").read_text().splitlines()[-1])
    assert last["gflops_per_second"] > 0
    code, _, told = call(
        capsys, "train", "mnist-transformer", *small, "--optim.precision", "tf32", "--out", tmp_path / "b"
    )
    assert code == 2
    assert "tf32 is a GPU's" in told
    assert not (tmp_path / "b").exists()


def test_the_benchmark_of_a_gpu_runs_small_on_a_cpu(monkeypatch, tmp_path):
    before = set(sys.modules)
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    few = ["--device", "cpu", "--seconds", "2", "--block", "0.05", "--side", "64", "--samples", "50"]
    try:
        importlib.import_module("gpu").main([*few, "--sampling-steps", "2", *SMALL, "--out", str(tmp_path)])
    finally:
        for name in set(sys.modules) - before:
            if str(BENCHMARKS) in str(getattr(sys.modules[name], "__file__", None)):
                del sys.modules[name]
    (row,) = json.loads((tmp_path / "gpu.json").read_text())["rows"]
    assert row["images/s"] > 0
    assert 0 < row["of the product's"] < 1
    assert row["steps"] >= 1
    assert row["images"] == 16 * row["steps"]
    assert row["n"] == 50
