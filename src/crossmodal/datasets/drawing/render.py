"""Rendering of solids by orthographic projection and shading by one light, with distant triangles painted first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from PIL import Image, ImageDraw

from crossmodal.datasets.drawing.scenery import COLOURS, shade
from crossmodal.datasets.drawing.solids import Part, joined, turn

LIGHT = np.array([0.349, -0.549, 0.759])  # direction to the light: the viewer's right, depth, up
FIXED = {
    "black": (38, 38, 42),
    "white": (240, 240, 240),
    "yellow": (238, 196, 60),
    "metal": (168, 174, 182),
    "glass": (170, 204, 224),
    "wood": (150, 104, 62),
}
NATURAL: dict[str, tuple[int, int, int]] = {
    "brown": (128, 84, 48),
    "grey": (136, 136, 138),
    "tan": (206, 172, 124),
    **{name: rgb for name, (rgb, _) in COLOURS.items()},
}


def paints(colour: str, rng: np.random.Generator) -> dict[str, tuple[int, int, int]]:
    """{name of a paint: RGB} for an object whose main colour is `NATURAL[colour]`, with slight random variation."""
    base = np.array(NATURAL[colour], float) + rng.normal(0, 9, 3)
    return {
        **FIXED,
        "main": shade(base, 0),
        "dark": shade(base, -0.4 if colour != "black" else 0.25),
        "light": shade(base, 0.5 if colour != "white" else -0.15),
    }


def view(yaw: float, pitch: float, roll: float = 0.0) -> np.ndarray:
    """(3, 3) matrix to the viewer's axes right, depth and up, from angles in radians; at yaw 0 objects face right."""
    return turn("y", roll) @ turn("x", pitch) @ turn("z", yaw)


def draw(
    image: Image.Image,
    parts: Sequence[Part],
    paint: Mapping[str, tuple[int, int, int]],
    *,
    camera: np.ndarray,
    centre: tuple[float, float],
    size: float,
    unit: float | None = None,
) -> tuple[float, float, float, float]:
    """Paint an object onto `image`.

    Parameters
    ----------
    camera : (3, 3) matrix from `view`.
    centre : position in pixels of the middle of the object's box, or of its origin with `unit`.
    size : larger side of the object's box in pixels.
    unit : pixels per unit of length, instead of `size`, for moving objects, whose scale must not change.

    Returns
    -------
    (left, top, right, bottom) of the object in pixels.
    """
    vertices, faces = joined(parts)
    turned = vertices @ camera.T
    low, high = turned.min(0), turned.max(0)
    middle = np.zeros(3) if unit is not None else (low + high) / 2
    scale = unit if unit is not None else size / max(high[0] - low[0], high[2] - low[2], 1e-6)
    triangles = turned[faces]
    first, second = (triangles[:, 1] - triangles[:, 0]).T, (triangles[:, 2] - triangles[:, 0]).T
    normal = np.stack(
        [
            first[1] * second[2] - first[2] * second[1],
            first[2] * second[0] - first[0] * second[2],
            first[0] * second[1] - first[1] * second[0],
        ]
    )
    front = normal[1] < 0  # faces that point away are hidden by the others
    normal, triangles = normal[:, front], triangles[front]
    bright = 0.5 + 0.55 * np.clip(LIGHT @ normal / np.sqrt((normal**2).sum(0)), 0, 1)
    colours = np.repeat([paint[part.paint] for part in parts], [len(part.faces) for part in parts], axis=0)[front]
    fill = np.clip(bright[:, None] * colours, 0, 255).astype(int).tolist()
    across = (triangles[:, :, 0] - middle[0]) * scale + centre[0]
    down = (middle[2] - triangles[:, :, 2]) * scale + centre[1]
    points = np.stack([across, down], -1).reshape(-1, 6).tolist()
    canvas = ImageDraw.Draw(image)
    for k in np.argsort(-triangles[:, :, 1].sum(1), kind="stable").tolist():
        canvas.polygon(points[k], fill=tuple(fill[k]))
    left, right = (np.array([low[0], high[0]]) - middle[0]) * scale + centre[0]
    top, bottom = (middle[2] - np.array([high[2], low[2]])) * scale + centre[1]
    return float(left), float(top), float(right), float(bottom)
