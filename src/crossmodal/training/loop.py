"""The training loop (Lightning Fabric): stages, turns of optimisers, selection on validation, checkpoints, resume.

An epoch's order and every random draw in it follow from (seed, stage, epoch), and a checkpoint is written whole at each
epoch's end: a run that was killed and goes on gives the same bits as one that was not.
"""

from __future__ import annotations

import logging
import os
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from copy import deepcopy
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
import torch
from torch import nn

from crossmodal.corpus.batches import batches, steps_of, steps_over_all
from crossmodal.corpus.corpus import Corpus
from crossmodal.errors import UserError
from crossmodal.files import whole
from crossmodal.imports import without
from crossmodal.models import base

with without("torchmetrics"):  # with it Fabric imports torchvision and matplotlib, two seconds of each run's start
    from lightning_fabric import Fabric

log = logging.getLogger(__name__)


@dataclass
class State:
    """All that a checkpoint holds."""

    stage: int
    epoch: int  # epochs done in the stage
    model: dict[str, torch.Tensor]
    optimisers: dict[str, Any]
    best: dict[str, torch.Tensor]
    best_sum: float
    history: list[dict[str, Any]]


@dataclass(frozen=True)
class TrainingResult:
    history: pd.DataFrame
    best_epoch: int
    resumed_at: int  # epochs that an earlier, killed process had done


class Selection(NamedTuple):
    """How an epoch is chosen: by the largest value of one number that is measured on validation items."""

    criterion: str
    """Its name among the numbers that `validate` gives."""
    validate: Callable[[base.Model, Corpus, str, torch.device, tuple[str, ...] | None], dict[str, float]]
    """Takes the partition, and the modalities that the stage trains (None: all)."""


@dataclass(frozen=True)
class Limit:
    """How much of a run is done where it is only tried: one epoch per stage, of so many steps."""

    steps: int = 2
    seconds: float = 0.0  # further steps are made until so many have passed since the first one, which is a slow one
    batch_size: int | None = None  # in place of the model's own
    items: int = 100  # items of each modality that are ranked, of each partition
    validates: bool = True
    saves: bool = True  # whether checkpoints are written
    clock: Callable[[], float] = time.perf_counter  # by which it is timed


