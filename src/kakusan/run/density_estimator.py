"""A density estimator for tables that follows scikit-learn's conventions. It does not import scikit-learn."""

from __future__ import annotations

import copy
import dataclasses
import importlib
import inspect
import math
from types import SimpleNamespace
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

from kakusan.columns import Column
from kakusan.data.numeric import table_of_array
from kakusan.data.table_columns import fitted
from kakusan.data.table_scale import TableScale
from kakusan.errors import InputError, shown
from kakusan.models.vae import VAE
from kakusan.noise import stream
from kakusan.run.families.tables import FEWEST_ROWS, start_at_rows, table_vae
from kakusan.training.fit import fit
from kakusan.training.loop import Trainer
from kakusan.training.settings import Optim

LATENTS = (1, 2, 3, 5, 8, 12, 16, 20, 24, 32)  # latent dimensions that are compared on held-out rows
CHECK_EVERY = 25  # steps between two checks on held-out rows
CHECK_DRAWS = 16  # draws of the latents for a held-out row
BATCH = 128
HELD_OUT = 5  # a single member leaves out every fifth row


class DensityEstimator:
    """Density of the rows of a table, as an ensemble of VAEs with scikit-learn's conventions.

    Each member starts as a factor analyzer of transformed columns. Held-out rows choose the number of factors. The member
    is then trained, and keeps the weights that score best on its held-out rows. The density of the ensemble is the mean
    density of its members. NaN is a missing value; a score is the log-density of the observed values.

    Args:
        latent: Number of latent dimensions; default: chosen on held-out rows.
        hidden: Widths of the hidden layers.
        members: Number of members; each leaves out a different part of the rows.
        steps: Training steps of each member; 0 keeps the factor analyzers.
        learning_rate: Peak learning rate.
        weight_decay: Decoupled weight decay.
        dropout: Share of hidden units that training leaves out.
        columns: Types of columns by number, e.g. {0: "integer", 3: "categorical"}; default: all real.
        shapes: Whether to fit skew and tail of real columns.
        draws: K of the importance-weighted bound that `score_samples` returns.
        random_state: Random seed, or None for 0.

    Attributes:
        n_features_in_: Number of columns.
        columns_: The columns with their transformations.
        members_: The trained VAEs, in float64.

    Example:
        >>> import kakusan as kk, numpy as np
        >>> x = np.random.default_rng(0).normal(size=(200, 3))
        >>> density = kk.DensityEstimator(steps=0).fit(x)
        >>> density.score_samples(x).shape, density.sample(4).shape
        ((200,), (4, 3))
    """

    def __init__(
        self,
        latent: int | None = None,
        *,
        hidden: tuple[int, ...] = (64,),
        members: int = 5,
        steps: int = 400,
        learning_rate: float = 2e-3,
        weight_decay: float = 0.1,
        dropout: float = 0.1,
        columns: dict[int, str] | None = None,
        shapes: bool = True,
        draws: int = 64,
        random_state: int | None = None,
    ):
        self.latent, self.hidden, self.members, self.steps = latent, hidden, members, steps
        self.learning_rate, self.weight_decay, self.dropout = learning_rate, weight_decay, dropout
        self.columns, self.shapes, self.draws, self.random_state = columns, shapes, draws, random_state

    # Parameters, which scikit-learn's tools read and set

    @classmethod
    def _names(cls) -> list[str]:
        return [name for name in inspect.signature(cls.__init__).parameters if name != "self"]

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Return the arguments of the constructor by name."""
        return {name: getattr(self, name) for name in self._names()}

    def set_params(self, **params: Any) -> Self:
        """Set arguments of the constructor and return the estimator; InputError for an unknown name."""
        for name, value in params.items():
            if name not in self._names():
                raise InputError(f"DensityEstimator has no parameter {shown(name)}; it has: {', '.join(self._names())}")
            setattr(self, name, value)
        return self

    def __repr__(self) -> str:
        defaults = inspect.signature(type(self).__init__).parameters
        changed = {name: value for name, value in self.get_params().items() if value != defaults[name].default}
        return f"DensityEstimator({', '.join(f'{name}={value!r}' for name, value in changed.items())})"

    def __sklearn_tags__(self) -> Any:
        """Return tags for scikit-learn, which calls this method."""
        utils: Any = importlib.import_module("sklearn.utils")
        inputs = utils.InputTags(allow_nan=True)
        return utils.Tags("density_estimator", utils.TargetTags(required=False), input_tags=inputs)

    def __sklearn_is_fitted__(self) -> bool:
        """Return whether `fit` has been called."""
        return hasattr(self, "members_")

    # Estimation

    def fit(self, X: Any, y: Any = None) -> Self:
        """Fit the density to rows, and return the estimator.

        Args:
            X: Numbers (n, columns), NaN where a value is missing; an array, a list of rows or a data frame.
            y: Not used.

        Raises:
            InputError: If X is not a table of numbers, or has fewer than 2 rows.
        """
        rows, names = _table(X)
        if len(rows) < 2:
            raise InputError(f"a density needs 2 rows or more, got n_samples = 1 ({len(rows)} sample)")
        self._check()
        _check_present(rows)
        self.n_features_in_ = rows.shape[1]
        if names is not None:
            self.feature_names_in_ = names
        elif hasattr(self, "feature_names_in_"):
            del self.feature_names_in_
        types = ",".join(f"column{k + 1}={kind}" for k, kind in (self.columns or {}).items())
        dataset = table_of_array("X", rows, None, types, True)
        # rows to be scored may have missing values, even if these have none
        columns = tuple(dataclasses.replace(column, missing=True) for column in dataset.columns)
        self.columns_ = fitted(columns, dataset.train, self.shapes)
        categorical = [k for k, column in enumerate(self.columns_) if column.categories]
        self._values = {k: np.unique(rows[:, k][~np.isnan(rows[:, k])]) for k in categorical}
        x = TableScale(self.columns_).to_model(dataset.train)
        seed = self.random_state or 0
        order = torch.randperm(len(x), generator=stream(seed, "members"))
        part = torch.arange(len(x)) % max(self.members, HELD_OUT if self.members == 1 else 2)
        place = torch.empty_like(part)
        place[order] = part
        with torch.random.fork_rng(devices=[]):
            self.members_ = [self._member(x[place != k], x[place == k], seed, k) for k in range(self.members)]
        return self

    def _check(self) -> None:
        for name, least in {"members": 1, "steps": 0, "draws": 1}.items():
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < least:
                raise InputError(f"{name} must be a whole number of at least {least}, got {shown(value)}")

    def _member(self, x: Tensor, held_out: Tensor, seed: int, number: int) -> VAE:
        """Return a VAE trained on x, with the weights that score best on held-out rows."""
        x, held_out = (x, held_out) if len(x) and len(held_out) else (held_out, x)
        held_out = held_out if len(held_out) else x
        torch.manual_seed(stream(seed, "member", number).initial_seed())
        most = max(1, min(x.shape[1], len(x) // FEWEST_ROWS))
        chosen = [num for num in LATENTS if num <= most] if self.latent is None else [self.latent]
        candidates = [self._start(self.columns_, num, x) for num in chosen]
        best = max(candidates, key=lambda vae: _bound(vae, held_out, 1, seed).mean().item())
        if not self.steps or len(x) < 2:
            return best.double().eval()
        kept: list[Any] = [_bound(best, held_out, CHECK_DRAWS, seed).mean().item(), copy.deepcopy(best.state_dict())]

        def keep(trainer: Trainer) -> None:
            if trainer.state.step % CHECK_EVERY and trainer.state.step != self.steps:
                return
            averaged: Any = trainer.ema.module
            value = _bound(averaged.eval(), held_out, CHECK_DRAWS, seed).mean().item()
            if value > kept[0]:
                kept[:] = [value, copy.deepcopy(averaged.state_dict())]

        optim = Optim(
            lr=self.learning_rate, weight_decay=self.weight_decay, warmup=min(50, self.steps), batch=BATCH, ema=0.1
        )
        fit(best.train(), x, steps=self.steps, seed=seed + number, optim=optim, average=False, on_step=keep)
        best.load_state_dict(kept[1])
        return best.double().eval()

    def _start(self, columns: tuple[Column, ...], latent: int, x: Tensor) -> VAE:
        settings = SimpleNamespace(
            latent=latent, hidden=tuple(self.hidden), activation="tanh", dropout=self.dropout, num_conditions=0
        )
        vae = table_vae(columns, settings)
        start_at_rows(vae, x)
        return vae.eval()

    def score_samples(self, X: Any) -> np.ndarray:
        """Return a lower bound on the log-density of each row, in nats and in the units of the columns.

        The bound is importance-weighted with `draws` samples of the latents; all rows share the noise.

        Args:
            X: Numbers (n, columns). A row with missing values is scored by its observed values.

        Returns:
            float64 (n,).
        """
        if not self.__sklearn_is_fitted__():
            raise InputError("this DensityEstimator is not fitted; call fit(X) first")
        rows, names = _table(X)
        if rows.shape[1] != self.n_features_in_:
            raise InputError(
                f"X has {rows.shape[1]} features, but DensityEstimator is expecting {self.n_features_in_} features as input"
            )
        _check_names(names, getattr(self, "feature_names_in_", None))
        for k, values in self._values.items():
            rows[:, k] = _coded(rows[:, k], values, k)
        x = TableScale(self.columns_, torch.float64).to_model(torch.from_numpy(rows))
        bounds = [_bound(vae, x, self.draws, self.random_state or 0) for vae in self.members_]
        return (torch.stack(bounds).logsumexp(0) - math.log(len(bounds))).numpy()

    def score(self, X: Any, y: Any = None) -> float:
        """Return the mean of `score_samples`, in nats per row; higher is better."""
        return float(self.score_samples(X).mean())

    def sample(self, n_samples: int = 1, random_state: int | None = None) -> np.ndarray:
        """Draw complete rows, float64 (n_samples, columns), in the units and with the values of the columns."""
        if not self.__sklearn_is_fitted__():
            raise InputError("this DensityEstimator is not fitted; call fit(X) first")
        generator = stream(self.random_state or 0 if random_state is None else random_state, "density sample")
        member = torch.randint(len(self.members_), (n_samples,), generator=generator)
        rows = np.empty((n_samples, self.n_features_in_))
        scale = TableScale(self.columns_, torch.float64)
        with torch.no_grad():
            for k, vae in enumerate(self.members_):
                at = (member == k).nonzero()[:, 0]
                z = vae.prior().expand(len(at)).sample(generator)
                rows[at.numpy()] = scale.to_rows(vae.decode(z, 1).sample(generator)).numpy()
        for k, values in self._values.items():
            rows[:, k] = values[rows[:, k].astype(int)]
        return rows


@torch.no_grad()
def _bound(vae: Any, x: Tensor, draws: int, seed: int) -> Tensor:
    """Return the importance-weighted bound of each row. All rows share the noise, so a score depends on its row alone."""
    q, prior, total = vae.encode(x, 1), vae.prior(), None
    noise = torch.randn(draws, *vae.latent_shape, generator=stream(seed, "score"), dtype=torch.float64).to(x)
    for eps in noise:
        z = q.mean + q.std * eps
        weight = prior.log_prob(z) + vae.decode(z, 1).log_prob(x) - q.log_prob(z)
        total = weight if total is None else torch.logaddexp(total, weight)
    assert total is not None, "there is at least one draw"
    return total - math.log(draws)


def _table(X: Any) -> tuple[np.ndarray, np.ndarray | None]:
    """Return a copy of the rows as float64 (n, columns), and the column names of a data frame.

    Raises:
        InputError: If X is no table of numbers, is empty, or holds infinite values. scikit-learn checks these messages.
    """
    if hasattr(X, "toarray"):
        raise InputError("sparse input is not supported: a density needs all values; pass X.toarray()")
    names = getattr(X, "columns", None)
    names = None if names is None or not all(isinstance(name, str) for name in names) else np.array(names, dtype=object)
    array = np.asarray(X)
    if array.dtype.kind == "c":
        raise InputError("Complex data not supported: X must hold real numbers")
    try:
        rows = np.array(array, dtype=np.float64)
    except (TypeError, ValueError) as error:
        if isinstance(error, TypeError):
            raise TypeError(f"argument must be a string or a number: X must hold numbers ({error})") from error
        raise InputError(f"X must hold numbers, got {array.dtype} ({error}); give categories as codes") from error
    if rows.ndim != 2:
        raise InputError(
            f"Expected 2D array, got {rows.ndim}D array of shape {rows.shape} instead. Reshape your data: "
            "X.reshape(-1, 1) for a single column, X.reshape(1, -1) for a single row"
        )
    for axis, word in enumerate(("sample", "feature")):
        if not rows.shape[axis]:
            raise InputError(f"Found array with 0 {word}(s) (shape={rows.shape}) while a minimum of 1 is required.")
    if np.isinf(rows).any():
        raise InputError("Input X contains infinity; replace it, or write NaN for a missing value")
    return rows, names


def _check_present(rows: np.ndarray) -> None:
    """Raise InputError for a column without values."""
    for k, column in enumerate(rows.T):
        if np.isnan(column).all():
            raise InputError(f"column {k} of X has no values; remove it: numpy.delete(X, {k}, axis=1)")


def _check_names(names: np.ndarray | None, known: np.ndarray | None) -> None:
    """Raise InputError unless the columns of a data frame are those of `fit`, in their order."""
    if names is None or known is None or (len(names) == len(known) and (names == known).all()):
        return
    raise InputError(
        f"The feature names should match those that were passed during fit: expected {', '.join(known[:8])}, got "
        f"{', '.join(names[:8])}"
    )


def _coded(values: np.ndarray, known: np.ndarray, column: int) -> np.ndarray:
    """Return the codes of categories; InputError for a value that `fit` has not seen."""
    codes = np.searchsorted(known, values).clip(0, len(known) - 1)
    unknown = ~np.isnan(values) & (known[codes] != values)
    if unknown.any():
        raise InputError(f"column {column} has the category {values[unknown][0]:g}, which fit has not seen")
    return np.where(np.isnan(values), np.nan, codes)
