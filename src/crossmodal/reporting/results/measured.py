"""What runs have measured and what each of them was made with: the two sides that a check of results compares."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from crossmodal.core.errors import UserError
from crossmodal.core.files import read_parquet
from crossmodal.experiments import Job, job_in
from crossmodal.reporting.results import metrics, runs

log = logging.getLogger(__name__)

RUN = ["dataset", "split", "model", "variant"]
NUMBER = ["task", "aspect", "metric", "protocol"]
TYPES = {name: kind for name, kind in metrics.TYPES.items() if name != "paper"}
"""The columns of the numbers: those of `metrics.parquet`, one row per number however many papers share it."""
NAMES = ("dataset", "split", "model", "variant", "seed", "threads", "origin", "sweep")
"""Fields of a job that say which run it is or how it was computed, and not what it was set to."""
DRAWN = ("items", "split", "source.items", "source.split")
"""Entries of a run's data which no arithmetic of the machine can change."""


@dataclass(frozen=True)
class Facts:
    """What the weights of a run depend on; all of it is empty for a control, which is not trained."""

    settings: dict[str, Any] = field(default_factory=dict)
    """Its settings with all defaults; of a path only the name, since it may lie elsewhere on another machine."""
    data: dict[str, str] = field(default_factory=dict)
    """The hashes of its data, as its manifest names them."""
    source: str = ""
    """The hash of the code of its training."""
    threads: int = 0
    machine: dict[str, str] = field(default_factory=dict)
    """Its kind: architecture, system, processor, and the graphics card if the run was trained there."""
    versions: dict[str, str] = field(default_factory=dict)

    def other_settings(self, other: Facts) -> list[str]:
        """`name: value here, value there` for each setting that both have and that differs."""
        mine, its = flat(self.settings), flat(other.settings)
        return [f"{key}: {_shown(mine[key])} here, {_shown(its[key])} there" for key in mine
                if key in its and mine[key] != its[key]]  # fmt: skip

    def other_data(self, other: Facts, names: tuple[str, ...] = DRAWN) -> list[str]:
        """The names of the data that both have and that differ."""
        return [
            name for name in names if name in self.data and self.data[name] != other.data.get(name, self.data[name])
        ]

    def why_not_exact(self, other: Facts) -> list[str]:
        """The reasons why runs may differ in their last bits; empty where they must be equal."""
        if not self.source or not other.source:
            return ["a manifest is missing"]
        names = sorted({*self.versions, *other.versions})
        pairs = [(name, self.versions.get(name, "none"), other.versions.get(name, "none")) for name in names]
        reasons = [f"{name} {mine} here, {its} there" for name, mine, its in pairs if mine != its]
        if self.machine != other.machine:
            reasons.append(f"machine: {_shown(self.machine)} here, {_shown(other.machine)} there")
        if self.threads != other.threads:
            reasons.append(f"threads: {self.threads} here, {other.threads} there")
        if self.source != other.source:
            reasons.append("the code of the training differs")
        return reasons


@dataclass(frozen=True)
class Measured:
    """Numbers of runs, and the facts of each run by its key."""

    numbers: pd.DataFrame
    """The columns `TYPES`, in a fixed order."""
    facts: Mapping[str, Facts]


def read(target: Path, folder: Path, jobs: Mapping[str, Job]) -> Measured:
    """The results that are collected in a folder.

    Parameters
    ----------
    target : holds `metrics.parquet`.
    folder : `results/runs`.
    jobs : the jobs that were collected.

    Raises
    ------
    UserError : nothing is collected, or a run that no job is any more.
    """
    path = target / "metrics.parquet"
    numbers = ordered(read_parquet(path, [*metrics.TYPES]).drop(columns="paper").drop_duplicates())
    keys = keys_of(numbers).unique()
    if unknown := [key for key in keys if key not in jobs]:
        raise UserError(f"{path}: has the run {unknown[0]}, which is not planned any more; collect again")
    return Measured(numbers, {key: facts_of(folder / key, jobs[key]) for key in keys})


def ordered(numbers: pd.DataFrame) -> pd.DataFrame:
    """Numbers with the columns `TYPES` in the order of their keys, so that equal numbers make an equal table."""
    numbers = numbers[[*TYPES]].astype(TYPES)
    return numbers.sort_values([*RUN, "seed", *NUMBER], kind="stable").reset_index(drop=True)


def keys_of(numbers: pd.DataFrame) -> pd.Series:
    """The run of each row, as `Job.key`."""
    return runs_of(numbers) + "/seed" + numbers.seed.astype("string")


def runs_of(numbers: pd.DataFrame) -> pd.Series:
    """The run of each row without its seed: DATASET/SPLIT/MODEL[.VARIANT]."""
    names = [runs.name(m, v) for m, v in zip(numbers.model, numbers.variant, strict=True)]
    return numbers.dataset + "/" + numbers.split + "/" + pd.Series(names, numbers.index, dtype="string")


def facts_of(folder: Path, job: Job) -> Facts:
    """What is recorded of the run in a folder; as far as a file is missing or damaged, what is planned or nothing."""
    if job.control:
        return Facts()
    manifest = runs.manifest(folder)
    try:
        job = job_in(folder)
    except UserError as error:
        log.warning("%s", error)
    of_settings = {key: value for key, value in job.identity.items() if key not in NAMES} | {"settings": job.settings}
    hardware = manifest.get("hardware") or {}
    device = str(manifest.get("device") or "cpu")
    named = ("machine", "system", "cpu", *(("gpu",) if device != "cpu" else ()))
    return Facts(
        settings=json.loads(json.dumps(_without_folders(of_settings))),
        data=_texts(manifest.get("data")),
        source=manifest.get("source") or "",
        threads=job.threads,
        machine=_texts({"device": device, **{key: hardware[key] for key in named if hardware.get(key)}}),
        versions=_texts(manifest.get("versions")),
    )


def _texts(values: Mapping[str, Any] | None) -> dict[str, str]:
    return {str(key): str(value) for key, value in (values or {}).items()}


def _without_folders(value: Any) -> Any:
    """A value of settings with the last parts of paths in their place."""
    if isinstance(value, Mapping):
        return {str(key): _without_folders(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_without_folders(part) for part in value]
    return value.replace("\\", "/").rstrip("/").rpartition("/")[2] if isinstance(value, str) else value


def flat(values: Mapping[str, Any]) -> dict[str, Any]:
    """Settings by their names: a model's own by these alone, those of inputs as `inputs.image`.

    >>> flat({"relevance": "group", "inputs": {"image": "world"}, "settings": {"lr": 0.1}})
    {'relevance': 'group', 'inputs.image': 'world', 'lr': 0.1}
    """
    parts: dict[str, Any] = {}
    for key, value in values.items():
        before = "" if key == "settings" else f"{key}."
        parts |= {f"{before}{name}": part for name, part in value.items()} if isinstance(value, dict) else {key: value}
    return parts


def _shown(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(map(str, value.values())) or "unknown"
    text = json.dumps(value) if not isinstance(value, str) else value
    return text if len(text) <= 60 else f"{text[:57]}..."
