"""Region annotations of a data set (`regions.json`: boxes, classes, attributes), and simulated detector errors.

The annotations of drawn pictures are exact, but the output of a detector is not. The simulated errors are a model with
chosen rates, not a measurement of any detector.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from crossmodal.core import paths
from crossmodal.core.errors import UserError
from crossmodal.core.files import read_json, read_record, sha256_file

OVER = 1.0  # pixels by which a box may exceed the picture's border, since annotators round
RIGHT, WRONG = (8, 2), (4, 4)  # parameters of the beta distributions of confidences, with means .8 and .5


class Region(NamedTuple):
    """One annotated region of a picture."""

    box: tuple[float, float, float, float]  # x1, y1, x2, y2 in pixels of the picture
    name: str
    attribute: str  # empty if there is none
    confidence: float


class Worsening(BaseModel):
    """Rates of the simulated detector errors in exact annotations."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    missed: float = Field(0.1, ge=0, le=1, description="share of the regions that are left out")
    confused: float = Field(0.1, ge=0, le=1, description="share of the classes, and of the attributes, that are wrong")
    renamed: float = Field(0.2, ge=0, le=1, description="share of the names that are replaced by a synonym")
    jitter: float = Field(
        0.08,
        ge=0,
        le=0.5,
        description="standard deviation of the position of an edge, as a share of the side of the box",
    )
    seed: int = 0


@dataclass(frozen=True)
class Annotations:
    """Regions of each picture of a data set, from the file that its `items.json` names."""

    path: Path
    sha256: str
    entries: dict[str, Any]
    synonyms: dict[str, list[str]]
    worsening: Worsening | None

    @cached_property
    def classes(self) -> tuple[str, ...]:
        """All class names in the file, sorted."""
        return self._known("class")

    @cached_property
    def attributes(self) -> tuple[str, ...]:
        """All attribute names in the file, sorted."""
        return self._known("attribute")

    def _known(self, key: str) -> tuple[str, ...]:
        listed = (region for entry in self.entries.values() if isinstance(entry, list) for region in entry)
        names = {region.get(key) for region in listed if isinstance(region, dict)}
        return tuple(sorted(name for name in names if isinstance(name, str) and name))

    def of(self, source: str, wide: int, high: int) -> list[Region]:
        """Regions of a picture of `wide` x `high` pixels, in decreasing order of confidence.

        They include simulated errors if `worsening` is set.

        Raises
        ------
        UserError : the picture is not listed, or one of its regions is malformed or lies outside of it.
        """
        regions = self._given(source)
        for region in regions:
            x1, y1, x2, y2 = region.box
            if min(x1, y1) < -OVER or x2 > wide + OVER or y2 > high + OVER:
                raise UserError(
                    f"{self.path}: {source}: the box {list(region.box)} of {region.name!r} reaches outside of the "
                    f"picture of {wide} x {high} pixels; boxes are x1, y1, x2, y2 in pixels of the file as it is stored"
                )
        worsened = [_clipped(region, wide, high) for region in self._worse(source, regions)]
        return sorted(worsened, key=lambda region: -region.confidence)

    def names(self, source: str) -> list[str] | None:
        """The names of a picture's regions as they are annotated; None for a picture that is not listed.

        Raises
        ------
        UserError : one of its regions is malformed.
        """
        listed = source in self.entries or Path(source).name in self.entries
        return [region.name for region in self._given(source)] if listed else None

    def bare(self, sources: Iterable[str]) -> int:
        """Number of pictures without a region after the simulated errors; malformed entries are not counted."""
        count = 0
        for source in sources:
            with suppress(UserError):
                count += not self._worse(source, self._given(source))
        return count

    def _given(self, source: str) -> list[Region]:
        name = source if source in self.entries else Path(source).name
        if name not in self.entries:
            raise UserError(
                f"{self.path}: lists nothing of {source}; give it its regions, or an empty list where it has none"
            )
        entry = self.entries[name]
        if not isinstance(entry, list):
            raise UserError(f"{self.path}: {name}: expected a list of regions, found {type(entry).__name__}")
        return [self._region(region, f"{self.path}: {name}[{n}]") for n, region in enumerate(entry)]

    def _worse(self, source: str, regions: list[Region]) -> list[Region]:
        if self.worsening is None:
            return regions
        return worsen(regions, Path(source).name, self.worsening, self.classes, self.attributes, self.synonyms)

    @staticmethod
    def _region(entry: Any, where: str) -> Region:
        if not isinstance(entry, dict):
            raise UserError(f"{where}: expected an object with box and class, found {type(entry).__name__}")
        box, name = entry.get("box"), entry.get("class")
        if not (isinstance(box, list) and len(box) == 4 and all(_number(value) for value in box)):
            raise UserError(f"{where}.box: expected four numbers x1, y1, x2, y2 in pixels, found {box!r}")
        if not (box[0] < box[2] and box[1] < box[3]):
            raise UserError(f"{where}.box: {box} has no area; expected x1 < x2 and y1 < y2")
        attribute, confidence = entry.get("attribute") or "", entry.get("confidence", 1.0)
        if not isinstance(name, str) or not name.strip():
            raise UserError(f"{where}.class: expected a name, found {name!r}")
        if not isinstance(attribute, str):
            raise UserError(f"{where}.attribute: expected a name or null, found {attribute!r}")
        if not _number(confidence) or not 0 <= confidence <= 1:
            raise UserError(f"{where}.confidence: expected a number from 0 to 1, found {confidence!r}")
        return Region(tuple(map(float, box)), name, attribute, float(confidence))


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and -1e30 < value < 1e30


