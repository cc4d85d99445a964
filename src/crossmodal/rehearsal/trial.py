"""The rehearsal of one job: two steps, validation, a checkpoint, the test with all protocols, and timed steps.

A model with very many parameters ranks fewer items and writes no checkpoint. All runs are tried, but of those whose
steps do the same work (`work_of`) only one is timed.
"""

from __future__ import annotations

import logging
import math
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from itertools import combinations
from pathlib import Path
from typing import Any

import torch

from crossmodal.core import registry
from crossmodal.core.errors import UserError, first_line
from crossmodal.core.files import read_json, read_parquet, sha256_json
from crossmodal.corpus.batches import steps_of
from crossmodal.corpus.corpus import Corpus
from crossmodal.experiments import Job, settings_of
from crossmodal.models import base
from crossmodal.rehearsal import times
from crossmodal.runs.build import CHECKPOINTS, built
from crossmodal.runs.evaluate import evaluate
from crossmodal.runs.train import selection_of, train_job
from crossmodal.tasks.ranked.protocols import Items
from crossmodal.training.devices import device_slot
from crossmodal.training.loop import Limit, steps_wanted

FIRST = 8  # pairs of the first batches
ITEMS = 30  # images or groups that validation and the test rank at least
LARGE = 50_000_000  # parameters from which on a model is tried with fewer items
LARGE_FIRST = 24  # pairs of its first batches: the time of its steps hardly depends on the batch size
LARGE_ITEMS = 10
IMAGES = 4  # pairs of the first batches where an image network is fine-tuned
LEAST = 5 * 2**29  # bytes that any trial may take without asking
WITHOUT = {"word_embedding": "seeded", "word_vectors": "seeded", "image_weights": "seeded", "expansion": "own"}
"""Settings that name files which may be missing, to the values that do without them in a rehearsal."""
COUNTS = ("lr_drop", "epoch_steps", "epoch_over", "min_count", "words_covered")
"""Settings, besides epochs and factors, that change the number of steps or their result, but not their work."""


@dataclass
class Trial:
    """The times, memory and disk space of a rehearsed job, or the reason why it failed."""

    key: str
    failed: str = ""  # the step, and the error in one line
    missing: list[str] = field(default_factory=list)
    stages: list[dict[str, Any]] = field(default_factory=list)  # name, epochs, steps per epoch, seconds per step
    measured_by: str = ""  # the run whose times these are, if it is another one
    large: bool = False  # whether fewer items were ranked and no checkpoint was written
    reckoned: bool = False  # whether times are extrapolated, since its batches were too large to be tried
    build: float = 0.0  # seconds to open the data and build the model
    once: float = 0.0  # seconds of the training's start, the delay of its first step, and its final writes
    validation: float = 0.0  # seconds of one validation with all items
    closing: float = 0.0  # seconds of a checkpoint
    test: float = 0.0
    fit: float = 0.0  # seconds of a closed form
    memory: float = 0.0  # bytes at most
    disk: float = 0.0  # bytes of the run's folder
    took: float = 0.0  # seconds of the rehearsal

    @property
    def seconds(self) -> float:
        """Seconds of the whole run, without the start of its processes."""
        each = self.validation + self.closing
        epochs = sum(s["epochs"] * (s["steps"] * s["step_seconds"] + each) for s in self.stages)
        return self.build + self.once + epochs + self.fit + self.test

    def take_times(self, other: Trial) -> None:
        """Take over the times and the memory of a run whose steps do the same work."""
        self.measured_by, self.reckoned = other.key, other.reckoned
        self.validation, self.closing, self.test, self.memory = (
            other.validation,
            other.closing,
            other.test,
            other.memory,
        )
        for mine, measured in zip(self.stages, other.stages, strict=True):
            mine["step_seconds"] = measured["step_seconds"]


