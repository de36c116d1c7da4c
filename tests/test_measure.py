"""Measures of samples: against closed forms, against loops that spell out the definitions, and on spoiled digits."""

import itertools
import json
import math
from typing import ClassVar

import numpy as np
import pytest
import torch
from torch.nn import functional as F
from torch.testing import assert_close

from harness.faults import catches
from harness.support import F64, LIMIT, assert_mean, f64, seeded
from kakusan import measure as kk_measure
from kakusan.cli import main
from kakusan.data.digits import mnist, mnist_labels
from kakusan.errors import InputError
from kakusan.measure import METRICS, neighbors
from kakusan.measure import classifier as classifier_module
from kakusan.measure import samples as samples_module
from kakusan.measure.classes import RecognizedMetric, class_chi_square, class_shares, recognized
from kakusan.measure.classifier import classifier, features_and_probabilities
from kakusan.measure.copies import Pair, near_training, nearer, nearest_two
from kakusan.measure.frechet import _jackknife, _num_blocks, frechet_distance, frechet_distances
from kakusan.measure.kernel import discrepancy, kernel_distance
from kakusan.measure.manifolds import PrecisionRecallMetric, precision_recall
from kakusan.measure.metric import Column, Examples, Metric, Sets, Value, share, shuffled
from kakusan.measure.neighbors import nearest
from kakusan.measure.samples import Quality, measure_features, measure_images
from kakusan.measure.two_sample import RIDGE, _inputs, logistic_regression, two_sample_accuracy
from kakusan.registry import Registry
from test_cli import call

T19 = 2.093  # 97.5 % of Student's t with 19 degrees of freedom: 20 blocks


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=seeded(seed), dtype=F64)


def with_moments(mean, cov, n=40, seed=0):
    """n rows whose sample mean and unbiased sample covariance are exactly these."""
    rows = normal(n, len(mean), seed=seed)
    rows = rows - rows.mean(0)
    rows = torch.linalg.solve_triangular(torch.linalg.cholesky(rows.T @ rows / (n - 1)), rows.T, upper=False).T
    return rows @ torch.linalg.cholesky(cov).T + mean


def assert_covers(inside, wanted=0.95):
    """A share of replicates; 4.5 binomial standard errors."""
    share, spread = sum(inside) / len(inside), math.sqrt(wanted * (1 - wanted) / len(inside))
    assert abs(share - wanted) < LIMIT * spread, f"{share:.3f} covered, expected {wanted}"


# Frechet distance


def two_by_two_overlap(a, b):
    """tr (A^1/2 B A^1/2)^1/2 of 2 x 2 matrices: the sum of two roots whose squares' sum and product are known."""
    return math.sqrt((a @ b).trace() + 2 * math.sqrt(torch.linalg.det(a) * torch.linalg.det(b)))


CLOSED_FORMS = {
    "1-D": ([1.0], [[4.0]], [3.0], [[0.25]], (1 - 3) ** 2 + (2 - 0.5) ** 2),
    "commuting": ([0.0, 0.0], [[4.0, 0], [0, 9.0]], [0.0, 1.0], [[1.0, 0], [0, 16.0]], 1 + (2 - 1) ** 2 + (3 - 4) ** 2),
    "one covariance": ([0.0, 2.0], [[2.0, 1.0], [1.0, 3.0]], [1.0, 0.0], [[2.0, 1.0], [1.0, 3.0]], 5.0),
    "not commuting": (
        [0.0, 0.0],
        [[2.0, 1.0], [1.0, 3.0]],
        [0.5, 0.0],
        [[1.0, -0.5], [-0.5, 4.0]],
        0.25 + 10 - 2 * two_by_two_overlap(f64([[2.0, 1.0], [1.0, 3.0]]), f64([[1.0, -0.5], [-0.5, 4.0]])),
    ),
}


@catches("""measure/frechet.py: the covariance of features is the biased one [1-D]
- mode="r").R / (len(features) - 1) ** 0.5
+ mode="r").R / len(features) ** 0.5""")
@catches("""measure/frechet.py: the overlap of two covariances is taken off once [1-D]
- + traces - 2 * overlap
+ + traces - overlap""")
@catches("""measure/frechet.py: the means' distance is not squared [one covariance]
- (a.mean - b.mean).square().sum() + traces
+ (a.mean - b.mean).norm() + traces""")
@pytest.mark.parametrize("case", CLOSED_FORMS)
def test_the_frechet_distance_of_features_with_given_moments_is_the_closed_form(case):
    mean_a, cov_a, mean_b, cov_b, expected = CLOSED_FORMS[case]
    a, b = with_moments(f64(mean_a), f64(cov_a)), with_moments(f64(mean_b), f64(cov_b), n=25, seed=1)
    assert frechet_distance(a, b) == pytest.approx(expected, rel=1e-11)  # float64, 40 rows


@catches("""measure/frechet.py: the overlap of two covariances is a trace
- torch.linalg.svdvals(a.root @ b.root.T).sum()
+ (a.root @ b.root.T).diagonal().sum().abs()""")
def test_the_frechet_distance_is_that_of_the_eigenvalues_of_the_product():
    a, b = normal(50, 12) @ normal(12, 12, seed=1), normal(70, 12, seed=2) @ normal(12, 12, seed=3) + 1
    cov_a, cov_b = torch.cov(a.T), torch.cov(b.T)
    overlap = torch.linalg.eigvals(cov_a @ cov_b).real.sqrt().sum()  # of a matrix that is not symmetric
    expected = (a.mean(0) - b.mean(0)).square().sum() + cov_a.trace() + cov_b.trace() - 2 * overlap
    assert frechet_distance(a, b) == pytest.approx(expected.item(), rel=1e-9)


def test_the_frechet_distance_needs_no_covariance_of_full_rank():
    spread = normal(50, 6)
    few = normal(3, 6, seed=1)  # rank 2 in six dimensions
    point = torch.full((5, 6), 0.5, dtype=F64)
    to_point = (spread.mean(0) - 0.5).square().sum() + torch.cov(spread.T).trace()
    assert frechet_distance(spread, point) == pytest.approx(to_point.item(), rel=1e-11)
    assert frechet_distance(few, few + 2) == pytest.approx(4 * 6, rel=1e-11)
    assert abs(frechet_distance(few, few)) < 1e-12


