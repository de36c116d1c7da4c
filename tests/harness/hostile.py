"""Model files and configurations made to hurt: many by hand, thousands by mutation, and a child that reads them.

Run as a script it is that child: under a limit of address space, with a timer for each case, and with an audit hook
that notes code being unpickled or run and files being written. It prints one JSON object of what it saw.
"""

from __future__ import annotations

import functools
import io
import json
import os
import pickle
import random
import resource
import signal
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import safetensors.torch  # to write what the library's own `to_bytes` would refuse
import torch
import torch._dynamo  # arithmetic on the meta device imports it, which is not a reader's memory
from torch import Tensor

from kakusan import load
from kakusan.errors import InputError, ScheduleWarning
from kakusan.recipes import RECIPES
from kakusan.run import model_file
from kakusan.run.build import blueprint, build
from kakusan.run.families.base import ModelConfig
from kakusan.run.families.diffusion import DiffusionConfig
from kakusan.run.families.dirichlet import DirichletConfig
from kakusan.run.families.hierarchy import HierarchyConfig
from kakusan.run.families.vae import VAEConfig
from kakusan.run.model_file import KEY, ExportedModel, Facts, Source
from kakusan.run.recipe import Recipe, from_record
from kakusan.storage import tensors

SECONDS = 1.0  # of processor time, for one case
MEGABYTES = 64  # above what the child needs anyway, for all cases together
DIGEST = "0" * 64

MODELS: dict[str, tuple[ModelConfig, tuple[int, ...]]] = {
    "vae": (VAEConfig(hidden=(4,), latent=2), (1, 4, 4)),
    "hierarchy": (HierarchyConfig(hidden=4, latents=(3, 2)), (1, 4, 4)),
    "diffusion": (DiffusionConfig(width=8, inner_width=16, blocks=1, depth=4, time="table"), (1, 4, 4)),
    "dirichlet": (DirichletConfig(), (3,)),
}


FAMILY_WEIGHTS = (3, 2, 1, 2)  # a diffusion model takes longest to read


def small(family: str, seed: int = 0) -> ExportedModel:
    """A model of a few numbers, untrained; a diffusion model with the weights of a beginning."""
    config, shape = MODELS[family]
    weights = []
    for number in range(2 if family == "diffusion" else 1):
        torch.manual_seed(seed + number)
        state = build(config, shape).state_dict()
        # the layers that begin at zero are made to speak too
        weights.append({n: t + 0.1 * torch.randn_like(t) if t.is_floating_point() else t for n, t in state.items()})
    source = Source("squares.npy", "counts" if family == "dirichlet" else "images", DIGEST)
    recipe = Recipe(f"small-{family}", "for tests", config, data=source.name, steps=1)
    return ExportedModel(Facts(recipe, shape, source, {"kakusan": "0.1.0"}), *weights)


@functools.cache
def honest(family: str) -> bytes:
    """Its file."""
    return small(family).to_bytes()


# Taking files apart, and putting them together with whatever one likes


def apart(content: bytes) -> tuple[dict[str, Any], bytes]:
    """The header's table and the bytes behind it."""
    length = int.from_bytes(content[:8], "little")
    return json.loads(content[8 : 8 + length]), content[8 + length :]


def together(header: dict[str, Any] | str | bytes, data: bytes, length: int | None = None) -> bytes:
    """A file of this header, under its own length unless another is given."""
    text = json.dumps(header) if isinstance(header, dict) else header
    raw = text.encode("utf-8", "surrogatepass") if isinstance(text, str) else text
    return (len(raw) if length is None else length).to_bytes(8, "little") + raw + data


