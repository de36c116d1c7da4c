"""The files of the tools: each option is used, figures show what they name, and tables hold the right columns."""

import csv
import dataclasses
import inspect
import io
import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from torch.testing import assert_close

from harness.faults import catches
from kakusan.data.forms.images import ImageForm
from kakusan.errors import InputError
from kakusan.likelihood.ranking import Ranking
from kakusan.likelihood.scores import Scores
from kakusan.models.diffusion import Diffusion
from kakusan.noise import stream
from kakusan.run.build import build
from kakusan.run.families.vae import VAEConfig
from kakusan.run.model_file import ExportedModel, Facts, Source
from kakusan.run.recipe import Recipe
from kakusan.run.tools import encode, interpolate, reconstruct, score
from kakusan.run.tools.files import one_example
from kakusan.run.tools.latents import MeanLatents, NoiseLatents
from kakusan.run.trained_model import load
from kakusan.schedule import Schedule
from kakusan.solvers import DDIM, Heun

SHAPE = (1, 4, 6)


def pixels(n, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (n, *SHAPE[1:]), dtype=np.uint8)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """An exported VAE of bits, one of gray levels, and data of 7 images of 4 x 6."""
    root = tmp_path_factory.mktemp("files")
    np.save(root / "x.npy", pixels(7))
    for likelihood in ("bernoulli", "discretized"):
        torch.manual_seed(0)
        config = VAEConfig(hidden=(8,), latent=3, likelihood=likelihood)
        module = build(config, SHAPE)
        for parameter in module.parameters():
            torch.nn.init.normal_(parameter, std=0.3)
        facts = Facts(Recipe("r", "", config), SHAPE, Source("x", "images", "0" * 64), {})
        (root / f"{likelihood}.safetensors").write_bytes(ExportedModel(facts, module.state_dict()).to_bytes())
    return root


# Scores


def scored(n=4):
    """Scores whose five columns differ everywhere."""
    columns = torch.arange(5.0 * n, dtype=torch.float64).view(5, n)
    scores = Scores(columns[0], columns[1], columns[2], columns[3], 99)
    names = tuple(f"{k}.png" for k in range(n))
    return score.Scored(
        "x", Ranking(scores, columns[4].long(), torch.tensor([2, 0]), 0), names, tuple(range(10, 10 + n)), 1
    )


@catches("""run/tools/score.py: the errors in nats and in bits change places
- (scores.nats, scores.stderr, scores.bits_per_dim,
+ (scores.nats, scores.bits_per_dim_stderr, scores.bits_per_dim,""")
@catches("""run/tools/score.py: the strangest are named by their rank
- **({"file": names[index]} if names else {})
+ **({"file": names[self.ranking.rows.tolist().index(index) if index in self.ranking.rows else index]} if names else {})""")
@catches("""run/tools/score.py: the record counts the evaluations of one example
- "evaluations": int(self.ranking.draws.sum())
+ "evaluations": int(self.ranking.draws.max())""")
def test_each_row_of_a_table_of_scores_has_the_numbers_of_its_example():
    found = scored()
    rows = list(csv.DictReader(io.StringIO(found.table().decode())))
    assert [row["file"] for row in rows] == ["0.png", "1.png", "2.png", "3.png"]
    for k, row in enumerate(rows):
        numbers = [float(row[name]) for name in ("nats", "nats_stderr", "bits_per_dim", "bits_per_dim_stderr")]
        assert numbers == [k, 4 + k, 8 + k, 12 + k]
        assert (int(row["example"]), int(row["observed"]), int(row["evaluations"])) == (k, 10 + k, 16 + k)
    record = found.record()
    assert [one["file"] for one in record["strangest"]] == ["2.png", "0.png"]
    assert (record["mean_bits_per_dim"], record["evaluations"]) == (9.5, 16 + 17 + 18 + 19)
    assert [line.split()[0] for line in found.lines()[1:3]] == ["2.png", "0.png"]
    assert "2.00 ± 6.00 nats   10.0000 ± 14.0000 bits/dim" in found.lines()[1]


