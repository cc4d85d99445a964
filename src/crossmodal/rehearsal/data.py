"""The data of a rehearsal: prepared data sets, their raw files, or small data sets written in the same layout.

Missing features are extracted from two items, which gives an estimate of the time for all; copies of these with a
little noise stand in for the rest. Quick features are extracted for all items.
"""

from __future__ import annotations

import logging
import os
import shutil
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from pydantic import BaseModel

from crossmodal.core import registry
from crossmodal.core.errors import UserError
from crossmodal.core.files import read_record, write_parquet
from crossmodal.corpus import splits
from crossmodal.datasets import items
from crossmodal.experiments import Plan, validated
from crossmodal.features.engine import extraction
from crossmodal.features.engine import store as storage
from crossmodal.language.tokens import token_table
from crossmodal.rehearsal.layouts import LAYOUTS

log = logging.getLogger(__name__)

TRIED = 2  # items that an extractor is tried on
BATCH = 16  # copies of those, by which the time per item is measured where it is short
QUICK = 5.0  # seconds that an extraction may take to be done for all items
LARGEST = 2**29  # bytes of an array of stand-in features
SEEDED = {"weights": "seeded", "vectors": "seeded"}  # settings of an extractor that replace a missing file


@dataclass
class Prepared:
    """A data set that jobs are rehearsed on."""

    name: str
    origin: str  # prepared, raw files, or a small set in their layout
    share: dict[str, float] = field(default_factory=dict)  # partition: items of the real data set per item here
    known: bool = True  # whether its real size is known
    extraction: list[dict[str, Any]] = field(default_factory=list)  # one estimate of time and disk per array


@dataclass
class Tried:
    """The features that an extractor computed from two items, and the time that it took."""

    array: np.ndarray
    further: dict[str, Any]
    taken: dict[str, Any]


@dataclass
class Missing:
    """Something missing: what it is needed for, and the message of its reader."""

    what: str
    message: str
    home: str | None = None


def prepare(
    plan: Plan,
    dataset: str,
    wanted: Iterable[tuple[str, str]],
    split_names: Iterable[str],
    place: Path,
    tried: dict[tuple[str, str], Tried] | None = None,
) -> tuple[Prepared, list[Missing]]:
    """Fill `place/data/DATASET` from the data that exist, in the layout that runs read.

    Parameters
    ----------
    wanted : each (modality, extractor) that jobs read.
    split_names : the splits that they are trained on.
    tried : results of extractors on other data sets, which are reused and added to.

    Raises
    ------
    UserError : the data set is missing, and there is no writer of a small one in its layout.
    """
    chosen = plan.params.datasets[dataset]
    real, folder = Path(plan.params.paths.data) / dataset, place / "data" / dataset
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    missing: list[Missing] = []
    if (real / "items.parquet").exists():
        prepared = Prepared(dataset, "as it is prepared")
        frame = items.read(real)
        for name in ("items.parquet", "items.json", "classes.parquet"):
            if (real / name).exists():
                shutil.copyfile(real / name, folder / name)
        _link_regions(real, folder)
    else:
        prepared = _read(plan, dataset, place, missing)
        frame = items.read(folder)
    counts = frame[frame.modality == frame.modality.iloc[0]].partition.value_counts()
    lacking = [(m, e) for m, e in wanted if not storage.paths(real / "features" / f"{m}.{e}")[2].exists()]
    if prepared.origin != "small set" and lacking:
        frame = _few(frame)
        items_there = frame[frame.modality == frame.modality.iloc[0]].partition.value_counts()
        prepared.share = {part: counts[part] / items_there[part] for part in items_there.index}
        write_parquet(folder / "items.parquet", frame)
    elif prepared.origin == "small set":
        prepared.known = bool(chosen.size)
        prepared.share = {part: chosen.size[part] / counts[part] for part in counts.index if part in chosen.size}
    for modality, extractor in wanted:
        source = real / "features" / f"{modality}.{extractor}"
        if (modality, extractor) not in lacking:
            for have, want in zip(storage.paths(source), storage.paths(folder / "features" / source.name), strict=True):
                want.parent.mkdir(parents=True, exist_ok=True)
                _link(have, want)
            continue
        root = items.root(real if prepared.origin == "as it is prepared" else folder)
        taken, absent = _features(plan, frame, root, modality, extractor, folder, {} if tried is None else tried)
        many = sum(len(frame[(frame.modality == modality) & (frame.partition == part)]) * prepared.share.get(part, 1.0)
                   for part in items.PARTITIONS)  # fmt: skip
        prepared.extraction.append({"array": source.name, "items": round(many), **taken})
        missing += absent
    if chosen.arrays is None or not chosen.arrays.get("text", True):
        write_parquet(folder / "tokens.parquet", token_table(frame))
    for name in sorted(set(split_names)):
        labelled = chosen.relevance == "label"
        pairs = splits.make_labelled(frame, name, chosen.stages) if labelled else splits.make(
            frame, name, plan.params.splits.seed
        )  # fmt: skip
        write_parquet(folder / "splits" / f"{name}.parquet", pairs)
    return prepared, missing


