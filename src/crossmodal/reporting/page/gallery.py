"""Test queries with their five best answers, in which true matches are marked, like the galleries of the papers.

Several runs answer the same queries. The thumbnail of an item is kept once, however often it is shown.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from crossmodal.core import paths
from crossmodal.core.errors import UserError
from crossmodal.core.files import read_parquet
from crossmodal.datasets.items import labels_of
from crossmodal.reporting.page.thumbnails import Medium, medium
from crossmodal.reporting.results.runs import check_examples
from crossmodal.tasks.base import ranking_of

log = logging.getLogger(__name__)

# (lowest rank, highest rank, number of queries) per kind: a gallery of hits alone would flatter any model.
MIXTURE = ((1, 1, 2), (2, 10, 2), (11, None, 2))
MOST_BYTES = 15_000_000  # of all thumbnails of a page


@dataclass(frozen=True)
class Answer:
    """An item among the best answers to a query, and whether it is a true match."""

    id: str
    true: bool
    score: float | None = None


@dataclass(frozen=True)
class Query:
    """A test query with the rank of its best match and its best answers."""

    id: str
    rank: int
    top: list[Answer]
    truth: str | None
    """The id of a true match where none of the answers is one."""


@dataclass(frozen=True)
class Gallery:
    """The chosen queries of a run, by direction."""

    dataset: str
    run: str
    directions: dict[str, list[Query]]


@dataclass
class Items:
    """The items of a data set by id, with the thumbnails of those that have been described."""

    folder: Path
    relevance: str = "group"  # or `label`: what relevant items have in common
    shown: dict[str, Medium] = field(default_factory=dict)

    @cached_property
    def frame(self) -> pd.DataFrame:
        """The items by id, followed by the classes where the data set has a file `classes.parquet`."""
        from crossmodal.datasets.items import class_id

        frame = read_parquet(self.folder / "items.parquet")
        if (self.folder / "classes.parquet").exists():
            classes = read_parquet(self.folder / "classes.parquet")
            ids = classes.label.map(class_id)
            about = {"item_id": ids, "modality": "class", "group_id": ids, "label": classes.label, "partition": "test"}
            frame = pd.concat([frame, pd.DataFrame({**about, "source": classes.text})], ignore_index=True)
        return frame.astype({"item_id": "string"}).set_index("item_id")

    @cached_property
    def root(self) -> Path:
        """The folder that the items' files are relative to."""
        from crossmodal.datasets import items

        return items.root(self.folder)

    @cached_property
    def codes(self) -> pd.Series:
        """The group or the label of each item, by which items are relevant to each other."""
        return self.frame["label" if self.relevance == "label" else "group_id"].astype("string")

    @cached_property
    def _first(self) -> dict[tuple[str, str], str]:
        """{(modality, code): id of the first such test item}"""
        tested = self.frame[self.frame.partition == "test"]
        first = tested.assign(code=self.codes[tested.index]).drop_duplicates(["modality", "code"])
        return {(str(row.modality), str(row.code)): str(row.Index) for row in first.itertuples()}

    def alike(self, code: str, other: str) -> bool:
        """Whether items of these codes are relevant to each other: the codes are equal, or their labels share one."""
        if code == other or self.relevance != "label":
            return bool(code == other)
        return not set(labels_of(code)).isdisjoint(labels_of(other))

    def truth(self, modality: str, code: str) -> str | None:
        """The id of a test item of a modality that is relevant to this code; None if there is none."""
        first = self._first.get((modality, code))
        others = (id_ for (of, other), id_ in self._first.items() if of == modality and self.alike(code, other))
        return first or next(others, None)

    def describe(self, id_: str, room: int) -> dict[str, Any]:
        """The modality, label, and text or thumbnail of an item; a thumbnail of more than `room` bytes is left out."""
        row = self.frame.loc[id_]
        fields: dict[str, Any] = {"modality": str(row.modality)}
        if pd.notna(row.label):
            fields["label"] = ", ".join(labels_of(str(row.label)))
        if row.modality == "class":
            return fields | {"text": f"{row.label}: {row.source}"}
        if row.modality == "text":
            return fields | {"text": str(row.source)}
        if id_ not in self.shown:
            self.shown[id_] = self._small(str(row.source), str(row.modality))
        small = self.shown[id_]
        if len(small.picture or "") + len(small.player or "") <= room:
            fields |= {key: value for key, value in vars(small).items() if value}
        return fields

    def _small(self, source: str, modality: str) -> Medium:
        try:
            return medium(paths.inside(self.root, source, str(self.folder / "items.parquet")), modality)
        except UserError as error:
            log.warning("%s", error)
            return Medium()


