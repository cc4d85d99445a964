"""The evaluation of a run in three steps, for rankings too large for one process: encode, rank shards, gather.

Encodings are stored in one folder as .npy and read memory-mapped; a shard is one file. The gathered result has the same
bits as a ranking in one process. A shard is a rectangle of queries by gallery or, where queries have many relevant
items, one strip of the queries of each modality.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import combinations
from pathlib import Path
from typing import TypeVar

import numpy as np
import pandas as pd
import torch

from crossmodal.core import packed
from crossmodal.core.errors import UserError
from crossmodal.core.files import atomic_write, read_parquet, read_record, write_json, write_parquet
from crossmodal.corpus.corpus import Corpus
from crossmodal.evaluation.ranking import shards as sharding
from crossmodal.evaluation.ranking import strips
from crossmodal.evaluation.ranking.ranks import Ranking
from crossmodal.models import base
from crossmodal.tasks.ranked.encodings import Pair, encodings_of
from crossmodal.tasks.ranked.protocols import TOP, Items

T = TypeVar("T")


def encode(model: base.Model, corpus: Corpus, device: torch.device, folder: Path) -> None:
    """Write the encodings of the test items into `folder`.

    For each pair of modalities A and B there is `A-B.MODALITY.npy` for either modality; `MODALITY.parquet` has the ids,
    groups and relevance of the items; `encoded.json` is written last.
    """
    items = Items.of(corpus, model.reads, "test")
    folder.mkdir(parents=True, exist_ok=True)
    for m in model.reads:
        columns = {"item_id": items.ids[m], "group": items.groups[m], "relevance": list(items.relevance[m])}
        write_parquet(folder / f"{m}.parquet", pd.DataFrame(columns))
    vectors = True
    for pair in combinations(model.reads, 2):
        encodings = encodings_of(model, corpus, pair, items.places, device)
        vectors = vectors and model.compares_vectors(*encodings.values())
        if not vectors:
            break
        for m, value in encodings.items():
            path = folder / f"{'-'.join(pair)}.{m}.npy"
            with atomic_write(path) as temporary, temporary.open("wb") as stream:
                np.save(stream, value.float().cpu().numpy())
    about = {"modalities": list(model.reads), "vectors": vectors, "subsets": items.subsets, "by_class": items.by_class}
    labels = items.relevance
    about["strips"] = any(strips.are_needed(labels[a], labels[b]) for a, b in combinations(model.reads, 2))
    write_json(folder / "encoded.json", about)


def compares_vectors(folder: Path) -> bool:
    """Whether the scores of the encoded run are inner products; only these can be cut into shards."""
    return bool(read_record(folder / "encoded.json")["vectors"])


def _pairs(folder: Path) -> list[tuple[str, str]]:
    return list(combinations(read_record(folder / "encoded.json")["modalities"], 2))


def _encodings(folder: Path, pair: tuple[str, str]) -> dict[str, np.ndarray]:
    return {m: np.load(folder / f"{'-'.join(pair)}.{m}.npy", mmap_mode="r") for m in pair}


def _relevance(table: pd.DataFrame) -> np.ndarray:
    """(N,) codes, or an (N, L) table of zeros and ones for items with several labels."""
    values = table["relevance"].to_numpy()
    return np.stack(values) if values.dtype == object else values


def rank(folder: Path, number: int, count: int, target: Path) -> None:
    """Rank shard `number` of `count` of every pair of modalities and write it to the file `target`.

    The file is empty for a run that does not compare vectors.

    Raises
    ------
    UserError : a ranking too small for so many shards, or encodings that cannot be ranked.
    """
    arrays: dict[str, np.ndarray] = {}
    in_strips = read_record(folder / "encoded.json")["strips"]
    for pair in _pairs(folder) if compares_vectors(folder) else []:
        encodings = _encodings(folder, pair)
        labels = {m: _relevance(read_parquet(folder / f"{m}.parquet")) for m in pair}
        a, b = encodings.values()
        try:
            if in_strips:
                for m, other in (pair, pair[::-1]):
                    vectors, codes = (encodings[m], encodings[other]), (labels[m], labels[other])
                    strip = strips.rank_strip(*vectors, *codes, number, count, TOP)
                    arrays |= {f"{'-'.join(pair)}.{m}.{name}": value for name, value in strip.arrays().items()}
                continue
            rectangle = sharding.cut((len(a), len(b)), count)[number]
            shard = sharding.rank_shard(a, b, *labels.values(), rectangle, TOP)
        except ValueError as error:
            raise UserError(f"{pair[0]} and {pair[1]}: {error} (evaluation.shards is {count})") from None
        arrays |= {f"{'-'.join(pair)}.{name}": value for name, value in shard.arrays().items()}
    with atomic_write(target) as temporary, temporary.open("wb") as stream:
        np.savez(stream, **arrays)


def gather(folder: Path, shards: list[Path]) -> tuple[Items, list[Pair]]:
    """Join the shards of all pairs of modalities.

    Returns
    -------
    The targets and the predictions of the retrieval task, which `Task.score` takes.

    Raises
    ------
    UserError : shards that are missing, damaged, or from a cut into another number of shards.
    """
    about = read_record(folder / "encoded.json")
    tables = {m: read_parquet(folder / f"{m}.parquet") for m in about["modalities"]}
    ids = {m: table.item_id.to_numpy(dtype=object) for m, table in tables.items()}
    groups = {m: table.group.to_numpy() for m, table in tables.items()}
    relevance = {m: _relevance(table) for m, table in tables.items()}
    items = Items(ids, groups, relevance, about["subsets"], about["by_class"])
    pairs = []
    for pair in _pairs(folder):
        encodings = _encodings(folder, pair)
        try:
            ranked = _gathered(pair, encodings, shards, about["strips"])
        except ValueError as error:
            raise UserError(f"{shards[0].parent}: {error}; delete the folder and run the shards again") from None
        tensors = {m: torch.from_numpy(np.asarray(x)) for m, x in encodings.items()}
        pairs.append(Pair(tensors, relevance, ranked=ranked))
    return items, pairs


def _gathered(
    pair: tuple[str, str], encodings: dict[str, np.ndarray], shards: list[Path], in_strips: bool
) -> dict[str, Ranking]:
    name, sizes = "-".join(pair), {m: len(x) for m, x in encodings.items()}
    if in_strips:
        strips_of = {m: [_read(path, f"{name}.{m}.", strips.Strip.of_arrays) for path in shards] for m in pair}
        return {m: strips.gather(parts, sizes[m]) for m, parts in strips_of.items()}
    parts = [_read(path, f"{name}.", sharding.Shard.of_arrays) for path in shards]
    return dict(zip(pair, sharding.gather(parts, tuple(sizes.values())), strict=True))


def _read(path: Path, prefix: str, of_arrays: Callable[[dict[str, np.ndarray]], T]) -> T:
    try:
        with packed.arrays(path) as file:
            return of_arrays({name.removeprefix(prefix): file[name] for name in file if name.startswith(prefix)})
    except (OSError, KeyError, ValueError) as error:
        raise UserError(f"{path}: is missing or damaged ({error}); delete it and run the shard again") from None
