"""Gaussian divergences, the prior term, the reconstruction term, bits per dimension."""
from common import Oracle, digits
import mpmath as mp
import numpy as np
from common import linear_T1000_alpha_bar

O = Oracle(
    "gaussians.json",
    "KL divergences between Gaussians, log densities, the prior term KL(q(x_T|x_0)||N(0,I)), "
    "Gaussian and discretised reconstruction terms, bits-per-dimension conversion.",
    {"units": "nats unless a name ends in _bits or _bpd", "sigma": "standard deviation; logvar = log sigma^2",
     "pixel_map": "x = u/127.5 - 1 for u in 0..255, so bins are 2/255 wide and the end bins are open"},
)


def kl1(m1, s1, m2, s2):
    return mp.log(s2 / s1) + (s1 ** 2 + (m1 - m2) ** 2) / (2 * s2 ** 2) - mp.mpf(1) / 2


def logn(x, m, s):
    return -mp.log(2 * mp.pi * s ** 2) / 2 - (x - m) ** 2 / (2 * s ** 2)


def kl1_quad(m1, s1, m2, s2):
    f = lambda z: mp.exp(logn(z, m1, s1)) * (logn(z, m1, s1) - logn(z, m2, s2))
    pts = [m1 + k * s1 for k in (-14, -6, -3, 0, 3, 6, 14)]
    return mp.quad(f, pts)


# --- one-dimensional KLs
cases = {
    "same": (0.3, 0.7, 0.3, 0.7), "to_standard": (0.5, 0.8, 0, 1), "shift_only": (1, 1, -1, 1),
    "narrow_to_wide": (-0.2, 0.1, 0.4, 2), "wide_to_narrow": (0.4, 2, -0.2, 0.5),
    "tiny_sigma": (0.25, 0.001, 0, 1), "near_identity": (1e-4, 1.0001, 0, 1),
}
for name, c in cases.items():
    m1, s1, m2, s2 = (mp.mpf(repr(v)) for v in c)
    v = kl1(m1, s1, m2, s2)
    O.case("kl_1d_" + name, {"mean_q": c[0], "sigma_q": c[1], "mean_p": c[2], "sigma_p": c[3]},
           {"kl": v, "kl_mp": digits(v)})
    O.same("kl_1d_" + name, "kl", v, kl1_quad(m1, s1, m2, s2), 1e-25, "quadrature of q log(q/p), 50 digits")

# --- diagonal KL to the standard normal and to N(z_hat, I): the notes' two formulas
mu = [mp.mpf(s) for s in ("0.5", "-1.2", "0.3")]
sg = [mp.mpf(s) for s in ("0.9", "0.4", "1.5")]
zh = [mp.mpf(s) for s in ("0.1", "-1", "0.7")]
f1 = -sum(1 + mp.log(s ** 2) - m ** 2 - s ** 2 for m, s in zip(mu, sg)) / 2
f2 = -sum(1 + mp.log(s ** 2) - (m - z) ** 2 - s ** 2 for m, s, z in zip(mu, sg, zh)) / 2
O.case("kl_diag", {"mu": mu, "sigma": sg, "z_hat": zh}, {"kl_to_N(0,I)": f1, "kl_to_N(z_hat,I)": f2})
O.same("kl_diag", "kl_to_N(0,I)", f1, sum(kl1_quad(m, s, mp.mpf(0), mp.mpf(1)) for m, s in zip(mu, sg)), 1e-25, "sum of 1-d quadratures")
O.same("kl_diag", "kl_to_N(z_hat,I)", f2, sum(kl1_quad(m, s, z, mp.mpf(1)) for m, s, z in zip(mu, sg, zh)), 1e-25, "sum of 1-d quadratures")

# --- full-covariance KL in 2-d
m1, m2 = mp.matrix(["0.2", "-0.4"]), mp.matrix(["-0.1", "0.3"])
S1 = mp.matrix([["0.5", "0.2"], ["0.2", "0.4"]])
S2 = mp.matrix([["1.1", "-0.3"], ["-0.3", "0.9"]])


def klN(m1, S1, m2, S2):
    P = S2 ** -1
    d = m2 - m1
    tr = sum((P * S1)[i, i] for i in range(P.rows))
    return (tr + (d.T * P * d)[0] - P.rows + mp.log(mp.det(S2) / mp.det(S1))) / 2