def choose(queries: pd.DataFrame, seed: int = 0, share: float = 1.0) -> pd.DataFrame:
    """A few queries of one aspect: hits, near misses and misses, with the best ranks first.

    Where one kind has too few queries, the others fill its places. The choice depends on `seed` alone.

    Parameters
    ----------
    queries : the ranked queries, of which the column `rank` is read.
    share : factor on the number of queries of each kind in `MIXTURE`; at least one of each kind is chosen.
    """
    generator = np.random.default_rng(seed)
    ranks = queries["rank"].to_numpy()
    order = generator.permutation(len(queries))
    picked: list[int] = []
    for low, high, n in MIXTURE:
        inside = (ranks[order] >= low) & (ranks[order] <= (high if high is not None else ranks.max()))
        picked += order[inside][: max(1, round(share * n))].tolist()
    wanted = min(len(queries), sum(max(1, round(share * n)) for *_, n in MIXTURE))
    picked += [i for i in order.tolist() if i not in set(picked)][: wanted - len(picked)]
    return queries.iloc[picked].sort_values("rank", kind="stable")


def gallery(
    items: Items, run: Path, *, like: Gallery | None = None, seed: int = 0, n: int = 5, label: str = ""
) -> Gallery | None:
    """Queries of a run with their best `n` answers.

    Parameters
    ----------
    items : the items of the run's data set.
    run : the folder of a run that has been tested.
    like : another run's gallery, whose queries are shown again; else they are chosen by this run's ranks.

    Returns
    -------
    The gallery; None, with a line in the log, where the queries are missing or do not fit the items.
    """
    try:
        columns = ["protocol", "aspect", "query_id", "rank", "fold", "top", "top_scores"]
        queries = read_parquet(ranking_of(run) / "examples.parquet", columns)
        check_examples(queries, ranking_of(run) / "examples.parquet")
        protocol = "all" if (queries.protocol == "all").any() else queries.protocol.iloc[0]
        queries = queries[queries.protocol == protocol]
        queries_of = {}
        directions = sorted(queries.aspect.unique())
        for aspect in directions:
            part = queries[queries.aspect == aspect]
            if like is None:
                part = choose(part, seed, 1.0 if len(directions) <= 2 else 0.5)
            else:
                ids = [query.id for query in like.directions.get(aspect, ())]
                part = part.drop_duplicates("query_id").set_index("query_id", drop=False).loc[ids]
            queries_of[str(aspect)] = [_query(items, row, str(aspect), n) for row in part.itertuples(index=False)]
        return Gallery(items.folder.name, label or run.name, queries_of)
    except UserError as error:
        log.warning("no gallery of %s: %s", items.folder.name, error)
    except (KeyError, IndexError, AttributeError) as error:
        log.warning("no gallery of %s: %s and the items do not fit together (%s)", items.folder.name, run, error)
    return None


def _query(items: Items, row: Any, aspect: str, n: int) -> Query:
    id_ = str(row.query_id)
    code = items.codes[id_]
    answers = zip(list(row.top)[:n], list(row.top_scores)[:n], strict=True)
    top = [
        Answer(str(item_id), items.alike(items.codes[str(item_id)], code), float(score)) for item_id, score in answers
    ]
    missed = not any(answer.true for answer in top)
    return Query(id_, int(row.rank), top, items.truth(aspect.split("-to-")[1], str(code)) if missed else None)


def described(galleries: list[tuple[Items, list[Gallery]]], most: int = MOST_BYTES) -> list[dict[str, Any]]:
    """Galleries in the form that a page reads: for each data set its items, each once, and the queries of its runs.

    Thumbnails beyond `most` bytes are left out, which is logged. Each data set has an equal share of these bytes.
    """
    entries = []
    for items, runs in galleries:
        room = most // max(1, len(galleries))
        described_items: dict[str, dict[str, Any]] = {}
        lost = 0
        for id_ in dict.fromkeys(id_ for run in runs for id_ in _ids(run)):
            described_items[id_] = items.describe(id_, room)
            room -= sum(len(described_items[id_].get(part, "")) for part in ("picture", "player"))
            lost += "text" not in described_items[id_] and "picture" not in described_items[id_]
        if lost:
            log.warning(
                "gallery of %s: %d of %d items have no thumbnail", items.folder.name, lost, len(described_items)
            )
        entries.append({"dataset": items.folder.name, "items": described_items, "runs": [_plain(run) for run in runs]})
    return entries


def _ids(run: Gallery) -> list[str]:
    queries = [query for part in run.directions.values() for query in part]
    return [id_ for q in queries for id_ in (q.id, *(a.id for a in q.top), q.truth) if id_ is not None]


def _plain(run: Gallery) -> dict[str, Any]:
    def plain(query: Query) -> dict[str, Any]:
        top = [[a.id, int(a.true), None if a.score is None else float(f"{a.score:.4g}")] for a in query.top]
        return {"query": query.id, "rank": query.rank, "top": top, "truth": query.truth}

    return {"run": run.run, "directions": {d: [plain(query) for query in part] for d, part in run.directions.items()}}
