"""What is measured and exported: sets, labels and metadata are those of the model, its data and its samples."""

import io
import json
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save
from torch.testing import assert_close

from harness.faults import catches
from harness.support import seeded
from kakusan import distributed
from kakusan.console import line_width
from kakusan.data.open import open_data
from kakusan.distributed import all_gather
from kakusan.errors import InputError, Stopped
from kakusan.exchange import card, import_model, onnx, onnx_chain
from kakusan.exchange.check_against import Agreement, Row, check_against, row_of
from kakusan.exchange.html import export as page
from kakusan.exchange.html.lower import Program
from kakusan.exchange.parts import parts_of
from kakusan.images import Images
from kakusan.measure import multiscale, samples
from kakusan.measure.classes import class_shares
from kakusan.measure.copies import Nearest, closest_pairs, copy_verdict
from kakusan.measure.grid import GridMetric
from kakusan.measure.metric import Examples, Sets, Value, shuffled
from kakusan.recipes import find
from kakusan.run.build import build
from kakusan.run.families.diffusion import DiffusionConfig
from kakusan.run.families.vae import VAEConfig
from kakusan.run.model_file import ExportedModel, Facts, Source, read
from kakusan.run.recipe import Recipe
from kakusan.run.trained_model import TrainedModel, of_file
from kakusan.settings import Length
from kakusan.signals import Received, handled_by, left_to_the_system
from kakusan.storage import commit, files
from kakusan.storage.lock import WriterLock

# Measures of samples


@pytest.fixture
def heard(monkeypatch):
    """The sets that are measured."""
    seen = []
    monkeypatch.setattr(
        samples, "_measure", lambda name, sets: seen.append(sets) or SimpleNamespace(classes={}, closest=[])
    )
    return seen


@catches("""measure/samples.py: a copied image has its place among the compared ones
- pairs = [replace(pair, train=int(chosen[pair.train])) for pair in pairs]
+ pairs = list(pairs)""")
@catches("""measure/samples.py: the closest images are those with the closest features
- near_training(sets, "pixels", "samples")
+ near_training(sets, "features", "samples")""")
@catches("""measure/samples.py: of many held-out images all are compared
- test = test[:MOST_TRAIN] if features == ANY else test
+ pass""")
def test_the_nearest_of_many_training_images_is_named_by_its_place_among_all(heard, monkeypatch):
    monkeypatch.setattr(samples, "MOST_TRAIN", 120)
    train = torch.randint(0, 256, (200, 1, 8, 8), generator=seeded(0), dtype=torch.uint8)
    copied = int(shuffled(200)[:120].sort().values[60])
    assert copied != 60
    drawn = torch.randint(0, 256, (100, 8, 8, 1), generator=seeded(1), dtype=torch.uint8).numpy()
    drawn[7] = train[copied].permute(1, 2, 0)
    found = samples.measure_images(drawn, train, train[:150].flip(3), "multiscale")
    assert (found.closest[0].sample, found.closest[0].train, found.closest[0].distance) == (7, copied, 0)
    pixels = [torch.from_numpy(drawn[one.sample]).permute(2, 0, 1).double() for one in found.closest]
    apart = [(one - train[pair.train]).norm().item() for one, pair in zip(pixels, found.closest)]
    assert [pair.distance for pair in found.closest] == pytest.approx(apart)
    assert (len(heard[0].reference), len(heard[0].train)) == (120, 120)


@catches("""measure/samples.py: the classes of real images are those of all training images
- "floor": floor.probabilities}
+ "floor": real.probabilities}""")
@catches("""measure/samples.py: held-out images are compared in their order
- sets = Sets(ours, held[shuffled(len(held))], real)
-     floor
+ sets = Sets(ours, held, real)
+     floor""")
@catches("""measure/samples.py: the classes of held-out images are those of the samples
- "reference": held.probabilities,
+ "reference": ours.probabilities,""")
def test_classes_are_counted_among_samples_held_out_and_as_many_training_images(heard, monkeypatch):
    def examples(images, features):
        pixels = torch.from_numpy(np.array(images)).flatten(1).double()
        return Examples(pixels, torch.nn.functional.one_hot(pixels[:, 0].long() % 3, 3).double(), pixels)

    monkeypatch.setattr(samples, "_images", examples)
    parts = [torch.randint(0, 256, (n, 1, 2, 2), generator=seeded(n), dtype=torch.uint8) for n in (100, 150, 130)]
    ours, train, held = parts
    found = samples.measure_images(ours.permute(0, 2, 3, 1).numpy(), train, held, "digits")
    probs = [examples(part.numpy(), "").probabilities for part in parts]
    assert found.classes == {
        "samples": class_shares(probs[0]),
        "reference": class_shares(probs[2]),
        "floor": class_shares(probs[1][shuffled(150)[:100]]),
    }
    (sets,) = heard
    assert torch.equal(sets.reference.features, held.flatten(1).double()[shuffled(130)])
    assert torch.equal(sets.train.features, train.flatten(1).double())


