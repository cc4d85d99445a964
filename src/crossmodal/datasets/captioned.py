"""Helpers of the readers of image-caption annotations: image paths, item ids, partitions and error messages.

A reader turns its files into entries (an image with captions). `Reader` finds the images, joins the entries of each
image, assigns partitions and writes the items. Partitions come from the annotations (by file or by column), from
`lists` of image names, or are drawn from a seed.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Literal

import pandas as pd
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from crossmodal.core import paths
from crossmodal.core.errors import UserError, suggestion
from crossmodal.core.files import sha256_file
from crossmodal.datasets import items, partitions, raw
from crossmodal.datasets.partitions import Image

WORD = re.compile(r"[^\W_]")
COCO = re.compile(r"COCO_(train2014|val2014|test2014|test2015)_")
Partition = Literal["train", "val", "test"]
ALIASES: dict[str, Partition] = {
    "dev": "val",
    "valid": "val",
    "validation": "val",
    "training": "train",
    "restval": "train",
}

REGIONS = (
    "regions.json (boxes, classes and attributes of each image), or files of region features as they are released "
    "(.tsv, .h5, .lmdb, a folder of .npz), which the extractor `released` reads"
)
REGION_IDS = "text file that names the image of each row of `regions`, where these name none"


def _as_list(value: Any) -> Any:
    return [value] if isinstance(value, str | Path) else value


Files = Annotated[list[Path], BeforeValidator(_as_list)]


class Drawn(BaseModel):
    """Settings of data sets whose files do not state the partition of each image."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    lists: dict[Partition, Path] = Field(
        {}, description="partition to a text file of its image names, one per line; images in no list are left out"
    )
    val: float = Field(
        0.1,
        ge=0,
        lt=1,
        description="share of the images that is kept for validation where nothing else determines them",
    )
    test: float = Field(
        0.1, ge=0, lt=1, description="share of the images that is kept for the test where nothing else determines them"
    )
    seed: int = Field(0, ge=0, description="seed of the choice of test and validation images")
    regions: Files = Field([], description=REGIONS)
    region_ids: Path | None = Field(None, description=REGION_IDS)


class Settings(Drawn):
    """Settings of data sets whose annotations lie in separate files."""

    images: Path = Field(description="folder of the images")
    annotations: Files | dict[Partition, Files] = Field(
        description="annotation file, list of files, or a mapping of each partition to its file or files"
    )


@dataclass
class Entry:
    """An image as named in an annotation file, with its captions there."""

    place: str  # position in the file for error messages, such as `line 7`
    name: str
    captions: list[str]
    partition: str | None = None
    label: str | None = None  # several classes are encoded by `items.encoded_labels`


@dataclass
class Faults:
    """Faults by file and kind with their places; they are reported together, with the first few places of each kind."""

    of: dict[tuple[Path, str], list[str]] = field(default_factory=dict)

    def add(self, path: Path, kind: str, place: str) -> None:
        """Record a fault of a file at a place; `kind` describes it."""
        self.of.setdefault((path, kind), []).append(place)

    def stop(self) -> None:
        """Raise a UserError if there are any faults."""
        lines = [f"{path}: {len(places)} {kind}: {raw.first(places)}" for (path, kind), places in self.of.items()]
        if lines:
            raise UserError("\n".join(lines))


Entries = Callable[[Any, str], list[tuple[Path, Partition | None, list[Entry]]]]


@dataclass(frozen=True)
class Reader:
    """A reader's `make` and `read`, from its function that gives the entries of each annotation file.

    Parameters
    ----------
    entries : (settings, name of the data set) to one (file, its partition or None, entries) per file.
    """

    name: str
    entries: Entries

    def make(self, settings: Settings, folder: Path, *, title: str) -> None:
        """Read the annotations and write `items.parquet` and `items.json` into `folder`.

        Raises
        ------
        UserError : the files, or a file of regions, are missing, malformed or contradict each other.
        """
        frame, facts = frame_of(settings, settings.images, self.entries(settings, folder.name), folder.name)
        files = [path for path, _ in files_of(settings)]
        write(self.name, settings, folder, title, frame, settings.images, files, facts)

    def read(self, settings: Settings, dataset: str = "*") -> pd.DataFrame:
        """The items: all images in the order of the files, then all captions; raises UserError as `make` does."""
        return frame_of(settings, settings.images, self.entries(settings, dataset), dataset)[0]


