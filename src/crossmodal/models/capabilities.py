"""What a model can be asked besides its training: it is capable of what it has the method of.

Tasks name the method that they ask for (`Task.asks`); a model may have several.
"""

from __future__ import annotations

from typing import Protocol

from torch import Tensor

from crossmodal.models.base import Batch


class Encodes(Protocol):
    """Encodings of two modalities that are compared with each other: instance and category retrieval."""

    def encode(self, modality: str, batch: Batch, partner: str) -> Tensor:
        """Encodings of the items of one modality for comparison with those of another.

        Parameters
        ----------
        batch : holds `inputs[modality]` of B items.
        partner : the modality on the other side (its encodings may differ for each in systems that align pairs).

        Returns
        -------
        (B, ...) of what `Model.score` takes; (B, d) vectors unless that is overridden.
        """


class Represents(Protocol):
    """Features that classifiers are fitted to: classification."""

    classifiers: dict[str, tuple[str, str]]
    """Each setting with the features that its classifier is fitted to, and those that it is tested on."""

    def represent(self, batch: Batch) -> dict[str, Tensor]:
        """(B, d) features of the items by name."""


class Reconstructs(Protocol):
    """Encodings in parts, and what is made again of them: reconstruction."""

    def reconstruct(self, batch: Batch) -> dict[str, Tensor]:
        """Arrays with one row per pair of the batch.

        `MODALITY_modal`, `MODALITY_semantic`, `MODALITY_specific`: (B, d) parts. `pictures`, `pictures_made`:
        (B, 3, S, S) uint8. `words`, `words_made`: (B, L) word ids.
        """


class Looks(Protocol):
    """Vectors of words that were learned beside images: word relatedness."""

    def vectors(self) -> Tensor:
        """(V, d) vectors of the words."""

    def looks(self, batch: Batch) -> Tensor:
        """(B, D) features of the images, that what a word looks like is the mean of."""
