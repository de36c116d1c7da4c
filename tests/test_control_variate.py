"""Control variates of the diffusion bound: their sums, their fit and their features are exactly what they state."""

import pytest
import torch
from torch.nn import functional as F
from torch.testing import assert_close

from harness.faults import catches
from harness.support import F64, gauss_hermite, seeded
from kakusan.likelihood import diffusion as diffusion_module
from kakusan.likelihood.control_variate import features as features_module
from kakusan.likelihood.control_variate import surroundings as surroundings_module
from kakusan.likelihood.control_variate import wiener as wiener_module
from kakusan.likelihood.control_variate.control import RIDGE, SHARED_RIDGE, Calls, Predictors, fit
from kakusan.likelihood.control_variate.features import Features
from kakusan.likelihood.control_variate.surroundings import Surroundings
from kakusan.likelihood.control_variate.wiener import Wiener, step_weight
from kakusan.likelihood.three import three_estimates
from kakusan.models.diffusion import Diffusion
from kakusan.oracles import GaussianWorld
from kakusan.schedule import Schedule

DEPTH, NUM_GROUPS = 10, 4
GROUP = torch.tensor([0, 1, 1, 1, 2, 2, 2, 2, 3, 3])
WORLD = GaussianWorld([0.3, -0.2], [[0.5, 0.2], [0.2, 0.3]])
EXACT = {"rtol": 1e-10, "atol": 1e-12}  # float64, sums of at most some thousand terms


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=seeded(seed), dtype=F64)


def model_of(num_dims=2):
    schedule = Schedule.from_betas([0.05, 0.1, 0.1, 0.15, 0.2, 0.2, 0.3, 0.4, 0.5, 0.8])
    return Diffusion(lambda z, t: 0 * z, schedule, num_dims, prediction="x", variance="beta").double()


def predictors_of(x):
    typical, slope = 1 + torch.arange(DEPTH, dtype=F64), torch.linspace(-1, 1, DEPTH, dtype=F64)
    return Predictors(Wiener(model_of(), x), typical, slope, GROUP, NUM_GROUPS, lambda rows: x[rows], len(x))


@catches("""likelihood/control_variate/control.py: the sum of the control variate's slopes has the wrong sign
- own + self._slope_sums * coefficients[:, known]
+ own - self._slope_sums * coefficients[:, known]""")
@catches("""likelihood/control_variate/control.py: each group's control variate is put back with the mean size of a step
- coefficients[:, :known].T * self._typical_sums
+ coefficients[:, :known].T * self._typical_sums.mean()""")
@catches("""likelihood/control_variate/control.py: the filter's cost of other examples is put back
- self._wiener_sums[rows] * coefficients[:, known + 1]
+ self._wiener_sums[: len(rows)] * coefficients[:, known + 1]""")
@catches("""likelihood/control_variate/control.py: what the noise adds to the filter's cost has another mean than 0
- self.wiener.cost(y, eps, t)[:, None] - mean
+ self.wiener.cost(y, eps, t)[:, None]""")
@catches("""likelihood/control_variate/control.py: the slope is that of another step
- [typical * self.own[rows], self.slope[t - 1, None]
+ [typical * self.own[rows], self.slope[t - 2, None]""")
@catches("""likelihood/control_variate/features.py: the direction of the noise has another mean than 0
- [eps * place for place in upwards_on]
+ [(eps + 0.1) * place for place in upwards_on]""")
def test_what_is_put_back_is_the_sum_over_the_steps_of_the_mean_of_what_is_taken_out():
    x = WORLD.sample(40, seeded(1))
    predictors, rows = predictors_of(x), torch.tensor([7, 3, 31])
    eps, weights = gauss_hermite(2)  # exact for the squares of the noise
    sums = torch.zeros(len(rows), NUM_GROUPS, dtype=F64)
    columns = predictors.at(rows, x[rows], torch.ones(3, dtype=torch.int64), x[rows]).shape[1]
    coefficients = normal(NUM_GROUPS, columns, seed=2)
    for i, row in enumerate(rows.tolist()):
        for t in range(1, DEPTH + 1):
            many = torch.full((len(eps),), row)
            u = predictors.at(many, x[many], torch.full_like(many, t), eps)
            sums[i, GROUP[t - 1]] += (weights @ u) @ coefficients[GROUP[t - 1]]
    assert_close(predictors.sums(rows, coefficients), sums, **EXACT)


