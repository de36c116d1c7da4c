"""The numbers of one result follow from each other: bits, errors, counts and terms of evaluations, scores and comparisons."""

import dataclasses
import itertools
import math

import pytest
import torch
from torch.testing import assert_close

import kakusan as kk
from harness.faults import catches
from harness.support import F64, f64, seeded
from kakusan.likelihood import information, scores
from kakusan.likelihood.chains import in_closed_form, of_terms
from kakusan.likelihood.classes import Assigned, with_classes
from kakusan.likelihood.compare import compare
from kakusan.likelihood.diffusion import of_diffusion
from kakusan.likelihood.evaluation import APPROXIMATE, Estimate, Part, summarize
from kakusan.likelihood.information import of_latents
from kakusan.likelihood.ranking import rank_examples
from kakusan.likelihood.scores import Scores, per_observed, score_examples
from kakusan.likelihood.step_groups import StepGroups
from kakusan.likelihood.three import three_estimates
from kakusan.noise import stream
from kakusan.timesteps import StepLaw

BITS = 3 * math.log(2)  # nats of one bit per dimension, for three dimensions
ORDER = [torch.tensor([1, 0])]


def estimate(**changes):
    """Two examples with the bounds -3 and -5 nats."""
    found = Estimate(
        terms={"a": f64([-1.0, -3.0]), "b": f64([-2.0, -2.0])},
        vars={"a": 0.25, "b": 0.04},
        var=0.36,
        var_monte_carlo=0.11,
        evaluations=7,
        words="by hand",
        strata=ORDER,
        levels=[
            ("t = 1", (math.inf, 2.0), f64([-1.0, -2.0]), 0.01),
            ("t = 2..3", (2.0, -1.0), f64([-3.0, -4.0]), 0.09),
        ],
        evaluated=[2, 0],
    )
    return dataclasses.replace(found, **changes)


@catches("""likelihood/evaluation.py: the error from the choice of examples includes the noise
- max(whole - noise, 0.0)
+ whole""")
@catches("""likelihood/evaluation.py: bits of an example leave out the width of the grid
- bits_per_dim(mean, 1)
+ bits_per_dim(mean - offset_nats, 1)""")
@catches("""likelihood/evaluation.py: a result is shown with the error of its noise alone
- {stderr_words(self.standard_error)} bits/dim
+ {stderr_words(self.standard_error_monte_carlo)} bits/dim""")
@catches("""likelihood/evaluation.py: a range whose evaluations were not counted has none
- estimate.evaluated or [1] *
+ estimate.evaluated or [0] *""")
@catches("""likelihood/evaluation.py: a range without evaluations states an error
- error(variance) if count else None
+ error(variance)""")
def test_every_number_of_a_summary_follows_from_the_estimate():
    found = summarize(estimate(), 3, offset_nats=-6.0)
    expected = {
        "bits_per_dim": 10 / BITS,
        "standard_error": 0.6 / BITS,
        "standard_error_monte_carlo": math.sqrt(0.11) / BITS,
        "standard_error_images": 0.5 / BITS,
        "nats": 10.0,
        "nats_standard_error": 0.6,
        "bits_per_example": 10 / math.log(2),
    }
    assert {name: getattr(found, name) for name in expected} == pytest.approx(expected, rel=1e-12)
    assert found.terms == pytest.approx({"a": 2 / BITS, "b": 2 / BITS, "grid": 6 / BITS}, rel=1e-12)
    assert found.term_errors == pytest.approx({"a": 0.5 / BITS, "b": 0.2 / BITS, "grid": 0.0}, rel=1e-12)
    near, far = found.levels
    assert near == Part("t = 1", pytest.approx(1.5 / BITS), pytest.approx(0.1 / BITS), None, True)
    assert far == Part("t = 2..3", pytest.approx(3.5 / BITS), None, (2.0, -1.0), False)
    assert (found.num_images, found.num_dims, found.network_evaluations) == (2, 3, 7)
    approximate = "approximate: the probability of a gray level is taken as density times width"
    assert found.estimator == f"by hand; {approximate}" == f"by hand; {APPROXIMATE}"
    assert found.strata is ORDER
    assert found.per_example.tolist() == [-9.0, -11.0]
    assert found.record()["elbo_nats"] == -10.0
    assert str(found) == f"{10 / BITS:.4f} ± {0.6 / BITS:.4f} bits/dim"
    assert summarize(estimate(), 3).estimator == "by hand"
    assert summarize(estimate(var_monte_carlo=0.4), 3).standard_error_images == 0.0
    uncounted = summarize(estimate(evaluated=None), 3).levels
    assert [(part.evaluated, part.standard_error is None) for part in uncounted] == [(True, False)] * 2


