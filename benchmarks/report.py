"""`report.html` of 500 runs: seconds to collect and to build it, its size, and how soon its first table can be used.

The runs are made up from a seed (`made`), with real pictures, sounds, films and meshes of the drawn world behind the
galleries. The page is opened in headless Chromium; the floor is a page of the same size that holds plain text alone.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from itertools import permutations
from pathlib import Path

import numpy as np
import pandas as pd
import yaml
from common import save

from crossmodal import experiments
from crossmodal.core.files import write_json
from crossmodal.datasets import media_world
from crossmodal.evaluation.metrics import metrics_of_queries
from crossmodal.experiments import CONTROLS, Job, Plan
from crossmodal.reporting.figures import base
from crossmodal.reporting.page import report
from crossmodal.reporting.results import collect

ROOT = Path(__file__).parents[1]
MODALITIES = ("image", "text", "audio", "video", "mesh")
SPLITS = ("full", "50pct-2cap", "20pct-5cap", "10pct-5cap", "10pct-1cap")
PAIRED = ("vse0", "vsepp", "vsepp.batch24", "scan", "dan", "dpc", "a3vse")
CLASSED = ("cca", "pls", "sm", "scm", "deepsm", "dscmr", "acmr", "cvs", "mcvs", "rvs")
CHROMIUM = "/usr/bin/chromium"


def jobs(seeds: int = 3) -> dict[str, Job]:
    """Image-text systems on four data sets under five splits, systems with classes on three data sets; 500 and more."""
    found = []
    for dataset in ("world", "flickr30k", "coco", "flickr8k"):
        for split in SPLITS:
            found += [(dataset, split, name) for name in PAIRED]
    for dataset in ("media_world", "xmedia", "pascal"):
        found += [(dataset, "full", name) for name in CLASSED]
    made = {}
    for dataset, split, name in found:
        model, _, variant = name.partition(".")
        for seed in range(seeds):
            about = {"dataset": dataset, "split": split, "model": model, "variant": variant, "seed": seed}
            job = Job(**about, inputs={}, settings={}, papers=("mfsr",))
            made[job.key] = job
    for dataset in dict.fromkeys(dataset for dataset, *_ in found):
        for control in CONTROLS:
            job = Job(dataset=dataset, split="full", model=control, seed=0, inputs={}, settings={})
            made[job.key] = job
    return made


def _queries(job: Job, items: pd.DataFrame, modalities: tuple[str, ...], strength: float) -> pd.DataFrame:
    generator = np.random.default_rng([job.seed, *job.key.encode()])
    frames = []
    by_class = len(modalities) > 2 or job.dataset == "pascal"
    for query, gallery in permutations(modalities, 2):
        asked, answers = (items[items.modality == m] for m in (query, gallery))
        code = "label" if by_class else "group_id"
        relevant = asked[code].to_numpy()[:, None] == answers[code].to_numpy()
        scores = strength * relevant + generator.standard_normal(relevant.shape)
        order = np.argsort(-scores, axis=1)
        hits = np.take_along_axis(relevant, order, 1)
        cut = hits[:, :50]
        precision = np.cumsum(cut, 1) / np.arange(1, cut.shape[1] + 1)
        columns = {
            "protocol": "all",
            "aspect": f"{query}-to-{gallery}",
            "fold": 0,
            "query_id": asked.item_id.to_numpy(),
            "query_group": asked.group_id.to_numpy(),
            "rank": hits.argmax(1) + 1,
            "top": list(answers.item_id.to_numpy()[order[:, :10]]),
            "top_scores": list(np.take_along_axis(scores, order, 1)[:, :10]),
        }
        if by_class:
            columns["average_precision@50"] = (precision * cut).sum(1) / np.maximum(1, cut.sum(1))
        frames.append(pd.DataFrame(columns))
    return pd.concat(frames, ignore_index=True)


def _numbers(queries: pd.DataFrame) -> list[dict]:
    rows = []
    for aspect, part in queries.groupby("aspect"):
        part = part.dropna(axis=1)
        about = {"aspect": aspect, "protocol": "all", "n_queries": len(part), "n_gallery": len(part)}
        rows += [{**about, "metric": metric, "value": value} for metric, value in metrics_of_queries(part).items()]
    whole = {"protocol": "all", "n_queries": len(queries), "n_gallery": 0}
    precise = [row["value"] for row in rows if row["metric"] == "map@50"]
    if precise:
        rows.append({**whole, "aspect": "average", "metric": "map@50", "value": float(np.mean(precise))})
    else:
        total = sum(row["value"] for row in rows if row["metric"].startswith("recall@"))
        rows.append({**whole, "aspect": "both", "metric": "recall_sum", "value": total})
    return rows


def _run(folder: Path, job: Job, items: pd.DataFrame, modalities: tuple[str, ...], epochs: int = 30) -> None:
    place = (PAIRED + CLASSED).index(job.name) if job.model not in CONTROLS else 0
    strength = {"chance": 0.0, "oracle": 1e6}.get(job.model, 1.6 + 0.12 * place - 0.25 * SPLITS.index(job.split))
    queries = _queries(job, items, modalities, strength)
    numbers = _numbers(queries)
    task = folder / job.tasks[0]
    task.mkdir(parents=True)
    queries.to_parquet(task / "examples.parquet")
    about = {name: getattr(job, name) for name in ("dataset", "split", "model", "variant", "seed")}
    write_json(task / "metrics.json", {"job": about, "scale": "embedded", "numbers": numbers})
    (folder / "config.yaml").write_text(yaml.safe_dump(job.model_dump(mode="json")))
    trained = job.model not in CONTROLS
    facts = {"seconds": 40.0 + 9 * place, "peak_memory_mib": 800.0, "parameters": 10**6 * (1 + place), "pairs": 5000}
    machine = {"cores": 2, "cpu": "made up"}
    ends = {"finished": f"2026-11-24T{place:02d}:{10 + job.seed}:00+00:00", "hardware": machine}
    write_json(folder / "manifest.json", {"job": job.key, "fallbacks": [], **(facts | ends if trained else {})})
    history = pd.DataFrame()
    if trained:
        generator = np.random.default_rng([job.seed, place])
        epoch = np.arange(1, epochs + 1)
        rise = 1 - np.exp(-epoch / (2 + place / 3))
        last = numbers[-1]["value"]
        history = pd.DataFrame({"epoch": epoch, "stage": "train", "loss": 3 * np.exp(-epoch / 9)})
        sums = last * rise + generator.normal(0, last / 60, epochs)
        history["val_recall_sum" if numbers[-1]["metric"] == "recall_sum" else "val_map@50_sum"] = sums
        history["gradient_norm"] = 2 + generator.random(epochs)
        history["seconds"] = 2.5 + generator.random(epochs) / 5
    history.to_parquet(folder / "history.parquet")


def _data(folder: Path) -> pd.DataFrame:
    """A small drawn world of five modalities; each image's text is its caption."""
    chosen = media_world.Settings(images=100, audio=60, videos=60, meshes=60, shortest=0.8, longest=1.2)
    media_world.make(chosen, folder, title="made up")
    frame = pd.read_parquet(folder / "items.parquet")
    return frame[frame.partition == "test"]


