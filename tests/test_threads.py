"""Groups of a batch on threads of one process: side by side in time, and to the bits of one after the other."""

import threading
import time
from contextlib import suppress
from dataclasses import replace

import pytest
import torch

from harness import engine_job
from harness.faults import catches
from kakusan.recipes import find
from kakusan.run.build import build, training_loss
from kakusan.run.train import with_groups
from kakusan.training import checkpoint
from kakusan.training.loop import Trainer
from kakusan.training.settings import Budget, Optim
from kakusan.training.threads import MicroBatchThreads

LIMIT_S = 30.0  # for a thread that waits for another one


@pytest.fixture
def cores():
    """Torch's number of threads, to be set; afterwards it is what it was."""
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


def digits(threads, **changes):
    """The default network on pictures of noise, a trainer made with so many threads."""
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    config = find("mnist-ddpm").model
    pictures = torch.randint(0, 256, (64, 1, 28, 28), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    module = build(config, (1, 28, 28))
    settings = Optim(**{"batch": 8, "groups": 2, "clip": None, **changes})
    loss = training_loss(module, config, pictures)
    return Trainer(module, loss, len(pictures), settings, Budget(steps=10), 0, engine_job.CPU)


def gradients(one, step=0):
    loss = one.gradients(step)
    found = [None if p.grad is None else p.grad.clone() for p in one._parameters]
    one.optimizers.clear()
    return loss, found


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_two_threads_give_the_bits_of_one_that_computes_the_micro_batches_one_by_one(cores, precision):
    beside, in_turn = (digits(threads, precision=precision) for threads in (2, 1))
    assert beside._threads is not None
    assert in_turn._threads is None
    for step in range(3):  # the first one is taken in turn by both
        torch.set_num_threads(2)
        ours = gradients(beside, step)
        torch.set_num_threads(1)
        theirs = gradients(in_turn, step)
        assert torch.equal(ours[0], theirs[0])
        assert all(torch.equal(a, b) for a, b in zip(ours[1], theirs[1], strict=True))


@catches("""training/threads.py: gradients of threads lie in memory as they come
- torch.empty_like(p).copy_(gradient)
+ gradient.contiguous().clone()""")
def test_gradients_lie_in_memory_as_their_weights_do_for_the_fused_optimiser_walks_both_as_one(cores):
    one = digits(2)
    one.gradients(0)
    assert any(not p.is_contiguous() for p in one._parameters)  # channels last
    for p in one._parameters:
        assert p.grad.is_contiguous(memory_format=torch.channels_last if p.dim() == 4 else torch.contiguous_format)
        assert p.grad.stride() == torch.empty_like(p).stride()


def test_a_stopped_run_on_threads_ends_with_the_bits_of_an_unbroken_one(tmp_path, cores):
    cores(2)
    whole = engine_job.run(engine_job.trainer())
    broken = engine_job.run(engine_job.trainer(), stop_at=5)
    checkpoint.save(broken, tmp_path)
    resumed = engine_job.trainer()
    assert resumed._threads is not None
    checkpoint.restore(resumed, tmp_path)
    engine_job.run(resumed)
    assert engine_job.everything(resumed) == engine_job.everything(whole)


@catches("""training/threads.py: micro-batches are computed one by one for ever
- if self._parallel:
+ if False:""")
def test_groups_are_taken_at_the_same_time(cores):
    cores(2)
    weight = torch.nn.Parameter(torch.ones(()))
    pool, meeting = MicroBatchThreads(2, [weight], []), threading.Barrier(2)
    pool.gradients([lambda: weight.square()] * 2)

    met = []

    def meet():
        with suppress(threading.BrokenBarrierError):
            meeting.wait(LIMIT_S)
            met.append(1)
        return weight.square()

    weight.grad = None
    assert pool.gradients([meet, meet]) == [1, 1]
    assert len(met) == 2
    assert weight.grad == 4


@catches("""training/threads.py: each thread takes all cores [4-2-2]
- share = max(1, before // num)
+ share = before""")
@catches("""training/threads.py: the pool leaves its number of cores to threads that come later [4-2-2]
-         torch.set_num_threads(before)  # the default
+         pass  # the default""")
@pytest.mark.parametrize(("threads", "num", "share"), [(2, 2, 1), (4, 2, 2), (5, 2, 2), (2, 3, 1)])
def test_the_threads_divide_the_cores_and_keep_the_number_of_the_process(cores, threads, num, share):
    cores(threads)
    weight, seen = torch.nn.Parameter(torch.ones(())), []
    pool, meeting = MicroBatchThreads(num, [weight], []), threading.Barrier(num)

    def ask():
        if pool._parallel is not None:
            meeting.wait(LIMIT_S)  # each on a thread of its own
            seen.append(torch.get_num_threads())
        return weight.square()

    pool.gradients([ask])
    pool.gradients([ask] * num)
    assert seen == [share] * num
    assert torch.get_num_threads() == threads
    later: list[int] = []
    thread = threading.Thread(target=lambda: later.append(torch.get_num_threads()))
    thread.start()
    thread.join()
    assert later == [threads]


def test_a_group_that_is_alone_is_not_on_a_lane(cores):
    one = digits(2, groups=1)
    assert one.num_parallel == 1
    assert one._threads is None


@catches("""training/threads.py: statistics are changed by two threads at once
- self._parallel = all(map(torch.equal, before, self._buffers))
+ self._parallel = True""")
def test_a_loss_that_moves_buffers_is_never_taken_side_by_side(cores):
    seen = []
    for threads in (1, 2):
        cores(threads)
        torch.manual_seed(0)
        module = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4), torch.nn.Linear(4, 1))
        x = torch.randn(64, 3, generator=torch.Generator().manual_seed(1))
        busy = threading.Lock()

        def loss(indices, randomness, module=module, x=x, busy=busy):
            assert busy.acquire(blocking=False), "two at once"
            try:
                time.sleep(0.1)  # long enough for another thread to come, in one step of six at least
                return module(x[indices]).square().squeeze(1)
            finally:
                busy.release()

        one = Trainer(module, loss, 64, Optim(batch=16, groups=2), Budget(steps=6), 0, engine_job.CPU)
        engine_job.run(one)
        assert (one._threads is None) == (threads == 1)
        seen.append([value.clone() for value in module.state_dict().values()])
    # float32 sums in another order, over six small steps
    assert all(torch.allclose(a, b, rtol=1e-5, atol=1e-6) for a, b in zip(*seen, strict=True))


