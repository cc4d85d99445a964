"""A trained model on the test items: encodings, per-query ranks, and the metrics of each protocol."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from crossmodal.errors import UserError
from crossmodal.evaluation.metrics import folds as cut_folds
from crossmodal.evaluation.metrics import mean_rank, median_rank, recall_at_k
from crossmodal.evaluation.ranking import Ranking, block_size, rank_queries
from crossmodal.files import whole, write_json, write_parquet
from crossmodal.models import base
from crossmodal.training.data import Corpus

KS = (1, 5, 10)
ENCODE_BATCH = 256


@torch.inference_mode()
def encode(
    model: base.Model, corpus: Corpus, modality: str, partner: str, index: np.ndarray, device: torch.device
) -> torch.Tensor:
    """(N, ...) encodings of the items at `index`, in their order."""
    model.eval()
    parts = corpus.items(modality, index, ENCODE_BATCH, with_groups=model.knows_pairs)
    encoded = [model.encode(modality, batch.to(device), partner) for batch in parts]
    width = max((part.shape[1] for part in encoded if part.ndim > 2), default=0)
    if width:  # sequences of a batch are as long as its longest
        encoded = [torch.nn.functional.pad(part, (0, 0, 0, width - part.shape[1])) for part in encoded]
    return torch.cat(encoded)


def blocks(
    model: base.Model, queries: torch.Tensor, gallery: torch.Tensor, *, swapped: bool = False
) -> Iterator[tuple[slice, torch.Tensor]]:
    """The model's own scores, a block of queries at a time. `swapped`: `score` takes (gallery, queries)."""
    step = block_size(len(gallery))
    for start in range(0, len(queries), step):
        rows = slice(start, min(start + step, len(queries)))
        with torch.inference_mode():
            scores = model.score(gallery, queries[rows]).T if swapped else model.score(queries[rows], gallery)
        yield rows, scores.float()


def rank(
    model: base.Model,
    encodings: dict[str, torch.Tensor],
    groups: dict[str, np.ndarray],
    query: str,
    gallery: str,
    order: list[str],
    k: int = 10,
) -> Ranking:
    """Rank one modality's items for the queries of another. `score` always takes them in the model's `order`."""
    swapped = order.index(query) > order.index(gallery)
    scores = blocks(model, encodings[query], encodings[gallery], swapped=swapped)
    try:
        return rank_queries(scores, groups[query], groups[gallery], k)
    except ValueError as error:
        raise UserError(f"{query} -> {gallery}: {error}") from None


def directions(modalities: list[str]) -> list[tuple[str, str]]:
    return [(a, b) for a in modalities for b in modalities if a != b]


def recalls(
    model: base.Model,
    corpus: Corpus,
    partition: str,
    device: torch.device,
    modalities: tuple[str, ...] | None = None,
) -> dict[str, float]:
    """Recall@K of both directions on a partition, and their sum (`recall_sum`), by which runs are selected."""
    order = [m for m in model.reads if modalities is None or m in modalities]
    index = {m: corpus.inputs[m].where(partition) for m in order}
    groups = {m: corpus.inputs[m].groups[index[m]] for m in order}
    found: dict[str, float] = {}
    for a, b in directions(order):
        if order.index(a) < order.index(b):
            encodings = {
                a: encode(model, corpus, a, b, index[a], device),
                b: encode(model, corpus, b, a, index[b], device),
            }
            for query, gallery in ((a, b), (b, a)):
                ranks = rank(model, encodings, groups, query, gallery, order, k=0).ranks
                found |= {f"{query}-to-{gallery}_recall@{k}": v for k, v in recall_at_k(ranks, KS).items()}
    return {**found, "recall_sum": float(sum(found.values()))}


