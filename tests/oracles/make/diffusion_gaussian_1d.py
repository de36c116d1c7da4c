"""One-dimensional Gaussian data under the DDPM linear schedule, T = 1000 (and T = 5): exact numbers."""
from common import Oracle
import mpmath as mp
import numpy as np
from common import linear_betas

O = Oracle(
    "diffusion_gaussian_1d.json",
    "Data x0 ~ N(m, s), optimal denoiser mean E[x_{t-1}|x_t] = A_t x_t + b_t; mean ELBO, mean log p_theta(x0), generated law, "
    "for five reverse variances.",
    {"units": "nats per example, one dimension", "s": "data variance",
     "variances": "unit_seed: 1; beta: beta_t; tilde_t1_beta: beta_tilde_t, step 1 uses beta_1; tilde_t1_tilde2: step 1 uses beta_tilde_2; optimal: Var(x_{t-1}|x_t)",
     "mean_elbo": "E_{x0}[ELBO], all constants kept; at best -entropy - KL(q(x_T)||N(0,1)), reached by 'optimal'",
     "mse_eps": "E (eps - eps_hat)^2 of the optimal denoiser = alpha_bar s / (alpha_bar s + 1 - alpha_bar)"},
)
mp.mp.dps = 40
ln2pi = mp.log(2 * mp.pi)


def run(beta, m, s, f=mp.mpf, log=mp.log, sqrt=mp.sqrt, pi2=None):
    T = len(beta)
    ab = [f(1)]
    for b in beta:
        ab.append(ab[-1] * (1 - b))
    l2 = log(f(2) * (mp.pi if f is mp.mpf else np.pi))
    vq = [a * s + 1 - a for a in ab]                      # Var_q(x_t)
    A = [sqrt(1 - beta[t - 1]) * vq[t - 1] / vq[t] for t in range(1, T + 1)]
    b_ = [sqrt(ab[t - 1]) * m - A[t - 1] * sqrt(ab[t]) * m for t in range(1, T + 1)]
    opt = [vq[t - 1] * beta[t - 1] / vq[t] for t in range(1, T + 1)]
    tl = [beta[t - 1] * (1 - ab[t - 1]) / (1 - ab[t]) for t in range(1, T + 1)]
    var = {"unit_seed": [f(1)] * T, "beta": list(beta), "tilde_t1_beta": [beta[0]] + tl[1:], "tilde_t1_tilde2": [tl[1]] + tl[1:], "optimal": opt}
    const = -l2 / 2 - (ab[T] * (m * m + s) + 1 - ab[T]) / 2 + sum((l2 + 1 + log(x)) for x in beta) / 2
    out = {}
    for k, s2 in var.items():
        J = sum(-(l2 + log(s2[t])) / 2 - opt[t] / (2 * s2[t]) for t in range(T))
        mu, C = f(0), f(1)
        for t in range(T, 0, -1):
            mu = A[t - 1] * mu + b_[t - 1]
            C = A[t - 1] ** 2 * C + s2[t - 1]
        mlp = -(l2 + log(C)) / 2 - (s + (mu - m) ** 2) / (2 * C)
        out[k] = {"mean_J": J, "mean_elbo": J + const, "mean_log_p": mlp, "generated_mean": mu, "generated_variance": C}
    ent = (l2 + 1 + log(s)) / 2
    klT = (vq[T] + ab[T] * m * m - 1 - log(vq[T])) / 2
    return out, {"C_averaged": const, "minus_entropy": -ent, "kl_qT": klT, "alpha_bar_T": ab[T]}, (ab, A, b_, opt, tl)


