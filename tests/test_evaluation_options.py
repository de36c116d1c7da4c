"""Each option of an evaluation, comparison or classification is used, and labels follow their examples."""

import dataclasses
from types import SimpleNamespace

import pytest
import torch

from harness.faults import catches
from kakusan.data.forms.images import ImageForm
from kakusan.data.forms.tables import TableForm
from kakusan.errors import InputError
from kakusan.likelihood.classes import Posterior
from kakusan.likelihood.compare import Comparison
from kakusan.likelihood.evaluation import Estimate, Evaluation, Part, summarize
from kakusan.run import bayes, compare, evaluate, finish, importance, looks, summary
from kakusan.timesteps import StepLaw

TRAIN, TEST = torch.arange(20, 50), torch.arange(12)


def result(x, evaluations=5):
    """An evaluation of examples that are numbers."""
    return summarize(Estimate({"bound": -x.double()}, {"bound": None}, 1.0, None, evaluations, ""), 1)


class Heard:
    """A model whose examples are numbers, and whose arguments are remembered. The label of an example is the number."""

    classes = ("a", "b")
    num_dims = 1
    measured_in = "numbers"
    recipe = SimpleNamespace(model=None)
    chain = None
    family = SimpleNamespace(
        form=ImageForm(),
        timestep_law=lambda model: None,
        has_bound=True,
        closed_form=False,
        estimators=True,
        repeats=lambda num: 1,
        details=lambda *given: {},
        detail_lines=lambda details: [],
    )

    def __init__(self):
        self.calls, self.device = [], ""

    def on(self, device):
        self.device = device
        return self

    def evaluate(self, x, seed=0, importance=None, law=None, labels=None):
        self.calls.append({"x": x, "seed": seed, "importance": importance, "law": law, "labels": labels})
        return result(x)

    def classify(self, x, evaluations=256, seed=0):
        self.calls.append({"x": x, "evaluations": evaluations, "seed": seed})
        probs = torch.full((len(x), 2), 0.5, dtype=torch.float64)
        return Posterior(
            probs, -torch.arange(2.0).double().expand(len(x), 2), torch.zeros(len(x)), 3, torch.zeros(len(x))
        )

    def check_bound(self):
        pass

    def check_data(self, dataset):
        pass

    def grid_nats(self):
        return 100.0


DATASET = SimpleNamespace(
    train=TRAIN,
    test=TEST,
    train_cond=TRAIN,
    test_cond=TEST,
    names=(),
    classes=("a", "b"),
    num_dims=1,
    name="numbers",
    form=ImageForm(),
    digest=lambda: "d",
    describe=lambda: "numbers",
)


def labels_of(config, dataset, part, limit):
    return getattr(dataset, f"{part}_cond")[:limit]


@pytest.fixture
def models(monkeypatch):
    """The models that the next commands load, in order."""
    made = [Heard(), Heard()]
    source = SimpleNamespace(facts=SimpleNamespace(data=SimpleNamespace(digest="d")))
    for module in (bayes, compare, evaluate):
        left = list(made)
        monkeypatch.setattr(module, "load", lambda run, device="auto", left=left: left.pop(0).on(device))
        monkeypatch.setattr(module, "data_of", lambda source, model, data, argument="": DATASET)
        monkeypatch.setattr(module, "open_source", lambda run: source)
        monkeypatch.setattr(module, "known_labels", labels_of)
    for module in (finish, summary):
        monkeypatch.setattr(module, "known_labels", labels_of)
    return made


# Comparisons


@catches("""run/compare.py: a comparison always measures held-out examples
- examples = (dataset.test if split == "test" else dataset.train)[:limit]
+ examples = dataset.test[:limit]""")
@catches("""run/compare.py: a comparison always has the first seed
- model.evaluate(examples, seed, law=law
+ model.evaluate(examples, 0, law=law""")
@catches("""run/compare.py: each model of a comparison has its own timesteps
- model.evaluate(examples, seed, law=law
+ model.evaluate(examples, seed, law=None""")
def test_both_models_of_a_comparison_get_the_same_examples_seed_timesteps_and_labels(models, monkeypatch):
    law = StepLaw.uniform(3)
    monkeypatch.setattr(compare, "_common_law", lambda models: law)
    compare.compare("a", "b", split="train", limit=4, seed=7, device="cuda:1")
    for model in models:
        assert model.device == "cuda:1"
        (call,) = model.calls
        assert call["x"].tolist() == call["labels"].tolist() == [20, 21, 22, 23]
        assert (call["seed"], call["law"]) == (7, law)


