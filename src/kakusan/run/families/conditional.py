"""Conditions of a model family: labels of the data, or k-means clusters. Does not import torch, so that help is instant."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal

from kakusan.errors import InputError, printable
from kakusan.run.families.base import ModelConfig
from kakusan.settings import Between, Length

if TYPE_CHECKING:
    from torch import Tensor

    from kakusan.data.dataset import Dataset

MOST_CLASSES = 4096
SHOWN = 10  # number of names in a message
CLUSTERS_OF_LABELS = 1024  # clusters through which a few labels are passed on to unlabeled examples
VALUES_AT_ONCE = 2**22  # values in one batch of images for clustering
SEEN_FOR_CLUSTERS = 2**15  # least number of images for clustering; 1 of 128 clusters then has a relative error of 6 %
ClassName = Annotated[str, Length(1, 200)]


@dataclass(frozen=True)
class ConditionalConfig(ModelConfig):
    """Settings of a family whose networks may be conditional on classes."""

    conditional = True

    condition: Literal["none", "clusters", "labels"] | None = None
    """Condition of the model. labels: the data's classes. clusters: k-means clusters, see model.clusters. Default: labels if they come from subfolders or --labels, otherwise clusters if model.clusters is positive."""
    clusters: Annotated[int, Between(0, 4096)] = 0
    """Number of k-means clusters used for conditioning, at most one for every 50 examples. 0: unconditional. If only some examples have labels, clusters pass the labels on to the others."""
    classes: Annotated[tuple[ClassName, ...], Length(0, MOST_CLASSES)] = ()
    """Names of the classes in order. Default: those of the data's labels, sorted."""

    @property
    def kind_of_condition(self) -> Literal["none", "clusters", "labels"]:
        """Return what the model is conditional on, with the default resolved."""
        return self.condition or ("clusters" if self.clusters else "none")

    @property
    def null_share(self) -> float:
        """Label dropout; 0 for families without classifier-free guidance."""
        return getattr(self, "label_dropout", 0.0)

    @property
    def column_of_labels(self) -> str:
        """Return the recorded column of labels."""
        return getattr(self, "label", "")

    @property
    def num_conditions(self) -> int:
        """Number of classes that the networks distinguish, including a null class; 0: unconditional."""
        if self.kind_of_condition == "labels":
            return len(self.classes) + (self.null_share > 0)
        return self.clusters if self.kind_of_condition == "clusters" else 0

    def for_labels(self, dataset: Dataset) -> Any:
        """Return the settings for these data, with the class names if the model is conditional on labels.

        Raises:
            InputError: If labels are required and the data have none, or labels not in `classes`.
        """
        wanted = self.condition or ("labels" if dataset.labeled_by and len(dataset.classes) > 1 else None)
        if wanted == "clusters" and not self.clusters:
            raise InputError("model.condition clusters needs their number; add --model.clusters 128")
        if wanted != "labels":
            return self
        if len(dataset.classes) < 2 or dataset.train_cond is None:
            raise InputError(
                f"model.condition labels needs labels of two classes or more, and {dataset.name} has "
                f"{dataset.labels() or 'none'}; {dataset.form.how_to_label}"
            )
        classes = self.classes or dataset.classes
        unknown = sorted(set(dataset.classes) - set(classes))
        if unknown:
            raise InputError(f"model.classes lacks the label {printable(unknown[0])} of {dataset.name}; add it")
        holes = bool((dataset.train_cond < 0).any())
        clusters = max(self.clusters, CLUSTERS_OF_LABELS) if holes else 0
        return dataclasses.replace(self, condition="labels", classes=tuple(classes), clusters=clusters)


def conditioned(chain: Any, config: ConditionalConfig, event_shape: tuple[int, ...]) -> Any:
    """Return the chain as a mixture over labels or clusters; without a condition, the chain itself."""
    from kakusan.models.clusters import Clusters
    from kakusan.models.labels import Labels
    from kakusan.models.mixture import Mixture

    match config.kind_of_condition:
        case "labels":
            return Mixture(chain, Labels(len(config.classes), event_shape, config.null_share, config.clusters))
        case "clusters":
            return Mixture(chain, Clusters(config.clusters, event_shape))
    return chain


