"""Reader of meshes in PLY files, as text or binary, whose polygons may have any number of corners."""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from crossmodal.core import limits
from crossmodal.features.lightfield import meshtext
from crossmodal.features.lightfield.meshfiles import HEAD, check_count
from crossmodal.features.lightfield.polygons import CutError, Faces, Polygons, spans

TYPES = {
    **{"char": "i1", "int8": "i1", "uchar": "u1", "uint8": "u1", "short": "i2", "int16": "i2", "ushort": "u2"},
    **{"uint16": "u2", "int": "i4", "int32": "i4", "uint": "u4", "uint32": "u4", "float": "f4", "float32": "f4"},
    **{"double": "f8", "float64": "f8"},
}
CODES = {"i1": "b", "u1": "B", "i2": "h", "u2": "H", "i4": "i", "u4": "I", "f4": "f", "f8": "d"}
ROWS = 2**18  # words that are taken at once


@dataclass(frozen=True)
class _Element:
    name: str
    count: int
    properties: list[tuple[str, str, str]]  # name, type of a list's length (empty if it is no list), type of the values

    @property
    def lists(self) -> int:
        return sum(bool(length) for _, length, _ in self.properties)


def ply(data: bytes) -> Polygons | None:
    """Read a PLY file with vertices and faces; None if it lacks either, for example because it holds triangle strips.

    Raises
    ------
    ValueError : the data is no PLY file, has a damaged header, or exceeds the limits.
    CutError : it holds less than its header states.
    """
    end = re.search(rb"end_header[ \t]*\r?\n", data[:HEAD])
    if not data.startswith(b"ply") or end is None:
        raise ValueError("it has no header of a PLY file")
    kind, elements = _header(data[: end.start()].decode("latin-1"))
    for element in elements:
        check_count(element.name, element.count)
    lists = sum(element.count * element.lists for element in elements)
    if lists > (most := 4 * limits.current().faces):
        raise ValueError(f"it has {lists:,} lists, expected at most {most:,}, by `limits.faces` in params.yaml")
    source = _Words(data, end.end()) if kind == "ascii" else _Binary(data, end.end(), "<" if "little" in kind else ">")
    vertices: list[np.ndarray] | None = None
    faces: Faces | None = None
    for element in elements:
        names = [name for name, _, _ in element.properties]
        if element.name == "vertex" and {"x", "y", "z"} <= set(names):
            wanted = [names.index(axis) for axis in "xyz"]
            vertices = [np.stack([part[n][0] for n in wanted], 1) for part in source.parts(element, wanted)]
        elif element.name == "face" and (listed := {"vertex_indices", "vertex_index"} & set(names)):
            place, faces = names.index(listed.pop()), Faces()
            for part in source.parts(element, [place]):
                faces.add(part[place][1])
                faces.corners.append(part[place][0].astype(np.int64))
        else:
            for _ in source.parts(element, []):  # skips to the next element
                pass
    return None if vertices is None or faces is None else faces.with_vertices(vertices)


def _header(text: str) -> tuple[str, list[_Element]]:
    kind, elements = "", []
    for line in text.split("\n"):
        words = line.split()
        if words[:1] == ["format"] and len(words) > 1:
            kind = words[1]
        elif words[:1] == ["element"] and len(words) == 3:
            elements.append(_Element(words[1], int(words[2]), []))
        elif words[:2] == ["property", "list"] and elements and len(words) == 5:
            elements[-1].properties.append((words[4], TYPES[words[2]], TYPES[words[3]]))
        elif words[:1] == ["property"] and elements and len(words) == 3:
            elements[-1].properties.append((words[2], "", TYPES[words[1]]))
    if kind not in ("ascii", "binary_little_endian", "binary_big_endian"):
        raise ValueError(f"it is of the format {kind!r}")
    return kind, elements


# {property: its values in some rows, concatenated, and how many there are per row}
_Part = dict[int, tuple[np.ndarray, np.ndarray]]


