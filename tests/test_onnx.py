"""The ONNX file of a model, in onnxruntime alone, gives the samples of Python."""

import sys
import warnings

import numpy as np
import pytest
import torch

import kakusan as kk
from harness.exported import write_model
from harness.faults import catches
from harness.support import call
from kakusan.exchange.onnx_chain import open_chain
from kakusan.models.mixture import split

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    onnx, _ = (pytest.importorskip(library) for library in ("onnx", "onnxscript"))
    pytest.importorskip("onnxruntime")

pytestmark = pytest.mark.filterwarnings("ignore")  # of libraries that are not ours


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    root = tmp_path_factory.mktemp("onnx")
    path = write_model(root / "m.safetensors", early=True, clusters=5)
    return path, kk.export(path, root / "m.onnx", "onnx")


@catches("""exchange/onnx_chain.py: guidance of an ONNX file is the other way round
- self.weight * (ours - early[0])
+ self.weight * (early[0] - ours)""")
@catches("""exchange/onnx.py: the guided steps are counted from the other end
- "guided_times": [t for t, guided in enumerate(parts.guided) if guided],
+ "guided_times": [t for t, guided in enumerate(parts.guided[::-1]) if guided],""")
def test_guided_samples_of_the_file_are_those_of_python(exported):
    path, done = exported
    model = kk.load(path, device="cpu")
    chain, classes = split(model.chain)
    theirs, settings = open_chain(done.path, num_threads=1)
    texts = theirs.denoiser.session.get_modelmeta().custom_metadata_map
    assert theirs.depth == chain.depth
    assert (settings["solver"], settings["times"]) == (model.sampling.solver, model.sampling.times())
    cond = torch.tensor([0, 3, 4])  # another number than the check of the export
    options = {**settings, "cond": cond, "seed": 2}
    wanted = kk.sample(model.sampling.chain(), 3, **options)
    torch.testing.assert_close(kk.sample(theirs, 3, **options), wanted, rtol=0, atol=1e-3)
    assert theirs.denoiser.class_probs.tolist() == classes.share.tolist()
    assert "## Limits" in texts["card"]


def test_the_export_tells_the_difference(exported):
    assert "differ by at most" in exported[1].lines[0]


def test_a_missing_library_is_one_line_that_names_the_extra(capsys, exported, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    code, _, told = call(capsys, "export", exported[0], "--format", "onnx", "--out", tmp_path / "m.onnx")
    assert code == 2
    assert "pip install 'kakusan[onnx]'" in told
    assert len(told.strip().splitlines()) == 1


def test_a_file_that_is_no_export_is_refused_in_one_line(exported, tmp_path):
    bare = tmp_path / "bare.onnx"
    graph = onnx.load(exported[1].path)
    del graph.metadata_props[:]
    onnx.save(graph, bare)
    (tmp_path / "text.onnx").write_text("these are my weights, enjoy\n" * 40)
    for path, words in ((bare, "prediction"), (tmp_path / "text.onnx", "not an ONNX"), (tmp_path / "no", "cannot be")):
        with pytest.raises(kk.InputError, match=words) as refused:
            open_chain(path)
        assert len(str(refused.value).splitlines()) == 1
    chain, settings = open_chain(exported[1].path)
    with pytest.raises(kk.InputError, match="pass cond"):
        kk.sample(chain, 2, **settings)


def test_a_diffusion_model_of_series_is_refused_on_one_line(capsys, tmp_path):
    np.save(tmp_path / "s.npy", np.random.default_rng(0).normal(size=(40, 12, 2)))
    small = {"model.width": 8, "model.blocks": 2, "model.depth": 8}
    run = kk.train("series", data=tmp_path / "s.npy", steps=1, out=tmp_path / "run", **small)
    code, out, told = call(capsys, "export", run.path, "--format", "onnx", "--out", tmp_path / "s.onnx")
    assert (code, out) == (2, "")
    assert told.endswith("run is a series model; choose another --format\n")
    assert not (tmp_path / "s.onnx").exists()
