"""Reader of XMedia and XMediaNet: five modalities in folders, with lists of training and test files.

The authors distribute the data sets in parts (media by modality, or precomputed features). As far as we know, no common
layout of the parts is documented, so that this module defines a simple one:

    ROOT/categories.txt                    the classes, one per line
    ROOT/train.txt, test.txt               the files, one per line: FOLDER/CLASS/NAME.EXT, relative to ROOT
    ROOT/val.txt                           optional; without it a part of train.txt is kept for validation
    ROOT/image/CLASS/NAME.jpg              one file per item; the item of a text file (UTF-8) is its whole content
    ROOT/text/..., audio/..., video/..., 3d/...

An image and a text of the same class and name form a pair (`pairs`); every other item has a group of its own. The
features that the authors distribute are read with `kind: precomputed`.
"""

from __future__ import annotations

from pathlib import Path

import pandas as pd
from pydantic import BaseModel, ConfigDict, Field

from crossmodal.core.errors import UserError
from crossmodal.core.files import sha256_file
from crossmodal.datasets import items, raw
from crossmodal.modalities import Modality

FOLDERS: dict[Modality, str] = {"image": "image", "text": "text", "audio": "audio", "video": "video", "mesh": "3d"}


class Settings(BaseModel):
    """The block of a data set in XMedia's layout."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    root: Path = Field(
        description="folder that contains categories.txt, train.txt, test.txt and one folder per modality"
    )
    modalities: tuple[Modality, ...] = Field(tuple(FOLDERS), min_length=1, description="modalities that are read")
    folders: dict[Modality, str] = Field({}, description="folder of a modality where its name differs")
    pairs: tuple[Modality, ...] = Field(
        ("image", "text"),
        description="modalities whose items belong together if class and name are the same; [] if none do",
    )
    val: float = Field(0.1, ge=0, le=0.5, description="share of each class's training items kept for validation")
    seed: int = Field(0, ge=0, description="seed of the choice of validation items")

    def folder_of(self, modality: Modality) -> str:
        """Name of a modality's folder below the root."""
        return self.folders.get(modality, FOLDERS[modality])


def make(settings: Settings, folder: Path, *, title: str) -> None:
    """Read the lists and write `items.parquet` and `items.json` into `folder`.

    Raises
    ------
    UserError : the files are missing or contradict each other; the error lists the first places of each kind of fault.
    """
    folders = {modality: settings.root / settings.folder_of(modality) for modality in settings.modalities}
    texts = [folders.pop("text")] if "text" in folders else []
    read_from = raw.record(folder, _lists(settings.root), texts, names=folders.values())
    frame = read(settings, folder.name)
    described = {"reader": "xmedia", "title": title, **manifest(settings, frame, folder), "raw": read_from}
    items.write(frame, folder, described)


def manifest(settings: Settings, frame: pd.DataFrame, folder: Path) -> dict:
    """The entries of `items.json` about the lists, the classes and the settings."""
    root = settings.root
    lists = _lists(root)
    return {
        "root": raw.name_of(root, folder),
        "annotations": [{"file": path.name, "sha256": sha256_file(path)} for path in lists if path.is_file()],
        "settings": settings.model_dump(exclude={"root"}, mode="json"),
        "classes": sorted(frame.label.unique()),
    }


def _lists(root: Path) -> list[Path]:
    return [root / f"{name}.txt" for name in ("categories", *items.PARTITIONS)]


