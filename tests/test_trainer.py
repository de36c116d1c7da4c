"""What each setting of a training step does, and what a trainer says about its pace and cost."""

import dataclasses
from datetime import timedelta
from types import SimpleNamespace

import pytest
import torch
from torch import nn

import kakusan as kk
from harness.faults import catches
from kakusan import distributed
from kakusan.errors import PeerFailed, Stopped
from kakusan.signals import Received
from kakusan.training import checkpoint, engine, flops, loop, progress
from kakusan.training.clock import Clock, Reading
from kakusan.training.ema import Ema
from kakusan.training.engine import Engine
from kakusan.training.flops import Effort
from kakusan.training.loop import Trainer
from kakusan.training.outcome import DeferredCheck, StepOutcome, agree, agree_on_reading
from kakusan.training.progress import ProgressLine
from kakusan.training.settings import Budget, Optim
from kakusan.training.state import State

CPU = torch.device("cpu")


class Line(nn.Module):
    """Two layers with one hidden matrix."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.first, self.second = nn.Linear(1, 6), nn.Linear(6, 6)
        self.last = nn.Linear(6, 1)

    def forward(self, x):
        return self.last(torch.tanh(self.second(torch.tanh(self.first(x)))))

    def hidden_matrices(self):
        return [self.second.weight]


def trainer(budget=None, factors=None, **changes):
    module, x = Line(), torch.linspace(-1, 1, 32)[:, None]
    if factors:
        module.rate_factors = factors

    def loss(indices, randomness):
        return (module(x[indices]) - 3 * x[indices] + torch.randn((), generator=randomness)).square()[:, 0]

    settings = Optim(**{"batch": 8, "warmup": 3, "lr": 1e-2, **changes})
    return Trainer(module, loss, len(x), settings, budget or Budget(steps=12), 1, CPU)


def trained(**changes):
    """Weights, averaged weights and early weights after twelve steps."""
    one = trainer(**changes)
    one.run([], lambda trainer: None, lambda trainer: None)
    parts = [*one.module.parameters(), *one.ema.module.parameters(), *(one.early or {}).values()]
    return torch.cat([part.detach().flatten() for part in parts])


MUON = {"method": "muon"}
# Another value of each setting, and the settings with which it matters
SETTINGS = {
    "method": ({}, "muon"),
    "lr": ({}, 3e-2),
    "matrix_lr": (MUON, 0.1),
    "weight_decay": ({}, 1.0),
    "weight_decay of muon": ({**MUON, "lr": 0.0}, 1.0),
    "warmup": ({}, 0),
    "decay": ({}, "none"),
    "clip": ({}, 0.01),
    "no clip": ({"clip": 0.01}, None),
    "batch": ({}, 16),
    "groups": ({}, 2),
    "ema": ({}, 0.3),
    "early": ({}, 0.5),
    "betas": ({}, (0.5, 0.98)),
    "betas of squares": ({}, (0.9, 0.5)),
    "precision": ({}, "bfloat16"),
}
# tested in test_state.py, read where the data are made, and without an effect on the numbers
ELSEWHERE = {"skip_above", "augment", "compile"}


def setting_of(name):
    return {"no clip": "clip"}.get(name, name.split(" of ")[0])


@catches("""training/loop.py: a constant learning rate decays too [decay]
- self.progress if self.settings.decay == "linear" else 1.0)
+ self.progress)""")
@catches("""training/optimizers.py: Muon decays no weights [weight_decay of muon]
- settings.matrix_lr, weight_decay=settings.weight_decay)
+ settings.matrix_lr)""")
@pytest.mark.parametrize("name", SETTINGS)
def test_every_setting_of_a_step_changes_what_is_trained(name):
    base, value = SETTINGS[name]
    plain, other = trained(**base), trained(**{**base, setting_of(name): value})
    assert plain.shape != other.shape or not torch.equal(plain, other)


def test_these_are_all_settings_and_their_defaults_are_those_of_the_measurements():
    assert {field.name for field in dataclasses.fields(Optim)} == {*map(setting_of, SETTINGS), *ELSEWHERE}
    assert dataclasses.asdict(Optim()) == {
        "method": "adam",
        "lr": 1e-3,
        "matrix_lr": 0.02,
        "weight_decay": 0.01,
        "warmup": 100,
        "decay": "linear",
        "clip": 1.0,
        "skip_above": None,
        "batch": 64,
        "groups": None,
        "ema": 0.1,
        "early": None,
        "betas": (0.9, 0.98),
        "augment": "none",
        "precision": "float32",
        "compile": "none",
    }


@catches("""training/optimizers.py: the factor of a learning rate is left out for matrices
- self._all.append((muon, settings.matrix_lr * factor, list(matrices)))
+ self._all.append((muon, settings.matrix_lr, list(matrices)))""")
def test_a_factor_of_zero_keeps_the_parameters_that_it_names():
    one = trainer(factors={"second.": 0.0}, method="muon")
    before = {name: p.clone() for name, p in one.module.named_parameters()}
    one.run([], lambda trainer: None, lambda trainer: None)
    still = {name for name, p in one.module.named_parameters() if torch.equal(p, before[name])}
    assert still == {"second.weight", "second.bias"}


@catches("""training/loop.py: a former budget counts for one step more
- if step < until), self.budget)
+ if step <= until), self.budget)""")
def test_a_former_budget_counts_until_its_step():
    one = trainer(Budget(steps=100))
    one.earlier = [(3, Budget(steps=10)), (5, Budget(steps=20))]
    shares = []
    for step in range(7):
        one.state.step = step
        shares.append(one.progress)
    assert shares == pytest.approx([0.0, 0.1, 0.2, 0.15, 0.2, 0.05, 0.06])


@catches("""training/loop.py: a restored trainer keeps the readings of its own clock
- self.clock.readings = state.readings
+ pass""")
@catches("""training/checkpoint.py: a checkpoint of a later step than the wanted one is loaded
- latest(folder) if at_most is None else commit.newest_good(folder, at_most)[0]
+ latest(folder)""")
def test_a_restored_trainer_has_the_time_of_the_wanted_checkpoint(tmp_path):
    one = trainer(Budget(minutes=1))
    for step, reading in ((4, Reading(4, 8.0, 2.0)), (6, Reading(6, 30.0, 11.0))):
        one.state.step = step
        one.clock.take(reading)
        checkpoint.save(one, tmp_path)
    for at_most, seconds in ((None, 41.0), (5, 14.0), (3, 0.0)):
        again = trainer(Budget(minutes=1))
        checkpoint.restore(again, tmp_path, at_most)
        assert again.clock.seconds(7) == seconds


@catches("""training/loop.py: the clock runs on while steps are repeated
- self.clock.stopped = True
+ self.clock.stopped = False""")
def test_the_clock_stands_while_steps_are_repeated():
    one = trainer(Budget(minutes=100))
    one.go_to(9)
    assert one.state.step == 9
    assert one.clock.readings == [Reading(0, 0.0, 0.0)]


@catches("""training/loop.py: repeated steps are not in training mode
-         self.clock.stopped = True
-         self.module.train()
+         self.clock.stopped = True
+         self.module.eval()""")
def test_repeated_steps_are_in_training_mode():
    one = trainer()
    one.module.eval()
    one.go_to(1)
    assert one.module.training


@catches("""training/clock.py: a pause counts toward the pace of steps
- pace = elapsed / steps if steps and not paused else
+ pace = elapsed / steps if steps else""")
def test_a_pause_counts_toward_the_time_and_not_toward_the_pace():
    now = [0.0]
    clock = Clock(now=lambda: now[0])
    now[0] = 10.0
    clock.take(clock.wanted(5))
    now[0] = 100.0
    clock.take(clock.wanted(6, paused=True))
    assert clock.readings[-1] == Reading(6, 100.0, 2.0)
    assert clock.seconds(7) == 102.0


@catches("""training/ema.py: the averaged module is in training mode
- copy.deepcopy(module).eval().requires_grad_(False)
+ copy.deepcopy(module).requires_grad_(False)""")
def test_the_averaged_module_drops_nothing_and_needs_no_gradient():
    module = nn.Sequential(nn.Linear(2, 2), nn.Dropout(0.5))
    averaged = Ema(module, 0.5).module
    assert module.training
    assert not any(part.training for part in averaged.modules())
    assert not any(p.requires_grad for p in averaged.parameters())


@catches("""training/outcome.py: a GPU skips no large gradient
- bad = ~(loss.isfinite() & norm.isfinite() & (norm <= self._largest_norm))
+ bad = ~(loss.isfinite() & norm.isfinite())""")
def test_a_deferred_check_skips_what_an_immediate_one_skips():
    check, one = DeferredCheck(2.0), trainer(skip_above=2.0)
    cases = [(1.0, 1.9), (1.0, 2.1), (float("nan"), 1.0), (1.0, float("nan")), (float("inf"), 1.0), (1.0, float("inf"))]
    numbers = [(torch.tensor(loss), torch.tensor(norm)) for loss, norm in cases]
    skips = [check.add(step, *pair).item() for step, pair in enumerate(numbers)]
    assert skips == [float(one.is_bad(*pair)) for pair in numbers] == [0, 1, 1, 1, 1, 1]
    assert [(step, bad) for step, bad, _ in check.read()] == [(k, skip > 0) for k, skip in enumerate(skips)]
    assert check.read() == []


@catches("""training/outcome.py: the loss of a job is the sum over its processes
- loss=loss / distributed.world_size(),
+ loss=loss,""")
@catches("""training/outcome.py: every process of a job asks for saves
- own.save and first, *reading]
+ own.save, *reading]""")
@catches("""training/outcome.py: a bad step of another process is taken
- bad=bad > 0,
+ bad=own.bad,""")
def test_two_processes_agree_on_the_outcome_of_a_step(monkeypatch):
    monkeypatch.setattr(distributed, "world_size", lambda: 2)

    def both(first, second):
        """Outcomes of the two ranks; the all-reduce adds what the other one sends."""
        sent, found = [], []
        for own, is_first in ((first, True), (second, False)):
            monkeypatch.setattr(distributed, "is_rank0", lambda is_first=is_first: is_first)
            monkeypatch.setattr(distributed, "all_reduce_sum", lambda values: (sent.append(values), values)[1])
            agree(own)
        for own, is_first in ((first, True), (second, False)):
            monkeypatch.setattr(distributed, "is_rank0", lambda is_first=is_first: is_first)
            monkeypatch.setattr(distributed, "all_reduce_sum", lambda values: [a + b for a, b in zip(*sent)])
            found.append(agree(own))
        assert found[0] == found[1]
        return found[0]

    reading = Reading(7, 3.5, 0.25)
    plain = StepOutcome(loss=1.0, reading=reading)
    assert both(plain, StepOutcome(loss=2.0)) == StepOutcome(loss=1.5, reading=reading)
    assert both(plain, StepOutcome(loss=2.0, bad=True)).bad
    assert both(StepOutcome(save=True), StepOutcome()).save
    assert not both(StepOutcome(), StepOutcome(save=True)).save
    assert both(StepOutcome(), StepOutcome(stop=15)).stop == 15
    assert both(StepOutcome(stop=2), StepOutcome(stop=2)).stop == 2


@catches("""distributed.py: every process takes the numbers of the last one
- dist.broadcast(both, src=0)
+ dist.broadcast(both, src=world_size() - 1)""")
def test_a_broadcast_gives_every_process_the_numbers_of_rank_0(monkeypatch):
    sent = {0: [1.0, 2.0], 1: [3.0, 4.0]}
    monkeypatch.setattr(distributed, "world_size", lambda: 2)
    monkeypatch.setattr(distributed, "_device", lambda: torch.device("cpu"))
    monkeypatch.setattr(distributed.dist, "broadcast", lambda tensor, src: tensor.copy_(torch.tensor(sent[src])))
    assert distributed.broadcast([3.0, 4.0]) == [1.0, 2.0]


@catches("""training/fit.py: a fit takes batches larger than the data
- min(settings.batch, num_examples) // settings.num_groups
+ settings.batch // settings.num_groups""")
@pytest.mark.parametrize(("groups", "sizes"), [(None, [5, 5]), (2, [2, 2, 2, 2]), (5, [1] * 10)])
def test_a_batch_of_a_fit_is_no_larger_than_the_data(groups, sizes):
    vae = kk.VAE(kk.nets.GaussianMLP((2,), (3,), (1,)), kk.nets.MLP((1,), (3,), (2,)), 1)
    seen, loss = [], vae.loss
    vae.loss = lambda x, *rest, **more: (seen.append(len(x)), loss(x, *rest, **more))[1]
    kk.fit(vae, torch.randn(5, 2), steps=2, optim=Optim(batch=64 if groups != 5 else 65, groups=groups))
    assert seen == sizes


