"""Exactly solvable diffusion: T = 5, D = 2, affine denoisers.

Everything follows from the joint Gaussian of the path x_{1:T} given x_0 (or of x_{0:T}
when x_0 ~ N(m, S)).  Reverse step: N(A_t x_t + b_t, diag(s_t^2)).
"""
from common import Oracle
import numpy as np

O = Oracle(
    "diffusion_linear_T5_D2.json",
    "Linear-Gaussian chain, T=5, D=2: exact log p_theta(x0), exact ELBO in three ways, exact expectation and exact variance of the "
    "T-sample, 2-sample and 1-sample estimators, for the notes' unit covariance and for variance beta_t, beta_tilde_t and a learned diagonal.",
    {"t": "1-based; A[t-1], b[t-1] belong to step t", "J": "sum_t E_q log p_theta(x_{t-1}|x_t), constants kept",
     "C": "ELBO - J = E log p(x_T) - E log q(x_{1:T}|x_0) = entropy of q(x_{1:T}|x_0) + E log p(x_T)",
     "est_T": "sum_t l_t(x_{t-1},x_t) on one path, l_t = log p_theta(x_{t-1}|x_t)",
     "est_2": "T l_t(x_{t-1},x_t), t uniform on 1..T, x_{t-1} ~ q(.|x_0), x_t ~ q(.|x_{t-1})",
     "est_1": "T E[l_t | x_t, x_0], t uniform, x_t ~ q(.|x_0)",
     "est_1_centred, est_2_centred": "the same estimators with the parameter-free part summed over t exactly, sum_t c_t - T * quadratic_t; the same expectation",
     "seed_loss_J": "-1/2 sum_t E||x_{t-1} - x_hat_{t-1}||^2 = J + T D ln(2 pi)/2 for unit covariance"},
)
L2P = np.log(2 * np.pi)
beta = np.array([0.1, 0.2, 0.35, 0.5, 0.7])
T, D = 5, 2
alpha = 1 - beta
ab = np.concatenate([[1.0], np.cumprod(alpha)])
bt = np.array([beta[t - 1] * (1 - ab[t - 1]) / (1 - ab[t]) for t in range(1, T + 1)])
c0 = np.array([np.sqrt(ab[t - 1]) * beta[t - 1] / (1 - ab[t]) for t in range(1, T + 1)])
ct = np.array([np.sqrt(alpha[t - 1]) * (1 - ab[t - 1]) / (1 - ab[t]) for t in range(1, T + 1)])
x0 = np.array([0.9, -0.5])
m = np.array([0.3, -0.2])
S = np.array([[0.6, 0.25], [0.25, 0.4]])


def joint(x0=None):
    """Mean and covariance of (x_0, x_1, .., x_T); x_0 fixed or ~ N(m, S)."""
    n = (T + 1) * D
    mean = np.zeros(n)
    F = np.zeros((n, n))                       # x = mean + F w, w ~ N(0, I)
    if x0 is None:
        mean[:D] = m
        F[:D, :D] = np.linalg.cholesky(S)
    else:
        mean[:D] = x0
    for t in range(1, T + 1):
        i, j = slice(t * D, t * D + D), slice((t - 1) * D, t * D)
        mean[i] = np.sqrt(alpha[t - 1]) * mean[j]
        F[i] = np.sqrt(alpha[t - 1]) * F[j]
        F[i, i] += np.sqrt(beta[t - 1]) * np.eye(D)
    return mean, F @ F.T


def sel(t):
    E = np.zeros((D, (T + 1) * D))
    E[:, t * D:(t + 1) * D] = np.eye(D)
    return E


def log_normal(v, mu, C):
    d = v - mu
    return -0.5 * (len(mu) * L2P + np.linalg.slogdet(C)[1] + d @ np.linalg.solve(C, d))


