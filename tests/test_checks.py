"""Data that a model cannot take are answered at the door, in one line: what was expected, what was found and where."""

import math
import re
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from torch import Tensor

from harness.faults import catches
from kakusan import checks, oracles
from kakusan.bound import elbo, importance_bound, sample_path
from kakusan.chain import LatentChain, log_weight
from kakusan.checks import check_grid, check_range, shape_advice
from kakusan.columns import Column, num_numbers, places
from kakusan.distributions import Bernoulli, DiscretizedNormal, Normal, normal_kl
from kakusan.errors import InputError
from kakusan.likelihood.chains import of_terms
from kakusan.likelihood.diffusion import of_diffusion
from kakusan.likelihood.information import of_latents
from kakusan.likelihood.three import three_estimates
from kakusan.models.diffusion import Diffusion
from kakusan.models.dirichlet_multinomial import DirichletMultinomial
from kakusan.models.hierarchical_vae import HierarchicalVAE
from kakusan.models.learned_noise import LearnedNoise
from kakusan.models.mixture import Mixture
from kakusan.models.vae import VAE
from kakusan.recipes import RECIPES
from kakusan.run.build import build
from kakusan.run.trained_model import TrainedModel
from kakusan.schedule import Schedule
from kakusan.units import grid_nats

# Chains without networks: elementwise, for events of shape (2, 3)


def pair(z: Tensor) -> tuple[Tensor, Tensor]:
    return 0.5 * z, torch.zeros_like(z)


def vae(likelihood: str) -> VAE:
    return VAE(pair, lambda z: z, (2, 3), likelihood, event_shape=(2, 3))


def hierarchy(likelihood: str) -> HierarchicalVAE:
    shapes = [(2, 3), (2, 3)]
    return HierarchicalVAE([pair, pair], [lambda z: z] * 2, shapes, likelihood, event_shape=(2, 3))


def diffusion(likelihood: str, clip: tuple[float, float] | None = None) -> Diffusion:
    schedule = Schedule.from_betas([0.3, 0.6, 0.9])
    return Diffusion(lambda z, t: 0.1 * z, schedule, (2, 3), likelihood=likelihood, clip=clip)


REAL = torch.linspace(-0.9, 0.8, 24).view(4, 2, 3)
BITS = (REAL > 0).float()
GRID = torch.arange(0, 240, 10).view(4, 2, 3) / 127.5 - 1
COUNTS = torch.tensor([[3.0, 0.0, 2.0], [1.0, 1.0, 4.0]])


@dataclass(frozen=True)
class Listed:
    """A chain, data that it takes, and what its values must be, in words."""

    chain: LatentChain
    good: Tensor
    words: str
    strangers: tuple[float, ...] = (math.nan, math.inf)  # each of which no example may hold


CHAINS = {
    "vae, gaussian": Listed(vae("gaussian"), REAL, "finite"),
    "vae, bernoulli": Listed(vae("bernoulli"), BITS, "0 or 1", (0.5, -1.0, 2.0, math.nan, math.inf)),
    "vae, discretized": Listed(
        vae("discretized"), GRID, "256-level grid", (0.5013, 1.01, -1.00784, math.nan, math.inf)
    ),
    "hierarchy, gaussian": Listed(hierarchy("gaussian"), REAL, "finite"),
    "hierarchy, bernoulli": Listed(hierarchy("bernoulli"), BITS, "0 or 1", (0.5, math.nan)),
    "hierarchy, discretized": Listed(hierarchy("discretized"), GRID, "256-level grid", (0.5013, math.nan)),
    "diffusion, gaussian": Listed(diffusion("gaussian"), REAL, "finite"),
    "diffusion, clipped": Listed(
        diffusion("gaussian", (-1.0, 1.0)), REAL, r"finite|range \[-1, 1\]", (1.5, -1.001, math.nan)
    ),
    "diffusion, discretized": Listed(diffusion("discretized"), GRID, "256-level grid", (0.5013, -1.5, math.nan)),
    "counts": Listed(
        DirichletMultinomial([1.0, 0.5, 2.0], 5), COUNTS, "whole numbers >= 0", (0.5, -1.0, math.nan, math.inf)
    ),
}
ENTRANCES: dict[str, Callable[[LatentChain, Tensor], object]] = {
    "elbo": elbo,
    "importance_bound": lambda chain, x: importance_bound(chain, x, 2),
    "log_weight": lambda chain, x: log_weight(chain, [x, *[x] * chain.depth]),
    "sample_path": sample_path,
    "validate": lambda chain, x: chain.validate(x),
}
THREE: dict[str, Callable[[Diffusion, Tensor], object]] = {
    "elbo_path": Diffusion.elbo_path,
    "elbo_pair": Diffusion.elbo_pair,
    "elbo_single": Diffusion.elbo_single,
    "of_diffusion": lambda model, x: of_diffusion(model, lambda rows: x[rows], len(x)),
}