@catches("""run/compare.py: that the second model knows the examples is told of the first
- if open_source(second).facts.data.digest != dataset.digest():
+ if open_source(first).facts.data.digest != dataset.digest():""")
def test_a_comparison_in_blocks_has_the_same_options_and_names_examples_that_may_be_known(models, monkeypatch):
    told, seen, stopped = [], [], looks.Stopped(True, -0.5, -0.25, 0.95, 2, 12)
    monkeypatch.setattr(compare, "tell", told.append)
    monkeypatch.setattr(compare, "_common_law", lambda models: "law")
    monkeypatch.setattr(
        compare,
        "open_source",
        lambda run: SimpleNamespace(facts=SimpleNamespace(data=SimpleNamespace(digest=run))),
    )

    def measure(given, x, seed, law, labels=(None, None)):
        seen.append((given, x.tolist(), seed, law, [one.tolist() for one in labels if one is not None]))
        return (result(x), result(x)), stopped

    monkeypatch.setattr(compare, "measure_until_decided", measure)
    found = compare.compare("d", "e", limit=2, until_decided=True, seed=8)
    assert seen == [(models, [0, 1], 8, "law", [[0, 1], [0, 1]])]
    assert "e was trained on other data" in told[0]
    assert found.record()["until_decided"]["num_looks"] == 2
    assert found.lines()[-1].startswith("decided after 2 looks: d needs fewer bits (95% interval")


@catches("""run/compare.py: the timesteps of a comparison are those of its first model
- StepLaw((first.probs + second.probs) / 2)
+ StepLaw(first.probs)""")
def test_the_timesteps_of_a_comparison_are_drawn_from_both_distributions(models):
    laws = [StepLaw(torch.tensor(probs, dtype=torch.float64)) for probs in ([0.5, 0.5, 0.0], [0.0, 0.5, 0.5])]
    both = [SimpleNamespace(family=SimpleNamespace(timestep_law=lambda model, law=law: law)) for law in laws]
    assert compare._common_law(both).probs.tolist() == [0.25, 0.5, 0.25]
    short = SimpleNamespace(family=SimpleNamespace(timestep_law=lambda model: StepLaw.uniform(2)))
    assert compare._common_law([both[0], short]) is None


@catches("""run/compare.py: the run that needs more bits is named as the better one
- fewer = self.paths[found.difference > 0]
+ fewer = self.paths[found.difference < 0]""")
@catches("""run/compare.py: a difference of one standard error is called clear [0.19-]
- CLEAR = 2.0
+ CLEAR = 1.0""")
@pytest.mark.parametrize(("difference", "words"), [(-0.5, "one needs fewer"), (0.5, "two needs fewer"), (0.19, "")])
def test_the_run_of_fewer_bits_is_named_if_the_difference_is_clear(difference, words):
    found = Comparison(difference, 0.1, 0.2, 0.0, 0.0, 10)
    lines = compare.Compared(("one", "two"), (result(TEST), result(TEST)), found).lines()
    last = lines[-1]
    far = f"({abs(difference) / 0.1:.1f} standard errors; unpaired it would be ± 0.2000)"
    assert lines[2] == f"difference {difference:+.4f} ± 0.1000 bits/dim over the same 10 examples {far}"
    assert words in last
    assert ("needs fewer" in last) == bool(words)


@catches("""run/looks.py: the labels of every block are the first ones
- None if k is None else k[rows])
+ None if k is None else k[: len(rows)])""")
@catches("""run/looks.py: every block has the same noise
- seed + len(blocks), law=law
+ seed, law=law""")
@catches("""run/looks.py: the models of a comparison in blocks have their own timesteps
- seed + len(blocks), law=law
+ seed + len(blocks), law=None""")
@catches("""run/looks.py: examples are measured in their order
- order = torch.randperm(len(examples), generator=stream(seed, "looks"))
+ order = torch.arange(len(examples))""")
@catches("""run/looks.py: a comparison in blocks costs what its first block costs
- evaluations = sum(part.network_evaluations for part in parts)
+ evaluations = parts[0].network_evaluations""")
def test_blocks_of_a_comparison_are_random_examples_with_their_labels_and_noise_of_their_own():
    pair, law, x = [Heard(), Heard()], StepLaw.uniform(3), torch.arange(700)
    (first, second), stopped = looks.measure_until_decided(pair, x, 5, law, [x, None])
    assert stopped.num_looks == 3
    for model, labeled in zip(pair, (True, False)):
        assert [call["seed"] for call in model.calls] == [5, 6, 7]
        assert all(call["law"] is law for call in model.calls)
        for call in model.calls:
            assert torch.equal(call["labels"], call["x"]) if labeled else call["labels"] is None
        measured = torch.cat([call["x"] for call in model.calls])
        assert torch.equal(measured.sort().values, x)
        assert not torch.equal(measured, x)
    assert all(torch.equal(a["x"], b["x"]) for a, b in zip(*(model.calls for model in pair)))
    assert first.network_evaluations == second.network_evaluations == 15
    assert first.num_images == 700