@catches("""training/flops.py: the peak is that of one device
- None if peak is None else peak * distributed.world_size())
+ peak)""")
def test_the_peak_is_that_of_all_devices_and_the_cost_that_of_one_example(monkeypatch):
    one = trainer()
    monkeypatch.setattr(flops, "peak_of", lambda trainer: 10.0)
    monkeypatch.setattr(distributed, "world_size", lambda: 3)
    matrices = 2 * (6 + 36 + 6)  # forward; backward also to the weights, and to the inputs of the last two layers
    assert flops.effort_of(one) == Effort(matrices * 2 + 2 * (36 + 6), 30.0)


@catches("""training/progress.py: the time left is the time of the whole run
- left = seconds * (1 - done) / done if
+ left = seconds / done if""")
def test_a_line_of_progress_states_the_time_left_the_rate_and_the_loss():
    one = trainer(Budget(steps=40))
    one.state = State(step=10, seconds=120.0, loss=1.25)
    line = ProgressLine(8, "images")
    line._rate, line.effort, line.measured = 1500.0, Effort(2e6), "3.2 bits/dim"
    assert line._text(one) == "6:00 left  1,500 images/s (3 GFLOP/s)  loss 1.2500  3.2 bits/dim"


@catches("""training/progress.py: the rate of training is that since the machine was started
- max(0, images - before[1]) / (now - before[0])
+ max(0, images - before[1]) / now""")
@catches("""training/progress.py: the rate of training in a terminal jumps
- 0.8 * self._rate + 0.2 * rate if
+ 0.2 * self._rate + 0.8 * rate if""")
@catches("""training/progress.py: the bar has one column for a percent
- full = round(BAR * done)
+ full = round(100 * done)""")
@pytest.mark.parametrize("live", [False, True])
def test_a_line_of_progress_has_the_rate_since_the_line_before_and_a_terminal_a_smooth_one(monkeypatch, live):
    one, now, shown = trainer(Budget(steps=40)), [100.0], []
    monkeypatch.setattr(progress, "time", SimpleNamespace(monotonic=lambda: now[0]))
    monkeypatch.setattr(progress, "tell", lambda words: None)
    line = ProgressLine(8, "images")
    status = SimpleNamespace(due=True, live=live, show=shown.append)
    monkeypatch.setattr(line, "_status", status)
    for step, seconds in ((2, 1.0), (4, 2.0), (10, 4.0)):
        one.state, now[0] = State(step=step, seconds=seconds), 100.0 + seconds
        line.update(one)
    bars = ["█" * full + "░" * (20 - full) + " " if live else "" for full in (2, 5)]
    rates = [16, 18 if live else 24]  # 0.8 * 16 + 0.2 * 24
    assert shown == [
        f"{bars[0]} 10%  0:18 left  {rates[0]} images/s",
        f"{bars[1]} 25%  0:12 left  {rates[1]} images/s",
    ]
    status.due = False
    line.update(one)
    assert len(shown) == 2


