"""Test queries with their best five answers, true matches marked, as the papers' own galleries show them."""

from __future__ import annotations

import base64
import io
import logging
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd

from crossmodal.errors import UserError
from crossmodal.files import read_json, read_parquet

log = logging.getLogger(__name__)

HEIGHT = 112
# (lowest rank, highest rank, queries) of each kind: a gallery of hits alone would flatter any model.
MIXTURE = ((1, 1, 2), (2, 10, 2), (11, None, 2))


@dataclass(frozen=True)
class Item:
    """An answer or a query: a thumbnail (a data URI) or a text."""

    id: str
    modality: str
    text: str | None
    image: str | None
    true: bool = False


@dataclass(frozen=True)
class Query:
    query: Item
    rank: int
    top: list[Item]
    truth: Item | None
    """The match, where the five answers lack it."""


@dataclass(frozen=True)
class Gallery:
    dataset: str
    run: str
    directions: dict[str, list[Query]]


class _Items:
    """The items of a data set by id, with their thumbnails."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.frame = read_parquet(folder / "items.parquet").astype({"item_id": "string"}).set_index("item_id")
        self.thumbnails: dict[str, str | None] = {}

    @cached_property
    def root(self) -> Path:
        return self.folder / read_json(self.folder / "items.json")["root"]

    def item(self, id_: str, group: str | None = None) -> Item:
        row = self.frame.loc[id_]
        image = self._thumbnail(str(row.source)) if row.modality == "image" else None
        text = str(row.source) if row.modality == "text" else None if image else f"{row.modality} {id_}"
        return Item(id_, str(row.modality), text, image, group is not None and str(row.group_id) == group)

    def _thumbnail(self, source: str) -> str | None:
        if source not in self.thumbnails:
            self.thumbnails[source] = thumbnail(self.root / source)
        return self.thumbnails[source]

    def truth(self, modality: str, group: str) -> str | None:
        found = self.frame.index[(self.frame.modality == modality) & (self.frame.group_id.astype(str) == group)]
        return str(found[0]) if len(found) else None


def thumbnail(path: Path, height: int = HEIGHT) -> str | None:
    """An image as a small JPEG in a data URI; None, and a line in the log, for one that cannot be read."""
    from PIL import Image

    try:
        with Image.open(path) as image:
            image.draft("RGB", (height * 4, height * 2))
            small = image.convert("RGB")
            width = max(1, round(small.width * height / small.height))
            small = small.resize((min(width, height * 3), height), Image.Resampling.LANCZOS)
    except (OSError, ValueError) as error:
        log.warning("%s: no thumbnail: %s", path, error)
        return None
    stream = io.BytesIO()
    small.save(stream, "JPEG", quality=82)
    return "data:image/jpeg;base64," + base64.b64encode(stream.getvalue()).decode()


def choose(queries: pd.DataFrame, seed: int = 0) -> pd.DataFrame:
    """A few queries of one direction: hits, near misses and misses, the same for the same seed, best ranks first.

    Where a kind is short, the others fill its places.
    """
    generator = np.random.default_rng(seed)
    ranks = queries["rank"].to_numpy()
    order = generator.permutation(len(queries))
    picked: list[int] = []
    for low, high, n in MIXTURE:
        inside = (ranks[order] >= low) & (ranks[order] <= (high if high is not None else ranks.max()))
        picked += order[inside][:n].tolist()
    wanted = min(len(queries), sum(n for *_, n in MIXTURE))
    picked += [i for i in order.tolist() if i not in set(picked)][: wanted - len(picked)]
    return queries.iloc[picked].sort_values("rank", kind="stable")


def gallery(data: Path, run: Path, *, seed: int = 0, n: int = 5, label: str = "") -> Gallery | None:
    """Queries of a run with their best `n` answers.

    Parameters
    ----------
    data : folder of the data set, with `items.parquet` and `items.json`.
    run : folder of the run, with `queries.parquet`.

    Returns
    -------
    None, and a line in the log, where either is missing or they do not fit together.
    """
    try:
        columns = ["protocol", "direction", "query_id", "rank", "fold", "top"]
        queries = read_parquet(run / "queries.parquet", columns)
        items = _Items(data)
        protocol = "all" if (queries.protocol == "all").any() else queries.protocol.iloc[0]
        queries = queries[queries.protocol == protocol]
        found = {}
        for direction, part in queries.groupby("direction", sort=True):
            found[str(direction)] = [_query(items, row, str(direction), n) for row in choose(part, seed).itertuples()]
        return Gallery(data.name, label or run.name, found)
    except UserError as error:
        log.warning("no gallery of %s: %s", data.name, error)
    except (KeyError, IndexError, AttributeError) as error:
        log.warning("no gallery of %s: %s and the items do not fit together (%s)", data.name, run, error)
    return None


def _query(items: _Items, row: object, direction: str, n: int) -> Query:
    query = items.item(str(row.query_id))
    group = str(items.frame.group_id[query.id])
    top = [items.item(str(id_), group) for id_ in list(row.top)[:n]]
    truth = None
    if not any(item.true for item in top):
        id_ = items.truth(direction.split("-to-")[1], group)
        truth = items.item(id_, group) if id_ else None
    return Query(query, int(row.rank), top, truth)
