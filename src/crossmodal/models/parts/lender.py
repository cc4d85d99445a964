"""What systems share that lend a caption of the training images to an image in place of making one."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cached_property

import numpy as np
import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from crossmodal.language.tokens import PAD
from crossmodal.models import base
from crossmodal.models.base import Batch
from crossmodal.models.parts.closed_form import ClosedForm


class Settings(base.Settings):
    """Settings of systems that lend training captions, which are kept whole."""

    min_count: int = Field(1, ge=1, description="occurrences that a word needs; rarer words are lost from captions")
    max_words: int = Field(82, ge=1, description="largest number of words of a caption; further words are lost")


class Lender(ClosedForm):
    """Keeps the training captions, C of them, and the G groups that they and their images belong to."""

    def fit(self, batches: Iterable[Batch]) -> None:
        """Keep the captions and the image of each group, of all training pairs."""
        images: dict[int, Tensor] = {}
        captions, lengths, of = [], [], []
        for batch in batches:
            tokens, vectors = batch.inputs["text"], batch.inputs["image"]
            for row, group in enumerate(batch.groups.tolist()):
                if group not in images:
                    images[group] = vectors[row].clone()
                of.append(group)
            captions += [*tokens.ids.int()]
            lengths.append(tokens.lengths)
        order = {group: number for number, group in enumerate(images)}
        groups = torch.tensor([order[group] for group in of])
        place = torch.argsort(groups, stable=True)  # the captions of a group lie side by side
        ids = torch.nn.utils.rnn.pad_sequence(captions, batch_first=True, padding_value=PAD)[place]
        self.register_buffer("captions", ids)
        self.register_buffer("lengths", torch.cat(lengths)[place])
        self.register_buffer("group", groups[place])
        self.fit_images(torch.stack([*images.values()]))

    def fit_images(self, images: Tensor) -> None:
        """Fit the system to the (G, ...) images of the groups, in the order of their numbers in `group`."""
        raise NotImplementedError

    @cached_property
    def starts(self) -> np.ndarray:
        """(G + 1,) first caption of each group, and the number of captions."""
        group = self.get_buffer("group").cpu().numpy()
        if not 0 <= group[-1] < len(group):  # weights of others may say so
            raise ValueError(f"{len(group)} captions are of {int(group[-1]) + 1} groups")
        return np.searchsorted(group, np.arange(int(group[-1]) + 2))

    def words(self) -> list[list[int]]:
        """The word ids of each training caption without its start and end marks."""
        lengths = self.get_buffer("lengths").tolist()
        rows = self.get_buffer("captions").cpu().numpy()
        return [row[1 : length - 1].tolist() for row, length in zip(rows, lengths, strict=True)]

    def lent(self, chosen: Tensor) -> Tensor:
        """(B, L) word ids of the training captions at (B,) indices, without marks and padded with 0."""
        ids, lengths = self.get_buffer("captions")[chosen].long(), self.get_buffer("lengths")[chosen]
        inside = torch.arange(ids.shape[1], device=ids.device) < lengths[:, None] - 1
        return (ids * inside)[:, 1 : max(2, int(lengths.max()) - 1)]


def nearest(images: Tensor, vectors: Tensor, count: int) -> Tensor:
    """(B, k) indices of the `count` nearest of (G, D) unit vectors to each of (B, D) vectors, by cosine."""
    return (F.normalize(vectors.float(), dim=1) @ images.T).topk(min(count, len(images)), 1).indices
