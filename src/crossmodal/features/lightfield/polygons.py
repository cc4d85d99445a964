"""Readers of polygon meshes in OFF, OBJ and PLY files.

trimesh cuts each polygon into a fan from its first vertex, which fills the notches of non-convex polygons, and
misreads some dialects of OBJ. Therefore this module reads these three formats itself.
"""

from __future__ import annotations

import io
import re
import struct
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice

import numpy as np

from crossmodal.core import limits
from crossmodal.features.lightfield.meshfiles import Corners, check_count

WIDE = 40  # bytes of a number in text, far more than any program writes


@dataclass(frozen=True)
class Polygons:
    """A mesh whose faces have any number of corners."""

    vertices: np.ndarray  # (V, 3) float64
    corners: np.ndarray  # (sum of counts,) int64 vertex numbers of all faces, concatenated
    counts: np.ndarray  # (F,) int64 number of corners of each face

    @classmethod
    def of(cls, vertices: list[list[float]] | np.ndarray, faces: list[list[int]] | np.ndarray) -> Polygons:
        """A mesh of vertices (V, 3) and faces; faces with fewer than three corners are left out."""
        if isinstance(faces, np.ndarray):  # (F, n): all faces have n corners
            faces = faces.astype(np.int64) if faces.shape[1] > 2 else np.empty((0, 3), np.int64)
            counts = np.full(len(faces), faces.shape[1], np.int64)
            return cls(np.asarray(vertices, np.float64).reshape(-1, 3), faces.ravel(), counts)
        faces = [face for face in faces if len(face) > 2]  # points and edges cover nothing
        flat = np.fromiter((corner for face in faces for corner in face), np.int64)
        counts = np.fromiter(map(len, faces), np.int64, len(faces))
        return cls(np.asarray(vertices, np.float64).reshape(-1, 3), flat, counts)


def off(data: bytes) -> Polygons:
    """Read an OFF file: the counts, one vertex per line (a normal or colour may follow it), and one face per line.

    Raises
    ------
    ValueError : the data is no OFF file in text form, or exceeds the limits.
    CutError : it has fewer lines than it states.
    """
    header = re.match(rb"\s*((?:ST)?C?N?)(4?n?)OFF\b|\s*((?:ST)?C?N?)(4?n?)OFF(?=\d)", data)
    if header is None:
        raise ValueError("it does not begin with OFF")
    if header[2] or header[4]:
        raise ValueError("its vertices do not have three dimensions")
    lines = (line for line in _lines(data[header.end() :]) if line and line[:1] != b"#")
    first = next(lines, b"")
    if first.upper() == b"BINARY":
        raise ValueError("it is a binary OFF file; save it as text")
    counts = [int(number) for number in first.split(b"#")[0].split()[:2]]
    if len(counts) < 2 or min(counts) < 0:
        raise ValueError("it does not state its numbers of vertices and faces")
    count, faces = counts
    check_count("vertex", count)
    check_count("face", faces)
    if (plain := _triangles_of_off(data, counts)) is not None:
        return plain
    rest = list(islice(lines, count + faces))
    if len(rest) < count + faces:
        raise CutError(f"{len(rest)} lines for {count} vertices and {faces} faces")
    vertices = [_numbers(line, "vertex", number) for number, line in enumerate(rest[:count])]
    bounded = Corners()
    return Polygons.of(
        vertices, [_face(line, number, bounded) for number, line in enumerate(rest[count : count + faces])]
    )


def _triangles_of_off(data: bytes, counts: list[int]) -> Polygons | None:
    """An OFF file of three numbers for each vertex and triangles alone, parsed at once; None for any other file."""
    place = re.match(rb"\s*(?:ST)?OFF\s+(\d+)[ \t]+(\d+)[^\n]*\n", data)
    if place is None or [int(place[1]), int(place[2])] != counts or b"#" in data:
        return None
    count, faces = counts
    wanted = 3 * count + 4 * faces
    numbers = _all_numbers(data[place.end() :], np.float64, wanted)
    if numbers is None or len(numbers) != wanted:
        return None
    corners = numbers[3 * count :].reshape(-1, 4).astype(np.int64)
    if (corners != numbers[3 * count :].reshape(-1, 4)).any() or (corners[:, 0] != 3).any():
        return None
    return Polygons.of(numbers[: 3 * count].reshape(-1, 3), corners[:, 1:])


