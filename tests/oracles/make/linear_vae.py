"""Linear VAE with the notes' unit-variance decoder = probabilistic PCA with noise 1."""
from common import Oracle
import numpy as np
from scipy.optimize import minimize

O = Oracle(
    "linear_vae.json",
    "z ~ N(0,I), x|z ~ N(W z + c, I), q(z|x) = N(V x + d, diag(s^2)): exact marginal likelihood, exact ELBO, best diagonal "
    "and best full-covariance q, and the value that training must reach on a data set with given covariance.",
    {"units": "nats per example", "seed_loss": "sum of squared errors + 2 KL = -2 ELBO - D ln(2 pi)"},
)
LOG2PI = np.log(2 * np.pi)


def log_normal(x, m, S):
    d = x - m
    return -0.5 * (len(m) * LOG2PI + np.linalg.slogdet(S)[1] + d @ np.linalg.solve(S, d))


def elbo(x, W, c, m, C):
    """Exact ELBO for q(z|x) = N(m, C), full C."""
    D, H = W.shape
    r = x - c - W @ m
    rec = -0.5 * D * LOG2PI - 0.5 * (r @ r + np.trace(W @ C @ W.T))
    kl = 0.5 * (np.trace(C) + m @ m - H - np.linalg.slogdet(C)[1])
    return rec, kl


rng = np.random.default_rng(11)
for name, W in (("generic_W", np.array([[0.9, -0.4], [0.3, 0.8], [-0.5, 0.6], [0.2, 1.1]])),
                ("orthogonal_columns", np.array([[1.2, 0.5], [0.6, -1.0], [0.0, 0.0], [-0.4, 0.0]]))):
    if name == "orthogonal_columns":
        W[:, 1] -= W[:, 0] * (W[:, 0] @ W[:, 1]) / (W[:, 0] @ W[:, 0])
    D, H = W.shape
    c = np.array([0.1, -0.2, 0.3, 0.0])
    x = np.array([0.7, 1.1, -0.6, 0.4])
    M = np.eye(H) + W.T @ W
    post_m = np.linalg.solve(M, W.T @ (x - c))
    post_C = np.linalg.inv(M)
    lp = log_normal(x, c, W @ W.T + np.eye(D))
    r1, k1 = elbo(x, W, c, post_m, post_C)
    bd = np.diag(1 / np.diag(M))                       # best diagonal covariance
    r2, k2 = elbo(x, W, c, post_m, bd)
    gap = 0.5 * (np.log(np.diag(M)).sum() - np.linalg.slogdet(M)[1])
    V = np.array([[0.3, 0.1, -0.2, 0.0], [0.0, 0.2, 0.1, 0.4]])
    d = np.array([0.05, -0.1])
    s = np.array([0.7, 0.6])
    m3 = V @ x + d
    r3, k3 = elbo(x, W, c, m3, np.diag(s ** 2))
    O.case(name, {"W": W, "c": c, "x": x, "V": V, "d": d, "s": s},
           {"log_marginal": lp, "posterior_mean": post_m, "posterior_cov": post_C,
            "elbo_full_optimal_q": r1 - k1, "best_diagonal_sigma": np.sqrt(np.diag(bd)),
            "elbo_best_diagonal_q": r2 - k2, "gap_best_diagonal": gap,
            "given_q": {"reconstruction": r3, "kl_to_prior": k3, "elbo": r3 - k3,
                        "expected_seed_loss": -2 * (r3 - k3) - D * LOG2PI}},
           "gap = (sum ln M_hh - ln det M)/2 with M = I + W^T W; zero when the columns of W are orthogonal.")
    O.same(name, "elbo_full_optimal_q", r1 - k1, lp, 1e-12, "equals the exact log marginal (matrix of size D, not H)")
    O.same(name, "elbo_best_diagonal_q", lp - (r2 - k2), gap, 1e-12, "log marginal minus the determinant formula")
    # KL to the exact posterior, independent route
    S3 = np.diag(s ** 2)
    dm = m3 - post_m
    klp = 0.5 * (np.trace(M @ S3) + dm @ M @ dm - H - np.linalg.slogdet(M @ S3)[1])
    O.same(name, "given_q.elbo", lp - klp, r3 - k3, 1e-12, "log marginal - KL(q || exact posterior)")
    n = 400000
    z = m3 + s * rng.standard_normal((n, H))
    one = -0.5 * D * LOG2PI - 0.5 * ((x - c - z @ W.T) ** 2).sum(1) - k3
    O.mc(name, "given_q.elbo", r3 - k3, one, "reparameterised samples, analytic KL (the notes' estimator)")
    O.mc(name, "given_q.elbo", r3 - k3,
         -0.5 * D * LOG2PI - 0.5 * ((x - c - z @ W.T) ** 2).sum(1) - 0.5 * (z ** 2).sum(1)
         + 0.5 * (((z - m3) / s) ** 2).sum(1) + np.log(s).sum(), "fully sampled log ratio")
    # importance-sampled marginal: log mean exp
    lw = (-0.5 * D * LOG2PI - 0.5 * ((x - c - z @ W.T) ** 2).sum(1) - 0.5 * (z ** 2).sum(1)
          + 0.5 * (((z - m3) / s) ** 2).sum(1) + np.log(s).sum())
    O.mc(name, "marginal density p(x)", np.exp(lp), np.exp(lw), "importance weights average to p(x)")

