"""Bottom-up attention's TSV to features, against a plain copy of as many bytes: read the file, write the array.

`python benchmarks/released.py [ROWS]`: made rows of 36 regions of 2,048 numbers, 10,000 by default (3.9 GB); the whole
of MS-COCO is 123,287 of them. Both sides begin with nothing of the file in memory and end with all on the disk.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pybase64
from common import peak, save

from crossmodal.features import released
from crossmodal.features.engine import extraction, store

REGIONS, DIM = 36, 2048
ROUNDS = 3
FOLDER = Path(os.environ.get("CROSSMODAL_BENCHMARKS", tempfile.gettempdir()))


def make(path: Path, count: int) -> None:
    """A file as the released ones are; every row is its own."""
    rng = np.random.default_rng(0)
    features = rng.random((REGIONS, DIM), np.float32)
    boxes = pybase64.b64encode(rng.random((REGIONS, 4), np.float32))
    with path.open("wb") as stream:
        for number in range(count):
            features[0, 0] = number
            row = (str(number).encode(), b"640", b"480", str(REGIONS).encode(), boxes, pybase64.b64encode(features))
            stream.write(b"\t".join(row) + b"\r\n")


def forget(path: Path) -> None:
    """Nothing of a file stays in memory."""
    with path.open("rb") as stream:
        os.fsync(stream.fileno())
        os.posix_fadvise(stream.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def copy(path: Path, size: int) -> None:
    """The disk's rate: all of the file read, as many bytes as the array has written and on the disk."""
    left = size
    with path.open("rb", buffering=0) as source, tempfile.NamedTemporaryFile(dir=FOLDER) as target:
        while block := source.read(2**23):
            part = block[: max(0, min(left, len(block)))]
            target.write(part)
            left -= len(part)
        target.flush()
        os.fsync(target.fileno())


def convert(path: Path, count: int) -> None:
    with tempfile.TemporaryDirectory(dir=FOLDER) as name:
        frame = pd.DataFrame(
            {"item_id": range(count), "modality": "image", "source": [f"{n}.jpg" for n in range(count)]}
        )
        target = Path(name) / "features" / "image.released"
        settings = released.Settings(files=[path])
        extraction.run("released", frame, path.parent, settings, target, threads=2, modality="image")
        for one in store.paths(target):
            with one.open("rb") as stream:
                os.fsync(stream.fileno())


def measured(case, path: Path, *given) -> float:
    forget(path)
    began = time.perf_counter()
    case(path, *given)
    return time.perf_counter() - began


def main(count: int) -> None:
    path = FOLDER / f"released-{count}.tsv"
    make(path, count)
    try:
        size, array = path.stat().st_size, count * REGIONS * DIM * 4
        seconds = {"copy": [], "ours": []}
        for _ in range(ROUNDS):
            seconds["copy"].append(measured(copy, path, array))
            seconds["ours"].append(measured(convert, path, count))
        floor, ours = (float(np.median(seconds[key])) for key in ("copy", "ours"))
        memory = peak(__file__, count)
    finally:
        path.unlink()
    rate, whole = size / ours, 22e9 / size
    print(
        f"{count} rows, {size / 1e9:.1f} GB: copied in {floor:.1f} s, converted in {ours:.1f} s ({rate / 1e6:.0f} "
        f"MB/s, {floor / ours:.0%} of the disk's rate), peak {memory:.0f} MiB; 22 GB would take {ours * whole:.0f} s"
    )
    found = {"rows": count, "bytes": size, "array_bytes": array, "seconds": seconds, "of_the_disk": floor / ours}
    save("released", {**found, "peak_mib": memory})


if __name__ == "__main__":
    if sys.argv[1:2] == ["--peak"]:
        convert(FOLDER / f"released-{sys.argv[2]}.tsv", int(sys.argv[2]))
    else:
        main(int(sys.argv[1]) if len(sys.argv) > 1 else 10_000)
