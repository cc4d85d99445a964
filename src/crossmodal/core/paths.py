"""Checks of paths from other people's files and from settings, so that none leads out of the permitted folders."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator, Mapping
from contextlib import suppress
from functools import cache
from itertools import islice
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

from crossmodal.core import limits
from crossmodal.core.errors import UserError

_SUSPECT = re.compile(r"^/|\.\.|[\\:\0]")
_PART = re.compile(r"\w[\w.+-]*")
_FOLDER = re.compile(r"[\w./][\w ./+=@,-]*")


_roots: tuple[str, ...] | None = None


def inside(root: str | Path, name: str, where: str) -> Path:
    """`root / name`, where `name` comes from a file and must stay below `root`.

    Links are followed before the check, unless `limits.links` allows them to lead anywhere. `root` itself and folders
    above it may be links, since the user has chosen them.

    Parameters
    ----------
    where : the file and the entry, for the error.

    Raises
    ------
    UserError : the path is absolute, has `..` or a null character, leads out of `root` by a link, or is a device or a
        pipe.
    """
    check_name(name, where)
    path = Path(root) / name
    if limits.current().links == "within" and not _stays(os.path.dirname(path), str(root)):  # noqa: PTH120, many times faster
        raise _leads_out(where, name, root)
    try:
        mode = os.lstat(path).st_mode
        if stat.S_ISLNK(mode):
            if limits.current().links == "within" and not _is_below(path, root):
                raise _leads_out(where, name, root)
            mode = path.stat().st_mode
    except OSError:  # the reader reports a missing file
        return path
    _check_kind(mode, name, where)
    return path


def _check_kind(mode: int, name: str, where: str) -> None:
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        raise UserError(f"{where}: {name!r} is neither a file nor a folder but a device or a pipe; take it out")


def _leads_out(where: str, name: str, root: str | Path) -> UserError:
    return UserError(
        f"{where}: {name!r} is a link that leads out of {root}; put the file itself there, or set `links: anywhere` in "
        "`limits` of params.yaml if the links are your own"
    )


def leaves(name: str) -> bool:
    """Whether a relative path, as it is written, leaves its folder or is no valid path."""
    if not _SUSPECT.search(name):
        return False
    windows = PureWindowsPath(name)
    parts = (*PurePosixPath(name).parts, *windows.parts)
    return bool(PurePosixPath(name).is_absolute() or windows.drive or windows.root or ".." in parts or "\0" in name)


SHORT = 60  # characters, which are never too many
DEEPEST = 100  # folders within each other
LONGEST_NAME, LONGEST_PATH = 255, 3840  # bytes that Linux and macOS allow, less some for the folder


def check_name(name: str, where: str) -> None:
    """Refuse a relative path that, as it is written, leaves its folder or cannot be one.

    Raises
    ------
    UserError : the path is absolute, has a part `..` or a null character, or is longer than any that a disk has.
    """
    if leaves(name):
        raise UserError(
            f"{where}: {name!r} leads out of its folder; expected a path below it, neither absolute nor with `..`"
        )
    if len(name) <= SHORT:
        return
    parts = [len(part.encode("utf-8", "surrogatepass")) for part in name.split("/")]
    whole = sum(parts) + len(parts)
    if max(parts) > LONGEST_NAME or whole > LONGEST_PATH or len(parts) > DEEPEST:
        raise UserError(
            f"{where}: {name[:SHORT]!r}... is too long a path, with {whole:,} bytes in {len(parts):,} parts; expected "
            f"at most {LONGEST_PATH:,} bytes, {LONGEST_NAME} in each of at most {DEEPEST} parts"
        )


@cache
def _stays(folder: str, root: str) -> bool:
    """Whether a folder lies below `root`; cached, since a data set has many files in few folders."""
    return _is_below(folder, root)


def _is_below(path: str | Path, root: str | Path) -> bool:
    # `Path.resolve` would raise for a cycle of links, which cannot be opened anyway.
    return Path(os.path.realpath(path)).is_relative_to(os.path.realpath(root))


# -- all files below a folder -----------------------------------------------------------------------------------------


def below(folder: str | Path, *, hidden: bool = False, links: bool = False) -> Iterator[tuple[str, os.DirEntry[str]]]:
    """The files below a folder, each with its path there; folders that cannot be read are passed over.

    Parameters
    ----------
    hidden : whether folders whose names begin with a dot are entered.
    links : whether links to folders are followed, each folder once.

    Raises
    ------
    UserError : there are more than `limits.files`, or folders are nested more than `DEEPEST` times.
    """
    waiting, seen, count, most = [("", str(folder))], set(), 0, limits.current().files
    while waiting:
        prefix, path = waiting.pop()
        if prefix.count("/") > DEEPEST:
            raise UserError(f"{folder}: has folders nested more than {DEEPEST} times; name a flatter one")
        if links and (real := os.path.realpath(path)) in seen:
            continue
        elif links:
            seen.add(real)
        entries = _entries(path, most - count)
        if (count := count + len(entries)) > most:
            raise UserError(
                f"{folder}: holds more than {most:,} files and folders (`limits.files` in params.yaml); name a smaller "
                "one, or raise the limit"
            )
        for entry in entries:
            if not _is_folder(entry, links):
                yield prefix + entry.name, entry
            elif hidden or not entry.name.startswith("."):
                waiting.append((f"{prefix}{entry.name}/", entry.path))


def _entries(path: str, most: int) -> list[os.DirEntry[str]]:
    """The entries of a folder by their names, of which one more than `most` are looked at."""
    try:
        with os.scandir(path) as entries:
            return sorted(islice(entries, most + 1), key=lambda entry: entry.name)
    except OSError:
        return []


def _is_folder(entry: os.DirEntry[str], links: bool) -> bool:
    try:
        return entry.is_dir(follow_symlinks=links)
    except OSError:  # a cycle of links
        return False


# -- folders that a user has named ------------------------------------------------------------------------------------


def allow(settings: Any) -> None:
    """Restrict the files and folders that prepared data sets may name to those of settings, and their own.

    Parameters
    ----------
    settings : the blocks `datasets` of params.yaml; every text in them that is a file or a folder is permitted.
    """
    global _roots
    _roots = tuple(os.path.realpath(text) for text in possible(settings) if Path(text).exists())


def possible(value: Any) -> Iterator[str]:
    """All texts in a block of settings that might be paths, at any depth."""
    if isinstance(value, Mapping):
        for part in value.values():
            yield from possible(part)
    elif isinstance(value, list | tuple):
        for part in value:
            yield from possible(part)
    elif isinstance(value, str | Path) and 0 < len(text := str(value)) < 4096 and "\0" not in text and "\n" not in text:
        yield text


def present(settings: Mapping[str, Any]) -> bool:
    """Whether the files and folders that a data set's settings name are all there, and at least one is named.

    A text counts as a path if it has a slash or the ending of a file, or is there. It is looked for as it stands and
    below the folder `root` of the settings, without the name of an array after `#` and without a part in brackets.
    """
    root = settings.get("root")
    found = []
    for text in possible(settings):
        places = [Path(text), *([Path(root) / re.split(r"[#[]", text)[0]] if isinstance(root, str) else [])]
        there = any(place.exists() for place in places)
        if "/" in text or Path(text).suffix or there:
            found.append(there)
    return bool(found) and all(found)


def named(folder: Path, name: str, where: str) -> Path:
    """A folder or file that a prepared data set's `items.json` names, relative to `folder` or absolute.

    The manifest may come from others with the data. A path outside of `folder` must therefore be one that params.yaml
    names for a data set, or lie below such a path. Without a call of `allow` every path is permitted.

    Raises
    ------
    UserError : the path is not permitted, or is a device or a pipe.
    """
    path = folder / name
    if _roots is not None and not any(_is_below(path, root) for root in (folder, *_roots)):
        raise UserError(
            f"{where}: {name!r} is no folder or file that a data set of params.yaml names; if it is right, name it "
            "there, or the overlay that does so (--params), else prepare the data set again"
        )
    with suppress(OSError, ValueError):  # the reader reports a missing file
        _check_kind(path.stat().st_mode, name, where)
    return path


# -- parts of names ---------------------------------------------------------------------------------------------------


def check_part(value: str, where: str) -> None:
    """Refuse a text that cannot be the name of one folder.

    Raises
    ------
    UserError : it has other characters than letters, digits and `. _ + -`, or starts with one of `. + -`.
    """
    if not _PART.fullmatch(value):
        raise UserError(f"{where}: {value!r}: expected a name of letters, digits and . _ + - alone")


def folder(value: str) -> str:
    """A folder of params.yaml after checking that the rules' commands can contain it.

    Raises
    ------
    ValueError : it is empty, or has other characters than letters, digits, spaces and `. _ - + = @ , /`.
    """
    if not _FOLDER.fullmatch(value) or value != value.strip():
        raise ValueError(
            f"{value!r}: expected a folder's name of letters, digits, spaces within and . _ - + = @ , / alone; rename "
            "the folder, or put a link of such a name to it"
        )
    return value
