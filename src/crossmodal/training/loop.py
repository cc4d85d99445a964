"""The training loop (Lightning Fabric): stages, alternating optimisers, model selection, checkpoints and resumption.

The order of an epoch and every random draw in it follow from (seed, stage, epoch), and a checkpoint is written
atomically at the end of each epoch, so that an interrupted run gives the same bits as an uninterrupted one.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
import torch
from torch import nn

from crossmodal.core.console import progress
from crossmodal.core.errors import UserError
from crossmodal.core.files import atomic_write
from crossmodal.core.lazy import without_imports
from crossmodal.corpus.batches import batches, steps_of, steps_over_all
from crossmodal.corpus.corpus import Corpus
from crossmodal.models import base

with without_imports("torchmetrics"):  # it would import torchvision and matplotlib for two seconds
    from lightning_fabric import Fabric

log = logging.getLogger(__name__)


@dataclass
class State:
    """The content of a checkpoint."""

    stage: int
    epoch: int  # number of finished epochs of the stage
    model: dict[str, torch.Tensor]
    optimisers: dict[str, Any]
    best: dict[str, torch.Tensor]
    best_sum: float
    history: list[dict[str, Any]]


@dataclass(frozen=True)
class TrainingResult:
    """The history of a training, and its best epoch."""

    history: pd.DataFrame  # one row per epoch
    best_epoch: int
    resumed_at: int  # number of epochs that an earlier, interrupted process had finished


class DivergedError(UserError):
    """The loss or another term of the training is not finite."""


class Selection(NamedTuple):
    """The choice of the best epoch, by the largest value of a number that is measured on validation items."""

    criterion: str
    """Name of that number among those that `validate` returns."""
    validate: Callable[[base.Model, Corpus, str, torch.device, tuple[str, ...] | None], dict[str, float]]
    """Takes the model, the data, the partition, the device and the modalities that the stage trains (None for all)."""


@dataclass(frozen=True)
class Limit:
    """How much of a run is done in a trial: one epoch per stage, with a limited number of steps."""

    steps: int = 2
    seconds: float = 0.0  # steps go on until so many seconds have passed since the first step, which is a slow one
    batch_size: int | None = None  # used in place of the model's own
    items: int = 100  # number of ranked groups or items per modality and partition (`Corpus.sampled`)
    validates: bool = True  # whether epochs are validated
    saves: bool = True  # whether checkpoints are written
    clock: Callable[[], float] = time.perf_counter  # the clock by which the trial is timed


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
    selection : the criterion for the best epoch.
    checkpoint : file from which the run resumes, if it exists and has the same `identity`.
    identity : hash of everything on which the run depends.
    limit : how much is done, for a trial of the run; the history then also has the `step_seconds` (per step) and the
        `closing_seconds` (from the end of an epoch's validation to the next epoch).

    Raises
    ------
    DivergedError : the loss or another term is not finite.
    """
    fabric = Fabric(accelerator="cuda" if device.type == "cuda" else "cpu", devices=_devices(device))
    state = _restore(checkpoint, identity)
    resumed_at = len(state.history) if state else 0
    if resumed_at:
        log.info("resuming after epoch %d from %s", resumed_at, checkpoint)
    stages = model.stages() if limit is None else [replace(stage, epochs=1) for stage in model.stages()]
    model.to(device)
    clock = limit.clock if limit else time.perf_counter
    history = list(state.history) if state else []
    for number, stage in enumerate(stages):
        if state and number < state.stage:
            model.begin(stage)
            continue  # its weights are among the restored ones
        model.begin(stage)
        optimisers = model.optimisers(stage)
        # A trial has one epoch per stage, whose last weights are the best ones, so that no copy is needed.
        best, best_sum, first = _weights(model) if limit else deepcopy(_weights(model)), -1.0, 0
        if state and number == state.stage:
            model.load_state_dict(state.model)
            for name, optimiser in optimisers.items():
                optimiser.load_state_dict(state.optimisers[name])
            best, best_sum, first = state.best, state.best_sum, state.epoch
        _, *wrapped = fabric.setup(model, *optimisers.values(), move_to_device=False)
        turns = dict(zip(optimisers, wrapped, strict=True))
        steps = _steps(model, corpus, stage, limit)
        amount = {"total": steps * stage.epochs, "done": steps * first, "unit": "steps"}
        with progress(stage.name, **amount) as advance:
            for epoch in range(first, stage.epochs):
                row = _epoch(fabric, model, corpus, turns, stage, seed + 7919 * number, epoch, limit, advance)
                began = clock()
                if limit is not None and not limit.validates:
                    history.append({"epoch": len(history) + 1, "stage": stage.name, **row})
                    continue
                scores = selection.validate(model, corpus, "val", device, stage.modalities)
                row |= {f"val_{name}": value for name, value in scores.items()}
                row["validation_seconds"] = clock() - began
                history.append({"epoch": len(history) + 1, "stage": stage.name, **row})
                validated = clock()
                if scores[selection.criterion] > best_sum or not stage.selects:
                    best_sum = scores[selection.criterion]
                    for name, value in _weights(model).items():
                        best[name].copy_(value)  # in place, since a third copy of the weights takes much memory
                log.info(
                    "%s epoch %d/%d: loss %.4f, validation %s %.1f (best %.1f), lr %.2g",
                    *(stage.name, epoch + 1, stage.epochs, row["loss"]),
                    *(selection.criterion, scores[selection.criterion], best_sum),
                    row["learning_rate"],
                )
                advance(0, f"loss {row['loss']:.3f} · best on validation {best_sum:.1f}")
                if checkpoint is not None and (limit is None or limit.saves):
                    states = {name: optimiser.state_dict() for name, optimiser in optimisers.items()}
                    now = State(number, epoch + 1, _weights(model), states, best, best_sum, history)
                    with atomic_write(checkpoint) as temporary:
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
    except Exception as error:  # what torch raises for a damaged file is not documented
        log.warning("%s: cannot be read (%s); training begins anew", checkpoint, error)
        return None
    if saved.pop("identity") != identity:
        log.info("%s: belongs to other data, settings or code; training begins anew", checkpoint)
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
    advance: Callable[..., None] = lambda: None,
) -> dict[str, Any]:
    """Train one epoch, and return the means of the loss terms and gradient norms, the learning rate and the time."""
    torch.manual_seed(seed * 1_000_003 + epoch)  # dropout depends on (seed, epoch) alone, for exact resumption
    factor = stage.lr_factor ** (epoch // stage.lr_drop)
    for optimiser in turns.values():
        for group in optimiser.param_groups:
            group.setdefault("initial_lr", group["lr"])
            group["lr"] = group["initial_lr"] * factor
    model.train()
    size = (limit and limit.batch_size) or model.settings.batch_size
    wanted = steps_wanted(model, corpus, size)
    steps = _steps(model, corpus, stage, limit)
    sums: dict[str, torch.Tensor] = {}
    clip, by = model.settings.clip, model.settings.clip_by
    began = time.perf_counter()
    done = 0
    drawn = getattr(model.settings, "sampling", "shuffled")
    captions = getattr(model.settings, "captions_per_image", 1)
    stream = batches(
        corpus, size, seed, epoch, model.unannotated, fabric.device, stage.modalities, wanted, drawn, captions
    )
    ended: list[float] = []  # the times at which the steps of a trial ended
    for step, batch in enumerate(stream):
        if limit is not None and step >= limit.steps and ended[-1] - ended[0] >= limit.seconds:
            break
        share = (epoch + step / steps) / stage.epochs
        for turn, optimiser in turns.items():
            terms = model.loss(batch, share, turn)
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
        advance()
        if limit is not None:
            _wait(fabric.device)
            ended.append(limit.clock())
    means = {name: float(value) / max(done, 1) for name, value in sums.items()}  # the only wait for the device
    seconds = time.perf_counter() - began
    if not all(torch.isfinite(torch.tensor(value)) for value in means.values()):
        raise DivergedError(
            f"training diverged in epoch {epoch + 1}: {means}; lower the model's `lr` in params.yaml or clip harder"
        )
    rate = next(iter(turns.values())).param_groups[0]["lr"]
    row = {**means, "learning_rate": rate, "steps": done, "seconds": seconds}
    return row if limit is None else {**row, "step_seconds": (ended[-1] - ended[0]) / max(done - 1, 1) or seconds}


def _steps(model: base.Model, corpus: Corpus, stage: base.Stage, limit: Limit | None) -> int:
    """The number of steps in an epoch of a stage."""
    size = (limit and limit.batch_size) or model.settings.batch_size
    return max(1, steps_of(corpus, size, stage.modalities, steps_wanted(model, corpus, size)))


def steps_wanted(model: base.Model, corpus: Corpus, size: int) -> int:
    """The number of batches per epoch by the model's settings; 0 for one pass over the pairs."""
    wanted = getattr(model.settings, "epoch_steps", 0)
    if not wanted and getattr(model.settings, "epoch_over", "annotated") == "all":
        return steps_over_all(corpus, size)
    return wanted


def _wait(device: torch.device) -> None:
    """Wait until a graphics card has finished its work."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _clip(optimiser: Any, clip: float, by: str) -> dict[str, torch.Tensor]:
    """Clip the gradients of each network of an optimiser by norm or by value, and return their norms before clipping.

    Optimiser groups with the same name, or without a name, are one network whose parts have their own learning rates.
    Networks are clipped separately, because an adversary's gradients may be a hundred times as large as those of the
    encoders, which would hardly be trained if both were clipped together. The norms are computed in any case, since
    they distinguish a run that diverges from one that does not learn.
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
