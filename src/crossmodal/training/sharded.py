"""The test of a run in three steps, for rankings too large for one process: encode, rank shards, gather.

Encodings lie in one folder as .npy, read memory-mapped; a shard is one file. What is gathered has the bits of `test`.
"""

from __future__ import annotations

from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from crossmodal import packed
from crossmodal.errors import UserError
from crossmodal.evaluation import sharding
from crossmodal.files import read_parquet, read_record, whole, write_json, write_parquet
from crossmodal.models import base
from crossmodal.training import test as testing
from crossmodal.training.corpus import Corpus


def encode(model: base.Model, corpus: Corpus, device: torch.device, folder: Path) -> None:
    """Encodings of the test items: `A-B.MODALITY.npy`, `MODALITY.parquet` with ids and groups, `encoded.json` last."""
    items, index = testing.Items.of(model, corpus, "test")
    if any(codes.ndim == 2 for codes in items.relevance.values()):
        raise UserError("params.yaml: evaluation.shards: rankings of items of several labels are not cut; set it to 1")
    folder.mkdir(parents=True, exist_ok=True)
    for m in model.reads:
        columns = {"item_id": items.ids[m], "group": items.groups[m], "relevance": items.relevance[m]}
        write_parquet(folder / f"{m}.parquet", pd.DataFrame(columns))
    vectors = True
    for pair in combinations(model.reads, 2):
        encodings = testing.encodings_of(model, corpus, pair, index, device)
        vectors = vectors and model.compares_vectors(*encodings.values())
        if not vectors:
            break
        for m, value in encodings.items():
            path = folder / f"{'-'.join(pair)}.{m}.npy"
            with whole(path) as temporary, temporary.open("wb") as stream:
                np.save(stream, value.float().cpu().numpy())
    about = {"modalities": list(model.reads), "vectors": vectors, "subsets": items.subsets, "by_class": items.by_class}
    about["measured"] = testing.measured(model, corpus, device) if vectors else []
    write_json(folder / "encoded.json", about)


def compares_vectors(folder: Path) -> bool:
    """Whether the encoded run's scores are inner products, which alone are cut into shards."""
    return bool(read_record(folder / "encoded.json")["vectors"])


def _pairs(folder: Path) -> list[tuple[str, str]]:
    return list(combinations(read_record(folder / "encoded.json")["modalities"], 2))


def _encodings(folder: Path, pair: tuple[str, str]) -> dict[str, np.ndarray]:
    return {m: np.load(folder / f"{'-'.join(pair)}.{m}.npy", mmap_mode="r") for m in pair}


def rank(folder: Path, number: int, count: int, target: Path) -> None:
    """Count shard `number` of `count` of every pair of modalities; writes an empty file for a run without vectors.

    Raises
    ------
    UserError : fewer pairs than shards, encodings that cannot be ranked.
    """
    arrays: dict[str, np.ndarray] = {}
    for pair in _pairs(folder) if compares_vectors(folder) else []:
        encodings = _encodings(folder, pair)
        codes = [read_parquet(folder / f"{m}.parquet")["relevance"].to_numpy() for m in pair]
        a, b = encodings.values()
        try:
            rectangle = sharding.cut((len(a), len(b)), count)[number]
            shard = sharding.rank_shard(a, b, *codes, rectangle, testing.TOP)
        except ValueError as error:
            raise UserError(f"{pair[0]} and {pair[1]}: {error} (evaluation.shards is {count})") from None
        arrays |= {f"{'-'.join(pair)}.{name}": value for name, value in shard.arrays().items()}
    with whole(target) as temporary, temporary.open("wb") as stream:
        np.savez(stream, **arrays)


def gather(folder: Path, shards: list[Path], folds: list[int], target: Path) -> dict:
    """Shards to what `testing.test` writes into the run's folder `target`, and the numbers of `metrics.json`.

    Raises
    ------
    UserError : shards that are missing, damaged, or of another cut.
    """
    about = read_record(folder / "encoded.json")
    tables = {m: read_parquet(folder / f"{m}.parquet") for m in about["modalities"]}
    ids = {m: table.item_id.to_numpy(dtype=object) for m, table in tables.items()}
    groups, relevance = ({m: t[name].to_numpy() for m, t in tables.items()} for name in ("group", "relevance"))
    items = testing.Items(ids, groups, relevance, about["subsets"], about["by_class"])
    pairs = []
    for pair in _pairs(folder):
        encodings = _encodings(folder, pair)
        shape = tuple(len(x) for x in encodings.values())
        try:
            found = sharding.gather([_shard(path, "-".join(pair)) for path in shards], shape)
        except ValueError as error:
            raise UserError(f"{shards[0].parent}: {error}; delete the folder and run the shards again") from None
        tensors = {m: torch.from_numpy(np.asarray(x)) for m, x in encodings.items()}
        pairs.append(testing.Pair(tensors, relevance, ranked=dict(zip(pair, found, strict=True))))
    found = testing.written(pairs, items, folds, target)
    return {"numbers": found["numbers"] + about["measured"]}


def _shard(path: Path, pair: str) -> sharding.Shard:
    try:
        with packed.arrays(path) as file:
            prefix = f"{pair}."
            arrays = {name.removeprefix(prefix): file[name] for name in file if name.startswith(prefix)}
        return sharding.Shard.of_arrays(arrays)
    except (OSError, KeyError, ValueError) as error:
        raise UserError(f"{path}: is missing or damaged ({error}); delete it and run the shard again") from None