def with_record(family: str, change: Callable[[dict[str, Any]], Any], named: dict[str, Tensor] | None = None) -> bytes:
    """A file whose record is changed, and whose hash is right again; what `change` returns replaces the record."""
    header, data = apart(honest(family))
    record = json.loads(header["__metadata__"][KEY])
    record.pop("sha256")
    named = _stored(family) if named is None else named
    changed = change(record)
    record = record if changed is None else changed
    if isinstance(record, dict):
        record = {**record, "sha256": model_file.content_hash(record, named)}
    header["__metadata__"][KEY] = record if isinstance(record, str) else json.dumps(record)
    return together(header, data)


def with_tensors(family: str, change: Callable[[dict[str, Tensor]], Any]) -> bytes:
    """A file whose tensors are changed, and whose hash is right again."""
    named = stored(family)
    change(named)
    header, _ = apart(honest(family))
    record = json.loads(header["__metadata__"][KEY])
    record.pop("sha256")
    record["sha256"] = model_file.content_hash(record, named)
    return safetensors.torch.save({n: t.contiguous() for n, t in named.items()}, {KEY: json.dumps(record)})


def stored(family: str) -> dict[str, Tensor]:
    """Name -> tensor of the honest file, to be changed at will."""
    return {name: tensor.clone() for name, tensor in _stored(family).items()}


@functools.cache
def _stored(family: str) -> dict[str, Tensor]:
    return safetensors.torch.load(honest(family))


def with_header(family: str, change: Callable[[dict[str, Any]], Any]) -> bytes:
    """A file whose header's table is changed."""
    header, data = apart(honest(family))
    return together(change(header) or header, data)


def with_entry(field: str, value: Any) -> bytes:
    """A file in which the first tensor's dtype, shape or data_offsets is another."""

    def change(header: dict[str, Any]) -> None:
        header[first_name(header)][field] = value

    return with_header("vae", change)


def with_shape(*sizes: Any) -> bytes:
    """A file of one tensor of 256 numbers, float32, under this shape."""
    return together({"t": {"dtype": "F32", "shape": [*sizes], "data_offsets": [0, 1024]}}, bytes(1024))


def first_name(header: dict[str, Any]) -> str:
    return min((name for name in header if name != "__metadata__"), key=lambda name: header[name]["data_offsets"])


def renamed(name: str) -> bytes:
    def change(header: dict[str, Any]) -> None:
        header[name] = header.pop(first_name(header))

    return with_header("vae", change)


def setting(path: str, value: Any, family: str = "vae") -> bytes:
    """A file in whose record one entry, named with dots, is another; the hash is right."""

    def change(record: dict[str, Any]) -> None:
        *parents, last = path.split(".")
        functools.reduce(dict.__getitem__, parents, record)[last] = value

    return with_record(family, change)


def without(path: str, family: str = "vae") -> bytes:
    def change(record: dict[str, Any]) -> None:
        *parents, last = path.split(".")
        del functools.reduce(dict.__getitem__, parents, record)[last]

    return with_record(family, change)


# By hand: name -> bytes of a file, or what makes something at a path


class Runs:
    """Unpickled, it would write a file."""

    def __reduce__(self):
        return os.system, ("touch unpickled",)


def _many(count: int) -> bytes:
    return together({f"t{i}": {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]} for i in range(count)}, b"")


def _torch_save() -> bytes:
    buffer = io.BytesIO()
    torch.save({"weights": torch.ones(3)}, buffer)
    return buffer.getvalue()


def _shifted(by: int) -> bytes:
    """Well-formed but for bytes that no tensor owns."""
    header, data = apart(honest("vae"))
    for name, entry in header.items():
        if name != "__metadata__":
            entry["data_offsets"] = [offset + by for offset in entry["data_offsets"]]
    return together(header, bytes(by) + data)


def _put(named: dict[str, Tensor], value: float) -> None:
    named[min(n for n in named if named[n].is_floating_point())].view(-1)[0] = value


def _sparse(path: Path, header: bytes, size: int) -> None:
    with path.open("wb") as file:
        file.write(header)
        file.truncate(size)


def _terabyte(path: Path) -> None:
    size = 2**40
    header = together({"t": {"dtype": "U8", "shape": [size], "data_offsets": [0, size]}}, b"")
    _sparse(path, header, len(header) + size)


