"""A run from Python: train, look, sample, resume; the settings are those of the command line."""

import json
import shutil
import signal
import threading
from types import SimpleNamespace

import numpy as np
import pytest

import kakusan as kk
from harness.faults import catches
from harness.support import call
from kakusan.errors import InputError, SaveError
from kakusan.recipes import find
from kakusan.run.doctor import examine
from kakusan.run.finish import SUMMARY_SAMPLES, _affordable, _examples_at_a_mark
from kakusan.run.trained_run import default_out, typed_words, with_settings
from kakusan.training import checkpoint
from kakusan.training.progress import ProgressLine

SMALL = {"hidden": (8,), "latent": 2, "batch": 8}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    path = tmp_path_factory.mktemp("mine") / "mine.npy"
    np.save(path, np.random.default_rng(0).integers(0, 256, (40, 4, 4), dtype=np.uint8))
    return path


@pytest.fixture(scope="module")
def run(data, tmp_path_factory):
    return kk.train("mnist-vae", data=data, steps=6, out=tmp_path_factory.mktemp("runs") / "run", seed=3, **SMALL)


def test_a_run_has_its_model_history_summary_and_report(run):
    assert run.finished
    assert run.model.sample(2).shape == (2, 4, 4, 1)
    assert run.history[-1]["step"] == 6
    assert run.summary["likelihood"]["bits_per_dim"] > 0
    assert run.report.read_text().startswith("<!doctype html>")
    assert run.recipe.model.hidden == (8,)
    assert np.array_equal(kk.load(run.path).sample(3), kk.Run(run.path).model.sample(3))


def test_the_recorded_command_trains_the_same_run(run, tmp_path, capsys):
    words = json.loads((run.path / "run.json").read_text())["command"]
    assert words[:3] == ["kakusan", "train", "mnist-vae"]
    again = [*words[1 : words.index("--out")], "--out", tmp_path / "again"]
    code, out, _ = call(capsys, *again)
    assert code == 0
    assert run.summary["weights_sha256"] in out


