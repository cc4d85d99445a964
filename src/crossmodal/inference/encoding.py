"""Encodes sentences, files and items by the model itself, and ranks items also where no vectors are compared.

This is a module apart from `search`, which avoids it where it can, because it imports torch.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from crossmodal.core import registry
from crossmodal.core.errors import UserError, first_line
from crossmodal.core.files import read_record
from crossmodal.corpus.forms.base import Source
from crossmodal.evaluation.ranking.ranks import top_k
from crossmodal.evaluation.ranking.scores import Scores
from crossmodal.experiments import PRECOMPUTED, validated
from crossmodal.features.engine import extraction
from crossmodal.inference.opened import features_of
from crossmodal.inference.run import TrainedRun
from crossmodal.models import base
from crossmodal.tasks.ranked.encodings import joined

if TYPE_CHECKING:
    from crossmodal.features.engine.store import Features
    from crossmodal.inference.opened import OpenedRun

log = logging.getLogger(__name__)

BLOCK = 512  # number of items that are encoded at once, or scored by models that do not compare vectors


def encode(run: TrainedRun, data: Path, modality: str, sources: Sequence[str], to: str) -> Tensor:
    """(N, ...) float32 encodings of sentences or files, for comparison with items of the modality `to`.

    Parameters
    ----------
    data : the folder of the run's data set.
    sources : N sentences, or paths of files.

    Raises
    ------
    UserError : as `inputs_of`.
    """
    return joined([run.encode(modality, given, to) for given in inputs_of(run, data, modality, sources)]).float()


def inputs_of(
    run: TrainedRun, data: Path, modality: str, sources: Sequence[str], item_id: str | None = None
) -> Iterator[base.Input]:
    """Yield the inputs of the model for sentences or files, `BLOCK` of them at a time.

    Parameters
    ----------
    data : the folder of the run's data set.
    sources : sentences, or paths of files.
    item_id : the item of the data set that the only source is, whose stored features are then used.

    Raises
    ------
    UserError : a file that cannot be read, features that were computed elsewhere or are not those that the run was
        trained with, or a sentence without known words.
    """
    asked = run.source(modality, data, arrays=_joint(run, data, modality))
    form = asked.form
    starts = range(0, len(sources), BLOCK)
    if form.array(modality) is None:
        yield from (form.of_sentences(asked, [*sources[n : n + BLOCK]]) for n in starts)
        return
    target = data / "features" / features_of(run.job, modality)
    if item_id is not None:
        yield _stored(asked, target, item_id)
        return
    yield from (inputs for inputs, _ in files_opened(run, data, modality, sources))


def files_opened(
    run: TrainedRun, data: Path, modality: str, sources: Sequence[str]
) -> Iterator[tuple[base.Input, dict[str, Sequence[Any]]]]:
    """Yield the inputs of the model for files, `BLOCK` of them at a time, and what the extractor says of each.

    Such columns are the `boxes` of regions. Parameters and errors are as those of `inputs_of`.
    """
    asked = run.source(modality, data, arrays=_joint(run, data, modality))
    array, columns = _features(run, data, modality, sources)
    for n in range(0, len(sources), BLOCK):
        part = slice(n, n + BLOCK)
        of_part = {name: column[part] for name, column in columns.items()}
        yield asked.form.of_features(asked, array[part], of_part), of_part


def extraction_of(
    run: TrainedRun, data: Path, modality: str, first: str
) -> tuple[str, extraction.Settings, dict[str, Any]]:
    """How the features of a modality were made: the extractor, its settings, and the manifest of the data set's.

    Parameters
    ----------
    first : what features are wanted of, for the error.

    Raises
    ------
    UserError : they were made elsewhere, or are not those that the run was trained with.
    """
    target = data / "features" / features_of(run.job, modality)
    manifest = read_record(Path(f"{target}.json"))
    extractor = manifest.get("extractor")
    if extractor == PRECOMPUTED or extractor not in registry.names("features"):
        raise UserError(
            f"{run.job.key}: its {modality} features were made elsewhere, so there is no way to make those of "
            f"{first}; search for an item of the data set with --item"
        )
    trained = run.features.get(target.name)
    if trained is not None and manifest.get("sha256") != trained:
        raise UserError(
            f"{target}.json: is of other features than {run.job.key} was trained with; train the run again, or name "
            "the parameters of its own data set"
        )
    kind = registry.module("features", extractor).Settings
    return extractor, validated(kind, manifest.get("settings"), f"{target}.json: settings"), manifest


def recipe_of(data: Path, modality: str, extractor: str, settings: extraction.Settings) -> extraction.Recipe:
    """The recipe of an extractor, with what was fitted on the items of a data set.

    Raises
    ------
    UserError : features of items outside of the data set cannot be computed alike.
    """
    return extraction.recipe_for_more(extractor, settings, given_of(data, modality))


def given_of(data: Path, modality: str) -> extraction.Given:
    """The items of a data set, on which what an extractor fits was fitted."""
    from crossmodal.datasets import items

    root = data if modality == "text" else items.root(data)  # sentences are no files
    return extraction.given_of(items.read(data), root, modality, data)


def input_of_features(
    run: OpenedRun, modality: str, array: np.ndarray, columns: Mapping[str, Sequence[Any]]
) -> base.Input:
    """The input of a run's model for (B, ...) features of further items, and the columns that the extractor keeps."""
    asked = run.trained.source(modality, run.data, arrays=_joint(run.trained, run.data, modality))
    return asked.form.of_features(asked, array, columns)