def of_values(values, strata=None):
    return summarize(Estimate({"bound": values}, {"bound": None}, None, None, 0, "", strata), 3)


@catches("""likelihood/compare.py: the unpaired error is that of the first model alone
- for result in (first, second)]
+ for result in (first, first)]""")
@catches("""likelihood/compare.py: the strata of the first model are taken for those of both
- strata = first.strata if _alike(first.strata, second.strata) else None
+ strata = first.strata""")
def test_every_number_of_a_comparison_follows_from_the_examples():
    first, second = f64([1.0, 2.0, 4.0, 3.0]), f64([0.0, 2.5, 5.0, -1.0])
    found, apart = compare(of_values(first), of_values(second)), first - second
    assert found.difference == pytest.approx(-apart.mean().item() / BITS, rel=1e-12)
    assert found.nats == pytest.approx(-apart.mean().item(), rel=1e-12)
    assert found.standard_error == pytest.approx(math.sqrt(apart.var().item() / 4) / BITS, rel=1e-12)
    both = first.var().item() / 4 + second.var().item() / 4
    assert found.unpaired_error == pytest.approx(math.sqrt(both) / BITS, rel=1e-12)
    assert found.correlation == pytest.approx(torch.corrcoef(torch.stack([first, second]))[0, 1].item(), rel=1e-12)
    assert found.num_images == 4
    assert compare(of_values(first), of_values(0 * first)).correlation == 1.0  # unknown: one of them does not vary
    order, other = [torch.tensor([0, 1, 3, 2])], [torch.tensor([2, 1, 3, 0])]
    shared, different = (compare(of_values(first, order), of_values(second, one)) for one in (order, other))
    assert different.standard_error == found.standard_error  # neighbors of one are no neighbors of the other
    neighbors = (apart[order[0]] - apart[order[0].roll(1)]).square().mean().item() / 2
    assert shared.standard_error == pytest.approx(math.sqrt(neighbors / 4) / BITS, rel=1e-12)


DRAWS = f64([[1.0, 2.0, 4.0], [3.0, 2.0, 5.0]])  # two draws of three examples
COND = torch.tensor([4, 5, 6])


@catches("""likelihood/chains.py: evaluations of a VAE are counted for one draw
- evaluations=evaluations * draws * num,
+ evaluations=evaluations * num,""")
@catches("""likelihood/chains.py: the error of a term is that of its first draw
- var_of_mean(values.mean(0)) for name
+ var_of_mean(values[0]) for name""")
@catches("""likelihood/chains.py: every chunk of an evaluation from terms has the same noise
- stream(seed, "evaluate", int(indices[0]), k)
+ stream(seed, "evaluate", k)""")
def test_every_number_of_an_estimate_from_terms_follows_from_the_draws():
    heard, noise = [], []

    def terms(x, generator, cond):
        rows, draw = x[:, 0].long(), len([one for one in heard if one[0] == x[0, 0]])
        heard.append((x[0, 0], cond.tolist()))
        noise.append(torch.rand((), generator=generator).item())
        return {"a": DRAWS[draw][rows], "b": -2.0 * DRAWS[draw][rows]}

    found = of_terms(terms, lambda rows: rows[:, None].double(), 3, 2, 5, "words", size=2, cond=COND)
    assert [cond for _, cond in heard] == [[4, 5], [4, 5], [6], [6]]
    assert len(set(noise)) == 4
    mean = DRAWS.mean(0)
    assert_close(found.terms, {"a": mean, "b": -2 * mean}, rtol=1e-12, atol=0)
    assert found.vars == pytest.approx({"a": mean.var().item() / 3, "b": 4 * mean.var().item() / 3}, rel=1e-12)
    assert found.var == pytest.approx(mean.var().item() / 3, rel=1e-12)
    assert found.var_monte_carlo == pytest.approx(DRAWS.var(0).mean().item() / 6, rel=1e-12)
    assert (found.evaluations, found.words) == (30, "words")


