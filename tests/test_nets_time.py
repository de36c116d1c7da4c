"""A network is told the timestep by a table or by sinusoids: sizes, and the bound that each reaches."""

import pytest
import torch
from torch import Tensor, nn

from harness.faults import catches
from harness.support import F64, SMALL_BETAS, f64, gauss_hermite, mean_of, oracle
from kakusan.errors import InputError
from kakusan.models.diffusion import Diffusion
from kakusan.nets import NETWORKS
from kakusan.nets.time import SinusoidalTime, TableTime
from kakusan.nets.unet import UNet
from kakusan.run.build import count_parameters
from kakusan.run.families.diffusion import DiffusionConfig
from kakusan.schedule import Schedule

SMALL = Schedule.from_betas(SMALL_BETAS)


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """Small networks train faster on one thread, many times so where others use the cores."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.proves("S38", "S39")
@catches("""models/diffusion.py: the network receives the step before
- t = torch.full((len(z_t),), t, device=z_t.device)
+ t = torch.full((len(z_t),), t - 1, device=z_t.device)""")
@catches("""models/diffusion.py: unit variance is that of the noise
- return torch.zeros_like(self.schedule.beta)
+ return self.schedule.log_beta""")
def test_the_reverse_step_is_the_networks_output_at_that_step_with_unit_variance():
    received = []

    def network(z, t):
        received.append(t.tolist())
        return z * t[:, None] + t[:, None]

    model, z = Diffusion(network, SMALL, 2, "mean", "unit").double(), torch.randn(3, 2, dtype=F64)
    for t in range(1, 6):
        for law in (model.reverse(z, t), model.decode(z, t)):
            assert torch.equal(law.mean, z * t + t)
            assert (law.std == 1).all()
        assert received[-2:] == [[t] * 3] * 2
    mixed = torch.tensor([4, 1, 5])
    assert torch.equal(model.reverse(z, mixed).mean, z * mixed[:, None] + mixed[:, None])


@pytest.mark.proves("S40", "M12")
@catches("""nets/time.py: a table is never chosen [unet]
- if kind == "sinusoidal" else TableTime
+ if kind else TableTime""")
@catches("""nets/time.py: a table answers for the step before [unet]
- return self.table(t)
+ return self.table(t - 1)""")
@pytest.mark.parametrize("name", NETWORKS)
def test_with_a_table_a_step_has_a_row_of_its_own_and_with_sinusoids_none(name):
    small = {"width": 16, "inner_width": 16, "blocks": 1, "patch": 2}
    nets = {}
    for time in ("sinusoidal", "table"):
        torch.manual_seed(0)
        config = DiffusionConfig(depth=9, network=name, time=time, **small)
        nets[time] = NETWORKS[name].from_config(config, (1, 4, 4)).double()
        for p in nets[time].parameters():
            nn.init.normal_(p, std=0.3)
    rows = {
        kind: [value for key, value in net.named_parameters() if key == "time.table.weight"]
        for kind, net in nets.items()
    }
    assert not rows["sinusoidal"]
    assert [len(one) for one in rows["table"]] == [10]
    z, t = torch.randn(1, 1, 4, 4, dtype=F64).expand(9, -1, -1, -1), torch.arange(1, 10)
    with torch.no_grad():
        before = nets["table"](z, t)
        rows["table"][0][5] += 1
        changed = (nets["table"](z, t) - before).abs().amax((1, 2, 3)) > 1e-6
    assert changed.tolist() == (t == 5).tolist()


@pytest.mark.proves("S38", "M12")
@pytest.mark.parametrize(("time", "more"), [("sinusoidal", 0), ("table", 990 * 64)])
def test_one_network_serves_all_steps_and_only_a_table_grows_with_them(time, more):
    sizes = [
        count_parameters(UNet(1, (8, 8), num_steps=depth, width=8, inner_width=16, time=time)) for depth in (10, 1000)
    ]
    assert (sizes[1] - sizes[0]) % 990 == 0
    assert (sizes[1] > sizes[0]) == (more > 0)


class ToldTheTime(nn.Module):
    """An affine map of z whose six numbers are linear in what an embedding says of t."""

    def __init__(self, time: nn.Module, width: int):
        super().__init__()
        self.time, self.out = time, nn.Linear(width, 6)

    def forward(self, z: Tensor, t: Tensor) -> Tensor:
        numbers = self.out(self.time(t))
        return torch.einsum("bij,bj->bi", numbers[:, :4].view(-1, 2, 2), z) + numbers[:, 4:]


class Deaf(nn.Module):
    """Says the same of every t."""

    def forward(self, t: Tensor) -> Tensor:
        return torch.ones(len(t), 8, dtype=F64)


def best_mean_bound(time: nn.Module, variance: str) -> float:
    """ELBO averaged over the data after full-batch training; every average is an exact quadrature (O16)."""
    setting = oracle("diffusion_linear_T5_D2")["setting"]["inputs"]
    torch.manual_seed(0)
    model = Diffusion(ToldTheTime(time, 8), SMALL, 2, "mean", variance).double()
    eps, weights = gauss_hermite(4)  # the data and the noise
    x = f64(setting["data_mean"]) + eps[:, :2] @ torch.linalg.cholesky(f64(setting["data_cov"])).T
    t = torch.arange(1, 6).repeat_interleave(len(eps))
    x, noise = x.repeat(5, 1), eps[:, 2:].repeat(5, 1)
    q = model.marginal(x, t)
    z_t = q.mean + q.std * noise
    prior = mean_of(model.prior_kl(x[: len(eps)]), weights)
    optimiser = torch.optim.LBFGS(
        model.parameters(), max_iter=150, tolerance_grad=1e-8, tolerance_change=1e-12, line_search_fn="strong_wolfe"
    )

    def closure():
        optimiser.zero_grad()
        cost = (weights.repeat(5) * model.step_cost(x, z_t, t)).sum()
        cost.backward()
        return cost

    optimiser.step(closure)
    return -(closure().item() + prior)


@pytest.mark.proves("S40", "M12", "O16", "O24")
@pytest.mark.parametrize(("variance", "key"), [("unit", "optimal_unit_seed"), ("beta", "optimal_beta")])
@pytest.mark.parametrize(
    "time", [lambda: TableTime(8, num_steps=5), lambda: SinusoidalTime(8)], ids=["table", "sinusoidal"]
)
def test_with_either_embedding_of_the_timestep_a_network_reaches_the_best_bound(time, variance, key):  # O16, theory S40
    known = oracle("diffusion_linear_T5_D2")["data_average"]["outputs"][key]["mean_elbo"]
    reached = best_mean_bound(time(), variance)
    # the gradient vanishes at the optimum: what 150 steps of L-BFGS leave is of second order
    assert reached == pytest.approx(known, abs=1e-4)
    assert reached < known + 1e-9  # no network passes it


@pytest.mark.proves("S39", "O24")
@pytest.mark.parametrize(("variance", "key"), [("unit", "optimal_unit_seed"), ("beta", "optimal_beta")])
def test_a_network_without_the_timestep_stays_below(variance, key):
    known = oracle("diffusion_linear_T5_D2")["data_average"]["outputs"][key]["mean_elbo"]
    assert best_mean_bound(Deaf(), variance) < known - 0.01


@catches("""models/networks.py: a table of fewer rows than the schedule has steps is found at the first large step only
- if rows is not None and rows < depth:
+ if rows is not None and rows < 0:""")
def test_a_network_for_fewer_steps_than_the_schedule_is_refused_with_both_numbers():
    def model(time, num_steps):
        net = UNet(1, (8, 8), num_steps=num_steps, width=8, inner_width=16, time=time)
        return Diffusion(net, Schedule.cosine(50), (1, 8, 8), "v")

    with pytest.raises(
        InputError, match="built with num_steps=40, and the schedule has 50 steps; build both with the same"
    ):
        model("table", 40)
    for time, num_steps in (("table", 50), ("table", 51), ("sinusoidal", 40)):
        assert model(time, num_steps).depth == 50
