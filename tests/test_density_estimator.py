"""`kakusan.DensityEstimator`: conventions of scikit-learn, exact densities, missing values, categories."""

import copy
import itertools
import math
import warnings
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

import kakusan as kk
from harness.faults import catches
from harness.support import F64
from kakusan.data.table_scale import TableScale
from kakusan.run import density_estimator


def normal_rows(num, seed=0):
    mix = np.array([[1.0, 0.2, 0], [0, 1, 0.5], [0.3, 0, 2]])
    return np.random.default_rng(seed).normal(size=(num, 3)) @ mix * [1, 100, 0.01], mix * [1, 100, 0.01]


def exact(x, mix):
    cov = mix.T @ mix
    return -0.5 * ((x @ np.linalg.inv(cov) * x).sum(1) + np.linalg.slogdet(2 * np.pi * cov)[1])


@pytest.mark.slow
def test_scikit_learn_finds_its_conventions_kept():
    checks = pytest.importorskip("sklearn.utils.estimator_checks")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = checks.check_estimator(kk.DensityEstimator(members=1, steps=2, hidden=(8,), draws=2), on_fail=None)
    assert [one["check_name"] for one in found if one["status"] not in ("passed", "skipped")] == []
    assert sum(one["status"] == "passed" for one in found) > 30


@catches("""run/density_estimator.py: the members' densities are multiplied
- torch.stack(bounds).logsumexp(0) - math.log(len(bounds))
+ torch.stack(bounds).sum(0)""")
def test_normal_rows_get_their_log_density_in_their_own_units():
    x, mix = normal_rows(4000)
    held_out, _ = normal_rows(2000, seed=1)
    found = kk.DensityEstimator(members=2, steps=0, latent=3).fit(x).score_samples(held_out)
    assert abs(np.mean(found - exact(held_out, mix))) < 0.01  # nine parameters cost 9 / 2 / 4000 nats, here 0.002


def test_training_lowers_no_held_out_score_by_much_and_finds_a_ring():
    angle = np.random.default_rng(0).uniform(0, 2 * np.pi, 600)
    x = np.stack([np.cos(angle), np.sin(angle)], 1) + 0.1 * np.random.default_rng(1).normal(size=(600, 2))
    # without shapes of the columns, which find much of the ring before training
    linear = kk.DensityEstimator(members=1, shapes=False, steps=0).fit(x[:500]).score(x[500:])
    trained = kk.DensityEstimator(members=1, shapes=False, steps=300, learning_rate=5e-3).fit(x[:500]).score(x[500:])
    assert trained > linear + 0.05


@catches("""run/density_estimator.py: each row has its own noise
- noise = torch.randn(draws, *vae.latent_shape,
+ noise = torch.randn(draws, len(x), *vae.latent_shape,""")
def test_a_score_depends_on_its_row_alone_and_a_missing_value_raises_no_error():
    x, _ = normal_rows(200)
    density = kk.DensityEstimator(members=1, steps=5, draws=3).fit(x)
    together = density.score_samples(x[:5])
    assert np.allclose(together, [density.score_samples(row[None])[0] for row in x[:5]], rtol=0, atol=1e-9)
    x[0, 1] = np.nan
    assert np.isfinite(density.score_samples(x[:1])).all()


def test_categories_and_integers_come_back_as_they_were():
    draw = np.random.default_rng(0)
    x = np.stack([draw.choice([2.0, 5.0, 7.0], 200), draw.poisson(4, 200), draw.normal(size=200)], 1)
    density = kk.DensityEstimator(members=2, steps=3, columns={0: "categorical", 1: "integer"}).fit(x)
    drawn = density.sample(50, random_state=1)
    assert set(drawn[:, 0]) <= {2.0, 5.0, 7.0}
    assert (drawn[:, 1] == drawn[:, 1].round()).all()
    assert (drawn == density.sample(50, random_state=1)).all()
    with pytest.raises(kk.InputError, match="category 3"):
        density.score_samples([[3.0, 1, 0]])