def doors(chain: LatentChain) -> dict[str, Callable]:
    return ENTRANCES | (THREE if isinstance(chain, Diffusion) else {})


def refused(call: Callable[[], object], words: str) -> str:
    """The one line that a call is answered with."""
    with pytest.raises(InputError, match=words) as caught:
        call()
    message = str(caught.value)
    assert "\n" not in message
    return message


def spoiled(good: Tensor, value: float) -> tuple[Tensor, list[int]]:
    """A copy with one value in the last example that is not at a corner, and where it stands."""
    bad, place = good.clone(), [len(good) - 1, *[size - 2 for size in good.shape[1:]]]
    bad[tuple(place)] = value
    return bad, place


@pytest.mark.parametrize("listed", CHAINS.values(), ids=CHAINS)
def test_every_entrance_takes_data_that_are_right(listed):
    for enter in doors(listed.chain).values():
        enter(listed.chain, listed.good)


@pytest.mark.parametrize("listed", CHAINS.values(), ids=CHAINS)
def test_a_value_that_no_data_have_is_named_with_its_place_at_every_entrance(listed):
    for stranger in listed.strangers:
        bad, place = spoiled(listed.good, stranger)
        for name, enter in doors(listed.chain).items():
            message = refused(lambda enter=enter, bad=bad: enter(listed.chain, bad), listed.words)
            assert f"found {stranger:.7g} at {place}" in message, f"{name}: {message}"
            assert "; " in message, f"{name} does not say what to do: {message}"


@pytest.mark.parametrize("listed", CHAINS.values(), ids=CHAINS)
def test_examples_of_another_shape_are_refused_at_every_entrance(listed):
    for wrong in (listed.good[..., :-1], listed.good[0], listed.good.unsqueeze(1)):
        for enter in doors(listed.chain).values():
            message = refused(lambda enter=enter, wrong=wrong: enter(listed.chain, wrong), "shape")
            assert str(tuple(wrong.shape)) in message


@catches("""models/mixture.py: a mixture takes data that its chain refuses
-         self.chain.validate(x, cond)
-         if cond
+         if cond""")
@catches("""models/learned_noise.py: a chain of learned noise takes data that its decoders cannot give
- self.chain.validate(x, cond)
+ pass""")
def test_a_chain_around_another_takes_the_data_that_it_takes():
    inner = diffusion("discretized")
    for chain in (LearnedNoise(inner), Mixture(inner, 2)):
        chain.validate(GRID)
        refused(lambda chain=chain: chain.validate(spoiled(GRID, 0.5013)[0]), "256-level grid")


