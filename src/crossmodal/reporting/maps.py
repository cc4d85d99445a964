"""Test items where a model puts them, in two dimensions by t-SNE: pairs should lie together (A3VSE, figure 3)."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from zipfile import BadZipFile

import numpy as np

from crossmodal import packed
from crossmodal.errors import UserError
from crossmodal.experiments import Job, Plan
from crossmodal.files import read_parquet, write_text
from crossmodal.reporting import figures

log = logging.getLogger(__name__)

ITEMS = 200
"""Groups that are drawn at most, each by one image and one caption: more would hide which lie together."""


def paired(run: Path, groups: Mapping[str, str], seed: int = 0) -> tuple[np.ndarray, np.ndarray] | None:
    """Vectors of images (n, d) and of a caption of each (n, d), of at most `ITEMS` test groups drawn from `seed`.

    Returns
    -------
    None where the model has no vectors (`embeddings.npz`).

    Raises
    ------
    UserError : a file that is no such archive.
    """
    path = run / "embeddings.npz"
    if not path.exists():
        return None
    try:
        with packed.arrays(path) as saved:
            if not {"image", "text", "image_ids", "text_ids"} <= set(saved):
                return None
            images, texts = saved["image"], saved["text"]
            of_image, of_text = ([groups[i] for i in saved[f"{m}_ids"]] for m in ("image", "text"))
    except (OSError, ValueError, EOFError, KeyError, BadZipFile) as error:
        raise UserError(f"{path}: cannot be read ({error}); delete the run's folder and evaluate it again") from None
    first: dict[str, int] = {}
    for row, group in enumerate(of_text):
        first.setdefault(group, row)
    rows = [row for row, group in enumerate(of_image) if group in first]
    rows = sorted(np.random.default_rng(seed).permutation(rows)[:ITEMS].tolist())
    return images[rows], texts[[first[of_image[row]] for row in rows]]


def placed(images: np.ndarray, texts: np.ndarray, seed: int = 0) -> np.ndarray:
    """(2n, 2) places of n images and then of their n captions, by t-SNE on cosines."""
    return scattered(np.concatenate([images, texts]), seed)


def scattered(vectors: np.ndarray, seed: int = 0) -> np.ndarray:
    """(n, 2) places of (n, d) vectors by t-SNE on cosines.

    The exact method on one thread, so that the same vectors give the same places.
    """
    from sklearn.manifold import TSNE

    vectors = vectors.astype(np.float64)
    vectors /= np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    perplexity = min(30.0, (len(vectors) - 1) / 3)
    return TSNE(2, perplexity=perplexity, init="pca", method="exact", random_state=seed).fit_transform(vectors)


def write(plan: Plan, jobs: Mapping[str, Job], target: Path) -> None:
    """`figures/embeddings.svg` in `target`, of the runs that papers want drawn and that have vectors."""
    results, data = Path(plan.params.paths.results), Path(plan.params.paths.data)
    panels, groups = {}, {}
    for job in (one for one in plan.mapped(jobs) if one.relevance == "group"):
        if job.dataset not in groups:
            items = read_parquet(data / job.dataset / "items.parquet", ["item_id", "group_id"])
            groups[job.dataset] = dict(zip(items.item_id, items.group_id, strict=True))
        found = paired(results / "runs" / job.key, groups[job.dataset])
        if found is None:
            log.warning("%s: has no vectors of images and captions to draw", job.key)
            continue
        panels[f"{job.name}, {job.split}"] = placed(*found)
    write_text(target / "figures" / "embeddings.svg", figures.embeddings(panels))
