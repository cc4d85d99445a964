"""A3VSE: adversarial attentive alignment for sparsely annotated corpora (Huang et al., 2019, section 3).

Regions and words are encoded, weighted by K attention heads according to their agreement with their mean, and aligned
by triplet losses and six domain discriminators. Un-annotated images take part with the names of their regions in place
of a sentence.
"""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from crossmodal.language.tokens import RareWords
from crossmodal.models import base
from crossmodal.models.base import Form
from crossmodal.models.parts.adversaries import Discriminator, reversal_strength
from crossmodal.models.parts.encoders import RegionEncoder, WordEncoder, mean_of, valid_mask
from crossmodal.models.parts.losses import Hinges, Negatives, batch_hinges, hinge_triplet
from crossmodal.models.parts.optimisers import others


class Settings(Hinges):
    """The published settings (section 4.3), which leave open the temperatures and the size of the discriminators.

    The authors have published no program. Their constants (margin, clip, batch) are those of the programs of VSE++ and
    SCAN, whose sum of hinges is the default here too: with the mean that eq. 2 prints, the adversarial losses of eq. 8,
    which are batch means over six discriminators, outweigh the triplets, and the model does not learn.
    """

    epochs: int = Field(24, ge=1)
    lr: float = Field(5e-4, gt=0)
    lr_drop: int = Field(16, ge=1)
    weight_decay: float = Field(1e-6, ge=0)
    rare_words: RareWords = Field(
        "drop", description="whether words that occur fewer than `min_count` times are marked as unknown or dropped"
    )
    dim: int = Field(512, ge=1, description="H: dimensions of a region, of a word and of the context vectors")
    word_dim: int = Field(300, ge=1, description="dimensions of a word vector")
    heads: int = Field(3, ge=1, description="K: heads of the attention")
    attention: bool = Field(
        True, description="whether attention pools the regions and the words; false replaces it by their mean (table 5)"
    )
    sharpness_image: float = Field(
        16.0,
        gt=0,
        description="λ·H of the softmax over regions (eq. 1); not in the paper. An agreement is a sum of H products "
        "below 1, so that the same λ is sharper for a larger H. Features that are not normalised saturate the tanh: λ "
        "= 1 selects a single region from the start; the history records `effective_regions` and `effective_words`",
    )
    sharpness_text: float = Field(512.0, gt=0, description="λ·H of the softmax over words; not in the paper")
    word_embedding: str = Field(
        "seeded",
        description="file of GloVe vectors that initialise the word embedding (section 4.3), or seeded for random "
        "vectors",
    )
    words_covered: float = Field(
        0.3, ge=0, le=1, description="least share of the words that must have a vector in that file"
    )
    semantics: Literal["regional", "global", "caption", "none"] = Field(
        "regional",
        description="what replaces the sentence of an un-annotated image: regional: s, the names of its regions; "
        "global: s_g, that of the whole image; none: un-annotated images are not used (table 5); caption: one that "
        "people wrote, as an upper bound of what names can reach",
    )
    negatives: Negatives = Field(
        "other_groups",
        description="which negatives an annotated pair has; a⁻ and b⁻ of eq. 2 are items that do not match it",
    )
    margin_semantics: float = Field(0.3, ge=0, description="α of un-annotated images and their regions' names")
    beta: float = Field(0.8, ge=0, le=1, description="weight of the annotated pairs' triplets (eq. 3)")
    adversary: float = Field(
        1.0, ge=0, description="weight of all adversarial losses relative to the triplet losses; 1 in eq. 9"
    )
    image_unannotated: float = Field(0.2, ge=0, description="λ of v with vᵘ: intra-modal alignment (eq. 5)")
    text_semantics: float = Field(0.1, ge=0, description="λ of t with s: intra-modal alignment (eq. 5)")
    image_text: float = Field(0.5, ge=0, description="λ of v with t: cross-modal alignment (eq. 6)")
    unannotated_semantics: float = Field(0.5, ge=0, description="λ of vᵘ with s: cross-modal alignment (eq. 6)")
    image_semantics: float = Field(0.3, ge=0, description="λ of v with s: transitive alignment (eq. 7)")
    unannotated_text: float = Field(0.3, ge=0, description="λ of vᵘ with t: transitive alignment (eq. 7)")
    steepness: float = Field(10.0, ge=0, description="η of the strength of the gradient reversal")
    discriminator_dim: int = Field(512, ge=1, description="hidden units of a discriminator; not in the paper")
    discriminator_lr: float = Field(
        1.0, gt=0, description="learning rate of the discriminators, as a multiple of that of the encoders"
    )
    discriminate: Literal["features", "unit"] = Field(
        "unit",
        description="input of the discriminators: unit: vectors of unit length, as in the triplet losses; features: "
        "vectors as they are (eq. 4). At the start, image vectors are a hundred times as long as sentence vectors, so "
        "that their length alone separates the modalities",
    )
    epoch_over: base.EpochOver = Field(
        "all",
        description="what an epoch traverses once; all: the larger of the sets of annotated pairs and of un-annotated "
        "images (D of section 3.1); annotated: the annotated pairs alone, which is a few hundred steps for the "
        "smallest shares",
    )

    @property
    def fallbacks(self) -> list[str]:
        return ["word vectors: seeded, not GloVe"] if self.word_embedding == "seeded" else []