@catches("""models/vae.py: one condition stands for all examples
- check_cond(cond, len(x))
+ pass""")
@catches("""models/hierarchical_vae.py: one condition stands for all examples of a hierarchy
- check_cond(cond, len(x))
+ pass""")
@catches("""models/dirichlet_multinomial.py: counts are measured without the condition
- if cond is not None:
+ if False:""")
def test_a_condition_has_a_row_for_each_example_and_counts_have_none():
    for chain in (vae("gaussian"), hierarchy("gaussian"), diffusion("gaussian")):
        chain.validate(REAL, torch.zeros(4, dtype=torch.int64))
        refused(lambda chain=chain: chain.validate(REAL, torch.tensor([0])), "one row per example")
    refused(lambda: elbo(CHAINS["counts"].chain, COUNTS, cond=torch.tensor([0, 1])), "is unconditional")


@pytest.mark.parametrize("listed", [one for name, one in CHAINS.items() if name != "counts"])
def test_pixels_that_were_not_scaled_and_arrays_are_refused_with_what_to_type(listed):
    assert "/ 127.5 - 1" in refused(lambda: elbo(listed.chain, listed.good.to(torch.uint8)), "torch.uint8")
    assert "torch.as_tensor(x)" in refused(lambda: elbo(listed.chain, listed.good.numpy()), "ndarray")


def test_the_message_about_the_grid_says_all_there_is_to_say():
    bad, _ = spoiled(GRID, 0.5013)
    expected = (
        "values must lie on the 256-level grid of [-1, 1], found 0.5013 at [3, 0, 1], one of 1 such values of 24; "
        "scale 8-bit pixels u by u / 127.5 - 1"
    )
    assert refused(lambda: elbo(vae("discretized"), bad), "grid") == expected


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("scale", ["u / 127.5 - 1", "u / 255 * 2 - 1", "(u - 127.5) / 127.5"])
def test_all_levels_pass_however_they_were_computed(dtype, scale):
    u = torch.arange(256, dtype=dtype)
    x = eval(scale, {"u": u})
    vae_of_levels = VAE(pair, lambda z: z, 256, "discretized", event_shape=256)
    vae_of_levels.validate(x[None])
    half_way = x[None] + 1 / 255
    refused(lambda: vae_of_levels.validate(half_way), "grid")


def test_a_range_may_be_met_at_its_very_ends():
    ends = torch.tensor([[[-1.0, 1.0, 0.0]] * 2])
    diffusion("gaussian", (-1.0, 1.0)).validate(ends)
    refused(lambda: diffusion("gaussian", (-1.0, 1.0)).validate(ends * 1.00001), "range")


@pytest.mark.parametrize("objective", ["simple", "path", "pair", "single"])
def test_a_training_loss_looks_at_shapes_but_not_at_values(objective):
    model, (bad, _) = diffusion("discretized"), spoiled(GRID, math.nan)
    refused(lambda: model.loss(GRID[:, 0], objective=objective), "shape")
    assert model.loss(bad, objective=objective).shape == (4,)  # a look would wait for the device at every step
    for chain in (vae("gaussian"), hierarchy("gaussian")):
        refused(lambda chain=chain: chain.loss(REAL[:, 0]), "shape")
        assert chain.loss(spoiled(REAL, math.nan)[0]).shape == (4,)
        refused(lambda chain=chain: chain.terms(spoiled(REAL, math.nan)[0]), "finite")
    assert importance_bound(vae("gaussian"), spoiled(REAL, math.nan)[0], 2, checked=True).shape == (4,)


# Paths, steps and laws


@pytest.mark.parametrize("listed", CHAINS.values(), ids=CHAINS)
def test_a_path_has_one_tensor_more_than_the_chain_has_steps(listed):
    path = sample_path(listed.chain, listed.good)
    refused(lambda: log_weight(listed.chain, path[:-1]), f"{len(path)} tensors; got {len(path) - 1}")


@pytest.mark.parametrize("method", ["marginal", "posterior", "reverse", "data_estimate", "step_cost", "step_log_prob"])
@pytest.mark.parametrize("t", [4, -1, torch.tensor([1, 2, 3, 4]), torch.tensor([1, 2, -1, 3])])
def test_a_step_outside_the_chain_is_named(method, t):
    refused(lambda: asked(method, REAL, t), r"0\.\.3|1\.\.3, got (4|-1)")


