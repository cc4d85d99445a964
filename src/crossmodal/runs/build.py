"""Builds the model and opens the data of a job, for training and evaluation."""

from __future__ import annotations

import logging
import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from crossmodal.core import cores, registry
from crossmodal.core.errors import UserError
from crossmodal.core.files import sha256_file
from crossmodal.corpus.corpus import Corpus
from crossmodal.corpus.opening import Options, load
from crossmodal.experiments import Job, settings_of
from crossmodal.language import wordvectors
from crossmodal.language.tokens import SPECIAL, Vocabulary
from crossmodal.models import base

if TYPE_CHECKING:
    from crossmodal.training.loop import Limit

log = logging.getLogger(__name__)
CHECKPOINTS = Path(".checkpoints")

if os.environ.get("CUBLAS_WORKSPACE_CONFIG") is None:  # without it cuBLAS is not deterministic
    os.environ["CUBLAS_WORKSPACE_CONFIG"] = ":4096:8"


def built(
    job: Job,
    data: Path,
    vocabulary: Vocabulary | None = None,
    limit: Limit | None = None,
    facts: dict[str, Any] | None = None,
) -> tuple[base.Model, Corpus]:
    """The job's model with its initial weights, and its data.

    Parameters
    ----------
    data : the folder of all data sets.
    vocabulary : a trained run's vocabulary; None builds one from the training items.
    limit : how much of the data is kept, for a trial of the run.
    facts : receives the coverage of the word vectors under `word_vectors`, for the manifest.

    Raises
    ------
    UserError : data or settings that do not fit the model.
    """
    cores.compute_in(job.threads)
    module = registry.module("models", job.model)
    settings = settings_of(job, module.Settings)
    if module.Model.needs_classes and job.relevance != "label":
        raise UserError(
            f"params.yaml: datasets.{job.dataset}: model {job.model!r} learns from classes; set `relevance: label` "
            f"(each item needs its class), or choose another model"
        )
    options = Options(
        relevance=job.relevance,
        stages=job.stages,
        second_form={m: (form, job.second_inputs[m]) for m, form in module.Model.second_form.items()},
        further=module.Model.further,
        vocabulary=vocabulary,
        settings=settings.model_dump(),
    )
    reads = registry.reads(job.model, options.settings)
    corpus = load(data / job.dataset, job.split, reads, job.inputs, options)
    if module.Model.one_class and corpus.classes is not None and corpus.classes.every is not None:
        raise UserError(
            f"datasets.{job.dataset}: model {job.model!r} needs items of one class each, and those of items.parquet "
            "have several; choose another model"
        )
    if job.source:
        source = load(data / job.source, "full", module.Model.source_reads, job.source_inputs, relevance="label")
        corpus = corpus.transferring_from(source)
    if limit is not None:
        corpus = corpus.sampled(limit.items)
    context = corpus.context
    path = getattr(settings, "word_embedding", "seeded")
    if path != "seeded" and vocabulary is None:
        vectors, covered = _word_vectors(path, settings, corpus, job.seed)
        context = replace(context, word_vectors=vectors)
        if facts is not None:
            facts["word_vectors"] = covered
    torch.manual_seed(job.seed)
    try:
        model = module.Model(settings, context)
    except ValueError as error:
        raise UserError(f"model {job.name} on {job.dataset}: {error}") from None
    if model.trains and not any(parameter.requires_grad for parameter in model.parameters()):
        raise UserError(
            f"model {job.model!r} ({module.__name__}): has no parameters to train; make its layers in `__init__`, or "
            f"set `trains = False`"
        )
    return model, corpus


def _word_vectors(
    path: str, settings: base.Settings, corpus: Corpus, seed: int
) -> tuple[torch.Tensor, wordvectors.Coverage]:
    """(words, D) initial word embedding and the coverage of the words; the file's hash is added to the fingerprint."""
    vectors = wordvectors.read(path, corpus.vocabulary.words)
    if vectors.dim != settings.word_dim:
        raise UserError(
            f"{path}: has vectors of {vectors.dim} numbers, and the model's `word_dim` is {settings.word_dim}; make "
            "them the same in params.yaml"
        )
    words = dict.fromkeys(corpus.vocabulary.words[len(SPECIAL) :], 1)
    covered = wordvectors.coverage(vectors, words, path, settings.words_covered, "words_covered")
    log.info("%s", covered)
    corpus.fingerprint["word_vectors"] = sha256_file(path)
    return torch.from_numpy(vectors.table(corpus.vocabulary.words, seed)), covered
