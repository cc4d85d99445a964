"""Indexes the files of a folder of one's own by a trained run, so that they can be searched as its test items are.

The features of the files are extracted as those of the run's data set were, by all cores, and encoded by its model.
Both are kept below `.indexes/`: a folder whose files have not changed is not read again, an extraction that was killed
goes on where it was, and files that cannot be read are left out and counted. Torch is imported only to index.
"""

from __future__ import annotations

import logging
import os
import stat
from collections.abc import Container, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from crossmodal.core import packed, paths
from crossmodal.core.errors import UserError, is_text
from crossmodal.core.files import atomic_write, read_record, sha256_json, write_json
from crossmodal.core.rows import readable
from crossmodal.inference.opened import OpenedRun, features_of
from crossmodal.runs.manifest import read_manifest

if TYPE_CHECKING:
    import torch

log = logging.getLogger(__name__)

INDEXES = Path(".indexes")
SUFFIXES = {
    "image": (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff"),
    "audio": (".wav", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".m4a", ".aac", ".aiff", ".aif", ".au"),
    "video": (".mp4", ".m4v", ".webm", ".mkv", ".avi", ".mov", ".mpg", ".mpeg"),
    "mesh": (".off", ".obj", ".ply", ".stl"),
}
"""Modality to the endings of the files that are taken for it."""


@dataclass(frozen=True)
class Index:
    """The files of a folder that could be read, and their encodings."""

    paths: list[str]  # N paths below the folder
    vectors: np.ndarray  # (N, ...) float32
    file: Path


def files_of(folder: Path, modality: str) -> list[str]:
    """The paths, below a folder, of its files of a modality, sorted; hidden files and folders are left out.

    Raises
    ------
    UserError : there is no such folder, it has no such file or too many files, or items of the modality are no files.
    """
    return [*_states_of(folder, modality)]


def _states_of(folder: Path, modality: str) -> dict[str, tuple[int, int]]:
    """{path: (bytes, time of the last change in nanoseconds)} of the files of a modality; raises as `files_of`."""
    if modality not in SUFFIXES:
        raise UserError(f"--folder: {modality} items are no files; search a folder for {', '.join(SUFFIXES)}")
    if not folder.is_dir():
        raise UserError(f"--folder {folder}: is no folder; name one that is there")
    states = {}
    for path, entry in paths.below(folder):
        if entry.name.startswith(".") or os.path.splitext(entry.name)[1].lower() not in SUFFIXES[modality]:  # noqa: PTH122
            continue
        with suppress(OSError):  # a link to nowhere, or a file that was deleted meanwhile
            status = entry.stat()
            if stat.S_ISREG(status.st_mode):
                states[path] = status.st_size, status.st_mtime_ns
    if odd := sorted(name for name in states if not is_text(name)):
        log.warning("--folder %s: %d file names are not in UTF-8 and left out, such as %r", folder, len(odd), odd[0])
        states = {name: state for name, state in states.items() if is_text(name)}
    if not states:
        raise UserError(f"--folder {folder}: has no {modality} files ({', '.join(SUFFIXES[modality])})")
    return dict(sorted(states.items()))


def index(run: OpenedRun, folder: Path, modality: str, partner: str) -> Index:
    """The encodings of a folder's files for comparison with items of the modality `partner`.

    Raises
    ------
    UserError : as `files_of`; none of the files can be read; or the features of the run's data set were made elsewhere.
    """
    kept, names = _kept(run, folder, modality, partner)
    with _opened(kept) as arrays:
        paths, vectors = _named(arrays["paths"], names), arrays["vectors"]
        if vectors.dtype != np.float32 or vectors.ndim < 2 or len(vectors) != len(paths):
            raise ValueError(f"{len(paths)} paths and vectors of shape {vectors.shape} and type {vectors.dtype}")
        return Index(paths, vectors, kept)


def approximate(
    run: OpenedRun, folder: Path, modality: str, partner: str, vector: np.ndarray, k: int
) -> tuple[list[str], np.ndarray, np.ndarray]:
    """The files of a folder that are about the k nearest to a (d,) vector, by a graph that is kept beside the index.

    The graph is read as far as the search goes through it, so that a search does not wait for all vectors to be read.

    Returns
    -------
    The paths of all files, and the (k,) places and (k,) scores of the best ones.

    Raises
    ------
    UserError : as `index`; usearch is not installed; or the model does not compare vectors.
    """
    from crossmodal.inference import graph

    kept, names = _kept(run, folder, modality, partner)
    state = read_record(kept.with_suffix(".json"))["files_sha256"]
    with _opened(kept) as arrays:
        paths = _named(arrays["paths"], names)
        opened = graph.opened(kept, state, lambda: arrays["vectors"])
        if (len(opened), opened.ndim) != (len(paths), len(vector)):
            raise ValueError(f"{len(paths)} paths, and a graph of {len(opened)} vectors of {opened.ndim} numbers")
        places, scores = graph.nearest(opened, vector, k)
        if places.min(initial=0) < 0 or places.max(initial=0) >= len(paths):
            raise ValueError(f"its graph has other numbers than those of {len(paths)} paths")
        return paths, places, scores


@contextmanager
def _opened(kept: Path) -> Iterator[packed.Arrays]:
    """The arrays of an index; whatever is wrong with it is one error, since another may have put it there."""
    with readable(kept, "delete it and search again"), packed.arrays(kept) as arrays:
        yield arrays


def _named(joined: np.ndarray, names: Container[str]) -> list[str]:
    """The paths in an index, which must be among those of the folder: others may lead out of it."""
    found = _apart(joined)
    if strange := next((name for name in found if name not in names), None):
        raise ValueError(f"{strange[:100]!r} is no file of the folder")
    return found


def _kept(run: OpenedRun, folder: Path, modality: str, partner: str) -> tuple[Path, Container[str]]:
    """The file of a folder's index, which is made where there is none of these files and this run, and their paths."""
    states = _states_of(folder, modality)
    name = features_of(run.job, modality)
    trained = read_manifest(run.folder)
    of_run = [run.job.key, trained.weights_sha256, trained.data.get(name), partner]
    place = INDEXES / sha256_json([str(folder.resolve()), run.job.dataset, name])[:16]
    kept = place / f"{sha256_json(of_run)[:16]}.npz"
    state = sha256_json([[name, *state] for name, state in states.items()])
    if kept.is_file() and read_record(kept.with_suffix(".json")).get("files_sha256") == state:
        return kept, states
    paths, vectors = _made(run, folder, [*states], modality, partner, place)
    place.mkdir(parents=True, exist_ok=True)
    with atomic_write(kept) as temporary, temporary.open("wb") as stream:
        np.savez(stream, paths=_joined(paths), vectors=vectors)
    about = {"run": run.job.key, "folder": str(folder), "modality": modality, "files_sha256": state}
    write_json(kept.with_suffix(".json"), about)
    return kept, states


def _joined(names: list[str]) -> np.ndarray:
    """The bytes of paths one after the other, each with a null at its end, which no path holds.

    An array of texts would give each of them the room of the longest.
    """
    return np.frombuffer("".join(f"{name}\0" for name in names).encode(), np.uint8)


def _apart(joined: np.ndarray) -> list[str]:
    return joined.tobytes().decode().split("\0")[:-1]


def _made(
    run: OpenedRun, folder: Path, names: list[str], modality: str, partner: str, place: Path
) -> tuple[list[str], np.ndarray]:
    """The paths and the encodings of a folder's files, whose features are extracted into `place`."""
    import pandas as pd

    from crossmodal.core import cores
    from crossmodal.features.engine import extraction, store
    from crossmodal.inference import encoding

    extractor, settings, manifest = encoding.extraction_of(run.trained, run.data, modality, names[0])
    recipe = encoding.recipe_of(run.data, modality, extractor, settings)
    rows = pd.DataFrame({"item_id": names, "source": names, "modality": modality, "partition": "query"})
    target = place / "features" / features_of(run.job, modality)
    target.parent.mkdir(parents=True, exist_ok=True)
    extraction.extract(
        extraction.Given(rows, folder.resolve(), modality, place),
        replace(recipe, finish=None),  # nothing is fitted on these files; `again` applies what was on the data set's
        settings.model_copy(update={"on_error": "skip"}),
        target,
        extractor=extractor,
        threads=cores.available(),
    )
    features = store.open_features(target)
    vectors = _encoded(run, features, recipe, manifest, modality, partner)
    return features.index.item_id.tolist(), vectors.numpy()


def _encoded(run: OpenedRun, features, recipe, manifest: dict, modality: str, partner: str) -> torch.Tensor:
    """(N, ...) float32 encodings of extracted features, a block at a time."""
    from crossmodal.core.console import tracked
    from crossmodal.inference import encoding
    from crossmodal.tasks.ranked.encodings import joined

    columns = features.index.drop(columns=["item_id", "row"], errors="ignore")
    encoded = []
    for start in tracked(range(0, len(features.index), encoding.BLOCK), f"{run.job.key}: encoding", unit="blocks"):
        part = slice(start, start + encoding.BLOCK)
        array = np.array(features.array[part], np.float32)
        array = array if recipe.again is None else recipe.again(array, manifest)
        more = {name: columns[name].iloc[part].tolist() for name in columns}
        encoded.append(run.trained.encode(modality, encoding.input_of_features(run, modality, array, more), partner))
    return joined(encoded).float()