@pytest.mark.parametrize("method", ["posterior", "reverse", "data_estimate", "step_cost", "step_cross_entropy"])
def test_no_step_leads_from_the_data_to_before_them(method):
    refused(lambda: asked(method, REAL, 0), r"1\.\.3, got 0")


@pytest.mark.parametrize("method", ["marginal", "posterior", "reverse", "step_cost"])
@pytest.mark.parametrize(
    "t", [torch.tensor([1.0, 2.0, 3.0, 1.0]), torch.tensor([1, 2]), torch.ones(4, dtype=torch.bool)]
)
def test_steps_are_whole_numbers_one_an_example(method, t):
    refused(lambda: asked(method, REAL, t), r"int64 of shape \(4,\)")


@pytest.mark.parametrize("method", ["marginal", "posterior", "reverse", "step_cost"])
def test_a_latent_of_another_shape_is_refused(method):
    refused(lambda: asked(method, REAL[:, :, :2], 2), r"\(b, 2, 3\)")


def asked(method: str, x: Tensor, t: Tensor | int) -> object:
    model = diffusion("gaussian")
    one = method in ("marginal", "reverse", "data_estimate")
    return getattr(model, method)(x, t) if one else getattr(model, method)(x, x, t)


@pytest.mark.parametrize("clip", [(1.0, -1.0), (0.0, 0.0), (math.nan, 1.0), (-math.inf, 1.0), (1.0,)])
def test_a_clip_is_a_range(clip):
    refused(lambda: diffusion("gaussian", clip), "clip must be a finite range")


def test_a_law_over_other_events_does_not_answer_by_broadcasting():
    narrow, wide = torch.zeros(4, 1), torch.zeros(4, 5)
    for law in (Normal(wide, torch.ones(())), Bernoulli(wide), DiscretizedNormal(Normal(wide, torch.ones(())))):
        refused(lambda law=law: law.log_prob(narrow), r"\(1,\).*\(5,\)")
    refused(lambda: normal_kl(Normal(narrow, torch.ones(())), Normal(wide, torch.ones(()))), r"\(1,\)")
    too_wide = VAE(pair, lambda z: z.repeat(1, 5), 1)  # a decoder whose output is no example
    refused(lambda: elbo(too_wide, narrow), r"\(5,\)")


# Counts


@pytest.mark.parametrize("concentration", [[1.0, 0.0], [1.0, -2.0], [1.0, math.nan]])
def test_a_concentration_that_is_not_positive_is_named_with_its_place(concentration):
    message = refused(lambda: DirichletMultinomial(concentration), "every concentration must be positive")
    assert f"found {concentration[1]:.7g} at [1]" in message


@pytest.mark.parametrize("total", [-1, 2.5])
def test_a_total_is_a_whole_number(total):
    refused(lambda: DirichletMultinomial([1.0, 1.0], total), f"total_count must be a whole number.*{total}")


# Nothing to average over


def own_terms(x: Tensor, generator: object) -> dict[str, Tensor]:
    return vae("gaussian").terms(x)


@pytest.mark.parametrize(
    "evaluate",
    [
        lambda batch: of_diffusion(diffusion("gaussian"), batch, 0),
        lambda batch: of_terms(own_terms, batch, 0, 2, 2, ""),
        lambda batch: of_latents(vae("gaussian"), batch, 0),
        lambda batch: three_estimates(diffusion("gaussian"), batch, 0),
        lambda batch: three_estimates(diffusion("gaussian"), batch, 4, images=0),
    ],
)
def test_no_example_has_no_mean(evaluate):
    refused(lambda: evaluate(lambda rows: REAL[rows]), "expected at least one example, got 0")


