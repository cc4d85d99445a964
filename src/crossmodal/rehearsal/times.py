"""Estimates of the time and memory of the training steps and rankings of a whole run, from small ones.

Steps are timed with small batches first. Larger batches follow, up to the job's own size, as long as the next one fits
into the time and memory of a rehearsal; beyond that, the values are extrapolated from the last two sizes. Rankings are
timed in the same way, with growing numbers of items.
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

SECONDS = 0.5  # duration of the timing of one batch size, and the limit of a larger ranking
STEP = 3.0  # seconds that a step of the next size is allowed to take
SLOW = 0.5  # seconds from which on a single timing suffices


@dataclass(frozen=True)
class Plan:
    """The settings of a run's measurement."""

    job: Job
    limit: Limit  # of its trial
    selection: Selection | None  # how the best epoch is chosen; None for a closed form
    share: dict[str, float]  # partition: items of the real data set per item here
    room: float  # bytes
    folder: Path  # of the run
    measured: bool = True  # otherwise everything is estimated from the trial alone


@dataclass(frozen=True)
class Pace:
    """Times and memory of a run's training steps."""

    seconds: list[float]  # per step, one value per stage
    memory: float  # peak bytes
    reckoned: bool


def clock_of(threads: int) -> Callable[[], float]:
    """The clock that a trial is timed by, in seconds.

    With a single thread it is the processor's time, which does not count the work of other processes.
    """
    return time.process_time if threads == 1 and not torch.cuda.is_available() else time.perf_counter


def ratio(whole: Corpus, few: Corpus, part: str, share: dict[str, float]) -> tuple[float, float]:
    """The factors from `few` to the whole data set of the number of ranked items, and of (query, item) pairs."""
    factors = []
    for modality, inputs in whole.inputs.items():
        count = len(few.inputs[modality].where(part))
        if count:
            factors.append(len(inputs.where(part)) * share.get(part, 1.0) / count)
    factors = sorted(factors or [1.0])
    return float(np.mean(factors)), float(factors[-1] * factors[0 if len(factors) < 2 else -2])


def validated(model: base.Model, corpus: Corpus, plan: Plan, device: torch.device) -> None:
    """Validate the model like the training loop."""
    plan.selection.validate(model, corpus, "val", device, None)


def tested(model: base.Model, corpus: Corpus, plan: Plan, device: torch.device) -> None:
    """Test the model like `evaluate` once data and model are loaded."""
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
    """Seconds that `make` takes with all items of the real data set.

    Parameters
    ----------
    first : seconds for the few items of the trial.
    fixed : the part of `first` that does not grow with the items.
    """
    few = corpus.sampled(plan.limit.items)
    linear, square = ratio(corpus, few, part, plan.share)
    scored = plan.job.ranked and _scores(model, few, part, device)
    if first - fixed > 2 * SLOW or not plan.measured:
        return min(first, fixed) + max(0.0, first - fixed) * (square if scored else linear)
    small = _seconds(make, model, few, plan, device)  # the first call was slower, by an excess that occurs once
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
    """Whether a model that ranks scores each pair of a query and an item, rather than comparing vectors."""
    if not model.trains:  # closed forms compare vectors
        return False
    if type(model).score is not base.Model.score and type(model).compares_vectors is base.Model.compares_vectors:
        return True
    first, second = [*model.reads][:2]
    index = {m: corpus.inputs[m].where(part)[:1] for m in (first, second)}
    return not model.compares_vectors(*encodings_of(model, corpus, (first, second), index, device).values())


def _encoding(model: base.Model, corpus: Corpus, part: str, plan: Plan, device: torch.device) -> float:
    """Seconds to encode all items of a partition for every pair of modalities."""
    order = [*model.reads]
    index = {m: corpus.inputs[m].where(part) for m in order}
    began = plan.limit.clock()
    for pair in combinations(order, 2):
        encodings_of(model, corpus, pair, index, device)
    return plan.limit.clock() - began


def pace(model: base.Model, corpus: Corpus, plan: Plan, device: torch.device, history: pd.DataFrame) -> Pace:
    """Seconds per step and peak bytes of each stage, measured with the job's own batch size or extrapolated to it.

    `history` holds the epochs of the trial with small batches.
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
    """Bytes that steps may take: the memory of the graphics card, or else `room`."""
    return 0.9 * torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else room


def forget_peak(device: torch.device) -> None:
    """Reset the measurement of peak memory, where the system can do that."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        return
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def peak(device: torch.device) -> float:
    """Peak bytes since `forget_peak`, of the graphics card or else of the process."""
    if device.type == "cuda":
        return float(torch.cuda.max_memory_allocated(device))
    with suppress(OSError):
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return float(line.split()[1]) * 1024
    from crossmodal.core.files import peak_memory_mib

    return peak_memory_mib() * 2**20
