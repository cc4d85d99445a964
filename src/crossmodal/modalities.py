"""The modalities of items, and by what items may be relevant to each other: the one list of each."""

from __future__ import annotations

from typing import Literal, get_args

Modality = Literal["image", "text", "audio", "video", "mesh"]
MODALITIES: tuple[str, ...] = get_args(Modality)
Relevance = Literal["group", "label"]
"""Items of one group belong together, such as an image and its captions; or those of one class answer each other."""
