"""The driver of every extractor: it computes the features of all items in shards, so that a killed run can resume.

The order of the items determines the batches, and one thread reads and computes each batch, so that the bits of the
result do not depend on the number of threads.
"""

from __future__ import annotations

import logging
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from crossmodal.core import cores, isolation
from crossmodal.core.console import progress
from crossmodal.core.errors import UserError
from crossmodal.core.files import atomic_write, hardware, read_parquet, sha256_bytes, sha256_json
from crossmodal.features.engine import store as storage
from crossmodal.features.engine.contract import Item, Settings, Work
from crossmodal.features.engine.placed import Placed, narrowed

log = logging.getLogger(__name__)

LISTED = 5  # maximum number of bad items that an error or the log names


@dataclass(frozen=True)
class _Shard:
    array: np.ndarray  # features of the good items
    index: pd.DataFrame  # one row per item: item_id, the reason if it is bad, the extractor's own columns


@dataclass
class Driver:
    """Runs the work of an extractor over the listed items and writes the result below `target`."""

    listed: list[Item]
    digests: list[bytes]
    settings: Settings
    work: Work
    target: Path
    workers: ThreadPoolExecutor
    count: int

    @property
    def size(self) -> int:
        """Number of items per shard, a multiple of the batch so that batches do not depend on the shard size."""
        return max(1, self.settings.shard // self.work.batch) * self.work.batch

    def make(
        self,
        features: Path,
        rows: pd.DataFrame,
        finish: Callable[[np.ndarray, pd.DataFrame], dict[str, Any]] | None,
        manifest_facts: dict[str, Any],
    ) -> None:
        """Extract what no finished shard holds yet, and write the array, index and manifest at `features`.

        Parameters
        ----------
        features : path of the three files without their endings.
        rows : rows of `items.parquet` of the listed items.
        finish : as in `Recipe`.
        told : entries of the manifest that are known beforehand.

        Raises
        ------
        UserError : a bad item (with `on_error: stop`), no good item, or a value that `dtype` cannot hold.
        """
        began = time.perf_counter()
        name, total = self.target.name, len(self.listed)
        shards = self.target.parent / f".{name}.shards"
        # Shards of one folder share device, precision and library versions; the items are hashed in the files' names.
        apart = {
            key: value
            for key, value in manifest_facts.items()
            if key not in ("identity", "inputs_sha256", "items_sha256")
        }
        folder = shards / sha256_json([apart, self.work.facts, self.size])[:16]
        if shards.is_dir():
            for other in shards.iterdir():  # shards of other settings are of no use any more
                if other.name != folder.name:
                    shutil.rmtree(other)
        folder.mkdir(parents=True, exist_ok=True)
        files = {start: folder / self._name(start) for start in range(0, total, self.size)}
        placed = None
        if self.work.shape is not None and finish is None:
            placed = Placed(folder / "array.npy", (total, *self.work.shape), self.settings.dtype)
        mark = ".npy" if placed is None else ".parquet"
        todo = [start for start, file in files.items() if not Path(f"{file}{mark}").exists()]
        if placed is not None:
            placed.forget(todo)
        ahead = sum(min(self.size, total - start) for start in todo)
        if ahead < total:
            log.info("%s: %d of %d items are already done", name, total - ahead, total)
        self._try_suspects()
        fallback = {**manifest_facts, **self.work.facts}.get("fallback")
        if fallback and ahead:
            log.warning("%s: %d items will be made of a fallback: %s", name, ahead, fallback)
        if ahead:
            log.info("%s: %d items are extracted on %d core%s", name, ahead, self.count, "s" * (self.count > 1))
        with progress(name, total, done=total - ahead, warning=fallback or "") as advance:
            for start, shard in self._shards(todo, advance):
                if placed is not None:
                    placed.write(start, shard.array, name)
                with atomic_write(f"{files[start]}.parquet") as temporary:
                    shard.index.to_parquet(temporary, index=False)
                if placed is not None:
                    continue
                with atomic_write(f"{files[start]}.npy") as temporary, temporary.open("wb") as stream:
                    np.save(stream, shard.array)
        index = pd.concat([read_parquet(f"{file}.parquet") for file in files.values()], ignore_index=True)
        bad = index.reason.notna()
        skipped = [{"item_id": i, "reason": r} for i, r in zip(index.item_id[bad], index.reason[bad], strict=True)]
        refuse_skipped({"skipped": skipped}, self.settings, name)
        if len(skipped) == total:
            raise UserError(_told(name, ["not one item is good", *index.reason[bad]]))
        if skipped:
            shown = "; ".join(entry["reason"] for entry in skipped[:LISTED])
            log.warning("%s: %d of %d items are left out: %s", name, len(skipped), total, shown)
        index = index[~bad].drop(columns="reason").reset_index(drop=True)
        kept = rows.set_index(rows.item_id.astype(str)).loc[index.item_id]
        facts: dict[str, Any] = {}
        if placed is not None:
            good = [int(n) for n in (~bad).groupby(np.arange(total) // self.size).sum()]
            placed.finish(storage.paths(features)[0], good, self.size)
        else:
            facts = self._assemble([Path(f"{file}.npy") for file in files.values()], features, finish, kept)
        seconds = time.perf_counter() - began
        spent = {"seconds": round(seconds, 2), "items_now": ahead, "items_a_second": round(ahead / seconds, 2)}
        manifest = {**manifest_facts, **self.work.facts, **facts, "skipped": skipped, "hardware": hardware(), **spent}
        storage.save(features, index, manifest)
        shutil.rmtree(shards)
        log.info("%s: %d items in %.1f s", name, ahead, seconds)

    def _name(self, start: int) -> str:
        """Name of a shard: its first item and a hash of its inputs, so that a changed file outdates its shard only."""
        part = slice(start, start + self.size)
        ids = "\0".join(item.item_id for item in self.listed[part]).encode()
        return f"{start}.{sha256_bytes(ids + b''.join(self.digests[part]))[:16]}"

    def _try_suspects(self) -> None:
        """Load each item that was open when the previous process died, one at a time.

        If this process dies at one of them too, the next process knows that this item is bad.
        """
        for item in self.listed if (names := isolation.suspects()) else ():
            if str(item.path) in names:
                with suppress(UserError):
                    self.work.load(item)

    def _one(self, batch: list[Item]) -> _Shard:
        """Load and compute one batch in the calling thread."""
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
                "where the extractor has it, and check that its weights are complete"
            )
        kept = pd.DataFrame({"item_id": [item.item_id for item in good], **extra})
        index = kept.set_index("item_id").reindex([item.item_id for item in batch]).reset_index()
        index["reason"] = index.item_id.map(reasons).astype("string")
        return _Shard(array, index)

    def _computed(self, loaded: list[Any]) -> tuple[np.ndarray, dict[str, Sequence[Any]]]:
        if not loaded:
            return np.empty((0,), np.float32), {}
        result = self.work.compute(loaded)
        array, extra = result if isinstance(result, tuple) else (result, {})
        if len(array) != len(loaded):
            raise ValueError(f"{self.work.compute}: {len(array)} features of {len(loaded)} items")
        array = np.asarray(array)
        return array if array.dtype == np.uint8 else array.astype(np.float32, copy=False), extra

    def _shards(self, todo: list[int], advance: Callable[[int], None]) -> Iterator[tuple[int, _Shard]]:
        """Yield (start, shard) whenever all batches of a shard are done.

        Batches of later shards begin before that, so that no core is idle.
        """
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
                        failed = failed or error  # batches that have begun are finished and kept
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
        """Write the shards as one array with one shard in memory at a time, and return what `finish` returns.

        `finish` works on float32 values, so that they are rounded to a narrower type only once, at the end.
        """
        facts: dict[str, Any] = {}
        parts = filter(len, map(np.load, shards))
        with atomic_write(storage.paths(features)[0]) as temporary:
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
            array[row : row + len(part)] = narrowed(part, dtype, self.target.name)
            row += len(part)
        array.flush()
        return array


def refuse_skipped(manifest: dict[str, Any], settings: Settings, name: str) -> None:
    """Raise a UserError if features lack skipped items but `on_error: stop` is set."""
    skipped = manifest["skipped"]
    if skipped and settings.on_error == "stop":
        raise UserError(_told(name, [entry["reason"] for entry in skipped]))


def _told(name: str, reasons: list[str]) -> str:
    more = f"\n... and {len(reasons) - LISTED} more" if len(reasons) > LISTED else ""
    return (
        "\n".join(reasons[:LISTED])
        + more
        + (f"\n({name}: `on_error: skip` in the extractor's block of params.yaml leaves bad items out)")
    )


@contextmanager
def threads_of(threads: int) -> Iterator[tuple[ThreadPoolExecutor, int]]:
    """A pool of at most `threads` workers with one torch thread each, and their number.

    With one torch thread per worker, the order of summation and hence the bits do not depend on `threads`. On a GPU,
    cuDNN is deterministic and computes fp32 without TF32.
    """
    before = torch.get_num_threads()
    count = max(1, min(threads, cores.available()))
    exact = torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=False)
    torch.set_num_threads(1)
    try:
        with exact, ThreadPoolExecutor(count, initializer=lambda: torch.set_num_threads(1)) as pool:
            yield pool, count
    finally:
        torch.set_num_threads(before)
