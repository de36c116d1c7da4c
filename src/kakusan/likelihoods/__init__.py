"""Data likelihoods by name. A new one is a file here and a line in LIKELIHOODS."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kakusan.errors import InputError
from kakusan.registry import Registry

if TYPE_CHECKING:
    from kakusan.likelihoods.base import Likelihood

LIKELIHOODS = Registry(
    "likelihood",
    {
        "gaussian": "kakusan.likelihoods.gaussian:Gaussian",
        "bernoulli": "kakusan.likelihoods.bernoulli:Bernoulli",
        "discretized": "kakusan.likelihoods.discretized:Discretized",
    },
)


def as_likelihood(choice: str | Likelihood) -> Likelihood:
    """Return a likelihood by its name, or the given object itself.

    Raises:
        InputError: If the name is unknown, or the object is not a `Likelihood`.
    """
    if isinstance(choice, str):
        return LIKELIHOODS[choice]()
    from kakusan.likelihoods.base import Likelihood

    if not isinstance(choice, Likelihood):
        raise InputError(f"likelihood must be a name ({', '.join(LIKELIHOODS)}) or a Likelihood, got {choice!r}")
    return choice
