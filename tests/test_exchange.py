"""Export formats: one registry, and a file or folder that is written whole or not at all."""

from pathlib import Path

import numpy as np
import pytest

import kakusan as kk
from harness.faults import catches
from harness.support import call
from kakusan.exchange import EXPORTS
from kakusan.exchange.base import Exported, ExportFormat
from kakusan.registry import Registry
from kakusan.storage import files


class Folder(ExportFormat):
    """A format of two files."""

    suffix = ""

    def make(self, source):
        return Exported({"a.txt": b"12", "part/b.txt": source.facts.recipe.name.encode()}, ["it agrees"])

    def use(self, out):
        return f"look at {out.name}"


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    root = tmp_path_factory.mktemp("exchange")
    rows = np.random.default_rng(1).multinomial(30, [0.5, 0.3, 0.2], 40)
    np.save(root / "counts.npy", rows)
    kk.train("counts-dirichlet", data=root / "counts.npy", steps=3, out=root / "run")
    return root / "run"


@pytest.fixture
def formats(monkeypatch):
    known = Registry("export format", {"folder": "test_exchange:Folder"} | dict(EXPORTS._places))
    monkeypatch.setattr("kakusan.exchange.EXPORTS", known)
    monkeypatch.setattr("kakusan.exchange.export.EXPORTS", known)


USES = {
    "safetensors": "sample it with: kakusan sample {path}",
    "diffusers": "load it with: diffusers.DDPMPipeline.from_pretrained('{path}')",
    "onnx": "load it with: onnxruntime.InferenceSession('{path}')",
    "html": "open it with a double click, or type: python -m webbrowser file://{path}",
}


@catches("""exchange/diffusers_export.py: an exported folder is to be loaded by a class without from_pretrained
- load it with: diffusers.DDPMPipeline.from_pretrained(
+ load it with: diffusers.DDPMPipeline(""")
def test_every_format_says_how_its_result_is_used():
    assert set(EXPORTS) == set(USES)
    for name in EXPORTS:
        assert issubclass(EXPORTS[name], ExportFormat)
        path = Path(f"/home/m{EXPORTS[name].suffix}")
        assert EXPORTS[name]().use(path).replace("python -m kakusan", "kakusan") == USES[name].format(path=path)


def test_the_command_and_python_write_the_same_bytes(capsys, run, tmp_path):
    done = kk.export(run, tmp_path / "a.safetensors")
    code, out, told = call(capsys, "export", run, "--format", "safetensors", "--out", tmp_path / "b.safetensors")
    assert (code, out.strip()) == (0, str(tmp_path / "b.safetensors"))
    assert done.path.read_bytes() == (tmp_path / "b.safetensors").read_bytes()
    assert f"{done.size:,} bytes" in told
    assert done.size == done.path.stat().st_size


@pytest.mark.usefixtures("formats")
def test_a_new_format_is_a_class_and_a_line_of_the_registry(capsys, run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, out, told = call(capsys, "export", run, "--format", "folder")
    assert (code, out.strip()) == (0, "run-folder")
    assert (tmp_path / "run-folder" / "part" / "b.txt").read_text() == "counts-dirichlet"
    for words in ("18 bytes", "it agrees", "look at run-folder"):
        assert words in told
    kk.export(run, tmp_path / "file.safetensors")
    assert kk.export(tmp_path / "file.safetensors", tmp_path / "other", "folder").size == 18


@catches("""exchange/export.py: a folder is written in its own place, so that a reader finds half of it
- part = out.with_name(f".{out.name}.part")
+ part = out""")
@pytest.mark.usefixtures("formats")
def test_a_folder_appears_whole_or_not_at_all(run, tmp_path, monkeypatch):
    def full(operation, path, other):
        if path.name.startswith(".b.txt") and operation == "write":
            raise OSError(28, "no space left on device", str(path))

    monkeypatch.setattr(files, "watch", full)
    with pytest.raises(kk.InputError, match="no space left"):
        kk.export(run, tmp_path / "out", "folder")
    assert not (tmp_path / "out").exists()
    monkeypatch.setattr(files, "watch", None)
    kk.export(run, tmp_path / "out", "folder")
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_an_existing_folder_is_left_unchanged(run, tmp_path):
    (tmp_path / "out.safetensors").mkdir()
    with pytest.raises(kk.InputError, match="left unchanged"):
        kk.export(run, tmp_path / "out.safetensors")


def test_an_unknown_format_names_the_nearest(capsys, run):
    code, _, told = call(capsys, "export", run, "--format", "safetensor")
    assert code == 2
    assert "safetensors" in told
