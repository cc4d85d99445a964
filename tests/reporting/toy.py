"""A small paper whose every cell is worked out by hand, and its numbers; nothing in it is symmetric."""

from __future__ import annotations

from typing import Any

import pandas as pd

from crossmodal import experiments
from crossmodal.core.files import records_of
from crossmodal.experiments import Plan
from crossmodal.reporting.results.metrics import TYPES
from crossmodal.reporting.tables import views
from tests.on_world import on_world

COLUMNS = [{"aspect": "image-to-text", "metric": "recall@1"}, {"aspect": "text-to-image", "metric": "mean_rank"}]
PAPER: dict[str, Any] = {
    "title": "A toy",
    "authors": "A. Author",
    "venue": "V",
    "year": 2020,
    "experiments": {
        "one": {"model": "vsepp", "dataset": "flickr30k", "published": {"dim": 512, "layers": 2}},
        "two": {"model": "vse0", "dataset": "flickr30k", "settings": {"margin": 0.5}},
        "three": {"model": "vsepp", "dataset": "flickr30k", "variant": "batch24", "settings": {"batch_size": 24}},
        "few": {"model": "vsepp", "dataset": "flickr30k", "split": "10pct-5cap"},
        "chance": {"model": "chance", "dataset": "flickr30k"},
        "oracle": {"model": "oracle", "dataset": "flickr30k"},
    },
    "tables": [
        {
            "id": "t1",
            "title": "By hand",
            "source": "table 1",
            "dataset": "flickr30k",
            "protocol": "1,000 test images",
            "columns": COLUMNS,
            "rows": [
                {
                    "label": "One",
                    "published": [61.5, 4.0],
                    "extra": {"batch_size": 128, "words": 7},
                    "experiment": "one",
                },
                {"label": "Two", "published": [61.5, 6.25], "extra": {"batch_size": 100}, "experiment": "two"},
                {"label": "Three", "published": [59.9, 9.5], "experiment": "three"},
                {"label": "Elsewhere", "published": [52.0, None], "extra": {"batch_size": 1500}},
                {"label": "One", "group": "Few", "split": "10pct-5cap", "published": [30.0, None], "experiment": "few"},
                {"label": "chance", "group": "Beside", "published": [None, None], "experiment": "chance"},
                {"label": "oracle", "group": "Beside", "published": [None, None], "experiment": "oracle"},
            ],
        }
    ],
}
# On the world; the toy's own, so that params.yaml may change.
MODELS = {
    "vsepp": {"dim": 256, "epochs": 10, "epoch_steps": 100, "lr_drop": 7, "batch_size": 16, "lr": 0.001},
    "vse0": {"dim": 256, "epochs": 8, "lr_drop": 6, "batch_size": 64, "lr": 0.001},
}
# (model, variant, split): {column: a value each of seeds 0, 1 and 2}
VALUES: dict[tuple[str, str, str], list[list[float | None]]] = {
    ("vsepp", "", "full"): [[60.0, 63.0, 69.0], [3.0, 4.0, 8.0]],  # 64.0 ± 4.58, 5.0 ± 2.65
    ("vse0", "", "full"): [[None, 64.04, None], [None, 2.5, None]],  # 64.04, which is shown as 64.0; one seed
    ("vsepp", "batch24", "full"): [[50.2, None, 50.4], [7.5, None, 7.0]],  # 50.3 ± 0.14, 7.25 ± 0.35
    ("vsepp", "", "10pct-5cap"): [[12.0, 11.0, 14.5], [40.0, 41.0, 45.0]],  # 12.5, 42.0
    ("chance", "", "full"): [[0.4, 0.6, 0.5], [500.0, 510.0, 490.0]],
    ("oracle", "", "full"): [[100.0, 100.0, 100.0], [1.0, 1.0, 1.0]],
}


def toy_plan(table: dict[str, Any] | None = None, **over: object) -> Plan:
    """The toy alone, its table changed by `table` and the parameters by `over`."""
    ours = on_world(papers=["toy"])
    params = experiments.merge(ours, over)
    params["datasets"]["world"]["models"] = MODELS
    params = experiments.from_config(params)
    paper = {**PAPER, "name": "toy", "tables": [{**PAPER["tables"][0], **(table or {})}]}
    return Plan(params, {"toy": experiments.validated(experiments.Paper, paper, "toy.yaml")})


def toy_metrics(dataset: str = "world", protocol: str = "all") -> pd.DataFrame:
    """As `collect` gives them: 200 images ask of 1,000 captions, and the captions of the images."""
    rows = []
    for (model, variant, split), columns in VALUES.items():
        about = {"paper": "toy", "dataset": dataset, "split": split, "model": model, "variant": variant}
        for column, values, n in zip(COLUMNS, columns, (200, 1000), strict=True):
            sizes = {"task": "instance_retrieval", "protocol": protocol, "n_queries": n, "n_gallery": 1200 - n}
            rows += [
                {**about, **column, **sizes, "seed": seed, "value": value}
                for seed, value in enumerate(values)
                if value is not None
            ]
    return pd.DataFrame(rows, columns=list(TYPES)).astype(TYPES)


def seen(plan: Plan, compared: pd.DataFrame) -> views.View:
    """The paper's table as it is rendered."""
    return views.view(plan, records_of(compared), "toy-t1")