@catches("""measure/frechet.py: the bias of the Fréchet distance is added
- Value(whole - bias, variance**0.5)
+ Value(whole + bias, variance**0.5)""")
@catches("""measure/frechet.py: the bias of one set alone is taken off
- bias, variance = bias + one_bias, variance + one_variance
+ bias, variance = one_bias, variance + one_variance""")
def test_the_bias_of_the_frechet_distance_falls_as_one_over_n_and_the_jackknife_takes_it_off():
    plain, unbiased = {}, {}
    for n in (100, 200):
        pairs = [frechet_distances(normal(n, 8, seed=2 * k), normal(400, 8, seed=2 * k + 1)) for k in range(30)]
        plain[n], unbiased[n] = (torch.tensor([pair[i].value for pair in pairs], dtype=F64) for i in (0, 1))
    # 0 is the truth; D = 8, of order (1/n + 1/400) D (D + 3) / 4 at one law
    assert plain[100].mean() > plain[200].mean() > 0.1
    for n in (100, 200):
        assert unbiased[n].mean().abs() < 0.1 * plain[n].mean()


@catches("""measure/frechet.py: the Fréchet distance's error is that of one set
- bias, variance = bias + one_bias, variance + one_variance
+ bias, variance = bias + one_bias, one_variance""")
def test_the_frechet_distances_standard_error_holds_the_truth_as_often_as_it_says():
    truth = 1 + 2 * (1 - 0.5) ** 2  # shift 1 in the first of three dimensions, half the spread in the other two
    scale, shift = f64([1.0, 0.5, 0.5]), f64([1.0, 0, 0])
    inside = []
    for k in range(100):
        _, found = frechet_distances(normal(300, 3, seed=2 * k) * scale + shift, normal(500, 3, seed=2 * k + 1))
        inside.append(abs(found.value - truth) < T19 * found.standard_error)
    assert_covers(inside)


@catches("""measure/frechet.py: the jackknife's variance is not scaled by the blocks
- / (ratio - 1) / len(parts)
+ / len(parts)""")
@catches("""measure/frechet.py: the jackknife takes unequal blocks for equal
- sum((1 - length / size) * part for
+ sum((1 - 1 / len(parts)) * part for""")
def test_the_jackknife_of_unequal_blocks_finds_a_variances_own_bias():
    # for s^2 with divisor n the jackknife leaves the unbiased s^2 exactly, where each block is one row
    x = normal(20)
    whole = x.var(correction=0).item()
    parts = [torch.cat([x[:k], x[k + 1 :]]).var(correction=0).item() for k in range(20)]
    bias, _ = _jackknife(whole, parts, 20)
    assert whole - bias == pytest.approx(x.var().item(), rel=1e-11)
    # of a mean: no bias, and s^2 / n, exact for blocks of one row, also where blocks are of sizes 2 and 1
    mean, sizes = x.mean().item(), x.tensor_split(20)
    bias, variance = _jackknife(mean, [torch.cat([*sizes[:k], *sizes[k + 1 :]]).mean().item() for k in range(20)], 20)
    assert abs(bias) < 1e-12
    assert variance == pytest.approx(x.var().item() / 20, rel=1e-11)
    blocks = x.tensor_split(13)
    parts = [torch.cat([*blocks[:k], *blocks[k + 1 :]]).mean().item() for k in range(13)]
    assert abs(_jackknife(mean, parts, 20)[0]) < 1e-12


# Kernel distance


@catches("""measure/kernel.py: a row is paired with itself
- (kernel.sum() - kernel.diagonal().sum())
+ kernel.sum()""")
@catches("""measure/kernel.py: the kernel is quadratic
- x.shape[1] + 1).pow(3)
+ x.shape[1] + 1).pow(2)""")
@catches("""measure/kernel.py: the kernel is not divided by the dimensions
- x @ y.T / x.shape[1] + 1
+ x @ y.T + 1""")
@catches("""measure/kernel.py: pairs across the sets count once
- - 2 * _kernel(x, y).mean()
+ - _kernel(x, y).mean()""")
def test_the_kernel_distance_of_a_few_rows_is_the_sum_over_pairs():
    x, y = normal(5, 3), normal(4, 3, seed=1) + 0.3

    def kernel(a, b):
        return (sum(float(p) * float(q) for p, q in zip(a, b)) / 3 + 1) ** 3

    own = [sum(kernel(a, b) for a, b in itertools.permutations(s, 2)) / (len(s) * (len(s) - 1)) for s in (x, y)]
    across = sum(kernel(a, b) for a in x for b in y) / 20
    assert discrepancy(x, y).item() == pytest.approx(sum(own) - 2 * across, rel=1e-11)


@catches("""measure/kernel.py: the kernel distance's error is twice too large [one law]
- (values.std() / blocks**0.5).item()
+ (2 * values.std() / blocks**0.5).item()""")
@catches("""measure/kernel.py: the kernel distance's error is too small [one law]
- (values.std() / blocks**0.5).item()
+ (values.std() / blocks).item()""")
@pytest.mark.parametrize(("mean", "std"), [(0.0, 1.0), (0.4, 1.2)], ids=["one law", "two laws"])
def test_the_kernel_distance_is_right_on_average_and_its_error_covers(mean, std):
    # in one dimension (xy + 1)^3 compares three moments: 3 (m1 - m1')^2 + 3 (m2 - m2')^2 + (m3 - m3')^2
    truth = 3 * mean**2 + 3 * (mean**2 + std**2 - 1) ** 2 + (mean**3 + 3 * mean * std**2) ** 2
    found = [
        kernel_distance(normal(400, 1, seed=2 * k) * std + mean, normal(400, 1, seed=2 * k + 1)) for k in range(200)
    ]
    assert_mean(f64([one.value for one in found]), truth)
    # the variance that is stated is that of the values: 200 of them have it to 10 %, heavier tails to 25 %
    stated = sum(one.standard_error**2 for one in found) / len(found)
    assert 0.6 < stated / f64([one.value for one in found]).var().item() < 1.6
    # blocks of a heavy-tailed kernel are skewed where the laws differ: 0.887 of 1,000 intervals held the truth there
    inside = sum(abs(one.value - truth) < T19 * one.standard_error for one in found) / len(found)
    assert inside > 0.85


# Neighbours


@catches("""measure/neighbors.py: distances stay in float32 [64]
- (queries[rows, None].double() - points[candidates].double())
+ (queries[rows, None].float() - points[candidates].float())""")
@catches("""measure/neighbors.py: the last points are not searched [1337]
- .flatten(1), rest], dim=1)
+ .flatten(1), rest[:, :1]], dim=1)""")
@pytest.mark.parametrize("width", [7, 64, 1000, 1337])
def test_nearest_neighbors_are_those_of_the_full_table(width, monkeypatch):
    monkeypatch.setattr(neighbors, "CHUNK_ENTRIES", 3000)  # several chunks
    queries, points = normal(30, 5), normal(width, 5, seed=1)
    distances, indices = nearest(queries, points, 3)
    table = (queries[:, None] - points).square().sum(2).sqrt()
    expected = table.sort(1)
    torch.testing.assert_close(distances, expected.values[:, :3], rtol=1e-12, atol=0)
    assert torch.equal(indices, expected.indices[:, :3])