def _million(path: Path) -> None:
    """Well-formed: 1.2 million tensors without an element. Written bit by bit, so that the memory is the reader's."""
    count, step = 1_200_000, 1000
    with path.open("wb") as file:
        file.write(bytes(8) + b"{")
        for first in range(0, count, step):
            lines = [
                f'"t{i:07}":{{"dtype":"F32","shape":[0],"data_offsets":[0,0]}}' for i in range(first, first + step)
            ]
            file.write(",".join(lines).encode() + (b"," if first + step < count else b"}"))
        length = file.tell() - 8
        file.seek(0)
        file.write(length.to_bytes(8, "little"))


def _to_device(path: Path) -> None:
    path.symlink_to("/dev/zero")


def _to_nowhere(path: Path) -> None:
    path.symlink_to("nowhere")


HUGE = 2**63 - 1
HEADERS: dict[str, Callable[[], bytes] | Callable[[Path], None]] = {
    # not a file, not safetensors
    "a named pipe": os.mkfifo,
    "an endless device": _to_device,
    "a link to nowhere": _to_nowhere,
    "an empty file": lambda: b"",
    "seven bytes": lambda: b"\0" * 7,
    "eight zeros": lambda: b"\0" * 8,
    "a pickle": lambda: pickle.dumps(Runs()),
    "a pickle in a zip, as torch.save writes": _torch_save,
    "text": lambda: b"these are my weights, enjoy\n" * 40,
    # lengths
    "a header of 2^64 - 1 bytes": lambda: b"\xff" * 8 + honest("vae")[8:],
    "a header of 2^63 bytes": lambda: together("{}", b"", 2**63),
    "a header one byte longer than the file": lambda: together("{}", b"", 3),
    "a header of a terabyte, in a file with a hole": lambda path: _sparse(path, together("{", b"", 2**40 - 8), 2**40),
    "a header of 72 MB of tensors": _million,
    "a header of a little over 1 MiB": lambda: together({"__metadata__": {"x": "y" * 2**20}}, b""),
    "cut in the header": lambda: honest("vae")[:100],
    "cut in the data": lambda: honest("vae")[:-1],
    "a byte too many": lambda: honest("vae") + b"\0",
    # JSON
    "a header that is a list": lambda: together("[]", b""),
    "a header that is a number": lambda: together("7", b""),
    "a header that ends early": lambda: together('{"a": ', b""),
    "half a million open brackets": lambda: together("[" * 500_000, b""),
    "a hundred thousand tables in each other": lambda: together('{"a":' * 100_000 + "1" + "}" * 100_000, b""),
    "brackets that hide in text": lambda: together('{"a\\"' + "[" * 1000 + '": ' + "[" * 1000, b""),
    "a key twice": lambda: together('{"t":{},"t":{}}', b""),
    "metadata twice": lambda: together('{"__metadata__":{},"__metadata__":{}}', b""),
    "a number of 5,000 digits": lambda: together('{"t":' + "9" * 5000 + "}", b""),
    "NaN in JSON": lambda: together('{"t":NaN}', b""),
    "bytes that are not UTF-8": lambda: together(b'{"t\xff\xfe":1}', b""),
    "UTF-16": lambda: together("{}".encode("utf-16"), b""),
    "a byte-order mark": lambda: together("\ufeff{}", b""),
    "zero bytes behind the table": lambda: together(b"{}\0\0\0\0\0\0", b""),
    "Python instead of JSON": lambda: together("{'a': __import__('os').system('touch executed')}", b""),
    # names
    "a name with terminal escapes": lambda: renamed("\x1b]0;owned\x07\x1b[2J"),
    "a name with a line break": lambda: renamed("a\nkakusan: all is well"),
    "a name that is a path": lambda: renamed("../../.bashrc"),
    "a name that is half a character": lambda: renamed("\ud800"),
    "a name that reads backwards": lambda: renamed("a\u202eb"),
    "no name": lambda: renamed(""),
    "a name of 257 letters": lambda: renamed("a" * 257),
    "a name of a megabyte": lambda: renamed("a" * 1_000_000),
    "half a million escaped quotes in a name": lambda: together('{"' + '\\"' * 500_000 + '":1}', b""),
    "a million quotes": lambda: together('"' * 1_000_000, b""),
    # tensors
    "20,001 tensors": lambda: _many(20_001),
    "an unknown dtype": lambda: with_entry("dtype", "F8_E4M3"),
    "a dtype that is a list": lambda: with_entry("dtype", ["F32"]),
    "a dtype that is an attribute": lambda: with_entry("dtype", "__class__"),
    "a dtype of half the size": lambda: with_entry("dtype", "F16"),
    "rank 9": lambda: with_shape(*[1] * 8, 256),
    "200,000 dimensions": lambda: with_shape(*[1] * 200_000, 256),
    "a size below zero": lambda: with_shape(-1, -256),
    "a size that is a fraction": lambda: with_shape(4.0, 64.0),
    "a size that is true": lambda: with_shape(True, 256),
    "a size of 2^63": lambda: with_shape(2**63),
    "sizes whose product overflows to the right one": lambda: with_shape(2**32, 2**32, 256),
    "a shape that is a number": lambda: with_entry("shape", 64),
    "offsets of another's bytes": lambda: with_entry("data_offsets", [8, 264]),
    "offsets below zero": lambda: with_entry("data_offsets", [-128, 0]),
    "offsets the wrong way round": lambda: with_entry("data_offsets", [256, 0]),
    "offsets beyond the end": lambda: with_entry("data_offsets", [HUGE - 256, HUGE]),
    "offsets that are text": lambda: with_entry("data_offsets", "01"),
    "three offsets": lambda: with_entry("data_offsets", [0, 256, 256]),
    "a gap before the first tensor": lambda: _shifted(8),
    "a tensor without a shape": lambda: with_header("vae", lambda h: h[first_name(h)].pop("shape") and None),
    "a tensor with a class": lambda: with_entry("__reduce__", ["os.system", "touch executed"]),
    "a tensor that is nothing": lambda: with_header("vae", lambda h: {**h, first_name(h): None}),
    "the same bytes twice": lambda: with_header("vae", lambda h: {**h, "again": h[first_name(h)]}),
}
"""What the header alone shows to be wrong."""

