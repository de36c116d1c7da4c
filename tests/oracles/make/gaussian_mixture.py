"""Gaussian-mixture data: exact denoiser, score, MMSE and attainable ELBO."""
from common import Oracle
import mpmath as mp
import numpy as np
from common import linear_betas

O = Oracle(
    "gaussian_mixture.json",
    "Mixture data x0 ~ sum_k w_k N(m_k, S_k): E[x0|x_t], Cov(x0|x_t), score, optimal eps and v at given x_t; entropy, MMSE curve and the "
    "best mean ELBO that any denoiser can reach with a fixed reverse variance.",
    {"t": "1-based, alpha_bar of schedule linear_T1000 (1e-4..0.02), or of linear T=100 (1e-3..0.2) where named",
     "given x_t": "component k has weight prop. to w_k N(x_t; a m_k, a^2 S_k + b^2 I), a = sqrt(alpha_bar), b^2 = 1 - alpha_bar",
     "E[x0|x_t]": "sum_k r_k [m_k + a S_k (a^2 S_k + b^2 I)^-1 (x_t - a m_k)]",
     "mmse_x0": "E ||x0 - E[x0|x_t]||^2 (sum over dimensions)", "mmse_eps": "mmse_x0 * SNR",
     "best_mean_elbo": "nats per example with the exact denoiser: -KL_T + E log N(x0; mean, s_1^2) - sum_{t>=2} KL_t"},
)
mp.mp.dps = 30
W = ["0.3", "0.7"]
M1 = ["-1.5", "0.8"]
S1 = ["0.16", "0.0625"]
w, m, s = ([mp.mpf(v) for v in a] for a in (W, M1, S1))
beta = linear_betas()
ab = [mp.mpf(1)]
for b in beta:
    ab.append(ab[-1] * (1 - b))


def n1(x, mu, var):
    return mp.exp(-(x - mu) ** 2 / (2 * var)) / mp.sqrt(2 * mp.pi * var)


def post1(x, A):
    a = mp.sqrt(A)
    ev = [w[k] * n1(x, a * m[k], A * s[k] + 1 - A) for k in range(2)]
    r = [e / sum(ev) for e in ev]
    mk = [m[k] + a * s[k] / (A * s[k] + 1 - A) * (x - a * m[k]) for k in range(2)]
    vk = [s[k] * (1 - A) / (A * s[k] + 1 - A) for k in range(2)]
    mean = sum(r[k] * mk[k] for k in range(2))
    return mean, sum(r[k] * (vk[k] + mk[k] ** 2) for k in range(2)) - mean ** 2, sum(ev)


rows = {}
pts = [mp.mpf(v) for v in ("-2", "-0.4", "0.1", "1.3")]
for t in (1, 10, 100, 250, 500, 1000):
    A = ab[t]
    a, b = mp.sqrt(A), mp.sqrt(1 - A)
    for x in pts:
        mean, var, dens = post1(x, A)
        sc = (a * mean - x) / (1 - A)
        rows[f"t={t},x={mp.nstr(x, 3)}"] = {"x0": mean, "var_x0": var, "score": sc, "eps": (x - a * mean) / b, "v": (a * x - mean) / b, "log_q": mp.log(dens)}
        cuts = sorted([mp.mpf(-40), mp.mpf(40)] + [c for mu, v in [(m[0], s[0]), (m[1], s[1]), (x / a, (1 - A) / A)] for c in (mu - 5 * mp.sqrt(v), mu - mp.sqrt(v), mu, mu + mp.sqrt(v), mu + 5 * mp.sqrt(v)) if -40 < c < 40])
        q = lambda z: sum(w[k] * n1(z, m[k], s[k]) for k in range(2)) * n1(x, a * z, 1 - A)
        Z = mp.quad(q, cuts)
        qm = mp.quad(lambda z: z * q(z), cuts) / Z
        qv = mp.quad(lambda z: (z - qm) ** 2 * q(z), cuts) / Z
        nm = f"t={t},x={mp.nstr(x, 3)}"
        O.same("denoiser_1d", nm + " mean,var,log_q", [mean, var, mp.log(dens)], [qm, qv, mp.log(Z)], 1e-9, "quadrature of Bayes' rule")
        O.same("denoiser_1d", nm + " score", sc, mp.diff(lambda y: mp.log(post1(y, A)[2]), x), 1e-9, "numerical derivative of ln q_t (Tweedie)")
