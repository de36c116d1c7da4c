"""NaN and infinity never reach weights, averages or moments; signals stop a run where all is saved."""

import os
import signal

import pytest
import torch

from harness import engine_job
from harness.faults import catches
from kakusan.errors import Stopped
from kakusan.train import checkpoint
from kakusan.train.engine import any_not_finite
from kakusan.train.hindsight import Hindsight
from kakusan.train.state import IN_A_ROW, NonFiniteLossError, State

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


@catches(
    "train/engine.py",
    "    torch._amp_foreach_non_finite_check_and_unscale_(tensors, found, one)\n",
    "",
    "a gradient that is not finite is not looked for where no norm is asked for",
    case="no limit-gradient",
)
@catches(
    "train/loop.py",
    "and norm.item() <= self._largest_norm",
    "and True",
    "a gradient that is not finite moves the weights",
    case="as it is-gradient",
)
@catches(
    "train/loop.py",
    "if told.bad:\n            self.optimizers.clear()",
    "if False:\n            self.optimizers.clear()",
    "a loss that is not finite moves the weights",
    case="as it is-nan",
)
@pytest.mark.parametrize("how", ["nan", "inf", "-inf", "gradient"])
@pytest.mark.parametrize("changes", [{}, {"clip": None}, {"method": "adam"}], ids=["as it is", "no limit", "adam"])
def test_a_bad_step_changes_nothing_at_all(how, changes):
    one = engine_job.run(broken_at({4, 5, 9}, how, **changes))
    assert one.state.skipped == [4, 5, 9]
    assert one.state.num_skipped == 3
    assert engine_job.everything(one) == engine_job.everything(without({4, 5, 9}, **changes))
    assert all(p.isfinite().all() for p in (*one.module.parameters(), *one.ema.module.parameters()))


@pytest.mark.parametrize("how", ["nan", "gradient"])
@pytest.mark.parametrize("method", ["muon", "adam"])
def test_a_bad_step_that_is_found_many_steps_later_changes_nothing_either(how, method):
    bad = {7, 40, 41, 90}
    one, looked = broken_at(bad, how, clip=None, method=method, steps=160), []
    look = one.look
    one.look = lambda: (looked.append(one.state.step), look())[1]
    engine_job.run(one)
    assert one.state.skipped == sorted(bad)
    assert engine_job.everything(one) == engine_job.everything(without(bad, clip=None, method=method, steps=160))
    if how == "nan":  # the loss itself tells: no window is done again
        assert looked == [0]
    else:
        assert set(looked) > bad
        assert not {131, 140, 150} & set(looked)  # nobody looks where a window was good


@catches(
    "train/hindsight.py",
    "return not any_not_finite(self._means, self._one)",
    "return True",
    "what is looked at later is never found",
)
@catches(
    "train/hindsight.py",
    "        vars(state).update(self._values)\n",
    "        state.step = self.step\n",
    "a run goes back to the weights and not to the state",
)
def test_a_look_finds_what_is_not_finite_and_all_comes_back():
    mean, weight, state = torch.ones(3), torch.ones(2, dtype=torch.float64), State(step=5, loss=2.0, skipped=[1])
    then = Hindsight([mean, weight], [mean], state)
    assert then.is_good()
    mean[1], state.step, state.loss, state.skipped = float("nan"), 9, None, [1, 7]
    weight += 1
    assert not then.is_good()
    assert then.go_back(state) == 1  # a state begins with one reading
    assert then.is_good()
    assert (mean.tolist(), weight.tolist()) == ([1.0] * 3, [1.0] * 2)
    assert (state.step, state.loss, state.skipped) == (5, 2.0, [1])


def test_a_loss_that_raises_on_spoilt_weights_is_asked_again_after_going_back():
    one = broken_at({20}, "gradient", clip=None, steps=60)
    honest = one.loss

    def loss(indices, noise):
        if not one.module[0].weight.isfinite().all():
            raise ValueError("weights must be finite")
        return honest(indices, noise)

    one.loss = loss
    engine_job.run(one)
    assert one.state.skipped == [20]
    assert engine_job.everything(one) == engine_job.everything(without({20}, clip=None, steps=60))


def test_a_loss_that_raises_on_good_weights_raises():
    one = engine_job.trainer(clip=None, steps=60)
    honest = one.loss

    def loss(indices, noise):
        if one.state.step == 20:
            raise ValueError("these data")
        return honest(indices, noise)

    one.loss = loss
    with pytest.raises(ValueError, match="these data"):
        engine_job.run(one)


