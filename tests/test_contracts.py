"""What enters a model from outside: network outputs, conditions, large counts, extreme schedules, starts of sampling."""

import math
from types import SimpleNamespace

import pytest
import torch
from torch import nn
from torch.testing import assert_close

import kakusan as kk
from harness.faults import catches
from harness.support import F64, f64, seeded
from kakusan.errors import InputError
from kakusan.guidance import guided
from kakusan.likelihood.diffusion import of_diffusion
from kakusan.likelihood.scores import score_examples
from kakusan.models.diffusion import Diffusion
from kakusan.models.dirichlet_multinomial import DirichletMultinomial
from kakusan.models.networks import (
    as_denoiser,
    as_module,
    as_shape,
    decoder_output,
    denoiser_output,
    encoder_output,
    evaluate,
)
from kakusan.models.vae import VAE
from kakusan.oracles import GaussianWorld
from kakusan.run.families.diffusion import DiffusionConfig
from kakusan.run.recipe import Recipe
from kakusan.run.sampling import SamplingPolicy
from kakusan.schedule import Schedule
from kakusan.solvers import DDIM, SOLVERS, DPMSolver, sample, times

SHORT = Schedule.from_betas([0.05, 0.2, 0.5, 0.9])
IMAGE = (2, 4, 4)
OUTER = nn.Linear(2, 2)


def says(output, variance="beta"):
    return Diffusion(lambda z, t: output(z), SHORT, IMAGE, "x", variance)


@catches("""models/networks.py: an output of one channel is broadcast over all [one channel]
- if output.shape != z_t.shape:
+ if output.shape[0] != z_t.shape[0]:""")
@pytest.mark.parametrize(
    ("output", "words"),
    [
        pytest.param(lambda z: z[:, :1], r"shape of z_t, \(3, 2, 4, 4\), got \(3, 1, 4, 4\)", id="one channel"),
        pytest.param(
            lambda z: torch.cat([z, z], 1), r"got \(3, 4, 4, 4\).*variance='learned'", id="twice the channels"
        ),
        pytest.param(lambda z: z[:1], r"got \(1, 2, 4, 4\)", id="one row"),
        pytest.param(lambda z: (z, z), "got a tuple", id="pair"),
        pytest.param(lambda z: [z], "got a list", id="list"),
        pytest.param(lambda z: {"out": z}, "got a dict", id="dict"),
        pytest.param(lambda z: None, "got a NoneType", id="nothing"),
        pytest.param(lambda z: z > 0, "floating-point tensor, got torch.bool", id="booleans"),
    ],
)
def test_a_network_of_another_output_is_refused_at_every_entrance(output, words):
    model, x = says(output), torch.zeros(3, *IMAGE)
    for use in (
        lambda: model.reverse(x, 2),
        lambda: model.loss(x),
        lambda: kk.elbo(model, x),
        lambda: sample(model, 3),
    ):
        with pytest.raises(InputError, match=words):
            use()


@pytest.mark.parametrize("wrap", [lambda z: (z,), lambda z: {"sample": z}, lambda z: SimpleNamespace(sample=z)])
def test_a_prediction_may_come_in_the_wrapping_of_other_libraries(wrap):
    z = torch.randn(3, *IMAGE, generator=seeded(0))
    assert torch.equal(says(wrap).data_estimate(z, 2), z)


@catches("""models/networks.py: a network of lower precision lowers that of the model
- return output.to(z_t.dtype)
+ return output""")
def test_a_prediction_has_the_numbers_of_the_latent():
    x = torch.randn(3, *IMAGE, generator=seeded(0))
    model = says(lambda z: z.bfloat16())
    assert model.data_estimate(x, 2).dtype == model.loss(x, seeded(1)).dtype == torch.float32


