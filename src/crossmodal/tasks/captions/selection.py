"""The choice of an epoch on validation images: the only part of captioning that trained weights depend on."""

from __future__ import annotations

import torch

from crossmodal.corpus.corpus import Corpus
from crossmodal.evaluation.captions import cider
from crossmodal.models import base
from crossmodal.tasks.captions.references import generated, images_of


def validate(
    model: base.Model,
    corpus: Corpus,
    partition: str,
    device: torch.device,
    modalities: tuple[str, ...] | None = None,
) -> dict[str, float]:
    """CIDEr-D times 100 of a partition's images, whose captions take the likeliest word each time."""
    images = images_of(corpus, partition)
    said = [*generated(model, corpus, images, device, beam=1)]
    return {"cider": float(cider(said, images.references).d.mean())}
