"""Confidence sequences hold at every look, on the exact bounds of two models of one world."""

import pytest
import torch

from harness.faults import catches
from harness.support import seeded
from kakusan.errors import InputError
from kakusan.likelihood.sequential import confidence_radius, confidence_sequence
from kakusan.oracles import GaussianWorld

WORLD = GaussianWorld([0.3, -0.2], [[0.6, 0.25], [0.25, 0.4]])
BETAS = torch.tensor([0.1, 0.2, 0.35, 0.5, 0.7], dtype=torch.float64)
REPLICATES, EXAMPLES = 2000, 1500
LOOKS = torch.arange(250, EXAMPLES + 1, 50)


def differences(generator):
    """Exact paired differences of the bounds of two models, (REPLICATES, EXAMPLES), and their exact mean."""
    parts = []
    for _ in range(20):
        x = WORLD.sample(REPLICATES // 20 * EXAMPLES, generator)
        first, second = (WORLD.bound(x, BETAS, variance).elbo for variance in ("beta", "beta_tilde"))
        parts.append((first - second).view(-1, EXAMPLES))
    first, second = (WORLD.exact_elbo(BETAS, variance) for variance in ("beta", "beta_tilde"))
    return torch.cat(parts), first - second


@catches(
    """likelihood/sequential.py: an interval for one look is used at all of them
- log_term = mixed.log() / 2 - math.log(alpha)
+ log_term = 1.92 * n * rho_squared / mixed"""
)
@catches(
    """likelihood/sequential.py: the variance is that of the mean already
- return torch.as_tensor(std, dtype=torch.float64) *
+ return torch.as_tensor(std, dtype=torch.float64) / 2 *"""
)
def test_the_true_difference_is_inside_at_all_looks_in_95_percent_of_2000_replicates():
    values, right = differences(seeded(0))
    low, high = confidence_sequence(values, LOOKS)
    missed = ((low > right) | (high < right)).any(1).double().mean().item()
    assert 0.0005 < missed < 0.05 + 3 * (0.05 * 0.95 / REPLICATES) ** 0.5, missed


def test_a_difference_is_decided_in_its_direction_and_sooner_if_it_is_larger():
    values, right = differences(seeded(1))
    std = values[0].std()
    ends = []
    for shift in (0.1, 0.5):
        low, high = confidence_sequence(values[:200] - right + shift * std, LOOKS)
        assert not (high < 0).any()
        ends.append((low > 0).double().mean().item())
    assert ends[0] < ends[1]
    assert ends[1] > 0.98


@catches("""likelihood/sequential.py: a sequence always has the confidence of 95 percent
- radius = confidence_radius(std, n, confidence, sharpest_at)
+ radius = confidence_radius(std, n, sharpest_at=sharpest_at)""")
@catches("""likelihood/sequential.py: the standard deviation of a look is that of all values
- std = ((squares - n * mean.square()).clamp(min=0) / (n - 1)).sqrt()
+ std = values.std(-1, keepdim=True)""")
def test_the_ends_of_a_sequence_are_its_means_and_the_radii_of_its_standard_deviations():
    values, looks = torch.randn(2, 400, generator=seeded(2), dtype=torch.float64).cumsum(1), torch.tensor([2, 7, 400])
    for settings in ({}, {"confidence": 0.99}, {"sharpest_at": 50}):
        low, high = confidence_sequence(values, looks, **settings)
        for place, n in enumerate(looks.tolist()):
            mean, std = values[:, :n].mean(1), values[:, :n].std(1)
            radius = confidence_radius(std, n, **settings)
            torch.testing.assert_close(low[:, place], mean - radius, rtol=1e-9, atol=1e-9)
            torch.testing.assert_close(high[:, place], mean + radius, rtol=1e-9, atol=1e-9)
    assert confidence_radius(1.0, 50, 0.99) > confidence_radius(1.0, 50)
    assert confidence_radius(1.0, 50, sharpest_at=50) < confidence_radius(1.0, 50)


def test_the_radius_at_one_look_equals_the_published_formula():
    """Written out from theorem 2.2 with rho^2 of its section on tuning, by hand."""
    rho2 = (2 * 2.995732273553991 + 1.9444) / 2000  # log(1 + 2 * 2.9957...) = 1.94530
    n = 500
    wanted = (2 * (n * rho2 + 1) / (n**2 * rho2) * torch.tensor((n * rho2 + 1) ** 0.5 / 0.05).log()) ** 0.5
    assert abs(confidence_radius(1.0, n).item() - wanted.item()) < 1e-4
    with pytest.raises(InputError, match="strictly between 0 and 1"):
        confidence_radius(1.0, 10, confidence=1.0)


@pytest.mark.parametrize("confidence", [0.0, 1.0, 1.5])
def test_a_confidence_that_is_no_probability_between_0_and_1_is_refused(confidence):
    with pytest.raises(InputError) as caught:
        confidence_radius(1.0, 10, confidence=confidence)
    assert str(caught.value) == f"confidence must lie strictly between 0 and 1, got {confidence}"