def optimal_denoiser():
    """E[x_{t-1}|x_t] for x_0 ~ N(m,S), by conditioning the joint Gaussian."""
    mean, C = joint()
    As, bs, Vs = [], [], []
    for t in range(1, T + 1):
        i, j = slice((t - 1) * D, t * D), slice(t * D, (t + 1) * D)
        A = C[i, j] @ np.linalg.inv(C[j, j])
        As.append(A)
        bs.append(mean[i] - A @ mean[j])
        Vs.append(C[i, i] - A @ C[j, i])
    return np.array(As), np.array(bs), np.array(Vs)


def reverse_marginal(A, b, s2):
    mu, C = np.zeros(D), np.eye(D)
    for t in range(T, 0, -1):
        mu = A[t - 1] @ mu + b[t - 1]
        C = A[t - 1] @ C @ A[t - 1].T + np.diag(s2[t - 1])
    return mu, C


def reverse_joint(A, b, s2):
    n = (T + 1) * D
    mu, F = np.zeros(n), np.zeros((n, n))
    F[T * D:, T * D:] = np.eye(D)
    for t in range(T, 0, -1):
        i, j = slice((t - 1) * D, t * D), slice(t * D, (t + 1) * D)
        mu[i] = A[t - 1] @ mu[j] + b[t - 1]
        F[i] = A[t - 1] @ F[j]
        F[i, i] += np.diag(np.sqrt(s2[t - 1]))
    return mu, F @ F.T


def analyse(A, b, s2, x0):
    mean, C = joint(x0)
    # weighted residuals r_t = (x_{t-1} - A x_t - b)/s as one Gaussian vector; and the mean-matching residual h_t
    R = [(sel(t - 1) - A[t - 1] @ sel(t)) / np.sqrt(s2[t - 1])[:, None] for t in range(1, T + 1)]
    r0 = [(R[t] @ mean) - b[t] / np.sqrt(s2[t]) for t in range(T)]
    cst = np.array([-0.5 * (D * L2P + np.log(s2[t]).sum()) for t in range(T)])
    Eq = np.array([r0[t] @ r0[t] + np.trace(R[t] @ C @ R[t].T) for t in range(T)])      # E||r_t||^2
    el = cst - 0.5 * Eq
    cov = np.zeros((T, T))
    for s in range(T):
        for t in range(T):
            V = R[s] @ C @ R[t].T
            cov[s, t] = 0.25 * (2 * np.trace(V @ V.T) + 4 * r0[s] @ V @ r0[t])
    J = el.sum()
    # one-sample: conditional expectation of l_t given x_t (x0 fixed)
    H = [(ct[t - 1] * np.eye(D) - A[t - 1]) @ sel(t) / np.sqrt(s2[t - 1])[:, None] for t in range(1, T + 1)]
    h0 = [H[t] @ mean + (c0[t] * x0 - b[t]) / np.sqrt(s2[t]) for t in range(T)]
    pf = np.array([cst[t] - 0.5 * (bt[t] / s2[t]).sum() for t in range(T)])               # parameter-free when s2 is fixed
    Eh = np.array([h0[t] @ h0[t] + np.trace(H[t] @ C @ H[t].T) for t in range(T)])
    Vh = np.array([2 * np.trace((H[t] @ C @ H[t].T) @ (H[t] @ C @ H[t].T)) + 4 * h0[t] @ H[t] @ C @ H[t].T @ h0[t] for t in range(T)])
    e1 = pf - 0.5 * Eh
    var_T = cov.sum()
    var_2 = T * (np.diag(cov) + el ** 2).sum() - J ** 2
    var_1 = T * (0.25 * Vh + e1 ** 2).sum() - J ** 2
    var_1c = T * (0.25 * Vh + (0.5 * Eh) ** 2).sum() - (0.5 * Eh.sum()) ** 2
    var_2c = T * (np.diag(cov) + (0.5 * Eq) ** 2).sum() - (0.5 * Eq.sum()) ** 2
    C_x0 = (-0.5 * D * L2P - 0.5 * (ab[T] * x0 @ x0 + D * (1 - ab[T]))) + 0.5 * D * (L2P + 1 + np.log(beta)).sum()
    prior = 0.5 * (ab[T] * (x0 @ x0 - D) - D * np.log(1 - ab[T]))
    # ELBO in KL form
    kls = [0.5 * ((bt[t] / s2[t]).sum() - D - np.log(bt[t] / s2[t]).sum() + Eh[t]) for t in range(1, T)]
    elbo_kl = e1[0] - prior - sum(kls)
    mu, CC = reverse_marginal(A, b, s2)
    logp = log_normal(x0, mu, CC)
    # KL(q(x_{1:T}|x0) || p(x_{1:T}|x0)) from the two joints
    pm, pC = reverse_joint(A, b, s2)
    G = pC[D:, :D] @ np.linalg.inv(pC[:D, :D])
    cm, cC = pm[D:] + G @ (x0 - pm[:D]), pC[D:, D:] - G @ pC[:D, D:]
    qm, qC = mean[D:], C[D:, D:]
    d = cm - qm
    P = np.linalg.inv(cC)
    klpath = 0.5 * (np.trace(P @ qC) + d @ P @ d - len(d) + np.linalg.slogdet(cC)[1] - np.linalg.slogdet(qC)[1])
    return dict(J=J, J_from_one_sample_form=e1.sum(), elbo=J + C_x0, elbo_kl_form=elbo_kl, C=C_x0, prior_kl=prior,
                reconstruction=e1[0], step_kls_t2_to_T=kls, step_expectations_l_t=el, log_p_x0=logp, path_kl=klpath,
                step_covariances_of_l_t=cov,
                variance={"est_T": var_T, "est_2": var_2, "est_2_centred": var_2c, "est_1": var_1, "est_1_centred": var_1c,
                          "T_stratified_independent_pairs": np.diag(cov).sum(), "mean_of_T_copies_of_est_2": var_2 / T},
                parameter_free_per_step=pf, expected_mean_residual_over_s2=Eh, generated_mean=mu, generated_cov=CC)


