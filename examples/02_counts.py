# %% [markdown]
# # The Dirichlet-multinomial model: a bound that can be checked
#
# z ~ Dirichlet(alpha) are the unknown probabilities of K categories, and x | z ~ Multinomial(n, z) are counts.
# Evidence and posterior have closed forms, so the ELBO and its optimum can be compared with the truth.

# %%
import torch

import kakusan as kk

alpha = torch.tensor([1.0, 1.0, 2.0], dtype=torch.float64)
x = torch.tensor([7.0, 0.0, 3.0], dtype=torch.float64)
model = kk.DirichletMultinomial(alpha)
evidence = model.log_evidence(x).item()
print(f"log evidence  {evidence:.6f} nats")

# %% [markdown]
# Fit q(z) = Dirichlet(gamma) by gradient ascent on the ELBO, from gamma = 1. The parameters are log gamma, so gamma
# stays positive. The gap log p(x) - ELBO is KL(q || posterior). It falls to zero.

# %%
log_gamma = torch.zeros(3, dtype=torch.float64)
for step in range(1, 401):
    gamma = log_gamma.exp()
    log_gamma = log_gamma + 0.1 * gamma * model.elbo_grad(x, gamma)  # chain rule: d gamma / d log gamma = gamma
    if step in (1, 10, 100, 400):
        bound = model.elbo(x, log_gamma.exp()).item()
        print(f"step {step:3d}: ELBO {bound:.6f} nats, gap {evidence - bound:.1e}")

exact = model.posterior(x)
print("fitted gamma  ", [f"{value:.4f}" for value in log_gamma.exp().tolist()])
print("x + alpha     ", [f"{value:.4f}" for value in exact.tolist()])
assert torch.allclose(log_gamma.exp(), exact, rtol=1e-3)
assert 0 <= evidence - bound < 1e-6

# %% [markdown]
# One natural-gradient step lands on x + alpha from anywhere.

# %%
landed = model.natural_step(x, torch.ones(3, dtype=torch.float64))
assert torch.allclose(landed, exact, rtol=0, atol=1e-9)
assert abs(model.elbo(x, landed).item() - evidence) < 1e-9

# %% [markdown]
# MAP against Bayes. The MAP estimate is one z. Bayes keeps all of them, weighted by the posterior.
# Category 2 was never seen: MAP calls it impossible, and Bayes does not.

# %%
mode = model.map_estimate(x)
mean = exact / exact.sum()  # probability of each category for the next draw
print("MAP   ", [f"{p:.4f}" for p in mode.tolist()])
print("Bayes ", [f"{p:.4f}" for p in mean.tolist()])

next_draw = torch.tensor([0.0, 1.0, 0.0], dtype=torch.float64)
both = model.log_evidence(x + next_draw) - model.log_evidence(x)  # of sequences: p(x, next) / p(x), up to orders
orders = torch.log((x + next_draw).sum() / (x + next_draw)[1])  # the number of orders in which counts can occur
print(f"probability that the next draw is category 2: {(both - orders).exp():.4f}")
assert mode[1] == 0
assert torch.allclose((both - orders).exp(), mean[1], rtol=1e-9)