# Classification


def posterior(probs):
    probs = torch.tensor(probs, dtype=torch.float64)
    return Posterior(probs, probs.log(), torch.full((len(probs),), 0.25), 8, torch.arange(float(len(probs))))


@catches("""run/bayes.py: an accuracy of 100 % is certain
- near = (right + 1) / (num + 2)
+ near = right / num""")
@catches("""run/bayes.py: unlabeled examples count as mistakes
- None if self.labels is None else self.labels >= 0
+ None if self.labels is None else self.labels >= -1""")
def test_the_accuracy_is_that_of_labeled_examples_and_never_certain():
    found = bayes.Classified(("a", "b"), ("x", "y", "z"), posterior([[0.9, 0.1], [0.2, 0.8], [0.6, 0.4]]))
    assert found.accuracy is None
    share, stderr, num = dataclasses.replace(found, labels=torch.tensor([0, 1, -1])).accuracy
    assert (share, num) == (1.0, 2)
    assert stderr == pytest.approx((0.75 * 0.25 / 2) ** 0.5)  # three of four by Laplace's rule
    assert dataclasses.replace(found, labels=torch.tensor([0, 0, -1])).accuracy[0] == 0.5
    assert dataclasses.replace(found, labels=torch.tensor([-1, -1, -1])).accuracy is None


@catches("""run/bayes.py: the table of classes has the error before the log-odds
- (found.k.tolist(), found.probs, found.log_odds.tolist(), found.stderr.tolist())
+ (found.k.tolist(), found.probs, found.stderr.tolist(), found.log_odds.tolist())""")
def test_the_table_of_classes_has_the_likeliest_label_its_probability_and_log_odds():
    found = bayes.Classified(("a", "b"), ("x", "y"), posterior([[0.9, 0.1], [0.2, 0.8]]))
    assert found.table().splitlines()[1:] == ["x,a,0.9000,0.00,0.25", "y,b,0.8000,1.00,0.25"]
    assert found.examples()[1] == {
        "name": "y", "label": "b", "probabilities": [0.2, 0.8], "log_odds_standard_error": 0.25,
    }  # fmt: skip


@catches("""run/bayes.py: a classification always has the default number of evaluations
- found = model.classify(examples, evaluations, seed)
+ found = model.classify(examples, seed=seed)""")
@catches("""run/bayes.py: a classification always has the first seed
- found = model.classify(examples, evaluations, seed)
+ found = model.classify(examples, evaluations)""")
@catches("""run/bayes.py: a classification is on any device
- model = load(run, device)
+ model = load(run)""")
@catches("""run/bayes.py: the bound of a classification is a density
- .mean().item() + model.grid_nats()
+ .mean().item()""")
def test_a_classification_has_its_part_limit_evaluations_and_seed(models, monkeypatch):
    told = []
    monkeypatch.setattr(summary, "noise_caution", lambda model, bits: told.append(bits) or [])
    found = bayes.classify("run", split="train", limit=3, evaluations=9, seed=4, device="cuda:1")
    (call,) = models[0].calls
    assert models[0].device == "cuda:1"
    assert call["x"].tolist() == found.labels.tolist() == [20, 21, 22]
    assert (call["evaluations"], call["seed"]) == (9, 4)
    assert found.names == ("0", "1", "2")
    assert told == pytest.approx([-100 / 0.6931471805599453])


