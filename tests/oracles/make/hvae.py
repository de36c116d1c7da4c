"""Two-level VAE: the notes' loss on given vectors, and an exactly solvable linear-Gaussian model.

The point to settle: the notes write the third ELBO term as
    -E_{q(z2|x)} KL(q(z1|x) || p(z1|z2)).
The exact third term is E_{q(z1|x) q(z2|z1)} [log p(z1|z2) - log q(z1|x)], in which z1
and z2 are dependent.  With p(z1|z2) = N(z_hat(z2), I),
    exact ELBO = the notes' form + sum_h Cov_q(z1_h, z_hat_h(z2)).
The notes' form is still a lower bound of log p(x): it equals the ELBO of the independent
family q(z1|x) q(z2|x) minus the mutual information I_q(z1; z2 | x).
"""
from common import Oracle
import mpmath as mp
import numpy as np
from scipy.optimize import minimize

O = Oracle(
    "hvae.json",
    "The notes' HVAE loss terms on given vectors; exact ELBO, the notes' form of the ELBO, their difference and log p(x) for linear-Gaussian two-level VAEs.",
    {"L1, L2, L3": "sum (x-x_hat)^2; -sum(1+ln sigma2^2-mu2^2-sigma2^2); -sum(1+ln sigma1^2-(mu1-z_hat)^2-sigma1^2)",
     "loss": "(L1+L2+L3)/batch", "exact_elbo": "E_q[log p(x,z1,z2) - log q(z1,z2|x)], all constants kept",
     "seed_form": "E log p(x|z1) - E KL(q(z2|z1)||p(z2)) - E_{q(z2|x)} KL(q(z1|x)||p(z1|z2)), all constants kept",
     "fully_sampled_L3": "sum_h [(z1-z_hat)^2 - 1 - ln sigma1^2], unbiased for twice the exact third term"},
)
L2P = np.log(2 * np.pi)

# ---------------------------------------------------------------- given vectors
x = [["0", "0.5", "1", "0.25"], ["1", "0.1", "0", "0.8"]]
xh = [["0.1", "0.4", "0.9", "0.5"], ["0.7", "0.2", "0.05", "0.6"]]
mu1 = [["0.5", "-1", "0.2"], ["0", "0.3", "-0.7"]]
s1 = [["0.8", "0.5", "1.2"], ["1", "0.05", "0.6"]]
mu2 = [["-0.3", "0.9", "0"], ["1.5", "-0.2", "0.4"]]
s2 = [["1.1", "0.7", "1"], ["0.2", "0.9", "0.3"]]
zh = [["0.4", "-0.5", "0.1"], ["0.2", "0", "-1"]]
z1 = [["0.9", "-1.4", "1.1"], ["-0.6", "0.32", "-0.2"]]
M = lambda a: [[mp.mpf(v) for v in r] for r in a]
x, xh, mu1, s1, mu2, s2, zh, z1 = map(M, (x, xh, mu1, s1, mu2, s2, zh, z1))
tot = lambda f, *a: mp.fsum(f(*v) for r in zip(*a) for v in zip(*r))
L1 = tot(lambda p, q: (p - q) ** 2, x, xh)
L2 = -tot(lambda m, s: 1 + mp.log(s ** 2) - m ** 2 - s ** 2, mu2, s2)
L3 = -tot(lambda m, s, z: 1 + mp.log(s ** 2) - (m - z) ** 2 - s ** 2, mu1, s1, zh)
L3s = tot(lambda z, h, s: (z - h) ** 2 - 1 - mp.log(s ** 2), z1, zh, s1)
B, D = 2, 4
per = [-(sum((p - q) ** 2 for p, q in zip(x[b], xh[b]))
         - sum(1 + mp.log(s ** 2) - m ** 2 - s ** 2 for m, s in zip(mu2[b], s2[b]))
         - sum(1 + mp.log(s ** 2) - (m - z) ** 2 - s ** 2 for m, s, z in zip(mu1[b], s1[b], zh[b]))) / 2
       - D * mp.log(2 * mp.pi) / 2 for b in range(B)]
