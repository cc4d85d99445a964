"""Reader of a folder per class: `ROOT/CLASS/NAME.jpg`, or `ROOT/train/CLASS/NAME.jpg` with a folder per partition.

The texts of an image are the lines of `NAME.txt` beside it; without that file, the text is `prompt` with the name of
the class. To count items of the same class as relevant to each other, set `relevance: label` in the block.
"""

from __future__ import annotations

import os
from pathlib import Path

import pandas as pd
from pydantic import Field

from crossmodal.core.errors import UserError
from crossmodal.datasets import captioned, raw, table
from crossmodal.datasets.captioned import ALIASES, Drawn, Entry
from crossmodal.datasets.items import PARTITIONS

ENDINGS = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff")


class Settings(Drawn):
    """The block of a data set with a folder per class."""

    root: Path = Field(
        description="folder with one folder per class, or with folders train, val and test that "
        "contain one folder per class"
    )
    prompt: str | None = Field(
        "a photograph of a {}.",
        description="text of an image that has no text file, where {} becomes the name of its class with spaces for "
        "'_'; null: no text",
    )


def make(settings: Settings, folder: Path, *, title: str) -> None:
    """List the folders and write `items.parquet` and `items.json` into `folder`.

    Raises
    ------
    UserError : a folder is missing or has no images, or a class has no training image.
    """
    frame, facts = _read(settings, folder.name)
    facts |= {"classes": sorted(frame.label.unique()), "prompt": settings.prompt}
    captioned.write("folders", settings, folder, title, frame, settings.root, [], facts, [settings.root])


def read(settings: Settings, dataset: str = "*") -> pd.DataFrame:
    """The items: all images by partition, class and name, then all texts; raises UserError as `make` does."""
    return _read(settings, dataset)[0]


def _read(settings: Settings, dataset: str) -> tuple[pd.DataFrame, dict]:
    root, where = settings.root, f"datasets.{dataset}"
    if not root.is_dir():
        raise UserError(
            f"{root}: no such folder; set {where}.root in params.yaml to the folder with one folder per class"
        )
    if settings.prompt is not None and "{}" not in settings.prompt:
        raise UserError(f"params.yaml: {where}.prompt: {settings.prompt!r} has no {{}}, where the class's name stands")
    above = {name: ALIASES.get(name.lower(), name.lower()) for name in _folders(root)}
    by_part = bool(above) and all(part in PARTITIONS for part in above.values())
    parts = above if by_part else {"": None}
    entries = [entry for name, part in parts.items() for entry in _of(settings, name, part)]
    if not entries:
        raise UserError(
            f"{root}: holds no CLASS/NAME with an ending of {', '.join(ENDINGS)}; put the images there, by class"
        )
    frame, facts = captioned.frame_of(
        settings, root, [(root, None, entries)], dataset, captioned=settings.prompt is not None, strata=True
    )
    trained = set(frame.label[frame.partition == "train"])
    unseen = sorted(set(frame.label) - trained)
    if unseen:
        raise UserError(f"{root}: {len(unseen)} class(es) have no training image: {raw.first(unseen)}; put some there")
    return frame, facts


def _folders(path: Path) -> list[str]:
    return sorted(entry.name for entry in os.scandir(path) if entry.is_dir() and not entry.name.startswith("."))


def _of(settings: Settings, above: str, part: str | None) -> list[Entry]:
    """The images in the class folders below the folder `above`."""
    entries = []
    top = settings.root / above
    for label in _folders(top):
        names = sorted(entry.name for entry in os.scandir(top / label) if entry.is_file())
        present = set(names)
        for name in names:
            path = Path(name)
            if path.suffix.lower() not in ENDINGS:
                continue
            source = "/".join(filter(None, (above, label, name)))
            texts = []
            if f"{path.stem}.txt" in present:
                texts = [line for _, line in table.numbered_lines(top / label / f"{path.stem}.txt")]
            elif settings.prompt is not None:
                texts = [settings.prompt.replace("{}", label.replace("_", " "))]
            entries.append(Entry(source, source, texts, part, label))
    return entries