@catches("""likelihood/chains.py: the variance of a sum in closed form is the sum of the variances
- var_of_mean(add(terms.values())), 0.0, 0, words)
+ sum(variances.values()), 0.0, 0, words)""")
def test_every_number_of_an_estimate_in_closed_form_follows_from_the_terms():
    model, counts = kk.DirichletMultinomial(f64([1.0, 2.0])), f64([[1, 2], [3, 0], [9, 1]])
    found, terms, evidence = in_closed_form(model, counts), model.terms(counts), model.log_evidence(counts)
    assert_close(found.terms, terms, rtol=0, atol=0)
    assert found.vars == pytest.approx({name: value.var().item() / 3 for name, value in terms.items()}, rel=1e-12)
    assert found.var == pytest.approx(evidence.var().item() / 3, rel=1e-9)
    assert (found.var_monte_carlo, found.evaluations) == (0.0, 0)
    assert found.words == "in closed form; the bound is the log-likelihood itself"


@catches("""likelihood/classes.py: evaluations spent on the classes are not counted
- evaluations=estimate.evaluations + known.evaluations,
+ evaluations=estimate.evaluations,""")
@catches("""likelihood/classes.py: the error of a bound leaves out the classes
- var=var_of_mean(add(terms.values())),
+ var=estimate.var,""")
def test_a_class_adds_its_nats_its_variance_and_its_evaluations():
    found = with_classes(estimate(), Assigned(torch.tensor([0, 1]), f64([-1.0, 0.5]), 11))
    assert list(found.terms) == ["class", "a", "b"]
    assert found.evaluations == 18
    assert found.vars == {"class": pytest.approx(0.5625), "a": 0.25, "b": 0.04}  # 1.5^2 / 2 / 2
    assert found.var == pytest.approx(f64([-4.0, -4.5]).var().item() / 2, rel=1e-12)


def chain(depth=30):
    return kk.Diffusion(lambda z, t: 0.5 * z, kk.Schedule.cosine(depth), 4, "x").double()


def examples(num=60):
    return torch.randn(num, 4, generator=seeded(0), dtype=F64)


@catches("""likelihood/step_groups.py: a range of noise levels begins at its own first step
- limits.append((log_snr[first - 1].item(),
+ limits.append((log_snr[first].item(),""")
@pytest.mark.parametrize("depth", [1, 5, 24, 25, 60])
def test_ranges_of_noise_levels_are_named_by_their_steps_and_join_at_their_ends(depth):
    model = chain(depth)
    groups, log_snr = StepGroups.of(model), model.schedule.log_snr
    begins = [0, *(int((groups.of_step <= k).sum()) for k in range(groups.num))]
    for k, (begin, end) in enumerate(itertools.pairwise(begins)):
        assert groups.limits[k] == (log_snr[begin].item(), log_snr[end].item())
        assert groups.names[k] == (f"t = {end}" if end == begin + 1 else f"t = {begin + 1}..{end}")


@catches("""likelihood/diffusion.py: evaluations are counted in the range of the next step
- groups.of_step[steps - 1].bincount(
+ groups.of_step[steps.clamp(max=chain.depth - 1)].bincount(""")
def test_evaluations_are_counted_in_the_range_of_their_step():
    x, wanted = examples(), torch.full((5,), 1e-9, dtype=F64)
    wanted[2] = 1
    found = of_diffusion(chain(5), lambda rows: x[rows], 60, law=StepLaw(wanted / wanted.sum()))
    assert found.evaluated == [0, 0, 60, 0, 0]
    assert found.evaluations == 60


@catches("""likelihood/ranking.py: rates of an example that was evaluated again stay the old ones
- zip(columns, (again.nats, again.stderr, again.bits_per_dim, again.bits_per_dim_stderr))
+ zip(columns, (again.nats, again.stderr))""")
@catches("""likelihood/ranking.py: an example that was evaluated again has no offset
-                 seed,
-                 offset_nats,
-             )
+                 seed,
+             )""")
def test_nats_and_rates_of_a_ranking_agree_and_all_have_the_offset():
    x = examples()
    found, moved = (
        rank_examples(chain(), lambda rows: x[rows], 60, 4, 5, 4, None, 0, offset) for offset in (0.0, 100.0)
    )
    assert found.draws.max() > found.draws.min()
    per_bit = 4 * math.log(2)
    assert_close(found.scores.bits_per_dim, -found.scores.nats / per_bit, rtol=1e-12, atol=0)
    assert_close(found.scores.bits_per_dim_stderr, found.scores.stderr / per_bit, rtol=1e-12, atol=0)
    assert_close(moved.scores.nats, found.scores.nats + 100, rtol=1e-9, atol=0)
    assert_close(moved.scores.bits_per_dim, -moved.scores.nats / per_bit, rtol=1e-12, atol=0)
    assert torch.equal(moved.rows, found.rows)


