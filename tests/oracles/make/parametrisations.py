"""q(x_{t-1}|x_t,x_0) and the mean / x0 / eps / v / score ways of saying the same prediction."""
from common import Oracle
import mpmath as mp
import numpy as np
from common import linear_betas

O = Oracle(
    "parametrisations.json",
    "One prediction written as x0_hat, eps_hat, v_hat, score_hat and mean; residual identities; KL per step and its weights.",
    {"a, b": "sqrt(alpha_bar_t), sqrt(1-alpha_bar_t); x_t = a x0 + b eps",
     "v": "a eps - b x0", "score": "-eps / b (gradient of ln q(x_t|x_0) in x_t)",
     "mean": "coef_x0 x0 + coef_xt x_t = (x_t - beta_t eps / b)/sqrt(alpha_t) = sqrt(alpha_t) x_t - coef_v v = (x_t + beta_t score)/sqrt(alpha_t)",
     "t": "1-based"},
)
mp.mp.dps = 50


def coeffs(beta, t):
    A = mp.mpf(1)
    for b in beta[:t - 1]:
        A *= 1 - b
    P, b = A, beta[t - 1]
    A = P * (1 - b)
    return P, A, b, 1 - b


lin = linear_betas()
small = [mp.mpf(s) for s in ("0.1", "0.2", "0.35", "0.5", "0.7")]
x0 = [mp.mpf(s) for s in ("0.8", "-0.3", "0.05")]
ep = [mp.mpf(s) for s in ("-0.4", "1.3", "0.2")]
eh = [mp.mpf(s) for s in ("-0.1", "1", "0.6")]
for sched, beta, t in (("small_T5", small, 1), ("small_T5", small, 3), ("small_T5", small, 5), ("linear_T1000", lin, 1), ("linear_T1000", lin, 2),
                       ("linear_T1000", lin, 250), ("linear_T1000", lin, 1000)):
    P, A, be, al = coeffs(beta, t)
    a, b = mp.sqrt(A), mp.sqrt(1 - A)
    xt = [a * u + b * e for u, e in zip(x0, ep)]
    c0, ct = mp.sqrt(P) * be / (1 - A), mp.sqrt(al) * (1 - P) / (1 - A)
    cv = mp.sqrt(P) * be / b
    bt = be * (1 - P) / (1 - A)

    def five(e):
        u = [(x - b * k) / a for x, k in zip(xt, e)]
        v = [a * k - b * w for k, w in zip(e, u)]
        s = [-k / b for k in e]
        m = [c0 * w + ct * x for w, x in zip(u, xt)]
        return u, v, s, m

    u1, v1, s1, m1 = five(ep)
    u2, v2, s2, m2 = five(eh)
    sq = lambda p, q: mp.fsum((i - j) ** 2 for i, j in zip(p, q))
    out = {"x_t": xt,
           "true": {"v": v1, "score": s1, "posterior_mean": m1},
           "pred": {"x0": u2, "v": v2, "score": s2, "mean": m2},
           "residuals": {"x0": sq(u1, u2), "eps": sq(ep, eh), "v": sq(v1, v2), "score": sq(s1, s2), "mean": sq(m1, m2)},
           "beta_tilde": bt,
           "kl_step": {"variance_beta": (3 * (bt / be - 1 - mp.log(bt / be)) + sq(m1, m2) / be) / 2 if t > 1 else None,
                       "variance_beta_tilde": sq(m1, m2) / (2 * bt) if t > 1 else None,
                       "variance_unit_seed": (3 * (bt - 1 - mp.log(bt)) + sq(m1, m2)) / 2 if t > 1 else None},
           "minus_expected_log_decoder": {"variance_beta": 3 * mp.log(2 * mp.pi * be) / 2 + (sq(m1, m2) + 3 * bt) / (2 * be),
                                          "variance_unit_seed": 3 * mp.log(2 * mp.pi) / 2 + (sq(m1, m2) + 3 * bt) / 2}}
    name = f"{sched}_t{t}"
    O.case(name, {"x0": x0, "eps": ep, "eps_hat": eh, "t": t}, out)
    tol = mp.mpf("1e-35")
    O.same(name, "x0 from v", [a * x - b * v for x, v in zip(xt, v1)], x0, tol, "x0 = a x_t - b v")
    O.same(name, "eps from v", [b * x + a * v for x, v in zip(xt, v1)], ep, tol, "eps = b x_t + a v")
    O.same(name, "x0 from score", [(x + b * b * s) / a for x, s in zip(xt, s1)], x0, tol, "Tweedie form")
    O.same(name, "mean from eps", [(x - be * e / b) / mp.sqrt(al) for x, e in zip(xt, eh)], m2, tol, "eps form")
    O.same(name, "mean from v", [mp.sqrt(al) * x - cv * v for x, v in zip(xt, v2)], m2, tol, "v form")
    O.same(name, "mean from score", [(x + be * s) / mp.sqrt(al) for x, s in zip(xt, s2)], m2, tol, "score form")
    r = out["residuals"]
    O.same(name, "residual mean", [c0 ** 2 * r["x0"], be ** 2 / (al * (1 - A)) * r["eps"], cv ** 2 * r["v"], be ** 2 / al * r["score"]],
           [r["mean"]] * 4, tol, "four weight formulas")
    O.same(name, "score is a gradient", s1,
           [mp.diff(lambda z: -(z - a * w) ** 2 / (2 * (1 - A)), x) for w, x in zip(x0, xt)], 1e-15, "numerical derivative of ln q(x_t|x_0)")
    if t > 1:
        snr = A / (1 - A)
        O.same(name, "KL with beta_tilde", out["kl_step"]["variance_beta_tilde"], (P / (1 - P) - snr) / 2 * r["x0"], 1e-30, "(SNR(t-1)-SNR(t))/2 ||x0-x0_hat||^2")
        # posterior and KL by quadrature, first coordinate
        prior = lambda z: mp.exp(-(z - mp.sqrt(P) * x0[0]) ** 2 / (2 * (1 - P))) / mp.sqrt(2 * mp.pi * (1 - P))
        lik = lambda z: mp.exp(-(xt[0] - mp.sqrt(al) * z) ** 2 / (2 * be)) / mp.sqrt(2 * mp.pi * be)
        sd = mp.sqrt(bt)
        pts = [m1[0] + k * sd for k in (-14, -6, -3, -1, 0, 1, 3, 6, 14)]
        Z = mp.quad(lambda z: prior(z) * lik(z), pts)
        mean = mp.quad(lambda z: z * prior(z) * lik(z), pts) / Z
        var = mp.quad(lambda z: (z - mean) ** 2 * prior(z) * lik(z), pts) / Z
        O.same(name, "posterior mean (coordinate 1)", m1[0], mean, 1e-20, "quadrature of Bayes' rule")
        O.same(name, "beta_tilde", bt, var, 1e-20, "quadrature of Bayes' rule")
        for key, vv in (("variance_beta", be), ("variance_unit_seed", mp.mpf(1))):
            f = lambda z, k: mp.exp(-(z - m1[k]) ** 2 / (2 * bt)) / mp.sqrt(2 * mp.pi * bt) * (
                -mp.log(2 * mp.pi * bt) / 2 - (z - m1[k]) ** 2 / (2 * bt) + mp.log(2 * mp.pi * vv) / 2 + (z - m2[k]) ** 2 / (2 * vv))
            q = mp.fsum(mp.quad(lambda z: f(z, k), [m1[k] + j * sd for j in (-14, -5, -2, 0, 2, 5, 14)]) for k in range(3))
            O.same(name, "kl_step " + key, out["kl_step"][key], q, 1e-18, "quadrature of q ln(q/p), three coordinates")