def calls_of(n=300, columns=5):
    u, t = normal(n, columns, seed=3), torch.randint(1, DEPTH + 1, (n,), generator=seeded(4))
    prob = torch.rand(n, generator=seeded(5), dtype=F64) + 0.1
    cost = u @ normal(columns, seed=6) + GROUP[t - 1] * u[:, 0] + normal(n, seed=7)
    return Calls(torch.arange(n), t, prob, u, cost)


@catches("""likelihood/control_variate/control.py: the control variate is fitted to costs that are not divided by their probability
- target = calls.cost / calls.prob / scale
+ target = calls.cost / scale""")
@catches("""likelihood/control_variate/control.py: a call is counted in the group of the step before
- [group[calls.t - 1] == k for k
+ [group[calls.t - 2] == k for k""")
@catches("""likelihood/control_variate/control.py: all groups of steps have one control variate
- return (shared + deviations)[:, :, 0] / size
+ return (shared + 0 * deviations)[:, :, 0] / size""")
@catches("""likelihood/control_variate/control.py: the shared coefficients are shrunk as much as the deviations
- left[:, :-1] + SHARED_RIDGE * eye
+ left[:, :-1] + RIDGE * eye""")
@catches("""likelihood/control_variate/control.py: coefficients are those of predictors of another size
- return (shared + deviations)[:, :, 0] / size
+ return (shared + deviations)[:, :, 0]""")
def test_the_fit_is_the_least_penalized_square():
    calls = calls_of()
    found = fit(calls, GROUP, NUM_GROUPS)
    # by the definition, as one large ridge regression: columns for all steps, then deviations of each group
    scale = (calls.cost / calls.prob).square().mean().sqrt()
    u, target = calls.u / calls.prob[:, None] / scale, calls.cost / calls.prob / scale
    size = u.square().mean(0).sqrt()
    u = u / size
    own = [u * (GROUP[calls.t - 1] == k)[:, None] for k in range(NUM_GROUPS)]
    design = torch.cat([u, *own], 1)
    penalty = torch.cat([torch.full((5,), SHARED_RIDGE), torch.full((5 * NUM_GROUPS,), RIDGE)]).double().diag()
    shared, *deviations = torch.linalg.solve(design.T @ design + penalty, design.T @ target).split(5)
    assert_close(found, torch.stack([(shared + one) / size for one in deviations]), rtol=1e-9, atol=1e-10)


def test_without_any_cost_nothing_is_taken_out():
    calls = calls_of()
    nothing = Calls(calls.rows, calls.t, calls.prob, calls.u, torch.zeros_like(calls.cost))
    assert (fit(nothing, GROUP, NUM_GROUPS) == 0).all()


@catches("""likelihood/control_variate/control.py: one example decides about itself by extrapolation
- scaled.clamp(-FARTHEST, FARTHEST)
+ scaled""")
@catches("""likelihood/control_variate/control.py: features keep their mean
- (columns - columns.mean(0))
+ columns""")
def test_features_of_the_examples_are_standardized_and_cut_off():
    x = WORLD.sample(400, seeded(8))
    x[0] = 1000.0
    own = predictors_of(x).own
    assert (own[:, 0] == 1).all()
    assert own[:, 1:].abs().max() == 8.0
    ordinary = predictors_of(x[1:]).own[:, 1:]
    varied = ordinary.std(0) > 0
    assert_close(ordinary.mean(0)[varied], torch.zeros(int(varied.sum()), dtype=F64), rtol=0, atol=0.05)
    assert ((ordinary.std(0)[varied] - 1).abs() < 0.15).all()  # a few values are cut off