O.case("given_vectors", {"x": x, "x_hat": xh, "mu1": mu1, "sigma1": s1, "mu2": mu2, "sigma2": s2, "z_hat": zh, "z1": z1},
       {"L1": L1, "L2": L2, "L3": L3, "loss": (L1 + L2 + L3) / B, "fully_sampled_L3": L3s,
        "seed_form_elbo_per_example_with_constant": per,
        "grad_L3_mu1": [[2 * (m - z) for m, z in zip(a, b)] for a, b in zip(mu1, zh)],
        "grad_L3_z_hat": [[-2 * (m - z) for m, z in zip(a, b)] for a, b in zip(mu1, zh)],
        "grad_L3_sigma1": [[2 * s - 2 / s for s in r] for r in s1],
        "grad_L2_logvar2": [[s ** 2 - 1 for s in r] for r in s2]})


def klq(m1, q1, m2):
    ln = lambda z, m, s: -mp.log(2 * mp.pi * s ** 2) / 2 - (z - m) ** 2 / (2 * s ** 2)
    return mp.quad(lambda z: mp.exp(ln(z, m1, q1)) * (ln(z, m1, q1) - ln(z, m2, mp.mpf(1))), [m1 + k * q1 for k in (-14, -5, -2, 0, 2, 5, 14)])


O.same("given_vectors", "L2", L2, 2 * tot(lambda m, s: klq(m, s, mp.mpf(0)), mu2, s2), 1e-24, "twice the sum of KL quadratures")
O.same("given_vectors", "L3", L3, 2 * tot(lambda m, s, z: klq(m, s, z), mu1, s1, zh), 1e-24, "twice the sum of KL quadratures")
O.same("given_vectors", "loss", (L1 + L2 + L3) / B, -2 * sum(per) / B - D * mp.log(2 * mp.pi), 1e-40, "-2 mean(ELBO) - D ln 2pi")

# ---------------------------------------------------------------- linear-Gaussian model


def log_normal(v, m, S):
    d = v - m
    return -0.5 * (len(m) * L2P + np.linalg.slogdet(S)[1] + d @ np.linalg.solve(S, d))


def pieces(p, x):
    """Exact pieces of the ELBO for a linear model; p holds W1,c1,W2,c2,V1,d1,s1,V2,d2,s2."""
    W1, c1, W2, c2, V1, d1, s1, V2, d2, s2 = (p[k] for k in ("W1", "c1", "W2", "c2", "V1", "d1", "s1", "V2", "d2", "s2"))
    D, H1, H2 = len(c1), len(c2), len(d2)
    m1, S1 = V1 @ x + d1, np.diag(s1 ** 2)
    m2, S2 = V2 @ m1 + d2, V2 @ S1 @ V2.T + np.diag(s2 ** 2)          # marginal q(z2|x)
    r = x - c1 - W1 @ m1
    rec = -0.5 * D * L2P - 0.5 * (r @ r + np.trace(W1 @ S1 @ W1.T))
    kl2 = 0.5 * ((s2 ** 2).sum() + m2 @ m2 + np.trace(V2 @ S1 @ V2.T) - H2 - np.log(s2 ** 2).sum())
    zm, ZS = W2 @ m2 + c2, W2 @ S2 @ W2.T                              # law of z_hat under q
    C1z = S1 @ V2.T @ W2.T                                            # Cov(z1, z_hat)
    e = m1 - zm
    seed3 = 0.5 * (e @ e + np.trace(ZS) + (s1 ** 2).sum() - H1 - np.log(s1 ** 2).sum())
    exact3 = seed3 - np.trace(C1z)
    mi = 0.5 * (np.linalg.slogdet(S2)[1] - np.log(s2 ** 2).sum())
    klm = 0.5 * (np.trace(S2) + m2 @ m2 - H2 - np.linalg.slogdet(S2)[1])
    logp = log_normal(x, W1 @ c2 + c1, W1 @ (W2 @ W2.T + np.eye(H1)) @ W1.T + np.eye(D))
    return {"log_p_x": logp, "reconstruction": rec, "kl_z2": kl2, "third_term_exact": exact3,
            "third_term_seed_form": seed3, "exact_elbo": rec - kl2 - exact3, "seed_form": rec - kl2 - seed3,
            "cov_trace": np.trace(C1z), "mutual_information": mi,
            "elbo_of_independent_family": rec - klm - seed3,
            "model_mean_of_x": W1 @ c2 + c1, "model_cov_of_x_hat": W1 @ (W2 @ W2.T + np.eye(H1)) @ W1.T,
            "model_cov_of_x": W1 @ (W2 @ W2.T + np.eye(H1)) @ W1.T + np.eye(D)}


