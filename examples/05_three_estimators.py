# %% [markdown]
# # Three estimators of one bound
#
# The ELBO of a diffusion model with T steps can be estimated from a whole path of T latents, from two neighbors, or
# from one latent. All three have the same mean. They differ in cost and in variance.

# %%
import torch

import kakusan as kk

T, N = 50, 4000
world = kk.oracles.GaussianWorld([0.3, -0.5], [[0.5, 0.3], [0.3, 0.4]])  # Gaussian data: the exact ELBO is known
schedule = kk.Schedule.linear(T, 1e-3, 0.3)
betas = schedule.beta[1:]
model = kk.Diffusion(world.network(betas, "eps"), schedule, event_shape=2, prediction="eps").double()

x = torch.tensor([[0.8, 0.1]], dtype=torch.float64)
exact = world.exact_elbo(betas, "beta", x).item()
print(f"exact ELBO of x  {exact:.4f} nats, log p(x) {world.log_prob(x).item():.4f}")

# %% [markdown]
# Each estimator on many copies of the same x. A draw of "path" costs T network evaluations, a draw of the others one.
# What counts is variance times cost. `kk.elbo` also takes a path, but keeps log q of the drawn path, which the three
# replace by its mean. With a good network it has far less variance.

# %%
generator = torch.Generator().manual_seed(0)
estimators = {
    "kk.elbo (T latents)": (lambda x, generator: kk.elbo(model, x, generator), T, {}),
    "path (T latents)": (model.elbo_path, T, {}),
    "pair (2 latents)": (model.elbo_pair, 1, {}),
    "single (1 latent)": (model.elbo_single, 1, {}),
    "single, not centered": (model.elbo_single, 1, {"centered": False}),
}
std = {}
for name, (estimator, cost, options) in estimators.items():
    with torch.no_grad():
        draws = estimator(x.expand(N, -1), generator, **options)
    std[name] = draws.std().item()
    stderr = std[name] / N**0.5
    print(
        f"{name:21s} {draws.mean():9.4f} ± {stderr:.4f} nats, std of a draw {std[name]:8.3f}, "
        f"variance x evaluations {std[name] ** 2 * cost:8.1f}"
    )
    assert abs(draws.mean().item() - exact) < 4.5 * stderr

# %% [markdown]
# One latent beats two: what the second latent would add is integrated out. Centering sums exactly what does not depend
# on the network, and only the rest is drawn.

# %%
assert std["single (1 latent)"] < std["pair (2 latents)"]
assert std["kk.elbo (T latents)"] < std["path (T latents)"] / 5
assert std["single (1 latent)"] < std["single, not centered"]