def write(
    reader: str,
    settings: Drawn,
    folder: Path,
    title: str,
    frame: pd.DataFrame,
    root: Path,
    files: list[Path],
    facts: Mapping[str, Any],
    texts: Sequence[Path] = (),
) -> None:
    """Write the items, with a manifest that describes the files they were read from and the files of regions.

    Parameters
    ----------
    root : folder of the images.
    files : annotation files.
    facts : further entries of the manifest.
    texts : folders with captions in .txt files.

    Raises
    ------
    UserError : a file of regions is missing, the items break the contract, or the folder cannot be written.
    """
    chosen = settings.model_dump(mode="json", include={"val", "test", "seed"})
    manifest = {
        "reader": reader,
        "title": title,
        "root": raw.name_of(root, folder),
        "annotations": [
            {"file": path.name, "sha256": sha256_file(path)} for path in [*files, *settings.lists.values()]
        ],
        "settings": chosen,
        **facts,
        **region_files(settings.regions, settings.region_ids, folder),
        "raw": record(folder, [*files, *settings.lists.values()], root, settings.regions, settings.region_ids, texts),
    }
    items.write(frame, folder, manifest)


def record(
    folder: Path,
    files: list[Path],
    images: Path,
    regions: Path | list[Path],
    ids: Path | None,
    texts: Sequence[Path] = (),
) -> dict[str, dict[str, str]]:
    """`raw.record` of the annotations, the files of regions, and the file names in the image folder."""
    read = [*files, *_as_list(regions), *([ids] if ids else [])]
    folders = [path for path in read if path.is_dir()]
    return raw.record(folder, [path for path in read if not path.is_dir()], folders, names=[images], texts=texts)


def region_files(regions: Path | list[Path], ids: Path | None, folder: Path) -> dict[str, Any]:
    """The entry of `items.json` about a data set's files of regions: `regions` (annotations) or `region_features`.

    Raises
    ------
    UserError : a file is missing, or annotations are given together with other files.
    """
    regions, key = _as_list(regions), f"datasets.{folder.name}.regions"
    for path in [*regions, *([ids] if ids else [])]:
        if not path.exists():
            raise UserError(
                f"{path}: not found; set {key} in params.yaml to the file of region annotations or "
                "features, or leave it out"
            )
    if not regions:
        return {}
    if any(path.suffix.lower() == ".json" for path in regions):
        if len(regions) > 1:
            raise UserError(
                f"params.yaml: {key}: names {len(regions)} files; expected one regions.json alone, or files of "
                "features alone"
            )
        named = raw.name_of(regions[0], folder)
        return {"regions": {"file": named, "sha256": sha256_file(regions[0]), "exact": False}}
    record: dict[str, Any] = {"files": [raw.name_of(path, folder) for path in regions]}
    if ids is not None:
        record["ids"] = raw.name_of(ids, folder)
    return {"region_features": record}


def files_of(settings: Settings) -> list[tuple[Path, Partition | None]]:
    """The annotation files, each with the partition of its images if the block names it, otherwise with None."""
    annotations = settings.annotations
    if isinstance(annotations, dict):
        return [(path, part) for part, paths in annotations.items() for path in paths]
    return [(path, None) for path in annotations]


def existing_file(path: Path, dataset: str, what: str, key: str = "annotations") -> Path:
    """Return `path`, which must be a file.

    Raises
    ------
    UserError : the file does not exist; the message asks for `what` as `key` of the data set's block.
    """
    if not path.is_file():
        raise UserError(f"{path}: not found; set datasets.{dataset}.{key} in params.yaml to {what}")
    return path