CONTENTS: dict[str, Callable[[], bytes] | Callable[[Path], None]] = {
    # lengths
    "a tensor of a terabyte, in a file with a hole": _terabyte,
    # names
    "a name that Python knows": lambda: renamed("__class__"),
    # tensors
    "a shape turned on its side": lambda: with_tensors(
        "vae", lambda n: n.update({k: t.mT for k, t in n.items() if t.dim() == 2})
    ),
    "a tensor too few": lambda: with_tensors("vae", lambda n: n.pop(max(n))),
    "a tensor too many": lambda: with_tensors("vae", lambda n: n.update(extra=torch.ones(3))),
    "half of the early weights": lambda: with_tensors("diffusion", lambda n: n.pop(min(n))),
    "early weights alone": lambda: with_tensors(
        "diffusion", lambda n: [n.pop(k) for k in list(n) if not k.startswith("early.")]
    ),
    "early weights of a model that has no use for them": lambda: with_tensors(
        "vae", lambda n: n.update({f"early.{k}": t.clone() for k, t in list(n.items())})
    ),
    "weights in float64": lambda: with_tensors("vae", lambda n: n.update({k: t.double() for k, t in n.items()})),
    "a NaN": lambda: with_tensors("vae", lambda n: _put(n, float("nan"))),
    "an infinity": lambda: with_tensors("vae", lambda n: _put(n, float("inf"))),
    "a minus infinity in the early weights": lambda: with_tensors("diffusion", lambda n: _put(n, float("-inf"))),
    "weights as large as numbers go": lambda: with_tensors("vae", lambda n: [t.fill_(3e38) for t in n.values()]),
    "weights as large as numbers go, in a diffusion model": lambda: with_tensors(
        "diffusion", lambda n: [t.fill_(3e38) for t in n.values()]
    ),
    "a total below zero": lambda: with_tensors("dirichlet", lambda n: n["total_count"].fill_(-1)),
    "a concentration without end": lambda: with_tensors("dirichlet", lambda n: n["log_concentration"].fill_(1e6)),
    # the record
    "weights and nothing else": lambda: together({}, b""),
    "metadata that are a list": lambda: with_header("vae", lambda h: {**h, "__metadata__": []}),
    "metadata that are numbers": lambda: with_header("vae", lambda h: {**h, "__metadata__": {KEY: 7}}),
    "a record that is no JSON": lambda: with_record("vae", lambda r: "os.system"),
    "a record that is a list": lambda: with_record("vae", lambda r: []),
    "a record of 65 KiB": lambda: with_record("vae", lambda r: " " * 66_000),
    "a record nested deep": lambda: with_record("vae", lambda r: "[" * 60_000),
    "a record with a key twice": lambda: with_record("vae", lambda r: '{"format":1,"format":1}'),
    "a format to come": lambda: setting("format", 2),
    "a format that is true": lambda: setting("format", True),
    "no recipe": lambda: without("recipe"),
    "no data": lambda: without("data"),
    "no hash": lambda: with_header("vae", lambda h: h["__metadata__"].update({KEY: json.dumps({"format": 1})})),
    "another hash": lambda: with_record("vae", lambda r: json.dumps({**r, "sha256": "0" * 64})),
    "a flipped bit in the weights": lambda: honest("vae")[:-1] + bytes([honest("vae")[-1] ^ 1]),
    "another setting under the old hash": lambda: honest("diffusion").replace(b"3.0", b"9.0", 1),
    "a family that is a class": lambda: setting("recipe.family", "__class__"),
    "a family that is a list": lambda: setting("recipe.family", ["vae"]),
    "a schedule that is a method": lambda: setting("recipe.model.schedule", "from_betas", "diffusion"),
    "a setting that is misspelt": lambda: setting("recipe.model.latnet", 2),
    "a setting that is code": lambda: setting("recipe.model.hidden", {"py/object": "os.system"}),
    "a depth of a thousand million": lambda: setting("recipe.model.depth", 10**9, "diffusion"),
    "a depth of 10^4000": lambda: setting("recipe.model.depth", 10**4000, "diffusion"),
    "a width of 2^40": lambda: setting("recipe.model.width", 2**40, "diffusion"),
    "a model of 10^13 parameters": lambda: setting("recipe.model.hidden", [65536] * 32),
    "an example of 10^12 pixels": lambda: setting("event_shape", [1, 10**6, 10**6]),
    "an example below zero": lambda: setting("event_shape", [1, -4, -4]),
    "an example that is text": lambda: setting("event_shape", "1,4,4"),
    "an example of two channels": lambda: setting("event_shape", [2, 4, 2]),
    "a focus of three numbers": lambda: setting("recipe.model.focus", [0.0, 1.0, 2.0], "diffusion"),
    "a focus where no step is": lambda: setting("recipe.model.focus", [-100.0, 0.01], "diffusion"),
    "a guidance of 1e300": lambda: setting("recipe.model.guidance", 1e300, "diffusion"),
    "a guidance beyond floating point": lambda: with_record(
        "diffusion", lambda r: json.dumps(r).replace('"guidance": 3.0', '"guidance": 1e999')
    ),
    "a falling range of guidance": lambda: setting("recipe.model.guidance_range", [1.0, -1.0], "diffusion"),
    "a width that is not a multiple of 8": lambda: setting("recipe.model.width", 12, "diffusion"),
    "a width too small for the picture": lambda: setting("recipe.model.inner_width", 8, "diffusion"),
    "a learning rate of true": lambda: setting("recipe.optim.lr", True),
    "a recipe named in terminal escapes": lambda: setting("recipe.name", "\x1b[2J\x1b[31mtrust me"),
    "data named in terminal escapes": lambda: setting("data.name", "a\r\nb"),
    "data of another kind": lambda: setting("data.kind", "counts"),
    "versions that are a list": lambda: setting("versions", []),
    "a version of a megabyte": lambda: setting("versions", {"kakusan": "1" * 50_000}),
    "a setting of a megabyte": lambda: setting("recipe.summary", "x" * 1_000_000),
}
"""What is wrong only beside the model that the record describes, or in the numbers."""