def test_a_copy_of_a_bright_picture_has_distance_nought():
    points = torch.randint(200, 256, (300, 784), generator=seeded(0), dtype=torch.uint8)
    distances, indices = nearest(points[40:43], points, 2)
    assert distances[:, 0].tolist() == [0, 0, 0]
    assert indices[:, 0].tolist() == [40, 41, 42]


# Precision, recall, density, coverage


def by_the_definitions(samples, reference):
    """Kynkaanniemi et al. 2019 with k = 3, Naeem et al. 2020 with k = 5, spelt out."""

    def radius(points, i, k):
        return sorted(math.dist(points[i], points[j]) for j in range(len(points)) if j != i)[k - 1]

    def among(points, others, k):
        radii = [radius(others, j, k) for j in range(len(others))]
        return [[math.dist(p, q) <= r for q, r in zip(others, radii)] for p in points]

    near, wide = among(samples, reference, 3), among(samples, reference, 5)
    return {
        "precision": np.mean([any(row) for row in near]),
        "recall": np.mean([any(row) for row in among(reference, samples, 3)]),
        "density": np.mean([sum(row) / 5 for row in wide]),
        "coverage": np.mean([any(column) for column in zip(*wide)]),
    }


@catches("""measure/manifolds.py: a point is its own first neighbor
- [:, [K_PRECISION, K_DENSITY]]
+ [:, [K_PRECISION - 1, K_DENSITY - 1]]""")
@catches("""measure/manifolds.py: recall is measured in the reference's own balls
- (table - ours[part, :1]).amin(0)
+ (table - theirs[:, 0]).amin(0)""")
@catches("""measure/manifolds.py: precision takes five neighbors
- (table - theirs[:, 0]).amin(1) <= 0
+ (table - theirs[:, 1]).amin(1) <= 0""")
@catches("""measure/manifolds.py: density is not divided by k
- .double() / K_DENSITY
+ .double()""")
@catches("""measure/manifolds.py: coverage takes three neighbors
- (table - theirs[:, 1]).amin(0)
+ (table - theirs[:, 0]).amin(0)""")
def test_precision_recall_density_and_coverage_are_what_their_definitions_say(monkeypatch):
    monkeypatch.setattr(neighbors, "CHUNK_ENTRIES", 200)
    # chosen so that the wrong k, or the other set's balls, give other numbers
    samples, reference = 0.7 * normal(60, 2, seed=2) + f64([1.2, 0.0]), normal(40, 2, seed=3)
    found = {name: value.value for name, value in precision_recall(samples, reference).items()}
    assert found == pytest.approx(by_the_definitions(samples.tolist(), reference.tolist()), rel=1e-12)
    assert len({round(value, 3) for value in found.values()}) == 4  # none stands for another


def test_the_same_set_is_precise_and_complete_and_a_far_one_neither():
    x = normal(100, 3)
    same, far = precision_recall(x, x), precision_recall(x + 100, x)
    assert [same[name].value for name in ("precision", "recall", "coverage")] == [1, 1, 1]
    assert [value.value for value in far.values()] == [0, 0, 0, 0]


# Classifier two-sample test


@catches("""measure/two_sample.py: the classifier is tested on some of what it was fitted to
- part[half:] for part
+ part[-half - (size % 2) - half // 2 :][: size - half] for part""")
def test_two_samples_of_one_law_are_told_apart_as_often_as_by_guessing():
    found = [two_sample_accuracy(normal(100, 4, seed=2 * k), normal(100, 4, seed=2 * k + 1)) for k in range(100)]
    assert_mean(f64([one.value for one in found]), 0.5)
    alarms = sum(one.p_value < 0.05 for one in found)
    assert alarms <= 15  # 5 expected; more than 15 of 100 have probability 4e-5


@catches("""measure/two_sample.py: the p-value is two-sided
- 0.5 * math.erfc(
+ math.erfc(""")
@catches("""measure/two_sample.py: guesses are counted once for both sets
- chance = 0.5 / math.sqrt(len(truth))
+ chance = 0.5 / math.sqrt(size - half)""")
def test_the_p_value_is_the_chance_to_guess_so_many_answers_or_more():
    for seed in range(6):  # of one law: p-values from all over [0, 1]
        found = two_sample_accuracy(normal(200, 3, seed=seed), normal(200, 3, seed=100 + seed))
        tail = [math.comb(200, k) / 2**200 for k in range(round(200 * found.value), 201)]  # 2 x 100 unseen rows
        assert found.p_value == pytest.approx(
            sum(tail) - tail[0] / 2, abs=0.003
        )  # the normal approximation, at n = 200


def test_two_shifted_gaussians_are_told_apart_as_well_as_can_be():
    found = two_sample_accuracy(normal(6000, 2) + f64([1.0, 0.0]), normal(6000, 2, seed=1))
    best = 0.5 * (1 + math.erf(0.5 / math.sqrt(2)))  # Phi(1/2)
    assert abs(found.value - best) < LIMIT * found.standard_error + 0.002  # 6 fitted weights of 6,000 rows cost little
    assert found.p_value < 1e-50


@catches("""measure/two_sample.py: a wrong variance is not seen
- [standardized.square()] if
+ [standardized.abs().detach() * 0 + standardized] if""")
def test_two_laws_of_one_mean_and_two_spreads_are_told_apart():
    assert two_sample_accuracy(1.5 * normal(1000, 5), normal(1000, 5, seed=1)).p_value < 1e-10


@catches("""measure/two_sample.py: the ridge is in the curvature alone
- / len(x) + RIDGE * weights
+ / len(x) + 0 * weights""")
def test_logistic_regression_ends_where_the_penalized_log_likelihood_is_flat():
    x, label = normal(80, 3), (normal(80, seed=1) > 0.2).double()
    weights = logistic_regression(x, label).requires_grad_()
    (F.binary_cross_entropy_with_logits(x @ weights, label) + RIDGE / 2 * weights.square().sum()).backward()
    assert weights.grad.abs().max() < 1e-10
    separable = logistic_regression(f64([[-1.0], [1.0]]), f64([0.0, 1.0]))  # the ridge keeps it finite
    assert separable.isfinite().all()


# Classes


def one_hot(counts):
    return torch.cat([F.one_hot(torch.full((count,), k), len(counts)) for k, count in enumerate(counts)]).double()