@catches("""likelihood/ranking.py: a ranking ignores the wanted error
- num_dims, evaluations, error, seed, offset_nats)
+ num_dims, evaluations, None, seed, offset_nats)""")
@catches("""likelihood/scores.py: the wanted error is reached on average only
- stderr.max() <= error
+ stderr.mean() <= error""")
def test_every_score_has_the_wanted_error():
    x = examples(5) * f64([0.1, 0.5, 1.0, 3.0, 9.0])[:, None]
    coarse = score_examples(chain(), lambda rows: x[rows], 5, 4, 8)
    error = (coarse.stderr.mean().item() + coarse.stderr.max().item()) / 2
    found = score_examples(chain(), lambda rows: x[rows], 5, 4, 8, error)
    assert coarse.stderr.mean() < error < coarse.stderr.max()
    assert found.stderr.max() <= error
    assert found.evaluations > coarse.evaluations
    ranked = rank_examples(chain(), lambda rows: x[rows], 5, 4, 2, 8, error)
    assert ranked.draws.min() == found.evaluations  # of all examples; close ones have more


@catches("""likelihood/scores.py: draws are doubled once more than allowed
- or evaluations >= MOST_EVALUATIONS
+ or evaluations > MOST_EVALUATIONS""")
def test_an_error_that_no_number_of_draws_reaches_ends_at_the_largest(monkeypatch):
    monkeypatch.setattr(scores, "MOST_EVALUATIONS", 32)
    x = examples(2)
    found = score_examples(chain(), lambda rows: x[rows], 2, 4, 8, 1e-12)
    assert (found.evaluations, bool((found.stderr > 1e-12).all())) == (32, True)


@catches("""likelihood/three.py: the three estimators lack the share of the cluster
- + classes.log_prob(k).to(x.dtype)
+""")
@catches("""likelihood/three.py: the three estimators lack the offset
- draws.mean().item() + offset_nats,
+ draws.mean().item(),""")
def test_the_three_estimators_are_of_the_first_examples_and_have_the_offset():
    x = examples(10)
    found, moved = (three_estimates(chain(), lambda rows: x[rows], 10, 0, 3, 2, offset) for offset in (0.0, -7.0))
    for name, one in found.items():
        assert moved[name]["bits_per_dim"] - one["bits_per_dim"] == pytest.approx(7 / (4 * math.log(2)), rel=1e-9)
        assert moved[name]["standard_error"] == one["standard_error"]
        assert one["network_evaluations"] == 3 * 2 * 30
    assert found == three_estimates(chain(), lambda rows: x[rows], 3, 0, 3, 2)
    by_class = kk.Diffusion(lambda z, t, k: 0.5 * z, kk.Schedule.cosine(30), 4, "x").double()
    model = kk.Mixture(by_class, kk.Classes([0.25, 0.75], assign=lambda x: torch.zeros(len(x), dtype=torch.int64)))
    for name, one in three_estimates(model, lambda rows: x[rows], 10, 0, 3, 2).items():
        assert one["bits_per_dim"] - found[name]["bits_per_dim"] == pytest.approx(2 / 4, rel=1e-9)  # -log2 p(k)


@catches("""likelihood/information.py: bits of latents are divided by examples that were not used
- nats = total / num
+ nats = total / max(num, 12)""")
def test_bits_of_latents_are_averaged_over_the_examples_that_were_used(monkeypatch):
    vae = kk.VAE(lambda x: (x, torch.zeros_like(x)), lambda z: z, 4)
    x = examples(12)
    monkeypatch.setattr(information, "LARGEST", 5)
    (found,) = of_latents(vae, lambda rows: x[rows], 12)
    assert found.bits == pytest.approx((x[:5].square().mean(0) / 2 / math.log(2)).tolist(), rel=1e-9)


