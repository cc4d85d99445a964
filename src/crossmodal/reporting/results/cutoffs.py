"""Metrics at cut-offs that a run was not tested with, computed from the files of its test without training again.

`recall@K` follows from the ranks in `examples.parquet`. `map@K`, `ndcg@K` and `pair_recall@K` need the whole ranking,
which is computed again from the vectors in `embeddings.npz`; a run that compares no vectors (cross attention) has none.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from crossmodal.core import packed
from crossmodal.core.errors import UserError
from crossmodal.core.files import read_parquet
from crossmodal.datasets import items as prepared
from crossmodal.evaluation.bounds import chance_precision
from crossmodal.evaluation.cutoff_names import CutOff, parse
from crossmodal.evaluation.metrics import recall_at_k
from crossmodal.experiments import Job, Plan
from crossmodal.reporting.results.runs import check_examples
from crossmodal.tasks.base import ranking_of

log = logging.getLogger(__name__)

COLUMNS = ["protocol", "aspect", "fold", "query_id", "query_group", "rank"]


def wanted(plan: Plan) -> dict[str, set[str]]:
    """{data set: metrics at cut-offs that tables need of its runs}, for the data sets that tables are run on."""
    metrics_of: dict[str, set[str]] = {}
    for paper in plan.papers.values():
        for table in paper.tables:
            metrics = {column.metric for column in table.columns if parse(column.metric)}
            for name in {table.dataset, *(paper.dataset_of(table, row) for row in table.rows)}:
                metrics_of.setdefault(plan.dataset_of(name), set()).update(metrics)
    return metrics_of


def complete(numbers: list[dict[str, Any]], metrics: Iterable[str], folder: Path, job: Job, data: Path) -> list[dict]:
    """A run's numbers, completed by those of `metrics` that it was not tested with.

    Parameters
    ----------
    numbers : the rows of its `metrics.json`.
    folder : the run's folder.
    data : the folder of prepared data sets.
    """
    present = {row["metric"] for row in numbers}
    lacking = sorted(set(metrics) - present)
    if not lacking:
        return numbers
    try:
        return numbers + measure(folder, job, data, lacking)
    except UserError as error:
        log.warning("%s: %s", job.key, error)
        return numbers


def measure(folder: Path, job: Job, data: Path, metrics: Iterable[str]) -> list[dict[str, Any]]:
    """Rows of aspect, metric, protocol, value (per cent), n_queries and n_gallery, as in `metrics.json`.

    Where items of a class are relevant to each other, each metric but `recall@K` comes with its expected value for a
    random order (`_chance`) and its mean over the directions (`average`).

    Raises
    ------
    UserError : a metric has another form, or the run was not tested or has no vectors.
    """
    cuts = {metric: parse(metric) for metric in metrics}
    odd = [metric for metric, cut in cuts.items() if cut is None]
    if odd:
        raise UserError(
            f"metric {odd[0]!r}: expected recall@K, map@K, ndcg@K or pair_recall@K with a whole number K from 1, or "
            "meteor or spice of captions; what the test has measured is in the task's metrics.json"
        )
    if not job.ranked:
        raise UserError(f"{job.key}: is evaluated on {', '.join(job.tasks)}, which ranks nothing; choose another run")
    folder_of_task = ranking_of(folder)
    queries = read_parquet(folder_of_task / "examples.parquet", COLUMNS)
    check_examples(queries, folder_of_task / "examples.parquet")
    kept = _Kept(folder, job, data, queries) if any(cut.kind != "recall" for cut in cuts.values()) else None
    parts = dict(iter(queries.groupby(["protocol", "aspect", "fold"], sort=False)))
    rows = []
    for (protocol, aspect), keys in groupby(parts, key=lambda key: key[:2]):
        values: dict[str, list[float]] = {}
        folds = [parts[key] for key in keys]
        galleries = [parts.get((protocol, _turned(aspect), part.fold.iloc[0])) for part in folds]
        for part, gallery in zip(folds, galleries, strict=True):
            if gallery is None:
                path = folder_of_task / "examples.parquet"
                raise UserError(f"{path}: has no {_turned(aspect)} under protocol {protocol}")
            recalls = [cut.k for cut in cuts.values() if cut.kind == "recall"]
            for k, value in recall_at_k(part["rank"].to_numpy(), recalls).items():
                values.setdefault(f"recall@{k}", []).append(value)
            if kept is not None:
                ids = part.query_id.to_numpy(), gallery.query_id.to_numpy()
                for metric, value in kept.values(aspect, *ids, cuts).items():
                    values.setdefault(metric, []).append(value)
        about = {"task": folder_of_task.name, "aspect": aspect, "protocol": protocol, "n_queries": len(folds[0])}
        about["n_gallery"] = len(galleries[0])
        rows += [{**about, "metric": metric, "value": float(np.mean(per_fold))} for metric, per_fold in values.items()]
    return rows + (_averages(rows) if job.relevance == "label" else [])


def _turned(aspect: str) -> str:
    query, _, gallery = aspect.partition("-to-")
    return f"{gallery}-to-{query}"


def _averages(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The mean of each metric except recall over the directions of a protocol."""
    groups: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for row in rows:
        if not row["metric"].startswith("recall"):
            groups.setdefault((row["protocol"], row["metric"]), []).append(row)
    return [
        {
            "task": of[0]["task"],
            "aspect": "average",
            "protocol": protocol,
            "metric": metric,
            "value": sum(row["value"] for row in of) / len(of),
            "n_queries": sum(row["n_queries"] for row in of),
            "n_gallery": 0,
        }
        for (protocol, metric), of in groups.items()
    ]