@catches("""training/progress.py: the time of a budget is that of the steps done
- {minutes(state.seconds * steps / state.step)} on
+ {minutes(state.seconds)} on""")
def test_the_time_of_a_budget_of_steps_is_told(monkeypatch):
    said, one = [], trainer(Budget(steps=40))
    monkeypatch.setattr(progress, "tell", said.append)
    one.state = State(step=10, seconds=120.0)
    ProgressLine(8, "images")._tell_time(one)
    one.budget = Budget(minutes=3)
    ProgressLine(8, "images")._tell_time(one)
    assert said == ["40 steps take about 8:00 on this machine"]


@catches("""training/state.py: the running mean of the loss forgets ten times faster
- LOSS_MEMORY = 0.02
+ LOSS_MEMORY = 0.2""")
def test_the_running_mean_of_the_loss_moves_by_a_fiftieth():
    state = State()
    for step, loss in enumerate([10.0, 60.0]):
        state.note(step, False, loss)
    assert state.loss == pytest.approx(11.0)


@catches("""training/loop.py: a run is saved every minute whatever was asked
- time.monotonic() - saved_at > self.save_seconds)
+ time.monotonic() - saved_at > 60.0)""")
@catches("""training/loop.py: a mark that was measured is measured again
- self.state.marks = passed
+ pass""")
@pytest.mark.parametrize(("seconds", "saves"), [(-1.0, [1, 2, 3, 4]), (3600.0, [2, 4])])
def test_a_run_is_saved_at_marks_and_as_often_as_asked(seconds, saves):
    one, saved, marked = trainer(Budget(steps=4)), [], []
    one.save_seconds = seconds
    assert one.run(
        [0.5, 1.0],
        lambda trainer: marked.append(trainer.state.step),
        lambda trainer: None,
        lambda trainer: saved.append(trainer.state.step),
    )
    assert marked == [2, 4]
    assert saved == saves
    assert one.state.marks == 2


