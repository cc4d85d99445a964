"""Search with a trained run: a sentence or a file of the user's own against the items of the run's data set.

The test items are searched by the embeddings that the run's evaluation has saved; other items, and those of systems
that do not compare vectors, are encoded first. From the second search on, sentences are encoded without torch.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from crossmodal.core import packed, paths
from crossmodal.core.errors import UserError, suggestion
from crossmodal.core.files import read_record
from crossmodal.experiments import Job, Plan, job_in
from crossmodal.inference.onnx_encoder import open_exported
from crossmodal.tasks.base import ranking_of


@dataclass(frozen=True)
class Query:
    """A query: a sentence, the path of a file, or an item of the data set."""

    modality: str
    source: str
    item_id: str | None = None


@dataclass(frozen=True)
class Answer:
    """An item of the gallery that was retrieved for a query."""

    item_id: str
    modality: str
    score: float
    source: str
    """A sentence, or the path of a file."""


@dataclass(frozen=True)
class Found:
    """The result of a search."""

    run: str
    query: Query
    to: str
    gallery: int
    """Number of items that were searched."""
    answers: list[Answer]


def search(
    plan: Plan, folder: Path, query: Query, to: str | None = None, *, k: int = 10, partition: str = "test"
) -> Found:
    """The k best items of a modality for a query, by the run in a folder.

    Parameters
    ----------
    folder : the folder of the run.
    to : modality of the answers; by default the first other modality that the run reads.
    k : number of answers.
    partition : the items that are searched: train, val, test or all.

    Raises
    ------
    UserError : a run that is not trained or does not read the modality, a file that cannot be read, or an unknown item.
    """
    job = job_in(folder)
    if job.key != "/".join(folder.absolute().parts[-4:]):
        raise UserError(f"{folder / 'config.yaml'}: is that of another run ({job.key}); fetch or train the run again")
    data = Path(plan.params.paths.data) / job.dataset
    if query.item_id is not None:
        query = Query(*_rows(data, [query.item_id])[0], query.item_id)
    query, to = _directed(job, query, to)
    kept = _kept(folder, to, query.modality) if partition == "test" else None
    asked = None if kept is None else _vector(job, folder, query, to)
    if asked is not None:
        ids, (best, scores) = kept[0], _nearest(asked, kept[1], k)
    else:
        ids, best, scores = _by_the_model(plan, folder, data, query, to, kept, k, partition)
    found = [str(ids[place]) for place in best]
    answers = [
        Answer(item_id, modality, float(score), source)
        for item_id, score, (modality, source) in zip(found, scores, _rows(data, found), strict=True)
    ]
    return Found(job.key, query, to, len(ids), answers)


def _directed(job: Job, query: Query, to: str | None) -> tuple[Query, str]:
    """Check that the run reads the query's modality, and choose the modality of the answers."""
    if job.control:
        raise UserError(
            f"{job.key}: is a control, which is not trained and cannot be searched with; choose another run"
        )
    reads = job.modalities
    if query.modality not in reads:
        raise UserError(f"{job.key}: reads {' and '.join(reads)}, not {query.modality}; choose another run or query")
    others = [m for m in reads if m != query.modality]
    to = to or others[0]
    if to not in others:
        raise UserError(
            f"--to {to!r}: {job.key} compares {query.modality} with {', '.join(others)}" + suggestion(to, others)
        )
    return query, to


def _kept(folder: Path, modality: str, partner: str) -> tuple[np.ndarray, np.ndarray] | None:
    """The ids and the vectors of the test items that the run's evaluation has saved; None if there are none."""
    path, weights = ranking_of(folder) / "embeddings.npz", folder / "model.safetensors"
    if not (path.exists() and weights.exists()) or not _of_these_weights(folder):
        return None
    try:
        with packed.arrays(path) as kept:
            name = next((name for name in (modality, f"{modality}.{partner}") if name in kept), None)
            if name is None:
                return None
            ids, vectors = kept[f"{modality}_ids"], kept[name]
        if ids.ndim != 1 or vectors.ndim != 2 or len(ids) != len(vectors) or vectors.dtype.kind != "f":
            raise ValueError(f"{len(ids)} ids and vectors of shape {vectors.shape} and type {vectors.dtype}")
        return ids, vectors
    except Exception as error:  # what broken files raise is not documented
        raise UserError(f"{path}: is truncated or damaged ({error}); delete it and evaluate the run again") from None


