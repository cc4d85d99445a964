"""Classification in the learning settings of Ngiam et al. (2011): linear classifiers on what a model represents."""

from __future__ import annotations

from itertools import permutations
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from crossmodal.errors import UserError
from crossmodal.files import write_parquet
from crossmodal.modalities import MODALITIES
from crossmodal.tasks import base

if TYPE_CHECKING:
    import torch

    from crossmodal.corpus.corpus import Corpus
    from crossmodal.models.base import Model

BATCH = 256


def _is_right(examples: base.Examples, k: int) -> np.ndarray:
    return 100.0 * np.asarray(examples["right"])


class Task(base.Task):
    name: ClassVar[str] = "classification"
    title: ClassVar[str] = "Classification"
    asks: ClassVar[str] = "represent"
    metrics: ClassVar[tuple[base.Metric, ...]] = (
        base.Metric("accuracy", "accuracy", "accuracy in per cent", ("right",), _is_right),
    )
    aspects: ClassVar[tuple[str, ...]] = (
        "fusion",
        *(f"{kind}-modal-{m}" for kind in ("single", "cross") for m in MODALITIES),
        *(f"shared-{m}-to-{other}" for m, other in permutations(MODALITIES, 2)),
    )

    def hosts(self, relevance: str) -> bool:
        return relevance == "label"

    def evaluate(
        self, model: Model, corpus: Corpus, folds: list[int], device: torch.device, folder: Path
    ) -> list[base.Number]:
        """Fit a classifier for each of the model's settings to training items, and test it on test items.

        Items that belong together (of one group) are one example.

        Raises
        ------
        UserError : training items of fewer than two classes.
        """
        import pandas as pd

        from crossmodal.models.parts.classifier import logistic

        learned, labels, _ = _features(model, corpus, "train", device)
        tested, truth, groups = _features(model, corpus, "test", device)
        frames, numbers = [], []
        for direction, (fitted_to, tested_on) in model.classifiers.items():
            try:
                weight, bias = logistic(
                    learned[fitted_to], labels, model.settings.inverse_penalty, model.settings.iterations
                )
            except ValueError as error:
                raise UserError(f"{type(model).__module__.rpartition('.')[2]}: {error}") from None
            predicted = np.unique(labels)[(tested[tested_on] @ weight + bias).argmax(1)]
            frame = pd.DataFrame({"query_group": groups, "true": truth, "predicted": predicted})
            frames.append(frame.assign(protocol="all", direction=direction, fold=0, right=predicted == truth))
            value = 100 * float((predicted == truth).mean())
            about = {"direction": direction, "metric": "accuracy", "protocol": "all", "value": value}
            numbers.append({**about, "n_queries": len(truth), "n_gallery": 0})
        write_parquet(folder / "examples.parquet", pd.concat(frames, ignore_index=True))
        return numbers


def _features(
    model: Model, corpus: Corpus, partition: str, device: torch.device
) -> tuple[dict[str, np.ndarray], np.ndarray, np.ndarray]:
    """(N, d) float64 features by name, and the (N,) labels and groups, of the items of a partition."""
    model.eval()
    found: dict[str, list[np.ndarray]] = {}
    labels, groups = [], []
    for batch in corpus.joined(partition, BATCH):
        for name, value in model.represent(batch.to(device)).items():
            found.setdefault(name, []).append(value.double().cpu().numpy())
        labels.append(batch.labels.numpy())
        groups.append(batch.groups.numpy())
    joined = {name: np.concatenate(parts) for name, parts in found.items()}
    return joined, np.concatenate(labels), np.concatenate(groups)
