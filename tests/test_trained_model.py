"""A trained model passes on what it was asked for: to the sampler of each batch, and to the bound of each example."""

import math
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from harness.faults import catches
from kakusan.errors import InputError
from kakusan.likelihood import scores
from kakusan.likelihood.evaluation import Estimate
from kakusan.recipes import find
from kakusan.run import build as build_module
from kakusan.run import trained_model
from kakusan.run.build import build
from kakusan.run.trained_model import TrainedModel

X = torch.arange(12.0, dtype=torch.float64).view(6, 2)


BASE: Any = TrainedModel


class Heard(BASE):
    """A model of three classes whose examples are pairs of numbers, and whose sampler and bound remember their arguments."""

    classes = ("a", "b", "c")
    scale = SimpleNamespace(binary=False, to_model=lambda x, randomness: x)
    recipe = SimpleNamespace(model=None, name="r")

    def __init__(self):
        self.calls, self.chain, self.event_shape, self.device = [], "chain", (2,), torch.device("cpu")
        self.family = SimpleNamespace(has_bound=True, density_bin_width=lambda config: 0.5, estimate=self.estimate)

    @property
    def sampling(self):
        return self

    def sampler(self, **options):
        self.options = options
        return lambda n, **given: self.calls.append((n, given)) or torch.zeros(n)

    def stored(self, parts):
        return torch.cat(parts)

    def examples(self, data):
        return data

    def estimate(self, *given, **named):
        self.calls.append((given, named))
        return Estimate({"bound": -X[:, 0]}, {"bound": None}, None, None, 0, "")


@catches("""run/trained_model.py: each batch of samples has the classes of the first
- None if cond is None else cond[start : start + BATCH]
+ None if cond is None else cond[:BATCH]""")
def test_every_batch_of_samples_has_its_number_its_first_index_and_its_classes(monkeypatch):
    monkeypatch.setattr(trained_model, "BATCH", 4)
    model = Heard()
    assert len(model.sample(10, seed=3, first=5, label="each")) == 10
    found = [(n, given["first"], given["seed"], given["cond"].tolist()) for n, given in model.calls]
    assert found == [(4, 5, 3, [2, 0, 1, 2]), (4, 9, 3, [0, 1, 2, 0]), (2, 13, 3, [1, 2])]
    model.calls.clear()
    assert [len(model.sample()), len(model.sample(label=["b", "c"])), len(model.sample(2, cond=1))] == [1, 2, 2]
    assert [given["cond"] if given["cond"] is None else given["cond"].tolist() for _, given in model.calls] == [
        None, [1, 2], [1, 1],
    ]  # fmt: skip


@catches("""run/trained_model.py: an end of sampling is not passed on
- "spacing": spacing, "end_log_snr": end_log_snr, "autoguidance"
+ "spacing": spacing, "end_log_snr": None, "autoguidance\"""")
def test_every_option_of_sampling_reaches_the_sampler():
    model, options = Heard(), {
        "steps": 3, "solver": "s", "guidance": 2.0, "spacing": "uniform", "end_log_snr": 0.0, "autoguidance": 1.5,
        "callback": print,
    }  # fmt: skip
    model.sample(1, **options)
    assert model.options == options


@catches("""run/trained_model.py: every evaluation has its own timesteps
- self.family.estimate(self, examples, seed, law, **known)
+ self.family.estimate(self, examples, seed, None, **known)""")
@catches("""run/trained_model.py: an evaluation of labeled examples does not use their labels
- known = {} if labels is None else {"labels": indices_of(self.classes, labels)}
+ known = {}""")
def test_an_evaluation_has_its_seed_timesteps_draws_and_labels(monkeypatch):
    model = Heard()
    found = model.evaluate(X, 4, law="law", labels=["b", "", "c", "a", "a", "a"])
    ((given, named),) = model.calls
    assert (given[0], given[2:]) == (model, (4, "law"))
    assert named.keys() == {"labels"}
    assert named["labels"].tolist() == [1, -1, 2, 0, 0, 0]
    assert found.terms["grid"] == pytest.approx(1.0)  # one bit for a width of 1 / 2
    monkeypatch.setattr(trained_model, "importance_estimate", model.estimate)
    model.evaluate(X, 4, importance_samples=7)
    assert model.calls[1] == ((model, X, 7, 4), {})


