"""Dirichlet-multinomial: evidence, ELBO, gradient, Fisher matrix, non-convexity."""
from common import Oracle, digits
from fractions import Fraction
from math import factorial
import mpmath as mp
import numpy as np

O = Oracle(
    "dirichlet_multinomial.json",
    "Exact evidence ln p(x), ELBO of a Dirichlet q at several gamma with every constant kept, KL to the exact posterior, "
    "gradient, Fisher matrix, one natural-gradient step, Hessians that show the KL is not convex in gamma.",
    {"posterior": "Dir(x + alpha)", "elbo": "ln p(x) - KL(Dir(gamma) || Dir(x+alpha)), no constant dropped",
     "elbo_without_const": "the notes' last formula without its Const.; Const = ln n! - sum ln x_k! + lnGamma(sum alpha) - sum lnGamma(alpha_k)",
     "digamma/trigamma": "psi and its first derivative"},
)
psi = lambda n, z: mp.psi(n, z)
lg = mp.loggamma


def lnB(a):
    return mp.fsum(lg(v) for v in a) - lg(mp.fsum(a))


def const(alpha, x):
    return lg(sum(x) + 1) - mp.fsum(lg(v + 1) for v in x) - lnB(alpha)


def evidence(alpha, x):
    return const(alpha, x) + lnB([a + v for a, v in zip(alpha, x)])


def elbo_free(g, alpha, x):
    s = mp.fsum(g)
    return mp.fsum((v + a - c) * (psi(0, c) - psi(0, s)) for v, a, c in zip(x, alpha, g)) + lnB(g)


def kl(g, a):
    s = mp.fsum(g)
    return lnB(a) - lnB(g) + mp.fsum((c - b) * (psi(0, c) - psi(0, s)) for c, b in zip(g, a))


def grad(g, alpha, x):
    s = mp.fsum(g)
    d = [v + a - c for v, a, c in zip(x, alpha, g)]
    return [dk * psi(1, gk) - psi(1, s) * mp.fsum(d) for dk, gk in zip(d, g)]


def fisher(g):
    K, s = len(g), mp.fsum(g)
    return mp.matrix(K, K) + mp.diag([psi(1, v) for v in g]) - psi(1, s) * mp.ones(K, K)


def hess_kl(g, a):
    """d/dgamma of F(gamma)(gamma - a)."""
    K, s = len(g), mp.fsum(g)
    tot = mp.fsum(g) - mp.fsum(a)
    H = mp.matrix(K, K)
    for i in range(K):
        for j in range(K):
            H[i, j] = -psi(1, s) - tot * psi(2, s)
            if i == j:
                H[i, j] += psi(1, g[i]) + psi(2, g[i]) * (g[i] - a[i])
    return H


def rational_evidence(alpha, x):
    """Exact rational p(x) by sequential draws (Polya urn) times the multinomial coefficient."""
    p = Fraction(factorial(sum(x)))
    for v in x:
        p /= factorial(v)
    tot = sum(alpha)
    seen = 0
    for a, v in zip(alpha, x):
        for i in range(v):
            p *= Fraction(a + i) / Fraction(tot + seen)
            seen += 1
    return p


