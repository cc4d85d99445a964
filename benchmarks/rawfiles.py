"""How long the check for replaced files takes: a finished data set of 100,000 photographs and half a million captions.

The photographs are a few bytes each: once their hashes are remembered, how large they are changes nothing.
"""

from __future__ import annotations

import os
import tempfile
import time
from pathlib import Path

import pandas as pd
from common import alternate, save

from crossmodal.core.files import write_json
from crossmodal.core.fingerprints import Hashes, RawFiles, inputs
from crossmodal.datasets import raw

PHOTOGRAPHS = 100_000
MOST = 3.0  # seconds that the check may take


def lay(folder: Path) -> Path:
    """The data folder of a data set that is finished, as the steps' manifests tell of it."""
    names = [f"{n % 2}/{n:06d}.jpg" for n in range(PHOTOGRAPHS)]
    past = time.time() - 3600
    for name in names:
        path = folder / "raw" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
        os.utime(path, (past, past))
    captions = folder / "raw/captions.json"
    captions.write_text("{}")
    dataset = folder / "data/mine"
    (dataset / "features").mkdir(parents=True)
    texts = [f"caption {k} of a photograph that shows some thing {name}" for name in names for k in range(5)]
    frame = pd.DataFrame({"modality": ["image"] * len(names) + ["text"] * len(texts), "source": names + texts})
    frame.to_parquet(dataset / "items.parquet")
    read_from = raw.record(dataset, [captions], names=[folder / "raw"])
    write_json(dataset / "items.json", {"root": "../../raw", "raw": read_from})
    hashes = Hashes(dataset)
    digest = inputs(hashes, folder / "raw", names)
    hashes.save()
    write_json(dataset / "features/image.net.json", {"inputs_of_files": True, "inputs_sha256": digest})
    return folder / "data"


def check(data: Path) -> tuple[str, str]:
    found = RawFiles(data)
    return found.change_of_items("mine"), found.change_of_features("mine", "image.net")


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        data = lay(Path(folder))
        assert check(data) == ("", "")
        seconds = alternate({"nothing has changed": lambda: check(data)}, 5)["nothing has changed"]
        (Path(folder) / "raw/1/000001.jpg").write_text("another")
        began = time.perf_counter()
        assert check(data)[1]
        replaced = time.perf_counter() - began
    print(
        f"{PHOTOGRAPHS:,} photographs: {seconds:.2f} s; with one that was replaced {replaced:.2f} s (at most {MOST} s)"
    )
    save("rawfiles", {"photographs": PHOTOGRAPHS, "seconds": seconds, "seconds_replaced": replaced, "most": MOST})


if __name__ == "__main__":
    main()