@catches("""run/trained_model.py: the wanted error of scores is not used
- len(examples), self.num_dims, evaluations, error, seed,
+ len(examples), self.num_dims, evaluations, None, seed,""")
@catches("""run/trained_model.py: a classification has the noise of the first seed
- self.batches(examples, seed), len(examples), evaluations, seed)
+ self.batches(examples, seed), len(examples), evaluations, 0)""")
def test_scores_and_classes_have_their_draws_error_and_seed(monkeypatch):
    seen = []
    monkeypatch.setattr(scores, "score_examples", lambda *given: seen.append(given))
    monkeypatch.setattr(scores, "per_observed", lambda found, examples: found)
    monkeypatch.setattr(trained_model, "posterior", lambda *given: seen.append(given))
    model = Heard()
    model.score_samples(X, error=0.25, seed=5, evaluations=8)
    model.classify(X, evaluations=9, seed=6)
    scored, classified = seen
    assert scored[0] == classified[0] == "chain"
    assert scored[2:] == (6, 2, 8, 0.25, 5, pytest.approx(2 * math.log(0.5)))
    assert classified[2:] == (6, 9, 6)
    assert torch.equal(scored[1](torch.tensor([4, 1])), X[[4, 1]])


@catches("""run/trained_model.py: the weaker model drops hidden units
- early).to(device).eval()
+ early).to(device)""")
def test_a_trained_model_and_its_weaker_one_are_not_in_training():
    recipe = find("mnist-vae")
    module = build(recipe.model, (1, 2, 2)).train()
    early = {name: weight + 1 for name, weight in module.state_dict().items()}
    model = TrainedModel(recipe, module, (1, 2, 2), torch.device("cpu"), early)
    assert not any(part.training for chain in (model.chain, model.weaker) for part in chain.modules())
    name, weight = next(iter(model.weaker.state_dict().items()))
    assert torch.equal(weight, early[name])


def test_the_number_of_samples_is_that_of_the_labels_or_one_and_a_whole_number():
    model = Heard()
    assert [len(model.sample()), len(model.sample(label="b")), len(model.sample(label=["a", "b"]))] == [1, 1, 2]
    assert len(model.sample(3, cond=2)) == 3
    assert model.calls[-1][1]["cond"].tolist() == [2, 2, 2]
    for n in (-1, True, 2.0):
        with pytest.raises(InputError, match=f"must be a whole number, 0 or more, got {n}"):
            model.sample(n)


def test_a_model_refuses_what_does_not_fit_and_describes_itself():
    recipe = find("mnist-vae")
    module = build(recipe.model, (1, 4, 4))
    model = TrainedModel(recipe, module, (1, 4, 4), torch.device("cpu"))
    parameters = sum(one.numel() for one in module.parameters())
    assert repr(model) == f"TrainedModel(mnist-vae, depth 1, {parameters:,} parameters, on cpu)"
    assert (model.num_dims, model.classes, model.diffusion, model.measured_in) == (16, (), None, "gray levels")
    assert model.grid_nats() == 0
    with pytest.raises(InputError, match="samples are not finite numbers"):
        model.stored([torch.zeros(1, 1, 4, 4), torch.full((1, 1, 4, 4), math.inf)])
    data = SimpleNamespace(event_shape=(1, 4, 5), name="x")
    with pytest.raises(InputError, match=r"of shape \(1, 4, 4\), and x has \(1, 4, 5\); give PATH with that shape"):
        model.check_data(data, "PATH")
    with pytest.raises(InputError, match="of the recipe mnist-vae has no labels, so it cannot classify"):
        model.classify(torch.zeros(1, 1, 4, 4, dtype=torch.uint8))
    with pytest.raises(InputError, match="steps and solver are for diffusion models; omit them for mnist-vae"):
        model.encode(torch.zeros(1, 1, 4, 4, dtype=torch.uint8), solver="ddim")
    with pytest.raises(InputError, match="a timestep distribution is for diffusion models; mnist-vae has no timesteps"):
        model.family.estimate(model, torch.zeros(1, 1, 4, 4), 0, "law")
    with pytest.raises(InputError, match="makes a student of a diffusion model, got a vae model"):
        model.family.student()
    model.family = SimpleNamespace(has_bound=False)
    with pytest.raises(InputError, match=r"a student has no bound, .* kakusan evaluate RUN --samples 1000"):
        model.check_bound()


@pytest.mark.parametrize("shape", [[1, 4], [0, 4, 4], [1, 4, 4.0], [1, True, 4], (1, 4, 4), "144", [1, 4, 10**9]])
def test_the_shape_of_an_example_in_a_record_is_checked(shape):
    family = build_module.family_of(find("mnist-vae").model)
    assert family.event_shape([1, 4, 5]) == (1, 4, 5)
    with pytest.raises(InputError, match="the record's event_shape must be"):
        family.event_shape(shape)