@catches("""run/tools/score.py: the number of missing values is that of observed ones
- tuple((~missing).sum(1).tolist())
+ tuple(missing.sum(1).tolist())""")
def test_observed_values_are_counted_for_each_example():
    rows = torch.tensor([[1.0, torch.nan, 2.0], [3.0, 4.0, 5.0], [torch.nan, torch.nan, 6.0]])
    assert score._observed(rows) == ((2, 3, 1), 2)
    assert score._observed(rows[1:2]) == ((), 0)


@catches("""run/tools/score.py: maps are scaled to the largest error of all
- errors.flatten(1).amax(1).clamp(min=1e-12)[:, None, None]
+ errors.amax().clamp(min=1e-12)""")
def test_each_map_is_scaled_to_its_own_largest_error():
    errors = torch.tensor([[[0.0, 1.0], [0.5, 0.25]], [[8.0, 0.0], [4.0, 2.0]], [[0.0, 0.0], [0.0, 0.0]]])
    gray = score.as_gray(SimpleNamespace(event_shape=(3, 2, 2)), errors)
    assert gray.shape == (3, 2, 2, 3)
    assert gray[..., 0].tolist() == [[[0, 255], [128, 64]], [[255, 0], [128, 64]], [[0, 0], [0, 0]]]
    assert (gray == gray[..., :1]).all()


@catches("""run/tools/score.py: a map is the squared error of the last estimate
- return squares.mean((0, 2)).cpu()
+ return squares[-1].mean(1).cpu()""")
def test_a_map_is_the_mean_squared_error_over_estimates_and_channels():
    x = torch.zeros(2, 2, 3, 3)
    estimates = [x + 1, x + torch.tensor([3.0, 5.0])[:, None, None]]  # channels off by 1 and 1, then by 3 and 5
    latents = SimpleNamespace(cond_of=lambda x: None, estimates=lambda *given: estimates)
    model = SimpleNamespace(
        examples=lambda data: data,
        batches=lambda data, seed: lambda rows: data[rows],
        family=SimpleNamespace(latents=lambda model: latents),
    )
    assert_close(score.error_map(model, x), torch.full((2, 3, 3), (1 + 1 + 9 + 25) / 4))


@catches("""run/tools/score.py: the maps are those of the first examples
- strangest = dataset.test[ranking.rows]
+ strangest = dataset.test[: len(ranking.rows)]""")
@catches("""run/tools/score.py: maps stand above their images
- in_pairs(model.family.form.samples(strangest), as_gray(model, error_map(model, strangest, seed)))
+ in_pairs(as_gray(model, error_map(model, strangest, seed)), model.family.form.samples(strangest))""")
@catches("""run/tools/score.py: the score of examples has one seed
- evaluations, error,
-         seed, model.grid_nats(),
+ evaluations, error,
+         0, model.grid_nats(),""")
def test_the_strangest_images_stand_above_their_own_maps(files, tmp_path, monkeypatch):
    figures = []
    monkeypatch.setattr(ImageForm, "save_figure", lambda self, *given: figures.append(given))
    path, data = files / "discretized.safetensors", files / "x.npy"
    found = score.score(path, str(data), top=2, evaluations=4, map=tmp_path / "m.png", seed=3)
    ((shown, _, _, columns),) = figures
    rows = found.ranking.rows
    model = load(path)
    examples = torch.from_numpy(pixels(7))[rows][:, None]
    assert np.array_equal(shown[:2, ..., 0], examples[:, 0].numpy())
    assert np.array_equal(shown[2:], score.as_gray(model, score.error_map(model, examples, 3)))
    assert columns == 2
    again = model.score_samples(torch.from_numpy(pixels(7))[:, None], evaluations=4, seed=3)
    assert torch.equal(found.ranking.scores.nats[found.ranking.draws == 4], again.nats[found.ranking.draws == 4])


# Latents, reconstructions and interpolations