def work_of(job: Job) -> str:
    """A text that is equal for jobs whose steps and tests do the same work.

    Such jobs may differ in the seed, in the split where items of a group are relevant to each other, in epochs, and in
    factors such as learning rates, margins and weights of losses, but not in whether a factor is 0.
    """
    if job.control:
        return sha256_json([job.dataset, job.model, job.folds])
    settings = settings_of(job, registry.module("models", job.model).Settings).model_dump()
    kept = {
        name: value != 0 if isinstance(value, float) else value
        for name, value in settings.items()
        if name not in COUNTS and not name.endswith("epochs")
    }
    about = job.model_dump(
        mode="json", include={"dataset", "model", "inputs", "second_inputs", "source", "source_inputs"}
    )
    split = job.split if job.relevance == "label" else ""
    return sha256_json([about, kept, split, job.folds, job.threads, bool(job.after)])


def rehearse(
    job: Job,
    place: Path,
    share: dict[str, float],
    room: float,
    *,
    measured: bool = True,
    ask: Callable[[float], None] = lambda _: None,
) -> Trial:
    """Rehearse a job on the data below `place`; its folder is below `place/runs`.

    Parameters
    ----------
    share : partition to the number of items of the real data set per item here.
    room : bytes that it may take; with 0 nothing is timed.
    measured : whether times are measured beyond those of the trial itself.
    ask : called once with the bytes that the trial takes beyond `LEAST`, before it takes them; returns when they are
        free.
    """
    torch.set_num_threads(job.threads)
    trial, folder = Trial(job.key), place / "runs" / job.key
    step, began, clock = "data and model", time.perf_counter(), times.clock_of(job.threads)
    try:
        before = job.before and place / "runs" / job.before
        if before and not (before / "manifest.json").exists():
            trial.failed = f"not tried: {job.before}, which it begins from, failed"
            return trial
        if job.control:
            step, started = "test", clock()
            evaluate(job, folder, place / "data", job.scale, limit=Limit(items=_items(ITEMS, job.folds)))
            trial.test = clock() - started
            trial.took = time.perf_counter() - began
            return trial
        job, model, corpus, facts = _with_what_is_there(job, place / "data", trial)
        limit = replace(_limit(model, trial, job.folds), clock=clock)
        ask(_beyond(model))
        step = "training"
        started = clock()
        opened = model, corpus.sampled(limit.items), facts
        train_job(job, folder, place / "data", before=before, limit=limit, opened=opened)
        trained = clock() - started
        model.zero_grad(set_to_none=True)
        step = "test"
        if share.get("test", 1.0) == 1.0:  # all items of the real data set are here
            _cut(model, corpus, job.folds)
        started = clock()
        evaluate(job, folder, place / "data", job.scale, limit=limit)
        tested = clock() - started
        step = "pace"
        if room:
            selection = selection_of(job) if model.trains else None
            plan = times.Plan(job, limit, selection, share, room, folder, measured=measured)
            _plan(trial, model, corpus, plan, trained, tested)
    except UserError as error:
        trial.failed = f"{step}: {first_line(error)}"
    except Exception as error:  # any error would have ended the run after hours
        where = traceback.extract_tb(error.__traceback__)[-1]
        what = (str(error).splitlines() or [""])[0]
        trial.failed = f"{step}: {type(error).__name__}: {what} ({Path(where.filename).name}, line {where.lineno})"
        logging.debug("%s", traceback.format_exc())
    trial.took = time.perf_counter() - began
    return trial


def _with_what_is_there(job: Job, data: Path, trial: Trial) -> tuple[Job, base.Model, Corpus, dict[str, Any]]:
    """Open the job, its model and its data without missing files that its settings name; these are noted.

    Raises
    ------
    UserError : something is missing that the job cannot do without.
    """
    taken = registry.module("models", job.model).Settings.model_fields
    while True:
        try:
            return job, *_opened(job, data, trial)
        except UserError as error:
            message = str(error)
            for name, value in WITHOUT.items():
                if name not in taken or job.settings.get(name) == value:
                    continue
                other = job.model_copy(update={"settings": {**job.settings, name: value}})
                try:
                    opened = _opened(other, data, trial)
                except UserError as further:
                    if str(further) == message:
                        continue  # this file is not the cause
                    trial.missing.append(message)
                    job = other
                    break
                trial.missing.append(message)
                return other, *opened
            else:
                raise


