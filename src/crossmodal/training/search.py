"""Search by a trained run: a sentence or a file of the user's own against the items of the run's data set.

Whole test sets are answered from the embeddings that the run's evaluation has kept; other items, and those of systems
that compare without vectors, are encoded first.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from crossmodal import registry
from crossmodal.errors import UserError, suggestion
from crossmodal.evaluation import Scores, top_k
from crossmodal.experiments import PRECOMPUTED, Plan, validated
from crossmodal.files import read_json
from crossmodal.models import base
from crossmodal.training.trained import Trained, open_run

log = logging.getLogger(__name__)

BLOCK = 512  # items that are scored at once where there are no vectors


@dataclass(frozen=True)
class Query:
    """What is searched for: a sentence, the path of a file, or an item of the data set."""

    modality: str
    source: str
    item_id: str | None = None


@dataclass(frozen=True)
class Answer:
    item_id: str
    modality: str
    score: float
    source: str
    """A sentence, or the path of a file."""


@dataclass(frozen=True)
class Found:
    run: str
    query: Query
    to: str
    gallery: int
    """Items that were searched."""
    answers: list[Answer]


def search(
    plan: Plan, folder: Path, query: Query, to: str | None = None, *, k: int = 10, partition: str = "test"
) -> Found:
    """The k items of a modality that answer a query best, by the run in a folder.

    Parameters
    ----------
    to : modality of the answers; by default the run's other one, the first other one where it has more than two.
    partition : items that are searched: train, val, test or all.

    Raises
    ------
    UserError : a run that is not trained or does not read the modality, a file that cannot be read, an unknown item.
    """
    run = open_run(folder)
    data = Path(plan.params.paths.data) / run.job.dataset
    if query.item_id is not None:
        query = Query(*_rows(data, [query.item_id])[0], query.item_id)
    query, to = _directed(run, query, to)
    asked = run.encode(query.modality, _input(plan, run, data, query), to)
    if partition == "test" and (kept := _kept(folder, query.modality, to)) is not None:
        ids, gallery = kept
    else:
        ids, gallery = _encoded(run, data, to, query.modality, partition)
    best, scores = (found[0] for found in _best(run, (query.modality, to), asked, gallery, k))
    found = [str(ids[place]) for place in best]
    answers = [
        Answer(item_id, modality, float(score), source)
        for item_id, score, (modality, source) in zip(found, scores, _rows(data, found), strict=True)
    ]
    return Found(run.job.key, query, to, len(ids), answers)


def _directed(run: Trained, query: Query, to: str | None) -> tuple[Query, str]:
    """A query of a modality that the run reads, and the modality of its answers."""
    reads = list(run.model.reads)
    if query.modality not in reads:
        raise UserError(
            f"{run.job.key}: reads {' and '.join(reads)}, not {query.modality}; choose another run or query"
        )
    others = [m for m in reads if m != query.modality]
    to = to or others[0]
    if to not in others:
        raise UserError(
            f"--to {to!r}: {run.job.key} compares {query.modality} with {', '.join(others)}" + suggestion(to, others)
        )
    return query, to


def _input(plan: Plan, run: Trained, data: Path, query: Query) -> base.Input:
    """The query as the model reads it."""
    form = run.model.reads[query.modality]
    if form == "tokens":
        return run.tokens([query.source])
    extractor = run.job.inputs[query.modality]
    manifest = data / "features" / f"{query.modality}.{extractor}"
    if query.item_id is not None:
        return _stored(manifest, query.item_id, form)
    from crossmodal.datasets import items
    from crossmodal.features import extraction

    chosen = plan.params.extractors[extractor]
    if chosen.extractor == PRECOMPUTED:
        raise UserError(
            f"{run.job.key}: its {query.modality} features were made elsewhere, so there is no way to make those of "
            f"{query.source}; search for an item of the data set with --item"
        )
    settings = validated(
        registry.module("features", chosen.extractor).Settings, chosen.settings, f"params.yaml: extractors.{extractor}"
    )
    given = extraction.given_of(items.read(data), items.root(data), query.modality, data)
    told = read_json(Path(f"{manifest}.json"))
    array, extra = extraction.features_of(chosen.extractor, settings, given, [query.source], told)
    tensor = torch.from_numpy(array)
    if form == "regions":
        return base.Regions(tensor, torch.tensor(extra.get("count", [tensor.shape[1]])))
    return tensor


def _stored(target: Path, item_id: str, form: base.Form) -> base.Input:
    from crossmodal.features.store import open_features

    features = open_features(target)
    rows = features.rows([item_id])
    tensor = torch.from_numpy(features.gather(rows)).float()
    return base.Regions(tensor, torch.from_numpy(features.counts[rows])) if form == "regions" else tensor


def _kept(folder: Path, query: str, to: str) -> tuple[np.ndarray, torch.Tensor] | None:
    """Ids and vectors of the test items, as the run's evaluation kept them; None where it has kept none."""
    path = folder / "embeddings.npz"
    if not path.exists() or path.stat().st_mtime < (folder / "model.safetensors").stat().st_mtime:
        return None
    with np.load(path) as kept:
        name = next((name for name in (to, f"{to}.{query}") if name in kept), None)
        return None if name is None else (kept[f"{to}_ids"], torch.from_numpy(kept[name]))


