"""An approximate index of vectors, by usearch (`pip install 'crossmodal[approximate]'`): a graph of near neighbours.

The graph (HNSW; Malkov and Yashunin, 2018) holds the vectors in float32 and is mapped into memory, so that a search
reads the few parts of the file that it passes. It may miss some of the nearest vectors; those that it finds have exact
scores, and are ordered by these. Where all of them are wanted, `evaluation.ranking.nearest` is as exact as it is quick.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from crossmodal.core.errors import UserError
from crossmodal.core.files import atomic_write, read_record, write_json
from crossmodal.evaluation.ranking.nearest import nearest as exact

if TYPE_CHECKING:
    from usearch.index import Index

log = logging.getLogger(__name__)

SPARE = 64  # vectors beyond k that are looked for: more of them are found among the k best
CONNECTIVITY, EXPANSION = 24, 256  # of the graph: more give better recall, and take longer to build


def opened(kept: Path, state: str, vectors: Callable[[], np.ndarray]) -> Index:
    """The graph beside the file of an index, built of its vectors where there is none of this state.

    Raises
    ------
    UserError : usearch is not installed, or the encodings are more than one vector each.
    """
    try:
        from usearch.index import Index
    except ImportError:
        raise UserError(
            "--approximate needs the package usearch: pip install 'crossmodal[approximate]', or search without it"
        ) from None
    path, about = kept.with_suffix(".usearch"), kept.with_suffix(".usearch.json")
    noted = read_record(about) if about.is_file() and path.is_file() else {}
    if not noted or noted != _noted(state, path):
        array = vectors()
        if array.ndim != 2:
            raise UserError(
                f"--approximate: the run compares files by more than one vector each ({array.shape[1:]}); leave it out"
            )
        log.info("%s: a graph of %s vectors is built", path, f"{len(array):,}")
        graph = Index(ndim=array.shape[1], metric="ip", dtype="f32", connectivity=CONNECTIVITY, expansion_add=EXPANSION)
        graph.add(np.arange(len(array)), np.ascontiguousarray(array, np.float32))
        with atomic_write(path) as temporary:
            graph.save(str(temporary))
        write_json(about, _noted(state, path))
    graph = Index.restore(str(path), view=True)
    graph.expansion_search = EXPANSION
    return graph


def _noted(state: str, path: Path) -> dict[str, Any]:
    """What is kept of a graph, which only the very file that was built here has.

    usearch follows the numbers in a graph wherever they lead, so that one which another has put there may end the
    process. No other file can be given the time of its last change of state (`ctime`), and a copy is built again.
    """
    status = path.stat()
    return {"files_sha256": state, "bytes": status.st_size, "inode": status.st_ino, "ctime_ns": status.st_ctime_ns}


def nearest(graph: Index, vector: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """(k,) places and (k,) exact scores of the vectors that the graph gives as the nearest, best first."""
    keys = np.sort(graph.search(np.ascontiguousarray(vector, np.float32), min(k + SPARE, len(graph))).keys)
    best, scores = exact(vector, np.vstack(graph.get(keys)), k)
    return keys[best].astype(np.int64), scores
