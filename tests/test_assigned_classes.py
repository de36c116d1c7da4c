"""Classes of examples for an evaluation, and rounds of evaluations that are repeated until they decide."""

import math

import pytest
import torch
from torch.testing import assert_close

import kakusan as kk
from harness.faults import catches
from harness.support import F64, f64
from kakusan.chain import LatentChain
from kakusan.distributions import Normal
from kakusan.errors import InputError
from kakusan.likelihood import classes
from kakusan.likelihood.classes import assigned, posterior
from kakusan.likelihood.ranking import _near_boundary, rank_examples
from kakusan.likelihood.scores import score_examples
from kakusan.models.labels import Labels
from kakusan.models.mixture import Mixture
from test_laws import ExactByClass

SHARE = f64([0.2, 0.5, 0.3])
MEANS = f64([-9.0, 0.0, 9.0])
X = f64([[9.1], [-9.2], [0.3], [8.8], [-8.9]])
K = torch.tensor([2, 0, 1, 2, 0])


def rows(indices):
    return X[indices]


def mixture(**options):
    found = Labels(3, (1,), **options)
    found.share.copy_(SHARE)
    return Mixture(ExactByClass(MEANS, f64([0.2, 0.3, 0.1])), found)


def clustered():
    """Labels of three clusters, of which each has one class."""
    model = mixture(clusters=3)
    clusters = model.classes.clusters
    clusters.centres.copy_(MEANS[:, None])
    clusters.share.copy_(SHARE)
    model.classes.named.copy_(torch.eye(3))
    return model


@catches("""likelihood/classes.py: unlabeled examples have the classes of the first rows by cluster [clusters]
- classes.probs_of(batch(missing[rows])) for rows
+ classes.probs_of(batch(rows)) for rows""")
@catches("""likelihood/classes.py: unlabeled examples have the classes of the first rows by Bayes' rule [bayes]
- lambda rows: batch(missing[rows]), len(missing), seed=seed)
+ batch, len(missing), seed=seed)""")
@catches("""likelihood/classes.py: all classes have one probability in the term of the class [bayes]
- prior = log_prior(q, classes.share.double().cpu())
+ prior = log_prior(q, torch.full_like(q[0], 1 / classes.num))""")
@pytest.mark.parametrize("model", [mixture(), clustered()], ids=["bayes", "clusters"])
def test_an_unlabeled_example_has_a_class_of_its_own_and_a_labeled_one_its_label(model):
    given = torch.tensor([-1, 1, -1, 0, -1])  # two labels, both unlike the examples
    expected = torch.where(given < 0, K, given)
    found = assigned(model, rows, 5, given)
    assert found.k.tolist() == expected.tolist()
    # by Bayes' rule other classes have less than exp(-30)
    assert_close(found.log_prior, SHARE[expected].log(), rtol=0, atol=1e-9)
    assert (found.evaluations > 0) == (not model.classes.holes)
    everything = assigned(model, rows, 5, None)
    assert everything.k.tolist() == K.tolist()


def test_probabilities_of_classes_may_be_given():
    q = f64([[0, 1, 0], [0.5, 0.5, 0], [0, 0, 1], [1, 0, 0], [0, 1, 0]])
    found = assigned(mixture(), rows, 5, q)
    assert (q[torch.arange(5), found.k] > 0).all()
    assert_close(found.log_prior, torch.special.entr(q).sum(1) + (q * SHARE.log()).sum(1))


def test_labels_of_another_number_or_for_a_model_without_classes_are_refused():
    for labels in (K[:3], K.float(), torch.tensor([0, 1, 2, 3, 0])):
        with pytest.raises(InputError):
            assigned(mixture(), rows, 5, labels)
    with pytest.raises(InputError, match="not conditional on labels"):
        assigned(ExactByClass(MEANS, MEANS.abs() + 1), rows, 5, K)
    assert assigned(ExactByClass(MEANS, MEANS.abs() + 1), rows, 5, None) is None


@catches("""likelihood/classes.py: evaluations of all parts but the last are not counted
- evaluations=sum(part.evaluations for part in parts),
+ evaluations=parts[-1].evaluations,""")
def test_classes_do_not_depend_on_how_many_examples_are_taken_at_a_time(monkeypatch):
    whole, known = posterior(mixture(), rows, 5, 32), assigned(clustered(), rows, 5, None)
    monkeypatch.setattr(classes, "CHUNK", 2)
    parts = posterior(mixture(), rows, 5, 32)
    assert parts.evaluations == whole.evaluations
    assert parts.k.tolist() == whole.k.tolist() == K.tolist()
    for name in ("probs", "bounds", "stderr", "log_odds"):
        assert_close(getattr(parts, name), getattr(whole, name), rtol=1e-9, atol=1e-9, equal_nan=True)
    assert assigned(clustered(), rows, 5, None).k.tolist() == known.k.tolist()


class Noisy(LatentChain):
    """Chain whose bound of class k is -k `gap` nats plus noise, with the opposite sign in class 1."""

    depth, event_shape = 1, (1,)

    def __init__(self, gap, std):
        self.gap, self.std = gap, std

    def draw_terms(self, x, cond=None, generator=None):
        noise = self.std * torch.randn(len(x), dtype=F64, generator=generator)
        return {"bound": torch.where(cond == 0, noise, -self.gap - noise)}

    def prior(self, cond=None):
        return Normal(torch.zeros(1, 1, dtype=F64), torch.ones((), dtype=F64))

    def encode(self, z, t, cond=None):
        return self.prior()

    def decode(self, z, t, cond=None):
        return self.prior()


