"""Devices without float64, systems without fcntl, and homes that cannot be written."""

import os
import signal
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch

import kakusan as kk
from harness.fake_device import DEVICE, device_without_float64
from harness.faults import catches
from kakusan.devices import precise, precise_device
from kakusan.models.clusters import Classes
from kakusan.noise import example_streams, rand, stream
from kakusan.run import launch
from kakusan.timesteps import StepLaw
from kakusan.training.device import device_named

SHAPE = (1, 8, 8)


def chain(clusters: bool, variance: str = "beta_tilde"):
    torch.manual_seed(0)
    net = kk.nets.CosineMLP(1, (8, 8), 8, width=16, num_classes=3 if clusters else 0, gate=variance == "learned")
    for parameter in net.parameters():
        parameter.data.add_(0.05 * torch.randn_like(parameter))
    made = kk.Diffusion(
        net, kk.Schedule.cosine(8), SHAPE, "v", variance=variance, likelihood="discretized", clip=(-1, 1)
    )
    return (
        kk.Mixture(made, Classes([0.5, 0.25, 0.25], assign=lambda x: x.flatten(1)[:, 0].gt(0).long()))
        if clusters
        else made
    )


X = (torch.arange(6 * 64).reshape(6, *SHAPE) * 37 % 256) / 127.5 - 1


@catches("""noise.py: noise is drawn on the device
- return law(*shape, dtype=dtype, device=precise_device(device)).to(device)
+ return law(*shape, dtype=dtype, device=device)""")
def test_the_global_seed_gives_the_same_noise_on_a_device_without_float64(monkeypatch):
    torch.manual_seed(3)
    expected = rand((4,), None, torch.float32, "cpu")
    with device_without_float64(monkeypatch) as device:
        torch.manual_seed(3)
        found = rand((4,), None, torch.float64, precise_device(device))
        assert found.device.type == "cpu"
        torch.manual_seed(3)
        found = rand((4,), None, torch.float32, device)
        assert found.device == device
        assert torch.equal(found.cpu(), expected)
        assert stream(1, device=device).device.type == "cpu"


@catches("""timesteps.py: timesteps are drawn in the device's own precision
- where = precise_device(device)
+ where = torch.device(device)""")
@catches("""models/elbo_estimators.py: the constant of the bound is computed on the device
- x = precise(x)
+ x = x.double()""")
@pytest.mark.parametrize("clusters", [False, True])
def test_a_device_without_float64_trains_measures_and_samples_as_a_cpu(monkeypatch, clusters):
    here, there = chain(clusters), chain(clusters)
    with device_without_float64(monkeypatch) as device:
        there.to(device)
        x = X.to(device)
        assert precise(x).device.type == "cpu"
        assert precise_device("cpu") == torch.device("cpu")
        for objective in ("simple", "path", "pair", "single"):
            losses = [
                model.loss(data, stream(5, objective), objective=objective) for model, data in ((here, X), (there, x))
            ]
            torch.testing.assert_close(losses[1].cpu(), losses[0], rtol=1e-5, atol=1e-6)
            losses[1].mean().backward()
        bounds = [kk.elbo(model, data, stream(6)) for model, data in ((here, X), (there, x))]
        torch.testing.assert_close(bounds[1].cpu(), bounds[0], rtol=1e-5, atol=1e-4)
        for solver in ("ancestral", "dpm++2m-sde"):
            images = [kk.sample(model, 3, solver=solver, steps=5, seed=2) for model in (here, there)]
            torch.testing.assert_close(images[1].cpu(), images[0], rtol=1e-5, atol=1e-5)
        optimizer = torch.optim.AdamW(there.parameters())
        optimizer.step()


def test_the_steps_of_a_distribution_are_those_of_the_cpu(monkeypatch):
    law = StepLaw.log_snr_normal(kk.Schedule.cosine(30), 0.0, 1.0)
    expected = law.draw(9, stream(4))
    with device_without_float64(monkeypatch) as device:
        steps = law.draw(9, stream(4), device)
        assert steps.device == device
        assert torch.equal(steps.cpu(), expected)
        assert torch.equal(law.prob(steps), law.prob(expected))
        assert law.draw(2, example_streams(0, range(2)), device).device == device


