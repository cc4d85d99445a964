"""A results folder as training leaves it, drawn from a seed: runs whose ranks follow from scores, and their data."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import yaml
from PIL import Image, ImageDraw

from crossmodal import experiments
from crossmodal.experiments import Job, Plan
from crossmodal.reporting.figures import base
from crossmodal.reporting.results import published
from tests.on_world import on_world

ROOT = Path(__file__).parents[2]
STRENGTH = {"vsepp": 2.5, "vse0": 2.0, "vsepp.batch24": 2.2, "chance": 0.0, "oracle": 1e6}
COLOURS = ("red", "green", "blue", "orange", "purple", "teal")
SHAPES = ("circle", "square", "triangle")


def make_plan(**over: object) -> Plan:
    """Two of the project's papers with the experiments of a few systems alone."""
    ours = on_world(papers=["mfsr", "a3vse"])
    params = experiments.from_config(experiments.merge(ours, over))
    papers = experiments.read_papers(params.papers, ROOT / "papers")
    return experiments.Plan(params, {name: _few(paper) for name, paper in papers.items()})


def _few(paper: experiments.Paper) -> experiments.Paper:
    kept = {name: one for name, one in paper.experiments.items() if f"{one.model}.{one.variant}".strip(".") in STRENGTH}

    def row(one: experiments.Row) -> experiments.Row:
        if isinstance(one.experiment, str):  # the network's features stand for the fine-tuned network
            one = one.model_copy(update={"experiment": one.experiment.replace("vsepp-finetuned", "vsepp")})
        there = set(experiments.named_experiments(one)) <= set(kept)
        return one if there else one.model_copy(update={"experiment": None})

    tables = [table.model_copy(update={"rows": [row(one) for one in table.rows]}) for table in paper.tables]
    claims = [claim for claim in paper.claims if {side.experiment for side in claim.sides} <= set(kept)]
    return paper.model_copy(update={"experiments": kept, "tables": tables, "claims": claims, "figures": {}})