# Surroundings and features of images


@catches("""likelihood/control_variate/surroundings.py: a pixel is predicted from itself
- others = [k for k in range(width + 1) if k != self._center]
+ others = [k for k in range(width + 1) if k != self._center + 1]""")
@catches("""likelihood/control_variate/surroundings.py: the prediction of a pixel lacks its constant
- + self._constant).view_as(x)
+ ).view_as(x)""")
@catches("""likelihood/control_variate/surroundings.py: a pixel is predicted from the mirror image of its surroundings
- self._kernel.to(x)
+ self._kernel.flip(3).to(x)""")
def test_a_pixel_is_predicted_from_its_surroundings_by_least_squares(monkeypatch):
    monkeypatch.setattr(surroundings_module, "AT_ONCE", 200)  # several parts
    images = 0.3 + normal(30, 2, 7, 6, seed=9) + 0.5 * normal(30, 2, 7, 6, seed=9).roll((1, 2), (2, 3))
    off = Surroundings(images).off(images)
    padded = F.pad(images.flatten(0, 1)[:, None], [2] * 4, mode="replicate")
    patches = F.unfold(padded, 5).transpose(1, 2).reshape(-1, 25)
    design = torch.cat([patches[:, :12], patches[:, 13:], torch.ones(len(patches), 1, dtype=F64)], 1)
    solution = torch.linalg.lstsq(design, patches[:, 12:13]).solution
    expected = (patches[:, 12:13] - design @ solution).view_as(images)
    assert_close(off, expected, rtol=0, atol=1e-4)  # a ridge of 1e-6
    assert off.square().mean() < 0.8 * images.var()


@catches("""likelihood/control_variate/features.py: features are sums over the example
- torch.stack([values.flatten(1).double().mean(1) for values in maps], 1)
+ torch.stack([values.flatten(1).double().sum(1) for values in maps], 1)""")
@catches("""likelihood/control_variate/features.py: values at an end of the scale count as values between
- [low, ~(low | high), high]
+ [low, ~(low & high), high]""")
@catches("""likelihood/control_variate/features.py: steps up and down between pixels cancel
- maps += [change.abs(), change.square()]
+ maps += [change, change.square()]""")
def test_the_first_features_of_an_image_are_the_means_that_they_state():
    x = normal(20, 1, 5, 4, seed=10).clamp(-1, 1)  # many values at both ends
    found = Features(lambda rows: x[rows], torch.arange(20).split(8)).own(x)
    low, high = (x == -1).double(), (x == 1).double()
    inner = 1 - low - high
    steps = [x.diff(dim=2), x.diff(dim=3)]
    steps += [step.diff(dim=axis) for axis in (2, 3) for step in steps]
    maps = [x, x.square(), inner * x, inner * (1 - x.square()), low, inner, high]
    maps += [change for step in steps for change in (step.abs(), step.square())]
    expected = torch.stack([one.flatten(1).mean(1) for one in maps], 1)
    assert_close(found[:, : expected.shape[1]], expected, **EXACT)


