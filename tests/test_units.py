"""Nats to bits per dimension."""

import math

import pytest
import torch
from torch.testing import assert_close

from harness.faults import catches
from harness.support import oracle
from kakusan.errors import InputError
from kakusan.units import bits_per_dim, grid_nats, nats

BPD = oracle("gaussians")["bpd"]


@pytest.mark.proves("S58", "M11", "O17", "O19", "O22")
@catches("""units.py: the width of a bin is taken away
- return num_dims * math.log(bin_width)
+ return -num_dims * math.log(bin_width)""")
def test_rates_of_discrete_and_continuous_data_are_the_oracles():
    nats, dims, rates = BPD["inputs"]["elbo_nats"], BPD["inputs"]["D"], BPD["outputs"]
    assert bits_per_dim(nats, dims) == pytest.approx(rates["discrete_log_prob"], rel=1e-12)  # O22, float64
    for key, width in (
        ("density_of_x=u/127.5-1_(bin_2/255)", 2 / 255),
        ("density_of_dequantised_x=2(u+U)/256-1_(bin_1/128)", 1 / 128),
        ("density_of_dequantised_x=(u+U)/256_(bin_1/256)", 1 / 256),
        ("density_of_x=u/255_(bin_1/255)", 1 / 255),
    ):
        assert bits_per_dim(nats + grid_nats(dims, width), dims) == pytest.approx(rates[key], rel=1e-12)


@pytest.mark.proves("M11")
@catches("""units.py: bits are nats
- (num_dims * math.log(2))
+ num_dims""")
def test_a_uniform_law_over_256_levels_costs_eight_bits_a_dimension():
    nats = torch.full((3,), -784 * math.log(256), dtype=torch.float64)
    assert_close(bits_per_dim(nats, 784), torch.full_like(nats, 8.0), rtol=1e-14, atol=0)
    flat = -10 * math.log(2.0)  # the density 1/2 on [-1, 1], in ten dimensions
    assert bits_per_dim(flat + grid_nats(10, 2 / 256), 10) == pytest.approx(8.0, rel=1e-14)


@catches("""units.py: a higher rate is better
- return -nats /
+ return nats /""")
def test_a_better_likelihood_is_a_lower_rate():
    assert bits_per_dim(-1.0, 1) < bits_per_dim(-2.0, 1)


@pytest.mark.parametrize("num_dims", [0, -3])
def test_a_rate_over_no_dimensions_is_refused(num_dims):
    with pytest.raises(InputError, match="num_dims"):
        bits_per_dim(1.0, num_dims)


def test_nats_and_rates_are_numbers_and_convert_back():
    assert nats(bits_per_dim(-3.5, 12), 12) == pytest.approx(3.5, rel=1e-15)
    assert nats(2.0, 3) == pytest.approx(6 * math.log(2), rel=1e-15)
    for value, found in ((True, "bool"), (torch.ones(2) > 0, "torch.bool"), ("1", "str"), (None, "NoneType")):
        with pytest.raises(InputError, match=f"^nats must be a tensor or a number, got {found}$"):
            bits_per_dim(value, 1)
    with pytest.raises(InputError) as caught:
        bits_per_dim(1.0, 0)
    assert str(caught.value) == "num_dims must be a positive number of scalars, got 0; pass x[0].numel()"
    for num_dims, width in ((0, 1.0), (1, 0.0), (1, math.inf), (1, math.nan)):
        words = f"^a grid needs num_dims > 0 and a finite bin_width > 0, got {num_dims} and {width}$"
        with pytest.raises(InputError, match=words):
            grid_nats(num_dims, width)
    assert grid_nats(1, 0.5) == -math.log(2)
