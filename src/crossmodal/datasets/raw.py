"""What readers of raw files share: what lies on disk, the root's name in `items.json`, and a validation part."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path

from crossmodal import paths
from crossmodal.errors import UserError

SHOWN = 5  # faults of a kind, or file names, in an error


def name_of(path: Path, folder: Path) -> str:
    """A path as `items.json` names it: relative to `folder`, or absolute where the user gave it so."""
    if path.absolute().is_relative_to(folder.absolute()):
        return str(path.absolute().relative_to(folder.absolute()))
    # From the resolved folder: where `data` is a link to another disk, `..` climbs from that disk.
    return str(path) if path.is_absolute() else os.path.relpath(path.absolute(), folder.resolve())


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
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise UserError(f"{path}: not found; {advice}") from None
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: is no UTF-8 text ({error}); save it as UTF-8") from None
    return [line.strip() for line in text.splitlines() if line.strip()]


class Listing:
    """A folder, listed once a sub-folder: 123,287 calls of `stat` (MS-COCO) take minutes on a network."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.names: dict[str, set[str]] = {}
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
        for part in (sub, name):
            paths.check_name(part, str(self.folder))
        if sub not in self.names:
            path = self.folder / sub
            entries = list(os.scandir(path)) if path.is_dir() else []
            self.names[sub] = {entry.name for entry in entries}
            self.links.update(f"{sub}/{entry.name}" for entry in entries if entry.is_symlink())
        if name not in self.names[sub]:
            return False
        if f"{sub}/{name}" in self.links or sub not in self.seen:
            self.seen.add(sub)  # the folder itself may be a link
            paths.inside(self.folder, f"{sub}/{name}" if sub else name, str(self.folder))
        return True


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