def train(
    model: base.Model,
    corpus: Corpus,
    seed: int,
    device: torch.device,
    selection: Selection,
    checkpoint: Path | None = None,
    identity: str = "",
    limit: Limit | None = None,
) -> TrainingResult:
    """Train in place and leave the model with the weights of its best epoch on the validation items.

    Parameters
    ----------
    selection : says which epoch is the best.
    checkpoint : file that the run goes on from, if it is there and of the same `identity`.
    identity : hash of everything that the run depends on.
    limit : how little is done, where the run is only tried; the history then has the `step_seconds` and the
        `closing_seconds` (of what follows the validation of an epoch) as well.

    Raises
    ------
    UserError : the loss is not finite any more.
    """
    fabric = Fabric(accelerator="cuda" if device.type == "cuda" else "cpu", devices=_devices(device))
    state = _restore(checkpoint, identity)
    resumed_at = len(state.history) if state else 0
    if resumed_at:
        log.info("going on after epoch %d from %s", resumed_at, checkpoint)
    stages = model.stages() if limit is None else [replace(stage, epochs=1) for stage in model.stages()]
    model.to(device)
    clock = limit.clock if limit else time.perf_counter
    history = list(state.history) if state else []
    for number, stage in enumerate(stages):
        if state and number < state.stage:
            model.begin(stage)
            continue
        model.begin(stage)
        optimisers = model.optimisers(stage)
        # Where a stage is of one epoch, its last weights are its best ones: no copy is needed.
        best, best_sum, first = _weights(model) if limit else deepcopy(_weights(model)), -1.0, 0
        if state and number == state.stage:
            model.load_state_dict(state.model)
            for name, optimiser in optimisers.items():
                optimiser.load_state_dict(state.optimisers[name])
            best, best_sum, first = state.best, state.best_sum, state.epoch
        _, *wrapped = fabric.setup(model, *optimisers.values(), move_to_device=False)
        turns = dict(zip(optimisers, wrapped, strict=True))
        with _progress(stage, first) as advance:
            for epoch in range(first, stage.epochs):
                row = _epoch(fabric, model, corpus, turns, stage, seed + 7919 * number, epoch, limit)
                began = clock()
                if limit is not None and not limit.validates:
                    history.append({"epoch": len(history) + 1, "stage": stage.name, **row})
                    continue
                found = selection.validate(model, corpus, "val", device, stage.modalities)
                row |= {f"val_{name}": value for name, value in found.items()}
                row["validation_seconds"] = clock() - began
                history.append({"epoch": len(history) + 1, "stage": stage.name, **row})
                validated = clock()
                if found[selection.criterion] > best_sum:
                    best_sum = found[selection.criterion]
                    for name, value in _weights(model).items():
                        best[name].copy_(value)  # in place: a third copy would be more memory than all else
                log.info(
                    "%s epoch %d/%d: loss %.4f, validation %s %.1f (best %.1f), lr %.2g",
                    *(stage.name, epoch + 1, stage.epochs, row["loss"]),
                    *(selection.criterion, found[selection.criterion], best_sum),
                    row["learning_rate"],
                )
                advance(loss=row["loss"], best=best_sum)
                if checkpoint is not None and (limit is None or limit.saves):
                    states = {name: optimiser.state_dict() for name, optimiser in optimisers.items()}
                    now = State(number, epoch + 1, _weights(model), states, best, best_sum, history)
                    with whole(checkpoint) as temporary:
                        torch.save({"identity": identity, **vars(now)}, temporary)
                if limit is not None:
                    history[-1]["closing_seconds"] = clock() - validated
        model.load_state_dict(best)
    frame = pd.DataFrame(history)
    if limit is not None and not limit.validates:
        return TrainingResult(frame, 0, resumed_at)
    last = frame[frame.stage == stages[-1].name]
    return TrainingResult(frame, int(last.epoch.loc[last[f"val_{selection.criterion}"].idxmax()]), resumed_at)


def _devices(device: torch.device) -> list[int] | int:
    return [device.index or 0] if device.type == "cuda" else 1


def _weights(model: nn.Module) -> dict[str, torch.Tensor]:
    return {name: value.detach() for name, value in model.state_dict().items()}


def _restore(checkpoint: Path | None, identity: str) -> State | None:
    if checkpoint is None or not checkpoint.exists():
        return None
    try:
        saved = torch.load(checkpoint, map_location="cpu", weights_only=True)
    except Exception as error:  # whatever a damaged file makes the reader raise
        log.warning("%s: cannot be read (%s); training begins anew", checkpoint, error)
        return None
    if saved.pop("identity") != identity:
        log.info("%s: is of other data, settings or code; training begins anew", checkpoint)
        return None
    return State(**saved)


