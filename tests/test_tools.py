"""The trained model as a tool: latents, reconstructions, interpolations and scores of given examples."""

import dataclasses
import json
import math
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch.testing import assert_close

import kakusan as kk
from harness.faults import catches
from harness.support import call, seeded
from kakusan.errors import InputError
from kakusan.likelihood.evaluation import Estimate, summarize
from kakusan.likelihood.sequential import confidence_radius
from kakusan.likelihood.step_groups import default_law
from kakusan.models.diffusion import Diffusion
from kakusan.oracles import GaussianWorld
from kakusan.recipes import find
from kakusan.run.build import build
from kakusan.run.evaluate import measure_bound
from kakusan.run.families.hierarchy import HierarchyConfig
from kakusan.run.finish import averaged_model
from kakusan.run.looks import Stopped, _interval, measure_until_decided
from kakusan.run.precision import plan_words, repeated_until
from kakusan.run.tools.files import write_new
from kakusan.run.tools.interpolate import interpolate, interpolate_file
from kakusan.run.tools.latents import MeanLatents, NoiseLatents
from kakusan.run.tools.reconstruct import in_pairs
from kakusan.run.trained_model import TrainedModel
from kakusan.schedule import Schedule
from kakusan.solvers import DDIM, Ancestral, DPMSolver, Heun, Renoise
from kakusan.solvers.inversion import invert
from kakusan.training.fit import History

WORLD = GaussianWorld([0.3, -0.2], [[0.6, 0.25], [0.25, 0.4]])
SCHEDULE = Schedule.cosine(400)
CHAIN = Diffusion(WORLD.network(SCHEDULE.beta[1:], "x"), SCHEDULE, 2, "x").double()


def model_of(name, event_shape, **settings):
    """An untrained model of a recipe."""
    torch.manual_seed(0)
    recipe = find(name)
    recipe = dataclasses.replace(recipe, model=dataclasses.replace(recipe.model, **settings))
    return TrainedModel(recipe, build(recipe.model, event_shape), event_shape, torch.device("cpu"))


@pytest.fixture(scope="module")
def vae():
    return model_of("mnist-vae", (1, 4, 4), hidden=(8,), latent=3)


@pytest.fixture(scope="module")
def diffusion():
    return model_of("mnist-ddpm", (1, 8, 8), width=8, inner_width=8, blocks=1, depth=20)


def images(n, side):
    return torch.from_numpy(np.random.default_rng(0).integers(0, 256, (n, 1, side, side), dtype=np.uint8))


@catches(
    """solvers/inversion.py: the data are taken for the latent of the first level
- z = denoise.levels[steps[0]].signal * x
+ z = x"""
)
@catches(
    """solvers/inversion.py: every step is taken from the first level
- denoise.begin(begin)
+ denoise.begin(denoise.levels[steps[0]])"""
)
def test_inversion_follows_the_exact_flow_with_the_order_of_the_solver():
    x = WORLD.sample(50, seeded(0))

    def error(solver, num):
        times = [round(400 * k / num) for k in range(1, num + 1)]
        (a, b), (top_a, top_b) = ((SCHEDULE.signal[t], SCHEDULE.noise[t]) for t in (times[0], 400))
        right = WORLD.transport(a * x, (a, b), (top_a, top_b))
        return (invert(CHAIN, x, solver, times) - right).abs().max().item()

    assert torch.equal(invert(CHAIN, x, DDIM(), [300]), SCHEDULE.signal[300] * x)
    assert error(DDIM(), 200) < 0.6 * error(DDIM(), 100)
    assert error(Heun(), 100) < 0.2 * error(DDIM(), 100)


def test_inversion_and_sampling_lead_back_to_the_example():
    x, latents = WORLD.sample(50, seeded(1)), NoiseLatents(CHAIN, 200, "heun")
    z = latents.encode(x)
    assert_close(latents.decode(z), x, rtol=0, atol=0.02)
    assert_close(z.var(0), torch.ones(2).double(), rtol=0, atol=0.6)  # 50 draws of a standard normal