v = klN(m1, S1, m2, S2)
# second way: change of variable that makes S1 = I, then Gauss-Hermite (exact for quadratics)
L = mp.cholesky(S1)
P1, P2 = S1 ** -1, S2 ** -1
nodes, wts = np.polynomial.hermite_e.hermegauss(8)
acc = 0.0
Lf = np.array(L.tolist(), dtype=float)
f = lambda M: np.array(M.tolist(), dtype=float)
for i, a in enumerate(nodes):
    for j, b in enumerate(nodes):
        z = f(m1).ravel() + Lf @ np.array([a, b])
        e1, e2 = z - f(m1).ravel(), z - f(m2).ravel()
        lq = -0.5 * e1 @ f(P1) @ e1 - 0.5 * np.log(np.linalg.det(f(S1)))
        lp = -0.5 * e2 @ f(P2) @ e2 - 0.5 * np.log(np.linalg.det(f(S2)))
        acc += wts[i] * wts[j] * (lq - lp)
acc /= wts.sum() ** 2
O.case("kl_full_2d", {"mean_q": m1.T, "cov_q": S1, "mean_p": m2.T, "cov_p": S2}, {"kl": v})
O.same("kl_full_2d", "kl", v, mp.mpf(acc), 1e-12, "2-d Gauss-Hermite quadrature in float64")

# --- prior term KL(q(x_T|x_0) || N(0,I))


def prior(abar, x0):
    D = len(x0)
    return (abar * (sum(x ** 2 for x in x0) - D) - D * mp.log(1 - abar)) / 2


x0 = [mp.mpf(s) for s in ("0.5", "-1", "0.25", "1")]
for name, ab in (("small_T5", mp.mpf("0.9") * mp.mpf("0.8") * mp.mpf("0.65") * mp.mpf("0.5") * mp.mpf("0.3")),
                 ("linear_T1000", linear_T1000_alpha_bar()), ("half", mp.mpf("0.5"))):
    v = prior(ab, x0)
    w = sum(kl1_quad(mp.sqrt(ab) * x, mp.sqrt(1 - ab), mp.mpf(0), mp.mpf(1)) for x in x0)
    O.case("prior_term_" + name, {"alpha_bar_T": digits(ab), "x0": x0},
           {"kl": v, "kl_mp": digits(v), "kl_bpd": v / (len(x0) * mp.log(2))})
    O.same("prior_term_" + name, "kl", v, w, 1e-24, "sum of 1-d quadratures")
ab = linear_T1000_alpha_bar()
D = 784
for name, x in (("all_plus_minus_one", mp.mpf(1)), ("all_zero", mp.mpf(0))):
    xs = [x] * D
    v = prior(ab, xs)
    O.case(f"prior_term_linear_T1000_D784_{name}", {"D": D, "x0": f"every entry {mp.nstr(x, 3)}"},
           {"kl": v, "kl_bpd": v / (D * mp.log(2))})
    O.same(f"prior_term_linear_T1000_D784_{name}", "kl", v, D * kl1(mp.sqrt(ab) * x, mp.sqrt(1 - ab), mp.mpf(0), mp.mpf(1)), 1e-30, "784 times the 1-d KL")

# --- constants the notes drop
c = mp.log(2 * mp.pi) / 2
O.case("dropped_log_2pi", {}, {"per_dimension": c, "D=784": 784 * c, "D=784_times_T=1000": 784 * 1000 * c,
                               "note_D784_in_bpd": c / mp.log(2)})
O.same("dropped_log_2pi", "per_dimension", c, mp.log(mp.quad(lambda z: mp.exp(-z * z / 2), [-40, 0, 40])), 1e-30, "log of the Gaussian integral")

# --- discretised Gaussian decoder (open end bins) and its continuous approximation


def discretised(u, mean, s):
    """P(bin u).  Always through the lower tail: mirror the bin when it lies above the mean,
    otherwise 1 - 1 wipes out every digit in the upper tail."""
    x = mp.mpf(u) / mp.mpf("127.5") - 1
    h = mp.mpf(1) / 255
    lo = -mp.inf if u == 0 else (x - h - mean) / s
    hi = mp.inf if u == 255 else (x + h - mean) / s
    if x > mean:
        lo, hi = -hi, -lo
    upper = mp.mpf(1) if hi == mp.inf else mp.ncdf(hi)
    lower = mp.mpf(0) if lo == -mp.inf else mp.ncdf(lo)
    return upper - lower