@catches("""measure/classes.py: the chi-square has a degree of freedom too many
- (table.shape[1] - 1) / 2
+ table.shape[1] / 2""")
@catches("""measure/classes.py: classes that neither set has are counted
- table = table[:, table.sum(0) > 0]
+ table = table + 0""")
@catches("""measure/classes.py: 90 % is not enough for 90 %
- checked(probabilities).amax(1) >= CONFIDENT
+ checked(probabilities).amax(1) > CONFIDENT""")
def test_the_chi_square_of_two_histograms_is_that_of_a_hand():
    found = class_chi_square(one_hot([10, 20, 0]), one_hot([20, 10, 0]))  # 15 expected four times: 4 * 25 / 15
    assert found.value == pytest.approx(20 / 3, rel=1e-12)
    assert found.p_value == pytest.approx(math.erfc(math.sqrt(10 / 3)), rel=1e-9)  # one degree of freedom
    assert class_chi_square(one_hot([10, 20, 30]), one_hot([20, 40, 60])).value == pytest.approx(0, abs=1e-12)
    assert class_shares(one_hot([1, 3])) == [0.25, 0.75]
    assert recognized(f64([[0.9, 0.1], [0.5, 0.5], [0.05, 0.95], [0.89, 0.11]])).value == 0.5


# Copies


@catches("""measure/copies.py: a copy of a picture that is there twice is none
- torch.where(first == 0, 0.0, first / second)
+ first / second""")
def test_a_noisy_copy_is_found_and_a_new_picture_is_not():
    train, held = normal(200, 50), nearest_two(normal(40, 50, seed=1), normal(200, 50))
    copies = nearest_two(train[:10] + 0.01 * normal(10, 50, seed=2), train)
    assert (copies.copied.value, held.copied.value) == (1, 0)
    assert copies.indices[:, 0].tolist() == list(range(10))
    assert nearer(copies, held).value == 1
    twice = torch.cat([train, train])
    assert nearest_two(train[:5], twice).copied.value == 1  # at distance nought of two


@catches("""measure/copies.py: nearer is farther
- for_ours = 1 - _ranks(ours, theirs)
+ for_ours = _ranks(ours, theirs)""")
@catches("""measure/copies.py: equal distances count for nothing
- return (below + upto).double()
+ return (below + below).double()""")
def test_the_chance_to_be_nearer_is_a_share_of_pairs():
    train = torch.zeros(2, 1, dtype=F64)
    ours, theirs = (nearest_two(f64(part)[:, None], train) for part in ([1, 2, 3], [2, 4]))
    # pairs (1,2) (1,4) (2,4) (3,4) nearer, (2,2) half, (3,2) not
    assert nearer(ours, theirs).value == pytest.approx(4.5 / 6)


@catches("""measure/copies.py: the error of being nearer is twice too large
- for_ours.var() / len(ours) + for_theirs.var() / len(theirs)
+ 4 * (for_ours.var() / len(ours) + for_theirs.var() / len(theirs))""")
@catches("""measure/copies.py: the error of being nearer is that of the samples alone
- for_ours.var() / len(ours) + for_theirs.var() / len(theirs)
+ for_ours.var() / len(ours)""")
def test_the_chance_to_be_nearer_is_a_half_for_one_law_and_its_error_covers():
    train, found = normal(50, 3), []
    for k in range(300):
        parts = [nearest_two(normal(size, 3, seed=1000 + 2 * k + i), train) for i, size in enumerate((80, 60))]
        found.append(nearer(*parts))
    assert_mean(f64([one.value for one in found]), 0.5)
    assert_covers([abs(one.value - 0.5) < 1.96 * one.standard_error for one in found])
    stated = sum(one.standard_error**2 for one in found) / len(found)
    assert 0.7 < stated / f64([one.value for one in found]).var().item() < 1.4  # 300 values: 8 % is 1 s.e.


@catches("""measure/copies.py: twice as near is a copy
- RATIO = 1 / 3
+ RATIO = 1 / 2""")
def test_three_times_nearer_to_one_training_example_is_a_copy():
    train = f64([[0.0], [4.0], [100.0]])
    found = nearest_two(f64([[0.99], [1.01], [-1.9], [-2.1], [98.0]]), train)
    assert_close(found.ratios, f64([0.99 / 3.01, 1.01 / 2.99, 1.9 / 5.9, 2.1 / 6.1, 2 / 94]))
    assert found.copied.value == 3 / 5


@catches("""measure/metric.py: a share has the error of one trial
- part * (1 - part) / len(hits)
+ part * (1 - part)""")
@catches("""measure/metric.py: a value is shown in place of its p-value
- (p = {self.p_value:.2g})
+ (p = {self.value:.2g})""")
@catches("""measure/manifolds.py: density has the error of one sample
- (inside.std() / len(inside) ** 0.5).item()
+ inside.std().item()""")
def test_shares_and_density_have_the_error_of_a_mean():
    assert share(torch.tensor([True, False, False, False])) == Value(0.25, math.sqrt(0.25 * 0.75 / 4))
    assert [str(Value(0.25)), str(Value(0.25, 0.5, 0.031))] == ["0.2500", "0.2500 ± 0.5000 (p = 0.031)"]
    samples, reference = normal(50, 2), normal(60, 2, seed=1)
    radii = torch.cdist(reference, reference).sort(1).values[:, 5]
    inside = (torch.cdist(samples, reference) <= radii).double().sum(1) / 5
    found = precision_recall(samples, reference)["density"]
    assert found.value == pytest.approx(inside.mean().item())
    assert found.standard_error == pytest.approx(inside.std().item() / math.sqrt(50))


# The shipped features


@pytest.fixture(scope="module")
def digits():
    """500 training digits, and all there are."""
    data = mnist()
    return data.train[:500], data


def noise(x, amount):
    return (x.float() + amount * torch.randn(x.shape, generator=seeded(1))).clamp(0, 255).byte()


def blur(x, amount):
    weights = torch.exp(-torch.arange(-4.0, 5.0).square() / (2 * amount**2))
    weights /= weights.sum()
    across = F.conv2d(x.float(), weights.view(1, 1, 1, 9), padding=(0, 4))
    return F.conv2d(across, weights.view(1, 1, 9, 1), padding=(4, 0)).clamp(0, 255).byte()


def chimeras(x, share):
    """Right halves of other digits."""
    mixed, num = x.clone(), round(share * len(x))
    mixed[:num, :, :, 14:] = x.roll(1, 0)[:num, :, :, 14:]
    return mixed


SPOILS = {"noise": (noise, (16, 32, 64)), "blur": (blur, (0.6, 1.0, 1.5)), "chimeras": (chimeras, (0.3, 0.6, 1.0))}


def channels_last(pictures):
    return pictures.permute(0, 2, 3, 1).numpy()


def features_of(pictures):
    return features_and_probabilities(channels_last(pictures), "digits")[0]


@pytest.mark.parametrize("spoil", [*SPOILS, "dropped digits"])
def test_the_frechet_distance_grows_with_what_spoils_digits(digits, spoil):
    train, data = digits
    reference = features_of(data.test[::10])
    if spoil == "dropped digits":
        worse = [data.train[:2000][torch.from_numpy(mnist_labels()[0][:2000]) >= k][:500] for k in (1, 3, 5)]
    else:
        function, amounts = SPOILS[spoil]
        worse = [function(train, amount) for amount in amounts]
    found = [frechet_distance(features_of(part), reference) for part in (train, *worse)]
    assert found == sorted(found), found
    assert found[1] > 1.2 * found[0]


