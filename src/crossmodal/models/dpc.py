"""DPC: dual-path convolutional embeddings of images and texts with an instance loss (Zheng et al., 2017).

It is a baseline of A3VSE. The two paths are trained to classify each image and its captions as one class, then by
ranking too; both share one classifier.
"""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn import functional as F

from crossmodal.language.tokens import RareWords
from crossmodal.models import base
from crossmodal.models.parts import finetuning
from crossmodal.models.parts.encoders import mask
from crossmodal.models.parts.losses import hinge_triplet
from crossmodal.models.parts.negatives import drawn, hardest, hinges
from crossmodal.models.parts.optimisers import Chosen, others

NORM = {"eps": 1e-3, "momentum": 0.05}  # batch norms of the authors' program
CLASSIFIER = 0.1  # scale of the classifier's initial weights, relative to those of other layers


class Settings(finetuning.Settings):
    """The settings of the authors' program (Image-Text-Embedding) on Flickr30K with ResNet-50.

    Its first stage has 240 epochs of one caption per image, its second 60. On MS-COCO it has dropout .5, no bias in the
    classifier, a first stage of 75 such epochs and a second of 20, whose learning rate drops after 15. The paper prints
    equal weights in its second stage (`ranking_weight: 1`, `ranking_text_weight: 1`).

    The program multiplies a base learning rate of .1 by a factor for each part; `lr` is the rate of the convolutions
    and dense layers (.1 · .1), and the rates of the other parts are relative to it.
    """

    batch_size: int = Field(32, ge=2)
    epochs: int = Field(240, ge=0, description="epochs of the first stage, which has the instance loss alone")
    epoch_steps: int = Field(
        931, ge=0, description="steps per epoch; 931 steps are 29,783 images; 0: every pair occurs once"
    )
    lr: float = Field(0.01, gt=0, description="learning rate of the first stage")
    lr_drop: int = Field(
        240, ge=1, description="number of epochs of the first stage after which its learning rate drops"
    )
    ranking_epochs: int = Field(
        60, ge=0, description="epochs of the second stage, which has the ranking and the instance loss"
    )
    ranking_lr: float = Field(0.01, gt=0, description="learning rate of the second stage")
    ranking_lr_drop: int = Field(
        40, ge=1, description="number of epochs of the second stage after which its learning rate drops"
    )
    weight_decay: float = Field(1e-4, ge=0)
    clip: float = Field(0.0, ge=0)
    optimiser: Literal["nesterov", "sgd", "adam"] = Field(
        "nesterov", description="optimiser; sgd and nesterov have a momentum of .9"
    )
    norm_lr: float = Field(
        2.0, gt=0, description="learning rate of the scales of batch normalisation, as a multiple of `lr`"
    )
    word_lr: float = Field(0.01, gt=0, description="learning rate of the word vectors, as a multiple of `lr`")
    classifier_lr: float = Field(
        0.1,
        gt=0,
        description="learning rate of the classifier's weights, as a multiple of `lr`; that of its bias is twice as "
        "large",
    )
    image_network_lr: float = Field(
        0.01, gt=0, description="learning rate of an image network that is fine-tuned, as a multiple of `lr`"
    )
    image_area: tuple[float, float] = Field(
        (0.64, 1.0),
        description="least and largest share of the image's area in a random crop; .64 to 1 are sides of .8 to 1",
    )
    rare_words: RareWords = Field("drop", description="whether words without a vector are marked as unknown or dropped")
    max_words: int = Field(30, ge=1)
    dim: int = Field(2048, ge=1, description="dimensions of the common space")
    word_dim: int = Field(300, ge=1, description="dimensions of a word vector")
    word_embedding: str = Field(
        "seeded",
        description="file of word2vec or GloVe vectors that initialise the word embedding, or seeded for random "
        "vectors",
    )
    words_covered: float = Field(
        0.3, ge=0, le=1, description="least share of the words that must have a vector in that file"
    )
    length: int = Field(
        32, ge=4, description="number of words that the text path reads; shorter captions are padded with zeros"
    )
    shift: bool = Field(
        True, description="whether each caption of a training batch begins at a random one of these positions"
    )
    widths: tuple[int, ...] = Field((256, 512, 1024, 2048), description="channels of the text path's stages")
    inner: tuple[int, ...] = Field(
        (128, 512, 1024, 2048),
        description="inner channels of the first block of each stage; its other blocks have a quarter of the "
        "stage's channels",
    )
    blocks: tuple[int, ...] = Field((3, 4, 6, 1), description="residual blocks of each stage")
    pooling: Literal["max", "mean"] = Field("max", description="pooling over positions after the blocks")
    dropout: float = Field(0.75, ge=0, lt=1, description="dropout before the classifier; the program has .5 on MS-COCO")
    classifier_bias: bool = Field(
        True, description="whether the classifier has a bias; the program has none on MS-COCO"
    )
    margin: float = Field(1.0, ge=0, description="margin of the hinges on cosines")
    negatives: Literal["mined", "drawn", "hardest"] = Field(
        "mined",
        description="negatives of a pair in the ranking loss: mined: the hardest of `candidates` captions and a "
        "random image, for half of each batch; drawn: one random caption and one random image; hardest: the hardest "
        "of its batch",
    )
    candidates: int = Field(
        256, ge=1, description="number of captions of previous batches among which the hardest is mined"
    )
    ranking_weight: float = Field(2.0, ge=0, description="λ1: weight of the ranking loss in the second stage")
    image_weight: float = Field(1.0, ge=0, description="λ2: weight of the instance loss of the images")
    text_weight: float = Field(
        1.0, ge=0, description="λ3: weight of the instance loss of the captions in the first stage"
    )
    ranking_text_weight: float = Field(0.1, ge=0, description="λ3 in the second stage")

    @property
    def fallbacks(self) -> list[str]:
        fallbacks = super().fallbacks
        return fallbacks + (["word vectors: seeded, not word2vec"] if self.word_embedding == "seeded" else [])

    @model_validator(mode="after")
    def _stages(self) -> Settings:
        if not self.epochs + self.ranking_epochs:
            raise ValueError("epochs: is 0, and so is `ranking_epochs`; at least one stage needs epochs")
        for name in ("blocks", "inner"):
            if len(getattr(self, name)) != len(self.widths):
                raise ValueError(
                    f"{name}: gives {len(getattr(self, name))} stages, but `widths` has {len(self.widths)}"
                )
        if self.length < self.max_words + 2:
            raise ValueError(
                f"length: {self.length} positions are too few for {self.max_words} words (`max_words`) and two marks"
            )
        return self