def test_python_hears_one_progress_line_and_no_more(data, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(ProgressLine, "update", lambda self, trainer: None)  # which comes after ten seconds only
    enough = data.parent / "enough.npy"
    np.save(enough, np.random.default_rng(0).integers(0, 256, (200, 4, 4), dtype=np.uint8))
    kk.train("mnist-vae", data=enough, steps=2, out=tmp_path / "run", **SMALL)
    assert capsys.readouterr() == ("", "")


def test_a_run_trains_in_a_thread_where_no_signal_can_be_heard(data, tmp_path):
    runs = []
    thread = threading.Thread(
        target=lambda: runs.append(kk.train("mnist-vae", data=data, steps=2, out=tmp_path / "run", **SMALL))
    )
    thread.start()
    thread.join()
    assert runs[0].finished


@catches("""run/session.py: a save that failed once ends the run in the end
- self.intact))
-             self.failed = None
+ self.intact))""")
def test_a_save_that_fails_once_and_succeeds_later_does_not_fail_the_run(data, tmp_path, monkeypatch):
    save, failures = checkpoint.save, [SaveError("the disk is full")]

    def fails_once(*given):
        if failures:
            raise failures.pop()
        return save(*given)

    monkeypatch.setattr(checkpoint, "save", fails_once)
    try:
        run = kk.train("mnist-vae", data=data, steps=4, out=tmp_path / "run", **SMALL)
    except SaveError as error:
        pytest.fail(f"a later save succeeded, and still: {error}")
    assert run.finished
    assert not failures


@catches("""run/trained_run.py: a setting of two sections is that of the second
- if len(homes) > 1:
+ if len(homes) > 2:""")
def test_a_setting_of_two_sections_must_name_its_section():
    with pytest.raises(InputError, match=r"'guidance' is a setting of several sections; give model=.* or distil="):
        with_settings(find("mnist-few"), {"guidance": 1.5})
    assert with_settings(find("mnist-few"), {"distil": {"guidance": 1.5}}).distil.guidance == 1.5


def test_ctrl_c_saves_and_the_unfinished_run_is_returned(data, tmp_path, monkeypatch):
    shown = ProgressLine.update

    def update(self, trainer):
        shown(self, trainer)
        if trainer.state.step == 3:
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(ProgressLine, "update", update)
    run = kk.train("mnist-vae", data=data, steps=6, out=tmp_path / "run", seed=3, **SMALL)
    assert not run.finished
    assert run.summary == {}
    monkeypatch.undo()
    assert run.resume().finished


def test_resuming_with_a_larger_budget_ends_where_a_run_of_that_budget_ends(run, tmp_path):
    shutil.copytree(run.path, tmp_path / "run")
    longer = kk.Run(tmp_path / "run").resume(steps=9)
    assert longer.history[-1]["step"] == 9
    with pytest.raises(kk.InputError, match="is finished"):
        longer.resume()
    with pytest.raises(kk.InputError, match="keeps its recipe"):
        kk.train("mnist-vae", resume=longer.path)
    with pytest.raises(kk.InputError, match="and directory"):
        kk.train(resume=longer.path, out=tmp_path / "elsewhere")
    with pytest.raises(kk.InputError, match="device must be"):
        kk.train(resume=longer.path, device="tpu")


@catches("""run/fingerprint.py: a run whose data have moved counts as another run
- data=first_data or recipe.data
+ data=recipe.data""")
@catches("""run/trained_run.py: train forgets the new path of the data of a run
- resume(minutes=minutes, steps=steps, data=data, device=where)
+ resume(minutes=minutes, steps=steps, device=where)""")
def test_a_run_resumes_with_data_that_have_moved_if_their_content_is_the_same(data, tmp_path, capsys):
    moved, other = tmp_path / "moved.npy", tmp_path / "other.npy"
    shutil.copy(data, tmp_path / "here.npy")
    run = kk.train("mnist-vae", data=tmp_path / "here.npy", steps=4, out=tmp_path / "run", **SMALL)
    (tmp_path / "here.npy").rename(moved)
    np.save(other, np.zeros((40, 4, 4), np.uint8))
    with pytest.raises(kk.InputError, match="if the data have moved, add --data PATH"):
        run.resume(steps=8)
    with pytest.raises(kk.InputError, match="has changed since"):
        run.resume(steps=8, data=other)
    try:
        assert run.resume(steps=8, data=moved).finished
        again = tmp_path / "again.npy"
        moved = moved.rename(again)
        assert kk.train(resume=run.path, steps=9, data=moved).finished
    except kk.InputError as error:
        pytest.fail(f"the same data are refused: {error}")
    assert not examine(run.path).damaged
    assert call(capsys, "evaluate", run.path)[0] == 0  # finds them where they are now
    assert run.resume(steps=10).finished


def test_settings_are_named_nested_with_a_dot_or_alone():
    recipe = find("mnist-ddpm")
    wanted = with_settings(recipe, {"model": {"width": 16}, "optim.batch": 32, "blocks": 1, "betas": [0.9, 0.99]})
    assert (wanted.model.width, wanted.optim.batch, wanted.model.blocks) == (16, 32, 1)
    assert wanted.optim.betas == (0.9, 0.99)
    assert (
        with_settings(recipe, {"size": (48, 40)}).pictures.size
        == with_settings(recipe, {"size": "48x40"}).pictures.size
    )
    assert with_settings(recipe, {}) == recipe


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"widht": 3}, "did you mean 'width'"),
        ({"step": 3}, "did you mean 'steps'"),
        ({"minute": 3}, "did you mean 'minutes'"),
        ({"model": {"nope": 1}}, "no setting 'model.nope'"),
        ({"optim.lr": -1}, "optim.lr must be"),
        ({"width": "wide"}, "model.width must be"),
    ],
)
def test_a_mistaken_setting_is_one_line(settings, words):
    with pytest.raises(kk.InputError, match=words) as caught:
        with_settings(find("mnist-ddpm"), settings)
    assert "\n" not in str(caught.value)


