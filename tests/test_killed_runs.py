"""Killed at any file operation, after any step, at any instant: the end is that of a run that nobody touched."""

import pytest

from harness import torture

pytestmark = [pytest.mark.reliability, pytest.mark.slow]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return torture.make_data(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module", params=torture.FAMILIES)
def unbroken(request, data, tmp_path_factory):
    """A family and the numbers of its unbroken run."""
    run = tmp_path_factory.mktemp("unbroken") / request.param
    return request.param, torture.killed_until_done("unbroken", request.param, data, run)[0]


@pytest.mark.parametrize(("way", "least"), [("operations", 40), ("steps", torture.STEPS)])
def test_a_killed_run_ends_with_the_same_weights_averages_and_moments(unbroken, data, tmp_path, way, least):
    family, numbers = unbroken
    found, kills = torture.killed_until_done(way, family, data, tmp_path / "run")
    assert found == numbers
    assert kills >= least  # the test did what it says


def test_so_does_one_that_is_killed_at_random_instants(unbroken, data, tmp_path):
    # no false alarm: wherever the kills fall, the numbers must be the same
    family, numbers = unbroken
    kills = 0
    for attempt in range(10):  # a run that ends early was killed less often than ten times: then another
        found, more = torture.killed_until_done("instants", family, data, tmp_path / str(attempt))
        assert found == numbers
        kills += more
        if kills >= torture.INSTANTS:
            return
    pytest.fail(f"only {kills} kills in 10 runs: the instants lie too late for this machine")
