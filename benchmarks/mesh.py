"""LightField descriptors of meshes of 5,000 faces against their reading and matrix product alone, in the same run."""

from __future__ import annotations

import logging
import sys
import tempfile
import time
from pathlib import Path
from unittest import mock

import numpy as np
import pandas as pd
import torch
import trimesh
from common import alternate, peak, processor, save
from scipy.spatial.distance import cdist

from crossmodal.features import mesh
from crossmodal.features.engine import extraction
from crossmodal.features.lightfield import dodecahedron, moments, silhouettes

ROUNDS = 15
GOAL = 0.3  # seconds a mesh


def smooth() -> trimesh.Trimesh:
    """5,120 faces: a ball with bumps."""
    shape = trimesh.creation.icosphere(subdivisions=4)
    x, y, z = shape.vertices.T
    shape.vertices *= (1 + 0.3 * np.sin(5 * x + 1) * np.cos(4 * y) + 0.2 * np.sin(7 * z))[:, None]
    return shape


def rough() -> trimesh.Trimesh:
    """5,040 faces of 70 bars that cross each other: many outlines, holes and small parts."""
    rng = np.random.default_rng(0)
    bars = []
    for _ in range(70):
        bar = trimesh.creation.cylinder(0.02, 2, sections=18)
        bar.apply_transform(trimesh.transformations.random_rotation_matrix(rng.random(3)))
        bar.apply_translation(rng.normal(0, 0.3, 3))
        bars.append(bar)
    return trimesh.util.concatenate(bars)


def measure(name: str, shape: trimesh.Trimesh) -> dict:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.off"
        shape.export(path)
        pictures = torch.from_numpy(np.random.default_rng(0).random((100, 256 * 256), np.float32))
        drawing = []

        def timed(*given, draw=silhouettes.draw, **named) -> None:
            began = time.perf_counter()
            draw(*given, **named)
            drawing.append(time.perf_counter() - began)

        def ours() -> None:
            with mock.patch.object(silhouettes, "draw", timed):
                mesh.lightfield(mesh.read(path))

        cases = {
            "read and describe": ours,
            "bare reading": lambda: trimesh.load_mesh(path, process=False),
            "bare matrix product": lambda: pictures @ moments.table(256),
        }
        seconds = alternate(cases, ROUNDS)
        drawn = sum(drawing) / len(drawing) * 10  # light fields
        core = processor(ours, ROUNDS)
    share = drawn / seconds["read and describe"]
    floor = seconds["bare reading"] + seconds["bare matrix product"]
    print(
        f"{name}, {len(shape.faces)} faces: {seconds['read and describe']:.3f} s a mesh on one core (goal {GOAL}; "
        f"{core:.3f} by the core's time alone), {seconds['read and describe'] / floor:.1f} times reading and product "
        f"alone; {share:.0%} of it drawing, {drawn * 10:.2f} ms a view"
    )
    return {"faces": len(shape.faces), "seconds": seconds, "core_seconds": core, "drawing_share": share}


def distances() -> dict:
    """Milliseconds a pair, against the bare L1 distances of the same views."""
    found = np.random.default_rng(0).integers(0, 256, (24, mesh.WIDTH)).astype(np.float32)
    views = found.reshape(-1, moments.NUMBERS)
    seconds = alternate(
        {
            "ours": lambda: mesh.lightfield_distance_matrix(found, found),
            "bare": lambda: cdist(views, views, "cityblock"),
        },
        5,
    )
    pairs = {name: value / len(found) ** 2 * 1000 for name, value in seconds.items()}
    rotations = len(dodecahedron.permutations())
    print(f"distance: {pairs['ours']:.2f} ms a pair with {rotations} rotations, {pairs['bare']:.2f} ms of bare cdist")
    return pairs


def main() -> None:
    logging.disable(logging.WARNING)
    torch.set_num_threads(1)
    found = {name: measure(name, shape) for name, shape in (("smooth", smooth()), ("rough", rough()))}
    found["distance_ms"] = distances()
    found["peak_mib"] = {str(count): peak(__file__, count) for count in (50, 400)}
    print("peak memory in MiB, by meshes: ", found["peak_mib"])
    save("mesh", found)


def run_once(count: int) -> None:
    """Extract `count` items that are one small mesh, for the peak of memory."""
    with tempfile.TemporaryDirectory() as name:
        trimesh.creation.box([1, 2, 3]).export(Path(name) / "a.off")
        ids = [str(n) for n in range(count)]
        items = pd.DataFrame({"item_id": ids, "modality": "mesh", "partition": "train", "source": "a.off"})
        extraction.run("mesh", items, Path(name), mesh.Settings(), Path(name) / "mesh.x", threads=2, modality="mesh")


if __name__ == "__main__":
    run_once(int(sys.argv[2])) if "--peak" in sys.argv else main()
