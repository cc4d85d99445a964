"""A trained model on the test items: encodings, per-query ranks, and the metrics of each protocol.

Protocols are the whole test set (`all`) and folds of it; where items answer each other by class also the items of some
classes alone: `seen` and `unseen` ones, and the `first` of classes that come in stages.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from crossmodal.errors import UserError
from crossmodal.evaluation import (
    Ranking,
    Scores,
    metrics_of_queries,
    rank_both_ways,
    rank_queries,
    recall_at_k,
    source,
)
from crossmodal.evaluation import folds as cut_folds
from crossmodal.evaluation.precision import NAMES
from crossmodal.evaluation.quality import chance_precision
from crossmodal.evaluation.several import rank_several, relevant_counts
from crossmodal.files import whole, write_json, write_parquet
from crossmodal.models import base
from crossmodal.training.corpus import Corpus

KS = (1, 5, 10)
ENCODE_BATCH = 256
SCORE_BATCH = 64
TOP = 10  # best items that are kept of each query
IN_MEMORY = 2**28  # bytes of a matrix of scores


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


class Pair:
    """The encodings of two modalities, to be ranked both ways; in the model's order, which `score` takes them in."""

    def __init__(
        self,
        encodings: dict[str, torch.Tensor],
        relevance: dict[str, np.ndarray],
        model: base.Model | None = None,
        ranked: dict[str, Ranking] | None = None,
    ):
        """`relevance`: codes of the items, equal where they answer each other, or tables of zeros and ones of their
        labels, of which they share one. `model`: scores the encodings where they
        are no vectors. `ranked`: what ranking all items gives, if known.
        """
        self.names = tuple(encodings)
        self.relevance = relevance
        self.encodings = list(encodings.values())
        self.ranked = ranked
        vectors = model is None or model.compares_vectors(*self.encodings)
        self.matrix = None if vectors else scored(model, *self.encodings)

    def rank(self, inside: list[np.ndarray] | None = None, k: int = 0, precision: bool = True) -> dict[str, Ranking]:
        """{modality that asks: ranking} of all items, or of those at the places `inside` of either modality.

        Raises
        ------
        UserError : encodings or scores that cannot be ranked.
        """
        if self.ranked is not None and (inside is None or [*map(len, inside)] == [*map(len, self.encodings)]):
            return self.ranked
        inside = inside or [np.arange(len(x)) for x in self.encodings]
        codes = [self.relevance[name][places] for name, places in zip(self.names, inside, strict=True)]
        several = codes[0].ndim == 2
        try:
            if self.matrix is None and several:
                of = source(*(x[torch.from_numpy(p).to(x.device)] for x, p in zip(self.encodings, inside, strict=True)))
                found = [rank_several(of, *codes, k), rank_several(of.turned, *codes[::-1], k)]
            elif self.matrix is None:
                of = source(*(x[torch.from_numpy(p).to(x.device)] for x, p in zip(self.encodings, inside, strict=True)))
                found = rank_both_ways(of, *codes, k, precision=precision)
            else:
                found = []
                for matrix, (rows, cols), pair in (
                    (self.matrix, inside, codes),
                    (self.matrix.T, inside[::-1], codes[::-1]),
                ):
                    of = Scores(lambda part, m=matrix, r=rows, c=cols: m[np.ix_(r[part], c)], (len(rows), len(cols)))
                    found.append(
                        rank_several(of, *pair, k) if several else rank_queries(of, *pair, k, precision=precision)
                    )
        except ValueError as error:
            raise UserError(f"{self.names[0]} and {self.names[1]}: {error}") from None
        return dict(zip(self.names, found, strict=True))


@torch.inference_mode()
def scored(model: base.Model, left: torch.Tensor, right: torch.Tensor) -> np.ndarray:
    """(N, M) float32 scores of a model that has no vectors, each pair scored once; a large matrix lies on the disk."""
    shape = (len(left), len(right))
    if 4 * shape[0] * shape[1] <= IN_MEMORY:
        matrix = np.empty(shape, np.float32)
    else:
        with tempfile.TemporaryFile() as file:  # has no name; the map alone keeps it
            matrix = np.memmap(file, np.float32, "w+", shape=shape)
    for start in range(0, len(left), SCORE_BATCH):  # always the same batches: their size may change the last bits
        rows = slice(start, start + SCORE_BATCH)
        matrix[rows] = model.score(left[rows], right).float().cpu().numpy()
    return matrix


def encodings_of(
    model: base.Model, corpus: Corpus, pair: tuple[str, str], index: dict[str, np.ndarray], device: torch.device
) -> dict[str, torch.Tensor]:
    return {m: encode(model, corpus, m, partner, index[m], device) for m, partner in (pair, pair[::-1])}