@catches("""solvers/inversion.py: a solver with noise is inverted between two levels [solver0]
- if len(steps) > 1:
+ if len(steps) > 2:""")
@catches("""solvers/inversion.py: noise of a later step is not noticed [solver1]
- solver.step(probe, z, below, denoise.levels[0], state_below, refuse)
+ pass""")
@pytest.mark.parametrize("solver", [DDIM(eta=1.0), Heun(churn=50.0), DPMSolver(sde=True), Ancestral(), Renoise()])
def test_a_solver_that_draws_noise_is_not_inverted(solver):
    for times in ([100, 400], [1, 200, 400]):
        with pytest.raises(InputError, match="without fresh noise"):
            invert(CHAIN, WORLD.sample(2, seeded(0)), solver, times)


@catches("""run/tools/latents.py: latents of noise are mixed on the straight line
- weight_a = torch.where(sine > PARALLEL, ((1 - share) * angle).sin() / sine, 1 - share)
+ weight_a = torch.where(sine > 2, ((1 - share) * angle).sin() / sine, 1 - share)""")
def test_latents_between_two_of_one_length_keep_it():
    a, b = (torch.nn.functional.normalize(torch.randn(4, 2, generator=seeded(k)).double()) for k in (0, 1))
    latents = NoiseLatents(CHAIN)
    for share in (0.0, 0.3, 0.5, 1.0):
        assert_close(latents.between(a, b, share).norm(dim=1), torch.ones(4).double())
    assert_close(latents.between(a, b, 0.0), a)
    assert_close(latents.between(a, b, 1.0), b)
    assert_close(latents.between(a, a, 0.4), a)


@catches("""run/tools/latents.py: an example is decoded from a drawn latent
- means.append(self.chain.encode(means[-1], t, cond).mean)
+ means.append(self.chain.encode(means[-1], t, cond).sample())""")
def test_a_vae_encodes_by_the_mean_and_reconstructs_by_the_decoders_mean(vae):
    x = images(5, 4)
    z = vae.encode(x)
    inner = vae.scale.to_model(x)
    with torch.no_grad():
        wanted = vae.chain.encoder(inner)[0]
        again = vae.chain.decode(wanted, 1).mean
    assert np.array_equal(z, wanted.numpy())
    assert np.array_equal(vae.reconstruct(x), vae.scale.to_pixels(again))
    line = vae.interpolate(x[0], x[1], n=3)
    assert np.array_equal(line[[0, 2]], vae.reconstruct(x[:2]))
    with pytest.raises(InputError, match="for diffusion models"):
        vae.encode(x, steps=3)


def test_a_hierarchy_joins_its_levels_and_decodes_from_the_first():
    model = model_of("mnist-hvae", (1, 4, 4), hidden=8, latents=(3, 2))
    x = images(4, 4)
    assert model.encode(x).shape == (4, 5)
    assert model.reconstruct(x).shape == model.reconstruct(x, t=2).shape == (4, 4, 4, 1)
    assert np.array_equal(model.interpolate(x[:2], x[2:], n=2)[0::2], model.reconstruct(x[:2]))


@catches("""run/tools/latents.py: the noise of a reconstruction stops at the first level
- z = self.chain.marginal(x, t).sample(streams)
+ z = self.chain.marginal(x, 1).sample(streams)""")
def test_a_reconstruction_through_all_noise_forgets_the_example():
    x = WORLD.sample(300, seeded(3))
    again = NoiseLatents(CHAIN, 50).through(x, 400, [seeded(index) for index in range(300)])
    assert torch.corrcoef(torch.stack([x[:, 0], again[:, 0]]))[0, 1].abs() < 4 / 300**0.5  # four standard errors


