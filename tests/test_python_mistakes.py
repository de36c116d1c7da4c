"""Mistakes of callers in Python: each is one line that says what to write, and nothing is left behind."""

import numpy as np
import pytest
import torch
from PIL import Image

import kakusan as kk
from harness.faults import catches
from kakusan.recipes import find
from kakusan.run.trained_run import typed_words, with_settings

SMALL = {"hidden": (8,), "latent": 2, "batch": 8}
TINY = {"width": 8, "blocks": 1, "depth": 10, "batch": 8}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    path = tmp_path_factory.mktemp("mine") / "mine.npy"
    np.save(path, np.random.default_rng(0).integers(0, 256, (40, 4, 4), dtype=np.uint8))
    return path


@pytest.fixture(scope="module")
def model(data, tmp_path_factory):
    return kk.train("mnist-vae", data=data, steps=1, out=tmp_path_factory.mktemp("runs") / "run", **SMALL).model


@pytest.mark.parametrize("seed", [1.5, True, "1", -1, None])
@catches("""run/trained_run.py: a seed is checked only when the record is read [1.5]
- seed = seed_of(seed)  # before anything is written
+ pass""")
def test_a_seed_that_is_no_whole_number_is_refused_before_anything_is_written(data, model, tmp_path, seed):
    chain = kk.VAE(kk.nets.GaussianMLP((2,), (4,), (1,)), kk.nets.MLP((1,), (4,), (2,)), latent_shape=1)
    pixels = np.zeros((2, 4, 4, 1), np.uint8)
    for wrong in (
        lambda: kk.train("mnist-vae", data=data, steps=1, out=tmp_path / "run", seed=seed, **SMALL),
        lambda: kk.fit(chain, torch.zeros(4, 2), steps=1, seed=seed),
        lambda: model.sample(seed=seed),
        lambda: model.evaluate(pixels, seed=seed),
        lambda: model.score_samples(pixels, seed=seed),
    ):
        with pytest.raises(kk.InputError, match=r"^seed must be a whole number of at least 0, got "):
            wrong()
    assert list(tmp_path.iterdir()) == []


def test_an_integer_of_numpy_is_the_same_seed(model):
    assert np.array_equal(model.sample(2, seed=np.int64(3)), model.sample(2, seed=3))


@catches("""run/trained_run.py: the name that --help shows is no setting
- alone[shown] = [known[place]]
+ pass""")
def test_bad_images_are_skipped_by_the_name_that_the_error_gives(tmp_path):
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(tmp_path / "a.png")
    (tmp_path / "b.png").write_bytes(b"no image")
    with pytest.raises(kk.InputError, match=r"add --bad-images skip \(in Python bad_images='skip'\)"):
        kk.train("images", data=tmp_path, steps=1, out=tmp_path / "run")
    recipe = find("images")
    for name in ("bad_images", "bad", "pictures.bad", "pictures.bad_images"):
        try:
            assert with_settings(recipe, {name: "skip"}).pictures.bad == "skip"
        except kk.InputError as error:
            pytest.fail(str(error))
        assert typed_words(recipe, {name: "skip"}) == ["kakusan", "train", "images", "--bad-images", "skip"]


@pytest.mark.parametrize("name", ["evaluate", "score_samples", "encode"])
def test_a_path_in_place_of_examples_is_answered_with_how_to_read_it(model, name):
    for path in ("people.csv", "new/"):
        with pytest.raises(
            kk.InputError, match=rf"got the path '{path}'; .*kakusan\.data\.open_data\('{path}'\)\.test"
        ):
            getattr(model, name)(path)
    for wrong in (None, [["a"]], [[1], [1, 2]]):
        with pytest.raises(kk.InputError, match=r"must be a tensor or an array of numbers, .*open_data\(path\)\.test"):
            getattr(model, name)(wrong)


@pytest.mark.parametrize("source", [None, 3])
def test_a_model_is_loaded_from_a_path_only(source):
    for opened in (kk.load, kk.Run):
        with pytest.raises(kk.InputError, match="path of a run directory or an exported file, got"):
            opened(source)


def test_a_weight_or_log_snr_that_is_no_number_is_refused(data, tmp_path):
    model = kk.train("mnist-ddpm", data=data, steps=1, out=tmp_path / "run", **TINY).model
    for name in ("guidance", "autoguidance", "end_log_snr"):
        with pytest.raises(kk.InputError, match=f"{name} must be a number, got '2'"):
            model.sample(steps=1, **{name: "2"})


def test_a_budget_of_nothing_is_answered_in_the_words_of_both(data, tmp_path):
    with pytest.raises(kk.InputError, match=r"e\.g\. --minutes 3 \(in Python minutes=3\)"):
        kk.train("mnist-vae", data=data, steps=0, out=tmp_path / "run")


def test_a_density_names_the_column_without_values_and_both_shapes_of_a_row():
    rows = np.random.default_rng(0).normal(size=(20, 2))
    rows[:, 1] = np.nan
    with pytest.raises(kk.InputError, match=r"column 1 of X has no values; remove it: numpy\.delete\(X, 1, axis=1\)"):
        kk.DensityEstimator().fit(rows)
    with pytest.raises(kk.InputError, match=r"X\.reshape\(-1, 1\) .*single column, X\.reshape\(1, -1\) .*single row"):
        kk.DensityEstimator().fit(np.arange(200.0))


def test_the_error_about_images_names_both_orders_of_the_channels(model):
    with pytest.raises(kk.InputError, match=r"uint8 pixels of shape \(n, 1, 4, 4\) or \(n, 4, 4, 1\), got"):
        model.evaluate(np.zeros((2, 5, 5), np.uint8))
