"""Nobody can hurt you with a model file or a configuration: each is used as it says or refused in one line."""

import functools
import json
import os
import pickle
import re
import subprocess
import sys
from collections.abc import Callable

import pytest
import safetensors.torch
import torch

from harness import hostile
from harness.faults import catches
from kakusan import load
from kakusan.errors import InputError, printable, shown
from kakusan.run.build import blueprint, build
from kakusan.run.families import FAMILIES
from kakusan.run.families.diffusion import DiffusionConfig
from kakusan.run.families.vae import VAEConfig
from kakusan.run.recipe import Distil, from_record
from kakusan.settings import Between, hints
from kakusan.storage import records, tensors
from kakusan.training.settings import Optim

pytestmark = pytest.mark.reliability

TIMES = 10 if os.environ.get("KAKUSAN_TORTURE") else 1
needs_limits = pytest.mark.skipif(sys.platform != "linux", reason="the limit of address space works on Linux alone")


def child(*arguments: str) -> dict:
    """What tests/harness/hostile.py reports."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    command = [sys.executable, "-m", "harness.hostile", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=1800 * TIMES, env=environment, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout)


def check(seen: dict) -> None:
    """No failure, and no more than a second of processor time and 64 MB for any case."""
    assert seen["failures"] == []
    assert seen["slowest_seconds"] <= hostile.SECONDS
    assert seen["megabytes"] <= hostile.MEGABYTES


def refusal(read: Callable[[], object]) -> str:
    """The message of the InputError that it must end in; nothing else is a refusal."""
    try:
        read()
    except InputError as error:
        return str(error)
    except Exception as error:
        pytest.fail(f"{type(error).__name__}: {error}")
    pytest.fail("it was accepted")


@needs_limits
def test_no_attack_by_hand_gets_through_or_costs_a_second_or_64_megabytes():
    seen = child("attacks", "0", "0")
    check(seen)
    assert seen["refused"] == len(hostile.ATTACKS) >= 60


@pytest.mark.slow
@needs_limits
@pytest.mark.parametrize(("kind", "count"), [("files", 20_000), ("configurations", 10_000)])
def test_no_mutation_crashes_or_costs_a_second_or_64_megabytes(kind, count):
    seen = child(kind, "0", str(count * TIMES))
    check(seen)
    assert seen["refused"] + seen["loaded"] == count * TIMES
    # a mutator that changes nothing, or damages all beyond recognition, would try little
    assert seen["loaded"] > 0.02 * count
    assert seen["refused"] > 0.5 * count


@needs_limits
def test_the_child_notices_what_it_is_there_for():
    failures = child("planted", "0", "0")["failures"]
    for fault, words in {
        "slow": "processor time",
        "greedy": "MemoryError",
        "crash": "ZeroDivisionError",
        "unpickle": "pickle.find_class",
        "write": "open",
        "run": "os.system",
        "lines": "not one short line",
    }.items():
        assert any(line.startswith(fault) and words in line for line in failures), fault


@catches("""run/model_file.py: the hash of a file leaves out its record [another setting under the old hash]
- json.dumps([record, kinds,
+ json.dumps([kinds,""")
@catches("""run/model_file.py: any model may bring early weights [early weights of a model that has no use for them]
- facts.recipe.model.guided and any(
+ any(""")
@catches("""run/trained_model.py: samples that are no numbers become black pixels [weights as large as numbers go]
- if not all(part.isfinite().all() for part in parts):
+ if not parts:""")
@catches("""data/forms/images.py: pictures of two channels are accepted [an example of two channels]
- len(event_shape) == 3 and event_shape[0] in CHANNELS
+ len(event_shape) == 3""")
@catches("""settings.py: a pair of settings may have three entries [a focus of three numbers]
- return len(value) == len(parts) and all(
+ return all(""")
@pytest.mark.parametrize("name", hostile.ATTACKS)
def test_an_attack_is_refused_in_one_line(tmp_path, name):
    path = tmp_path / "model.safetensors"
    hostile.make(name, path)
    message = refusal(lambda: load(path, "cpu").sample(1))
    assert message.isprintable()
    assert len(message) < 1000
    # what torch or Python would have said is no answer
    assert not any(word in message for word in ("Traceback", "size mismatch", "Error("))


@catches("""storage/tensors.py: bytes behind the last tensor are ignored [a byte too many]
- if size != start + end:
+ if size < start + end:""")
@catches("""storage/tensors.py: bytes between two tensors are ignored [a gap before the first tensor]
- if entry.begin != end:
+ if entry.begin < end:""")
@catches("""storage/tensors.py: two tensors may share bytes [the same bytes twice]
- if entry.begin != end:
+ if entry.begin > end:""")
@catches("""storage/tensors.py: true is a size [a size that is true]
- type(value) is int and 0 <= value < 2**63
+ isinstance(value, int) and 0 <= value < 2**63""")
@catches("""storage/tensors.py: only the beginning of a tensor's name is looked at [a name with a line break]
- NAME.fullmatch(name)
+ NAME.match(name)""")
@catches("""storage/tensors.py: any number of dimensions is read [rank 9]
- if not _whole_numbers(shape) or len(shape) > MOST_DIMENSIONS:
+ if not _whole_numbers(shape):""")
@pytest.mark.parametrize("name", hostile.HEADERS)
def test_a_header_alone_shows_what_is_wrong_with_it(tmp_path, name):
    path = tmp_path / "model.safetensors"
    hostile.make(name, path)
    assert refusal(lambda: tensors.header(path)).isprintable()


@pytest.mark.parametrize("family", hostile.MODELS)
def test_the_file_that_the_attacks_are_made_from_is_accepted(tmp_path, family):
    path = tmp_path / "model.safetensors"
    path.write_bytes(hostile.together(*hostile.apart(hostile.honest(family))))
    model = load(path, "cpu")
    assert len(model.sample(2)) == 2
    path.write_bytes(hostile.with_record(family, lambda record: None))
    load(path, "cpu")
    path.write_bytes(hostile.with_tensors(family, lambda named: None))
    load(path, "cpu")


# The reader of tensors against the library that defined the format


@catches("""storage/tensors.py: the order of the metadata is random
- return _ordered(content) if len(metadata or ()) > 1 else content
+ return content""")
def test_a_file_is_a_function_of_its_content_and_the_library_reads_it(tmp_path):
    named, texts = {"a": torch.arange(3.0)}, {name: f"“{name}”\n\x1b\x7f\\" for name in "hgfedcba"}
    content = tensors.to_bytes(named, texts)
    assert all(tensors.to_bytes(named, texts) == content for _ in range(5))
    path = tmp_path / "x.safetensors"
    path.write_bytes(content)
    assert tensors.read(path)[1] == texts
    with safetensors.safe_open(path, "pt") as file:
        assert file.metadata() == texts
        assert torch.equal(file.get_tensor("a"), named["a"])


def test_what_the_library_writes_is_read_as_it_reads_it(tmp_path):
    generator = torch.Generator().manual_seed(0)
    named = {
        f"of.{dtype}": torch.randint(-9, 9, (3, 2), generator=generator).to(dtype) for dtype in tensors.DTYPES.values()
    }
    named |= {"empty": torch.zeros(0, 4), "scalar": torch.tensor(2.5), "deep": torch.zeros((1,) * 8)}
    path = tmp_path / "x.safetensors"
    safetensors.torch.save_file(named, path, {"note": "Überraschung"})
    found, metadata = tensors.read(path)
    theirs = safetensors.torch.load_file(path)
    assert metadata == {"note": "Überraschung"}
    assert found.keys() == theirs.keys()
    for name, tensor in theirs.items():
        assert found[name].dtype == tensor.dtype
        assert torch.equal(found[name], tensor), name


def test_what_we_write_is_read_by_the_library(tmp_path):
    strided = torch.arange(24.0).reshape(1, 2, 3, 4).contiguous(memory_format=torch.channels_last)
    named = {"a": strided, "b.c": torch.ones(3, dtype=torch.int64), "turned": torch.arange(6.0).reshape(2, 3).T}
    path = tmp_path / "x.safetensors"
    path.write_bytes(tensors.to_bytes(named, {"k": "v"}))
    theirs = safetensors.torch.load_file(path)
    assert all(torch.equal(theirs[name], tensor) for name, tensor in named.items())
    ours = tensors.read(path)
    assert ours[1] == {"k": "v"}
    assert all(torch.equal(ours[0][name], tensor) for name, tensor in named.items())


@catches("""storage/tensors.py: weights that are not finite are read [nan]
-     check_finite(tensors, path)
-""")
@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_a_number_that_is_not_finite_is_neither_written_nor_read(tmp_path, value):
    named = {"fine": torch.zeros(2), "broken.weight": torch.tensor([0.0, value])}
    with pytest.raises(InputError, match=r"broken\.weight"):
        tensors.to_bytes(named)
    safetensors.torch.save_file(named, tmp_path / "x.safetensors")
    with pytest.raises(InputError, match=r"broken\.weight"):
        tensors.read(tmp_path / "x.safetensors")


@catches("""storage/tensors.py: the digest of weights leaves out their names
-         total.update(name.encode())
-""")
def test_a_digest_tells_names_and_bytes_apart():
    one, two = torch.zeros(2), torch.ones(2)
    digests = [
        tensors.digest(named)
        for named in ({"a": one, "b": two}, {"a": two, "b": one}, {"a": one, "c": two}, {"a": one})
    ]
    assert len(set(digests)) == 4
    assert tensors.digest({"b": two, "a": one}) == digests[0]


# Configurations


def test_an_unknown_setting_names_the_nearest():
    record = {"family": "vae", "model": {"latnet": 3}, "optim": {}, "name": "n", "summary": "s"}
    with pytest.raises(InputError, match="did you mean 'latent'"):
        from_record(record)


NUMBERS = {
    f"{kind.__name__}.{name}": (kind, name)
    for kind in (*(family.config for family in FAMILIES.values()), Optim, Distil)
    for name, hint in hints(kind).items()
    if re.search(r"\b(int|float)\b", str(hint))
}


@catches("""settings.py: true is a number [Optim.lr]
- whole = isinstance(value, int) and not isinstance(value, bool)
+ whole = isinstance(value, int)""")
@catches("""run/families/diffusion.py: a number has no upper limit [DiffusionConfig.guidance]
- guidance: Annotated[float, Between(1, 100)] = 3.0
+ guidance: float = 3.0""")
@pytest.mark.parametrize("setting", NUMBERS)
def test_a_number_of_a_configuration_has_limits_and_takes_nothing_else(setting):
    kind, name = NUMBERS[setting]
    assert "from" in str(hints(kind)[name]) or "above" in str(hints(kind)[name]), "it has no limits"
    default = getattr(kind(), name)
    for value in (float("nan"), float("inf"), -1e300, 1e300, 10**400, "1", "x" * 1_000_000, [1], {}, True, 1j):
        values = tuple(value for _ in default or (0,)) if isinstance(default, tuple) else value
        with pytest.raises(InputError, match=name) as refused:
            kind(**{name: values})
        assert len(str(refused.value)) < 500


@catches("""settings.py: a limit always includes its upper end
- if self.ends[1] == "]" else value < self.high)
+ if self.ends[1] == "]" else value <= self.high)""")
@pytest.mark.parametrize(
    ("limit", "inside", "outside"),
    [
        (Between(1, 5), [1, 5, 3.5], [0, 6, 0.999, 5.001]),
        (Between(0, 1, "[)"), [0, 0.999], [1, -0.001]),
        (Between(0, 1, "(]"), [0.001, 1], [0, 1.001]),
        (Between(0, 1, "()"), [0.5], [0, 1]),
    ],
)
def test_a_limit_includes_the_ends_that_it_says(limit, inside, outside):
    assert all(map(limit.holds, inside))
    assert not any(map(limit.holds, outside))
    assert not limit.holds(float("nan"))


def test_a_model_that_is_too_large_is_refused_before_it_is_made():
    with pytest.raises(InputError, match="parameters, more than"):
        build(VAEConfig(hidden=(65_536,) * 32), (1, 28, 28))
    with pytest.raises(InputError, match="numbers"):
        build(VAEConfig(), (3, 100_000, 100_000))


@pytest.mark.parametrize("family", hostile.MODELS)
def test_the_blueprint_is_that_of_the_model_and_leaves_no_trace(family):
    config, shape = hostile.MODELS[family]
    before = torch.get_rng_state()
    blueprint.cache_clear()
    expected = blueprint(config, shape)
    assert torch.equal(before, torch.get_rng_state())
    state = build(config, shape).state_dict()
    assert expected == {name: (tuple(tensor.shape), tensor.dtype) for name, tensor in state.items()}
    assert all(tensor.device.type == "cpu" for tensor in state.values())


def test_the_schedule_of_a_blueprint_is_still_checked():
    with pytest.raises(InputError, match="log SNR"):
        blueprint(DiffusionConfig(focus=(-100.0, 0.01)), (1, 8, 8))


@catches("""nets/unet.py: channels that are normalised to nothing are accepted
- if inner_width // GROUPS * positions < 2:
+ if inner_width // GROUPS * positions < 1:""")
def test_a_width_that_leaves_one_number_to_normalise_is_refused():
    with pytest.raises(InputError, match="inner width"):
        build(DiffusionConfig(width=8, inner_width=8, blocks=1), (1, 4, 4))
    build(DiffusionConfig(width=8, inner_width=8, blocks=1), (1, 5, 4))


# Records and words


@catches("""storage/records.py: the last of two equal keys wins
- if name in table:
+ if not name:""")
@pytest.mark.parametrize(
    ("text", "words"),
    [
        (b'{"a":1,"a":2}', "'a' appears twice"),
        (b'{"a":NaN}', "NaN"),
        (b'{"a":-Infinity}', "Infinity"),
        (b'{"a":' + b"9" * 5000 + b"}", "digit"),
        (b"[" * 10_000, "nested"),
        (b"\xff", "UTF-8|utf-8|start byte"),
        (b"{", "not valid JSON"),
        (b" " * 70_000, "65,536"),
    ],
)
def test_json_from_outside_is_strict(text, words):
    with pytest.raises(InputError, match=words) as refused:
        records.parse(text, "it")
    assert str(refused.value).isprintable()


@catches("""errors.py: values from outside are shown at full length
- return _SHORT.repr(value)
+ return repr(value)""")
def test_values_are_shown_short_and_printable():
    for value in ("\x1b[2J" * 1000, "\ud800", {"a\n": ["\r"] * 1000}, 10**5000, b"\0" * 1000, [[[[[[[[1]]]]]]]]):
        assert shown(value).isprintable()
        assert len(shown(value)) < 400
    assert printable("Größe\x1b[2J\n\u202e") == "Größe\\x1b[2J\\n\\u202e"


def test_a_pickle_is_not_unpickled(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(pickle.dumps(hostile.Runs()))
    with pytest.raises(InputError):
        load("model.safetensors")
    assert not (tmp_path / "unpickled").exists()


def safetensors_bytes(table: object, data: int, length: int | None = None) -> bytes:
    """A file with this header and this many bytes of data; `length` replaces the length of the header."""
    text = json.dumps(table).encode()
    return (len(text) if length is None else length).to_bytes(8, "little") + text + bytes(data)


def one_tensor(**changes: object) -> dict[str, object]:
    return {"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8], **changes}}


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"1234567", "not a complete safetensors file; it has 7 bytes, and its header alone should have "),
        (safetensors_bytes({}, 0, 3), "not a complete safetensors file; it has 10 bytes, and its header alone"),
        (safetensors_bytes({}, 2**20, 2**20 + 1), "the header may have at most 1,048,576 bytes, got 1,048,577"),
        (safetensors_bytes([1], 0), "the header must be a table of tensors, got [1]"),
        (
            safetensors_bytes({"__metadata__": {"a": 1}}, 0),
            "the header's metadata must be a table of texts, got {'a': 1}",
        ),
        (
            safetensors_bytes({str(k): {} for k in range(20_001)}, 0),
            "a file may hold at most 20,000 tensors, got 20,001",
        ),
        (
            safetensors_bytes({"a": {"dtype": "F32"}}, 0),
            "a must have dtype, shape and data_offsets, got {'dtype': 'F32'}",
        ),
        (
            safetensors_bytes(one_tensor(dtype="F31"), 8),
            "the dtype of a must be one of F64, F32, F16, BF16, I64, I32, ",
        ),
        (safetensors_bytes(one_tensor(shape=[2.0]), 8), "the shape of a must be up to 8 sizes, got [2.0]"),
        (
            safetensors_bytes(one_tensor(shape=[1] * 9), 4),
            "the shape of a must be up to 8 sizes, got [1, 1, 1, 1, 1, 1,",
        ),
        (
            safetensors_bytes(one_tensor(data_offsets=[0, 4, 8]), 8),
            "the offsets of a must be two positions, got [0, 4, 8]",
        ),
        (safetensors_bytes(one_tensor(shape=[3]), 8), "a has 8 bytes, which do not fit F32 [3]"),
        (
            safetensors_bytes(one_tensor(data_offsets=[1, 9]), 9),
            "the bytes of a must begin at 0, where those before it end",
        ),
        (safetensors_bytes(one_tensor(), 7), " bytes by its header, got "),
        (
            safetensors_bytes({"a" * 257: one_tensor()["a"]}, 8),
            "a tensor's name is 1 to 256 of A-Z a-z 0-9 _ and ., got 'aaaa",
        ),
        (safetensors_bytes({"ä": one_tensor()["a"]}, 8), "a tensor's name is 1 to 256 of A-Z a-z 0-9 _ and ., got 'ä'"),
    ],
    ids=lambda value: str(value[:40]),
)
def test_a_header_that_is_wrong_is_refused_with_what_it_holds(tmp_path, content, sentence):
    path = tmp_path / "x.safetensors"
    path.write_bytes(content)
    message = refusal(lambda: tensors.header(path))
    start, _, rest = message.partition(": ")
    assert start == str(path)
    assert sentence in rest
    assert rest.startswith((sentence, "must have "))


def test_the_limits_of_a_header_are_met_exactly(tmp_path):
    path, name = tmp_path / "x.safetensors", "a" * 256
    path.write_bytes(safetensors_bytes({name: one_tensor(shape=[2] + [1] * 7)["a"]}, 8))
    assert tensors.header(path).entries[name] == tensors.Entry(torch.float32, (2, *[1] * 7), 0, 8)
    text = json.dumps({}).ljust(2**20).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text)
    assert tensors.header(path).data_start == 2**20 + 8
    path.write_bytes(safetensors_bytes(one_tensor(), 7))
    size = path.stat().st_size
    assert f"must have {size + 1} bytes by its header, got {size}; fetch it again" in refusal(
        lambda: tensors.header(path)
    )


def test_tensors_that_are_not_those_of_the_model_are_named():
    found = {"a": ((2,), torch.float32), "b": ((3,), torch.float32)}
    tensors.check_expected(found, dict(reversed(found.items())), "x")
    for expected, sentence in (
        (
            {"a": found["a"], "c": found["a"], "d": found["a"]},
            "x: not the tensors of the model it describes (2 missing, e.g. c; 1 too many, e.g. b)",
        ),
        ({"a": found["a"]}, "x: not the tensors of the model it describes (1 too many, e.g. b)"),
        (
            {**found, "b": ((3,), torch.float64)},
            "x: b must be float64 of shape (3,) for the model it describes, got float32 of shape (3,)",
        ),
        (
            {**found, "b": ((3, 1), torch.float32)},
            "x: b must be float32 of shape (3, 1) for the model it describes, got float32 of shape (3,)",
        ),
    ):
        assert refusal(functools.partial(tensors.check_expected, found, expected, "x")) == sentence


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("x" * 65_537, "it must be JSON of at most 65,536 bytes, got 65,537"),
        ("[" * 60_000, "it is nested too deep"),
        ('{"a": 1, "a": 2}', "it is not valid JSON (the key 'a' appears twice)"),
        ("[NaN]", "it is not valid JSON (NaN is not a JSON number)"),
        ("[-Infinity]", "it is not valid JSON (-Infinity is not a JSON number)"),
        ("[1e999999999999999999999]", "it is not valid JSON (1e999999999999999999 is too large)"),
        (b"\xff", "it is not valid JSON (invalid start byte)"),
    ],
    ids=lambda value: str(value[:40]),
)
def test_a_record_that_is_no_strict_json_is_refused_with_the_reason(text, sentence):
    assert refusal(lambda: records.parse(text, "it")) == sentence
    assert records.parse("1".rjust(65_536), "it") == 1
