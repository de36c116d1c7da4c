"""Sealed lines: no bit of a file can be another without its line being named."""

import json
import warnings

import pytest

from harness.faults import catches
from kakusan.errors import DamageWarning
from kakusan.run.directory import RunDirectory
from kakusan.storage import seals

pytestmark = pytest.mark.reliability

READINGS = [{"step": n, "seconds": n * 0.1, "pace": 0.1 / (n + 1)} for n in range(1, 7)]


@pytest.fixture
def run(tmp_path):
    run = RunDirectory(tmp_path)
    run.set_clock(READINGS[:2])
    for reading in READINGS[2:]:
        run.append_clock(reading)
    return run


def lines_of(run):
    return (run.path / "clock.jsonl").read_bytes().splitlines(keepends=True)


def damaged(run, lines):
    """The number of readings that are left, of a file with these lines, and the number of the line that is named."""
    (run.path / "clock.jsonl").write_bytes(b"".join(lines))
    with pytest.warns(DamageWarning) as told:
        readings = run.clock()
    assert readings == READINGS[: len(readings)]
    return len(readings), int(str(told[0].message).split()[1])


def test_what_was_written_comes_back(run):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert run.clock() == READINGS
        assert RunDirectory(run.path).clock() == READINGS


def test_every_flipped_bit_is_noticed_and_only_what_stands_before_it_is_used(run):
    whole = lines_of(run)
    for number, line in enumerate(whole):
        for place in range(len(line) - 1):
            for bit in range(8):
                other = bytearray(line)
                other[place] ^= 1 << bit
                readings, damaged_line = seals.opened([*whole[:number], bytes(other), *whole[number + 1 :]])
                assert (readings, damaged_line) == (READINGS[:number], number + 1)


@pytest.mark.parametrize("line", [b"[]\n", b"1\n", b"null\n", b'"x"\n', b"{\n", b"[" * 100_000 + b"\n"], ids=len)
def test_a_line_that_is_no_record_is_named(run, line):
    assert damaged(run, [*lines_of(run), line]) == (6, 7)


@catches(
    "storage/seals.py",
    "hashlib.sha256(before.encode() + _line(record))",
    "hashlib.sha256(_line(record))",
    "a line of the clock seals itself alone",
    case="1",
)
@pytest.mark.parametrize("number", range(5))
def test_a_missing_line_a_doubled_one_and_two_in_the_other_order_are_noticed(run, number):
    whole = lines_of(run)
    assert damaged(run, whole[:number] + whole[number + 1 :]) == (number, number + 1)
    assert damaged(run, whole[: number + 1] + whole[number:]) == (number + 1, number + 2)
    other = [*whole[:number], whole[number + 1], whole[number], *whole[number + 2 :]]
    assert damaged(run, other) == (number, number + 1)


def test_a_last_line_that_a_crash_cut_short_is_no_damage(run):
    *whole, last = lines_of(run)
    (run.path / "clock.jsonl").write_bytes(b"".join(whole) + last[:-1])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert run.clock() == READINGS[:-1]


def test_a_file_of_a_version_that_sealed_nothing_is_taken_as_it_is(run):
    (run.path / "clock.jsonl").write_text("".join(json.dumps(one) + "\n" for one in READINGS))
    assert run.clock() == READINGS
    run.set_clock(run.clock())
    assert all(seals.SEAL.encode() in line for line in lines_of(run))
