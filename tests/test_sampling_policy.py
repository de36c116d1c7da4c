"""Sampling of a run: what was asked for is used, and the recipe's settings otherwise."""

from types import SimpleNamespace

import pytest
import torch

from harness.faults import catches
from harness.support import F64
from kakusan.errors import InputError
from kakusan.models.diffusion import Diffusion
from kakusan.models.labels import Labels
from kakusan.models.mixture import Mixture
from kakusan.noise import example_streams
from kakusan.run import sampling
from kakusan.run.families.diffusion import DiffusionConfig
from kakusan.run.recipe import Distil, Recipe
from kakusan.run.sampling import OnePass, SamplingPolicy, StudentPolicy
from kakusan.schedule import Schedule
from kakusan.solvers.time_grid import times

SCHEDULE = Schedule.cosine(40)
Z = torch.ones(1, 2, dtype=F64)


def recipe(distil=None):
    """A recipe that guides with weight 2 at every noise level and ends at log-SNR 1."""
    return Recipe(
        "r", "", DiffusionConfig(guidance=2.0, guidance_range=(-100.0, 100.0), end_log_snr=1.0), distil=distil
    )


def chain(factor):
    """A chain that estimates x as a share of z."""
    return Diffusion(lambda z, t: factor * z, SCHEDULE, 2, "x").double()


def policy(weaker=0.3, kind=SamplingPolicy):
    return kind(chain(0.4), None if weaker is None else chain(weaker), recipe())


def weight(model):
    """Weight with which a chain of `policy` is guided: its estimate is 0.3 + 0.1 weight."""
    return (model.data_estimate(Z, 20)[0, 0].item() - 0.3) / 0.1


@catches("""run/sampling.py: autoguidance alone is not used
- return self._autoguided(guidance if autoguidance is None else autoguidance)
+ return self._autoguided(guidance)""")
def test_without_labels_either_flag_is_the_weight_of_autoguidance():
    found = policy()
    asked = [{}, {"guidance": 3.0}, {"autoguidance": 4.0}, {"guidance": 1.0}]
    assert [weight(found.chain(**one)) for one in asked] == pytest.approx([2, 3, 4, 1])
    with pytest.raises(InputError, match="got 2 and 3; give one"):
        found.chain(guidance=2.0, autoguidance=3.0)
    try:
        assert weight(found.chain(guidance=3.0, autoguidance=3.0)) == pytest.approx(3)
    except InputError as error:
        pytest.fail(str(error))


@catches("""run/sampling.py: a run without early weights refuses the weight of no guidance
- if guidance not in (None, 1):
+ if guidance is not None:""")
def test_a_run_without_early_weights_can_be_sampled_without_guidance_alone():
    found = policy(weaker=None)
    try:
        assert [found.chain(guidance=one) is found.model for one in (None, 1)] == [True, True]
    except InputError as error:
        pytest.fail(str(error))
    with pytest.raises(InputError, match=r"guidance 2\.0 needs weights from early in the run"):
        found.chain(guidance=2.0)


@catches("""run/sampling.py: autoguidance of a model of labels is always the recipe's
- chain: Any = self._autoguided(autoguidance)
+ chain: Any = self._autoguided(None)""")
@catches("""run/sampling.py: samples without a class have the class
- 1.0 if guidance is None else guidance, config.guidance_range
+ guidance or 1.0, config.guidance_range""")
def test_a_model_of_labels_has_both_kinds_of_guidance():
    """The estimate is half of the share of the class for the weaker chain."""
    shares = torch.tensor([0.4, 0.6, 0.5], dtype=F64)  # of two classes and the null class

    def of_labels(factor):
        net = Diffusion(lambda z, t, cond: factor * shares[cond][:, None] * z, SCHEDULE, 2, "x").double()
        return Mixture(net, Labels(2, (2,), dropout=0.1))

    found = SamplingPolicy(of_labels(1.0), of_labels(0.5), recipe())

    def estimate(**asked):
        return found.chain(**asked).chain.data_estimate(Z, 20, torch.tensor([0]))[0, 0].item()

    assert estimate() == pytest.approx(1.5 * 0.4)
    assert estimate(guidance=0.0) == pytest.approx(1.5 * 0.5)
    assert estimate(guidance=3.0, autoguidance=1.0) == pytest.approx(0.5 - 3 * 0.1)
    assert estimate(guidance=3.0, autoguidance=3.0) == pytest.approx(2 * (0.5 - 3 * 0.1))
    assert found.has_null
    assert not SamplingPolicy(of_labels(1.0), None, recipe(Distil())).has_null