@catches("""run/tools/encode.py: the seed of encode is not used
- found = encode(model, dataset.test, seed=seed, **choices)
+ found = encode(model, dataset.test, **choices)""")
@catches("""run/tools/reconstruct.py: the seed of reconstruct is not used
- found = reconstruct(model, given, t, seed=seed, **choices)
+ found = reconstruct(model, given, t, **choices)""")
@catches("""run/tools/interpolate.py: the seed of interpolate is not used
- one_example(model, run, b), n, seed=seed, **choices)
+ one_example(model, run, b), n, **choices)""")
def test_the_seed_of_every_tool_draws_other_bits(files, tmp_path):
    """A model of bits draws them from gray levels."""
    path, data, results = files / "bernoulli.safetensors", str(files / "x.npy"), []
    image = tmp_path / "a.png"
    Image.fromarray(np.full(SHAPE[1:], 128, np.uint8)).save(image)
    for seed in (0, 1):
        out = tmp_path / str(seed)
        encode.encode_file(path, data, out / "z.npy", seed=seed)
        reconstruct.reconstruct_files(path, data, out / "r", seed=seed)
        interpolate.interpolate_file(path, str(image), str(image), out / "i.npy", seed=seed)
        results.append([np.load(out / name) for name in ("z.npy", "r/reconstructions.npy", "i.npy")])
    for first, second in zip(*results):
        assert not np.array_equal(first, second)


@catches("""run/tools/encode.py: steps and solver of encode are not used
- found = encode(model, dataset.test, seed=seed, **choices)
+ found = encode(model, dataset.test, seed=seed)""")
@catches("""run/tools/reconstruct.py: steps and solver of reconstruct are not used
- found = reconstruct(model, given, t, seed=seed, **choices)
+ found = reconstruct(model, given, t, seed=seed)""")
@catches("""run/tools/interpolate.py: steps and solver of interpolate are not used
- one_example(model, run, b), n, seed=seed, **choices)
+ one_example(model, run, b), n, seed=seed)""")
def test_every_tool_passes_its_choices_on(files, tmp_path, monkeypatch):
    path, data, seen = files / "discretized.safetensors", str(files / "x.npy"), []
    for module, name in ((encode, "encode"), (reconstruct, "reconstruct"), (interpolate, "interpolate")):
        one = lambda model, *given, **choices: (seen.append(choices), np.zeros((7, *SHAPE[1:], 1), np.uint8))[1]  # noqa: E731
        monkeypatch.setattr(module, name, one)
    image, wanted = tmp_path / "a.png", {"steps": 3, "solver": "heun", "seed": 5}
    Image.fromarray(pixels(1)[0]).save(image)
    encode.encode_file(path, data, tmp_path / "z.npy", **wanted)
    reconstruct.reconstruct_files(path, data, tmp_path / "r", **wanted)
    interpolate.interpolate_file(path, str(image), str(image), tmp_path / "i.npy", **wanted)
    assert seen == [wanted] * 3


@catches("""run/tools/reconstruct.py: the noise of a reconstruction repeats in every batch
- range(int(rows[0]), int(rows[-1]) + 1)
+ range(len(rows))""")
def test_the_noise_of_a_reconstruction_depends_on_the_seed_and_its_number_alone(files, monkeypatch):
    model, x = load(files / "discretized.safetensors"), torch.from_numpy(pixels(7))[:, None]
    whole = model.reconstruct(x, t=1, seed=4)
    monkeypatch.setattr(reconstruct, "BATCH", 3)
    assert np.array_equal(model.reconstruct(x, t=1, seed=4), whole)
    assert not np.array_equal(model.reconstruct(x, t=1, seed=5), whole)


@catches("""run/tools/reconstruct.py: reconstructions stand above their examples
- in_pairs(model.family.form.samples(given[:MOST_SHOWN]), np.asarray(found[:MOST_SHOWN]))
+ in_pairs(np.asarray(found[:MOST_SHOWN]), model.family.form.samples(given[:MOST_SHOWN]))""")
def test_the_figure_has_each_example_above_its_reconstruction(files, tmp_path, monkeypatch):
    figures = []
    monkeypatch.setattr(ImageForm, "save_figure", lambda self, *given: figures.append(given))
    reconstruct.reconstruct_files(files / "discretized.safetensors", str(files / "x.npy"), tmp_path, limit=4)
    ((shown, _, _, columns),) = figures
    assert np.array_equal(shown[:4, ..., 0], pixels(7)[:4])
    assert np.array_equal(shown[4:], np.load(tmp_path / "reconstructions.npy"))
    assert columns == 4


