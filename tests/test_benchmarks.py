"""The benchmarks' shared parts: fair clocks, results that make a page. The rivals themselves are not needed."""

import importlib
import json
import sys
import time
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from kakusan.training.clock import LEAST_SECONDS

SMALL = ["--width", "32", "--blocks", "1", "--patch", "7", "--batch", "16", "--compile", "none"]
FOLDER = Path(__file__).parent.parent / "benchmarks"
SCRIPTS = ["cost", "memory", "sampling", "startup", "stepping", "throughput", "time_to_quality"]

ALONE = ["html_page", "onnx_speed"]  # left out of `make bench`: they need a browser or onnxruntime


@pytest.fixture
def part(monkeypatch):
    """A module of benchmarks/ by name, forgotten after the test: their names are too plain to be kept."""
    before = set(sys.modules)
    monkeypatch.syspath_prepend(str(FOLDER))
    yield importlib.import_module
    for name in set(sys.modules) - before:
        if str(FOLDER) in str(getattr(sys.modules[name], "__file__", None)):
            del sys.modules[name]


def rows() -> list[dict]:
    return [
        {"library": "kakusan", "seconds": 15, "distance": 0.8125, "sampler": "a|b"},
        {"library": "kakusan", "seconds": 60, "distance": 0.5},
        {"library": "other", "seconds": 1800, "distance": 0.75, "n": 10_000},
    ]


@pytest.mark.parametrize("name", [*SCRIPTS, *ALONE])
def test_every_script_parses_what_its_own_words_say(part, name):
    module = part(name)
    for line in module.__doc__.splitlines():
        typed = line.split()
        if typed[:2] == ["python", f"benchmarks/{name}.py"]:
            module.parser().parse_args(typed[2:])
            return
    raise AssertionError(f"{name}.py does not say how it is called")


def test_all_parts_are_started_as_they_parse(part):
    every = part("every")
    for name in SCRIPTS:
        part(name).parser().parse_args(every.PARTS[name][1:])
        assert Path(every.command(name)[1]).exists()


def test_a_result_becomes_a_table_a_picture_and_a_place(part, tmp_path, monkeypatch, capsys):
    results, page = part("results"), part("page")
    wanted = [results.Figure("seconds", "distance", "library", x_log=True, among=("library", "kakusan"))]
    one = results.Result("b", "How fast?", rows(), ["A note."], wanted, {"times less": 30.0, "absent": None})
    one.write(tmp_path / "benchmarks")
    results.Result("a", "How large?", [{"library": "kakusan", "MiB": 2.5}]).write(tmp_path / "benchmarks")
    (tmp_path / "benchmarks" / "c.json").write_text(json.dumps([1, 2]))
    monkeypatch.setattr(sys, "argv", ["page.py", "--docs", str(tmp_path)])
    page.main()
    words = (tmp_path / "benchmarks.md").read_text()
    assert words.index("## How large?") < words.index("## How fast?")
    assert "| library | seconds | distance | sampler | n |" in words
    assert "| kakusan | 15 | 0.8125 | a\\|b |  |" in words
    assert "| other | 1,800 | 0.75 |  | 10,000 |" in words
    assert "* times less: 30" in words
    assert "absent" not in words
    assert "A note." in words
    assert f"torch {version('torch')}" in words
    assert results.processor() in words
    assert "![distance against seconds](benchmarks/b-1.png)" in words
    assert (tmp_path / "benchmarks" / "b-1.png").read_bytes().startswith(b"\x89PNG")
    assert "left out" in capsys.readouterr().out


def test_spread_is_the_median_and_the_quartiles_also_of_a_falling_function(part):
    spread = part("results").Spread.of([4.0, 1.0, 2.0, 3.0, 5.0])
    assert (spread.low, spread.median, spread.high, spread.n) == (2.0, 3.0, 4.0, 5)
    rate = spread.each(lambda seconds: 12 / seconds)
    assert (rate.low, rate.median, rate.high) == (3.0, 4.0, 6.0)
    assert part("results").Spread.of([7.0]).high == 7.0


def test_blocks_take_turns_and_each_is_timed_once_a_round(part):
    order = []
    found = part("results").interleaved({"a": lambda: "a", "b": lambda: "b"}, 20, lambda run: order.append(run()) or 1)
    assert found == {"a": [1] * 20, "b": [1] * 20}
    assert all({*order[k : k + 2]} == {"a", "b"} for k in range(0, 40, 2))
    assert {order[k] for k in range(0, 40, 2)} == {"a", "b"}, "neither is always the first"


