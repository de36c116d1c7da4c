"""Files of samples: where they go, what they hold, and that they fit into memory."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from harness.faults import catches
from kakusan.errors import InputError
from kakusan.run import memory, sample
from kakusan.solvers import solver_named


@catches("""run/sample.py: samples that end at log-SNR 0 go where the default ones go
- for key, value in given if value is not None)
+ for key, value in given if value)""")
def test_every_choice_has_a_folder_of_its_own():
    choices = {
        "sampler": "ddim", "spacing": "uniform", "label": "a/b c", "steps": 4, "eta": 0.5, "guidance": 1.5,
        "autoguidance": 2.0, "end_log_snr": 0.0,
    }  # fmt: skip
    name = sample._folder_name("vae", 5, 3, choices)
    assert name == "vae-ddim-uniform-a_b_c-steps4-eta0.5-guidance1.5-autoguidance2-end-log-snr0-seed3-n5"
    assert sample._folder_name("vae", 5, 3, dict.fromkeys(choices)) == "vae-seed3-n5"


@catches("""run/sample.py: the copies of samples in memory are not counted
- model.family.form.bytes_per_value * 3
+ model.family.form.bytes_per_value""")
def test_samples_may_need_all_of_the_free_memory_and_no_more(monkeypatch):
    form = SimpleNamespace(bytes_per_value=2)
    model = SimpleNamespace(event_shape=(3, 4), family=SimpleNamespace(form=form))
    for free, fits in ((3 * 10 * 12 * 2, True), (3 * 10 * 12 * 2 - 1, False), (None, True)):
        monkeypatch.setattr(sample, "available_bytes", lambda free=free: free)
        refused = ""
        try:
            sample._check_memory(model, 10)
        except InputError as error:
            refused = str(error)
        assert (refused == "") == fits


@catches("""run/memory.py: a kilobyte of free memory has 1,000 bytes
- int(line.split()[1]) * 1024
+ int(line.split()[1]) * 1000""")
def test_the_free_memory_of_the_system_is_what_it_can_give(monkeypatch):
    text = "MemTotal: 9000 kB\nMemFree: 100 kB\nMemAvailable: 2048 kB\n"
    monkeypatch.setattr(Path, "read_text", lambda self: text)
    assert memory.available_bytes() == 2 * 2**20
    monkeypatch.setattr(memory.torch.cuda, "mem_get_info", lambda device: (3, 5))
    assert memory.available_bytes(memory.torch.device("cuda")) == 3


@catches("""run/sample.py: samples are drawn on any device
- model = load(run, device)
+ model = load(run)""")
@catches("""run/sample.py: the names of classes begin with the first class
- facts.get("first") or 0).tolist()
+ 0).tolist()""")
def test_samples_and_their_files_have_the_device_the_classes_and_the_facts_of_their_request(tmp_path, monkeypatch):
    saved = []
    form = SimpleNamespace(
        has_figure=True, bytes_per_value=1, files=lambda *given: {},
        save_figure=lambda images, path, facts, columns: saved.append((len(images), facts, columns)),
    )  # fmt: skip
    drawn = []
    model = SimpleNamespace(
        classes=("a", "b", "c"), event_shape=(1,), scale=None, family=SimpleNamespace(form=form),
        recipe=SimpleNamespace(model=SimpleNamespace(column_of_labels="")),
        sampling=SimpleNamespace(warning=lambda *given: None, denoisers=[], solver="ddim"),
        sample=lambda n, seed, **given: drawn.append((seed, given)) or np.zeros((n, 1, 1, 1), np.uint8),
    )  # fmt: skip
    devices = []
    monkeypatch.setattr(sample, "load", lambda run, device="auto": devices.append(device) or model)
    monkeypatch.setattr(sample, "open_source", lambda run: SimpleNamespace(name="r"))
    counting = SimpleNamespace(total=1000)
    monkeypatch.setattr(sample, "counted", lambda *given: Counted(counting))
    found = sample.sample("r", 500, out=tmp_path / "s", seed=9, device="cuda:1", first=4, sampler="heun", churn=2.0)
    assert devices == ["cuda:1"]
    ((seed, given),) = drawn
    assert (seed, given["label"], given["first"], given["solver"].churn) == (9, "each", 4, 2.0)
    assert found.network_evaluations == 2
    facts = {"run": "r", "n": 500, "seed": 9, "first": 4, "sampler": "heun", "churn": 2.0, "label": "each"}
    assert saved == [(400, facts, 3)]
    assert (tmp_path / "s" / "labels.csv").read_text().splitlines()[:3] == ["name,label", "0,b", "1,c"]
    assert [path.name for path in found.files] == ["samples.png", "samples.npy", "labels.csv"]


class Counted:
    def __init__(self, counting):
        self.counting = counting

    def __enter__(self):
        return self.counting

    def __exit__(self, *given):
        pass


def test_samples_never_replace_files_and_go_to_the_next_number(tmp_path, monkeypatch):
    out, tried, with_name = tmp_path / "s", [], Path.with_name
    monkeypatch.setattr(Path, "with_name", lambda self, name: tried.append(name) or with_name(self, name))
    assert sample._unused(out) == out
    assert tried == []
    for number, name in enumerate(("samples.npy", "samples.png", "samples.csv", "labels.csv"), 2):
        folder = out if number == 2 else tmp_path / f"s-{number - 1}"
        folder.mkdir()
        (folder / name).touch()
        assert sample._unused(out) == tmp_path / f"s-{number}"
        assert len(tried) < 20  # numbers are tried one after another
        with pytest.raises(InputError, match=f"{name} exists and is left unchanged; choose another --out"):
            sample._check_folder(folder)
    sample._check_folder(tmp_path / "new" / "folder")
    assert not (tmp_path / "new").exists()
    (tmp_path / "kept").mkdir()
    sample._check_folder(tmp_path / "kept")
    assert not any((tmp_path / "kept").iterdir())


@pytest.mark.parametrize(("label", "num", "each"), [("each", 20, True), ("each", 21, False), ("a", 20, False)])
def test_a_figure_has_a_column_for_each_of_at_most_twenty_classes(label, num, each):
    model = SimpleNamespace(classes=tuple(map(str, range(num))))
    assert sample.choices_each(model, {"label": label}) == each


def test_a_request_without_samples_is_refused_and_a_solver_is_built_only_if_asked_for():
    with pytest.raises(InputError, match="-n must be at least 1, got 0"):
        sample.sample("r", 0)
    model = SimpleNamespace(sampling=SimpleNamespace(solver="heun"))
    assert sample._arguments(model, {"steps": 3, "sampler": None, "churn": None}) == {"steps": 3}
    assert sample._arguments(model, {"churn": 2.0})["solver"] == solver_named("heun", churn=2.0)
    assert sample._arguments(model, {"sampler": "ddim", "label": "a"}) == {"label": "a", "solver": solver_named("ddim")}
