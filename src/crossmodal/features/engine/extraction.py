"""Extraction of features with any extractor, and the store in which finished features are found again.

An extractor is a module with a class `Settings` and a function `recipe`, which defines how an item is read and how a
batch is computed. Threads, shards, bad items and the manifest are handled in the same way for all extractors
(`driver.py`).

Finished features lie in a store, `data/.features/IDENTITY/`, under a hash of everything that their values depend on
(settings, weights, source code, the items and the bytes of their files). Data sets hold hard links to them, so that
features which another data set or an earlier experiment has extracted are not extracted again, whatever the
modification times of the files.
"""

from __future__ import annotations

import hashlib
import logging
import os
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from filelock import FileLock

from crossmodal.core import fingerprints, isolation, registry
from crossmodal.core.console import tracked
from crossmodal.core.errors import UserError
from crossmodal.core.files import atomic_write, library_versions, read_record, sha256_bytes, sha256_json
from crossmodal.features.engine import store as storage
from crossmodal.features.engine.contract import Computed, Given, Item, Recipe, Settings, Work
from crossmodal.features.engine.driver import Driver, refuse_skipped, threads_of

__all__ = ["Computed", "Given", "Item", "Recipe", "Settings", "Work"]  # the names that extractors import from here

log = logging.getLogger(__name__)

NOTHING = hashlib.sha256().digest()  # digest of a file that is empty or cannot be read
LISTED = 5  # maximum number of groups of equal files, and of items per group, in a manifest


def run(
    extractor: str,
    items: pd.DataFrame,
    root: Path,
    settings: Settings,
    target: Path,
    *,
    threads: int,
    modality: str,
    store: Path | None = None,
) -> None:
    """Extract the features of all items of a modality with the named extractor: `extract` with its recipe.

    Parameters
    ----------
    extractor : name of the extractor's module.
    items : the items of the data set, of all modalities.
    root : folder that the items' sources are relative to.
    target : path of the three files to write, without their endings: `data/DATASET/features/MODALITY.EXTRACTOR`.
    store : folder of finished features; by default `.features` beside the target.

    Raises
    ------
    UserError : for the same reasons as `extract`, or if the extractor refuses its settings, weights or further files.
    """
    given = given_of(items, root, modality, target.parent.parent)
    recipe = registry.module("features", extractor).recipe(settings, given)
    extract(given, recipe, settings, target, extractor=extractor, threads=threads, store=store)


def given_of(items: pd.DataFrame, root: Path, modality: str, folder: Path) -> Given:
    """The items of a modality, as recipes take them; `folder` is that of the data set."""
    return Given(items[items.modality == modality], Path(root), modality, folder)


def extract(
    given: Given,
    recipe: Recipe,
    settings: Settings,
    target: Path,
    *,
    extractor: str,
    threads: int,
    store: Path | None = None,
) -> None:
    """Write the features of the given items, in their order, as `target.npy`, `.parquet` and `.json`.

    Parameters
    ----------
    extractor : name of the module whose source the features depend on.
    store : folder of finished features; by default `.features` beside the target.

    Raises
    ------
    UserError : there are no items, an item is bad (with `on_error: stop`), or none is good. Finished shards are kept
        for the next call.
    """
    if given.rows.empty:
        raise UserError(f"items.parquet: holds no {given.modality} items to extract features of")
    listed, settings, refused = given.items, recipe.settings or settings, given.refused()
    hashes = fingerprints.Hashes(given.folder)
    with threads_of(threads) as (workers, count):
        digest = recipe.digest or (_digest_text if given.modality == "text" else partial(_digest_file, hashes))
        nothing = hashlib.sha256().digest()
        hashed = workers.map(lambda item: nothing if item.item_id in refused else digest(item), listed)
        digests = list(tracked(hashed, f"{target.name}: hashing", len(listed)))
        hashes.save()
        inputs = sha256_bytes(b"".join(digests))
        described = {
            "extractor": extractor,
            "settings": settings.model_dump(mode="json", exclude={"shard", "on_error"}),
            **recipe.depends,
            "inputs_sha256": inputs,
            "items_sha256": sha256_json([[item.item_id, item.partition] for item in listed]),
        }
        identity = sha256_json([described, registry.source_hash("features", extractor)])[:16]
        place = (store or target.parent / ".features") / identity
        place.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(place.with_suffix(".lock")):  # two data sets may extract the same features at once
            if _is_whole(place):
                log.info("%s: found in %s, nothing to extract", target.name, place)
            else:
                versions = library_versions("torch", "numpy", *recipe.packages)
                of_files = recipe.digest is None and given.modality != "text"
                facts = {**described, "identity": identity, "versions": versions, "inputs_of_files": of_files}
                if of_files and (equal := equal_files(listed, digests)):
                    facts["equal_files"] = equal
                    log.warning("%s: %s, such as %s", target.name, told_equal(equal), ", ".join(equal["listed"][0]))
                work = _guarded(recipe.begin([item for item in listed if item.item_id not in refused]), refused)
                driver = Driver(listed, digests, settings, work, target, workers, count)
                driver.make(place / "features", given.rows, recipe.finish, facts)
            refuse_skipped(storage.open_features(place / "features", verify=False).manifest, settings, target.name)
            _link(place / "features", target)