def test_no_draw_and_one_path_have_no_mean_and_no_spread():
    batch = lambda rows: REAL[rows]  # noqa: E731
    refused(lambda: of_terms(own_terms, batch, 4, 0, 2, ""), "at least one draw, got 0")
    refused(lambda: three_estimates(diffusion("gaussian"), batch, 4, paths=1), "at least two")


@pytest.mark.parametrize(("num_dims", "bin_width"), [(0, 0.1), (3, 0.0), (3, -1.0), (3, math.nan), (3, math.inf)])
def test_a_grid_has_dimensions_and_a_width(num_dims, bin_width):
    refused(lambda: grid_nats(num_dims, bin_width), "bin_width > 0")


# A trained model


@pytest.fixture(scope="module")
def trained() -> TrainedModel:
    chosen = RECIPES["mnist-vae"]
    return TrainedModel(chosen, build(chosen.model, (1, 4, 4)), (1, 4, 4), torch.device("cpu"))


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (torch.zeros(0, 1, 4, 4, dtype=torch.uint8), "at least one example, got 0"),
        (torch.zeros(3, 1, 4, 5, dtype=torch.uint8), r"\(n, 4, 4, 1\), got torch.uint8 \(3, 1, 4, 5\)"),
        (torch.zeros(3, 4, 4, dtype=torch.uint8), r"\(3, 4, 4\)"),
        (torch.zeros(3, 1, 4, 4), "uint8 pixels.*got torch.float32"),
    ],
)
def test_an_evaluation_says_what_examples_it_takes(trained, data, words):
    refused(lambda: trained.evaluate(data), words)


def test_an_evaluation_takes_its_own_kind_of_examples(trained):
    assert math.isfinite(trained.evaluate(torch.zeros(3, 1, 4, 4, dtype=torch.uint8)).bits_per_dim)


# The worlds; their other mistakes are in test_oracles


@pytest.mark.parametrize(
    ("mistake", "words"),
    [
        (lambda: oracles.GaussianWorld("mean", 1.0), "mean must be numbers"),
        (lambda: oracles.GaussianWorld([[0.0], [0.0, 1.0]], 1.0), "mean must be numbers, or rows"),
        (lambda: oracles.GaussianWorld([], 1.0), "at least one number"),
        (lambda: oracles.GaussianWorld(0.0, -1.0), "eigenvalue, got one of -1"),
        (lambda: oracles.GaussianWorld(0.0, math.inf), "cov must be finite"),
        (lambda: oracles.MixtureWorld([0.5, 0.4], [0.0, 1.0], [1.0, 1.0]), r"sum to 1, got \[0.5, 0.4\]"),
        (lambda: oracles.MixtureWorld([1.5, -0.5], [0.0, 1.0], [1.0, 1.0]), "positive"),
        (lambda: oracles.MixtureWorld([0.5, 0.5], 0.0, [1.0, 1.0]), "as many means"),
        (lambda: oracles.MixtureWorld(1.0, 0.0, -1.0), "eigenvalue"),
        (lambda: oracles.GaussianWorld(0.0, 1.0).denoise(torch.zeros(3, 1), [1.0, 0.5], [0.1, 0.2, 0.3]), "2 and 3"),
        (lambda: oracles.GaussianWorld(0.0, 1.0).log_prob(torch.tensor([[math.nan]])), "z must be finite"),
        (lambda: oracles.LinearVAEWorld([[1.0]], [0.0], math.nan), "noise_var"),
        (
            lambda: oracles.LinearVAEWorld([[1.0]], [0.0]).elbo(torch.zeros(2, 1), torch.zeros(2, 1), [1.0, 1.0, 1.0]),
            r"\(2, 1\) or \(1,\), got \(3,\)",
        ),
        (lambda: oracles.DirichletWorld([1, math.nan]), "concentration must be numbers"),
        (lambda: oracles.DirichletWorld([1, 1]).evidence([1, math.nan]), "whole numbers"),
        (lambda: oracles.DirichletWorld([1, 1]).evidence([math.inf, 1]), "whole numbers"),
        (lambda: oracles.DirichletWorld([1, 1]).evidence([1, 1, 1]), "2 whole numbers"),
        (lambda: oracles.Noising.from_betas([0.1, math.nan]), "betas must be finite"),
        (lambda: Schedule.from_betas([0.1, math.nan]), "beta_2 = nan"),
        (lambda: Schedule.from_betas([]), "T >= 1"),
    ],
)
def test_a_world_that_cannot_be_is_refused(mistake, words):
    refused(mistake, words)