class Block(nn.Module):
    """A bottleneck of convolutions over 1, 2 and 1 words, with a shortcut."""

    def __init__(self, in_dim: int, inner: int, dim: int, stride: int = 1):
        super().__init__()
        self.reduce = nn.Sequential(nn.Conv1d(in_dim, inner, 1, bias=False), _norm(inner), nn.ReLU())
        self.over_two = nn.Sequential(nn.Conv1d(inner, inner, 2, stride, bias=False), _norm(inner), nn.ReLU())
        self.widen = nn.Sequential(nn.Conv1d(inner, dim, 1, bias=False), _norm(dim))
        self.shortcut = nn.Identity()
        if stride > 1 or in_dim != dim:
            self.shortcut = nn.Sequential(nn.Conv1d(in_dim, dim, 1, stride, bias=False), _norm(dim))

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, L) -> (B, d, L / stride)."""
        return F.relu(self.widen(self.over_two(F.pad(self.reduce(x), (1, 0)))) + self.shortcut(x))


def _norm(dim: int) -> nn.BatchNorm1d:
    return nn.BatchNorm1d(dim, **NORM)


def _dense(in_dim: int, dim: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(in_dim, dim, bias=False), _norm(dim), nn.ReLU())


class TextPath(nn.Module):
    """Word vectors, residual convolutions, pooling over positions, and one dense layer."""

    def __init__(self, s: Settings, context: base.Context):
        super().__init__()
        self.length, self.shift, self.pooling = s.length, s.shift, s.pooling
        self.words = nn.Embedding(context.vocabulary_size, s.word_dim, padding_idx=0)
        nn.init.normal_(self.words.weight, std=s.word_dim**-0.5)
        if context.word_vectors is not None:
            self.words.weight.data.copy_(context.word_vectors)
        self.words.weight.data[0] = 0  # padding
        self.norm = _norm(s.word_dim)
        layers, width = [], s.word_dim
        for stage, (dim, inner, count) in enumerate(zip(s.widths, s.inner, s.blocks, strict=True)):
            # Positions are halved between stages, except before the last one.
            stride = 2 if 0 < stage < len(s.widths) - 1 else 1
            for n in range(count):
                layers.append(Block(width, max(1, dim // 4) if n else inner, dim, 1 if n else stride))
                width = dim
        self.blocks = nn.Sequential(*layers)
        self.dense = _dense(width, s.dim)

    def forward(self, tokens: base.Tokens) -> Tensor:
        """(B, L) ids -> (B, d)."""
        vectors = self.words(self.placed(tokens))
        hidden = self.blocks(self.norm(vectors.transpose(1, 2)))
        return self.dense(hidden.amax(2) if self.pooling == "max" else hidden.mean(2))

    def placed(self, tokens: base.Tokens) -> Tensor:
        """(B, length) ids; each caption begins at position 0, or in training at a random one at which it fits."""
        ids = tokens.ids
        wide = ids.new_zeros(len(ids), self.length)
        places = torch.arange(ids.shape[1], device=ids.device).expand(ids.shape)
        if self.training and self.shift:
            room = self.length - tokens.lengths + 1
            places = places + (torch.rand(len(ids), device=ids.device) * room).long()[:, None]
        rows = torch.arange(len(ids), device=ids.device)[:, None].expand(ids.shape)
        valid = mask(tokens.lengths, ids.shape[1])
        wide[rows[valid], places[valid]] = ids[valid]
        return wide


class Mined(NamedTuple):
    """Captions of a batch in the second stage: those of its first half, then a mined negative for each of them."""

    tokens: base.Tokens
    groups: Tensor  # (2 · half,)
    available: Tensor  # (half,) bool: whether a caption of another group was available


class Model(finetuning.Model, Chosen):
    def __init__(self, settings: Settings, context: base.Context):
        super().__init__(settings, context)
        s = settings
        if context.groups is None:
            raise ValueError("DPC needs the groups of the training pairs: each is a class of its instance loss")
        self.image_network, in_dim = finetuning.network_of(s, context)
        self.image = nn.Sequential(_dense(in_dim, s.dim), _dense(s.dim, s.dim))
        self.text = TextPath(s, context)
        self.dropout = nn.Dropout(s.dropout)
        self.register_buffer("groups", context.groups)
        self.classifier = nn.Linear(s.dim, len(context.groups), bias=s.classifier_bias)  # shared by both paths
        self.ranking = False
        # Captions of the last batches, from which negatives are mined; checkpoints hold them, for exact resumption.
        if s.negatives == "mined":
            self.register_buffer("kept_ids", torch.zeros(s.candidates, s.length, dtype=torch.int64))
            self.register_buffer("kept_lengths", torch.zeros(s.candidates, dtype=torch.int64))
            self.register_buffer("kept_groups", torch.full((s.candidates,), -1, dtype=torch.int64))
        self._first_weights()

    def _first_weights(self) -> None:
        """Initialise weights uniformly with variance 1 / inputs, smaller in the classifier."""
        for module in [*self.image.modules(), *self.text.modules(), self.classifier]:
            if isinstance(module, nn.Linear | nn.Conv1d):
                bound = (3 / module.weight[0].numel()) ** 0.5
                bound *= CLASSIFIER if module is self.classifier else 1
                nn.init.uniform_(module.weight, -bound, bound)
        if self.classifier.bias is not None:
            nn.init.zeros_(self.classifier.bias)

    def stages(self) -> list[base.Stage]:
        """A stage with the instance loss alone, then one with the ranking loss added."""
        s = self.settings
        both = [
            base.Stage("instance", s.epochs, s.lr, s.lr_drop, s.lr_factor),
            base.Stage("ranking", s.ranking_epochs, s.ranking_lr, s.ranking_lr_drop, s.lr_factor),
        ]
        return [stage for stage in both if stage.epochs]

    def begin(self, stage: base.Stage) -> None:
        self.ranking = stage.name == "ranking"

    def parts(self) -> list[dict[str, Any]]:
        s = self.settings
        norms = [m.weight for path in (self.image, self.text) for m in path.modules() if isinstance(m, nn.BatchNorm1d)]
        groups = [
            {"params": norms, "factor": s.norm_lr},
            {"params": [self.text.words.weight], "factor": s.word_lr},
            {"params": [self.classifier.weight], "factor": s.classifier_lr},
        ]
        if self.classifier.bias is not None:
            groups.append({"params": [self.classifier.bias], "factor": 2 * s.classifier_lr})
        if self.image_network is not None:
            groups.append({"params": [*self.image_network.parameters()], "factor": s.image_network_lr})
        return [{"params": others(self.parameters(), *groups), "factor": 1.0}, *groups]

    def path(self, modality: str, inputs: base.Input) -> Tensor:
        """(B, dim) vectors that the classifier takes, not of unit length."""
        if modality == "image":
            return self.image(finetuning.features(self.image_network, inputs))
        return self.text(inputs)

    def encode(self, modality: str, batch: base.Batch, partner: str) -> Tensor:
        """(B, dim) unit vectors; `partner` makes no difference."""
        return F.normalize(self.path(modality, batch.inputs[modality]), dim=1)

    def loss(self, batch: base.Batch, progress: float, turn: str) -> dict[str, Tensor]:
        """λ1 L_rank + λ2 L_visual + λ3 L_textual, where λ1 is 0 in the first stage."""
        s = self.settings
        captions, of_captions, mined = batch.inputs["text"], batch.groups, None
        if s.negatives == "mined":
            if self.ranking:
                mined = self.mined(batch)
                captions, of_captions, _ = mined
            if self.training:
                self._keep(batch)
        images, texts = self.path("image", batch.inputs["image"]), self.path("text", captions)
        terms = {
            "image_instance": self._instance_loss(images, batch.groups),
            "text_instance": self._instance_loss(texts, of_captions),
        }
        text_weight = s.ranking_text_weight if self.ranking else s.text_weight
        loss = s.image_weight * terms["image_instance"] + text_weight * terms["text_instance"]
        if self.ranking:
            images, texts = F.normalize(images, dim=1), F.normalize(texts, dim=1)
            if mined is not None:
                terms["ranking"] = half_hinges(images, texts, batch.groups, mined.available, s.margin)
            elif s.negatives == "drawn":
                terms["ranking"] = random_hinges(images @ texts.T, s.margin, batch.groups)
            else:
                terms["ranking"] = hinge_triplet(
                    images @ texts.T, s.margin, hardest=True, groups=batch.groups, reduction="mean"
                )
            loss = loss + s.ranking_weight * terms["ranking"]
        return {"loss": loss, **terms}

    def _instance_loss(self, vectors: Tensor, groups: Tensor) -> Tensor:
        return F.cross_entropy(self.classifier(self.dropout(vectors)), torch.searchsorted(self.groups, groups))

    @torch.no_grad()
    def mined(self, batch: base.Batch) -> Mined:
        """The captions of the batch's first half, then for each of its images the nearest kept one of another group."""
        half, tokens = len(batch.groups) // 2, batch.inputs["text"]
        training = self.training
        self.eval()  # as in the program, mining uses running statistics and no shift
        images = F.normalize(self.path("image", batch.inputs["image"][:half]), dim=1)
        kept = F.normalize(self.path("text", base.Tokens(self.kept_ids, self.kept_lengths)), dim=1)
        self.train(training)
        groups = batch.groups[:half]
        possible = (groups[:, None] != self.kept_groups) & (self.kept_groups >= 0)
        places, available = hardest(images @ kept.T, possible)
        ids = F.pad(tokens.ids[:half], (0, self.settings.length - tokens.ids.shape[1]))
        mined = base.Tokens(
            torch.cat([ids, self.kept_ids[places]]), torch.cat([tokens.lengths[:half], self.kept_lengths[places]])
        )
        # Where no negative was available, the pair's own caption takes its place, so that each row has a class.
        mined.ids[half:][~available] = ids[~available]
        mined.lengths[half:][~available] = tokens.lengths[:half][~available]
        return Mined(mined, torch.cat([groups, torch.where(available, self.kept_groups[places], groups)]), available)

    @torch.no_grad()
    def _keep(self, batch: base.Batch) -> None:
        """Store the batch's captions in place of the oldest ones."""
        tokens = batch.inputs["text"]
        ids = F.pad(tokens.ids, (0, self.settings.length - tokens.ids.shape[1]))
        for name, new in (("kept_ids", ids), ("kept_lengths", tokens.lengths), ("kept_groups", batch.groups)):
            old = getattr(self, name)
            old.copy_(torch.cat([old, new])[-len(old) :])