ATTACKS = {**HEADERS, **CONTENTS}


def make(name: str, path: Path) -> None:
    """Put an attack at a path where nothing is."""
    attack: Callable[..., Any] = ATTACKS[name]
    if attack in (os.mkfifo, _to_device, _to_nowhere, _terabyte, _million) or "with a hole" in name:
        attack(path)
    else:
        path.write_bytes(attack())


# By mutation

NASTY: list[Any] = [
    None, True, False, 0, 1, -1, 2, 7, 8, 255, 2**31, 2**32, 2**53, 2**63 - 1, 2**63, 2**64, 10**30, 10**300, -(2**63),
    0.0, -0.0, 0.5, 1e-300, 1e300, -1e300, 1.5, float("nan"), float("inf"), float("-inf"),
    "", " ", "a", "F32", "linear", "__class__", "\x00", "\x1b[2J", "\ud800", "\u202e", "x" * 1_000_000,
    [], [0], [1, 2, 3], [[]], [None], [1] * 100, {}, {"a": 1}, {"__class__": "x"}, [[[[[[[[1]]]]]]]],
]  # fmt: skip


def nasty(rng: random.Random) -> Any:
    """Something that does not belong; the megabyte of text rarely, because it is slow to write."""
    value = rng.choice(NASTY)
    return value if not isinstance(value, str) or len(value) < 100 or rng.random() < 0.02 else "x" * 300


