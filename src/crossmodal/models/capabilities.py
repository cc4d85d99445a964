"""Capabilities of models that tasks use, as protocols: a model has a capability if it has the protocol's methods.

Each task names the method that it needs (`Task.asks`); a model may have several.
"""

from __future__ import annotations

from typing import Protocol

from torch import Tensor

from crossmodal.models.base import Batch


class Encodes(Protocol):
    """Encodes items for retrieval of instances or categories, where two modalities are compared."""

    def encode(self, modality: str, batch: Batch, partner: str) -> Tensor:
        """Encodings of the items of one modality for comparison with those of another.

        Parameters
        ----------
        batch : holds `inputs[modality]` of B items.
        partner : the modality of the other side; in systems that align pairs of modalities, the encodings depend on it.

        Returns
        -------
        (B, ...) encodings that `Model.score` takes; (B, d) vectors unless `score` is overridden.
        """


class Generates(Protocol):
    """Generates captions of images, for captioning."""

    def generate(self, batch: Batch, beam: int) -> Tensor:
        """(B, L) word ids of a caption per image, padded with 0 from the end of each caption on.

        Parameters
        ----------
        batch : holds `inputs["image"]` of B images.
        beam : how many unfinished captions are kept per image; 1 takes the likeliest word each time.
        """


class Attends(Protocol):
    """Chooses each word of a caption by a weighting of the image's regions, which galleries show."""

    def attend(self, batch: Batch, ids: Tensor) -> Tensor:
        """(B, L, R) weights of the image's regions at each of the (B, L) words of captions, 0 for padding.

        The regions are in the order of the features that the model reads. The weights of a word sum to 1, or to less
        in a system that may look at something else than the image: the rest is the weight of its sentinel.

        Parameters
        ----------
        batch : holds `inputs["image"]` of B images.
        ids : word ids as `Generates.generate` returns them.
        """


class Grounds(Protocol):
    """Weighs the image against a sentinel at each word, for the visual grounding of words."""

    def image_share(self, batch: Batch, ids: Tensor) -> Tensor:
        """(B, L) shares of the attention that the image has at each of the (B, L) words of captions, 0 for padding."""


class Judges(Protocol):
    """Has an evaluator of captions, for their naturalness."""

    def judge(self, batch: Batch, ids: Tensor) -> Tensor:
        """(B,) scores in [0, 1]: how probable it is that a person wrote the caption of the image.

        Parameters
        ----------
        batch : holds `inputs["image"]` of B images.
        ids : (B, L) word ids of a caption per image with its end mark, without a start mark, padded with 0.
        """


class Tags(Protocol):
    """Proposes keywords of images."""

    def keywords(self, batch: Batch) -> Tensor:
        """(B, V) scores of the words of the vocabulary for B images, larger is better."""


class Represents(Protocol):
    """Computes features to which classifiers are fitted, for classification."""

    classifiers: dict[str, tuple[str, str]]
    """Learning setting to the names of the features on which its classifier is fitted and tested."""

    def represent(self, batch: Batch) -> dict[str, Tensor]:
        """(B, d) features of the items by name."""


class Reconstructs(Protocol):
    """Separates items into parts and reconstructs images and captions from them."""

    def reconstruct(self, batch: Batch) -> dict[str, Tensor]:
        """Arrays with one row per pair of the batch.

        `MODALITY_modal`, `MODALITY_semantic`, `MODALITY_specific`: (B, d) parts. `pictures`, `pictures_made`:
        (B, 3, S, S) uint8 thumbnails of the images and of their reconstructions. `words`, `words_made`: (B, L) word ids
        of the captions and of their reconstructions.
        """


class Looks(Protocol):
    """Has word vectors that were learned together with images, for word relatedness."""

    def vectors(self) -> Tensor:
        """(V, d) vectors of the words."""

    def looks(self, batch: Batch) -> Tensor:
        """(B, D) features of the images; their mean over the images of a word is the word's visual vector."""