def simulate(A, b, s2, x0, n, seed):
    g = np.random.default_rng(seed)
    xs = [np.tile(x0, (n, 1))]
    for t in range(1, T + 1):
        xs.append(np.sqrt(alpha[t - 1]) * xs[-1] + np.sqrt(beta[t - 1]) * g.standard_normal((n, D)))
    l = np.stack([-0.5 * (D * L2P + np.log(s2[t - 1]).sum())
                  - 0.5 * ((xs[t - 1] - xs[t] @ A[t - 1].T - b[t - 1]) ** 2 / s2[t - 1]).sum(1) for t in range(1, T + 1)], 1)
    estT = l.sum(1)
    tt = g.integers(1, T + 1, n)
    xp = np.sqrt(ab[tt - 1])[:, None] * x0 + np.sqrt(1 - ab[tt - 1])[:, None] * g.standard_normal((n, D))
    xt = np.sqrt(alpha[tt - 1])[:, None] * xp + np.sqrt(beta[tt - 1])[:, None] * g.standard_normal((n, D))
    mu = np.einsum("nij,nj->ni", A[tt - 1], xt) + b[tt - 1]
    est2 = T * (-0.5 * (D * L2P + np.log(s2[tt - 1]).sum(1)) - 0.5 * ((xp - mu) ** 2 / s2[tt - 1]).sum(1))
    tt = g.integers(1, T + 1, n)
    xt = np.sqrt(ab[tt])[:, None] * x0 + np.sqrt(1 - ab[tt])[:, None] * g.standard_normal((n, D))
    mu = np.einsum("nij,nj->ni", A[tt - 1], xt) + b[tt - 1]
    mt = c0[tt - 1][:, None] * x0 + ct[tt - 1][:, None] * xt
    est1 = T * (-0.5 * (D * L2P + np.log(s2[tt - 1]).sum(1)) - 0.5 * (((mt - mu) ** 2 + bt[tt - 1][:, None]) / s2[tt - 1]).sum(1))
    lq = -sum(0.5 * D * (L2P + np.log(beta[t - 1])) + 0.5 * ((xs[t] - np.sqrt(alpha[t - 1]) * xs[t - 1]) ** 2).sum(1) / beta[t - 1] for t in range(1, T + 1))
    lp = -0.5 * D * L2P - 0.5 * (xs[T] ** 2).sum(1)
    return estT, est2, est1, estT + lp - lq