@catches("""models/networks.py: v below 0 is taken [below 0]
- v.min() >= 0
+ True""")
@catches("""models/networks.py: v above 1 is taken [above 1]
- v.max() <= 1
+ True""")
@pytest.mark.parametrize("v", [pytest.param(-0.01, id="below 0"), pytest.param(1.01, id="above 1"), math.nan])
def test_a_v_outside_the_unit_interval_is_refused(v):
    with pytest.raises(InputError, match=r"must lie in \[0, 1\].*sigmoid"):
        says(lambda z: (z, torch.full_like(z, v)), "learned").reverse(torch.zeros(3, *IMAGE), 2)


def test_a_learned_variance_needs_a_pair():
    with pytest.raises(InputError, match=r"pair \(prediction, v\); got a Tensor"):
        says(lambda z: z, "learned").reverse(torch.zeros(3, *IMAGE), 2)


def test_a_network_that_takes_the_latent_alone_or_other_numbers_is_refused_by_name():
    with pytest.raises(InputError, match=r"called as net\(z_t, t\), and its signature is \(z\)"):
        Diffusion(lambda z: z, SHORT, 2).loss(torch.zeros(3, 2))

    class Linear(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(2, 2)

        def forward(self, z, t):
            return self.layer(z)

    with pytest.raises(InputError, match=r"computes in torch.float32, and its input is torch.float64"):
        Diffusion(Linear(), SHORT, 2).loss(torch.zeros(3, 2, dtype=F64))


@pytest.mark.parametrize(
    ("encoder", "decoder", "words"),
    [
        (lambda x: x, lambda z: z, r"pair \(mean, log_var\)"),
        (lambda x: (x[:, :1], x), lambda z: z, "encoder's mean must have shape"),
        (lambda x: (x, x[:1]), lambda z: z, "encoder's log_var must have shape"),
        (lambda x: (x, x), lambda z: z[:, :1], "check the output shape of the network"),
        (lambda x: (x, x), lambda z: (z, z[:, :1]), r"must have one shape, got \(3, 2\) and \(3, 1\)"),
    ],
)
@catches("""models/networks.py: log-variances of one column stand for all
- if len(parts) == 2 and parts[0].shape != parts[1].shape:
+ if False:""")
def test_encoders_and_decoders_of_another_output_are_refused(encoder, decoder, words):
    with pytest.raises(InputError, match=words):
        kk.elbo(VAE(encoder, decoder, 2), torch.zeros(3, 2))


# Numbers


@pytest.mark.parametrize("n", [10**3, 10**5, 10**6, 10**7])
def test_counts_of_a_sequencing_run_have_their_exact_evidence_in_float32(n):
    """For concentration 1 the evidence is uniform over all counts of a total: -log C(total + 2, 2)."""
    counts, total = [n, 2 * n, 3 * n], 6 * n
    exact = -math.log((total + 2) * (total + 1) / 2)
    model = DirichletMultinomial([1.0, 1.0, 1.0])
    x = torch.tensor([counts])
    assert model.log_evidence(x).item() == pytest.approx(exact, abs=1e-4)
    bound = kk.elbo(model, x, seeded(0)).item()
    assert bound == pytest.approx(exact, abs=1e-3)
    if total in (6_000_000, 60_000_000):
        assert exact == pytest.approx({6_000_000: -30.5214, 60_000_000: -35.1266}[total], abs=1e-4)


@catches("""checks.py: float16 data are taken [float16]
- if x.dtype in (torch.float16, torch.bfloat16):
+ if x.dtype in (torch.bfloat16,):""")
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=["float16", "bfloat16"])
def test_data_in_half_precision_are_refused(dtype):
    for model in (contracting(), VAE(lambda x: (x, x), lambda z: z, 2)):
        with pytest.raises(InputError, match="must be float32 or float64"):
            kk.elbo(model, torch.zeros(3, 2, dtype=dtype))


# Schedules at their ends


