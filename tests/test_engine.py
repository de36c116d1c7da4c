"""Two processes do what one does, to the bit, also when the run is stopped and resumed.

Division by two is exact and a + b = b + a, so two groups of a batch have one sum; of more groups only a tolerance can
be promised. All of it runs in one job of two processes, tests/harness/engine_job.py.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from harness import engine_job
from harness.faults import catches
from kakusan.errors import InputError
from kakusan.storage import commit
from kakusan.storage import tensors as storage
from kakusan.training import checkpoint
from kakusan.training.batches import Batches
from kakusan.training.engine import Engine

pytestmark = [pytest.mark.reliability, pytest.mark.slow]

HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def job(tmp_path_factory):
    """What both processes saw."""
    out = tmp_path_factory.mktemp("job")
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--rdzv-backend", "c10d"]
    command += ["--rdzv-endpoint", "localhost:0", str(HERE / "harness" / "engine_job.py"), str(out)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False, timeout=1800)
    assert done.returncode == 0, done.stderr[-3000:]
    return out, [json.loads((out / f"{rank}.json").read_text()) for rank in (0, 1)]


@pytest.fixture(scope="module")
def alone():
    """The same training in this process, one group after the other."""
    return engine_job.everything(engine_job.run(engine_job.trainer()))


@pytest.mark.parametrize("way", ["unbroken", "resumed"])
@pytest.mark.parametrize("rank", [0, 1])
def test_two_processes_end_with_the_bits_of_one(job, alone, way, rank):
    assert job[1][rank][way] == alone


def test_a_run_of_two_processes_goes_on_alone_to_the_same_bits(job, alone):
    on = engine_job.trainer()
    checkpoint.restore(on, job[0] / "half")
    assert on.state.step == 7
    assert engine_job.everything(engine_job.run(on)) == alone


def test_a_checkpoint_of_a_sharded_run_of_version_03_is_read(tmp_path):
    whole = engine_job.run(engine_job.trainer(), stop_at=7)
    folder = checkpoint.save(whole, tmp_path / "whole")
    with commit.Draft(tmp_path, folder.name) as draft:
        for stem in ("model", "ema", "optimizer"):
            tensors, _ = storage.read(folder / f"{stem}.safetensors")
            scalars = {name for name, tensor in tensors.items() if len(tensor.shape) == 0 or len(tensor) < 2}
            halves = {name: tensor.tensor_split(2) for name, tensor in tensors.items() if name not in scalars}
            first = {name: half[0] for name, half in halves.items()} | {name: tensors[name] for name in scalars}
            draft.write(f"{stem}.0-of-2.safetensors", storage.to_bytes(first))
            draft.write(
                f"{stem}.1-of-2.safetensors", storage.to_bytes({name: half[1] for name, half in halves.items()})
            )
        for name in ("early.safetensors", "state.json"):
            draft.write(name, (folder / name).read_bytes())
        draft.publish()
    resumed = engine_job.trainer()
    checkpoint.restore(resumed, tmp_path)
    assert engine_job.everything(resumed) == engine_job.everything(whole)


def test_two_processes_augment_images_and_round_networks_as_one_does(job):
    one = engine_job.everything(engine_job.run(engine_job.trainer(**engine_job.SHIFTED)))
    assert job[1][0]["shifted in bfloat16"] == job[1][1]["shifted in bfloat16"] == one


def test_double_precision_and_a_mean_of_two_groups_agree_to_the_bit(job):
    assert job[1][0]["double"] == engine_job.everything(engine_job.run(engine_job.trainer("line")))


def test_four_groups_differ_between_one_and_two_processes_by_rounding_alone(job):
    one = engine_job.everything(engine_job.run(engine_job.trainer("line", groups=4)))

    def numbers(bits, name):
        return torch.tensor(bits[name], dtype=torch.uint8).view(torch.float64)

    for name in ("model.weight", "ema.weight"):
        # (a + b) + (c + d) against ((a + b) + c) + d: a few units in the last place, through 12 steps of Adam
        torch.testing.assert_close(numbers(job[1][0]["four groups"], name), numbers(one, name), rtol=1e-10, atol=1e-12)


def test_one_process_finds_a_bad_step_and_both_skip_it(job):
    one = engine_job.trainer()
    honest = one.loss
    one.loss = lambda indices, noise: honest(indices, noise) * (float("nan") if one.state.step in (3, 4) else 1)
    assert job[1][0]["skipped"] == job[1][1]["skipped"] == [3, 4]
    assert job[1][0]["bad"] == job[1][1]["bad"] == engine_job.everything(engine_job.run(one))


def test_what_each_process_did_is_gathered_in_order(job):
    for rank in (0, 1):
        assert job[1][rank]["work"] == [[], [1], [2, 2], [3, 3, 3], [4, 4, 4, 4]]
        assert job[1][rank]["bytes"] == ["", "ab"]


@catches("""training/batches.py: every group has the examples of the first
- step * self.batch + micro_batch * self.slice
+ step * self.batch""")
def test_the_groups_of_a_batch_are_its_slices():
    whole, halves = Batches(50, 12, seed=3, device=engine_job.CPU), Batches(50, 12, 3, engine_job.CPU, micro_batches=3)
    for step in (0, 4, 1000):
        joined = torch.cat([halves.indices(step, group) for group in range(3)])
        assert torch.equal(joined, whole.indices(step))


def test_more_groups_than_processes_is_fine_and_a_remainder_is_not(monkeypatch):
    monkeypatch.setattr("kakusan.distributed.world_size", lambda: 2)
    assert list(Engine(4).micro_batches) == [0, 1]
    with pytest.raises(InputError, match=r"--optim.groups 4.*with 1 processes"):
        Engine(3)