@catches("""measure/samples.py: features are scaled by those of the samples
- mean, scale = multiscale.scaling(raw[1])
+ mean, scale = multiscale.scaling(raw[0])""")
def test_features_of_any_images_are_standardized_by_those_of_training():
    draw = np.random.default_rng(0)
    ours, train, held = (draw.integers(0, top, (40, 8, 8, 1), dtype=np.uint8) for top in (60, 256, 256))
    found = samples._multiscale(ours, train, held)
    assert_close(found[1].features.mean(0), torch.zeros(found[1].features.shape[1]), rtol=0, atol=1e-4)
    assert found[1].features.std(0).max() < 1 + 1e-4
    assert found[0].features.mean(0).abs().max() > 1


@catches("""measure/multiscale.py: all scales have the same filters
- stream("multiscale", channels, scale)
+ stream("multiscale", channels)""")
@catches("""measure/multiscale.py: filters of edges respond to brightness
- first[: WIDTH // 2] -= first[: WIDTH // 2].mean((2, 3), keepdim=True)
+ first[: WIDTH // 2] -= first[: WIDTH // 2].mean()""")
@catches("""measure/multiscale.py: filters have any norm
- return part / part.flatten(1).norm(dim=1)[:, None, None, None]
+ return part / part.norm()""")
def test_every_scale_has_filters_of_its_own_with_norm_1_and_half_of_them_see_edges_only():
    scales = multiscale.filters(3)
    for first, second, _ in scales:
        for part in (first, second):
            assert_close(part.flatten(1).norm(dim=1), torch.ones(len(part)))
        assert_close(first[:8].mean((2, 3)), torch.zeros(8, 3), rtol=0, atol=1e-6)
        assert first[8:].mean((2, 3)).abs().min() > 1e-6
    for one, other in ((0, 1), (1, 2)):
        assert not torch.allclose(scales[one][0], scales[other][0])


@catches("""measure/grid.py: the error of the ratio is that of the samples alone
- for part in (ours, theirs)
-             if
+ for part in (ours,)
+             if""")
def test_the_error_of_the_ratio_of_powers_has_both_parts():
    ours, theirs = torch.tensor([1.0, 3.0, 5.0]), torch.tensor([1.0, 2.0])
    sets = Sets(Examples(torch.zeros(3, 1), grid=ours), Examples(torch.zeros(2, 1), grid=theirs))
    found = GridMetric().compute(sets)["grid_power"]
    assert found.value == 2.0
    assert found.standard_error == pytest.approx(2 * (4 / 3 / 9 + 0.5 / 2 / 2.25) ** 0.5)


@catches("""measure/copies.py: the samples that resemble no training image are shown
- ratios.argsort(stable=True)[:NUM_PAIRS]
+ ratios.argsort(stable=True, descending=True)[:NUM_PAIRS]""")
@catches("""measure/copies.py: a pair has the second nearest image
- int(near.indices[i, 0]), near.distances[i, 0].item()
+ int(near.indices[i, 1]), near.distances[i, 0].item()""")
def test_the_closest_pairs_have_the_smallest_ratios_first():
    distances = torch.tensor([[3.0, 4.0], [1.0, 4.0], [2.0, 4.0]], dtype=torch.float64)
    pairs = closest_pairs(Nearest(distances, torch.tensor([[10, 11], [20, 21], [30, 31]])))
    assert [(one.sample, one.train, one.distance, one.ratio) for one in pairs] == [
        (1, 20, 1.0, 0.25), (2, 30, 2.0, 0.5), (0, 10, 3.0, 0.75),
    ]  # fmt: skip


@catches("""measure/copies.py: the verdict on copies is that by pixels
- max(shares, key=lambda one: one[0] - one[1])
+ shares[0]""")
@catches("""measure/copies.py: the verdict on memorization is that by pixels
- max((values[f"nearer_{kind}"] for kind in kinds), key=lambda one: one.value)
+ values[f"nearer_{kinds[0]}"]""")
def test_the_verdict_is_by_the_features_or_pixels_that_show_most():
    floor = {"copied_pixels": Value(0.01), "copied_features": Value(0.01)}
    near = {"nearer_pixels": Value(0.5, 0.01), "nearer_features": Value(0.5, 0.01)}
    values = {"copied_pixels": Value(0.01), "copied_features": Value(0.4), **near}
    assert "40.0% of samples are copies of training examples by features" in copy_verdict(values, floor, 1000)
    values |= {"copied_features": Value(0.01), "nearer_features": Value(0.7, 0.01)}
    assert "70% of samples are nearer" in copy_verdict(values, floor, 1000)


# Exports and imports


def diffusion(early=False, **settings):
    """An untrained diffusion model, with other weights from early in its run."""
    config = DiffusionConfig(width=8, inner_width=8, blocks=1, depth=40, guidance=2.0 if early else 1.0, **settings)
    shape, made = (1, 8, 8), []
    for number in range(2):
        module = build(config, shape)
        for parameter in module.parameters():
            torch.nn.init.normal_(parameter, std=0.2, generator=seeded(number))
        made.append(module)
    weights = made[1].state_dict() if early else None
    return TrainedModel(Recipe("r", "", config), made[0], shape, torch.device("cpu"), weights)


