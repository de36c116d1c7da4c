"""Data that cannot teach a model anything are told of before training; ordinary ones are not."""

import math

import numpy as np
import pytest
import torch

from harness.faults import catches
from harness.support import status
from kakusan.columns import Column
from kakusan.data.cautions import cautions
from kakusan.data.dataset import Dataset, from_arrays
from kakusan.data.open import open_data
from kakusan.errors import ScheduleWarning
from kakusan.likelihood.evaluation import Evaluation
from kakusan.run.build import build
from kakusan.run.evaluate import averaged
from kakusan.run.families.diffusion import DiffusionConfig
from kakusan.run.families.hierarchy import HierarchyConfig
from kakusan.run.families.vae import VAEConfig
from kakusan.run.recipe import Recipe
from kakusan.run.summary import error_words, floor_bits, floor_lines, noise_caution
from kakusan.run.trained_model import TrainedModel


def dataset(examples):
    array = torch.from_numpy(np.asarray(examples, dtype=np.uint8)).reshape(len(examples), 1, 2, 2)
    return from_arrays("mine.npy", "images", array, None)


RANDOM = np.random.default_rng(0).integers(0, 256, (200, 4))


@catches("""data/cautions.py: a hundred training examples are few [examples1-words1]
- len(data) < FEW:
+ len(data) <= FEW:""")
@pytest.mark.parametrize(
    ("examples", "words"),
    [
        (RANDOM, []),
        (RANDOM[:111], []),  # 100 to train, 11 held out
        (RANDOM[:50], ["only 45 training examples"]),
        (np.tile(RANDOM[:1], (200, 1)), ["all training examples in mine.npy are equal"]),
        (RANDOM[:2], ["only 1 training example, so a model is likely to memorize it"]),
        (np.full((200, 4), 7), ["has only one value, 7"]),
        (
            RANDOM % 17,
            [
                "reach only 16 of 255",
            ],
        ),
        (RANDOM % 2, []),  # taken as black and white
        (np.full((20, 4), 7), ["has only one value, 7", "only 18 training examples"]),
    ],
)
def test_each_thing_that_is_odd_has_one_line(examples, words):
    lines = cautions(dataset(examples))
    assert len(lines) == len(words)
    assert all(word in line and line.startswith("caution: ") for word, line in zip(words, lines))


@catches("""data/cautions.py: equal codes of different columns are one value
- if low == high and not dataset.columns:
+ if low == high:""")
def test_equal_codes_of_two_columns_are_not_one_value(tmp_path):
    (tmp_path / "two.csv").write_text("a,b\n1,3\n2,4\n")
    assert not any("only one value" in line for line in cautions(open_data(tmp_path / "two.csv")))


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


def test_an_error_from_the_examples_that_is_too_small_to_print_is_said_in_words():
    assert "error from the examples 0.0031" in error_words(evaluation(0.0031))
    for between in (0.0, 1e-9, 4e-5):
        assert "examples 0.0000" not in error_words(evaluation(between))
        assert "too small to tell" in error_words(evaluation(between))
    assert "error from the examples unknown" in error_words(evaluation(None))


def untrained(config, shape=(1, 8, 8)):
    return TrainedModel(Recipe("r", "", config), build(config, shape), shape, torch.device("cpu"))


@pytest.mark.parametrize(("bits", "told"), [(7.9, False), (8.1, True)])
def test_a_bound_worse_than_uniform_noise_is_a_caution(bits, told):
    model = untrained(DiffusionConfig(depth=4, width=8, inner_width=16, blocks=1))
    found = Evaluation(**{**dict.fromkeys(Evaluation.__dataclass_fields__), "bits_per_dim": bits})
    assert any(line.startswith("caution: above the 8 bits/dim") for line in floor_lines(model, found)) == told


def test_a_model_of_unit_variance_is_told_its_distance_to_the_least_it_can_reach():
    """No advice to train longer: (log2(2 pi) / 2 + log2 255) bits/dim stay, whatever is learned."""
    found = Evaluation(**{**dict.fromkeys(Evaluation.__dataclass_fields__), "bits_per_dim": 9.36})
    for config in (VAEConfig(hidden=(4,), latent=2, likelihood="gaussian"), HierarchyConfig(hidden=4, latents=(3, 2))):
        model = untrained(config)
        assert floor_bits(model) == pytest.approx(0.5 * math.log2(2 * math.pi) + math.log2(255), abs=1e-9)
        assert floor_lines(model, found) == [
            "  0.0399 bits/dim above 9.3201, the least that a density of unit variance can reach"
        ]


