# %% [markdown]
# # A small DDPM, trained, measured and sampled
#
# The data are points in the plane: three groups with shares 0.5, 0.3 and 0.2. A small network learns to predict their
# noise. Every name is public.

# %%
from itertools import pairwise

import torch
from torch import nn

import kakusan as kk

T = 50
schedule = kk.Schedule.linear(T, 1e-3, 0.25)
centers = torch.tensor([[-1.0, 0.0], [1.0, 0.8], [0.6, -1.0]])
world = kk.oracles.MixtureWorld([0.5, 0.3, 0.2], centers, 0.04 * torch.eye(2).expand(3, 2, 2))
x = world.sample(4000, torch.Generator().manual_seed(0)).float()


class Denoiser(nn.Module):
    """(z_t, t) -> the noise in z_t; t enters as log-SNR, sines and cosines."""

    def __init__(self, width=64):
        super().__init__()
        sizes = [11, width, width, width]
        hidden = [layer for pair in pairwise(sizes) for layer in (nn.Linear(*pair), nn.ReLU())]
        self.layers = nn.Sequential(*hidden, nn.Linear(width, 2))

    def forward(self, z, t):
        level, phase = schedule.log_snr[t, None].float() / 5, t[:, None] / T * torch.tensor([1.0, 2.0, 4.0, 8.0])
        return self.layers(torch.cat([z, level, phase.sin(), phase.cos()], dim=1))


# %% [markdown]
# Training minimizes the simple loss: the squared error of the predicted noise, per dimension. A network that returns
# zero has loss 1. `kk.fit(model, x, steps=500)` has such a loop, with averaged weights.

# %%
torch.manual_seed(0)
model = kk.Diffusion(Denoiser(), schedule, event_shape=2, prediction="eps", variance="beta")
optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
decay = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.01, 500)
generator = torch.Generator().manual_seed(1)
for step in range(1, 501):
    batch = x[torch.randint(len(x), (128,), generator=generator)]
    loss = model.loss(batch, generator).mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    decay.step()
    if step in (1, 50, 500):
        print(f"step {step:3d}: simple loss {loss.item():.3f}")

# %% [markdown]
# The bound of new points, the same bound with the perfect network, and log p(x), which no mean of a bound exceeds.

# %%
new = world.sample(1000, torch.Generator().manual_seed(2))
perfect = kk.Diffusion(world.network(schedule.beta[1:], "eps"), schedule, 2, prediction="eps", variance="beta").double()
with torch.no_grad():
    bounds = {
        "trained network": kk.elbo(model, new.float(), generator),
        "perfect network": kk.elbo(perfect, new, generator),
        "log p(x)": world.log_prob(new),
    }
for name, nats in bounds.items():
    print(f"{name:16s} {nats.mean():7.3f} ± {nats.std() / len(nats) ** 0.5:.3f} nats")
lost = [
    (bounds["perfect network"] - bounds["trained network"]).mean(),
    (bounds["log p(x)"] - bounds["perfect network"]).mean(),
]
assert min(lost) > 0

# %% [markdown]
# Samples of the reverse process, step by step, and of a solver with 15 steps. Sample i depends on (seed, i) alone.

# %%
for solver, steps in ((kk.solvers.Ancestral(), T), (kk.solvers.DDIM(), 15)):
    samples = kk.sample(model, 500, solver=solver, steps=steps, seed=0)
    nearest = torch.cdist(samples, centers).min(dim=1)
    shares = torch.bincount(nearest.indices, minlength=3) / 500
    distance = nearest.values.mean().item()
    print(
        f"{type(solver).__name__:9s} {steps} steps: shares {[f'{share:.2f}' for share in shares.tolist()]}, mean distance to a center {distance:.2f} (0.25)"
    )
    assert distance < 0.6
    assert (shares - torch.tensor([0.5, 0.3, 0.2])).abs().max() < 0.15
three, five = kk.sample(model, 3, steps=15, seed=0), kk.sample(model, 5, steps=15, seed=0)
assert torch.allclose(three, five[:3], atol=1e-3)  # float32 rounds a batch of 5 in another way