O.case("denoiser_1d", {"weights": list(map(float, W)), "means": list(map(float, M1)), "variances": list(map(float, S1)), "schedule": "linear_T1000"}, rows)

# ---------------------------------------------------------------- 2-d, full covariances
w2 = np.array([0.2, 0.5, 0.3])
m2 = np.array([[-1.0, 0.5], [0.7, 0.2], [0.1, -1.1]])
S2 = np.array([[[0.10, 0.02], [0.02, 0.05]], [[0.04, -0.01], [-0.01, 0.09]], [[0.02, 0.0], [0.0, 0.02]]])


def post2(x, A):
    a, b2 = np.sqrt(A), 1 - A
    lw, mk, Vk = [], [], []
    for k in range(3):
        C = A * S2[k] + b2 * np.eye(2)
        d = x - a * m2[k]
        lw.append(np.log(w2[k]) - 0.5 * (2 * np.log(2 * np.pi) + np.linalg.slogdet(C)[1] + d @ np.linalg.solve(C, d)))
        G = a * S2[k] @ np.linalg.inv(C)
        mk.append(m2[k] + G @ d)
        Vk.append(S2[k] - a * G @ S2[k])
    lw = np.array(lw)
    lz = np.logaddexp.reduce(lw)
    r = np.exp(lw - lz)
    mean = sum(r[k] * mk[k] for k in range(3))
    cov = sum(r[k] * (Vk[k] + np.outer(mk[k], mk[k])) for k in range(3)) - np.outer(mean, mean)
    return mean, cov, lz


rows = {}
for t in (10, 100, 250, 500, 1000):
    A = float(ab[t])
    a, b = np.sqrt(A), np.sqrt(1 - A)
    for x in (np.array([0.3, -0.2]), np.array([-1.2, 0.9])):
        mean, cov, lz = post2(x, A)
        nm = f"t={t},x={x.tolist()}"
        rows[nm] = {"x0": mean, "cov_x0": cov, "score": (a * mean - x) / b ** 2, "eps": (x - a * mean) / b, "v": (a * x - mean) / b, "log_q": lz}
        # trapezoid on a grid in the natural units of each component: spectral accuracy for Gaussians
        g = np.linspace(-9, 9, 241)
        num, den, sec = np.zeros(2), 0.0, np.zeros((2, 2))
        for k in range(3):
            L = np.linalg.cholesky(np.linalg.inv(np.linalg.inv(S2[k]) + A / b ** 2 * np.eye(2)))
            c = L @ L.T @ (np.linalg.solve(S2[k], m2[k]) + a / b ** 2 * x)
            U, V = np.meshgrid(g, g)
            z = c + np.stack([U.ravel(), V.ravel()], 1) @ L.T
            d = z - m2[k]
            lp = (np.log(w2[k]) - np.log(2 * np.pi) - 0.5 * np.linalg.slogdet(S2[k])[1] - 0.5 * np.einsum("ni,ij,nj->n", d, np.linalg.inv(S2[k]), d)
                  - np.log(2 * np.pi * b ** 2) - 0.5 * ((x - a * z) ** 2).sum(1) / b ** 2)
            p = np.exp(lp - lz) * (g[1] - g[0]) ** 2 * abs(np.linalg.det(L))
            den += p.sum()
            num += p @ z
            sec += (z * p[:, None]).T @ z
        O.same("denoiser_2d", nm, np.concatenate([mean, cov.ravel(), [0.0]]), np.concatenate([num / den, (sec / den - np.outer(num / den, num / den)).ravel(), [np.log(den)]]), 1e-10, "2-d trapezoid quadrature of Bayes' rule")
        h = 1e-5
        fd = [(post2(x + h * e, A)[2] - post2(x - h * e, A)[2]) / (2 * h) for e in np.eye(2)]
        O.same("denoiser_2d", nm + " score", (a * mean - x) / b ** 2, np.array(fd), 2e-6 * max(1, np.abs(fd).max()), "central difference of ln q_t")
