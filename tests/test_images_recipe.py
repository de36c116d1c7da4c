"""The recipe for anyone's images: every kind of file trains, samples and is evaluated with --data alone."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import kakusan as kk
from harness.faults import catches
from harness.image_corpus import colors, encoded, exif_of
from harness.support import call
from kakusan import Run
from kakusan.data import scan
from kakusan.data.open import open_data
from kakusan.data.options import ImageOptions
from kakusan.data.sizes import choose_size
from kakusan.nets import UNet
from kakusan.recipes import find
from kakusan.run.families.diffusion import DiffusionConfig, DiffusionFamily

TINY = ["--model.width", 8, "--model.inner-width", 16, "--model.blocks", 1, "--model.refine", 2, "--optim.batch", 4]
TINY += ["--model.depth", 20, "--model.clusters", 2]


def gray(seed):
    return Image.fromarray(colors(seed, 9, 9, 1))


def color(seed, height=9, width=9):
    return Image.fromarray(colors(seed, height, width))


def alpha(seed):
    return Image.fromarray(colors(seed, 9, 9, 4))


def film(form):
    def make(seed):
        return encoded(color(seed), form, save_all=True, append_images=[color(seed + 1)])

    return make


@pytest.fixture(autouse=True, scope="module")
def one_estimate():
    """Few held-out examples are measured once, in place of a thousand times."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("kakusan.run.families.diffusion.ENOUGH", 1)
        yield


KINDS = {  # name: (ending, image or bytes of a seed, shape of an example, words of the preparation)
    "gray": ("png", gray, (1, 9, 9), ""),
    "color": ("jpg", color, (3, 9, 9), ""),
    "alpha": ("png", alpha, (3, 9, 9), "with an alpha channel put on white"),
    "16-bit": (
        "png",
        lambda seed: Image.fromarray(colors(seed, 9, 9, 1).astype(np.uint16) * 257),
        (1, 9, 9),
        "16 bits",
    ),
    "palette": ("png", lambda seed: color(seed).quantize(8), (3, 9, 9), ""),
    "animated gif": ("gif", film("GIF"), (3, 9, 9), "animated ones: first frame only"),
    "animated png": ("png", film("PNG"), (3, 9, 9), "animated ones: first frame only"),
    "animated webp": ("webp", film("WEBP"), (3, 9, 9), "animated ones: first frame only"),
    "non-square": ("png", lambda seed: color(seed, 10, 15), (3, 10, 15), ""),
    "odd sizes": ("png", lambda seed: color(seed, 11, 13), (3, 11, 13), ""),
    "turned": ("jpg", lambda seed: encoded(color(seed, 10, 15), "JPEG", exif=exif_of(6)), (3, 15, 10), ""),
    "mixed": ("png", lambda seed: color(seed, 9 + seed % 5, 12), (3, 10, 10), "cropped in the middle and resized"),
    "large": ("png", lambda seed: color(seed, 100, 150), (3, 64, 96), "cropped in the middle and resized"),
}


def folder_of(kind: str, folder: Path) -> Path:
    ending, make, *_ = KINDS[kind]
    folder.mkdir()
    for seed in range(12):
        made = make(seed)
        path = folder / f"{seed}.{ending}"
        path.write_bytes(made) if isinstance(made, bytes) else made.save(path)
    return folder


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_image_is_read_with_a_size_of_its_own(kind, tmp_path):
    *_, shape, words = KINDS[kind]
    dataset = open_data(folder_of(kind, tmp_path / "photos"), ImageOptions(fit=True))
    assert dataset.event_shape == shape
    assert words in dataset.prepared
    assert len(dataset.train.unique()) > 20


@pytest.mark.parametrize(
    "kind", [kind if kind == "mixed" else pytest.param(kind, marks=pytest.mark.slow) for kind in KINDS]
)
def test_every_kind_of_image_trains_samples_and_is_evaluated(kind, tmp_path, capsys):
    *_, shape, words = KINDS[kind]
    folder, run = folder_of(kind, tmp_path / "photos"), tmp_path / "run"
    code, _, err = call(capsys, "train", "images", "--data", folder, "--steps", 2, "--out", run, *TINY)
    assert code == 0, err
    assert "network for " in err
    record = json.loads((run / "data.json").read_text())
    assert record["event_shape"] == list(shape)
    assert words in record["prepared"]
    code, out, err = call(capsys, "sample", run, "-n", 2, "--steps", 2, "--out", tmp_path / "samples")
    assert code == 0, err
    assert np.load(tmp_path / "samples" / "samples.npy").shape == (2, *shape[1:], shape[0])
    code, out, err = call(capsys, "evaluate", run, "--limit", 1, "--repeats", 1, "--json")
    assert code == 0, err
    assert json.loads(out)["num_dims"] == np.prod(shape)
    pictures = json.loads((run / "run.json").read_text())["recipe"]["pictures"]
    assert pictures["size"] == list(shape[1:])
    assert "fit" not in pictures