@catches("""training/loop.py: after the first save every step is saved
-                     saved_at = time.monotonic()
-                 if outcome.stop:
+                 if outcome.stop:""")
def test_the_time_to_the_next_save_counts_from_the_last_one(monkeypatch):
    one, now, saved = trainer(Budget(steps=12)), [0.0], []
    monkeypatch.setattr(loop, "time", SimpleNamespace(monotonic=lambda: now[0]))
    one.save_seconds = 2.5

    def on_step(trainer):
        now[0] += 1.0

    one.run([], lambda trainer: None, on_step, lambda trainer: saved.append(trainer.state.step))
    assert saved == [4, 8, 12]


@catches("""distributed.py: a failure is told of another process
- raise PeerFailed(f"rank {number} of the job
+ raise PeerFailed(f"rank {rank()} of the job""")
@catches("""distributed.py: a process that failed tells the others nothing
- words = all_gather_bytes(b"" if failure is None else f"{type(failure).__name__}: {failure}".encode())
+ words = all_gather_bytes(b"")""")
@catches("""distributed.py: every process does the work of the first
- result, failure = _tried(action) if is_rank0() else (None, None)
+ result, failure = _tried(action)""")
def test_a_failure_of_rank_0_is_raised_there_and_told_to_the_others(monkeypatch):
    sent, did = [], []

    def gather(content):
        sent.append(content)
        return [b"ValueError: no room", b"", b""]

    def action():
        did.append(distributed.rank())
        raise ValueError("no room")

    monkeypatch.setattr(distributed, "world_size", lambda: 3)
    monkeypatch.setattr(distributed, "all_gather_bytes", gather)
    for rank, kind, words in ((0, ValueError, "^no room$"), (2, PeerFailed, r"^rank 0 .*\(ValueError: no room\)$")):
        monkeypatch.setattr(distributed, "rank", lambda rank=rank: rank)
        with pytest.raises((ValueError, PeerFailed), match=words) as raised:
            distributed.on_rank0(action)
        assert raised.type is kind
    assert sent == [b"ValueError: no room", b""]
    assert did == [0]


