"""Networks in bfloat16 and compiled ones: what stays float32, what is refused, and that stopping changes no bit."""

import importlib.util
import os
import shutil
from contextlib import contextmanager

import pytest
import torch
from torch import nn

from harness import engine_job
from harness.faults import catches
from kakusan.errors import InputError
from kakusan.run.build import build
from kakusan.run.families.dirichlet import DirichletConfig
from kakusan.run.families.hierarchy import HierarchyConfig
from kakusan.run.families.vae import VAEConfig
from kakusan.training import checkpoint
from kakusan.training.loop import Trainer
from kakusan.training.precision import Computing, check_computing, networks
from kakusan.training.settings import Budget, Optim

CPU, CUDA = torch.device("cpu"), torch.device("cuda")


class Net(nn.Module):
    """A network of our own: torch compiles no single layer of its own."""

    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Linear(4, 8), nn.Linear(8, 1)

    def forward(self, x):
        return self.last(self.first(x).tanh())


def trainer(**settings):
    torch.manual_seed(0)
    module = nn.Module()
    module.net = Net()
    x = torch.randn(40, 4)

    def loss(indices, randomness):
        noisy = x[indices] + 0.1 * torch.randn(len(indices), 4, generator=randomness)
        return (module.net(noisy) - x[indices].sum(1, keepdim=True)).square().squeeze(1)

    return Trainer(module, loss, len(x), Optim(batch=8, warmup=2, **settings), Budget(steps=10), 0, CPU)


def ends_alike(tmp_path, one, half, on):
    """A run that was stopped and gone on with has the bits of one that was not."""
    engine_job.run(one)
    checkpoint.save(engine_job.run(half, stop_at=4), tmp_path)
    checkpoint.restore(on, tmp_path)
    assert on.state.step == 4
    assert engine_job.everything(engine_job.run(on)) == engine_job.everything(one)
    return one


@pytest.mark.parametrize("method", ["adam", "muon"])
def test_a_stopped_run_in_bfloat16_ends_with_the_same_bits(tmp_path, method):
    settings = {"precision": "bfloat16", "method": method}
    ends_alike(tmp_path, *(engine_job.trainer(**settings) for _ in range(3)))


@catches("""training/precision.py: what a network returns stays bfloat16
- part.register_forward_hook(_widened)
+ pass""")
@catches("""training/precision.py: bfloat16 is asked for and not done
- if self.precision != "bfloat16":
+ if True:""")
@catches("""training/precision.py: threads share the cache of rounded weights
- cache_enabled=self.device.type != "cpu"
+ cache_enabled=True""")
def test_bfloat16_is_in_the_networks_products_and_nowhere_else():
    one, plain = trainer(precision="bfloat16"), trainer()
    seen = []
    one.module.net.last.register_forward_hook(lambda layer, inputs, output: seen.append(output.dtype))
    one.module.net.register_forward_hook(lambda net, inputs, output: seen.append(output.dtype))
    one.module.net.register_forward_hook(lambda *_: seen.append(torch.is_autocast_cache_enabled()))
    indices, noise = one.draws(0, 0)
    loss = one.losses(indices, noise)
    # inside, and what the bound's arithmetic is done with; groups side by side would share what autocast keeps
    assert seen == [torch.bfloat16, torch.float32, False]
    assert loss.dtype == torch.float32
    exact = plain.losses(*plain.draws(0, 0))
    assert not torch.equal(loss, exact)
    # 8 significant bits in two layers; losses are squares of numbers of about 1
    torch.testing.assert_close(loss, exact, rtol=0.1, atol=0.1)
    engine_job.run(one)
    assert {tensor.dtype for named in one.snapshot()[0].values() for tensor in named.values()} == {torch.float32}


def test_a_copy_that_is_measured_with_computes_in_float32():
    one = engine_job.run(trainer(precision="bfloat16"))
    x = torch.randn(5, 4)
    average = one.ema.module.net
    by_hand = (x @ average.first.weight.T + average.first.bias).tanh() @ average.last.weight.T + average.last.bias
    torch.testing.assert_close(average(x), by_hand, rtol=1e-5, atol=1e-6)  # float32, sums of eight
    assert not average._forward_hooks


def test_the_networks_are_what_a_model_calls():
    assert len(networks(build(VAEConfig(hidden=(4,), latent=2), (1, 2, 2)))) == 2
    assert len(networks(build(HierarchyConfig(hidden=4, latents=(2, 2)), (1, 2, 2)))) == 4
    assert networks(build(DirichletConfig(), (3,))) == []


