"""The page of a model draws what Python draws, loads nothing, and holds foreign text as text."""

import base64
import gzip
import importlib
import json
import math
import re
import shutil
import subprocess
from importlib import resources
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional as F

import kakusan as kk
from harness.exported import SMALL, write_model
from harness.faults import catches
from harness.support import call
from kakusan.exchange.html.lower import Program, _Lowering, lower
from kakusan.exchange.html.pack import num_weights, packed, table
from kakusan.exchange.html.plan import steps_of
from kakusan.nets import NETWORKS
from kakusan.noise import example_streams
from kakusan.run.families.diffusion import DiffusionConfig
from kakusan.solvers import solver_named, times

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"
NODE, CHROMIUM = shutil.which("node"), shutil.which("chromium")
needs_node = pytest.mark.skipif(NODE is None, reason="needs node")
KEYS = ((0, 0), (7, 3), (123_456_789, 42))


def node(program, *arguments):
    """The JSON that a program prints, after the page's scripts for noise and networks."""
    here = resources.files("kakusan.exchange.html")
    scripts = "".join(here.joinpath(f"{name}.js").read_text() for name in ("noise", "engine"))
    done = subprocess.run(
        [NODE, "-e", scripts + program, *map(str, arguments)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def guided(tmp_path_factory):
    """A guided model with clusters, and its page."""
    root = tmp_path_factory.mktemp("page")
    path = write_model(root / "m.safetensors", early=True, clusters=5, summary="</script><script>alert(1)</script>")
    return path, kk.export(path, root / "m.html", "html").path


@needs_node
def test_the_noise_of_the_page_is_that_of_torch():
    sizes = (784, 27, 9, 16, 5)  # with and without a rest of blocks of 16, and below one block
    found = node(
        f"const keys = {json.dumps(KEYS)}, sizes = {json.dumps(sizes)};"
        "console.log(JSON.stringify(keys.map(([seed, i]) => { const s = new Stream(seed, i);"
        "return [s.double(), ...sizes.flatMap((n) => [...s.normal(n)]), s.double()]; })))"
    )
    for (seed, index), numbers in zip(KEYS, found):
        stream = example_streams(seed, range(index, index + 1))[0]

        def uniform(stream=stream):
            return torch.rand(1, generator=stream, dtype=torch.float64)

        wanted = [uniform(), *[torch.randn(size, generator=stream).double() for size in sizes], uniform()]
        error = (torch.tensor(numbers, dtype=torch.float64) - torch.cat(wanted)).abs()
        assert error[0] == error[-1] == 0  # uniform numbers are exact
        assert error.max() < 3e-6  # torch's logarithm and cosine are rounded to float32


@needs_node
@catches("""exchange/html/pack.py: the bytes of a weight change places
- for shift in (24, 16, 8)
+ for shift in (24, 8, 16)""")
def test_a_guided_model_with_clusters_draws_the_images_of_python(guided):
    path, page = guided
    model = kk.load(path, device="cpu")
    found = node(
        'const text = require("fs").readFileSync(process.argv[1], "utf8");'
        'const part = (id) => text.split(`id="${id}">`)[1].split("</script>")[0];'
        'loaded(JSON.parse(part("model")), part("weights")).then((m) => console.log(JSON.stringify('
        "[[0, 0, 20, null], [0, 1, 20, null], [5, 0, 10, 3]].map((one) => [...m.pixels(m.sample(...one))]))))",
        page,
    )
    wanted = [model.sample(2, seed=0)[0], model.sample(2, seed=0)[1], model.sample(1, seed=5, steps=10, cond=3)[0]]
    for mine, theirs in zip(found, wanted):
        assert np.abs(np.array(mine) - np.asarray(theirs).reshape(-1).astype(int)).max() <= 2


@catches("""exchange/html/plan.py: the estimates are listed oldest first
- x = row[2 : place + 3][::-1]
+ x = row[2 : place + 3]""")
@pytest.mark.parametrize("name", ["ddim", "dpm++2m", "dpm++3m", "dpm++2m-sde", "renoise"])
def test_the_numbers_of_a_plan_take_the_same_steps_as_the_solver(name):
    world = kk.oracles.GaussianWorld([0.3], [[0.25]])
    schedule = kk.Schedule.cosine(60)
    chain = kk.Diffusion(world.network(schedule.beta[1:], "v"), schedule, 1, prediction="v").double()
    grid, solver = times(schedule, 8, "karras"), solver_named(name)
    wanted = kk.sample(chain, 3, solver=solver, times=grid, seed=4)
    streams = example_streams(4, range(3))
    z = torch.cat([torch.randn(1, 1, generator=one, dtype=torch.float64) for one in streams])
    known = []
    for step in steps_of(chain, solver, grid, [False] * 61):
        output = chain.predict(z, step["t"])[0]
        known.insert(0, step["from_z"] * z + step["from_output"] * output)
        z = step["z"] * z + sum(weight * x for weight, x in zip(step["x"], known))
        if step["noise"]:
            z = z + step["noise"] * torch.cat(
                [torch.randn(1, 1, generator=one, dtype=torch.float64) for one in streams]
            )
    torch.testing.assert_close(z, wanted, rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", ["heun", "ancestral"])
def test_a_solver_that_is_not_linear_in_one_estimate_is_refused(name):
    schedule = kk.Schedule.cosine(20)
    chain = kk.Diffusion(lambda z, t: z, schedule, 1)
    with pytest.raises(kk.InputError, match="one evaluation per step"):
        steps_of(chain, solver_named(name), [5, 10, 20], [False] * 21)


@pytest.mark.slow
@needs_node
@pytest.mark.parametrize("extra", [{"clusters": 7}, {"variance": "learned", "time": "table"}], ids=["clusters", "gate"])
@pytest.mark.parametrize("name", NETWORKS)
def test_every_network_gives_the_output_of_torch(name, extra, tmp_path):
    shape = (3, 10, 14)
    config = DiffusionConfig(**SMALL | {"network": name, "width": 16} | extra)
    torch.manual_seed(0)
    network = NETWORKS[name].from_config(config, shape).eval()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.copy_(0.2 * torch.randn_like(parameter))
    inputs = (torch.randn(1, *shape), torch.tensor([5]), *([torch.tensor([2])] if config.clusters else []))
    with torch.no_grad():
        wanted = network(*inputs)
    wanted = wanted[0] if isinstance(wanted, tuple) else wanted
    program = lower(network, inputs)
    facts = {"program": table(program), "num_weights": num_weights(program), "shape": shape, "guidance": None}
    (tmp_path / "m.json").write_text(json.dumps([facts, packed(program), inputs[0].flatten().tolist()]))
    found = node(
        'const [f, text, z] = JSON.parse(require("fs").readFileSync(process.argv[1]));'
        "loaded(f, text).then((m) => console.log(JSON.stringify([...m.network.run(new Float32Array(z), 5, 2)])))",
        tmp_path / "m.json",
    )
    error = (torch.tensor(found) - wanted.flatten()).abs().max()
    assert error < 1e-4 * max(1, wanted.abs().max())  # weights keep 16 bits: 2^-16 each


X, WEIGHT, BIAS = torch.randn(1, 8, 6, 4), torch.randn(8, 3, 3, 2), torch.randn(3)
GAIN, LIFT = torch.randn(8), torch.randn(8)
# Of a view V of X, (1, 8, 4, 4): the operation of the page, and that of torch
OPERATIONS = {
    "slice": (lambda page, v: page._slice(v, 1, 1, -1, 3), lambda v: v[:, 1:-1:3]),
    "slice to the end": (lambda page, v: page._slice(v, -1, 2), lambda v: v[..., 2:]),
    "select": (lambda page, v: page._select(v, 2, -1), lambda v: v[:, :, -1]),
    "split": (lambda page, v: page._split_with_sizes(v, [1, 5, 2], 1)[1], lambda v: v.split([1, 5, 2], 1)[1]),
    "expand": (
        lambda page, v: page._expand(page._slice(v, 1, 2, 3), (3, 5, -1, 4)),
        lambda v: v[:, 2:3].expand(3, 5, -1, 4),
    ),
    "without a size of 1": (lambda page, v: page._reshaped(v, (8, 1, 4, 4)), lambda v: v.reshape(8, 1, 4, 4)),
    "reshape": (lambda page, v: page._reshaped(v, (4, 32)), lambda v: v.reshape(4, 32)),
    "cat": (
        lambda page, v: page._cat([v, BIAS.expand(1, 8, 4, 3), v], -1),
        lambda v: torch.cat([v, BIAS.expand(1, 8, 4, 3), v], -1),
    ),
    "pad": (lambda page, v: page._constant_pad_nd(v, (1, 2, 0, 3)), lambda v: F.pad(v, (1, 2, 0, 3))),
    "shuffle": (lambda page, v: page._pixel_shuffle(v, 2), lambda v: F.pixel_shuffle(v, 2)),
    "unshuffle": (lambda page, v: page._pixel_unshuffle(v, 2), lambda v: F.pixel_unshuffle(v, 2)),
    "add a multiple": (lambda page, v: page._binary("add", v, BIAS[:1], -2.5), lambda v: v - 2.5 * BIAS[0]),
    "square": (lambda page, v: page._pow(v, 2), lambda v: v * v),
    "convolution": (
        lambda page, v: page._convolution(v, WEIGHT[:, :2], None, (2, 1), (1, 0), (1, 1), False, (0, 0), 4),
        lambda v: F.conv2d(v, WEIGHT[:, :2], None, (2, 1), (1, 0), 1, 4),
    ),
    "transposed": (
        lambda page, v: page._convolution(v, WEIGHT, BIAS, (2, 1), (1, 0), (1, 1), True, (0, 0), 1),
        lambda v: F.conv_transpose2d(v, WEIGHT, BIAS, (2, 1), (1, 0)),
    ),
    "group norm": (
        lambda page, v: page._native_group_norm(v, GAIN, LIFT, 1, 8, 16, 2, 0.5)[0],
        lambda v: F.group_norm(v, 2, GAIN, LIFT, 0.5),
    ),
    "layer norm": (
        lambda page, v: page._native_layer_norm(v, (4,), GAIN[:4], LIFT[:4], 0.5)[0],
        lambda v: F.layer_norm(v, (4,), GAIN[:4], LIFT[:4], 0.5),
    ),
    "plain layer norm": (
        lambda page, v: page._native_layer_norm(v, (4, 4), None, None, 0.5)[0],
        lambda v: F.layer_norm(v, (4, 4), None, None, 0.5),
    ),
    "mean": (lambda page, v: page._mean(v, [3]), lambda v: v.mean(3)),
    "mean with a size of 1": (lambda page, v: page._mean(v, [-1], True), lambda v: v.mean(3, keepdim=True)),
    "softmax": (lambda page, v: page._softmax(v, 3), lambda v: v.softmax(3)),
    "product of batches": (lambda page, v: page._matmul(v, page._slice(v, 3, 1)), lambda v: v @ v[..., 1:]),
    "product and bias": (
        lambda page, v: page._addmm(LIFT[:2], page._reshaped(v, (32, 4)), WEIGHT[0, :2].reshape(2, 6)[:, :4].T),
        lambda v: v.reshape(32, 4) @ WEIGHT[0, :2].reshape(2, 6)[:, :4].T + LIFT[:2],
    ),
    "rows of a table": (
        lambda page, v: page._embedding(WEIGHT[0].flatten(1), page._array(torch.tensor([2.0, 0.0]))),
        lambda v: WEIGHT[0].flatten(1)[[2, 0]],
    ),
    "activation": (lambda page, v: page._unary("silu", v, {}), lambda v: F.silu(v)),
    "rows that are not masked": (lambda page, v: page._where(page._eq(v, -math.inf), 0.0, v), lambda v: v),
    "no padding": (lambda page, v: page._constant_pad_nd(v, (0, 0, 0, 0)), lambda v: v),
}


def weighed(memory, normal, weight, bias):
    return normal * memory[weight] + memory[bias]


# Operations of the page's engine on whole arrays: the memory, and what follows the output in the program
PLAIN = {
    "group_norm": lambda m, x, weight, bias, groups, channels, positions, eps: F.group_norm(
        m[x].view(1, channels, positions), groups, m[weight], m[bias], eps
    ),
    "layer_norm": lambda m, x, weight, bias, width, eps: weighed(
        m, F.layer_norm(m[x].view(-1, width), (width,), eps=eps), weight, bias
    ),
    "mean": lambda m, x, width: m[x].view(-1, width).mean(1),
    "softmax": lambda m, x, width: m[x].view(-1, width).softmax(1),
    "row": lambda m, table, index: m[table].view(3, -1)[m[index].long()],
    "silu": lambda m, x: F.silu(m[x]),
    "matmul": lambda m, one, other, bias, batch, rows, inner, columns: (
        m[one].view(batch, rows, inner) @ m[other].view(batch, inner, columns) + (0 if bias < 0 else m[bias])
    ),
}


def values_of(program, array):
    """Torch's result for the operations of the page's engine."""
    memory = [program.weights.get(k, torch.zeros(size)).flatten().clone() for k, size in enumerate(program.sizes)]
    memory[0] = X.flatten()
    for name, out, *rest in program.ops:
        if name == "copy":
            shape, source, offset, strides, out_offset, out_strides = rest
            memory[out].as_strided(shape, out_strides, out_offset).copy_(
                memory[source].as_strided(shape, strides, offset)
            )
        elif name == "convolution":
            source, weight, bias, (c, h, w, c_out, *kernel, s1, s2, p1, p2, _, _, groups) = rest
            weight = memory[weight].view(c_out, c // groups, *kernel)
            bias = None if bias < 0 else memory[bias]
            memory[out] = F.conv2d(
                memory[source].view(1, c, h, w), weight, bias, (s1, s2), (p1, p2), 1, groups
            ).flatten()
        elif name in PLAIN:
            memory[out] = PLAIN[name](memory, *rest).flatten()
        else:
            shape, one, i, one_strides, other, j, other_strides = rest
            a, b = memory[one].as_strided(shape, one_strides, i), memory[other].as_strided(shape, other_strides, j)
            memory[out] = getattr(torch, name)(a, b).flatten()
    return memory[array.buffer].as_strided(array.shape, array.strides, array.offset)


@catches("""exchange/html/lower.py: a slice begins at the first value [slice to the end]
- value.offset + first * value.strides[dim])
+ value.offset)""")
@catches("""exchange/html/lower.py: a slice has no steps [slice]
- value.strides[dim] * step
+ value.strides[dim]""")
@catches("""exchange/html/lower.py: parts of an array begin where they end [split]
- self._slice(value, dim, end - size, end)
+ self._slice(value, dim, end, end + size)""")
@catches("""exchange/html/lower.py: padding is on the other side [pad]
- self._slice(inner, dim, before, before + value.shape[dim])
+ self._slice(inner, dim, 0, value.shape[dim])""")
@catches("""exchange/html/lower.py: pixels of a patch change places [shuffle]
- self._permute(split, (0, 1, 4, 2, 5, 3))
+ self._permute(split, (0, 1, 4, 3, 5, 2))""")
@catches("""exchange/html/lower.py: a multiple is added once [add a multiple]
- if alpha != 1:
+ if alpha == 0:""")
@catches("""exchange/html/lower.py: the kernel of a transposed convolution is not turned [transposed]
- weight.flip(2, 3).transpose(0, 1)
+ weight.transpose(0, 1)""")
@pytest.mark.parametrize("name", OPERATIONS)
def test_operations_on_views_have_the_values_of_torch(name):
    page, (ours, theirs) = object.__new__(_Lowering), OPERATIONS[name]
    page.program = Program()
    whole = page._new(X.shape)
    view = page._slice(page._permute(whole, (0, 1, 3, 2)), 3, 1, 5)
    found = ours(page, view)
    torch.testing.assert_close(
        values_of(page.program, found), theirs(X.transpose(2, 3)[..., 1:5]), rtol=1e-5, atol=1e-5
    )


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        (lambda page, v: page._convolution(v, WEIGHT, None, (1, 1), (1, 1), (2, 1), False, (0, 0), 1), "no dilated"),
        (lambda page, v: page._convolution(v, WEIGHT, None, (1, 1), (1, 1), (1, 1), True, (0, 1), 1), "no dilated"),
        (lambda page, v: page._mean(v, [1]), "only means over the last dimension"),
        (lambda page, v: page._mean(v, [2, 3]), "only means over the last dimension"),
        (lambda page, v: page._softmax(v, 1), "only a softmax over the last dimension"),
        (lambda page, v: page._pow(v, 3), "has squares, and this network has a power 3"),
        (lambda page, v: page._unary("gelu", v, {"approximate": "tanh"}), "only the exact GELU"),
        (lambda page, v: page._constant_pad_nd(v, (1, 1), 0.5), "pads only with zeros"),
        (lambda page, v: page._eq(v, 0.0), "no comparisons"),
        (lambda page, v: page._where(torch.tensor([False, True]), v, v), "no choices between values"),
        (lambda page, v: page._where(v, v, v), "no choices between values"),
    ],
)
def test_what_the_engine_of_the_page_lacks_is_refused(asked, words):
    page = object.__new__(_Lowering)
    page.program = Program()
    with pytest.raises(kk.InputError, match=f"{words}.*; choose another --format"):
        asked(page, page._new(X.shape))
    assert page.program.ops == []


def test_weights_are_packed_with_16_bits_in_the_order_of_their_tables():
    first = Program([6, 2, 3], [["copy", 1]], [0], 2, {1: torch.tensor([[1 / 3, -2e-20]]), 2: torch.randn(3, 1)})
    second = Program([1], [], [], 0, {0: torch.tensor([1.0 - 2**-20])})
    planes = np.frombuffer(gzip.decompress(base64.b64decode(packed(first, second))), np.uint8).reshape(3, -1)
    words = sum(plane.astype(np.uint32) << shift for plane, shift in zip(planes, (24, 16, 8)))
    wanted = torch.cat([first.weights[1].flatten(), first.weights[2].flatten(), second.weights[0]]).numpy()
    np.testing.assert_allclose(words.astype("<u4").view("<f4"), wanted, rtol=2**-16, atol=0)
    assert words.astype("<u4").view("<f4")[-1] == 1  # rounded to the nearest, and not cut off
    assert table(first) == {
        "sizes": [6, 2, 3],
        "ops": [["copy", 1]],
        "inputs": [0],
        "output": 2,
        "weights": {1: 0, 2: 2},
    }
    assert (num_weights(first), num_weights(second)) == (5, 1)


@catches("""exchange/html/export.py: the words of a model become markup
- autoescape=True
+ autoescape=False""")
def test_the_page_names_nothing_outside_and_holds_foreign_text_as_text(guided):
    text = guided[1].read_text()
    assert "default-src 'none'" in text
    assert not re.search(r"""(?:src|href)\s*=\s*["'](?!data:)""", text)
    assert "alert(1)</script>" not in text
    assert text.count("</script>") == text.count("<script") == 5


@catches("""exchange/html/export.py: classes are shown by their numbers
- words = model.classes or tuple
+ words = tuple""")
def test_the_page_shows_the_names_of_classes_as_text(tmp_path):
    names = ("cat", "<i>dog</i>", "emu")
    path = write_model(tmp_path / "m.safetensors", condition="labels", classes=names)
    text = kk.export(path, tmp_path / "m.html", "html").path.read_text()
    assert re.findall(r'<option value="\d+">([^(]*) \(', text) == ["emu", "&lt;i&gt;dog&lt;/i&gt;"]  # p(cat) is 0 here
    assert '"class_names":["cat","\\u003ci>dog\\u003c/i>","emu"]' in text


@pytest.mark.skipif(CHROMIUM is None, reason="needs chromium")
def test_the_page_draws_samples_in_a_browser_from_a_file_and_asks_for_nothing(guided, monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    browser = importlib.import_module("browser")
    with browser.Page(guided[1].as_uri()) as page:
        page.wait("Boolean(document.body && document.body.dataset.state === 'ready')")
        text = page.evaluate("document.body.innerText")
        level = page.evaluate("document.getElementById('level').value")
        assert (page.requests, page.messages) == ([guided[1].as_uri()], [])
        page.evaluate("console.log('seen')")
        page.evaluate("fetch('https://example.org').catch(() => 0)")  # the policy of the page forbids it
        assert len(page.messages) >= 2
        assert page.requests == [guided[1].as_uri()]
    assert "4 of 4 samples of seed 0" in text
    assert "t = 0, the sample" in level


def test_a_model_that_is_no_diffusion_model_is_refused_in_one_line(capsys, tmp_path):
    np.save(tmp_path / "counts.npy", np.random.default_rng(1).multinomial(30, [0.5, 0.3, 0.2], 40))
    kk.train("counts-dirichlet", data=tmp_path / "counts.npy", steps=3, out=tmp_path / "run")
    for name in ("html", "onnx"):
        code, _, told = call(capsys, "export", tmp_path / "run", "--format", name, "--out", tmp_path / f"m.{name}")
        assert code == 2
        assert len(told.strip().splitlines()) == 1
        assert not (tmp_path / f"m.{name}").exists()


@catches("""run/model_file.py: the card is not read back
- metadata.get(CARD, "")[:LONGEST_CARD]
+ ""[:LONGEST_CARD]""")
def test_a_file_carries_its_card_and_info_shows_it_as_plain_text(capsys, tmp_path):
    path = write_model(tmp_path / "m.safetensors", card="# Digits\nlicense: MIT\n\x1b[31mred")
    code, out, _ = call(capsys, "info", path)
    assert code == 0
    assert "license: MIT" in out
    assert "\x1b" not in out


def test_a_card_tells_data_settings_limits_and_use(tmp_path):
    np.save(tmp_path / "counts.npy", np.random.default_rng(1).multinomial(30, [0.5, 0.3, 0.2], 40))
    kk.train("counts-dirichlet", data=tmp_path / "counts.npy", steps=3, out=tmp_path / "run")
    path = kk.export(tmp_path / "run", tmp_path / "m.safetensors").path
    from kakusan.run import model_file

    card = model_file.read(path).card
    assert card.startswith("---\nlibrary_name: kakusan\nlicense: unknown\n")
    for words in ("## Facts", "counts.npy", "## Measured", "bits/dim", "## Settings", "## Limits", "kakusan sample"):
        assert words in card
    assert str(tmp_path) not in card