@catches("""distributed.py: parts belong to ranks in blocks
- return number % world_size() == rank()
+ return number // world_size() == rank()""")
def test_ranks_take_turns(monkeypatch):
    monkeypatch.setattr(distributed, "world_size", lambda: 3)
    monkeypatch.setattr(distributed, "rank", lambda: 1)
    assert [number for number in range(9) if distributed.owned_by_rank(number)] == [1, 4, 7]


@catches("""training/loop.py: the last checks of a GPU are never read
- if self.progress >= 1:
-                     self.settle()
+ if self.progress >= 1:""")
def test_checks_that_are_left_on_the_device_are_read_at_the_end():
    one, plain = trainer(), trainer()
    one._deferred = DeferredCheck(1e9)
    for each in (one, plain):
        each.run([], lambda trainer: None, lambda trainer: None)
    assert one._deferred._pending == []
    assert one.state.loss == plain.state.loss


@catches("""training/loop.py: the time of a mark is taken for that of a step
- self.state.marks = passed
-                     self._resume_clock()
+ self.state.marks = passed""")
def test_the_time_of_a_mark_counts_toward_the_budget_and_not_toward_the_pace():
    one, now = trainer(Budget(minutes=1)), [0.0]
    one.clock = Clock(one.state.readings, now=lambda: now[0])
    at_mark = []

    def on_step(trainer):
        now[0] += 1.0

    def on_mark(trainer):
        now[0] += 30.0
        at_mark.append(trainer.state.step)

    one.run([0.2], on_mark, on_step)
    assert 12 <= at_mark[0] <= 14
    assert max(reading.pace for reading in one.clock.readings) <= 1.0
    assert 60 <= one.state.step + 30 <= 63  # a step takes a second