def made(folder: Path, seeds: int = 3) -> tuple[Plan, dict[str, Job], Path]:
    """A results folder and its data, below `folder`."""
    params = experiments.from_config(
        experiments.merge(experiments.read_yaml(ROOT / "params.yaml"), {"tracking": {"enabled": False}})
    )
    plan = experiments.plan(params, ROOT / "papers")
    wanted = jobs(seeds)
    items = _data(folder / "data" / "media_world")
    for dataset in {job.dataset for job in wanted.values()} - {"media_world"}:
        (folder / "data" / dataset).symlink_to("media_world")
    for key, job in wanted.items():
        modalities = MODALITIES if job.dataset in ("media_world", "xmedia") else MODALITIES[:2]
        _run(folder / "results" / "runs" / key, job, items, modalities)
    return plan, wanted, folder / "results"


def opened(page: Path, selector: str, rounds: int = 3) -> float:
    """Median seconds from asking for a page until `selector` is there and a frame has been drawn."""
    from playwright.sync_api import sync_playwright

    spent = []
    with sync_playwright() as tool:
        browser = tool.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        for _ in range(rounds):
            tab = browser.new_page()
            began = time.perf_counter()
            tab.goto(page.as_uri(), wait_until="commit")
            tab.wait_for_selector(selector)
            tab.evaluate("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")
            spent.append(time.perf_counter() - began)
            tab.close()
        browser.close()
    return float(np.median(spent))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--keep", type=Path, help="a new folder to leave the made-up results in")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = given.keep or Path(temporary)
        plan, wanted, results = made(folder, given.seeds)
        found = {"runs": len(wanted)}
        began = time.perf_counter()
        collect.write(plan, wanted, results / "runs", results)
        found["collect_seconds"] = round(time.perf_counter() - began, 2)
        began = time.perf_counter()
        scope = base.Scope(plan, wanted, str(results))
        for figure in base.wanted(scope):
            base.write(figure.name, scope)
        report.render(plan, results, folder / "data", results / "report.html", wanted)
        found["build_seconds"] = round(time.perf_counter() - began, 2)
        size = (results / "report.html").stat().st_size
        found["megabytes"] = round(size / 1e6, 2)
        if Path(CHROMIUM).exists():
            plain = Path(temporary) / "plain.html"
            plain.write_text(f"<!doctype html><p id=first>first</p><pre hidden>{'x' * size}</pre>")
            found["open_seconds"] = round(opened(results / "report.html", "#board tbody tr"), 3)
            found["open_floor_seconds"] = round(opened(plain, "#first"), 3)
        print(json.dumps(found, indent=2))
        if len(wanted) >= 500:
            save("report", found)


if __name__ == "__main__":
    main()
