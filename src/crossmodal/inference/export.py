"""Writes the embeddings of a trained run, with the ids of their items, in the forms that other programs read.

Its recalls are written in the form of CLIP_benchmark, and its metrics of retrieval in that of MTEB.
"""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path
from typing import Any, Literal

import numpy as np

from crossmodal.core.errors import UserError
from crossmodal.core.files import atomic_write, read_parquet, read_record, sha256_file, write_json
from crossmodal.inference import search
from crossmodal.inference.opened import OpenedRun
from crossmodal.tasks.base import ranking_of, read_numbers

Kind = Literal["parquet", "npy", "hf", "webdataset"]
SHARD = 10_000  # items per WebDataset shard
AT = (1, 3, 5, 10)  # cut-offs of MTEB's metrics, up to the number of best items that an evaluation keeps
MTEB = {"flickr30k": "Flickr30k", "coco": "MSCOCO"}
"""Data sets to what their tasks of retrieval begin with in MTEB; others are called by their own names."""


def export(
    run: OpenedRun, folder: Path, *, partition: str = "test", kind: Kind = "parquet", to: str | None = None
) -> list[Path]:
    """Write the embeddings of each modality that a run compares.

    `MODALITY.parquet` has the columns `item_id` and `vector` (d float32 numbers); `MODALITY.npy` is an (N, d) float32
    array, beside `MODALITY.ids.txt` with one id per line. `hf` is a folder MODALITY that `datasets.load_from_disk`
    opens, with the same columns; `webdataset` are shards `MODALITY-000000.tar` of samples with `json` (the `item_id`)
    and `npy` (the vector). Scores of two items are the inner products of their vectors.

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
        odd = next((item_id for item_id in map(str, ids) if len(item_id.splitlines()) != 1), None)
        if odd is not None:
            raise UserError(f"{names[1]}: the id {odd!r} is no single line; write a .parquet file instead")
        with atomic_write(names[0]) as temporary, temporary.open("wb") as stream:
            np.save(stream, vectors.astype(np.float32))
        with atomic_write(names[1]) as temporary:
            temporary.write_text("".join(f"{item_id}\n" for item_id in ids), encoding="utf-8")
        return [*names]
    if kind == "webdataset":
        return _write_shards(folder, modality, ids, vectors)
    import pyarrow as pa
    from pyarrow import parquet

    flat = pa.array(np.ascontiguousarray(vectors, np.float32).ravel())
    columns = {
        "item_id": pa.array([str(item_id) for item_id in ids]),
        "vector": pa.FixedSizeListArray.from_arrays(flat, vectors.shape[1]),
    }
    if kind == "hf":
        return [_save_to_disk(folder / modality, pa.table(columns))]
    path = folder / f"{modality}.parquet"
    with atomic_write(path) as temporary:
        parquet.write_table(pa.table(columns), temporary)
    return [path]


def _save_to_disk(folder: Path, table: Any) -> Path:
    """Write a table of ids and vectors as `datasets.Dataset.save_to_disk` does; returns the folder."""
    import pyarrow as pa

    folder.mkdir(exist_ok=True)
    file = folder / "data-00000-of-00001.arrow"
    with atomic_write(file) as temporary, pa.ipc.new_stream(str(temporary), table.schema) as writer:
        writer.write_table(table, max_chunksize=1000)
    number = {"dtype": "float32", "_type": "Value"}
    vector = {"feature": number, "length": table.schema.field("vector").type.list_size, "_type": "List"}
    features = {"item_id": {"dtype": "string", "_type": "Value"}, "vector": vector}
    write_json(folder / "dataset_info.json", {"features": features})
    state = {"_data_files": [{"filename": file.name}], "_fingerprint": sha256_file(file)[:16], "_split": None}
    more = {"_format_columns": None, "_format_kwargs": {}, "_format_type": None, "_output_all_columns": False}
    write_json(folder / "state.json", state | more)
    return folder


def _write_shards(folder: Path, modality: str, ids: np.ndarray, vectors: np.ndarray) -> list[Path]:
    written = []
    for start in range(0, len(ids), SHARD):
        path = folder / f"{modality}-{start // SHARD:06d}.tar"
        with atomic_write(path) as temporary, tarfile.open(temporary, "w") as archive:
            for n in range(start, min(start + SHARD, len(ids))):
                stream = io.BytesIO()
                np.save(stream, vectors[n].astype(np.float32))
                parts = {"json": json.dumps({"item_id": str(ids[n])}).encode(), "npy": stream.getvalue()}
                for ending, content in parts.items():
                    member = tarfile.TarInfo(f"{n:09d}.{ending}")
                    member.size = len(content)
                    archive.addfile(member, io.BytesIO(content))
        written.append(path)
    return written


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
    for row in read_numbers(results)[1]:
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


def mteb(run: OpenedRun, folder: Path) -> list[Path]:
    """Write the run's retrieval of images and texts as MTEB writes the results of its tasks, one file per direction.

    `ndcg_at_K`, `map_at_K`, `recall_at_K` (the share of the relevant items that is among the K first) and `mrr_at_K`
    are those of trec_eval, `cv_recall_at_K` the recall of the papers, all as fractions of one. The revision of the data
    is the hash of the prepared items, since they are not MTEB's own copy.

    Raises
    ------
    UserError : the run was not evaluated, or not on images and texts that belong together.
    """
    path = ranking_of(run.folder) / "examples.parquet"
    if not path.is_file():
        raise UserError(f"{path}: not found; evaluate the run first")
    examples = read_parquet(path)
    items = read_parquet(run.data / "items.parquet", ["item_id", "group_id", "modality", "partition"])
    items = items[items.partition == "test"].astype(object)
    groups, written = items.set_index("item_id").group_id, []
    for query, to, name in (("image", "text", "I2T"), ("text", "image", "T2I")):
        ranked = examples[(examples.protocol == "all") & (examples.aspect == f"{query}-to-{to}")]
        if ranked.empty or run.job.relevance != "group":
            raise UserError(f"{path}: has no ranks of images and texts that belong together over the whole test set")
        try:
            asked = groups.loc[ranked.query_id]
            counts = asked.map(items.group_id[items.modality == to].value_counts()).to_numpy(np.int64)
            hits = groups.loc[np.concatenate(ranked.top.to_list())].to_numpy().reshape(len(ranked), -1)
            hits = hits == asked.to_numpy()[:, None]
        except (KeyError, ValueError, TypeError, AttributeError):  # of a damaged run, or one of others
            raise UserError(
                f"{path}: has rankings of other items than {run.data / 'items.parquet'}, or of several lengths; "
                "evaluate the run again"
            ) from None
        task = f"{MTEB.get(run.job.dataset, run.job.dataset)}{name}Retrieval"
        scores = mteb_scores(hits, counts)
        about = {"hf_subset": "default", "languages": ["eng-Latn"], "main_score": scores["ndcg_at_10"]}
        result = {
            "dataset_revision": read_record(run.data / "items.json").get("sha256"),
            "task_name": task,
            "mteb_version": None,
            "scores": {"test": [{**scores, **about}]},
            "evaluation_time": None,
            "kg_co2_emissions": None,
        }
        folder.mkdir(parents=True, exist_ok=True)
        write_json(folder / f"{task}.json", result)
        written.append(folder / f"{task}.json")
    return written


def mteb_scores(hits: np.ndarray, counts: np.ndarray) -> dict[str, float]:
    """MTEB's metrics of retrieval at each cut-off.

    Parameters
    ----------
    hits : (Q, K) whether each of the K best items is relevant, best first.
    counts : (Q,) number of relevant items of each query in the gallery.
    """
    places = np.arange(1, hits.shape[1] + 1)
    found = hits.cumsum(1)
    gains = 1 / np.log2(places + 1)
    scores: dict[str, float] = {}
    for k in AT:
        first = slice(k)
        best = np.append(0, gains.cumsum())[np.minimum(counts, min(k, hits.shape[1]))]
        values = {
            "ndcg": (hits * gains)[:, first].sum(1) / best,
            "map": (hits * found / places)[:, first].sum(1) / counts,
            "recall": hits[:, first].sum(1) / counts,
            "mrr": (hits / places)[:, first].max(1),
            "cv_recall": hits[:, first].any(1),
        }
        scores |= {f"{name}_at_{k}": float(np.mean(value)) for name, value in values.items()}
    return scores