O.case("denoiser_2d", {"weights": w2, "means": m2, "covariances": S2, "schedule": "linear_T1000"}, rows)

# ---------------------------------------------------------------- MMSE curve and attainable ELBO (1-d mixture)
wf, mf, sf = (np.array([float(v) for v in a]) for a in (w, m, s))


def grid_posterior(A, n=4001):
    """Values on a grid of x_t: density, posterior mean, posterior variance."""
    a, b2 = np.sqrt(A), 1 - A
    sd = np.sqrt(A * sf + b2)
    lo, hi = (a * mf - 12 * sd).min(), (a * mf + 12 * sd).max()
    x = np.linspace(lo, hi, n)
    lw = np.log(wf) - 0.5 * np.log(2 * np.pi * sd ** 2) - (x[:, None] - a * mf) ** 2 / (2 * sd ** 2)
    lz = np.logaddexp(lw[:, 0], lw[:, 1])
    r = np.exp(lw - lz[:, None])
    mk = mf + a * sf / sd ** 2 * (x[:, None] - a * mf)
    mean = (r * mk).sum(1)
    var = (r * (sf * b2 / sd ** 2 + mk ** 2)).sum(1) - mean ** 2
    return x, np.exp(lz), lz, mean, var


def mmse(A, n=4001):
    x, p, lz, mean, var = grid_posterior(A, n)
    return np.sum(p * var) * (x[1] - x[0])


