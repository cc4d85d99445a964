"""Canonical correlation analysis: plain, regularised and kernel (Hardoon et al., 2004; CVS thesis, section 2.4).

CCA is the classical baseline. The projections wx, wy of two modalities have the largest correlation
wxᵀ Cxy wy / √(wxᵀ(Cxx + κI)wx · wyᵀ(Cyy + κI)wy); they follow from the singular vectors of the cross-covariance of the
whitened modalities. With a kernel, the same analysis is applied to the kernel's Nyström features, which are exact if
every training item is a landmark.
"""

from __future__ import annotations

from typing import ClassVar, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from crossmodal.models import base
from crossmodal.models.base import Form
from crossmodal.models.parts import closed_form
from crossmodal.models.parts.closed_form import NEGLIGIBLE, LinearProjection


class Settings(closed_form.Settings):
    """Number of dimensions, regularisation and kernel of the analysis."""

    dim: int = Field(
        32, ge=1, description="number of canonical directions that are kept, beginning with the most correlated ones"
    )
    components: int = Field(
        0,
        ge=0,
        description="number of principal components of each modality that are used; 0: all (plain CCA needs few)",
    )
    regularisation: float = Field(
        0.0, ge=0, description="κ, as a multiple of the mean variance of a modality's dimensions"
    )
    kernel: Literal["linear", "rbf", "laplacian", "cosine"] = Field(
        "linear", description="kernel of the features; linear: no kernel"
    )
    width: float = Field(
        1.0, gt=0, description="width of the rbf or laplacian kernel, as a multiple of the median distance of two items"
    )
    landmarks: int = Field(
        2000, ge=2, description="largest number of training items (landmarks) that approximate the kernel"
    )
    seed: int = Field(0, ge=0, description="seed of the choice of landmarks")


class Model(LinearProjection):
    reads: ClassVar[dict[str, Form]] = {"image": "vector", "text": "vector"}

    settings: Settings

    def fit_modality(self, modality: str, x: np.ndarray, labels: np.ndarray | None) -> np.ndarray:
        """(N, D) scaled features -> (N, m) centred features of the kernel, or the same if it is linear."""
        if self.settings.kernel == "linear":
            return x
        from sklearn.metrics.pairwise import pairwise_kernels

        s = self.settings
        options = {}
        if s.kernel != "cosine":
            options["gamma"] = 1 / (s.width * median_distance(x, s.kernel)) ** (2 if s.kernel == "rbf" else 1)
        landmarks = x[np.sort(np.random.default_rng(s.seed).permutation(len(x))[: s.landmarks])]
        values, vectors = np.linalg.eigh(pairwise_kernels(landmarks, metric=s.kernel, **options))
        kept = values > NEGLIGIBLE * values.max()
        root = vectors[:, kept] / np.sqrt(values[kept])  # root @ root.T is the inverse of the landmarks' kernel
        mapped = pairwise_kernels(x, landmarks, metric=s.kernel, **options) @ root
        self.keep(f"{modality}_landmarks", landmarks)
        self.keep(f"{modality}_gamma", options.get("gamma", 0.0))
        self.keep(f"{modality}_features", root)
        self.keep(f"{modality}_features_mean", mapped.mean(0))
        return mapped - mapped.mean(0)

    def features(self, modality: str, batch: base.Batch) -> Tensor:
        """(B, m) centred features of the kernel, or the (B, D) scaled ones if it is linear."""
        x = super().features(modality, batch)
        if self.settings.kernel == "linear":
            return x
        landmarks, gamma = self.get_buffer(f"{modality}_landmarks"), self.get_buffer(f"{modality}_gamma")
        if self.settings.kernel == "cosine":
            kernel = torch.nn.functional.normalize(x) @ torch.nn.functional.normalize(landmarks).T
        elif self.settings.kernel == "rbf":
            kernel = torch.exp(-gamma * torch.cdist(x, landmarks) ** 2)
        else:
            kernel = torch.exp(-gamma * torch.cdist(x, landmarks, p=1))
        mapped = kernel @ self.get_buffer(f"{modality}_features")
        return mapped - self.get_buffer(f"{modality}_features_mean")

    def fit_pair(self, a: str, x: np.ndarray, b: str, y: np.ndarray, labels: np.ndarray | None) -> None:
        s = self.settings
        of_a, of_b, _ = canonical(x, y, s.dim, s.regularisation, s.components)
        self.keep_pair(a, of_a, b, of_b)


def canonical(
    x: np.ndarray, y: np.ndarray, dim: int, regularisation: float = 0.0, components: int = 0
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Canonical directions of two sets of centred vectors.

    Parameters
    ----------
    x, y : (N, p) and (N, q), centred; rows i of both belong together.
    dim : largest number of directions; the ranks may allow fewer.
    regularisation : κ divided by the mean variance of a set's dimensions.
    components : principal components of each set that are used; 0 means all.

    Returns
    -------
    (p, k) and (q, k) directions, of unit (regularised) variance each, and their (k,) correlations, descending.
    """
    left, of_x = _whitened(x, regularisation, components)
    right, of_y = _whitened(y, regularisation, components)
    u, correlations, vt = np.linalg.svd(left.T @ right, full_matrices=False)
    k = min(dim, len(correlations))
    return of_x @ u[:, :k], of_y @ vt[:k].T, correlations[:k]


def _whitened(x: np.ndarray, regularisation: float, components: int) -> tuple[np.ndarray, np.ndarray]:
    """(N, r) whitened vectors divided by √N, and the (p, r) map from x to the undivided ones."""
    u, s, vt = np.linalg.svd(x, full_matrices=False)
    rank = int((s > NEGLIGIBLE * s.max(initial=0)).sum())
    rank = min(rank, components) if components else rank
    u, s, vt = u[:, :rank], s[:rank], vt[:rank]
    spread = np.sqrt(s**2 / len(x) + regularisation * (s**2).sum() / len(x) / x.shape[1])
    return u * (s / np.sqrt(len(x)) / spread), vt.T / spread


def median_distance(x: np.ndarray, kernel: str, most: int = 1000) -> float:
    """The median distance, in the kernel's metric, of at most `most` evenly spaced items; 1 if it is 0."""
    from scipy.spatial.distance import pdist

    some = x[np.linspace(0, len(x) - 1, min(most, len(x))).astype(int)]
    return float(np.median(pdist(some, "euclidean" if kernel == "rbf" else "cityblock"))) or 1.0
