"""A space of meaning, ⟨object, action, scene⟩, to which images and sentences are mapped (Farhadi et al., 2010).

It is described in section 9.3.1 of Liu et al. (2020). A Markov random field scores triples of an image: the potentials
of its nodes are how often the captions of its nearest training images have a value, smoothed; those of its edges count
pairs of values in captions. The paper has detectors and a structured large margin; here there are neither, so that the
field is fitted by counting (pseudo-likelihood). Actions are words in -ing; objects and scenes are nouns, and those that
mostly end a caption are scenes. An image and a sentence are compared by their distributions over the three slots, so
that the system captions and retrieves.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from crossmodal.language.tokens import SPECIAL
from crossmodal.models.base import Batch, Form, Tokens
from crossmodal.models.parts import lender
from crossmodal.models.parts.lender import Lender, nearest

_WORDS = """a an the and or of in on at to by with from into onto over under above below near beside behind through
across along around between up down out off for as is are was were be being been has have had there here this that
these those it its he his she her they their them we who which while another other some one two three four several many
not no very next front"""
FUNCTION = frozenset(_WORDS.split())
"""Words of English that name nothing; a tagger of parts of speech would tell more."""
EMPTY = 0  # of each slot: the caption tells nothing


class Settings(lender.Settings):
    neighbours: int = Field(30, ge=1, description="training images whose captions vote for the values of a slot")
    values: int = Field(40, ge=1, description="most frequent values of each slot")
    smoothing: float = Field(0.1, gt=0, description="count that is added to each count")
    edge: float = Field(0.3, ge=0, description="weight of the potentials of edges; those of nodes have 1")


class Model(Lender):
    reads: ClassVar[dict[str, Form]] = {"image": "vector", "text": "tokens"}

    settings: Settings

    def fit_images(self, images: Tensor) -> None:
        """Keep the training images and the values of each slot, and count values and pairs of values."""
        self.keep("images", F.normalize(images.float(), dim=1))
        words, captions = self.context.words, self.words()
        kinds = self._kinds(words, captions)
        self.register_buffer("kinds", torch.from_numpy(kinds))
        table = self._slots(captions)  # (C, 3)
        size = self.settings.values + 1
        add = self.settings.smoothing
        for number, (a, b) in enumerate(((0, 1), (0, 2), (1, 2))):
            joint = np.full((size, size), add)
            np.add.at(joint, (table[:, a], table[:, b]), 1)
            joint /= joint.sum()
            self.keep(
                f"edge{number}", np.log(joint) - np.log(joint.sum(1, keepdims=True) * joint.sum(0, keepdims=True))
            )
        self.register_buffer("slots", torch.from_numpy(table))

    def _kinds(self, words: tuple[str, ...], captions: list[list[int]]) -> np.ndarray:
        """(V, 2) slot of each word (0 object, 1 action, 2 scene) and its value from 1 on; -1 for words of no slot.

        A noun is taken to be a word that no further word of the kind follows, as `dog` in `a young white dog is`. Each
        word belongs to the slot that it has most often.
        """
        size = self.context.vocabulary_size
        counts = np.zeros((size, 3))

        def names(word: int) -> bool:
            return not words or (words[word].isalpha() and words[word] not in FUNCTION)

        def acts(word: int) -> bool:
            return bool(words) and words[word].endswith("ing")

        for row in captions:
            spoken = [word for word in row if not words or words[word].isalpha()]
            for place, word in enumerate(spoken):
                last = place == len(spoken) - 1
                if names(word) and acts(word):
                    counts[word, 1] += 1
                elif names(word) and (last or not names(spoken[place + 1]) or acts(spoken[place + 1])):
                    counts[word, 2 if last else 0] += 1
        kinds = np.full((size, 2), -1, np.int64)
        best = counts.argmax(1)
        for slot in range(3):
            frequent = [w for w in np.argsort(-counts[:, slot], kind="stable").tolist()
                        if best[w] == slot and counts[w, slot] > 0 and w >= len(SPECIAL)]  # fmt: skip
            for value, word in enumerate(frequent[: self.settings.values], 1):
                kinds[word] = slot, value
        return kinds

    def _slots(self, captions: list[list[int]]) -> np.ndarray:
        """(C, 3) values of the slots of captions: the first word of each slot, the last one for the scene."""
        kinds = self.get_buffer("kinds").cpu().numpy()
        table = np.zeros((len(captions), 3), np.int64)
        for i, row in enumerate(captions):
            for word in row:
                slot, value = kinds[word] if word < len(kinds) else (-1, -1)
                if slot >= 0 and (slot == 2 or table[i, slot] == EMPTY):
                    table[i, slot] = value
        return table

    def marginals(self, nodes: Tensor) -> Tensor:
        """(B, 3, S) marginals of the field, exactly, from the (B, 3, S) logarithms of the potentials of its nodes."""
        edges = [self.settings.edge * self.get_buffer(f"edge{n}") for n in range(3)]
        rows = []
        for one in nodes:
            log = one[0][:, None, None] + one[1][None, :, None] + one[2][None, None, :]
            log = log + edges[0][:, :, None] + edges[1][:, None, :] + edges[2][None, :, :]
            p = torch.softmax(log.flatten(), 0).view(log.shape)
            rows.append(torch.stack([p.sum((1, 2)), p.sum((0, 2)), p.sum((0, 1))]))
        return torch.stack(rows)

    @torch.no_grad()
    def encode(self, modality: str, batch: Batch, partner: str) -> Tensor:
        """(B, 3 S) unit vectors of the distributions over the values of the slots, without what tells nothing."""
        size = self.settings.values + 1
        if modality == "image":
            found = self.marginals(self._nodes(batch.inputs["image"]))
        else:
            tokens: Tokens = batch.inputs["text"]
            rows = [row[1 : n - 1] for row, n in zip(tokens.ids.tolist(), tokens.lengths.tolist(), strict=True)]
            slots = torch.from_numpy(self._slots(rows)).to(tokens.ids.device)
            found = F.one_hot(slots, size).float()
        found = found.clone()
        found[:, :, EMPTY] = 0
        return F.normalize(found.flatten(1), dim=1)

    def _nodes(self, images: Tensor) -> Tensor:
        """(B, 3, S) logarithms of how often the neighbours' captions have each value, smoothed."""
        size, slots = self.settings.values + 1, self.get_buffer("slots")
        rows = []
        for neighbours in nearest(self.get_buffer("images"), images, self.settings.neighbours).tolist():
            voters = np.concatenate([np.arange(self.starts[g], self.starts[g + 1]) for g in neighbours])
            counts = F.one_hot(slots[torch.from_numpy(voters).to(slots.device)], size).float().sum(0)  # (3, S)
            rows.append(torch.log((counts + self.settings.smoothing) / (len(voters) + self.settings.smoothing * size)))
        return torch.stack(rows)

    @torch.no_grad()
    def generate(self, batch: Batch, beam: int) -> Tensor:
        """(B, L) word ids of the training caption whose triple fits best; `beam` makes no difference.

        Of captions with equal triples, that of an image near to the described one is said.
        """
        images = self.encode("image", batch, "text")
        vectors = F.one_hot(self.get_buffer("slots"), self.settings.values + 1).float()
        vectors[:, :, EMPTY] = 0
        vectors = F.normalize(vectors.flatten(1), dim=1)
        near = F.normalize(batch.inputs["image"].float(), dim=1) @ self.get_buffer("images").T
        scores = images @ vectors.T + 1e-3 * near[:, self.get_buffer("group")]
        return self.lent(scores.argmax(1))
