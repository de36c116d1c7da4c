"""NaN and infinity never reach weights, averages or moments; rollbacks and groups have noise of their own."""

import pytest
import torch

from harness import engine_job
from harness.faults import catches
from kakusan.training.state import IN_A_ROW, NonFiniteLossError, State

pytestmark = pytest.mark.reliability


def broken_at(bad, how, **changes):
    """A trainer whose loss, or whose gradient alone, is not finite at some steps."""
    one = engine_job.trainer(**changes)
    honest = one.loss

    def loss(indices, noise):
        right = honest(indices, noise)
        if one.state.step not in bad:
            return right
        if how == "gradient":  # sqrt has value 0 and slope infinity at 0
            return right + (0 * one.module[0].weight.flatten()[0]).sqrt()
        return right * float(how)

    one.loss = loss
    return one


def without(bad, **changes):
    """The run in which those steps are defined as skipped."""
    one = engine_job.trainer(**changes)
    step, average = one.optimizers.step, one.ema.update
    one.optimizers.step = lambda *scale: one.optimizers.clear() if one.state.step in bad else step(*scale)
    one.ema.update = lambda number: None if number - 1 in bad else average(number)
    return engine_job.run(one)


@catches("""training/loop.py: a gradient that is not finite moves the weights [as it is-gradient]
- and norm.item() <= self._largest_norm
+ and True""")
@catches("""training/loop.py: a loss that is not finite moves the weights [as it is-nan]
-         if outcome.bad:
-             self.optimizers.clear()
+         if False:
+             self.optimizers.clear()""")
@pytest.mark.parametrize("how", ["nan", "inf", "-inf", "gradient"])
@pytest.mark.parametrize("changes", [{}, {"clip": None}, {"method": "adam"}], ids=["as it is", "no limit", "adam"])
def test_a_bad_step_changes_nothing_at_all(how, changes):
    one = engine_job.run(broken_at({4, 5, 9}, how, **changes))
    assert one.state.skipped == [4, 5, 9]
    assert one.state.num_skipped == 3
    assert engine_job.everything(one) == engine_job.everything(without({4, 5, 9}, **changes))
    assert all(p.isfinite().all() for p in (*one.module.parameters(), *one.ema.module.parameters()))


def test_weights_averages_and_moments_are_as_they_were_before_a_bad_step():
    one = engine_job.run(broken_at({4}, "nan"), stop_at=4)
    before = engine_job.everything(one)
    one.go_to(5)
    assert one.state.skipped == [4]
    assert engine_job.everything(one) == before


@catches("""training/muon.py: Muon moves at a step that it was told to skip [muon]
- gradient.copy_(torch.where(skip > 0, mean, gradient))
+ pass""")
@catches("""training/optimizers.py: AdamW moves at a step that it was told to skip [adam]
- optimizer.found_inf = skip
+ optimizer.found_inf = None""")
@catches("""training/muon.py: skipping forgets the weights [muon]
- updates *= moves
+ pass""")
@pytest.mark.parametrize("method", ["adam", "muon"])
def test_an_optimiser_that_is_told_on_the_device_skips_without_being_waited_for(method):
    told, plain = engine_job.trainer(method=method), engine_job.trainer(method=method)
    for one in (told, plain):
        engine_job.run(one, stop_at=3)
    before = engine_job.everything(told)
    told.gradients(3)
    for p in told.module.parameters():
        p.grad.fill_(float("nan"))
    told.optimizers.step(0.5, torch.ones(()))
    assert engine_job.everything(told) == before
    for one, skip in ((told, torch.zeros(())), (plain, None)):
        one.gradients(4)
        one.optimizers.step(0.5, skip)
    assert engine_job.everything(told) == engine_job.everything(plain)


@catches("""training/loop.py: large gradients are never skipped
- limit = sys.float_info.max if self.settings.skip_above is None else self.settings.skip_above
+ limit = sys.float_info.max""")
def test_a_gradient_larger_than_allowed_is_skipped():
    norms = []
    plain = engine_job.trainer()
    norm = plain.norm
    plain.norm = lambda: (norms.append(norm()), norms[-1])[1]
    engine_job.run(plain)
    limit = sorted(norm.item() for norm in norms)[-3]
    one = engine_job.run(engine_job.trainer(skip_above=limit))
    assert one.state.num_skipped > 0


@catches("""training/state.py: steps that are skipped for ever are never told
- if row >= IN_A_ROW or
+ if""")
@catches("""training/state.py: the last of the skipped steps is counted from 0
- the last of them step {step + 1};
+ the last of them step {step};""")
def test_too_many_bad_steps_in_a_row_stop_the_run_with_advice():
    one = broken_at(set(range(2, 40)), "nan", steps=40)
    with pytest.raises(NonFiniteLossError, match=r"10 steps in a row, the last of them step 12;.*--rollback"):
        engine_job.run(one)
    assert one.state.step == 1 + IN_A_ROW
    assert all(p.isfinite().all() for p in one.module.parameters())


@catches("""training/state.py: skipped steps are counted over the whole run
- [one for one in self.skipped if one > step - WINDOW]
+ self.skipped""")
def test_five_per_cent_of_the_last_thousand_stop_it_too():
    state = State()
    for step in range(0, 49 * 19, 19):
        state.skip(step)
    with pytest.raises(NonFiniteLossError, match="50 of the last 1,000 steps"):
        state.skip(49 * 19)
    sparse = State()
    try:
        for step in range(0, 10_000, 21):
            sparse.skip(step)
    except NonFiniteLossError:
        pytest.fail("48 of 1,000 are not five per cent")
    assert sparse.num_skipped == 477


@catches("""training/loop.py: a rollback goes on with the same noise
- sum(back <= step for back in self.rollbacks)
+ 0 * step""")
@catches("""training/loop.py: a rollback changes the noise of the steps before it
- sum(back <= step for back in self.rollbacks)
+ len(self.rollbacks)""")
def test_a_rollback_is_other_noise_and_another_order_from_its_step_on():
    plain, back = engine_job.trainer(), engine_job.trainer(rollbacks=(6,))
    for step in range(12):
        (first, noise), (second, other) = plain.draws(step, 0), back.draws(step, 0)
        assert torch.equal(first, second) == (step < 6)
        assert torch.equal(torch.rand(3, generator=noise), torch.rand(3, generator=other)) == (step < 6)
    assert engine_job.everything(engine_job.run(plain)) != engine_job.everything(engine_job.run(back))


@catches("""training/loop.py: every group of a batch has the same noise
- stream(self.seed, "step", salt, step, micro_batch, device=self.device)
+ stream(self.seed, "step", salt, step, device=self.device)""")
def test_groups_have_noise_of_their_own():
    one = engine_job.trainer(groups=2)
    drawn = [torch.rand(3, generator=one.draws(4, group)[1]) for group in (0, 1)]
    assert not torch.equal(*drawn)
