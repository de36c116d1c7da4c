"""Training pictures that are moved or mirrored: what they show, what they are a function of, and that bounds never see them."""

import pytest
import torch

from harness import engine_job
from harness.faults import catches
from harness.support import seeded
from kakusan.data.augment import REACH, augmented
from kakusan.data.open import open_data
from kakusan.errors import InputError
from kakusan.recipes import find
from kakusan.run.build import build, check_kind, training_loss, training_terms
from kakusan.run.families.diffusion import DiffusionConfig
from kakusan.run.families.vae import VAEConfig
from kakusan.run.recipe import Recipe
from kakusan.training.settings import Optim


def framed(b=500, side=5, channels=2):
    """Random pictures with a frame of zeros as wide as they can be moved, and no zero inside."""
    inner = torch.randint(1, 256, (b, channels, side, side), dtype=torch.uint8, generator=seeded(0))
    return torch.nn.functional.pad(inner, (REACH,) * 4)


def moved(picture, down, right):
    """By slices, which share nothing with the library's gather; zeros come in."""
    height, width = picture.shape[-2:]
    large = torch.zeros(*picture.shape[:-2], 3 * height, 3 * width, dtype=picture.dtype)
    large[..., height + down : 2 * height + down, width + right : 2 * width + right] = picture
    return large[..., height : 2 * height, width : 2 * width]


def way_of(picture, shown):
    """(down, right) of the only move that explains what is shown."""
    ways = [(down, right) for down in range(-3, 4) for right in range(-3, 4)]
    (found,) = [way for way in ways if torch.equal(moved(picture, *way), shown)]
    return found


@catches("""data/augment.py: pictures move to one side only
- torch.arange(width, device=pixels.device).expand(b, width)
+ torch.arange(width, device=pixels.device).expand(b, width) - 1""")
@catches("""data/augment.py: pictures move as far down as right
- down, right = ((2 * REACH + 1) * drawn[:, :2]).long().unbind(1)
+ down = right = ((2 * REACH + 1) * drawn[:, 0]).long()""")
def test_a_moved_picture_holds_the_same_pixels_moved_alike_in_all_channels():
    pictures = framed()
    shown = augmented(pictures, "shift", seeded(1))
    assert shown.dtype == torch.uint8
    assert torch.equal(shown.flatten(1).sort().values, pictures.flatten(1).sort().values)
    ways = [way_of(*pair) for pair in zip(pictures, shown)]
    assert set(ways) == {(down, right) for down in range(-2, 3) for right in range(-2, 3)}
    # 500 pictures, 25 ways, 20 expected: chi-squared of 24 degrees is above 75 with probability 4e-7
    assert sum((ways.count(way) - 20) ** 2 / 20 for way in set(ways)) < 75


def test_what_leaves_a_picture_is_gone_and_zeros_come_in():
    full = torch.full((200, 1, 6, 9), 7, dtype=torch.uint8)
    shown = augmented(full, "shift", seeded(2))
    kept = {(6 - down) * (9 - right) for down in range(3) for right in range(3)}
    assert {int((one == 7).sum()) for one in shown} == kept
    assert set(shown.unique().tolist()) == {0, 7}


@catches("""data/augment.py: every moved picture is mirrored
- drawn[:, 2:] < 0.5
+ drawn[:, 2:] < 0.0""")
def test_half_of_the_pictures_are_mirrored_left_to_right_where_that_was_asked_for():
    pictures = framed()
    shown = augmented(pictures, "shift-and-mirror", seeded(3))
    mirrored = 0
    for picture, one in zip(pictures, shown):
        try:
            way_of(picture, one)
        except ValueError:
            way_of(picture.flip(-1), one)
            mirrored += 1
    assert abs(mirrored - 250) < 4.5 * 11.2  # the standard error of 500 coins; false alarms 7e-6


def test_nothing_asked_for_is_nothing_drawn():
    pictures, noise = framed(3), seeded(4)
    before = noise.get_state()
    assert augmented(pictures, "none", noise) is pictures
    assert torch.equal(noise.get_state(), before)


def test_what_a_step_shows_is_a_function_of_seed_step_and_group():
    one, again = engine_job.trainer(), engine_job.trainer()
    pictures = framed(64)
    seen = {}
    for step, group in ((0, 0), (0, 1), (7, 0)):
        shown = [augmented(pictures[i], "shift", noise) for i, noise in (t.draws(step, group) for t in (one, again))]
        assert torch.equal(*shown)
        seen[step, group] = shown[0]
    indices = torch.arange(8)
    ways = [augmented(pictures[indices], "shift", one.draws(*where)[1]) for where in seen]
    assert not any(torch.equal(ways[k], ways[k - 1]) for k in range(3))


@pytest.mark.parametrize(
    "config",
    [VAEConfig(hidden=(8,), latent=2), DiffusionConfig(depth=5, width=8, inner_width=16, blocks=1)],
    ids=["vae", "diffusion"],
)
def test_a_loss_with_moved_pictures_is_the_loss_of_those_pictures(config):
    torch.manual_seed(0)
    data = framed(20, channels=1)
    module = build(config, tuple(data.shape[1:]))
    indices = torch.tensor([3, 1, 4, 15])
    noise = seeded(5)
    shown = augmented(data[indices], "shift", noise)
    by_hand = training_loss(module, config, shown)(torch.arange(4), noise)
    assert torch.equal(training_loss(module, config, data, "shift")(indices, seeded(5)), by_hand)
    assert not torch.equal(training_loss(module, config, data)(indices, seeded(5)), by_hand)
    terms = training_terms(module, config, data, indices, seeded(5), "shift")
    if terms:
        torch.testing.assert_close(-sum(terms.values()) / shown[0].numel(), by_hand)  # the same sum, its order apart


def test_counts_cannot_be_moved():
    recipe = find("counts-dirichlet")
    changed = Recipe("x", "", recipe.model, recipe.data, optim=Optim(augment="shift"))
    with pytest.raises(InputError, match=r"optim.augment is for images.*choose none"):
        check_kind(changed, open_data(recipe.data))
    check_kind(Recipe("x", "", VAEConfig(), optim=Optim(augment="shift")), open_data("mnist"))