def test_the_floor_of_a_diffusion_model_of_unit_variance_has_the_cost_of_its_reverse_steps():
    """N(x; ., 1) of values in [-1, 1], and KL(N(., beta_tilde) || N(., 1)) at t > 1, by hand."""
    beta = np.linspace(1e-4, 0.02, 10)
    kept = np.concatenate([[1.0], np.cumprod(1 - beta)])
    beta_tilde = ((1 - kept[:-1]) / (1 - kept[1:]) * beta)[1:]
    steps = 0.5 * (beta_tilde - 1 - np.log(beta_tilde)).sum()
    config = DiffusionConfig(
        depth=10, schedule="linear", variance="unit", likelihood="gaussian", width=8, inner_width=16, blocks=1
    )
    with pytest.warns(ScheduleWarning):
        floor = floor_bits(untrained(config))
    assert floor == pytest.approx((0.5 * math.log(2 * math.pi) - math.log(2 / 255) + steps) / math.log(2), abs=1e-6)


def test_the_average_of_independent_estimates_lowers_the_monte_carlo_error_alone():
    """Estimates with a Monte Carlo variance of 4, and an error of 3 from the examples, which averaging cannot lower."""
    draws = np.random.default_rng(0).normal(1.0, 2.0, 400)
    blank = dict.fromkeys(Evaluation.__dataclass_fields__, 0.0)
    blank |= {"terms": {}, "term_errors": {}, "levels": [], "network_evaluations": 5, "estimator": "one"}
    blank |= {"standard_error": math.hypot(2.0, 3.0), "nats_standard_error": None}
    found = averaged(
        [Evaluation(**{**blank, "bits_per_dim": one, "per_example": torch.full((2,), one)}) for one in draws]
    )
    assert found.bits_per_dim == pytest.approx(draws.mean())
    assert found.standard_error_monte_carlo == pytest.approx(2.0 / 20, rel=0.2)
    assert found.standard_error_images == pytest.approx(3.0, rel=0.1)
    assert found.network_evaluations == 2000
    assert found.nats_standard_error is None
    assert found.per_example.tolist() == pytest.approx([draws.mean()] * 2)


@catches("""data/forms/counts.py: many rows make counts look like pixels
- or dataset.event_shape[0] < PIXELS_LIKE
+ or len(dataset.train) < PIXELS_LIKE""")
def test_counts_of_few_categories_do_not_look_like_pixels():
    counts = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (500, 10)).astype(float))
    counts[0] = 255
    assert cautions(from_arrays("x", "counts", counts)) == []


def test_the_bits_of_uniform_noise_alone_are_no_caution():
    model = untrained(VAEConfig(hidden=(4,), latent=2))
    assert noise_caution(model, 8.0) == []
    assert noise_caution(model, 8.01) == ["caution: above the 8 bits/dim of uniform noise; train longer"]
    assert noise_caution(untrained(VAEConfig(hidden=(4,), latent=2, likelihood="bernoulli")), 9.0) == []


def test_images_are_nearly_black_below_a_quarter_of_white_and_the_way_out_is_said():
    examples = np.zeros((200, 4), int)
    examples[::2] = RANDOM[::2] % 63
    examples[:, 0] = np.arange(200) % 64
    assert cautions(dataset(examples)) == [
        "caution: the values of mine.npy reach only 63 of 255, so that images are nearly black; if 63 is white, save "
        "(x * (255 / 63)).round().astype('uint8')"
    ]
    examples[:, 0] += 1
    assert cautions(dataset(examples)) == []
    assert cautions(dataset(RANDOM[:2])) == [
        "caution: only 1 training example, so a model is likely to memorize it; a few thousand are usual"
    ]
    assert cautions(dataset(RANDOM[:3])) == [
        "caution: only 2 training examples, so a model is likely to memorize them; a few thousand are usual"
    ]


def test_a_column_that_teaches_nothing_or_gives_labels_away_is_told_with_the_way_out():
    columns = (Column("same"), Column("copy"), Column("free"), Column("comma", "categorical", categories=("1,5", "2")))
    labels = torch.arange(120) % 3 - 1  # -1 is unlabeled
    rows = torch.stack([torch.ones(120), labels * 2.0, torch.arange(120.0), torch.arange(120.0) % 2], 1).double()
    table = Dataset("x", "tables", rows, rows, "taken whole", train_cond=labels, columns=columns)
    assert cautions(table) == [
        "caution: column same of x has only one value, so its density is not defined; leave it out with --columns same=skip",
        "caution: column copy of x has one value for each label, so it gives the labels away; leave it out with "
        "--columns copy=skip",
        "caution: column comma of x is categorical, with texts that look like numbers with decimal commas; write points "
        "(1.5, not 1,5) for a real column",
    ]