def test_a_diffusion_model_keeps_less_of_an_example_through_more_noise(diffusion):
    x = images(3, 8)
    assert diffusion.encode(x).shape == (3, 1, 8, 8)
    assert np.array_equal(diffusion.encode(x)[1:2], diffusion.encode(x[1:2]))
    near, far = (diffusion.reconstruct(x, t=t).astype(float) for t in (1, 20))
    given = x.permute(0, 2, 3, 1).numpy()
    assert abs(near - given).mean() < abs(far - given).mean()
    with pytest.raises(InputError, match=r"1\.\.20"):
        diffusion.reconstruct(x, t=21)


def test_counts_are_encoded_by_the_posterior_mean_and_not_reconstructed():
    model = model_of("counts-dirichlet", (3,))
    x = torch.tensor([[1.0, 0.0, 3.0], [0.0, 0.0, 0.0]], dtype=torch.float64)
    alpha = model.chain.concentration.double()
    wanted = (x + alpha) / (x + alpha).sum(1, keepdim=True)
    assert_close(torch.from_numpy(model.encode(x)).double(), wanted, rtol=1e-6, atol=0)
    with pytest.raises(InputError, match="not reconstructed"):
        model.reconstruct(x)


def test_pairs_stand_above_each_other_also_in_a_short_last_row():
    upper, lower = (np.arange(5).reshape(5, 1, 1, 1) + k for k in (0, 10))
    assert in_pairs(upper, lower, 3).ravel().tolist() == [0, 1, 2, 10, 11, 12, 3, 4, 0, 13, 14]


def evaluation(bits, noise, examples):
    """A result in bits/dim with the given parts of the standard error."""
    zero = Estimate({"bound": torch.zeros(2)}, {"bound": 0.0}, 0.0, 0.0, 100, "")
    whole = math.hypot(noise, examples)
    parts = {"standard_error": whole, "standard_error_monte_carlo": noise, "standard_error_images": examples}
    return dataclasses.replace(summarize(zero, 1), bits_per_dim=bits, num_images=50, **parts)


@catches("""run/precision.py: the part from the examples is forgotten
- left = error**2 - (result.standard_error_images or 0.0) ** 2
+ left = error**2""")
def test_estimates_are_repeated_until_the_error_is_reached_or_only_examples_help():
    asked, told = [], []

    def repeat(num, examples):
        asked.append(num)
        return evaluation(1.0, 0.01 / num**0.5, examples)

    result, lines = repeated_until(0.004, lambda num: repeat(num, 0.001), 1, told.append)
    assert asked == [1, 2, 4, 8]
    assert result.standard_error <= 0.004
    assert "is reached" in lines[0]
    assert "about 700" in told[0]
    asked.clear()
    _, lines = repeated_until(0.004, lambda num: repeat(num, 0.008), 1, told.append)
    assert asked == [1]
    assert "only more examples lower it, about 200" in lines[0]


@catches("""run/precision.py: the plan counts the evaluations of several estimates for each of them
- round(result.network_evaluations / repeats * needed)
+ round(result.network_evaluations * needed)""")
def test_the_plan_and_the_end_of_repeated_estimates_name_evaluations_and_estimates():
    found = dataclasses.replace(evaluation(1.0, 0.5, 0.0), network_evaluations=800)
    # four estimates have twice the wanted Monte Carlo error: 16 reach it, each with 200 evaluations
    assert plan_words(0.25, 0.25, found, 4).endswith(
        "Monte Carlo error 0.50000 after 800 network evaluations; a standard error of 0.25 needs about 3,200"
    )
    never = dataclasses.replace(found, standard_error_monte_carlo=1.0, standard_error=1.0, standard_error_images=0.0)
    asked = []
    _, lines = repeated_until(0.5, lambda num: asked.append(num) or never, 1000, lambda line: None)
    assert asked == [1000, 2000, 4000, 8000]
    assert lines == ["the wanted standard error of 0.5 bits/dim is not reached after 4,096 estimates"]
    # the part from the examples leaves more than a tenth of the wanted variance for the Monte Carlo part
    found, lines = repeated_until(0.004, lambda num: evaluation(1.0, 0.01 / num**0.5, 0.0034), 1, lambda line: None)
    assert found.standard_error <= 0.004
    assert lines[0].endswith("is reached")