def read(folder: Path, worsening: Worsening | None) -> Annotations:
    """Read the annotations of a prepared data set.

    Parameters
    ----------
    folder : `data/DATASET`, whose `items.json` describes the annotations in `regions`: `file` (relative to `folder`, or
        absolute), `exact` (true for a drawn data set) and `synonyms` (a name to other names with the same meaning).
    worsening : simulated errors, which are applied to exact annotations only.

    Raises
    ------
    UserError : the data set names no file of regions, or the file is no JSON object.
    """
    manifest = folder / "items.json"
    named = read_record(manifest).get("regions")
    if not isinstance(named, dict) or not isinstance(named.get("file"), str):
        raise UserError(
            f"{manifest}: names no `regions` file, which `boxes: annotated` reads; set `regions` in the data set's "
            "block of params.yaml, or `boxes: grid` (or `detected`) in the extractor's"
        )
    path = paths.named(folder, named["file"], f"{manifest}: regions.file")
    entries = read_json(path)
    if not isinstance(entries, dict):
        raise UserError(f"{path}: expected an object of image names with their regions, found {type(entries).__name__}")
    chosen = worsening if named.get("exact") else None
    return Annotations(path, sha256_file(path), entries, named.get("synonyms") or {}, chosen)


def _clipped(region: Region, wide: int, high: int) -> Region:
    """The region with its box clipped to the picture and at least one pixel wide and high."""
    x1, y1, x2, y2 = region.box
    x1, y1 = min(max(x1, 0.0), wide - 1.0), min(max(y1, 0.0), high - 1.0)
    return region._replace(box=(x1, y1, max(min(x2, float(wide)), x1 + 1), max(min(y2, float(high)), y1 + 1)))


def worsen(
    regions: list[Region],
    key: str,
    rates: Worsening,
    classes: tuple[str, ...],
    attributes: tuple[str, ...],
    synonyms: dict[str, list[str]],
) -> list[Region]:
    """Apply simulated detector errors to the regions of a picture; the result depends on the arguments only.

    Confidences are multiplied by a beta variate with a mean of .8, or of .5 if the class is wrong.

    Parameters
    ----------
    key : the picture's name, which together with `rates.seed` seeds the random numbers.
    classes, attributes : all names, from which wrong ones are drawn.
    synonyms : a name to other names with the same meaning.
    """
    digest = hashlib.sha256(f"{rates.seed}\0{key}".encode()).digest()
    rng = np.random.default_rng(int.from_bytes(digest[:16], "big"))

    def disturbed(name: str, names: tuple[str, ...]) -> tuple[str, bool]:
        confused, renamed = rng.random(2)
        others = [other for other in names if other != name]
        wrong = bool(name and others and confused < rates.confused)
        if wrong:
            name = others[int(rng.integers(len(others)))]
        alike = [other for other in synonyms.get(name, ()) if other != name]
        if alike and renamed < rates.renamed:
            name = alike[int(rng.integers(len(alike)))]
        return name, wrong

    worsened = []
    for region in regions:
        if rng.random() < rates.missed:
            continue
        name, wrong = disturbed(region.name, classes)
        attribute, _ = disturbed(region.attribute, attributes)
        x1, y1, x2, y2 = region.box
        moves = rng.normal(0, rates.jitter, 4).clip(-0.4, 0.4) * (x2 - x1, y2 - y1, x2 - x1, y2 - y1)
        box = tuple(float(value) for value in np.add(region.box, moves))
        confidence = float(region.confidence * rng.beta(*(WRONG if wrong else RIGHT)))
        worsened.append(Region(box, name, attribute, round(confidence, 4)))
    return worsened


def whole_picture(wide: int, high: int, name: str) -> Region:
    """A region of class `name` that covers the whole picture, for a picture without annotated regions."""
    return Region((0.0, 0.0, float(wide), float(high)), name, "", 0.0)
