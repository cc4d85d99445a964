"""LightField descriptors of meshes, which describe 100 silhouettes of a shape seen by cameras all around it.

Source: Chen et al., "On Visual Similarity Based 3D Model Retrieval", 2003. The silhouettes are rendered by this package
without a GPU or OpenGL; colours, textures and normals are ignored.
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import trimesh
from pydantic import Field

from crossmodal.core import limits
from crossmodal.core.errors import UserError
from crossmodal.features.engine import extraction
from crossmodal.features.engine.extraction import Given, Item, Recipe, Work
from crossmodal.features.lightfield import (
    dodecahedron,
    gltf,
    meshfiles,
    moments,
    plyfiles,
    polygonfiles,
    polygons,
    silhouettes,
)
from crossmodal.features.lightfield.dodecahedron import FIELDS, VIEWS
from crossmodal.features.lightfield.moments import FOURIER, MOMENTS, NUMBERS

GRID = 2**20  # points of the longest side; rounding to them makes the result independent of shifts and units
WIDTH = FIELDS * VIEWS * NUMBERS  # 4700
WEIGHTS = np.repeat([1.0, 2.0, 2.0, 1.0], [MOMENTS, FOURIER, 1, 1])  # moments, Fourier, circularity, eccentricity
FORMATS = ("off", "obj", "ply", "stl", "glb", "gltf")
# Those that are read without trimesh.
STATED = {"off": polygonfiles.off, "obj": polygonfiles.obj, "ply": plyfiles.ply, "stl": polygonfiles.stl}
CHUNK = 64  # gallery descriptors that are compared with a query at once


class Settings(extraction.Settings):
    """Settings of the LightField descriptor."""

    size: int = Field(256, ge=16, le=silhouettes.MOST, description="width and height of a silhouette in pixels")
    bounds: Literal["hexagon", "box"] = Field(
        "hexagon",
        description="shape whose middle centres a silhouette; box: upright bounding box, as in the public code; "
        "hexagon: bounding hexagon that turns with the cameras, so that the descriptor is invariant to rotations of "
        "the dodecahedron",
    )
    numbers: Literal["bytes", "floats"] = Field(
        "bytes", description="whether each number x between 0 and 1 is stored as min(255, floor(256 x)) or as it is"
    )
    shard: int = Field(128, ge=1, description="number of meshes after which results are written")


# -- meshes -----------------------------------------------------------------------------------------------------------


def read(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """(V, 3) float64 vertices and (F, 3) int64 triangles of a mesh file, or of all meshes in an archive.

    Polygons are cut into triangles that cover exactly the polygon, and all meshes of a scene are joined.

    Raises
    ------
    UserError : the file is missing, too large, truncated (as far as its format shows it) or no mesh.
    """
    try:
        meshfiles.check(path)
        parts = [_read(name, data, path) for name, data in meshfiles.members(path, FORMATS)]
    except UserError:
        raise
    except polygons.CutError as error:
        raise UserError(f"{path}: is cut off: {error}; fetch it again") from None
    except OSError as error:
        raise UserError(
            f"{path}: cannot be read ({error.strerror or error}); complete the mesh folder and run again"
        ) from None
    except Exception as error:  # trimesh does not document what broken files raise
        raise UserError(
            f"{path}: is damaged or no mesh ({error}); expected {', '.join(FORMATS)}, or an archive of these"
        ) from None
    vertices = polygons.joined([points for points, _ in parts])
    starts = np.cumsum([0, *(len(points) for points, _ in parts)])
    faces = polygons.joined([corners + starts[n] if n else corners for n, (_, corners) in enumerate(parts)])
    if len(faces) > (most := limits.current().faces):
        raise UserError(f"{path}: has {len(faces):,} faces, expected at most {most:,} (`limits.faces`); simplify it")
    return vertices, faces


def _read(name: str, data: bytes, path: Path) -> tuple[np.ndarray, np.ndarray]:
    """The vertices and triangles of one file, or of a file in the archive `path`."""
    kind = meshfiles.suffix(name)
    if kind in STATED and (stated := STATED[kind](data)) is not None:
        return stated.vertices, polygons.triangles(stated)
    if kind not in FORMATS:
        raise ValueError(f"its name ends with .{kind}")
    if kind in ("glb", "gltf"):
        data = gltf.geometry(data, kind, str(path))
    resolver = meshfiles.Beside(path)
    mesh = trimesh.load_mesh(io.BytesIO(data), file_type=kind, process=False, resolver=resolver)
    vertices, faces = (np.asarray(getattr(mesh, key, np.empty((0, 3)))) for key in ("vertices", "faces"))
    return vertices.astype(np.float64), faces.astype(np.int64)


def normalised(vertices: np.ndarray, faces: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The mesh with its bounding box centred at the origin and scaled to a longest side of 1.

    Unused vertices and faces without an area are removed, and vertices at the same position are merged.

    Raises
    ------
    UserError : the mesh has no faces or no extent, or a face uses a missing or non-finite vertex.
    """
    if not len(faces):
        raise UserError("no faces; expected a mesh of triangles or polygons, not points or lines alone")
    used, faces = np.unique(faces, return_inverse=True)
    if used[0] < 0 or used[-1] >= len(vertices):
        raise UserError(f"a face of vertex {used[-1] if used[0] >= 0 else used[0]}; there are {len(vertices)}")
    vertices, faces = vertices[used], faces.reshape(-1, 3)
    bad = int((~np.isfinite(vertices).all(1)).sum())
    if bad:
        raise UserError(f"{bad} of {len(used)} vertices are no finite numbers; export the mesh again")
    low, high = vertices.min(0), vertices.max(0)
    with np.errstate(over="ignore"):
        longest = float((high - low).max())
    if not 0 < longest < np.inf:
        raise UserError(f"an extent of {longest:g}; expected vertices that lie apart")
    grid = np.rint((vertices - (low / 2 + high / 2)) * (GRID / longest)).astype(np.int64)
    bits = GRID.bit_length()  # bits of a coordinate from -GRID / 2 to GRID / 2
    keys = ((grid + GRID // 2) << np.array([2 * bits, bits, 0])).sum(1)
    _, first, place = np.unique(keys, return_index=True, return_inverse=True)
    grid, faces = grid[first], place[faces]
    a, b, c = (grid[corner] for corner in faces.T)
    faces = faces[np.cross(b - a, c - a).any(1)]
    if not len(faces):
        raise UserError("no face with an area; expected a surface")
    left, faces = np.unique(faces, return_inverse=True)
    return grid[left] / GRID, faces.reshape(-1, 3)


# -- descriptors ------------------------------------------------------------------------------------------------------


def lightfield(mesh: Any, settings: Settings | None = None) -> np.ndarray:
    """(4700,) float32 LightField descriptor: 47 numbers (`shapes.describe`) for each of 10 views of 10 light fields.

    All silhouettes of a light field have the same scale, at which the furthest vertex lies one pixel from the border.

    Parameters
    ----------
    mesh : vertices (V, 3) and faces (F, 3), or a mesh or a scene of trimesh.

    Raises
    ------
    UserError : for the same reasons as `normalised`, or if the mesh is so thin that no silhouette covers a pixel.
    """
    settings = settings or Settings()
    if isinstance(mesh, trimesh.Scene):
        mesh = mesh.to_mesh()
    vertices, faces = mesh if isinstance(mesh, tuple) else (mesh.vertices, getattr(mesh, "faces", ()))
    vertices, faces = normalised(np.asarray(vertices, np.float64), np.asarray(faces, np.int64))
    edges = silhouettes.edges_of(faces)
    pictures = np.empty((FIELDS, VIEWS, settings.size, settings.size), bool)
    for field, cameras in enumerate(dodecahedron.cameras()):
        silhouettes.draw(_projected(vertices, cameras, settings), faces, edges, out=pictures[field])
    if not pictures.any():
        raise UserError(
            f"a mesh that is thinner than a pixel from every side; set a larger `size` than {settings.size}"
        )
    descriptors = moments.describe(pictures.reshape(-1, settings.size, settings.size))
    if settings.numbers == "bytes":
        descriptors = np.minimum(255, np.floor(256 * descriptors))
    return descriptors.ravel().astype(np.float32)


def _projected(vertices: np.ndarray, cameras: np.ndarray, settings: Settings) -> np.ndarray:
    """(2, V, 10) int32 grid points of the vertices in the ten pictures of a light field."""
    points2d = (vertices @ cameras[:, :2].reshape(-1, 3).T).reshape(len(vertices), VIEWS, 2)
    axes = {"box": 2, "hexagon": 3}[settings.bounds]
    angles = np.pi * (0.5 + np.arange(axes) / axes)  # as the upward axis, the hexagon's axes point to neighbours
    axis = np.stack([np.cos(angles), np.sin(angles)])
    along = points2d @ axis
    points2d -= (along.max(0) + along.min(0)) / axes @ axis.T
    half = settings.size / 2
    scale = (half - 1) / np.sqrt((points2d**2).sum(2).max())
    points = np.rint((points2d * scale + half) * silhouettes.SUB).astype(np.int32)
    return np.ascontiguousarray(points.transpose(2, 0, 1))


def lightfield_distance(a: np.ndarray, b: np.ndarray) -> float:
    """Distance between two descriptors (4700,); see `lightfield_distance_matrix`."""
    return float(lightfield_distance_matrix(a[None], b[None])[0, 0])


def lightfield_distance_matrix(queries: np.ndarray, gallery: np.ndarray) -> np.ndarray:
    """(n, m) float32 distances between descriptors (n, 4700) and (m, 4700).

    The distance of Chen et al. (2003), eqs. 1 and 2, is the sum of the weighted L1 distances of ten pairs of views,
    minimised over the 10 x 10 pairs of light fields and the 60 rotations of one camera system onto the other.

    Raises
    ------
    ValueError : the descriptors are not of size 4700.
    """
    for descriptors in (queries, gallery):
        if descriptors.ndim != 2 or descriptors.shape[1] != WIDTH:
            raise ValueError(f"descriptors of shape {descriptors.shape}; expected (n, {WIDTH})")
    weighted = [
        torch.from_numpy((np.asarray(x, np.float64).reshape(len(x), -1, NUMBERS) * WEIGHTS).astype(np.float32))
        for x in (queries, gallery)
    ]
    # (view, view, rotation): 1 where the rotation maps the one view to the other.
    pairs = np.zeros((VIEWS, VIEWS, len(dodecahedron.permutations())), np.float32)
    for rotation, places in enumerate(dodecahedron.permutations()):
        pairs[np.arange(VIEWS), places, rotation] = 1
    pairs = torch.from_numpy(pairs.reshape(VIEWS * VIEWS, -1))
    out = np.empty((len(queries), len(gallery)), np.float32)
    for n, query in enumerate(weighted[0]):
        for start in range(0, len(gallery), CHUNK):
            others = weighted[1][start : start + CHUNK]
            views = torch.cdist(query, others.flatten(0, 1), p=1)
            views = views.view(FIELDS, VIEWS, len(others), FIELDS, VIEWS).permute(2, 0, 3, 1, 4)
            sums = views.reshape(len(others), FIELDS * FIELDS, VIEWS * VIEWS) @ pairs
            out[n, start : start + CHUNK] = sums.flatten(1).amin(1).numpy()
    return out


# -- extraction -------------------------------------------------------------------------------------------------------


def recipe(settings: Settings, given: Given) -> Recipe:
    """Recipe for the (N, 4700) descriptors of meshes.

    Raises
    ------
    UserError : a mesh cannot be read or described.
    """

    def load(item: Item) -> np.ndarray:
        mesh = read(item.path)
        try:
            return lightfield(mesh, settings)
        except UserError as error:
            raise UserError(f"{item.path}: {error}") from None

    return Recipe(
        lambda listed: Work(load=load, compute=np.stack, facts={"device": "cpu"}),
        {"layout": "light field, view, number: 35 moments, 10 Fourier, circularity, eccentricity"},
        packages=("scipy", "trimesh"),
    )
