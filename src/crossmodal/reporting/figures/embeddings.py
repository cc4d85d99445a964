"""Embeddings of test items in two dimensions by t-SNE: pairs should lie close together (A3VSE, figure 3)."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from zipfile import BadZipFile

import numpy as np

from crossmodal.core import packed
from crossmodal.core.errors import UserError
from crossmodal.core.files import read_parquet
from crossmodal.experiments import Job
from crossmodal.reporting.figures import base, canvas
from crossmodal.reporting.figures.canvas import COLOURS, GRID
from crossmodal.tasks.base import ranking_of

log = logging.getLogger(__name__)

ITEMS = 200
"""The maximum number of drawn groups, each with one image and one caption: more would hide which lie together."""


class Figure(base.Figure):
    section = base.EMBEDDINGS
    caption = (
        "Embeddings of test images and of one caption each, in two dimensions (t-SNE on cosines); a line joins "
        "each pair."
    )

    def jobs(self) -> list[Job]:
        """The runs that papers want drawn, of data sets whose images and captions form groups."""
        return [job for job in self.scope.plan.mapped(self.scope.jobs) if job.relevance == "group"]

    def wanted(self) -> bool:
        return bool(self.jobs())

    def reads(self) -> list[str]:
        datasets = sorted({job.dataset for job in self.jobs()})
        return self.scope.evaluated("metrics.json", self.jobs()) + [
            self.scope.prepared(name, "items.parquet") for name in datasets
        ]

    def draw(self) -> str:
        panels, groups = {}, {}
        for job in self.jobs():
            if job.dataset not in groups:
                items = read_parquet(self.scope.data / job.dataset / "items.parquet", ["item_id", "group_id"])
                groups[job.dataset] = dict(zip(items.item_id, items.group_id, strict=True))
            vectors = paired(self.scope.runs / job.key, groups[job.dataset])
            if vectors is None:
                log.warning("%s: has no vectors of images and captions to draw", job.key)
                continue
            panels[f"{job.name}, {job.split}"] = placed(*vectors)
        return embeddings(panels)


def paired(run: Path, groups: Mapping[str, str], seed: int = 0) -> tuple[np.ndarray, np.ndarray] | None:
    """Embeddings of images and of one caption per image, of at most `ITEMS` test groups that are drawn with `seed`.

    Returns
    -------
    (n, d) images and (n, d) captions; None where the model has no vectors (`embeddings.npz`).

    Raises
    ------
    UserError : the file is no archive of embeddings.
    """
    path = ranking_of(run) / "embeddings.npz"
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
    """(2n, 2) positions of n images followed by their n captions, by t-SNE on cosine distances."""
    return scattered(np.concatenate([images, texts]), seed)


def scattered(vectors: np.ndarray, seed: int = 0) -> np.ndarray:
    """(n, 2) positions of (n, d) vectors, by t-SNE on cosine distances.

    It uses the exact method on one thread, so that the same vectors have the same positions.
    """
    from sklearn.manifold import TSNE

    vectors = vectors.astype(np.float64)
    vectors /= np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    perplexity = min(30.0, (len(vectors) - 1) / 3)
    return TSNE(2, perplexity=perplexity, init="pca", method="exact", random_state=seed).fit_transform(vectors)


def embeddings(panels: Mapping[str, np.ndarray]) -> str:
    """Embeddings in two dimensions (A3VSE, figure 3): images blue, captions red, a line from each image to its caption.

    Parameters
    ----------
    panels : title to the (2n, 2) positions of n images followed by their captions.
    """
    with canvas.style():
        rows = max(1, -(-len(panels) // 3))
        figure = canvas.figure(10.2, 3.6 * rows)
        if not panels:
            return canvas.empty(figure, "No run with vectors yet of an experiment with map: true.")
        axes = figure.subplots(rows, min(3, len(panels)), squeeze=False).ravel()
        for ax, (title, places) in zip(axes, panels.items(), strict=False):
            ends = places.reshape(2, -1, 2)
            ax.plot(*ends.transpose(2, 0, 1), color=GRID, linewidth=0.7, zorder=1)
            for points, colour, name in zip(ends, (COLOURS[0], COLOURS[5]), ("image", "caption"), strict=True):
                ax.scatter(*points.T, s=9, color=colour, linewidths=0, label=name, zorder=2)
            ax.set_title(title)
            ax.set_xticks([])
            ax.set_yticks([])
            ax.spines[["left", "bottom"]].set_visible(False)
        for ax in axes[len(panels) :]:
            ax.remove()
        figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower left", ncols=2, markerscale=2)
        return canvas.svg(figure)