def frame_of(
    settings: Drawn,
    images: Path,
    entries: Iterable[tuple[Path, str | None, list[Entry]]],
    dataset: str,
    *,
    captioned: bool = True,
    strata: bool = False,
) -> tuple[pd.DataFrame, dict[str, Any]]:
    """The items (all images in the order of the files, then all captions), and facts for the manifest.

    Parameters
    ----------
    images : image folder.
    entries : (file, partition of all its images or None, its entries). Entries of the same image are joined.
    dataset : name of the block in `params.yaml`, for error messages.
    captioned : whether every image needs a caption.
    strata : whether drawn partitions are stratified by label.

    Raises
    ------
    UserError : images are missing or of two partitions, captions have no words, or names lead out of the folder; the
        error lists the first places of each kind of fault.
    """
    if not images.is_dir():
        raise UserError(f"{images}: no such folder; set datasets.{dataset}.images in params.yaml to the image folder")
    on_disk, faults = Photographs(images), Faults()
    by_source: dict[str, Image] = {}
    read = []
    for path, part, listed in entries:
        read.append(path)
        for entry in listed:
            if paths.leaves(entry.name):
                faults.add(path, "image name(s) leave the image folder (absolute, or with `..`)", _at(entry))
                continue
            partition = _partition(part or entry.partition)
            if partition is not None and partition not in items.PARTITIONS:
                kind = f"entries with an unknown partition (expected {', '.join(items.PARTITIONS)})"
                faults.add(path, kind, f"{_at(entry)}: {partition!r}")
                continue
            captions = [" ".join(text.split()) for text in entry.captions]
            for text in captions:
                if not WORD.search(text):
                    kind = "caption(s) have no words (correct or remove them)"
                    faults.add(path, kind, f"{_at(entry)} ({text!r})")
            source = on_disk.locate(entry.name)
            image = Image(entry.place, entry.name, source or entry.name, source is None, [], partition, entry.label)
            image = by_source.setdefault(image.source, image)
            if image.partition != partition:
                faults.add(
                    path, "image(s) belong to two partitions", f"{_at(entry)}: {image.partition} and {partition}"
                )
            if image.label != entry.label:
                faults.add(path, "image(s) have two labels", f"{_at(entry)}: {image.label!r} and {entry.label!r}")
            image.captions += captions
    faults.stop()
    if not by_source:
        files = ", ".join(map(str, read)) or f"params.yaml: datasets.{dataset}: annotations"
        raise UserError(f"{files}: no image is annotated; expected its name and a caption of each image in {images}")
    facts = partitions.assign([*by_source.values()], settings, dataset, strata=strata)
    kept = [image for image in by_source.values() if image.partition is not None]
    missing = [image.name for image in kept if image.missing]
    bare = [repr(image.name) for image in kept if not image.captions]
    lines = []
    if missing:
        lines.append(
            f"{images}: {len(missing)} of the {len(kept)} annotated images are not there: {raw.first(missing)}; "
            f"looked in {', '.join(on_disk.looked_in)}; complete the folder, or set "
            f"datasets.{dataset}.images in params.yaml to the right one"
        )
    if bare and captioned:
        lines.append(
            f"{images}: {len(bare)} image(s) have no captions: {raw.first(bare)}; add captions or remove the images"
        )
    if lines:
        raise UserError("\n".join(lines))
    ids = ids_of([image.source for image in kept])
    rows = [
        (ids[image.source], "image", ids[image.source], image.label, image.partition, image.source) for image in kept
    ]
    rows += [
        (f"{ids[image.source]}#{k}", "text", ids[image.source], image.label, image.partition, text)
        for image in kept
        for k, text in enumerate(image.captions)
    ]
    return items.validate(pd.DataFrame(rows, columns=list(items.COLUMNS)), images), facts


def _at(entry: Entry) -> str:
    return f"{entry.name!r} ({entry.place})"


def _partition(name: str | None) -> str | None:
    return name if name is None else ALIASES.get(name.strip().lower(), name.strip().lower())


class Photographs(raw.Listing):
    """An image folder in which images are found by their names in annotation files."""

    def locate(self, name: str) -> str | None:
        """The path of an image relative to the folder, or None if it does not exist.

        An image may lie where the annotations say, in the MS-COCO folder of its name, or directly in the folder.
        """
        path = PurePosixPath(name.replace("\\", "/").removeprefix("./"))
        above = "" if str(path.parent) == "." else str(path.parent)
        coco = COCO.match(path.name)
        for sub in dict.fromkeys((above, coco[1] if coco else above, "")):
            if (source := self.find(f"{sub}/{path.name}" if sub else path.name)) is not None:
                return source
        return None


def ids_of(sources: list[str]) -> dict[str, str]:
    """{source: item id}; the id is the file's stem, or, if that is not unique, the path without or with the ending."""
    ids: dict[str, str] = {}
    left = sources
    for name in (lambda path: path.stem, lambda path: str(path.with_suffix("")), str):
        sources_of: dict[str, list[str]] = {}
        for source in left:
            sources_of.setdefault(name(PurePosixPath(source)), []).append(source)
        ids |= {same[0]: key for key, same in sources_of.items() if len(same) == 1}
        left = [source for same in sources_of.values() if len(same) > 1 for source in same]
    return ids


def text_of(value: Any) -> list[str] | None:
    """The captions in a JSON or Parquet value, which is a text or a list of texts; None for any other value."""
    if isinstance(value, str):
        return [value]
    listed = value.tolist() if hasattr(value, "tolist") else value
    if isinstance(listed, list | tuple) and all(isinstance(text, str) for text in listed):
        return list(listed)
    return None


def reader_of(content: Any) -> str:
    """Advice on which reader to use for JSON of another layout; empty if the layout is unknown."""
    if isinstance(content, list) and content and isinstance(content[0], dict) and "caption" in content[0]:
        return "; this is the layout of LAVIS and BLIP: set `reader: lavis`"
    if isinstance(content, dict) and isinstance(content.get("annotations"), list):
        return "; this is the layout of COCO's captions: set `reader: coco_captions`"
    return ""


def column(names: Iterable[str], wanted: str, where: str) -> str:
    """Return `wanted`, which must be one of the column names.

    Raises
    ------
    UserError : there is no such column.
    """
    listed = [*names]
    if wanted not in listed:
        raise UserError(f"{where}: has no column {wanted!r}" + suggestion(wanted, listed))
    return wanted