@catches(
    "train/loop.py",
    "            if keep:\n                self._hindsight.keep",
    "            if True:\n                self._hindsight.keep",
    "what a step has moved is kept in the midst of it",
)
def test_a_buffer_that_a_step_moves_is_moved_once_whatever_is_done_again():
    one = broken_at({28}, "gradient", clip=None, groups=1, steps=60)
    broken = one.loss

    def loss(indices, noise):
        one.module.seen += 1
        losses = broken(indices, noise)
        return losses * float("nan") if one.state.step == 25 else losses

    one.loss = loss
    engine_job.run(one)
    assert one.state.skipped == [25, 28]
    assert one.module.seen == 60


def test_a_mean_that_overflows_by_itself_ends_the_looking_back():
    one = engine_job.trainer(clip=None, method="adam", groups=1, steps=80)
    step, honest, done = one.optimizers.step, one.loss, []

    def overflowing(*scale):
        step(*scale)
        if one.state.step == 10:
            one.optimizers.means()[0].fill_(float("inf"))  # no gradient was bad

    one.optimizers.step = overflowing
    one.loss = lambda indices, noise: (done.append(one.state.step), honest(indices, noise))[1]
    with pytest.raises(NonFiniteLossError):  # the weights follow the mean
        engine_job.run(one)
    assert done == [*range(13), *range(1, 22)]  # once more, and not again and again


@catches(
    "train/clock.py",
    "            self.start(step)  # what was done since is no part of the pace\n",
    "            pass\n",
    "steps that were thrown away count in the pace",
)
def test_the_pace_of_a_run_that_went_back_is_that_of_its_steps():
    one = broken_at({200}, "gradient", clip=None, groups=1, steps=1200)
    done = []
    honest = one.loss
    one.loss = lambda indices, noise: (done.append(0), honest(indices, noise))[1]
    one.clock.now = lambda: 0.001 * len(done)  # a thousandth of a second a step: no reading while it goes back
    engine_job.run(one)
    assert len(done) > 1200
    assert all(reading.pace == pytest.approx(0.001) for reading in one.state.readings[1:])


@catches(
    "train/clock.py", "self.ahead[:0] = self.readings[count:]", "pass", "a run that goes back reads the clock again"
)
@catches(
    "train/hindsight.py",
    'if name not in ("marks", "readings")',
    'if name != "readings"',
    "a mark is told again by a run that goes back to it",
)
@catches(
    "train/loop.py",
    "if told.save or told.stop or self._is_due(marks):",
    "if False:",
    "weights are saved before anybody has looked at the last steps",
)
def test_what_was_done_and_told_before_a_bad_step_is_not_told_again():
    told, read, saved = [], [], []
    one = broken_at({3, 39, 41}, "gradient", clip=None, steps=80)
    one.clock.record = read.append
    ticks = iter(range(10**6))
    one.clock.now = lambda: float(next(ticks))  # every step finds half a second gone, and reads the clock

    def on_mark(one):
        told.append(one.state.step)
        assert all(p.isfinite().all() for p in one.module.parameters())

    one.run([0.25, 0.5, 1.0], on_mark, lambda one: None, lambda one: saved.append(one.state.step))
    assert one.state.skipped == [3, 39, 41]
    assert told == saved == [20, 40, 80]
    steps = [reading.step for reading in read]
    assert steps == sorted(steps)
    assert {2, 4, 39, 41, 42, 43} <= set(steps)
    assert one.state.readings[1:] == read


def test_a_run_that_went_back_goes_on_from_any_save_with_the_same_bits(tmp_path):
    whole = engine_job.run(broken_at({40, 70}, "gradient", clip=None, steps=110))
    for stop_at in (39, 41, 65, 72, 100):
        folder = tmp_path / str(stop_at)
        checkpoint.save(engine_job.run(broken_at({40, 70}, "gradient", clip=None, steps=110), stop_at=stop_at), folder)
        on = broken_at({40, 70}, "gradient", clip=None, steps=110)
        checkpoint.restore(on, folder)
        assert engine_job.everything(engine_job.run(on)) == engine_job.everything(whole)
        assert on.state.skipped == [40, 70]


def test_weights_averages_and_moments_are_as_they_were_before_a_bad_step():
    one = engine_job.run(broken_at({4}, "nan"), stop_at=4)
    before = engine_job.everything(one)
    one.go_to(5)
    assert one.state.skipped == [4]
    assert engine_job.everything(one) == before