def make_data(folder: Path, n_images: int = 40) -> None:
    """`items.parquet`, `items.json` and drawn images."""
    rows = []
    (folder / "raw").mkdir(parents=True)
    generator = np.random.default_rng(0)
    for i in range(n_images):
        colour, shape = COLOURS[i % 6], SHAPES[i % 3]
        image = Image.new("RGB", (160, 120), tuple(int(c) for c in generator.integers(190, 240, 3)))
        draw = ImageDraw.Draw(image)
        x, y = (int(v) for v in generator.integers(10, 60, 2))
        box = (x, y // 2, x + 70, y // 2 + 70)
        {"circle": draw.ellipse, "square": draw.rectangle}.get(shape, draw.pieslice)(
            box, **({"start": 50, "end": 130} if shape == "triangle" else {}), fill=colour
        )
        image.save(folder / "raw" / f"{i}.png")
        rows.append((f"img{i}", "image", f"g{i}", None, "test", f"{i}.png"))
        for c in range(5):
            said = f"A {colour} {shape} on a pale ground, seen in scene {i} by observer {c} & friends <{c}>"
            rows.append((f"img{i}#{c}", "text", f"g{i}", None, "test", said))
    columns = ["item_id", "modality", "group_id", "label", "partition", "source"]
    pd.DataFrame(rows, columns=columns).astype("string").to_parquet(folder / "items.parquet")
    (folder / "items.json").write_text(json.dumps({"root": "raw"}))


def _ranked(scores: np.ndarray, relevant: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    order = np.argsort(-scores, axis=1, kind="stable")
    hits = np.take_along_axis(relevant, order, 1)
    return hits.argmax(1) + 1, order[:, :10], np.take_along_axis(scores, order, 1)[:, :10]


def make_run(folder: Path, job: Job, n_images: int = 40, epochs: int = 6, fallbacks: tuple[str, ...] = ()) -> None:
    generator = np.random.default_rng([job.seed, *job.key.encode()])
    share = {"full": 1.0, "50pct-2cap": 0.2, "10pct-5cap": 0.1, "10pct-1cap": 0.02}[job.split]
    strength = STRENGTH[job.name] * (1 + 0.18 * np.log10(share))
    own = np.repeat(np.eye(n_images), 5, axis=1)  # images x captions
    scores = strength * own + generator.standard_normal(own.shape)
    images = np.array([f"img{i}" for i in range(n_images)])
    texts = np.array([f"img{i}#{c}" for i in range(n_images) for c in range(5)])
    numbers, frames = [], []
    for aspect, s, rel, asked, gallery in (
        ("image-to-text", scores, own, images, texts),
        ("text-to-image", scores.T, own.T, texts, images),
    ):
        ranks, top, top_scores = _ranked(s, rel)
        size = {"aspect": aspect, "protocol": "all", "n_queries": len(asked), "n_gallery": len(gallery)}
        numbers += [{**size, "metric": f"recall@{k}", "value": 100.0 * float((ranks <= k).mean())} for k in (1, 5, 10)]
        numbers += [
            {**size, "metric": "median_rank", "value": float(np.median(ranks))},
            {**size, "metric": "mean_rank", "value": float(ranks.mean())},
        ]
        frames.append(
            pd.DataFrame(
                {
                    "protocol": "all",
                    "aspect": aspect,
                    "fold": 0,
                    "query_id": asked,
                    "query_group": range(len(asked)),
                    "rank": ranks,
                    "average_precision": 1 / ranks,
                    "top": list(gallery[top]),
                    "top_scores": list(top_scores),
                }
            )
        )
    total = sum(row["value"] for row in numbers if row["metric"].startswith("recall@"))
    both = {"aspect": "both", "metric": "recall_sum", "protocol": "all", "n_queries": 6 * n_images, "n_gallery": 0}
    numbers.append({**both, "value": total})
    task = folder / job.tasks[0]
    task.mkdir(parents=True)
    about = {name: getattr(job, name) for name in ("dataset", "split", "model", "variant", "seed")}
    (task / "metrics.json").write_text(json.dumps({"job": about, "scale": "embedded", "numbers": numbers}))
    resolved = {**job.model_dump(mode="json"), "settings": published.resolved(job)}  # as training writes it
    (folder / "config.yaml").write_text(yaml.safe_dump(resolved))
    (folder / "train.log").write_text("epoch 1\n")
    trained = job.model not in ("chance", "oracle")
    facts = {"seconds": 41.5 + job.seed, "peak_memory_mib": 812.0, "parameters": 1_250_000, "pairs": int(5000 * share)}
    facts["data"] = {"items": "d" * 64, "split": "e" * 64, "image.world": "f" * 64, "vocabulary": "a" * 64}
    manifest = {"job": job.key, "fallbacks": list(fallbacks), **(facts if trained else {})}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    pd.concat(frames, ignore_index=True).to_parquet(task / "examples.parquet")
    history = pd.DataFrame()
    if trained:
        epoch = np.arange(1, epochs + 1)
        rise = 1 - np.exp(-epoch / (2 + 2 * (job.model == "vse0")))
        history = pd.DataFrame(
            {
                "epoch": epoch,
                "stage": "train",
                "loss": 2 * np.exp(-epoch / 4) + generator.normal(0, 0.02, epochs),
                "learning_rate": 1e-3,
                "gradient_norm": 2.0,
                "seconds": 2.5,
                "val_image-to-text_recall@1": 60 * rise,
                "val_recall_sum": total * rise + generator.normal(0, 4, epochs),
            }
        )
    history.to_parquet(folder / "history.parquet")


def draw_figures(plan: Plan, folder: Path, jobs: dict[str, Job] | None = None) -> None:
    """The figures of a page, as the steps before it draw them."""
    scope = base.Scope(plan, plan.jobs if jobs is None else jobs, str(folder))
    for figure in base.wanted(scope):
        base.write(figure.name, scope)


def make_results(root: Path, plan: Plan, keys: list[str] | None = None, **options: object) -> Path:
    """Every run of the plan (or those of `keys`) under `root/results/runs`, and the data under `root/data`."""
    for key, job in plan.jobs.items():
        if keys is None or key in keys:
            make_run(root / "results" / "runs" / key, job, **options)
    if not (root / "data").exists():
        make_data(root / "data" / "world", options.get("n_images", 40))
    return root / "results"
