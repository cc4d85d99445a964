"""Paths that stand in other people's files or in settings: what they may be, and that they stay where they belong."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

from crossmodal import limits
from crossmodal.errors import UserError

_SUSPECT = re.compile(r"^/|\.\.|[\\:\0]")
_PART = re.compile(r"\w[\w.+-]*")
_FOLDER = re.compile(r"[\w./][\w ./+=@,-]*")


_roots: tuple[str, ...] | None = None


def inside(root: str | Path, name: str, where: str) -> Path:
    """`root / name`, where `name` stands in a file and must stay below `root`.

    A link is followed before that is decided, unless `limits.links` lets links lead anywhere. The link may be `root`
    itself or lie above it, since a user chose that.

    Parameters
    ----------
    where : the file and the entry, for the error.

    Raises
    ------
    UserError : an absolute path, `..`, a null character, a link that leads out of `root`, a device or a pipe.
    """
    check_name(name, where)
    path = Path(root) / name
    if limits.current().links == "within" and not _stays(os.path.dirname(path), str(root)):  # noqa: PTH120, many times faster
        raise _leads_out(where, name, root)
    try:
        mode = os.lstat(path).st_mode
        if stat.S_ISLNK(mode):
            if limits.current().links == "within" and not _below(path, root):
                raise _leads_out(where, name, root)
            mode = path.stat().st_mode
    except OSError:  # what is not there is the reader's to tell
        return path
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        raise UserError(f"{where}: {name!r} is neither a file nor a folder but a device or a pipe; take it out")
    return path


def _leads_out(where: str, name: str, root: str | Path) -> UserError:
    return UserError(
        f"{where}: {name!r} is a link that leads out of {root}; put the file itself there, or set `links: anywhere` in "
        "`limits` of params.yaml if the links are your own"
    )


def leaves(name: str) -> bool:
    """Whether a relative path by its letters leaves the folder that it is relative to, or can be no path at all."""
    if not _SUSPECT.search(name):
        return False
    windows = PureWindowsPath(name)
    parts = (*PurePosixPath(name).parts, *windows.parts)
    return bool(PurePosixPath(name).is_absolute() or windows.drive or windows.root or ".." in parts or "\0" in name)


def check_name(name: str, where: str) -> None:
    """Refuse a relative path that by its letters leaves the folder that it is relative to.

    Raises
    ------
    UserError : an absolute path, `..` as one of its parts, a null character.
    """
    if leaves(name):
        raise UserError(
            f"{where}: {name!r} leads out of its folder; expected a path below it, neither absolute nor with `..`"
        )


@cache
def _stays(folder: str, root: str) -> bool:
    """Of a folder, once: a data set has many files and few folders."""
    return _below(folder, root)


def _below(path: str | Path, root: str | Path) -> bool:
    # Not `Path.resolve`, which raises at a circle of links; what such a link names cannot be opened anyway.
    return Path(os.path.realpath(path)).is_relative_to(os.path.realpath(root))


# -- folders that a user has named ------------------------------------------------------------------------------------


def allow(settings: Any) -> None:
    """From now on a prepared data set may name no other folders and files than these, and its own.

    Parameters
    ----------
    settings : the blocks of `datasets` of params.yaml: each text in them that is a file or a folder.
    """
    global _roots
    _roots = tuple(os.path.realpath(text) for text in possible(settings) if Path(text).exists())


def possible(value: Any) -> Iterator[str]:
    """The texts in a block of settings that might be paths, however deep they stand."""
    if isinstance(value, Mapping):
        for one in value.values():
            yield from possible(one)
    elif isinstance(value, list | tuple):
        for one in value:
            yield from possible(one)
    elif isinstance(value, str | Path) and 0 < len(text := str(value)) < 4096 and "\0" not in text and "\n" not in text:
        yield text


def named(folder: Path, name: str, where: str) -> Path:
    """A folder or file that a prepared data set's `items.json` names, relative to `folder` or absolute.

    The manifest may be another's, pulled with the data: what lies outside of `folder` must be what params.yaml names
    for a data set here, or lie below that. Without params.yaml (`allow`) the caller has chosen it.

    Raises
    ------
    UserError : it is another one.
    """
    path = folder / name
    if _roots is not None and not any(_below(path, root) for root in (folder, *_roots)):
        raise UserError(
            f"{where}: {name!r} is no folder or file that a data set of params.yaml names; if it is right, name it "
            "there, else prepare the data set again"
        )
    return path


# -- parts of names ---------------------------------------------------------------------------------------------------


def check_part(value: str, where: str) -> None:
    """Refuse what cannot be the name of one folder.

    Raises
    ------
    UserError : another character than letters, digits and `. _ + -`, or one of these but `_` at its start.
    """
    if not _PART.fullmatch(value):
        raise UserError(f"{where}: {value!r}: expected a name of letters, digits and . _ + - alone")


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
