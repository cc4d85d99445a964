"""SCAN: stacked cross attention between the regions of an image and the words of a sentence (002's baseline [30]).

Each word (text-to-image) or region (image-to-text) attends to the other side; the pair's score pools how well each
agrees with what it attends to. Trained with the hardest negatives. Region features are read, not fine-tuned.
"""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field
from torch import Tensor

from crossmodal.models import base
from crossmodal.models.base import Form
from crossmodal.models.parts.attention import Normalisation, Pooling, cross_attention_scores, in_blocks
from crossmodal.models.parts.encoders import RegionEncoder, WordEncoder, there
from crossmodal.models.parts.losses import WarmUp, hinge_triplet


class Settings(base.Schedule):
    """The published settings on Flickr30K, text-to-image attention with log-sum-exp pooling."""

    dim: int = Field(1024, ge=1, description="dimensions of the common space")
    word_dim: int = Field(300, ge=1, description="dimensions of a word vector")
    margin: float = Field(0.2, ge=0, description="margin of the hinges")
    warm_up: WarmUp = 0.0
    attention: Literal["text-to-image", "image-to-text"] = Field(
        "text-to-image", description="words attend to regions, or regions to words"
    )
    smooth: float = Field(9.0, gt=0, description="inverse temperature of the attention (λ1; 4 for image-to-text)")
    pooling: Pooling = Field("logsumexp", description="of the relevances of words or regions")
    sharpness: float = Field(6.0, gt=0, description="of the log-sum-exp (λ2; 5 for image-to-text)")
    normalisation: Normalisation = Field("clipped_l2norm", description="of the cosines before the attention's softmax")
    slope: float = Field(
        0.0, ge=0, description="what is left of negative cosines where they are clipped; the authors' program has 0.1"
    )


class Model(base.Model):
    reads: ClassVar[dict[str, Form]] = {"image": "regions", "text": "tokens"}

    def __init__(self, settings: Settings, context: base.Context):
        super().__init__(settings, context)
        self.image = RegionEncoder(context.shapes["image"][-1], settings.dim)
        self.text = WordEncoder(context.vocabulary_size, settings.word_dim, settings.dim)

    def encode(self, modality: str, batch: base.Batch, partner: str) -> Tensor:
        """(B, M, dim) unit vectors of regions, or (B, L, dim) of words; zeros where there is none."""
        return {"image": self.image, "text": self.text}[modality](batch.inputs[modality])

    def score(self, queries: Tensor, gallery: Tensor) -> Tensor:
        """(A, B) scores of images (A, M, dim) with sentences (B, L, dim)."""
        return in_blocks(self.attend, queries, gallery, there(queries), there(gallery))

    def attend(self, images: Tensor, sentences: Tensor, image_mask: Tensor, sentence_mask: Tensor) -> Tensor:
        """(A, B) scores, all at once."""
        s = self.settings
        options = {
            "smooth": s.smooth,
            "normalisation": s.normalisation,
            "slope": s.slope,
            "pooling": s.pooling,
            "sharpness": s.sharpness,
        }
        if s.attention == "text-to-image":
            return cross_attention_scores(images, sentences, image_mask, sentence_mask, **options)
        return cross_attention_scores(sentences, images, sentence_mask, image_mask, **options).T

    def loss(self, batch: base.Batch, progress: float, turn: str) -> dict[str, Tensor]:
        images, sentences = self.encode("image", batch, "text"), self.encode("text", batch, "image")
        scores = self.attend(images, sentences, there(images), there(sentences))
        hardest = progress >= self.settings.warm_up
        return {"loss": hinge_triplet(scores, self.settings.margin, hardest=hardest, groups=batch.groups)}
