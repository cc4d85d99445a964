"""Readers of polygon meshes in OFF, OBJ and STL files (`plyfiles` reads PLY).

trimesh misreads some dialects of OBJ, and takes many times a file's size. Therefore these formats are read here.
"""

from __future__ import annotations

import re

import numpy as np
import pyarrow.compute as pc

from crossmodal.features.lightfield import meshtext
from crossmodal.features.lightfield.meshfiles import HEAD, check_count
from crossmodal.features.lightfield.meshtext import Lines
from crossmodal.features.lightfield.polygons import CutError, Faces, Polygons, spans

STL = np.dtype([("normal", "<f4", 3), ("vertices", "<f4", (3, 3)), ("attribute", "<u2")])


def off(data: bytes) -> Polygons:
    """Read an OFF file: the counts, one vertex per line (a normal or colour may follow it), and one face per line.

    Raises
    ------
    ValueError : the data is no OFF file in text form, or exceeds the limits.
    CutError : it has fewer lines than it states.
    """
    header = re.match(rb"\s*((?:ST)?C?N?)(4?n?)OFF\b|\s*((?:ST)?C?N?)(4?n?)OFF(?=\d)", data[:HEAD])
    if header is None:
        raise ValueError("it does not begin with OFF")
    if header[2] or header[4]:
        raise ValueError("its vertices do not have three dimensions")
    meshtext.check_lines(data)
    vertices: list[np.ndarray] = []
    faces, count, wanted, seen = Faces(), 0, -1, 0
    for part in meshtext.blocks(data, header.end()):
        lines = meshtext.lines(meshtext.without_comments(part))
        start = 0
        if wanted < 0 and len(lines):
            count, wanted = _off_counts(lines)
            start = 1
        stop = min(start + count - seen, len(lines))
        if start < stop:
            vertices.append(_points(lines, np.arange(start, stop), 0, seen))
            seen, start = seen + stop - start, stop
        stop = min(start + wanted - len(faces), len(lines))
        if start < stop:
            _off_faces(lines, np.arange(start, stop), faces)
        if seen + len(faces) == count + wanted:
            break
    if wanted < 0:
        raise ValueError("it does not state its numbers of vertices and faces")
    if seen + len(faces) < count + wanted:
        raise CutError(f"{seen + len(faces)} lines for {count} vertices and {wanted} faces")
    return faces.with_vertices(vertices)


def _off_counts(lines: Lines) -> tuple[int, int]:
    """The numbers of vertices and faces in the first line of an OFF file."""
    first = lines.text(0)
    if first.upper() == "BINARY":
        raise ValueError("it is a binary OFF file; save it as text")
    counts = [int(word) for word in first.split()[:2]]
    if len(counts) < 2 or min(counts) < 0:
        raise ValueError("it does not state its numbers of vertices and faces")
    check_count("vertex", counts[0])
    check_count("face", counts[1])
    return counts[0], counts[1]


def _points(lines: Lines, rows: np.ndarray, skip: int, number: int) -> np.ndarray:
    """(R, 3) coordinates in the first words of some lines.

    Parameters
    ----------
    skip : words before the coordinates.
    number : number of the first vertex, for the error.
    """
    counts = lines.counts[rows] - skip
    if (short := np.flatnonzero(counts < 3)).size:
        row = int(short[0])
        raise ValueError(f"vertex {number + row} has {counts[row]} coordinates: {lines.text(rows[row])!r}")
    places = lines.first[rows, None] + np.arange(skip, skip + 3)
    return meshtext.numbers(lines.words.take(places.ravel())).reshape(-1, 3)


def _off_faces(lines: Lines, rows: np.ndarray, faces: Faces) -> None:
    begins = lines.first[rows]
    counts = meshtext.whole_numbers(lines.words.take(begins))
    faces.add(counts)
    if (short := np.flatnonzero(lines.counts[rows] - 1 < counts)).size:
        row = int(short[0])
        number = len(faces) - len(rows) + row
        raise CutError(f"face {number} has {lines.counts[rows[row]] - 1} of {counts[row]} vertices")
    faces.corners.append(meshtext.whole_numbers(lines.words.take(spans(begins + 1, counts))))


