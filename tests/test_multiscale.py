"""Features of any images: measures respond in order to blur, noise, color, dropped classes and copies."""

import functools
import itertools

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from harness.faults import catches
from kakusan.measure import grid, multiscale
from kakusan.measure.copies import Nearest, closest_pairs, copy_verdict
from kakusan.measure.frechet import frechet_distance
from kakusan.measure.grid import GridMetric, grid_power
from kakusan.measure.kernel import kernel_distance
from kakusan.measure.manifolds import precision_recall
from kakusan.measure.metric import Examples, Sets, Value
from kakusan.measure.samples import measure_images

TINTS = [[1, 0.6, 0.6], [0.6, 1, 0.6], [0.6, 0.6, 1], [1, 1, 0.4]]
N, SIDE, CLASSES = 500, 16, 4


@functools.cache
def shapes(seed: int, number: int = N, keep: int = CLASSES) -> torch.Tensor:
    """Smooth colored discs, squares, bars and rings of any place and color, uint8 (n, 3, 16, 16)."""
    draw = np.random.default_rng(seed)
    y, x = np.mgrid[:SIDE, :SIDE]
    images = []
    for index in range(number):
        cy, cx, r = draw.uniform([5, 5, 3], [11, 11, 5])
        disc, square = np.hypot(y - cy, x - cx), np.maximum(abs(y - cy), abs(x - cx))
        kind = index % CLASSES % keep
        far = [disc - r, square - r, abs(x - cx) - r / 3, abs(disc - r) - 1][kind]
        mask = 1 / (1 + np.exp(2 * far))
        colors = draw.uniform(0, 255, (2, 3)) * [[0.5, 0.5, 0.5], TINTS[kind]]
        images.append((colors[0, :, None, None] * (1 - mask) + colors[1, :, None, None] * mask).round())
    return torch.from_numpy(np.stack(images).astype(np.uint8))


def blurred(images, strength):
    kernel = torch.tensor([strength, 1.0, strength]) / (1 + 2 * strength)
    kernel = (kernel[:, None] * kernel).expand(3, 1, 3, 3)
    return F.conv2d(F.pad(images.float(), (1,) * 4, mode="replicate"), kernel, groups=3).round().byte()


def noisy(images, std):
    noise = std * torch.randn(images.shape, generator=torch.Generator().manual_seed(0))
    return (images + noise).round().clamp(0, 255).byte()


def shifted(images, levels):
    return (images.float() + levels * torch.tensor([1.0, 0.0, -1.0])[:, None, None]).round().clamp(0, 255).byte()


def damaged(how: str, amount: float) -> torch.Tensor:
    fresh = shapes(3 if how == "real" else 1)
    if how == "dropped":
        samples = shapes(1, keep=CLASSES - int(amount))
    elif how == "memorized":
        copies = int(amount * N)
        samples = torch.cat([shapes(2)[:copies], fresh[copies:]])
    else:
        damage = {"blur": blurred, "noise": noisy, "color": shifted, "real": lambda images, _: images}
        samples = damage[how](fresh, amount)
    return samples


@functools.cache
def quality(amount: float):
    """All measures of samples of which a share is copied."""
    samples = damaged("memorized", amount).permute(0, 2, 3, 1).numpy()
    return measure_images(samples, shapes(2), shapes(3), "multiscale")


@functools.cache
def scaled(how: str, amount: float) -> torch.Tensor:
    """Features as `measure_images` scales them."""
    raw = [multiscale.raw_features(part.permute(0, 2, 3, 1).numpy()) for part in (shapes(2), damaged(how, amount))]
    mean, scale = multiscale.scaling(raw[0])
    return (raw[1] - mean) / scale


def measured(how: str, amount: float) -> dict[str, float]:
    ours, real = scaled(how, amount), scaled("real", 0)
    values = {name: value.value for name, value in precision_recall(ours, real).items()}
    kernel = kernel_distance(ours, real)
    return values | {
        "frechet": frechet_distance(ours, real),
        "kernel": kernel.value,
        "kernel_error": kernel.standard_error,
    }