@catches("""run/bayes.py: the share of labels that were found is no percentage
- {100 * share:.1f} ±
+ {share:.1f} ±""")
def test_a_classification_is_described_with_its_accuracy_and_the_bound_on_the_data():
    found = bayes.Classified(
        ("a", "b"), ("x", "y"), posterior([[0.9, 0.1], [0.2, 0.8]]), torch.tensor([0, 0]), (3.5, 0.25),
        "3.50 ± 0.25 bits/dim", ("caution",),
    )  # fmt: skip
    error = (0.5 * 0.5 / 2) ** 0.5
    assert found.record() == {
        "num_examples": 2, "classes": ["a", "b"], "network_evaluations": 8, "accuracy": 0.5,
        "accuracy_standard_error": pytest.approx(error), "num_labeled": 2, "bits_per_dim": 3.5, "standard_error": 0.25,
    }  # fmt: skip
    assert found.lines() == [
        "caution",
        "  bound on p(x)         3.50 ± 0.25 bits/dim, summed over the classes of the first 2 examples",
        f"  Bayes' rule finds the label of 50.0 ± {100 * error:.1f} % of 2 examples",
    ]


@catches("""run/bayes.py: a bound given labels leaves out that some examples have none
- not bool((labels >= 0).all())
+ not bool((labels >= 0).any())""")
def test_the_bound_given_labels_exists_if_every_example_has_one():
    found = dataclasses.replace(result(TEST), bits_per_dim=3.0, standard_error=0.5, terms={"class": 0.25, "x": 2.75})
    given = bayes.given_labels(found, torch.tensor([0, 1]))
    assert given == {"bits_per_dim": 2.75, "standard_error": 0.5}
    assert bayes.given_labels(found, torch.tensor([0, -1])) == {}
    assert bayes.given_labels(result(TEST), torch.tensor([0, 1])) == {}


# Evaluations


@catches("""run/evaluate.py: the bound summed over classes is estimated once
- turns = range(repeats or model.family.repeats(len(examples)))
+ turns = range(1)""")
@catches("""run/evaluate.py: repeated bounds summed over classes have the same noise
- seed + _REPEAT * k, labels=found.probs)
+ seed, labels=found.probs)""")
@catches("""run/evaluate.py: examples that are classified have the last labels
- labels[: len(examples)]
+ labels[-len(examples) :]""")
@catches("""run/evaluate.py: examples of an evaluation are classified with the first seed
- found = model.classify(examples, seed=seed)
+ found = model.classify(examples)""")
def test_classified_examples_have_their_labels_and_independent_estimates(models):
    found = evaluate.evaluate("run", classified=3, repeats=2, seed=4, limit=5)
    whole, again, classes, *summed = models[0].calls
    for k, call in enumerate((whole, again)):
        assert call["x"].tolist() == call["labels"].tolist() == [0, 1, 2, 3, 4]
        assert call["seed"] == 4 + 1_000_003 * k
    assert (classes["x"].tolist(), classes["seed"]) == ([0, 1, 2], 4)
    assert [call["seed"] for call in summed] == [4, 4 + 1_000_003]
    assert found.measured.details["classes"]["num_labeled"] == 3
    assert found.measured.details["classes"]["accuracy"] == pytest.approx(1 / 3)  # the first class of labels 0, 1, 2


@catches("""run/evaluate.py: importance samples are not used
- seed + _REPEAT * k, importance, labels=labels)
+ seed + _REPEAT * k, None, labels=labels)""")
@catches("""run/evaluate.py: the split is not used
- examples = (dataset.test if split == "test" else dataset.train)[:limit]
+ examples = dataset.test[:limit]""")
@catches("""run/evaluate.py: an evaluation is on any device
- model = load(run, device)
+ model = load(run)""")
def test_an_evaluation_has_its_part_and_its_importance_samples(models):
    evaluate.evaluate("run", split="train", limit=2, importance=50, classified=0, device="cuda:1")
    assert models[0].device == "cuda:1"
    (call,) = models[0].calls
    assert (call["x"].tolist(), call["labels"].tolist(), call["importance"]) == ([20, 21], [20, 21], 50)


@catches("""run/evaluate.py: the wanted error is not used
- repeats, labels, error)
+ repeats, labels)""")
def test_an_evaluation_has_its_samples_features_and_error_and_refuses_what_has_no_meaning(models, monkeypatch):
    seen = []
    monkeypatch.setattr(evaluate, "sample_quality", lambda model, *given: seen.append(given))
    monkeypatch.setattr(
        evaluate, "repeated_until", lambda error, repeat, num, tell: (seen.append((error, num)) or repeat(num + 1), [])
    )
    for options, words in (
        ({"split": "train", "data": "x"}, "split train is a part"),
        ({"repeats": 0}, "--repeats must"),
    ):
        with pytest.raises(InputError, match=words):
            evaluate.evaluate("run", **options)
    monkeypatch.setattr(evaluate, "load", lambda run, device: models[0])
    evaluate.evaluate("run", limit=2, samples=300, features="digits", seed=6, error=0.25, repeats=2, classified=0)
    assert seen == [(DATASET, 300, 6, "digits"), (0.25, 2)]
    assert [call["seed"] for call in models[0].calls] == [6 + 1_000_003 * k for k in range(3)]