def joint_elbo(p, x):
    """Second way: log p(x) - KL between the two joint Gaussians of (z1, z2)."""
    W1, c1, W2, c2, V1, d1, s1, V2, d2, s2 = (p[k] for k in ("W1", "c1", "W2", "c2", "V1", "d1", "s1", "V2", "d2", "s2"))
    H1, H2 = len(c2), len(d2)
    m1 = V1 @ x + d1
    mq = np.concatenate([m1, V2 @ m1 + d2])
    S1 = np.diag(s1 ** 2)
    Sq = np.block([[S1, S1 @ V2.T], [V2 @ S1, V2 @ S1 @ V2.T + np.diag(s2 ** 2)]])
    # prior joint of (z1,z2), then condition on x
    Sp = np.block([[W2 @ W2.T + np.eye(H1), W2], [W2.T, np.eye(H2)]])
    mp_ = np.concatenate([c2, np.zeros(H2)])
    G = np.hstack([W1, np.zeros((len(c1), H2))])
    K = np.linalg.solve(G @ Sp @ G.T + np.eye(len(c1)), G @ Sp).T
    mpost, Spost = mp_ + K @ (x - c1 - G @ mp_), Sp - K @ G @ Sp
    d = mpost - mq
    P = np.linalg.inv(Spost)
    kl = 0.5 * (np.trace(P @ Sq) + d @ P @ d - len(d) + np.linalg.slogdet(Spost)[1] - np.linalg.slogdet(Sq)[1])
    logp = log_normal(x, W1 @ c2 + c1, W1 @ (W2 @ W2.T + np.eye(H1)) @ W1.T + np.eye(len(c1)))
    return logp - kl, kl


def samples(p, x, n, seed):
    g = np.random.default_rng(seed)
    m1 = p["V1"] @ x + p["d1"]
    z1 = m1 + p["s1"] * g.standard_normal((n, len(m1)))
    mu2 = z1 @ p["V2"].T + p["d2"]
    z2 = mu2 + p["s2"] * g.standard_normal(mu2.shape)
    zh = z2 @ p["W2"].T + p["c2"]
    rec = -0.5 * len(x) * L2P - 0.5 * ((x - p["c1"] - z1 @ p["W1"].T) ** 2).sum(1)
    kl2 = -0.5 * (1 + np.log(p["s2"] ** 2) - mu2 ** 2 - p["s2"] ** 2).sum(1)
    seed3 = -0.5 * (1 + np.log(p["s1"] ** 2) - (m1 - zh) ** 2 - p["s1"] ** 2).sum(1)
    exact3 = 0.5 * ((z1 - zh) ** 2 - 1 - np.log(p["s1"] ** 2)).sum(1)
    ratio = (rec - 0.5 * (z2 ** 2).sum(1) - 0.5 * ((z1 - zh) ** 2).sum(1)
             + 0.5 * (((z1 - m1) / p["s1"]) ** 2).sum(1) + np.log(p["s1"]).sum()
             + 0.5 * (((z2 - mu2) / p["s2"]) ** 2).sum(1) + np.log(p["s2"]).sum())
    return rec - kl2 - seed3, rec - kl2 - exact3, ratio


