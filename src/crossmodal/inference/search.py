"""Search with a trained run: a sentence or a file of the user's own against the items of the run's data set.

The test items are searched by the embeddings that the run's evaluation has saved; other items, and those of systems
that do not compare vectors, are encoded first. From the second search on, sentences are encoded without torch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from crossmodal.core import packed, paths
from crossmodal.core.errors import UserError, first_line, suggestion
from crossmodal.core.files import read_record
from crossmodal.evaluation.ranking.nearest import nearest
from crossmodal.experiments import Job
from crossmodal.inference import folder as folders
from crossmodal.inference.onnx_encoder import check_sentence, open_exported
from crossmodal.inference.opened import OpenedRun
from crossmodal.tasks.base import ranking_of

if TYPE_CHECKING:
    import torch

AGAIN = "delete it, and evaluate the run or index the folder again"
PARTITIONS = ("train", "val", "test", "all")


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


def query_of(text: str | None = None, item: str | None = None, **files: str | Path | None) -> Query:
    """The query that one of the arguments makes.

    Parameters
    ----------
    files : modality to the path of a file.

    Raises
    ------
    UserError : none is given, or several are.
    """
    queries = [Query(modality, str(path)) for modality, path in files.items() if path is not None]
    queries += [Query("text", text)] if text is not None else []
    queries += [Query("", "", item)] if item is not None else []
    if len(queries) != 1:
        raise UserError(
            f"{len(queries) or 'no'} queries are given; expected one: a text, a file ({', '.join(files)}) or an item's "
            "id"
        )
    return queries[0]


def search(
    run: OpenedRun,
    query: Query,
    to: str | None = None,
    *,
    k: int = 10,
    partition: str = "test",
    exported: bool = False,
    folder: Path | None = None,
    approximate: bool = False,
) -> Found:
    """The k best items of a modality for a query.

    Parameters
    ----------
    to : modality of the answers; by default the first other modality that the run reads.
    k : number of answers.
    partition : the items that are searched: train, val, test or all.
    exported : whether sentences are encoded without torch from the second search on, for processes that search once.
    folder : a folder of files that are searched in place of the data set's items; it is indexed at the first search.
    approximate : whether a graph of the folder's files is searched in place of all of them, which may miss some.

    Raises
    ------
    UserError : a run that is not trained or does not read the modality, a file that cannot be read, or an unknown item
        or partition.
    """
    if partition not in PARTITIONS:
        raise UserError(f"partition {partition!r}: expected {', '.join(PARTITIONS)}")
    if query.item_id is not None:
        query = Query(*rows_of(run.data, [query.item_id])[0], query.item_id)
    elif query.modality == "text":
        check_sentence(query.source)
    to = direction(run.job, query.modality, to)
    if approximate:
        if folder is None:
            raise UserError("--approximate: is of a folder; name one with --folder")
        return _approximately(run, query, to, folder, k, exported)
    if folder is not None:
        indexed = folders.index(run, folder, to, query.modality)
        kept, place = (indexed.paths, indexed.vectors), indexed.file
    else:
        kept = run.saved(to, query.modality) if partition == "test" else None
        place = ranking_of(run.folder) / "embeddings.npz"
    vector = None if kept is None or kept[1].ndim != 2 else _vector(run, query, to, exported)
    if vector is not None:
        if vector.shape != kept[1].shape[1:]:
            raise UserError(
                f"{place}: has vectors of {kept[1].shape[1]} numbers, and that of the query has {vector.shape[-1]}; "
                f"{AGAIN}"
            )
        ids, (best, scores) = kept[0], _best(run, vector, kept[1], k)
    else:
        try:
            ids, best, scores = _by_the_model(run, query, to, kept, k, partition, exported)
        except (RuntimeError, IndexError) as error:  # of torch, which was given vectors from a file
            if kept is None:
                raise
            raise UserError(f"{place}: is of other vectors than the query's ({first_line(error)}); {AGAIN}") from None
    item_ids = [str(ids[place]) for place in best]
    files = rows_of(run.data, item_ids) if folder is None else [(to, str(folder / name)) for name in item_ids]
    answers = [
        Answer(item_id, modality, float(score), source)
        for item_id, score, (modality, source) in zip(item_ids, scores, files, strict=True)
    ]
    return Found(run.job.key, query, to, len(ids), answers)


def direction(job: Job, modality: str, to: str | None = None) -> str:
    """The modality with which those of a query or of an encoding are compared: `to`, or the first other that is read.

    Raises
    ------
    UserError : the run is a control, does not retrieve, or does not read the modality or the other one.
    """
    if job.control:
        raise UserError(f"{job.key}: is a control, which is not trained and has no encodings; choose another run")
    if not job.ranked:
        raise UserError(
            f"{job.key}: is evaluated on {', '.join(job.tasks)} and has no encodings; choose a run that retrieves"
        )
    reads = job.modalities
    if modality not in reads:
        raise UserError(f"{job.key}: reads {' and '.join(reads)}, not {modality}; choose another run or query")
    others = [m for m in reads if m != modality]
    to = to or others[0]
    if to not in others:
        raise UserError(f"to {to!r}: {job.key} compares {modality} with {', '.join(others)}" + suggestion(to, others))
    return to


def _vector(run: OpenedRun, query: Query, to: str, exported: bool) -> np.ndarray | None:
    """(d,) vector of a query that can be encoded without the model; None for other queries."""
    if query.item_id is not None:
        kept = run.saved(query.modality, to)
        row = np.flatnonzero(kept[0] == query.item_id) if kept is not None else ()
        return kept[1][row[0]] if len(row) else None
    encoder = open_exported(run.folder, run.job, to) if exported and query.modality == "text" else None
    return None if encoder is None else encoder.encode(query.source)


def _best(run: OpenedRun, vector: np.ndarray, gallery: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """(k,) indices and (k,) scores of the items of a (G, d) gallery that are nearest to a (d,) vector."""
    try:
        return nearest(vector, gallery, k)
    except ValueError as error:
        raise UserError(f"{run.job.key}: {error}; train the run again") from None


def _by_the_model(
    run: OpenedRun,
    query: Query,
    to: str,
    kept: tuple[np.ndarray, np.ndarray] | None,
    k: int,
    partition: str,
    exported: bool,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Search with the model itself: the ids of the searched items, and the (k,) indices and (k,) scores of the best."""
    import torch

    from crossmodal.inference import encoding

    vectors = _encoded(run, query, to)
    if kept is None:
        ids, gallery = encoding.partition_of(run.trained, run.data, to, query.modality, partition)
    else:
        ids, gallery = kept[0], torch.from_numpy(kept[1])
    by_vectors = run.trained.model.compares_vectors(vectors, gallery)
    if by_vectors:
        best, scores = _best(run, vectors[0].float().numpy(), gallery.float().numpy(), k)
    else:
        best, scores = encoding.best(run.trained, (query.modality, to), vectors, gallery, k)
    if exported and by_vectors:
        _export(run, query, to)
    return ids, best, scores