@catches("""measure/classifier.py: features have any scale
- return every / SHIPPED[name][1], model
+ return every, model""")
@catches("""measure/classifier.py: the classifier sees another scale
- part.float() / 127.5 - 1) for part
+ part.float() / 255) for part""")
def test_the_shipped_classifier_names_test_digits_and_their_features_are_of_size_one(digits):
    found, probabilities = features_and_probabilities(channels_last(digits[1].test[:1000]), "digits")
    assert (probabilities.argmax(1).numpy() == mnist_labels()[1][:1000]).mean() > 0.985  # 0.992 of all 10,000
    assert found.square().mean().sqrt().item() == pytest.approx(1, abs=0.1)  # of training digits, 1 by the scale


def test_features_of_a_picture_do_not_depend_on_how_many_there_are(digits):
    pictures = digits[0]
    torch.testing.assert_close(features_of(pictures[:3]), features_of(pictures)[:3], rtol=1e-5, atol=1e-5)  # float32


@pytest.mark.parametrize("name", ["digits", "fashion"])
def test_the_shipped_weights_are_those_of_their_digest_and_no_others(name, monkeypatch):
    assert classifier(name).head.out_features == 10
    monkeypatch.setitem(classifier_module.SHIPPED, name, ("0" * 64, 1.0))
    classifier.cache_clear()
    try:
        with pytest.raises(InputError, match="SHA-256"):
            classifier(name)
    finally:
        classifier.cache_clear()


def test_features_are_refused_for_other_shapes_and_names():
    with pytest.raises(InputError, match=r"28, 28, 1.*--features"):
        features_and_probabilities(np.zeros((2, 32, 32, 3), np.uint8), "digits")
    with pytest.raises(InputError, match="digits, fashion"):
        features_and_probabilities(np.zeros((2, 28, 28, 1), np.uint8), "cats")


# All of them together


@pytest.fixture(scope="module")
def some_digits():
    data = mnist()
    return data.train[:2500], data.test[:600]


def test_real_digits_as_samples_get_the_floor_and_copies_are_called_copies(some_digits):
    train, test = some_digits
    real = measure_images(channels_last(mnist().train[5000:5600]), train, test)
    for name in ("frechet_distance", "precision", "recall", "two_sample_accuracy", "recognized"):
        value, floor = real.values[name], real.floor[name]
        # two draws of one law, but for the held-out digits' own; 4.5 standard errors
        assert abs(value.value - floor.value) < LIMIT * math.hypot(value.standard_error, floor.standard_error), name
    assert real.values["copied_pixels"].value == real.values["copied_features"].value == 0
    copied = measure_images(channels_last(train[:200]), train, test)
    assert copied.values["copied_pixels"].value == copied.values["nearer_pixels"].value == 1
    assert [pair.train for pair in copied.closest] == [pair.sample for pair in copied.closest]
    assert "frechet_distance_n200" in json.loads(json.dumps(copied.record()))["measures"]
    assert len(copied.lines()) == 1 + len(copied.values) + 1  # the verdict on copies
    assert "100.0% of samples are copies" in copied.lines()[-1]


@catches("""measure/kernel.py: blocks of the kernel distance keep the order of the rows
- map(in_random_order, pair(samples, reference))
+ pair(samples, reference)""")
@catches("""measure/frechet.py: blocks of the jackknife keep the order of the rows
- map(in_random_order, pair(samples, reference))
+ pair(samples, reference)""")
@catches("""measure/two_sample.py: the classifier of two samples is fitted to the first rows
- map(in_random_order, pair(samples, reference))
+ pair(samples, reference)""")
@pytest.mark.parametrize("which", ["samples", "reference"])
def test_samples_and_held_out_data_may_be_sorted(which):
    sets = {"samples": normal(400, 3), "reference": normal(400, 3, seed=1)}
    sorted_sets = sets | {which: sets[which][sets[which][:, 0].argsort()]}
    for measure in (kernel_distance, lambda *both: frechet_distances(*both)[1], two_sample_accuracy):
        plain, ordered = measure(*sets.values()), measure(*sorted_sets.values())
        # another split of the same rows: 1.1 standard errors at most; blocks of sorted rows: 4 to 20
        assert abs(ordered.value - plain.value) < 3 * plain.standard_error


def test_the_same_samples_get_the_same_numbers(some_digits):
    train, test = (part[:300] for part in some_digits)
    samples = channels_last(noise(train[:150], 20))
    first, again = (measure_images(samples, train, test).record() for _ in range(2))
    assert first == again


def test_features_from_elsewhere_are_measured_with_and_without_a_floor():
    samples, reference, train = normal(120, 7), normal(150, 7, seed=1), normal(400, 7, seed=2)
    bare, full = measure_features("a file", samples, reference), measure_features("a file", samples, reference, train)
    assert not bare.floor
    assert {"frechet_distance", "precision", "copied_features"} <= full.floor.keys()
    assert full.values["kernel_distance"] == bare.values["kernel_distance"]
    with pytest.raises(InputError, match="at least 100"):
        measure_features("a file", samples[:99], reference)


@catches("""measure/metric.py: the floor is that of the samples
- replace(sets, samples=sets.train[rows]
+ replace(sets, samples=sets.samples""")
@catches("""measure/samples.py: samples are compared with training images
- sets = Sets(ours, held[shuffled(len(held))], real)
+ sets = Sets(ours, real, held[shuffled(len(held))])""")
def test_the_floor_is_that_of_training_images_whatever_the_samples_are(some_digits):
    train, test = (part[:300] for part in some_digits)
    noisy, blurred = (measure_images(channels_last(spoil), train, test) for spoil in (noise(train, 60), blur(train, 2)))
    assert noisy.floor == blurred.floor
    assert noisy.values != blurred.values
    rows = shuffled(300)
    expected = frechet_distances(features_of(train)[rows], features_of(test)[rows])[0]
    assert noisy.floor["frechet_distance"] == expected
    held = features_and_probabilities(channels_last(test), "digits")[1]
    assert noisy.floor["recognized"] == recognized(held)


class Brightness(Metric):
    """A metric of one's own."""

    columns: ClassVar = {"brightness": Column("mean of the first feature", "higher is better", depends_on_n=True)}

    def compute(self, sets):
        return {"brightness": Value(sets.samples.features[:, 0].mean().item())}


