"""How two boxes lie to each other, for systems that put such relations into words. y grows downwards."""

from __future__ import annotations

import numpy as np

NEAR = 0.35
"""Distance of two boxes, as a share of the side of the box around both, up to which they are beside each other."""


def overlap(a: np.ndarray, b: np.ndarray) -> float:
    """The share of the smaller of two boxes (x1, y1, x2, y2) that the other one covers."""
    sides = np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2])
    areas = [float(np.prod(box[2:] - box[:2])) for box in (a, b)]
    return float(np.prod(np.maximum(sides, 0))) / max(1e-9, min(areas))


def offset(a: np.ndarray, b: np.ndarray) -> tuple[float, float]:
    """How far the centre of `a` is to the right of and below that of `b`, as shares of the box around both."""
    around = np.maximum(a[2:], b[2:]) - np.minimum(a[:2], b[:2])
    apart = ((a[:2] + a[2:]) - (b[:2] + b[2:])) / 2
    return float(apart[0] / max(1e-9, around[0])), float(apart[1] / max(1e-9, around[1]))


def gap(a: np.ndarray, b: np.ndarray) -> float:
    """The largest distance between two boxes along an axis, as a share of the box around both; 0 if they overlap."""
    around = np.maximum(a[2:], b[2:]) - np.minimum(a[:2], b[:2])
    apart = np.maximum(a[:2], b[:2]) - np.minimum(a[2:], b[2:])
    return float(np.max(np.maximum(apart, 0) / np.maximum(around, 1e-9)))
