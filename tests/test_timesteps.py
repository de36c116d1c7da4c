"""Which steps are drawn: the law that was asked for, evenly covered."""

import pytest
import torch
from torch.testing import assert_close

from harness.faults import catches
from harness.support import F64, SMALL_BETAS, f64, seeded
from kakusan.errors import InputError
from kakusan.models.diffusion import Diffusion
from kakusan.noise import Drawn, example_streams
from kakusan.schedule import Schedule
from kakusan.timesteps import StepLaw


@catches("""timesteps.py: steps count from zero
- .clamp(max=last) + 1
+ .clamp(max=last)""")
@catches("""timesteps.py: the strata come in order
- torch.randperm(num, generator=randomness, device=own)
+ torch.arange(num, device=own)""")
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


@catches("""timesteps.py: the law of the steps runs backwards
- .diff().flip(0)
+ .diff()""")
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


@catches("""timesteps.py: beyond the rounded end of the probabilities a step is drawn that the chain does not have
- .clamp(max=last) + 1
+ + 1""")
def test_the_last_step_takes_what_rounding_leaves():
    law = StepLaw(f64([0.5, 0.5 - 1e-15]))
    assert law.draw(1, Drawn.of([f64([1 - 2**-53])])).tolist() == [2]  # the largest number that is drawn


SHARES = f64([0.5, 0.25, 0.15, 0.07, 0.03])  # of five steps, drawn very unevenly


@catches("""timesteps.py: the probability of a step is that of the step before
- return self._on(where)[0][t.to(where) - 1]
+ return self._on(where)[0][t.to(where) - 2]""")
def test_the_probability_of_a_step_is_that_with_which_it_is_drawn():
    law = StepLaw(SHARES)
    t = torch.tensor([1, 2, 3, 4, 5, 1])
    assert torch.equal(law.prob(t), SHARES[[0, 1, 2, 3, 4, 0]])
    counts = torch.bincount(law.draw(1000, seeded(0)), minlength=6)[1:]
    assert (counts - 1000 * law.prob(t[:5])).abs().max() <= 1  # a boundary stratum may fall to either side


@catches("""models/simple_loss.py: the bound beside the simple loss forgets how often its step is drawn
-  / law.prob(t).to(x)
+  * model.depth""")
def test_the_bound_beside_the_simple_loss_makes_up_for_how_often_its_step_is_drawn():
    asked = []

    def network(z, t):
        asked.append((z, t))
        return 0.3 * z

    schedule, x = Schedule.from_betas(SMALL_BETAS), torch.randn(200, 2, generator=seeded(0), dtype=F64)
    simple = Diffusion(network, schedule, 2).double()
    both = Diffusion(lambda z, t: (network(z, t), torch.full_like(z, 0.4)), schedule, 2, variance="learned").double()
    beside = both.loss(x, seeded(1), law=StepLaw(SHARES)) - simple.loss(x, seeded(1), law=StepLaw(SHARES))
    z_t, t = asked[0]
    assert set(t.tolist()) == {1, 2, 3, 4, 5}
    # a thousandth of T times the bound at a step drawn evenly (Nichol and Dhariwal 2021), in units of a dimension
    expected = 1e-3 * both.step_cost(x, z_t, t) / SHARES[t - 1] / 2
    assert_close(beside, expected, rtol=1e-10, atol=1e-14)  # a difference of losses of order one