CASES = {
    "three_uniform": (("1", "1", "1"), (2, 3, 5)),
    "two_jeffreys_extreme": (("1/2", "1/2"), (0, 7)),
    "four_mixed": (("1/10", "5/2", "3", "77/10"), (4, 0, 1, 10)),
    "no_data": (("2", "3/2"), (0, 0)),
    "three_large_n": (("1/2", "2", "4"), (120, 250, 630)),
}
rng = np.random.default_rng(7)
for name, (al, x) in CASES.items():
    fr = [Fraction(s) for s in al]
    alpha = [mp.mpf(f.numerator) / f.denominator for f in fr]
    post = [a + v for a, v in zip(alpha, x)]
    lnp = evidence(alpha, x)
    r = rational_evidence(fr, x)
    gammas = {"alpha": alpha, "posterior": post, "ones": [mp.mpf(1)] * len(x),
              "twice_posterior": [2 * p for p in post], "half_posterior": [p / 2 for p in post],
              "mixed": [mp.mpf(k + 2) / 2 for k in range(len(x))]}
    out = {"log_evidence": lnp, "log_evidence_mp": digits(lnp),
           "evidence_exact_fraction": str(r) if len(str(r)) < 120 else "too long; see log_evidence_mp",
           "const": const(alpha, x), "at_gamma": {}}
    for gname, g in gammas.items():
        e = elbo_free(g, alpha, x)
        G = grad(g, alpha, x)
        F = fisher(g)
        step = mp.lu_solve(F, mp.matrix(G))
        out["at_gamma"][gname] = {
            "gamma": g, "elbo": e + const(alpha, x), "elbo_mp": digits(e + const(alpha, x)),
            "elbo_without_const": e, "kl_to_posterior": kl(g, post), "grad": G,
            "fisher_min_eigenvalue": min(mp.eigsy(F, eigvals_only=True)),
            "kl_hessian_eigenvalues": list(mp.eigsy(hess_kl(g, post), eigvals_only=True)),
        }
        O.same(name, f"elbo+kl at {gname}", e + const(alpha, x) + kl(g, post), lnp, 1e-35, "ELBO + KL = log evidence")
        num = [mp.diff(lambda t, k=k: elbo_free(g[:k] + [t] + g[k + 1:], alpha, x), g[k]) for k in range(len(g))]
        O.same(name, f"grad at {gname}", G, num, 1e-15, "high-precision numerical derivative of the ELBO")
        O.same(name, f"grad at {gname}", G, F * mp.matrix([p - c for p, c in zip(post, g)]), 1e-35, "Fisher matrix times (x+alpha-gamma)")
        # the notes' separate derivatives: first term, and second plus third term
        sg = mp.fsum(g)
        dd = [p - c for p, c in zip(post, g)]
        first = lambda y: mp.fsum((p - c) * (psi(0, c) - psi(0, mp.fsum(y))) for p, c in zip(post, y))
        for j in range(len(g)):
            part1 = -psi(0, g[j]) + psi(0, sg) + dd[j] * psi(1, g[j]) - mp.fsum(dd) * psi(1, sg)
            O.same(name, f"first-term derivative {j} at {gname}", part1, mp.diff(lambda t: first(g[:j] + [t] + g[j + 1:]), g[j]), 1e-15, "numerical derivative")
            O.same(name, f"second+third-term derivative {j} at {gname}", psi(0, g[j]) - psi(0, sg), mp.diff(lambda t: lnB(g[:j] + [t] + g[j + 1:]), g[j]), 1e-15, "numerical derivative")
        O.same(name, f"natural step at {gname}", [c + s for c, s in zip(g, step)], post, 1e-30, "gamma + F^-1 grad = x + alpha")
        O.holds(name, f"Fisher matrix positive definite at {gname}", min(mp.eigsy(F, eigvals_only=True)) > 0, "eigenvalues, 50 digits")
    O.case(name, {"alpha": alpha, "x": x, "n": sum(x)}, out)
    O.same(name, "log_evidence", lnp, mp.log(mp.mpf(r.numerator)) - mp.log(mp.mpf(r.denominator)), 1e-35,
           "exact rational Polya-urn product")
    # Monte Carlo of the ELBO at one gamma from its definition
    g = [float(v) for v in gammas["mixed"]]
    z = np.maximum(rng.dirichlet(g, 100000), 1e-300)
    ld = lambda zz, aa: float(-lnB([mp.mpf(v) for v in aa])) + (np.log(zz) * (np.array([float(v) for v in aa]) - 1)).sum(1)
    lik = float(lg(sum(x) + 1) - mp.fsum(lg(v + 1) for v in x)) + (np.log(z) * np.array(x)).sum(1)
    O.mc(name, "elbo at mixed", out["at_gamma"]["mixed"]["elbo"], lik + ld(z, alpha) - ld(z, g), "samples of Dir(gamma)")

# quadrature of the evidence and of the ELBO for K = 2 and K = 3
al, x = (mp.mpf(1) / 2, mp.mpf(1) / 2), (0, 7)
q = mp.quad(lambda z: mp.beta(*al) ** -1 * z ** (al[0] - 1 + x[0]) * (1 - z) ** (al[1] - 1 + x[1]), [0, 0.5, 1])
O.same("two_jeffreys_extreme", "log_evidence", evidence(al, x), mp.log(q), 1e-20, "1-d quadrature over the simplex")
mp.mp.dps = 20
al, x = (mp.mpf(1),) * 3, (2, 3, 5)
co = mp.mpf(2520) * 2
q = mp.quad(lambda a, b: co * (a ** 2) * ((1 - a) * b) ** 3 * ((1 - a) * (1 - b)) ** 5 * (1 - a), [0, 1], [0, 1])
O.same("three_uniform", "log_evidence", evidence(al, x), mp.log(q), 1e-15, "2-d quadrature over the simplex")
mp.mp.dps = 50

