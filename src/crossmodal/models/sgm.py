"""SGM: cross-modal scene graph matching (Wang et al., 2020; a row of mFSR's tables).

An image is a graph of objects and of relations between two of them; a caption is a graph of words and of short phrases.
Each word is matched with its best object and each phrase with its best relation; a pair's score is the sum of the means
of both levels.

Relations and phrases of the published rows come from programs that detect visual relations (Neural Motifs) and parse
sentences (SPICE), whose outputs are not public. Here each region is related to the nearest other region of its image,
with a predicate that follows from both boxes, and each window of three words is a phrase. The feature of a relation,
which was that of the box around both regions, is the mean of theirs.
"""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from crossmodal.models import base
from crossmodal.models.base import Form
from crossmodal.models.parts.attention import checkpointed_scores, in_blocks
from crossmodal.models.parts.encoders import mask, packed
from crossmodal.models.parts.losses import Hinges, batch_hinges
from crossmodal.models.parts.recurrent import GRU
from crossmodal.models.parts.words import WordVectors, embedding

PREDICATES = ("left of", "right of", "above", "below", "inside", "around", "overlaps")
ACTIVATIONS = {"none": nn.Identity, "tanh": nn.Tanh, "leaky": nn.LeakyReLU}


class Settings(WordVectors, Hinges):
    """The settings of a program that was read from a public index; mFSR's tables state batches of 200."""

    dim: int = Field(1024, ge=1, description="dimensions of the common space")
    units: int = Field(2048, ge=1, description="dimensions of a fused feature of an object or a predicate")
    activation: Literal["none", "tanh", "leaky"] = Field(
        "none", description="activation of the layers that map objects and relations into the common space"
    )
    relations: float = Field(1.0, ge=0, description="weight of the relations' mean in a score; 0 leaves them out")
    phrase: int = Field(3, ge=1, description="words of a window that stands in for a parsed relation")
    train_words: bool = Field(True, description="whether the word vectors are trained with the other parameters")

    @property
    def fallbacks(self) -> list[str]:
        if not self.relations:
            return super().fallbacks
        return [
            *super().fallbacks,
            "relations of regions: each with its nearest, by their boxes, not detected ones",
            "relations of words: windows of words, not parsed ones",
        ]


class Objects(nn.Module):
    """Vectors of regions and of the relation of each region to its nearest other one."""

    def __init__(self, s: Settings, in_dim: int):
        super().__init__()
        self.fuse = nn.Linear(in_dim + s.word_dim, s.units)
        self.predicates = nn.Embedding(len(PREDICATES), s.word_dim)
        self.fuse_predicate = nn.Linear(in_dim + s.word_dim, s.units)
        self.object = nn.Sequential(nn.Linear(s.units, s.dim), ACTIVATIONS[s.activation]())
        self.relation = nn.Sequential(nn.Linear(3 * s.units, s.dim), ACTIVATIONS[s.activation]())

    def forward(self, regions: base.PlacedRegions, words: nn.Embedding) -> tuple[Tensor, Tensor]:
        """(B, M, d) unit vectors of objects and of relations; zeros for padding, and where a region is alone."""
        valid = mask(regions.counts, regions.features.shape[1])
        features = regions.features
        fused = F.relu(self.fuse(torch.cat([features, name_vectors(regions.names, words)], 2)))
        nearest = nearest_regions(regions.boxes, valid)
        rows = torch.arange(len(nearest), device=nearest.device)[:, None]
        kinds = predicates(regions.boxes, regions.boxes[rows, nearest])
        union = (features + features[rows, nearest]) / 2
        predicate = F.relu(self.fuse_predicate(torch.cat([union, self.predicates(kinds)], 2)))
        related = self.relation(torch.cat([fused, predicate, fused[rows, nearest]], 2))
        several = valid & (regions.counts > 1)[:, None]
        objects = F.normalize(self.object(fused), dim=2)
        return objects * valid[..., None], F.normalize(related, dim=2) * several[..., None]


class Phrases(nn.Module):
    """Vectors of a caption's words and of its phrases: windows of words, and the whole sentence as one more."""

    def __init__(self, s: Settings):
        super().__init__()
        self.width = s.phrase
        self.gru = GRU(s.word_dim, s.dim, batch_first=True)
        self.phrase = GRU(s.word_dim, s.dim, batch_first=True)

    def forward(self, tokens: base.Tokens, words: nn.Embedding) -> tuple[Tensor, Tensor]:
        """(B, L, d) and (B, P, d) unit vectors of words and phrases; zeros for padding.

        A caption of N words has N - width + 1 windows, none if it is shorter, and its last state follows them.
        """
        width = tokens.ids.shape[1]
        vectors = words(tokens.ids)
        states, last = self.gru(packed(vectors, tokens.lengths))
        if not isinstance(states, Tensor):
            states, _ = nn.utils.rnn.pad_packed_sequence(states, batch_first=True, total_length=width)
        count = max(0, width - self.width + 1)
        windows = (tokens.lengths - self.width + 1).clamp(min=0)
        phrases = vectors.new_zeros(len(vectors), count + 1, last.shape[2])
        if count:
            pieces = vectors.unfold(1, self.width, 1).transpose(2, 3)  # (B, P, width, D)
            inside = mask(windows, count)
            if inside.any():
                phrases[:, :-1][inside] = self.phrase(pieces[inside])[1][-1]
        phrases[torch.arange(len(phrases), device=phrases.device), windows] = last[-1]
        return F.normalize(states, dim=2), F.normalize(phrases, dim=2)


