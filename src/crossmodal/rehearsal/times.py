"""What steps and rankings of a whole run will take, reckoned from small ones.

Steps are made with small batches first. Larger ones follow, up to the job's own, for as long as the next will fit into
the time and the memory that a rehearsal may take; what is not reached is reckoned from the last two. So it is with the
items that are ranked.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from crossmodal.corpus.corpus import Corpus
from crossmodal.experiments import Job
from crossmodal.models import base
from crossmodal.tasks.base import tasks
from crossmodal.tasks.ranked.encodings import encodings_of
from crossmodal.training.loop import Limit, Selection, train

SECONDS = 0.5  # that steps of a size are timed for, and that a larger ranking may take
STEP = 3.0  # seconds that a step of the next size may be expected to take
SLOW = 0.5  # seconds from which on what was timed once is not timed again


@dataclass(frozen=True)
class Plan:
    """What a run is measured with."""

    job: Job
    limit: Limit  # of its trial
    selection: Selection | None  # how its epochs are chosen; None of a closed form
    share: dict[str, float]  # partition: items that there will be for each that is here
    room: float  # bytes
    folder: Path  # of the run
    measured: bool = True  # else all is reckoned from the trial alone


@dataclass(frozen=True)
class Pace:
    seconds: list[float]  # of a step of each stage
    memory: float  # bytes at most
    reckoned: bool


def clock_of(threads: int) -> Callable[[], float]:
    """What a trial is timed by, in seconds.

    Where one thread computes, those of the processor: what other processes do in the meantime is not counted.
    """
    return time.process_time if threads == 1 and not torch.cuda.is_available() else time.perf_counter


def ratio(whole: Corpus, few: Corpus, part: str, share: dict[str, float]) -> tuple[float, float]:
    """How many times as many items there will be to rank as `few` has, and pairs of a query and an item."""
    factors = []
    for modality, one in whole.inputs.items():
        count = len(few.inputs[modality].where(part))
        if count:
            factors.append(len(one.where(part)) * share.get(part, 1.0) / count)
    factors = sorted(factors or [1.0])
    return float(np.mean(factors)), float(factors[-1] * factors[0 if len(factors) < 2 else -2])


def validated(model: base.Model, corpus: Corpus, plan: Plan, device: torch.device) -> None:
    """A validation as the loop makes it."""
    plan.selection.validate(model, corpus, "val", device, None)


def tested(model: base.Model, corpus: Corpus, plan: Plan, device: torch.device) -> None:
    """A test as `evaluate` makes it once data and model are there."""
    with tempfile.TemporaryDirectory(dir=plan.folder.parent) as scratch:
        for name in plan.job.tasks:
            tasks()[name].evaluate(model, corpus, plan.job.folds, device, Path(scratch))


def ranking(
    model: base.Model,
    corpus: Corpus,
    part: str,
    plan: Plan,
    device: torch.device,
    make: Callable[[base.Model, Corpus, Plan, torch.device], None],
    first: float,
    fixed: float = 0.0,
) -> float:
    """Seconds that `make` takes with all the items there will be.

    Parameters
    ----------
    first : those that the few items of the trial took. fixed : of these, those that more items do not change.
    """
    few = corpus.sampled(plan.limit.items)
    linear, square = ratio(corpus, few, part, plan.share)
    scored = _scores(model, few, part, device)
    if first - fixed > 2 * SLOW or not plan.measured:
        return min(first, fixed) + max(0.0, first - fixed) * (square if scored else linear)
    small = _seconds(make, model, few, plan, device)  # the first time was slower: what it took more is taken once
    more = corpus.sampled(plan.limit.items * int(min(32.0, max(1.0, SECONDS / small))))
    growth, _ = ratio(more, few, part, {})
    large = _seconds(make, model, more, plan, device) if growth > 1 else small
    once = max(0.0, first - small)
    linear, square = ratio(corpus, more, part, plan.share)
    if not scored:
        slope = large if growth <= 1 else min(large, max(0.0, large - small) / (1 - 1 / growth))
        return once + large + slope * (linear - 1)
    encoded = min(large, _encoding(model, more, part, plan, device))
    return once + encoded * linear + (large - encoded) * square


def _seconds(make: Callable, model: base.Model, corpus: Corpus, plan: Plan, device: torch.device) -> float:
    began = plan.limit.clock()
    make(model, corpus, plan, device)
    return plan.limit.clock() - began


def _scores(model: base.Model, corpus: Corpus, part: str, device: torch.device) -> bool:
    """Whether the model scores each pair of a query and an item, rather than comparing vectors."""
    if not model.trains:  # closed forms compare vectors
        return False
    if type(model).score is not base.Model.score and type(model).compares_vectors is base.Model.compares_vectors:
        return True
    first, second = [*model.reads][:2]
    index = {m: corpus.inputs[m].where(part)[:1] for m in (first, second)}
    return not model.compares_vectors(*encodings_of(model, corpus, (first, second), index, device).values())


def _encoding(model: base.Model, corpus: Corpus, part: str, plan: Plan, device: torch.device) -> float:
    """Seconds in which all items of a partition are encoded for each pair of modalities."""
    order = [*model.reads]
    index = {m: corpus.inputs[m].where(part) for m in order}
    began = plan.limit.clock()
    for pair in combinations(order, 2):
        encodings_of(model, corpus, pair, index, device)
    return plan.limit.clock() - began


def pace(model: base.Model, corpus: Corpus, plan: Plan, device: torch.device, history: pd.DataFrame) -> Pace:
    """Seconds of a step and bytes at most, of each stage, at the job's own batches or reckoned for these.

    `history` is of the small batches of the trial.
    """
    wanted, size = model.settings.batch_size, plan.limit.batch_size
    room = _room(device, plan.room)
    sizes, rows, memory = [], [], []
    if not plan.measured or history.step_seconds.max() > SLOW:
        sizes, rows, memory = [size], [history.step_seconds.to_numpy()], [peak(device)]
    while plan.measured:
        if sizes:
            following = min(wanted, sizes[-1] * 4)
            growth = (following / sizes[-1]) ** 1.5
            added = (memory[-1] - memory[-2]) / (sizes[-1] - sizes[-2]) if len(sizes) > 1 else 0.0
            grown = memory[-1] + 2.0 * max(0.0, added) * (following - sizes[-1])
            if sizes[-1] == wanted or max(rows[-1]) * growth > STEP or grown > room:
                break
            size = following
        forget_peak(device)
        limit = Limit(seconds=SECONDS, batch_size=size, validates=False, clock=plan.limit.clock)
        history = train(model, corpus, plan.job.seed, device, plan.selection, limit=limit).history
        sizes.append(size)
        rows.append(history.step_seconds.to_numpy())
        memory.append(peak(device))
    times, most = rows[-1], memory[-1]
    if sizes[-1] == wanted:
        return Pace([*map(float, times)], float(most), reckoned=False)
    power = 1.0
    if len(sizes) > 1:
        slope = np.log(rows[-1].sum() / rows[-2].sum()) / np.log(sizes[-1] / sizes[-2])
        power = float(np.clip(slope, 1.0, 2.0))
        most += max(0.0, memory[-1] - memory[-2]) * (wanted - sizes[-1]) / (sizes[-1] - sizes[-2])
    return Pace([*map(float, times * (wanted / sizes[-1]) ** power)], float(most), reckoned=True)


def _room(device: torch.device, room: float) -> float:
    """Bytes that steps may take: a graphics card's own, or those given."""
    return 0.9 * torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else room


def forget_peak(device: torch.device) -> None:
    """Begin the measurement of memory anew, where the system can do that."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        return
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def peak(device: torch.device) -> float:
    """Bytes at most since then: of the graphics card, or of the process."""
    if device.type == "cuda":
        return float(torch.cuda.max_memory_allocated(device))
    with suppress(OSError):
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return float(line.split()[1]) * 1024
    from crossmodal.files import peak_memory_mib

    return peak_memory_mib() * 2**20
