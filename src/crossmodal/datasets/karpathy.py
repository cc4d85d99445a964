"""Reader of Karpathy's layout of Flickr8K, Flickr30K and MS-COCO: a folder of images and a `dataset_*.json`."""

from __future__ import annotations

import logging
import re
from collections import Counter
from pathlib import Path
from typing import Any, Literal

import pandas as pd
from pydantic import BaseModel, ConfigDict, Field

from crossmodal.core.errors import UserError
from crossmodal.core.files import read_json, sha256_file
from crossmodal.datasets import captioned, items, raw

log = logging.getLogger(__name__)

SPLITS = ("train", "restval", "val", "test")
WORD = re.compile(r"[^\W_]")


class Settings(BaseModel):
    """The block of a data set in Karpathy's layout."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    annotations: Path = Field(description="dataset_*.json")
    images: Path = Field(description="folder of the images; that of MS-COCO contains train2014 and val2014")
    regions: captioned.Files = Field([], description=captioned.REGIONS)
    region_ids: Path | None = Field(None, description=captioned.REGION_IDS)
    restval: Literal["train", "drop"] = Field("train", description="partition of MS-COCO's `restval` images")
    splits: dict[str, Literal["train", "val", "test", "drop"]] = Field(
        {}, description="partitions of images of other splits, such as {dev: val}; drop leaves them out"
    )
    words: Literal["auto", "raw", "tokens"] = Field(
        "auto",
        description="captions as they are, or the file's `tokens` joined by spaces; auto: the tokens where captions "
        "are written without spaces",
    )


def make(settings: Settings, folder: Path, *, title: str) -> None:
    """Read the annotations and write `items.parquet` and `items.json` into `folder`.

    Raises
    ------
    UserError : the files are missing, malformed or contradict each other; the error lists the first places of each
        kind of fault.
    """
    regions, ids = settings.regions, settings.region_ids
    read_from = captioned.record(folder, [settings.annotations], settings.images, regions, ids)
    frame, by_tokens = _read(settings, folder.name)
    manifest = {
        "reader": "karpathy",
        "title": title,
        "root": raw.name_of(settings.images, folder),
        "annotations": {"file": settings.annotations.name, "sha256": sha256_file(settings.annotations)},
        "settings": settings.model_dump(include={"restval", "splits", "words"}),
        "raw": read_from,
        "words": "blanks" if by_tokens else "nltk",
    }
    manifest |= captioned.region_files(regions, ids, folder)
    items.write(frame, folder, manifest)


def read(settings: Settings, dataset: str = "*") -> pd.DataFrame:
    """The items: all images in the order of the file, then all captions.

    Parameters
    ----------
    dataset : name of the block in `params.yaml`, for error messages.

    Raises
    ------
    UserError : for the same reasons as `make`.
    """
    return _read(settings, dataset)[0]


def _read(settings: Settings, dataset: str) -> tuple[pd.DataFrame, bool]:
    """The items, and whether their captions are made from the file's `tokens`."""
    path = settings.annotations
    if not path.is_file():
        raise UserError(
            f"{path}: not found; set datasets.{dataset}.annotations in params.yaml to the data set's dataset_*.json"
        )
    if not settings.images.is_dir():
        raise UserError(
            f"{settings.images}: no such folder; set datasets.{dataset}.images in params.yaml to the image folder"
        )
    content = read_json(path)
    entries = content.get("images") if isinstance(content, dict) else None
    if not isinstance(entries, list) or not entries or captioned.reader_of(content):
        raise UserError(
            f"{path}: expected an object with a list `images`, as Karpathy's dataset_*.json has"
            f"{captioned.reader_of(content)}"
        )
    on_disk = _Images(settings.images)
    goes = {"train": "train", "restval": settings.restval, "val": "val", "test": "test", **settings.splits}
    images: list[tuple[str, str, str]] = []
    captions: list[tuple[str, str, str, str]] = []
    numbers: dict[str, int] = {}
    odd = [_structure(entry, number) for number, entry in enumerate(entries)]
    stems = [None if fault else _stem(_place(entry)) for entry, fault in zip(entries, odd, strict=True)]
    places = Counter(stems)
    tokens = _by_tokens(settings.words, [entry for entry, fault in zip(entries, odd, strict=True) if not fault])
    if tokens and settings.words == "auto":
        log.warning("%s: its captions are written without spaces: the file's `tokens` are read as their words", path)
    faults: dict[str, list[str]] = {}  # {kind of fault: its places}
    missing: list[str] = []
    for number, entry in enumerate(entries):
        if (fault := odd[number]) is not None:
            faults.setdefault("of another layout than Karpathy's", []).append(fault)
            continue
        name, split = entry["filename"], goes.get(entry["split"])
        if split is None:
            kind = (
                f"of an unknown split (expected {', '.join(SPLITS)}; datasets.{dataset}.splits: "
                f"{{{entry['split']}: val}} in params.yaml says where others go)"
            )
            faults.setdefault(kind, []).append(f"images[{number}] ({name!r}): {entry['split']!r}")
            continue
        if split == "drop":
            continue
        place = _place(entry)
        if place in numbers:
            faults.setdefault("listed twice (keep one)", []).append(
                f"{name!r} (images[{numbers[place]}] and images[{number}])"
            )
            continue
        numbers[place] = number
        # An image is identified by its file name; images with the same file name, by their paths.
        stem = stems[number] if places[stems[number]] == 1 else place
        source = on_disk.image(name, entry.get("filepath"))
        if source is None:
            missing.append(name)
        images.append((stem, split, source or name))
        if not entry["sentences"]:
            faults.setdefault("with no captions (add captions or remove them)", []).append(repr(name))
        for k, sentence in enumerate(entry["sentences"]):
            text = _text(sentence, tokens)
            if not WORD.search(text):
                kind = "with a caption that has no words (correct or remove it)"
                faults.setdefault(kind, []).append(f"caption {k} of {name!r} ({text!r})")
            captions.append((f"{stem}#{k}", stem, split, " ".join(text.split())))
    problems = [f"{path}: {len(places)} image(s) {kind}: {raw.first(places)}" for kind, places in faults.items()]
    if missing:
        problems.append(
            f"{settings.images}: {len(missing)} of the {len(entries)} images of {path.name} are not there: "
            f"{raw.first(missing)}; looked in {', '.join(on_disk.looked_in)}; complete the folder, or set "
            f"datasets.{dataset}.images in params.yaml to the right one"
        )
    lacking = {"train", "val", "test"} - {split for _, split, _ in images}
    if lacking and not faults:
        problems.append(f"{path}: no image is of the split(s) {', '.join(sorted(lacking))}; all three are needed")
    if problems:
        raise UserError("\n".join(problems))
    frame = pd.DataFrame(
        [(stem, "image", stem, None, split, source) for stem, split, source in images]
        + [(item, "text", stem, None, split, caption) for item, stem, split, caption in captions],
        columns=list(items.COLUMNS),
    )
    return items.validate(frame, path), tokens