class Model(base.Model):
    reads: ClassVar[dict[str, Form]] = {"image": "named_regions", "text": "tokens"}

    def __init__(self, settings: Settings, context: base.Context):
        super().__init__(settings, context)
        self.words = embedding(context, settings)
        self.image = Objects(settings, context.shapes["image"][-1])
        self.text = Phrases(settings)

    def encode(self, modality: str, batch: base.Batch, partner: str) -> Tensor:
        """(B, M, 2·dim) unit vectors of objects and relations, or (B, L, 2·dim) of words and phrases, side by side."""
        one, other = {"image": self.image, "text": self.text}[modality](batch.inputs[modality], self.words)
        width = max(one.shape[1], other.shape[1])
        return torch.cat([F.pad(x, (0, 0, 0, width - x.shape[1])) for x in (one, other)], 2)

    def score(self, queries: Tensor, gallery: Tensor) -> Tensor:
        """(A, B) scores of images (A, M, 2·dim) with sentences (B, L, 2·dim)."""
        return in_blocks(self.match, queries, gallery, queries.any(2), gallery.any(2))

    def match(self, images: Tensor, sentences: Tensor, image_mask: Tensor, sentence_mask: Tensor) -> Tensor:
        """The scores of a block of pairs; each level knows its own padding by zeros."""
        levels = zip(images.chunk(2, 2), sentences.chunk(2, 2), strict=True)
        objects, relations = (mean_of_best(*level) for level in levels)
        return objects + self.settings.relations * relations

    def loss(self, batch: base.Batch, progress: float, turn: str) -> dict[str, Tensor]:
        images, sentences = self.encode("image", batch, "text"), self.encode("text", batch, "image")
        scores = checkpointed_scores(self.match, images, sentences, images.any(2), sentences.any(2))
        return {"loss": batch_hinges(scores, self.settings, batch.groups, progress)}


def mean_of_best(images: Tensor, sentences: Tensor) -> Tensor:
    """(A, B) means over the vectors of (B, L, d) sentences of the highest inner product with (A, M, d) images'.

    Zeros are padding; an image without any vector scores 0.
    """
    valid, spoken = images.any(2), sentences.any(2)
    products = torch.einsum("amd,bld->amlb", images, sentences)
    best = products.masked_fill(~valid[:, :, None, None], -torch.inf).amax(1)  # (A, L, B)
    best = best.masked_fill(~spoken.T | ~valid.any(1)[:, None, None], 0)
    return best.sum(1) / spoken.sum(1).clamp(min=1)


def name_vectors(names: Tensor, words: nn.Embedding) -> Tensor:
    """(B, M, D) means of the word vectors of (B, M, W) names, padded with 0; zeros for regions without a name."""
    count = (names > 0).sum(2, keepdim=True)
    return words(names).sum(2) / count.clamp(min=1)


def nearest_regions(boxes: Tensor, valid: Tensor) -> Tensor:
    """(B, M) the other region whose box has the nearest centre to that of each of the (B, M, 4) boxes.

    Parameters
    ----------
    valid : (B, M) bool, false for padding, which is never the nearest one.
    """
    centres = (boxes[..., :2] + boxes[..., 2:]) / 2
    far = torch.cdist(centres, centres, compute_mode="donot_use_mm_for_euclid_dist")
    itself = torch.eye(boxes.shape[1], dtype=torch.bool, device=boxes.device)
    return far.masked_fill(itself | ~valid[:, None], torch.inf).argmin(2)


def predicates(subjects: Tensor, objects: Tensor) -> Tensor:
    """(...) numbers in `PREDICATES` of the relations of (..., 4) boxes x1, y1, x2, y2 to others.

    A box within the other is inside, one that holds the other is around it; others overlap, or else are left of, right
    of, above or below, by the larger distance of the centres.
    """
    low, high = torch.maximum(subjects, objects)[..., :2], torch.minimum(subjects, objects)[..., 2:]
    overlap = (low < high).all(-1)
    inside = ((subjects[..., :2] >= objects[..., :2]) & (subjects[..., 2:] <= objects[..., 2:])).all(-1)
    around = ((objects[..., :2] >= subjects[..., :2]) & (objects[..., 2:] <= subjects[..., 2:])).all(-1)
    x, y = ((subjects[..., :2] + subjects[..., 2:]) - (objects[..., :2] + objects[..., 2:])).unbind(-1)
    beside = torch.where(x < 0, 0, 1)
    apart = torch.where(x.abs() >= y.abs(), beside, torch.where(y < 0, 2, 3))
    return torch.where(inside, 4, torch.where(around, 5, torch.where(overlap, 6, apart)))