class Shifted:
    """A model whose bound of each example is x plus noise of a given size, minus a shift, in nats."""

    def __init__(self, shift):
        self.shift = shift

    def evaluate(self, x, seed, law=None, labels=None):
        nats = x.double() - self.shift + 0.1 * torch.randn(len(x), generator=seeded(seed + int(1e6 * self.shift)))
        return summarize(Estimate({"bound": nats}, {"bound": None}, None, None, len(x), ""), 1)


@catches("""run/looks.py: a comparison is decided only against its first model
- (low > 0 or high < 0)
+ (low > 0)""")
def test_a_comparison_stops_once_it_is_decided_and_else_uses_all_examples():
    x = torch.randn(2000, generator=seeded(0))
    (first, _), stopped = measure_until_decided([Shifted(0.1), Shifted(0.0)], x, 0, None)
    assert stopped.decided
    assert stopped.low > 0
    assert first.num_images == 250
    (first, _), stopped = measure_until_decided([Shifted(0.0), Shifted(0.1)], x, 0, None)
    assert stopped.decided
    assert stopped.high < 0
    (first, _), stopped = measure_until_decided([Shifted(0.0), Shifted(1e-6)], x, 0, None)
    assert not stopped.decided
    assert first.num_images == 2000
    assert stopped.low < 0 < stopped.high
    assert "only more examples help" in stopped.words(("a", "b"))
    assert "b needs fewer bits" in dataclasses.replace(stopped, decided=True, low=0.1).words(("a", "b"))


def test_a_history_shows_itself_in_a_notebook():
    history = History([1, 2, 3], [0.1, 0.2, 0.3], [3.0, 2.0, 1.0])
    shown = history._repr_html_()
    assert "3 steps" in shown
    assert 'points="0.0,0.0 106.7,40.0' in shown
    assert "svg" not in History()._repr_html_()
    assert "svg" not in History([1], [0.1], [math.nan])._repr_html_()


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tools")
    np.save(folder / "mine.npy", images(40, 4).numpy()[:, 0])
    settings = {"hidden": (8,), "latent": 2, "batch": 8}
    return kk.train("mnist-vae", data=folder / "mine.npy", steps=6, out=folder / "run", **settings)


@catches("""run/tools/files.py: a result is written in place
- files.replace(path, content)
+ path.write_bytes(content)""")
def test_a_result_appears_complete_or_not_at_all(tmp_path, monkeypatch):
    def refuse(*_):
        raise AssertionError("a write in place can end half-way")

    monkeypatch.setattr(Path, "write_bytes", refuse)
    write_new(tmp_path / "new" / "z.npy", b"content")
    assert (tmp_path / "new" / "z.npy").read_bytes() == b"content"


@catches("""run/tools/interpolate.py: an interpolation has always the same noise
- one_example(model, run, b), n, seed=seed,
+ one_example(model, run, b), n, seed=0,""")
def test_an_interpolation_of_bits_drawn_from_gray_levels_depends_on_its_seed(tmp_path):
    np.save(tmp_path / "gray.npy", images(40, 6).numpy()[:, 0])
    settings = {"likelihood": "bernoulli", "hidden": (8,), "latent": 2, "batch": 8}
    run = kk.train("mnist-vae", data=tmp_path / "gray.npy", steps=2, out=tmp_path / "run", **settings)
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        interpolate_file(run.path, "0", "1", tmp_path / f"{name}.npy", seed=seed)
    a, b, c = (np.load(tmp_path / f"{name}.npy") for name in "abc")
    assert np.array_equal(a, b)
    assert not np.array_equal(a, c)