def test(model: base.Model, corpus: Corpus, folds: list[int], device: torch.device, folder: Path) -> dict[str, Any]:
    """Rank the test items under every protocol; writes `embeddings.npz` and `queries.parquet` into the run's folder.

    Returns
    -------
    The numbers of `metrics.json`: rows of direction, metric, protocol, value, n_queries, n_gallery. A fold protocol's
    value is the mean over its folds, of each of which n_queries and n_gallery tell the size.
    """
    order = list(model.reads)
    index = {m: corpus.inputs[m].where("test") for m in order}
    groups = {m: corpus.inputs[m].groups[index[m]] for m in order}
    ids = {m: corpus.inputs[m].ids[index[m]] for m in order}
    numbers: list[dict[str, Any]] = []
    queries: list[pd.DataFrame] = []
    saved: dict[str, np.ndarray] = {}
    pairs = [(a, b) for a, b in directions(order) if order.index(a) < order.index(b)]
    for a, b in pairs:
        encodings = {a: encode(model, corpus, a, b, index[a], device), b: encode(model, corpus, b, a, index[b], device)}
        for m, partner in ((a, b), (b, a)):
            if encodings[m].ndim == 2:
                key = m if len(order) == 2 else f"{m}.{partner}"
                saved[key] = encodings[m].float().cpu().numpy()
                saved[f"{m}_ids"] = ids[m].astype(str)
        for n_folds in folds:
            numbers_here, frames = _protocol(model, encodings, groups, ids, (a, b), order, n_folds)
            numbers += numbers_here
            queries += frames
    for protocol in dict.fromkeys(row["protocol"] for row in numbers):
        rows = [r for r in numbers if r["protocol"] == protocol]
        total = sum(row["value"] for row in rows if row["metric"].startswith("recall@"))
        sizes = {"n_queries": sum(r["n_queries"] for r in rows if r["metric"] == "recall@1"), "n_gallery": 0}
        numbers.append({"direction": "both", "metric": "recall_sum", "protocol": protocol, "value": total, **sizes})
    if saved:
        with whole(folder / "embeddings.npz") as temporary, temporary.open("wb") as stream:
            np.savez(stream, **saved)
    write_parquet(folder / "queries.parquet", pd.concat(queries, ignore_index=True))
    return {"numbers": numbers}


def _protocol(
    model: base.Model,
    encodings: dict[str, torch.Tensor],
    groups: dict[str, np.ndarray],
    ids: dict[str, np.ndarray],
    pair: tuple[str, str],
    order: list[str],
    n_folds: int,
) -> tuple[list[dict[str, Any]], list[pd.DataFrame]]:
    """Both directions of a pair of modalities over the folds of the test set (one fold: all of it)."""
    protocol = "all" if n_folds == 1 else f"fold{n_folds}"
    known = np.array(list(dict.fromkeys(groups[pair[0]])))
    try:
        parts = cut_folds(len(known), n_folds)
    except ValueError as error:
        raise UserError(f"params.yaml: datasets.*.folds: {error}") from None
    numbers, frames = [], []
    for query, gallery in (pair, pair[::-1]):
        direction = f"{query}-to-{gallery}"
        values: dict[str, list[float]] = {}
        for number, part in enumerate(parts):
            inside = {m: np.flatnonzero(np.isin(groups[m], known[part])) for m in pair}
            ranked = rank(
                model,
                {m: encodings[m][torch.from_numpy(inside[m]).to(encodings[m].device)] for m in pair},
                {m: groups[m][inside[m]] for m in pair},
                query,
                gallery,
                order,
            )
            for k, value in recall_at_k(ranked.ranks, KS).items():
                values.setdefault(f"recall@{k}", []).append(value)
            values.setdefault("median_rank", []).append(median_rank(ranked.ranks))
            values.setdefault("mean_rank", []).append(mean_rank(ranked.ranks))
            gallery_ids = ids[gallery][inside[gallery]]
            frames.append(
                pd.DataFrame(
                    {
                        "protocol": protocol,
                        "direction": direction,
                        "fold": number,
                        "query_id": ids[query][inside[query]],
                        "query_group": groups[query][inside[query]],
                        "rank": ranked.ranks,
                        "average_precision": ranked.average_precision,
                        "top": list(gallery_ids[ranked.top]),
                        "top_scores": list(ranked.top_scores),
                    }
                )
            )
        size = {"n_queries": len(frames[-1]), "n_gallery": len(gallery_ids)}
        numbers += [
            {"direction": direction, "metric": metric, "protocol": protocol, "value": float(np.mean(found)), **size}
            for metric, found in values.items()
        ]
    return numbers, frames


def write_metrics(folder: Path, job: dict[str, Any], scale: str, numbers: dict[str, Any]) -> None:
    write_json(folder / "metrics.json", {"job": job, "scale": scale, **numbers})