def places(values: Any, path: tuple = ()) -> Iterator[tuple]:
    """Paths to all entries of JSON values."""
    entries = values.items() if isinstance(values, dict) else enumerate(values) if isinstance(values, list) else ()
    for key, value in entries:
        yield (*path, key)
        yield from places(value, (*path, key))


def disturb(values: Any, rng: random.Random) -> Any:
    """A copy of JSON values with an entry replaced, removed, moved, renamed, added, or a number pushed off its place."""
    values = json.loads(json.dumps(values))
    *parents, last = rng.choice(list(places(values)))
    parent = functools.reduce(lambda inner, key: inner[key], parents, values)
    old = parent[last]
    match rng.randrange(7):
        case 0 | 1:
            parent[last] = nasty(rng)
        case 2:
            del parent[last]
        case 3 if isinstance(parent, dict):
            parent[rng.choice(["extra", "", "__init__", f"{last}x", str(last)[:-1]])] = parent.pop(last)
        case 4 if isinstance(old, list):
            parent[last] = old * rng.choice([2, 3, 50]) if rng.random() < 0.5 else old[:-1]
        case 5 if isinstance(old, int | float) and not isinstance(old, bool):
            parent[last] = rng.choice([old + 1, old - 1, -old, old * 2, old / 2, old * 1000, old + 0.5, str(old)])
        case _:
            other = rng.choice(list(places(values)))
            moved = functools.reduce(lambda inner, key: inner[key], other, values)
            parent[last] = json.loads(json.dumps(moved))
    return values