@catches("""run/evaluate.py: the terms of repeated estimates are those of the first
- terms={name: mean([e.terms[name] for e in estimates]) for name in first.terms},
+ terms=first.terms,""")
@catches("""run/evaluate.py: the variance of estimates is divided by their number
- / (count - 1)
+ / count""")
def test_every_number_of_an_average_is_that_of_all_estimates():
    common = {"num_images": 3, "standard_error": 0.25, "nats_standard_error": 2.5, "term_errors": {"a": 0.5, "b": 0.0}}
    one, two = (
        dataclasses.replace(
            result(TEST[:3]), **common, bits_per_dim=bits, nats=10 * bits, bits_per_example=4 * bits,
            terms={"a": bits - 1, "b": 1.0}, levels=[Part("t = 1", 2 * bits, 0.25, None, bits == 3.0)],
            per_example=torch.full((3,), -10 * bits),
        )
        for bits in (1.0, 3.0)
    )  # fmt: skip
    found = evaluate.averaged([one, two])
    assert (found.bits_per_dim, found.nats, found.bits_per_example, found.terms) == (2, 20, 8, {"a": 1, "b": 1})
    assert found.per_example.tolist() == [-20.0] * 3
    assert found.network_evaluations == 10
    assert found.estimator.endswith("average of 2 estimates")
    # the variance of the two estimates is 2 bits, more than the stated one, and half of it that of their mean
    assert (found.standard_error_monte_carlo, found.standard_error, found.standard_error_images) == (1, 1, 0)
    assert (found.nats_standard_error, found.term_errors) == (10, {"a": 1, "b": 0})
    assert found.levels == [Part("t = 1", 4.0, 2.0, None, True)]


@catches("""run/evaluate.py: the three estimators always have the first seed
- len(examples), seed, offset_nats=model.grid_nats())
+ len(examples), 0, offset_nats=model.grid_nats())""")
@catches("""run/evaluate.py: the three estimators bound a density
- seed, offset_nats=model.grid_nats())
+ seed)""")
def test_the_three_estimators_have_the_seed_and_the_offset_of_the_bound(monkeypatch):
    seen = []
    monkeypatch.setattr(
        evaluate,
        "three_estimates",
        lambda chain, batch, num, seed, offset_nats=0.0: seen.append((num, seed, offset_nats)) or {},
    )
    model = SimpleNamespace(batches=lambda x: None, chain=None, grid_nats=lambda: 2.5)
    evaluate._with_estimators(evaluate.Measured(result(TEST), {}, []), model, TEST, 9)
    assert seen == [(12, 9, 2.5)]


@catches("""run/evaluate.py: the error from the examples is in bits/dim for every form
- own = form.in_unit(result.standard_error_images, result.num_dims)
+ own = result.standard_error_images""")
@catches("""run/evaluate.py: the Monte Carlo error is in bits/dim for every form
- noise = form.in_unit(result.standard_error_monte_carlo, result.num_dims)
+ noise = result.standard_error_monte_carlo""")
def test_both_parts_of_the_error_are_in_the_unit_of_the_bound():
    blank = dict.fromkeys(Evaluation.__dataclass_fields__)
    found = Evaluation(**{**blank, "standard_error_monte_carlo": 0.5, "standard_error_images": 0.25, "num_dims": 2})
    words = evaluate.error_words(found, TableForm())
    assert "Monte Carlo error 0.6931 (" in words  # 2 ln 2 / 2 nats
    assert "error from the examples 0.3466 (" in words