def _structure(entry: Any, number: int) -> str | None:
    """A description of how an entry of `images` violates the layout, or None if it does not."""
    place = f"images[{number}]"
    if not isinstance(entry, dict):
        return f"{place} is no object but {type(entry).__name__}"
    for key, kind in (("filename", str), ("split", str), ("sentences", list)):
        if key not in entry:
            return f"{place} lacks `{key}`"
        if not isinstance(entry[key], kind):
            return f"{place}.{key} is no {kind.__name__} but {type(entry[key]).__name__}"
    if not _stem(entry["filename"]):
        return f"{place}.filename is empty"
    if not isinstance(entry.get("filepath"), str | None):
        return f"{place}.filepath is no str but {type(entry['filepath']).__name__}"
    for k, sentence in enumerate(entry["sentences"]):
        if not isinstance(sentence, dict) or not (
            isinstance(sentence.get("raw"), str) or isinstance(sentence.get("tokens"), list)
        ):
            return f"{place}.sentences[{k}] has neither `raw` nor `tokens`"
    return None


def _place(entry: dict[str, Any]) -> str:
    """The path of an image as given in the file."""
    return "/".join(filter(None, (entry.get("filepath"), entry["filename"])))


def _stem(place: str) -> str:
    """The stem of a path, like `Path.stem` but much faster for ordinary paths."""
    name = place.rpartition("/")[2]
    dot = name.rfind(".")
    return name[:dot] if 0 < dot < len(name) - 1 else Path(place).stem


def _text(sentence: dict[str, Any], by_tokens: bool) -> str:
    """The text of a caption, or its joined tokens if `by_tokens` is set or the text is missing."""
    raw_text, tokens = sentence.get("raw"), sentence.get("tokens")
    if isinstance(tokens, list) and tokens and (by_tokens or not (isinstance(raw_text, str) and raw_text.strip())):
        return " ".join(map(str, tokens))
    return raw_text if isinstance(raw_text, str) else ""


def _by_tokens(words: str, entries: list[Any]) -> bool:
    """Whether captions are made from `tokens`: as `words` says, or if the text has far fewer words than tokens."""
    if words != "auto":
        return words == "tokens"
    sentences = [sentence for entry in entries for sentence in entry["sentences"]]
    both = [
        sentence
        for sentence in sentences
        if isinstance(sentence.get("raw"), str) and isinstance(sentence.get("tokens"), list)
    ]
    blanks = sum(len(sentence["raw"].split()) for sentence in both)
    return 2 * blanks < sum(len(sentence["tokens"]) for sentence in both)


class _Images(raw.Listing):
    def image(self, name: str, filepath: str | None) -> str | None:
        """The path of an image relative to the folder, or None if it does not exist."""
        coco = re.match(r"COCO_(train2014|val2014)_", name)
        # An image may lie where the file says, in the MS-COCO folder of its name, or directly in the folder.
        for sub in filter(None, (filepath, coco and coco[1])):
            if (source := self.find(f"{sub}/{name}")) is not None:
                return source
        return self.find(name)