@catches("""measure/multiscale.py: features are those of gray images [color-amounts2]
- found = [F.adaptive_avg_pool2d(x, GRID).flatten(1)]
+ x = x.mean(1, keepdim=True).expand_as(x)
+     found = [F.adaptive_avg_pool2d(x, GRID).flatten(1)]""")
@pytest.mark.parametrize(
    ("how", "amounts"),
    [("blur", (0.0, 0.3, 1.0)), ("noise", (0, 8, 30)), ("color", (0, 20, 60)), ("dropped", (0, 1, 2, 3))],
)
def test_distances_rise_with_every_kind_of_damage(how, amounts):
    found = [measured(how, amount) for amount in amounts]
    for name in ("frechet", "kernel"):
        values = [each[name] for each in found]
        # without one class the kernel distance is still within its error of 0
        noise = [each[f"{name}_error"] if (how, name) == ("dropped", "kernel") else 0.0 for each in found]
        assert all(after > before - error for before, after, error in zip(values, values[1:], noise)), name
        least = {"frechet": 1.0, "kernel": 0.05}[name] * (5 if how == "color" else 1)  # as gray images: 2.3 and 0.09
        assert values[-1] > values[0] + least, name


def test_recall_falls_with_dropped_classes_and_precision_does_not():
    found = [measured("dropped", amount) for amount in (0, 2, 3)]
    recalls = [each["recall"] for each in found]
    assert recalls == sorted(recalls, reverse=True)
    assert recalls[0] > recalls[-1] + 0.1
    assert min(each["precision"] for each in found) > found[0]["precision"] - 0.05


def test_precision_falls_with_color_and_noise():
    for how, amounts in (("color", (0, 60, 120)), ("noise", (0, 20, 60))):
        values = [measured(how, amount)["precision"] for amount in amounts]
        assert values == sorted(values, reverse=True)
        assert values[-1] < values[0] / 2


@catches("""measure/copies.py: the share of copies has no baseline and no limit
- if ours - real > CLEAR * max((2 * pooled * (1 - pooled) / samples) ** 0.5, 1 / samples):
+ if False:""")
def test_memorization_is_seen_by_pixels_and_by_features_with_a_verdict():
    amounts = (0.0, 0.1, 1.0)
    found = [quality(amount) for amount in amounts]
    for kind in ("pixels", "features"):
        for name in ("copied", "nearer"):
            values = [each.values[f"{name}_{kind}"].value for each in found]
            assert values == sorted(values), name
        assert found[-1].values[f"copied_{kind}"].value == 1
    assert "none seen" in found[0].verdict
    assert "are copies of training examples by" in found[1].verdict
    assert "100.0% of samples are copies" in found[-1].verdict
    assert found[-1].verdict in found[-1].lines()
    assert found[-1].record()["copies"] == found[-1].verdict


def test_samples_near_training_data_without_copies_are_called_so():
    near = {"copied_pixels": Value(0.0, 0.0), "nearer_pixels": Value(0.8, 0.02)}
    floor = {"copied_pixels": Value(0.0, 0.0), "nearer_pixels": Value(0.5)}
    assert "memorization begins" in copy_verdict(near, floor, 500)
    assert copy_verdict({}, {}, 500) == ""


@catches("""measure/grid.py: the error of a ratio has the units of its parts
- part.double().mean().item() ** 2
+ part.double().mean().item()""")
def test_the_error_of_the_power_of_a_grid_is_that_of_repeated_draws():
    torch.manual_seed(0)
    powers = 3 + torch.rand(400, 2, 200).double()  # of 400 pairs of samples and references, far from mean 1
    ratios = powers[:, 0].mean(1) / powers[:, 1].mean(1)
    part = [Examples(torch.zeros(200, 1), grid=one) for one in powers[0]]
    found = GridMetric().compute(Sets(part[0], part[1]))["grid_power"]
    assert found.standard_error == pytest.approx(ratios.std().item(), rel=0.15)  # 400 draws know it to 3.5 %


@catches("""measure/grid.py: the grid is not moved to frequency zero
- moved = x * sign
+ moved = x""")
@pytest.mark.parametrize("pattern", ["columns", "rows", "checks"])
def test_a_grid_of_two_pixels_is_seen(pattern):
    real = shapes(2)
    y, x = torch.meshgrid(torch.arange(SIDE), torch.arange(SIDE), indexing="ij")
    sign = 1 - 2 * ({"columns": x, "rows": y, "checks": x + y}[pattern] % 2)
    with_grid = (real.float() + 4 * sign).clamp(0, 255).byte()
    sets = [
        Examples(torch.zeros(N, 1), grid=grid_power(part.permute(0, 2, 3, 1).numpy()))
        for part in (shapes(1), with_grid, shapes(3))
    ]
    found = [GridMetric().compute(Sets(part, sets[2]))["grid_power"].value for part in sets[:2]]
    assert 0.8 < found[0] < 1.2
    assert found[1] > 2