@catches("""exchange/parts.py: the weaker network of an export is the better one
- networks = [network.model.denoiser, network.weaker.denoiser]
+ networks = [network.model.denoiser, network.model.denoiser]""")
@catches("""exchange/parts.py: the networks of an export change places
- networks = [network.model.denoiser, network.weaker.denoiser]
+ networks = [network.weaker.denoiser, network.model.denoiser]""")
def test_an_export_has_the_network_first_and_then_the_weaker_one_with_its_weight():
    model = diffusion(early=True)
    parts = parts_of(model, Path("x"))
    for network, own in zip(parts.networks, (model.chain, model.weaker), strict=True):
        for one, other in zip(network.parameters(), own.denoiser.parameters(), strict=True):
            assert torch.equal(one, other)
    assert parts.weight == 2.0
    log_snr, (low, high) = model.chain.schedule.log_snr, model.recipe.model.guidance_range
    assert parts.guided[1:] == [bool(low <= one <= high) for one in log_snr[1:].tolist()]


@catches("""exchange/onnx.py: the steps of an exported model have another spacing
- "times": model.sampling.times(),
+ "times": model.sampling.times(spacing="uniform"),""")
@catches("""exchange/onnx.py: an exported model says that every step is guided
- [t for t, guided in enumerate(parts.guided) if guided]
+ [t for t, guided in enumerate(parts.guided)]""")
@catches("""exchange/onnx.py: the signal of an exported model begins at the first step
- "alpha_bar": chain.schedule.alpha_bar.tolist()
+ "alpha_bar": chain.schedule.alpha_bar[1:].tolist()""")
def test_the_metadata_of_an_exported_model_are_its_own(monkeypatch):
    model = diffusion(early=True, likelihood="gaussian", clusters=0)
    parts = parts_of(model, Path("x"))
    facts = Facts(model.recipe, model.event_shape, Source("mine", "images", "1" * 64), {"torch": "9"})
    monkeypatch.setattr(onnx, "card_of", lambda source: "card")
    found = onnx.metadata(model, parts, SimpleNamespace(facts=facts))
    chain = model.chain
    assert found["times"] == model.sampling.times() != model.sampling.times(spacing="uniform")
    assert found["pixel_range"] == [model.scale.low, model.scale.high]
    assert_close(torch.tensor(found["alpha_bar"], dtype=torch.float64), chain.schedule.alpha_bar)
    assert (found["solver"], found["guidance"], found["prediction"]) == ("dpm++2m-sde", 2.0, "v")
    assert found["guided_times"] == [t for t in range(41) if parts.guided[t]] != list(range(41))
    assert found["clip"] == (None if chain.clip is None else list(chain.clip))
    assert found["data"] == {"name": "mine", "kind": "images", "sha256": "1" * 64}
    assert (found["versions"], found["card"], found["event_shape"]) == ({"torch": "9"}, "card", [1, 8, 8])
    assert found["class_probs"] is None


@catches("""exchange/onnx.py: one network of an exported model may differ
- difference = max(
+ difference = min(""")
def test_an_onnx_file_of_which_either_network_differs_is_refused(monkeypatch):
    model, shift = diffusion(early=True), [0.0, 0.0]
    parts = parts_of(model, Path("x"))
    network = onnx._Outputs(parts)

    def run(names, inputs):
        outputs = network(*map(torch.from_numpy, inputs.values()))
        return [(one + by).numpy() for one, by in zip(outputs, shift, strict=True)]

    names = ("z_t", "t", "cond")[: 2 if parts.classes is None else 3]
    session = SimpleNamespace(get_inputs=lambda: [SimpleNamespace(name=name) for name in names], run=run)
    runtime = SimpleNamespace(InferenceSession=lambda content, providers: session, __version__="9")
    monkeypatch.setattr(onnx, "_libraries", lambda: {"onnxruntime": runtime})
    assert "differ by at most 0.0e+00" in onnx._check(b"x", network, model, parts)
    for shift[:] in ([0.5, 0.0], [0.0, 0.5]):
        with pytest.raises(InputError, match="nothing was written"):
            onnx._check(b"x", network, model, parts)


