"""Of a diffusion model with one network call for each example.

Example i is asked about one step t_i, and its cost divided by the step's probability: with the prior term in closed
form this is unbiased for its ELBO (M5, KL form). Four things make it precise: the steps are stratified over the
examples; what no network changes of a step's cost is summed over all steps exactly; the steps are drawn in
proportion to what they roughly leave to chance, between the costs of a filter that knows nothing and of one that knows
the data's covariance; and a control variate (`control`) takes out what can be known of a cost without
the network.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from kakusan import distributed
from kakusan.checks import check_count
from kakusan.errors import InputError
from kakusan.likelihood.chains import GetBatch
from kakusan.likelihood.control_variate.control import Calls, Predictors, fit
from kakusan.likelihood.control_variate.wiener import SEEN, Wiener, step_weight
from kakusan.likelihood.evaluation import Estimate, stratified_spreads
from kakusan.models.diffusion import Diffusion
from kakusan.noise import randn, stream
from kakusan.timesteps import StepLaw

GROUPS = 24  # of steps alike, by log SNR; the first step, whose cost is of another kind, is one of its own
ENOUGH_FOR_CONTROL = 1000  # examples; with 400, 26 predictors and 5 folds 95 % intervals held 92.8 %
EVEN_SHARE = 0.05  # of the step law to all groups alike, against a guess that is wrong for this model
FOLDS = 10  # of which each is predicted from the others
CHUNK = 250  # examples at a time


@torch.no_grad()
def of_diffusion(
    model: Diffusion, batch: GetBatch, num: int, seed: int = 0, law: StepLaw | None = None, control: bool = True
) -> Estimate:
    """The bound of every example, from one call each.

    The variance of the mean is taken from neighbours in the order of the steps, so that what stratification saves is
    seen. That of the Monte-Carlo part includes what an example's cost differs from its prediction at all steps
    alike, which is no noise: it is somewhat too large rather than too small.

    Args:
        model: The model.
        batch: The data: indices -> x in the model's scale.
        num: How many examples there are.
        seed: Of the noise.
        law: Of the steps; made from the data unless given, or without control `default_law`.
        control: Use the control variate.

    Raises:
        InputError: If there is no example, one is not data of the model, or the law leaves steps out.
    """
    check_count(num)
    if law is not None and (law.probs.shape != (model.depth,) or not (law.probs > 0).all()):
        raise InputError(
            f"the step law needs a positive probability for each of the {model.depth} steps, got {len(law.probs)}, the "
            f"least {law.probs.min().item():g}; mix in StepLaw.uniform({model.depth})"
        )
    groups = StepGroups.of(model)
    everything = torch.arange(num)
    known = [_known(model, batch(part)) for part in everything.split(1000)]
    prior, log_share = (torch.cat(parts) for parts in zip(*known))
    predictors, size = None, groups.typical
    if control and num >= ENOUGH_FOR_CONTROL:
        wiener = Wiener(model, batch(everything[:SEEN]).cpu())
        size = (groups.typical * torch.maximum(wiener.typical, 1e-6 * groups.typical)).sqrt()  # data may be all alike
        predictors = Predictors(
            wiener, groups.typical, groups.slope, groups.of_step, groups.num, lambda rows: batch(rows).cpu(), num
        )
    generator = stream(seed, "evaluate")
    rows = torch.randperm(num, generator=generator)
    blocks = _asked(model, batch, predictors, rows, law or groups.law(size), groups.free, generator)
    by_group = torch.zeros(num, groups.num, dtype=torch.float64).index_add_(
        1, groups.of_step, groups.free.expand(num, -1)
    )
    left = torch.zeros(num, dtype=torch.float64)
    asked = torch.zeros(num, dtype=torch.int64)
    for block in blocks:
        residual = block.cost
        if predictors is not None:  # learned from the calls of the other blocks
            coefficients = fit(_joined([peer for peer in blocks if peer is not block]), groups.of_step, groups.num)
            residual = residual - (block.u * coefficients[groups.of_step[block.t - 1]]).sum(1)
            by_group[block.rows] += predictors.sums(block.rows, coefficients)
        left[block.rows], asked[block.rows] = residual / block.prob, block.t
    by_group.index_put_((everything, groups.of_step[asked - 1]), left, accumulate=True)
    order_of_steps = [block.rows[block.t.argsort(stable=True)] for block in blocks]
    terms = {} if model.clusters is None else {"cluster": log_share}
    terms |= {"prior": -prior, "diffusion": -by_group[:, 1:].sum(1), "reconstruction": -by_group[:, 0]}
    columns = torch.stack([*terms.values(), log_share - prior - by_group.sum(1), left], 1)
    *term_spreads, spread, spread_monte_carlo = stratified_spreads(columns, order_of_steps)
    return Estimate(
        terms=terms,
        spreads=dict(zip(terms, term_spreads)),
        spread=spread,
        spread_monte_carlo=spread_monte_carlo,
        calls=num,
        words="one call an example at stratified steps" + (", with a fitted control variate" if predictors else ""),
        strata=order_of_steps,
        levels=[
            (name, limits, values, error)
            for name, limits, values, error in zip(
                groups.names, groups.limits, (-by_group).unbind(1), stratified_spreads(by_group, order_of_steps)
            )
        ],
    )


def default_law(model: Diffusion) -> StepLaw:
    """Without data: in proportion to what a step would cost a filter of unit variance, some calls for all levels alike."""
    groups = StepGroups.of(model)
    return groups.law(groups.typical)


@dataclass(frozen=True)
class StepGroups:
    """Steps alike in log SNR, and a rough size of the cost of each."""

    of_step: Tensor  # (T,) group of step t at t - 1
    num: int
    names: list[str]
    limits: list[tuple[float, float]]  # log SNR, high to low: from the data towards noise
    typical: Tensor  # (T,) float64 > 0
    free: Tensor  # (T,) float64, see `free_cost`
    slope: Tensor  # (T,) place of each step in its group by log SNR, within [-1, 1]

    @classmethod
    def of(cls, model: Diffusion) -> StepGroups:
        """Of equal width in log SNR, the first step apart; every step its own if they are few."""
        depth, log_snr = model.depth, model.schedule.log_snr
        if depth <= GROUPS:
            of_step = torch.arange(depth)
        else:
            edges = torch.linspace(log_snr[1].item(), log_snr[-1].item(), GROUPS, dtype=torch.float64)
            of_step = torch.bucketize(-log_snr[2:], -edges[1:-1])
            of_step = torch.cat([torch.zeros(1, dtype=torch.int64), 1 + of_step.unique(return_inverse=True)[1]])
        num = int(of_step.max()) + 1
        limits, names, slope = [], [], torch.zeros(depth, dtype=torch.float64)
        for k in range(num):
            steps = (of_step == k).nonzero()[:, 0] + 1
            first, last = int(steps[0]), int(steps[-1])
            limits.append((log_snr[first - 1].item(), log_snr[last].item()))
            centre, half = (log_snr[first] + log_snr[last]) / 2, (log_snr[first] - log_snr[last]) / 2
            slope[first - 1 : last] = (log_snr[first : last + 1] - centre) / half.clamp(min=1e-12)
            names.append(f"t = {first}" if first == last else f"t = {first}..{last}")
        weight = step_weight(model)[1:]
        spread = 1 / (1 + model.schedule.snr[1:])  # error of a filter of unit variance
        typical = weight * spread
        return cls(
            of_step, num, names, limits, typical.clamp(min=1e-6 * typical.mean().item()), free_cost(model), slope
        )

    def law(self, cost: Tensor) -> StepLaw:
        """In proportion to a guess of what each step costs (T,), with some calls for all noise levels alike."""
        size = torch.zeros(self.num, dtype=torch.float64).index_add_(0, self.of_step, torch.ones_like(self.typical))
        even = 1 / (self.num * size[self.of_step])
        return StepLaw((1 - EVEN_SHARE) * cost / cost.sum() + EVEN_SHARE * even)


def free_cost(model: Diffusion) -> Tensor:
    """What step t costs a perfect guess of the data, for its variance alone: (T,), nats (M5, K5).

    A learned variance is not known without the network: then 0, and so at t = 1, where the cost is of another kind.
    """
    ratio = model.schedule.beta_tilde[1:] * (-model.known_log_var[1:]).exp()
    free = 0.5 * model.num_dims * (ratio - 1 - ratio.log())
    free[0] = 0.0
    return free


def _known(model: Diffusion, x: Tensor) -> tuple[Tensor, Tensor]:
    """KL of the prior, and log p(k), nats (b,): of data that are looked at here, before any call is spent on them."""
    model.check(x)
    log_share = torch.as_tensor(model.about(x)[1], dtype=torch.float64).cpu()
    return model.prior_kl(x).double().cpu(), log_share.expand(len(x))


def _asked(
    model: Diffusion,
    batch: GetBatch,
    predictors: Predictors | None,
    rows: Tensor,
    law: StepLaw,
    free: Tensor,
    generator: torch.Generator,
) -> list[Calls]:
    """One call for each of the examples `rows`, in blocks that are stratified each by itself."""
    blocks = []
    for mine in rows.chunk(FOLDS if predictors else 1):
        t = law.draw(len(mine), generator)
        done, u = {}, []
        for number, part in enumerate(torch.arange(len(mine)).split(CHUNK)):
            x = batch(mine[part])
            eps = randn(x.shape, generator, x.dtype, x.device)  # on every process, so that all draw the same
            if distributed.owned_by_rank(number):
                steps = t[part].to(x.device)
                q = model.marginal(x, steps)
                done[number] = {"cost": model.step_cost(x, q.mean + q.std * eps, steps).double().cpu()}
            u.append(
                predictors.at(mine[part], x.cpu(), t[part], eps.cpu()) if predictors else torch.zeros(len(part), 0)
            )
        cost = [one["cost"] for one in distributed.all_gather(done)]
        blocks.append(Calls(mine, t, law.prob(t), torch.cat(u), torch.cat(cost) - free[t - 1]))
    return blocks


def _joined(blocks: list[Calls]) -> Calls:
    columns = ("rows", "t", "prob", "u", "cost")
    return Calls(*(torch.cat([getattr(block, name) for block in blocks]) for name in columns))