Aopt, bopt, Vopt = optimal_denoiser()
# arbitrary, clearly wrong denoiser (fixed formula so that a reader can rebuild it)
Abad = np.array([[[0.7 + 0.02 * t, 0.05 * t], [-0.03 * t, 0.6 - 0.04 * t]] for t in range(1, T + 1)])
bbad = np.array([[0.1 * t, -0.05 * t] for t in range(1, T + 1)])
v = np.array([0.3, 0.8])
bt_fix = bt.copy()
bt_fix[0] = bt[1]                                                    # usual repair at t = 1
learned = np.exp(v * np.log(beta)[:, None] + (1 - v) * np.log(bt_fix)[:, None])
variances = {"unit_seed": np.ones((T, D)), "beta": np.repeat(beta[:, None], D, 1),
             "beta_tilde_t1_takes_beta_tilde_2": np.repeat(bt_fix[:, None], D, 1), "learned_diag": learned}
O.case("setting", {"beta": beta, "x0": x0, "data_mean": m, "data_cov": S, "A_arbitrary": Abad, "b_arbitrary": bbad,
                   "learned_interpolation_v_per_dimension": v, "learned_rule": "s^2 = exp(v ln beta + (1-v) ln beta_tilde), beta_tilde_1 replaced by beta_tilde_2"},
       {"alpha_bar_0_to_T": ab, "beta_tilde": bt, "coef_x0": c0, "coef_xt": ct, "A_optimal": Aopt, "b_optimal": bopt,
        "Cov(x_{t-1}|x_t)": Vopt, "variance_tables": variances})
# optimal denoiser a second way: through E[x0|x_t] and the posterior mean formula
for t in range(1, T + 1):
    K = np.sqrt(ab[t]) * S @ np.linalg.inv(ab[t] * S + (1 - ab[t]) * np.eye(D))
    A2 = c0[t - 1] * K + ct[t - 1] * np.eye(D)
    b2 = c0[t - 1] * (m - np.sqrt(ab[t]) * K @ m)
    V2 = bt[t - 1] * np.eye(D) + c0[t - 1] ** 2 * (S - np.sqrt(ab[t]) * K @ S)
    O.same("setting", f"optimal denoiser t={t}", np.concatenate([A2.ravel(), b2, V2.ravel()]),
           np.concatenate([Aopt[t - 1].ravel(), bopt[t - 1], Vopt[t - 1].ravel()]), 1e-12,
           "coef_x0 E[x0|x_t] + coef_xt x_t and beta_tilde I + coef_x0^2 Cov(x0|x_t)")
    # score route: (x + beta * grad ln q_t)/sqrt(alpha)
    Q = np.linalg.inv(ab[t] * S + (1 - ab[t]) * np.eye(D))
    A3 = (np.eye(D) - beta[t - 1] * Q) / np.sqrt(alpha[t - 1])
    b3 = beta[t - 1] * Q @ (np.sqrt(ab[t]) * m) / np.sqrt(alpha[t - 1])
    O.same("setting", f"optimal denoiser t={t} by score", np.concatenate([A3.ravel(), b3]), np.concatenate([Aopt[t - 1].ravel(), bopt[t - 1]]), 1e-12, "score of N(a m, ab S + (1-ab) I)")

