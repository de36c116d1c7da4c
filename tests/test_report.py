"""The report says what its numbers mean, in English and in Japanese."""

import base64
import copy
import re
import string
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

import kakusan as kk
from harness.faults import catches
from harness.support import call
from kakusan.errors import DamageWarning
from kakusan.images import Images
from kakusan.run.directory import RunDirectory
from kakusan.run.figures import closest_pairs
from kakusan.run.report import page
from kakusan.run.report.page import render, write_report
from kakusan.run.report.words import ENGLISH, JAPANESE, LANGUAGES
from kakusan.run.session import MAY_RISE, Session

QUALITY = {
    "num_samples": 1000,
    "num_reference": 10000,
    "features": "digits",
    "measures": {
        "frechet_distance_n1000": {"value": 1.25, "standard_error": 0.05},
        "recognized": {"value": 0.94, "standard_error": 0.008},
        "nearer_pixels": {"value": 0.46},
    },
    "floor": {
        "frechet_distance_n1000": {"value": 0.19, "standard_error": 0.01},
        "recognized": {"value": 0.976},
        "nearer_pixels": {"value": 0.5},
    },
}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A finished run of a small VAE."""
    home = tmp_path_factory.mktemp("report") / "run"
    return RunDirectory.open(kk.train("mnist-vae", steps=3, out=home).path)


@pytest.fixture
def summary(run):
    """Its summary, with measures of samples added."""
    return {**copy.deepcopy(run.read("summary.json")), "samples": QUALITY}


def text_of(page):
    """Text of a page that a person reads."""
    page = re.sub(r"<style>.*?</style>", "", page, flags=re.DOTALL)
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", page))


def test_three_tiles_give_quality_distance_and_bits(run, summary):
    text = text_of(render(run, summary))
    assert "recognized 94.0% of 1,000 samples" in text
    assert "Real images score 97.6%." in text
    assert "distance to real images 1.25 ± 0.05" in text
    assert "Real images score 0.19." in text
    rate = summary["likelihood"]["bits_per_dim"]
    assert f"bits/dim {rate:.3f} ±" in text
    assert text.count("lower is better") >= 3


def test_without_measures_of_samples_there_is_one_tile(run):
    assert render(run, run.read("summary.json")).count('class="tile"') == 1


def test_two_curves_show_the_bound_and_the_loss(run, summary):
    page = render(run, summary)
    history = run.history()
    assert f"Held-out bits per dimension against training examples, from {history[0]['bits_per_dim']:.2f}" in page
    assert f"Training loss against training examples, from {history[0]['loss']:.3g}" in page


def test_every_measure_has_a_meaning_and_the_score_of_real_images(run, summary):
    from kakusan.measure import METRICS

    names = {name for key in METRICS for name in METRICS[key].columns}
    assert names == ENGLISH["meanings"].keys() == JAPANESE["meanings"].keys()
    assert all(re.search(r"better|if equal|without copying", meaning) for meaning in ENGLISH["meanings"].values())
    text = text_of(render(run, summary))
    assert "real images score" in text
    meaning = "share of samples closer to training than to held-out images, by pixels; 0.5 without copying"
    assert f"nearer pixels 0.4600 0.5000 {meaning}" in text


def test_a_density_of_unit_variance_is_compared_with_its_floor(run, summary):
    text = text_of(render(run, {**summary, "floor_bits_per_dim": 9.3201}))
    assert "cannot go below 9.320 bits/dim" in text
    assert "cannot go below" not in text_of(render(run, summary))


def level(name, bits):
    """Record of one range of noise levels."""
    return {"name": name, "bits_per_dim": bits, "standard_error": 0.01, "log_snr": [1.0, 2.0]}


def test_bits_spent_on_weak_noise_get_a_sentence(run, summary):
    summary["likelihood"] |= {
        "bits_per_dim": 3.0,
        "levels": [level("t = 1", 1.0), level("t = 2..3", 0.6), level("t = 4..9", 1.4)],
    }
    text = text_of(render(run, summary))
    assert "53% of these bits are spent at t &lt;= 3" in text
    assert "Why bits/dim may rise while samples improve" in text
    summary["likelihood"]["levels"] = [level("t = 1", 0.2), level("t = 2..3", 0.2), level("t = 4..9", 2.6)]
    assert "of these bits are spent" not in text_of(render(run, summary))


def shape(words):
    """Names of sentences, and the fields of each."""
    if isinstance(words, dict):
        return {name: shape(inner) for name, inner in words.items()}
    if isinstance(words, tuple):
        return len(words)
    return {field for _, field, _, _ in string.Formatter().parse(words) if field}


def test_both_languages_have_the_same_sentences_with_the_same_numbers():
    assert shape(ENGLISH) == shape(JAPANESE)


@pytest.mark.parametrize("lang", LANGUAGES)
def test_a_report_is_written_in_its_language(run, tmp_path, capsys, lang):
    out = tmp_path / "report.html"
    assert call(capsys, "report", str(run.path), "--out", str(out), "--lang", lang)[0] == 0
    page = out.read_text(encoding="utf-8")
    assert f'<html lang="{lang}">' in page
    assert ("下限の内訳" in page) == (lang == "ja")
    assert ("Terms of the bound" in page) == (lang == "en")
    assert write_report(run.path, tmp_path / "other.html", lang).read_text(encoding="utf-8") == page


@catches("""run/report/page.py: a report replaces a file of the user
- check_new(out)
+ out.resolve()""")
def test_a_report_overwrites_nothing_and_each_language_has_its_own_file(run, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "run-report.html").write_text("a file of the user")
    code, _, err = call(capsys, "report", run.path)
    assert code == 2
    assert "run-report.html exists and is left unchanged; choose another --out" in err
    assert (tmp_path / "run-report.html").read_text() == "a file of the user"
    for code in (0, 2):
        assert call(capsys, "report", run.path, "--lang", "ja")[0] == code
        assert call(capsys, "report", run.path, "--out", "r.html")[0] == code
    assert sorted(file.name for file in tmp_path.iterdir()) == ["r.html", "run-report-ja.html", "run-report.html"]


def test_another_language_is_refused(run, capsys):
    code, _, err = call(capsys, "report", str(run.path), "--lang", "fr")
    assert (code, "en, ja" in err or "en" in err) == (2, True)


@catches("""run/session.py: a rise within its standard error is explained
- rate - 2 * error > before
+ rate > before""")
def test_a_rise_of_the_bound_is_explained_once(monkeypatch):
    said = []
    monkeypatch.setattr("kakusan.run.session.tell", said.append)
    session = Session.__new__(Session)
    session._rate_before = None
    session._explain_a_rise({"bits_per_dim": 3.4, "standard_error": 0.1})
    session._explain_a_rise({"bits_per_dim": 3.55, "standard_error": 0.1})
    assert said == []
    for rate in (3.41, 3.9, 4.2, 3.0, 3.5):
        session._explain_a_rise({"bits_per_dim": rate})
    assert said == [MAY_RISE]


@catches("""run/figures.py: samples do not stand above the images that they resemble
- columns=len(closest))
+ columns=None)""")
@catches("""run/figures.py: every sample is the first one
- first=pair["sample"]
+ first=0""")
def test_samples_stand_above_the_training_images_that_they_resemble_most(tmp_path):
    drawn = []
    model = SimpleNamespace(
        sample=lambda n, seed, first: np.full((n, 2, 2, 1), first, np.uint8),
        family=SimpleNamespace(form=SimpleNamespace(save_figure=lambda *given: drawn.append(given))),
    )
    dataset = SimpleNamespace(
        train=torch.arange(100, 130),
        form=SimpleNamespace(samples=lambda rows: np.stack([np.full((2, 2, 1), int(row), np.uint8) for row in rows])),
    )
    pairs = [{"sample": 7, "train": 20}, {"sample": 3, "train": 5}, {"sample": 9, "train": 5}]
    closest_pairs(model, dataset, pairs, 0, tmp_path / "closest.png")
    ((figure, path, _, columns),) = drawn
    assert figure[:, 0, 0, 0].tolist() == [7, 3, 9, 120, 105, 105]
    assert (path, columns) == (tmp_path / "closest.png", 3)


@pytest.mark.parametrize(
    ("error", "shown"), [(None, ""), (0.0051, "0.01"), (0.0049, "0.005"), (0.3, "0.30"), (0.0, "0.000")]
)
def test_an_error_that_two_digits_would_hide_has_one_more(error, shown):
    assert page._numbers({"value": 2.345, "standard_error": error}, 2) == {"value": "2.35", "error": shown}


def test_weak_noise_is_that_of_the_first_three_steps_if_it_costs_a_quarter_of_the_bits():
    likelihood = {"bits_per_dim": 4.0, "levels": [level("t = 1", 0.75), level("t = 2..3", 0.25), level("t = 4", 3.0)]}
    (note,) = page._notes({"likelihood": likelihood}, ENGLISH)
    assert note.startswith("25% of these bits are spent at t <= 3, ")
    likelihood["levels"][0]["bits_per_dim"] = 0.74
    assert page._notes({"likelihood": likelihood}, ENGLISH) == []
    (note,) = page._notes({"likelihood": {"bits_per_dim": 9.75}, "floor_bits_per_dim": 9.5}, ENGLISH)
    assert "below 9.500 bits/dim" in note
    assert "is 0.250 above that limit" in note
    assert page._notes({"floor_bits_per_dim": 9.5}, ENGLISH) == []


def test_the_small_print_has_nats_bits_and_both_parts_of_the_error():
    likelihood = {"nats": 12.34, "bits_per_example": 17.8, "num_images": 1200, "estimator": "two draws"}
    plain = "12.3 nats or 18 bits per example, from 1,200 examples. Estimator: two draws."
    assert page._small_notes(None, ENGLISH) == []
    assert page._small_notes(likelihood, ENGLISH) == [plain]
    likelihood |= {"standard_error_monte_carlo": 0.0, "standard_error_images": 0.00004}
    noise = "Monte Carlo part of the standard error: 0.0000."
    assert page._small_notes(likelihood, ENGLISH) == [plain, noise]
    likelihood["standard_error_images"] = 0.0123
    assert page._small_notes(likelihood, ENGLISH) == [
        plain, f"{noise} Part that comes from the choice of examples: 0.0123.",
    ]  # fmt: skip


def test_a_profile_shows_noise_levels_that_cost_something_or_else_the_latents():
    shown = page._profile({"levels": [level("t = 1", 0.5), level("t = 2", -0.0001), level("t = 3", 9e-5)]}, [], ENGLISH)
    assert shown["alt"] == f"{ENGLISH['levels_alt']}: t = 1 0.5000, t = 2 -0.0001"
    assert shown["caption"] == ENGLISH["levels"]
    latents = [{"name": "z_1", "bits": [1.0, 2.0], "total": 3.0, "collapsed": []}]
    shown = page._profile({}, latents, ENGLISH)
    assert shown["alt"] == f"{ENGLISH['latents_alt']}: z_1 3.0 {ENGLISH['bits']}"
    assert shown["caption"] == ENGLISH["latents"]
    assert page._profile({"levels": [level("t = 3", 9e-5)]}, [], ENGLISH) is None


def test_curves_are_drawn_of_complete_lines_from_the_first_value_to_the_last():
    history = [
        {"step": 1, "examples": 10, "loss": 4.125},
        {"step": 2, "examples": 20, "loss": None, "bits_per_dim": 3.456, "standard_error": None},
        {"step": 3, "examples": 30, "loss": 2.0, "bits_per_dim": 2.0, "standard_error": 0.1},
    ]
    assert page._bound_curve(history, ENGLISH)["alt"].endswith("from 3.46 to 2.00")
    assert page._loss_curve(history, ENGLISH)["alt"].endswith("from 4.12 to 2")
    assert page._bound_curve(history[:1], ENGLISH) is None
    assert page._loss_curve(history[:2], ENGLISH) is None
    assert page._loss_curve(history[::2], ENGLISH) is not None


def test_settings_are_listed_by_their_dotted_names_and_former_spellings_have_their_meaning():
    table = {"model": {"hidden": [8, 4], "unet": {"width": 3}}, "seed": None}
    assert page._flat(table) == [("model.hidden", "8, 4"), ("model.unet.width", "3"), ("seed", "None")]
    (row,) = page._measures({"measures": {"recognised": {"value": 0.5}}, "floor": {}}, ENGLISH)
    meaning = ENGLISH["meanings"]["recognized"]
    assert row == {"name": "recognized", "value": "0.5000", "error": "", "real": "", "meaning": meaning}


def test_tiles_are_shown_for_what_was_measured_of_samples_and_of_real_images():
    assert page._tiles({}, ENGLISH) == []
    quality = copy.deepcopy(QUALITY)
    likelihood = {"bits_per_dim": 1.23456, "standard_error": None}
    titles = [one["title"] for one in page._tiles({"samples": quality, "likelihood": likelihood}, ENGLISH)]
    assert titles == ["recognized", "distance to real images", "bits/dim"]
    rate = page._tiles({"likelihood": likelihood}, ENGLISH)[0]
    assert (rate["value"], rate["error"], rate["meaning"]) == ("1.235", "", ENGLISH["rate_is"])
    del quality["floor"]["recognized"], quality["measures"]["frechet_distance_n1000"]
    assert page._tiles({"samples": quality}, ENGLISH) == []


@pytest.mark.parametrize(("side", "kept"), [(10, True), (11, False)])
def test_a_figure_of_too_many_pixels_is_left_out_with_a_warning(tmp_path, monkeypatch, side, kept):
    monkeypatch.setattr(page, "MOST_PIXELS", 100)
    Images(np.zeros((1, side, 10, 1), np.uint8)).save(tmp_path / "x.png", {})
    with Image.open(tmp_path / "x.png") as image:
        monkeypatch.setattr(page, "MOST_PIXELS", image.width * image.height - (not kept))
    if kept:
        content = base64.b64encode((tmp_path / "x.png").read_bytes()).decode()
        assert page.png(RunDirectory(tmp_path), "x.png") == f"data:image/png;base64,{content}"
        assert page.png(RunDirectory(tmp_path), "none.png") is None
    else:
        with pytest.warns(DamageWarning, match=r"x\.png is left out: not an image that kakusan wrote \(.* pixels\)"):
            assert page.png(RunDirectory(tmp_path), "x.png") is None


def test_an_unfinished_run_has_no_report_of_its_own(run, tmp_path, monkeypatch):
    monkeypatch.setattr(RunDirectory, "finished", False)
    with pytest.raises(kk.InputError, match="is not finished; resume with: kakusan train --resume"):
        write_report(run.path, tmp_path / "r.html")