def test_every_chain_of_the_library_is_listed():
    named = {type(listed.chain) for listed in CHAINS.values()}
    assert named == {VAE, HierarchicalVAE, Diffusion, DirichletMultinomial}


def test_arrays_of_pictures_say_what_they_must_be():
    from kakusan.images import Images

    for wrong in (np.zeros((2, 4, 4), np.uint8), np.zeros((2, 4, 4, 1)), np.zeros((2, 4, 4, 2), np.uint8)):
        with pytest.raises(ValueError, match=re.escape(str(wrong.shape))):
            Images(wrong)


@catches("""checks.py: the way to a missing channel is not told [channel]
- found[1:] == wanted[1:]
+ found[1:] == wanted""")
@pytest.mark.parametrize(
    ("shape", "event", "advice"),
    [
        pytest.param((3, 8, 7), (1, 8, 7), "x[:, None] has one channel", id="channel"),
        pytest.param((1, 8, 7), (1, 8, 7), "x[None] is a batch of one", id="batch"),
        pytest.param((3, 8, 7, 3), (3, 8, 7), "use x.permute(0, 3, 1, 2)", id="channels last"),
        pytest.param((3, 8, 7), (3, 8, 7, 2), "reshape it", id="else"),
        pytest.param((3, 8, 7), (3, 8, 8), "reshape it", id="no color"),
    ],
)
def test_arrays_of_other_usual_shapes_are_answered_with_the_way_to_the_right_one(shape, event, advice):
    model = Diffusion(lambda z, t: z, Schedule.cosine(5), event, "v")
    with pytest.raises(InputError) as caught:
        model.loss(torch.zeros(shape))
    assert str(caught.value).endswith(f"got {shape}; {advice}")
    assert shape_advice("x", shape, event) == advice


@catches("""checks.py: values a percent beyond the range are taken
- slack = 4 * torch.finfo(x.dtype).eps * max(abs(low), abs(high))
+ slack = 0.01 * max(abs(low), abs(high))""")
@catches("""checks.py: a tenth of a level from the grid is on it
- GRID_SLACK = 0.01
+ GRID_SLACK = 0.1""")
def test_values_a_little_beyond_what_data_have_are_refused():
    for beyond in (-1.005, 1.005):
        refused(lambda beyond=beyond: check_range(torch.tensor([[0.0, beyond]]), -1.0, 1.0), "values must lie in")
    level = 2 / 255
    refused(lambda: check_grid(torch.tensor([[-1.0, -1 + 3.05 * level]]), 256), "256-level grid")
    check_grid(torch.tensor([[-1.0, -1 + 3.005 * level]]), 256)
    check_range(torch.tensor([[-1.0, 1.0]]), -1.0, 1.0)


@catches("""columns.py: every column is the first of its table
- found.append(Place(column, index, start))
+ found.append(Place(column, 0, start))""")
def test_places_of_columns_follow_one_another_with_their_flags():
    columns = (
        Column("a", missing=True),
        Column("b", "categorical", categories=("u", "v", "w")),
        Column("c", "categorical", missing=True, categories=("u", "v")),
        Column("d", "integer"),
    )
    found = [(place.column.name, place.index, place.start, place.stop, place.flag) for place in places(columns)]
    assert found == [("a", 0, 0, 1, 1), ("b", 1, 2, 5, None), ("c", 2, 5, 7, 7), ("d", 3, 8, 9, None)]
    assert num_numbers(columns) == 9


