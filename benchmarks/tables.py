"""Held-out nats per row of `kakusan.DensityEstimator` beside scikit-learn's density estimators, on its own tables.

    python benchmarks/tables.py [--steps 400] [--members 5] [wine breast_cancer diabetes]

A fifth of the rows is the test part. The rivals' settings (components and covariance, bandwidth) are chosen on another
fifth, and they are then fitted to both other parts, as ours is. Columns are standardized for the rivals, and the density
is corrected for it. The column sex of diabetes has two values, which have no density, and is left out for all.
"""

from __future__ import annotations

import argparse
import time

import numpy as np
from sklearn import datasets
from sklearn.mixture import GaussianMixture
from sklearn.neighbors import KernelDensity

import kakusan as kk

TABLES = ("wine", "breast_cancer", "diabetes")
SEX = 1


def rows_of(name: str) -> np.ndarray:
    """The columns of a table that have a density."""
    x = getattr(datasets, f"load_{name}")().data.astype(float)
    return np.delete(x, SEX, axis=1) if name == "diabetes" else x


def best(make, choices, train, validation, test, offset):
    """Test scores of the choice that suits the validation part best, fitted to it as well."""
    chosen = max(choices, key=lambda choice: make(choice).fit(train).score_samples(validation).mean())
    return make(chosen).fit(np.concatenate([train, validation])).score_samples(test) + offset, chosen


def mixture(choice):
    """A Gaussian mixture of (components, covariance)."""
    return GaussianMixture(choice[0], covariance_type=choice[1], reg_covar=1e-4, n_init=3, random_state=0)


def main() -> None:
    """Print one line for each estimator and table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("tables", nargs="*", default=TABLES)
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--members", type=int, default=5)
    options = parser.parse_args()
    for name in options.tables:
        x = rows_of(name)
        order = np.random.RandomState(0).permutation(len(x))
        fifth = len(x) // 5
        test, known = x[order[:fifth]], x[order[fifth:]]
        mean, std = known.mean(0), known.std(0)
        t, v, k = ((part - mean) / std for part in (test, known[:fifth], known[fifth:]))
        offset, found = -np.log(std).sum(), {}
        components = [(num, kind) for num in range(1, 9) for kind in ("full", "diag", "tied")]
        found["full-covariance Gaussian"] = best(mixture, [(1, "full")], k, v, t, offset)
        found["GaussianMixture"] = best(mixture, components, k, v, t, offset)
        widths = list(np.geomspace(0.05, 2, 25))
        found["KernelDensity"] = best(lambda width: KernelDensity(bandwidth=width), widths, k, v, t, offset)
        for steps in (0, options.steps):
            start = time.monotonic()
            ours = kk.DensityEstimator(steps=steps, members=options.members).fit(known)
            seconds = f"{time.monotonic() - start:.0f} s, {[vae.latent_shape[0] for vae in ours.members_]} latents"
            found[f"DensityEstimator, {steps} steps"] = ours.score_samples(test), seconds
        reference = found["GaussianMixture"][0]
        for title, (scores, choice) in found.items():
            stderr, paired = (values.std(ddof=1) / len(test) ** 0.5 for values in (scores, scores - reference))
            print(
                f"{name:14} {title:28} {scores.mean():8.2f} ± {stderr:.2f} nats per row, "
                f"{(scores - reference).mean():+6.2f} ± {paired:.2f} to the mixture   {choice}",
                flush=True,
            )


if __name__ == "__main__":
    main()
