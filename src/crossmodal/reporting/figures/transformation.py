"""The embedding space of several modalities before and after training (CVS thesis, figure 9), measured on our data.

The thesis draws an ideal: before training the points of all modalities and classes are scattered, and afterwards they
lie together by class, whatever their modality. Here the points are embeddings of test items by a model's initial
weights and by its trained ones, in two dimensions by t-SNE.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from crossmodal.experiments import Job
from crossmodal.reporting.figures import base, canvas
from crossmodal.reporting.figures.canvas import COLOURS, FAINT, MARKERS
from crossmodal.reporting.figures.embeddings import scattered

CLASSES = 5  # each has a marker of its own
WEIGHTS = ("model.safetensors", "manifest.json")
ITEMS = 8  # per class and modality


class Figure(base.Figure):
    section = base.SPACES
    place = 10
    title = "Before and after training"
    caption = (
        "Embeddings of test items of five classes with initial and with trained weights, in two dimensions "
        "(t-SNE on cosines). Colours are modalities, shapes are classes."
    )

    def jobs(self) -> list[Job]:
        """The first run that papers want drawn on data where items of a class are relevant, if there is one."""
        return [job for job in self.scope.plan.mapped(self.scope.jobs) if job.relevance == "label"][:1]

    def wanted(self) -> bool:
        return bool(self.jobs())

    def reads(self) -> list[str]:
        files = []
        for job in self.jobs():
            files += [file for name in WEIGHTS for file in self.scope.files(name, [job])]
            files += self.scope.plan.files_of(job)
        return files

    def draw(self) -> str:
        (job,) = self.jobs()
        before, after, modalities, labels = vectors(job, self.scope.runs / job.key, self.scope.data)
        panels = {"Before training": scattered(before), "After training": scattered(after)}
        return transformation(panels, modalities, labels)


def chosen(labels: np.ndarray, index: np.ndarray, classes: np.ndarray) -> np.ndarray:
    """The first elements of `index`, at most `ITEMS` per class of `classes`.

    Parameters
    ----------
    labels : (N,) classes of all items.
    index : (M,) numbers of the items to choose from.
    """
    return np.concatenate([index[labels[index] == label][:ITEMS] for label in classes])


def vectors(job: Job, folder: Path, data: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Embeddings of a run's test items by its initial and its trained weights, of the first classes in their order.

    A vector depends on the modality that it is compared with: here that is the run's first modality, or the second for
    items of the first.

    Parameters
    ----------
    job : a job of a model with vectors, on data where items of a class are relevant.
    folder : the folder of its run.

    Returns
    -------
    (N, d) vectors by the initial weights, (N, d) by the trained ones, (N,) modalities and (N,) classes.

    Raises
    ------
    UserError : the run is not trained, or its data are missing.
    """
    import torch

    from crossmodal.inference.run import checked_weights, take_weights
    from crossmodal.runs.build import built
    from crossmodal.tasks.ranked.encodings import encode

    weights = checked_weights(folder)
    model, corpus = built(job, data)
    first, second = list(model.reads)[:2]
    classes = np.unique(corpus.inputs[first].labels[corpus.inputs[first].where("test")])[:CLASSES]
    index = {m: chosen(inputs.labels, inputs.where("test"), classes) for m, inputs in corpus.inputs.items()}

    def placed() -> np.ndarray:
        partners = {m: second if m == first else first for m in index}
        cpu = torch.device("cpu")
        return np.concatenate([encode(model, corpus, m, partners[m], index[m], cpu).numpy() for m in index])

    before = placed()
    take_weights(model, weights)
    modalities = np.concatenate([np.full(len(rows), m, dtype=object) for m, rows in index.items()])
    labels = np.concatenate([corpus.inputs[m].labels[rows] for m, rows in index.items()])
    return before, placed(), modalities, labels


def transformation(panels: Mapping[str, np.ndarray], modalities: np.ndarray, labels: np.ndarray) -> str:
    """Items in two dimensions, panels side by side: colours are modalities, shapes are classes (CVS thesis, figure 9).

    Parameters
    ----------
    panels : title to the (n, 2) positions of the items.
    modalities, labels : (n,) modality and class of each item; there is one shape per class.
    """
    kinds, names = list(dict.fromkeys(labels.tolist())), list(dict.fromkeys(modalities.tolist()))
    with canvas.style():
        figure = canvas.figure(10.2, 5.0)
        for ax, (title, places) in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels.items(), strict=True):
            for colour, name in zip(COLOURS, names, strict=False):
                for marker, kind in zip(MARKERS, kinds, strict=False):
                    points = places[(modalities == name) & (labels == kind)]
                    ax.scatter(*points.T, s=24, marker=marker, color=colour, linewidths=0, alpha=0.8)
            ax.set_title(title)
            ax.grid(False)
            ax.set_xticks([])
            ax.set_yticks([])
            ax.spines[["left", "bottom"]].set_visible(False)
        shown = [(canvas.sign("o", colour), name) for colour, name in zip(COLOURS, names, strict=False)]
        shown += [(canvas.sign(marker, FAINT), f"class {n}") for n, marker in enumerate(MARKERS, 1) if n <= len(kinds)]
        figure.legend(*zip(*shown, strict=True), loc="outside lower left", ncols=len(shown))
        return canvas.svg(figure)