class _Kept:
    """The vectors that a run's test has saved, and the labels or groups by which items are relevant."""

    def __init__(self, folder: Path, job: Job, data: Path, queries: pd.DataFrame):
        path = ranking_of(folder) / "embeddings.npz"
        if not path.is_file():
            raise UserError(
                f"{path}: not found; map@K, ndcg@K and pair_recall@K at further cut-offs are computed from vectors, "
                f"but {job.model} compares none, or its test has not run"
            )
        self.path, self.by_class = path, job.relevance == "label"
        with packed.arrays(path) as file:
            self.arrays = {name: file[name] for name in file}
        self.places = {
            name.removesuffix("_ids"): pd.Series(np.arange(len(ids)), index=ids)
            for name, ids in self.arrays.items()
            if name.endswith("_ids")
        }
        if self.by_class:
            self.labels = prepared.label_table(prepared.read(data / job.dataset))
        else:
            first = queries.drop_duplicates("query_id")
            self.groups = pd.Series(first.query_group.to_numpy(), index=first.query_id)

    def values(self, aspect: str, ids: np.ndarray, others: np.ndarray, cuts: Mapping[str, CutOff]) -> dict[str, float]:
        # They import torch, which collecting the numbers of runs seldom needs.
        from crossmodal.evaluation.cutoffs import chance_ndcg, ndcg, pair_recall
        from crossmodal.evaluation.ranking.average_precision import average_precision
        from crossmodal.evaluation.ranking.relevance import relevant_counts

        query, _, gallery = aspect.partition("-to-")
        vectors = [self._of(m, partner, i) for m, partner, i in ((query, gallery, ids), (gallery, query, others))]
        labels = [self._labels(i) for i in (ids, others)]
        results: dict[str, float] = {}
        for metric, cut in cuts.items():
            if cut.kind == "map":
                results[metric] = 100 * float(average_precision(*vectors, *labels, at=cut.k).mean())
            elif cut.kind == "ndcg":
                results[metric] = 100 * float(ndcg(*vectors, *labels, cut.k).mean())
            elif cut.kind == "pair_recall":
                results[metric] = 100 * float(pair_recall(*vectors, *labels, cut.k).mean())
            if self.by_class and cut.kind == "map":
                random = chance_precision(relevant_counts(*labels), len(others), cut.k)
                results[f"{metric}_chance"] = 100 * float(random.mean())
            elif self.by_class and cut.kind == "ndcg":
                results[f"{metric}_chance"] = 100 * float(chance_ndcg(*labels, cut.k).mean())
            elif self.by_class and cut.kind == "pair_recall":
                results[f"{metric}_chance"] = 100 * min(cut.k / len(others), 1.0)
        return results

    def _of(self, modality: str, partner: str, ids: np.ndarray) -> np.ndarray:
        key = modality if modality in self.arrays else f"{modality}.{partner}"
        if key not in self.arrays or modality not in self.places:
            raise UserError(f"{self.path}: holds no vectors of {modality}; evaluate the run again")
        return self.arrays[key][self.places[modality].loc[ids].to_numpy()]

    def _labels(self, ids: np.ndarray) -> np.ndarray:
        return self.labels.of(ids) if self.by_class else self.groups.loc[ids].to_numpy()
