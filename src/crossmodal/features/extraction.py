"""The driver of every extractor: items to one array, in shards that survive a kill, found again by what it depends on.

An extractor says how one item is read and how a batch is computed; threads, shards, bad items, the manifest and the
store of finished features are the same for all of them. Batches are fixed by the items' order and each is read and
computed by one thread, so that the bits do not depend on how many threads there are.

Finished features lie in a store, `data/.features/IDENTITY/`, under a hash of all that their values depend on (settings,
weights, source, the items and the bytes of their files), and data sets hold hard links to them: features that another
data set or an earlier experiment has made are not made again, whatever the files' times say.
"""

from __future__ import annotations

import hashlib
import logging
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import torch
from filelock import FileLock
from pydantic import BaseModel, ConfigDict, Field

from crossmodal import registry
from crossmodal.errors import UserError
from crossmodal.features import store as storage
from crossmodal.files import hardware, library_versions, read_json, read_parquet, sha256_bytes, sha256_json, whole

log = logging.getLogger(__name__)

LISTED = 5  # bad items that an error or the log names


class Settings(BaseModel):
    """What every extractor can be told."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    on_error: Literal["stop", "skip"] = Field(
        "stop", description="a bad item ends the extraction, or is left out, counted and listed in the manifest"
    )
    dtype: Literal["float32", "float16"] = Field("float32", description="numbers of the stored array")
    shard: int = Field(512, ge=1, description="items after which results are written down")


@dataclass(frozen=True)
class Item:
    """One item to extract features of: a file, or for text the sentence itself."""

    item_id: str
    source: str
    path: Path
    partition: str


Computed = np.ndarray | tuple[np.ndarray, dict[str, Sequence[Any]]]


@dataclass(frozen=True)
class Work:
    """What an extractor does, once it is known that there is something to do."""

    load: Callable[[Item], Any]
    """One item, read. A UserError says that it is bad, and why."""
    compute: Callable[[list[Any]], Computed]
    """(B, ...) features of loaded items, and what else the index keeps of each: column to B values."""
    batch: int = 1
    """Items of a batch."""
    facts: dict[str, Any] = field(default_factory=dict)
    """For the manifest: how it is run (device, precision). The values' last bits may depend on them."""


def extract(
    items: pd.DataFrame,
    root: Path,
    settings: Settings,
    target: Path,
    *,
    extractor: str,
    modality: str,
    threads: int,
    depends: dict[str, Any],
    begin: Callable[[list[Item]], Work],
    finish: Callable[[np.ndarray, pd.DataFrame], dict[str, Any]] | None = None,
    packages: Iterable[str] = (),
    digest: Callable[[Item], bytes] | None = None,
    store: Path | None = None,
) -> None:
    """Features of every item of a modality, in the items' order, as `target.npy`, `.parquet` and `.json`.

    Parameters
    ----------
    items : rows of `items.parquet`. root : folder that their sources are relative to.
    extractor : name of the extractor's module, whose source the features depend on.
    depends : what the values depend on besides settings, source and inputs (weights and their hash); for the manifest.
    begin : called with the items when there is something to extract.
    finish : called with the whole array, writable, and the rows of its items; what it returns is for the manifest.
    packages : distributions whose versions the manifest keeps.
    digest : hash of what an item's features are made from; by default of its file, or of a text itself.
    store : folder of finished features; by default `.features` beside the target.

    Raises
    ------
    UserError : no items, a bad item (with `on_error: stop`), no good one. What is finished stays for the next call.
    """
    rows = items[items.modality == modality]
    if rows.empty:
        raise UserError(f"items.parquet: holds no {modality} items to extract features of")
    columns = (rows.item_id, rows.source, rows.partition if "partition" in rows else ["train"] * len(rows))
    listed = [Item(str(i), str(s), Path(root) / str(s), str(p)) for i, s, p in zip(*columns, strict=True)]
    with _threads(threads) as (workers, count):
        digest = digest or (_digest_text if modality == "text" else _digest_file)
        digests = list(workers.map(digest, listed))
        inputs = sha256_bytes(b"".join(digests))
        described = {
            "extractor": extractor,
            "settings": settings.model_dump(mode="json", exclude={"shard", "on_error"}),
            **depends,
            "inputs_sha256": inputs,
            "items_sha256": sha256_json([[item.item_id, item.partition] for item in listed]),
        }
        identity = sha256_json([described, registry.source_hash("features", extractor)])[:16]
        place = (store or target.parent / ".features") / identity
        place.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(place.with_suffix(".lock")):  # two data sets may want the same features at once
            if _is_whole(place):
                log.info("%s: found in %s, nothing to extract", target.name, place)
            else:
                told = {**described, "identity": identity, "versions": library_versions("torch", "numpy", *packages)}
                driver = _Driver(listed, digests, settings, begin(listed), target, workers, count)
                driver.make(place / "features", rows, finish, told)
            _refuse_skipped(storage.open_features(place / "features", verify=False).manifest, settings, target.name)
            _link(place / "features", target)


