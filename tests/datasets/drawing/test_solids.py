"""Solids: closed, with faces that look outwards, so that hidden faces are told by their normals; families that vary."""

from __future__ import annotations

import numpy as np
import pytest
import trimesh
from PIL import Image

from crossmodal.datasets.drawing import render, solids
from crossmodal.datasets.drawing.classes import NAMES
from crossmodal.datasets.drawing.pictures import FAMILIES
from crossmodal.datasets.drawing.work import generator

SQUARE = [(1, 0), (0, 1), (-1, 0), (0, -1)]
CASES = {
    "box": (solids.box((1, 2, 3), (1, 2, 3)), 6),
    "plate": (solids.plate(SQUARE, 0.1), 0.2),
    "cylinder": (solids.loft([(0, 0, 0), (0, 0, 2)], [1, 1], n=200), 2 * np.pi),
    "cone downwards": (solids.limb((0, 0, 3), (0, 0, 0), 1, 0, n=200), np.pi),
    "ellipsoid": (solids.ellipsoid((0, 0, 1), (1, 2, 3), rings=80, n=200), 8 * np.pi),
    "ring": (solids.ring((0, 0, 0), 2, 0.5, n=200, m=100), 2 * np.pi**2 * 2 * 0.25),
    "wheel": (solids.wheel((0, 0, 0), 1, 0.5, n=200), np.pi / 2),
    "bent limb": (solids.loft([(0, 0, 0), (1, 0, 0.3), (2, 0.2, 0)], [0.2, 0.1, 0.2]), None),
    "mirrored": (solids.box((1, 2, 3), (1, 2, 3)).mirrored(), 6),
}


@pytest.mark.parametrize("name", CASES)
def test_closed_and_outwards(name):
    part, volume = CASES[name]
    solid = trimesh.Trimesh(part.vertices, part.faces)
    assert solid.is_watertight
    assert solid.is_winding_consistent
    assert solid.volume > 0
    if volume is not None:
        assert solid.volume == pytest.approx(volume, rel=2e-3)


def test_turning_is_counter_clockwise_and_about_a_point():
    assert solids.turn("z", np.pi / 2) @ [1, 0, 0] == pytest.approx([0, 1, 0])
    assert solids.turn("x", np.pi / 2) @ [0, 1, 0] == pytest.approx([0, 0, 1])
    part = solids.box((1, 1, 0), (0.2, 0.2, 0.2)).moved((0, 0, 5), solids.turn("z", np.pi), about=(1, 0, 0))
    assert part.vertices.mean(0) == pytest.approx([1, -1, 5])


@pytest.mark.parametrize("kind", NAMES)
def test_a_family_varies_and_its_members_move_as_one_thing(kind):
    def member(number: int, beat: float) -> np.ndarray:
        rng = generator(1, number)
        return solids.joined(FAMILIES[kind](lambda low, high: float(rng.uniform(low, high)), beat))[0]

    assert np.array_equal(member(0, 0.1), member(0, 0.1))
    moved = [np.abs(member(number, 0.1) - member(number, 0.35)).max() for number in range(8)]
    assert (max(moved) > 0.005) == (kind not in ("car", "boat", "train"))  # those move whole
    boxes = np.array([np.ptp(member(number, 0.0), axis=0) for number in range(8)])
    shape = boxes / boxes.max(1, keepdims=True)
    assert shape.std(0).max() > 0.01
    assert all(np.isfinite(member(number, 0.0)).all() for number in range(8))


def test_the_nearer_of_two_things_hides_the_other():
    image = Image.new("RGB", (60, 60), (0, 0, 0))
    near, far = solids.box((0, -3, 0), (1, 1, 1), paint="yellow"), solids.box((0, 3, 0), (1, 1, 1), paint="black")
    paint = {**render.FIXED}
    box = render.draw(image, [far, near], paint, camera=render.view(0, 0), centre=(30, 30), size=40)
    assert box == pytest.approx((10, 10, 50, 50), abs=0.5)
    red, _, blue = image.getpixel((30, 30))
    assert red > blue + 50
    again = Image.new("RGB", (60, 60), (0, 0, 0))
    render.draw(again, [near, far], paint, camera=render.view(0, 0), centre=(30, 30), size=40)
    assert again.tobytes() == image.tobytes()
    assert image.getpixel((5, 5)) == (0, 0, 0)
