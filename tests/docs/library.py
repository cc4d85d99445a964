"""Arrays for the example of docs/evaluation.md: images, and captions that equal them."""

from __future__ import annotations

import numpy as np


def arrays() -> dict[str, np.ndarray]:
    """Twenty images of unit length with five equal captions each; their groups and labels; another system's ranks."""
    rng = np.random.default_rng(0)
    images = rng.normal(size=(20, 8))
    images /= np.linalg.norm(images, axis=1, keepdims=True)
    groups = np.repeat(np.arange(20), 5)
    return {
        "images": images,
        "captions": images[groups],
        "image_groups": np.arange(20),
        "caption_groups": groups,
        "image_labels": np.arange(20) % 4,
        "caption_labels": groups % 4,
        "other_image_ranks": np.full(20, 11),
    }
