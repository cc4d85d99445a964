"""The space of several modalities before and after its training (CVS thesis, figure 9), of our data.

The thesis draws an ideal: points of all modalities and classes lie scattered before, and afterwards by their classes,
whatever their modality. Here the points are test items where a model's first weights and its trained ones put them, in
two dimensions by t-SNE.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch

from crossmodal.experiments import Job, Plan
from crossmodal.files import write_text
from crossmodal.reporting import figures, maps

CLASSES = 5  # a marker each
ITEMS = 8  # of each class and modality


def chosen(labels: np.ndarray, index: np.ndarray, classes: np.ndarray) -> np.ndarray:
    """Those of `index`, at most `ITEMS` of each class of `classes`, the first ones of their order.

    Parameters
    ----------
    labels : (N,) classes of all items. index : (M,) places of those to choose from.
    """
    return np.concatenate([index[labels[index] == one][:ITEMS] for one in classes])


def vectors(job: Job, folder: Path, data: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Test items where a run puts them: (N, d) with its first weights and its trained ones; (N,) modalities, classes.

    A vector depends on the modality that it is compared with: that is the run's first one, for whose own items the
    second. Of the first classes in their order.

    Parameters
    ----------
    job : of a model with vectors, on data whose items answer each other by class. folder : of its run.

    Raises
    ------
    UserError : a run that is not trained, or data that is not there.
    """
    from crossmodal.inference.run import checked_weights, take_weights
    from crossmodal.runs.build import built
    from crossmodal.tasks.ranked.encodings import encode

    weights = checked_weights(folder)
    model, corpus = built(job, data)
    first, second = list(model.reads)[:2]
    classes = np.unique(corpus.inputs[first].labels[corpus.inputs[first].where("test")])[:CLASSES]
    index = {m: chosen(one.labels, one.where("test"), classes) for m, one in corpus.inputs.items()}

    def placed() -> np.ndarray:
        partners = {m: second if m == first else first for m in index}
        cpu = torch.device("cpu")
        return np.concatenate([encode(model, corpus, m, partners[m], index[m], cpu).numpy() for m in index])

    before = placed()
    take_weights(model, weights)
    modalities = np.concatenate([np.full(len(rows), m, dtype=object) for m, rows in index.items()])
    labels = np.concatenate([corpus.inputs[m].labels[rows] for m, rows in index.items()])
    return before, placed(), modalities, labels


def write(plan: Plan, jobs: Mapping[str, Job], target: Path) -> None:
    """`figures/transformation.svg` in `target`, of the first of the runs of classes that papers want drawn."""
    results, data = Path(plan.params.paths.results), Path(plan.params.paths.data)
    job = next(job for job in plan.mapped(jobs) if job.relevance == "label")
    before, after, modalities, labels = vectors(job, results / "runs" / job.key, data)
    panels = {"Before training": maps.scattered(before), "After training": maps.scattered(after)}
    write_text(target / "figures" / "transformation.svg", figures.transformation(panels, modalities, labels))
