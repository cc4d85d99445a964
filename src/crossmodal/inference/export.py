"""Writes the embeddings of a trained run, with the ids of their items, and its recalls in CLIP_benchmark's form."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import numpy as np

from crossmodal.core.errors import UserError
from crossmodal.core.files import atomic_write, read_record, write_json
from crossmodal.inference import search
from crossmodal.inference.opened import OpenedRun
from crossmodal.tasks.base import ranking_of

Kind = Literal["parquet", "npy"]


def export(
    run: OpenedRun, folder: Path, *, partition: str = "test", kind: Kind = "parquet", to: str | None = None
) -> list[Path]:
    """Write the embeddings of each modality that a run compares.

    `MODALITY.parquet` has the columns `item_id` and `vector` (d float32 numbers); `MODALITY.npy` is an (N, d) float32
    array, beside `MODALITY.ids.txt` with one id per line. Scores of two items are the inner products of their vectors.

    Parameters
    ----------
    partition : the items that are written: train, val, test or all.
    to : for a run of more than two modalities, the one with which the others are compared; by default the first.

    Raises
    ------
    UserError : the run is not trained, compares no vectors, or has no items of the partition.
    """
    if partition not in search.PARTITIONS:
        raise UserError(f"partition {partition!r}: expected {', '.join(search.PARTITIONS)}")
    written: list[Path] = []
    for modality in run.job.modalities:
        partner = search.direction(run.job, modality, None if modality == to else to)
        ids, vectors = _vectors(run, modality, partner, partition)
        written += _write(folder, modality, ids, vectors, kind)
    return written


def _vectors(run: OpenedRun, modality: str, partner: str, partition: str) -> tuple[np.ndarray, np.ndarray]:
    """The (N,) ids and the (N, d) vectors of the items of a partition."""
    kept = run.saved(modality, partner) if partition == "test" else None
    if kept is not None:
        return kept
    from crossmodal.inference import encoding

    ids, vectors = encoding.partition_of(run.trained, run.data, modality, partner, partition)
    if not run.trained.model.compares_vectors(vectors):
        raise UserError(
            f"{run.job.key}: compares {modality} items by more than one vector each (its encodings are "
            f"{' x '.join(map(str, vectors.shape[1:]))}), so that it has no embeddings to export; choose another run"
        )
    return ids, vectors.float().cpu().numpy()


def _write(folder: Path, modality: str, ids: np.ndarray, vectors: np.ndarray, kind: Kind) -> list[Path]:
    folder.mkdir(parents=True, exist_ok=True)
    if kind == "npy":
        names = folder / f"{modality}.npy", folder / f"{modality}.ids.txt"
        with atomic_write(names[0]) as temporary, temporary.open("wb") as stream:
            np.save(stream, vectors.astype(np.float32))
        with atomic_write(names[1]) as temporary:
            temporary.write_text("".join(f"{item_id}\n" for item_id in ids), encoding="utf-8")
        return [*names]
    import pyarrow as pa
    from pyarrow import parquet

    flat = pa.array(np.ascontiguousarray(vectors, np.float32).ravel())
    columns = {
        "item_id": pa.array([str(item_id) for item_id in ids]),
        "vector": pa.FixedSizeListArray.from_arrays(flat, vectors.shape[1]),
    }
    path = folder / f"{modality}.parquet"
    with atomic_write(path) as temporary:
        parquet.write_table(pa.table(columns), temporary)
    return [path]


def clip_benchmark(run: OpenedRun, path: Path) -> None:
    """Write the run's recalls of images and texts as LAION-AI/CLIP_benchmark writes those of `zeroshot_retrieval`.

    Its `image_retrieval_recall@K` is the share of captions whose image is among the K first, its
    `text_retrieval_recall@K` the share of images with any of their captions among the K first: the text-to-image and
    image-to-text recalls of the papers, as fractions of one.

    Raises
    ------
    UserError : the run was not evaluated, or not on images and texts that belong together.
    """
    results = ranking_of(run.folder) / "metrics.json"
    if not results.is_file():
        raise UserError(f"{results}: not found; evaluate the run first")
    ways = {"text-to-image": "image_retrieval", "image-to-text": "text_retrieval"}
    metrics: dict[str, Any] = {}
    for row in read_record(results)["numbers"]:
        if row["protocol"] == "all" and row["aspect"] in ways and str(row["metric"]).startswith("recall@"):
            metrics[f"{ways[row['aspect']]}_{row['metric']}"] = row["value"] / 100
    if not metrics:
        raise UserError(f"{results}: has no recalls of images and texts over the whole test set")
    job = run.job
    write_json(
        path,
        {
            "dataset": job.dataset,
            "model": f"{job.model}.{job.variant}" if job.variant else job.model,
            "pretrained": f"{job.split}/seed{job.seed}",
            "task": "zeroshot_retrieval",
            "metrics": metrics,
            "language": "en",
        },
    )