def _read(plan: Plan, dataset: str, place: Path, missing: list[Missing]) -> Prepared:
    """Read the raw files, or else a small data set that is written in their layout."""
    chosen = plan.params.datasets[dataset]
    reader, folder = registry.module("datasets", chosen.reader), place / "data" / dataset
    settings = validated(reader.Settings, chosen.settings, f"params.yaml: datasets.{dataset}")
    try:
        reader.make(settings, folder, title=chosen.title)
        return Prepared(dataset, "raw files")
    except UserError as error:
        if chosen.reader not in LAYOUTS:
            raise
        missing.append(Missing(f"data set {dataset}", str(error), chosen.home))
    raw = folder / "raw"  # inside the folder, where its manifest may name it
    shutil.rmtree(raw, ignore_errors=True)
    small_settings = LAYOUTS[chosen.reader](raw, chosen.settings)
    small = validated(reader.Settings, {**chosen.settings, **small_settings}, f"rehearsal of {dataset}")
    reader.make(small, folder, title=chosen.title)
    return Prepared(dataset, "small set")


def _few(frame: pd.DataFrame) -> pd.DataFrame:
    """A part of the items that is small enough for stand-in features: whole groups, balanced over classes."""
    most = {"train": 1500, "val": 200, "test": 200}
    groups = frame.drop_duplicates("group_id")
    number = groups.groupby([groups.partition, groups.modality, groups.label.fillna("")], sort=False).cumcount()
    groups = groups.iloc[number.argsort(kind="stable")]
    place = groups.groupby([groups.partition, groups.modality], sort=False).cumcount()
    kept = groups.group_id[place < groups.partition.map(most)]
    return frame[frame.group_id.isin(set(kept))].reset_index(drop=True)


def _features(
    plan: Plan,
    frame: pd.DataFrame,
    root: Path,
    modality: str,
    extractor: str,
    folder: Path,
    tried: dict[tuple[str, str], Tried],
) -> tuple[dict[str, Any], list[Missing]]:
    """Write features of all items, or copies of those of two; returns the time per item, and what was missing."""
    chosen = plan.params.extractors[extractor]
    module = registry.module("features", chosen.extractor)
    where = f"params.yaml: extractors.{extractor}"
    settings: BaseModel = validated(module.Settings, chosen.settings, where)
    context = extraction.given_of(frame, root, modality, folder)
    target = folder / "features" / f"{modality}.{extractor}"
    if context.rows.empty:
        raise UserError(f"{folder.name}: holds no {modality} items, which runs read")
    if (modality, extractor) in tried:
        trial = tried[modality, extractor]
        _stand_in(target, context.rows.item_id, trial)
        return trial.taken, []
    missing: list[Missing] = []
    try:
        recipe = module.recipe(settings, context)
        work = recipe.begin(context.items)
    except UserError as error:
        without = {key: value for key, value in SEEDED.items() if key in chosen.settings}
        if not without:
            raise
        missing.append(Missing(f"extractor {extractor}", str(error)))
        settings = validated(module.Settings, {**chosen.settings, **without}, where)
        recipe = module.recipe(settings, context)
        work = recipe.begin(context.items)
    computed, each = _timed(work, context.items[:TRIED])
    if each < QUICK / len(context.rows):
        began = time.perf_counter()
        store = folder.parent / ".features"
        extraction.run(chosen.extractor, frame, root, settings, target, threads=1, modality=modality, store=store)
        each = (time.perf_counter() - began) / len(context.rows)
        return {"seconds_per_item": each, "bytes_per_item": _size(storage.open_features(target).array)}, missing
    if each < QUICK / TRIED:
        computed, each = _timed(work, context.items[:TRIED])  # the first call is slower
    if each < QUICK / 2 / BATCH:
        each = _timed(work, context.items[:TRIED] * (BATCH // TRIED))[1]  # what each call costs is shared by a batch
    array, further = computed if isinstance(computed, tuple) else (computed, {})
    array = np.asarray(array, np.float32)
    trial = Tried(array, further, {"seconds_per_item": each, "bytes_per_item": _size(array)})
    tried[modality, extractor] = trial
    _stand_in(target, context.rows.item_id, trial)
    return trial.taken, missing


def _timed(work: extraction.Work, listed: list[extraction.Item]) -> tuple[Any, float]:
    """Features of items, and the seconds per item."""
    began = time.perf_counter()
    computed = work.compute([work.load(item) for item in listed])
    return computed, (time.perf_counter() - began) / len(listed)


def _size(array: np.ndarray) -> int:
    """Bytes of one row."""
    return int(array[:1].nbytes)


def _stand_in(target: Path, ids: pd.Series, trial: Tried) -> None:
    """Write features of all items: copies of the tried ones in turn, with a little noise."""
    target.parent.mkdir(parents=True, exist_ok=True)
    which = np.arange(len(ids)) % len(trial.array)
    shape = (len(ids), *trial.array.shape[1:])
    written = np.lib.format.open_memmap(storage.paths(target)[0], "w+", np.float32, shape)
    rng = np.random.default_rng(0)
    for start in range(0, len(ids), 64):
        rows = trial.array[which[start : start + 64]]
        written[start : start + 64] = rows * rng.uniform(0.5, 1.5, rows.shape).astype(np.float32)
    written.flush()
    index = pd.DataFrame({"item_id": ids.to_numpy()})
    for name, column in trial.further.items():
        index[name] = [column[k] for k in which]
    storage.save(target, index, {"rehearsal": "two items represent all"})


def _link_regions(real: Path, folder: Path) -> None:
    """Give the annotations of regions, which tests of captions read, their place in the folder too."""
    named = (read_record(folder / "items.json").get("regions") or {}).get("file")
    if isinstance(named, str) and not Path(named).is_absolute() and (real / named).is_file():
        (folder / named).parent.mkdir(parents=True, exist_ok=True)
        _link(real / named, folder / named)


def _link(have: Path, want: Path) -> None:
    """Give a file a second name by a link, or by a copy where the disk has no links."""
    try:
        os.link(have, want)
    except OSError:
        shutil.copyfile(have, want)