def half_hinges(images: Tensor, texts: Tensor, groups: Tensor, available: Tensor, margin: float) -> Tensor:
    """Hinges of a batch's first half against mined captions and the images of its second half, as in the program.

    Parameters
    ----------
    images, texts : (B, d) and (2 · half, d) unit vectors; the second half of the texts are the mined ones.
    groups : (B,) ids of the images.
    available : (half,) bool, whether a caption was mined.

    Returns
    -------
    Scalar: the sum over the pairs, divided by the number of images of the batch, which is twice that of the pairs.
    """
    half = len(available)
    matching = (images[:half] * texts[:half]).sum(1)
    against_text = hinges(matching, (images[:half] * texts[half:]).sum(1), available, margin)
    apart = groups[:half] != groups[half : 2 * half]
    against_image = hinges(matching, (images[half : 2 * half] * texts[:half]).sum(1), apart, margin)
    return (against_text + against_image).sum() / (2 * half)


def random_hinges(scores: Tensor, margin: float, groups: Tensor) -> Tensor:
    """Hinges of a batch's pairs against one random caption and one random image of another group, averaged over pairs.

    Parameters
    ----------
    scores : (B, B), with the pairs on the diagonal.
    groups : (B,) ids; a pair has no hinge if the batch has no other group.
    """
    possible = groups[:, None] != groups[None, :]
    loss = torch.zeros(len(scores), dtype=scores.dtype, device=scores.device)
    for one_way in (scores, scores.T):
        places, available = hardest(possible.float(), drawn(possible, 1))
        loss = loss + hinges(scores.diagonal(), one_way.gather(1, places[:, None]).squeeze(1), available, margin)
    return loss.mean()
