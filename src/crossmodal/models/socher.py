"""Cross-modal transfer with an outlier gate (Socher et al., 2013; Liu et al. 2020, equations 9.8 and 9.9).

A two-layer network maps images to the vectors of their classes. Whether an image is of a seen class depends on how much
of an outlier its vector is among those of the training images (LoOP: Kriegel et al., 2009). Images of seen classes are
classified by a softmax classifier, others by isometric Gaussians around the vectors of the unseen classes:
P(y|I) = P(seen|I) P(y|seen, I) + P(unseen|I) P(y|unseen, I).

The network is scikit-learn's, with biases; Liu et al. (2020) leave the number of its hidden units open.
"""

from __future__ import annotations

import warnings
from typing import ClassVar

import numpy as np
import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from crossmodal.models import base
from crossmodal.models.base import Form
from crossmodal.models.parts.classifier import logistic
from crossmodal.models.parts.closed_form import ClosedForm
from crossmodal.models.parts.zero_shot import ClassSettings, vectors_of

BLOCK = 512  # number of images whose distances to all training images are held in memory at once
FAR = -1e4  # log-probability that stands for that of an impossible event


class Settings(ClassSettings):
    """The numbers of neighbours and of hidden units, and λ, are those of Socher et al. (2013)."""

    standardise: bool = Field(True, description="divide features by their s.d. over the training items")
    units: int = Field(100, ge=1, description="units of the hidden layer")
    epochs: int = Field(200, ge=1, description="epochs of the network's training")
    penalty: float = Field(1e-4, ge=0, description="weight of the network's squared weights in the loss")
    neighbours: int = Field(20, ge=2, description="k of the local outlier probability")
    spread: float = Field(3.0, gt=0, description="λ of the local outlier probability")
    gate: bool = Field(
        True,
        description="whether seen classes are predicted by a softmax classifier; false: all classes by the Gaussians",
    )
    inverse_penalty: float = Field(
        0.01, gt=0, description="C of the softmax classifier; smaller values regularise more"
    )
    iterations: int = Field(300, ge=1, description="largest number of iterations of its solver")
    seed: int = Field(0, ge=0, description="seed of the network's initial weights and of its batches")