def expect(modality: str, found: str, extractor: str) -> None:
    """Refuse items of a modality that an extractor does not read.

    Raises
    ------
    UserError : another modality than `modality`.
    """
    if found != modality:
        raise UserError(
            f"params.yaml: extractors.*.modality: the extractor {extractor!r} reads {modality} items, found {found!r}; "
            f"set `modality: {modality}`"
        )


def _digest_file(item: Item) -> bytes:
    """SHA-256 of the item's file; of nothing where it cannot be read, which `load` will say."""
    try:
        with item.path.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").digest()
    except OSError:
        return hashlib.sha256().digest()


def _digest_text(item: Item) -> bytes:
    return hashlib.sha256(item.source.encode()).digest()


# -- the store --------------------------------------------------------------------------------------------------------


def _is_whole(place: Path) -> bool:
    if not storage.paths(place / "features")[2].exists():
        return False
    try:
        storage.open_features(place / "features")
    except UserError as error:
        log.warning("%s: its features are made again", error)
        for path in storage.paths(place / "features"):
            path.unlink(missing_ok=True)
        return False
    return True


def _link(source: Path, target: Path) -> None:
    """Put finished features in their place, without a second copy where the disk can do that.

    The manifest is a file of its own, written anew: it is what later steps depend on, by its content.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    array, index, manifest = storage.paths(source)
    told = read_json(manifest)
    now = time.time_ns()  # newer than the items that it was asked for by
    for have, want, key in zip((array, index), storage.paths(target), ("sha256", "index_sha256"), strict=False):
        with whole(want) as temporary:
            try:
                os.link(have, temporary)
            except OSError:
                shutil.copyfile(have, temporary)
            os.utime(temporary, ns=(now, now))
        if want.samefile(have):  # just verified or made, but for the time that it has now
            storage.remember(have, told[key], told)
    with whole(storage.paths(target)[2]) as temporary:
        shutil.copyfile(manifest, temporary)


def _refuse_skipped(manifest: dict[str, Any], settings: Settings, name: str) -> None:
    skipped = manifest["skipped"]
    if skipped and settings.on_error == "stop":
        raise UserError(_told(name, [one["reason"] for one in skipped]))


def _told(name: str, reasons: list[str]) -> str:
    more = f"\n... and {len(reasons) - LISTED} more" if len(reasons) > LISTED else ""
    return (
        "\n".join(reasons[:LISTED])
        + more
        + (f"\n({name}: `on_error: skip` in the extractor's block of params.yaml leaves bad items out)")
    )


# -- extraction -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Shard:
    array: np.ndarray  # of the good items
    index: pd.DataFrame  # a row an item: item_id, reason where it is bad, the extractor's own columns


@dataclass
class _Driver:
    listed: list[Item]
    digests: list[bytes]
    settings: Settings
    work: Work
    target: Path
    workers: ThreadPoolExecutor
    count: int

    @property
    def size(self) -> int:
        """Items of a shard: whole batches, the same ones for any shard size."""
        return max(1, self.settings.shard // self.work.batch) * self.work.batch

    def make(
        self,
        features: Path,
        rows: pd.DataFrame,
        finish: Callable[[np.ndarray, pd.DataFrame], dict[str, Any]] | None,
        told: dict[str, Any],
    ) -> None:
        """Extract what no shard holds yet, and write array, index and manifest at `features`."""
        began = time.perf_counter()
        name, total = self.target.name, len(self.listed)
        shards = self.target.parent / f".{name}.shards"
        # Of one run: of one device and precision, and of libraries that round alike. The items are in the files' names.
        apart = {key: value for key, value in told.items() if key not in ("identity", "inputs_sha256", "items_sha256")}
        folder = shards / sha256_json([apart, self.work.facts, self.size])[:16]
        if shards.is_dir():
            for other in shards.iterdir():  # of other settings: of no use any more
                if other.name != folder.name:
                    shutil.rmtree(other)
        folder.mkdir(parents=True, exist_ok=True)
        files = {start: folder / self._name(start) for start in range(0, total, self.size)}
        todo = [start for start, file in files.items() if not Path(f"{file}.npy").exists()]
        ahead = sum(min(self.size, total - start) for start in todo)
        if ahead < total:
            log.info("%s: %d of %d items are done already", name, total - ahead, total)
        with _progress(name, total, total - ahead) as advance:
            for start, shard in self._shards(todo, advance):
                with whole(f"{files[start]}.parquet") as temporary:
                    shard.index.to_parquet(temporary, index=False)
                with whole(f"{files[start]}.npy") as temporary, temporary.open("wb") as stream:
                    np.save(stream, shard.array)
        index = pd.concat([read_parquet(f"{file}.parquet") for file in files.values()], ignore_index=True)
        bad = index.reason.notna()
        skipped = [{"item_id": i, "reason": r} for i, r in zip(index.item_id[bad], index.reason[bad], strict=True)]
        _refuse_skipped({"skipped": skipped}, self.settings, name)
        if len(skipped) == total:
            raise UserError(_told(name, ["not one item is good", *index.reason[bad]]))
        if skipped:
            shown = "; ".join(one["reason"] for one in skipped[:LISTED])
            log.warning("%s: %d of %d items are left out: %s", name, len(skipped), total, shown)
        index = index[~bad].drop(columns="reason").reset_index(drop=True)
        kept = rows.set_index(rows.item_id.astype(str)).loc[index.item_id]
        facts = self._assemble([Path(f"{file}.npy") for file in files.values()], features, finish, kept)
        seconds = time.perf_counter() - began
        spent = {"seconds": round(seconds, 2), "items_now": ahead, "items_a_second": round(ahead / seconds, 2)}
        manifest = {**told, **self.work.facts, **facts, "skipped": skipped, "hardware": hardware(), **spent}
        storage.save(features, index, manifest)
        shutil.rmtree(shards)
        log.info("%s: %d items in %.1f s", name, ahead, seconds)

    def _name(self, start: int) -> str:
        """Of a shard: its place, and what it was made from, so that a mended file leaves the other shards good."""
        part = slice(start, start + self.size)
        ids = "\0".join(item.item_id for item in self.listed[part]).encode()
        return f"{start}.{sha256_bytes(ids + b''.join(self.digests[part]))[:16]}"

    def _one(self, batch: list[Item]) -> _Shard:
        """A batch, by one thread."""
        loaded, good, reasons = [], [], {}
        for item in batch:
            try:
                loaded.append(self.work.load(item))
                good.append(item)
            except UserError as error:
                if self.settings.on_error == "stop":
                    raise
                reasons[item.item_id] = str(error)
        array, extra = self._computed(loaded)
        finite = np.isfinite(array).all(tuple(range(1, array.ndim)))
        if not finite.all():
            lone = good[int(np.argmin(finite))]
            how = ", ".join(f"{key} {value}" for key, value in self.work.facts.items() if isinstance(value, str))
            raise UserError(
                f"{lone.path}: its features are not finite numbers ({how or 'as computed'}); set `precision: fp32` "
                "where the extractor has it, and see whether its weights are whole"
            )
        kept = pd.DataFrame({"item_id": [item.item_id for item in good], **extra})
        index = kept.set_index("item_id").reindex([item.item_id for item in batch]).reset_index()
        index["reason"] = index.item_id.map(reasons).astype("string")
        return _Shard(array, index)

    def _computed(self, loaded: list[Any]) -> tuple[np.ndarray, dict[str, Sequence[Any]]]:
        if not loaded:
            return np.empty((0,), np.float32), {}
        found = self.work.compute(loaded)
        array, extra = found if isinstance(found, tuple) else (found, {})
        if len(array) != len(loaded):
            raise ValueError(f"{self.work.compute}: {len(array)} features of {len(loaded)} items")
        array = np.asarray(array)
        return array if array.dtype == np.uint8 else array.astype(np.float32, copy=False), extra

    def _shards(self, todo: list[int], advance: Callable[[int], None]) -> Iterator[tuple[int, _Shard]]:
        """Each shard once all its batches are done. Batches of the next begin before that, so that no core waits."""
        size, total, batch = self.size, len(self.listed), self.work.batch
        batches = (
            (start, first, self.listed[first : min(first + batch, start + size)])
            for start in todo
            for first in range(start, min(start + size, total), batch)
        )
        done: dict[int, dict[int, _Shard]] = {start: {} for start in todo}
        waiting: dict[Future, tuple[int, int]] = {}
        failed: BaseException | None = None
        try:
            while True:
                while not failed and len(waiting) < 2 * self.count and (work := next(batches, None)) is not None:
                    waiting[self.workers.submit(self._one, work[2])] = work[:2]
                if not waiting:
                    break
                for future in wait(waiting, return_when=FIRST_COMPLETED).done:
                    start, first = waiting.pop(future)
                    if error := future.exception():
                        failed = failed or error  # what else has begun is finished and kept
                        continue
                    part = done[start][first] = future.result()
                    advance(len(part.index))
                    if len(done[start]) == -(-min(size, total - start) // batch):
                        parts = [part for _, part in sorted(done.pop(start).items())]
                        arrays = [part.array for part in parts if len(part.array)] or [parts[0].array]
                        index = pd.concat([part.index for part in parts], ignore_index=True)
                        yield start, _Shard(np.concatenate(arrays), index)
        finally:
            for future in waiting:
                future.cancel()
        if failed:
            raise failed

    def _assemble(
        self,
        shards: list[Path],
        features: Path,
        finish: Callable[[np.ndarray, pd.DataFrame], dict[str, Any]] | None,
        kept: pd.DataFrame,
    ) -> dict[str, Any]:
        """Write the shards as one array, one of them in memory at a time.

        What `finish` changes is in float32 until then: a number is rounded to fewer bits once, at the end.
        """
        facts: dict[str, Any] = {}
        parts = filter(len, map(np.load, shards))
        with whole(storage.paths(features)[0]) as temporary:
            if finish is None:
                self._write(temporary, self.settings.dtype, len(kept), parts)
                return facts
            exact = temporary.with_suffix(".exact")
            try:
                array = self._write(exact, "float32", len(kept), parts)
                facts = finish(array, kept)
                steps = range(0, len(array), self.size)
                self._write(temporary, self.settings.dtype, len(kept), (array[n : n + self.size] for n in steps))
            finally:
                exact.unlink(missing_ok=True)
        return facts

    def _write(self, path: Path, dtype: str, count: int, parts: Iterable[np.ndarray]) -> np.ndarray:
        array, row = None, 0
        for part in parts:
            if array is None:
                array = np.lib.format.open_memmap(path, "w+", np.dtype(dtype), (count, *part.shape[1:]))
            with np.errstate(over="ignore"):
                array[row : row + len(part)] = part
            if not np.isfinite(array[row : row + len(part)]).all():
                most = float(np.abs(part).max())
                raise UserError(
                    f"{self.target.name}: a value of {most:.0f} is too large for {dtype}; set `dtype: float32`"
                )
            row += len(part)
        array.flush()
        return array


@contextmanager
def _threads(threads: int) -> Iterator[tuple[ThreadPoolExecutor, int]]:
    """At most `threads` workers, each with one torch thread: the order of sums, so the bits, are those of one thread.

    On a GPU fp32 is kept fp32 (no TF32).
    """
    before = torch.get_num_threads()
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    count = max(1, min(threads, cores))
    exact = torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=False)
    torch.set_num_threads(1)
    try:
        with exact, ThreadPoolExecutor(count, initializer=lambda: torch.set_num_threads(1)) as pool:
            yield pool, count
    finally:
        torch.set_num_threads(before)


@contextmanager
def _progress(name: str, total: int, done: int) -> Iterator[Callable[[int], None]]:
    """A bar on a terminal, else a line in the log every ten seconds."""
    if sys.stderr.isatty():
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        with Progress(*columns, console=Console(stderr=True)) as bar:
            task = bar.add_task(name, total=total, completed=done)
            yield lambda n: bar.advance(task, n)
        return
    state = {"done": done, "told": time.monotonic()}

    def advance(n: int) -> None:
        state["done"] += n
        if time.monotonic() - state["told"] > 10:
            state["told"] = time.monotonic()
            log.info("%s: %d of %d", name, state["done"], total)

    yield advance