def test_16_bits_keep_their_upper_8(tmp_path):
    values = np.arange(0, 65536, 1024, dtype=np.uint16).reshape(8, 8)
    for index in range(2):
        Image.fromarray(values).save(tmp_path / f"{index}.png")
    assert torch.equal(open_data(tmp_path).train[0, 0], torch.from_numpy((values >> 8).astype(np.uint8)))


def test_the_first_frame_of_a_gif_is_that_of_the_animation(tmp_path):
    first, second = (color(seed).quantize(16) for seed in (1, 2))
    for index in range(2):
        first.save(tmp_path / f"{index}.gif", save_all=True, append_images=[second])
    assert np.array_equal(open_data(tmp_path).train[0].permute(1, 2, 0).numpy(), np.asarray(first.convert("RGB")))


@catches("""data/sizes.py: wide images count as tall ones [sizes8-chosen8]
- abs(h * width / (w * height) - 1) <= TOLERANCE
+ abs(h * width / (w * height)) - 1 <= TOLERANCE""")
@catches("""data/sizes.py: the size is the mean of all images [sizes9-chosen9]
- round(median(min(size) for size in sizes))
+ round(sum(min(size) for size in sizes) / len(sizes))""")
@catches("""data/sizes.py: the size of the largest image is chosen
- round(median(min(size) for size in sizes))
+ max(min(size) for size in sizes)""")
@pytest.mark.parametrize(
    ("sizes", "chosen"),
    [
        ([(9, 9)] * 4, (9, 9)),
        ([(64, 64)] * 4, (64, 64)),
        ([(64, 48)] * 4, (64, 48)),
        ([(500, 500)] * 4, (64, 64)),
        ([(100, 150)] * 4, (64, 96)),
        ([(150, 100)] * 4, (96, 64)),
        ([(20, 30), (40, 60), (60, 90)], (40, 60)),
        ([(20, 30), (30, 20), (25, 25)], (20, 20)),
        ([(30, 20), (30, 20), (20, 30)], (20, 20)),
        ([(20, 20), (20, 20), (90, 90)], (20, 20)),
        ([(5, 5), (5, 6)], (8, 8)),
    ],
)
def test_a_size_is_chosen_from_the_shorter_sides(tmp_path, sizes, chosen):
    for index, size in enumerate(sizes):
        Image.fromarray(colors(index, *size)).save(tmp_path / f"{index}.png")
    found = choose_size(tmp_path, [f"{index}.png" for index in range(len(sizes))])
    assert found is not None
    assert found[0] == chosen
    assert bool(found[1]) == (len(set(sizes)) > 1 or min(sizes[0]) > 64)


def test_damaged_files_choose_no_size(tmp_path):
    (tmp_path / "x.png").write_bytes(b"no image")
    assert choose_size(tmp_path, ["x.png"]) is None


def test_a_given_size_is_kept(tmp_path):
    for index in range(4):
        color(index, 20, 30).save(tmp_path / f"{index}.png")
    assert open_data(tmp_path, ImageOptions(size=(10, 12), fit=True)).event_shape == (3, 10, 12)


def test_the_network_grows_with_the_images_and_given_widths_stay():
    family, recipe = DiffusionFamily(), find("images")
    plans = [family.plan(recipe.model, (3, side, side), 5000)[0] for side in (32, 64, 128, 256)]
    assert [plan.fold for plan in plans] == [2, 4, 4, 8]
    assert all(plan.plan == "fixed" and plan.refine for plan in plans)
    assert family.plan(recipe.model, (1, 32, 32), 5000)[0].width < plans[0].width
    given, words = family.plan(DiffusionConfig(plan="data", width=24), (3, 32, 32), 5000)
    assert given.width == 24
    assert "24 and" in words
    assert family.plan(DiffusionConfig(), (3, 256, 256), 5000) == (DiffusionConfig(), "")


@catches("""nets/unet.py: the unfolded image is not refined
- y if self.refine is None else self.refine(y, z_t, e)
+ y""")
def test_refining_joins_the_pixels_of_neighboring_folds():
    """A change of one pixel reaches pixels two away through the refining convolutions alone."""
    torch.manual_seed(0)
    net = UNet(3, (8, 8), 10, width=8, inner_width=16, blocks=1, refine=4, fold=4)
    for parameter in net.last.parameters():
        torch.nn.init.zeros_(parameter)
    torch.nn.init.normal_(net.refine.conv2.weight)
    z, t = torch.randn(1, 3, 8, 8), torch.tensor([3])
    moved = z.clone()
    moved[0, 0, 3, 3] += 1
    changed = (net(moved, t) - net(z, t)).abs().sum(1)[0] > 0
    assert changed[3, 5]
    assert changed[5, 3]
    assert not changed[3, 6]