def obj(data: bytes) -> Polygons:
    r"""Read the `v` and `f` statements of a Wavefront OBJ file.

    Indices count from 1, negative ones back from the last vertex. A statement may continue after a `\` at the end of a
    line. All other statements are ignored, so that names may be in any encoding.

    Raises
    ------
    ValueError : a statement lacks three coordinates or has malformed indices, or the file exceeds the limits.
    """
    meshtext.check_lines(data)
    vertices: list[np.ndarray] = []
    faces, seen, continued = Faces(), 0, b"\\" in data
    for part in meshtext.blocks(data, continued=continued):
        part = meshtext.without_comments(part)
        if continued:
            part = _joined(part)
        if b"/" in part:
            part = re.sub(rb"/[^\s]*", b"", part)
        lines = meshtext.lines(part)
        heads = lines.heads()
        is_vertex = pc.equal(heads, "v").to_numpy(zero_copy_only=False)
        rows = np.flatnonzero(is_vertex)
        before = seen + np.cumsum(is_vertex)
        check_count("vertex", seen := seen + len(rows))
        vertices.append(_points(lines, rows, 1, seen - len(rows) + 1))
        rows = np.flatnonzero(pc.equal(heads, "f").to_numpy(zero_copy_only=False))
        counts = lines.counts[rows] - 1
        check_count("face", len(faces) + len(rows))
        faces.add(counts)
        corners = meshtext.whole_numbers(lines.words.take(spans(lines.first[rows] + 1, counts)))
        # The index 0 is invalid; as -1 it stays out of range and is refused later.
        faces.corners.append(corners - 1 + (corners < 0) * (1 + np.repeat(before[rows], counts)))
    return faces.with_vertices(vertices)


def _joined(part: bytes) -> bytes:
    r"""Each statement that continues after a `\` at the end of a line, in one line; a name may end with one too."""
    joined = bytearray(part)
    for match in re.finditer(rb"^[ \t]*[vf][ \t](?:[^\n]*\\[ \t]*\n)+", part, re.MULTILINE):
        joined[match.start() : match.end()] = match[0].translate(bytes.maketrans(b"\\\n", b"  "))
    return bytes(joined)


def stl(data: bytes) -> Polygons:
    """Read an STL file, binary or as text; each triangle has three vertices of its own.

    Raises
    ------
    ValueError : it exceeds the limits, or a vertex has no three coordinates.
    CutError : it holds less than its header states.
    """
    count = int.from_bytes(data[80:84], "little")
    if len(data) == 84 + STL.itemsize * count:
        check_count("face", count)
        vertices = [np.frombuffer(data, STL, count, 84)["vertices"].reshape(-1, 3).astype(np.float64)]
    elif data.lstrip()[:5].lower() != b"solid":
        raise CutError(f"{max(0, len(data) - 84) // STL.itemsize:,} of {count:,} faces")
    else:
        vertices = _stl_vertices(data)
    points = sum(map(len, vertices))
    faces = Faces()
    faces.add(np.full(points // 3, 3))
    faces.corners.append(np.arange(points))
    return faces.with_vertices(vertices)


def _stl_vertices(data: bytes) -> list[np.ndarray]:
    vertices: list[np.ndarray] = []
    seen = 0
    for part in meshtext.blocks(data):
        lines = meshtext.lines(part.lower())
        rows = np.flatnonzero(pc.equal(lines.heads(), "vertex").to_numpy(zero_copy_only=False))
        vertices.append(_points(lines, rows, 1, seen))
        check_count("vertex", seen := seen + len(rows))
    if seen % 3 or (seen and b"endsolid" not in data[-1000:].lower()):
        raise CutError("its last line, endsolid, is missing")
    return vertices