REFUSED = [
    ({"precision": "tf32"}, CPU, "tf32 needs a GPU.*choose float32"),
    ({"compile": "reduce-overhead"}, CPU, "needs a GPU.*choose default"),
    ({"compile": "max-autotune"}, CPU, "needs a GPU.*choose default"),
    ({"compile": "max-autotune", "batch": 8, "groups": 2}, CUDA, "2 for 1.*--optim.groups 1"),
]


@pytest.mark.parametrize(("settings", "device", "words"), REFUSED)
def test_what_a_device_cannot_do_is_refused_in_one_line(settings, device, words):
    with pytest.raises(InputError, match=words) as refused:
        check_computing(trainer().module, Optim(**settings), device)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("settings", [{"precision": "bfloat16"}, {"compile": "default"}])
def test_a_model_without_networks_is_refused(settings):
    with pytest.raises(InputError, match="this model has none"):
        check_computing(build(DirichletConfig(), (3,)), Optim(**settings), CPU)


def test_without_a_compiler_nothing_is_begun(monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(InputError, match=r"needs a C\+\+ compiler.*install g\+\+"):
        check_computing(trainer().module, Optim(compile="default"), CPU)


def test_bfloat16_is_refused_for_a_network_in_float64():
    with pytest.raises(InputError, match=r"needs a float32 network, and this model has none; choose float32"):
        check_computing(trainer().module.double(), Optim(precision="bfloat16"), CPU)


@pytest.mark.parametrize("supported", [True, False])
def test_bfloat16_is_refused_on_a_gpu_without_units_for_it(monkeypatch, supported):
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: supported or including_emulation)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "Old GPU")
    try:
        check_computing(trainer().module, Optim(precision="bfloat16"), CUDA)
        words = ""
    except InputError as error:
        words = str(error)
    assert words == ("" if supported else "Old GPU does not support bfloat16; choose optim.precision float32")


@pytest.mark.parametrize("device", [CPU, CUDA])
@pytest.mark.parametrize("found", [True, False])
def test_compiling_for_a_gpu_needs_triton_and_for_a_cpu_none(monkeypatch, device, found):
    monkeypatch.setattr(shutil, "which", lambda name: None if device == CUDA else "/usr/bin/c++")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object() if found and name == "triton" else None)
    try:
        check_computing(trainer().module, Optim(compile="default"), device)
        refused = False
    except InputError as error:
        refused = "needs triton on a GPU, and it is not installed" in str(error)
        assert refused
    assert refused == (device == CUDA and not found)


@pytest.mark.parametrize(("mode", "calls"), [("none", 0), ("default", 1), ("reduce-overhead", 3), ("max-autotune", 3)])
def test_networks_are_compiled_in_the_mode_that_was_asked_for_and_warmed_up_as_often_as_it_needs(
    monkeypatch, mode, calls
):
    compiled, begun = [], []
    monkeypatch.setattr(nn.Module, "compile", lambda self, **how: compiled.append((type(self), how)))
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())
    monkeypatch.setattr(torch.compiler, "cudagraph_mark_step_begin", lambda: begun.append(1))
    computing = Computing(trainer().module, Optim(compile=mode), CUDA)
    assert compiled == ([] if mode == "none" else [(Net, {"mode": mode, "dynamic": False})])
    assert computing.warm_up_calls == calls
    computing.step()
    assert len(begun) == (calls == 3)  # a step of replayed graphs begins only where graphs are replayed


def test_every_output_of_a_network_in_bfloat16_becomes_float32_and_others_keep_their_kind():
    module = nn.Sequential(nn.Linear(1, 1))
    Computing(module, Optim(precision="bfloat16"), CPU)
    (hook,) = module[0]._forward_hooks.values()
    half, double = torch.ones(2, dtype=torch.bfloat16), torch.ones(2, dtype=torch.float64)
    found = hook(module[0], (), (half, (double, half), "words"))
    assert [found[0].dtype, found[1][0].dtype, found[1][1].dtype] == [torch.float32, torch.float64, torch.float32]
    assert found[2] == "words"
    assert hook(module[0], (), double) is double


@pytest.fixture
def rounding():
    """torch's own switches, as they were before."""
    matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    before = matmul.allow_tf32, cudnn.allow_tf32
    yield matmul, cudnn
    matmul.allow_tf32, cudnn.allow_tf32 = before