# is KL(Dir(gamma) || Dir(a)) convex in gamma?  symmetric ray gamma = g(1,..,1), a = (1,..,1)
for K in (2, 3, 10):
    a = mp.mpf(1)
    slope = lambda g: K * (psi(1, g) - K * psi(1, K * g)) * (g - a)
    curv = lambda g: K * ((psi(2, g) - K * K * psi(2, K * g)) * (g - a) + psi(1, g) - K * psi(1, K * g))
    root = mp.findroot(curv, 2)
    pts = [mp.mpf(v) for v in ("0.5", "1", "2", "4", "10", "100")]
    out = {"inflection_g": root,
           "kl": {mp.nstr(g, 4): kl([g] * K, [a] * K) for g in pts},
           "second_derivative_along_ray": {mp.nstr(g, 4): curv(g) for g in pts},
           "hessian_min_eigenvalue_at_g=4": min(mp.eigsy(hess_kl([mp.mpf(4)] * K, [a] * K), eigvals_only=True)),
           "large_g_law": "KL grows like (K-1)/2 * ln g, which is concave"}
    nm = f"kl_not_convex_symmetric_K{K}"
    O.case(nm, {"K": K, "a": "all ones", "gamma": "g times all ones"}, out,
           "Convex in gamma would need second derivative >= 0 everywhere; it turns negative past the inflection.")
    for g in pts:
        O.same(nm, f"second derivative at {mp.nstr(g,4)}", curv(g),
               mp.diff(lambda t: kl([t] * K, [a] * K), g, 2), 1e-12, "high-precision numerical second derivative of the KL")
        O.same(nm, f"ray curvature at {mp.nstr(g,4)}", curv(g),
               sum(hess_kl([g] * K, [a] * K)), 1e-35, "1^T H 1 with the closed-form Hessian")
    O.holds(nm, "second derivative negative at g=4", curv(mp.mpf(4)) < 0, "closed form")
    # midpoint test: direct violation of convexity
    lo, hi = mp.mpf(2), mp.mpf(50)
    mid = kl([(lo + hi) / 2] * K, [a] * K)
    O.holds(nm, "midpoint value exceeds the chord (2 and 50)", mid > (kl([lo] * K, [a] * K) + kl([hi] * K, [a] * K)) / 2, "values of the KL")

# what does hold: (1) strictly increasing along every ray from a; (2) convex in the mean parameters
rng = np.random.default_rng(3)
ok = True
for _ in range(40):
    K = int(rng.integers(2, 6))
    a = [mp.mpf(float(v)) for v in rng.gamma(2, 1.5, K) + 0.05]
    u = rng.standard_normal(K)
    smax = min([float(a[k]) / -u[k] for k in range(K) if u[k] < 0] + [20.0]) * 0.98
    vals = []
    for s in np.linspace(0, smax, 12):
        g = [a[k] + mp.mpf(float(s * u[k])) for k in range(K)]
        vals.append(kl(g, a))
    ok &= all(vals[i] < vals[i + 1] for i in range(len(vals) - 1))
O.case("kl_monotone_on_rays", {"random_rays": 40}, {"strictly_increasing": ok},
       "d/ds KL(a + s u) = s u^T F(a + s u) u > 0: star-shaped level sets, hence a single minimum, without convexity.")
O.holds("kl_monotone_on_rays", "increasing along 40 random rays from the minimum", ok, "values of the KL")
# mean parameters eta_k = psi(g_k) - psi(sum g): KL = A*(eta) - eta.(a-1) + const, Hessian F^-1
g, a = [mp.mpf(v) for v in ("4", "7", "2.5")], [mp.mpf(v) for v in ("1", "2", "0.5")]
F = fisher(g)
J = F                                             # d eta / d gamma
ddir = mp.matrix(["0.3", "-0.2", "0.5"])


def along_eta(t):
    """KL at eta(g) + t * ddir, gamma found by Newton's method."""
    eta = mp.matrix([psi(0, v) - psi(0, mp.fsum(g)) for v in g]) + t * ddir
    y = mp.matrix(g)
    for _ in range(60):
        s = mp.fsum(y)
        r = mp.matrix([psi(0, v) - psi(0, s) for v in y]) - eta
        if mp.norm(r) < mp.mpf(10) ** -45:
            break
        y = y - mp.lu_solve(fisher(list(y)), r)
    return kl(list(y), a)


h = mp.mpf("1e-8")
num = (along_eta(h) - 2 * along_eta(mp.mpf(0)) + along_eta(-h)) / h ** 2
clo = (ddir.T * (F ** -1) * ddir)[0]
O.case("kl_convex_in_mean_parameters", {"gamma": g, "a": a, "direction": ddir.T},
       {"second_derivative": clo}, "In eta the Hessian of the KL is F(gamma)^-1, positive definite everywhere and independent of a.")
O.same("kl_convex_in_mean_parameters", "second derivative", clo, num, 1e-8, "finite difference in eta")
O.save()
