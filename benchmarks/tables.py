"""Held-out nats per row of `kakusan.DensityEstimator` beside scikit-learn's density estimators, on its own tables.

    python benchmarks/tables.py [--steps 400] [--members 5] [--splits 5] [wine breast_cancer diabetes]

Each fifth of the rows is the test part of one split. The rivals' settings (components and covariance, bandwidth) are
chosen on another fifth, and they are then fitted to all rows but the test part, as ours is. Columns are standardized for
the rivals, and the density is corrected for it. Errors are standard errors over all test rows. Differences from the
best rival are paired. The column sex of diabetes has two values, which have no density, and is left out for all.
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


def mean_and_error(values: np.ndarray) -> tuple[float, float]:
    """Mean over the rows and its standard error."""
    return values.mean(), values.std(ddof=1) / len(values) ** 0.5


def scored(x: np.ndarray, order: np.ndarray, split: int, options: argparse.Namespace) -> dict[str, np.ndarray]:
    """Scores of the test rows of one split by each estimator; prints the settings that were chosen."""
    fifth = len(x) // 5
    at = np.arange(split * fifth, (split + 1) * fifth)
    test, known = x[order[at]], x[np.delete(order, at)]
    mean, std = known.mean(0), known.std(0)
    t, v, k = ((part - mean) / std for part in (test, known[:fifth], known[fifth:]))
    offset, found = -np.log(std).sum(), {}
    components = [(num, kind) for num in range(1, 9) for kind in ("full", "diag", "tied")]
    widths = list(np.geomspace(0.05, 2, 25))
    rivals = {
        "full-covariance Gaussian": (mixture, [(1, "full")]),
        "GaussianMixture": (mixture, components),
        "KernelDensity": (lambda width: KernelDensity(bandwidth=width), widths),
    }
    for title, (make, choices) in rivals.items():
        found[title], chosen = best(make, choices, k, v, t, offset)
        print(f"    split {split}: {title}: {found[title].mean():.2f}, {chosen}", flush=True)
    for steps in sorted({0, options.steps}):
        start = time.monotonic()
        ours = kk.DensityEstimator(steps=steps, members=options.members).fit(known)
        title = f"DensityEstimator, {steps} steps"
        found[title] = ours.score_samples(test)
        latents = [vae.latent_shape[0] for vae in ours.members_]
        seconds = time.monotonic() - start
        print(f"    split {split}: {title}: {found[title].mean():.2f}, {latents} latents, {seconds:.0f} s", flush=True)
    return found


def main() -> None:
    """Print one line for each estimator and table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("tables", nargs="*", default=TABLES)
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--members", type=int, default=5)
    parser.add_argument("--splits", type=int, choices=range(1, 6), default=5, help="number of splits")
    options = parser.parse_args()
    for name in options.tables:
        x = rows_of(name)
        order = np.random.RandomState(0).permutation(len(x))
        splits = [scored(x, order, split, options) for split in range(options.splits)]
        found = {title: np.concatenate([split[title] for split in splits]) for title in splits[0]}
        rivals = list(found)[:3]
        reference = max(rivals, key=lambda title: found[title].mean())
        for title, scores in found.items():
            mean, error = mean_and_error(scores)
            gain, paired = mean_and_error(scores - found[reference])
            print(
                f"{name:14} {title:28} {mean:8.2f} ± {error:.2f} nats per row, "
                f"{gain:+6.2f} ± {paired:.2f} to {reference}",
                flush=True,
            )


if __name__ == "__main__":
    main()
