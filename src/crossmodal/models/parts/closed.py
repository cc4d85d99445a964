"""What closed-form systems share: training items gathered in memory, scaled features, results kept as buffers.

A pair of modalities is fitted at a time, so that a model of more than two has a space of its own for each pair.
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
"""About 1e-6: the share of the largest singular value or deviation below which there is nothing but rounding.

Features are stored in single precision, which moves each value by up to half of its epsilon (6e-8 of itself). What is a
null direction of the exact features, such as that of shares which sum to one, has a singular value of about that share
of the largest one afterwards, and would be whitened into noise as large as any direction. A factor of 16 above that
leaves room for features whose means are larger than their spread; directions of real features lie far above it.
"""


class Settings(base.Settings):
    modalities: tuple[Modality, ...] = Field(
        ("image", "text"), min_length=2, description="those that are read; each pair of them is fitted by itself"
    )
    standardise: bool = Field(True, description="divide features by their s.d. over the training items")


class ClosedForm(base.Model):
    """A system whose weights are arrays that `fit` finds; their shapes are known only then."""

    trains: ClassVar[bool] = False

    def keep(self, name: str, value: np.ndarray | Tensor | float) -> None:
        """A result as a float32 buffer, which is saved with the model."""
        self.register_buffer(name, torch.as_tensor(value).detach().float().contiguous())

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *rest: Any) -> None:
        for key, value in state_dict.items():
            name = key.removeprefix(prefix)
            if key.startswith(prefix) and "." not in name:
                self.register_buffer(name, torch.empty_like(value))
        super()._load_from_state_dict(state_dict, prefix, *rest)

    def fit(self, batches: Iterable[base.Batch]) -> None:
        """Gather all training items and fit them."""
        self.fit_all(*gathered(batches, self.reads))

    def fit_all(self, values: dict[str, np.ndarray], labels: np.ndarray | None) -> None:
        """Fit each modality, then each pair of modalities; (N, D) values, rows belonging together, and (N,) labels."""
        found = {m: self.fit_modality(m, self.scaled(m, x), labels) for m, x in values.items()}
        for a, b in combinations(self.settings.modalities, 2):
            self.fit_pair(a, found[a], b, found[b], labels)

    def scaled(self, modality: str, x: np.ndarray) -> np.ndarray:
        """(N, D) training features, centred and divided by their s.d.; both are kept."""
        mean, deviation = x.mean(0), x.std(0)
        # What is constant in training says nothing: it is centred and left alone.
        scale = np.where(deviation > NEGLIGIBLE * (1 + np.abs(mean)), deviation, 1) if self.settings.standardise else 1
        self.keep(f"{modality}_mean", mean)
        self.keep(f"{modality}_scale", np.broadcast_to(scale, mean.shape).copy())
        return (x - mean) / scale

    def fit_modality(self, modality: str, x: np.ndarray, labels: np.ndarray | None) -> np.ndarray:
        """What `fit_pair` is given of (N, D) scaled features; these themselves unless overridden."""
        return x

    def fit_pair(self, a: str, x: np.ndarray, b: str, y: np.ndarray, labels: np.ndarray | None) -> None:
        """Fit two modalities, whose (N, ...) rows belong together."""

    def features(self, modality: str, batch: base.Batch) -> Tensor:
        """(B, D) features of a batch as `scaled` made them of the training items."""
        return (batch.inputs[modality] - self.get_buffer(f"{modality}_mean")) / self.get_buffer(f"{modality}_scale")


class Projecting(ClosedForm):
    """A system that maps the two modalities of a pair into a space linearly, to be compared by the cosine there."""

    def keep_pair(self, a: str, of_a: np.ndarray, b: str, of_b: np.ndarray) -> None:
        """(D, k) projections of two modalities for each other."""
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