k = 0
for dn, (A, b) in (("arbitrary", (Abad, bbad)), ("optimal", (Aopt, bopt))):
    for vn, s2 in variances.items():
        o = analyse(A, b, s2, x0)
        name = f"{dn}_{vn}"
        if vn == "unit_seed":
            o["seed_loss_J"] = o["J"] + 0.5 * T * D * L2P
        O.case(name, {"denoiser": dn, "variance": vn}, o)
        O.same(name, "J", o["J"], o["J_from_one_sample_form"], 1e-12, "pair moments against conditional (Rao-Blackwell) moments")
        O.same(name, "elbo", o["elbo"], o["elbo_kl_form"], 1e-12, "log-ratio form against KL form")
        O.same(name, "elbo", o["elbo"], o["log_p_x0"] - o["path_kl"], 1e-11, "exact log p(x0) - KL of the two path Gaussians")
        k += 1
        eT, e2, e1, el = simulate(A, b, s2, x0, 300000, 1000 + k)
        for key, arr in (("est_T", eT), ("est_2", e2), ("est_1", e1)):
            O.mc(name, f"E {key}", o["J"], arr, "simulation")
            O.mc_var(name, f"Var {key}", o["variance"][key], arr, "simulation")
        O.mc(name, "elbo", o["elbo"], el, "simulated log ratio over whole paths")
        V = o["variance"]
        O.holds(name, "Var est_T <= Var est_2", V["est_T"] <= V["est_2"], "proved in general; value")
        O.holds(name, "Var est_1 <= Var est_2", V["est_1"] <= V["est_2"], "Rao-Blackwell; value")
        O.holds(name, "Var est_1_centred <= Var est_2_centred (est_1 also moves its constant D beta_tilde / 2s^2)", V["est_1_centred"] <= V["est_2_centred"], "value")
        O.holds(name, "elbo <= log p(x0)", o["elbo"] <= o["log_p_x0"], "value")
        # difference of variances predicted by the conditional variance formula
        mean, C = joint(x0)
        add = 0
        for t in range(1, T + 1):
            M = (ct[t - 1] * np.eye(D) - A[t - 1])
            h = c0[t - 1] * x0 - b[t - 1] + M @ mean[t * D:(t + 1) * D]
            Ch = M @ C[t * D:(t + 1) * D, t * D:(t + 1) * D] @ M.T
            add += (bt[t - 1] * (h ** 2 + np.diag(Ch)) / s2[t - 1] ** 2 + 0.5 * bt[t - 1] ** 2 / s2[t - 1] ** 2).sum()
        O.same(name, "Var est_2 - Var est_1", V["est_2"] - V["est_1"], T * add, 1e-10,
               "T sum_t E Var(l_t|x_t), Var(l_t|x_t) = sum_d [bt (mt-mu)_d^2 + bt^2/2]/s_d^4")

# sampled generation: law of generated x0 by simulation
g = np.random.default_rng(77)
s2 = variances["beta"]
z = g.standard_normal((300000, D))
for t in range(T, 0, -1):
    z = z @ Aopt[t - 1].T + bopt[t - 1] + np.sqrt(s2[t - 1]) * g.standard_normal(z.shape)
mu, CC = reverse_marginal(Aopt, bopt, s2)
for d in range(D):
    O.mc("optimal_beta", f"generated_mean[{d}]", mu[d], z[:, d], "ancestral sampling")
    O.mc_var("optimal_beta", f"generated_cov[{d},{d}]", CC[d, d], z[:, d], "ancestral sampling")

