"""Word embeddings with visual context: Xu et al. (2014) and Kottur et al. (2016); Liu et al. 2020, eq. 9.1 to 9.4.

`global` (Xu) predicts a word from the mean vector of the words around it, concatenated with a linear map of the image.
`scene` (Kottur) predicts the scene, one of K clusters of images, from the mean vector of the words of a window.
`none` is `global` without the image, the baseline for the other two.

The visual similarity of words is evaluated on test items: the rank correlation, over pairs of words, between the
cosines of their vectors and the cosines of the mean features of the images whose captions contain them. For retrieval,
a caption and an image are compared by the image's part in the scores of the words (`global`), or by the probability of
the image's scene (`scene`).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from crossmodal.models import base
from crossmodal.models.base import Form, Tokens
from crossmodal.models.parts.closed_form import ClosedForm

SPECIAL = 4  # smaller ids are not words but padding, start, end and <unk>


class Settings(base.Settings):
    """The sizes are this project's choice, since Liu et al. (2020) leave them open."""

    context: Literal["global", "scene", "none"] = Field(
        "global", description="how the image enters the context of a word"
    )
    dim: int = Field(64, ge=2, description="dimensions of the embedding of the words of a window")
    visual_dim: int = Field(64, ge=1, description="dimensions of the mapped image")
    window: int = Field(2, ge=1, description="number of words on each side of a word that form its window")
    scenes: int = Field(25, ge=2, description="K: number of clusters of images")
    epochs: int = Field(5, ge=1)
    batch_size: int = Field(512, ge=1, description="captions per batch")
    lr: float = Field(5e-3, gt=0)
    min_count: int = Field(
        4,
        ge=1,
        description="occurrences in the training captions that a word needs to be in the vocabulary; rarer words "
        "become <unk>",
    )
    max_words: int = Field(82, ge=1, description="largest number of words of a caption; further words are ignored")
    frequent: int = Field(
        10, ge=1, description="number of test captions that must contain a word for it to be measured"
    )