@catches("""run/tools/interpolate.py: an interpolation runs from its second end to its first
- one_example(model, run, a), one_example(model, run, b), n
+ one_example(model, run, b), one_example(model, run, a), n""")
@catches("""run/tools/files.py: an image file is cropped to the wrong proportions
- ImageOptions((height, width), channels)
+ ImageOptions((width, height), channels)""")
def test_an_interpolation_of_two_files_runs_from_the_first_to_the_second(files, tmp_path):
    path, images = files / "discretized.safetensors", pixels(2, seed=1)
    for name, image in zip("ab", images):
        Image.fromarray(image).save(tmp_path / f"{name}.png")
    ends = (str(tmp_path / "a.png"), str(tmp_path / "b.png"))
    try:
        interpolate.interpolate_file(path, *ends, tmp_path / "i.npy", n=3)
    except ValueError as error:
        pytest.fail(str(error))
    line, both = np.load(tmp_path / "i.npy"), load(path).reconstruct(torch.from_numpy(images)[:, None])
    assert np.array_equal(line[[0, 2]], both)


@catches("""run/tools/files.py: a number means an example of training
- held_out = data_of(open_source(run), model, None).test
+ held_out = data_of(open_source(run), model, None).train""")
@catches("""run/tools/files.py: held-out examples are counted from 1
- return held_out[int(word)][None]
+ return held_out[int(word) - 1][None]""")
def test_a_number_means_a_held_out_example_counted_from_zero(monkeypatch):
    dataset = SimpleNamespace(train=torch.arange(10, 20), test=torch.arange(3))
    monkeypatch.setattr("kakusan.run.tools.files.data_of", lambda *given: dataset)
    monkeypatch.setattr("kakusan.run.tools.files.open_source", lambda run: None)
    assert [one_example(None, "run", word).tolist() for word in "012"] == [[0], [1], [2]]


@catches("""run/tools/latents.py: the default steps of an inversion are always taken
- num = min(INVERSION_STEPS, self.chain.depth) if steps is None else steps
+ num = min(INVERSION_STEPS, self.chain.depth)""")
@catches("""run/tools/latents.py: the default solver of an inversion is always taken
- self.solver = solver_named(chosen) if isinstance(chosen, str) else chosen
+ self.solver = solver_named(INVERSION_SOLVER)""")
@catches("""run/tools/latents.py: an inversion ends early
- "karras", NO_EARLY_END)
+ "karras", 3.0)""")
def test_an_inversion_has_the_steps_and_the_solver_that_were_asked_for():
    chain = Diffusion(lambda z, t: z, Schedule.cosine(200), 2, "x")
    assert (len(NoiseLatents(chain).times), NoiseLatents(chain).solver) == (50, DDIM())
    assert len(NoiseLatents(chain, 7).times) == 7
    first, *_, last = NoiseLatents(chain, 7).times
    assert abs(chain.schedule.log_snr[first].item() - 2 * math.log(7)) < 0.1  # a step of the chain
    assert last == 200
    assert NoiseLatents(chain, None, "heun").solver == Heun()
    assert NoiseLatents(chain, None, DDIM()).solver == DDIM()


@catches("""run/tools/latents.py: an example gets its least likely class
- self._model.responsibilities(x).argmax(1)
+ self._model.responsibilities(x).argmin(1)""")
def test_an_example_of_unknown_class_is_encoded_with_its_likeliest(monkeypatch):
    known, unknown = (SimpleNamespace(of=lambda x, k=k: k) for k in (torch.tensor([2, 0]), None))
    probs = torch.tensor([[0.2, 0.7, 0.1], [0.5, 0.1, 0.4]])
    model = SimpleNamespace(responsibilities=lambda x: probs)
    for classes, wanted in ((known, [2, 0]), (unknown, [1, 0])):
        monkeypatch.setattr("kakusan.run.tools.latents.split", lambda model, classes=classes: (None, classes))
        assert MeanLatents(model).cond_of(torch.zeros(2, 1)).tolist() == wanted


