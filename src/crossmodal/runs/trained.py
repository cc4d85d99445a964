"""Opens a trained job: its model with the trained weights, and its data."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from crossmodal.corpus.corpus import Corpus
from crossmodal.experiments import Job
from crossmodal.models import base
from crossmodal.runs.build import built
from crossmodal.runs.weights import checked_vocabulary, checked_weights, take_weights

if TYPE_CHECKING:
    from crossmodal.training.loop import Limit


def trained(job: Job, folder: Path, data: Path, limit: Limit | None = None) -> tuple[base.Model, Corpus]:
    """A job's model with its trained weights, and its data.

    Parameters
    ----------
    folder : the folder of the run.
    data : the folder of all data sets.
    limit : how much of the data is kept, for a trial of the run.

    Raises
    ------
    UserError : a run that is not trained, weights that differ from its manifest or do not fit, or unreadable data.
    """
    weights = checked_weights(folder)
    model, corpus = built(job, data, checked_vocabulary(folder), limit)
    take_weights(model, weights)
    return model, corpus
