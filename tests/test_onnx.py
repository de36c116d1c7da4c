"""The ONNX file of a model, in onnxruntime alone, gives the samples of Python."""

import json
import sys
import warnings

import pytest
import torch
from torch import nn

import kakusan as kk
from harness.exported import write_model
from harness.faults import catches
from harness.support import call
from kakusan.models.mixture import split

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    for library in ("onnx", "onnxscript"):
        pytest.importorskip(library)
    onnxruntime = pytest.importorskip("onnxruntime")

pytestmark = pytest.mark.filterwarnings("ignore")  # of libraries that are not ours


class Session(nn.Module):
    """A denoiser that is an ONNX file, guided as its metadata say."""

    def __init__(self, path):
        super().__init__()
        self.session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        texts = self.session.get_modelmeta().custom_metadata_map
        self.weight, self.guided = (json.loads(texts[name]) for name in ("guidance", "guided_times"))

    def forward(self, z_t, t, cond=None):
        values = (z_t, t) if cond is None else (z_t, t, cond)
        names = [one.name for one in self.session.get_inputs()]
        found = self.session.run(None, {name: value.numpy() for name, value in zip(names, values)})
        ours = torch.from_numpy(found[0])
        if int(t[0]) not in self.guided:
            return ours
        weaker = torch.from_numpy(found[1])
        return weaker + self.weight * (ours - weaker)


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    root = tmp_path_factory.mktemp("onnx")
    path = write_model(root / "m.safetensors", early=True, clusters=5)
    return path, kk.export(path, root / "m.onnx", "onnx")


@catches("""exchange/onnx.py: the guided steps are counted from the other end
- "guided_times": [t for t, guided in enumerate(parts.guided) if guided],
+ "guided_times": [t for t, guided in enumerate(parts.guided[::-1]) if guided],""")
def test_guided_samples_of_the_file_are_those_of_python(exported):
    path, done = exported
    model = kk.load(path, device="cpu")
    chain, classes = split(model.chain)
    texts = Session(done.path).session.get_modelmeta().custom_metadata_map
    depth = len(json.loads(texts["alpha_bar"])) - 1
    theirs = kk.Diffusion(
        Session(done.path), chain.schedule, json.loads(texts["event_shape"]), texts["prediction"], clip=json.loads(texts["clip"])
    )  # fmt: skip
    assert depth == chain.depth
    cond = torch.tensor([0, 3, 4])  # another number than the check of the export
    options = {"solver": texts["solver"], "times": json.loads(texts["times"]), "cond": cond, "seed": 2}
    wanted = kk.sample(model.sampling.chain(), 3, **options)
    torch.testing.assert_close(kk.sample(theirs, 3, **options), wanted, rtol=0, atol=1e-3)
    assert json.loads(texts["class_probs"]) == classes.share.tolist()
    assert "## Limits" in texts["card"]


def test_the_export_tells_the_difference(exported):
    assert "differ by at most" in exported[1].lines[0]


def test_a_missing_library_is_one_line_that_names_the_extra(capsys, exported, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    code, _, told = call(capsys, "export", exported[0], "--format", "onnx", "--out", tmp_path / "m.onnx")
    assert code == 2
    assert "pip install 'kakusan[onnx]'" in told
    assert len(told.strip().splitlines()) == 1
