"""Rankings of the test items under every protocol: the metrics per protocol, and the rank of each query.

Protocols are the whole test set (`all`) and folds of it. Where relevance is by class, further protocols take the items
of some classes alone: `seen` and `unseen` classes, and the `first` group of classes that are trained in stages.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

from crossmodal.core.errors import UserError
from crossmodal.core.files import atomic_write
from crossmodal.corpus.corpus import Corpus
from crossmodal.evaluation.bounds import chance_precision
from crossmodal.evaluation.metrics import folds as cut_folds
from crossmodal.evaluation.metrics import metrics_of_queries
from crossmodal.evaluation.ranking.average_precision import AP_VARIANTS
from crossmodal.evaluation.ranking.relevance import relevant_counts
from crossmodal.tasks.base import Number
from crossmodal.tasks.ranked.encodings import Pair

TOP = 10  # number of best items that are kept per query


@dataclass(frozen=True)
class Items:
    """The items of a partition in each modality that a model reads; the keys of the mappings are modalities."""

    ids: dict[str, np.ndarray]
    groups: dict[str, np.ndarray]
    relevance: dict[str, np.ndarray]  # codes, equal for items relevant to each other; or tables of their labels
    subsets: dict[str, list[int]]  # protocol of some classes alone to the codes of these classes
    by_class: bool = False  # whether relevance is by class
    places: dict[str, np.ndarray] = field(default_factory=dict)  # indices of the items in the corpus

    @classmethod
    def of(cls, corpus: Corpus, modalities: Iterable[str], partition: str) -> Items:
        """The items of a partition of the corpus."""
        index = {m: corpus.inputs[m].where(partition) for m in modalities}
        ids = {m: corpus.inputs[m].ids[index[m]] for m in index}
        groups = {m: corpus.inputs[m].groups[index[m]] for m in index}
        relevance = {m: corpus.relevance(m)[index[m]] for m in index}
        subsets = {}
        if corpus.classes is not None and corpus.classes.every is None:
            subsets = corpus.classes.subsets(set(np.concatenate([*relevance.values()]).tolist()))
        return cls(ids, groups, relevance, subsets, corpus.classes is not None, index)

    def parts(self, pair: tuple[str, ...], folds: list[int]) -> Iterator[tuple[str, list[list[np.ndarray]]]]:
        """Select the items of a pair of modalities in each fold of each protocol.

        Yields
        ------
        The name of a protocol, and per fold the indices of the items of each modality.

        Raises
        ------
        UserError : groups that cannot be cut into the folds, or items with several labels that share no groups.
        """
        several = self.relevance[pair[0]].ndim == 2
        of = self.groups if several else self.relevance  # folds of items with several labels keep groups together
        first, second = (of[m] for m in pair)
        if several and folds != [1] and set(first) != set(second):
            raise UserError(
                f"params.yaml: datasets.*.folds: items of several labels are cut into folds by the groups that "
                f"{pair[0]} and {pair[1]} items share, and some are of one of these modalities alone; use [1]"
            )
        groups = np.array(list(dict.fromkeys(first)))
        for n in folds:
            if several and n == 1:
                yield "all", [[np.arange(len(of[m])) for m in pair]]
                continue
            try:
                codes = [groups[part] for part in cut_folds(len(groups), n)]
            except ValueError as error:
                raise UserError(f"params.yaml: datasets.*.folds: {error}") from None
            yield "all" if n == 1 else f"fold{n}", [self._inside(of, pair, part) for part in codes]
        for name, part in self.subsets.items():
            yield name, [self._inside(of, pair, np.array(part))]

    @staticmethod
    def _inside(of: dict[str, np.ndarray], pair: tuple[str, ...], codes: np.ndarray) -> list[np.ndarray]:
        return [np.flatnonzero(np.isin(of[m], codes)) for m in pair]


def save_vectors(pairs: Iterable[Pair], items: Items, folder: Path) -> None:
    """Write `embeddings.npz` with the encodings that are vectors; no file is written if none are."""
    saved: dict[str, np.ndarray] = {}
    for pair in pairs:
        for m, encodings in zip(pair.names, pair.encodings, strict=True):
            if encodings.ndim == 2:
                (partner,) = set(pair.names) - {m}
                key = m if len(items.ids) == 2 else f"{m}.{partner}"
                saved[key] = encodings.float().cpu().numpy()
                saved[f"{m}_ids"] = items.ids[m].astype(str)
    if saved:
        with atomic_write(folder / "embeddings.npz") as temporary, temporary.open("wb") as stream:
            np.savez(stream, **saved)


def scored(pairs: Iterable[Pair], items: Items, folds: list[int]) -> tuple[pd.DataFrame, list[Number]]:
    """Rank pairs of modalities under every protocol.

    Returns
    -------
    A table with one row per query, direction and protocol, and the numbers of `metrics.json`.

    Raises
    ------
    UserError : encodings that cannot be ranked, or groups that cannot be cut into the folds.
    """
    numbers: list[Number] = []
    queries: list[pd.DataFrame] = []
    for pair in pairs:
        for protocol, parts in items.parts(pair.names, folds):
            numbers_here, frames = _protocol(pair, items, protocol, parts)
            numbers += numbers_here
            queries += frames
    for protocol in dict.fromkeys(row["protocol"] for row in numbers):
        rows = [r for r in numbers if r["protocol"] == protocol]
        directions = {r["aspect"]: r["n_queries"] for r in rows}
        if not items.by_class:
            numbers.append(_recall_sum(protocol, rows))
        else:
            numbers += _averaged(protocol, rows, sum(directions.values()), len(directions))
    return pd.concat(queries, ignore_index=True), numbers


def _recall_sum(protocol: str, rows: list[Number]) -> Number:
    """The sum of all recalls over both directions."""
    total = sum(row["value"] for row in rows if row["metric"].startswith("recall@"))
    n_queries = sum(row["n_queries"] for row in rows if row["metric"] == "recall@1")
    about = {"aspect": "both", "metric": "recall_sum", "protocol": protocol, "value": total}
    return {**about, "n_queries": n_queries, "n_gallery": 0}


def _averaged(protocol: str, rows: list[Number], n_queries: int, n_directions: int) -> list[Number]:
    """The mean average precisions, averaged over all directions (CVS thesis, table 8, `Avg`)."""
    averages = []
    for metric in dict.fromkeys(row["metric"] for row in rows if row["metric"].startswith("map")):
        mean = sum(row["value"] for row in rows if row["metric"] == metric) / n_directions
        about = {"aspect": "average", "metric": metric, "protocol": protocol, "value": mean}
        averages.append({**about, "n_queries": n_queries, "n_gallery": 0})
    return averages


def _protocol(
    pair: Pair, items: Items, protocol: str, parts: list[list[np.ndarray]]
) -> tuple[list[Number], list[pd.DataFrame]]:
    """Rank a pair of modalities in both directions; metrics are means over the folds of the protocol."""
    values: dict[tuple[str, str], list[float]] = {}
    sizes: dict[str, dict[str, int]] = {}
    frames = []
    for number, inside in enumerate(parts):
        places = dict(zip(pair.names, inside, strict=True))
        for query, ranked in pair.rank(inside, k=TOP).items():
            gallery = pair.names[1] if query == pair.names[0] else pair.names[0]
            aspect = f"{query}-to-{gallery}"
            frames.append(
                pd.DataFrame(
                    {
                        "protocol": protocol,
                        "aspect": aspect,
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
            sizes.setdefault(aspect, {"n_queries": len(places[query]), "n_gallery": len(places[gallery])})
            for metric, value in metrics_of_queries(frames[-1]).items():
                values.setdefault((aspect, metric), []).append(value)
            if items.by_class:
                codes, others = (pair.relevance[m][places[m]] for m in (query, gallery))
                relevant = relevant_counts(codes, others) if codes.ndim == 2 else np.bincount(others)[codes]
                for name, (at, _) in AP_VARIANTS.items():
                    metric = name.replace("average_precision", "map") + "_chance"  # expected of a random order
                    value = 100 * float(chance_precision(relevant, len(places[gallery]), at).mean())
                    values.setdefault((aspect, metric), []).append(value)
    numbers = []
    for (aspect, metric), per_fold in values.items():
        row = {"aspect": aspect, "metric": metric, "protocol": protocol, "value": float(np.mean(per_fold))}
        numbers.append(row | sizes[aspect])
    numbers.sort(key=lambda row: row["aspect"])  # the sort is stable, so that metrics stay in their order
    frames.sort(key=lambda frame: frame.aspect.iloc[0])
    return numbers, frames
