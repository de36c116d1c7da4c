"""The end of a run: what is measured, what it may cost, and what the summary says of it."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from harness.faults import catches
from kakusan.data.forms.images import ImageForm
from kakusan.images import Images
from kakusan.measure.metric import Value
from kakusan.measure.samples import Quality
from kakusan.run import figures, finish, summary

STATE = SimpleNamespace(step=7, num_skipped=2, seconds=12.345, loss=0.123456789, images=lambda batch: 7 * batch)
AVERAGED = SimpleNamespace(module=torch.nn.Linear(1, 1))
TRAINER = SimpleNamespace(state=STATE, settings=SimpleNamespace(batch=8), ema=AVERAGED, module="last", progress=0.5)


class Written:
    """A run directory that remembers what is written."""

    def __init__(self):
        self.path, self.report, self.written = Path("r"), Path("r/report.html"), {}
        self.samples = Path("r/samples")

    def write(self, name, content):
        self.written[name] = content

    def write_bytes(self, name, content):
        self.written.setdefault(name, []).append(content)


@catches("""run/finish.py: the closest pairs are samples of another seed
- closest, SUMMARY_SEED, run.path / "closest.png")
+ closest, 0, run.path / "closest.png")""")
def test_the_summary_of_a_run_has_its_counts_and_every_measurement_in_order(monkeypatch):
    run, seen, dataset = Written(), {}, SimpleNamespace(train=range(40), test=range(20), form=SimpleNamespace(has_figure=True))  # fmt: skip
    quality = summary.QualitySummary({"samples": {"closest": ["pair"]}}, ["quality"])
    family = SimpleNamespace(finish=lambda module, data: ({"distance": (module, data)}, ["learned"]))
    fakes = {
        "averaged_model": lambda *given: "model",
        "final_figures": lambda *given: seen.update(figures=given),
        "_affordable": lambda model, dataset, trained: seen.update(trained=trained) or (11, 300),
        "summarize": lambda model, dataset, held_out: {"lines": ["bound"], "likelihood": held_out},
        "quality_of": lambda model, dataset, num: seen.update(num=num) or quality,
        "closest_pairs": lambda *given: seen.update(closest=given),
        "family_of": lambda config: family,
        "render": lambda run, summary: str(summary["lines"]),
        "tell": lambda line: None,
        "digest": lambda weights: "digest of " + ", ".join(weights),
    }
    for name, fake in fakes.items():
        monkeypatch.setattr(finish, name, fake)
    finish.finish(run, SimpleNamespace(model=None, distil=None), dataset, TRAINER)
    found = run.written["summary.json"]
    assert found == {
        "lines": ["bound", "quality", "learned"], "steps": 7, "skipped": 2, "seconds": 12.3, "examples": 56,
        "weights_sha256": "digest of weight, bias", "likelihood": 11, "samples": {"closest": ["pair"]},
        "distance": ("last", range(40)),
    }  # fmt: skip
    assert (seen["trained"], seen["num"], seen["figures"]) == (3 * 56, 300, ("model", dataset, Path("r")))
    assert seen["closest"] == ("model", dataset, ["pair"], 1, Path("r/closest.png"))
    assert run.written["report.html"] == [b"[]", b"['bound', 'quality', 'learned']"]


@catches("""run/finish.py: the seconds of a mark are those of a step
- "seconds": round(trainer.state.seconds, 2),
+ "seconds": round(trainer.state.seconds / trainer.state.step, 2),""")
def test_a_mark_has_the_state_of_training_and_both_bounds():
    def evaluate(x, labels=None):
        return SimpleNamespace(bits_per_dim=len(x), standard_error=0.5, terms={"a": 1.0}, nats_standard_error=9.0)

    config = SimpleNamespace(kind_of_condition="none")
    model = SimpleNamespace(
        family=SimpleNamespace(has_bound=True, closed_form=False),
        recipe=SimpleNamespace(model=config),
        evaluate=evaluate,
    )
    dataset = SimpleNamespace(train=torch.arange(40), test=torch.arange(20))
    assert finish.measure(model, TRAINER, dataset) == {
        "step": 7, "seconds": 12.35, "examples": 56, "examples_per_second": 4.5, "loss": 0.123457, "skipped": 2,
        "bits_per_dim": 20, "standard_error": 0.5, "terms": {"a": 1.0},
        "train_bits_per_dim": 20, "train_standard_error": 0.5,
    }  # fmt: skip
    whole = SimpleNamespace(train=dataset.train, test=dataset.train)  # data that are measured whole
    assert "train_bits_per_dim" not in finish.measure(model, TRAINER, whole)


def quality():
    values = {"recognized": Value(0.9375, 0.01), "frechet_distance": Value(1.5, 0.25), "grid_power": Value(1.125, 0.5)}
    floor = {"recognized": Value(0.5), "frechet_distance": Value(0.125)}
    return Quality("digits", 300, 200, 200, values, floor, dict.fromkeys(values, SimpleNamespace(depends_on_n=False)))


@catches("""run/summary.py: the summary measures the samples of the first seed
- quality = sample_quality(model, dataset, num, SUMMARY_SEED)
+ quality = sample_quality(model, dataset, num)""")
def test_the_samples_of_a_summary_have_their_own_seed_and_stand_next_to_real_images(monkeypatch):
    asked = []
    monkeypatch.setattr(summary, "can_measure", lambda *given: True)
    monkeypatch.setattr(summary, "sample_quality", lambda *given: asked.append(given[2:]) or quality())
    digits = summary.quality_of(SimpleNamespace(recipe=SimpleNamespace(data="mnist")), None, 300)
    others = summary.quality_of(SimpleNamespace(recipe=SimpleNamespace(data="x")), None, 300)
    assert asked == [(300, 1), (300, 1, "multiscale")]
    assert digits.parts["recognized"] == {"samples": 0.9375, "real": 0.5, "num_samples": 300}
    assert digits.lines == [
        "a digit classifier labels 93.8% of 300 samples with at least 90 % confidence (real test digits: 50.0%)",
        "Fréchet distance in its features, n = 300: 1.50 ± 0.25 (real training digits: 0.12)",
    ]
    assert others.lines[:2] == [
        "Fréchet distance in digits features, n = 300: 1.50 ± 0.25 (real training images: 0.12)",
        "power of a 2 x 2 grid: 1.1250 ± 0.5000 times that of real images",
    ]


# Figures at the end


@catches("""run/figures.py: the figure of samples by class has one row more than fits
- return model.sample(n // num * num, seed=0, label="each"), num
+ return model.sample(n, seed=0, label="each"), num""")
@pytest.mark.parametrize(
    ("classes", "asked", "columns"), [(0, (16, 0, None), None), (3, (15, 0, "each"), 3), (16, (16, 0, "each"), 16), (17, (16, 0, None), None)]
)  # fmt: skip
def test_figures_of_samples_have_the_same_noise_and_a_column_for_each_class(monkeypatch, classes, asked, columns):
    saved = []
    monkeypatch.setattr(figures, "_save", lambda model, samples, path, facts=None, columns=None: saved.append((samples, columns)))  # fmt: skip
    model = SimpleNamespace(
        classes=tuple(map(str, range(classes))), sample=lambda n, seed, label=None: (n, seed, label)
    )
    figures.sample_grid(model, Path("x.png"))
    assert saved == [(asked, columns)]


@catches("""run/figures.py: the figure of the reverse chain has estimates above latents
- upper, lower = _rows(model, [states[k] for k in shown]), _rows(model, [estimates[k] for k in shown])
+ lower, upper = _rows(model, [states[k] for k in shown]), _rows(model, [estimates[k] for k in shown])""")
def test_the_figure_of_the_reverse_chain_has_each_sample_below_its_latents(monkeypatch):
    def steps(chain, n, *, solver, times, callback):
        for k in range(16):
            z = torch.tensor([k, 100 + k]).view(2, 1, 1, 1)
            callback(SimpleNamespace(z_t=z, x_hat=z + 50))
        return torch.tensor([16, 116]).view(2, 1, 1, 1)

    monkeypatch.setattr(figures, "sample", steps)
    model = SimpleNamespace(
        sampling=SimpleNamespace(chain=lambda: None, times=lambda: None),
        scale=SimpleNamespace(to_pixels=lambda x: x.permute(0, 2, 3, 1).numpy().astype(np.uint8)),
    )
    images, columns = figures.reverse_strip(model)
    assert isinstance(images, Images)
    assert columns == 9
    rows = np.asarray(images).reshape(4, 9)
    latents = list(range(0, 17, 2))
    guesses = [k + 50 for k in latents[:-1]] + [16]
    assert rows.tolist() == [latents, guesses, [k + 100 for k in latents], [k + 100 for k in guesses]]


def test_a_student_has_no_bound_at_a_mark_and_a_figure_only_of_data_with_figures(monkeypatch):
    drawn = []
    monkeypatch.setattr(finish, "sample_grid", lambda model, path: drawn.append((model, path)))
    for has_figure in (False, True):
        dataset = SimpleNamespace(form=SimpleNamespace(has_figure=has_figure))
        finish.draw("model", TRAINER, dataset, Written())
    assert drawn == [("model", Path("r/samples/step-00000007.png"))]
    student = SimpleNamespace(family=SimpleNamespace(has_bound=False))
    line = finish.measure(student, TRAINER, dataset)
    assert "bits_per_dim" not in line
    assert finish.measured_words(line, dataset) == ""
    dataset = SimpleNamespace(form=ImageForm(), num_dims=4)
    assert finish.measured_words({"bits_per_dim": 2.0, "standard_error": 0.25}, dataset) == "2.000 ± 0.2500 bits/dim"
    assert (finish.MARKS, finish.MEASURED_IMAGES, finish.FEWEST_IMAGES) == (
        [0.02, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0],
        1000,
        250,
    )


def test_a_summary_without_a_bound_says_so_and_one_of_a_part_says_how_many():
    student = SimpleNamespace(family=SimpleNamespace(has_bound=False))
    assert summary.summarize(student, None, 5)["lines"] == [
        "a student has no bound: it draws samples in few network evaluations and does not score given examples"
    ]
    assert (summary.SUMMARY_SAMPLES, summary.SUMMARY_SEED, summary.LEVELS_BITS) == (1000, 1, 8)


def test_the_last_figures_of_a_run_have_64_samples_and_those_of_its_family(monkeypatch):
    saved = []
    monkeypatch.setattr(figures, "_save", lambda model, *given, columns=None: saved.append((*given, columns)))
    model = SimpleNamespace(
        classes=(), sample=lambda n, seed: (n, seed), recipe=SimpleNamespace(name="r"),
        family=SimpleNamespace(figures=lambda model, x: {"a.png": (x, 9)}),
    )  # fmt: skip
    figures.final_figures(model, SimpleNamespace(test="held out"), Path("f"))
    (samples, path, facts, *columns), own = saved
    assert (samples, path, facts, columns) == ((64, 0), Path("f/samples.png"), {"recipe": "r", "seed": 0}, [None, None])
    assert own == ("held out", Path("f/a.png"), 9)
    assert (figures.GRID_SAMPLES, figures.STRIP_ROWS, figures.STRIP_COLUMNS) == (16, 4, 9)
