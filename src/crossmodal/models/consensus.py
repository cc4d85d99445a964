"""Consensus of nearest neighbours: the training captions of similar images vote for one of them (Devlin et al., 2015).

Exploring Nearest Neighbor Approaches for Image Captioning, section 3: the images nearest to an image by the cosine of
their features lend their captions, and the one is said that is on average the most similar to all of them, by CIDEr.
The paper takes 90 neighbours of MS-COCO's images, and the mean over the most similar 125 captions; here, for smaller
sets, 30 are taken, all of whose captions vote. With one
neighbour it is the plain nearest neighbour. A captioner that understands images has to be better than both.
"""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from crossmodal.language.ngrams import unit_weights
from crossmodal.models.base import Batch, Form
from crossmodal.models.parts import lender
from crossmodal.models.parts.lender import Lender, nearest

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix


class Settings(lender.Settings):
    neighbours: int = Field(30, ge=1, description="training images whose captions vote")


class Model(Lender):
    reads: ClassVar[dict[str, Form]] = {"image": "vector", "text": "tokens"}

    settings: Settings

    def fit_images(self, images: Tensor) -> None:
        """Keep (G, D) unit vectors of the training images."""
        self.keep("images", F.normalize(images.float(), dim=1))

    @cached_property
    def weights(self) -> csr_matrix:
        """(C, V) tf-idf vectors of the training captions, computed for the first image that is described."""
        return unit_weights(self.words(), self.get_buffer("group").cpu().numpy())

    @torch.no_grad()
    def generate(self, batch: Batch, beam: int) -> Tensor:
        """(B, L) word ids of the neighbours' caption that agrees best with all of theirs; `beam` makes no difference.

        Of captions that agree equally well, that of the nearest image is said.
        """
        chosen = []
        for row in nearest(self.get_buffer("images"), batch.inputs["image"], self.settings.neighbours).tolist():
            voters = np.concatenate([np.arange(self.starts[group], self.starts[group + 1]) for group in row])
            table = self.weights[voters]
            itself = np.asarray(table.multiply(table).sum(1)).ravel()
            agreement = table @ np.asarray(table.sum(0)).ravel() - itself
            chosen.append(int(voters[np.argmax(agreement > agreement.max() - 1e-6)]))
        return self.lent(torch.tensor(chosen, device=self.get_buffer("captions").device))
