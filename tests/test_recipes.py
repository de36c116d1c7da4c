"""Recipes are typed records that come back from JSON as they went."""

import dataclasses
import json
import math

import numpy as np
import pytest
import torch

import kakusan
from harness.faults import catches
from harness.support import call
from kakusan.errors import InputError
from kakusan.recipes import RECIPES, find
from kakusan.run.build import blueprint, build
from kakusan.run.families.diffusion import DiffusionConfig, timestep_distribution
from kakusan.run.recipe import Recipe, from_record
from kakusan.run.trained_model import TrainedModel
from kakusan.training.settings import Budget


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_survives_its_json_record(name):
    assert from_record(json.loads(json.dumps(RECIPES[name].record()))) == RECIPES[name]


def test_a_record_from_before_there_was_a_choice_of_networks_is_a_unets():
    record = RECIPES["mnist-ddpm"].record()
    for later in ("network", "patch"):
        del record["model"][later]
    assert from_record(record).model.network == "unet"


@pytest.mark.proves("S26")
@catches("""recipes/mnist_hvae.py: the notes' recipe has 20 epochs
- EPOCHS, TRAINING_IMAGES, BATCH = 30,
+ EPOCHS, TRAINING_IMAGES, BATCH = 20,""")
def test_the_notes_recipe_has_the_notes_numbers():
    recipe = find("mnist-hvae")
    assert (recipe.model.hidden, recipe.model.latents, recipe.optim.lr, recipe.optim.batch) == (100, (20, 20), 1e-3, 32)
    assert recipe.steps * recipe.optim.batch == 30 * 60_000
    assert recipe.model.third_term == "exact"


@pytest.mark.proves("S26")
@catches("""recipes/book_vae.py: the one-level VAE has 32 latents
- latent=20
+ latent=32""")
@catches("""recipes/book_hvae.py: the two-level VAE of the book is the one-level one
- from kakusan.recipes.mnist_hvae import
+ from kakusan.recipes.book_vae import""")
def test_the_vaes_of_the_book_have_the_notes_sizes_and_settings():
    encoder, upper = 784 * 100 + 100 + 2 * (100 * 20 + 20), 20 * 100 + 100 + 2 * (100 * 20 + 20)
    decoder, middle = 20 * 100 + 100 + 100 * 784 + 784, 20 * 100 + 100 + 100 * 20 + 20
    one, two = (build(RECIPES[name].model, (1, 28, 28)) for name in ("book-vae", "book-hvae"))
    assert sum(p.numel() for p in one.parameters()) == encoder + decoder
    assert sum(p.numel() for p in two.parameters()) == encoder + decoder + upper + middle
    assert dataclasses.replace(RECIPES["book-hvae"], name="mnist-hvae") == RECIPES["mnist-hvae"]


@catches("""recipes/book_ddpm.py: the plain DDPM predicts v
- prediction="eps"
+ prediction="v\"""")
@catches("""recipes/book_ddpm.py: the plain DDPM draws most timesteps around a focus
- focus_share=0.0
+ focus_share=0.8""")
def test_the_ddpm_of_the_book_has_none_of_our_additions():
    recipe = RECIPES["book-ddpm"]
    model = build(recipe.model, (1, 28, 28))
    assert isinstance(model, kakusan.Diffusion)  # no clusters
    assert model.prediction == "eps"
    betas = torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64)
    torch.testing.assert_close(model.schedule.beta[1:], betas, rtol=1e-12, atol=0.0)
    uniform = torch.full((1000,), 1e-3, dtype=torch.float64)
    torch.testing.assert_close(timestep_distribution(recipe.model).probs, uniform)
    assert (recipe.model.guidance, recipe.optim.early, recipe.optim.method, recipe.optim.ema) == (1.0, None, "adam", 0)
    assert (recipe.optim.lr, recipe.optim.batch, recipe.steps) == (1e-3, 32, 30 * 60_000 // 32)


@catches("""registry.py: any name is said to be meant
- CLOSE_ENOUGH = 0.6
+ CLOSE_ENOUGH = 0.0""")
def test_an_unknown_recipe_names_the_nearest():
    with pytest.raises(InputError, match=r"^no recipe 'xyz'; there are: "):
        find("xyz")
    with pytest.raises(InputError, match="did you mean 'mnist-vae'"):
        find("mnist-vea")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"family": "gan"}, "family"),
        ({"model": {"depht": 3}}, "depht"),
        ({"model": {"depth": "many"}}, "model.depth"),
        ({"model": {"depth": True}}, "model.depth"),
        ({"model": {"schedule": "cosin"}}, "model.schedule"),
        ({"model": []}, "table of settings"),
        ({"optim": {"lr": None}}, "optim.lr"),
    ],
)
def test_a_damaged_record_is_refused_by_name(change, words):
    record = RECIPES["mnist-ddpm"].record()
    with pytest.raises(InputError, match=words):
        from_record({**record, **change})


