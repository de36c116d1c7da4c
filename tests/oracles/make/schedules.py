"""Noise schedules: beta, alpha, alpha_bar, SNR, posterior coefficients."""
from common import Oracle, digits
import mpmath as mp
import numpy as np

O = Oracle(
    "schedules.json",
    "Reference values of noise schedules and of everything derived from beta_t alone.",
    {
        "time_index": "t runs 1..T; t = 0 is the data; alpha_bar_0 = 1. Array position t-1 holds step t in a 0-based array.",
        "alpha": "alpha_t = 1 - beta_t, alpha_bar_t = product of alpha_1..alpha_t",
        "snr": "alpha_bar_t / (1 - alpha_bar_t)",
        "beta_tilde": "beta_t (1 - alpha_bar_{t-1}) / (1 - alpha_bar_t); exactly 0 at t = 1",
        "coef_x0, coef_xt": "mean of q(x_{t-1}|x_t,x_0) = coef_x0 * x_0 + coef_xt * x_t",
        "w_eps(variance)": "ELBO weight of ||eps - eps_hat||^2: beta_t^2 / (2 variance alpha_t (1 - alpha_bar_t))",
        "w_x0_tilde": "ELBO weight of ||x0 - x0_hat||^2 for variance beta_tilde_t: (SNR(t-1) - SNR(t)) / 2; infinite at t = 1, stored as null",
    },
)


def linear(T, b1, bT):
    b1, bT = mp.mpf(b1), mp.mpf(bT)
    return [b1 + (bT - b1) * k / (T - 1) for k in range(T)]


def cosine(T, s="0.008", cap="0.999"):
    s, cap = mp.mpf(s), mp.mpf(cap)
    f = [mp.cos((mp.mpf(t) / T + s) / (1 + s) * mp.pi / 2) ** 2 for t in range(T + 1)]
    abar = [v / f[0] for v in f]
    beta = [min(1 - abar[t] / abar[t - 1], cap) for t in range(1, T + 1)]
    return beta, abar


def derived(beta):
    T = len(beta)
    ab = [mp.mpf(1)]
    for b in beta:
        ab.append(ab[-1] * (1 - b))
    rows = {}
    for t in range(1, T + 1):
        b, a = beta[t - 1], 1 - beta[t - 1]
        A, P = ab[t], ab[t - 1]
        bt = b * (1 - P) / (1 - A)
        r = {
            "beta": b, "alpha": a, "alpha_bar": A, "sqrt_alpha_bar": mp.sqrt(A),
            "sqrt_one_minus_alpha_bar": mp.sqrt(1 - A), "snr": A / (1 - A),
            "log_snr": mp.log(A / (1 - A)), "beta_tilde": bt,
            "coef_x0": mp.sqrt(P) * b / (1 - A), "coef_xt": mp.sqrt(a) * (1 - P) / (1 - A),
            "coef_eps_in_mean": b / mp.sqrt((1 - A) * a),
            "coef_v_in_mean": mp.sqrt(P) * b / mp.sqrt(1 - A),
            "w_eps_unit": b ** 2 / (2 * a * (1 - A)),
            "w_eps_beta": b / (2 * a * (1 - A)),
            "w_eps_tilde": None if t == 1 else b ** 2 / (2 * bt * a * (1 - A)),
            "w_x0_tilde": None if t == 1 else (P / (1 - P) - A / (1 - A)) / 2,
        }
        rows[t] = r
    return ab, rows


def pack(rows, ts):
    out = {}
    for t in ts:
        out[t] = {k: v for k, v in rows[t].items()}
        out[t]["alpha_bar_mp"] = digits(rows[t]["alpha_bar"])
        out[t]["beta_tilde_mp"] = digits(rows[t]["beta_tilde"])
    return out