DOMAINS = {
    "image_unannotated": ("image", "unannotated"),
    "text_semantics": ("text", "semantics"),
    "image_text": ("image", "text"),
    "unannotated_semantics": ("unannotated", "semantics"),
    "image_semantics": ("image", "semantics"),
    "unannotated_text": ("unannotated", "text"),
}
"""Pairs of domains, each with a discriminator, by the name of the setting that weights its loss."""


class ContextAttention(nn.Module):
    """K heads that weight vectors by their agreement with their mean (A3VSE, eq. 1)."""

    def __init__(self, dim: int, heads: int, sharpness: float):
        super().__init__()
        self.heads, self.temperature = heads, sharpness / dim
        self.of_mean = nn.Linear(dim, heads * dim, bias=False)  # P of all heads
        self.of_each = nn.Linear(dim, heads * dim, bias=False)  # Q of all heads

    def forward(self, vectors: Tensor) -> tuple[Tensor, Tensor]:
        """(B, M, H) vectors, zeros for padding -> (B, K·H) vectors, and the mean effective number of vectors of a set.

        The latter is the scalar mean of 1 / Σ w²: M for equal weights, and 1 if a single vector has all the weight.
        """
        weights = self.weights(vectors)
        return (weights @ vectors).flatten(1), (1 / weights.detach().square().sum(2)).mean()

    def weights(self, vectors: Tensor) -> Tensor:
        """(B, M, H) vectors, zeros for padding -> (B, K, M) weights, which sum to 1 over M."""
        mask = valid_mask(vectors)
        mean = mean_of(vectors, mask)
        context = torch.tanh(self.of_mean(mean)).unflatten(1, (self.heads, -1))  # (B, K, H)
        each = torch.tanh(self.of_each(vectors)).unflatten(2, (self.heads, -1))  # (B, M, K, H)
        agreement = torch.einsum("bkh,bmkh->bkm", context, each)
        return (self.temperature * agreement).masked_fill(~mask[:, None], -torch.inf).softmax(2)


