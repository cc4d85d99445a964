"""What readers of raw files share: what lies on disk, the root's name in `items.json`, and a validation part."""

from __future__ import annotations

import hashlib
import os
import unicodedata
from collections.abc import Hashable, Iterable, Mapping, Sequence
from pathlib import Path

from crossmodal import fingerprints, paths
from crossmodal.errors import UserError
from crossmodal.files import read_lines

SHOWN = 5  # faults of a kind, or file names, in an error


def name_of(path: Path, folder: Path) -> str:
    """A path as `items.json` names it: relative to `folder`, or absolute where the user gave it so."""
    if path.absolute().is_relative_to(folder.absolute()):
        return str(path.absolute().relative_to(folder.absolute()))
    # From the resolved folder: where `data` is a link to another disk, `..` climbs from that disk.
    return str(path) if path.is_absolute() else os.path.relpath(path.absolute(), folder.resolve())


def record(
    folder: Path,
    files: Iterable[Path] = (),
    trees: Iterable[Path] = (),
    names: Iterable[Path] = (),
    texts: Iterable[Path] = (),
) -> dict[str, dict[str, str]]:
    """`raw` of `items.json`: hashes of what the items are read from, by which a later change is noticed.

    Made before the files are read, so that one that changes meanwhile is read again.

    Parameters
    ----------
    folder : of the data set. files : read whole, or looked for in vain. trees : folders whose files are all read.
    names : folders of which the names of the files below count, not their contents. texts : folders of which the
        files below that end in .txt are read.
    """
    hashes = fingerprints.Hashes(folder)
    paths = {"files": files, "trees": trees, "names": names, "texts": texts}
    unread = {kind: {name_of(path, folder): fingerprints.NOTHING for path in of} for kind, of in paths.items()}
    found = fingerprints.now(unread, hashes, folder)
    hashes.save()
    return found


def first(places: Sequence[str]) -> str:
    """The first few places of a fault, and how many more there are."""
    more = f" and {len(places) - SHOWN} more" if len(places) > SHOWN else ""
    return ", ".join(places[:SHOWN]) + more


def lines(path: Path, advice: str) -> list[str]:
    """The lines of a text file that are not blank, without their ends.

    Raises
    ------
    UserError : the file is missing (with `advice`) or is not UTF-8 text.
    """
    try:
        found = read_lines(path)
    except FileNotFoundError:
        raise UserError(f"{path}: not found; {advice}") from None
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: is no UTF-8 text ({error}); save it as UTF-8") from None
    return [line.strip() for line in found if line.strip()]


class Listing:
    """A folder, listed once a sub-folder: 123,287 calls of `stat` (MS-COCO) take minutes on a network."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.names: dict[str, dict[str, str]] = {}  # of a sub-folder: {name, as it is and composed: name on disk}
        self.links: set[str] = set()
        self.seen: set[str] = set()

    @property
    def looked_in(self) -> list[str]:
        return [str(self.folder / sub) for sub in self.names]

    def holds(self, sub: str, name: str) -> bool:
        """Whether a file is there, whose name stands in a list.

        Raises
        ------
        UserError : a name that leads out of the folder, or a link that does.
        """
        return self.find(f"{sub}/{name}" if sub else name) is not None

    def find(self, path: str) -> str | None:
        """A file's path below the folder as it is on disk, or None.

        Where letters with accents are written otherwise (macOS takes them apart, lists have them whole), it is found.

        Raises
        ------
        UserError : a path that leads out of the folder, or a link that does.
        """
        paths.check_name(path, str(self.folder))
        sub, _, name = path.rpartition("/")
        if sub not in self.names:
            self.names[sub] = self._listed(sub)
        names = self.names[sub]
        found = names.get(name) or names.get(unicodedata.normalize("NFC", name))
        if found is None:
            if not names and sub and (real := self.find(sub)) not in (None, sub):
                return self.find(f"{real}/{name}")
            return None
        place = f"{sub}/{found}" if sub else found
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
    """Groups of the training part that are kept for validation: of each stratum its share, and never all of it.

    Parameters
    ----------
    groups : {group: stratum}, such as the class.
    share : 0 to 1; a stratum of two or more groups gives at least one if it is above 0.
    """
    chosen: set[str] = set()
    for members in shuffled(groups, seed).values():
        count = min(max(1, round(share * len(members))), len(members) - 1) if share > 0 else 0
        chosen.update(members[:count])
    return chosen


def shuffled(groups: Mapping[str, Hashable], seed: int) -> dict[Hashable, list[str]]:
    """{stratum: its groups in an order of their own}.

    A group's place in the order is a hash of the seed and its name, so that items that are added leave the others'
    order as it is.
    """
    strata: dict[Hashable, list[str]] = {}
    for group, stratum in groups.items():
        strata.setdefault(stratum, []).append(group)
    for members in strata.values():
        members.sort(key=lambda group: hashlib.sha256(f"{seed}/{group}".encode()).digest())
    return strata