class Model(ClosedForm):
    reads: ClassVar[dict[str, Form]] = {"image": "vector", "text": "tokens"}

    settings: Settings

    def __init__(self, settings: Settings, context: base.Context):
        super().__init__(settings, context)
        s, size = settings, context.vocabulary_size
        self.words = nn.Embedding(size, s.dim)
        visual = s.visual_dim if s.context == "global" else 0
        self.image = nn.Linear(*context.shapes["image"], visual) if visual else None
        self.told = nn.Embedding(s.scenes if s.context == "scene" else size, s.dim + visual)  # w of eq. 9.1
        nn.init.normal_(self.words.weight, std=0.1)
        nn.init.normal_(self.told.weight, std=0.1)

    def fit(self, batches: Iterable[base.Batch]) -> None:
        s, images, ids = self.settings, [], []
        for batch in batches:
            images.append(batch.inputs["image"])
            tokens = batch.inputs["text"].ids
            ids.append(F.pad(tokens, (0, s.max_words - tokens.shape[1])))
        images, ids = torch.cat(images), torch.cat(ids)
        ids = ids[:, : int((ids > 0).sum(1).max())]
        self.keep("mean", images.mean(0))
        self.keep("scale", images.std(0).clamp(min=1e-6))
        images = self._scaled(images)
        scenes = self._scenes(images) if s.context == "scene" else None
        optimiser = torch.optim.Adam(self.parameters(), lr=s.lr)
        generator = torch.Generator().manual_seed(torch.initial_seed() % 2**63)  # the run's own seed
        for _ in range(s.epochs):
            for picks in torch.randperm(len(ids), generator=generator).split(s.batch_size):
                optimiser.zero_grad()
                self.loss_of(images[picks], ids[picks], None if scenes is None else scenes[picks]).backward()
                optimiser.step()

    def _scaled(self, images: Tensor) -> Tensor:
        return (images - self.get_buffer("mean")) / self.get_buffer("scale")

    def _scenes(self, images: Tensor) -> Tensor:
        """(N,) g(I): k-means clusters of the images, computed before the training."""
        from sklearn.cluster import KMeans

        clusters = KMeans(min(self.settings.scenes, len(images)), n_init=2, random_state=0).fit(images.numpy())
        self.keep("centres", clusters.cluster_centers_)
        return torch.from_numpy(clusters.labels_).long()

    def loss_of(self, images: Tensor, ids: Tensor, scenes: Tensor | None) -> Tensor:
        """-L of eq. 9.3, or of eq. 9.4 with `scenes`, averaged over the words of the captions.

        Parameters
        ----------
        images : (B, D), scaled.
        ids : (B, L) word ids of their captions.
        scenes : (B,) scenes of the images, or None.
        """
        is_word = ids >= SPECIAL
        local, whole = window_means(self.words(ids), is_word, self.settings.window)
        if scenes is not None:
            logits = whole @ self.told.weight.T  # (B, L, K), of the window with its middle word
            kinds = scenes[:, None].expand(ids.shape)
            return F.cross_entropy(logits[is_word], kinds[is_word])
        features = local
        if self.image is not None:
            features = torch.cat([local, self.image(images)[:, None].expand(-1, ids.shape[1], -1)], 2)  # f
        return F.cross_entropy(features[is_word] @ self.told.weight.T, ids[is_word])

    def encode(self, modality: str, batch: base.Batch, partner: str) -> Tensor:
        """(B, K) or (B, visual_dim) vectors, whose inner products are P(g(I) | w) or the image's part in scores."""
        s = self.settings
        if modality == "image":
            x = self._scaled(batch.inputs["image"])
            if s.context == "scene":
                centres = self.get_buffer("centres")
                return F.one_hot(torch.cdist(x, centres).argmin(1), s.scenes).float()
            return x.new_zeros(len(x), 1) if self.image is None else self.image(x)
        tokens: Tokens = batch.inputs["text"]
        is_word = (tokens.ids >= SPECIAL)[..., None].float()
        count = is_word.sum(1).clamp(min=1)
        if s.context == "scene":
            mean = (self.words(tokens.ids) * is_word).sum(1) / count
            return torch.softmax(mean @ self.told.weight.T, 1)
        if self.image is None:
            return tokens.ids.new_zeros(len(tokens.ids), 1).float()
        return (self.told(tokens.ids)[..., s.dim :] * is_word).sum(1) / count

    def vectors(self) -> Tensor:
        """(V, d) vectors of the words: w of eq. 9.1, or those of the hidden layer of eq. 9.4."""
        return self.words.weight if self.settings.context == "scene" else self.told.weight

    @torch.no_grad()
    def looks(self, batch: base.Batch) -> Tensor:
        """(B, D) standardised features of the images, whose means are the visual vectors of words."""
        return self._scaled(batch.inputs["image"])


def window_means(vectors: Tensor, is_word: Tensor, window: int) -> tuple[Tensor, Tensor]:
    """(B, L, d) means of the vectors within `window` words of each word, without and with that word.

    Parameters
    ----------
    vectors : (B, L, d) word vectors.
    there : (B, L) bool, true for words; other vectors do not count.
    window : number of words on either side.
    """
    weight = is_word.to(vectors)
    masked = vectors * weight[..., None]

    def around(x: Tensor) -> Tensor:  # sums over the window, from cumulative sums
        total = F.pad(x.cumsum(1), (0, 0, 1, 0))
        length = x.shape[1]
        places = torch.arange(length, device=x.device)
        return total[:, (places + window + 1).clamp(max=length)] - total[:, (places - window).clamp(min=0)]

    sums, counts = around(masked), around(weight[..., None])
    without = (sums - masked) / (counts - weight[..., None]).clamp(min=1)
    return without, sums / counts.clamp(min=1)