@catches("""likelihood/control_variate/features.py: values at the border of the low end are those beyond it
- border = low & (F.max_pool2d(
+ border = ~low & (F.max_pool2d(""")
@catches("""likelihood/control_variate/features.py: the mean of the surroundings counts twice
- return x - F.avg_pool2d(x, 3, 1, 1)
+ return x - 2 * F.avg_pool2d(x, 3, 1, 1)""")
@catches("""likelihood/control_variate/features.py: the size of the noise is measured between the ends alone
- size_on, upwards_on = [*kinds],
+ size_on, upwards_on = [kinds[1]] * 3,""")
@catches("""likelihood/control_variate/features.py: differences from the surroundings have no fourth power
- for j in range(1, 5) for k in range(4)
+ for j in range(4) for k in range(4)""")
def test_the_other_features_of_an_image_are_the_means_that_they_state():
    x, eps = normal(20, 1, 5, 4, seed=10).clamp(-1, 1), normal(20, 1, 5, 4, seed=11)
    features = Features(lambda rows: x[rows], torch.arange(20).split(8))
    low, high = (x == -1).double(), (x == 1).double()
    inner, off = 1 - low - high, Surroundings(x[:8]).off(x)  # learned from the first part
    padded = F.pad(x, [1] * 4)
    around = [padded[..., i : i + 5, j : j + 4] for i in range(3) for j in range(3)]
    above = x - sum(around) / 9
    beyond = F.pad(1 - low, [1] * 4)  # a pixel at the low end with a neighbor that is not
    border = low * (sum(beyond[..., i : i + 5, j : j + 4] for i in range(3) for j in range(3)) > 0)
    maps = [border, above.abs(), above.square(), inner * above.abs(), inner * above.square()]
    maps += [off.abs(), off.abs() * x.square(), *(off**j * x**k for j in (1, 2, 3, 4) for k in (0, 1, 2, 3))]
    maps += [x**k for k in (3, 4, 6, 8)]
    expected = torch.stack([one.flatten(1).mean(1) for one in maps], 1)
    assert_close(features.own(x)[:, -expected.shape[1] :], expected, **EXACT)
    sizes = [low, inner, high, x, x**2, x**4, x**8, off.abs(), off**2]
    signs = [low, inner, high, x * inner, above, x, x**2, x**3, x**5, x**9, off, off * off.abs(), off**3]
    maps = [(eps.square() - 1) * place for place in sizes] + [eps * place for place in signs]
    assert_close(features.of_noise(x, eps), torch.stack([one.flatten(1).mean(1) for one in maps], 1), **EXACT)


@catches("""likelihood/control_variate/features.py: values at the low end of an earlier part stay counted when a lower end is found
- (at_least if least <= low else 0)
+ at_least""")
@pytest.mark.parametrize(
    ("parts", "walls"),
    [
        (([0.0, 0.0, 0.5], [0.0, 1.0, 1.0]), (0.0, 1.0)),
        (([0.0] * 50 + [0.5], [-1.0] + [0.5] * 149), (None, None)),  # one of 200 lies at -1, and 0 is no end
        (([0.2, 0.3], [0.4, 0.1]), (0.1, 0.4)),
    ],
)
def test_an_end_of_the_scale_is_where_many_values_lie(parts, walls):
    found = features_module._walls(torch.tensor([part], dtype=F64) for part in parts)
    if walls == (None, None):
        assert found[0] != found[0]  # NaN
    else:
        assert found == walls


@catches("""likelihood/control_variate/wiener.py: coordinates that are filtered separately have another variance
- centred.square().mean(0), None
+ centred.square().sum(0), None""")
@catches("""likelihood/control_variate/wiener.py: the filter is made for twice the variance
- centred.T @ centred / len(flat)
+ 2 * centred.T @ centred / len(flat)""")
def test_a_filter_of_each_coordinate_is_the_filter_of_independent_coordinates(monkeypatch):
    x = torch.cartesian_prod(torch.tensor([-1.0, 1.0]), torch.tensor([-3.0, 1.0])).double()  # variances 1 and 4
    t, eps = torch.tensor([1, 4, 7, 10]), normal(4, 2, seed=13)
    whole = Wiener(model_of(), x)
    monkeypatch.setattr(wiener_module, "LARGEST_COVARIANCE", 1)
    each = Wiener(model_of(), x)
    for one in (whole, each):
        assert_close(one.typical, whole.typical, **EXACT)
        assert_close(one.cost(one.coordinates(x), eps, t), whole.cost(whole.coordinates(x), eps, t), **EXACT)
    schedule, var = model_of().schedule, torch.tensor([1.0, 4.0], dtype=F64) + 0.01 * 2.5
    gain = schedule.signal[t, None] * var / (schedule.alpha_bar[t, None] * var + schedule.noise_var[t, None])
    z = schedule.signal[t, None] * x + schedule.noise[t, None] * eps
    x_hat = x.mean(0) + gain * (z - schedule.signal[t, None] * x.mean(0))
    expected = step_weight(model_of())[t] * (x - x_hat).square().sum(1)
    assert_close(each.cost(each.coordinates(x), eps, t), expected, **EXACT)