@catches("""run/evaluate.py: a term has the error of the bound
- {aligned(self._rate(value, result.term_errors[name]))}"
+ {aligned(self._rate(value, result.standard_error))}\"""")
def test_an_evaluation_is_described_with_every_number_and_its_error():
    levels = [
        Part("t = 1", 1.0, 0.5, None, True), Part("t = 2", 1.5, 0.25, (2.0, -1.0), True),
        Part("t = 3", 1.0, None, (1.0, -2.0), False),
    ]  # fmt: skip
    found = dataclasses.replace(
        result(TEST[:2], 30), bits_per_dim=2.5, standard_error=0.5, standard_error_monte_carlo=0.0, nats=4.25,
        nats_standard_error=0.75, bits_per_example=6.125, terms={"kl": 2.5}, term_errors={"kl": 0.125}, levels=levels,
        estimator="by hand",
    )  # fmt: skip
    lines = evaluate.Evaluated("digits", evaluate.Measured(found, {"extra": 1}, ["more"]), None)
    assert lines.lines() == [
        "2.5000 ± 0.5000 bits/dim   no Monte Carlo error",
        "4.25 ± 0.7500 nats, 6.1 bits per example",
        "2 examples of digits, 30 network evaluations; by hand",
        "  kl                  2.5000 ± 0.1250 bits/dim",
        "    t = 2             1.5000 ± 0.2500 bits/dim   log SNR +2.0 to -1.0",
        "more",
    ]
    assert (lines.record()["extra"], lines.record()["bits_per_dim"]) == (1, 2.5)
    unknown = dataclasses.replace(found, standard_error=None, standard_error_monte_carlo=None)
    assert evaluate.error_words(unknown).startswith("too few network evaluations")
    assert "was not measured" in evaluate.error_words(dataclasses.replace(unknown, num_images=1))
    assert evaluate._estimator_lines({"pair": {
        "bits_per_dim": 2.5, "standard_error": 0.25, "network_evaluations": 1200, "errors_from_path": -1.25,
    }}) == ["  pair      2.5000 ± 0.2500 bits/dim from 1,200 network evaluations, -1.2 standard errors from path"]  # fmt: skip


@catches("""run/importance.py: the classes of the first batch are those of every batch
- known.k[part].to
+ known.k[: len(part)].to""")
@catches("""run/importance.py: every batch has the same noise
- stream(seed, "importance", int(part[0]))
+ stream(seed, "importance")""")
def test_an_importance_weighted_bound_has_the_class_of_each_example_and_noise_of_each_batch(monkeypatch):
    drawn = []

    def bound(chain, x, samples, generator, cond):
        drawn.append(torch.rand((), generator=generator).item())
        assert torch.equal(x, cond)
        return x.double()

    monkeypatch.setattr(importance, "BATCH", 5)
    monkeypatch.setattr(importance, "importance_bound", bound)
    monkeypatch.setattr(importance, "assigned", lambda *given: SimpleNamespace(k=TEST))
    monkeypatch.setattr(importance, "with_classes", lambda estimate, known: estimate)
    family = SimpleNamespace(draws_latents=True, evaluations_per_draw=lambda chain: 1)
    model = SimpleNamespace(
        batches=lambda data, seed: lambda rows: data[rows], chain=SimpleNamespace(depth=1), device="cpu", family=family
    )
    found = importance.importance_estimate(model, TEST, 4, 0)
    assert found.terms["bound"].tolist() == TEST.tolist()
    assert len(set(drawn)) == 3
    assert found.evaluations == 12 * 4


# A run's own measurements


@catches("""run/finish.py: the labels of training examples are the first ones
- None if labels is None else labels[rows])
+ None if labels is None else labels[:num])""")
@catches("""run/finish.py: the held-out bound is measured with the labels of training
- dataset, "test", num)
+ dataset, "train", num)""")
@catches("""run/finish.py: the bound of training examples is that of the first ones
- torch.linspace(0, len(dataset.train) - 1, num, dtype=torch.float64).long()
+ torch.arange(num)""")
def test_marks_measure_held_out_and_evenly_spaced_training_examples_with_their_labels(models):
    state = SimpleNamespace(step=3, seconds=1.0, images=lambda batch: 3 * batch, loss=0.5, num_skipped=0)
    trainer = SimpleNamespace(state=state, settings=SimpleNamespace(batch=8), progress=0.5)
    line = finish.measure(models[0], trainer, DATASET)
    held_out, training = models[0].calls
    assert held_out["x"].tolist() == held_out["labels"].tolist() == TEST.tolist()
    rows = [int(29 * k / 11) for k in range(12)]
    assert training["x"].tolist() == training["labels"].tolist() == TRAIN[rows].tolist()
    assert (line["examples"], line["examples_per_second"]) == (24, 24.0)
    assert line["bits_per_dim"] != line["train_bits_per_dim"]