def equal_files(listed: Sequence[Item], digests: Sequence[bytes]) -> dict[str, Any]:
    """Report items whose files have identical bytes, such as placeholders of deleted photographs; empty if none.

    A model cannot distinguish them: in training they are false negatives of each other, in a test they are ties that
    count against the model, and a test item that also occurs in training is already known.

    Returns
    -------
    Numbers of such `items`, of different `files`, and of `items_across_partitions`, and `listed` examples of item ids.
    """
    alike: dict[bytes, list[Item]] = {}
    for item, digest in zip(listed, digests, strict=True):
        alike.setdefault(digest, []).append(item)
    groups = [of for digest, of in alike.items() if len(of) > 1 and digest != NOTHING]
    if not groups:
        return {}
    torn = [of for of in groups if len({item.partition for item in of}) > 1]
    first = sorted(groups, key=lambda of: of not in torn)[:LISTED]
    return {
        "items": sum(map(len, groups)),
        "files": len(groups),
        "items_across_partitions": sum(map(len, torn)),
        "listed": [[item.item_id for item in of[:LISTED]] for of in first],
    }


def told_equal(equal: dict[str, Any]) -> str:
    """A manifest's `equal_files` in words."""
    across = equal["items_across_partitions"]
    torn = f", {across} of them in more than one of train, val and test" if across else ""
    return f"{equal['items']} items are only {equal['files']} different files{torn}"


def features_of(
    extractor: str, settings: Settings, given: Given, sources: list[str], manifest: dict[str, Any]
) -> tuple[np.ndarray, dict[str, Sequence[Any]]]:
    """Extract the features of further items, such as queries, in the same way as those of a data set.

    Parameters
    ----------
    given : the data set's items, on which vocabularies and the like were fitted.
    sources : paths of files, or sentences.
    manifest : the manifest of the data set's features.

    Returns
    -------
    (n, ...) float32 features, and the further columns of the index, such as the `count` of regions.

    Raises
    ------
    UserError : an item cannot be read, or the extractor refuses its settings or weights.
    """
    recipe = recipe_for_more(extractor, settings, given)
    further = [Item(f"query {n}", source, Path(source), "query") for n, source in enumerate(sources)]
    refused = given.refused()
    listed = [item for item in given.items if item.item_id not in refused]
    work = _guarded(recipe.begin([*listed, *further]), {})
    arrays: list[np.ndarray] = []
    columns: dict[str, list[Any]] = {}
    for start in range(0, len(further), work.batch):
        result = work.compute([work.load(item) for item in further[start : start + work.batch]])
        result, extra = result if isinstance(result, tuple) else (result, {})
        arrays.append(np.asarray(result, np.float32))
        for name, column in extra.items():
            columns.setdefault(name, []).extend(column)
    array = np.concatenate(arrays)
    array = array if recipe.again is None else recipe.again(array, manifest)
    return array.astype(settings.dtype).astype(np.float32), columns


def recipe_for_more(extractor: str, settings: Settings, given: Given) -> Recipe:
    """The recipe of an extractor for items outside of a data set, with what was fitted on its items.

    Raises
    ------
    UserError : the extractor computes features of whole data sets alone.
    """
    recipe = registry.module("features", extractor).recipe(settings, given)
    if recipe.finish is not None and recipe.again is None:
        raise UserError(f"extractor {extractor!r} cannot compute features of items outside of a data set")
    return recipe


def _guarded(work: Work, refused: Mapping[str, UserError]) -> Work:
    """The same work, but exceptions and crashes of libraries while an item is loaded make that item a bad one."""

    def load(item: Item) -> Any:
        if item.item_id in refused:
            raise refused[item.item_id]
        try:
            with isolation.holding(item.path):
                return work.load(item)
        except UserError:
            raise
        except Exception as error:  # out of memory, recursion, overflows, or a library's own exceptions
            log.debug("%s", item.path, exc_info=True)
            message = " ".join(str(error).split())[:200]
            raise UserError(
                f"{item.item_id} ({item.source[:200]}): cannot be read ({type(error).__name__}"
                f"{': ' if message else ''}{message}); mend or replace it, or leave it out"
            ) from error

    return replace(work, load=load)


def expect(modality: str, actual: str, extractor: str) -> None:
    """Refuse items of a modality that an extractor does not read.

    Raises
    ------
    UserError : the modality `actual` is not `modality`.
    """
    if actual != modality:
        raise UserError(
            f"params.yaml: extractors.*.modality: the extractor {extractor!r} reads {modality} items, found "
            f"{actual!r}; set `modality: {modality}`"
        )


def _digest_file(hashes: fingerprints.Hashes, item: Item) -> bytes:
    """SHA-256 of the item's file, or of nothing if it cannot be read, which `load` will report."""
    return bytes.fromhex(hashes.read(item.path))


def _digest_text(item: Item) -> bytes:
    return hashlib.sha256(item.source.encode()).digest()


# -- the store --------------------------------------------------------------------------------------------------------


def _is_whole(place: Path) -> bool:
    if not storage.paths(place / "features")[2].exists():
        return False
    try:
        storage.open_features(place / "features")
    except UserError as error:
        log.warning("%s: its features are computed again", error)
        for path in storage.paths(place / "features"):
            path.unlink(missing_ok=True)
        return False
    return True


def _link(source: Path, target: Path) -> None:
    """Put finished features at `target`, by hard links where the disk supports them.

    The manifest is copied, since later steps depend on it by its content.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    array, index, manifest = storage.paths(source)
    content = read_record(manifest)
    now = time.time_ns()  # the features must be newer than the items
    for have, want, key in zip((array, index), storage.paths(target), ("sha256", "index_sha256"), strict=False):
        with atomic_write(want) as temporary:
            try:
                os.link(have, temporary)
            except OSError:
                shutil.copyfile(have, temporary)
            os.utime(temporary, ns=(now, now))
        if want.samefile(have):  # its content was verified or written just now, only its time has changed
            storage.remember(have, content[key], content)
    with atomic_write(storage.paths(target)[2]) as temporary:
        shutil.copyfile(manifest, temporary)
