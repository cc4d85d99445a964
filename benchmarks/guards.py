"""What looking at files before they are opened costs on good files: `python benchmarks/guards.py --against CHECKOUT`.

Two processes, one with this checkout's source and one with another's (that of before the looking), read the same files
in turns. Of a pair of processes the least seconds of a core count, which others on the machine change least; of all
pairs, the median of the ratios, since where a process's memory lies moves its times by some per cent.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
MOST = 1.03  # times as long as before
PROCESSES = 9  # of each source
ROUNDS = 8  # readings by each process


def lay(folder: Path) -> None:
    """Files as collections hold them."""
    import h5py
    import numpy as np
    import pandas as pd
    import scipy.io
    import soundfile
    import trimesh
    from PIL import Image

    rng = np.random.default_rng(0)
    (folder / "images").mkdir()
    for n in range(60):
        coarse = rng.integers(0, 256, (40, 50, 3), np.uint8)
        Image.fromarray(coarse).resize((500, 375), Image.Resampling.BICUBIC).save(folder / "images" / f"{n}.jpg")
    for n in range(20):
        wave = np.sin(np.arange(44100 * 3) / (9 + n)) * 0.3 + rng.normal(0, 0.02, 44100 * 3)
        soundfile.write(folder / f"{n}.wav", wave, 44100)
        soundfile.write(folder / f"{n}.mp3", wave, 44100)
    ball = trimesh.creation.icosphere(5)
    for kind in ("off", "obj", "ply", "stl"):
        ball.export(folder / f"ball.{kind}")
    array = rng.normal(size=(20_000, 128))
    np.save(folder / "x.npy", array)
    np.savez_compressed(folder / "x.npz", x=array)
    scipy.io.savemat(folder / "x.mat", {"x": array}, do_compression=True)
    with h5py.File(folder / "x.h5", "w") as file:
        file.create_dataset("x", data=array, chunks=(1000, 128), compression="gzip")
    words = [f"word{n}" for n in range(20_000)]
    lines = [f"{word} {' '.join(f'{v:.5f}' for v in rng.normal(size=100))}" for word in words]
    (folder / "words.txt").write_text("\n".join(lines) + "\n")
    entries = [
        {
            "filename": f"{n % 60}.jpg" if n < 60 else f"{n}.jpg",
            "split": ("val", "test", *["train"] * 8)[n % 10],
            "sentences": [{"raw": f"a {words[n]} near a {words[k]} ."} for k in range(5)],
        }
        for n in range(4000)
    ]
    for entry in entries:
        (folder / "images" / entry["filename"]).touch()
    (folder / "captions.json").write_text(json.dumps({"images": entries}))
    texts = [f"a man near {words[n % 20_000]} and {words[(7 * n) % 20_000]}" for n in range(100_000)]
    ids = [str(n) for n in range(100_000)]
    parts = {"modality": "text", "group_id": ids, "label": None, "partition": "train", "source": texts}
    pd.DataFrame({"item_id": ids, **parts}).astype("string").to_parquet(folder / "items.parquet", index=False)


def _module(*names: str) -> Any:
    """The first of the modules that this checkout has: a reader was elsewhere in earlier ones."""
    for name in names:
        try:
            return import_module(f"crossmodal.{name}")
        except ModuleNotFoundError as error:
            if not (error.name or "").startswith("crossmodal"):
                raise
    raise ModuleNotFoundError(f"crossmodal has none of {', '.join(names)}; expected a checkout since 26fd48e")


def cases(folder: Path) -> dict:
    import numpy as np

    from crossmodal.datasets import items, karpathy
    from crossmodal.features import image, mesh

    read_parquet = _module("core.files", "files").read_parquet
    open_array = _module("released.arrays", "arrays").open_array
    sounds = _module("core.sounds", "features.audio")
    wordvectors = _module("language.wordvectors", "wordvectors")
    photographs = [folder / "images" / f"{n}.jpg" for n in range(60)]
    settings = karpathy.Settings(annotations=folder / "captions.json", images=folder / "images")
    wanted = [f"word{n}" for n in range(0, 20_000, 3)]
    rows = np.arange(0, 20_000, 7)
    return {
        "pictures": lambda: [image.read(path) for path in photographs],
        "sounds": lambda: [sounds.read(folder / f"{n}.{kind}") for n in range(20) for kind in ("wav", "mp3")],
        **{f"mesh {kind}": lambda k=kind: mesh.read(folder / f"ball.{k}") for kind in ("off", "obj", "ply", "stl")},
        **{
            f"array {kind}": lambda k=kind: open_array(folder / f"x.{k}", "" if k == "npy" else "x").read(rows)
            for kind in ("npy", "npz", "mat", "h5")
        },
        "captions": lambda: karpathy.read(settings),
        "word vectors": lambda: wordvectors.read(folder / "words.txt", wanted),
        "items": lambda: items.validate(read_parquet(folder / "items.parquet"), folder),
    }


def serve(folder: Path) -> None:
    """Run the case that a line of the input names, and print its seconds of a core."""
    with suppress(ModuleNotFoundError):
        _module("core.isolation").begin()  # as the commands do that open other people's files
    readers = cases(folder)
    print(" ".join(name.replace(" ", "_") for name in readers), flush=True)
    for line in sys.stdin:
        case = readers[line.strip().replace("_", " ")]
        gc.collect()
        began = time.process_time()
        case()
        print(time.process_time() - began, flush=True)


def _in_turns(folder: Path, against: Path, rounds: int, only: list[str]) -> dict[str, dict[str, float]]:
    """The least seconds of each case `before` and `now`, of `rounds` readings by two new processes in turns."""
    pipe, sides = subprocess.PIPE, {}
    for name, source in (("before", against / "src"), ("now", ROOT / "src")):
        command = [sys.executable, __file__, "--serve", str(folder)]
        environment = {**os.environ, "PYTHONPATH": str(source), "OMP_NUM_THREADS": "1"}
        sides[name] = subprocess.Popen(command, env=environment, stdin=pipe, stdout=pipe, text=True)
    lists = [side.stdout.readline().split() for side in sides.values()]
    least: dict[str, dict[str, float]] = {}
    for name in (name for name in lists[0] if not only or name in only):
        for n in range(rounds + 1):
            for key in list(sides)[:: 1 if n % 2 else -1]:
                sides[key].stdin.write(f"{name}\n")
                sides[key].stdin.flush()
                seconds = float(sides[key].stdout.readline())
                if n:  # the first reading imports and fills caches
                    least.setdefault(name, {})[key] = min(seconds, least.get(name, {}).get(key, seconds))
    for side in sides.values():
        side.stdin.close()
        side.wait()
    return least


def _ratios(pairs: list[dict[str, float]]) -> dict[str, float]:
    """The least seconds of all pairs of processes, and the median of their ratios with its quartiles."""
    low, middle, high = statistics.quantiles([pair["now"] / pair["before"] for pair in pairs], n=4, method="inclusive")
    seconds = {key: min(pair[key] for pair in pairs) for key in ("before", "now")}
    return {**seconds, "ratio": middle, "lower_quartile": low, "upper_quartile": high}


def main(against: Path, rounds: int, processes: int, only: list[str]) -> None:
    from common import save

    pairs: dict[str, list[dict[str, float]]] = {}
    with tempfile.TemporaryDirectory() as folder:
        lay(Path(folder))
        for _ in range(processes):
            for name, pair in _in_turns(Path(folder), against, rounds, only).items():
                pairs.setdefault(name, []).append(pair)
    files = {name: _ratios(listed) for name, listed in pairs.items()}
    print(f"{'':14}{'before':>11}{'now':>11}  ratio (quartiles) of least seconds")
    for name, one in files.items():
        spread = f"({one['lower_quartile']:.3f} to {one['upper_quartile']:.3f})"
        print(f"{name:14}{one['before']:9.4f} s{one['now']:9.4f} s{one['ratio']:7.3f} {spread}")
    if not only:
        save("guards", {"most": MOST, "processes": processes, "rounds": rounds, "files": files})


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--against", type=Path, help="another checkout, of the commit to compare with")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--processes", type=int, default=PROCESSES)
    parser.add_argument("--only", nargs="*", default=[], help="these alone, such as array_npy; nothing is written")
    parser.add_argument("--serve", type=Path, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    serve(chosen.serve) if chosen.serve else main(chosen.against, chosen.rounds, chosen.processes, chosen.only)