# optimal isotropic reverse variance for data N(0, s): between beta_tilde (s=0), beta (s=1) and beta/alpha (s -> infinity)
P, A, be, al = coeffs(lin, 500)
rows = {}
for s in ("0", "0.1", "1", "4", "1e8"):
    s = mp.mpf(s)
    vp, vt = P * s + 1 - P, A * s + 1 - A
    rows[mp.nstr(s, 4)] = vp * be / vt
    alt = be * (1 - P) / (1 - A) + (mp.sqrt(P) * be / (1 - A)) ** 2 * (s * (1 - A) / vt)
    O.same("optimal_reverse_variance_t500", f"s={mp.nstr(s,4)}", vp * be / vt, alt, 1e-35, "beta_tilde + coef_x0^2 Var(x0|x_t)")
O.case("optimal_reverse_variance_t500", {"schedule": "linear_T1000", "t": 500, "data": "N(0, s)"},
       {"Var(x_{t-1}|x_t)": rows, "beta_tilde": be * (1 - P) / (1 - A), "beta": be, "beta_over_alpha": be / al},
       "beta_tilde <= optimum <= beta/alpha; the optimum is beta only for unit-variance data.")
# sinusoidal time embedding
d, base = 8, 10000
emb = lambda t: [f(mp.mpf(t) / mp.power(base, mp.mpf(2 * i) / d)) for i in range(d // 2) for f in (mp.sin, mp.cos)]
ts = [1, 2, 10, 999, 1000]
O.case("sinusoidal_embedding_d8", {"d": d, "rule": "e[2i] = sin(t / 10000^(2i/d)), e[2i+1] = cos(t / 10000^(2i/d)), i = 0..d/2-1"},
       {t: emb(t) for t in ts}, "Squared norm d/2; inner product of rows t and s depends on t - s only.")
dot = lambda p, q: mp.fsum(i * j for i, j in zip(p, q))
O.same("sinusoidal_embedding_d8", "norm", [dot(emb(t), emb(t)) for t in ts], [mp.mpf(d) / 2] * len(ts), 1e-40, "d/2")
O.same("sinusoidal_embedding_d8", "shift invariance", dot(emb(10), emb(13)), dot(emb(500), emb(503)), 1e-40, "two pairs with the same difference")
# ---------------------------------------------------------------- networks that do nothing: exact losses to compare a fresh model with
for name, beta, D, n2 in (("trivial_networks_T5", small, 2, mp.mpf("1.06")), ("trivial_networks_linear_T1000", lin, 784, mp.mpf(784))):
    T = len(beta)
    ab = [mp.mpf(1)]
    for b in beta:
        ab.append(ab[-1] * (1 - b))
    second = [ab[t] * n2 + D * (1 - ab[t]) for t in range(T + 1)]            # E||x_t||^2 given x0
    zero = mp.fsum(second[t - 1] for t in range(1, T + 1))
    ident = mp.fsum((1 - mp.sqrt(1 - beta[t - 1])) ** 2 * second[t - 1] + D * beta[t - 1] for t in range(1, T + 1))
    best_known_x0 = mp.fsum(D * beta[t - 1] * (1 - ab[t - 1]) / (1 - ab[t]) for t in range(1, T + 1))
    C = -D * mp.log(2 * mp.pi) / 2 - second[T] / 2 + D * mp.fsum(mp.log(2 * mp.pi * b) + 1 for b in beta) / 2
    cst = T * D * mp.log(2 * mp.pi) / 2
    O.case(name, {"D": D, "norm_x0_squared": n2, "T": T},
           {"C_of_x0": C, "constant_T_D_ln2pi_over_2": cst,
            "x_hat_zero": {"seed_J_without_constant": -zero / 2, "elbo": -zero / 2 - cst + C},
            "x_hat_equals_x_t": {"seed_J_without_constant": -ident / 2, "elbo": -ident / 2 - cst + C},
            "x_hat_equals_posterior_mean_with_true_x0": {"seed_J_without_constant": -best_known_x0 / 2, "elbo": -best_known_x0 / 2 - cst + C},
            "eps_hat_zero_simple_loss_sum_over_dimensions": D},
           "Unit-covariance decoder of the notes. The third entry is the ceiling: no network can do better for one fixed x0.")
    af = np.cumprod([1.0] + [1 - float(b) for b in beta])
    bf = np.array([float(b) for b in beta])
    sec = af * float(n2) + D * (1 - af)
    O.same(name, "x_hat_zero (relative)", sec[:-1].sum() / float(zero), 1, 1e-12, "float64")
    O.same(name, "x_hat_equals_x_t (relative)", ((1 - np.sqrt(1 - bf)) ** 2 * sec[:-1] + D * bf).sum() / float(ident), 1, 1e-12, "float64")
    # simulation of whole paths with a small D and the same per-dimension x0
    g = np.random.default_rng(31)
    if T == 5:
        x = np.tile([0.9, -0.5], (300000, 1))
        a0, a1 = np.zeros(len(x)), np.zeros(len(x))
        for b in bf:
            y = np.sqrt(1 - b) * x + np.sqrt(b) * g.standard_normal(x.shape)
            a0 -= 0.5 * (x ** 2).sum(1)
            a1 -= 0.5 * ((x - y) ** 2).sum(1)
            x = y
        O.mc(name, "x_hat_zero", -zero / 2, a0, "simulated paths, x0 = (0.9, -0.5)")
        O.mc(name, "x_hat_equals_x_t", -ident / 2, a1, "simulated paths, x0 = (0.9, -0.5)")
    else:
        x = np.ones((4000, 1))
        a0, a1 = np.zeros(4000), np.zeros(4000)
        for b in bf:
            y = np.sqrt(1 - b) * x + np.sqrt(b) * g.standard_normal(x.shape)
            a0 -= 0.5 * (x ** 2).sum(1)
            a1 -= 0.5 * ((x - y) ** 2).sum(1)
            x = y
        O.mc(name, "x_hat_zero per dimension", -zero / 2 / D, a0, "simulated paths, one dimension, x0 = 1")
        O.mc(name, "x_hat_equals_x_t per dimension", -ident / 2 / D, a1, "simulated paths, one dimension, x0 = 1")
O.save()
