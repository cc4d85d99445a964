"""Zero-shot retrieval by the cosines of the encoders' own vectors, as CLIP retrieves (Radford et al., 2021).

Nothing is trained (Learning Transferable Visual Models From Natural Language Supervision, ICML 2021, section 3).
The features of all modalities must come from one model, such as the two towers of the extractor
`open_clip`; vectors of different models share no space, whatever their sizes. The extractor of texts puts names of
classes into sentences and averages the vectors of these (`prompts`).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from crossmodal.modalities import Modality
from crossmodal.models import base
from crossmodal.models.base import Form


class Settings(base.Settings):
    """The modalities that are compared."""

    modalities: tuple[Modality, ...] = Field(
        ("image", "text"), min_length=2, description="modalities whose features share one space"
    )


class Model(base.Model):
    reads: ClassVar[dict[str, Form]] = {"image": "vector", "text": "vector"}
    trains: ClassVar[bool] = False

    def __init__(self, settings: Settings, context: base.Context):
        super().__init__(settings, context)
        one_size(self, context)

    def fit(self, batches: Iterable[base.Batch]) -> None:
        """Nothing is fitted."""

    def encode(self, modality: str, batch: base.Batch, partner: str) -> Tensor:
        """(B, D) unit vectors; `partner` makes no difference."""
        return F.normalize(batch.inputs[modality], dim=1)


def one_size(model: base.Model, context: base.Context) -> int:
    """The number of dimensions that the features of all modalities have.

    Raises
    ------
    ValueError : the numbers differ, so that the features are not those of one model.
    """
    sizes = {modality: context.shapes[modality][-1] for modality in model.reads}
    if len(set(sizes.values())) > 1:
        told = ", ".join(f"{modality} {size}" for modality, size in sizes.items())
        raise ValueError(
            f"compares features as they are, but these have different dimensions ({told}); let `inputs` name "
            "extractors of one model, such as the towers of open_clip"
        )
    return next(iter(sizes.values()))
