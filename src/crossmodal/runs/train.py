"""Trains a job and writes its folder with weights, vocabulary, history and manifest."""

from __future__ import annotations

import logging
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
import torch
import yaml

from crossmodal.core.display import readable_seconds
from crossmodal.core.energy import Meter, card_joules
from crossmodal.core.errors import UserError, first_line
from crossmodal.core.files import (
    atomic_write,
    commit,
    hardware,
    library_versions,
    peak_memory_mib,
    read_record,
    sha256_file,
    sha256_json,
    write_json,
    write_parquet,
    write_text,
)
from crossmodal.corpus.corpus import Corpus
from crossmodal.experiments import Job
from crossmodal.features.engine.extraction import told_equal
from crossmodal.models import base
from crossmodal.models.base import described
from crossmodal.runs import finished
from crossmodal.runs.build import CHECKPOINTS, built
from crossmodal.runs.weights import checked_weights
from crossmodal.tasks.base import chooser_of, source_of_training, tasks
from crossmodal.training.closed_form import fit, prepare
from crossmodal.training.devices import device_slot

if TYPE_CHECKING:
    from crossmodal.training.loop import Limit, Selection

log = logging.getLogger(__name__)


def train_job(
    job: Job,
    folder: Path,
    data: Path,
    *,
    fresh: bool = False,
    before: Path | None = None,
    limit: Limit | None = None,
    opened: tuple[base.Model, Corpus, dict[str, Any]] | None = None,
) -> None:
    """Train a job and write `config.yaml`, `vocabulary.json`, `history.parquet`, `model.safetensors`, `manifest.json`.

    Parameters
    ----------
    fresh : whether an existing checkpoint is discarded.
    before : folder of the run whose weights the job begins from, if it names one.
    limit : how much of the training is done, for a trial of the run, whose results are of no further use.
    opened : the model, the data and the facts that `built` returned, where they exist already.

    Raises
    ------
    UserError : missing or corrupted data, a control, settings still to be chosen, or a run that diverges.
    """
    if job.control:
        raise UserError(f"{job.key}: is a control, which is not trained; evaluate it: crossmodal evaluate {job.key}")
    if job.sweep is not None and job.sweep.choice is None and limit is None:
        run = job.key.rpartition("/")[0]
        raise UserError(f"{job.key}: its settings have not been chosen yet; choose them: crossmodal sweep {run}")
    from safetensors.torch import save_file

    began = time.perf_counter()
    meter = Meter()
    facts: dict[str, Any] = {}
    model, corpus, facts = opened or (*built(job, data, limit=limit, facts=facts), facts)
    covered = facts.get("word_vectors")
    facts = {key: asdict(value) for key, value in facts.items()}
    source = source_of_training(job.model, job.relevance)
    if before is not None:
        facts["before"] = {"run": job.before, "weights_sha256": _begin_from(model, before)}
    if job.sweep is not None:
        facts["sweep"] = job.sweep.choice
    identity = sha256_json([job.identity, corpus.fingerprint, source, *facts.values()])
    versions = library_versions("crossmodal", "torch", "lightning-fabric", "numpy", "pandas")
    depends = {"hash": job.hash, "source": source, "data": corpus.fingerprint, "versions": versions}
    depends |= {key: facts[key] for key in ("before",) if key in facts}
    if limit is None and (note := finished.note(folder, depends)):
        log.warning("%s %s", job.key, note)
    fallbacks = [*_fallbacks(job, data), *model.settings.fallbacks]
    fallbacks += [covered.fallback] if covered is not None and covered.fallback else []
    for what in fallbacks:
        log.warning("%s: fallback: %s", job.key, what)
    log.info("%s: %d training pairs, %d words", job.key, corpus.n_pairs, len(corpus.vocabulary))
    checkpoint = (CHECKPOINTS if limit is None else folder) / f"{job.hash}.pt"
    history = pd.DataFrame()
    if model.trains:
        from crossmodal.training.loop import train  # imported here, since it takes seconds

        selection = selection_of(job)
        _check_pairs(job, corpus, data)
        _check_validation(job, model, corpus, data)
        if fresh:
            checkpoint.unlink(missing_ok=True)
        prepare(model, corpus)
        with device_slot(CHECKPOINTS) as device, _card(device, facts):
            done = train(model, corpus, job.seed, device, selection, checkpoint, identity, limit)
        history = done.history
        facts |= {"best_epoch": done.best_epoch, "resumed_after_epoch": done.resumed_at, "device": device.type}
    else:
        solving = time.perf_counter()
        log.info("%s: fitted in closed form, in one pass over the pairs", job.key)
        fit(model, corpus)
        log.info("%s: fitted in %s", job.key, readable_seconds(time.perf_counter() - solving))
    folder.mkdir(parents=True, exist_ok=True)
    for name in tasks().keys() - {*job.tasks}:  # results from when the data set's relevance was another one
        shutil.rmtree(folder / name, ignore_errors=True)
    resolved = {**job.model_dump(mode="json"), "settings": model.settings.model_dump(mode="json")}
    write_text(folder / "config.yaml", yaml.safe_dump(resolved, sort_keys=False))
    corpus.vocabulary.save(folder / "vocabulary.json")
    write_parquet(folder / "history.parquet", history)
    with atomic_write(folder / "model.safetensors") as temporary:
        save_file({name: value.contiguous().cpu() for name, value in model.state_dict().items()}, temporary)
    manifest = {
        "job": job.key,
        "hash": job.hash,
        "source": source,
        "data": corpus.fingerprint,
        "context": described(corpus.context),
        "fallbacks": fallbacks,
        "scale": job.scale,
        "parameters": sum(p.numel() for p in model.parameters()),
        "pairs": corpus.n_pairs,
        "words": len(corpus.vocabulary),
        "weights_sha256": sha256_file(folder / "model.safetensors"),
        "vocabulary_sha256": sha256_file(folder / "vocabulary.json"),
        "versions": versions,
        "commit": commit(),
        "hardware": hardware(),
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        "energy_joules": meter.stop(),
        "seconds": round(time.perf_counter() - began, 2),
        "peak_memory_mib": peak_memory_mib(),
        **facts,
    }
    write_json(folder / "manifest.json", manifest)
    if limit is None:
        finished.remember(folder, manifest)
        _warn_of_older_results(job, folder, manifest["weights_sha256"])
    checkpoint.unlink(missing_ok=True)