@catches("""training/state.py: the examples of the last step are not counted
- return self.step * batch
+ return (self.step - 1) * batch""")
@catches("""training/settings.py: one minute is two
- {'' if self.minutes == 1 else 's'}
+ s""")
def test_examples_and_budgets_are_said_in_numbers():
    assert State(step=3).images(8) == 24
    assert [str(Budget(minutes=1)), str(Budget(minutes=2.5)), str(Budget(steps=1))] == [
        "1 minute", "2.5 minutes", "1 step",
    ]  # fmt: skip


# Several processes


@pytest.fixture
def job(monkeypatch):
    """Rank 1 of a job of three, whose other ranks send what is put in the two lists."""
    others, contents = [], []

    def all_reduce(tensor):
        assert tensor.dtype == torch.float64
        for other in others.pop(0):
            tensor += torch.tensor(other, dtype=torch.float64)

    def all_gather(gathered, padded):
        for part, content in zip(gathered, contents, strict=True):
            part.copy_(padded if content is None else torch.tensor([*content, *[0] * (len(part) - len(content))]))

    fakes = {"is_initialized": lambda: True, "get_rank": lambda: 1, "get_world_size": lambda: 3}
    for name, fake in {
        **fakes,
        "get_backend": lambda: "gloo",
        "all_reduce": all_reduce,
        "all_gather": all_gather,
    }.items():
        monkeypatch.setattr(distributed.dist, name, fake)
    return others, contents


def test_ranks_add_numbers_and_exchange_bytes_of_any_length(job):
    others, contents = job
    assert (distributed.rank(), distributed.world_size(), distributed.is_rank0()) == (1, 3, False)
    others.append([[1.0, 0.5], [10.0, 0.25]])
    assert distributed.all_reduce_sum([100.0, 4.0]) == [111.0, 4.75]
    for own, first, last in ((b"ab", b"", b"wxyz"), (b"", b"", b""), (b"abc", b"\x00\xff", b"")):
        others.append([[len(first), 0, 0], [0, 0, len(last)]])
        contents[:] = [first, None, last]
        assert distributed.all_gather_bytes(own) == [first, own, last]
    others.append([[0.0], [0.0]])
    distributed.barrier()
    assert others == []


def test_a_process_alone_exchanges_nothing_and_does_the_work_itself():
    assert (distributed.rank(), distributed.world_size(), distributed.is_rank0()) == (0, 1, True)
    assert distributed.all_reduce_sum([1.5, 2.0]) == distributed.broadcast([1.5, 2.0]) == [1.5, 2.0]
    assert distributed.all_gather_bytes(b"ab") == [b"ab"]
    assert distributed.on_rank0(lambda: 7) == 7
    assert all(distributed.owned_by_rank(number) for number in range(3))


@pytest.mark.parametrize(("rank", "result"), [(0, 7), (1, None)])
def test_the_result_of_rank_0_is_its_own_alone(monkeypatch, rank, result):
    monkeypatch.setattr(distributed, "world_size", lambda: 2)
    monkeypatch.setattr(distributed, "rank", lambda: rank)
    monkeypatch.setattr(distributed, "all_gather_bytes", lambda content: [content, b""])
    assert distributed.on_rank0(lambda: 7) == result