def common_checks(name, beta, ab, rows, ts):
    """Second ways: log-sum in float64, variance recursion, Bayes' rule in precision form."""
    bf = np.array([float(b) for b in beta])
    lf = np.cumsum(np.log1p(-bf))
    for t in ts:
        r = rows[t]
        O.same(name, f"alpha_bar[{t}]", r["alpha_bar"] / mp.exp(mp.mpf(lf[t - 1])), 1, 1e-12,
               "relative: exp of float64 cumulative sum of log1p(-beta)")
        v = mp.mpf(0)                      # Var(x_t | x_0) by the one-step recursion
        for k in range(t):
            v = (1 - beta[k]) * v + beta[k]
        O.same(name, f"1-alpha_bar[{t}]", 1 - r["alpha_bar"], v, 1e-40,
               "variance recursion v <- alpha v + beta from v = 0")
        if t > 1:
            # posterior of x_{t-1}: prior precision 1/(1-P), likelihood precision alpha/beta
            P, a, b = ab[t - 1], 1 - beta[t - 1], beta[t - 1]
            prec = 1 / (1 - P) + a / b
            O.same(name, f"beta_tilde[{t}]", r["beta_tilde"], 1 / prec, 1e-40,
                   "Bayes rule: inverse of summed precisions")
            O.same(name, f"coef_x0[{t}]", r["coef_x0"], mp.sqrt(P) / (1 - P) / prec, 1e-40, "Bayes rule")
            O.same(name, f"coef_xt[{t}]", r["coef_xt"], mp.sqrt(a) / b / prec, 1e-40, "Bayes rule")
            O.same(name, f"w_x0_tilde[{t}]", r["w_x0_tilde"], r["coef_x0"] ** 2 / (2 * r["beta_tilde"]),
                   1e-30, "coef_x0^2 / (2 beta_tilde)")
            O.same(name, f"w_eps_tilde[{t}]", r["w_eps_tilde"], r["w_x0_tilde"] / r["snr"], 1e-30,
                   "w_x0 / SNR")


T = 1000
beta = linear(T, "1e-4", "0.02")
ab, rows = derived(beta)
ts = [1, 2, 3, 10, 50, 100, 250, 500, 750, 999, 1000]
O.case("linear_T1000", {"T": T, "beta_1": 1e-4, "beta_T": 0.02,
                        "rule": "beta_t = beta_1 + (beta_T - beta_1)(t-1)/(T-1)"},
       {"at_t": pack(rows, ts),
        "sum_alpha_bar_1_to_T": mp.fsum(ab[1:]),
        "sum_beta_tilde": mp.fsum(rows[t]["beta_tilde"] for t in rows),
        "sum_log_beta": mp.fsum(mp.log(b) for b in beta),
        "first_t_with_snr_below_1": min(t for t in rows if rows[t]["snr"] < 1),
        "seed_unit_covariance_generated_variance_for_unit_normal_data":
            ab[T] + mp.fsum(ab[0:T])},
       "The last output: run the reverse chain x_{t-1} = sqrt(alpha_t) x_t + N(0,1), i.e. the exact mean for "
       "N(0,1) data but the notes' unit covariance, from x_T ~ N(0,1); it is Var(x_0), which ought to be 1.")
common_checks("linear_T1000", beta, ab, rows, ts)
# closed form of a product of an arithmetic progression through the gamma function
d = (mp.mpf("0.02") - mp.mpf("1e-4")) / (T - 1)
c = (1 - mp.mpf("1e-4")) / d
for t in ts:
    closed = mp.exp(t * mp.log(d) + mp.loggamma(c + 1) - mp.loggamma(c + 1 - t))
    O.same("linear_T1000", f"alpha_bar[{t}]", rows[t]["alpha_bar"], closed, 1e-35,
           "d^t Gamma(c+1)/Gamma(c+1-t), c = (1-beta_1)/d, d the step of beta")
v = mp.mpf(1)
for t in range(T, 0, -1):
    v = (1 - beta[t - 1]) * v + 1
O.same("linear_T1000", "seed_unit_covariance_generated_variance", v, ab[T] + mp.fsum(ab[0:T]), 1e-30,
       "variance recursion of the reverse chain")

beta, analytic = cosine(T)
ab, rows = derived(beta)
ts_c = [1, 2, 10, 100, 250, 500, 750, 900, 990, 998, 999, 1000]
O.case("cosine_T1000", {"T": T, "s": 0.008, "cap": 0.999,
                        "rule": "g(t) = cos^2(((t/T)+s)/(1+s) * pi/2); beta_t = min(1 - g(t)/g(t-1), cap)"},
       {"at_t": pack(rows, ts_c),
        "analytic_alpha_bar_uncapped": {t: analytic[t] for t in ts_c},
        "capped_steps": [t for t in range(1, T + 1) if beta[t - 1] == mp.mpf("0.999")]})
common_checks("cosine_T1000", beta, ab, rows, ts_c)
for t in ts_c[:-1]:
    O.same("cosine_T1000", f"alpha_bar[{t}]", rows[t]["alpha_bar"], analytic[t], 1e-40,
           "product of alphas equals g(t)/g(0) wherever no step is capped")