@catches("""exchange/html/export.py: the classes of a page have no cumulative probabilities
- classes.share.double().cumsum(0).tolist()
+ classes.share.double().tolist()""")
@catches("""exchange/html/export.py: a page draws with all steps by default
- "default_steps": min(policy.default_steps, chain.depth)
+ "default_steps": chain.depth""")
@catches("""exchange/html/export.py: every step of a page is guided
- policy.times(count), parts.guided)
+ policy.times(count), [True] * len(parts.guided))""")
@catches("""exchange/html/export.py: a page has the better network alone
- return settings, packed(*programs)
+ return settings, packed(programs[0])""")
def test_the_settings_of_a_page_are_those_of_its_model(monkeypatch):
    model = diffusion(early=True, clusters=3)
    parts, lowered = parts_of(model, Path("x")), []
    parts.classes.share.copy_(torch.tensor([0.5, 0.2, 0.3]))
    monkeypatch.setattr(
        page, "lower", lambda network, example: lowered.append(network) or Program(inputs=[len(example)])
    )
    monkeypatch.setattr(page, "packed", lambda *programs: f"{len(programs)} of {programs[0].inputs}")
    found, weights = page.contents(model, parts)
    assert lowered == parts.networks
    assert weights == "2 of [3]"
    assert found["class_ends"] == pytest.approx([0.5, 0.7, 1.0])
    assert (found["default_steps"], list(found["plans"])) == (20, ["5", "10", "20", "40"])
    for count, plan in found["plans"].items():
        assert [step["t"] for step in plan] == model.sampling.times(int(count))[::-1]
        assert [step["guided"] for step in plan] == [parts.guided[step["t"]] for step in plan]
    assert {step["guided"] for step in found["plans"]["40"]} == {True, False}
    log_snr = parts.chain.schedule.log_snr
    assert all(step["log_snr"] == pytest.approx(log_snr[step["t"]].item()) for step in found["plans"]["40"])
    assert (found["class_word"], found["class_names"]) == ("cluster", [])
    assert (found["shape"], found["range"], found["guidance"]) == ([1, 8, 8], [-1.0, 1.0], 2.0)
    assert found["clip"] == (None if parts.chain.clip is None else list(parts.chain.clip))


@catches("""exchange/onnx_chain.py: a chain in onnxruntime does not clip
- clip=None if facts["clip"] is None else tuple(facts["clip"])
+ clip=None""")
@catches("""exchange/onnx_chain.py: a chain in onnxruntime has the noise of the next step
- Schedule.from_betas(1 - alpha_bar[1:] / alpha_bar[:-1])
+ Schedule.from_betas((1 - alpha_bar[1:] / alpha_bar[:-1]).roll(1))""")
@catches("""exchange/onnx_chain.py: the wanted number of threads is ignored
- options.intra_op_num_threads, options.log_severity_level = num_threads, 4
+ options.intra_op_num_threads, options.log_severity_level = 0, 4""")
def test_a_chain_of_an_onnx_file_has_the_schedule_clipping_and_steps_of_its_metadata(tmp_path, monkeypatch):
    facts = {
        "prediction": "x", "event_shape": [1, 2, 2], "alpha_bar": [1.0, 0.9, 0.5, 0.01], "clip": [-1.0, 1.0],
        "solver": "ddim", "times": [1, 3], "guidance": None, "guided_times": [], "class_probs": None,
    }  # fmt: skip
    texts = {name: value if isinstance(value, str) else json.dumps(value) for name, value in facts.items()}
    session = SimpleNamespace(get_inputs=list, get_modelmeta=lambda: SimpleNamespace(custom_metadata_map=texts))
    opened = []
    runtime = SimpleNamespace(
        SessionOptions=SimpleNamespace, InferenceSession=lambda *given, **named: opened.append(given) or session
    )
    monkeypatch.setitem(sys.modules, "onnxruntime", runtime)
    (tmp_path / "x.onnx").write_bytes(b"x")
    chain, keywords = onnx_chain.open_chain(tmp_path / "x.onnx", num_threads=3)
    ((content, options),) = opened
    assert (content, options.intra_op_num_threads) == (b"x", 3)
    assert chain.clip == (-1.0, 1.0)
    assert_close(chain.schedule.alpha_bar, torch.tensor(facts["alpha_bar"], dtype=torch.float64))
    assert (chain.prediction, chain.event_shape, keywords) == ("x", (1, 2, 2), {"solver": "ddim", "times": [1, 3]})


@catches("""exchange/import_model.py: an imported file does not know its data
- source = Source(dataset.name, "images", dataset.digest())
+ source = Source(dataset.name, "images", model.facts.data.digest)""")
@catches("""exchange/import_model.py: an imported file holds a path of this machine
- data=Path(model.facts.recipe.data).name)
+ data=model.facts.recipe.data)""")
@catches("""exchange/import_model.py: the recorded command of an import lacks its data
- "--out", str(out), "--data", str(data)]
+ "--out", str(out)]""")
def test_an_imported_file_names_its_data_by_their_digest_and_without_a_path(tmp_path, monkeypatch):
    np.save(tmp_path / "x.npy", np.random.default_rng(0).integers(0, 256, (9, 4, 6), dtype=np.uint8))
    config, shape = VAEConfig(hidden=(4,), latent=2), (1, 4, 6)
    facts = Facts(Recipe("r", "", config, "unknown"), shape, Source("unknown", "images", "0" * 64), {})
    model = ExportedModel(facts, build(config, shape).state_dict())
    monkeypatch.setattr(import_model, "read_pipeline", lambda folder: model)
    import_model.import_model("folder", tmp_path / "m.safetensors", str(tmp_path / "x.npy"), "cpu")
    found = read(tmp_path / "m.safetensors").facts
    assert found.data == Source("x.npy", "images", open_data(tmp_path / "x.npy").digest())
    assert found.recipe.data == "x.npy"
    written, data, out = [], str(tmp_path / "x.npy"), tmp_path / "run"
    monkeypatch.setattr(import_model, "_write_run", lambda *given: written.append(given))
    import_model.import_model("folder", out, data, "cpu")
    ((run_model, dataset, *rest),) = written
    assert rest == [out, torch.device("cpu"), ["kakusan", "import", "folder", "--out", str(out), "--data", data]]
    assert (dataset.name, run_model.facts.recipe.data) == ("x.npy", data)


