"""All claims of all papers on runs of a full plan that are made up from a seed: seconds and peak memory.

Runs have as many queries as the data sets that play them, in `examples.parquet`, `history.parquet` and the attention
blocks of `model.safetensors`, which is all that claims read.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from itertools import combinations, permutations
from pathlib import Path

import numpy as np
import pandas as pd
from common import save
from safetensors.numpy import save_file

from crossmodal import experiments
from crossmodal.core.files import peak_memory_mib, write_json
from crossmodal.experiments import Job, Plan
from crossmodal.reporting.results import claims, collect

ROOT = Path(__file__).parents[1]
ITEMS = {
    "world": {"image": 200, "text": 1000},
    "media_world": {"image": 400, "text": 400, "audio": 80, "video": 40, "mesh": 40},
    "birds_world": {"image": 660, "text": 660, "class": 50},
}
PROTOCOLS = {"world": ("all",), "media_world": ("all", "first"), "birds_world": ("all", "seen", "unseen", "first")}
SETTINGS = ("single-modal-image", "single-modal-text", "fusion", "cross-modal-image", "cross-modal-text")


def directions(job: Job) -> list[str]:
    if job.model in ("devise", "conse", "socher"):
        return ["image-to-class", "class-to-image"]
    return [f"{a}-to-{b}" for a, b in permutations(job.settings.get("modalities") or ("image", "text"), 2)]


def make_run(folder: Path, job: Job) -> None:
    """A run's files, but for what claims do not read."""
    generator = np.random.default_rng([job.seed, *job.key.encode()])
    skill = 0.3 + 0.4 * np.random.default_rng([*job.name.encode()]).random()
    numbers, frames = [], []
    for protocol in PROTOCOLS[job.dataset]:
        for aspect in directions(job):
            query, gallery = aspect.split("-to-")
            n, size = ITEMS[job.dataset][query], ITEMS[job.dataset][gallery]
            each = max(1, n // ITEMS[job.dataset]["image"])
            ranks = 1 + np.floor(size * generator.random(n) ** (1 / (1.01 - skill))).astype(int)
            about = {"aspect": aspect, "protocol": protocol, "n_queries": n, "n_gallery": size}
            numbers += [
                {**about, "metric": f"recall@{k}", "value": 100 * float((ranks <= k).mean())} for k in (1, 5, 10)
            ]
            frames.append(
                pd.DataFrame(
                    {
                        "protocol": protocol,
                        "aspect": aspect,
                        "fold": 0,
                        "query_id": [f"{query}/{i:06}" for i in range(n)],
                        "query_group": [f"group/{i // each:06}" for i in range(n)],
                        "rank": ranks,
                        "average_precision": 1 / ranks,
                        "average_precision@50": generator.random(n) * skill,
                        "top": [list(map(str, range(10)))] * n,
                    }
                )
            )
    plain = {"protocol": "all", "n_queries": 400, "n_gallery": 0}
    if job.model == "bimodal":
        numbers += [{**plain, "aspect": d, "metric": "accuracy", "value": 60 + generator.random()} for d in SETTINGS]
    if job.model == "visualwords":
        numbers.append({**plain, "aspect": "words", "metric": "relatedness", "value": 20 + generator.random()})
    task = folder / job.tasks[0]
    task.mkdir(parents=True)
    about = {name: getattr(job, name) for name in ("dataset", "split", "model", "variant", "seed")}
    write_json(task / "metrics.json", {"job": about, "scale": "embedded", "numbers": numbers})
    pd.concat(frames, ignore_index=True).to_parquet(task / "examples.parquet")
    history = {"epoch": range(1, 16), "seconds": 1 + generator.random(15), "steps": 40}
    pd.DataFrame(history).to_parquet(folder / "history.parquet")
    if job.model in ("cvs", "mcvs", "rvs"):
        save_file(blocks(job), folder / "model.safetensors")


def blocks(job: Job) -> dict[str, np.ndarray]:
    """A space's attention blocks; those of the run that it begins from are the same in it."""
    names = list(job.settings.get("modalities") or ("image", "text"))
    pairs = list(combinations(names, 2))
    if job.model == "rvs":
        pairs = [(name,) for name in names if name != job.settings.get("reference", "image")]
    made = {}
    for pair in map("-".join, pairs):
        of = np.random.default_rng([job.seed, *pair.encode()])
        made[f"blocks.{pair}.i.weight"] = of.standard_normal((128, 128)).astype(np.float32)
    return made


def make(folder: Path) -> Plan:
    """Every run of the whole plan, and their metrics."""
    plan = experiments.plan(experiments.load(ROOT / "params.yaml"), ROOT / "papers")
    for key, job in plan.jobs.items():
        make_run(folder / "runs" / key, job)
    collect.collect(plan, folder / "runs").to_parquet(folder / "metrics.parquet")
    return plan


def tested(folder: Path) -> pd.DataFrame:
    plan = experiments.plan(experiments.load(ROOT / "params.yaml"), ROOT / "papers")
    return claims.test(plan, pd.read_parquet(folder / "metrics.parquet"), None, folder / "runs")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--show", action="store_true", help="print the claims, of numbers that mean nothing")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        plan = make(folder)
        began = time.perf_counter()
        frame = tested(folder)
        seconds = time.perf_counter() - began
    if given.show:
        print(frame.drop(columns=["says", "source", "measure"]).to_string())
    memory = peak_memory_mib()
    print(f"{len(frame)} claims on {len(plan.jobs)} runs: {seconds:.1f} s; the process takes up to {memory:.0f} MiB")
    save("claims", {"runs": len(plan.jobs), "claims": len(frame), "seconds": seconds, "peak_memory_mib": memory})


if __name__ == "__main__":
    main()