@catches("""run/sampling.py: an end at log-SNR 0 is taken for none
- end = config.end_log_snr if end_log_snr is None else end_log_snr
+ end = end_log_snr or config.end_log_snr""")
@catches("""run/sampling.py: the spacing is always the default
- spacing or self.default_spacing, end)
+ self.default_spacing, end)""")
@catches("""run/sampling.py: the evaluations of the weaker network are not counted
- return len(self.times()) * len(self.denoisers)
+ return len(self.times())""")
def test_steps_spacing_and_end_are_used_and_their_evaluations_counted():
    found = policy()
    assert found.times() == times(SCHEDULE, 20, "karras", 1.0)
    assert found.times(steps=5, spacing="uniform") == [8, 16, 24, 32, 40]
    assert found.times(end_log_snr=0.0) == times(SCHEDULE, 20, "karras", 0.0) != found.times()
    assert (found.evaluations_per_sample, policy(weaker=None).evaluations_per_sample) == (40, 20)
    student = policy(weaker=None, kind=StudentPolicy)
    assert (student.times(), student.times(steps=4), student.evaluations_per_sample) == ([40], [10, 20, 30, 40], 1)
    short = Diffusion(lambda z, t: z, Schedule.cosine(7), 2, "x").double()
    try:
        assert SamplingPolicy(short, None, recipe()).times() == [1, 2, 3, 4, 5, 6, 7]
    except InputError as error:
        pytest.fail(str(error))


@catches("""run/sampling.py: steps of sampling are not shown to the caller
- "callback": callback}
+ "callback": None}""")
def test_the_solver_that_was_asked_for_shows_each_of_its_steps():
    seen = []
    x = policy().sampler(solver="ddim", guidance=1.0, steps=4, callback=seen.append)(3, seed=2)
    assert len(seen) == 4
    assert torch.equal(x, sampling.sample(chain(0.4), 3, solver="ddim", times=policy().times(4), seed=2))
    assert not torch.equal(x, policy().sampler(solver=None, guidance=1.0, steps=4)(3, seed=2))


@catches("""run/sampling.py: a model without steps draws any class
- streams, cond=cond, mean_output
+ streams, cond=None, mean_output""")
def test_a_model_without_steps_is_sampled_with_the_seed_class_and_output_that_were_asked_for(monkeypatch):
    seen = []
    monkeypatch.setattr(sampling, "ancestral_sample", lambda *given, **named: seen.append((*given, named)))
    draw = OnePass("model", SimpleNamespace(name="r"), mean_output=True).sampler(solver=None, steps=None)
    draw(3, first=4, seed=5, cond="classes")
    ((model, n, streams, named),) = seen
    assert (model, n, named) == ("model", 3, {"cond": "classes", "mean_output": True})
    wanted = example_streams(5, range(4, 7))
    assert [one.initial_seed() for one in streams] == [one.initial_seed() for one in wanted]
    with pytest.raises(InputError, match="solver and steps are for diffusion models; r samples in one pass"):
        OnePass("model", SimpleNamespace(name="r"), mean_output=True).sampler(solver=None, steps=3)


def test_what_a_solver_or_a_number_of_steps_is_not_for_is_told_or_refused():
    student = "a student is trained for --steps 1; 4 steps use noise levels that it was not trained at"
    assert [policy(kind=StudentPolicy).warning("renoise", steps) for steps in (None, 1, 4)] == [None, None, student]
    found = policy()
    assert [found.warning(solver, 4) for solver in (None, "ddim")] == [None, None]
    assert found.warning("renoise", None) == (
        "renoise is for distilled students: samples of other models vary less than their data; omit it"
    )
    assert (SamplingPolicy.solver, StudentPolicy.solver) == ("dpm++2m-sde", "renoise")
    one = OnePass(None, recipe(), False)
    assert one.warning("renoise", 4) is None
    assert (one.evaluations_per_sample, one.denoisers) == (1, [])
    with pytest.raises(InputError, match=r"steps, solver and spacing are for diffusion models; .* samples in one pass"):
        one.sampler(steps=None, solver="ddim", spacing=None)
    for asked, words in (
        (lambda: found.chain(guidance="2"), "guidance must be a number, got '2'"),
        (lambda: found.chain(autoguidance=[1]), "autoguidance must be a number"),
        (lambda: found.times(end_log_snr="1"), "end_log_snr must be a number"),
    ):
        with pytest.raises(InputError, match=words):
            asked()