def test_the_commands_write_new_files_and_overwrite_nothing(run, tmp_path, capsys):
    path, data = run.path, run.path.parent / "mine.npy"
    assert call(capsys, "encode", path, data, "--out", tmp_path / "z.npy")[0] == 0
    assert np.load(tmp_path / "z.npy").shape == (40, 2)
    assert call(capsys, "reconstruct", path, data, "--out", tmp_path / "r", "--limit", 13)[0] == 0
    assert np.load(tmp_path / "r" / "reconstructions.npy").shape == (13, 4, 4, 1)
    assert call(capsys, "interpolate", path, 0, 1, "--out", tmp_path / "i.npy", "-n", 5)[0] == 0
    assert np.load(tmp_path / "i.npy").shape == (5, 4, 4, 1)
    assert call(capsys, "interpolate", path, 0, 1, "--out", tmp_path / "i.png")[0] == 0
    options = ("--top", 3, "--out", tmp_path / "s.csv", "--map", tmp_path / "m.png", "--json")
    code, out, err = call(capsys, "score", path, data, *options)
    assert code == 0, err
    record = json.loads(out)
    assert code == 0
    assert record["num_examples"] == 40
    assert len(record["strangest"]) == 3
    table = np.genfromtxt(tmp_path / "s.csv", delimiter=",", names=True)
    assert table["nats"].argsort()[:3].tolist() == [one["example"] for one in record["strangest"]]
    assert_close(record["mean_bits_per_dim"], table["bits_per_dim"].mean())
    for words in (
        ("encode", path, data, "--out", tmp_path / "z.npy"),
        ("interpolate", path, 0, 1, "--out", tmp_path / "i.png"),
    ):
        code, _, err = call(capsys, *words)
        assert code == 2
        assert "left unchanged" in err
    assert call(capsys, "interpolate", path, 0, 99, "--out", tmp_path / "j.png")[0] == 2
    assert call(capsys, "interpolate", path, 0, tmp_path / "z.npy", "--out", tmp_path / "j.png")[0] == 2


def test_evaluate_plans_and_compare_stops_from_the_command_line(run, capsys):
    code, out, _ = call(capsys, "evaluate", run.path, "--split", "train", "--error", 5)
    assert code == 0
    assert "is reached" in out
    code, out, _ = call(capsys, "compare", run.path, run.path, "--split", "train", "--until-decided")
    assert code == 0
    assert "not decided after 1 look at all 36 examples" in out


def test_the_history_has_a_bound_of_as_many_training_examples(run):
    last = run.history[-1]
    rows = torch.linspace(0, 35, 4).long()  # 4 held out of 40
    train = kk.data.open_data(run.path.parent / "mine.npy").train
    assert last["train_bits_per_dim"] == run.model.evaluate(train[rows]).bits_per_dim
    assert last["train_standard_error"] > 0
    assert last["bits_per_dim"] != last["train_bits_per_dim"]


class Remembered:
    """Latents that are the examples, and remember the classes they are decoded with."""

    def __init__(self):
        self.classes = []

    def cond_of(self, x):
        return torch.arange(len(x))

    def encode(self, x, cond):
        return x

    def between(self, a, b, share):
        return (1 - share) * a + share * b

    def decode(self, z, cond):
        self.classes.append(cond.tolist())
        return z


@catches("""run/tools/interpolate.py: all examples between have the class of the first
- cond[:num] if share < 0.5 else cond[num:]
+ cond[:num]""")
def test_an_example_between_has_the_class_of_its_nearer_end():
    latents = Remembered()
    model = SimpleNamespace(
        family=SimpleNamespace(latents=lambda *choices: latents),
        event_shape=(2,),
        examples=lambda given: given,
        batches=lambda data, seed: lambda rows: data[rows].double(),
        chain=SimpleNamespace(validate=lambda x: None),
        stored=lambda parts: torch.cat(parts),
    )
    found = interpolate(model, torch.zeros(2, 2), torch.ones(2, 2), 5)
    assert latents.classes == [[0, 1], [0, 1], [2, 3], [2, 3], [2, 3]]
    assert_close(found[:, 0], torch.linspace(0, 1, 5, dtype=torch.float64).repeat(2))


