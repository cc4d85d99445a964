"""Reader of Pascal Sentence (Rashtchian et al., 2010): 1,000 photographs of 20 classes with five sentences each.

The data set is published as web pages; this is the layout of the usual download scripts:

    ROOT/dataset/CLASS/NAME.jpg            50 photographs per class
    ROOT/sentence/CLASS/NAME.txt           the sentences of a photograph, one per line

The data set has no official split. The CVS thesis, table 3, counts 800 training and 200 test items of each modality, so
that by default the sentences of a photograph form one text, and ten photographs per class, drawn by the seed, are
tested.
"""

from __future__ import annotations

import os
from pathlib import Path

import pandas as pd
from pydantic import BaseModel, ConfigDict, Field

from crossmodal.core.errors import UserError
from crossmodal.datasets import items, raw

ENDINGS = (".jpg", ".jpeg", ".png")


class Settings(BaseModel):
    """The block of Pascal Sentence in `params.yaml`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    root: Path = Field(description="folder that contains the folders of photographs and of sentences")
    images: str = Field("dataset", description="folder of CLASS/NAME.jpg in root")
    sentences: str = Field("sentence", description="folder of CLASS/NAME.txt in root")
    joined: bool = Field(
        True, description="whether the sentences of a photograph are joined into one text; false: one text per sentence"
    )
    test: int = Field(10, ge=1, description="number of test photographs per class")
    val: float = Field(0.1, ge=0, le=0.5, description="share of each class's training photographs kept for validation")
    seed: int = Field(0, ge=0, description="seed of the choice of test and validation photographs")


def make(settings: Settings, folder: Path, *, title: str) -> None:
    """List the photographs, read their sentences and write `items.parquet` and `items.json` into `folder`.

    Raises
    ------
    UserError : a folder is missing, a photograph has no sentences, or a class is too small to be split.
    """
    root = settings.root
    read_from = raw.record(folder, trees=[root / settings.sentences], names=[root / settings.images])
    frame = read(settings, folder.name)
    manifest = {
        "reader": "pascal",
        "title": title,
        "root": raw.name_of(settings.root, folder),
        "settings": settings.model_dump(exclude={"root"}, mode="json"),
        "classes": sorted(frame.label.unique()),
        "raw": read_from,
    }
    items.write(frame, folder, manifest)


def read(settings: Settings, dataset: str = "*") -> pd.DataFrame:
    """The items: all photographs by class and name, then all texts.

    Parameters
    ----------
    dataset : name of the block in `params.yaml`, for error messages.

    Raises
    ------
    UserError : for the same reasons as `make`.
    """
    root, where = settings.root, f"datasets.{dataset}"
    for key, name in (("images", settings.images), ("sentences", settings.sentences)):
        if not (root / name).is_dir():
            raise UserError(
                f"{root / name}: no such folder; Pascal Sentence's {key} lie in CLASS folders there: set {where}.root "
                f"or {where}.{key} in params.yaml"
            )
    names = _listed(root / settings.images)
    if not names:
        raise UserError(f"{root / settings.images}: holds no CLASS/NAME.jpg; put the photographs there, by class")
    on_disk, lacking, texts = raw.Listing(root / settings.sentences), [], {}
    for stem in names:
        if (real := on_disk.find(f"{stem}.txt")) is not None:
            sentences = raw.lines(root / settings.sentences / real, "")
            texts[stem] = [" ".join(sentence.split()) for sentence in sentences]
        if not texts.get(stem):
            lacking.append(f"{stem}.txt")
    if lacking:
        raise UserError(
            f"{root / settings.sentences}: {len(lacking)} of {len(names)} files of sentences are missing or empty: "
            f"{raw.first(lacking)}; complete the folder, or remove the photographs"
        )
    classes = raw.shuffled({stem: stem.partition("/")[0] for stem in names}, settings.seed)
    small = [f"{label!r} ({len(of)})" for label, of in classes.items() if len(of) <= settings.test]
    if small:
        raise UserError(
            f"{root / settings.images}: {len(small)} class(es) have no photograph left to train on once "
            f"{settings.test} are tested: {raw.first(small)}; lower {where}.test in params.yaml"
        )
    parts = dict.fromkeys(names, "train") | {stem: "test" for of in classes.values() for stem in of[: settings.test]}
    training = {stem: stem.partition("/")[0] for stem in names if parts[stem] == "train"}
    parts |= dict.fromkeys(raw.carve(training, settings.val, settings.seed), "val")
    images, captions = [], []
    for stem, path in names.items():
        common = (stem, stem.partition("/")[0], parts[stem])
        images.append((f"image/{stem}", "image", *common, f"{settings.images}/{path}"))
        captions_of = [" ".join(texts[stem])] if settings.joined else texts[stem]
        ids = [f"text/{stem}"] if settings.joined else [f"text/{stem}#{k}" for k in range(len(captions_of))]
        captions += [(id_, "text", *common, text) for id_, text in zip(ids, captions_of, strict=True)]
    return items.validate(pd.DataFrame(images + captions, columns=list(items.COLUMNS)), root)


def _listed(folder: Path) -> dict[str, str]:
    """{CLASS/NAME: CLASS/NAME.jpg} of the photographs of a folder, sorted."""
    images: dict[str, str] = {}
    for label in sorted(entry.name for entry in os.scandir(folder) if entry.is_dir()):
        for name in sorted(entry.name for entry in os.scandir(folder / label)):
            if Path(name).suffix.lower() in ENDINGS:
                stem = f"{label}/{Path(name).stem}"
                if stem in images:
                    raise UserError(f"{folder / images[stem]} and {name} have the same name; keep one of them")
                images[stem] = f"{label}/{name}"
    return images
