"""Base classes of closed-form systems: they gather the training items, scale features and keep results as buffers.

Each pair of modalities is fitted by itself, so that a model of more than two has a separate space for each pair.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import combinations
from typing import Any, ClassVar

import numpy as np
import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from crossmodal.modalities import Modality
from crossmodal.models import base

NEGLIGIBLE = 8 * float(np.finfo(np.float32).eps)
"""About 1e-6: singular values or deviations below this fraction of the largest one are rounding errors.

Features are stored in single precision, which changes each value by up to half an epsilon (6e-8 of the value). A null
direction of the exact features, such as that of shares which sum to one, then has a singular value of about that
fraction of the largest one, and whitening would turn it into noise as large as any direction. A factor of 16 above that
leaves room for features whose means are larger than their spread; directions of real features lie far above it.
"""


class Settings(base.Settings):
    """Settings that closed-form systems share."""

    modalities: tuple[Modality, ...] = Field(
        ("image", "text"),
        min_length=2,
        description="modalities that the model reads; each pair of them is fitted separately",
    )
    standardise: bool = Field(True, description="divide features by their s.d. over the training items")


class ClosedForm(base.Model):
    """A system whose weights are arrays that `fit` computes; their shapes are not known before."""

    trains: ClassVar[bool] = False

    def keep(self, name: str, value: np.ndarray | Tensor | float) -> None:
        """Store a result as a float32 buffer, which is saved with the model."""
        self.register_buffer(name, torch.as_tensor(value).detach().float().contiguous())

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *rest: Any) -> None:
        for key, value in state_dict.items():
            name = key.removeprefix(prefix)
            if key.startswith(prefix) and "." not in name:
                self.register_buffer(name, torch.empty_like(value))
        super()._load_from_state_dict(state_dict, prefix, *rest)

    def fit(self, batches: Iterable[base.Batch]) -> None:
        """Gather all training items and fit the model to them."""
        self.fit_all(*gathered(batches, self.reads))

    def fit_all(self, values: dict[str, np.ndarray], labels: np.ndarray | None) -> None:
        """Fit each modality, then each pair, to (N, D) values whose rows belong together and their (N,) labels."""
        fitted = {m: self.fit_modality(m, self.scaled(m, x), labels) for m, x in values.items()}
        for a, b in combinations(self.settings.modalities, 2):
            self.fit_pair(a, fitted[a], b, fitted[b], labels)

    def scaled(self, modality: str, x: np.ndarray) -> np.ndarray:
        """(N, D) training features, centred and divided by their s.d.; mean and s.d. are stored."""
        mean, deviation = x.mean(0), x.std(0)
        # A feature that is constant in training has no information: it is centred but not divided.
        scale = np.where(deviation > NEGLIGIBLE * (1 + np.abs(mean)), deviation, 1) if self.settings.standardise else 1
        self.keep(f"{modality}_mean", mean)
        self.keep(f"{modality}_scale", np.broadcast_to(scale, mean.shape).copy())
        return (x - mean) / scale

    def fit_modality(self, modality: str, x: np.ndarray, labels: np.ndarray | None) -> np.ndarray:
        """The features that `fit_pair` is called with: the (N, D) scaled features `x` unless overridden."""
        return x

    def fit_pair(self, a: str, x: np.ndarray, b: str, y: np.ndarray, labels: np.ndarray | None) -> None:
        """Fit two modalities, whose (N, ...) rows belong together."""

    def features(self, modality: str, batch: base.Batch) -> Tensor:
        """(B, D) features of a batch, scaled as `scaled` scales the training items."""
        return (batch.inputs[modality] - self.get_buffer(f"{modality}_mean")) / self.get_buffer(f"{modality}_scale")


class LinearProjection(ClosedForm):
    """A system that maps the two modalities of a pair linearly into one space, where their cosines are scores."""

    def keep_pair(self, a: str, of_a: np.ndarray, b: str, of_b: np.ndarray) -> None:
        """Store the (D, k) projections of two modalities into their common space."""
        self.keep(projection(a, b), of_a)
        self.keep(projection(b, a), of_b)

    def encode(self, modality: str, batch: base.Batch, partner: str) -> Tensor:
        """(B, k) unit vectors in the space of the two modalities."""
        return F.normalize(self.features(modality, batch) @ self.get_buffer(projection(modality, partner)), dim=1)


def projection(modality: str, partner: str) -> str:
    """The name of a modality's projection into the space that it shares with its partner."""
    return f"{modality}_to_{partner}"


def gathered(
    batches: Iterable[base.Batch], modalities: Iterable[str]
) -> tuple[dict[str, np.ndarray], np.ndarray | None]:
    """{modality: (N, D) float64 features} of all batches, rows belonging together, and their (N,) labels if any."""
    values: dict[str, list[np.ndarray]] = {m: [] for m in modalities}
    labels: list[np.ndarray] = []
    for batch in batches:
        for m, parts in values.items():
            parts.append(batch.inputs[m].double().cpu().numpy())
        if batch.labels is not None:
            labels.append(batch.labels.cpu().numpy())
    return {m: np.concatenate(parts) for m, parts in values.items()}, np.concatenate(labels) if labels else None
