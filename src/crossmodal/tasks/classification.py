"""Classification in the learning settings of Ngiam et al. (2011): linear classifiers on a model's representations."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import permutations
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from crossmodal.core.errors import UserError
from crossmodal.modalities import MODALITIES
from crossmodal.tasks import base

if TYPE_CHECKING:
    import torch
    from pandas import DataFrame

    from crossmodal.corpus.corpus import Corpus
    from crossmodal.models.base import Model

BATCH = 256


def _is_right(examples: base.Examples, k: int) -> np.ndarray:
    return 100.0 * np.asarray(examples["right"])


@dataclass(frozen=True)
class Truth:
    """The ground truth of N examples."""

    labels: np.ndarray  # (N,) int64 class of each example
    groups: np.ndarray  # (N,) int64 group of its items


class Task(base.Task):
    """Classification of examples from the representations of one or several modalities."""

    name: ClassVar[str] = "classification"
    title: ClassVar[str] = "Classification"
    place: ClassVar[int] = 30
    asks: ClassVar[str] = "represent"
    metrics: ClassVar[tuple[base.Metric, ...]] = (
        base.Metric("accuracy", "accuracy", "accuracy in per cent", ("right",), _is_right),
    )
    aspects: ClassVar[tuple[str, ...]] = (
        "fusion",
        *(f"{kind}-modal-{m}" for kind in ("single", "cross") for m in MODALITIES),
        *(f"shared-{m}-to-{other}" for m, other in permutations(MODALITIES, 2)),
    )

    controls: ClassVar[tuple[str, ...]] = ()  # counting correct predictions is too simple to need a check

    def hosts(self, relevance: str) -> bool:
        return relevance == "label"

    def targets(self, corpus: Corpus) -> Truth:
        """The test examples; the items of one group in all modalities are one example."""
        batches = [*corpus.joined("test", BATCH)]
        return Truth(*(np.concatenate([getattr(b, name).numpy() for b in batches]) for name in ("labels", "groups")))

    def predict(self, model: Model, corpus: Corpus, targets: Truth, device: torch.device) -> dict[str, np.ndarray]:
        """Predict the class of each example by logistic regression on training items, in each learning setting.

        Returns
        -------
        Learning setting to (N,) predicted classes.

        Raises
        ------
        UserError : training items of fewer than two classes.
        """
        from crossmodal.models.parts.classifier import logistic

        learned, labels = _features(model, corpus, "train", device)
        tested, _ = _features(model, corpus, "test", device)
        chosen, predicted = model.settings, {}
        for aspect, (fitted_to, tested_on) in model.classifiers.items():
            try:
                weight, bias = logistic(learned[fitted_to], labels, chosen.inverse_penalty, chosen.iterations)
            except ValueError as error:
                raise UserError(f"{type(model).__module__.rpartition('.')[2]}: {error}") from None
            predicted[aspect] = np.unique(labels)[(tested[tested_on] @ weight + bias).argmax(1)]
        return predicted

    def score(
        self, targets: Truth, predictions: dict[str, np.ndarray], folds: list[int]
    ) -> tuple[DataFrame, list[base.Number]]:
        """One row per example and learning setting, and the accuracy in each setting in per cent."""
        import pandas as pd

        frames, numbers = [], []
        for aspect, predicted in predictions.items():
            right = predicted == targets.labels
            about = {"protocol": "all", "aspect": aspect, "fold": 0, "query_group": targets.groups}
            frames.append(pd.DataFrame({**about, "true": targets.labels, "predicted": predicted, "right": right}))
            number = {"aspect": aspect, "metric": "accuracy", "protocol": "all"}
            numbers.append({**number, "value": 100 * float(right.mean()), "n_queries": len(right), "n_gallery": 0})
        return pd.concat(frames, ignore_index=True), numbers


def _features(
    model: Model, corpus: Corpus, partition: str, device: torch.device
) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """The (N, d) float64 features by name and the (N,) labels of the items of a partition."""
    model.eval()
    batches: dict[str, list[np.ndarray]] = {}
    labels = []
    for batch in corpus.joined(partition, BATCH):
        for name, value in model.represent(batch.to(device)).items():
            batches.setdefault(name, []).append(value.double().cpu().numpy())
        labels.append(batch.labels.numpy())
    joined = {name: np.concatenate(parts) for name, parts in batches.items()}
    return joined, np.concatenate(labels)
