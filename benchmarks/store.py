"""Random batches of a region file of MS-COCO's size (sparse: it takes no room) against bare reads of the same rows.

The file has no bytes on the disk, so this measures the way from the system to a batch, and what stays resident.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from common import alternate, save

from crossmodal.core.files import peak_memory_mib, write_json, write_parquet
from crossmodal.corpus.batches import batches
from crossmodal.corpus.corpus import Corpus
from crossmodal.corpus.forms import form
from crossmodal.corpus.inputs import Inputs, OnDisk
from crossmodal.features.engine import store
from crossmodal.language.tokens import Vocabulary

SHAPE = (113_287, 36, 2048)  # images of MS-COCO's training part, regions, dimensions
BATCH = 128
ROUNDS = 15
DRAWS = 8  # batches of a round


def sparse(folder: Path, kind: str) -> Path:
    """Features of that shape, all zeros."""
    target = folder / f"image.{kind}"
    header = {"descr": np.dtype(kind).str, "fortran_order": False, "shape": SHAPE}
    with Path(f"{target}.npy").open("wb") as stream:
        np.lib.format.write_array_header_1_0(stream, header)
        stream.truncate(stream.tell() + int(np.prod(SHAPE)) * np.dtype(kind).itemsize)
    ids = [str(i) for i in range(SHAPE[0])]
    write_parquet(f"{target}.parquet", pd.DataFrame({"item_id": ids, "row": np.arange(SHAPE[0])}))
    write_json(f"{target}.json", {"shape": list(SHAPE), "dtype": kind})
    return target


def measure_peak(target: Path, way: str, count: int) -> None:
    """MiB: before, and the peak after `count` random batches (0: an epoch, as the training loop takes them)."""
    features = store.open_features(target, verify=False)
    n = len(features.array)
    features.rows(["0"])
    before = peak_memory_mib()
    if way == "batches":
        every = torch.arange(n)
        groups = np.arange(n)
        images = Inputs(
            form=form("regions"),
            ids=np.array(features.index.item_id),
            groups=groups,
            partition=np.full(n, "train"),
            tensor=OnDisk(features),
            rows=every,
            lengths=every,
        )
        corpus = Corpus({"image": images}, {"image": groups}, {}, Vocabulary.build([]), {})
        for batch in batches(corpus, BATCH, 0, 0):
            assert batch.inputs["image"].features.shape[1:] == SHAPE[1:]
    else:
        rng = np.random.default_rng(0)
        for _ in range(count):
            features.array[rng.integers(n, size=BATCH)]
    print(before, peak_memory_mib())


def peak(target: Path, way: str, count: int = 0) -> float:
    command = [sys.executable, __file__, "--peak", str(target), way, str(count)]
    before, after = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()[-2:]
    print(f"  peak memory, {way}: {float(after):.0f} MiB, {float(after) - float(before):.0f} of them by the batches")
    return float(after)


def measure(target: Path) -> dict:
    features = store.open_features(target, verify=False)
    rng = np.random.default_rng(0)
    drawn = [rng.integers(SHAPE[0], size=BATCH) for _ in range(DRAWS)]
    for rows in drawn:
        features.gather(rows)  # into the system's cache, for all alike
    buffer = np.empty((BATCH, *SHAPE[1:]), features.array.dtype)
    stride, offset = buffer[0].nbytes, features.array.offset
    bare = os.open(f"{target}.npy", os.O_RDONLY)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the map is read-only, and nothing writes to it
        tensor = torch.from_numpy(features.array)

    def preads() -> None:
        for rows in drawn:
            for place, row in enumerate(rows.tolist()):
                os.preadv(bare, [buffer[place]], offset + row * stride)

    def gathered(out: np.ndarray | None = None) -> None:
        for rows in drawn:
            features.gather(rows, out)

    def mapped() -> None:
        for rows in drawn:
            features.array[rows]

    def indexed() -> None:
        for rows in drawn:
            tensor[torch.from_numpy(rows)]

    cases = {
        "bare preads into one buffer": preads,
        "gather into one buffer": lambda: gathered(buffer),
        "gather into new memory": gathered,
        "memory map, numpy": mapped,
        "memory map, torch": indexed,
    }
    seconds = alternate(cases, ROUNDS)
    os.close(bare)
    floor = seconds["bare preads into one buffer"]
    for name, value in seconds.items():
        print(f"  {name}: {DRAWS * BATCH / value:,.0f} rows/s, {floor / value:.2f} of the bare preads")
    return {"rows_a_second": {name: DRAWS * BATCH / value for name, value in seconds.items()}}


def main() -> None:
    torch.set_num_threads(1)
    found: dict[str, object] = {"shape": SHAPE, "batch": BATCH}
    with tempfile.TemporaryDirectory() as name:
        targets = {kind: sparse(Path(name), kind) for kind in ("float32", "float16")}
        # Peaks first: a child's begins with its parent's, which grows by what it maps.
        peaks = {}
        for kind, target in targets.items():
            size = Path(f"{target}.npy").stat()
            print(f"{kind}: {size.st_size / 1e9:.1f} GB, of which {size.st_blocks * 512 / 1e3:.0f} kB on the disk")
            # The map's memory grows with each batch, up to all there is: some batches show it.
            peaks[kind] = {"an epoch": peak(target, "batches"), "60 batches of the map": peak(target, "map", 60)}
        for kind, target in targets.items():
            print(kind)
            found[kind] = {**measure(target), "peak_mib": peaks[kind]}
    save("store", found)


if __name__ == "__main__":
    if "--peak" in sys.argv:
        measure_peak(Path(sys.argv[2]), sys.argv[3], int(sys.argv[4]))
    else:
        main()