def read(settings: Settings, dataset: str = "*") -> pd.DataFrame:
    """The items in the order of the lists: train.txt, val.txt, test.txt.

    Parameters
    ----------
    dataset : name of the block in `params.yaml`, for error messages.

    Raises
    ------
    UserError : for the same reasons as `make`.
    """
    root, where = settings.root, f"datasets.{dataset}"
    if not root.is_dir():
        raise UserError(f"{root}: no such folder; set {where}.root in params.yaml to the data set's folder")
    folders = {modality: settings.folder_of(modality) for modality in FOLDERS}
    absent = [folders[modality] for modality in settings.modalities if not (root / folders[modality]).is_dir()]
    if absent:
        raise UserError(
            f"{root}: lacks the folder(s) {', '.join(absent)}; put them there, set their names in {where}.folders, "
            f"or take the modality out of {where}.modalities in params.yaml"
        )
    advice = f"XMedia's layout has it (see crossmodal.datasets.xmedia); or set {where}.root in params.yaml"
    classes = raw.lines(root / "categories.txt", advice)
    lists = {part: root / f"{part}.txt" for part in items.PARTITIONS}
    if not lists["val"].is_file():
        del lists["val"]
    modality_of = {name: modality for modality, name in folders.items()}
    on_disk = raw.Listing(root)
    rows: list[tuple[str, str, str, str, str, str]] = []
    places: dict[str, str] = {}
    faults: dict[tuple[Path, str], list[str]] = {}
    for part, path in lists.items():
        for number, line in enumerate(raw.lines(path, advice), 1):
            source = line.replace("\\", "/").removeprefix("./")
            place = f"{source!r} (entry {number})"
            pieces = source.split("/")
            if len(pieces) != 3 or not all(pieces):
                faults.setdefault((path, "are not FOLDER/CLASS/NAME.EXT"), []).append(place)
                continue
            top, label, name = pieces
            if top not in modality_of:
                kind = f"lie in no modality's folder (expected {', '.join(modality_of)})"
                faults.setdefault((path, kind), []).append(place)
                continue
            modality = modality_of[top]
            if modality not in settings.modalities:
                continue
            if label not in classes:
                faults.setdefault((path, "have a class that categories.txt lacks"), []).append(place)
            stem = f"{label}/{Path(name).stem}"
            item = f"{modality}/{stem}"
            if item in places:
                faults.setdefault((path, "are listed twice (keep one)"), []).append(f"{place}, also {places[item]}")
                continue
            places[item] = f"entry {number} of {path.name}"
            real = on_disk.find(source)
            if real is None:
                faults.setdefault((path, f"are not in {root}; complete the folder or the list"), []).append(source)
                continue
            source = real
            if modality == "text":
                source = _text(root / real)
                if not source:
                    faults.setdefault((path, "are texts without a word"), []).append(place)
            group = f"pair/{stem}" if modality in settings.pairs else item
            rows.append((item, modality, group, label, part, source))
    problems = [f"{path}: {len(places)} file(s) {kind}: {raw.first(places)}" for (path, kind), places in faults.items()]
    problems += _gaps(rows, classes, lists["train"])
    problems += _torn(rows, f"{where}.pairs", root)
    if problems:
        raise UserError("\n".join(problems))
    frame = pd.DataFrame(rows, columns=list(items.COLUMNS))
    if "val" not in lists:
        train = frame[frame.partition == "train"].groupby("group_id", sort=False)
        strata = train.agg(label=("label", "first"), modalities=("modality", lambda m: "+".join(sorted(m))))
        kept = raw.carve({group: tuple(row) for group, *row in strata.itertuples()}, settings.val, settings.seed)
        frame.loc[frame.group_id.isin(kept), "partition"] = "val"
    return items.validate(frame, root)


def _text(path: Path) -> str:
    try:
        return " ".join(path.read_text(encoding="utf-8-sig").split())
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: is no UTF-8 text ({error}); save it as UTF-8") from None


def _gaps(rows: list[tuple], classes: list[str], path: Path) -> list[str]:
    """Error messages on classes without a training item, at all or in a modality in which they are tested."""
    trained = {(label, modality) for _, modality, _, label, part, _ in rows if part == "train"}
    trained_labels = {label for label, _ in trained}
    bare = [repr(label) for label in classes if label not in trained_labels]
    others = {(label, modality) for _, modality, _, label, part, _ in rows if part != "train"}
    partly = [f"{label!r} ({modality})" for label, modality in sorted(others - trained) if label in trained_labels]
    if not bare and not partly:
        return []
    return [f"{path}: {len(bare + partly)} class(es) without a training item: {raw.first(bare + partly)}; add some"]


def _torn(rows: list[tuple], key: str, root: Path) -> list[str]:
    """Error messages on pairs that lie in more than one partition."""
    parts: dict[str, set[str]] = {}
    for _, _, group, _, part, _ in rows:
        parts.setdefault(group, set()).add(part)
    torn = [group.removeprefix("pair/") for group, partitions in parts.items() if len(partitions) > 1]
    if not torn:
        return []
    return [
        f"{root}: {len(torn)} pair(s) lie in more than one of the lists: {raw.first(torn)}; where items of the same "
        f"class and name do not belong together, set {key}: [] in params.yaml"
    ]
