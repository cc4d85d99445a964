"""Keywords of parts of an image: words are counted per cluster of cells (Mori et al., 1999).

It is described in section 9.3.1 of Liu et al. (2020), eq. 9.10: the image is cut into a grid, the cells of all training
images are clustered, and each cluster counts the words of the captions of its cells' images, P(w | c) = n_w / N. An
image's keywords are those with the highest mean over its cells.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from crossmodal.language.tokens import SPECIAL
from crossmodal.models import base
from crossmodal.models.base import Batch, Form
from crossmodal.models.parts.closed_form import ClosedForm


class Settings(base.Settings):
    clusters: int = Field(500, ge=1, description="clusters of cells")
    seed: int = Field(0, ge=0, description="seed of the first centres")
    most: int = Field(100_000, ge=1, description="cells from which the centres are found, evenly spaced over all")
    min_count: int = Field(4, ge=1, description="occurrences that a word needs; rarer words are no keywords")
    max_words: int = Field(82, ge=1, description="largest number of words of a caption; further words are not counted")


class Model(ClosedForm):
    reads: ClassVar[dict[str, Form]] = {"image": "grid", "text": "tokens"}

    settings: Settings

    def fit(self, batches: Iterable[Batch]) -> None:
        """Cluster the cells of the training images, and count the words of their captions per cluster (eq. 9.10)."""
        from sklearn.cluster import KMeans

        cells: dict[int, np.ndarray] = {}
        words: dict[int, list[int]] = {}
        for batch in batches:
            features, counts = batch.inputs["image"]
            ids = batch.inputs["text"].ids
            for row, group in enumerate(batch.groups.tolist()):
                if group not in cells:
                    cells[group] = features[row, : int(counts[row])].cpu().numpy()
                words.setdefault(group, []).extend(w for w in ids[row].tolist() if w >= len(SPECIAL))
        every = np.concatenate([*cells.values()])
        chosen = every[np.unique(np.linspace(0, len(every) - 1, min(len(every), self.settings.most)).astype(int))]
        count = min(self.settings.clusters, len(np.unique(chosen, axis=0)))
        found = KMeans(count, n_init=1, random_state=self.settings.seed).fit(chosen)
        self.keep("centres", found.cluster_centers_)
        cluster = self._clusters(torch.from_numpy(every)).numpy()
        n = np.zeros((count, self.context.vocabulary_size))  # n_ji: one count of each word of a cell's image
        start = 0
        for group, part in cells.items():
            inside = cluster[start : start + len(part)]
            start += len(part)
            np.add.at(n, (inside[:, None], np.array(words[group], np.int64)[None]), 1)
        self.keep("likelihood", n / np.maximum(1, n.sum(1, keepdims=True)))

    def _clusters(self, cells: Tensor) -> Tensor:
        """(n,) clusters of (n, D) cells."""
        centres = self.get_buffer("centres")
        parts = [torch.cdist(part.to(centres), centres).argmin(1) for part in cells.split(4096)]
        return torch.cat(parts) if parts else torch.zeros(0, dtype=torch.int64)

    @torch.no_grad()
    def keywords(self, batch: Batch) -> Tensor:
        """(B, V) scores of the words of the vocabulary, the mean of P(w | c) over the cells of each image."""
        features, counts = batch.inputs["image"]
        likelihood = self.get_buffer("likelihood")
        return torch.stack(
            [likelihood[self._clusters(one[:n])].mean(0) for one, n in zip(features, counts.tolist(), strict=True)]
        )