def _approximately(run: OpenedRun, query: Query, to: str, folder: Path, k: int, exported: bool) -> Found:
    """Search by the graph of a folder's files."""
    vector = _vector(run, query, to, exported)
    if vector is None:
        vectors = _encoded(run, query, to)
        if vectors.ndim != 2:
            raise UserError(f"--approximate: {run.job.key} compares queries by more than one vector each; leave it out")
        vector = vectors[0].float().numpy()
        if exported:
            _export(run, query, to)
    names, best, scores = folders.approximate(run, folder, to, query.modality, vector, k)
    listed = zip(best, scores, strict=True)
    answers = [Answer(names[n], to, float(score), str(folder / names[n])) for n, score in listed]
    return Found(run.job.key, query, to, len(names), answers)


def _encoded(run: OpenedRun, query: Query, to: str) -> torch.Tensor:
    """(1, ...) encoding of a query by the model."""
    from crossmodal.inference import encoding

    (inputs,) = encoding.inputs_of(run.trained, run.data, query.modality, [query.source], query.item_id)
    return run.trained.encode(query.modality, inputs, to)


def _export(run: OpenedRun, query: Query, to: str) -> None:
    """Export the encoder of sentences for later searches, where the query is one."""
    if query.modality == "text":
        from crossmodal.inference import onnx_export

        onnx_export.export(run.trained, run.folder, to, run.data)


def check_root(data: Path) -> None:
    """Refuse a data set whose files lie in a folder that the parameters do not name, before one of them is opened.

    Raises
    ------
    UserError : `items.json` names such a folder.
    """
    paths.named(data, str(read_record(data / "items.json").get("root")), f"{data / 'items.json'}: root")


def rows_of(data: Path, ids: Sequence[str]) -> list[tuple[str, str]]:
    """The modality of each item, with its sentence or the path of its file.

    Raises
    ------
    UserError : the table of the items is missing or damaged, or an item is not in it.
    """
    from pyarrow.parquet import ParquetFile

    if not (data / "items.parquet").is_file():
        raise UserError(
            f"{data / 'items.parquet'}: not found; prepare the data set of the run, or name the parameters that it was "
            "made with, such as its overlay"
        )
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
    ids_of_table = table["item_id"].to_pylist()
    root = data / str(read_record(data / "items.json").get("root"))  # which is named, not opened: see `check_root`
    rows = []
    for item_id in ids:
        try:
            row = ids_of_table.index(item_id)
        except ValueError:
            message = f"{data / 'items.parquet'}: holds no item {item_id!r}; item ids are those of that table"
            message += f", such as {ids_of_table[0]!r}" if ids_of_table else ""
            raise UserError(message) from None
        modality, source = (table[name][row].as_py() for name in ("modality", "source"))
        if not (isinstance(modality, str) and isinstance(source, str)):
            raise UserError(f"{path}: the item {item_id!r} has no modality or source that is text; prepare it again")
        file = source if modality == "text" else str(paths.inside(root, source, f"{data / 'items.parquet'}: {item_id}"))
        rows.append((modality, file))
    return rows
