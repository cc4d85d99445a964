"""Paths that stand in other people's files or in settings: what they may be, and that they stay where they belong."""

from __future__ import annotations

import os
import re
from functools import cache
from pathlib import Path, PurePosixPath, PureWindowsPath

from crossmodal.errors import UserError

_FOLDER = re.compile(r"[\w./][\w ./+=@,-]*")


def inside(root: str | Path, name: str, where: str) -> Path:
    """`root / name`, where `name` stands in a file and must stay below `root`.

    A link is followed before that is decided. The link may be `root` itself or lie above it, since a user chose that.

    Parameters
    ----------
    where : the file and the entry, for the error.

    Raises
    ------
    UserError : an absolute path, `..`, a null character, or a link that leads out of `root`.
    """
    root = Path(root)
    check_name(name, where)
    path = root / name
    if not _stays(str(path.parent), str(root)) or (path.is_symlink() and not _below(path, root)):
        raise UserError(
            f"{where}: {name!r} is a link that leads out of {root}; put the file itself there, or name the folder that "
            "holds it in params.yaml"
        )
    return path


def check_name(name: str, where: str) -> None:
    """Refuse a relative path that by its letters leaves the folder that it is relative to.

    Raises
    ------
    UserError : an absolute path, `..` as one of its parts, a null character.
    """
    windows = PureWindowsPath(name)
    parts = (*PurePosixPath(name).parts, *windows.parts)
    if PurePosixPath(name).is_absolute() or windows.drive or windows.root or ".." in parts or "\0" in name:
        raise UserError(
            f"{where}: {name!r} leads out of its folder; expected a path below it, neither absolute nor with `..`"
        )


@cache
def _stays(folder: str, root: str) -> bool:
    """Of a folder, once: a data set has many files and few folders."""
    return _below(Path(folder), Path(root))


def _below(path: Path, root: Path) -> bool:
    # Not `Path.resolve`, which raises at a circle of links; what such a link names cannot be opened anyway.
    return Path(os.path.realpath(path)).is_relative_to(os.path.realpath(root))


def folder(value: str) -> str:
    """A folder of params.yaml as the rules' commands can hold it.

    Raises
    ------
    ValueError : it is empty, or holds another character than letters, digits, spaces and `. _ - + = @ , /`.
    """
    if not _FOLDER.fullmatch(value) or value != value.strip():
        raise ValueError(
            f"{value!r}: expected a folder's name of letters, digits, spaces within and . _ - + = @ , / alone; rename "
            "the folder, or put a link of such a name to it"
        )
    return value
