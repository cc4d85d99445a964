"""Checks of mesh files: their size and that of their faces, and which further files they may open."""

from __future__ import annotations

import bz2
import gzip
import lzma
import tarfile
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np
from trimesh.resolvers import Resolver

from crossmodal.core import limits, paths
from crossmodal.core.errors import UserError

_OPENERS: dict[str, Callable[[Path], IO[bytes]]] = {".bz2": bz2.open, ".gz": gzip.open, ".xz": lzma.open}
BLOCK = 2**20
HEAD = 2**20  # bytes of the header of a file


def check(path: Path) -> None:
    """Refuse a file that is too large, or whose uncompressed content is.

    Raises
    ------
    UserError : the file exceeds `limits.mesh_bytes`, or is a decompression bomb.
    OSError : the file cannot be read.
    """
    size, most = path.stat().st_size, limits.current().mesh_bytes
    if size > most:
        raise UserError(
            f"{path}: has {size:,} bytes, expected at most {most:,} (`limits.mesh_bytes` in params.yaml); simplify it"
        )
    unpacked = 0
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            unpacked = sum(entry.file_size for entry in archive.infolist())
    elif (opener := _OPENERS.get(path.suffix.lower())) is not None:
        with opener(path) as stream:
            while unpacked <= most and (block := stream.read(BLOCK)):
                unpacked += len(block)
    if unpacked > most or limits.is_bomb(size, unpacked):
        raise UserError(
            f"{path}: unpacks to more than {most:,} bytes (`limits.mesh_bytes` in params.yaml); unpack and simplify it"
        )


def suffix(name: str) -> str:
    """The ending of a file's name in small letters, without the dot."""
    return name.lower().rpartition(".")[2]


def members(path: Path, kinds: Sequence[str]) -> list[tuple[str, bytes]]:
    """(name, content) of a file, or of the files of some kinds in an archive, which `check` has permitted.

    Raises
    ------
    OSError, ValueError, zipfile.BadZipFile, tarfile.TarError : it is missing, damaged, or holds none of the kinds.
    """
    if path.suffix.lower() in (".zip", ".tar") or path.name.lower().endswith((".tar.gz", ".tar.bz2", ".tar.xz")):
        found = _of_zip(path, kinds) if path.suffix.lower() == ".zip" else _of_tar(path, kinds)
        if not found:
            raise ValueError("it holds no mesh")
        return found
    if (opener := _OPENERS.get(path.suffix.lower())) is not None:
        with opener(path) as stream:
            return [(path.stem, stream.read(limits.current().mesh_bytes))]
    return [(path.name, path.read_bytes())]


def _of_zip(path: Path, kinds: Sequence[str]) -> list[tuple[str, bytes]]:
    with zipfile.ZipFile(path) as archive:
        names = [name for name in archive.namelist() if suffix(name) in kinds]
        return [(name, archive.read(name)) for name in names]


def _of_tar(path: Path, kinds: Sequence[str]) -> list[tuple[str, bytes]]:
    with tarfile.open(path) as archive:
        files = [member for member in archive if member.isfile() and suffix(member.name) in kinds]
        return [(member.name, stream.read()) for member in files if (stream := archive.extractfile(member)) is not None]


def check_count(what: str, count: int) -> None:
    """Refuse too many vertices or faces before they are read.

    Raises
    ------
    ValueError : there are more faces than `limits.faces`, or more vertices than three times that.
    """
    most = limits.current().faces * (1 if what == "face" else 3)
    if count > most:
        raise ValueError(f"it has {count:,} of {what!r}, expected at most {most:,}, by `limits.faces` in params.yaml")


class Corners:
    """Counts the corners of faces while they are read, and refuses too many.

    A face takes time with the square of its corners, and a corner more memory than its text.
    """

    def __init__(self):
        self.most, self.all, self.count = limits.current().corners, 4 * limits.current().faces, 0

    def check(self, counts: np.ndarray, number: int) -> None:
        """Refuse the next faces if one has too many of these (F,) corners.

        Parameters
        ----------
        number : of the first of the faces.

        Raises
        ------
        ValueError : a face has less than none, more than `limits.corners`, or all four times `limits.faces`.
        """
        if not len(counts):
            return
        self.count += int(counts.sum())
        if not 0 <= counts.min() <= counts.max() <= self.most or self.count > self.all:
            bad = np.flatnonzero((counts < 0) | (counts > self.most) | (np.cumsum(counts) > self.all))
            raise ValueError(
                f"face {number + int(bad[0] if bad.size else 0)} has more than {self.most:,} corners, or all faces "
                f"more than {self.all:,} (`limits.corners` and `limits.faces` in params.yaml)"
            )


class Beside(Resolver):
    """Resolves further files that a mesh file names, such as the buffers of glTF, within its own folder only."""

    def __init__(self, path: Path):
        self.path = path

    def get(self, name: str) -> bytes:
        """The content of the named file; raises a UserError if it lies elsewhere or is too large."""
        file = paths.inside(self.path.parent, name, str(self.path))
        check(file)
        return file.read_bytes()

    def namespaced(self, namespace: str) -> Beside:
        """A resolver for the sub-folder `namespace`."""
        return Beside(self.path.parent / namespace / self.path.name)

    def keys(self) -> list[str]:
        """An empty list: further files are not listed."""
        return []

    def write(self, name: str, data: Any) -> None:
        """Refuse to write, with a UserError."""
        raise UserError(f"{self.path}: {name!r} is not written; a mesh is only read")