def scribble(content: bytes, rng: random.Random) -> bytes:
    """Damage to bytes: flipped bits, a cut, a block of zeros or noise, bytes put in or taken out."""
    damaged = bytearray(content)
    where = rng.randrange(len(damaged))
    length = rng.choice([1, 2, 8, 64, 512])
    match rng.randrange(7):
        case 0 | 1 | 2:
            for _ in range(rng.choice([1, 1, 1, 2, 8])):
                damaged[rng.randrange(len(damaged))] ^= 1 << rng.randrange(8)
        case 3:
            del damaged[where:]
        case 4:
            damaged[where : where + length] = bytes(len(damaged[where : where + length]))
        case 5:
            damaged[where : where + length] = rng.randbytes(len(damaged[where : where + length]))
        case 6:
            damaged[where:where] = rng.randbytes(length)
    return bytes(damaged)


def mutate(family: str, rng: random.Random) -> tuple[bytes, bool]:
    """A damaged file, and whether its hash was made to fit again, so that it may load as another model."""
    content = honest(family)
    header, data = apart(content)
    match rng.randrange(8):
        case 0 | 1:
            return scribble(content, rng), False
        case 2 | 3:
            raw = json.dumps(header).encode()
            return together(scribble(raw, rng), data), False
        case 4 | 5:
            plain = {name: value for name, value in header.items() if name != "__metadata__" or rng.random() < 0.1}
            return together({**header, **disturb(plain, rng)}, data), False
        case _:
            return with_record(family, lambda record: disturb(record, rng)), True


# The child


@contextmanager
def limited(seconds: float) -> Iterator[None]:
    """TimeoutError after so much processor time."""
    signal.setitimer(signal.ITIMER_VIRTUAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)


def _time_is_up(number: int, frame: Any) -> None:
    raise TimeoutError(f"more than {SECONDS} s of processor time")


FORBIDDEN = ("pickle.find_class", "os.system", "os.exec", "os.posix_spawn", "os.fork", "subprocess.Popen", "socket.connect",
             "os.remove", "os.rename", "os.mkdir", "os.rmdir", "os.truncate", "shutil.rmtree")  # fmt: skip


class Watch:
    """Notes what reading a file must not do: unpickle, run, connect, write."""

    def __init__(self) -> None:
        self.armed = False
        self.seen: list[str] = []
        sys.addaudithook(self._on_event)

    def _on_event(self, event: str, arguments: tuple) -> None:
        if not self.armed:
            return
        writes = event == "open" and isinstance(arguments[2], int) and arguments[2] & (os.O_WRONLY | os.O_RDWR)
        if event in FORBIDDEN or writes:
            self.seen.append(f"{event} {arguments!r:.200}")


def peak_megabytes() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def use(path: Path, seldom: bool) -> None:
    """What someone does with a file: load it, now and then draw from it."""
    model = load(path, "cpu")
    if seldom and model.chain.depth <= 100:
        model.sample(1)


def use_record(record: Any, seldom: bool) -> None:
    """What resuming or loading does with a configuration."""
    recipe = from_record(record)
    assert from_record(json.loads(json.dumps(recipe.record()))) == recipe
    if seldom:
        blueprint(recipe.model, (10,) if recipe.family == "dirichlet" else (1, 8, 8))


def weights_of(path: Path) -> str:
    return tensors.digest(load(path, "cpu").chain.state_dict())