def test_scores_are_told_with_the_examples_that_are_too_close_and_those_with_holes():
    found = scored()
    close = dataclasses.replace(found, ranking=dataclasses.replace(found.ranking, num_open=3))
    assert found.lines()[0] == "4 examples of x, 70 evaluations; log p(x) is at least:"
    holes = "1 row with missing values: a bound covers observed values only, so it is higher with fewer of them"
    assert found.lines()[3:] == [f"caution: {holes}"]
    assert close.lines()[3:] == [
        "3 examples are too close to the last of these to tell which belong here", f"caution: {holes}",
    ]  # fmt: skip
    plain = dataclasses.replace(found, names=(), observed=(), num_incomplete=0)
    assert len(plain.lines()) == 3
    assert plain.lines()[1].split()[:2] == ["2", "2.00"]
    assert list(plain.rows()[0]) == [
        "example",
        "nats",
        "nats_stderr",
        "bits_per_dim",
        "bits_per_dim_stderr",
        "evaluations",
    ]
    assert plain.record() | {"strangest": []} == {
        "num_examples": 4, "mean_bits_per_dim": 9.5, "evaluations": 70, "open": 0, "strangest": [],
    }  # fmt: skip
    assert close.record()["open"] == 3


def test_a_score_that_is_no_number_is_null_in_the_record_and_left_out_of_the_mean():
    found = scored()
    found.ranking.scores.bits_per_dim[2] = math.nan
    record = found.record()
    assert [one["bits_per_dim"] for one in record["strangest"]] == [None, 8]
    assert record["mean_bits_per_dim"] == pytest.approx((8 + 9 + 11) / 3)


def test_the_defaults_of_scores_are_twenty_examples_128_evaluations_and_eight_estimates_for_a_map():
    defaults = {name: one.default for name, one in inspect.signature(score.score).parameters.items()}
    assert (defaults["top"], defaults["evaluations"], defaults["error"], defaults["seed"]) == (20, 128, None, 0)
    asked = []
    latents = SimpleNamespace(cond_of=lambda x: None, estimates=lambda *given: asked.append(given[1:]) or [given[0]])
    model = SimpleNamespace(
        examples=lambda data: data,
        batches=lambda data, seed: lambda rows: data[rows],
        family=SimpleNamespace(latents=lambda model: latents),
    )
    score.error_map(model, torch.zeros(2, 1, 3, 3), 4)
    ((num, randomness, cond),) = asked
    assert (num, cond) == (8, None)
    assert torch.equal(torch.randn(3, generator=randomness), torch.randn(3, generator=stream(4, "map")))


def test_files_of_tools_have_their_endings_and_one_example_is_a_number_or_an_image(files, tmp_path):
    path, data = files / "discretized.safetensors", str(files / "x.npy")
    for use, words in (
        (lambda: encode.encode_file(path, data, tmp_path / "z.csv"), r"--out must end in \.npy, got .*z\.csv"),
        (lambda: interpolate.interpolate_file(path, "0", "1", tmp_path / "i.gif"), r"end in \.png or \.npy, got"),
        (lambda: score.score(path, data, out=tmp_path / "s.txt"), r"end in \.csv, got"),
        (lambda: score.score(path, data, map=tmp_path / "m.npy"), r"end in \.png, got"),
        (
            lambda: one_example(load(path), path, "no.png"),
            "number of a held-out example or an image file, got 'no.png'",
        ),
    ):
        with pytest.raises(InputError, match=words):
            use()
    (tmp_path / "damaged.png").write_bytes(b"none")
    with pytest.raises(InputError, match=r"damaged\.png is not a usable image \(.*give one image file of any size"):
        one_example(load(path), path, str(tmp_path / "damaged.png"))
    assert encode.encode_file(path, data, tmp_path / "new" / "Z.NPY") == (7, 3)
    with pytest.raises(InputError, match="exists and is left unchanged"):
        encode.encode_file(path, data, tmp_path / "new" / "Z.NPY")