def test_the_power_of_a_grid_is_its_squared_height():
    """(-1)^column times 10 gray levels has power 100 in one of three directions."""
    image = np.full((1, 16, 16, 1), 100, np.uint8)
    image[:, :, ::2] += 20
    assert grid_power(image).tolist() == pytest.approx([100 / 3])
    assert grid_power(np.full((1, 9, 11, 3), 7, np.uint8)).tolist() == [0]
    ramp = np.broadcast_to(np.arange(16, dtype=np.uint8)[:, None], (1, 16, 16))[..., None]
    assert grid_power(ramp).tolist() == [0]


@pytest.mark.parametrize("shape", [(8, 8, 1), (9, 33, 3), (40, 24, 4), (256, 256, 3), (28, 28, 1)])
def test_features_of_any_shape_are_finite_and_deterministic(shape):
    images = np.random.default_rng(0).integers(0, 256, (4, *shape), dtype=np.uint8)
    found = multiscale.raw_features(images)
    assert found.isfinite().all()
    assert torch.equal(found, multiscale.raw_features(images))
    assert torch.allclose(found[1:2], multiscale.raw_features(images[1:2]), atol=1e-5)
    assert multiscale.compared_pixels(images).shape[1] <= 1024


def test_features_that_never_vary_are_not_enlarged():
    mean, scale = multiscale.scaling(torch.cat([torch.randn(50, 9), torch.zeros(50, 1)], dim=1))
    assert len(mean) == 10
    assert scale.min() > 0.01


@catches("""measure/multiscale.py: the features of a long set are those of its first images
- _features(_tensor(images[start : start + batch]))
+ _features(_tensor(images[:batch]))""")
@catches("""measure/multiscale.py: the pixels of a long set are those of its first images
- F.adaptive_avg_pool2d((_tensor(images[start : start + batch]) + 1)
+ F.adaptive_avg_pool2d((_tensor(images[:batch]) + 1)""")
@catches("""measure/grid.py: the grid of a long set is that of its first images
- _power(images[start : start + batch])
+ _power(images[:batch])""")
@pytest.mark.parametrize("module", [multiscale, grid])
def test_images_that_are_measured_in_parts_have_the_values_of_a_whole(monkeypatch, module):
    images = np.random.default_rng(0).integers(0, 256, (7, 20, 24, 3), dtype=np.uint8)
    functions = (multiscale.raw_features, multiscale.compared_pixels) if module is multiscale else (grid_power,)
    wanted = [function(images) for function in functions]
    monkeypatch.setattr(module, "VALUES_AT_ONCE", 2 * images[0].size)
    for function, whole in zip(functions, wanted):
        torch.testing.assert_close(function(images), whole, rtol=1e-5, atol=1e-4)


def averaged(image, size):
    """Means over all squares of pixels of this side."""
    windows = np.lib.stride_tricks.sliding_window_view(image, (size, size))
    return windows.mean((2, 3))


