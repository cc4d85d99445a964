"""Where a captioner looked when it said each word: regions of the picture stay lit, the heavier, the brighter."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

FAINTEST = 0.05
"""Share of the heaviest weight of a caption below which a region is not drawn."""


@dataclass(frozen=True)
class Light:
    """A region of a picture in pixels, and how brightly it is lit."""

    x: float
    y: float
    width: float
    height: float
    opacity: float
    first: bool
    """Whether it is the heaviest region of the word."""


@dataclass(frozen=True)
class Look:
    """A word and the regions that the captioner attended to when it said the word."""

    word: str
    lights: list[Light]
    kept: float
    """The share of the attention that lies on regions, and not on a sentinel that stands for what was said before."""


def looks(words: Sequence[str], attention: Sequence[Sequence[float]], boxes: Sequence[Sequence[float]]) -> list[Look]:
    """The regions of each word, with opacities in proportion to the weights in the whole caption.

    Parameters
    ----------
    attention : (W, R) weights of the R regions for each of W words.
    boxes : (R, 4) corners x1, y1, x2, y2 of the regions in pixels.

    Raises
    ------
    ValueError : the numbers of words or of regions differ.
    """
    weights = np.asarray(attention, np.float64).reshape(len(words), -1)
    if len(words) and weights.shape[1] != len(boxes):
        raise ValueError(f"{weights.shape[1]} weights per word for {len(boxes)} boxes")
    heaviest = float(weights.max(initial=0.0)) or 1.0
    found = []
    for word, row in zip(words, weights, strict=True):
        lights = []
        for place in np.argsort(row, kind="stable"):  # the heaviest is drawn last, over the others
            if row[place] < FAINTEST * heaviest:
                continue
            x1, y1, x2, y2 = boxes[place]
            opacity = round(float(row[place]) / heaviest, 3)
            lights.append(Light(x1, y1, round(x2 - x1, 2), round(y2 - y1, 2), opacity, bool(place == np.argmax(row))))
        found.append(Look(word, lights, float(row.sum())))
    return found