def _warn_of_older_results(job: Job, folder: Path, weights: str) -> None:
    """Name the tasks whose results are those of the run's weights before this training."""
    older = []
    for task in job.tasks:
        path = folder / task / "metrics.json"
        with suppress(UserError):  # a damaged file is named where it is read for its numbers
            if path.exists() and read_record(path).get("weights_sha256") != weights:
                older.append(task)
    if older:
        log.warning(
            "%s: its results in %s are those of its earlier weights, until it is evaluated again: "
            "crossmodal evaluate %s",
            *(job.key, ", ".join(older), job.key),
        )


def selection_of(job: Job) -> Selection:
    """The criterion by which the epochs of a job are chosen: that of its first task that has one.

    Raises
    ------
    UserError : none of the model's tasks has a criterion.
    """
    from importlib import import_module

    from crossmodal.training.loop import Selection

    task = chooser_of(job.model, job.relevance)
    if task is None:
        raise UserError(
            f"{job.key}: model {job.model!r} is trained epoch by epoch, but no task that it can be asked chooses one; "
            f"give it the method of a task, such as `encode`"
        )
    return Selection(task.criterion, import_module(task.selection).validate)


def _check_pairs(job: Job, corpus: Corpus, data: Path) -> None:
    """Check that a mini-batch can be made, which needs two pairs: those of others are a pair's negatives.

    Raises
    ------
    UserError : fewer pairs, or fewer rows of a data set with classes.
    """
    rows = corpus.n_rows()
    if rows < 2:
        raise UserError(
            f"{data / job.dataset / 'splits' / f'{job.split}.parquet'}: has {rows} training pair{'s' * (rows != 1)}, "
            f"but model {job.model!r} needs at least 2, which are each other's negatives; choose a larger split"
        )


def _check_validation(job: Job, model: base.Model, corpus: Corpus, data: Path) -> None:
    """Check that each modality has validation items, on which the best epoch is chosen.

    Raises
    ------
    UserError : a modality without validation items.
    """
    bare = [m for m in model.reads if not len(corpus.inputs[m].where("val"))]
    if bare:
        raise UserError(
            f"{data / job.dataset / 'items.parquet'}: no {bare[0]} item of the partition val, on which model "
            f"{job.model!r} is validated after each epoch to keep the best one; set datasets.{job.dataset}.val in "
            f"params.yaml above 0 (only closed forms, such as cca, pls and sm, need none)"
        )


@contextmanager
def _card(device: torch.device, facts: dict[str, Any]) -> Iterator[None]:
    """Record the memory and the energy that the block uses on a graphics card in `facts`."""
    if device.type != "cuda":
        yield
        return
    uuid = str(torch.cuda.get_device_properties(device).uuid)
    before = card_joules(uuid)
    yield
    facts["gpu_memory_mib"] = round(torch.cuda.max_memory_allocated(device) / 2**20, 1)
    if before is not None and (after := card_joules(uuid)) is not None:
        facts["gpu_energy_joules"] = round(after - before, 3)


def _fallbacks(job: Job, data: Path) -> list[str]:
    """Warnings about the inputs of a run: those of the data set, stand-ins, unreadable items and equal files."""
    fallbacks = []
    for dataset in filter(None, (job.dataset, job.source)):
        path = data / dataset / "items.json"
        warnings = read_record(path).get("warnings", []) if path.exists() else []
        fallbacks += [f"items of {dataset}: {warning}" for warning in warnings]
    read = [(job.dataset, *pair) for pair in job.extractors]
    read += [(job.source, *pair) for pair in job.source_inputs.items()]
    for dataset, modality, extractor in read:
        path = data / dataset / "features" / f"{modality}.{extractor}.json"
        if not path.exists():
            continue
        manifest, where = read_record(path), f"{modality} features of {extractor}"
        if "fallback" in manifest:
            fallbacks.append(f"{where}: {manifest['fallback']}".replace("; ", ", "))  # tables separate warnings by "; "
        if left_out := len(manifest.get("skipped") or ()):
            count = left_out + manifest["shape"][0]
            fallbacks.append(
                f"{where}: {left_out} of {count} items cannot be read and are left out with the items of their groups"
            )
        if "equal_files" in manifest:
            fallbacks.append(f"{where}: {told_equal(manifest['equal_files'])}")
    return fallbacks


def _begin_from(model: base.Model, folder: Path) -> str:
    """Initialise a model with the weights of the run in `folder`, and return the hash of these weights."""
    from safetensors.torch import load_file

    weights = checked_weights(folder)
    try:
        model.inherit(load_file(weights))
    except (ValueError, RuntimeError) as error:
        raise UserError(f"{weights}: training cannot be resumed from it: {first_line(error)}") from None
    return read_record(folder / "manifest.json")["weights_sha256"]