class Model(base.Model):
    reads: ClassVar[dict[str, Form]] = {"image": "regions", "text": "tokens"}
    unannotated: ClassVar[tuple[str, ...]] = ("image", "semantics")
    further: ClassVar[dict[str, tuple[str, Form]]] = {"semantics": ("image", "region_names")}  # section 4.3

    def __init__(self, settings: Settings, context: base.Context):
        super().__init__(settings, context)
        s = settings
        self.image = RegionEncoder(context.shapes["image"][-1], s.dim, unit=False)
        self.text = WordEncoder(
            context.vocabulary_size, s.word_dim, s.dim, cell="lstm", bidirectional=False, unit=False
        )
        self.image_attention = ContextAttention(s.dim, s.heads, s.sharpness_image)
        self.text_attention = ContextAttention(s.dim, s.heads, s.sharpness_text)
        width = s.dim * (s.heads if s.attention else 1)
        self.discriminators = nn.ModuleDict({name: Discriminator(width, s.discriminator_dim) for name in DOMAINS})
        # Xavier initialisation is for layers that sum over their inputs; it would make word vectors the smaller the
        # larger the vocabulary. Without GloVe they are initialised as in VSE++.
        for parameter in self.parameters():
            if parameter.ndim > 1 and parameter is not self.text.words.weight:
                nn.init.xavier_uniform_(parameter)
        if context.word_vectors is not None:
            self.text.words.weight.data.copy_(context.word_vectors)
        if s.semantics == "none":
            self.unannotated = ()  # batches then hold no un-annotated images

    def features(self, modality: str, value: base.Input) -> tuple[Tensor, Tensor | None]:
        """(B, K·H) vectors of images or sentences before normalisation, G of the paper, and a scalar.

        The scalar is the mean effective number of their regions or words (`ContextAttention`); None without attention.
        """
        encoder, attention = {
            "image": (self.image, self.image_attention),
            "text": (self.text, self.text_attention),
        }[modality]
        vectors = encoder(value)
        return attention(vectors) if self.settings.attention else (mean_of(vectors, valid_mask(vectors)), None)

    def encode(self, modality: str, batch: base.Batch, partner: str) -> Tensor:
        """(B, K·H) unit vectors; `partner` makes no difference."""
        return F.normalize(self.features(modality, batch.inputs[modality])[0], dim=1)

    def optimisers(self, stage: base.Stage) -> dict[str, torch.optim.Optimizer]:
        s = self.settings
        lr = stage.lr * s.discriminator_lr
        judges = {"params": list(self.discriminators.parameters()), "lr": lr, "name": "discriminators"}
        groups = [{"params": others(self.parameters(), judges), "lr": stage.lr}, judges]
        return {"model": torch.optim.Adam(groups, lr=stage.lr, weight_decay=s.weight_decay)}

    def loss(self, batch: base.Batch, progress: float, turn: str) -> dict[str, Tensor]:
        """Triplet losses (eq. 3) and adversarial losses (eq. 8), trained in the same step through gradient reversal.

        Unlike in the paper, un-annotated images whose regions have the same names are not negatives of each other: they
        would always be the hardest ones, and their gradients cancel out.
        """
        s = self.settings
        vectors, effective = {}, {}
        vectors["image"], effective["effective_regions"] = self.features("image", batch.inputs["image"])
        vectors["text"], effective["effective_words"] = self.features("text", batch.inputs["text"])
        if s.semantics != "none":
            vectors["unannotated"], _ = self.features("image", batch.unannotated["image"])
            vectors["semantics"], _ = self.features("text", batch.unannotated["semantics"])
        unit = {name: F.normalize(value, dim=1) for name, value in vectors.items()}
        triplet = batch_hinges(unit["image"] @ unit["text"].T, s, batch.groups, progress)
        if s.semantics != "none":
            scores = unit["unannotated"] @ unit["semantics"].T
            named = batch.unannotated["semantics"].ids.unique(dim=0, return_inverse=True)[1]
            hardest = progress >= s.warm_up
            weak = hinge_triplet(scores, s.margin_semantics, hardest=hardest, groups=named, reduction=s.reduction)
            triplet = s.beta * triplet + (1 - s.beta) * weak
        judged = vectors if s.discriminate == "features" else unit
        strength = reversal_strength(progress, s.steepness)
        adversary = triplet.new_zeros(())
        for name, (first, second) in DOMAINS.items():
            weight = s.adversary * getattr(s, name)
            if weight and first in vectors and second in vectors:
                adversary = adversary + weight * self.discriminators[name].loss(judged[first], judged[second], strength)
        counts = {name: value for name, value in effective.items() if value is not None}
        return {"loss": triplet + adversary, "triplet": triplet, "adversary": adversary, **counts}