@pytest.mark.parametrize(("height", "width"), [(13, 12), (4, 20), (3, 9)])
def test_the_power_of_a_grid_is_that_of_three_averages_and_a_window_of_eight(height, width):
    images = np.random.default_rng(0).integers(0, 256, (2, height, width, 2), dtype=np.uint8)
    y, x = np.mgrid[:height, :width]
    expected = np.zeros(2)
    for k, (image, sign) in itertools.product(
        range(2), itertools.product((0, 1), ((-1.0) ** y, (-1.0) ** x, (-1.0) ** (x + y)))
    ):
        moved = images[k, :, :, image] * sign
        for _ in range(3 if height > 3 else 0):
            moved = averaged(moved, 2)
        window = min(8, height - 3, width - 3)
        if window:  # otherwise the image is smaller than what is averaged
            moved = moved[: len(moved) // window * window, : moved.shape[1] // window * window]
            cells = moved.reshape(len(moved) // window, window, -1, window).mean((1, 3))
            expected[k] += (cells**2).mean() / 6
    np.testing.assert_allclose(grid_power(images), expected, rtol=1e-4)  # float32
    assert grid_power(images[:0]).shape == (0,)


def test_a_grid_that_real_images_or_samples_lack_has_no_ratio_or_none_of_it():
    some, none = (Examples(torch.zeros(2, 1), grid=torch.tensor(part)) for part in ([1.0, 3.0], [0.0, 0.0]))
    assert GridMetric().compute(Sets(some, none)) == {}
    assert GridMetric().compute(Sets(none, some)) == {"grid_power": Value(0.0, 0.0)}
    assert GridMetric().compute(Sets(some, Examples(torch.zeros(2, 1)))) == {}


@pytest.mark.parametrize(("side", "scales"), [(32, 3), (31, 2), (16, 2), (15, 1), (70, 3)])
def test_features_are_the_means_of_two_layers_of_filters_at_each_scale(side, scales):
    images = np.random.default_rng(0).integers(0, 256, (2, side, side, 3), dtype=np.uint8)
    x = torch.from_numpy(images).double().permute(0, 3, 1, 2) / 127.5 - 1
    expected = [F.adaptive_avg_pool2d(x, 3).flatten(1)]
    for first, second, bias in multiscale.filters(3)[:scales]:
        padded = torch.cat([x[:, :, :1], x, x[:, :, -1:]], 2)
        padded = torch.cat([padded[..., :1], padded, padded[..., -1:]], 3)
        edges = F.conv2d(padded, first.double()).clamp(min=0)
        parts = F.conv2d(edges, second.double(), bias.double(), stride=2, padding=1).clamp(min=0)
        expected += [(edges.mean((2, 3)) + 0.01).log(), F.adaptive_avg_pool2d(parts, 2).flatten(1)]
        size = x.shape[-1] // 2
        x = x[:, :, : 2 * size, : 2 * size].unflatten(2, (size, 2)).unflatten(4, (size, 2)).mean((3, 5))
    found = multiscale.raw_features(images)
    assert found.shape == (2, 27 + scales * (16 + 8 * 4))
    torch.testing.assert_close(found.double(), torch.cat(expected, 1), rtol=1e-4, atol=1e-4)


def test_features_are_the_same_in_every_version():
    first, second, bias = multiscale.filters(1)[1]
    found = [number.item() for number in (first[9, 0, 1, 2], second[3, 5, 0, 1], bias[7])]
    assert found == pytest.approx([-0.390158, 0.088082, -0.045721], abs=1e-5)  # the random numbers of torch, in float32


def test_features_that_hardly_vary_are_scaled_as_a_tenth_of_the_median():
    real = torch.tensor([[1.0, 10.0, 0.0], [3.0, 18.0, 0.0]]) * torch.tensor([1.0, 1.0, 0.0])
    mean, scale = multiscale.scaling(real)
    assert mean.tolist() == [2.0, 14.0, 0.0]
    torch.testing.assert_close(
        scale, torch.tensor([2.0, 32.0, 0.2]) ** torch.tensor([0.5, 0.5, 1.0]) * torch.tensor([1, 1, 0.5**0.5])
    )
    assert multiscale.scaling(torch.ones(4, 2))[1].tolist() == pytest.approx([1e-7, 1e-7])


def test_pixels_of_large_images_are_compared_as_means_of_sixteen_by_sixteen_cells():
    draw = np.random.default_rng(0)
    small, tall, flat = (
        draw.integers(0, 256, (2, *shape), dtype=np.uint8) for shape in ((32, 32, 1), (32, 48, 1), (8, 160, 1))
    )
    assert np.array_equal(multiscale.compared_pixels(small), small.reshape(2, -1))
    for images, (rows, columns) in ((tall, (16, 16)), (flat, (8, 16))):
        height, width = images.shape[1:3]
        cells = images.reshape(2, rows, height // rows, columns, width // columns).astype(float).mean((2, 4))
        np.testing.assert_allclose(multiscale.compared_pixels(images), cells.reshape(2, -1), rtol=0, atol=1e-4)


@pytest.mark.parametrize(
    ("values", "real", "near", "samples", "words"),
    [
        (0.17, 0.1, (0.5, 0.01), 400, "none seen among 400 samples"),  # three standard errors are 0.0725
        (0.18, 0.1, (0.5, 0.01), 400, "18.0% of samples are copies of training examples by pixels (real: 10.0%)"),
        (0.0, 0.0, (0.56, 0.0205), 1200, "none seen among 1,200 samples"),
        (
            0.0,
            0.0,
            (0.56, 0.019),
            1200,
            "no more than among real examples, but 56% of samples are nearer to training examples than held-out ones are "
            "(50 % if equal): memorization begins",
        ),
    ],
)
def test_a_verdict_on_copies_needs_three_standard_errors(values, real, near, samples, words):
    found = {"copied_pixels": Value(values), "nearer_pixels": Value(*near)}
    assert copy_verdict(found, {"copied_pixels": Value(real)}, samples) == f"verdict on copies: {words}"


def test_eight_of_the_closest_samples_are_shown():
    distances = torch.stack([torch.arange(1.0, 11), torch.full((10,), 20.0)], 1)
    assert [pair.sample for pair in closest_pairs(Nearest(distances, torch.zeros(10, 2).long()))] == [*range(8)]