@catches("""exchange/card.py: training and held-out examples of a card are swapped
- {data['train']:,} for training, {data['held_out']:,} held out
+ {data['held_out']:,} for training, {data['train']:,} held out""")
@catches("""exchange/card.py: the card has the digest of the weights for that of the data
- ("SHA-256 of the data", facts.data.digest)
+ ("SHA-256 of the data", facts.versions["torch"])""")
@catches("""exchange/card.py: a file loses the card that its owner has filled in
- if stored:
+ if not stored:""")
def test_a_card_has_the_facts_of_its_run():
    records = {
        "data.json": {"train": 90, "held_out": 10},
        "summary.json": {"lines": ["bound", "more"], "steps": 1234, "weights_sha256": "w"},
    }
    run = SimpleNamespace(read=records.get, finished=True)
    facts = Facts(find("mnist-vae"), (1, 28, 28), Source("mine", "images", "1" * 64), {"torch": "9"})
    source = SimpleNamespace(facts=facts, run=run, name="m")
    assert dict(card.plain_facts(source)) == {
        "recipe": "mnist-vae",
        "data": "mine, images of shape (1, 28, 28)",
        "examples": "90 for training, 10 held out",
        "bound": "bound",
        "SHA-256 of the data": "1" * 64,
        "made with": "torch 9",
        "steps": "1,234",
        "SHA-256 of the weights": "w",
    }
    text = card.card_of(source)
    assert "- bound\n- more\n" in text
    assert "- latent: 32\n" in text
    assert "kakusan sample m.safetensors -n 64" in text
    cards = [
        card.card_of(
            SimpleNamespace(facts=facts, run=None, name="m", read=lambda stored=stored: SimpleNamespace(card=stored))
        )
        for stored in ("license: MIT", "")
    ]
    assert cards[0] == "license: MIT"
    assert "## Measured\n\n- nothing\n" in cards[1]


@catches("""exchange/check_against.py: libraries agree if their last images do
- all(row.largest <= TOLERANCE for row in self.rows)
+ all(row.last <= TOLERANCE for row in self.rows)""")
def test_libraries_agree_only_if_no_step_differs():
    same, other = Row("ddim", "sample", 1e-5, 1, 1e-6), Row("ddim", "sample", 1e-1, 3, 1e-6)
    assert Agreement("diffusers", "1", [same, same]).agrees
    assert not Agreement("diffusers", "1", [same, other]).agrees


@catches("""exchange/check_against.py: the last difference of a row is its first
- 1 + differences.index(largest), differences[-1])
+ 1 + differences.index(largest), differences[0])""")
@catches("""exchange/check_against.py: steps of a comparison are counted from 0
- 1 + differences.index(largest), differences[-1])
+ differences.index(largest), differences[-1])""")
def test_a_row_of_a_comparison_has_its_largest_and_its_last_difference():
    ours = [torch.zeros(3)] * 3
    theirs = [torch.tensor(one) for one in ([0.1, 0.0, 0.0], [0.0, 0.0, -0.5], [0.0, 0.25, 0.0])]
    assert row_of("ddim", "sample", ours, theirs) == Row("ddim", "sample", 0.5, 2, 0.25)


def test_a_comparison_is_told_as_a_table_with_its_verdict():
    rows = [Row("ddim, eta 0", "sample", 1e-3, 7, 2e-5), Row("dpm-solver++ 2M", "epsilon", 2.5e-4, 20, 1e-6)]
    head = "solver                prediction       largest  at step    images"
    table = [
        "ddim, eta 0           sample           1.0e-03        7   2.0e-05",
        "dpm-solver++ 2M       epsilon          2.5e-04       20   1.0e-06",
    ]
    end = "4 images, 20 steps, values in [-1, 1]: kakusan and diffusers 9 {} (tolerance 1.0e-03)"
    found = Agreement("diffusers", "9", rows)
    assert found.lines() == [head, *table, end.format("agree")]
    assert found.record() == {
        "against": "diffusers", "version": "9", "tolerance": 1e-3, "agrees": True,
        "rows": [
            {"solver": "ddim, eta 0", "prediction": "sample", "largest": 1e-3, "step": 7, "last": 2e-5},
            {"solver": "dpm-solver++ 2M", "prediction": "epsilon", "largest": 2.5e-4, "step": 20, "last": 1e-6},
        ],
    }  # fmt: skip
    assert Agreement("diffusers", "9", [Row("x", "sample", 1.1e-3, 1, 0.0)]).lines()[-1] == end.format("DIFFER")
    with pytest.raises(
        InputError, match=r"compares itself with diffusers, got 'other'; type: .*check-against diffusers"
    ):
        check_against("other")