for name, mean, s in (("wide", "0.1", "0.3"), ("narrow", "-0.35", "0.01"), ("ddpm_sigma1", "0.2", None), ("edge", "-0.999", "0.02")):
    m = mp.mpf(mean)
    s = mp.sqrt(mp.mpf("1e-4")) if s is None else mp.mpf(s)
    us = [0, 1, 82, 83, 140, 153, 154, 254, 255]
    lp, dens = {}, {}
    for u in us:
        p = discretised(u, m, s)
        lp[u] = mp.log(p)
        dens[u] = logn(mp.mpf(u) / mp.mpf("127.5") - 1, m, s) + mp.log(mp.mpf(2) / 255)
    total = mp.fsum(discretised(u, m, s) for u in range(256))
    name = "discretised_" + name
    O.case(name, {"mean": m, "sigma": s, "u": us},
           {"log_prob": lp, "log_density_plus_log_bin_width": dens, "sum_of_256_bins": total},
           "The two columns agree only where the bin is narrow against sigma and u is not an end bin.")
    O.same(name, "sum_of_256_bins", total, 1, 1e-40, "telescoping sum")
    for u in us:
        x = mp.mpf(u) / mp.mpf("127.5") - 1
        h = mp.mpf(1) / 255
        lo = x - h if u > 0 else None
        hi = x + h if u < 255 else None
        # integrate the density over the bin, scaled by its largest value there; open bins are cut
        # where the density has fallen by exp(-200) relative to that value
        peak = m if lo is None else max(m, lo)
        peak = peak if hi is None else min(peak, hi)
        z0 = (peak - m) / s
        reach = s * min(mp.mpf(25), 200 / max(abs(z0), mp.mpf("0.1")))
        a = lo if lo is not None else peak - reach
        b = hi if hi is not None else peak + reach
        scale = min(s / max(abs(z0), 1), b - a)
        cuts = sorted({a, b} | {c for k in range(41) for c in (peak - scale * k * (1 + mp.mpf(k) / 8), peak + scale * k * (1 + mp.mpf(k) / 8)) if a < c < b})
        top = logn(peak, m, s)
        q = mp.quad(lambda z: mp.exp(logn(z, m, s) - top), cuts)
        O.same(name, f"log_prob[{u}]", mp.log(q) + top, lp[u], 1e-12, "quadrature of the density over the bin")

# --- bits per dimension
L = mp.mpf(-1234) / 10
D = 784
O.case("bpd", {"elbo_nats": -123.4, "D": D},
       {"discrete_log_prob": -L / (D * mp.log(2)),
        "density_of_x=u/127.5-1_(bin_2/255)": -L / (D * mp.log(2)) - mp.log(mp.mpf(2) / 255, 2),
        "density_of_dequantised_x=2(u+U)/256-1_(bin_1/128)": -L / (D * mp.log(2)) + 7,
        "density_of_dequantised_x=(u+U)/256_(bin_1/256)": -L / (D * mp.log(2)) + 8,
        "density_of_x=u/255_(bin_1/255)": -L / (D * mp.log(2)) + mp.log(255, 2),
        "uniform_over_256_levels": 8})
# second way: a one-dimensional density integrated over a bin
m, s = mp.mpf("0.1"), mp.mpf("0.5")
u = 150
x = mp.mpf(u) / mp.mpf("127.5") - 1
b1 = -mp.log(discretised(u, m, s), 2)
b2 = -logn(x, m, s) / mp.log(2) - mp.log(mp.mpf(2) / 255, 2)
O.case("bpd_check_1d", {"u": u, "mean": m, "sigma": s}, {"exact_bits": b1, "density_bits": b2},
       "Agreement to the second order in bin width / sigma: the difference is about (h/s)^2/6 * ((x-m)^2/s^2 - 1) / ln 2, h the half width.")
O.same("bpd_check_1d", "difference", b1 - b2,
       -(((x - m) / s) ** 2 - 1) * (mp.mpf(1) / 255 / s) ** 2 / 6 / mp.log(2), 1e-9, "second-order Taylor term")

# --- log-variance arithmetic in float32: what log(sigma**2) does
f4 = np.float32
rows = {}
with np.errstate(all="ignore"):
    for lv in (-200.0, -104.0, -103.0, -87.0, -20.0, 0.0, 20.0, 88.0, 89.0):
        sig = np.exp(f4(0.5) * f4(lv))
        back = np.log(sig ** 2)
        term = -(f4(1) + back - sig ** 2)
        rows[lv] = {"log_of_sigma_squared": str(back), "kl2_term_mu0_by_seed_code": str(term),
                    "exact_kl2_term_mu0": float(-(1 + mp.mpf(lv) - mp.exp(lv)))}
O.case("float32_log_sigma_squared", {"logvar": list(rows)}, rows,
       "numpy float32 with gradual underflow. log(sigma**2) is -inf once sigma**2 underflows (logvar below about -103.97; "
       "-87.34 where subnormals are flushed), and sigma**2 overflows above logvar 88.72. Using logvar itself avoids the first.")
O.holds("float32_log_sigma_squared", "logvar=-104 gives infinity", rows[-104.0]["log_of_sigma_squared"] == "-inf", "evaluated")
O.save()