@catches("""likelihood/control_variate/wiener.py: an error of the data estimate costs nothing at the first step
- weight[0] = 0.0
+ weight[1] = 0.0""")
@catches("""likelihood/control_variate/wiener.py: an error of the data estimate costs twice
- weight = 0.5 * model.schedule.mean_coef_x.square()
+ weight = model.schedule.mean_coef_x.square()""")
def test_the_weight_of_a_step_is_what_a_squared_error_costs_there():
    model, x = model_of(1), torch.zeros(1, 1, dtype=F64)
    weight = step_weight(model)
    assert weight.shape == (DEPTH + 1,)
    assert weight[0] == 0
    for t in range(1, DEPTH + 1):
        z = model.marginal(x, t).mean
        costs = [
            Diffusion(lambda z, t, answer=answer: z * 0 + answer, model.schedule, 1, prediction="x", variance="beta")
            .double()
            .step_cost(x, z, t)
            for answer in (0.0, 0.7)
        ]
        assert_close(costs[1] - costs[0], 0.49 * weight[t : t + 1], **EXACT)


# In the estimators


@catches("""likelihood/diffusion.py: the control variate is fitted to the very costs that it is used on
- [peer for peer in blocks if peer is not block]
+ blocks""")
def test_no_cost_is_predicted_from_itself(monkeypatch):
    fitted, used = [], []

    def spy_fit(calls, *rest):
        fitted.append(set(calls.rows.tolist()))
        return fit(calls, *rest)

    def spy_sums(self, rows, coefficients):
        used.append(set(rows.tolist()))
        return sums(self, rows, coefficients)

    sums = Predictors.sums
    monkeypatch.setattr(diffusion_module, "fit", spy_fit)
    monkeypatch.setattr(Predictors, "sums", spy_sums)
    x = WORLD.sample(1000, seeded(11))
    diffusion_module.of_diffusion(model_of(), lambda rows: x[rows], 1000)
    assert set.union(*used) == set(range(1000))
    for learned, predicted in zip(fitted, used, strict=True):
        assert not learned & predicted
        assert learned | predicted == set(range(1000))


@catches("""likelihood/three.py: errors of the three estimators are twice too large
- (draws.var(dim=1) / draws.shape[1]).mean().sqrt().item()
+ 2 * (draws.var(dim=1) / draws.shape[1]).mean().sqrt().item()""")
@catches("""likelihood/three.py: errors of the three estimators are those of one example
- .mean().sqrt().item() / math.sqrt(len(x))
+ .mean().sqrt().item()""")
@catches("""likelihood/three.py: a difference has the error of one of its sides
- both = math.hypot(result[name]["standard_error"], path["standard_error"])
+ both = result[name]["standard_error"]""")
def test_the_errors_of_the_three_estimators_are_those_of_their_means():
    """Stated errors against the std over 200 seeds: known to 5 %, so 4.5 standard errors are 23 %."""
    x, found = WORLD.sample(3, seeded(12)), []
    schedule = Schedule.from_betas([0.1, 0.2, 0.3])
    model = Diffusion(lambda z, t: 0.7 * z, schedule, 2, prediction="x", variance="unit").double()
    for seed in range(200):
        found.append(three_estimates(model, lambda rows: x[rows], 3, seed=seed, images=3, paths=4))
    for name in ("path", "pair", "single"):
        means = torch.tensor([one[name]["bits_per_dim"] for one in found], dtype=F64)
        stated = torch.tensor([one[name]["standard_error"] for one in found], dtype=F64).square().mean().sqrt()
        assert stated.item() == pytest.approx(means.std().item(), rel=0.23), name
    off = torch.tensor([one["single"]["errors_from_path"] for one in found], dtype=F64)
    assert off.square().mean().sqrt().item() == pytest.approx(1, rel=0.23)