def _opened(job: Job, data: Path, trial: Trial) -> tuple[base.Model, Corpus, dict[str, Any]]:
    """Load model, data and context like `train_job`, and note the seconds that this takes."""
    clock = times.clock_of(job.threads)
    began = clock()
    facts: dict[str, Any] = {}
    model, corpus = built(job, data, facts=facts)
    trial.build = clock() - began
    if job.after and getattr(model, "image_network", None) is not None:
        model.image_network.take_weights()
    return model, corpus, facts


def _cut(model: base.Model, corpus: Corpus, folds: list[int]) -> None:
    """Cut all test items into folds, of which the trial ranks a few.

    Raises
    ------
    UserError : there are too few items for this many folds.
    """
    items = Items.of(corpus, model.reads, "test")
    for pair in combinations(model.reads, 2):
        for _ in items.parts(pair, folds):
            pass


def _limit(model: base.Model, trial: Trial, folds: list[int]) -> Limit:
    """The limits of a model's trial: few items, but as many as the folds need."""
    trial.large = sum(p.numel() for p in model.parameters()) > LARGE
    size = LARGE_FIRST if trial.large else FIRST
    size = IMAGES if getattr(model, "image_network", None) is not None else size
    size = min(size, getattr(model.settings, "batch_size", size))
    return Limit(batch_size=size, items=_items(LARGE_ITEMS if trial.large else ITEMS, folds), saves=not trial.large)


def _items(count: int, folds: list[int]) -> int:
    """The smallest number of items that is at least `count` and can be cut into folds."""
    several = math.lcm(*folds)
    return several * math.ceil(count / several)


def _beyond(model: base.Model) -> float:
    """An upper bound of the steps' bytes beyond `LEAST`: weights, gradients, Adam's two moments, and activations."""
    weights = sum(p.numel() * p.element_size() for p in model.parameters())
    computed = 3 * 2**29 + (2**30 if getattr(model, "image_network", None) is not None else 0)
    return max(0.0, 4.0 * weights + computed - LEAST)


def _plan(trial: Trial, model: base.Model, corpus: Corpus, plan: times.Plan, trained: float, tested: float) -> None:
    """Estimate times, memory and disk space of the whole run from those of small parts of it."""
    few = corpus.sampled(plan.limit.items)
    counts = times.ratio(corpus, few, "test", plan.share)
    with device_slot(CHECKPOINTS) as device:
        model.to(device)
        if model.trains:
            history = read_parquet(plan.folder / "history.parquet")
            trial.closing = float(history.closing_seconds.max())
            done = history.steps * history.step_seconds + history.validation_seconds + history.closing_seconds
            trial.once = max(0.0, trained - float(done.sum()))
            first = float(history.validation_seconds.max())
            trial.validation = times.ranking(model, corpus, "val", plan, device, times.validated, first)
            pace = times.pace(model, few, plan, device, history)
            trial.reckoned, trial.memory = pace.reckoned, pace.memory + _kept(model)
            trial.stages = _stages(model, corpus, plan.share.get("train", 1.0), pace.seconds)
        else:
            trial.fit = trained * plan.share.get("train", 1.0)
            trial.memory = read_json(plan.folder / "manifest.json")["peak_memory_mib"] * 2**20
        trial.test = times.ranking(model, corpus, "test", plan, device, times.tested, tested, trial.build)
    for path in (path for path in plan.folder.rglob("*") if path.is_file()):
        grows = path.name in ("embeddings.npz", "examples.parquet")
        trial.disk += path.stat().st_size * (counts[0] if grows else 1.0)


def _kept(model: base.Model) -> float:
    """Bytes of the copy of the best weights, which a run of several epochs keeps but a trial does not."""
    return float(sum(value.numel() * value.element_size() for value in model.state_dict().values()))


def _stages(model: base.Model, corpus: Corpus, share: float, seconds: list[float]) -> list[dict[str, Any]]:
    size = model.settings.batch_size
    has_steps = getattr(model.settings, "epoch_steps", 0) and corpus.classes is None
    stages = []
    for stage, step_seconds in zip(model.stages(), seconds, strict=True):
        steps = max(1, steps_of(corpus, size, stage.modalities, steps_wanted(model, corpus, size)))
        steps = steps if has_steps else max(1, math.ceil(steps * share))
        stages.append({"name": stage.name, "epochs": stage.epochs, "steps": steps, "step_seconds": float(step_seconds)})
    return stages