@catches("""training/precision.py: TF32 stays as torch has it
- _set_tf32(to_tf32, to_tf32)
+ pass""")
def test_tf32_is_on_for_a_step_that_asked_for_it_and_off_otherwise(rounding):
    matmul, cudnn = rounding
    matmul.allow_tf32, cudnn.allow_tf32 = False, True  # as torch comes
    with Computing(nn.Sequential(Net()), Optim(), CPU).step():
        assert cudnn.allow_tf32  # a CPU's steps leave it alone
    for precision, wanted in (("float32", False), ("tf32", True), ("bfloat16", False)):
        computing = Computing(nn.Sequential(Net()), Optim(), CPU)
        computing.precision, computing.device = precision, CUDA
        with computing.step():
            assert matmul.allow_tf32 == cudnn.allow_tf32 == wanted
        assert (matmul.allow_tf32, cudnn.allow_tf32) == (False, True)


@catches("""training/loop.py: the backward pass is in torch's own precision [1]
-                 with self.computing.step(), self.engine.backward(self.objective, last=last == 0):
-                     loss = share()
-                     loss.backward()
+                 with self.engine.backward(self.objective, last=last == 0):
+                     with self.computing.step():
+                         loss = share()
+                     loss.backward()""")
@pytest.mark.parametrize("groups", [1, 2])
def test_the_backward_pass_is_in_the_precision_of_the_step_too(groups):
    seen, inside = [], [False]

    @contextmanager
    def step():
        inside[0] = True
        yield
        inside[0] = False

    one = engine_job.trainer(groups=groups)
    one._threads, one.computing.step = None, step  # a GPU has none
    honest = one.loss

    def loss(indices, randomness):
        value = honest(indices, randomness)
        value.register_hook(lambda gradient: seen.append(inside[0]))
        return value

    one.loss = loss
    one.gradients(0)
    assert seen == [True] * groups
    assert not inside[0]


class Slow:
    """A clock on which compiling takes an hour and a step a second."""

    def __init__(self):
        self.now = 0.0


@catches("""training/loop.py: compiling is taken for the pace of steps [None]
- if new and self._warm_up():
+ if False:""")
@catches("""training/loop.py: a resumed run counts its compiling again [4]
-         if not new:
-             self._warm_up()
-         self.clock.start(self.state.step)
+         self.clock.start(self.state.step)
+         if not new:
+             self._warm_up()""")
@pytest.mark.parametrize("stop_at", [None, 4])
def test_compiling_counts_once_and_not_as_the_pace_of_steps(monkeypatch, tmp_path, stop_at):
    def slowly(one, time):
        gradients, calls = one.gradients, []

        def taking(step):
            time.now += 1.0 if calls else 3600.0
            calls.append(step)
            return gradients(step)

        one.computing.warm_up_calls, one.gradients, one.clock.now = 1, taking, lambda: time.now
        return one

    one = slowly(trainer(), Slow())
    engine_job.run(one, stop_at=stop_at)
    assert one.clock.seconds(one.state.step) == 3600 + one.state.step
    if stop_at is not None:
        checkpoint.save(one, tmp_path)
        on = slowly(trainer(), Slow())
        checkpoint.restore(on, tmp_path)
        engine_job.run(on)
        assert on.clock.seconds(10) == 3600 + 10
        assert engine_job.everything(on) == engine_job.everything(engine_job.run(trainer()))


HAS_COMPILER = any(map(shutil.which, [os.environ.get("CXX") or "c++", "g++", "clang++"]))


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")  # torch's compiler uses what torch warns of
@pytest.mark.filterwarnings("ignore:Skipping serialization:UserWarning")  # of torch 2.6
@pytest.mark.skipif(not HAS_COMPILER, reason="torch compiles for a CPU by a C++ compiler, and there is none")
def test_a_compiled_run_that_was_stopped_ends_with_the_bits_of_one_that_was_not(tmp_path):
    from torch._dynamo.utils import counters

    counters.clear()
    one = ends_alike(tmp_path, *(trainer(compile="default") for _ in range(3)))
    assert counters["stats"]["unique_graphs"] >= 1
    assert not counters["graph_break"]
    plain = engine_job.run(trainer())
    assert list(one.module.state_dict()) == list(plain.module.state_dict())
    for name, value in plain.module.state_dict().items():
        # the same sums in another order: float32 over ten steps of Adam at 1e-3
        torch.testing.assert_close(one.module.state_dict()[name], value, rtol=1e-3, atol=1e-5)