class Stand(torch.nn.Module):
    """A network with one output of a size."""

    def __init__(self, size):
        super().__init__()
        self.size = size

    def forward(self, z_t, t, cond=None):
        return (torch.full_like(z_t, self.size),)


@pytest.mark.parametrize(("size", "limit"), [(0.1, 1e-4), (10.0, 1e-3)])
def test_outputs_of_onnxruntime_may_differ_by_a_ten_thousandth_of_one_or_of_the_largest(monkeypatch, size, limit):
    by, names = [0.0], ["z_t", "t"]

    def run(wanted, inputs):
        assert list(inputs) == names
        return [np.full((3, 1, 2, 2), size, np.float32) + np.float32(by[0])]

    session = SimpleNamespace(get_inputs=lambda: [SimpleNamespace(name=name) for name in names], run=run)
    runtime = SimpleNamespace(InferenceSession=lambda content, providers: session, __version__="9")
    monkeypatch.setattr(onnx, "_libraries", lambda: {"onnxruntime": runtime})
    model = SimpleNamespace(event_shape=(1, 2, 2))
    parts = SimpleNamespace(chain=SimpleNamespace(depth=5), classes=None)
    for by[0] in (0.0, 0.9 * limit):
        line = onnx._check(b"x", Stand(size), model, parts)
        assert line.startswith("outputs in onnxruntime 9 differ by at most ")
        assert line.endswith(" of torch's (tolerance 1e-04)")
    for by[0] in (1.1 * limit, float("nan")):
        with pytest.raises(InputError, match=r", at most 1e-04; nothing was written$"):
            onnx._check(b"x", Stand(size), model, parts)


def test_an_onnx_file_is_checked_at_every_step_and_with_classes_if_it_has_them():
    model = SimpleNamespace(event_shape=(1, 2, 2))
    classes = SimpleNamespace(draw=lambda num, randomness: torch.full((num,), 7))
    parts = SimpleNamespace(chain=SimpleNamespace(depth=5), classes=classes)
    z, t, cond = onnx._inputs(model, parts, 300)
    assert (z.shape, z.dtype, cond.tolist()) == ((300, 1, 2, 2), torch.float32, [7] * 300)
    assert sorted(set(t.tolist())) == [1, 2, 3, 4, 5]
    assert len(onnx._inputs(model, SimpleNamespace(chain=parts.chain, classes=None), 3)) == 2


FACTS = {"guidance": 3.0, "guided_times": [2, 4], "class_probs": None}


def test_a_network_in_onnxruntime_is_guided_at_the_listed_steps_and_takes_classes_only_if_it_has_them():
    seen = []

    def session(*names, outputs=2):
        def run(wanted, inputs):
            seen.append({name: value.tolist() for name, value in inputs.items()})
            return [inputs["z_t"] * 2, inputs["z_t"] * 0.5][:outputs]

        return SimpleNamespace(get_inputs=lambda: [SimpleNamespace(name=name) for name in names], run=run)

    z, cond = torch.tensor([[4.0]]), torch.tensor([1])
    plain = onnx_chain.ONNXDenoiser(session("z_t", "t"), FACTS)
    for t, expected in ((1, 8.0), (2, 2 + 3 * 6.0), (3, 8.0), (4, 20.0)):
        assert plain(z, torch.tensor([t])).item() == expected
    assert seen[0] == {"z_t": [[4.0]], "t": [1]}
    assert onnx_chain.ONNXDenoiser(session("z_t", "t", outputs=1), FACTS)(z, torch.tensor([2])).item() == 8.0
    told = onnx_chain.ONNXDenoiser(session("z_t", "t", "cond"), {**FACTS, "class_probs": [0.25, 0.75]})
    assert told(z, torch.tensor([1]), cond).item() == 8.0
    assert seen[-1] == {"z_t": [[4.0]], "t": [1], "cond": [1]}
    assert (told.class_probs.tolist(), told.class_probs.dtype) == ([0.25, 0.75], torch.float64)
    with pytest.raises(InputError, match="takes z_t, t, cond; pass cond"):
        told(z, torch.tensor([1]))
    with pytest.raises(InputError, match="takes z_t, t; omit cond"):
        plain(z, torch.tensor([1]), cond)


@pytest.mark.parametrize("name", onnx_chain.NEEDED)
def test_an_onnx_file_without_a_fact_is_refused_by_its_name(name):
    texts = dict.fromkeys(onnx_chain.NEEDED, "1")
    assert onnx_chain._facts(texts, Path("m.onnx")) == {
        **dict.fromkeys(onnx_chain.NEEDED, 1),
        "prediction": "1",
        "solver": "1",
    }
    del texts[name]
    with pytest.raises(
        InputError, match=rf"m\.onnx has no {name} in its metadata; expected a file of .*export RUN --format onnx"
    ):
        onnx_chain._facts(texts, Path("m.onnx"))