class Child:
    """Reads case after case and counts what came of them."""

    def __init__(self, folder: Path):
        self.folder, self.path = folder, folder / "model.safetensors"
        self.refused = self.loaded = 0
        self.failures: list[str] = []
        self.slowest = 0.0
        self.watch = Watch()
        signal.signal(signal.SIGVTALRM, _time_is_up)
        for family in MODELS:  # so that the limits count from a process that has imported all it needs
            self.path.write_bytes(honest(family))
            use(self.path, True)
            use(self.path, True)
            self.path.write_bytes(honest(family)[:-1] + b"\xff")
            self.case("warm-up", lambda: load(self.path, "cpu"))
        self.refused = self.loaded = 0
        self.before = peak_megabytes()
        used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + MEGABYTES * 2**20, resource.RLIM_INFINITY))

    def case(self, name: str, read: Callable[[], Any]) -> bool:
        """Whether it was accepted; whatever is neither that nor a plain refusal is a failure."""
        start = time.process_time()
        self.watch.armed = True
        try:
            with limited(SECONDS):
                read()
            self.loaded += 1
            return True
        except InputError as error:
            self.refused += 1
            if not str(error).isprintable() or len(str(error)) > 1000:
                self.failures.append(f"{name}: not one short line: {str(error)[:300]!r}")
            return False
        except Exception as error:  # whatever it is, it is counted
            self.failures.append(f"{name}: {type(error).__name__}: {error}"[:500])
            return False
        finally:
            self.watch.armed = False
            self.slowest = max(self.slowest, time.process_time() - start)
            self.failures += [f"{name}: {event}" for event in self.watch.seen]
            self.watch.seen.clear()

    def report(self) -> str:
        return json.dumps(
            {
                "refused": self.refused,
                "loaded": self.loaded,
                "failures": self.failures[:20],
                "slowest_seconds": round(self.slowest, 3),
                "megabytes": round(peak_megabytes() - self.before, 1),
            }
        )

    def attacks(self) -> None:
        for name in ATTACKS:
            path = self.folder / "attack.safetensors"
            make(name, path)
            if self.case(name, functools.partial(use, path, True)):
                self.failures.append(f"{name}: was accepted")
            path.unlink()

    def files(self, first: int, count: int) -> None:
        families = list(MODELS)
        weights = {}
        for family in families:
            self.path.write_bytes(honest(family))
            weights[family] = weights_of(self.path)
        for number in range(first, first + count):
            rng = random.Random(number)
            family = rng.choices(families, FAMILY_WEIGHTS)[0]
            content, fits_again = mutate(family, rng)
            self.path.write_bytes(content)
            name = f"file {number}"
            read = functools.partial(use, self.path, fits_again and number % 10 == 0)
            if self.case(name, read) and not fits_again:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    if weights_of(self.path) != weights[family]:
                        self.failures.append(f"{name}: other weights were accepted under the old hash")

    def configurations(self, first: int, count: int) -> None:
        names = list(RECIPES)
        for number in range(first, first + count):
            rng = random.Random(number)
            record = json.loads(json.dumps(RECIPES[rng.choice(names)].record()))
            for _ in range(rng.choice([1, 1, 1, 2, 3])):
                if record:
                    record = disturb(record, rng)
            self.case(f"configuration {number}", functools.partial(use_record, record, number % 10 == 0))


def _endless() -> None:
    while True:
        pass


def _lines() -> None:
    raise InputError("two\nlines")


PLANTED: dict[str, Callable[[], Any]] = {
    "slow": _endless,
    "greedy": lambda: bytearray(2 * MEGABYTES * 2**20),
    "crash": lambda: 1 // 0,
    "unpickle": lambda: pickle.loads(pickle.dumps(Path("x"))),
    "write": lambda: Path("/dev/null").write_bytes(b"x"),
    "run": lambda: os.system("true"),
    "lines": _lines,
}
"""Readers that do what a reader must not; the child must notice each."""


def main(kind: str, first: str, count: str) -> None:
    torch.set_num_threads(1)
    warnings.simplefilter("error")
    warnings.simplefilter("ignore", ScheduleWarning)
    with tempfile.TemporaryDirectory(dir="/dev/shm" if os.access("/dev/shm", os.W_OK) else None) as folder:
        child = Child(Path(folder))
        match kind:
            case "attacks":
                child.attacks()
            case "files":
                child.files(int(first), int(count))
            case "configurations":
                child.configurations(int(first), int(count))
            case "planted":
                for name in PLANTED:
                    child.case(name, PLANTED[name])
    print(child.report())


if __name__ == "__main__":
    main(*sys.argv[1:])