class _Binary:
    """Reads the elements of a binary file one after the other."""

    def __init__(self, data: bytes, start: int, order: str):
        self.data, self.place, self.order = data, start, order

    def parts(self, element: _Element, wanted: list[int]) -> Iterator[_Part]:
        """The wanted properties of all rows of the next element."""
        if not element.properties:
            return
        if (table := self._table(element)) is not None:
            counts = {n: int(np.prod(table[f"p{n}"].shape[1:])) for n in wanted}
            yield {n: (table[f"p{n}"].ravel(), np.full(len(table), count)) for n, count in counts.items()}
            return
        done, readers = 0, [struct.Struct(self.order + CODES[length or kind]) for _, length, kind in element.properties]

        def length_at(prop: int, place: int) -> float:
            return readers[prop].unpack_from(self.data, place)[0]

        sizes = [(np.dtype(length or "V0").itemsize, np.dtype(kind).itemsize) for _, length, kind in element.properties]
        while done < element.count:
            rows = min(ROWS, element.count - done)
            walk = _walk(rows, sizes, length_at, self.place, len(self.data), wanted)
            if not walk.rows:
                raise CutError(f"it ends at {element.name} {done} of {element.count}")
            done, self.place = done + walk.rows, walk.end
            yield {n: (self._values(element.properties[n][2], *walk.found[n]), walk.found[n][1]) for n in wanted}

    def _values(self, kind: str, begins: np.ndarray, counts: np.ndarray) -> np.ndarray:
        """The values at some places, which may begin at any byte."""
        dtype = np.dtype(self.order + kind)
        view = np.ndarray((max(0, len(self.data) - dtype.itemsize + 1),), dtype, self.data, strides=(1,))
        return view[spans(begins, counts, dtype.itemsize)]

    def _table(self, element: _Element) -> np.ndarray | None:
        """All rows as a structured array with a field `p0`, `p1`, ... for each property.

        None if the lists of a property differ in length: the lengths in the first row must occur in every row.

        Raises
        ------
        CutError : the data end before the last row of an element without lists.
        """
        fields: list[tuple] = []
        size = 0
        for n, (_, length, kind) in enumerate(element.properties):
            if not length:
                fields.append((f"p{n}", self.order + kind))
            else:
                at = self.place + size
                long = self.data[at : at + np.dtype(length).itemsize]
                if len(long) < np.dtype(length).itemsize or np.dtype(length).kind == "f":
                    return None
                count = int(np.frombuffer(long, self.order + length)[0])
                if not 0 < count < 1000:
                    return None
                fields += [(f"n{n}", self.order + length), (f"p{n}", self.order + kind, (count,))]
            size = np.dtype(fields).itemsize
        if (rows := (len(self.data) - self.place) // size) < element.count:
            if element.lists:
                return None
            raise CutError(f"it ends at {element.name} {rows} of {element.count}")
        table = np.frombuffer(self.data, np.dtype(fields), element.count, self.place)
        for n, (_, length, _) in enumerate(element.properties):
            if length and element.count and not (table[f"n{n}"] == table[f"n{n}"][0]).all():
                return None
        self.place += size * element.count
        return table


class _Words:
    """Reads the elements of a text one after the other, whatever lines their numbers stand in."""

    def __init__(self, data: bytes, start: int):
        self.blocks = meshtext.blocks(data, start)
        self.ready = np.empty(0)

    def _peek(self, count: int) -> np.ndarray:
        """The next numbers: at least `count` if there are so many."""
        blocks = [self.ready]
        while sum(map(len, blocks)) < count and (part := next(self.blocks, None)) is not None:
            blocks.append(meshtext.numbers(meshtext.words(part)))
        self.ready = blocks[0] if len(blocks) == 1 else np.concatenate(blocks)
        return self.ready

    def parts(self, element: _Element, wanted: list[int]) -> Iterator[_Part]:
        """The wanted properties of all rows of the next element."""
        if not (width := len(element.properties)):
            return
        done, most = 0, ROWS
        while done < element.count:
            left = element.count - done
            if element.lists:
                values = self._peek(most)
                sizes = [(bool(length), 1) for _, length, _ in element.properties]
                ready = values[:most].tolist()
                walk = _walk(left, sizes, lambda _, place, ready=ready: ready[place], 0, len(ready), wanted)
                rows, end = walk.rows, walk.end
                if not rows and len(values) > most:  # a row of many numbers
                    most *= 2
                    continue
                part = {n: (values[spans(*walk.found[n])], walk.found[n][1]) for n in wanted}
            else:
                asked = min(left, max(1, ROWS // width))
                values = self._peek(asked * width)
                rows = min(asked, len(values) // width)
                end = rows * width
                part = {n: (values[n:end:width], np.ones(rows, np.int64)) for n in wanted}
            if not rows:
                raise CutError(f"it ends at {element.name} {done} of {element.count}")
            yield part
            done, self.ready = done + rows, values[end:]


@dataclass(frozen=True)
class _Walk:
    rows: int  # that are complete
    end: int
    found: dict[int, tuple[np.ndarray, np.ndarray]]  # {property: where its values begin in each row, and their number}


def _walk(
    rows: int,
    sizes: list[tuple[int, int]],
    length_at: Callable[[int, int], float],
    start: int,
    stop: int,
    wanted: list[int],
) -> _Walk:
    """Find the values of rows with lists, each of which begins where the one before ends.

    Parameters
    ----------
    sizes : of each property that of a list's length (0 if it is no list) and that of a value.
    length_at : the length that stands at a place, of the property of that number.
    """
    most = 4 * limits.current().faces
    begins: dict[int, list[int]] = {n: [] for n in wanted}
    counts: dict[int, list[int]] = {n: [] for n in wanted}
    at, end, done = start, start, 0
    while done < rows:
        for n, (length, size) in enumerate(sizes):
            count = 1
            if length:
                if at + length > stop:
                    at = stop + 1
                    break
                count = int(length_at(n, at))
                if not 0 <= count <= most:
                    raise ValueError(f"it holds a list of {count:,} numbers, expected at most {most:,}")
                at += length
            if n in begins:
                begins[n].append(at)
                counts[n].append(count)
            at += count * size
        if at > stop:
            break
        done, end = done + 1, at
    found = {n: (np.array(begins[n][:done], np.int64), np.array(counts[n][:done], np.int64)) for n in wanted}
    return _Walk(done, end, found)
