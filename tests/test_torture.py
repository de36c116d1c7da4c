"""Killed at any file operation, after any step, at any instant: the end is that of a run that nobody touched."""

import pytest

import torture


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return torture.make_data(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module", params=torture.FAMILIES)
def unbroken(request, data, tmp_path_factory):
    """A family and the numbers of its unbroken run."""
    run = tmp_path_factory.mktemp("unbroken") / request.param
    return request.param, torture.killed_until_done("unbroken", request.param, data, run)[0]


@pytest.mark.parametrize(("way", "least"), [("operations", 40), ("steps", 12), ("instants", 5)])
def test_a_killed_run_ends_with_the_same_weights_averages_and_moments(unbroken, data, tmp_path, way, least):
    family, numbers = unbroken
    found, kills = torture.killed_until_done(way, family, data, tmp_path / "run")
    assert found == numbers
    assert kills >= least  # the test did what it says
    print(f"{family}: {kills} kills at {way}")