@catches("""run/tools/latents.py: a reconstruction starts with the noise of one step less
- z = self.chain.marginal(x, t).sample(streams)
+ z = self.chain.marginal(x, max(t - 1, 1)).sample(streams)""")
def test_a_reconstruction_starts_at_the_level_that_was_asked_for():
    betas = torch.tensor([0.3, 0.6, 0.9], dtype=torch.float64)
    chain = Diffusion(WORLD.network(betas, "x"), Schedule.from_betas(betas), 2, "x").double()
    x = WORLD.sample(5, seeded(4))
    again = NoiseLatents(chain, 1).through(x, 2, [seeded(index) for index in range(5)])
    eps = torch.stack([torch.randn(2, generator=seeded(index), dtype=torch.float64) for index in range(5)])
    alpha_bar = 0.7 * 0.4
    z_2 = alpha_bar**0.5 * x + (1 - alpha_bar) ** 0.5 * eps
    assert_close(again, chain.data_estimate(z_2, 2))


@catches("""run/trained_model.py: samples of a run repeat after every 250
- draw(size, first=first + start, seed=seed, cond=known)
+ draw(size, first=first, seed=seed, cond=known)""")
def test_samples_of_a_trained_model_do_not_repeat_beyond_one_batch(vae):
    many = vae.sample(503, seed=4)
    assert len(many) == 503
    assert not np.array_equal(many[:3], many[250:253])
    assert np.array_equal(many[498:], vae.sample(5, seed=4, first=498))


@catches("""run/evaluate.py: repeated estimates have the same noise
- model.evaluate(data, seed + _REPEAT * k, importance
+ model.evaluate(data, seed, importance""")
def test_repeated_estimates_have_noise_of_their_own(vae):
    found = measure_bound(vae, images(6, 4), seed=1, repeats=3).result
    once = vae.evaluate(images(6, 4), seed=1)
    assert found.standard_error_monte_carlo > 0
    assert not torch.equal(found.per_example, once.per_example)


@catches("""run/finish.py: a run is measured and sampled with its last weights, and not the averaged ones
- TrainedModel(recipe, trainer.ema.module,
+ TrainedModel(recipe, trainer.module,""")
def test_a_run_ends_with_its_averaged_weights(vae):
    last, averaged = (build(vae.recipe.model, (1, 4, 4)) for _ in range(2))
    trainer = SimpleNamespace(module=last, ema=SimpleNamespace(module=averaged), device=vae.device, early=None)
    model = averaged_model(trainer, vae.recipe, SimpleNamespace(event_shape=(1, 4, 4)))
    for found, wanted in zip(model.chain.parameters(), averaged.parameters(), strict=True):
        assert torch.equal(found, wanted)
    assert any(not torch.equal(a, b) for a, b in zip(last.parameters(), averaged.parameters()))


@pytest.mark.parametrize(("num", "looks"), [(1, "1 look"), (3, "3 looks")])
def test_the_decision_of_a_comparison_is_told_with_its_looks_and_its_interval(num, looks):
    stopped = Stopped(True, -0.5, -0.25, 0.95, num, 1234)
    interval = "(95% interval at every look, now -0.5000 to -0.2500 bits/dim)"
    assert stopped.words(("a", "b")) == f"decided after {looks}: a needs fewer bits {interval}"
    assert dataclasses.replace(stopped, decided=False).words(("a", "b")) == (
        f"not decided after {looks} at all 1,234 examples; only more examples help {interval}"
    )