A = np.array
base = {"W1": A([[0.8, -0.3], [0.2, 0.9], [-0.5, 0.4]]), "c1": A([0.1, 0.0, -0.2]), "W2": A([[0.7], [-0.4]]), "c2": A([0.05, 0.1]),
        "V1": A([[0.4, 0.1, -0.2], [-0.1, 0.35, 0.1]]), "d1": A([0.0, 0.05]), "s1": A([0.7, 0.6]),
        "V2": A([[0.5, -0.2]]), "d2": A([0.02]), "s2": A([0.8])}
x = A([0.6, -0.4, 0.9])
models = {"generic": base, "negative_covariance": dict(base, V2=A([[-0.5, 0.2]])), "z2_ignores_z1": dict(base, V2=A([[0.0, 0.0]]))}
# exact posterior: W1^T W1 and W2 W2^T diagonal
W1 = A([[1.0, 0.4], [0.5, -0.8], [0.0, 0.3]])
W1[:, 1] -= W1[:, 0] * (W1[:, 0] @ W1[:, 1]) / (W1[:, 0] @ W1[:, 0])
W2 = np.diag([0.9, -0.6])
P0 = np.linalg.inv(W2 @ W2.T + np.eye(2))
Pr = W1.T @ W1 + P0
c1, c2 = A([0.1, 0.0, -0.2]), A([0.05, 0.1])
V2 = np.linalg.solve(np.eye(2) + W2.T @ W2, W2.T)
models["exact_posterior"] = {"W1": W1, "c1": c1, "W2": W2, "c2": c2, "V1": np.linalg.solve(Pr, W1.T),
                             "d1": np.linalg.solve(Pr, P0 @ c2 - W1.T @ c1), "s1": 1 / np.sqrt(np.diag(Pr)),
                             "V2": V2, "d2": -V2 @ c2, "s2": 1 / np.sqrt(np.diag(np.eye(2) + W2.T @ W2))}
for k, (name, p) in enumerate(models.items()):
    o = pieces(p, x)
    O.case(name, {**p, "x": x}, o)
    je, klj = joint_elbo(p, x)
    O.same(name, "exact_elbo", o["exact_elbo"], je, 1e-12, "log p(x) - KL of the joint Gaussians of (z1,z2)")
    O.same(name, "exact - notes' form", o["exact_elbo"] - o["seed_form"], o["cov_trace"], 1e-12, "trace of Cov(z1, z_hat)")
    a, b, c = samples(p, x, 400000, 100 + k)
    O.mc(name, "seed_form", o["seed_form"], a, "the notes' one-sample estimator (its code)")
    O.mc(name, "exact_elbo", o["exact_elbo"], b, "third term with the sampled z1")
    if c.std() < 1e-9:      # q is the posterior: the log ratio is log p(x) for every sample
        O.same(name, "exact_elbo", float(np.abs(c - o["exact_elbo"]).max()), 0, 1e-11, "fully sampled log ratio has zero variance")
    else:
        O.mc(name, "exact_elbo", o["exact_elbo"], c, "fully sampled log ratio")
    O.same(name, "independent family", o["elbo_of_independent_family"] - o["mutual_information"], o["seed_form"], 1e-12, "notes' form + I(z1;z2|x)")
    O.holds(name, "seed_form <= elbo_of_independent_family <= log_p_x", o["seed_form"] <= o["elbo_of_independent_family"] + 1e-12 <= o["log_p_x"] + 2e-12, "values")
O.same("exact_posterior", "exact_elbo", models and pieces(models["exact_posterior"], x)["exact_elbo"],
       pieces(models["exact_posterior"], x)["log_p_x"], 1e-12, "q equals the posterior, so the ELBO is log p(x)")