def test_the_first_group_that_fails_says_why_when_all_have_ended_and_leaves_no_gradient(cores):
    cores(2)
    weight, ended = torch.nn.Parameter(torch.ones(())), threading.Event()
    pool = MicroBatchThreads(2, [weight], [])
    pool.gradients([lambda: weight.square()])
    weight.grad = None

    def late():
        ended.wait(0.05)
        ended.set()
        return weight.square()

    def fail():
        raise ValueError("no loss")

    with pytest.raises(ValueError, match="no loss"):
        pool.gradients([fail, late])
    assert ended.is_set()
    assert weight.grad is None


@catches("""training/threads.py: micro-batches that were not started are computed after an interruption
- future.cancel()
+ pass""")
def test_an_interruption_leaves_out_the_groups_that_were_not_begun(cores):
    cores(2)
    weight, begun, stop = torch.nn.Parameter(torch.ones(())), [], threading.Event()
    pool = MicroBatchThreads(2, [weight], [])
    pool.gradients([lambda: weight.square()])

    def interrupt():
        raise KeyboardInterrupt

    def group():
        begun.append(1)
        stop.wait(0.2)
        return weight.square()

    with pytest.raises(KeyboardInterrupt):
        pool.gradients([interrupt, *[group] * 40])
    assert len(begun) < 20  # of 40 that would take 4 seconds; 2 or 3 as a rule


def test_threads_that_cannot_all_be_started_wait_for_nobody(cores, monkeypatch):
    cores(2)
    start, started = threading.Thread.start, []

    def first_alone(self):
        if started:
            raise RuntimeError("can't start new thread")
        started.append(self)
        start(self)

    monkeypatch.setattr(threading.Thread, "start", first_alone)
    with pytest.raises(RuntimeError, match="can't start new thread"):
        MicroBatchThreads(2, [], [])
    monkeypatch.undo()
    started[0].join(LIMIT_S)
    assert not started[0].is_alive()


@catches("""training/threads.py: only the last thread's gradients remain
- if p.grad is None else p.grad.add_(gradient)""")
def test_what_no_loss_reads_gets_no_gradient_and_what_one_reads_gets_its_own(cores):
    cores(2)
    first, second, unread = (torch.nn.Parameter(torch.tensor(value)) for value in (2.0, 3.0, 5.0))
    pool = MicroBatchThreads(2, [first, second, unread], [])
    for _ in range(2):  # in turn, and side by side
        first.grad = second.grad = None
        losses = pool.gradients([lambda: first * second, lambda: second.square()])
        assert [loss.item() for loss in losses] == [6, 9]
        assert (first.grad, second.grad, unread.grad) == (3, 2 + 6, None)


@catches("""run/train.py: one core has two threads [1-mnist-ddpm-changes3-60000-1]
-  and torch.get_num_threads() >= PARALLEL""")
@catches('''training/threads.py: compiled networks run in parallel [2-mnist-ddpm-changes5-60000-1]
-  and settings.compile == "none"''')
@pytest.mark.parametrize(
    ("threads", "recipe", "changes", "examples", "groups"),
    [
        (2, "mnist-ddpm", {"precision": "bfloat16"}, 60_000, 2),
        (2, "mnist-ddpm", {}, 60_000, 2),
        (8, "mnist-ddpm", {}, 60_000, 2),
        (1, "mnist-ddpm", {}, 60_000, 1),
        (2, "mnist-ddpm", {"batch": 25}, 60_000, 1),
        (2, "mnist-ddpm", {"compile": "default"}, 60_000, 1),
        (2, "mnist-ddpm", {"groups": 1}, 60_000, 1),
        (2, "mnist-ddpm", {"groups": 4}, 60_000, 4),
        (2, "mnist-ddpm", {}, 1, 1),
        (2, "mnist-vae", {}, 60_000, 1),
    ],
)
def test_a_diffusion_model_has_two_groups_on_several_cores_unless_told(
    cores, threads, recipe, changes, examples, groups
):
    cores(threads)
    given = find(recipe)
    settled = with_groups(replace(given, optim=replace(given.optim, **changes)), engine_job.CPU, examples)
    assert settled.optim == replace(given.optim, **{**changes, "groups": groups})
    assert with_groups(given, torch.device("cuda"), examples).optim.groups == 1
