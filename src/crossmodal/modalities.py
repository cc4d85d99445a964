"""The modalities of items: the one list of them."""

from __future__ import annotations

from typing import Literal, get_args

Modality = Literal["image", "text", "audio", "video", "mesh"]
MODALITIES: tuple[str, ...] = get_args(Modality)
