"""Which steps are drawn: the law that was asked for, evenly covered."""

import pytest
import torch

from harness.faults import catches
from kakusan.errors import InputError
from kakusan.noise import example_streams
from kakusan.schedule import Schedule
from kakusan.timesteps import StepLaw


@catches("timesteps.py", ".clamp(max=last) + 1", ".clamp(max=last)", "steps count from zero")
@catches(
    "timesteps.py",
    "torch.randperm(num, generator=randomness, device=where)",
    "torch.arange(num, device=where)",
    "the strata come in order",
)
def test_stratified_draws_hit_each_step_within_one_of_its_share():
    probs = torch.tensor([0.5, 0.25, 0.15, 0.1], dtype=torch.float64)
    t = StepLaw(probs).draw(1000, torch.Generator().manual_seed(0))
    counts = torch.bincount(t, minlength=5)[1:]
    assert (counts - 1000 * probs).abs().max() <= 1  # a boundary stratum may fall to either side
    assert not torch.equal(t, t.sort().values), "the order must be random, or t would go with the example's place"


def test_one_generator_an_example_makes_draws_that_do_not_know_of_each_other():
    law = StepLaw.uniform(1000)
    five, nine = law.draw(5, example_streams(0, range(5))), law.draw(9, example_streams(0, range(9)))
    assert torch.equal(five, nine[:5])


@catches("timesteps.py", ".diff().flip(0)", ".diff()", "the law of the steps runs backwards")
def test_a_log_snr_law_has_its_mass_where_it_was_put():
    schedule = Schedule.cosine(1000)
    law = StepLaw.log_snr_normal(schedule, mean=-1.0, std=0.5)
    log_snr = schedule.log_snr[1:]
    mean = (law.probs * log_snr).sum()
    spread = (law.probs * (log_snr - mean).square()).sum().sqrt()
    # a thousand steps resolve log SNR to about 0.005 near the middle, and a step stands at its noisier end
    assert abs(mean + 1.0) < 0.01
    assert abs(spread - 0.5) < 0.01
    assert law.probs.sum().item() == pytest.approx(1.0)


def test_the_law_is_the_same_distribution_of_log_snr_under_any_schedule():
    means = []
    for schedule in (Schedule.cosine(1000), Schedule.linear(1000), Schedule.sigmoid(1000)):
        law = StepLaw.log_snr_normal(schedule, 0.0, 1.0)
        means.append((law.probs * schedule.log_snr[1:]).sum().item())
    assert max(map(abs, means)) < 0.02  # discretisation alone


def test_a_law_without_spread_or_without_steps_is_refused():
    with pytest.raises(InputError, match="positive"):
        StepLaw.log_snr_normal(Schedule.cosine(10), 0.0, 0.0)
    with pytest.raises(InputError, match="no step"):
        StepLaw.log_snr_normal(Schedule.linear(1000), -500.0, 1.0)