@pytest.mark.parametrize("sent", [None, Reading(7, 3.5, 0.25)])
def test_every_rank_takes_the_reading_of_rank_0(monkeypatch, sent):
    given = []
    monkeypatch.setattr(distributed, "broadcast", lambda values: given.append(values) or [9.0, 4.5, 0.125])
    found = agree_on_reading(sent)
    assert given == [[0.0, 0.0, 0.0] if sent is None else [7.0, 3.5, 0.25]]
    assert found == Reading(9, 4.5, 0.125)
    assert isinstance(found.step, int)


def test_micro_batches_are_divided_among_ranks_and_only_the_last_sends_gradients(monkeypatch):
    alone = Engine(3)
    module = nn.Linear(1, 1)
    assert list(alone.micro_batches) == [0, 1, 2]
    assert alone.wrap(module) is module
    with alone.backward(module, last=False), alone.backward(module, last=True):
        pass
    monkeypatch.setattr(distributed, "world_size", lambda: 2)
    monkeypatch.setattr(distributed, "rank", lambda: 1)
    assert list(Engine(4).micro_batches) == [2, 3]
    for number, groups, processes in ((5, 4, 1), (7, 8, 1), (1, 2, 1)):
        with pytest.raises(kk.InputError) as refused:
            Engine(number)
        assert str(refused.value) == (
            f"2 processes cannot divide {number} micro-batches: expected a multiple of 2; start a run with "
            f"--optim.groups {groups}, or resume with {processes} processes"
        )
    monkeypatch.setattr(distributed, "world_size", lambda: 4)
    with pytest.raises(kk.InputError, match=r"--optim.groups 8, or resume with 3 processes"):
        Engine(6)
    seen = []

    class Parallel(nn.Module):
        def __init__(self, objective, **how):
            super().__init__()
            seen.append((objective, how))

        def no_sync(self):
            return "no all-reduce"

    monkeypatch.setattr(engine, "DistributedDataParallel", Parallel)
    job = Engine(4)
    wrapped = job.wrap(module)
    assert seen == [(module, {"forward_sync_buffers": False, "gradient_as_bucket_view": True})]
    assert job.backward(wrapped, last=False) == "no all-reduce"
    assert job.backward(wrapped, last=True) != "no all-reduce"


@pytest.mark.parametrize(
    ("words", "world", "signal", "kind"),
    [
        ("gloo: Connection closed by peer [::1]", 2, 0, PeerFailed),
        ("gloo: Connection reset by peer", 2, 0, PeerFailed),
        ("write: Broken pipe", 2, 0, PeerFailed),
        ("gloo: Connection closed by peer", 2, 15, Stopped),
        ("a fault of ours", 2, 0, RuntimeError),
        ("a fault of ours", 1, 15, RuntimeError),
    ],
)
def test_a_lost_process_is_named_unless_all_were_asked_to_stop(monkeypatch, words, world, signal, kind):
    monkeypatch.setattr(distributed, "world_size", lambda: world)
    monkeypatch.setattr(Received, "number", signal)
    with pytest.raises((PeerFailed, Stopped, RuntimeError)) as raised, engine.losses_named():
        raise RuntimeError(words)
    assert raised.type is kind
    if kind is Stopped:
        assert raised.value.number == 15
    if kind is PeerFailed:
        assert str(raised.value) == "another process of the job has died; resume from the last checkpoint"


@pytest.mark.parametrize(("device", "backend"), [("cpu", "gloo"), ("cuda", "nccl")])
@pytest.mark.parametrize("restarted", [False, True])
def test_a_job_has_a_process_group_for_its_device_and_a_store_for_each_attempt(monkeypatch, device, backend, restarted):
    did = []
    monkeypatch.setattr(torch.cuda, "set_device", lambda device: did.append(device.type))
    monkeypatch.setattr(engine.dist, "init_process_group", lambda *given, **named: did.append((given, named)))
    monkeypatch.setattr(engine.dist, "destroy_process_group", lambda: did.append("left"))
    monkeypatch.setattr(engine.dist, "TCPStore", lambda *given, **named: (given, named))
    monkeypatch.setattr(engine.dist, "PrefixStore", lambda prefix, store: (prefix, store))
    monkeypatch.setenv("WORLD_SIZE", "1")
    with engine.process_group(torch.device(device)):
        assert did == []
    wait = timedelta(minutes=30)
    variables = {
        "WORLD_SIZE": "2",
        "RANK": "1",
        "MASTER_ADDR": "here",
        "MASTER_PORT": "29",
        "TORCHELASTIC_RESTART_COUNT": "3",
    }
    for name, value in {**variables, "TORCHELASTIC_USE_AGENT_STORE": str(restarted)}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ZeroDivisionError), engine.process_group(torch.device(device)):
        did.append(1 / 0)
    store = ("attempt 3", (("here", 29, 2), {"is_master": False, "timeout": wait}))
    more = {"store": store, "rank": 1, "world_size": 2} if restarted else {}
    joined = ((backend,), {**more, "timeout": wait})
    assert did == [*(["cuda"] if device == "cuda" else []), joined, "left"]


