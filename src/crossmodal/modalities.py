"""The lists of all modalities of items, and of the kinds of relevance between items."""

from __future__ import annotations

from typing import Literal, get_args

Modality = Literal["image", "text", "audio", "video", "mesh"]
MODALITIES: tuple[str, ...] = get_args(Modality)
Relevance = Literal["group", "label"]
"""Items are relevant to each other by group, such as an image and its captions, or by class."""
