"""`kakusan.fit` against exact worlds: losses fall, bounds approach their exact values, bad input is refused."""

import math
import signal

import pytest
import torch
from torch import nn

import kakusan as kk
from harness.faults import catches
from harness.support import F64, SMALL_BETAS, seeded
from kakusan.models.clusters import coarse
from kakusan.oracles import GaussianWorld, LinearVAEWorld
from kakusan.training.settings import Optim

FAST = Optim(lr=0.05, warmup=10, batch=64, weight_decay=0.0)
FACTORS = LinearVAEWorld([[1.5], [-0.8]], [0.3, 1.0])  # one column: the posterior has independent coordinates
BLOB = GaussianWorld([0.3, -0.2], [[0.6, 0.25], [0.25, 0.4]])


class LinearEncoder(nn.Module):
    """Mean linear in x, and a constant variance: the family of the exact posterior."""

    def __init__(self):
        super().__init__()
        self.mean, self.log_var = nn.Linear(2, 1, dtype=F64), nn.Parameter(torch.zeros(1, dtype=F64))

    def forward(self, x):
        return self.mean(x), self.log_var.expand(len(x), 1)


class AffineDenoiser(nn.Module):
    """Estimate of x that is affine in z_t, with coefficients of its own at each step: the family of the exact one."""

    def __init__(self, depth=5, num_classes=1):
        super().__init__()
        self.gain = nn.Parameter(torch.zeros(depth + 1, 2, 2, dtype=F64))
        self.bias = nn.Parameter(torch.zeros(num_classes, depth + 1, 2, dtype=F64))

    def forward(self, z, t, cond=None):
        k = torch.zeros_like(t) if cond is None else cond
        return (self.gain[t] @ z[..., None])[..., 0] + self.bias[k, t]


def linear_vae(seed=0):
    torch.manual_seed(seed)
    return kk.VAE(LinearEncoder(), nn.Linear(1, 2, dtype=F64), latent_shape=1)


def affine_diffusion(**settings):
    schedule = kk.Schedule.from_betas(SMALL_BETAS)
    return kk.Diffusion(AffineDenoiser(**settings), schedule, 2, "x", "beta_tilde")


def mean_elbo(chain, x, cond=None):
    with torch.no_grad():
        return kk.elbo(chain, x, seeded(1), cond=cond).mean().item()


@catches("""training/fit.py: nothing is trained
- finished = trainer.run([], lambda trainer: None, record)
+ finished = True""")
def test_a_linear_vae_reaches_the_exact_evidence():
    x, chain = FACTORS.sample(1000, seeded(0)), linear_vae()
    before = mean_elbo(chain, x)
    history = kk.fit(chain, x, steps=300, optim=FAST)
    evidence = FACTORS.log_prob(x).mean().item()
    # fitted parameters beat the true ones on these examples by about 5 / 2 / 1000 nats; one path each: error 0.02
    assert mean_elbo(chain, x) == pytest.approx(evidence, abs=0.1)
    assert before < evidence - 0.5
    assert history.loss[-1] < history.loss[0]


def test_a_diffusion_model_reaches_the_exact_bound_of_the_best_denoiser():
    x, chain = BLOB.sample(1000, seeded(0)), affine_diffusion()
    before = mean_elbo(chain, x)
    kk.fit(chain, x, steps=400, optim=FAST)
    exact = BLOB.bound(x, SMALL_BETAS, "beta_tilde").elbo.mean().item()
    assert before < exact - 0.5
    assert mean_elbo(chain, x) == pytest.approx(exact, abs=0.15)  # Monte Carlo error below 0.05


@catches("""training/fit.py: every example has the condition of the first
- cond=None if cond is None else cond[indices])
+ cond=None if cond is None else cond[:1].expand(len(indices)))""")
def test_a_conditional_chain_learns_from_the_condition_of_each_example():
    cond = torch.arange(600) % 2
    x = 0.1 * torch.randn(600, 2, dtype=F64, generator=seeded(0)) + 4.0 * cond[:, None] - 2.0
    chain = affine_diffusion(num_classes=2)
    kk.fit(chain, x, cond=cond, steps=300, optim=FAST)
    assert mean_elbo(chain, x, cond) > mean_elbo(chain, x, 1 - cond) + 1
    drawn = kk.sample(chain, 50, cond=torch.ones(50, dtype=torch.int64), seed=0)
    assert drawn.mean() == pytest.approx(2.0, abs=0.3)


def test_the_same_seed_gives_the_same_weights_and_another_seed_others():
    x, found = FACTORS.sample(100, seeded(0)), []
    for seed in (3, 3, 4):
        chain = linear_vae()
        kk.fit(chain, x, steps=5, seed=seed)
        found.append(torch.cat([p.detach().flatten() for p in chain.parameters()]))
    assert torch.equal(found[0], found[1])
    assert not torch.equal(found[0], found[2])


@catches("""training/fit.py: the last weights are kept, and not the averaged ones
- if average:
+ if False:""")
def test_the_last_weights_are_kept_if_asked_for():
    x, last, found = FACTORS.sample(100, seeded(0)), [], []

    def keep(trainer):
        last[:] = [p.detach().clone() for p in trainer.module.parameters()]

    for average in (False, True):
        chain = linear_vae()
        kk.fit(chain, x, steps=20, optim=FAST, average=average, on_step=keep)
        found.append(all(torch.equal(a, b) for a, b in zip(chain.parameters(), last)))
    assert found == [True, False]