@pytest.mark.parametrize(
    ("shape", "drawn"), [((1, 8, 8), True), ((3, 8, 8), True), ((4, 8, 8), True), ((2, 8, 8), False), ((8,), False)]
)
def test_a_page_is_made_for_images_alone_and_a_large_one_is_remarked(monkeypatch, shape, drawn):
    sizes = iter([12_000_000, 12_600_000])
    monkeypatch.setattr(page, "shared_model", lambda source: SimpleNamespace(event_shape=shape))
    monkeypatch.setattr(page, "parts_of", lambda model, path: None)
    monkeypatch.setattr(page, "contents", lambda model, parts: ({"program": {"ops": [1, 2]}}, "w" * 1234))
    monkeypatch.setattr(page, "_page", lambda *given: "x" * next(sizes))
    source = SimpleNamespace(path="m.safetensors")
    if not drawn:
        with pytest.raises(InputError, match=r"a page draws images, and m\.safetensors has examples of shape"):
            page.HTMLPage().make(source)
        return
    first, second = page.HTMLPage().make(source), page.HTMLPage().make(source)
    assert (len(first.content), first.lines) == (12_000_000, ["2 operations, 1,234 characters of weights"])
    assert second.lines[1:] == ["caution: the page has 13 MB and opens slowly; use a smaller network"]


# Files, grids and signals


@catches("""images.py: images that do not fill the last row are left out
- rows = math.ceil(count / columns)
+ rows = max(1, count // columns)""")
@catches("""images.py: a grid is filled by columns
- top = GAP + index // columns * (height + GAP)
-             left = GAP + index % columns * (width + GAP)
+ top = GAP + index % rows * (height + GAP)
+             left = GAP + index // rows * (width + GAP)""")
@catches("""images.py: wide images are enlarged beyond their cell
- SMALLEST_CELL // max(height, width)
+ SMALLEST_CELL // min(height, width)""")
@catches("""images.py: images in a notebook are not shown
-     def _repr_png_(self) -> bytes | None:
-         if self.ndim != 4 or not len(self):
+     def _repr_png_(self) -> bytes | None:
+         if self.ndim == 4 or not len(self):""")
def test_a_grid_shows_every_image_in_reading_order_enlarged_to_whole_pixels():
    images = np.zeros((5, 10, 25, 3), np.uint8) + np.arange(10, 60, 10, dtype=np.uint8)[:, None, None, None]
    try:
        canvas = np.asarray(Images(images).grid(2))
    except ValueError as error:
        pytest.fail(str(error))
    assert canvas.shape == (3 * 22 + 2, 2 * 52 + 2, 3)
    cells = [
        canvas[2 + 22 * row : 22 + 22 * row, 2 + 52 * column : 52 + 52 * column]
        for row in range(3)
        for column in range(2)
    ]
    for cell, value in zip(cells, (10, 20, 30, 40, 50, 96)):
        assert (cell == value).all()
    shown = Images(images)._repr_png_() or b""
    assert shown[:4] == b"\x89PNG"
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(shown))), np.asarray(Images(images).grid()))
    assert [Images(images)[:0]._repr_png_(), Images(images)[0]._repr_png_()] == [None, None]


@catches("""images.py: a saved grid has no facts about its origin
- for name, value in (facts or {}).items():
+ for name, value in {}.items():""")
def test_a_saved_grid_has_its_columns_and_the_facts_about_its_origin(tmp_path):
    Images(np.zeros((6, 60, 60, 1), np.uint8)).save(tmp_path / "x.png", {"seed": 7, "solver": "ddim"}, columns=6)
    with Image.open(tmp_path / "x.png") as saved:
        assert saved.size == (6 * 62 + 2, 64)
        assert saved.info == {"kakusan:software": "kakusan", "kakusan:seed": "7", "kakusan:solver": "ddim"}


@catches("""distributed.py: parts are joined in the order of their names
- for number in sorted(done)]
+ for number in sorted(done, key=str)]""")
@catches("""distributed.py: a part of another rank loses the beginning of its names
- number, _, name = key.partition(".")
+ number, name = key.split(".")[0], key.split(".")[-1]""")
def test_parts_are_joined_in_the_order_of_their_numbers(monkeypatch):
    parts = {number: {"x": torch.tensor([number])} for number in (10, 2, 9, 0)}
    assert [part["x"].item() for part in all_gather(parts)] == [0, 2, 9, 10]
    other = {"1.net.a": torch.tensor([1]), "1.net.b": torch.tensor([2])}
    monkeypatch.setattr(distributed, "world_size", lambda: 2)
    monkeypatch.setattr(distributed, "all_gather_bytes", lambda own: [save(other), own])
    found = all_gather({2: {"net.a": torch.tensor([3])}, 0: {"net.b": torch.tensor([4])}})
    assert [{name: value.item() for name, value in part.items()} for part in found] == [
        {"net.b": 4}, {"net.a": 1, "net.b": 2}, {"net.a": 3},
    ]  # fmt: skip