def _of_these_weights(folder: Path) -> bool:
    """Whether a run was evaluated with its present weights, by their hash, since copied files have other times."""
    path = ranking_of(folder) / "metrics.json"
    tested = read_record(path) if path.exists() else {}
    trained = read_record(folder / "manifest.json")
    return tested.get("weights_sha256") == trained.get("weights_sha256")


def _vector(job: Job, folder: Path, query: Query, to: str) -> np.ndarray | None:
    """(d,) vector of a query that can be encoded without the model; None for other queries."""
    if query.item_id is not None:
        own = _kept(folder, query.modality, to)
        row = np.flatnonzero(own[0] == query.item_id) if own is not None else ()
        return own[1][row[0]] if len(row) else None
    if query.modality != "text" or (exported := open_exported(folder, job, to)) is None:
        return None
    return exported.encode(query.source)


def _nearest(asked: np.ndarray, gallery: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """(k,) indices and (k,) scores of the items of a (G, d) gallery nearest to a (d,) vector, ties by index."""
    scores = np.einsum("gd,d->g", gallery, asked, dtype=np.float64)
    near = np.flatnonzero(scores >= np.partition(scores, -k)[-k]) if k < len(scores) else np.arange(len(scores))
    best = near[np.lexsort((near, -scores[near]))[:k]]
    return best, scores[best]


def _by_the_model(
    plan: Plan,
    folder: Path,
    data: Path,
    query: Query,
    to: str,
    kept: tuple[np.ndarray, np.ndarray] | None,
    k: int,
    partition: str,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Search with the model itself: the ids of the searched items, and the (k,) indices and (k,) scores of the best."""
    import torch

    from crossmodal.inference import encoding as encoded
    from crossmodal.inference.run import open_run
    from crossmodal.models.base import Tokens

    run = open_run(folder)
    given = encoded.query_input(plan, run, data, query.modality, query.source, query.item_id)
    asked = run.encode(query.modality, given, to)
    if kept is None:
        ids, gallery = encoded.partition_of(run, data, to, query.modality, partition)
    else:
        ids, gallery = kept[0], torch.from_numpy(kept[1])
    best, scores = encoded.best(run, (query.modality, to), asked, gallery, k)
    if query.modality == "text" and isinstance(given, Tokens) and run.model.compares_vectors(asked, gallery):
        encoded.export(run, folder, to)
    return ids, best, scores


def _rows(data: Path, ids: list[str]) -> list[tuple[str, str]]:
    """The modality of each item, with its sentence or the path of its file."""
    from pyarrow.parquet import ParquetFile

    path, columns = data / "items.parquet", ["item_id", "modality", "source"]
    # `read_table` with a filter and Arrow's own look-up of a value would both import pandas.
    try:
        packed.check_table(path, columns)
        with ParquetFile(path) as file:
            table = file.read(columns)
        if missing := [name for name in columns if name not in table.column_names]:
            raise UserError(f"{path}: lacks the column(s) {', '.join(missing)}; prepare the data set again")
    except UserError:
        raise
    except Exception as error:  # what broken files raise is not documented
        raise UserError(f"{path}: cannot be read ({' '.join(str(error).split())}); prepare it again") from None
    known = table["item_id"].to_pylist()
    root = paths.named(data, str(read_record(data / "items.json").get("root")), f"{data / 'items.json'}: root")
    found = []
    for item_id in ids:
        try:
            row = known.index(item_id)
        except ValueError:
            told = f"{data / 'items.parquet'}: holds no item {item_id!r}; item ids are those of that table"
            raise UserError(told) from None
        modality, source = (table[name][row].as_py() for name in ("modality", "source"))
        file = source if modality == "text" else str(paths.inside(root, source, f"{data / 'items.parquet'}: {item_id}"))
        found.append((modality, file))
    return found