@catches("""run/density_estimator.py: an estimator that is not fitted is no mistake of the user
- return hasattr(self, "members_")
+ return True""")
def test_an_estimator_that_is_not_fitted_says_so():
    for use in (kk.DensityEstimator().score_samples, lambda x: kk.DensityEstimator().sample()):
        found = ""
        try:
            use(np.zeros((2, 2)))
        except Exception as error:
            found = str(error)
        assert found == "this DensityEstimator is not fitted; call fit(X) first"


def test_parameters_are_read_and_set_by_name():
    density = kk.DensityEstimator(steps=7)
    assert density.set_params(members=2).get_params()["members"] == 2
    assert repr(density) == "DensityEstimator(members=2, steps=7)"
    with pytest.raises(kk.InputError, match="no parameter 'step'"):
        density.set_params(step=3)


# Members


def untrained(monkeypatch):
    """Rows and settings of each training, which is left out."""
    calls = []
    monkeypatch.setattr(density_estimator, "fit", lambda vae, x, **given: calls.append((x, given)))
    return calls


@catches("""run/density_estimator.py: all members start from the same random weights
- stream(seed, "member", number).initial_seed()
+ stream(seed, "member").initial_seed()""")
@catches("""run/density_estimator.py: the random state of a fit is not used
- seed = self.random_state or 0
+ seed = 0""")
@catches("""run/density_estimator.py: members leave out rows in their order
- place[order] = part
+ place = part""")
@catches("""run/density_estimator.py: the learning rate is the default
- lr=self.learning_rate, weight_decay
+ weight_decay""")
def test_each_member_has_its_own_rows_weights_and_batches_and_the_settings_of_the_estimator(monkeypatch):
    calls, rows = untrained(monkeypatch), normal_rows(50)[0]
    settings = {"hidden": (7,), "steps": 3, "learning_rate": 0.5, "weight_decay": 0.25, "dropout": 0.5, "latent": 2}
    density = kk.DensityEstimator(members=3, shapes=False, random_state=11, **settings).fit(rows)
    assert [given["seed"] for _, given in calls] == [11, 12, 13]
    for _, given in calls:
        optim = given["optim"]
        assert (given["steps"], optim.lr, optim.weight_decay, optim.warmup) == (3, 0.5, 0.25, 3)
        assert (optim.batch, optim.ema, given["average"]) == (128, 0.1, False)
    x = TableScale(density.columns_).to_model(torch.from_numpy(rows))
    left_out = [[k for k in range(50) if not (x[k] == seen).all(1).any()] for seen, _ in calls]
    assert sorted(itertools.chain(*left_out)) == list(range(50))
    assert left_out[0] != list(range(0, 50, 3))
    for kind, found in ((nn.Linear, lambda one: one.out_features == 7), (nn.Dropout, lambda one: one.p == 0.5)):
        assert all(any(isinstance(one, kind) and found(one) for one in vae.modules()) for vae in density.members_)
    first, second = (hidden_weights(vae) for vae in density.members_[:2])
    assert not any(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def hidden_weights(vae):
    return [one.weight for one in vae.modules() if isinstance(one, nn.Linear) and one.out_features == 7]


class Scored:
    """Bounds by a table of the weights, or of the number of latents of untrained members."""

    def __init__(self, monkeypatch, by_weight):
        self.by_weight, self.rows = by_weight, set()
        monkeypatch.setattr(density_estimator, "_bound", self.bound)
        monkeypatch.setattr(density_estimator, "fit", self.fit)

    def bound(self, vae, x, draws, seed):
        self.rows.add(len(x))
        value = next(vae.parameters()).flatten()[0].item()
        return torch.tensor([self.by_weight.get(value, -float((vae.latent_shape[0] - 2) ** 2))])

    def fit(self, vae, x, *, on_step, **given):
        for step in self.by_weight:
            averaged = copy.deepcopy(vae)
            for parameter in averaged.parameters():
                nn.init.constant_(parameter, step)
            on_step(SimpleNamespace(state=SimpleNamespace(step=step), ema=SimpleNamespace(module=averaged)))


@catches("""run/density_estimator.py: a member keeps the weights that score worst
- if value > kept[0]:
+ if value < kept[0]:""")
@pytest.mark.parametrize(
    ("scores", "kept"), [({25: 1.0, 50: 5.0, 60: 3.0}, 50), ({25: 1.0, 50: 5.0, 60: 7.0}, 60), ({25: -1.0}, None)]
)
def test_a_member_has_the_factors_and_keeps_the_weights_that_score_best_on_held_out_rows(monkeypatch, scores, kept):
    scored = Scored(monkeypatch, scores)
    (vae,) = kk.DensityEstimator(members=1, steps=60, shapes=False).fit(normal_rows(50)[0]).members_
    assert vae.latent_shape == (2,)
    weights = {value for parameter in vae.parameters() for value in parameter.flatten().tolist()}
    assert weights == {kept} if kept else len(weights) > 1
    assert scored.rows == {10}
    assert not vae.training


# Scores and samples


@catches("""run/density_estimator.py: the random state of scores is not used
- _bound(vae, x, self.draws, self.random_state or 0)
+ _bound(vae, x, self.draws, 0)""")
def test_scores_have_the_draws_and_the_random_state_of_the_estimator_and_a_mean(monkeypatch):
    rows, seen = normal_rows(20)[0], []
    density = kk.DensityEstimator(members=2, steps=0, latent=1, shapes=False, draws=5, random_state=9).fit(rows)

    def bound(vae, x, draws, seed):
        seen.append((draws, seed))
        return torch.arange(4, dtype=F64) - len(seen)

    monkeypatch.setattr(density_estimator, "_bound", bound)
    mean = math.log((math.exp(-1) + math.exp(-2)) / 2)
    assert density.score_samples(rows[:4]) == pytest.approx([mean, mean + 1, mean + 2, mean + 3])
    seen.clear()
    assert density.score(rows[:4]) == pytest.approx(mean + 1.5)
    assert seen == [(5, 9), (5, 9)]


class Shifted:
    """A member whose rows are shifted by 1,000 standard deviations."""

    def __init__(self, vae):
        self.vae, self.prior = vae, vae.prior

    def decode(self, z, t):
        return SimpleNamespace(sample=lambda generator: self.vae.decode(z, t).sample(generator) + 1000.0)


@catches("""run/density_estimator.py: all samples are those of one member
- torch.randint(len(self.members_), (n_samples,)
+ torch.randint(1, (n_samples,)""")
def test_samples_come_from_every_member_and_depend_on_the_random_state():
    density = kk.DensityEstimator(members=2, steps=0, latent=1, shapes=False, random_state=4).fit(normal_rows(40)[0])
    own = density.sample(6)
    assert np.array_equal(own, density.sample(6, random_state=4))
    assert not np.array_equal(own, density.sample(6, random_state=5))
    assert not np.array_equal(own, density.sample(6, random_state=0))
    density.members_[1] = Shifted(density.members_[1])
    far = (density.sample(400)[:, 0] > 100).sum()
    assert 150 < far < 250  # 200, five standard deviations of 10


ROWS = np.arange(12.0).reshape(4, 3)


@pytest.mark.parametrize(
    ("x", "words"),
    [
        (SimpleNamespace(toarray=None), "sparse input is not supported"),
        (ROWS + 1j, "Complex data not supported"),
        ([["a", "b"], ["c", "d"]], "X must hold numbers, got <U1 .*give categories as codes"),
        (ROWS[0], r"Expected 2D array, got 1D array of shape \(3,\) instead"),
        (ROWS[:0], r"Found array with 0 sample\(s\) \(shape=\(0, 3\)\) while a minimum of 1 is required"),
        (ROWS[:, :0], r"Found array with 0 feature\(s\) \(shape=\(4, 0\)\)"),
        (np.where(ROWS == 4, -np.inf, ROWS), "Input X contains infinity"),
        (ROWS[:1], "needs 2 rows or more, got n_samples = 1"),
        (np.where(ROWS % 3 == 1, np.nan, ROWS), "column 1 of X has no values"),
    ],
)
def test_what_is_no_table_of_numbers_is_refused_in_the_words_of_scikit_learn(x, words):
    with pytest.raises(kk.InputError, match=words):
        kk.DensityEstimator(steps=0).fit(x)
    with pytest.raises(TypeError, match="argument must be a string or a number"):
        kk.DensityEstimator(steps=0).fit([[{}, 1.0], [2.0, 3.0]])


@pytest.mark.parametrize(("name", "least"), [("members", 1), ("steps", 0), ("draws", 1)])
def test_counts_of_an_estimator_are_whole_numbers_of_at_least_their_least(name, least):
    for value in (least - 1, True, 1.5):
        with pytest.raises(kk.InputError, match=f"{name} must be a whole number of at least {least}, got {value}"):
            kk.DensityEstimator(**{name: value}).fit(ROWS)
    kk.DensityEstimator(**{name: np.int64(least)})._check()


class Frame:
    """Rows with names of columns, as a data frame has them."""

    def __init__(self, rows, columns):
        self.rows, self.columns = rows, columns

    def __array__(self, dtype=None, copy=None):
        return np.array(self.rows, dtype=dtype)


def test_columns_of_a_data_frame_are_those_of_the_fit_in_their_order():
    rows = normal_rows(20)[0]
    density = kk.DensityEstimator(steps=0, members=1, latent=1, shapes=False).fit(Frame(rows, ["a", "b", "c"]))
    assert density.feature_names_in_.tolist() == ["a", "b", "c"]
    with pytest.raises(kk.InputError, match=r"should match .* fit: expected a, b, c, got a, c, b"):
        density.score_samples(Frame(rows, ["a", "c", "b"]))
    assert np.array_equal(density.score_samples(rows), density.score_samples(Frame(rows, ["a", "b", "c"])))
    with pytest.raises(kk.InputError, match="X has 2 features, but DensityEstimator is expecting 3 features as input"):
        density.score_samples(rows[:, :2])
    assert not hasattr(density.fit(Frame(rows, [0, 1, 2])), "feature_names_in_")


def test_categories_become_the_codes_of_fit_and_holes_stay_holes():
    found = density_estimator._coded(np.array([7.0, np.nan, 2.0]), np.array([2.0, 5.0, 7.0]), 4)
    assert found[[0, 2]].tolist() == [2, 0]
    assert np.isnan(found[1])
    for value in (1.0, 3.0, 9.0):
        with pytest.raises(kk.InputError, match=f"column 4 has the category {value:g}, which fit has not seen"):
            density_estimator._coded(np.array([2.0, value]), np.array([2.0, 5.0, 7.0]), 4)


def test_factors_are_chosen_among_the_fewest_first_up_to_a_quarter_of_the_rows(monkeypatch):
    tried = []

    def start(self, columns, num, x):
        tried.append(num)
        return nn.Linear(1, 1)

    monkeypatch.setattr(kk.DensityEstimator, "_start", start)
    monkeypatch.setattr(density_estimator, "_bound", lambda *given: torch.zeros(1))
    for rows, columns in ((41, 12), (100, 2)):
        kk.DensityEstimator(members=1, steps=0, shapes=False).fit(np.random.default_rng(0).normal(size=(rows, columns)))
    assert tried == [1, 2, 3, 5, 8, 1, 2, 3]  # 32 of 41 rows have at most 8; 2 values and 2 flags at most 4
    assert density_estimator.LATENTS == (1, 2, 3, 5, 8, 12, 16, 20, 24, 32)


def test_the_defaults_of_an_estimator_are_those_that_its_words_say():
    assert kk.DensityEstimator().get_params() == {
        "latent": None, "hidden": (64,), "members": 5, "steps": 400, "learning_rate": 2e-3, "weight_decay": 0.1,
        "dropout": 0.1, "columns": None, "shapes": True, "draws": 64, "random_state": None,
    }  # fmt: skip


def test_the_weights_of_a_member_are_checked_every_25_steps_and_at_the_end_with_16_draws(monkeypatch):
    draws, step = [], SimpleNamespace(step=0)
    monkeypatch.setattr(density_estimator, "_bound", lambda vae, x, num, seed: draws.append(num) or torch.zeros(1))

    def fit(vae, x, *, on_step, steps, **given):
        draws.clear()
        for step.step in range(1, steps + 1):
            on_step(SimpleNamespace(state=step, ema=SimpleNamespace(module=vae)))
            if draws:
                checked.append((step.step, draws.pop()))

    checked = []
    monkeypatch.setattr(density_estimator, "fit", fit)
    kk.DensityEstimator(members=1, steps=60, latent=1, shapes=False).fit(normal_rows(20)[0])
    assert checked == [(25, 16), (50, 16), (60, 16)]