def test_without_refining_a_u_net_has_the_weights_it_had():
    plain, refined = (UNet(1, (8, 8), 10, width=8, inner_width=16, refine=refine) for refine in (0, 4))
    assert not any("refine" in name for name in plain.state_dict())
    assert {name for name in refined.state_dict() if "refine" not in name} == plain.state_dict().keys()


@pytest.mark.parametrize("fold", [1, 2, 4, 8])
@pytest.mark.parametrize("checkpointing", [False, True])
def test_any_fold_takes_any_size_and_gradients_do_not_depend_on_checkpointing(fold, checkpointing):
    torch.manual_seed(0)
    net = UNet(3, (17, 9), 10, width=8, inner_width=32, blocks=2, refine=4, fold=fold, checkpointing=checkpointing)
    for parameter in net.parameters():
        torch.nn.init.normal_(parameter, std=0.1, generator=torch.Generator().manual_seed(1))
    z = torch.randn(2, 3, 17, 9, generator=torch.Generator().manual_seed(2))
    out = net(z, torch.tensor([1, 5]))
    assert out.shape == z.shape
    out.square().sum().backward()
    other = UNet(3, (17, 9), 10, width=8, inner_width=32, blocks=2, refine=4, fold=fold)
    other.load_state_dict(net.state_dict())
    other(z, torch.tensor([1, 5])).square().sum().backward()
    assert all(torch.equal(a.grad, b.grad) for a, b in zip(net.parameters(), other.parameters()))


def test_data_larger_than_memory_train_resume_and_are_evaluated_from_the_cache(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(scan, "CACHE_FROM", 500)
    folder, run = tmp_path / "photos", tmp_path / "runs" / "a"
    folder.mkdir()
    for seed in range(12):
        color(seed).save(folder / f"{seed}.png")
    code, _, err = call(capsys, "train", "images", "--data", folder, "--steps", 2, "--out", run, *TINY)
    assert code == 0, err
    assert [path for path in (tmp_path / "runs" / "data-cache").iterdir() if path.is_dir()]
    assert "data-cache" not in (run / "run.json").read_text()
    monkeypatch.setattr(scan, "read_image", lambda *_: pytest.fail("read again"))
    code, _, err = call(capsys, "train", "--resume", run, "--steps", 3)
    assert code == 0, err
    code, _, err = call(capsys, "evaluate", run, "--limit", 1)
    assert code == 0, err


@pytest.fixture(scope="module")
def first(tmp_path_factory):
    """A run on 12 images, and a folder of other images of other sizes."""
    place = tmp_path_factory.mktemp("first")
    folder_of("color", place / "photos")
    folder_of("large", place / "others")
    model = {"width": 8, "inner_width": 16, "blocks": 1, "refine": 2, "depth": 20, "clusters": 2}
    kk.train("images", data=place / "photos", steps=2, out=place / "run", model=model, optim={"batch": 4})
    return place


@catches("""run/job.py: fine-tuning starts from random weights
- start_from(module, job.initial)
+ pass""")
def test_fine_tuning_starts_from_the_weights_and_the_shape_of_another_run(first):
    tuned = kk.train(
        "images",
        data=first / "others",
        init=first / "run",
        steps=1,
        out=first / "tuned",
        optim={"batch": 4, "lr": 1e-9, "matrix_lr": 1e-9},
    )
    assert tuned.model.event_shape == (3, 9, 9)
    before, after = (kk.load(first / name).chain.state_dict() for name in ("run", "tuned"))
    assert before.keys() == after.keys()
    for name, weight in before.items():
        if not name.startswith("clusters."):
            assert torch.allclose(weight, after[name], atol=1e-5), name
    again = Run(first / "tuned").resume(steps=2)
    assert again.history[-1]["step"] == 2


def test_fine_tuning_takes_the_settings_of_its_model(first, capsys):
    flags = ["--data", first / "others", "--init", first / "run", "--steps", 1, "--out", first / "refused"]
    code, _, err = call(capsys, "train", "images", *flags, "--model.width", 16)
    assert code == 2
    assert "leave out the --model flags" in err
    code, _, err = call(capsys, "train", "images", *flags, "--size", 16)
    assert code == 2
    assert "--size" in err
    code, _, err = call(capsys, "train", "mnist-vae", *flags)
    assert code == 2
    assert "is a diffusion model, and recipe mnist-vae trains vae models" in err
    assert not (first / "refused").exists()
