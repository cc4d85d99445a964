"""SCAN: stacked cross attention between the regions of an image and the words of a sentence (Lee et al., 2018).

It is a baseline of A3VSE. Each word (text-to-image) or region (image-to-text) attends to the other side, and the score
of a pair pools the cosines of the words or regions with their attended vectors. Training uses the hardest negatives;
region features are fixed, not fine-tuned.
"""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from crossmodal.models import base
from crossmodal.models.base import Form
from crossmodal.models.parts.attention import (
    Normalisation,
    Pooling,
    checkpointed_scores,
    cross_attention_scores,
    in_blocks,
)
from crossmodal.models.parts.encoders import RegionEncoder, WordEncoder, valid_mask
from crossmodal.models.parts.losses import Hinges, batch_hinges

Way = Literal["text-to-image", "image-to-text"]
OTHER: dict[Way, Way] = {"text-to-image": "image-to-text", "image-to-text": "text-to-image"}


class Settings(Hinges):
    """The published settings on Flickr30K, text-to-image attention with log-sum-exp pooling."""

    dim: int = Field(1024, ge=1, description="dimensions of the common space")
    word_dim: int = Field(300, ge=1, description="dimensions of a word vector")
    attention: Way = Field(
        "text-to-image", description="text-to-image: words attend to regions; image-to-text: regions attend to words"
    )
    smooth: float = Field(9.0, gt=0, description="inverse temperature of the attention (λ1; 4 for image-to-text)")
    pooling: Pooling = Field("logsumexp", description="pooling of the relevances of words or regions")
    sharpness: float = Field(6.0, gt=0, description="sharpness of the log-sum-exp (λ2; 5 for image-to-text)")
    normalisation: Normalisation = Field(
        "clipped_l2norm", description="normalisation of the cosines before the softmax of the attention"
    )
    slope: float = Field(
        0.1,
        ge=0,
        description="slope for negative cosines where they are clipped: 0.1 in the authors' program, which produced "
        "the published numbers; the paper prints 0",
    )
    ensemble: bool = Field(
        False,
        description="whether a second network with attention in the other direction is trained too and the scores of "
        "both are averaged, as in the paper's best rows; the epoch is selected for both together",
    )
    other_smooth: float = Field(4.0, gt=0, description="λ1 of the second network")
    other_pooling: Pooling = Field("logsumexp", description="pooling of the second network")
    other_sharpness: float = Field(5.0, gt=0, description="λ2 of the second network")


class Network(nn.Module):
    """Encoders of regions and of words, and attention between them in one direction."""

    def __init__(self, settings: Settings, context: base.Context, way: Way, **pooled: object):
        super().__init__()
        self.way = way
        self.options = {"normalisation": settings.normalisation, "slope": settings.slope, **pooled}
        self.image = RegionEncoder(context.shapes["image"][-1], settings.dim)
        self.text = WordEncoder(context.vocabulary_size, settings.word_dim, settings.dim)

    def attend(self, images: Tensor, sentences: Tensor, image_mask: Tensor, sentence_mask: Tensor) -> Tensor:
        """(A, B) scores of images (A, M, dim) with sentences (B, L, dim), all at once."""
        if self.way == "text-to-image":
            return cross_attention_scores(images, sentences, image_mask, sentence_mask, **self.options)
        return cross_attention_scores(sentences, images, sentence_mask, image_mask, **self.options).T


class Model(base.Model):
    reads: ClassVar[dict[str, Form]] = {"image": "regions", "text": "tokens"}

    def __init__(self, settings: Settings, context: base.Context):
        super().__init__(settings, context)
        s = settings
        pooled = {"smooth": s.smooth, "pooling": s.pooling, "sharpness": s.sharpness}
        self.networks = nn.ModuleDict({s.attention: Network(s, context, s.attention, **pooled)})
        if s.ensemble:
            pooled = {"smooth": s.other_smooth, "pooling": s.other_pooling, "sharpness": s.other_sharpness}
            other = OTHER[s.attention]
            self.networks[other] = Network(s, context, other, **pooled)

    def encode(self, modality: str, batch: base.Batch, partner: str) -> Tensor:
        """(B, M, dim) unit vectors of regions, or (B, L, dim) of words; zeros for padding.

        Those of an ensemble's two networks are concatenated: (B, M, 2·dim).
        """
        value = batch.inputs[modality]
        return torch.cat([getattr(network, modality)(value) for network in self.networks.values()], 2)

    def score(self, queries: Tensor, gallery: Tensor) -> Tensor:
        """(A, B) scores of images (A, M, dim) with sentences (B, L, dim), as `encode` returns them."""
        # Each half is made contiguous once, since otherwise each of its blocks would be copied.
        sides = zip(*(x.unflatten(2, (len(self.networks), -1)).unbind(2) for x in (queries, gallery)), strict=True)
        scores = []
        for network, (images, sentences) in zip(self.networks.values(), sides, strict=True):
            images, sentences = images.contiguous(), sentences.contiguous()
            scores.append(in_blocks(network.attend, images, sentences, valid_mask(images), valid_mask(sentences)))
        return sum(scores) / len(scores)

    def optimisers(self, stage: base.Stage) -> dict[str, torch.optim.Optimizer]:
        """One per network: each is trained, and its gradients are clipped, as if it were alone."""
        decay = self.settings.weight_decay
        return {
            way: torch.optim.Adam(network.parameters(), lr=stage.lr, weight_decay=decay)
            for way, network in self.networks.items()
        }

    def loss(self, batch: base.Batch, progress: float, turn: str) -> dict[str, Tensor]:
        """Hinges on the scores of the network whose turn it is."""
        network = self.networks[turn]
        images, sentences = network.image(batch.inputs["image"]), network.text(batch.inputs["text"])
        scores = checkpointed_scores(network.attend, images, sentences, valid_mask(images), valid_mask(sentences))
        return {"loss": batch_hinges(scores, self.settings, batch.groups, progress)}
