# %% [markdown]
# # A sampler that clamps z_t, caught by an exact world
#
# Many samplers in the wild write `x.clamp(-1, 1)` after every step. Pixels lie in [-1, 1], so why not? Because z_t is
# no image: it is mostly noise, with standard deviation near 1. On images the fault hides. In an exact world it shows.

# %%
import math

import torch

import kakusan as kk

T, N = 100, 6000
world = kk.oracles.MixtureWorld([0.8, 0.2], [-0.3, 0.9], [0.0025, 0.0025])  # two peaks, inside [-1, 1]
schedule = kk.Schedule.linear(T, 1e-3, 0.2)
beta, alpha_bar = schedule.beta, schedule.alpha_bar
net = world.network(beta[1:], "eps")  # the perfect network, so every fault is the sampler's

# %% [markdown]
# The textbook sampler, DDPM's algorithm 2, with and without the clamp.


# %%
def draw(clamp):
    generator = torch.Generator().manual_seed(0)
    z = torch.randn(N, 1, generator=generator, dtype=torch.float64)
    for t in range(T, 0, -1):
        eps = net(z, torch.full((N,), t))
        z = (z - beta[t] / (1 - alpha_bar[t]).sqrt() * eps) / (1 - beta[t]).sqrt()
        if t > 1:
            variance = beta[t] * (1 - alpha_bar[t - 1]) / (1 - alpha_bar[t])
            z = z + variance.sqrt() * torch.randn(N, 1, generator=generator, dtype=torch.float64)
        if clamp:
            z = z.clamp(-1, 1)
    return z


# %% [markdown]
# The right peak holds 0.2 of the data, which lie around 0.9.

# %%
stderr = math.sqrt(0.2 * 0.8 / N)
share = {}
for clamp in (False, True):
    x = draw(clamp)
    right = x[x > 0.3]
    share[clamp] = len(right) / N
    print(
        f"clamp {clamp!s:5s}: share {share[clamp]:.4f} (exact 0.2000, standard error {stderr:.4f}), "
        f"mean {right.mean():.3f} (exact 0.900)"
    )
assert abs(share[False] - 0.2) < 4.5 * stderr
assert abs(share[True] - 0.2) > 6 * stderr

# %% [markdown]
# What may be clamped is the estimate of x, to a range that holds the data: `clip` of `kk.Diffusion`. Then bound and
# samples use one model.

# %%
model = kk.Diffusion(net, schedule, 1, prediction="eps", variance="beta_tilde", clip=(-1.2, 1.2)).double()
x = kk.sample(model, 1000, solver=kk.solvers.Ancestral(), steps=T, seed=0)
clipped = (x > 0.3).double().mean().item()
stderr = math.sqrt(0.2 * 0.8 / 1000)
print(f"the library, x clamped: share {clipped:.4f} (exact 0.2000, standard error {stderr:.4f})")
assert abs(clipped - 0.2) < 4.5 * stderr
