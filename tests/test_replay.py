"""A step of a run is done again as it was done, however the run was gone on with since."""

import json

import pytest

from harness import torture
from harness.support import status
from kakusan.training.loop import Trainer

pytestmark = pytest.mark.reliability


@pytest.fixture
def heard(monkeypatch):
    """Loss, gradient norm and learning rate of every step that is done, by step."""
    steps, gradients = {}, Trainer.gradients

    def listening(self, step):
        loss = gradients(self, step)
        steps[step + 1] = (loss.item(), self.norm().item(), self.scale())
        return loss

    monkeypatch.setattr(Trainer, "gradients", listening)
    return steps


def replayed(capsys, run, step):
    assert status("replay", run, "--step", step, "--json") == 0
    record = json.loads(capsys.readouterr().out)
    return record["loss"], record["gradient_norm"], record["learning_rate_scale"]


@pytest.mark.parametrize("budget", [["--steps", "12"], ["--minutes", "0.01"]], ids=["steps", "minutes"])
def test_every_step_is_done_again_as_it_was(tmp_path, capsys, heard, budget):
    data, run = torture.make_data(tmp_path), tmp_path / "run"
    assert status("train", *torture.FAMILIES["vae"], "--data", data, "--out", run, "--optim.batch", "8", *budget) == 0
    done = dict(heard)
    last = max(done)
    assert status("train", "--resume", run, "--steps", last + 6) == 0  # another learning rate from here on
    done |= {step: values for step, values in heard.items() if step > last}
    capsys.readouterr()
    for step in (1, last // 2, last, last + 1, last + 6):
        assert replayed(capsys, run, step) == done[step]


def test_a_replay_writes_nothing_and_names_the_batch(tmp_path, capsys):
    data, run = torture.make_data(tmp_path), tmp_path / "run"
    assert status("train", *torture.FAMILIES["vae"], "--data", data, "--out", run, *torture.COMMON) == 0
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    assert status("replay", run, "--step", "3", "--out", tmp_path / "batch.png") == 0
    assert "batch: examples" in capsys.readouterr().out
    assert (tmp_path / "batch.png").exists()
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before
    assert status("replay", run, "--step", "0") == 2