def test_a_child_tells_its_peak_memory_and_its_processor_time(part):
    child = part("results").child
    small = child([sys.executable, "-c", "pass"])
    large = child([sys.executable, "-c", "x = b'1' * (100 * 2**20)"])
    assert large.peak_mib - small.peak_mib == pytest.approx(100, abs=5)  # pages of the two starts differ by less
    busy = child([sys.executable, "-c", "import time\nwhile time.process_time() < 0.3: pass\ntime.sleep(0.3)"])
    assert busy.processor_seconds >= 0.3
    assert busy.wall_seconds - busy.processor_seconds > 0.25  # the sleep is on the wall alone
    with pytest.raises(RuntimeError, match="ended with 3: oh no"):
        child([sys.executable, "-c", "import sys; sys.stderr.write('oh no'); sys.exit(3)"])


def test_a_timed_sample_is_written_to_a_folder_that_is_gone_afterwards(part, tmp_path, monkeypatch):
    startup, results, folders = part("startup"), part("results"), []

    def child(arguments: list[str]):
        if "--out" in arguments:
            folders.append(Path(arguments[arguments.index("--out") + 1]))
            (folders[-1] / "samples.npy").touch()
        else:
            assert "-n" not in arguments, "a sample without a place to write to"
        return results.Child(1.0, 1.0, 1.0)

    monkeypatch.setattr(startup, "child", child)
    monkeypatch.setattr(results.Result, "write", lambda result: None)
    monkeypatch.setattr(sys, "argv", ["startup.py", "--run", "runs/demo", "--repeats", "2"])
    monkeypatch.chdir(tmp_path)
    startup.main()
    assert len(folders) == 2
    assert not any(folder.exists() for folder in folders)
    assert not list(tmp_path.iterdir())


class Drawn:
    """A model of one weight whose samples are their numbers; it notes what it was asked for."""

    def __init__(self, weight: float):
        self.chain = torch.nn.Linear(1, 1, bias=False)
        torch.nn.init.constant_(self.chain.weight, weight)
        self.sampling, self.asked = SimpleNamespace(denoisers=[self.chain]), []

    def sample(self, n, seed, first=0, **choices):
        self.asked.append((first, choices))
        self.chain(torch.zeros(n, 1))
        self.chain(torch.zeros(n, 1))
        return np.arange(first, first + n)


def test_kept_samples_are_drawn_once_for_each_model_and_each_way(part, tmp_path):
    kept, one, folder = part("kept"), Drawn(1.0), tmp_path / "kept"
    found, calls = kept.samples(one, folder, 300, 7, steps=5, spacing=None)
    assert found.tolist() == list(range(300))
    assert calls == 2
    price = (0, {"steps": 5})  # a single sample
    assert one.asked == [(0, {"steps": 5}), (250, {"steps": 5}), price]
    sorted(folder.iterdir())[0].unlink()  # as if it had been interrupted
    (folder / "x.part.npy").write_bytes(b"half a file")
    assert kept.samples(one, folder, 500, 7, steps=5)[0].tolist() == list(range(500))
    assert one.asked[3:] == [(0, {"steps": 5}), price]
    for model, seed, choices in ((Drawn(2.0), 7, {"steps": 5}), (one, 8, {"steps": 5}), (one, 7, {"guidance": 0.5})):
        model.asked.clear()
        kept.samples(model, folder, 250, seed, **choices)
        assert model.asked == [(0, choices)] * 2, "another model, seed or way has samples of its own"


def row(library: str, seconds: float, distance: float, **more) -> dict:
    return {"library": library, "seconds of two cores": seconds, "seed": 0, "without bias": distance} | more


def test_runs_of_ours_that_lie_there_are_shown_beside_those_asked_for(part, monkeypatch, tmp_path):
    script = part("time_to_quality")
    monkeypatch.setattr(script, "row", lambda *all_of_it: {"seconds of two cores": all_of_it[2], "seed": all_of_it[3]})

    def trained(words):
        file = Path(next(word for word in words if word.endswith(".npy")))
        file.with_suffix(".json").write_text('{"parameters": 3}')
        np.save(file, np.zeros(2))

    monkeypatch.setattr(script, "child", trained)
    for name in ("kakusan-7.5s-seed12-n10", "kakusan-60s-seed0-n20"):
        trained([str(tmp_path / f"{name}.npy")])
    found = script.our_rows(script.ImagesTask(), [60.0, 30.0], [1], 10, tmp_path)
    assert [tuple(one.values()) for one in found] == [(7.5, 12), (30.0, 1), (60.0, 1)]


