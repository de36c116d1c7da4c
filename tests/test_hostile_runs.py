"""A run directory or a figure from a stranger is used, or refused in one line: no traceback, no hang, no leak."""

import base64
import json
import os
import shutil
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest

from harness import hostile_runs
from harness.faults import catches
from harness.support import status
from kakusan.images import Images

pytestmark = pytest.mark.reliability


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    root = tmp_path_factory.mktemp("stranger")
    np.save(root / "mine.npy", np.random.default_rng(0).integers(0, 256, (40, 4, 4), dtype=np.uint8))
    small = ["--model.hidden", "4", "--model.latent", "2", "--optim.batch", "8", "--steps", "4"]
    assert status("train", "mnist-vae", "--data", root / "mine.npy", *small, "--out", root / "run") == 0
    return root / "run"


@pytest.mark.skipif(sys.platform != "linux", reason="the limit of address space works on Linux alone")
def test_no_attack_on_a_run_or_a_figure_ends_in_a_traceback_a_hang_a_leak_or_200_megabytes(run, tmp_path):
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    command = [sys.executable, str(Path(hostile_runs.__file__)), str(run), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    seen = json.loads(done.stdout)
    assert seen["failures"] == []
    assert seen["tried"] >= 500
    assert seen["refused"] > 0.3 * seen["tried"]  # attacks that change nothing would try little


@catches("""run/directory.py: a report follows a link out of the run [samples.png]
- files.read_regular(self._file(name), limit, follow=False)
+ files.read_regular(self._file(name), limit)""")
@catches("""run/directory.py: a report follows a linked folder out of the run [samples]
- if not folder.resolve().is_relative_to(self.path.resolve()):
+ if not folder.exists():""")
@pytest.mark.parametrize("name", ["samples.png", "samples"])
def test_the_report_leaves_out_what_lies_outside_the_run_and_says_so(run, tmp_path, capsys, name):
    copy = shutil.copytree(run, tmp_path / "run")
    outside = shutil.copytree(run, tmp_path / "outside") / name
    image = Images(np.full((1, 8, 8, 1), 77, np.uint8))
    image.save(outside if outside.suffix else outside / "step-00000004.png")
    secret = base64.b64encode((outside if outside.suffix else outside / "step-00000004.png").read_bytes()).decode()
    shutil.rmtree(copy / name) if name == "samples" else (copy / name).unlink()
    (copy / name).symlink_to(outside)
    with warnings.catch_warnings():
        warnings.simplefilter("default")  # as outside of tests
        assert status("report", copy, "--out", tmp_path / "page.html") == 0
    assert "is left out" in capsys.readouterr().err
    assert secret not in (tmp_path / "page.html").read_text()
    assert status("report", tmp_path / "outside", "--out", tmp_path / "own.html") == 0
    assert secret in (tmp_path / "own.html").read_text()


def test_what_finds_a_leak_finds_one(tmp_path):
    page = tmp_path / "page.html"
    page.write_text(f"<img src='data:image/png;base64,{base64.b64encode(hostile_runs.SECRET.encode()).decode()}'>")
    assert hostile_runs.leaked(page)