@catches("""likelihood/information.py: the latent of the second level is decoded by the first decoder
- chain.decode(drawn[level + 1], level + 2)
+ chain.decode(drawn[level + 1], level + 1)""")
@catches("""likelihood/information.py: all levels but the first are decoded by the second decoder
- chain.decode(drawn[level + 1], level + 2)
+ chain.decode(drawn[level + 1], 2)""")
@catches("""likelihood/information.py: every chunk of examples has the same latents
- stream(seed, "information", int(rows[0]))
+ stream(seed, "information")""")
def test_bits_of_each_level_are_the_mean_log_ratio_of_its_two_distributions(monkeypatch):
    monkeypatch.setattr(information, "CHUNK", 2)
    up = [lambda z, g=g: (g * z, torch.full_like(z, -g)) for g in (0.5, 0.9, 1.3)]
    down = [lambda z, g=g: (g * z, torch.full_like(z, g)) for g in (0.2, 0.4, 0.8)]
    model, x = kk.HierarchicalVAE(up, down, [4, 4, 4]).double(), examples(5)
    ratios = []
    for rows in torch.arange(5).split(2):
        q, z, generator = [], [x[rows]], stream(3, "information", int(rows[0]))
        for g in (0.5, 0.9, 1.3):
            q.append(torch.distributions.Normal(g * z[-1], math.exp(-g / 2)))
            z.append(q[-1].mean + q[-1].stddev * torch.randn(z[-1].shape, generator=generator, dtype=F64))
        p = [torch.distributions.Normal(g * above, math.exp(g / 2)) for g, above in ((0.4, z[2]), (0.8, z[3]))]
        kl = torch.distributions.kl_divergence(q[2], torch.distributions.Normal(f64(0.0), f64(1.0)))
        ratios.append(torch.stack([*(q[k].log_prob(z[k + 1]) - p[k].log_prob(z[k + 1]) for k in (0, 1)), kl]))
    expected = torch.cat(ratios, 1).mean(1) / math.log(2)
    found = of_latents(model, lambda rows: x[rows], 5, seed=3)
    assert_close(f64([level.bits for level in found]), expected, rtol=1e-9, atol=1e-12)


@catches("""likelihood/diffusion.py: the control variate cannot be turned off
- if control and num >= ENOUGH_FOR_CONTROL:
+ if num >= ENOUGH_FOR_CONTROL:""")
@catches("""likelihood/diffusion.py: steps are stratified over a tenth of the examples without need
- rows.chunk(FOLDS if predictors else 1)
+ rows.chunk(FOLDS)""")
@catches("""likelihood/diffusion.py: a control variate is fitted to few examples
- ENOUGH_FOR_CONTROL = 1000
+ ENOUGH_FOR_CONTROL = 100""")
def test_the_method_names_the_control_variate_where_it_is_used():
    x = examples(1000)
    for num, control, used in ((999, True, False), (1000, True, True), (1000, False, False)):
        found = of_diffusion(chain(4), lambda rows: x[rows], num, control=control)
        method = "one evaluation per example at stratified steps"
        assert found.words == method + (", with a fitted control variate" if used else "")
        assert found.strata is not None
        assert len(found.strata) == (10 if used else 1)  # steps are stratified over all examples, or over each fold


@catches("""likelihood/scores.py: a row without values has the rate of one value
- per_bit = torch.where(observed > 0, observed, math.nan) * math.log(2)
+ per_bit = observed.clamp(min=1) * math.log(2)""")
def test_rates_of_incomplete_rows_are_per_observed_value():
    whole = Scores(f64([-4.0, -6.0, 0.0]), f64([0.2, 0.4, 0.1]), f64([9.0] * 3), f64([9.0] * 3), 7)
    stored = f64([[1.0, 2.0], [math.nan, 3.0], [math.nan, math.nan]])
    found = per_observed(whole, stored)
    assert_close(found.bits_per_dim[:2] * math.log(2), f64([2.0, 6.0]))
    assert_close(found.bits_per_dim_stderr[:2] * math.log(2), f64([0.1, 0.4]))
    assert found.bits_per_dim[2].isnan()
    assert found.bits_per_dim_stderr[2].isnan()
    assert found.nats is whole.nats
    assert per_observed(whole, stored[:1].expand(3, 2)) is whole
    assert per_observed(whole, torch.zeros(3, 2, dtype=torch.int64)) is whole