def exact(schedule, prediction):
    """A perfect network for data N(0, I / 4), of any prediction."""

    def x_hat(z, t):
        signal, noise_var = (schedule.at(name, t, z) for name in ("signal", "noise_var"))
        return signal * z / 4 / (signal**2 / 4 + noise_var)

    model = Diffusion(x_hat, schedule, 2, "x")

    def network(z, t):
        x, signal, noise = x_hat(z, t), schedule.at("signal", t, z), schedule.at("noise", t, z)
        if prediction == "v":
            return signal * (z - signal * x) / noise - noise * x
        return model.reverse_of(x, z, t, None).mean if prediction == "mean" else x

    return Diffusion(network, schedule, 2, prediction)


@pytest.mark.parametrize("name", SOLVERS)
def test_a_schedule_whose_noise_rounds_to_one_in_float32_is_sampled_without_nan(name):
    x = sample(exact(Schedule.linear(1000, 0.01, 0.2), "x"), 20, solver=name, steps=12)
    assert x.dtype == torch.float32
    assert x.isfinite().all()
    assert x.abs().max() < 5


@pytest.mark.parametrize("prediction", ["v", "x", "mean"])
def test_zero_terminal_snr_is_sampled_and_evaluated(prediction):
    model = exact(Schedule.from_betas([0.05, 0.1, 0.3, 0.6, 1.0]), prediction)
    for name in SOLVERS:
        assert sample(model, 20, solver=name, steps=4).isfinite().all(), name
    data = 0.5 * torch.randn(60, 2, generator=seeded(0))
    found = of_diffusion(model, lambda rows: data[rows], len(data))
    assert all(term.isfinite().all() for term in found.terms.values())
    assert (found.terms["prior"] == 0).all()
    assert model.loss(data).isfinite().all()


@pytest.mark.parametrize("prediction", ["eps", "score"])
def test_zero_terminal_snr_is_refused_for_predictions_that_leave_x_unknown(prediction):
    with pytest.raises(InputError, match=r"zero terminal SNR.*prediction='v'"):
        Diffusion(lambda z, t: z, Schedule.from_betas([0.5, 1.0]), 2, prediction)


@pytest.mark.proves("S37")
def test_the_logistic_betas_are_those_of_their_code():
    schedule = Schedule.sigmoid_beta(5, 0.1, 0.6)
    wanted = f64([1 / (1 + math.exp(-s)) * 0.5 + 0.1 for s in (-6, -3, 0, 3, 6)])
    assert_close(schedule.beta[1:], wanted, rtol=1e-12, atol=0)


@catches("""models/diffusion.py: fixed_large keeps beta at the first step
- log_var[1] = self.schedule.log_beta_tilde[1]
+ log_var[1] = log_var[1]""")
def test_the_published_large_variance_is_beta_but_at_the_first_step():
    def variances(name):
        model = Diffusion(lambda z, t: z, SHORT, 2, "x", name).double()
        return torch.stack([model.reverse(torch.zeros(1, 2, dtype=F64), t).var.flatten()[0] for t in range(1, 5)])

    assert_close(variances("fixed_large")[1:], variances("beta")[1:])
    assert_close(variances("fixed_large")[0], variances("beta_tilde")[0])
    assert variances("fixed_large")[0] < variances("beta")[0]


# Conditions


def conditional():
    """Its estimate is the condition itself, so that every value shows which one was passed."""
    return Diffusion(lambda z, t, cond: cond.to(z.dtype)[:, None].expand_as(z), SHORT, 2, "x").double()


def fixed(k):
    return Diffusion(lambda z, t: torch.full_like(z, k), SHORT, 2, "x").double()