def _all_numbers(text: bytes, kind: type, count: int) -> np.ndarray | None:
    """The numbers of a text with whitespace between them; None if it holds anything else, or far more than `count`."""
    if len(text) > WIDE * (count + 1):
        return None
    with warnings.catch_warnings():
        warnings.simplefilter("error", DeprecationWarning)  # of text that is no number: the reading by lines says where
        try:
            return np.fromstring(text, kind, sep=" ")
        except (ValueError, DeprecationWarning):
            return None


class CutError(ValueError):
    """A file is truncated: it holds less than its header states."""


def _face(line: bytes, number: int, bounded: Corners) -> list[int]:
    parts = line.split(None, bounded.most + 1)
    count = bounded.check(int(parts[0]), number)
    corners = [int(part) for part in parts[1 : 1 + count]]
    if len(corners) < count:
        raise CutError(f"face {number} has {len(corners)} of {count} vertices")
    return corners


def _numbers(line: bytes, what: str, number: int) -> list[float]:
    """The three coordinates at the start of a line."""
    numbers = [float(part) for part in line.split(None, 3)[:3]]
    if len(numbers) < 3:
        raise ValueError(f"{what} {number} has {len(numbers)} coordinates: {line[:40]!r}")
    return numbers


def obj(data: bytes) -> Polygons:
    r"""Read the `v` and `f` statements of a Wavefront OBJ file.

    Indices count from 1, negative ones back from the last vertex. A statement may continue after a `\` at the end of a
    line. All other statements are ignored, so that names may be in any encoding.

    Raises
    ------
    ValueError : a statement lacks three coordinates or has malformed indices, or the file exceeds the limits.
    """
    vertices: list[list[float]] = []
    faces: list[list[int]] = []
    check_count("vertex", data.count(b"v "))
    check_count("face", data.count(b"\nf"))
    if (count := data.count(b"\n")) > (most := 12 * limits.current().faces):  # of vertices, normals and textures
        raise ValueError(f"it has {count:,} lines, expected at most {most:,}, by `limits.faces` in params.yaml")
    if (plain := _triangles_of_obj(data)) is not None:
        return plain
    lines, more, commented, bounded = _lines(data), b"\\" in data, b"#" in data, Corners()
    for line in lines:
        head = line[:2]
        if head not in (b"v ", b"v\t", b"f ", b"f\t"):
            continue
        if more:
            parts = []
            while line.endswith(b"\\"):
                parts.append(line[:-1])
                line = next(lines, b"")
            line = b" ".join([*parts, line])
        if commented:
            line = line.partition(b"#")[0]
        if head[:1] == b"v":
            vertices.append(_numbers(line[2:], "vertex", len(vertices) + 1))
            continue
        parts = line[2:].split(None, bounded.most + 1)
        bounded.check(len(parts), len(faces))
        corners = [int(part.partition(b"/")[0]) for part in parts] if b"/" in line else [*map(int, parts)]
        # The index 0 is invalid; as -1 it stays out of range and is refused later.
        faces.append([n - 1 if n >= 0 else len(vertices) + n for n in corners])
    return Polygons.of(vertices, faces)