def test_the_ratio_is_to_the_better_rival_and_by_every_seed_of_ours_and_by_their_mean(part):
    script = part("time_to_quality")
    found = [row("a", 1800, 2.0, sampler="x"), row("b", 1800, 1.0, sampler="y"), row("b", 600, 0.1, sampler="y")]
    found += [row("kakusan", 15, 1.0), row("kakusan", 15, 1.2), row("kakusan", 60, 1.0), row("kakusan", 60, 0.5)]
    found += [row("kakusan", 30, 1.1), row("kakusan", 30, 0.7)]
    answer = script.ratios(found, 1800)
    assert (answer["rival"], answer["our seconds"], answer["times less"]) == ("b", 60, 30)
    named = "by the mean of the seeds"
    assert (answer[f"our seconds, {named}"], answer[f"times less, {named}"], answer["that mean"]) == (30, 60, 0.9)
    assert script.ratios(found[:5], 1800)["times less"] is None
    assert "no rival" in script.ratios(found[3:], 1800)["rival"]
    kept = script.best_samplers([row("b", 1800, 1.0), row("b", 1800, 0.5), row("b", 600, 3.0)])
    assert [one["without bias"] for one in kept] == [0.5, 3.0]


class Fake:
    """A rival of one number, whose step takes a quarter of a second of a clock that stands still otherwise."""

    def __init__(self):
        self.module, self.averages, self.now = torch.nn.Linear(1, 1), 0, 100.0

    def loss(self, x):
        assert x.abs().max() <= 1
        self.now += 0.25
        return self.module(x.flatten()[:, None]).square().mean()

    def average(self):
        self.averages += 1


def test_a_rival_trains_for_its_seconds_and_what_a_mark_does_is_not_counted(part, monkeypatch):
    trainer, one, told = part("rivals.train"), Fake(), []
    monkeypatch.setattr(trainer.time, "process_time", lambda: one.now)
    data = torch.randint(0, 256, (20, 1, 4, 4), dtype=torch.uint8)
    steps = trainer.Steps(one, data, 4, 1e-3)

    def on_mark(mark: float, step: int, spent: float) -> None:
        told.append((mark, step, spent))
        one.now += 1000  # samples are drawn

    trainer.train(steps, 60.0, 10.0, [60.0, 20.1], on_mark)
    assert told == [(20.1, 41, 20.25), (60.0, 200, 60.0)]
    assert steps.done == one.averages == 200
    assert steps.optimizer.param_groups[0]["lr"] == pytest.approx(1e-3 * 0.25 / 60, rel=1e-9)  # falls to 0


@pytest.mark.slow
def test_our_seconds_count_what_came_before_and_end_before_training_without_any_left(part):
    ours = part("ours")
    torch.set_num_threads(1)
    with pytest.raises(ValueError, match="are gone before training begins"):
        ours.trained(ours.ImagesTask(), 2.0, 2.0)
    began = time.process_time()
    _, trainer, spent = ours.trained(ours.ImagesTask(), 8.0, 1.0)
    assert trainer.progress >= 1
    assert trainer.early is not None
    assert 8.0 - LEAST_SECONDS <= spent < 9.0  # read so often, at an even pace between; a step takes less than a second
    assert time.process_time() - began < 7.0 + 1.0  # the set-up counted twice, so really less was used


@pytest.mark.slow
def test_the_benchmark_of_a_gpu_runs_small_on_a_cpu(monkeypatch, tmp_path):
    before = set(sys.modules)
    monkeypatch.syspath_prepend(str(FOLDER))
    few = ["--device", "cpu", "--seconds", "2", "--block", "0.05", "--side", "64", "--samples", "50"]
    try:
        importlib.import_module("gpu").main([*few, "--sampling-steps", "2", *SMALL, "--out", str(tmp_path)])
    finally:
        for name in set(sys.modules) - before:
            if str(FOLDER) in str(getattr(sys.modules[name], "__file__", None)):
                del sys.modules[name]
    (row,) = json.loads((tmp_path / "gpu.json").read_text())["rows"]
    assert row["images/s"] > 0
    assert 0 < row["of the product's"] < 1
    assert row["steps"] >= 1
    assert row["images"] == 16 * row["steps"]
    assert row["n"] == 50