@pytest.mark.parametrize(
    ("refuse", "sentence"),
    [
        (lambda: checks.numbers(torch.ones(2) > 0, "x"), "x must be real numbers, got torch.bool; pass x.double()"),
        (
            lambda: checks.array_tensor("a/b"),
            "examples must be a tensor or an array of numbers, got the path 'a/b'; kakusan.data.open_data('a/b').test "
            "has that form",
        ),
        (
            lambda: checks.array_tensor({}),
            "examples must be a tensor or an array of numbers, got dict; kakusan.data.open_data(path).test has that form",
        ),
        (lambda: checks.check_event([1.0]), "x must be a tensor, got list; convert it with torch.as_tensor(x)"),
        (
            lambda: checks.check_event(torch.ones(3)),
            "x must have shape (b, *event), one row per example, got (3,); x[None] is a batch of one",
        ),
        (
            lambda: checks.check_event(torch.ones(3, 2, 5), (2, 4), "z"),
            "z must have shape (b, 2, 4), one row per example, got (3, 2, 5); reshape it",
        ),
        (
            lambda: checks.check_event(torch.ones(3, 2, dtype=torch.bfloat16)),
            "x must be float32 or float64, since a bound loses whole nats in torch.bfloat16; pass x.float()",
        ),
        (lambda: checks.check_cond([0], 1), "cond must be a tensor, got list; pass torch.as_tensor(cond)"),
        (
            lambda: checks.check_cond(torch.zeros(2, dtype=torch.int32), 2),
            "cond must be int64 class indices of shape (2,) or float features (2, ...), one row per example; got "
            "torch.int32 (2,)",
        ),
        (
            lambda: checks.check_steps(torch.ones(2), torch.ones(2, 3), (3,), 9),
            "t must be a step, or int64 of shape (2,), one per example; got torch.float32 (2,)",
        ),
        (lambda: checks.check_steps(10, torch.ones(2, 3), (3,), 9), "steps t must lie in 1..9, got 10"),
        (
            lambda: checks.check_steps(torch.tensor([0, 10]), torch.ones(2, 3), (3,), 9),
            "steps t must lie in 1..9, got 0",
        ),
        (
            lambda: checks.check_steps(torch.tensor([2, 10]), torch.ones(2, 3), (3,), 9, 2),
            "steps t must lie in 2..9, got 10",
        ),
        (
            lambda: checks.check_together(torch.ones(2, 3), torch.ones(4, 3), (3,)),
            "x and z_t must have the same number of rows, got 2 and 4",
        ),
        (
            lambda: checks.check_finite(torch.tensor([[1.0, math.inf], [math.nan, 2.0]])),
            "values must be finite, found inf at [0, 1], one of 2 such values of 4; repair or leave out such examples",
        ),
        (
            lambda: checks.check_bits(torch.tensor([0.0, 1.0, 0.25])),
            "values must be 0 or 1, found 0.25 at [2], one of 1 such values of 3; draw bits from gray levels with "
            "(torch.rand_like(x) < x).to(x), or choose a gaussian likelihood",
        ),
        (
            lambda: checks.check_range(torch.tensor([0.0, 1.5]), -1, 1),
            "values must lie in the model's range [-1, 1], found 1.5 at [1], one of 1 such values of 2; scale the data "
            "to it, or build the model with another clip",
        ),
        (
            lambda: checks.check_count(0, "path"),
            "there is nothing to evaluate: expected at least one path, got 0",
        ),
    ],
)
def test_a_check_says_what_was_expected_what_was_found_and_what_to_do(refuse, sentence):
    with pytest.raises(InputError) as caught:
        refuse()
    assert str(caught.value) == sentence
