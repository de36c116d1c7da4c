"""Examples are split over threads without a change of their order, their gradients' mode or their errors."""

import os
import subprocess
import sys
import threading

import pytest
import torch

from harness.faults import catches
from kakusan.parallel import by_rows


@pytest.fixture
def two_cores():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@catches("""parallel.py: parts in another order
- return [future.result() for future in futures]
+ return [future.result() for future in futures[::-1]]""")
def test_rows_keep_their_order_and_none_stays_none(two_cores):
    x = torch.arange(1001.0)
    other = list(range(1001))

    def compute(x, nothing, other):
        assert nothing is None
        return x * 2 + torch.tensor(other)

    assert torch.equal(by_rows(compute, x, None, other), 3 * x)


@catches("""parallel.py: threads that share the cores of every operation
- initargs=(1,))
+ initargs=(2,))""")
def test_each_part_has_a_thread_with_one_core(two_cores):
    meeting = threading.Barrier(2, timeout=60)

    def compute(x):
        meeting.wait()  # two parts at the same time, or an error after a minute
        return torch.full_like(x, torch.get_num_threads())

    assert by_rows(compute, torch.zeros(10)).tolist() == [1.0] * 10
    assert torch.get_num_threads() == 2


@catches("""parallel.py: gradients are recorded in spite of no_grad
- with torch.set_grad_enabled(grad):
+ with torch.set_grad_enabled(True):""")
def test_parts_record_gradients_only_where_the_caller_does(two_cores):
    recorded = []

    def compute(x):
        recorded.append(torch.is_grad_enabled())
        return x * weight

    weight = torch.ones(1, requires_grad=True)
    assert by_rows(compute, torch.ones(10)).requires_grad
    with torch.no_grad():
        by_rows(compute, torch.ones(10))
    assert recorded == [True, True, False, False]


def test_an_error_in_a_part_reaches_the_caller_and_the_threads_still_work(two_cores):
    with pytest.raises(ZeroDivisionError):
        by_rows(lambda x: 1 / 0, torch.ones(10))
    assert by_rows(lambda x: x, torch.ones(10)).sum() == 10
    assert torch.get_num_threads() == 2


def test_a_part_that_is_split_again_is_computed_at_once(two_cores):
    seen = []

    def inner(x):
        seen.append(len(x))
        return x

    assert by_rows(lambda x: by_rows(inner, x, size=2), torch.ones(8)).sum() == 8
    assert seen == [4, 4]


FORKED = """
import os, torch
from kakusan.parallel import by_rows
torch.set_num_threads(2)
assert by_rows(lambda x: x + 1, torch.zeros(4)).sum() == 4
child = os.fork()
if not child:
    os._exit(0 if by_rows(lambda x: x + 1, torch.zeros(4)).sum() == 4 else 1)
assert os.waitpid(child, 0)[1] == 0
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_fork_has_threads_of_its_own():
    subprocess.run([sys.executable, "-W", "ignore", "-c", FORKED], check=True, timeout=120)