small = [mp.mpf(x) for x in ("0.1", "0.2", "0.35", "0.5", "0.7")]
for name, beta, m, s in (("T5", small, "0.3", "0.25"), ("T1000_s0p25", linear_betas(), "0.3", "0.25"),
                         ("T1000_s1", linear_betas(), "0", "1"), ("T1000_s4", linear_betas(), "-0.5", "4"), ("T100_s0p25", linear_betas(100, "1e-3", "0.2"), "0.3", "0.25")):
    m, s = mp.mpf(m), mp.mpf(s)
    out, extra, (ab, A, b_, opt, tl) = run(beta, m, s)
    T = len(beta)
    ts = [t for t in (1, 2, 3, 5, 10, 50, 100, 250, 500, 750, 1000) if t <= T]
    tab = {t: {"A": A[t - 1], "b": b_[t - 1], "Var(x_{t-1}|x_t)": opt[t - 1], "beta_tilde": tl[t - 1], "beta": beta[t - 1],
               "mse_eps": ab[t] * s / (ab[t] * s + 1 - ab[t]), "mse_x0": s * (1 - ab[t]) / (ab[t] * s + 1 - ab[t])} for t in ts}
    O.case(name, {"T": T, "m": m, "s": s, "beta_1": beta[0], "beta_T": beta[-1], "beta": beta if T == 5 else "linear"},
           {**extra, "by_variance": out, "at_t": tab})
    o64, e64, _ = run([float(x) for x in beta], float(m), float(s), f=float, log=np.log, sqrt=np.sqrt)
    for k in out:
        for key in out[k]:
            O.same(name, f"{k}.{key}", out[k][key], o64[k][key], 1e-8 * max(1, abs(out[k][key])), "independent float64 run")
    O.same(name, "optimal mean_elbo", out["optimal"]["mean_elbo"], extra["minus_entropy"] - extra["kl_qT"], 1e-25, "-entropy - KL(q(x_T)||N(0,1))")
    # KL form of the mean ELBO, from mse_x0 and weights
    for k, var in (("beta", beta), ("tilde_t1_beta", [beta[0]] + tl[1:]), ("unit_seed", [mp.mpf(1)] * T)):
        tot = -(ab[T] * (m * m + s - 1) - mp.log(1 - ab[T])) / 2
        for t in range(1, T + 1):
            mse = s * (1 - ab[t]) / (ab[t] * s + 1 - ab[t])
            c0 = mp.sqrt(ab[t - 1]) * beta[t - 1] / (1 - ab[t])
            if t == 1:
                tot += -(ln2pi + mp.log(var[0])) / 2 - c0 ** 2 * mse / (2 * var[0])
            else:
                r = tl[t - 1] / var[t - 1]
                tot -= (r - 1 - mp.log(r) + c0 ** 2 * mse / var[t - 1]) / 2
        O.same(name, f"{k}.mean_elbo", out[k]["mean_elbo"], tot, 1e-25, "KL form with the mean squared x0 error")
    O.holds(name, "mean_elbo <= mean_log_p <= -entropy for every variance",
            all(v["mean_elbo"] <= v["mean_log_p"] + mp.mpf(10) ** -30 and v["mean_log_p"] <= extra["minus_entropy"] + mp.mpf(10) ** -30 for v in out.values()), "values")
# simulation of generation, T = 5 and T = 100
g = np.random.default_rng(21)
for name, beta, m, s in (("T5", small, 0.3, 0.25), ("T100_s0p25", linear_betas(100, "1e-3", "0.2"), 0.3, 0.25)):
    out, _, (ab, A, b_, opt, tl) = run(beta, mp.mpf(m), mp.mpf(s))
    for k, s2 in (("unit_seed", [1] * len(beta)), ("beta", beta)):
        z = g.standard_normal(200000)
        for t in range(len(beta), 0, -1):
            z = float(A[t - 1]) * z + float(b_[t - 1]) + np.sqrt(float(s2[t - 1])) * g.standard_normal(z.size)
        O.mc(name, f"{k}.generated_mean", out[k]["generated_mean"], z, "ancestral sampling")
        O.mc_var(name, f"{k}.generated_variance", out[k]["generated_variance"], z, "ancestral sampling")
O.save()