# averages over the data law N(m, S)
mean, C = joint()
res = {}
ent = 0.5 * (D * (L2P + 1) + np.linalg.slogdet(S)[1])
for dn, (A, b) in (("arbitrary", (Abad, bbad)), ("optimal", (Aopt, bopt))):
    for vn, s2 in {**variances, "optimal_isotropic": np.repeat((np.trace(Vopt, axis1=1, axis2=2) / D)[:, None], D, 1),
                   "optimal_diagonal": np.stack([np.diag(V) for V in Vopt])}.items():
        el = []
        for t in range(1, T + 1):
            R = (sel(t - 1) - A[t - 1] @ sel(t))
            r = R @ mean - b[t - 1]
            el.append(-0.5 * (D * L2P + np.log(s2[t - 1]).sum()) - 0.5 * ((r ** 2 + np.diag(R @ C @ R.T)) / s2[t - 1]).sum())
        Ex2 = m @ m + np.trace(S)
        Cc = -0.5 * D * L2P - 0.5 * (ab[T] * Ex2 + D * (1 - ab[T])) + 0.5 * D * (L2P + 1 + np.log(beta)).sum()
        mu, CC = reverse_marginal(A, b, s2)
        d = mu - m
        elp = -0.5 * (D * L2P + np.linalg.slogdet(CC)[1] + np.trace(np.linalg.solve(CC, S)) + d @ np.linalg.solve(CC, d))
        res[f"{dn}_{vn}"] = {"mean_J": sum(el), "mean_elbo": sum(el) + Cc, "mean_log_p": elp}
        # second way: exact quadratic in x0 -> average the per-x0 ELBO over Gauss-Hermite nodes (exact for quadratics)
        nd, w = np.polynomial.hermite_e.hermegauss(3)
        acc = accp = 0.0
        Lc = np.linalg.cholesky(S)
        for i in range(3):
            for j in range(3):
                o = analyse(A, b, s2, m + Lc @ np.array([nd[i], nd[j]]))
                acc += w[i] * w[j] * o["elbo_kl_form"]
                accp += w[i] * w[j] * o["log_p_x0"]
        O.same("data_average", f"{dn}_{vn} mean_elbo", res[f"{dn}_{vn}"]["mean_elbo"], acc / w.sum() ** 2, 1e-11, "Gauss-Hermite average of the per-x0 KL-form ELBO")
        O.same("data_average", f"{dn}_{vn} mean_log_p", elp, accp / w.sum() ** 2, 1e-11, "Gauss-Hermite average of log p(x0)")
        O.holds("data_average", f"{dn}_{vn}: mean_elbo <= mean_log_p <= -entropy", res[f"{dn}_{vn}"]["mean_elbo"] <= elp + 1e-12 <= -ent + 2e-12, "values")
mT, ST = np.sqrt(ab[T]) * m, ab[T] * S + (1 - ab[T]) * np.eye(D)
klT = 0.5 * (np.trace(ST) + mT @ mT - D - np.linalg.slogdet(ST)[1])
# full-covariance reverse kernel: the only loss left is KL(q(x_T)||N(0,I))
fe = -ent - klT
full = sum(-0.5 * (D * (L2P + 1) + np.linalg.slogdet(V)[1]) for V in Vopt)
Ex2 = m @ m + np.trace(S)
Cc = -0.5 * D * L2P - 0.5 * (ab[T] * Ex2 + D * (1 - ab[T])) + 0.5 * D * (L2P + 1 + np.log(beta)).sum()
res["optimal_full_covariance"] = {"mean_J": full, "mean_elbo": fe}
O.case("data_average", {"data": "N(data_mean, data_cov)"}, {**res, "minus_entropy_of_data": -ent, "kl_q(x_T)_to_standard_normal": klT})
O.same("data_average", "optimal_full_covariance mean_elbo", full + Cc, fe, 1e-12, "sum of step entropies + C = -entropy - KL(q(x_T)||N(0,I))")
O.holds("data_average", "optimal beats arbitrary for every variance", all(res[f"optimal_{v}"]["mean_elbo"] > res[f"arbitrary_{v}"]["mean_elbo"] for v in variances), "values")
# ---------------------------------------------------------------- forward process: joint law of two steps given x0
mean, C = joint(x0)
rows = {}
for s_ in range(1, T + 1):
    for t in range(s_, T + 1):
        closed = np.sqrt(ab[t] / ab[s_]) * (1 - ab[s_])
        rows[f"{s_},{t}"] = closed
        O.same("forward_joint", f"Cov(x_{s_}, x_{t} | x0)", C[s_ * D:(s_ + 1) * D, t * D:(t + 1) * D], closed * np.eye(D), 1e-13, "product of one-step maps")
O.case("forward_joint", {"s<=t": "Cov(x_s, x_t | x0) per dimension = sqrt(alpha_bar_t/alpha_bar_s) (1 - alpha_bar_s)"}, rows)