def _epoch(
    fabric: Fabric,
    model: base.Model,
    corpus: Corpus,
    turns: dict[str, Any],
    stage: base.Stage,
    seed: int,
    epoch: int,
    limit: Limit | None = None,
) -> dict[str, Any]:
    """One pass over the training pairs; means of the loss's terms, the gradient's norm, seconds."""
    torch.manual_seed(seed * 1_000_003 + epoch)  # dropout and the like: a function of (seed, epoch), for exact resume
    factor = stage.lr_factor ** (epoch // stage.lr_drop)
    for optimiser in turns.values():
        for group in optimiser.param_groups:
            group.setdefault("initial_lr", group["lr"])
            group["lr"] = group["initial_lr"] * factor
    model.train()
    size = (limit and limit.batch_size) or model.settings.batch_size
    wanted = steps_wanted(model, corpus, size)
    steps = max(1, steps_of(corpus, size, stage.modalities, wanted))
    sums: dict[str, torch.Tensor] = {}
    clip, by = model.settings.clip, model.settings.clip_by
    began = time.perf_counter()
    done = 0
    drawn = getattr(model.settings, "sampling", "shuffled")
    made = batches(corpus, size, seed, epoch, model.unannotated, fabric.device, stage.modalities, wanted, drawn)
    ended: list[float] = []  # times at which the steps of a run that is only tried came to an end
    for step, batch in enumerate(made):
        if limit is not None and step >= limit.steps and ended[-1] - ended[0] >= limit.seconds:
            break
        progress = (epoch + step / steps) / stage.epochs
        for turn, optimiser in turns.items():
            terms = model.loss(batch, progress, turn)
            optimiser.zero_grad(set_to_none=True)
            fabric.backward(terms["loss"])
            norms = _clip(optimiser, clip, by)
            optimiser.step()
            named = {**terms, **norms}
            for name, value in named.items():
                key = name if len(turns) == 1 or turn == next(iter(turns)) else f"{turn}_{name}"
                value = value.detach()
                sums[key] = sums[key] + value if key in sums else value
        done += 1
        if limit is not None:
            _wait(fabric.device)
            ended.append(limit.clock())
    means = {name: float(value) / max(done, 1) for name, value in sums.items()}  # the only wait for the device
    seconds = time.perf_counter() - began
    if not all(torch.isfinite(torch.tensor(value)) for value in means.values()):
        raise UserError(
            f"training diverged in epoch {epoch + 1}: {means}; lower the model's `lr` in params.yaml or clip harder"
        )
    rate = next(iter(turns.values())).param_groups[0]["lr"]
    row = {**means, "learning_rate": rate, "steps": done, "seconds": seconds}
    return row if limit is None else {**row, "step_seconds": (ended[-1] - ended[0]) / max(done - 1, 1) or seconds}


def steps_wanted(model: base.Model, corpus: Corpus, size: int) -> int:
    """Batches of an epoch that a model's settings ask for; 0: as many as go through the pairs once."""
    wanted = getattr(model.settings, "epoch_steps", 0)
    if not wanted and getattr(model.settings, "epoch_over", "annotated") == "all":
        return steps_over_all(corpus, size)
    return wanted


def _wait(device: torch.device) -> None:
    """Until a graphics card has done what it was told to."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _clip(optimiser: Any, clip: float, by: str) -> dict[str, torch.Tensor]:
    """Clip the gradients of each network that an optimiser trains, by norm or by value; their norms before that.

    Groups of one name, or of none, are one network whose parts learn at rates of their own. A group with a name is a
    network by itself: an adversary's gradients may be a hundred times the encoders', which clipped together with them
    would stand still. The norms are taken either way, since their course tells a run that diverges from one that does
    not learn.
    """
    networks: dict[str, list[nn.Parameter]] = {}
    for group in optimiser.param_groups:
        networks.setdefault(group.get("name", ""), []).extend(p for p in group["params"] if p.grad is not None)
    norms = {}
    for name, parameters in networks.items():
        if clip > 0 and by == "norm":
            norm = nn.utils.clip_grad_norm_(parameters, clip)
        else:
            norm = nn.utils.get_total_norm([p.grad for p in parameters])
            if clip > 0:
                nn.utils.clip_grad_value_(parameters, clip)
        norms[f"{name}_gradient_norm" if name else "gradient_norm"] = norm
    return norms


class _progress:  # noqa: N801
    """A bar on a terminal; elsewhere the log's line an epoch is enough."""

    def __init__(self, stage: base.Stage, first: int):
        self.bar = None
        if sys.stderr.isatty() and not os.environ.get("CROSSMODAL_QUIET"):
            from rich.console import Console
            from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

            columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
            self.bar = Progress(*columns, console=Console(stderr=True), transient=True)
            self.task = self.bar.add_task(stage.name, total=stage.epochs, completed=first)

    def __enter__(self):
        if self.bar is not None:
            self.bar.start()
        return self.advance

    def advance(self, loss: float, best: float) -> None:
        if self.bar is not None:
            self.bar.update(self.task, advance=1, description=f"loss {loss:.3f} · best on validation {best:.1f}")

    def __exit__(self, *_: object) -> None:
        if self.bar is not None:
            with suppress(Exception):
                self.bar.stop()