def _triangles_of_obj(data: bytes) -> Polygons | None:
    """Triangles of an OBJ file that holds no other polygons, parsed at once; None for any other file."""
    if b"\\" in data or re.search(rb"\n[ \t]+[vf]", data):
        return None
    if b"\r" in data:
        data = data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    lines = re.findall(rb"^v[ \t]([^\n]*)", data, re.MULTILINE)
    points, count = b" ".join(lines), 3 * len(lines)
    lines = re.findall(rb"^f[ \t]([^\n]*)", data, re.MULTILINE)
    # 0 is no vertex: it marks the end of each face.
    corners, faces_count = b" 0 ".join(lines), 4 * len(lines)
    if b"#" in points or b"#" in corners or b"-" in corners:
        return None
    if len(corners) <= 2 * WIDE * (faces_count + 1):
        corners = re.sub(rb"/[^ \t]*", b"", corners) + b" 0"
    vertices, faces = _all_numbers(points, np.float64, count), _all_numbers(corners, np.int64, faces_count)
    if vertices is None or faces is None:
        return None
    counts = (data.count(b"\nv ") + data.count(b"\nv\t") + data.startswith((b"v ", b"v\t"))) * 3, len(faces) // 4 * 4
    if (len(vertices), len(faces)) != counts or ((faces.reshape(-1, 4) == 0) != [[False, False, False, True]]).any():
        return None
    return Polygons.of(vertices.reshape(-1, 3), faces.reshape(-1, 4)[:, :3] - 1)


def _lines(data: bytes) -> Iterator[bytes]:
    """Lines without surrounding whitespace; they may end as on any operating system."""
    for line in io.BytesIO(data.replace(b"\r\n", b"\n").replace(b"\r", b"\n") if b"\r" in data else data):
        yield line.strip()


PLY_TYPES = {
    **{"char": "i1", "int8": "i1", "uchar": "u1", "uint8": "u1", "short": "i2", "int16": "i2", "ushort": "u2"},
    **{"uint16": "u2", "int": "i4", "int32": "i4", "uint": "u4", "uint32": "u4", "float": "f4", "float32": "f4"},
    **{"double": "f8", "float64": "f8"},
}
CODES = {"i1": "b", "u1": "B", "i2": "h", "u2": "H", "i4": "i", "u4": "I", "f4": "f", "f8": "d"}


@dataclass(frozen=True)
class _Element:
    name: str
    count: int
    properties: list[tuple[str, str, str]]  # name, type of a list's length (empty if it is no list), type of the values


def ply(data: bytes) -> Polygons | None:
    """Read a PLY file with vertices and faces; None if it lacks either, for example because it holds triangle strips.

    Raises
    ------
    ValueError : the data is no PLY file, has a damaged header, or exceeds the limits.
    CutError : it holds less than its header states.
    """
    end = re.search(rb"end_header[ \t]*\r?\n", data)
    if not data.startswith(b"ply") or end is None:
        raise ValueError("it has no header of a PLY file")
    kind, elements = _ply_header(data[: end.start()].decode("latin-1"))
    body = data[end.end() :]
    for element in elements:
        check_count(element.name, element.count)
    binary = None if kind == "ascii" else _Binary(body, "<" if "little" in kind else ">")
    read = _ascii_rows(body) if binary is None else binary.rows
    vertices: list[list[float]] | np.ndarray | None = None
    faces: list[list[int]] | np.ndarray | None = None
    for element in elements:
        names = [name for name, _, _ in element.properties]
        whole = None if binary is None else binary.table(element)
        rows = [] if whole is not None else read(element)
        if element.name == "vertex" and {"x", "y", "z"} <= set(names):
            if whole is not None:
                vertices = np.stack([whole[f"p{names.index(axis)}"] for axis in "xyz"], axis=1).astype(np.float64)
                continue
            places = [names.index(axis) for axis in "xyz"]
            vertices = [[row[place] for place in places] for row in rows]
        elif element.name == "face" and (listed := {"vertex_indices", "vertex_index"} & set(names)):
            place = names.index(listed.pop())
            if whole is not None and whole[f"p{place}"].ndim == 2:
                faces = whole[f"p{place}"]
                continue
            bounded = Corners()
            faces = []
            for number, row in enumerate(rows):
                bounded.check(len(row[place]), number)
                faces.append([int(corner) for corner in row[place]])
        else:
            for _ in rows:  # skips to the next element
                pass
    if vertices is None or faces is None:
        return None
    return Polygons.of(vertices, faces)