@dataclass(frozen=True)
class Items:
    """The items of a partition, in each modality that a model reads."""

    ids: dict[str, np.ndarray]
    groups: dict[str, np.ndarray]
    relevance: dict[str, np.ndarray]  # codes: equal where two items answer each other; or tables of their labels
    subsets: dict[str, list[int]]  # protocols of some classes alone, with their codes
    by_class: bool = False

    @classmethod
    def of(cls, model: base.Model, corpus: Corpus, partition: str) -> tuple[Items, dict[str, np.ndarray]]:
        """Those of a partition, and their places in the corpus."""
        index = {m: corpus.inputs[m].where(partition) for m in model.reads}
        ids = {m: corpus.inputs[m].ids[index[m]] for m in index}
        groups = {m: corpus.inputs[m].groups[index[m]] for m in index}
        relevance = {m: corpus.relevance(m)[index[m]] for m in index}
        found = {}
        if corpus.classes is not None and corpus.classes.every is None:
            found = corpus.classes.subsets(set(np.concatenate([*relevance.values()]).tolist()))
        return cls(ids, groups, relevance, found, corpus.classes is not None), index

    def parts(self, pair: tuple[str, ...], folds: list[int]) -> Iterator[tuple[str, list[list[np.ndarray]]]]:
        """Each protocol with the places of a pair's items in each of its folds.

        Raises
        ------
        UserError : groups that cannot be cut into so many folds, items of several labels that share no groups.
        """
        several = self.relevance[pair[0]].ndim == 2
        of = self.groups if several else self.relevance  # an item of several labels stays with what belongs to it
        first, second = (of[m] for m in pair)
        if several and folds != [1] and set(first) != set(second):
            raise UserError(
                f"params.yaml: datasets.*.folds: items of several labels are cut into folds by the groups that "
                f"{pair[0]} and {pair[1]} items share, and some are of one of these modalities alone; use [1]"
            )
        known = np.array(list(dict.fromkeys(first)))
        for n in folds:
            if several and n == 1:
                yield "all", [[np.arange(len(of[m])) for m in pair]]
                continue
            try:
                codes = [known[part] for part in cut_folds(len(known), n)]
            except ValueError as error:
                raise UserError(f"params.yaml: datasets.*.folds: {error}") from None
            yield "all" if n == 1 else f"fold{n}", [self._inside(of, pair, part) for part in codes]
        for name, part in self.subsets.items():
            yield name, [self._inside(of, pair, np.array(part))]

    @staticmethod
    def _inside(of: dict[str, np.ndarray], pair: tuple[str, ...], codes: np.ndarray) -> list[np.ndarray]:
        return [np.flatnonzero(np.isin(of[m], codes)) for m in pair]


def validate(
    model: base.Model,
    corpus: Corpus,
    partition: str,
    device: torch.device,
    modalities: tuple[str, ...] | None = None,
) -> dict[str, float]:
    """All directions on a partition: recall@K and their sum, or mAP@50 (by class) and its sum.

    The sum, by which runs are selected, is called `Corpus.criterion`.
    """
    order = [m for m in model.reads if modalities is None or m in modalities]
    index = {m: corpus.inputs[m].where(partition) for m in order}
    relevance = {m: corpus.relevance(m)[index[m]] for m in order}
    by_class = corpus.classes is not None
    found: dict[str, float] = {}
    for a, b in combinations(order, 2):
        pair = Pair(encodings_of(model, corpus, (a, b), index, device), relevance, model)
        for query, ranking in pair.rank(precision=by_class).items():
            direction = f"{query}-to-{b if query == a else a}"
            if by_class:
                found[f"{direction}_map@50"] = 100 * float(ranking.precision["average_precision@50"].mean())
            else:
                found |= {f"{direction}_recall@{k}": v for k, v in recall_at_k(ranking.ranks, KS).items()}
    return {**found, corpus.criterion: float(sum(found.values()))}


def test(model: base.Model, corpus: Corpus, folds: list[int], device: torch.device, folder: Path) -> dict[str, Any]:
    """Rank the test items under every protocol; writes `embeddings.npz` and `queries.parquet` into the run's folder.

    Returns
    -------
    The numbers of `metrics.json`: rows of direction, metric, protocol, value, n_queries, n_gallery. A fold protocol's
    value is the mean over its folds, of each of which n_queries and n_gallery tell the size.
    """
    items, index = Items.of(model, corpus, "test")
    pairs = combinations(model.reads, 2)
    encoded = ((pair, encodings_of(model, corpus, pair, index, device)) for pair in pairs)
    found = written((Pair(encodings, items.relevance, model) for _, encodings in encoded), items, folds, folder)
    return {"numbers": found["numbers"] + measured(model, corpus, device)}


@torch.inference_mode()
def measured(model: base.Model, corpus: Corpus, device: torch.device) -> list[dict[str, Any]]:
    """Rows for `metrics.json` of what a system is measured by besides retrieval (`Model.measure`)."""
    if type(model).measure is base.Model.measure:
        return []
    model.eval()
    parts = ([batch.to(device) for batch in corpus.joined(name, ENCODE_BATCH)] for name in ("train", "test"))
    train, test = parts
    try:
        found = model.measure(train, test)
    except ValueError as error:
        raise UserError(f"{type(model).__module__.rpartition('.')[2]}: {error}") from None
    about = {"protocol": "all", "n_queries": sum(len(batch.groups) for batch in test), "n_gallery": 0}
    return [{"direction": d, "metric": metric, "value": value, **about} for (d, metric), value in found.items()]


