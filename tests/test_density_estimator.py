"""`kakusan.DensityEstimator`: conventions of scikit-learn, exact densities, missing values, categories."""

import warnings

import numpy as np
import pytest

import kakusan as kk
from harness.faults import catches


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


def test_parameters_are_read_and_set_by_name():
    density = kk.DensityEstimator(steps=7)
    assert density.set_params(members=2).get_params()["members"] == 2
    assert repr(density) == "DensityEstimator(members=2, steps=7)"
    with pytest.raises(kk.InputError, match="no parameter 'step'"):
        density.set_params(step=3)