@pytest.mark.parametrize("name", ["elbo_path", "elbo_pair", "elbo_single", "terms", "loss", "elbo"])
def test_a_condition_reaches_the_network_from_every_entrance(name):
    x, cond = torch.randn(4, 2, generator=seeded(0), dtype=F64), torch.full((4,), 3)
    run = getattr(kk, name) if name == "elbo" else lambda model, *a, **k: getattr(model, name)(*a, **k)
    one, two = run(conditional(), x, generator=seeded(1), cond=cond), run(fixed(3.0), x, generator=seeded(1))
    assert_close(one, two, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("method", ["reverse", "data_estimate", "decode", "step_cost", "step_log_prob"])
def test_a_condition_is_that_of_its_own_example(method):
    z, cond = torch.randn(2, 2, generator=seeded(0), dtype=F64), torch.tensor([5, 1])
    arguments = (z, z, 2) if method.startswith("step") else (z, 2)
    values = [getattr(model, method)(*arguments, *more) for model, *more in ((conditional(), cond), (fixed(5.0),))]
    one, two = (value if isinstance(value, torch.Tensor) else value.mean for value in values)
    assert_close(one[0], two[0])
    assert not torch.allclose(one[1], two[1])


@pytest.mark.parametrize("name", SOLVERS)
def test_samples_of_a_condition_are_its_own(name):
    cond = torch.arange(6)
    x = sample(conditional(), solver=name, cond=cond, steps=3)
    assert_close(x, cond.double()[:, None].expand(6, 2))


@catches("""solvers/loop.py: each batch of samples has the conditions of the first
- known = None if cond is None else cond[rows]
+ known = None if cond is None else cond[: rows.stop - rows.start]""")
@catches("""solvers/loop.py: each batch of samples of a chain of one pass has the latents of the first
- start_at = None if z is None else z[rows] if
+ start_at = None if z is None else z[: rows.stop - rows.start] if""")
def test_conditions_and_latents_beyond_one_batch_belong_to_their_samples():
    cond = torch.arange(260)
    assert_close(sample(conditional(), cond=cond, steps=1), cond.double()[:, None].expand(260, 2))
    assert_close(sample(conditional(), 4, cond=3), torch.full((4, 2), 3.0, dtype=F64))  # one class for all
    chain = VAE(lambda x: (x, x), lambda z: (z, torch.full_like(z, -60.0)), 1).double()
    z = torch.arange(260.0, dtype=F64)[:, None]
    assert_close(sample(chain, z=z), z, rtol=0, atol=1e-9)  # std exp(-30)


def test_a_vae_passes_its_condition_to_both_networks():
    heard = []

    def encoder(x, cond):
        heard.append(cond)
        return x, torch.zeros_like(x)

    def decoder(z, cond):
        heard.append(cond)
        return z + 10.0 * cond[:, None]

    model, cond, x = VAE(encoder, decoder, 2), torch.tensor([0, 1, 2]), torch.zeros(3, 2)
    kk.elbo(model, x, cond=cond), model.loss(x, cond=cond)
    assert len(heard) >= 4
    assert all(torch.equal(one, cond) for one in heard)
    assert kk.sample(model, cond=cond).mean(1).diff().min() > 2


# The loop of sampling


def contracting(variance="beta"):
    return Diffusion(lambda z, t: 0.4 * z, SHORT, 2, "x", variance).double()


@catches("""solvers/loop.py: every batch of samples begins with the same streams
- range(first + rows.start, first + rows.stop)
+ range(first, first + rows.stop - rows.start)""")
def test_a_sample_depends_on_the_seed_and_its_number_alone_beyond_one_batch():
    many = sample(contracting(), 270, seed=3)
    assert len(many.unique(dim=0)) == 270
    assert_close(many[255:260], sample(contracting(), 5, seed=3, first=255), rtol=1e-12, atol=1e-12)


def test_sampling_starts_from_given_latents_at_given_times_and_tells_each_step():
    z, seen = torch.randn(260, 2, generator=seeded(0), dtype=F64), []
    x = kk.sample(contracting(), z=z, times=[3, 1], solver=DDIM(), callback=seen.append)
    assert [(step.number, step.t.index, step.s.index, len(step.z_t)) for step in seen] == [
        (1, 3, 1, 250), (2, 1, 0, 250), (1, 3, 1, 10), (2, 1, 0, 10)
    ]  # fmt: skip
    assert torch.equal(torch.cat([seen[0].z_t, seen[2].z_t]), z)
    assert torch.equal(torch.cat([seen[1].z_s, seen[3].z_s]), x)
    assert_close(seen[0].x_hat, 0.4 * z[:250])
    assert_close(x, 0.4 * torch.cat([seen[0].z_s, seen[2].z_s]))


def test_methods_that_are_one_another_give_one_anothers_samples():
    def draws(solver, variance="beta"):
        return sample(contracting(variance), 50, solver=solver, times=[1, 2, 3, 4])

    assert_close(draws(DDIM(eta=1.0)), draws("ancestral", "beta_tilde"), rtol=1e-10, atol=1e-10)
    assert_close(draws(DPMSolver(order=1)), draws(DDIM()), rtol=1e-10, atol=1e-10)


@catches("""run/sampling.py: samples are guided at all noise levels
- return guided(self.model, self.weaker, weight, config.guidance_range)
+ return guided(self.model, self.weaker, weight)""")
def test_a_run_samples_as_a_chain_built_by_hand_from_its_recipe():
    config = DiffusionConfig(guidance=2.0, guidance_range=(-2.0, 1.0), end_log_snr=1.0)
    model, weaker = (Diffusion(lambda z, t, c=c: c * z, Schedule.cosine(100), 2, "x").double() for c in (0.4, 0.3))
    policy = SamplingPolicy(model, weaker, Recipe("r", "", config))
    found = policy.sampler(solver=None, guidance=None)(7, first=2, seed=5)
    chain = guided(model, weaker, 2.0, (-2.0, 1.0))
    wanted = sample(chain, 7, solver="dpm++2m-sde", times=times(model.schedule, 20, "karras", 1.0), seed=5, first=2)
    assert torch.equal(found, wanted)


def test_scores_of_two_seeds_rank_alike_and_their_errors_cover_the_exact_bound():
    """Examples share their noise, so coverage is counted over 100 seeds: below 85 of 100 at 95 percent 1 time in 10,000."""
    world = GaussianWorld([0.3, -0.2], [[0.6, 0.25], [0.25, 0.4]])
    model = Diffusion(world.network(SHORT.beta[1:], "x"), SHORT, 2, "x").double()
    x, right = world.sample(60, seeded(0)), world.exact_elbo(SHORT.beta[1:], "beta", world.sample(60, seeded(0)))
    found = [score_examples(model, lambda rows: x[rows], 60, 2, 64, None, seed, 0.0) for seed in range(100)]
    ranks = torch.stack([found[seed].nats.argsort().argsort().double() for seed in (0, 1)])
    assert torch.corrcoef(ranks)[0, 1] > 0.8
    inside = torch.stack([(one.nats - right).abs() < 1.96 * one.stderr for one in found]).double()
    assert inside.mean() > 0.85


def test_a_class_that_the_network_does_not_have_is_named():
    network = kk.nets.UNet(1, (8, 8), 4, width=8, inner_width=8, blocks=1, num_classes=3)
    chain = Diffusion(network, Schedule.cosine(4), (1, 8, 8), prediction="v")
    with pytest.raises(InputError, match=r"0\.\.7"):
        sample(chain, cond=torch.tensor([0, 7]))


@catches("""models/networks.py: modules that a function finds among its globals are not moved
- held = [] if used is None else [*used.nonlocals.values(), *used.globals.values()]
+ held = [] if used is None else [*used.nonlocals.values()]""")
def test_the_modules_that_a_function_calls_belong_to_the_model():
    inner = nn.Linear(2, 2)
    chain = Diffusion(lambda z, t: OUTER(inner(z)), SHORT, 2)
    assert {id(part) for part in chain.denoiser.held} == {id(OUTER), id(inner)}


@catches("""models/diffusion.py: evenly spaced steps are rounded down
- steps = [round(self.depth * k / steps) for k in range(1, steps + 1)]
+ steps = [self.depth * k // steps for k in range(1, steps + 1)]""")
def test_a_coarser_chain_visits_the_steps_nearest_to_even_spacing():
    chain = Diffusion(lambda z, t: z, Schedule.cosine(11), 2)
    assert chain.respaced(4).denoiser.times.tolist() == [0, 3, 6, 8, 11]  # of 2.75, 5.5, 8.25 and 11
    assert chain.respaced([2, 11]).denoiser.times.tolist() == [0, 2, 11]


Z = torch.zeros(3, 2)


class Embedded(nn.Module):
    """A table of five steps and classes."""

    def __init__(self):
        super().__init__()
        self.table, self.most_steps = nn.Embedding(5, 2), 5

    def forward(self, z, t, cond=None):
        return z + self.table(t) + (0 if cond is None else self.table(cond))


@pytest.mark.parametrize(
    ("mistake", "sentence"),
    [
        (lambda: as_module(3), "a network must be an nn.Module or a function, got int"),
        (
            lambda: as_denoiser(Embedded(), 6),
            "the network was built with num_steps=5, and the schedule has 6 steps; build both with the same",
        ),
        (lambda: evaluate(nn.Identity(), [1], cond=None), "the input of a network must be a tensor, got list"),
        (
            lambda: evaluate(as_module(lambda z: z), Z, cond=torch.arange(3)),
            "the network is called as net(z, cond), and its signature is (z); wrap it in a module that takes these",
        ),
        (
            lambda: evaluate(nn.Identity(), Z, torch.arange(3), cond=torch.arange(3)),
            "the network is called as net(z_t, t, cond), and its signature is (input: torch.Tensor) -> torch.Tensor; "
            "wrap it in a module that takes these",
        ),
        (
            lambda: evaluate(nn.Linear(2, 2), Z.double(), cond=None),
            "the network computes in torch.float32, and its input is torch.float64; pass x.to(torch.float32), or "
            "convert the model",
        ),
        (
            lambda: evaluate(Embedded(), Z, torch.arange(3), cond=torch.zeros(3)),
            "the network takes class indices, int64, as cond, got torch.float32",
        ),
        (
            lambda: denoiser_output((Z, Z), Z, False),
            "a denoiser returns one tensor, and with variance='learned' a pair (prediction, v); got a tuple with "
            "variance not learned",
        ),
        (
            lambda: denoiser_output((Z,), Z, True),
            "a denoiser returns one tensor, and with variance='learned' a pair (prediction, v); got a Tensor with "
            "variance learned",
        ),
        (
            lambda: denoiser_output((Z, Z + f64([-0.5, 1.25])), Z, True),
            "v of a learned variance must lie in [0, 1], got -0.5 to 1.25; end with a sigmoid",
        ),
        (
            lambda: denoiser_output((Z, Z > 0), Z, True),
            "the denoiser's v must be a floating-point tensor, got torch.bool",
        ),
        (lambda: denoiser_output((Z, [1]), Z, True), "the denoiser's v must be a floating-point tensor, got list"),
        (
            lambda: denoiser_output(Z[:, :1], Z, False),
            "the denoiser's prediction must have the shape of z_t, (3, 2), got (3, 1); check the number of output "
            "channels, and pass variance='learned' if the network also predicts a variance",
        ),
        (
            lambda: encoder_output(Z, (2,), 3),
            "an encoder returns a pair (mean, log_var), got a tensor of torch.float32",
        ),
        (lambda: encoder_output([Z, Z], (2,), 3), "an encoder returns a pair (mean, log_var), got a list"),
        (lambda: encoder_output((Z[:2], Z), (2,), 3), "the encoder's mean must have shape (3, 2), got (2, 2)"),
        (
            lambda: encoder_output((Z, Z > 0), (2,), 3),
            "the encoder's log_var must be a floating-point tensor, got a tensor of torch.bool",
        ),
        (
            lambda: decoder_output((Z, Z, Z), None, 3),
            "a decoder returns one tensor, or a pair (mean, log_var), got a tuple",
        ),
        (lambda: decoder_output([Z], None, 3), "a decoder returns one tensor, or a pair (mean, log_var), got a list"),
        (lambda: decoder_output(Z, None, 4), "the decoder's output must have 4 rows, got (3, 2)"),
        (lambda: decoder_output(Z, (3,), 3), "the decoder's output must have shape (3, 3), got (3, 2)"),
        (
            lambda: decoder_output(Z.long(), None, 3),
            "the decoder's output must be a floating-point tensor, got a tensor of torch.int64",
        ),
        (
            lambda: decoder_output((Z, Z[:, :1]), None, 3),
            "mean and log_var of a decoder must have one shape, got (3, 2) and (3, 1)",
        ),
        *(
            (lambda shape=shape: as_shape(shape), f"a shape needs positive whole numbers, got {shape!r}; e.g. (20,)")
            for shape in ((), 0, (2, -1), True, (2, True), "ab", 2.5, (2.0,))
        ),
    ],
)
def test_a_network_that_does_not_fit_is_answered_with_what_was_expected(mistake, sentence):
    with pytest.raises(InputError) as caught:
        mistake()
    assert str(caught.value) == sentence


@pytest.mark.parametrize(
    ("network", "inputs", "cond", "start", "end"),
    [
        (nn.Linear(4, 2), (Z,), None, "the network does not take an input of shape (3, 2) (", ")"),
        (nn.LayerNorm(4), (Z,), None, "the network does not take an input of shape (3, 2) (", ")"),
        (
            nn.Conv2d(3, 2, 1),
            (Z[..., None, None],),
            None,
            "the network does not take an input of shape (3, 2, 1, 1) (",
            ")",
        ),
        (nn.Conv2d(2, 2, 1), (Z,), None, "the network does not take an input of shape (3, 2) (", ")"),
        (
            nn.Conv1d(2, 2, 1),
            (Z[..., None, None],),
            None,
            "the network does not take an input of shape (3, 2, 1, 1) (",
            ")",
        ),
        (
            as_module(lambda z: z + torch.zeros(3)),
            (Z,),
            None,
            "the network does not take an input of shape (3, 2) (",
            ")",
        ),
        (
            Embedded(),
            (Z, torch.tensor([1, 2, 9])),
            None,
            "the network has no embedding for some of the steps or class indices 1..9 (",
            "); build it with num_steps = T of the schedule and num_classes above the largest class",
        ),
        (
            Embedded(),
            (Z, torch.tensor([1, 2, 3])),
            torch.tensor([0, 9, -1]),
            "the network has no embedding for some of the steps or class indices 1..3 and -1..9 (",
            "); build it with num_steps = T of the schedule and num_classes above the largest class",
        ),
    ],
)
def test_an_error_of_torch_is_told_in_terms_of_what_the_network_was_given(network, inputs, cond, start, end):
    with pytest.raises(InputError) as caught:
        evaluate(network, *inputs, cond=cond)
    cause = str(caught.value.__cause__)
    assert str(caught.value) == start + cause + end


def test_an_error_that_the_inputs_do_not_explain_is_raised_as_it_is():
    def index(z):
        return z[:, 7]

    def kind(z):
        return z + None

    def type_of(z):
        raise RuntimeError("a type of my own")

    for function, error in ((index, IndexError), (kind, TypeError), (type_of, RuntimeError)):
        with pytest.raises(error) as caught:
            evaluate(as_module(function), Z, cond=None)
        assert not isinstance(caught.value, InputError)

    class Broken(nn.Linear):
        def forward(self, input):
            raise RuntimeError("no room")

    with pytest.raises(RuntimeError, match=r"^no room$"):  # although the numbers are of another kind
        evaluate(Broken(2, 2), Z.double(), cond=None)
    assert as_shape(7) == as_shape([7]) == (7,)
    assert as_denoiser(Embedded(), 5).most_steps == 5
