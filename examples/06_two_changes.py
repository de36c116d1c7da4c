# %% [markdown]
# # From a hierarchical VAE to a diffusion model: only two changes
#
# Take a hierarchical VAE. First, give every latent the shape of the data. Second, replace every encoder by
# fixed noise, N(sqrt(1 - beta_t) z, beta_t I). The result is a diffusion model, to the last digit.

# %%
import torch
from torch import nn

import kakusan as kk

T, D = 5, 2
schedule = kk.Schedule.from_betas([0.1, 0.2, 0.3, 0.5, 0.99])
beta, alpha_bar = schedule.beta, schedule.alpha_bar  # index 0 is the data


class Denoiser(nn.Module):
    """One network for all levels: (z_t, t) -> the noise in z_t."""

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(D + 1, 16), nn.Tanh(), nn.Linear(16, D))

    def forward(self, z, t):
        return self.layers(torch.cat([z, t[:, None] / T], dim=1))


torch.manual_seed(0)
net = Denoiser().double()
diffusion = kk.Diffusion(net, schedule, event_shape=D, prediction="eps", variance="beta").double()

# %% [markdown]
# The same as a hierarchy, written out by hand. A decoder takes the predicted noise out of z_t.


# %%
def encoder(t):
    return lambda z: ((1 - beta[t]).sqrt() * z, beta[t].log().expand_as(z))


def decoder(t):
    def step(z):
        eps = net(z, torch.full((len(z),), t))
        mean = (z - beta[t] / (1 - alpha_bar[t]).sqrt() * eps) / (1 - beta[t]).sqrt()
        return mean, beta[t].log().expand_as(z)

    return step


levels = range(1, T + 1)
hierarchy = kk.HierarchicalVAE([encoder(t) for t in levels], [decoder(t) for t in levels], [D] * T).double()

# %% [markdown]
# Both models see the same path x, z_1, ..., z_T. `log_weight` is log p(x, z) - log q(z | x), whose mean is the ELBO.

# %%
x = torch.randn(4, D, dtype=torch.float64)
path = [x]
for t in levels:
    path.append(hierarchy.encode(path[-1], t).sample())

with torch.no_grad():
    one, other = kk.log_weight(diffusion, path), kk.log_weight(hierarchy, path)
    print("diffusion model  ", [f"{nats:.12f}" for nats in one.tolist()])
    print("hierarchical VAE ", [f"{nats:.12f}" for nats in other.tolist()])
    for t in levels:
        step, down = diffusion.step_log_prob(path[t - 1], path[t], t), hierarchy.decode(path[t], t)
        difference = (step - down.log_prob(path[t - 1])).abs().max().item()
        print(f"log p(z_{t - 1} | z_{t}): mean {step.mean():8.4f} nats, difference {difference:.0e}")
        assert difference < 1e-12

assert torch.allclose(one, other, rtol=0, atol=1e-12)