for name, bb in (("small_T5", ["0.1", "0.2", "0.35", "0.5", "0.7"]), ("tiny_T2", ["0.3", "0.6"])):
    beta = [mp.mpf(b) for b in bb]
    ab, rows = derived(beta)
    O.case(name, {"T": len(beta), "beta": beta}, {"at_t": pack(rows, list(rows))})
    common_checks(name, beta, ab, rows, list(rows))

# the notes' worked example and its exact value
O.case("seed_example_beta_0p01", {"beta": 0.01},
       {"sqrt_one_minus_beta": mp.sqrt(mp.mpf("0.99")), "sqrt_beta": mp.mpf("0.1")},
       "The notes round 0.99498743710662 to 0.995.")
O.same("seed_example_beta_0p01", "sqrt(0.99)", mp.sqrt(mp.mpf("0.99")),
       mp.nsum(lambda k: mp.binomial(mp.mpf(1) / 2, k) * (mp.mpf("-0.01")) ** k, [0, 60]), 1e-40, "binomial series")

# a schedule that never becomes pure noise: closure of Gaussians under sums is not enough
T = 1000
beta = [1 / mp.mpf(t + 1) ** 2 for t in range(1, T + 1)]
ab, rows = derived(beta)
O.case("counterexample_inverse_square", {"T": T, "rule": "beta_t = 1/(t+1)^2"},
       {"alpha_bar_T": ab[T], "limit": 0.5},
       "alpha_bar_T = (T+2)/(2(T+1)) -> 1/2: half of the signal variance survives for every T.")
O.same("counterexample_inverse_square", "alpha_bar_T", ab[T], mp.mpf(T + 2) / (2 * (T + 1)), 1e-40, "telescoping product")

# merging two steps: right variance against the one printed in the notes
a1, a2 = mp.mpf("0.9"), mp.mpf("0.8")
O.case("two_step_merge", {"alpha_{t-1}": 0.9, "alpha_t": 0.8},
       {"right_variance": 1 - a1 * a2, "variance_printed_in_seed": a2 - a1 * a2,
        "variance_if_alpha_t_is_reused_for_step_t_minus_1": a2 * (1 - a2) + 1 - a2},
       "Two independent noises of variance alpha_t(1-alpha_{t-1}) and 1-alpha_t add to 1-alpha_t alpha_{t-1}.")
rng = np.random.default_rng(1)
n = 400000
z = np.sqrt(0.8) * np.sqrt(0.1) * rng.standard_normal(n) + np.sqrt(0.2) * rng.standard_normal(n)
O.mc_var("two_step_merge", "right_variance", 1 - a1 * a2, z, "sampled two-step noise")
# tables built in float32: relative error against the exact values
exact_beta = linear(1000, "1e-4", "0.02")
ab, rows = derived(exact_beta)
b32 = np.linspace(np.float32(1e-4), np.float32(0.02), 1000, dtype=np.float32)
a32 = np.cumprod((np.float32(1) - b32).astype(np.float32), dtype=np.float32)
p32 = np.concatenate([[np.float32(1)], a32[:-1]])
t32 = b32 * (1 - p32) / (1 - a32)
b64 = np.linspace(1e-4, 0.02, 1000)
a64 = np.cumprod(1 - b64)
t64 = b64 * (1 - np.concatenate([[1.0], a64[:-1]])) / (1 - a64)
rel = lambda v, e: float(abs(mp.mpf(float(v)) / e - 1))
out = {}
for t in (1, 2, 10, 100, 1000):
    out[t] = {"float32": {"alpha_bar": rel(a32[t - 1], ab[t]), "one_minus_alpha_bar": rel(np.float32(1) - a32[t - 1], 1 - ab[t]),
                          "beta_tilde": rel(t32[t - 1], rows[t]["beta_tilde"]) if t > 1 else None},
              "float64": {"alpha_bar": rel(a64[t - 1], ab[t]), "one_minus_alpha_bar": rel(1 - a64[t - 1], 1 - ab[t]),
                          "beta_tilde": rel(t64[t - 1], rows[t]["beta_tilde"]) if t > 1 else None}}
O.case("precision_of_tables", {"schedule": "linear_T1000"}, out,
       "Relative errors. Build the tables in float64 and cast at the end; 1 - alpha_bar at small t loses four digits in float32.")
O.holds("precision_of_tables", "float64 relative errors below 1e-11", all(v < 1e-11 for r in out.values() for v in r["float64"].values() if v is not None), "values")
O.holds("precision_of_tables", "float32 one_minus_alpha_bar worse than 1e-5 at t=1 or 2", max(out[1]["float32"]["one_minus_alpha_bar"], out[2]["float32"]["one_minus_alpha_bar"]) > 1e-5, "values")
O.save()
