"""Helpers of the readers of raw files: folder listings, paths and hashes in `items.json`, and drawing of partitions."""

from __future__ import annotations

import hashlib
import os
import unicodedata
from collections.abc import Hashable, Iterable, Mapping, Sequence
from pathlib import Path

from crossmodal.core import fingerprints, paths
from crossmodal.core.errors import UserError
from crossmodal.core.files import read_lines

SHOWN = 5  # maximum number of places or file names in an error message


def name_of(path: Path, folder: Path) -> str:
    """A path as written in `items.json`: relative to `folder`, or absolute if it is outside and given so."""
    if path.absolute().is_relative_to(folder.absolute()):
        return str(path.absolute().relative_to(folder.absolute()))
    # The folder is resolved because, if `data` is a link to another disk, `..` leads upwards on that disk.
    return str(path) if path.is_absolute() else os.path.relpath(path.absolute(), folder.resolve())


def record(
    folder: Path,
    files: Iterable[Path] = (),
    trees: Iterable[Path] = (),
    names: Iterable[Path] = (),
    texts: Iterable[Path] = (),
) -> dict[str, dict[str, str]]:
    """The entry `raw` of `items.json`: hashes of the files that the items are read from, which reveal later changes.

    The hashes are computed before the files are read, so that files which change meanwhile are read again.

    Parameters
    ----------
    folder : folder of the data set.
    files : files whose content counts, which need not exist.
    trees : folders in which the content of all files counts.
    names : folders in which the names of the files count, but not their contents.
    texts : folders in which the content of files that end in .txt counts.
    """
    hashes = fingerprints.Hashes(folder)
    paths = {"files": files, "trees": trees, "names": names, "texts": texts}
    unread = {kind: {name_of(path, folder): fingerprints.NOTHING for path in of} for kind, of in paths.items()}
    hashed = fingerprints.now(unread, hashes, folder)
    hashes.save()
    return hashed


def first(places: Sequence[str]) -> str:
    """The first few of `places` as text, with the number of the remaining ones."""
    more = f" and {len(places) - SHOWN} more" if len(places) > SHOWN else ""
    return ", ".join(places[:SHOWN]) + more


def lines(path: Path, advice: str) -> list[str]:
    """The stripped lines of a text file that are not blank.

    Raises
    ------
    UserError : the file is missing (the message ends with `advice`) or is no UTF-8 text.
    """
    try:
        content = read_lines(path)
    except FileNotFoundError:
        raise UserError(f"{path}: not found; {advice}") from None
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: is no UTF-8 text ({error}); save it as UTF-8") from None
    return [line.strip() for line in content if line.strip()]


class Listing:
    """A folder whose sub-folders are listed once each, since a `stat` per file takes minutes on network disks."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.names: dict[str, dict[str, str]] = {}  # {sub-folder: {name as it is and in composed form: name on disk}}
        self.links: set[str] = set()
        self.seen: set[str] = set()

    @property
    def looked_in(self) -> list[str]:
        """The sub-folders that have been listed, for error messages."""
        return [str(self.folder / sub) for sub in self.names]

    def holds(self, sub: str, name: str) -> bool:
        """Whether a file with a name from a list exists in the sub-folder.

        Raises
        ------
        UserError : the name, or a link, leads out of the folder.
        """
        return self.find(f"{sub}/{name}" if sub else name) is not None

    def find(self, path: str) -> str | None:
        """The path of a file below the folder as it is on disk, or None if it does not exist.

        A file is also found if its letters with accents are decomposed on disk (as on macOS) but not in `path`.

        Raises
        ------
        UserError : the path, or a link, leads out of the folder.
        """
        paths.check_name(path, str(self.folder))
        sub, _, name = path.rpartition("/")
        if sub not in self.names:
            self.names[sub] = self._listed(sub)
        names = self.names[sub]
        entry = names.get(name) or names.get(unicodedata.normalize("NFC", name))
        if entry is None:
            if not names and sub and (real := self.find(sub)) not in (None, sub):
                return self.find(f"{real}/{name}")
            return None
        place = f"{sub}/{entry}" if sub else entry
        if place in self.links or sub not in self.seen:
            self.seen.add(sub)  # the folder itself may be a link
            paths.inside(self.folder, place, str(self.folder))
        return place

    def _listed(self, sub: str) -> dict[str, str]:
        path = self.folder / sub
        if not path.is_dir():
            return {}
        entries = list(os.scandir(path))
        self.links.update(f"{sub}/{entry.name}" if sub else entry.name for entry in entries if entry.is_symlink())
        names = [entry.name for entry in entries]
        composed = {unicodedata.normalize("NFC", name): name for name in names if not name.isascii()}
        return {**composed, **{name: name for name in names}}


def carve(groups: Mapping[str, Hashable], share: float, seed: int) -> set[str]:
    """Groups of the training part that are held out, for example for validation: a share of each stratum.

    Parameters
    ----------
    groups : {group: stratum}; the stratum is, for example, the class.
    share : 0 to 1. If it is positive, at least one group is held out of each stratum with two or more groups, but never
        all of them.
    """
    chosen: set[str] = set()
    for members in shuffled(groups, seed).values():
        count = min(max(1, round(share * len(members))), len(members) - 1) if share > 0 else 0
        chosen.update(members[:count])
    return chosen


def shuffled(groups: Mapping[str, Hashable], seed: int) -> dict[Hashable, list[str]]:
    """{stratum: its groups in a pseudo-random order}.

    Groups are sorted by a hash of the seed and their name, so that adding groups does not change the order of the
    others.
    """
    strata: dict[Hashable, list[str]] = {}
    for group, stratum in groups.items():
        strata.setdefault(stratum, []).append(group)
    for members in strata.values():
        members.sort(key=lambda group: hashlib.sha256(f"{seed}/{group}".encode(errors="surrogatepass")).digest())
    return strata