@pytest.mark.parametrize(
    "budget", [{}, {"minutes": 1, "steps": 1}, {"minutes": 0}, {"steps": -3}, {"minutes": float("nan")}]
)
def test_a_budget_is_one_positive_amount(budget):
    with pytest.raises(InputError, match="budget"):
        Budget(**budget)


@catches("""run/sampling.py: the end of samples is where they begin to be guided
- end = config.end_log_snr if end_log_snr is None else end_log_snr
+ end = config.guidance_range[0] if end_log_snr is None else end_log_snr""")
def test_samples_end_where_the_recipe_says():
    config = DiffusionConfig(width=8, inner_width=16, blocks=1, guidance_range=(-2.0, 1.0))
    recipe = Recipe("r", "", dataclasses.replace(config, end_log_snr=3.0))
    module = build(config, (1, 8, 8))

    def end(recipe, **choices):
        model = TrainedModel(recipe, module, (1, 8, 8), torch.device("cpu"))
        return model.diffusion.schedule.log_snr[model.sampling.times(**choices)[0]].item()

    assert abs(end(recipe) - 3.0) < 0.02  # a step of the chain
    assert abs(end(Recipe("r", "", config)) - 2 * math.log(20)) < 0.04
    assert abs(end(recipe, end_log_snr=2.0) - 2.0) < 0.02


def test_the_transformer_is_made_for_tensor_units_and_for_digits():
    recipe = find("mnist-transformer")
    assert (recipe.optim.precision, recipe.optim.compile) == ("bfloat16", "default")
    assert recipe.optim.augment == "shift"  # never mirrored: a mirrored 3 is no digit
    assert sum(math.prod(shape) for shape, _ in blueprint(recipe.model, (1, 28, 28)).values()) > 20_000_000


def test_the_recipe_runs_small_on_a_cpu(capsys, tmp_path):
    folder = tmp_path / "pictures"
    folder.mkdir()
    from PIL import Image

    for k in range(12):
        Image.frombytes("L", (8, 8), bytes((k * 7 + 3 * i) % 256 for i in range(64))).save(folder / f"{k}.png")
    small = ["--model.width", "32", "--model.blocks", "1", "--model.depth", "10", "--optim.compile", "none"]
    small += ["--data", folder, "--optim.batch", "4", "--steps", "3", "--device", "cpu"]
    code, _, told = call(capsys, "train", "mnist-transformer", *small, "--out", tmp_path / "run")
    assert code == 0, told
    last = json.loads((tmp_path / "run" / "history.jsonl").read_text().splitlines()[-1])
    assert last["gflops_per_second"] > 0
    code, _, told = call(
        capsys, "train", "mnist-transformer", *small, "--optim.precision", "tf32", "--out", tmp_path / "b"
    )
    assert code == 2
    assert "tf32 needs a GPU" in told
    assert not (tmp_path / "b").exists()


@catches("""run/train.py: the concentration of a user's counts is not learned
- recipe.data != RECIPES[recipe.name].data
+ False""")
def test_samples_of_a_users_counts_have_the_frequencies_of_the_data(tmp_path):
    counts = np.random.default_rng(0).multinomial(50, [0.5, 0.3, 0.15, 0.05], size=60)
    np.save(tmp_path / "words.npy", counts)
    run = kakusan.train("counts-dirichlet", data=tmp_path / "words.npy", steps=300, out=tmp_path / "run")
    shares = np.asarray(run.model.sample(2000)).sum(0) / (2000 * 50)
    # one concentration for all categories draws each as often: 0.25
    assert np.abs(shares - counts.sum(0) / counts.sum()).max() < 0.05
