"""SC-ACMR: semantic consistent adversarial cross-modal retrieval (Ou et al., 2019; a row of the CVS thesis, table 5).

ACMR's projectors, classifier of labels and adversary, with four terms in place of its triplets: items are drawn to
the centre of their class in their own modality and in the other ones, the centres of a class in different modalities
to each other, and the cosines of all items to a matrix of semantic similarity.

Only the paper's abstract could be read, which names these terms and no weight: all weights here are this project's
choice. Centres are the means of a class in a batch, and two items are similar if they share a class.
"""

from __future__ import annotations

from itertools import combinations, permutations

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from crossmodal.models import acmr, base
from crossmodal.models.parts.adversaries import reversal_strength
from crossmodal.models.parts.labelled import ones, same_class, targets


class Settings(acmr.Settings):
    """Sizes and schedule of ACMR; the weights of the four terms are ours, and ACMR's triplets are left out."""

    unit: bool = Field(True, description="whether vectors are scaled to unit length")
    label_weight: float = Field(1.0, ge=0, description="weight of the cross-entropy of the classes")
    triplet_weight: float = Field(0.0, ge=0, description="weight of ACMR's triplet loss")
    adversarial_weight: float = Field(0.1, ge=0, description="weight of the loss of the modality classifier")
    within_weight: float = Field(1.0, ge=0, description="weight of ‖z - c(y)‖² with the centres of the own modality")
    centre_weight: float = Field(1.0, ge=0, description="weight of ‖c(y) - c'(y)‖² of the centres of two modalities")
    across_weight: float = Field(1.0, ge=0, description="weight of ‖z - c'(y)‖² with the centres of other modalities")
    similarity_weight: float = Field(1.0, ge=0, description="weight of (S - cos)² over all pairs of items")


class Model(acmr.Model):
    def loss(self, batch: base.Batch, progress: float, turn: str) -> dict[str, Tensor]:
        s = self.settings
        vectors = {m: self._vectors(m, batch) for m in s.modalities}
        entropies = [F.cross_entropy(self.labels(x), targets(batch.labels)) for x in vectors.values()]
        terms = {"classes": torch.stack(entropies).sum()}
        terms |= consistency_losses(vectors, batch.labels, self.context.n_classes)
        total = s.label_weight * terms["classes"]
        for name in ("within", "centre", "across", "similarity"):
            total = total + getattr(s, f"{name}_weight") * terms[name]
        if s.triplet_weight:
            terms["triplets"] = self._triplets(vectors, batch)
            total = total + s.triplet_weight * terms["triplets"]
        if s.adversarial_weight:
            terms["modality"] = self._modality_loss(vectors, reversal_strength(progress, s.steepness))
            total = total + s.adversarial_weight * terms["modality"]
        return {"loss": total, **terms}


def consistency_losses(vectors: dict[str, Tensor], labels: Tensor, count: int) -> dict[str, Tensor]:
    """The four terms of semantic consistency.

    `within` and `across` are means over the items, summed over modalities and over ordered pairs of them, `centre` is a
    mean over the classes of the batch and `similarity` one over all pairs of items, summed over pairs of modalities.

    Parameters
    ----------
    vectors : modality to (B, d); row i of each is of class `labels[i]`, or of the classes that it marks.
    count : number of classes.
    """
    shares = ones(labels, count).to(next(iter(vectors.values())))
    shares = shares[:, shares.any(0)]  # classes of the batch
    shares = shares / shares.sum(1, keepdim=True)
    centres = {m: (shares.T @ z) / shares.sum(0)[:, None] for m, z in vectors.items()}
    of_items = {m: shares @ c for m, c in centres.items()}
    same = same_class(labels).to(shares)
    within = [_apart(z, of_items[m]) for m, z in vectors.items()]
    across = [_apart(vectors[a], of_items[b]) for a, b in permutations(vectors, 2)]
    centre = [_apart(centres[a], centres[b]) for a, b in combinations(vectors, 2)]
    units = {m: F.normalize(z, dim=1) for m, z in vectors.items()}
    similarity = [(same - units[a] @ units[b].T).square().mean() for a, b in combinations(vectors, 2)]
    parts = {"within": within, "across": across, "centre": centre, "similarity": similarity}
    return {name: torch.stack(values).sum() for name, values in parts.items()}


def _apart(x: Tensor, y: Tensor) -> Tensor:
    """The mean squared distance of the rows of (N, d) vectors."""
    return (x - y).square().sum(1).mean()
