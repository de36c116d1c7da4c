"""Bound of a diffusion model from one network evaluation per example.

Example i is evaluated at one step t_i, and the cost of that step is divided by its probability. Together with the prior
term in closed form, this is an unbiased estimate of the ELBO (M5, KL form). Four things make it precise:

- the steps are stratified over the examples;
- the part of a step's cost that no network changes is summed over all steps exactly;
- steps are drawn roughly in proportion to the unpredictable part of their cost;
- a control variate removes the part of the cost that can be predicted without the network.
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
from kakusan.likelihood.control_variate.wiener import SEEN, Wiener
from kakusan.likelihood.evaluation import Estimate, stratified_vars
from kakusan.likelihood.step_groups import StepGroups
from kakusan.models.clusters import Classes
from kakusan.models.diffusion import Diffusion
from kakusan.models.mixture import Mixture, split
from kakusan.noise import randn, stream
from kakusan.parallel import by_rows
from kakusan.progress import progress
from kakusan.timesteps import StepLaw

ENOUGH_FOR_CONTROL = 1000  # examples; with 400 examples, 26 predictors and 5 folds, 95 % intervals covered 92.8 %
FEWEST = 10  # evaluations from which a variance is estimated
FOLDS = 10  # the control variate of each fold is fitted to the others
CHUNK = 250  # examples at a time
KNOWN_CHUNK = 1000  # examples at a time without a network
MEASURING = "measuring the bound"


@dataclass(frozen=True)
class Source:
    """A model, its data as a function from indices to x in model values, and the classes of the examples, if any.

    `given` holds the class of each example, and `log_prior` the nats that it adds; default: those of the model.
    """

    chain: Diffusion
    classes: Classes | None
    batch: GetBatch
    given: Tensor | None = None
    log_prior: Tensor | None = None

    def class_term(self, nats: Tensor) -> dict[str, Tensor]:
        """Nats of the classes as a named term of the bound; empty without such a term."""
        name, known = ("cluster", self.classes) if self.given is None else ("class", self.log_prior)
        return {} if known is None else {name: nats}

    def cond(self, rows: Tensor, x: Tensor) -> Tensor | None:
        """Class of each example, int64 (b,); None without classes."""
        if self.given is not None:
            return self.given[rows].to(x.device)
        return None if self.classes is None else self.classes.certain(x)

    def cost(self, x: Tensor, eps: Tensor, t: Tensor, rows: Tensor) -> Tensor:
        """Cost of step t of each example at the latent z_t made from x and eps, in nats (b,)."""
        q = self.chain.marginal(x, t)
        return self.chain.step_cost(x, q.mean + q.std * eps, t, self.cond(rows, x))

    def known(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Validate examples and return their prior KL and log p(k), in nats, float64 (b,) each."""
        x = self.batch(rows)
        self.chain.validate(x)
        k = self.cond(rows, x)
        log_share = torch.zeros(len(x), dtype=torch.float64)
        if self.given is not None:
            log_share = log_share if self.log_prior is None else self.log_prior[rows].double()
        elif k is not None and self.classes is not None:
            log_share = self.classes.log_prob(k).to(x.dtype).cpu().double()
        return self.chain.prior_kl(x).cpu().double(), log_share

    def all_known(self, num: int) -> tuple[Tensor, ...]:
        """Prior KL and log p(k) of all examples, computed in chunks."""
        parts = [self.known(rows) for rows in torch.arange(num).split(KNOWN_CHUNK)]
        return tuple(torch.cat(column) for column in zip(*parts))


@torch.no_grad()
def of_diffusion(
    model: Diffusion | Mixture,
    batch: GetBatch,
    num: int,
    seed: int = 0,
    law: StepLaw | None = None,
    control: bool = True,
    cond: Tensor | None = None,
    log_prior: Tensor | None = None,
) -> Estimate:
    """Estimate the bound of a diffusion model from one evaluation per example.

    The variance of the mean is estimated from neighbors in the order of the steps, so it includes the gain of
    stratification. The Monte Carlo part also contains prediction errors that all steps of an example share, so it is
    conservative, i.e. an overestimate. With fewer than 10 evaluations it is None: by chance it may be far too small.

    Args:
        model: A `Diffusion`, or a `Mixture` of them whose classes are determined by x.
        batch: The data, as a function from indices to x in model values.
        num: Number of examples.
        seed: Random seed.
        law: Timestep distribution; default: made from the data, or `default_law` without the control variate.
        control: Use the control variate.
        cond: Class of each example, int64 (num,): the bound is then on log p(x | cond).
        log_prior: Nats (num,) added to the bound if cond is given, e.g. log p(k) - log q(k | x).

    Raises:
        InputError: If there is no example, an example does not fit the model, or a step has probability 0 in `law`.
    """
    check_count(num)
    source = Source(*split(model), batch, cond, log_prior)
    chain = source.chain
    check_law(law, chain.depth)
    groups = StepGroups.of(chain)
    prior, log_share = source.all_known(num)
    predictors, size = None, groups.typical
    if control and num >= ENOUGH_FOR_CONTROL:
        predictors, size = _control(source, groups, num)
    generator = stream(seed, "evaluate")
    rows = torch.randperm(num, generator=generator)
    blocks = _evaluated(source, predictors, rows, law or groups.law(size), groups.free, generator)
    by_group, residual = _by_group(blocks, predictors, groups, num)
    order_of_steps = [block.rows[block.t.argsort(stable=True)] for block in blocks]
    terms = source.class_term(log_share)
    terms |= {"prior": -prior, "diffusion": -by_group[:, 1:].sum(1), "reconstruction": -by_group[:, 0]}
    columns = torch.stack([*terms.values(), log_share - prior - by_group.sum(1), residual], 1)
    *term_vars, var, var_monte_carlo = _vars(columns, order_of_steps)
    steps = torch.cat([block.t for block in blocks])
    return Estimate(
        terms=terms,
        vars=dict(zip(terms, term_vars)),
        var=var,
        var_monte_carlo=var_monte_carlo,
        evaluations=num,
        words="one evaluation per example at stratified steps"
        + (", with a fitted control variate" if predictors else ""),
        strata=order_of_steps,
        levels=list(zip(groups.names, groups.limits, (-by_group).unbind(1), _vars(by_group, order_of_steps))),
        evaluated=groups.of_step[steps - 1].bincount(minlength=groups.num).tolist(),
    )


