"""Networks of other libraries: their count of steps and their learned range are translated, and nothing else."""

import runpy
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

import kakusan as kk
from harness.faults import catches

EXAMPLES = Path(__file__).parent.parent / "examples"
WORLD = kk.oracles.GaussianWorld([0.3], [[0.25]])  # its best denoiser is known
SCHEDULE = kk.Schedule.cosine(20)


class Counting(nn.Module):
    """The best denoiser of the world, for a library whose first noisy level has the number `first`."""

    def __init__(self, first, twice=False, factor=1.0):
        super().__init__()
        self.net, self.first, self.twice, self.factor = WORLD.network(SCHEDULE.beta[1:], "eps"), first, twice, factor
        self.seen = set()

    def forward(self, z, steps):
        self.seen |= set(steps.tolist())
        out = self.net(z, (steps / self.factor).round().long() - self.first + 1)
        return torch.cat([out, 3 * torch.ones_like(out)], dim=1) if self.twice else {"sample": out}


def chain(module, **choices):
    return kk.Diffusion.wrap(module, SCHEDULE, 1, prediction="eps", **choices).double()


@catches("""models/wrapped.py: the first noisy level of the module is always 1
- self.module, self.shift = module, first - 1
+ self.module, self.shift = module, 0""")
@pytest.mark.parametrize("first", [0, 1])
def test_a_wrapped_network_is_asked_for_its_own_steps(first):
    module = Counting(first)
    mine = kk.Diffusion(WORLD.network(SCHEDULE.beta[1:], "eps"), SCHEDULE, 1, prediction="eps").double()
    z = torch.linspace(-2, 2, 5, dtype=torch.float64)[:, None]
    wrapped = chain(module, first=first)
    for t in (1, 7, 20):
        torch.testing.assert_close(wrapped.decode(z, t).mean, mine.decode(z, t).mean, rtol=0, atol=1e-12)
    assert module.seen == {first, first + 6, first + 19}


def test_steps_are_scaled_as_openai_does():
    module = Counting(0, factor=50.0)
    chain(module, first=0, time_scale=1000 / 20).decode(torch.zeros(2, 1, dtype=torch.float64), 20)
    assert module.seen == {950.0}


@catches("""models/wrapped.py: the learned range lies in [0, 1] already
- return prediction, (r + 1) / 2
+ return prediction, r""")
def test_a_learned_range_may_leave_its_range():
    down = chain(Counting(0, twice=True), first=0, learned_range=True).reverse(
        torch.zeros(2, 1, dtype=torch.float64), 9
    )
    v = (3 + 1) / 2
    expected = v * SCHEDULE.log_beta[9] + (1 - v) * SCHEDULE.log_beta_tilde[9]
    torch.testing.assert_close(down.log_var, expected.expand(2, 1), rtol=0, atol=1e-12)


def test_a_wrong_convention_is_refused():
    with pytest.raises(kk.InputError, match="first must be 0 or 1"):
        chain(Counting(0), first=2)
    with pytest.raises(kk.InputError, match="learned range needs an output of 2 channels"):
        chain(Counting(0), first=0, learned_range=True).reverse(torch.zeros(2, 1, dtype=torch.float64), 1)
    with pytest.raises(kk.InputError, match=r"nn\.Module"):
        chain(lambda z, t: z, first=0)
    with pytest.raises(TypeError, match="prediction"):
        kk.Diffusion.wrap(Counting(0), SCHEDULE, 1, first=0)  # pyrefly: ignore


def test_the_example_with_openais_interface_runs(capsys):
    runpy.run_path(str(EXAMPLES / "wrap_openai.py"), run_name="__main__")
    assert "(4, 3, 8, 8)" in capsys.readouterr().out


def test_the_reverse_steps_of_lucidrains_are_those_of_its_own_library(monkeypatch):
    for name in ("torchvision", "torchvision.transforms", "torchvision.utils"):  # for folders of images, not used here
        monkeypatch.setitem(sys.modules, name, type(sys)(name))
    monkeypatch.setattr(sys.modules["torchvision"], "transforms", None, raising=False)
    monkeypatch.setattr(sys.modules["torchvision"], "utils", None, raising=False)
    theirs = pytest.importorskip("denoising_diffusion_pytorch")
    wrapped = runpy.run_path(str(EXAMPLES / "wrap_lucidrains.py"))["wrapped"]
    for objective in ("pred_noise", "pred_x0", "pred_v"):
        torch.manual_seed(0)
        net = theirs.Unet(dim=8, dim_mults=(1, 2), channels=1)
        diffusion = theirs.GaussianDiffusion(net, image_size=8, objective=objective, timesteps=30).eval()
        mine, z = wrapped(diffusion).eval(), torch.randn(2, 1, 8, 8)
        for t in (1, 2, 30):
            with torch.no_grad():
                mean, _, log_var, _ = diffusion.p_mean_variance(x=z, t=torch.full((2,), t - 1), clip_denoised=True)
                down = mine.reverse(z, t)
            torch.testing.assert_close(down.mean, mean, rtol=0, atol=1e-5)
            if t > 1:
                torch.testing.assert_close(down.log_var.expand_as(log_var), log_var, rtol=0, atol=1e-4)
