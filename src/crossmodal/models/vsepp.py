"""VSE++: global image features and a GRU in one space, trained with the hardest negatives (Faghri et al., 2018).

The hardest negatives are those of each batch. The system is the baseline of mFSR (section 3.1, eq. 1, 2 and 8). Its
image network is fine-tuned in a run of its own (`image_network`), which continues a run on fixed features.
"""

from __future__ import annotations

from pydantic import Field
from torch import Tensor

from crossmodal.models import base
from crossmodal.models.parts import finetuning
from crossmodal.models.parts.encoders import CaptionEncoder, ImageEncoder
from crossmodal.models.parts.losses import Hinges, batch_hinges


class Encoders(finetuning.Settings):
    """The published sizes of the encoders and schedule of VSE++ on Flickr30K and MS-COCO, without a loss."""

    dim: int = Field(1024, ge=1, description="dimensions of the common space")
    word_dim: int = Field(300, ge=1, description="dimensions of a word vector")
    layers: int = Field(1, ge=1, description="number of stacked GRU layers")


class Settings(Hinges, Encoders):
    """The published settings of VSE++ on Flickr30K and MS-COCO, and the loss of its authors' program."""


class Model(finetuning.Model):
    def __init__(self, settings: Encoders, context: base.Context):
        super().__init__(settings, context)
        self.image_network, in_dim = finetuning.network_of(settings, context)
        self.image = ImageEncoder(in_dim, settings.dim)
        self.text = CaptionEncoder(context.vocabulary_size, settings.word_dim, settings.dim, settings.layers)

    def encode(self, modality: str, batch: base.Batch, partner: str) -> Tensor:
        """(B, dim) unit vectors; `partner` makes no difference."""
        if modality == "image":
            return self.image(finetuning.features(self.image_network, batch.inputs["image"]))
        return self.text(batch.inputs["text"])

    def loss(self, batch: base.Batch, progress: float, turn: str) -> dict[str, Tensor]:
        scores = self.score(self.encode("image", batch, "text"), self.encode("text", batch, "image"))
        return {"loss": batch_hinges(scores, self.settings, batch.groups, progress)}