# Checks, lines and settings


def test_checks_are_full_after_32_steps_and_keep_the_loss_of_each():
    check = DeferredCheck(1e9)
    for step in range(32):
        assert not check.is_full
        check.add(step, torch.tensor(float(step)), torch.tensor(1.0))
    assert check.is_full
    assert check.read() == [(step, False, float(step)) for step in range(32)]
    assert not check.is_full


def test_a_run_is_in_training_mode_and_without_gradients_there_is_no_norm():
    one, modes = trainer(Budget(steps=2)), []
    one.module.eval()
    honest = one.loss
    one.loss = lambda indices, randomness: modes.append(one.module.training) or honest(indices, randomness)
    one.run([], lambda trainer: None, lambda trainer: None)
    assert modes == [True, True]
    assert one.norm().item() == 0
    one.module.last.bias.grad, one.module.first.bias.grad = torch.tensor([3.0]), torch.full((6,), 4.0)
    assert one.norm().item() == pytest.approx((9 + 6 * 16) ** 0.5)


def test_a_budget_is_one_positive_number_of_steps_or_minutes():
    assert Budget(steps=8).progress(2, 1e9) == 0.25
    assert Budget(minutes=2.0).progress(10**9, 30.0) == 0.25
    assert Budget(minutes=2.0).progress(0, 240.0) == 2.0
    either = "a budget is either minutes or steps, got minutes="
    for given, words in (
        ({}, f"{either}None, steps=None"),
        ({"minutes": 1.0, "steps": 2}, f"{either}1.0, steps=2"),
        ({"minutes": 0.0}, "a budget must be positive, got 0 minutes; e.g. --minutes 3"),
        ({"steps": 0}, "a budget must be positive, got 0 steps; e.g. --minutes 3"),
    ):
        with pytest.raises(kk.InputError) as refused:
            Budget(**given)
        assert str(refused.value).startswith(words)
    with pytest.raises(kk.InputError, match=r"optim.groups must divide the batch of 8, got 3"):
        Optim(batch=8, groups=3)
    assert [Optim(batch=8, groups=groups).num_groups for groups in (None, 1, 4)] == [1, 1, 4]


@pytest.mark.parametrize(
    ("step", "steps", "shown"),
    [
        (1, 1, "100%  0:00 left  8 images/s"),
        (5, 4, "100%  0:00 left  40 images/s"),  # a resumed run may have more steps than its new budget
        (3, 4, " 75%  0:01 left  24 images/s"),
    ],
)
def test_a_line_of_progress_ends_at_a_hundred_percent_and_one_step_is_one(monkeypatch, step, steps, shown):
    one, now, lines, said = trainer(Budget(steps=steps)), [0.0], [], []
    monkeypatch.setattr(progress, "time", SimpleNamespace(monotonic=lambda: now[0]))
    monkeypatch.setattr(progress, "tell", said.append)
    line = ProgressLine(8, "images")
    monkeypatch.setattr(line, "_status", SimpleNamespace(due=True, live=False, show=lines.append))
    line.update(one)
    line.update(one)  # no time has passed
    assert lines == said == []
    one.state, now[0] = State(step=step, seconds=3.0), 1.0
    line.update(one)
    now[0] = 2.0
    one.state.step -= 1  # a run may go back
    line.update(one)
    assert lines[0] == shown
    assert lines[1].endswith("left  0 images/s")
    each = {1: 3.0, 5: 2.4, 3: 4.0}[step]
    assert said[0] == f"{steps} step{'s take' if steps > 1 else ' takes'} about 0:0{each:.0f} on this machine"