@catches("""signals.py: a signal of earlier work is taken for one of this
-     Received.number = 0
-     return _with(handle)
+     return _with(handle)""")
@catches("""signals.py: handlers of signals are not restored
- signal.signal(number, before)
+ pass""")
def test_signals_are_heard_inside_the_block_alone():
    import signal

    def refuse(number, frame):
        raise Stopped(number)

    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    with pytest.raises(Stopped), handled_by(refuse):
        signal.raise_signal(signal.SIGTERM)
    assert Received.number == signal.SIGTERM
    with handled_by(refuse):
        assert Received.number == 0
    with left_to_the_system():
        assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    after = {number: signal.getsignal(number) for number in before}
    for number, handler in before.items():
        signal.signal(number, handler)
    assert after == before


@catches("""settings.py: the longest text that is allowed is too long
- self.low <= len(value) <= self.high and
+ self.low <= len(value) < self.high and""")
def test_both_ends_of_a_length_are_allowed():
    assert [Length(2, 3).holds("x" * size) for size in range(1, 5)] == [False, True, True, False]
    assert not Length(2, 3).holds("a\n")


@catches("""console.py: lines are as wide as the terminal
- min(shutil.get_terminal_size().columns, 120) - 1
+ min(shutil.get_terminal_size().columns, 120)""")
def test_lines_leave_one_column_of_a_terminal_free_and_have_at_most_119(monkeypatch):
    for columns, width in ((60, 59), (120, 119), (300, 119)):
        monkeypatch.setenv("COLUMNS", str(columns))
        assert line_width() == width


@catches("""storage/commit.py: the folder of the wanted step is passed over
- step_of(folder) > at_most
+ step_of(folder) >= at_most""")
def test_the_newest_folder_up_to_a_step_may_be_that_of_the_step(tmp_path):
    for step in (1, 2, 3):
        with commit.Draft(tmp_path, f"step-{step:08d}") as draft:
            draft.write("a", b"x")
            draft.publish()
    found = [commit.newest_good(tmp_path, at_most)[0] for at_most in (0, 1, 2, 3, 9)]
    assert found == [None, *(tmp_path / f"step-{step:08d}" for step in (1, 2, 3, 3))]


@catches("""storage/files.py: the free space is in another unit than it says
- {free_bytes(folder):,} bytes are free
+ {free_bytes(folder) // MIB:,} bytes are free""")
def test_the_free_space_is_told_in_bytes(monkeypatch, tmp_path):
    monkeypatch.setattr(files, "free_bytes", lambda folder: 123_456_789)
    assert files.free_words(tmp_path) == "123,456,789 bytes are free"


@catches("""run/trained_model.py: the types of early weights are not checked
- for part in (weights, early) if early is not None else (weights,):
+ for part in (weights,):""")
def test_early_weights_in_float64_are_refused():
    model = diffusion(early=True)
    weights = model.chain.state_dict()
    early = {name: tensor.double() for name, tensor in weights.items()}
    shared = ExportedModel(SimpleNamespace(recipe=model.recipe, event_shape=model.event_shape), weights, early)
    with pytest.raises(InputError, match=r"early\.pt: .* must be float32 .*, got float64"):
        of_file(shared, torch.device("cpu"), Path("early.pt"))


@catches("""storage/lock.py: a folder that cannot be written to counts as locked
-         except OSError:  # a folder of another user, and only that user can write here
-             return None
+         except OSError:
+             return self._record()""")
def test_a_folder_in_which_no_lock_can_be_taken_is_not_locked(tmp_path, monkeypatch):
    lock = WriterLock(tmp_path)
    lock.acquire()
    lock.release()

    def refuse(self, timeout):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("filelock.FileLock.acquire", refuse)
    assert WriterLock(tmp_path).owner() is None


@catches("""storage/lock.py: the record of a lock does not say where its holder runs
- "host": platform.node()
+ "host": platform.system()""")
@catches("""storage/lock.py: the record of a lock has the parent of its holder
- "pid": os.getpid()
+ "pid": os.getppid()""")
def test_the_record_of_a_lock_says_who_holds_it(tmp_path, monkeypatch):
    import os

    monkeypatch.setattr("platform.node", lambda: "here")
    monkeypatch.setattr(sys, "argv", ["/somewhere/kakusan", "train", "a b"])
    lock = WriterLock(tmp_path)
    lock.acquire()
    owner = WriterLock(tmp_path)._record()
    lock.release()
    assert (owner["pid"], owner["host"], owner["command"]) == (os.getpid(), "here", ["kakusan", "train", "a b"])
    assert WriterLock(tmp_path).owner() is None
    assert [path.name for path in tmp_path.iterdir() if path.name != "lock"] == []
