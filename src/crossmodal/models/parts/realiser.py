"""What systems share that put named regions into sentences by rules and by counts of words in the training captions."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import ClassVar, NamedTuple

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from crossmodal.language.tokens import PAD, SPECIAL, UNKNOWN
from crossmodal.models import base
from crossmodal.models.base import Batch, Form, Objects
from crossmodal.models.parts.closed_form import ClosedForm


class Settings(base.Settings):
    """Settings of systems that count words."""

    min_count: int = Field(1, ge=1, description="occurrences that a word needs; rarer words are not counted")
    max_words: int = Field(82, ge=1, description="largest number of words of a caption; further words are not counted")
    objects: int = Field(4, ge=1, description="regions of an image that are considered, the most confident ones")
    smoothing: float = Field(0.1, gt=0, description="count that is added to each count of words")


class Seen(NamedTuple):
    """The named regions of one image by decreasing confidence."""

    boxes: np.ndarray  # (n, 4) in pixels
    classes: list[int]
    attributes: list[int]  # 0 for none
    scores: list[float]


class Realiser(ClosedForm):
    """Generates a sentence from the named regions of an image; `glue` are the words that its rules add."""

    reads: ClassVar[dict[str, Form]] = {"image": "objects", "text": "tokens"}
    glue: ClassVar[tuple[str, ...]] = ()

    settings: Settings

    def fit(self, batches: Iterable[Batch]) -> None:
        """Count over all pairs, and look up the words that are added: those that no caption has are left out later."""
        captions: list[list[int]] = []
        images: list[Seen] = []
        for batch in batches:
            tokens = batch.inputs["text"]
            lengths = tokens.lengths.tolist()
            captions += [row[1 : n - 1] for row, n in zip(tokens.ids.tolist(), lengths, strict=True)]
            images += self.seen(batch.inputs["image"])
        place = {word: i for i, word in enumerate(self.context.words)}
        self.register_buffer("glue_ids", torch.tensor([place.get(word, PAD) for word in self.glue]))
        self.fit_pairs(captions, images)

    def fit_pairs(self, captions: list[list[int]], images: list[Seen]) -> None:
        """Fit the system to captions as word ids and the regions of their images, row by row."""
        raise NotImplementedError

    def sentence(self, seen: Seen) -> list[int]:
        """The word ids of a sentence about an image; 0 stands for a word that is not known."""
        raise NotImplementedError

    def seen(self, objects: Objects) -> list[Seen]:
        """The regions of each image of a batch, at most `objects` of them; names that no training item has left out."""
        images = []
        boxes, classes, attributes, scores = (part.cpu().numpy() for part in objects[:4])
        for i, count in enumerate(objects.counts.tolist()):
            kept = [k for k in range(count) if classes[i, k] != UNKNOWN][: self.settings.objects]
            marks = [a if a >= len(SPECIAL) else PAD for a in attributes[i, kept].tolist()]
            images.append(Seen(boxes[i, kept], classes[i, kept].tolist(), marks, scores[i, kept].tolist()))
        return images

    def said(self, text: str) -> list[int]:
        """The ids of words of `glue`, separated by blanks; 0 for those that no caption has."""
        return [int(self.get_buffer("glue_ids")[self.glue.index(word)]) for word in text.split()]

    def keep_counts(self, name: str, rows: Iterable[Sequence[int]], width: int) -> None:
        """Store how often each row of `width` word ids occurs: (n, width) ids and (n,) counts."""
        table = np.array([*rows], np.int64).reshape(-1, width)
        keys, counts = np.unique(table, axis=0, return_counts=True)
        self.register_buffer(name, torch.from_numpy(keys))
        self.register_buffer(f"{name}_counts", torch.from_numpy(counts))

    def counts(self, name: str) -> dict[tuple[int, ...], int]:
        """The counts that `keep_counts` has stored, by their ids."""
        cache = self.__dict__.setdefault("_counts", {})
        if name not in cache:
            keys, counts = self.get_buffer(name).tolist(), self.get_buffer(f"{name}_counts").tolist()
            cache[name] = {tuple(key): count for key, count in zip(keys, counts, strict=True)}
        return cache[name]

    @torch.no_grad()
    def generate(self, batch: Batch, beam: int) -> Tensor:
        """(B, L) word ids of a sentence per image; `beam` makes no difference (`capabilities.Generates`)."""
        rows = [
            [word for word in self.sentence(seen) if word >= len(SPECIAL)] for seen in self.seen(batch.inputs["image"])
        ]
        ids = torch.zeros(len(rows), max([1, *map(len, rows)]), dtype=torch.int64)
        for i, row in enumerate(rows):
            ids[i, : len(row)] = torch.tensor(row, dtype=torch.int64)
        return ids.to(batch.inputs["image"].counts.device)