def test_the_interval_of_a_comparison_is_in_bits_per_value_around_the_mean_difference():
    nats = torch.tensor([[3.0, 1.0, 5.0], [1.0, 1.0, 1.0]], dtype=torch.float64)
    blocks = [
        tuple(summarize(Estimate({"bound": x}, {"bound": None}, None, None, 3, ""), 4) for x in nats) for _ in range(2)
    ]
    low, high = _interval(blocks)
    difference = torch.tensor([2.0, 0.0, 4.0] * 2, dtype=torch.float64)
    radius = confidence_radius(difference.std(), 6).item() / (4 * math.log(2))
    assert (low, high) == pytest.approx((-2 / (4 * math.log(2)) - radius, -2 / (4 * math.log(2)) + radius))


def test_a_reconstruction_of_a_hierarchy_draws_up_to_its_level_and_comes_down_by_the_means():
    torch.manual_seed(0)
    chain = build(HierarchyConfig(hidden=8, latents=(3, 2), variance="learned"), (1, 4, 4)).double()
    x, latents = torch.rand(2, 1, 4, 4, dtype=torch.float64), MeanLatents(chain)
    with torch.no_grad():
        for t in (1, 2):
            streams, again = ([seeded(5), seeded(6)] for _ in range(2))
            z = chain.encode(x, 1).sample(again)
            if t == 2:
                z = chain.decode(chain.encode(z, 2).sample(again), 2).mean
            assert_close(latents.through(x, t, streams), chain.decode(z, 1).mean, rtol=0, atol=0)
        found = latents.estimates(x, 3, seeded(7))
        generator = seeded(7)
        wanted = [chain.decode(chain.encode(x, 1).sample(generator), 1).mean for _ in range(3)]
        assert_close(found, wanted, rtol=0, atol=0)
    for t in (0, 3):
        with pytest.raises(InputError, match=rf"t must lie in 1\.\.2, the model's levels, got {t}"):
            latents.through(x, t, [seeded(0), seeded(1)])
    with pytest.raises(InputError, match=r"1\.\.400, the model's timesteps, got 0"):
        NoiseLatents(CHAIN).through(x, 0, [])


def test_estimates_for_a_map_share_their_noise_and_have_the_timesteps_of_equal_cost():
    x = WORLD.sample(3, seeded(5))
    found = NoiseLatents(CHAIN).estimates(x, 4, seeded(8))
    generator = seeded(8)
    eps = torch.randn(1, 2, generator=generator, dtype=torch.float64)
    times = default_law(CHAIN).draw(4, generator).tolist()
    for t, estimate in zip(times, found, strict=True):
        z = SCHEDULE.signal[t] * x + SCHEDULE.noise[t] * eps
        assert_close(estimate, CHAIN.data_estimate(z, t))


def test_in_a_model_of_labels_the_first_half_of_an_interpolation_has_the_class_of_its_first_end(monkeypatch):
    seen = []
    latents = SimpleNamespace(
        cond_of=lambda x: torch.tensor([2, 5]),
        encode=lambda x, cond: x,
        between=lambda a, b, share: (1 - share) * a + share * b,
        decode=lambda z, cond: seen.append(cond.tolist()) or z,
    )
    model = SimpleNamespace(
        event_shape=(2,),
        examples=lambda x: torch.as_tensor(x),
        family=SimpleNamespace(latents=lambda model, steps, solver: latents),
        batches=lambda x, seed: lambda rows: x[rows],
        chain=SimpleNamespace(validate=lambda x: None),
        stored=lambda parts: parts[0],
    )
    interpolate(model, np.zeros(2), np.ones(2), 3)
    assert seen == [[2], [5], [5]]
    for n in (1, True, 2.0):
        with pytest.raises(InputError, match="at least 2 examples, its ends, got n = "):
            interpolate(model, np.zeros(2), np.ones(2), n)
    with pytest.raises(InputError, match="as many examples, got 1 and 2"):
        interpolate(model, np.zeros(2), np.ones((2, 2)), 2)
