"""`--devices N`: processes that train together, one of which may die, and a launcher that may be asked to stop."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from harness import torture
from kakusan.run.launch import verdict

pytestmark = [
    pytest.mark.slow,
    pytest.mark.reliability,
    pytest.mark.skipif(not Path("/proc").is_dir(), reason="finds the processes of a job in /proc"),
]
LIMIT_S = 600  # for a job that takes ten seconds on a quiet machine; torch waits for a lost process much longer


def kakusan(*arguments):
    """The command in a process of its own."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-m", "kakusan", *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)


def train(data, run, *more):
    steps = ["--steps", "4000", "--optim.batch", "8", "--seed", "5", "--data", data, "--out", run]
    return kakusan("train", *torture.FAMILIES["vae"], *steps, *more)


def weights(words):
    return words.strip().splitlines()[-1]


def until(true, job):
    """Wait for something that a job does."""
    end = time.monotonic() + LIMIT_S
    while not true():
        assert job.poll() is None, job.communicate()[1][-2000:]
        assert time.monotonic() < end, "it never came to that"
        time.sleep(0.02)


def worker(job, rank):
    """Process number of one rank of a job."""
    for path in Path("/proc").glob("[0-9]*"):
        try:
            variables = (path / "environ").read_bytes().split(b"\0")
            parent = int((path / "stat").read_text().rsplit(")", 1)[1].split()[1])
        except (OSError, IndexError):
            continue
        if f"RANK={rank}".encode() in variables and parent == job.pid:
            return int(path.name)
    return None


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """Data, and the weights of a run of one process with two groups."""
    data = torture.make_data(tmp_path_factory.mktemp("data"))
    words, _ = train(data, tmp_path_factory.mktemp("alone") / "run", "--optim.groups", "2").communicate(timeout=LIMIT_S)
    return data, weights(words)


def test_after_a_process_died_all_begin_again_and_end_with_the_bits_of_one(alone, tmp_path):
    data, expected = alone
    job = train(data, tmp_path / "run", "--devices", "2", "--restarts", "2")
    for kill in (1, 2):
        saved = tmp_path / "run" / "history.jsonl"
        until(lambda: saved.exists() and len(saved.read_text().splitlines()) > kill, job)  # noqa: B023 - used at once
        os.kill(worker(job, kill % 2), signal.SIGKILL)
    words, errors = job.communicate(timeout=LIMIT_S)
    assert job.returncode == 0, errors[-2000:]
    assert weights(words) == expected
    assert words.count("weights ") == 1
    assert errors.count("resuming from step") == 2


def test_two_processes_print_the_numbers_of_a_run_once(alone, tmp_path):
    small = ["--steps", "4", "--optim.batch", "8", "--data", alone[0], "--out", tmp_path / "run", "--devices", "2"]
    job = kakusan("train", *torture.FAMILIES["vae"], *small)
    words, errors = job.communicate(timeout=LIMIT_S)
    assert job.returncode == 0, errors[-2000:]
    assert words.count("weights ") == 1


def test_a_process_that_dies_ends_the_job(alone, tmp_path):
    job = train(alone[0], tmp_path / "run", "--devices", "2")
    until(lambda: (tmp_path / "run" / "history.jsonl").exists(), job)
    os.kill(worker(job, 1), signal.SIGKILL)
    _, errors = job.communicate(timeout=LIMIT_S)
    assert job.returncode not in (0, 2)
    assert "--resume" in errors


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGUSR1])
def test_a_launcher_that_is_asked_to_stop_saves_and_says_so_by_its_status(alone, tmp_path, number):
    job = train(alone[0], tmp_path / "run", "--devices", "2")
    until(lambda: (tmp_path / "run" / "history.jsonl").exists(), job)
    job.send_signal(number)
    _, errors = job.communicate(timeout=LIMIT_S)
    assert job.returncode == 128 + number
    assert "resume with: " in errors
    assert f"kakusan train --resume {tmp_path / 'run'}" in errors


def test_a_mistake_is_said_once(alone, tmp_path):
    job = train(alone[0], tmp_path / "run", "--devices", "2", "--optim.groups", "3", "--optim.batch", "9")
    _, errors = job.communicate(timeout=LIMIT_S)
    assert job.returncode == 2
    assert errors.count("2 processes cannot divide 3 micro-batches") == 1
    assert "Traceback" not in errors
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("codes", "status", "killed_by"),
    [
        ([2, -signal.SIGTERM], 2, None),  # the other one was ended by the launcher
        ([2, 2], 2, None),
        ([1, -signal.SIGKILL], 1, signal.SIGKILL),  # lost its peer
        ([-signal.SIGTERM, -signal.SIGKILL], 1, signal.SIGKILL),
        ([3, 1], 3, None),
    ],
)
def test_a_job_ends_as_the_process_that_ended_it(codes, status, killed_by):
    assert verdict(codes) == (status, killed_by)
    assert verdict(codes[::-1])[1] == killed_by