@pytest.mark.slow
def test_a_run_on_a_device_without_float64_ends_with_its_report(tmp_path, monkeypatch):
    np.save(tmp_path / "x.npy", np.random.default_rng(0).integers(0, 2, (150, 8, 8), np.uint8) * 255)
    settings = {"network": "cosine", "width": 16, "depth": 8, "clusters": 2}
    optim = {"method": "adam", "batch": 8, "early": 0.3, "groups": 1}
    monkeypatch.setattr("kakusan.run.session.step_bytes", lambda trainer: 0)  # the simulation has no addresses
    runs = []
    for name, where in (("cpu", torch.device("cpu")), ("there", DEVICE)):
        for module in ("run.train", "run.trained_model"):
            monkeypatch.setattr(f"kakusan.{module}.device_named", lambda name, where=where: where)
        with pytest.MonkeyPatch.context() as patch, device_without_float64(patch):
            run = kk.train(
                "mnist-ddpm", data=tmp_path / "x.npy", steps=3, out=tmp_path / name, model=settings, optim=optim
            )
            runs.append((run.model.sample(3, seed=1), run.summary["likelihood"]["bits_per_dim"], run.report.exists()))
    assert np.abs(runs[0][0].astype(int) - runs[1][0].astype(int)).max() <= 1
    assert runs[0][1] == pytest.approx(runs[1][1], abs=1e-4)
    assert runs[1][2]


def test_an_apple_gpu_is_accepted_where_torch_has_it(monkeypatch):
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    with pytest.raises(kk.InputError, match="no Apple GPU"):
        device_named("mps")
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert device_named("mps") == torch.device("mps")


WINDOWS = """
import os, sys
for name in ("fcntl", "resource", "pwd", "grp", "termios"):
    sys.modules[name] = None
for name in ("fork", "getuid", "geteuid", "posix_fadvise", "O_NONBLOCK", "O_NOFOLLOW", "O_DIRECTORY", "sched_getaffinity", "getloadavg"):
    if hasattr(os, name):
        delattr(os, name)
os_open = os.open
def open_no_folders(path, flags, *rest, **more):
    if os.path.isdir(path):
        raise PermissionError(13, "Permission denied", os.fspath(path))
    return os_open(path, flags, *rest, **more)
os.open = open_no_folders
os_rename = os.rename
def rename(old, new, **more):
    if os.path.isfile(new):
        raise FileExistsError(17, "Cannot create a file when that file already exists", os.fspath(old), None, os.fspath(new))
    return os_rename(old, new, **more)
os.rename = rename
import filelock
filelock.FileLock = filelock.SoftFileLock
from kakusan.cli import main
main(sys.argv[1:])
"""


def as_on_windows(folder, *words):
    words = [sys.executable, "-c", WINDOWS, *map(str, words)]
    return subprocess.run(words, cwd=folder, capture_output=True, text=True, check=False)


@pytest.mark.slow
def test_a_run_needs_neither_fcntl_nor_folders_that_can_be_opened(tmp_path):
    np.save(tmp_path / "x.npy", np.random.default_rng(0).integers(0, 2, (60, 8, 8), np.uint8) * 255)
    small = ["--model.hidden", 4, "--model.latent", 2]
    done = as_on_windows(tmp_path, "train", "mnist-vae", "--data", "x.npy", "--steps", 3, "--out", "run", *small)
    assert done.returncode == 0, done.stderr
    done = as_on_windows(tmp_path, "export", "run", "--out", "model.safetensors")
    assert done.returncode == 0, done.stderr
    done = as_on_windows(tmp_path, "train", "--resume", "run", "--steps", 5)
    assert done.returncode == 0, done.stderr


NOWHERE = """
import os, sys, tempfile
tempfile._candidate_tempdir_list = lambda: [os.environ["TMPDIR"], os.getcwd()]
from kakusan.cli import main
main(sys.argv[1:])
"""