def _ply_header(text: str) -> tuple[str, list[_Element]]:
    kind, elements = "", []
    for line in text.split("\n"):
        words = line.split()
        if words[:1] == ["format"] and len(words) > 1:
            kind = words[1]
        elif words[:1] == ["element"] and len(words) == 3:
            elements.append(_Element(words[1], int(words[2]), []))
        elif words[:2] == ["property", "list"] and elements and len(words) == 5:
            elements[-1].properties.append((words[4], PLY_TYPES[words[2]], PLY_TYPES[words[3]]))
        elif words[:1] == ["property"] and elements and len(words) == 3:
            elements[-1].properties.append((words[2], "", PLY_TYPES[words[1]]))
    if kind not in ("ascii", "binary_little_endian", "binary_big_endian"):
        raise ValueError(f"it is of the format {kind!r}")
    return kind, elements


def _ascii_rows(body: bytes) -> Callable[[_Element], Iterator[list]]:
    words = _words(body)

    def rows(element: _Element) -> Iterator[list]:
        for number in range(element.count):
            row: list = []
            for _, length, _ in element.properties:
                wanted = _bounded(int(next(words, b"0"))) if length else 1
                values = [float(word) for word in islice(words, wanted)]
                if len(values) < wanted:
                    raise CutError(f"it ends at {element.name} {number} of {element.count}")
                row.append(values if length else values[0])
            yield row

    return rows


def _words(body: bytes) -> Iterator[bytes]:
    """The words of a text, of which a line at a time is split."""
    stream, most = io.BytesIO(body), limits.current().line
    for line in iter(lambda: stream.readline(most + 1), b""):
        if len(line) > most:
            raise ValueError(f"it holds a line of more than {most:,} bytes (`limits.line` in params.yaml)")
        yield from line.split()


def _bounded(count: int) -> int:
    """The length of a list, unless all faces together may not have as many corners."""
    if count > (most := 4 * limits.current().faces):
        raise ValueError(f"it holds a list of {count:,} numbers, expected at most {most:,}, by `limits.faces`")
    return count


class _Binary:
    """Reads the elements of a binary file one after the other."""

    def __init__(self, body: bytes, order: str):
        self.body, self.order, self.place = body, order, 0

    def table(self, element: _Element) -> np.ndarray | None:
        """All rows as a structured array with a field `p0`, `p1`, ... for each property.

        None if the lists of a property differ in length: the lengths in the first row must occur in every row.
        """
        fields: list[tuple] = []
        size = 0
        for n, (_, length, kind) in enumerate(element.properties):
            if not length:
                fields.append((f"p{n}", self.order + kind))
            else:
                at = self.place + size
                long = self.body[at : at + np.dtype(length).itemsize]
                if len(long) < np.dtype(length).itemsize or np.dtype(length).kind == "f":
                    return None
                count = int(np.frombuffer(long, self.order + length)[0])
                if not 0 < count < 1000:
                    return None
                fields += [(f"n{n}", self.order + length), (f"p{n}", self.order + kind, (count,))]
            size = np.dtype(fields).itemsize
        if not fields or len(self.body) - self.place < size * element.count:
            return None
        table = np.frombuffer(self.body, np.dtype(fields), element.count, self.place)
        for n, (_, length, _) in enumerate(element.properties):
            if length and element.count and not (table[f"n{n}"] == table[f"n{n}"][0]).all():
                return None
        self.place += size * element.count
        return table

    def take(self, form: str) -> tuple:
        values = struct.unpack_from(self.order + form, self.body, self.place)
        self.place += struct.calcsize(self.order + form)
        return values

    def rows(self, element: _Element) -> Iterator[list]:
        take = self.take
        together = "".join(CODES[kind] for _, _, kind in element.properties)
        lists = any(length for _, length, _ in element.properties)
        for number in range(element.count):
            row: list = []
            try:
                if not lists:
                    row += take(together)
                else:
                    for _, length, kind in element.properties:
                        many = _bounded(int(take(CODES[length])[0])) if length else 1
                        values = take(f"{many}{CODES[kind]}")
                        row.append([*values] if length else values[0])
            except struct.error:
                raise CutError(f"it ends at {element.name} {number} of {element.count}") from None
            yield row
