"""Exact search of one vector in 1,000,000 x 512 against the bare product, and a graph of near neighbours beside it.

The floor is NumPy's float32 product of the same matrix and vector, and nothing else. Compared are seconds of a
processor core, which others on the machine change least, and those of the clock. With usearch (extra `approximate`), a
graph of 100,000 of the vectors is built: its recall of the ten nearest, and the seconds of a search, against the exact
one. Vectors that lie near a space of few dimensions are as those of a trained model; those without any structure are
the hardest for a graph.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path

import numpy as np
from common import alternate, processor, save

from crossmodal.core.errors import UserError
from crossmodal.evaluation.ranking.nearest import nearest
from crossmodal.inference import graph

K = 10
BOUND = 1.5


def drawn(count: int, dim: int, structure: int = 0) -> np.ndarray:
    """Unit vectors; with `structure`, they lie near a space of so many dimensions."""
    random = np.random.default_rng(0)
    vectors = np.empty((count, dim), np.float32)
    space = random.standard_normal((structure, dim), np.float32) if structure else None
    for start in range(0, count, 50_000):
        part = vectors[start : start + 50_000]
        part[:] = random.standard_normal(part.shape, np.float32)
        if space is not None:
            part *= 0.3
            part += random.standard_normal((len(part), structure), np.float32) @ space / np.sqrt(structure)
        part /= np.linalg.norm(part, axis=1, keepdims=True)
    return vectors


def exact(items: int, dim: int, rounds: int) -> dict:
    gallery = drawn(items, dim)
    query = drawn(1, dim)[0] + gallery[5]
    cases = {"product": lambda: gallery @ query, "search": lambda: nearest(query, gallery, K)}
    seconds = {"clock": alternate(cases, rounds), "processor": {n: processor(c, rounds) for n, c in cases.items()}}
    whole = np.concatenate([part.astype(np.float64) @ query.astype(np.float64) for part in np.array_split(gallery, 50)])
    same = nearest(query, gallery, K)[0].tolist() == np.argsort(-whole, kind="stable")[:K].tolist()
    ratio = {kind: times["search"] / times["product"] for kind, times in seconds.items()}
    return {"items": items, "dim": dim, "seconds": seconds, "ratio": ratio, "bound": BOUND, "same_as_float64": same}


def approximate(items: int, dim: int, structure: int, queries: int = 100) -> dict:
    gallery = drawn(items + queries, dim, structure)
    gallery, asked = gallery[:-queries], gallery[-queries:]
    with tempfile.TemporaryDirectory() as folder:
        began = time.process_time()
        opened = graph.opened(Path(folder) / "x.npz", "", lambda: gallery)
        built = time.process_time() - began
        common = [len({*graph.nearest(opened, q, K)[0]} & {*nearest(q, gallery, K)[0]}) for q in asked]
        seconds = {
            "graph": processor(lambda: [graph.nearest(opened, q, K) for q in asked], 2) / queries,
            "exact": processor(lambda: [nearest(q, gallery, K) for q in asked[:10]], 2) / 10,
        }
    about = {"items": items, "dim": dim, "structure": structure, "seconds_to_build": built}
    return about | {"seconds": seconds, "recall@10": sum(common) / (K * queries)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--items", type=int, default=1_000_000)
    parser.add_argument("--graph-items", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=7)
    given = parser.parse_args()
    found = {"exact": exact(given.items, 512, given.rounds)}
    told = found["exact"]["ratio"]
    print(f"exact: {told['processor']:.2f} x the product by the processor, {told['clock']:.2f} x by the clock")
    try:
        found["approximate"] = [approximate(given.graph_items, 512, structure) for structure in (32, 0)]
    except UserError as error:
        print(f"approximate: skipped; {error}")
    print(json.dumps(found, indent=2))
    save("nearest", found)


if __name__ == "__main__":
    main()
