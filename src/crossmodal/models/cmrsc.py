"""CMR-SC: image-text retrieval with semantic consistency (Chen et al., 2019; a row of mFSR's tables).

Stacked cross attention in both directions over one pair of encoders: words attend to regions and regions to words. The
two scores of a pair are added, and their difference is part of the loss, since both must express the same relevance.
"""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from crossmodal.models import base
from crossmodal.models.base import Form
from crossmodal.models.parts.attention import Normalisation, Pooling, cross_attention_scores, in_blocks
from crossmodal.models.parts.encoders import RegionEncoder, WordEncoder, valid_mask
from crossmodal.models.parts.losses import Hinges, batch_hinges


class Settings(Hinges):
    """The settings of the authors' program (MM_SemanticConsistency) on Flickr30K.

    On MS-COCO it has `consistency: .3`, 20 epochs and a learning rate of 5e-4 that drops after 10, on Flickr8K
    `consistency: .3` and 20 epochs with a drop after 10.
    """

    dim: int = Field(1024, ge=1, description="dimensions of the common space")
    word_dim: int = Field(300, ge=1, description="dimensions of a word vector")
    smooth: float = Field(9.0, gt=0, description="inverse temperature of the attention in both directions")
    pooling: Pooling = Field("mean", description="pooling of the relevances of words and of regions")
    sharpness: float = Field(6.0, gt=0, description="sharpness of `pooling: logsumexp`")
    normalisation: Normalisation = Field(
        "clipped_l2norm", description="normalisation of the cosines before the softmax of the attention"
    )
    slope: float = Field(0.1, ge=0, description="slope for negative cosines where they are clipped")
    consistency: float = Field(1.0, ge=0, description="λ: weight of the squared differences of the two scores")
    differences: Literal["sum", "mean"] = Field(
        "sum",
        description="reduction of the squared differences over all pairs of the batch. The program asks PyTorch for "
        "`batchmean`, which the loss does not have and which version 1.0 treated as the sum",
    )


class Model(base.Model):
    reads: ClassVar[dict[str, Form]] = {"image": "regions", "text": "tokens"}

    def __init__(self, settings: Settings, context: base.Context):
        super().__init__(settings, context)
        self.image = RegionEncoder(context.shapes["image"][-1], settings.dim)
        self.text = WordEncoder(context.vocabulary_size, settings.word_dim, settings.dim)
        names = ("smooth", "pooling", "sharpness", "normalisation", "slope")
        self.options = {name: getattr(settings, name) for name in names}

    def encode(self, modality: str, batch: base.Batch, partner: str) -> Tensor:
        """(B, M, dim) unit vectors of regions, or (B, L, dim) of words; zeros for padding."""
        return {"image": self.image, "text": self.text}[modality](batch.inputs[modality])

    def attend(self, images: Tensor, sentences: Tensor, image_mask: Tensor, sentence_mask: Tensor) -> Tensor:
        """(2, A, B) text-to-image and image-to-text scores of images (A, M, dim) with sentences (B, L, dim)."""
        by_words = cross_attention_scores(images, sentences, image_mask, sentence_mask, **self.options)
        by_regions = cross_attention_scores(sentences, images, sentence_mask, image_mask, **self.options).T
        return torch.stack([by_words, by_regions])

    def score(self, queries: Tensor, gallery: Tensor) -> Tensor:
        """(A, B) sums of both scores of images (A, M, dim) with sentences (B, L, dim)."""

        def summed(*sides: Tensor) -> Tensor:
            return self.attend(*sides).sum(0)

        return in_blocks(summed, queries, gallery, valid_mask(queries), valid_mask(gallery))

    def loss(self, batch: base.Batch, progress: float, turn: str) -> dict[str, Tensor]:
        """Hinges on the sum of both scores, plus λ Σ (s_a - s_b)²; with `reduction: mean` both are divided by B."""
        s = self.settings
        images, sentences = self.encode("image", batch, "text"), self.encode("text", batch, "image")
        by_words, by_regions = self.attend(images, sentences, valid_mask(images), valid_mask(sentences))
        hinges = batch_hinges(by_words + by_regions, s, batch.groups, progress)
        squares = (by_words - by_regions).square()
        if s.differences == "mean":
            consistency = squares.mean()
        else:
            consistency = squares.sum() / (len(squares) if s.reduction == "mean" else 1)
        return {"loss": hinges + s.consistency * consistency, "hinges": hinges, "consistency": consistency}