def _vars(values: Tensor, blocks: list[Tensor]) -> list[float | None]:
    """`stratified_vars`, or None where too few values would give a far too small one by chance."""
    return stratified_vars(values, blocks) if len(values) >= FEWEST else [None] * values.shape[1]


def check_law(law: StepLaw | None, depth: int) -> None:
    """Raise an InputError unless the timestep distribution gives each of T steps a positive probability."""
    if law is not None and (law.probs.shape != (depth,) or not (law.probs > 0).all()):
        raise InputError(
            f"the timestep distribution needs a positive probability for each of the {depth} steps, got "
            f"{len(law.probs)}, the least {law.probs.min().item():g}; mix in StepLaw.uniform({depth})"
        )


def _by_group(
    blocks: list[Calls], predictors: Predictors | None, groups: StepGroups, num: int
) -> tuple[Tensor, Tensor]:
    """Estimate the cost of each example in each group of steps (N, groups); also return the residuals (N,).

    A residual is what remains of the one evaluated cost after the control variate.
    """
    by_group = torch.zeros(num, groups.num, dtype=torch.float64).index_add_(
        1, groups.of_step, groups.free.expand(num, -1)
    )
    left = torch.zeros(num, dtype=torch.float64)
    steps = torch.zeros(num, dtype=torch.int64)
    for block in blocks:
        residual = block.cost
        if predictors is not None:  # coefficients come from the evaluations of the other blocks
            coefficients = fit(_joined([peer for peer in blocks if peer is not block]), groups.of_step, groups.num)
            residual = residual - (block.u * coefficients[groups.of_step[block.t - 1]]).sum(1)
            by_group[block.rows] += predictors.sums(block.rows, coefficients)
        left[block.rows], steps[block.rows] = residual / block.prob, block.t
    by_group.index_put_((torch.arange(num), groups.of_step[steps - 1]), left, accumulate=True)
    return by_group, left


def _control(source: Source, groups: StepGroups, num: int) -> tuple[Predictors, Tensor]:
    """Predictors of the cost, and the typical size of the residual at each step."""
    wiener = Wiener(source.chain, source.batch(torch.arange(min(SEEN, num))).cpu())
    size = (groups.typical * torch.maximum(wiener.typical, 1e-6 * groups.typical)).sqrt()  # data may be all equal
    return Predictors(
        wiener, groups.typical, groups.slope, groups.of_step, groups.num, lambda rows: source.batch(rows).cpu(), num
    ), size


def _evaluated(
    source: Source,
    predictors: Predictors | None,
    rows: Tensor,
    law: StepLaw,
    free: Tensor,
    generator: torch.Generator,
) -> list[Calls]:
    """Evaluate each of the examples `rows` once, in blocks that are stratified separately."""
    blocks = []
    for mine in progress(rows.chunk(FOLDS if predictors else 1), MEASURING):
        t = law.draw(len(mine), generator)
        done, u = {}, []
        for number, part in enumerate(progress(torch.arange(len(mine)).split(CHUNK), MEASURING)):
            x = source.batch(mine[part])
            eps = randn(x.shape, generator, x.dtype, x.device)  # on every rank, so that all draw the same
            if distributed.owned_by_rank(number):
                steps = t[part].to(x.device)
                done[number] = {"cost": by_rows(source.cost, x, eps, steps, mine[part]).cpu().double()}
            u.append(
                predictors.at(mine[part], x.cpu(), t[part], eps.cpu()) if predictors else torch.zeros(len(part), 0)
            )
        cost = torch.cat([one["cost"] for one in distributed.all_gather(done)])
        blocks.append(Calls(mine, t, law.prob(t), torch.cat(u), cost - free[t - 1]))
    return blocks


def _joined(blocks: list[Calls]) -> Calls:
    columns = ("rows", "t", "prob", "u", "cost")
    return Calls(*(torch.cat([getattr(block, name) for block in blocks]) for name in columns))