def _encoded(run: Trained, data: Path, to: str, query: str, partition: str) -> tuple[np.ndarray, torch.Tensor]:
    """Ids and encodings of a partition's items, or of all."""
    from crossmodal.training.data import load, options_of
    from crossmodal.training.test import encode

    options = options_of(run.model.settings) | {"relevance": run.job.relevance, "vocabulary": run.vocabulary}
    reads = {to: run.model.reads[to]}
    inputs = {m: name for m, name in run.job.inputs.items() if m == to}
    corpus = load(data, run.job.split, reads, inputs, **options)
    here = corpus.inputs[to]
    index = np.arange(len(here.ids)) if partition == "all" else here.where(partition)
    if not len(index):
        raise UserError(f"{data.name}: has no {to} items of the partition {partition!r} to search")
    log.info("%s: %d %s items are encoded", run.job.key, len(index), to)
    return here.ids[index], encode(run.model, corpus, to, query, index, torch.device("cpu"))


@torch.inference_mode()
def _best(
    run: Trained, pair: tuple[str, str], asked: torch.Tensor, gallery: torch.Tensor, k: int
) -> tuple[np.ndarray, np.ndarray]:
    """(1, k) places in the gallery and scores of what answers the one query best, as the run's test ranks it."""
    if run.model.compares_vectors(asked, gallery):
        return top_k(asked, gallery, k)
    query, to = map(list(run.model.reads).index, pair)
    score = run.model.score  # takes the modalities in the model's order
    parts = [score(asked, x) if query < to else score(x, asked).T for x in gallery.split(BLOCK)]
    matrix = torch.cat(parts, 1).float().numpy()
    return top_k(Scores(lambda rows: matrix[rows], matrix.shape), None, k)


def _rows(data: Path, ids: list[str]) -> list[tuple[str, str]]:
    """Modalities of items with their sentences or paths."""
    import pyarrow as pa
    import pyarrow.compute as pc
    from pyarrow.parquet import ParquetFile

    # Not by `read_table` with a filter, which imports pandas.
    with ParquetFile(data / "items.parquet") as file:
        table = file.read(["item_id", "modality", "source"])
    wanted = pc.is_in(table["item_id"], value_set=pa.array(ids, table["item_id"].type))
    found = {row["item_id"]: row for row in table.filter(wanted).to_pylist()}
    missing = [item_id for item_id in ids if item_id not in found]
    if missing:
        raise UserError(f"{data / 'items.parquet'}: holds no item {missing[0]!r}; item ids are those of that table")
    root = data / read_json(data / "items.json")["root"]
    rows = [found[item_id] for item_id in ids]
    return [
        (row["modality"], row["source"] if row["modality"] == "text" else str(root / row["source"])) for row in rows
    ]