def _check_file(modality: str, source: str) -> None:
    try:
        if Path(source).is_file():
            return
        found = "is a folder; name the files in it" if Path(source).is_dir() else "no such file; name one that is there"
    except OSError as error:  # such as a name that is too long
        found = f"{error.strerror}; name a file that is there"
    raise UserError(f"{modality} {source[:200] or repr(source)}: {found}")


def _features(
    run: TrainedRun, data: Path, modality: str, sources: Sequence[str]
) -> tuple[np.ndarray, dict[str, Sequence[Any]]]:
    """The features of sentences or files, and their further columns, computed as those of the data set."""
    extractor, settings, manifest = extraction_of(run, data, modality, sources[0])
    if modality != "text":
        for source in sources:
            _check_file(modality, source)
    given = given_of(data, modality)
    try:
        return extraction.features_of(extractor, settings, given, [*sources], manifest)
    except UserError as error:
        source = next((source for source in sources if source in str(error)), None)
        if source is None:
            raise
        # Only the first part of the message is kept; the rest is advice about the files of a data set.
        reason = first_line(error).split("; ")[0].replace(f"{source}: ", "")
        annotated = (manifest.get("settings") or {}).get("boxes") == "annotated"
        advice = (
            "the regions of this data set are annotated, so name one of its items with --item"
            if annotated
            else "name another file"
        )
        raise UserError(f"{modality} {source}: cannot be read: {reason}; {advice}") from None


def item_opened(
    run: TrainedRun, data: Path, modality: str, item_id: str
) -> tuple[base.Input, dict[str, Sequence[Any]]]:
    """The input of the model for an item of the data set, and what the index of its features says of it."""
    from crossmodal.features.engine.store import open_features

    asked = run.source(modality, data, arrays=_joint(run, data, modality))
    target = data / "features" / features_of(run.job, modality)
    index = open_features(target).index
    return _stored(asked, target, item_id), index[index.item_id == item_id].to_dict("list")


def _stored(opened: Source, target: Path, item_id: str) -> base.Input:
    """The input of the model for an item of the data set, from its stored features."""
    import pandas as pd

    from crossmodal.features.engine.store import open_features

    row = pd.DataFrame({"item_id": [item_id], "partition": [""]})
    opened = replace(opened, items=row, groups=np.zeros(1, np.int64), features=open_features(target))
    return opened.form.open(opened).gather(torch.zeros(1, dtype=torch.int64))


def _joint(run: TrainedRun, data: Path, modality: str) -> dict[str, Features]:
    """Modality to features, for the modalities on which the inputs of this modality depend."""
    from crossmodal.features.engine.store import open_features

    if not run.source(modality).form.joint:
        return {}
    alike = _alike(run, modality)
    return {m: open_features(data / "features" / f"{m}.{name}") for m, name in run.job.inputs.items() if m in alike}


def _alike(run: TrainedRun, modality: str) -> dict[str, str]:
    """The modalities (with forms) that must be read for one modality: itself, or all that share its joint form."""
    joint, reads = run.source(modality).form.joint, run.model.reads
    return {m: name for m, name in reads.items() if m == modality or (joint and name == reads[modality])}


def partition_of(run: TrainedRun, data: Path, to: str, query: str, partition: str) -> tuple[np.ndarray, Tensor]:
    """The ids and the encodings of the items of a partition, or of all items (`all`).

    Parameters
    ----------
    to : the modality of the items.
    query : the modality of the queries with which they are compared.

    Raises
    ------
    UserError : the partition has no such items.
    """
    from crossmodal.corpus.opening import Options, load
    from crossmodal.tasks.ranked.encodings import encode

    options = Options(
        relevance=run.job.relevance,
        stages=run.job.stages,
        vocabulary=run.vocabulary,
        settings=run.model.settings.model_dump(),
    )
    corpus = load(data, run.job.split, _alike(run, to), run.job.inputs, options)
    here = corpus.inputs[to]
    index = np.arange(len(here.ids)) if partition == "all" else here.where(partition)
    if not len(index):
        raise UserError(f"{data.name}: has no {to} items of the partition {partition!r} to search")
    log.info("%s: %d %s items are encoded", run.job.key, len(index), to)
    return here.ids[index], encode(run.model, corpus, to, query, index, torch.device("cpu"))


@torch.inference_mode()
def best(
    run: TrainedRun, pair: tuple[str, str], query: Tensor, gallery: Tensor, k: int
) -> tuple[np.ndarray, np.ndarray]:
    """(k,) indices and (k,) scores of the best items by the score of a model that does not compare vectors.

    Parameters
    ----------
    pair : the modality of the query and that of the gallery.
    query, gallery : (1, ...) and (G, ...) encodings.
    """
    first, second = map(list(run.model.reads).index, pair)
    score = run.model.score  # its arguments are in the model's order of modalities
    parts = [score(query, x) if first < second else score(x, query).T for x in gallery.split(BLOCK)]
    matrix = torch.cat(parts, 1).float().numpy()
    items, scores = top_k(Scores(lambda rows: matrix[rows], matrix.shape), None, k)
    return items[0], scores[0]