O.holds("negative_covariance", "notes' form exceeds the exact ELBO of its own q when the covariance is negative",
        pieces(models["negative_covariance"], x)["seed_form"] > pieces(models["negative_covariance"], x)["exact_elbo"], "values")
# marginal by plain Monte Carlo of the generative model (third, independent of any algebra)
p = base
g = np.random.default_rng(9)
n = 400000
z2 = g.standard_normal((n, 1))
z1 = z2 @ p["W2"].T + p["c2"] + g.standard_normal((n, 2))
lik = np.exp(-0.5 * 3 * L2P - 0.5 * ((x - p["c1"] - z1 @ p["W1"].T) ** 2).sum(1))
O.mc("generic", "p(x)", np.exp(pieces(base, x)["log_p_x"]), lik, "average likelihood over ancestral prior samples")
xs = z1 @ p["W1"].T + p["c1"]
for d in range(3):
    O.mc("generic", f"model_mean_of_x[{d}]", pieces(base, x)["model_mean_of_x"][d], xs[:, d], "ancestral sampling")
    O.mc_var("generic", f"model_cov_of_x_hat[{d},{d}]", pieces(base, x)["model_cov_of_x_hat"][d, d], xs[:, d], "ancestral sampling")

# ---------------------------------------------------------------- what training with each form converges to (scalars)
for w1, w2 in ((1.0, 1.0), (1.5, 2.0)):
    var = w1 ** 2 * (w2 ** 2 + 1) + 1                  # data law N(0, var)

    def obj(t, form, w1=w1, w2=w2, var=var):
        v, a, ls1, ls2 = t
        s1, s2 = np.exp(ls1), np.exp(ls2)
        rec = -0.5 * L2P - 0.5 * ((1 - w1 * v) ** 2 * var + w1 ** 2 * s1 ** 2)
        q = a * a * (v * v * var + s1 ** 2)
        kl2 = 0.5 * (s2 ** 2 + q - 1 - 2 * ls2)
        third = 0.5 * ((1 - w2 * a) ** 2 * v * v * var + w2 ** 2 * (a * a * s1 ** 2 + s2 ** 2) + s1 ** 2 - 1 - 2 * ls1)
        if form == "exact":
            third -= w2 * a * s1 ** 2
        return -(rec - kl2 - third)

    res = {}
    for form in ("exact", "seed"):
        r = min((minimize(obj, np.random.default_rng(k).normal(0, .4, 4), args=(form,), method="BFGS", options={"gtol": 1e-11}) for k in range(4)), key=lambda r: r.fun)
        v, a, ls1, ls2 = r.x
        res[form] = {"value": -r.fun, "encoder1_slope": v, "encoder2_slope": a, "sigma1": float(np.exp(ls1)), "sigma2": float(np.exp(ls2))}
    ent = -0.5 * (L2P + 1 + np.log(var))
    name = f"scalar_optimum_w1_{w1}_w2_{w2}"
    O.case(name, {"w1": w1, "w2": w2, "data_variance": var},
           {"mean_log_p_x": ent, "best_exact": res["exact"], "best_seed_form": res["seed"], "loss_of_bound": ent - res["seed"]["value"]},
           "Decoder fixed at the truth, encoder optimised on average over the data law. The exact form reaches the mean log likelihood; the notes' form stops short.")
    O.same(name, "best_exact", res["exact"]["value"], ent, 1e-8, "equals minus the entropy of the data")
    O.same(name, "best_exact slopes", [res["exact"]["encoder1_slope"], res["exact"]["encoder2_slope"]],
           [w1 * (w2 ** 2 + 1) / var, w2 / (w2 ** 2 + 1)], 1e-4, "posterior mean coefficients")
    O.holds(name, "notes' optimum strictly below", res["seed"]["value"] < ent - 1e-3, "values")
O.save()
