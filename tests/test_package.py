"""The wheel and the source distribution hold what they must, and the wheel works without the repository."""

import email
import json
import os
import re
import runpy
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "src" / "kakusan"
MOST_BYTES = 15 * 10**6
EXTRAS = {"diffusers", "docs", "onnx", "tables"}


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """The wheel and the source distribution."""
    pytest.importorskip("hatchling")
    out = tmp_path_factory.mktemp("dist")
    words = [sys.executable, "-m", "hatchling", "build", "-d", str(out)]
    subprocess.run(words, cwd=ROOT, check=True, capture_output=True)
    (wheel,), (sdist,) = out.glob("*.whl"), out.glob("*.tar.gz")
    return wheel, sdist


def sources() -> set[str]:
    """Files of the package, as paths in it."""
    paths = (path for path in PACKAGE.rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    return {path.relative_to(PACKAGE.parent).as_posix() for path in paths}


@pytest.mark.slow
def test_the_wheel_holds_the_package_and_nothing_else(built):
    wheel, _ = built
    assert wheel.stat().st_size <= MOST_BYTES
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        metadata = email.message_from_bytes(archive.read(next(n for n in names if n.endswith("/METADATA"))))
        scripts = archive.read(next(n for n in names if n.endswith("entry_points.txt"))).decode()
    assert {name for name in names if ".dist-info/" not in name} == sources()
    assert {"kakusan/py.typed", "kakusan/data/mnist.npz", "kakusan/measure/digits.safetensors"} <= names
    assert any(name.endswith("licenses/LICENSE") for name in names)
    assert "kakusan = kakusan.__main__:main" in scripts
    assert metadata["Requires-Python"] == ">=3.11"
    assert set(metadata.get_all("Provides-Extra")) == EXTRAS


@pytest.mark.slow
def test_the_source_distribution_holds_tests_and_pages(built):
    _, sdist = built
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {f"src/{name}" for name in sources()} <= names
    for needed in ("tests/conftest.py", "docs/theory.md", "README.md", "CHANGELOG.md", "CITATION.cff", "LICENSE"):
        assert needed in names
    assert not [name for name in names if name.startswith((".venv", "runs/", "dist/"))]


@pytest.mark.slow
def test_the_wheel_alone_trains_and_writes_a_report(built, tmp_path):
    wheel, _ = built
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "site")
    environment = {**os.environ, "PYTHONPATH": str(tmp_path / "site"), "OMP_NUM_THREADS": "1"}
    code = "import kakusan; print(kakusan.__file__)"
    place = subprocess.run([sys.executable, "-c", code], env=environment, cwd=tmp_path, capture_output=True, text=True)
    assert place.stdout.startswith(str(tmp_path / "site")), place.stderr
    words = ["train", "mnist-vae", "--steps", "2", "--out", "run"]
    done = subprocess.run(
        [sys.executable, "-m", "kakusan", *words], env=environment, cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "run" / "report.html").stat().st_size > 10_000


def test_the_extras_are_named_in_one_place():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert set(project["optional-dependencies"]) == EXTRAS
    versions = {c.rpartition(" ")[2] for c in project["classifiers"] if "Python :: 3." in c}
    assert versions == {"3.11", "3.12", "3.13"}


def test_the_oldest_versions_that_are_tried_are_the_lower_bounds():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    tried = dict(re.findall(r"^(\w+)==([\d.]+)", (ROOT / "tests" / "oldest.txt").read_text(encoding="utf-8"), re.M))
    for line in project["dependencies"]:
        name, bound = line.split(">=")
        assert tried[name].split(".") == (bound + ".0.0").split(".")[:3], name


def cells(path: Path) -> list[str]:
    """Code cells of a notebook, without lines for the notebook's shell."""
    notebook = json.loads(path.read_text(encoding="utf-8"))
    code = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert all(cell["outputs"] == [] and cell["execution_count"] is None for cell in code), "clear the outputs"
    return ["".join(line for line in cell["source"] if not line.startswith(("%", "!"))) for cell in code]


def test_the_notebook_installs_the_package_first():
    notebook = json.loads((ROOT / "examples" / "quickstart.ipynb").read_text(encoding="utf-8"))
    first = next(cell for cell in notebook["cells"] if cell["cell_type"] == "code")
    assert first["source"][0].startswith("%pip install")


@pytest.mark.slow
def test_every_cell_of_the_notebook_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    script = "\n\n".join(cells(ROOT / "examples" / "quickstart.ipynb"))
    assert script.count("steps = 1500") == 1
    (tmp_path / "notebook.py").write_text(script.replace("steps = 1500", "steps = 2"), encoding="utf-8")
    names = runpy.run_path(str(tmp_path / "notebook.py"))
    assert names["images"].shape == (64, 28, 28, 1)
    assert names["bound"].standard_error > 0