def labels_of(config: Any, dataset: Dataset, part: str) -> Tensor | None:
    """Return the index of each example's label in the model's classes, -1 for unlabeled; None if it takes no labels.

    Args:
        config: Settings of the model.
        dataset: The data.
        part: "train" or "test".
    """
    import torch

    from kakusan.data.labels import indices_for

    if config.kind_of_condition != "labels":
        return None
    found = indices_for(config.classes, dataset, part)
    return torch.full((len(getattr(dataset, part)),), -1) if found is None else found


def known_labels(config: Any, dataset: Dataset, part: str, limit: int | None = None) -> Tensor | None:
    """Return `labels_of` for the first `limit` examples."""
    labels = labels_of(config, dataset, part)
    return labels if labels is None else labels[:limit]


def observe(module: Any, scale: Any, data: Tensor, augment: str, labels: Tensor | None) -> None:
    """Find clusters in the training examples, or learn the distribution of the labels.

    Clusters are found in augmented examples, so that their probabilities match the examples of training.
    """
    import torch

    from kakusan.data.augment import augmented
    from kakusan.models.clusters import LEARNED_FROM, Clusters, coarse
    from kakusan.models.labels import Labels
    from kakusan.models.mixture import split
    from kakusan.noise import stream

    classes = split(module)[1]
    drawn, each = stream("clusters of"), max(1, VALUES_AT_ONCE // data[0].numel())

    def features(rows: Tensor, augment: str) -> Tensor:
        images = (augmented(data[part], augment, drawn) for part in rows.split(each))
        return torch.cat([coarse(scale.to_model(one, drawn)).cpu() for one in images])

    if isinstance(classes, Clusters):
        seen = max(SEEN_FOR_CLUSTERS, LEARNED_FROM * classes.num)
        classes.find(features(torch.randperm(len(data), generator=drawn)[:seen].to(data.device), augment))
    elif isinstance(classes, Labels):
        assert labels is not None, "a model of labels is trained with them"
        everything = torch.arange(len(data), device=data.device)
        where = classes.share.device
        found = features(everything, "none").to(where) if classes.holes else None
        classes.observe(labels.to(where), found)


def shares_of(classes: Any, x: Tensor, labels: Tensor | None) -> Tensor:
    """q(k | x) of training examples, float64 (n, K): certain for a label or a cluster, else that of `Labels`."""
    import torch
    from torch.nn import functional as F

    from kakusan.models.clusters import where_unlabeled

    if labels is None:
        return F.one_hot(classes.certain(x), classes.num).double()
    probs = classes.probs_of(x)
    probs = classes.share.double().expand(len(x), -1) if probs is None else probs
    return where_unlabeled(labels.cpu(), torch.as_tensor(probs).cpu())


def label_lines(config: Any, dataset: Dataset, own_data: bool) -> list[str]:
    """Return messages about the labels of the training data: how they are used, or that they are not used."""
    if config.kind_of_condition == "labels":
        names = ", ".join(map(printable, config.classes[:SHOWN])) + (", ..." * (len(config.classes) > SHOWN))
        lines = [f"conditional on {len(config.classes):,} classes: {names}"]
        missing = 0 if dataset.train_cond is None else int((dataset.train_cond < 0).sum())
        if missing:
            lines.append(
                f"{missing:,} unlabeled examples get labels from up to {config.clusters:,} clusters of all examples"
            )
        return lines
    if not dataset.classes or not own_data:
        return []
    if len(dataset.classes) == 1:
        return [f"all labels are {printable(dataset.classes[0])}, so they are not used"]
    unused = f"labels of {len(dataset.classes):,} classes are not used"
    if config.conditional:
        return [f"{unused}; condition on them with --model.condition labels"]
    return [f"{unused}: this model takes none"]