@pytest.mark.slow
def test_a_home_that_cannot_be_written_and_no_temporary_folder_are_no_obstacle(tmp_path):
    np.save(tmp_path / "x.npy", np.random.default_rng(0).integers(0, 2, (60, 8, 8), np.uint8) * 255)
    (tmp_path / "home").write_text("a file, so that nothing can be made in it")
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith(("XDG_", "MPL", "TMP", "TEMP"))
    }
    environment |= {"HOME": str(tmp_path / "home"), "TMPDIR": str(tmp_path / "missing")}
    words = ["train", "mnist-vae", "--data", "x.npy", "--steps", "3", "--out", "run", "--model.hidden", "4"]
    done = subprocess.run(
        [sys.executable, "-c", NOWHERE, *words],
        env=environment,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert not any(word in done.stderr for word in ("Traceback", "MPLCONFIGDIR", "mkdir"))
    assert (tmp_path / "run" / "report.html").exists()
    assert {path.name for path in tmp_path.iterdir()} == {"x.npy", "home", "run"}


@catches("""training/device.py: a GPU is used only where it is named
- "cuda" if torch.cuda.is_available() else "cpu"
+ "cpu\"""")
@catches("""training/device.py: one GPU more is accepted than there are
- (device.index or 0) >= torch.cuda.device_count()
+ (device.index or 0) > torch.cuda.device_count()""")
@catches("""training/device.py: a process of a job takes its own GPU in place of the named one
- device.type == "cuda" and device.index is None and "LOCAL_RANK"
+ device.type == "cuda" and "LOCAL_RANK\"""")
@catches("""training/device.py: convolutions are rounded to TF32
- torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
+ torch.backends.cuda.matmul.allow_tf32 = False""")
def test_gpus_are_found_by_name_and_by_rank_and_round_nothing_by_default(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    assert [str(device_named(name)) for name in ("auto", "cuda", "cuda:1", "cpu")] == ["cuda", "cuda", "cuda:1", "cpu"]
    assert not torch.backends.cudnn.allow_tf32
    with pytest.raises(kk.InputError, match=r"'cuda:2' does not exist; GPUs found: 2, numbered from 0"):
        device_named("cuda:2")
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert [str(device_named(name)) for name in ("cuda", "cuda:0")] == ["cuda:1", "cuda:0"]


@pytest.fixture
def launched(monkeypatch):
    """What the launcher of torch is asked for, and a place for what it raises."""
    seen = SimpleNamespace(error=None)

    def elastic(config, program):
        def run(*arguments):
            seen.config, seen.words = config, (program, *arguments)
            if seen.error is not None:
                raise seen.error

        return run

    monkeypatch.setattr(launch, "elastic_launch", elastic)
    monkeypatch.setattr(launch.logging, "disable", lambda level: None)
    monkeypatch.setattr(launch.os, "cpu_count", lambda: 7)
    monkeypatch.setenv("TORCH_DISABLE_SHARE_RDZV_TCP_STORE", "0")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.delenv("OMP_NUM_THREADS")
    return seen


def test_processes_of_this_machine_run_the_command_with_equal_shares_of_the_cores(launched, monkeypatch):
    assert launch.launch(["train", "vae"], 3, 2) == 0
    assert launched.words == (sys.executable, "-m", "kakusan", "train", "vae")
    config = launched.config
    assert (config.min_nodes, config.max_nodes, config.nproc_per_node, config.max_restarts) == (1, 1, 3, 2)
    assert (config.rdzv_backend, config.rdzv_endpoint, config.monitor_interval) == ("c10d", "localhost:0", 0.1)
    assert config.signals_to_handle == "SIGINT,SIGTERM,SIGUSR1"
    assert os.environ["TORCH_DISABLE_SHARE_RDZV_TCP_STORE"] == "1"
    assert os.environ["OMP_NUM_THREADS"] == "2"
    monkeypatch.setenv("OMP_NUM_THREADS", "5")
    launch.launch([], 9, 0)
    assert os.environ["OMP_NUM_THREADS"] == "5"
    monkeypatch.delenv("OMP_NUM_THREADS")
    launch.launch([], 9, 0)
    assert os.environ["OMP_NUM_THREADS"] == "1"


def test_the_status_of_several_processes_is_that_of_the_signal_or_of_the_failure(launched, capsys):
    launched.error = launch.SignalException("stopped", signal.SIGTERM)
    assert launch.launch([], 2, 0) == 128 + signal.SIGTERM
    assert capsys.readouterr().err == ""
    for codes, status in (((-9, -15), 1), ((3, 1), 3), ((2, -9), 2)):
        failures = {rank: SimpleNamespace(exitcode=code, timestamp=0) for rank, code in enumerate(codes)}
        error = launch.ChildFailedError.__new__(launch.ChildFailedError)
        error.failures = failures
        launched.error = error
        assert launch.launch([], 2, 0) == status
        words = "kakusan: a process was killed by signal 9; resume with: kakusan train --resume RUN\n"
        assert capsys.readouterr().err == (words if status == 1 else "")


@pytest.mark.parametrize(
    ("codes", "verdict"),
    [
        ([2, -signal.SIGTERM], (2, None)),
        ([1, -signal.SIGKILL], (1, signal.SIGKILL)),
        ([-signal.SIGTERM, -signal.SIGKILL], (1, signal.SIGKILL)),
        ([-signal.SIGTERM, 0], (1, signal.SIGTERM)),
        ([0, 3, 1], (3, None)),
        ([0], (1, None)),
    ],
)
def test_a_job_has_the_status_of_the_process_that_ended_it(codes, verdict):
    assert launch.verdict(codes) == verdict