@catches("""likelihood/classes.py: a class is dropped by its nats alone [30.0-40.0-128]
- (gap > CLEAR_NATS) & (gap > CLEAR_ERRORS * stderr)
+ (gap > CLEAR_NATS)""")
@catches("""likelihood/classes.py: a class is dropped by its standard errors alone [4.0-0.01-128]
- (gap > CLEAR_NATS) & (gap > CLEAR_ERRORS * stderr)
+ (gap > CLEAR_ERRORS * stderr)""")
@pytest.mark.parametrize(("gap", "std", "evaluations"), [(30.0, 40.0, 128), (4.0, 0.01, 128), (7.0, 0.01, 32)])
def test_a_class_is_dropped_if_it_is_clearly_worse_in_nats_and_in_standard_errors(gap, std, evaluations):
    model = Mixture(Noisy(gap, std), Labels(2, (1,)))
    assert posterior(model, lambda rows: torch.zeros(len(rows), 1, dtype=F64), 1, most=64).evaluations == evaluations


@catches("""likelihood/ranking.py: further rounds of a ranking have one seed
-                 None,
-                 seed,
+                 None,
+                 0,""")
@catches("""likelihood/ranking.py: an example's draws are doubled three times at most
- MOST_DOUBLINGS = 4
+ MOST_DOUBLINGS = 3""")
def test_examples_that_are_alike_are_doubled_four_times_and_stay_open():
    chain = kk.Diffusion(lambda z, t: torch.sin(z), kk.Schedule.cosine(20), 1, "x").double()  # equal noise for all
    found = rank_examples(chain, lambda rows: torch.ones(len(rows), 1, dtype=F64), 6, 1, 2, evaluations=3)
    assert found.draws.tolist() == [3 * 2**4] * 6
    assert found.scores.evaluations == 48
    assert found.num_open == 6
    again = rank_examples(chain, lambda rows: torch.ones(len(rows), 1, dtype=F64), 6, 1, 2, evaluations=3, seed=5)
    last = score_examples(chain, lambda rows: torch.ones(len(rows), 1, dtype=F64), 6, 1, 48, seed=5)
    assert torch.equal(again.scores.nats, last.nats)  # by its last draws alone


def test_at_least_one_example_is_ranked():
    with pytest.raises(InputError, match="must be at least 1, got 0"):
        rank_examples(mixture(), rows, 5, 1, 0)


@catches("""likelihood/ranking.py: an example is open within one standard error
- OVERLAP = 2.0
+ OVERLAP = 1.0""")
def test_an_example_is_open_within_two_standard_errors_of_the_boundary():
    nats = f64([0.0, 1.0, 3.0, 9.0])  # the boundary of two is 2
    assert _near_boundary(nats, f64([1.1, 0.4, 0.6, 0.1]), 2).tolist() == [0, 2]
    assert _near_boundary(nats, f64([0.9, 0.4, 0.4, 3.6]), 2).tolist() == [3]
    assert _near_boundary(nats, f64([math.inf] * 4), 4).tolist() == []


@pytest.mark.parametrize(
    ("mistake", "sentence"),
    [
        (
            lambda: posterior(mixture(), rows, 5, most=1),
            "a class needs at least 2 evaluations for a standard error, got 1; 256 is the default",
        ),
        (
            lambda: posterior(mixture(), rows, 5, most=True),
            "a class needs at least 2 evaluations for a standard error, got True; 256 is the default",
        ),
        (lambda: posterior(mixture(), rows, 0), "there is nothing to evaluate: expected at least one example, got 0"),
        (
            lambda: assigned(ExactByClass(MEANS, MEANS.abs() + 1), rows, 5, K),
            "labels were given, and this model is not conditional on labels; leave them out",
        ),
        (
            lambda: assigned(mixture(), rows, 5, K[:3]),
            "labels must be int64 of shape (5,), one for each example, got torch.int64 (3,)",
        ),
        (
            lambda: assigned(mixture(), rows, 5, K.float()),
            "labels must be int64 of shape (5,), one for each example, got torch.float32 (5,)",
        ),
        (
            lambda: assigned(mixture(), rows, 5, torch.ones(5, 3, dtype=torch.int64)),
            "labels must be int64 of shape (5,), one for each example, got torch.int64 (5, 3)",
        ),
        (
            lambda: rank_examples(mixture(), rows, 5, 1, 0),
            "the number of strangest examples must be at least 1, got 0",
        ),
    ],
)
def test_classes_that_cannot_be_found_are_refused_with_the_way_out(mistake, sentence):
    with pytest.raises(InputError) as caught:
        mistake()
    assert str(caught.value) == sentence


def test_bayes_rule_takes_at_least_two_and_by_default_at_most_256_evaluations():
    model = Mixture(Noisy(0.0, 1.0), Labels(2, (1,)))
    evaluate = lambda **choices: posterior(model, lambda rows: torch.zeros(len(rows), 1, dtype=F64), 1, **choices)  # noqa: E731
    assert [evaluate(**choices).evaluations for choices in ({}, {"most": 2}, {"most": 17})] == [512, 4, 34]
