"""Inputs of public bug reports that always worked here, and must go on working."""

import subprocess
import sys
import textwrap

import numpy as np
import pytest
from PIL import Image

import kakusan as kk
from harness.faults import catches
from kakusan.data.open import open_data
from kakusan.errors import InputError

RANDOM = np.random.default_rng(0)


def test_nine_images_train_and_one_of_them_is_held_out(tmp_path):
    for k in range(9):
        Image.fromarray(RANDOM.integers(0, 256, (8, 8, 3), dtype=np.uint8)).save(tmp_path / f"{k}.png")
    run = kk.train("mnist-vae", data=tmp_path, out=tmp_path / "run", steps=2, hidden=(4,), latent=2)
    assert (len(open_data(tmp_path).train), len(open_data(tmp_path).test)) == (8, 1)
    assert run.finished
    assert run.summary["examples"] == 16


@catches("""run/build.py: a recipe of counts takes any data
- if dataset.kind != needed:
+ if dataset.kind != needed and needed != "counts":""")
def test_a_recipe_of_counts_takes_whole_numbers_and_refuses_shares(tmp_path):
    counts = RANDOM.integers(0, 6, (40, 5))
    np.save(tmp_path / "counts.npy", counts)
    np.save(tmp_path / "shares.npy", counts / np.maximum(1, counts.sum(1, keepdims=True)))
    run = kk.train("counts-dirichlet", data=tmp_path / "counts.npy", out=tmp_path / "run", steps=2)
    assert run.finished
    with pytest.raises(InputError, match=r"needs counts, and shares\.npy holds tables"):
        kk.train("counts-dirichlet", data=tmp_path / "shares.npy", out=tmp_path / "other", steps=2)


@pytest.mark.parametrize("kind", [bool, np.uint8])
def test_masks_of_zeros_and_ones_have_the_bound_of_black_and_white_images(tmp_path, kind):
    masks = RANDOM.random((40, 6, 6)) < 0.2
    np.save(tmp_path / "masks.npy", masks.astype(kind))
    np.save(tmp_path / "images.npy", masks.astype(np.uint8) * 255)
    bounds = []
    for name in ("masks", "images"):
        run = kk.train("binary-best", data=tmp_path / f"{name}.npy", out=tmp_path / name, steps=2)
        bounds.append(run.summary["likelihood"]["bits_per_dim"])
    assert bounds[0] == bounds[1]
    assert bounds[0] > 0.5  # the entropy of such a pixel is 0.72 bits; gray levels 0 and 1 of 255 would cost 0.01


def test_a_script_without_a_main_guard_samples_under_spawn_and_in_a_thread(tmp_path):
    np.save(tmp_path / "x.npy", RANDOM.integers(0, 256, (40, 4, 4), dtype=np.uint8))
    run = kk.train("mnist-vae", data=tmp_path / "x.npy", out=tmp_path / "run", steps=2, hidden=(4,), latent=2)
    script = tmp_path / "script.py"
    script.write_text(
        textwrap.dedent(
            f"""
            import multiprocessing, threading
            multiprocessing.set_start_method("spawn", force=True)
            import kakusan
            from kakusan.cli import main
            print(kakusan.load({str(run.path)!r}).sample(2).shape)
            command = ["sample", {str(run.path)!r}, "-n", "1", "--out", {str(tmp_path / "thread")!r}]
            thread = threading.Thread(target=main, args=(command,))
            thread.start()
            thread.join()
            """
        )
    )
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=300, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("(2, 4, 4, 1)\n")
    assert (tmp_path / "thread" / "samples.npy").exists()