def test_the_number_of_a_held_out_example_is_below_their_number(monkeypatch):
    dataset = SimpleNamespace(test=torch.arange(3))
    monkeypatch.setattr("kakusan.run.tools.files.data_of", lambda *given: dataset)
    monkeypatch.setattr("kakusan.run.tools.files.open_source", lambda run: None)
    with pytest.raises(InputError, match=r"held-out examples are 0\.\.2, got 3"):
        one_example(None, "run", "3")


def test_a_full_last_row_of_pairs_is_not_padded_and_one_row_alone_never():
    upper, lower = (np.arange(10).reshape(10, 1, 1, 1) + k for k in (0, 50))
    given = reconstruct.in_pairs
    assert given(upper[:6], lower[:6], 3).ravel().tolist() == [0, 1, 2, 50, 51, 52, 3, 4, 5, 53, 54, 55]
    assert given(upper[:2], lower[:2], 3).ravel().tolist() == [0, 1, 50, 51]
    assert given(upper, lower).ravel().tolist() == [*range(10), *range(50, 60)]


def test_a_figure_of_reconstructions_has_at_most_a_hundred_examples_in_rows_of_ten(tmp_path, monkeypatch):
    figures, form = (
        [],
        SimpleNamespace(has_figure=True, samples=lambda x: x, save_figure=lambda *given: figures.append(given)),
    )
    model = SimpleNamespace(family=SimpleNamespace(form=form))
    dataset = SimpleNamespace(test=np.zeros((120, 1, 1, 1), np.uint8))
    monkeypatch.setattr(reconstruct, "examples_of", lambda *given: (model, dataset))
    monkeypatch.setattr(reconstruct, "reconstruct", lambda model, given, t, **choices: np.asarray(given) + 1)
    written = reconstruct.reconstruct_files("run", "data", tmp_path / "r")
    assert written == [tmp_path / "r" / "reconstructions.png", tmp_path / "r" / "reconstructions.npy"]
    ((shown, path, facts, columns),) = figures
    assert (len(shown), path, facts, columns) == (200, written[0], {"run": "run", "upper row": "examples"}, 10)
    assert shown.ravel()[:20].tolist() == [0] * 10 + [1] * 10
    assert len(np.load(written[1])) == 120
    form.has_figure = False
    assert reconstruct.reconstruct_files("run", "data", tmp_path / "q") == [tmp_path / "q" / "reconstructions.npy"]
    with pytest.raises(InputError, match=r"reconstructions\.npy exists and is left unchanged"):
        reconstruct.reconstruct_files("run", "data", tmp_path / "q")


def test_the_arc_between_two_latents_is_divided_by_its_angle():
    latents, (a, third, b) = object.__new__(NoiseLatents), (
        torch.tensor([[2 * math.cos(math.radians(at)), 2 * math.sin(math.radians(at))]], dtype=torch.float64)
        for at in (0, 20, 60)
    )  # fmt: skip
    assert_close(latents.between(a, b, 1 / 3), third, rtol=1e-12, atol=1e-12)
    assert_close(latents.between(a, 3 * a, 0.25), 1.5 * a, rtol=1e-12, atol=0)  # parallel: a straight line
    assert_close(MeanLatents.between(latents, a, b, 0.25), 0.75 * a + 0.25 * b)


def test_a_figure_is_refused_for_data_without_one_and_names_both_ends(files, tmp_path, monkeypatch):
    figures, path = [], files / "discretized.safetensors"
    a, b = str(tmp_path / "a.png"), str(tmp_path / "b.png")
    for end, shade in zip((a, b), pixels(2)):
        Image.fromarray(shade).save(end)
    monkeypatch.setattr(ImageForm, "save_figure", lambda self, *given: figures.append(given))
    out = interpolate.interpolate_file(path, a, b, tmp_path / "i.png")
    ((shown, where, facts, columns),) = figures
    assert (len(shown), where, columns) == (8, out, 8)
    assert facts == {"run": path, "from": a, "to": b}
    monkeypatch.setattr(ImageForm, "has_figure", False)
    with pytest.raises(InputError, match=r"have no figure; give --out a name that ends in \.npy, got .*j\.png"):
        interpolate.interpolate_file(path, a, b, tmp_path / "j.png")
