"""Figures of reports and runs: each bar, curve and column has the numbers and the name of its own record."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from harness.faults import catches
from harness.support import seeded
from kakusan.bound import sample_path
from kakusan.data.forms.images import ImageForm
from kakusan.errors import InputError
from kakusan.images import Images
from kakusan.noise import stream
from kakusan.recipes import find
from kakusan.run import data_report, quality
from kakusan.run import figures as run_figures
from kakusan.run.build import build
from kakusan.run.directory import RunDirectory
from kakusan.run.families.diffusion import DiffusionConfig
from kakusan.run.families.vae import VAEConfig
from kakusan.run.info import info
from kakusan.run.recipe import Recipe
from kakusan.run.report import figures, ladder, page
from kakusan.run.report.words import ENGLISH
from kakusan.run.trained_model import TrainedModel


@pytest.fixture
def drawn(monkeypatch):
    """The axes of each figure that is drawn, in place of its SVG."""
    found = []
    monkeypatch.setattr(figures, "_svg", lambda figure: found.append(figure.axes) or b"")
    return found


def level(name, bits, error, log_snr):
    return {"name": name, "bits_per_dim": bits, "standard_error": error, "log_snr": [log_snr, log_snr - 1]}


def bars_of(axes):
    """Length of each horizontal bar by the name at its left, from the top to the bottom."""
    names = [label.get_text() for label in axes.get_yticklabels()]
    heights = [bar.get_y() + bar.get_height() / 2 for bar in axes.patches]
    by_place = dict(zip(np.round(heights, 6), [bar.get_width() for bar in axes.patches]))
    pairs = [(name, by_place[round(place, 6)]) for name, place in zip(names, axes.get_yticks())]
    return pairs if axes.yaxis_inverted() else pairs[::-1]


@catches("""run/report/figures.py: a term has the bar of another term
- values = list(terms.values())[::-1]
+ values = list(terms.values())""")
@catches("""run/report/figures.py: the bars of the terms stand upside down
- names = [_plain(name) for name in terms][::-1]
+ names = [_plain(name) for name in terms]""")
def test_each_term_of_the_bound_has_its_own_bar_from_the_top(drawn):
    terms = {"reconstruction": 2.0, "kl": 0.5, "class": -0.25}
    figures.term_bars(terms)
    assert bars_of(drawn[0][0]) == list(terms.items())


@catches("""run/report/figures.py: a noise level has the bar of another one
- values = [level["bits_per_dim"] for level in levels][::-1]
+ values = [level["bits_per_dim"] for level in levels]""")
@catches("""run/report/figures.py: a noise level has the error of another one
- errors = [2 * (level["standard_error"] or 0.0) for level in levels][::-1]
+ errors = [2 * (level["standard_error"] or 0.0) for level in levels]""")
@catches("""run/report/figures.py: noise levels have one standard error
- errors = [2 * (level["standard_error"] or 0.0) for level in levels][::-1]
+ errors = [(level["standard_error"] or 0.0) for level in levels][::-1]""")
def test_each_range_of_noise_levels_has_its_own_bar_and_two_standard_errors(drawn):
    figures.level_bars([level("t = 1", 1.0, 0.25, 5.0), level("t = 2..9", 3.0, None, 2.0)])
    (axes,) = drawn[0]
    assert bars_of(axes) == [("t = 1   log SNR +5.0", 1.0), ("t = 2..9   log SNR +2.0", 3.0)]
    (errors,) = axes.collections
    assert [segment[:, 0].tolist() for segment in errors.get_segments()] == [[3.0, 3.0], [0.5, 1.5]]


@catches("""run/report/figures.py: a stacked bar begins where the first one ends
- right = [r + max(value, 0.0) for r, value in zip(right, values)]
+ right = [max(value, 0.0) for r, value in zip(right, values)]""")
def test_stacked_bars_add_up_to_the_bound_and_negative_terms_lie_left(drawn):
    figures.stacked_bars(
        {"a": {"reconstruction": 2.0, "kl": 0.5, "top": 0.25}, "b": {"reconstruction": 1.0, "kl": -0.5}}
    )
    (axes,) = drawn[0]
    spans = [(round(bar.get_x(), 6), round(bar.get_x() + bar.get_width(), 6)) for bar in axes.patches]
    assert spans == [(0, 2), (0, 1), (2, 2.5), (0, -0.5), (2.5, 2.75), (1, 1)]


@catches("""run/report/figures.py: the curve of the bound has one standard error
- error = [2 * (line["standard_error"] or 0.0) for line in history]
+ error = [(line["standard_error"] or 0.0) for line in history]""")
@catches("""run/report/figures.py: the curve of training examples begins where the held-out one does
- (one, line["train_bits_per_dim"]) for one, line in zip(seen, history) if "train_bits_per_dim" in line
+ (one, line["train_bits_per_dim"]) for one, line in zip(seen, filter(lambda line: "train_bits_per_dim" in line, history))""")
def test_the_curves_of_the_bound_lie_at_their_examples_with_two_standard_errors(drawn):
    figures.bound_curve(
        [
            {"examples": 10, "bits_per_dim": 3.0, "standard_error": 0.25},
            {"examples": 100, "bits_per_dim": 2.0, "standard_error": None, "train_bits_per_dim": 1.5},
        ]
    )
    (axes,) = drawn[0]
    held_out, training = (line.get_xydata().tolist() for line in axes.lines)
    assert held_out == [[10, 3], [100, 2]]
    assert training == [[100, 1.5]]
    outline = axes.collections[0].get_paths()[0].vertices
    assert (outline[outline[:, 0] == 10][:, 1].min(), outline[outline[:, 0] == 10][:, 1].max()) == (2.5, 3.5)


@catches("""run/report/figures.py: the curve of the loss is that of the bound
- [line["loss"] for line in history]
+ [line["bits_per_dim"] for line in history]""")
@catches("""run/report/figures.py: the panel of a latent level has the bits of the first
- sorted(level["bits"], reverse=True)
+ sorted(levels[0]["bits"], reverse=True)""")
def test_losses_and_the_bits_of_latents_are_those_of_their_records(drawn):
    figures.loss_curve(
        [{"examples": 1, "loss": 4.0, "bits_per_dim": 9.0}, {"examples": 5, "loss": 2.0, "bits_per_dim": 8.0}]
    )
    assert drawn[0][0].lines[0].get_xydata().tolist() == [[1, 4], [5, 2]]
    latents = [
        {"name": "z", "bits": [1.0, 3.0], "total": 4.0, "collapsed": []},
        {"name": "y", "bits": [2.0], "total": 2.0, "collapsed": [0]},
    ]
    figures.latent_bars(latents)
    assert [[bar.get_height() for bar in axes.patches] for axes in drawn[1]] == [[3, 1], [2]]
    assert [axes.get_title() for axes in drawn[1]] == ["z: 4.0 bits, 0 collapsed", "y: 2.0 bits, 1 collapsed"]


# The pages


@catches("""run/report/page.py: the last figure of samples is left out
- (len(found) - 1) / (SHOWN_STAGES - 1)) for i
+ (len(found) - 1) / SHOWN_STAGES) for i""")
@catches("""run/report/page.py: a figure of samples has the bound of another step
- "bits_per_dim": rates.get(step, {}).get("bits_per_dim")
+ "bits_per_dim": next(iter(rates.values()), {}).get("bits_per_dim")""")
def test_figures_of_samples_run_from_the_first_step_to_the_last_with_their_own_bounds(tmp_path, monkeypatch):
    run = RunDirectory(tmp_path)
    run.samples.mkdir()
    for step in range(1, 12):
        (run.samples / f"step-{step:08d}.png").touch()
    monkeypatch.setattr(page, "png", lambda run, name: name)
    found = page._stages(run, [{"step": step, "bits_per_dim": 100.0 - step} for step in range(1, 12)])
    assert [one["step"] for one in found] == [1, 3, 5, 7, 9, 11]
    assert [one["bits_per_dim"] for one in found] == [99, 97, 95, 93, 91, 89]


@catches("""run/report/page.py: a report shows measurements after the end of the run
- [line for line in run.history() if line["step"] <= summary["steps"]]
+ list(run.history())""")
def test_a_report_leaves_out_what_was_measured_after_the_step_of_its_summary(monkeypatch):
    shown = []
    monkeypatch.setattr(page, "_stages", lambda run, history: shown.extend(history) or [])
    monkeypatch.setattr(page, "png", lambda run, name: None)
    monkeypatch.setattr(page, "template", lambda name: SimpleNamespace(render=lambda **given: ""))
    records = {"run.json": {"recipe": {}, "command": []}, "data.json": {}}
    run = SimpleNamespace(read=records.get, history=lambda: [{"step": 5}, {"step": 9}])
    page.render(run, {"steps": 5, "seconds": 60})
    assert shown == [{"step": 5}]


@catches("""run/report/page.py: a row of measures has the score of the samples for real images
- for name, e in samples["floor"].items()}
+ for name, e in samples["measures"].items()}""")
def test_a_row_of_measures_has_the_score_of_real_images():
    value, real = {"value": 0.5, "standard_error": 0.25}, {"value": 0.125}
    (row,) = page._measures({"measures": {"recall_n10": value}, "floor": {"recall_n20": real}}, ENGLISH)
    assert (row["name"], row["value"], row["error"], row["real"]) == ("recall n10", "0.5000", "0.2500", "0.1250")


@catches("""run/report/ladder.py: a rung is compared with the first rung
- zip(rungs, [None, *rungs])
+ zip(rungs, [None, *rungs[:1] * len(rungs)])""")
@catches("""run/report/ladder.py: the change of a term has the other sign
- {value - was:+.3f}
+ {was - value:+.3f}""")
def test_the_page_of_a_ladder_compares_each_rung_with_the_one_below(tmp_path, monkeypatch):
    seen = {}
    words = {
        "intro": "", "changes": dict.fromkeys("abc", ""),
        "pays": {"first": "{reconstruction} {kl}", "reconstruction": "{reconstruction} {kl}"},
    }  # fmt: skip
    monkeypatch.setitem(ladder.LADDER_WORDS, "en", words)
    monkeypatch.setattr(ladder, "png", lambda run, name: None)
    monkeypatch.setattr(
        ladder, "template", lambda name: SimpleNamespace(render=lambda **given: seen.update(given) or "")
    )
    rungs = []
    for name, bits, kl in (("a", 5.0, 1.0), ("b", 4.0, 3.0), ("c", 3.5, 3.25)):
        bound = {
            "terms": {"reconstruction": bits, "kl": kl}, "term_errors": {"reconstruction": 0.5, "kl": 0.25},
            "bits_per_dim": bits + kl, "standard_error": 0.125, "num_images": 7,
        }  # fmt: skip
        one = {"name": name, "run": name, "latents": "", "parameters": 1, "steps": 1, "change": None, "samples": None}
        rungs.append({**one, "likelihood": bound, "latent_bits_per_dim": kl})
    ladder.render(tmp_path, {"rungs": rungs, "budget": "", "data": "", "command": []})
    assert [row["pays"] for row in seen["rows"]] == ["5.000 1.000", "-1.000 +2.000", "-0.500 +0.250"]
    assert [(one["rung"], one["term"], one["value"], one["error"]) for one in seen["terms"]][2:4] == [
        ("b", "reconstruction", "4.0000", "0.5000"),
        ("b", "kl", "3.0000", "0.2500"),
    ]


# Figures of runs and of data


def model_of(config, shape=(1, 8, 8)):
    module = build(config, shape)
    for number, parameter in enumerate(module.parameters()):
        torch.nn.init.normal_(parameter, std=0.2, generator=seeded(number))
    return TrainedModel(Recipe("r", "", config), module, shape, torch.device("cpu"))


def pixels(n, side=8):
    return torch.randint(0, 256, (n, 1, side, side), generator=seeded(1), dtype=torch.uint8)


@catches("""run/figures.py: the forward figure ends one step early
- np.linspace(0, chain.depth, STRIP_COLUMNS)
+ np.linspace(0, chain.depth - 1, STRIP_COLUMNS)""")
@catches("""run/figures.py: rows and columns of a figure are swapped
- torch.stack(columns, dim=1).flatten(0, 1)
+ torch.stack(columns, dim=0).flatten(0, 1)""")
def test_the_forward_figure_shows_each_example_from_the_data_to_the_last_latent():
    model, x = model_of(DiffusionConfig(width=8, inner_width=8, blocks=1, depth=16)), pixels(6)
    images, columns = run_figures.forward_strip(model, x)
    path = sample_path(model.chain, model.scale.to_model(x[:4]), stream(0, "forward strip"))
    assert (len(images), columns) == (4 * 9, 9)
    for row in range(4):
        for column in range(9):
            wanted = model.scale.to_pixels(path[2 * column][row : row + 1])[0]
            assert np.array_equal(images[9 * row + column], wanted)


@catches("""run/figures.py: reconstructions are decoded from the mean of the encoder
- model.chain.encode(x, 1).sample(stream(0, "reconstructions"))
+ model.chain.encode(x, 1).mean""")
def test_the_figure_of_reconstructions_has_a_draw_of_each_example_below_it():
    model, x = model_of(VAEConfig(hidden=(8,), latent=3)), pixels(12)
    images, columns = run_figures.reconstructions(model, x)
    with torch.no_grad():
        z = model.chain.encode(model.scale.to_model(x), 1).sample(stream(0, "reconstructions"))
        again = model.scale.to_pixels(model.chain.decode(z, 1).mean)
    given = x.permute(0, 2, 3, 1).numpy()
    assert columns == 9
    assert np.array_equal(images, np.concatenate([given[:9], again[:9], given[9:], again[9:]]))


@catches("""run/data_report.py: the time of an epoch counts held-out images
- epoch = minutes(len(dataset.train) / rate)
+ epoch = minutes(total / rate)""")
@catches("""run/data_report.py: the figure of data shows its first images
- dataset.train[::step]
+ dataset.train[:MOST_SHOWN]""")
def test_the_report_of_data_has_the_time_of_training_images_and_evenly_spaced_ones(tmp_path, monkeypatch):
    figures_drawn = []
    monkeypatch.setattr(ImageForm, "save_figure", lambda self, shown, *given: figures_drawn.append(shown))
    monkeypatch.setattr(data_report, "images_per_second", lambda dataset: 2.0)
    train = torch.arange(250, dtype=torch.uint8)[:, None, None, None].expand(250, 1, 2, 2)
    dataset = SimpleNamespace(
        train=train, test=train[:50], num_dims=4, event_shape=(1, 2, 2), form=ImageForm(), name="x"
    )
    assert data_report.image_lines(dataset)[-1].endswith("about 2 images/s here, an epoch in 2:05")
    data_report.write_figure(dataset, tmp_path / "x.png")
    assert figures_drawn[0][:, 0, 0, 0].tolist() == list(range(0, 250, 3))


@catches("""run/data_report.py: the time of a step is that of all steps
- return STEPS * TRIED / max(
+ return TRIED / max(""")
def test_the_speed_of_training_is_that_of_the_steps_after_the_first(monkeypatch):
    clock, times = [0.0], iter([100.0, 2.0, 2.0])

    def loss(indices, randomness):
        clock[0] += next(times)
        return torch.zeros(len(indices), requires_grad=True)

    family = SimpleNamespace(plan=lambda config, shape, num: (config, ""))
    monkeypatch.setattr(data_report, "family_of", lambda config: family)
    monkeypatch.setattr(data_report, "build", lambda *given: None)
    monkeypatch.setattr(data_report, "training_loss", lambda *given: loss)
    monkeypatch.setattr(data_report.time, "perf_counter", lambda: clock[0])
    dataset = SimpleNamespace(train=range(40), event_shape=(1, 8, 8))
    assert data_report.images_per_second(dataset) == 2 * 8 / 4


@catches("""run/quality.py: color images of 28 x 28 pixels are measured as digits
- event_shape == (1, SIDE, SIDE)
+ event_shape[1:] == (SIDE, SIDE)""")
@catches("""run/quality.py: measured samples always have the first seed
- model.sample(num, seed)), dataset.train
+ model.sample(num)), dataset.train""")
@catches("""run/quality.py: samples are measured against the training images alone
- dataset.train, dataset.test, features)
+ dataset.train, dataset.train, features)""")
def test_samples_are_measured_with_their_seed_and_the_features_of_their_shape(monkeypatch):
    assert quality.features_for((1, 28, 28)) == "digits"
    assert quality.features_for((3, 28, 28)) == quality.features_for((1, 32, 32)) == "multiscale"
    seen = []
    monkeypatch.setattr(quality, "measure_images", lambda *given: seen.append(given))
    model = SimpleNamespace(sample=lambda num, seed=0: np.full((num, 1), seed), event_shape=(3, 8, 8))
    dataset = SimpleNamespace(train=range(100), test=range(120), event_shape=(3, 8, 8), bits=False, form=ImageForm())
    quality.sample_quality(model, dataset, 110, seed=6)
    few = SimpleNamespace(**{**vars(dataset), "test": range(99)})
    assert [quality.can_measure(model, one, 110) for one in (dataset, few)] == [True, False]
    ((samples, train, test, features),) = seen
    assert (len(samples), samples[0, 0], train, test, features) == (110, 6, range(100), range(120), "multiscale")


# The description of a file


@catches("""run/info.py: the command of a figure lacks its label
- guided = ("label", "guidance",
+ guided = ("guidance",""")
@catches("""run/info.py: the command of a figure lacks a weight of guidance
- "guidance", "autoguidance", "end_log_snr")
+ "guidance", "end_log_snr")""")
def test_the_command_of_a_figure_has_every_choice_that_made_it(tmp_path):
    facts = {
        "run": "runs/a b", "n": 4, "seed": 7, "sampler": "ddim", "eta": 0.5, "steps": 5, "spacing": "uniform",
        "label": "dog", "guidance": 2.0, "autoguidance": 1.5, "end_log_snr": 3.0,
    }  # fmt: skip
    Images(np.zeros((4, 8, 8, 1), np.uint8)).save(tmp_path / "samples.png", facts)
    words = info(tmp_path / "samples.png")[-1].removeprefix("made by: ").split()
    assert words[:4] == ["kakusan", "sample", "'runs/a", "b'"]
    flags = dict(zip(words[4::2], words[5::2]))
    assert flags == {f"--{name.replace('_', '-')}": str(value) for name, value in facts.items() if name != "run"}


@catches("""run/info.py: training and held-out examples are swapped
- {data['train']:,} for training, {data['held_out']:,} held out
+ {data['held_out']:,} for training, {data['train']:,} held out""")
@catches("""run/info.py: an unfinished run is described without the command that resumes it
- lines.append(f"not finished; resume with: {resume_command(path)}")
+ lines.append("not finished")""")
def test_the_description_of_a_run_has_its_counts_and_the_commands_that_made_it(tmp_path):
    record = {
        "recipe": find("mnist-vae").record(), "seed": 0, "device": "cpu", "parameters": 1234, "started": "then",
        "command": ["kakusan", "train", "a b"], "versions": {}, "resumed": [["kakusan", "train", "--resume", "r"]],
    }  # fmt: skip
    data = {"name": "x", "kind": "images", "event_shape": [1, 2, 3], "train": 90, "held_out": 10, "digest": ""}
    for name, content in (("run.json", record), ("data.json", data)):
        (tmp_path / name).write_text(json.dumps(content))
    lines = info(tmp_path)
    assert lines[0].endswith("mnist-vae, 1,234 parameters, started then")
    assert lines[1] == "data: x, 90 for training, 10 held out, shape (1, 2, 3)"
    assert lines[2] == f"not finished; resume with: kakusan train --resume {tmp_path}"
    assert lines[-2:] == ["made by: kakusan train 'a b'", "made by: kakusan train --resume r"]


def test_curves_of_wide_range_have_logarithmic_axes_and_begin_at_the_first_example(drawn):
    for rates in ([1.0, 10.1], [1.0, 10.0], [-1.0, 20.0]):
        figures.bound_curve([{"examples": 0, "bits_per_dim": rate, "standard_error": 0.0} for rate in rates])
    for rates in ([1.0, 10.1], [1.0, 10.0]):
        figures.loss_curve([{"examples": 0, "loss": rate} for rate in rates])
    scales = [axes[0].get_yscale() for axes in drawn]
    assert scales == ["log", "linear", "linear", "log", "linear"]
    for number, label in ((0, "bits/dim"), (3, "training loss")):
        (axes,) = drawn[number]
        assert (axes.get_xscale(), axes.get_xlabel(), axes.get_ylabel()) == ("log", "training examples", label)
        assert axes.lines[0].get_xdata().tolist() == [1, 1]
    assert drawn[0][0].get_legend() is None


def test_names_of_records_are_shown_short_and_never_as_formulas(drawn):
    figures.term_bars({"$" * 61: 1.0, "b": -0.5})
    (axes,) = drawn[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["b", r"\$" * 60]
    assert (axes.get_xlabel(), [text.get_text() for text in axes.texts]) == ("bits/dim", ["-0.500", "1.000"])
    for log_snr in (None, [], ["x"], [1]):
        assert figures._level_name({"name": "t = 1", "log_snr": log_snr}) == "t = 1"
    assert figures._level_name({"name": "t", "log_snr": [-0.25, 1.0]}) == "t   log SNR -0.2"


def test_models_in_stacked_bars_are_named_from_the_top_with_a_legend_of_their_terms(drawn):
    figures.stacked_bars({"a": {"x": 1.0}, "b": {"y": 2.0}})
    (axes,) = drawn[0]
    assert bars_of(axes)[0][0] == "a"
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["x", "y"]
    assert axes.get_xlabel() == "bits/dim"


def test_the_clusters_that_are_shown_are_the_first_128_in_rows_of_16(monkeypatch):
    shown = []
    model = SimpleNamespace(chain=None, scale=SimpleNamespace(to_pixels=lambda x: shown.append(len(x)) or x.numpy()))
    for num, most, columns in ((200, 128, 16), (5, 5, 5)):
        clusters = SimpleNamespace(images=lambda num=num: torch.zeros(num, 2, 2, 1, dtype=torch.uint8))
        monkeypatch.setattr(run_figures, "split", lambda chain, clusters=clusters: (None, clusters))
        assert run_figures.cluster_centroids(model)["clusters.png"][1] == columns
        assert shown.pop() == most
    for clusters in (None, SimpleNamespace(images=lambda: torch.zeros(0, 1))):
        monkeypatch.setattr(run_figures, "split", lambda chain, clusters=clusters: (None, clusters))
        assert run_figures.cluster_centroids(model) == {}


def test_duplicates_are_searched_among_the_first_20000_images_of_both_parts(monkeypatch):
    sizes = []

    def searched(*parts):
        sizes.append([len(part) for part in parts])
        return SimpleNamespace(equal=1234, near=5, compared=6)

    monkeypatch.setattr(data_report, "duplicates", searched)
    monkeypatch.setattr(data_report, "images_per_second", lambda dataset: 1.0)
    train, test = torch.zeros(10_001, 1, dtype=torch.uint8), torch.zeros(7, 1, dtype=torch.uint8)
    dataset = SimpleNamespace(train=train, test=test, num_dims=2**20, event_shape=(1, 256, 256))
    lines = data_report.image_lines(dataset)
    assert sizes == [[10_000, 7]]
    assert lines[:2] == [
        "duplicates of the first 10,007 images: 1,234 equal, 5 nearly equal among 6 compared",
        "memory: 10,008.0 MiB of pixels",
    ]
    assert lines[2].startswith("time: recipe images trains on about 1 images/s")
    dataset.event_shape, dataset.test = (1, 257, 256), train
    assert data_report.image_lines(dataset)[1:] == [
        "memory: 10,001.0 MiB of pixels",
        "time: not measured for images larger than 256 x 256; --size 256 makes them smaller",
    ]
    assert sizes[1] == [10_001]


def test_an_image_or_file_of_another_kind_is_described_or_refused(tmp_path):
    Images(np.zeros((1, 4, 6, 1), np.uint8)).save(tmp_path / "x.png", {"note": "n" * 201})
    lines = info(tmp_path / "x.png")
    assert lines[0].startswith(f"{tmp_path / 'x.png'}: ")
    assert lines[0].endswith(" L")
    assert f"note: {'n' * 200}" in lines
    assert not any(line.startswith("made by") for line in lines)
    (tmp_path / "y.png").write_bytes(b"no image")
    (tmp_path / "z.csv").touch()
    for name, words in (
        ("y.png", "y.png: not a PNG image"),
        ("none", "no file or run at .*none; give a run directory, a .safetensors file or a .png figure"),
        ("z.csv", "z.csv: expected a run directory, .*; for data type: kakusan data .*z.csv"),
    ):
        with pytest.raises(InputError, match=words):
            info(tmp_path / name)
    (tmp_path / "run.json").touch()
    with pytest.raises(InputError, match="; for the run type: kakusan info"):
        info(tmp_path / "z.csv")
