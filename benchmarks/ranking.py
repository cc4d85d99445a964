"""Ranks and average precision against the bare float32 product (and one sort) of the same size, in the same run.

`--large` adds 20,000 x 100,000 in shards from memory-mapped files, and what a million by a million would take.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
from common import alternate, save

from crossmodal.core.files import peak_memory_mib
from crossmodal.evaluation import average_precision, rank_both_ways, retrieval_ranks_both_ways, source
from crossmodal.evaluation.ranking.shards import cut, gather, rank_shard

ROUNDS = 5


def drawn(n_images: int, captions: int, dim: int, match: float) -> tuple[np.ndarray, np.ndarray]:
    """Unit vectors; captions lean towards their image by `match` (0: not at all, the hardest for exact ranks)."""
    rng = np.random.default_rng(0)
    images = rng.standard_normal((n_images, dim), np.float32)
    texts = rng.standard_normal((n_images * captions, dim), np.float32) + match * np.repeat(images, captions, 0)
    return tuple(x / np.linalg.norm(x, axis=1, keepdims=True) for x in (images, texts))


def both_ways() -> dict:
    found = {}
    groups = np.arange(5000)
    out = torch.empty(5000, 25000)
    for name, match in (("matched", 0.6), ("random", 0.0)):
        images, texts = drawn(5000, 5, 1024, match)
        left, right = torch.from_numpy(images), torch.from_numpy(texts)
        cases = {
            "product": lambda left=left, right=right: torch.mm(left, right.T, out=out),
            "ranks": lambda images=images, texts=texts: retrieval_ranks_both_ways(
                images, texts, groups, np.repeat(groups, 5)
            ),
        }
        seconds = alternate(cases, ROUNDS)
        ratio = seconds["ranks"] / seconds["product"]
        found[name] = {"seconds": seconds, "ratio": ratio}
        print(f"ranks both ways, 5,000 x 25,000 x 1,024, {name}: {ratio:.2f} x the bare product")
    return found


def precision() -> dict:
    images, texts = drawn(5000, 1, 1024, 0.3)
    labels = np.random.default_rng(1).integers(0, 20, 5000)
    left, right, out = torch.from_numpy(images), torch.from_numpy(texts), torch.empty(5000, 5000)

    def floor() -> None:
        torch.mm(left, right.T, out=out)
        np.sort(out.numpy(), axis=1)

    cases = {"product and sort": floor}
    cases |= {
        name: lambda at=at: average_precision(images, texts, labels, labels, at)
        for name, at in (("map@50", 50), ("map", None))
    }
    seconds = alternate(cases, ROUNDS)
    ratios = {name: seconds[name] / seconds["product and sort"] for name in ("map@50", "map")}
    print("; ".join(f"{name}, 5,000 x 5,000: {ratio:.2f} x product and sort" for name, ratio in ratios.items()))
    return {"seconds": seconds, "ratio": ratios}


def threads() -> bool:
    """Whether 1 and 2 threads give the same bits."""
    images, texts = drawn(500, 5, 256, 0.2)
    groups, found = np.arange(500), []
    before = torch.get_num_threads()
    for n in (1, 2):
        torch.set_num_threads(n)
        found.append(rank_both_ways(source(images, texts), groups, np.repeat(groups, 5), 10))
    torch.set_num_threads(before)
    same = all(
        (a.ranks == b.ranks).all()
        and (a.top_scores == b.top_scores).all()
        and all((a.precision[name] == b.precision[name]).all() for name in a.precision)
        for a, b in zip(*found, strict=True)
    )
    print(f"1 and 2 threads: {'the same bits' if same else 'NOT the same bits'}")
    return same


def _peak_of(kind: str, images: np.ndarray, texts: np.ndarray) -> dict[str, float]:
    """What a process of its own, which reads the vectors from files, says of itself."""
    with tempfile.TemporaryDirectory() as folder:
        np.save(Path(folder) / "images.npy", images)
        np.save(Path(folder) / "texts.npy", texts)
        command = [sys.executable, __file__, "--peak", kind, folder]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
    return {name: float(value) for name, value in (part.split("=") for part in done.stdout.split())}


def measure_peak(kind: str, folder: str) -> None:
    import time

    if kind == "ranks":
        images, texts = (np.load(Path(folder) / f"{name}.npy") for name in ("images", "texts"))
        before = peak_memory_mib()
        retrieval_ranks_both_ways(images, texts, np.arange(5000), np.repeat(np.arange(5000), 5))
        print(f"mib={peak_memory_mib() - before}")
        return
    images, texts = (np.load(Path(folder) / f"{name}.npy", mmap_mode="r") for name in ("images", "texts"))
    groups = np.arange(20000), np.repeat(np.arange(20000), 5)
    before, began = peak_memory_mib(), time.perf_counter()
    shards = [rank_shard(images, texts, *groups, r) for r in cut((20000, 100000), 8)]
    sharded = gather(shards, (20000, 100000))
    seconds, peak = time.perf_counter() - began, peak_memory_mib() - before
    whole = rank_both_ways(source(images, texts), *groups)
    same = all(
        (a.ranks == b.ranks).all() and all((a.precision[n] == b.precision[n]).all() for n in a.precision)
        for a, b in zip(sharded, whole, strict=True)
    )
    began = time.perf_counter()
    out = torch.empty(5000, 12500)
    left, right = torch.from_numpy(images[:5000].copy()), torch.from_numpy(texts[:12500].copy())
    for _ in range(32):
        torch.mm(left, right.T, out=out)
    print(f"mib={peak} seconds={seconds} same={int(same)} floor={time.perf_counter() - began}")


def main() -> None:
    found = {"torch": torch.__version__, "threads": torch.get_num_threads()}
    found |= {"both_ways": both_ways(), "average_precision": precision(), "same_bits": threads()}
    found["peak_mib_above_inputs"] = _peak_of("ranks", *drawn(5000, 5, 1024, 0.0))["mib"]
    print(f"peak memory of ranks both ways: {found['peak_mib_above_inputs']:.0f} MiB above the inputs")
    if "--large" in sys.argv:
        large = _peak_of("large", *drawn(20000, 5, 256, 0.6))
        hours = large["seconds"] * 1e12 / 2e9 / 3600
        found["large"] = {**large, "ratio": large["seconds"] / large["floor"], "hours_of_a_million_squared": hours}
        print(
            f"20,000 x 100,000 x 256 in 8 shards: {large['seconds']:.0f} s ({found['large']['ratio']:.2f} x the bare "
            f"products), {large['mib']:.0f} MiB above the inputs, "
            f"{'the bits of one process' if large['same'] else 'NOT the bits of one process'}; "
            f"a million by a million: {hours:.1f} hours on this machine, shared by as many jobs as there are shards"
        )
    save("ranking", found)


if __name__ == "__main__":
    measure_peak(*sys.argv[2:]) if "--peak" in sys.argv else main()
