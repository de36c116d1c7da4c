"""The pages about installation and exchange: every block that needs no network runs, in the order in which it stands."""

import re
import shlex
import warnings
from types import SimpleNamespace

import pytest
import torch
from torch import nn

import kakusan as kk
from harness.pages import FENCE, ROOT
from harness.support import call
from kakusan.models.mixture import split

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # of libraries that are not ours
    diffusers = pytest.importorskip("diffusers")
    for library in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(library)

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]
PAGES = ("install", "exchange", "html")  # the first one makes runs/demo, which the others use
OF_THE_NETWORK = ("pip install ", "pip wheel ", "hf ")
SMALL = {"demo": ["--steps", "2"], "evaluate": ["--limit", "20"], "sample": ["-n", "2"]}


class Stand(nn.Module):
    """A network with the interface of lucidrains' U-Net."""

    def __init__(self):
        super().__init__()
        self.last = nn.Conv2d(1, 1, 3, padding=1)

    def forward(self, x, time):
        return self.last(x)


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """Folder with what the pages take as given: a pipeline of diffusers for digits."""
    path = tmp_path_factory.mktemp("travel")
    torch.manual_seed(0)
    network = diffusers.UNet2DModel(
        sample_size=28,
        in_channels=1,
        out_channels=1,
        block_out_channels=(8, 16),
        down_block_types=("DownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "UpBlock2D"),
        layers_per_block=1,
        norm_num_groups=4,
    )
    diffusers.DDPMPipeline(network, diffusers.DDPMScheduler()).save_pretrained(path / "pipeline")
    return path


def run_line(line, capsys):
    """One line of a shell, with a small budget."""
    words = shlex.split(line, comments=True)
    if not words or line.startswith(OF_THE_NETWORK):
        return
    assert words[0] == "kakusan", f"no test runs this line: {line}"
    code, out, err = call(capsys, *words[1:], *SMALL.get(words[1], []))
    assert code == 0, f"{line}\n{out}{err}"


def test_every_block_of_the_pages_runs_in_order(home, capsys, monkeypatch):
    monkeypatch.chdir(home)
    names = {"kk": kk, "diffusion": SimpleNamespace(model=Stand(), betas=torch.linspace(1e-4, 0.02, 50))}
    ran = []
    for page in PAGES:
        for language, code in FENCE.findall((ROOT / "docs" / f"{page}.md").read_text(encoding="utf-8")):
            ran.append((page, language))
            if language == "python":
                exec(compile(code, f"{page}.md", "exec"), names)
                continue
            assert language == "sh"
            for line in code.splitlines():
                run_line(line, capsys)
    assert {("install", "sh"), ("exchange", "python"), ("html", "python")} <= set(ran)
    assert len(names["images"]) == 4

    assert names["samples"].shape == (4, 1, 28, 28)
    chain, _ = split(kk.load("runs/demo", device="cpu").sampling.chain())
    z, cond = torch.randn(3, 1, 28, 28), torch.tensor([0, 5, 9])
    for t in (10, 500, 900):  # guided at some
        steps = torch.full((3,), t)
        torch.testing.assert_close(names["predict"](z, steps, cond), chain.predict(z, t, cond)[0], rtol=0, atol=1e-3)


def test_the_table_of_extras_is_that_of_the_package():
    text = (ROOT / "docs" / "install.md").read_text(encoding="utf-8")
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    extras = re.findall(r"^(\w+) = \[", project.split("[project.optional-dependencies]")[1].split("\n[")[0], re.M)
    assert set(re.findall(r"^\| `kakusan\[(\w+)\]`", text, re.M)) == set(extras)