def written(pairs: Iterable[Pair], items: Items, folds: list[int], folder: Path) -> dict[str, Any]:
    """Rank pairs of modalities under every protocol and write what `test` says."""
    numbers: list[dict[str, Any]] = []
    queries: list[pd.DataFrame] = []
    saved: dict[str, np.ndarray] = {}
    for pair in pairs:
        for m, encodings in zip(pair.names, pair.encodings, strict=True):
            if encodings.ndim == 2:
                (partner,) = set(pair.names) - {m}
                key = m if len(items.ids) == 2 else f"{m}.{partner}"
                saved[key] = encodings.float().cpu().numpy()
                saved[f"{m}_ids"] = items.ids[m].astype(str)
        for protocol, parts in items.parts(pair.names, folds):
            numbers_here, frames = _protocol(pair, items, protocol, parts)
            numbers += numbers_here
            queries += frames
    for protocol in dict.fromkeys(row["protocol"] for row in numbers):
        rows = [r for r in numbers if r["protocol"] == protocol]
        directions = {r["direction"]: r["n_queries"] for r in rows}
        if not items.by_class:
            numbers.append(_recall_sum(protocol, rows))
        else:
            numbers += _averaged(protocol, rows, sum(directions.values()), len(directions))
    if saved:
        with whole(folder / "embeddings.npz") as temporary, temporary.open("wb") as stream:
            np.savez(stream, **saved)
    write_parquet(folder / "queries.parquet", pd.concat(queries, ignore_index=True))
    return {"numbers": numbers}


def _recall_sum(protocol: str, rows: list[dict[str, Any]]) -> dict[str, Any]:
    """The sum of all recalls, over both directions."""
    total = sum(row["value"] for row in rows if row["metric"].startswith("recall@"))
    n_queries = sum(row["n_queries"] for row in rows if row["metric"] == "recall@1")
    about = {"direction": "both", "metric": "recall_sum", "protocol": protocol, "value": total}
    return {**about, "n_queries": n_queries, "n_gallery": 0}


def _averaged(protocol: str, rows: list[dict[str, Any]], n_queries: int, n_directions: int) -> list[dict[str, Any]]:
    """Average precision's mean over all directions (CVS thesis, table 8: `Avg`)."""
    found = []
    for metric in dict.fromkeys(row["metric"] for row in rows if row["metric"].startswith("map")):
        mean = sum(row["value"] for row in rows if row["metric"] == metric) / n_directions
        about = {"direction": "average", "metric": metric, "protocol": protocol, "value": mean}
        found.append({**about, "n_queries": n_queries, "n_gallery": 0})
    return found


def _protocol(
    pair: Pair, items: Items, protocol: str, parts: list[list[np.ndarray]]
) -> tuple[list[dict[str, Any]], list[pd.DataFrame]]:
    """Both directions of a pair of modalities over the folds of a protocol (one fold: all of it)."""
    values: dict[tuple[str, str], list[float]] = {}
    sizes: dict[str, dict[str, int]] = {}
    frames = []
    for number, inside in enumerate(parts):
        places = dict(zip(pair.names, inside, strict=True))
        for query, ranked in pair.rank(inside, k=TOP).items():
            gallery = pair.names[1] if query == pair.names[0] else pair.names[0]
            direction = f"{query}-to-{gallery}"
            frames.append(
                pd.DataFrame(
                    {
                        "protocol": protocol,
                        "direction": direction,
                        "fold": number,
                        "query_id": items.ids[query][places[query]],
                        "query_group": items.groups[query][places[query]],
                        "rank": ranked.ranks,
                        **ranked.precision,
                        "top": list(items.ids[gallery][places[gallery]][ranked.top]),
                        "top_scores": list(ranked.top_scores),
                    }
                )
            )
            sizes.setdefault(direction, {"n_queries": len(places[query]), "n_gallery": len(places[gallery])})
            for metric, value in metrics_of_queries(frames[-1]).items():
                values.setdefault((direction, metric), []).append(value)
            if items.by_class:
                asked, there = pair.relevance[query][places[query]], pair.relevance[gallery][places[gallery]]
                relevant = relevant_counts(asked, there) if asked.ndim == 2 else np.bincount(there)[asked]
                for name, (at, _) in NAMES.items():
                    metric = name.replace("average_precision", "map") + "_chance"  # what a random order would have
                    value = 100 * float(chance_precision(relevant, len(places[gallery]), at).mean())
                    values.setdefault((direction, metric), []).append(value)
    numbers = []
    for (direction, metric), found in values.items():
        row = {"direction": direction, "metric": metric, "protocol": protocol, "value": float(np.mean(found))}
        numbers.append(row | sizes[direction])
    numbers.sort(key=lambda row: row["direction"])  # stable: metrics stay in their order
    frames.sort(key=lambda frame: frame.direction.iloc[0])
    return numbers, frames


def write_metrics(folder: Path, job: dict[str, Any], scale: str, numbers: dict[str, Any]) -> None:
    write_json(folder / "metrics.json", {"job": job, "scale": scale, **numbers})