@catches("""measure/samples.py: a record has the number of samples for that of held-out examples
- "num_reference": self.num_reference,
+ "num_reference": self.num_samples,""")
@catches("""measure/samples.py: the floor's number of examples is that of the samples
- self._sized(name, self.num_floor)
+ self._sized(name, self.num_samples)""")
@catches("""measure/samples.py: a record does not say of how many samples a distance is
- f"{name}_n{num}" if self.columns[name].depends_on_n else name
+ name""")
def test_a_metric_of_ones_own_is_one_line_in_the_registry(monkeypatch):
    places = {name: METRICS._places[name] for name in ("frechet", "kernel")} | {"brightness": f"{__name__}:Brightness"}
    monkeypatch.setattr(samples_module, "METRICS", Registry("metric", places))
    samples, train = normal(150, 3) + 5, normal(120, 3, seed=1)
    found = measure_features("a file", samples, normal(130, 3, seed=2), train)
    assert found.values.keys() == {"frechet_distance", "frechet_distance_unbiased", "kernel_distance", "brightness"}
    assert found.values["brightness"].value == pytest.approx(samples[:, 0].mean().item())
    assert found.floor["brightness"].value == pytest.approx(train[:, 0].mean().item())
    line = next(line for line in found.lines() if "mean of the first feature, higher is better" in line)
    assert " real " in line
    assert {"frechet_distance_n150", "kernel_distance", "brightness_n150"} <= found.record()["measures"].keys()
    assert {"frechet_distance_n120", "kernel_distance", "brightness_n120"} <= found.record()["floor"].keys()
    assert [found.record()[f"num_{part}"] for part in ("samples", "reference", "floor")] == [150, 130, 120]


def test_every_metric_is_shown_with_its_direction_and_its_floor(some_digits):
    train, test = (part[:200] for part in some_digits)
    found = measure_images(channels_last(noise(train[:150], 20)), train, test)
    assert found.values.keys() == found.floor.keys() == found.columns.keys()
    for name, column in found.columns.items():
        assert column.better
        assert sum(str(column) in line and " real " in line for line in found.lines()[1:]) == 1, name


def test_measures_take_arrays_and_refuse_what_are_no_features():
    samples, reference = normal(50, 3), normal(60, 3, seed=1)
    for measure in (kk_measure.frechet_distance, kk_measure.kernel_distance, kk_measure.precision_recall):
        assert measure(samples.numpy(), reference.numpy()) == measure(samples, reference)
        with pytest.raises(InputError, match=r"\(N, D\).*uint8 of shape \(50, 28, 28, 1\).*features\(images\)"):
            measure(np.zeros((50, 28, 28, 1), np.uint8), reference)
    assert not set(kk_measure.__all__) - set(dir(kk_measure))
    assert all(getattr(kk_measure, name) is not None for name in kk_measure.__all__)
    with pytest.raises(AttributeError, match="fid"):
        kk_measure.fid  # noqa: B018