# training target: data covariance with eigenvalues lam, H latent dimensions, unit noise
lam = np.array([4.0, 2.5, 0.8, 0.3, 0.05])
D, H = 5, 2
Q, _ = np.linalg.qr(np.random.default_rng(5).standard_normal((D, D)))
S = Q @ np.diag(lam) @ Q.T
best = -0.5 * (D * LOG2PI + sum(np.log(l) + 1 for l in lam[:H]) + lam[H:].sum())


def nll(w):
    W = w.reshape(D, H)
    C = W @ W.T + np.eye(D)
    return 0.5 * (D * LOG2PI + np.linalg.slogdet(C)[1] + np.trace(np.linalg.solve(C, S)))


opt = min((minimize(nll, np.random.default_rng(k).standard_normal(D * H), method="BFGS", options={"gtol": 1e-10})
           for k in range(3)), key=lambda r: r.fun)
W = opt.x.reshape(D, H)
O.case("training_target", {"eigenvalues_of_data_covariance": lam, "H": H, "data_covariance": S},
       {"max_mean_log_likelihood": best, "eigenvalues_of_W_ml_W_ml^T": [lam[0] - 1, lam[1] - 1],
        "seed_loss_at_optimum": -2 * best - D * LOG2PI,
        "posterior_variances_at_optimum": [1 / lam[0], 1 / lam[1]],
        "entropy_bound_of_data": -0.5 * (D * LOG2PI + D + np.log(lam).sum())},
       "Latent directions with eigenvalue <= 1 stay switched off. A linear VAE with a diagonal encoder reaches this value "
       "because W can be rotated to orthogonal columns.")
O.same("training_target", "max_mean_log_likelihood", -opt.fun, best, 1e-9, "BFGS from random starts")
O.same("training_target", "eigenvalues of W W^T", np.sort(np.linalg.eigvalsh(W @ W.T))[-2:], np.sort(lam[:2] - 1), 1e-5, "BFGS optimum")
# ELBO objective itself, averaged over Gaussian data, over (W, V, s) jointly
def neg_elbo(p):
    W, V, ls = p[:10].reshape(5, 2), p[10:20].reshape(2, 5), p[20:]
    R = np.eye(5) - W @ V
    s2 = np.exp(2 * ls)
    rec = 0.5 * 5 * LOG2PI + 0.5 * (np.trace(R @ S @ R.T) + np.trace(W * s2 @ W.T))
    kl = 0.5 * (s2.sum() + np.trace(V @ S @ V.T) - 2 - np.log(s2).sum())
    return rec + kl


opt2 = min((minimize(neg_elbo, 0.5 * np.random.default_rng(k).standard_normal(22), method="BFGS", options={"gtol": 1e-10})
            for k in range(3)), key=lambda r: r.fun)
O.same("training_target", "max mean ELBO", -opt2.fun, best, 1e-8, "BFGS on the exact ELBO of the linear VAE, diagonal encoder")
O.save()