def test_the_history_has_a_line_for_each_step_and_a_short_form():
    history = kk.fit(linear_vae(), FACTORS.sample(10, seeded(0)), steps=3)
    columns = history.to_dict()
    assert columns["step"] == [1, 2, 3]
    assert len(columns["loss"]) == len(columns["seconds"]) == 3
    assert repr(history).startswith("History(3 steps, ")


X = FACTORS.sample(8, seeded(0))


@catches("""training/fit.py: the number of conditions is not checked [change6-for each of the 8 examples, got 7]
- if cond is not None and len(cond) != len(x):
+ if False:""")
@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"x": X.float()}, "x is torch.float32 on cpu and the chain torch.float64"),
        ({"x": X * float("nan")}, "values must be finite"),
        ({"x": torch.cat([X.repeat(20, 1), X * float("nan")])}, "values must be finite"),
        ({"x": torch.zeros(8, 2, dtype=torch.uint8)}, "must be floating-point"),
        ({"x": X[:0]}, "at least one example"),
        ({"x": X[:, :1], "chain": affine_diffusion()}, "must have shape"),
        ({"cond": torch.zeros(7, dtype=torch.int64)}, "for each of the 8 examples, got 7"),
        ({"chain": nn.Linear(2, 2)}, "a LatentChain that is an nn.Module, got Linear"),
        ({"chain": affine_diffusion().requires_grad_(False)}, "no trainable parameters"),
        ({"steps": None}, "needs a budget"),
        ({"minutes": 1.0}, "needs a budget"),
    ],
)
def test_what_cannot_be_fitted_is_refused_before_anything_moves(change, words):
    arguments = {"chain": linear_vae(), "x": X, "steps": 2, **change}
    with pytest.raises(kk.InputError, match=words):
        kk.fit(arguments.pop("chain"), arguments.pop("x"), **arguments)


def test_a_training_loop_of_ones_own_needs_public_names_only():
    x = BLOB.sample(500, seeded(0))
    chain = kk.Diffusion(AffineDenoiser(), kk.Schedule.from_betas(SMALL_BETAS), 2, "x", "beta_tilde")
    optimizer = torch.optim.Adam(chain.parameters(), lr=0.05)
    generator = torch.Generator().manual_seed(0)
    before = mean_elbo(chain, x)
    for _ in range(200):
        batch = x[torch.randint(len(x), (64,), generator=generator)]
        loss = chain.loss(batch, generator).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert kk.sample(chain, 4, seed=0).shape == (4, 2)
    assert mean_elbo(chain, x) > before + 0.5


def test_clusters_that_were_never_found_are_refused():
    chain = kk.Mixture(affine_diffusion(num_classes=2), kk.Clusters(2, (2,)))
    x = torch.cat([torch.full((60, 2), -1.0, dtype=F64), torch.full((60, 2), 1.0, dtype=F64)])
    with pytest.raises(kk.InputError, match="no centroids yet"):
        kk.fit(chain, x, steps=1)
    chain.classes.find(coarse(x))
    kk.fit(chain, x, steps=1, optim=FAST)


def test_a_network_trained_in_bfloat16_computes_in_float64_afterwards():
    torch.manual_seed(0)
    chain = kk.VAE(lambda x: (x, 0 * x), nn.Linear(2, 2), latent_shape=2)
    kk.fit(chain, torch.rand(8, 2), steps=1, optim=Optim(batch=8, precision="bfloat16"))
    assert chain.double().decoder(torch.rand(3, 2, dtype=F64)).dtype == F64


@catches("""training/fit.py: a chain that was evaluated is left in training mode
- model.train(was_training)
+ model.train(True)""")
@pytest.mark.parametrize("training", [True, False])
def test_a_chain_is_left_in_the_mode_that_it_had(training):
    chain = kk.VAE(kk.nets.GaussianMLP((2,), (4,), (1,)), kk.nets.MLP((1,), (4,), (2,)), latent_shape=1)
    chain.train(training)
    kk.fit(chain, torch.zeros(8, 2), steps=1)
    assert chain.training is chain.decoder.training is training


@catches("""training/fit.py: an interrupted fit ends as a finished one
-     if not finished:
-         raise KeyboardInterrupt
-     return history
+     return history""")
def test_an_interrupted_fit_raises_and_keeps_what_was_learned():
    chain, averages = linear_vae(), []

    def interrupt(trainer):
        if trainer.state.step == 3:
            signal.raise_signal(signal.SIGINT)
        averages[:] = [p.clone() for p in trainer.ema.module.parameters()]

    with pytest.raises(KeyboardInterrupt):
        kk.fit(chain, FACTORS.sample(100, seeded(0)), steps=10, optim=FAST, on_step=interrupt)
    assert all(torch.equal(a, b) for a, b in zip(chain.parameters(), averages, strict=True))
    assert not any(torch.equal(a, b) for a, b in zip(chain.parameters(), linear_vae().parameters(), strict=True))


@catches("""training/fit.py: a skipped step has the loss of the one before
- if state.loss is not None and state.step - 1 not in state.skipped:
+ if state.loss is not None:""")
def test_a_skipped_step_is_not_in_the_history():
    chain, calls = linear_vae(), []
    honest = chain.loss

    def loss(*given, **named):
        calls.append(1)
        return honest(*given, **named) * (math.nan if len(calls) == 3 else 1.0)

    chain.loss = loss
    assert kk.fit(chain, FACTORS.sample(10, seeded(0)), steps=5).step == [1, 2, 4, 5]