# The command


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A VAE of a few digits, hardly trained."""
    root = tmp_path_factory.mktemp("measured")
    np.save(root / "digits.npy", mnist().train[:1200, 0].numpy())
    arguments = ["--data", root / "digits.npy", "--steps", "3", "--model.hidden", "16", "--model.latent", "3"]
    with pytest.raises(SystemExit) as stop:
        main(["train", "mnist-vae", *map(str, arguments), "--out", str(root / "vae")])
    assert stop.value.code == 0
    return root / "vae"


def test_evaluate_measures_samples_when_asked(run, capsys):
    plain = json.loads(call(capsys, "evaluate", run, "--json", "--limit", "20")[1])
    code, out, _ = call(capsys, "evaluate", run, "--json", "--limit", "20", "--samples", "100")
    found = json.loads(out)
    assert code == 0
    assert (
        found["samples"]["measures"]["frechet_distance_n100"]["value"]
        > found["samples"]["floor"]["frechet_distance_n100"]["value"]
    )
    assert {name: found[name] for name in plain} == plain
    code, out, _ = call(capsys, "evaluate", run, "--limit", "20", "--samples", "100", "--features", "fashion")
    assert code == 0
    assert "features: fashion" in out


@pytest.mark.parametrize("suffix", [".npz", ".safetensors"])
def test_evaluate_takes_features_from_a_file(run, tmp_path, capsys, suffix):
    from safetensors.torch import save_file

    arrays = {"samples": normal(120, 5) + 1, "reference": normal(130, 5, seed=1), "train": normal(300, 5, seed=2)}
    path = tmp_path / f"features{suffix}"
    if suffix == ".npz":
        np.savez(path, **{name: part.numpy() for name, part in arrays.items()})
    else:
        save_file(arrays, path)
    code, out, _ = call(capsys, "evaluate", run, "--json", "--limit", "20", "--features", path)
    assert code == 0
    assert json.loads(out)["samples"]["measures"]["frechet_distance_n120"]["value"] == pytest.approx(
        frechet_distance(arrays["samples"], arrays["reference"])
    )


def test_evaluate_says_what_is_wrong_with_samples_and_features(run, tmp_path, capsys):
    np.savez(tmp_path / "half.npz", samples=np.ones((200, 3)))
    np.savez(tmp_path / "flat.npz", samples=np.ones(200), reference=np.ones(200))
    np.savez(
        tmp_path / "nan.npz",
        samples=np.where(np.arange(600) == 500, np.nan, 1.0).reshape(200, 3),
        reference=np.ones((200, 3)),
    )
    (tmp_path / "broken.npz").write_bytes(b"no archive")
    for flags, words in (
        (["--samples", "99"], "at least 100"),
        (["--features", "digits"], "--samples"),
        (["--features", tmp_path / "half.npz"], "reference"),
        (["--features", tmp_path / "flat.npz"], "(N, D)"),
        (["--features", tmp_path / "nan.npz"], "NaN"),
        (["--features", tmp_path / "broken.npz"], "cannot be read"),
        (["--features", tmp_path / "none.npz"], "cannot be read"),
        (["--features", tmp_path / "none.safetensors"], "cannot be read"),
        (["--features", "inception"], "expected digits, fashion"),
        (["--features", tmp_path / "half.npz", "--samples", "100"], "give --samples"),
    ):
        code, out, err = call(capsys, "evaluate", run, "--limit", "20", *flags)
        assert (code, out) == (2, ""), flags
        assert words in err, err
        assert err.strip().count("\n") == 0, err


@catches("""measure/two_sample.py: features of large numbers outweigh the others
- (part - mean)[:, std > 0] / std[std > 0])
+ (part - mean)[:, std > 0])""")
def test_two_samples_are_told_apart_whatever_the_units_of_the_features_are():
    samples, reference = normal(1000, 3) + 0.3, normal(1000, 3, seed=1)
    units = f64([1e-5, 1.0, 1e5])
    assert two_sample_accuracy(samples * units, reference * units).value == pytest.approx(
        two_sample_accuracy(samples, reference).value
    )


@catches("""measure/classes.py: half of the samples are recognized
- {"recognized": recognized(ours)}
+ {"recognized": recognized(ours[: len(ours) // 2])}""")
def test_all_samples_are_counted_among_the_recognized():
    probabilities = f64([[0.95, 0.05], [0.95, 0.05], [0.5, 0.5], [0.5, 0.5]])
    examples = Examples(torch.zeros(4, 1), probabilities)
    assert RecognizedMetric().compute(Sets(examples, examples))["recognized"].value == 0.5


@catches("""measure/neighbors.py: the nearest in float32 is taken for the nearest
- min(k + SPARE, len(points))
+ min(k, len(points))""")
def test_the_nearest_point_is_found_where_float32_cannot_tell_the_distances_apart():
    """Around each of 20 places lie four points at distances 1 to 1 + 3e-9, in random order."""
    generator = seeded(0)
    places = 10.0 * torch.stack([torch.randperm(20, generator=generator) for _ in range(3)], 1).double()
    rank = torch.stack([torch.randperm(4, generator=generator) for _ in range(20)])
    ways = torch.tensor([[1.0, 0, 0], [0, 1, 0], [0, 0, 1], [-1, 0, 0]], dtype=torch.float64)
    points = (places[:, None] + (1 + 1e-9 * rank[..., None].double()) * ways).flatten(0, 1)
    _, found = nearest(places, points, 1)
    assert found[:, 0].tolist() == (4 * torch.arange(20) + rank.argmin(1)).tolist()


@catches("""measure/copies.py: samples are compared with more held-out examples than there are samples
- getattr(sets, who)[: len(sets.samples)]
+ getattr(sets, who)""")
@catches("""measure/manifolds.py: precision and recall are those of unequal sets
- size = min(len(sets.samples), len(sets.reference))
+ size = max(len(sets.samples), len(sets.reference))""")
def test_samples_are_compared_with_as_many_held_out_examples():
    ours, held, train = (Examples(normal(size, 2, seed=size)) for size in (20, 30, 25))
    near = near_training(Sets(ours, held, train), "features", "reference")
    assert torch.equal(near.indices, nearest_two(held.features[:20], train.features).indices)
    found = PrecisionRecallMetric().compute(Sets(ours, held))
    assert found == precision_recall(ours.features, held.features[:20])


# Sizes, limits and sentences

SHOWN = {
    "frechet_distance": "Fréchet distance, lower is better",
    "frechet_distance_unbiased": "  without its bias in n, lower is better",
    "kernel_distance": "kernel distance, lower is better",
    "precision": "precision, share of samples, higher is better",
    "recall": "recall, share of data, higher is better",
    "density": "density of data around samples, 1 if equal",
    "coverage": "coverage, share of data, higher is better",
    "two_sample_accuracy": "samples distinguished from data, accuracy, 0.5 if equal",
    "class_chi_square": "chi-square of the classes, lower is better",
    "recognized": "classifier confidence at least 90 %, higher is better",
    "nearer_features": "nearer to training data, features, 0.5 if equal",
    "copied_features": "copies by their features, share, lower is better",
    "grid_power": "power of a 2 x 2 grid, times real images, 1 if equal",
    "nearer_pixels": "nearer to training data, pixels, 0.5 if equal",
    "copied_pixels": "copies by their pixels, share, lower is better",
}


def test_every_value_has_its_words_and_the_frechet_distances_depend_on_the_number_of_samples():
    columns = {name: column for metric in METRICS.values() for name, column in metric.columns.items()}
    assert {name: str(column) for name, column in columns.items()} == SHOWN
    assert list(columns) == list(SHOWN)
    assert {name for name, column in columns.items() if column.depends_on_n} == {
        "frechet_distance", "frechet_distance_unbiased",
    }  # fmt: skip


def probs(*rows):
    return f64(rows)


@pytest.mark.parametrize(
    ("measure", "words"),
    [
        (lambda: frechet_distance(normal(1, 2), normal(9, 2)), "needs at least two rows of features, got 1"),
        (lambda: frechet_distances(normal(9, 2), normal(3, 2)), "needs at least four rows of features, got 3"),
        (lambda: kernel_distance(normal(9, 2), normal(3, 2)), "needs at least four rows of each, got 9 and 3"),
        (lambda: two_sample_accuracy(normal(3, 2), normal(9, 2)), "needs at least four rows of each, got 3 and 9"),
        (lambda: precision_recall(normal(5, 2), normal(9, 2)), "expected more than 5 rows of each, got 5 and 9"),
        (lambda: precision_recall(normal(9, 2), normal(5, 2)), "expected more than 5 rows of each, got 9 and 5"),
        (lambda: kernel_distance(normal(9, 2), normal(9, 3)), "both sets need the same features, got 2 and 3 of them"),
        (lambda: nearest(normal(4, 2), normal(5, 2), 0), "from 1 to the number of points, got 0 of 5"),
        (lambda: nearest(normal(4, 2), normal(5, 2), 6), "from 1 to the number of points, got 6 of 5"),
        (lambda: nearest(normal(4, 3), normal(5, 2), 1), r"with the same D, got \(4, 3\)"),
        (lambda: nearest(normal(4, 2), normal(5), 1), r"got \(5,\)"),
        (lambda: nearest(normal(4, 2), [1.0], 1), "got list"),
        (lambda: nearest([1.0], normal(5, 2), 1), "got list"),
        (lambda: nearest(normal(4, 2) * 1j, normal(5, 2), 1), r"got \(4, 2\)"),
        (lambda: class_shares(probs([0.5, 1.5])), r"between 0 and 1, got shape \(1, 2\)"),
        (lambda: recognized(probs([-0.5, 0.5])), "between 0 and 1"),
        (lambda: class_shares(torch.zeros(0, 3)), r"got shape \(0, 3\)"),
        (lambda: kernel_distance(torch.ones(9, 2).long(), normal(9, 2)), r"got torch.int64 of shape \(9, 2\)"),
    ],
)
def test_a_set_that_is_too_small_or_of_another_form_is_refused(measure, words):
    with pytest.raises(InputError, match=words):
        measure()


def test_the_smallest_sets_are_measured():
    assert frechet_distance(normal(2, 2), normal(2, 2, seed=1)) > 0
    assert frechet_distances(normal(4, 2), normal(4, 2, seed=1))[1].standard_error > 0
    assert two_sample_accuracy(normal(4, 2), normal(4, 2, seed=1)).value in (0, 0.25, 0.5, 0.75, 1)
    assert precision_recall(normal(6, 2), normal(6, 2, seed=1))["recall"].value == 1
    distances, indices = nearest(normal(3, 2), normal(1, 2, seed=1), 1)
    assert distances.shape == indices.shape == (3, 1)
    assert [part.shape for part in nearest(torch.zeros(0, 2), normal(5, 2), 2)] == [(0, 2), (0, 2)]


def test_a_kernel_distance_is_the_mean_of_blocks_and_at_most_twenty_of_them():
    x, y = normal(9, 2), normal(5, 2, seed=1)
    found = kernel_distance(x, y)
    mixed = x[shuffled(9)], y[shuffled(5)]
    blocks = [(mixed[0][:5], mixed[1][:3]), (mixed[0][5:], mixed[1][3:])]
    first, second = (discrepancy(*block).item() for block in blocks)
    assert found.value == pytest.approx((first + second) / 2, rel=1e-12)
    assert found.standard_error == pytest.approx(abs(first - second) / 2, rel=1e-12)
    assert [_num_blocks(size) for size in (4, 5, 39, 40, 1000)] == [2, 2, 19, 20, 20]
    many = normal(100, 2)
    values = [discrepancy(*pair).item() for pair in zip(many[shuffled(100)].split(5), many[shuffled(100)].split(5))]
    assert kernel_distance(many, many).value == pytest.approx(sum(values) / 20, abs=1e-12)


def test_a_two_sample_test_takes_equal_numbers_and_squares_up_to_256_features():
    x, y = normal(31, 2) + 100, normal(100, 2, seed=1)
    found = two_sample_accuracy(x, y)  # 15 of each to fit, 16 of each to test
    assert (found.value, found.standard_error) == (1, 0)
    assert found.p_value == pytest.approx(0.5 * math.erfc(math.sqrt(32 / 2)), rel=1e-9)
    assert [_inputs(torch.ones(2, size).double()).shape[1] for size in (256, 257)] == [2 * 256 + 1, 257 + 1]
    rows = _inputs(f64([[2.0, -3.0]]))
    assert rows.tolist() == [[2.0, -3.0, 4.0, 9.0, 1.0]]
    same = two_sample_accuracy(torch.ones(20, 3), torch.ones(20, 3))  # features that never vary tell nothing
    assert same.value == 0.5


def test_one_class_alone_is_no_surprise_and_one_rank_of_probabilities_is_counted():
    assert class_chi_square(probs([0.9, 0.1], [0.8, 0.2]), probs([0.7, 0.3])) == Value(0, None, 1.0)
    assert class_shares(probs([0.2, 0.5, 0.3], [0.1, 0.2, 0.7], [0.0, 0.6, 0.4])) == pytest.approx([0, 2 / 3, 1 / 3])


def test_a_value_is_recorded_without_what_is_unknown():
    assert Value(0.5).record() == {"value": 0.5}
    assert Value(0.5, 0.0, 0.25).record() == {"value": 0.5, "standard_error": 0.0, "p_value": 0.25}


def test_the_fixed_order_of_rows_is_the_same_in_every_version():
    assert shuffled(8).tolist() == [0, 3, 6, 5, 1, 4, 2, 7]


def test_the_lines_and_the_record_of_a_quality_are_in_its_own_words():
    columns = {"a": Column("first", "lower is better"), "copied_pixels": Column("second", "", "share")}
    values = {"a": Value(1.5, 0.25), "copied_pixels": Value(0.0)}
    floor = {"copied_pixels": Value(0.0)}
    bare = Quality("mine", 1200, 1300, 0, values, {}, columns)
    assert bare.lines() == [
        "1,200 samples against 1,300 held out, features: mine; no training examples",
        "  first, lower is better  1.5000 ± 0.2500",
        "  second, share           0.0000",
    ]
    assert "copies" not in bare.record()
    values |= {"nearer_pixels": Value(0.5, 0.01)}
    columns |= {"nearer_pixels": Column("third", "")}
    full = Quality("mine", 1200, 1300, 1100, values, floor, columns, {"samples": [1.0]}, [Pair(3, 4, 0.5, 0.25)])
    verdict = "verdict on copies: none seen among 1,200 samples"
    assert full.lines() == [
        "1,200 samples against 1,300 held out, features: mine; real: 1,100 training examples, scored in the same way",
        "  first, lower is better  1.5000 ± 0.2500",
        "  second, share           0.0000                 real 0.0000",
        "  third                   0.5000 ± 0.0100",
        verdict,
    ]
    record = full.record()
    assert (record["copies"], record["classes"]) == (verdict, {"samples": [1.0]})
    assert record["closest"] == [{"sample": 3, "train": 4, "distance": 0.5, "ratio": 0.25}]


def test_images_of_another_form_and_sets_that_are_too_small_are_refused():
    train, test = (torch.zeros(size, 1, 8, 8, dtype=torch.uint8) for size in (100, 101))
    for samples, words in (
        (
            np.zeros((99, 8, 8, 1), np.uint8),
            "at least 100 samples, held-out examples and training examples each, got 99 ",
        ),
        (np.zeros((100, 8, 9, 1), np.uint8), r"samples must be uint8 of shape \(8, 8, 1\), got uint8 \(8, 9, 1\)"),
        (np.zeros((100, 8, 8, 1)), r"samples must be uint8 of shape \(8, 8, 1\), got float64 \(8, 8, 1\)"),
    ):
        with pytest.raises(InputError, match=words):
            measure_images(samples, train, test, "multiscale")
    with pytest.raises(InputError, match="each, got 100 and 99 and 101"):
        measure_images(np.zeros((100, 8, 8, 1), np.uint8), test, train[:99], "multiscale")
    with pytest.raises(InputError, match="each, got 100 and 101 and 99"):
        measure_features("mine", normal(100, 2), normal(101, 2), normal(99, 2))


def test_features_of_each_classifier_are_scaled_and_its_classes_are_those_of_the_unscaled(digits):
    images = channels_last(digits[0][:3])
    for name, scale in (("digits", 6.3), ("fashion", 4.3)):
        model = classifier(name)
        x = torch.from_numpy(images).permute(0, 3, 1, 2).float() / 127.5 - 1
        found, chances = features_and_probabilities(images, name)
        torch.testing.assert_close(found, model.features(x) / scale, rtol=1e-6, atol=1e-6)
        torch.testing.assert_close(chances, model(x).softmax(1), rtol=1e-5, atol=1e-6)
        assert [part.shape for part in features_and_probabilities(images[:0], name)] == [(0, 64), (0, 10)]


@pytest.mark.parametrize("kind", ["features", "pixels"])
def test_real_examples_have_an_even_chance_to_be_nearer_and_their_own_share_of_copies(kind):
    train = normal(30, 3)
    held = torch.cat([train[:2], normal(8, 3, seed=1) + 50])
    sets = Sets(*(Examples(part, pixels=part) for part in (train[:5], held, train)))
    metric = METRICS[f"copies-{kind}"]()
    found, floor = metric.compute(sets), metric.floor(sets)
    assert list(found) == list(floor) == [f"nearer_{kind}", f"copied_{kind}"]
    assert (floor[f"nearer_{kind}"], floor[f"copied_{kind}"].value) == (Value(0.5), 2 / 5)  # of as many as samples
    # samples at distance zero beat three held-out examples of five and tie with two
    assert (found[f"nearer_{kind}"].value, found[f"copied_{kind}"].value) == (3 / 5 + 2 / 5 / 2, 1)
