"""What the scripts share: a file of cases, and checks of its numbers by second methods.

A check that fails raises, so a file that was written has passed all of its checks.
"""
import json
import os
import pathlib
import sys

os.environ.setdefault("OMP_NUM_THREADS", "1")

import mpmath as mp
import numpy as np

mp.mp.dps = 50
FOLDER = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else ".")  # where the file is written


def plain(v):
    """Turn mpmath / numpy values into what json.dump understands."""
    if isinstance(v, dict):
        return {str(k): plain(w) for k, w in v.items()}
    if isinstance(v, mp.matrix):
        return [[float(v[i, j]) for j in range(v.cols)] for i in range(v.rows)]
    if isinstance(v, np.ndarray):
        return plain(v.tolist())
    if isinstance(v, (list, tuple)):
        return [plain(w) for w in v]
    if isinstance(v, (np.floating, mp.mpf)):
        return float(v)
    if isinstance(v, (np.integer,)):
        return int(v)
    return v


def digits(v, n=25):
    """mpmath value as a decimal string."""
    return mp.nstr(v, n)


def _flat(v):
    if isinstance(v, mp.matrix):
        return [mp.mpf(x) for x in v]
    if isinstance(v, (list, tuple)):
        out = []
        for w in v:
            out += _flat(w)
        return out
    if isinstance(v, np.ndarray):
        return [mp.mpf(float(x)) for x in v.ravel()]
    return [mp.mpf(v) if not isinstance(v, (np.floating, np.integer)) else mp.mpf(float(v))]


class Oracle:
    def __init__(self, filename, about, conventions):
        self.path = FOLDER / filename
        self.doc = {"about": about, "conventions": conventions, "cases": {}}
        self.checks = []

    def case(self, name, inputs, outputs, note=""):
        entry = {"inputs": plain(inputs), "outputs": plain(outputs)}
        if note:
            entry["note"] = note
        self.doc["cases"][name] = entry

    def same(self, case, quantity, a, b, tol, method):
        """a and b are the same quantity computed in two ways."""
        fa, fb = _flat(a), _flat(b)
        assert len(fa) == len(fb), (case, quantity, len(fa), len(fb))
        diff = max(abs(p - q) for p, q in zip(fa, fb))
        self.checks.append({"case": case, "quantity": quantity, "kind": "exact",
                                   "method": method, "max_abs_diff": float(diff),
                                   "tolerance": float(tol)})
        assert diff <= tol, (case, quantity, method, float(diff), tol)

    def mc(self, case, quantity, value, samples, method, z_limit=4.5):
        """value against the mean of an array of independent samples."""
        s = np.asarray(samples, dtype=float)
        mean, se = s.mean(), s.std(ddof=1) / np.sqrt(s.size)
        z = (mean - float(value)) / se
        self.checks.append({"case": case, "quantity": quantity, "kind": "monte_carlo",
                                   "method": method, "n": int(s.size), "mean": float(mean),
                                   "standard_error": float(se), "z": float(z),
                                   "z_limit": z_limit})
        assert abs(z) <= z_limit, (case, quantity, method, float(value), mean, se, z)

    def mc_var(self, case, quantity, value, samples, method, z_limit=4.5):
        """value against a sample variance; standard error from the 4th moment."""
        s = np.asarray(samples, dtype=float)
        c = s - s.mean()
        v = (c ** 2).sum() / (s.size - 1)
        se = np.sqrt(((c ** 4).mean() - v ** 2) / s.size)
        z = (v - float(value)) / se
        self.checks.append({"case": case, "quantity": quantity, "kind": "monte_carlo",
                                   "method": method, "n": int(s.size), "mean": float(v),
                                   "standard_error": float(se), "z": float(z),
                                   "z_limit": z_limit})
        assert abs(z) <= z_limit, (case, quantity, method, float(value), v, se, z)

    def holds(self, case, quantity, truth, method):
        self.checks.append({"case": case, "quantity": quantity, "kind": "statement",
                                   "method": method, "holds": bool(truth)})
        assert truth, (case, quantity, method)

    def save(self):
        with open(self.path, "w") as f:
            json.dump(self.doc, f, indent=1, ensure_ascii=True, allow_nan=False)
            f.write("\n")
        kinds = {}
        for c in self.checks:
            kinds[c["kind"]] = kinds.get(c["kind"], 0) + 1
        print(f"{self.path.name}: {len(self.doc['cases'])} cases, checks {kinds}")


def linear_betas(T=1000, b1="1e-4", bT="0.02"):
    b1, bT = mp.mpf(b1), mp.mpf(bT)
    return [b1 + (bT - b1) * k / (T - 1) for k in range(T)]


def linear_T1000_alpha_bar(t=1000):
    p = mp.mpf(1)
    for b in linear_betas()[:t]:
        p *= 1 - b
    return p