# ---------------------------------------------------------------- exact gradient of J in the affine denoiser
mean, C = joint(x0)
for vn in ("unit_seed", "beta"):
    s2 = variances[vn]
    gA, gb = np.zeros((T, D, D)), np.zeros((T, D))
    for t in range(1, T + 1):
        R = sel(t - 1) - Abad[t - 1] @ sel(t)
        r, xt = R @ mean - bbad[t - 1], sel(t) @ mean
        gb[t - 1] = r / s2[t - 1]
        gA[t - 1] = (R @ C @ sel(t).T + np.outer(r, xt)) / s2[t - 1][:, None]
    O.case("gradient_J_arbitrary_" + vn, {"denoiser": "arbitrary", "variance": vn}, {"dJ_dA": gA, "dJ_db": gb},
           "expectation of the gradient of every one of the three estimators")
    h = 1e-5
    for t in range(T):
        for i in range(D):
            for pack, G in ((0, gb[t, i]),) + tuple((1 + j, gA[t, i, j]) for j in range(D)):
                vals = []
                for sg in (1, -1):
                    A_, b_ = Abad.copy(), bbad.copy()
                    if pack == 0:
                        b_[t, i] += sg * h
                    else:
                        A_[t, i, pack - 1] += sg * h
                    vals.append(analyse(A_, b_, s2, x0)["J_from_one_sample_form"])
                O.same("gradient_J_arbitrary_" + vn, f"step {t+1} entry {i},{pack}", G, (vals[0] - vals[1]) / (2 * h), 1e-7, "central difference of J in its one-sample form")

# ---------------------------------------------------------------- values that faulty estimators converge to
mut = {}
for vn in ("unit_seed", "beta"):
    s2 = variances[vn]
    ok = analyse(Abad, bbad, s2, x0)

    def pair(cross):
        tot = 0.0
        for t in range(1, T + 1):
            A, b = Abad[t - 1], bbad[t - 1]
            mm = np.sqrt(ab[t - 1]) * x0 - np.sqrt(ab[t]) * A @ x0 - b
            V = (1 - ab[t - 1]) * np.eye(D) + (1 - ab[t]) * A @ A.T - cross(t) * (A + A.T)
            tot += -0.5 * (D * L2P + np.log(s2[t - 1]).sum()) - 0.5 * ((mm ** 2 + np.diag(V)) / s2[t - 1]).sum()
        return tot

    right = pair(lambda t: np.sqrt(alpha[t - 1]) * (1 - ab[t - 1]))
    O.same("faulty_estimators", f"{vn} right coupling", right, ok["J"], 1e-12, "pair moments written out")
    mut[vn] = {"right_J": ok["J"],
               "same_eps_for_both_samples": pair(lambda t: np.sqrt((1 - ab[t - 1]) * (1 - ab[t]))),
               "independent_eps_for_both_samples": pair(lambda t: 0.0),
               "one_sample_without_D_beta_tilde_term": ok["J"] + 0.5 * sum((bt[t] / s2[t]).sum() for t in range(T)),
               "factor_T_forgotten": ok["J"] / T,
               "t_from_2_to_T_only_with_factor_T": T / (T - 1) * (ok["J"] - ok["step_expectations_l_t"][0])}
    gg = np.random.default_rng(5 if vn == "beta" else 6)
    for key, kind in (("same_eps_for_both_samples", 0), ("independent_eps_for_both_samples", 1)):
        n = 300000
        tt = gg.integers(1, T + 1, n)
        e1 = gg.standard_normal((n, D))
        e2 = e1 if kind == 0 else gg.standard_normal((n, D))
        xp = np.sqrt(ab[tt - 1])[:, None] * x0 + np.sqrt(1 - ab[tt - 1])[:, None] * e1
        xt = np.sqrt(ab[tt])[:, None] * x0 + np.sqrt(1 - ab[tt])[:, None] * e2
        mu = np.einsum("nij,nj->ni", Abad[tt - 1], xt) + bbad[tt - 1]
        est = T * (-0.5 * (D * L2P + np.log(s2[tt - 1]).sum(1)) - 0.5 * ((xp - mu) ** 2 / s2[tt - 1]).sum(1))
        O.mc("faulty_estimators", f"{vn} {key}", mut[vn][key], est, "simulation of the faulty estimator")
O.case("faulty_estimators", {"denoiser": "arbitrary"}, mut,
       "What a wrong implementation converges to; a test that compares with right_J must be able to tell these apart.")
O.save()