@catches("""run/summary.py: the summary is measured with the labels of training
- dataset, "test", held_out)
+ dataset, "train", held_out)""")
def test_the_summary_measures_the_first_held_out_examples_with_their_labels(models, monkeypatch):
    seen = []
    monkeypatch.setattr(
        summary,
        "measure_bound",
        lambda model, x, labels: seen.append((x, labels)) or evaluate.Measured(result(x), {}, []),
    )
    monkeypatch.setattr(summary, "floor_bits", lambda model: None)
    lines = summary.summarize(models[0], DATASET, 5)["lines"]
    ((x, labels),) = seen
    assert x.tolist() == labels.tolist() == [0, 1, 2, 3, 4]
    assert "the first 5 of 12" in lines[-1]
    assert "the first" not in summary.summarize(models[0], DATASET, 12)["lines"][-1]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"importance": 5}, "--importance is an option of the bound, .* got 5; omit --importance"),
        ({"limit": 5}, "--limit is an option of the bound"),
        ({"repeats": 2}, "--repeats is an option of the bound"),
        ({"split": "train"}, "--split is an option of the bound, .* got train"),
        ({"estimators": True}, "--estimators is an option of the bound"),
        ({"error": 0.5}, "--error is an option of the bound"),
        ({"limit": 0}, "--limit must be at least 1, got 0"),
        ({"importance": 0}, "--importance must be at least 1"),
        ({"samples": None, "features": "digits"}, "--features digits needs a number of samples: add --samples 10000"),
        ({"features": "x.npz"}, "give --samples, or --features with a file"),
    ],
)
def test_a_student_has_samples_and_no_options_of_the_bound(models, monkeypatch, options, words):
    monkeypatch.setattr(models[0], "family", SimpleNamespace(form=ImageForm(), has_bound=False), raising=False)
    monkeypatch.setattr(evaluate, "load", lambda run, device: models[0])
    with pytest.raises(InputError, match=words):
        evaluate.evaluate("run", **{"samples": 300, **options})
    quality = SimpleNamespace(lines=lambda: ["quality"], record=lambda: {"n": 1})
    monkeypatch.setattr(evaluate, "sample_quality", lambda *given: quality)
    found = evaluate.evaluate("run", samples=300)
    assert found.record() == {"samples": {"n": 1}}
    assert found.lines() == [
        "a student has no bound: it draws samples in few network evaluations and does not score given examples", "quality",
    ]  # fmt: skip
    assert models[0].calls == []


def test_estimators_are_for_models_with_timesteps(models, monkeypatch):
    family = SimpleNamespace(**{**vars(Heard.family), "estimators": ()})
    monkeypatch.setattr(models[0], "family", family, raising=False)
    monkeypatch.setattr(models[0], "recipe", SimpleNamespace(model=None, name="vae"), raising=False)
    with pytest.raises(InputError, match="--estimators is for diffusion models; omit it for the model vae"):
        evaluate.evaluate("run", estimators=True)


@pytest.mark.parametrize(
    ("error", "noise", "examples", "num", "words"),
    [
        (None, None, None, 5, "too few network evaluations to tell the error (--repeats adds some)"),
        (None, None, None, 1, "the Monte Carlo part of the error was not measured"),
        (0.5, None, None, 5, "the Monte Carlo part of the error was not measured"),
        (0.5, 0.0, 0.5, 5, "no Monte Carlo error"),
        (0.5, 0.25, None, 5, "Monte Carlo error 0.2500 (--repeats lowers it), error from the examples unknown"),
    ],
)
def test_what_is_known_of_an_error_is_told(error, noise, examples, num, words):
    found = dataclasses.replace(
        result(TEST),
        standard_error=error,
        standard_error_monte_carlo=noise,
        standard_error_images=examples,
        num_images=num,
    )
    assert evaluate.error_words(found) == words


def test_a_comparison_needs_two_examples_of_one_kind(models):
    with pytest.raises(InputError, match="--limit must be at least 2, got 1"):
        compare.compare("a", "b", limit=1)
    models[1].measured_in = "counts"
    with pytest.raises(InputError, match="a measures numbers and b counts; they cannot be compared"):
        compare.compare("a", "b", limit=2)
    with pytest.raises(InputError, match="--limit must be at least 1, got 0"):
        bayes.classify("a", limit=0)


def test_two_equal_models_differ_by_exactly_nothing():
    lines = compare.Compared(
        ("one", "two"), (result(TEST), result(TEST)), Comparison(0.0, 0.0, 0.5, 1.0, 0.0, 3)
    ).lines()
    assert lines[-1] == (
        "difference +0.0000 ± 0.0000 bits/dim over the same 3 examples (exactly; unpaired it would be ± 0.5000)"
    )


