"""One job rehearsed: two steps, validation, a checkpoint, the test with all its protocols; then the pace of its steps.

Steps are first made with small batches. Larger ones follow, up to the job's own, for as long as the next will fit into
the time and the memory that a rehearsal may take; what is not reached is reckoned from the last two.
"""

from __future__ import annotations

import logging
import math
import time
import traceback
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from crossmodal.corpus.batches import steps_of
from crossmodal.corpus.corpus import Corpus
from crossmodal.errors import UserError
from crossmodal.experiments import Job
from crossmodal.files import read_json, read_parquet
from crossmodal.runs.build import CHECKPOINTS, built
from crossmodal.runs.evaluate import evaluate
from crossmodal.runs.train import selection_of, train_job
from crossmodal.tasks.ranked.encodings import encodings_of
from crossmodal.tasks.ranked.selection import validate
from crossmodal.training.devices import device_slot
from crossmodal.training.loop import Limit, steps_wanted, train

FIRST = 8  # pairs of the first batches
ITEMS = 30  # images or groups that validation and the test rank; may be cut into 2, 3, 5 or 10 folds
SECONDS = 0.5  # that steps of a size are timed for
STEP = 3.0  # seconds that a step of the next size may be expected to take
SLOW = 0.5  # seconds from which on what was timed once is not timed again
WITHOUT = {"word_embedding": "seeded", "word_vectors": "seeded", "image_weights": "seeded", "expansion": "own"}
"""Settings that name what may be missing, and what does without it: in a rehearsal alone."""


@dataclass
class Trial:
    """What a rehearsed job took, or why it failed."""

    key: str
    failed: str = ""  # the step, and the error in one line
    missing: list[str] = field(default_factory=list)
    stages: list[dict[str, Any]] = field(default_factory=list)  # name, epochs, steps per epoch, seconds per step ...
    reckoned: bool = False  # whether its batches were too large to be tried
    build: float = 0.0  # seconds until the first step
    validation: float = 0.0  # seconds of one, on all the items that it will have
    test: float = 0.0
    fit: float = 0.0  # seconds of a closed form
    memory: float = 0.0  # bytes at most
    disk: float = 0.0  # bytes of the run's folder
    took: float = 0.0  # seconds of the rehearsal

    @property
    def seconds(self) -> float:
        """Of the whole run, but for what a process takes to begin."""
        epochs = sum(s["epochs"] * (s["steps"] * s["step_seconds"] + self.validation) for s in self.stages)
        return self.build + epochs + self.fit + self.test


def rehearse(job: Job, place: Path, share: dict[str, float], room: float) -> Trial:
    """Rehearse a job on the data below `place`; its folder is below `place/runs`.

    Parameters
    ----------
    share : partition to the items that there will be for each that is here. room : bytes that it may take; 0 takes no
    times at all.
    """
    torch.set_num_threads(job.threads)
    trial = Trial(job.key)
    folder, data = place / "runs" / job.key, place / "data"
    step, began = "data and model", time.perf_counter()
    try:
        if job.control:
            step = "test"
            evaluate(job, folder, data, job.scale, limit=Limit(items=ITEMS))
            trial.took = trial.test = time.perf_counter() - began
            return trial
        job = _with_what_is_there(job, data, trial)
        limit = Limit(batch_size=min(FIRST, job.settings.get("batch_size", FIRST)), items=ITEMS)
        before = job.before and place / "runs" / job.before
        if before and not (before / "manifest.json").exists():
            trial.failed = f"not tried: {job.before}, which it begins from, failed"
            return trial
        step = "training"
        train_job(job, folder, data, before=before, limit=limit)
        step = "test"
        tested = time.perf_counter()
        evaluate(job, folder, data, job.scale, limit=limit)
        trial.test = time.perf_counter() - tested
        step = "pace"
        if room:
            _measure(job, data, folder, share, room, trial, limit)
    except UserError as error:
        trial.failed = f"{step}: {str(error).splitlines()[0]}"
    except Exception as error:  # whatever would have ended the run after hours
        where = traceback.extract_tb(error.__traceback__)[-1]
        what = (str(error).splitlines() or [""])[0]
        trial.failed = f"{step}: {type(error).__name__}: {what} ({Path(where.filename).name}, line {where.lineno})"
        logging.debug("%s", traceback.format_exc())
    trial.took = time.perf_counter() - began
    return trial


def _with_what_is_there(job: Job, data: Path, trial: Trial) -> Job:
    """The job, done without files that its settings name and that are missing: these are noted."""
    try:
        built(job, data)
        return job
    except UserError as error:
        from crossmodal import registry

        taken = registry.module("models", job.model).Settings.model_fields
        without = {key: value for key, value in WITHOUT.items() if key in taken and job.settings.get(key) != value}
        other = job.model_copy(update={"settings": {**job.settings, **without}})
        if not without:
            raise
        built(other, data)
        trial.missing.append(str(error))
        return other