@catches(
    "train/muon.py",
    "part(gradient).copy_(torch.where(skip > 0, part(mean), part(gradient)))",
    "pass",
    "Muon moves at a step that it was told to skip",
    case="muon",
)
@catches(
    "train/optimizers.py",
    "optimizer.found_inf = skip",
    "optimizer.found_inf = None",
    "AdamW moves at a step that it was told to skip",
    case="adam",
)
@catches("train/muon.py", "updates *= moves", "pass", "skipping forgets the weights", case="muon")
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


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_one_number_that_is_not_finite_is_seen_wherever_it_stands_and_no_bit_is_changed(dtype):
    shapes = [(3, 2, 2, 2), (7,), (5, 33)]
    tensors = [torch.randn(shape).to(dtype) for shape in shapes]
    for tensor in tensors:
        tensor.view(-1)[:3] = torch.tensor([-0.0, torch.finfo(dtype).tiny / 4, torch.finfo(dtype).max], dtype=dtype)
    before = [tensor.clone() for tensor in tensors]
    one = torch.ones(())
    assert any_not_finite(tensors, one) == 0
    assert all(torch.equal(new.view(torch.uint8), old.view(torch.uint8)) for new, old in zip(tensors, before))
    for number in (float("nan"), float("inf"), -float("inf")):
        for tensor in tensors:
            for place in range(tensor.numel()):
                kept = tensor.view(-1)[place].clone()
                tensor.view(-1)[place] = number
                assert any_not_finite(tensors, one) == 1
                tensor.view(-1)[place] = kept


def test_a_gradient_larger_than_allowed_is_skipped():
    norms = []
    plain = engine_job.trainer()
    look = plain.look
    plain.look = lambda: (norms.append(look()), norms[-1])[1]
    engine_job.run(plain)
    limit = sorted(norm.item() for norm in norms)[-3]
    one = engine_job.run(engine_job.trainer(skip_above=limit))
    assert one.state.num_skipped > 0


@catches("train/state.py", "if row >= IN_A_ROW or", "if", "steps that are skipped for ever are never told")
def test_too_many_bad_steps_in_a_row_stop_the_run_with_advice():
    one = broken_at(set(range(2, 40)), "nan", steps=40)
    with pytest.raises(NonFiniteLossError, match=r"10 steps in a row.*--rollback"):
        engine_job.run(one)
    assert one.state.step == 1 + IN_A_ROW
    assert all(p.isfinite().all() for p in one.module.parameters())


@catches(
    "train/state.py",
    "[one for one in self.skipped if one > step - WINDOW]",
    "self.skipped",
    "skipped steps are counted over the whole run",
)
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


@catches(
    "train/loop.py",
    "sum(back <= step for back in self.rollbacks)",
    "0 * step",
    "a rollback goes on with the same noise",
)
@catches(
    "train/loop.py",
    "sum(back <= step for back in self.rollbacks)",
    "len(self.rollbacks)",
    "a rollback changes the noise of the steps before it",
)
def test_a_rollback_is_other_noise_and_another_order_from_its_step_on():
    plain, back = engine_job.trainer(), engine_job.trainer(rollbacks=(6,))
    for step in range(12):
        (first, noise), (second, other) = plain.draws(step, 0), back.draws(step, 0)
        assert torch.equal(first, second) == (step < 6)
        assert torch.equal(torch.rand(3, generator=noise), torch.rand(3, generator=other)) == (step < 6)
    assert engine_job.everything(engine_job.run(plain)) != engine_job.everything(engine_job.run(back))


@catches(
    "train/loop.py",
    'stream(self.seed, "step", salt, step, group, device=self.device)',
    'stream(self.seed, "step", salt, step, device=self.device)',
    "every group of a batch has the same noise",
)
def test_groups_have_noise_of_their_own():
    one = engine_job.trainer(groups=2)
    drawn = [torch.rand(3, generator=one.draws(4, group)[1]) for group in (0, 1)]
    assert not torch.equal(*drawn)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGUSR1])
def test_the_first_signal_stops_after_the_step_with_all_saved(number):
    one, saved = engine_job.trainer(), []

    def on_step(one):
        if one.state.step == 5:
            os.kill(os.getpid(), number)

    finished = one.run([1.0], lambda one: None, on_step, lambda one: saved.append(one.state.step))
    assert not finished
    assert one.stopped_by == number
    assert one.state.step == 6  # the wish is followed at the next boundary
    assert saved == [6]


@catches("train/stopping.py", "if again or self._at_once:", "if self._at_once:", "a second signal waits as the first")
def test_a_second_signal_leaves_at_once():
    one = engine_job.trainer()

    def on_step(one):
        for _ in range(2):
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(Stopped):
        one.run([1.0], lambda one: None, on_step)


@catches(
    "train/stopping.py", "if again or self._at_once:", "if again:", "a signal while measuring waits for the end of it"
)
@catches(
    "train/loop.py",
    "if marked or told.save or told.stop:",
    "if told.save or told.stop:",
    "a mark is measured before it is saved",
)
def test_a_signal_while_measuring_leaves_at_once_since_all_is_saved():
    one, saved = engine_job.trainer(), []

    def on_mark(one):
        os.kill(os.getpid(), signal.SIGTERM)
        raise AssertionError("measured on")

    with pytest.raises(Stopped) as stopped:
        one.run([0.5], on_mark, lambda one: None, lambda one: saved.append(one.state.step))
    assert stopped.value.number == signal.SIGTERM
    assert saved == [6]
    assert one.state.marks == 0  # the mark is measured when the run goes on