def test_an_importance_weighted_bound_is_for_models_that_draw_latents():
    family = SimpleNamespace(draws_latents=False)
    with pytest.raises(InputError, match="exists only for a VAE or hierarchical VAE; omit it for other models"):
        importance.importance_estimate(SimpleNamespace(family=family), TEST, 3, 0)


@pytest.mark.parametrize("floor", [None, 2.25])
def test_a_summary_is_described_with_its_rate_its_costs_its_errors_and_its_floor(models, monkeypatch, floor):
    found = dataclasses.replace(
        result(TEST[:5], 1200), bits_per_dim=2.5, standard_error=0.5, bits_per_example=6.125,
        standard_error_monte_carlo=0.0,
    )  # fmt: skip
    measured = evaluate.Measured(found, {"extra": 1}, ["more"])
    monkeypatch.setattr(summary, "measure_bound", lambda model, x, labels: measured)
    monkeypatch.setattr(summary, "floor_bits", lambda model: floor)
    models[0].measured_in = "gray levels"
    above = "  0.2500 bits/dim above 2.2500, the least that a density of unit variance can reach"
    entries = {"likelihood": found.record(), "extra": 1}
    assert summary.summarize(models[0], DATASET, 5) == {
        **(entries if floor is None else entries | {"floor_bits_per_dim": floor}),
        "lines": [
            "held-out bound: 2.5000 ± 0.5000 bits/dim = 6.1 bits per example (5 examples, 1,200 network evaluations)",
            "  no Monte Carlo error",
            "more",
            *([] if floor is None else [above]),
            "  the first 5 of 12; the command evaluate measures all",
        ],
    }


def test_the_bound_given_labels_is_told_first_with_its_own_rate(models, monkeypatch):
    found = dataclasses.replace(result(TEST), bits_per_dim=3.0, standard_error=0.5, terms={"class": 0.25, "x": 2.75})
    monkeypatch.setattr(evaluate, "averaged", lambda estimates: found)
    family = SimpleNamespace(**{**vars(Heard.family), "detail_lines": lambda details: ["detail"]})
    monkeypatch.setattr(models[0], "family", family, raising=False)
    measured = evaluate.measure_bound(models[0], TEST, labels=TEST)
    assert measured.details == {"given_labels": {"bits_per_dim": 2.75, "standard_error": 0.5}}
    assert measured.lines == ["  given the label     2.7500 ± 0.5000 bits/dim, without log p(label)", "detail"]


def test_other_data_are_classified_whole_by_their_names_and_without_labels_if_they_have_none(models, monkeypatch):
    seen = []
    other = SimpleNamespace(**{**vars(DATASET), "names": tuple(f"{k}.png" for k in range(12)), "classes": ()})
    monkeypatch.setattr(bayes, "data_of", lambda *given: seen.append(given[2:]) or other)
    monkeypatch.setattr(summary, "noise_caution", lambda model, bits: ["caution"])
    found = bayes.classify("run", "photos", split="train", limit=2)
    assert seen == [("photos", "DATA")]
    assert models[0].calls[0]["x"].tolist() == [0, 1]
    assert (found.names, found.labels, found.cautions) == (("0.png", "1.png"), None, ("caution",))
    assert found.classes == ("a", "b")


def test_an_importance_weighted_bound_has_the_variance_of_its_examples_and_names_its_draws(monkeypatch):
    monkeypatch.setattr(importance, "importance_bound", lambda chain, x, samples, generator, cond: x.double())
    monkeypatch.setattr(importance, "assigned", lambda *given: None)
    family = SimpleNamespace(draws_latents=True, evaluations_per_draw=lambda chain: 2)
    model = SimpleNamespace(
        batches=lambda data, seed: lambda rows: data[rows], chain=SimpleNamespace(depth=1), device="cpu", family=family
    )
    found = importance.importance_estimate(model, TEST, 4, 0)
    assert found.words == "importance-weighted, K = 4"
    assert found.var == pytest.approx(13.0 / 12)  # the variance of 0, ..., 11 is 12 (12 + 1) / 12
    assert found.vars == {"bound": found.var}
    assert found.var_monte_carlo is None
    assert found.evaluations == 12 * (2 * 4 - 3)  # the encoder of the lowest latents is evaluated once
