"""What the readers share whose files hold the photographs themselves: Hugging Face `datasets` and WebDataset shards.

Each photograph is written to `images` in the data set's folder as it is stored, so that extractors and pages read files
as of any other data set. A name is that which the file gives if it is a plain one, otherwise the hash of the bytes;
rows with the same photograph, as there are where each caption has a row, become one image.
"""

from __future__ import annotations

import hashlib
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
from pydantic import Field

from crossmodal.core import limits, paths
from crossmodal.core.errors import UserError
from crossmodal.datasets import captioned, items
from crossmodal.datasets.captioned import ALIASES, Drawn, Entry
from crossmodal.datasets.folders import ENDINGS

PLAIN = re.compile(r"\w[\w .+=@,()-]{0,150}")
BEGINNINGS = {
    b"\xff\xd8\xff": ".jpg",
    b"\x89PNG\r\n\x1a\n": ".png",
    b"GIF8": ".gif",
    b"RIFF": ".webp",
    b"BM": ".bmp",
    b"II*\0": ".tif",
    b"MM\0*": ".tif",
}


class Settings(Drawn):
    """The block of a data set whose files hold the photographs."""

    root: Path = Field(description="folder of the files")
    splits: dict[str, str] = Field(
        {},
        description="names of the files' own splits to train, val, test or drop, such as {validation_matched: val}; "
        "by default a split goes by its name, and without splits partitions follow `lists` or are drawn",
    )


@dataclass(frozen=True)
class Sample:
    """A row or a sample of such a file: a photograph with captions."""

    file: Path
    place: str  # position in the file for error messages
    image: bytes
    name: str | None  # of the photograph's file, where the sample gives one
    captions: list[str]
    split: str | None
    label: str | None = None


Samples = Callable[[Any, str], tuple[list[Path], Iterator[Sample]]]


@dataclass
class _Folder:
    """The folder into which photographs are written; one that is there already is not written again."""

    path: Path
    names: dict[str, str] = field(default_factory=dict)  # hash of the bytes to the name

    def add(self, sample: Sample) -> str:
        digest = hashlib.sha256(sample.image).hexdigest()
        if digest not in self.names:
            ending = next((end for begin, end in BEGINNINGS.items() if sample.image.startswith(begin)), "")
            given = Path((sample.name or "").replace("\\", "/")).name
            stem = Path(given).stem if Path(given).suffix.lower() in ENDINGS else given
            name = f"{stem if PLAIN.fullmatch(stem) else digest[:32]}{ending}"
            if (self.path / name).exists():  # another photograph has this name
                name = f"{Path(name).stem}-{digest[:16]}{ending}"
            (self.path / name).write_bytes(sample.image)
            self.names[digest] = name
        return self.names[digest]


@dataclass(frozen=True)
class Reader:
    """A reader's `make` and `read`, from its function that gives the samples of its files.

    Parameters
    ----------
    samples : (settings, name of the data set) to the files that are read, and their samples.
    """

    name: str
    samples: Samples

    def make(self, settings: Settings, folder: Path, *, title: str) -> None:
        """Write the photographs, `items.parquet` and `items.json` into `folder`.

        Raises
        ------
        UserError : the files are missing or malformed, or samples contradict each other.
        """
        images, unfinished = folder / "images", folder / "images.unfinished"
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir(parents=True)
        try:
            files, frame, facts = self._unpacked(settings, unfinished, folder.name)
            shutil.rmtree(images, ignore_errors=True)
            unfinished.rename(images)
        finally:
            shutil.rmtree(unfinished, ignore_errors=True)
        captioned.write(self.name, settings, folder, title, frame, images, files, facts)

    def read(self, settings: Settings, dataset: str = "*") -> pd.DataFrame:
        """The items: all images in the order of the files, then all captions; raises UserError as `make` does."""
        with tempfile.TemporaryDirectory() as folder:
            return self._unpacked(settings, Path(folder), dataset)[1]

    def _unpacked(
        self, settings: Settings, images: Path, dataset: str
    ) -> tuple[list[Path], pd.DataFrame, dict[str, Any]]:
        if not settings.root.is_dir():
            raise UserError(
                f"{settings.root}: no such folder; set datasets.{dataset}.root in params.yaml to that of the files"
            )
        files, samples = self.samples(settings, dataset)
        folder, faults = _Folder(images), captioned.Faults()
        entries: dict[Path, list[Entry]] = {file: [] for file in files}
        for sample in samples:
            part, odd = partition_of(sample.split, settings.splits)
            if odd:
                known = "expected train, val or test; datasets.*.splits in params.yaml says where others go"
                faults.add(sample.file, f"sample(s) are of an unknown split ({known})", f"{sample.place}: {part!r}")
            elif part != "drop":
                name = folder.add(sample)
                entries[sample.file].append(Entry(sample.place, name, sample.captions, part, sample.label))
        faults.stop()
        listed = [(file, None, of_file) for file, of_file in entries.items()]
        frame, facts = captioned.frame_of(settings, images, listed, dataset)
        return files, frame, facts


def partition_of(split: str | None, splits: Mapping[str, str]) -> tuple[str | None, bool]:
    """The partition of a split, and whether it is none that is known; None without splits."""
    if split is None:
        return None, False
    part = splits.get(split, ALIASES.get(split.lower(), split.lower()))
    return part, part not in (*items.PARTITIONS, "drop")


def files_below(root: Path, endings: tuple[str, ...], advice: str) -> list[Path]:
    """The files with one of the endings below a folder, sorted; hidden ones are left out.

    Raises
    ------
    UserError : there is none, or a link leads out of the folder.
    """
    names = sorted(
        name for name, entry in paths.below(root) if name.endswith(endings) and not entry.name.startswith(".")
    )
    files = [paths.inside(root, name, str(root)) for name in names if (root / name).is_file()]
    if not files:
        raise UserError(f"{root}: holds no files with an ending of {', '.join(endings)}; {advice}")
    return files


def check_image(where: str, size: int) -> None:
    """Refuse the file of a photograph that is larger than `limits.unpacked`.

    Raises
    ------
    UserError : it is.
    """
    if size > (most := limits.current().unpacked):
        raise UserError(
            f"{where}: holds a photograph of {size:,} bytes, expected at most {most:,} (`limits.unpacked` in "
            "params.yaml)"
        )
