"""Data that cannot teach a model anything are told of before training; ordinary ones are not."""

import dataclasses

import numpy as np
import pytest
import torch

from harness.support import status
from kakusan.data.cautions import cautions
from kakusan.data.dataset import from_arrays
from kakusan.likelihood.evaluation import Evaluation
from kakusan.run import summary
from kakusan.run.build import build
from kakusan.run.cautions import cautions
from kakusan.run.families.diffusion import DiffusionConfig
from kakusan.run.recipe import Recipe
from kakusan.run.summary import error_words, measure_bound
from kakusan.run.trained_model import TrainedModel


def dataset(examples):
    array = torch.from_numpy(np.asarray(examples, dtype=np.uint8)).reshape(len(examples), 1, 2, 2)
    return from_arrays("mine.npy", "images", array, None)


RANDOM = np.random.default_rng(0).integers(0, 256, (200, 4))


@pytest.mark.parametrize(
    ("examples", "words"),
    [
        (RANDOM, []),
        (RANDOM[:50], ["only 45 training examples"]),
        (np.tile(RANDOM[:1], (200, 1)), ["all training examples in mine.npy are equal"]),
        (RANDOM[:2], ["only 1 training example: a model is likely to memorize it"]),
        (np.full((200, 4), 7), ["holds one value only, 7"]),
        (
            RANDOM % 17,
            [
                "reach only 16 of 255",
            ],
        ),
        (RANDOM % 2, []),  # taken as black and white
        (np.full((20, 4), 7), ["holds one value only, 7", "only 18 training examples"]),
    ],
)
def test_each_thing_that_is_odd_has_one_line(examples, words):
    lines = cautions(dataset(examples))
    assert len(lines) == len(words)
    assert all(word in line and line.startswith("caution: ") for word, line in zip(words, lines))


def test_counts_that_look_like_pixels_are_remarked():
    counts = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (500, 64)).astype(float))
    assert ["look like pixels" in line for line in cautions(from_arrays("x", "counts", counts))] == [True]
    counts[counts == 255] = 256
    assert cautions(from_arrays("x", "counts", counts)) == []


def test_a_new_run_says_it_and_trains(tmp_path, capsys):
    np.save(tmp_path / "grey.npy", np.full((30, 4, 4), 9, dtype=np.uint8))
    small = ["--model.hidden", "4", "--model.latent", "2", "--steps", "4"]
    assert status("train", "mnist-vae", "--data", tmp_path / "grey.npy", *small, "--out", tmp_path / "run") == 0
    assert capsys.readouterr().err.count("caution: ") == 2


def evaluation(between):
    return Evaluation(
        **{
            **dict.fromkeys(Evaluation.__dataclass_fields__),
            "standard_error_monte_carlo": 0.002,
            "standard_error_images": between,
        }
    )


def test_a_spread_between_examples_that_is_too_small_to_print_is_said_in_words():
    assert "0.0031 between examples" in error_words(evaluation(0.0031))
    for between in (0.0, 1e-9, 4e-5):
        assert "0.0000 between" not in error_words(evaluation(between))
        assert "too small to tell" in error_words(evaluation(between))


@pytest.mark.parametrize(("bits", "told"), [(7.9, False), (8.1, True)])
def test_a_bound_worse_than_noise_is_remarked(bits, told, monkeypatch):
    recipe = Recipe("r", "", DiffusionConfig(depth=4, width=8, inner_width=16, blocks=1))
    model = TrainedModel(recipe, build(recipe.model, (1, 8, 8)), (1, 8, 8), torch.device("cpu"))
    data = torch.randint(256, (20, 1, 8, 8), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    found = measure_bound(model, data)
    result = dataclasses.replace(found.result, bits_per_dim=bits)
    monkeypatch.setattr(summary, "measure_bound", lambda *_: dataclasses.replace(found, result=result))
    lines = summary.summarise_run(model, from_arrays("mine.npy", "images", data, data))["lines"]
    assert any(line.startswith("caution: more than the 8 bits/dim") for line in lines) == told
