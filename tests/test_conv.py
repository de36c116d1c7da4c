"""Convolutional VAE and hierarchical VAE: any size of image, an exact bound, and a run."""

import pytest
import torch

import kakusan as kk
from kakusan.nets.conv import sizes
from kakusan.run.families.conv import ConvHierarchyConfig, ConvHierarchyFamily, ConvVAEConfig, ConvVAEFamily

FAMILIES = [(ConvVAEFamily, ConvVAEConfig), (ConvHierarchyFamily, ConvHierarchyConfig)]
both = pytest.mark.parametrize(("family", "config"), FAMILIES)


def images(shape, num=3):
    drawn = torch.randint(0, 256, (num, *shape), generator=torch.Generator().manual_seed(0))
    return drawn / 127.5 - 1


@both
@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 8, 8), (1, 9, 31), (4, 40, 129)])
def test_an_image_of_any_size_has_a_finite_bound_and_samples_of_its_size(family, config, shape):
    model = family().build(config(width=8), shape)
    assert torch.isfinite(kk.elbo(model, images(shape))).all()
    assert kk.ancestral_sample(model, 2).shape == (2, *shape)


def test_levels_halve_the_sides_until_both_are_eight_at_most():
    assert sizes(28, 28) == [(28, 28), (14, 14), (7, 7)]
    assert sizes(9, 31) == [(9, 31), (5, 16), (3, 8)]
    assert sizes(8, 8) == [(8, 8)]


@both
def test_the_terms_have_the_mean_of_the_log_weight(family, config):
    torch.manual_seed(0)
    model = family().build(config(width=8), (1, 8, 8)).double()
    x = images((1, 8, 8), 1).double().expand(4000, -1, -1, -1)
    with torch.no_grad():
        terms = sum(model.draw_terms(x, None, torch.Generator().manual_seed(1)).values())
        weights = kk.elbo(model, x, torch.Generator().manual_seed(2))
    error = ((terms.var() + weights.var()) / len(x)).sqrt()
    assert abs(terms.mean() - weights.mean()) < 5 * error


def test_a_short_run_of_color_images_lowers_its_loss(tmp_path):
    import numpy as np

    draw = np.random.default_rng(0)
    np.save(tmp_path / "x.npy", np.clip(128 + 20 * draw.normal(size=(60, 12, 9, 3)), 0, 255).astype(np.uint8))
    settings = {"model.width": 8, "optim.batch": 16}
    for name in ("vae", "hvae"):
        run = kk.train(name, data=str(tmp_path / "x.npy"), steps=12, out=str(tmp_path / name), **settings)
        assert run.model.sample(2).shape == (2, 12, 9, 3)
        assert run.history[-1]["bits_per_dim"] < 8.4