def test_a_default_run_directory_never_exists_yet(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("kakusan.run.trained_run.time.strftime", lambda form: "20260101-000000")
    first = default_out("mnist-vae")
    first.mkdir(parents=True)
    assert default_out("mnist-vae") == first.with_name(f"{first.name}-2")
    first.with_name(f"{first.name}-2").mkdir()
    assert default_out("mnist-vae") == first.with_name(f"{first.name}-3")


@pytest.mark.parametrize(
    ("trained", "per_sample", "expected"),
    [
        (10, 1, (1000, 0)),
        (100_000, 1, (10_000, SUMMARY_SAMPLES)),
        (50_000, 40, (5_000, 0)),
        (1_000_000, 40, (10_000, SUMMARY_SAMPLES)),
    ],
)
def test_measuring_after_training_costs_a_share_of_it(trained, per_sample, expected):
    model = SimpleNamespace(
        family=SimpleNamespace(closed_form=False), sampling=SimpleNamespace(evaluations_per_sample=per_sample)
    )
    assert _affordable(model, SimpleNamespace(test=range(10_000)), trained) == expected


@pytest.mark.parametrize(
    ("images", "progress", "closed_form", "expected"),
    [
        (2000, 0.02, False, 1000),  # 100,000 in all: 300,000 evaluations, of which 16 x 1,000 are 5 %
        (200, 0.02, False, 250),  # 10,000 in all, and 16 x 187 would be a tenth
        (1600, 0.1, False, 250),  # 16,000 in all, and 16 x 300 would be a tenth
        (16_000, 1.0, False, 250),
        (8, 1.0, False, 250),
        (8, 1.0, True, 1000),
    ],
)
@catches("""run/finish.py: each mark may cost what all marks together may cost
- 2 * num * len(MARKS) > BOUND_SHARE
+ 2 * num > BOUND_SHARE""")
@catches("""run/finish.py: the cost of measuring is compared with training so far
- trainer.state.images(trainer.settings.batch) / max(trainer.progress, 1e-9)
+ trainer.state.images(trainer.settings.batch)""")
def test_the_bounds_at_all_marks_cost_at_most_a_tenth_of_training(images, progress, closed_form, expected):
    model = SimpleNamespace(family=SimpleNamespace(closed_form=closed_form))
    trainer = SimpleNamespace(
        state=SimpleNamespace(images=lambda batch: images), settings=SimpleNamespace(batch=8), progress=progress
    )
    assert _examples_at_a_mark(model, trainer) == expected


@catches("""run/train.py: a run that was stopped counts as finished
- return Outcome(job.run, stopped_by, distributed.is_rank0())
+ return Outcome(job.run, 0, distributed.is_rank0())""")
def test_a_command_that_a_signal_stopped_exits_with_its_number(data, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(ProgressLine, "update", lambda self, trainer: signal.raise_signal(signal.SIGTERM))
    words = ("--steps", "6", "--model.hidden", "8", "--model.latent", "2", "--optim.batch", "8")
    try:
        code, _, err = call(capsys, "train", "mnist-vae", "--data", data, "--out", tmp_path / "run", *words)
    except InputError:
        code, err = "no summary", ""
    assert code == 128 + signal.SIGTERM
    assert "stopped; resume with: " in err


def test_an_array_in_place_of_a_path_is_answered_with_what_to_do(tmp_path):
    with pytest.raises(
        kk.InputError, match=r"got ndarray; save it, numpy.save\('data.npy', x\), and pass data='data.npy'"
    ):
        kk.train("images", data=np.zeros((30, 8, 8), np.uint8), steps=2, out=tmp_path / "run")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"recipe": "mnist-vae", "resume": "r"}, "a run keeps its recipe, settings, teacher and directory"),
        ({"resume": "r", "out": "o"}, "a run keeps its recipe"),
        ({"resume": "r", "teacher": "t"}, "a run keeps its recipe"),
        ({"resume": "r", "init": "i"}, "a run keeps its recipe"),
        ({"resume": "r", "latent": 3}, "a run keeps its recipe"),
        ({}, "train needs a recipe"),
        ({"recipe": "mnist-vae", "steps": 1, "minutes": 1}, "give minutes or steps, not both"),
    ],
)
def test_arguments_of_train_that_exclude_each_other_are_refused(given, words):
    with pytest.raises(InputError, match=words):
        kk.train(given.pop("recipe", None), **given)


def test_settings_become_the_flags_that_set_them():
    recipe = find("images")
    assert with_settings(recipe, {"size": [8, 16]}).pictures.size == (8, 16)
    assert with_settings(recipe, {"size": 8}).pictures.size == (8, 8)
    assert with_settings(recipe, {"size": None}).pictures.size is None
    settings = {"bad_images": "skip", "model": {"end_log_snr": 2.0}, "optim.lr": 0.5, "focus": (1.0, 2.0)}
    assert with_settings(recipe, settings).pictures.bad == "skip"
    words = typed_words(recipe, settings, data="a b", steps=None, seed=3)
    assert words == [
        "kakusan", "train", "images", "--data", "a b", "--seed", "3", "--bad-images", "skip", "--model.end-log-snr", "2.0",
        "--optim.lr", "0.5", "--model.focus", "1.0", "2.0",
    ]  # fmt: skip


def test_a_run_shows_its_recipe_and_whether_it_is_finished(run):
    assert repr(run) == f"Run({str(run.path)!r}, mnist-vae, finished)"