class Model(ClosedForm):
    reads: ClassVar[dict[str, Form]] = {"image": "vector", "class": "classes"}

    settings: Settings

    def fit_all(self, values: dict[str, np.ndarray], labels: np.ndarray | None) -> None:
        from sklearn.exceptions import ConvergenceWarning
        from sklearn.neural_network import MLPRegressor

        s = self.settings
        x = self.scaled("image", values["image"])
        w = np.array(F.normalize(torch.from_numpy(values["class"]), dim=1))
        network = MLPRegressor(
            hidden_layer_sizes=(s.units,),
            activation="tanh",
            alpha=s.penalty,
            max_iter=s.epochs,
            tol=1e-6,
            random_state=s.seed,
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # the epochs are a setting
            fitted = network.fit(x, w)
        for name, arrays in (("theta", fitted.coefs_), ("bias", fitted.intercepts_)):
            for number, array in enumerate(arrays, 1):
                self.keep(f"{name}{number}", array)
        semantic = self._mapped(torch.from_numpy(x).float())
        weight, bias = logistic(x, labels, s.inverse_penalty, s.iterations)
        self.keep("weight", weight)
        self.keep("softmax_bias", bias)
        self.keep("classes", F.normalize(torch.from_numpy(vectors_of(values["class"], labels)), dim=1))
        self.keep("anchors", semantic)
        neighbours = neighbour_distances(semantic, semantic, s.neighbours, skip_self=True)
        distance = neighbours[0].pow(2).mean(1).sqrt()
        self.keep("anchors_reach", distance)
        factor = distance / distance[neighbours[1]].mean(1) - 1  # local outlier factors of the training images
        self.keep("outlier_scale", s.spread * factor.pow(2).mean().sqrt())
        self.keep("variance", (semantic - torch.from_numpy(w)).pow(2).mean())  # around the classes' own vectors

    def _mapped(self, x: Tensor) -> Tensor:
        """θ₂ tanh(θ₁ I): (B, D) scaled features -> (B, K)."""
        hidden = torch.tanh(x @ self.get_buffer("theta1") + self.get_buffer("bias1"))
        return hidden @ self.get_buffer("theta2") + self.get_buffer("bias2")

    def encode(self, modality: str, batch: base.Batch, partner: str) -> Tensor:
        """(B, K + 1 + C) encodings of images: vector, outlier probability and log-probabilities of the seen classes.

        Those of classes are (B, K + 1): unit vector and index of the seen class, or -1 for an unseen one.
        """
        if modality == "class":
            vectors = F.normalize(batch.inputs["class"], dim=1)
            exact = "donot_use_mm_for_euclid_dist"  # by matrix products equal vectors would not have distance 0
            distance, place = torch.cdist(vectors, self.get_buffer("classes"), compute_mode=exact).min(1)
            return torch.cat([vectors, torch.where(distance < 1e-4, place, -1)[:, None]], 1)
        x = self.features("image", batch)
        semantic = self._mapped(x)
        outlier = self.outlier_probability(semantic)
        log_seen = torch.log_softmax(x @ self.get_buffer("weight") + self.get_buffer("softmax_bias"), dim=1)
        return torch.cat([semantic, outlier[:, None], log_seen], 1)

    def outlier_probability(self, vectors: Tensor) -> Tensor:
        """(B,) LoOP of (B, K) vectors among those of the training images: max(0, erf(lof / Z))."""
        training, reach = self.get_buffer("anchors"), self.get_buffer("anchors_reach")
        distances, places = neighbour_distances(vectors, training, self.settings.neighbours)
        factor = distances.pow(2).mean(1).sqrt() / reach[places].mean(1) - 1
        return torch.erf(factor / self.get_buffer("outlier_scale")).clamp(0, 1)

    def score(self, queries: Tensor, gallery: Tensor) -> Tensor:
        """(q, g) log P(y|I) of images and classes (eq. 9.9), where the unseen classes are those of the gallery.

        Without `gate` they are log-densities of the Gaussians, up to a constant.
        """
        k = self.get_buffer("classes").shape[1]
        semantic, outlier, of_seen = queries[:, :k], queries[:, k], queries[:, k + 1 :]
        vectors, place = gallery[:, :k], gallery[:, k].long()
        gaussian = -(torch.cdist(semantic, vectors) ** 2) / (2 * self.get_buffer("variance"))
        if not self.settings.gate:
            return gaussian
        seen = place >= 0
        unseen = torch.log_softmax(gaussian.masked_fill(seen, -torch.inf), 1) if (~seen).any() else gaussian
        # Where one kind of class is impossible, its classes are still ranked, below all of the other kind.
        novel = unseen + outlier.log().clamp(min=FAR)[:, None]
        seen_scores = of_seen[:, place.clamp(min=0)] + torch.log1p(-outlier).clamp(min=FAR)[:, None]
        return torch.where(seen, seen_scores, novel)


def neighbour_distances(x: Tensor, of: Tensor, k: int, *, skip_self: bool = False) -> tuple[Tensor, Tensor]:
    """(B, k) distances of (B, K) vectors to their k nearest among (N, K), and (B, k) indices; computed in blocks.

    Parameters
    ----------
    skip_self : true if `x` is `of`, where no vector is its own neighbour.
    """
    k = min(k, len(of) - skip_self)
    distances, places = [], []
    for start in range(0, len(x), BLOCK):
        block = torch.cdist(x[start : start + BLOCK], of)
        if skip_self:
            rows = torch.arange(len(block))
            block[rows, start + rows] = torch.inf
        near = block.topk(k, dim=1, largest=False)
        distances.append(near.values)
        places.append(near.indices)
    return torch.cat(distances), torch.cat(places)