def _measure(
    job: Job, data: Path, folder: Path, share: dict[str, float], room: float, trial: Trial, limit: Limit
) -> None:
    """Times, memory and disk of the whole run, reckoned from those of small parts of it."""
    began = time.perf_counter()
    model, corpus = built(job, data)
    trial.build = time.perf_counter() - began
    few = corpus.sampled(limit.items)
    counts = {part: _ratio(corpus, few, part, share) for part in ("val", "test")}
    with device_slot(CHECKPOINTS) as device:
        model.to(device)
        if model.trains:
            history = read_parquet(folder / "history.parquet")
            trial.validation = _ranked(model, few, "val", counts["val"], device, history.validation_seconds.max())
            _pace(job, model, few, share.get("train", 1.0), room, trial, device, history)
        else:
            manifest = read_json(folder / "manifest.json")
            trial.fit = manifest["seconds"] * share.get("train", 1.0)
            trial.memory = manifest["peak_memory_mib"] * 2**20
        scored = model.trains and _scores(model, few, device)  # closed forms compare vectors
        linear, square = counts["test"]
        trial.test = trial.test * (square if scored else linear)
    for path in (path for path in folder.rglob("*") if path.is_file()):
        grows = path.name in ("embeddings.npz", "examples.parquet")
        trial.disk += path.stat().st_size * (counts["test"][0] if grows and path.suffix != ".pt" else 1.0)


def _ratio(corpus: Corpus, few: Corpus, part: str, share: dict[str, float]) -> tuple[float, float]:
    """How many times as many items there will be to rank as are ranked here, and pairs of a query and an item."""
    factors = []
    for modality, one in corpus.inputs.items():
        here = len(few.inputs[modality].where(part))
        if here:
            factors.append(len(one.where(part)) * share.get(part, 1.0) / here)
    factors = sorted(factors or [1.0])
    return float(np.mean(factors)), factors[-1] * factors[0 if len(factors) < 2 else -2]


def _scores(model: Any, corpus: Corpus, device: torch.device) -> bool:
    """Whether the model scores each pair of a query and an item, rather than comparing vectors."""
    first, second = [*model.reads][:2]
    index = {m: corpus.inputs[m].where("test")[:4] for m in (first, second)}
    return not model.compares_vectors(*encodings_of(model, corpus, (first, second), index, device).values())


def _ranked(
    model: Any, corpus: Corpus, part: str, ratio: tuple[float, float], device: torch.device, whole: float
) -> float:
    """Seconds that a validation of all items takes, reckoned from `whole`, those of the few items in the training."""
    order = [*model.reads]
    index = {m: corpus.inputs[m].where(part) for m in order}
    if whole < SLOW:  # the first one is slower
        began = time.perf_counter()
        validate(model, corpus, part, device)
        whole = time.perf_counter() - began
    if not _scores(model, corpus, device):
        return whole * ratio[0]
    began = time.perf_counter()
    for pair in combinations(order, 2):
        encodings_of(model, corpus, pair, index, device)
    encoded = min(time.perf_counter() - began, whole)
    return encoded * ratio[0] + (whole - encoded) * ratio[1]


def _pace(
    job: Job,
    model: Any,
    corpus: Corpus,
    share: float,
    room: float,
    trial: Trial,
    device: torch.device,
    history: pd.DataFrame,
) -> None:
    """Seconds of a step and bytes at most, of each stage, at the job's own batches or reckoned for these.

    `history` is of the small batches that the training has made already.
    """
    wanted = model.settings.batch_size
    sizes, rows, memory = [], [], []
    size = min(FIRST, wanted)
    while True:
        if not sizes and history.step_seconds.max() > SLOW:
            sizes, rows, memory = [size], [history.step_seconds.to_numpy()], [_peak(device)]
            if size == wanted or history.step_seconds.max() * 4**1.5 > STEP:
                break
            size = min(wanted, size * 4)
        _forget_peak(device)
        limit = Limit(seconds=SECONDS, batch_size=size, validates=False)
        history = train(model, corpus, job.seed, device, selection_of(job), limit=limit).history
        sizes.append(size)
        rows.append(history.step_seconds.to_numpy())
        memory.append(_peak(device))
        if size == wanted:
            break
        following = min(wanted, size * 4)
        growth = (following / size) ** 1.5
        grown = memory[-1] + max(0.0, memory[-1] - memory[0] / 2) * growth
        if max(rows[-1]) * growth > STEP or (len(memory) > 1 and grown > room):
            break
        size = following
    times, peak = rows[-1], memory[-1]
    if size != wanted:
        trial.reckoned = True
        power = 1.0
        if len(sizes) > 1:
            slope = np.log(rows[-1].sum() / rows[-2].sum()) / np.log(sizes[-1] / sizes[-2])
            power = float(np.clip(slope, 1.0, 2.0))
            peak += max(0.0, memory[-1] - memory[-2]) * (wanted - size) / (sizes[-1] - sizes[-2])
        times = times * (wanted / size) ** power
    trial.memory = float(peak)
    for stage, seconds in zip(model.stages(), times, strict=True):
        steps = max(1, steps_of(corpus, wanted, stage.modalities, steps_wanted(model, corpus, wanted)))
        asked = getattr(model.settings, "epoch_steps", 0) and corpus.classes is None
        steps = steps if asked else max(1, math.ceil(steps * share))
        trial.stages.append(
            {"name": stage.name, "epochs": stage.epochs, "steps": steps, "step_seconds": float(seconds)}
        )


def _forget_peak(device: torch.device) -> None:
    """Begin the measurement of memory anew, where the system can do that."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        return
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def _peak(device: torch.device) -> float:
    """Bytes at most since then: of the graphics card, or of the process."""
    if device.type == "cuda":
        return float(torch.cuda.max_memory_allocated(device))
    with suppress(OSError):
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return float(line.split()[1]) * 1024
    from crossmodal.files import peak_memory_mib

    return peak_memory_mib() * 2**20