x = np.linspace(-1.5 - 12 * 0.4, 0.8 + 12 * 0.4, 8001)
p = sum(wf[k] * np.exp(-(x - mf[k]) ** 2 / (2 * sf[k])) / np.sqrt(2 * np.pi * sf[k]) for k in range(2))
H = -np.sum(p * np.log(np.maximum(p, 1e-320))) * (x[1] - x[0])
Hq = -mp.quad(lambda z: (lambda d: d * mp.log(d))(sum(w[k] * n1(z, m[k], s[k]) for k in range(2))), [-7, -3, -1.5, -0.4, 0.3, 0.8, 1.3, 4])
tot_var = sum(wf * (sf + mf ** 2)) - sum(wf * mf) ** 2
g = np.random.default_rng(5)
for name, bt_, T in (("linear_T1000", beta, 1000), ("linear_T100", linear_betas(100, "1e-3", "0.2"), 100)):
    bf = np.array([float(v) for v in bt_])
    A = np.concatenate([[1.0], np.cumprod(1 - bf)])
    mm = np.array([np.nan] + [mmse(A[t]) for t in range(1, T + 1)])
    Ex2 = float((wf * (sf + mf ** 2)).sum())
    prior = 0.5 * (A[T] * (Ex2 - 1) - np.log1p(-A[T]))
    c0 = np.concatenate([[np.nan], np.sqrt(A[:-1]) * bf / (1 - A[1:])])
    til = np.concatenate([[np.nan], bf * (1 - A[:-1]) / (1 - A[1:])])
    res, v = {}, None
    opt = til + c0 ** 2 * mm                                    # E Var(x_{t-1}|x_t): best state-independent variance
    for key, v in (("unit_seed", np.ones(T + 1)), ("beta", np.concatenate([[np.nan], bf])), ("tilde_t1_beta", np.concatenate([[np.nan, bf[0]], til[2:]])), ("optimal_fixed", opt)):
        rec = -0.5 * np.log(2 * np.pi * v[1]) - c0[1] ** 2 * mm[1] / (2 * v[1])
        rr = til[2:] / v[2:]
        steps = 0.5 * (rr - 1 - np.log(rr) + c0[2:] ** 2 * mm[2:] / v[2:])
        res[key] = {"best_mean_elbo": -prior + rec - steps.sum(), "prior": prior, "reconstruction": rec, "sum_step_kl": steps.sum()}
        # second way: J + C with the residual variance
        J = (-0.5 * np.log(2 * np.pi * v[1:]) - opt[1:] / (2 * v[1:])).sum()
        C = -0.5 * np.log(2 * np.pi) - 0.5 * (A[T] * Ex2 + 1 - A[T]) + 0.5 * (np.log(2 * np.pi) + 1 + np.log(bf)).sum()
        O.same("elbo_" + name, key, res[key]["best_mean_elbo"], J + C, 1e-8, "J + C form")
    ts = [t for t in (1, 2, 5, 10, 20, 50, 100, 250, 500, 750, 1000) if t <= T]
    O.case("elbo_" + name, {"weights": list(map(float, W)), "means": list(map(float, M1)), "variances": list(map(float, S1)), "T": T, "beta_1": bf[0], "beta_T": bf[-1]},
           {"minus_entropy": float(-Hq), "by_variance": res, "mmse_x0": {t: mm[t] for t in ts}, "mmse_eps": {t: mm[t] * A[t] / (1 - A[t]) for t in ts},
            "mean_over_t_of_mmse_eps": float(np.mean(mm[1:] * A[1:] / (1 - A[1:]))),
            "data_mean": float((wf * mf).sum()), "data_variance": tot_var},
           "mean_over_t_of_mmse_eps is the smallest value the simple eps loss can reach on this data (t uniform).")
    O.same("elbo_" + name, "entropy", H, Hq, 1e-12, "trapezoid against adaptive quadrature")
    for t in ts:
        O.same("elbo_" + name, f"mmse_x0[{t}]", mm[t], mmse(A[t], 9001), 1e-12, "finer grid")
    for t in ts[:: 3]:
        k = (g.random(400000) < wf[1]).astype(int)
        x0 = mf[k] + np.sqrt(sf[k]) * g.standard_normal(k.size)
        xt = np.sqrt(A[t]) * x0 + np.sqrt(1 - A[t]) * g.standard_normal(k.size)
        sd2 = A[t] * sf + 1 - A[t]
        lw = np.log(wf) - 0.5 * np.log(sd2) - (xt[:, None] - np.sqrt(A[t]) * mf) ** 2 / (2 * sd2)
        r = np.exp(lw - np.logaddexp(lw[:, 0], lw[:, 1])[:, None])
        est = (r * (mf + np.sqrt(A[t]) * sf / sd2 * (xt[:, None] - np.sqrt(A[t]) * mf))).sum(1)
        O.mc("elbo_" + name, f"mmse_x0[{t}]", mm[t], (x0 - est) ** 2, "simulation")
    O.holds("elbo_" + name, "best_mean_elbo <= -entropy for every variance", all(v["best_mean_elbo"] <= -H for v in res.values()), "values")
    O.holds("elbo_" + name, "optimal fixed variance is the best of the four", res["optimal_fixed"]["best_mean_elbo"] == max(v["best_mean_elbo"] for v in res.values()), "values")
# I-MMSE: d/dSNR of the information is mmse/2, a test of the whole curve
snrs = np.geomspace(1e-4, 1e4, 4001)
A_ = snrs / (1 + snrs)
I_lo, I_hi = (lambda A: (lambda x, p, lz, *_: -np.sum(p * lz) * (x[1] - x[0]) - 0.5 * np.log(2 * np.pi * np.e * (1 - A)))(*grid_posterior(A, 8001)))(A_[0]), None
I_hi = (lambda A: (lambda x, p, lz, *_: -np.sum(p * lz) * (x[1] - x[0]) - 0.5 * np.log(2 * np.pi * np.e * (1 - A)))(*grid_posterior(A, 8001)))(A_[-1])
mmv = np.array([mmse(a, 2001) for a in A_])
f = 0.5 * mmv * snrs
lg = np.log(snrs)
simpson = (lg[1] - lg[0]) / 3 * (f[0] + f[-1] + 4 * f[1:-1:2].sum() + 2 * f[2:-1:2].sum())
O.case("i_mmse", {"snr_from": 1e-4, "snr_to": 1e4}, {"information_gain": I_hi - I_lo, "half_integral_of_mmse": simpson})
O.same("i_mmse", "information_gain", I_hi - I_lo, simpson, 1e-9, "mutual information from entropies against half the integral of the MMSE")
O.save()
