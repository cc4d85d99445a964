"""Sweeps: values of settings that are tried for a run before it is trained; the choice is made on validation items."""

from __future__ import annotations

import random
import re
from collections.abc import Mapping
from decimal import Decimal
from itertools import product
from pathlib import Path
from typing import Any

from pydantic import Field

from crossmodal.core.display import setting as shown
from crossmodal.core.errors import UserError
from crossmodal.core.files import read_record, sha256_json
from crossmodal.experiments.settings import Strict

CHOICE = "choice.json"
LONGEST = 100  # characters of the name of a candidate, which becomes part of a file's name


class Budget(Strict):
    """How much is tried for every swept system, so that all have the same chance."""

    budget: int | None = Field(
        None, ge=2, description="number of combinations tried per swept experiment; of larger grids, so many are drawn"
    )
    seed: int = 0


class Sweep(Strict):
    """What is tried for a run, and what was chosen."""

    values: dict[str, list[Any]]
    """Setting to the values that are tried of it."""
    budget: int | None = None
    seed: int = 0
    choice: dict[str, Any] | None = None
    """The record of the choice, as `choice.json` has it; None until the candidates have been compared."""

    @property
    def identity(self) -> dict[str, Any]:
        """What the candidates depend on: all but the choice, which follows from them."""
        return self.model_dump(exclude={"choice"})

    @property
    def grid(self) -> list[dict[str, Any]]:
        """All combinations of the values."""
        return [dict(zip(self.values, values, strict=True)) for values in product(*self.values.values())]

    @property
    def candidates(self) -> dict[str, dict[str, Any]]:
        """{name: settings} of the combinations that are tried, in the order of the grid.

        The names are such as `lr2e-4+margin2e-1`. Of a grid with more combinations than the budget, so many are drawn.
        """
        grid = self.grid
        if self.budget is not None and len(grid) > self.budget:
            drawn = random.Random(self.seed).sample(range(len(grid)), self.budget)
            grid = [grid[index] for index in sorted(drawn)]
        names = ["+".join(f"{name}{slug(value)}" for name, value in one.items()) for one in grid]
        if len(set(names)) < len(names) or max(map(len, names)) > LONGEST:
            names = [f"{names[i][:LONGEST]}-{sha256_json(one)[:8]}" for i, one in enumerate(grid)]
        return dict(zip(names, grid, strict=True))


def check_values(values: Mapping[str, list[Any]]) -> None:
    """Check the values that an experiment sweeps.

    Raises
    ------
    ValueError : a setting without values, a value that occurs twice, or a single combination.
    """
    for name, tried in values.items():
        if not tried:
            raise ValueError(f"{name}: names no value; give a list of those that are tried")
        if len({sha256_json(value) for value in tried}) < len(tried):
            raise ValueError(f"{name}: {shown(tried)}: a value occurs twice; name each of them once")
    if values and max(len(tried) for tried in values.values()) < 2:
        raise ValueError("has a single combination of values, so that there is no choice; put it into `settings`")


def check_budgets(paper: str, sweeps: Mapping[str, Mapping[str, list[Any]]], chance: Budget) -> None:
    """Check that all swept experiments of a paper try the same number of combinations.

    Raises
    ------
    UserError : two of them try different numbers.
    """
    counts = {
        name: len(Sweep(values=dict(values), **chance.model_dump()).candidates)
        for name, values in sweeps.items()
        if values
    }
    if counts and min(counts.values()) < max(counts.values()):
        most, least = max(counts, key=counts.__getitem__), min(counts, key=counts.__getitem__)
        raise UserError(
            f"papers/{paper}.yaml: experiment {most!r} sweeps {counts[most]} combinations and {least!r} "
            f"{counts[least]}; systems that are compared need the same chance: give both as many, or set "
            f"sweeps.budget in params.yaml to {counts[least]} or less"
        )


def slug(value: Any) -> str:
    """A value as part of a file's name: .0002 as `2e-4`, True as `on`, a list by its entries."""
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, float):
        _, digits, exponent = Decimal(repr(value)).normalize().as_tuple()
        if isinstance(exponent, int) and (exponent < 0 or exponent > 3):
            return f"{'-' * (value < 0)}{''.join(map(str, digits))}e{exponent}"
        return f"{value:.0f}"
    if isinstance(value, list | tuple):
        return "_".join(map(slug, value))
    return re.sub(r"[^a-z0-9_-]+", "_", str(value).lower())


def folder_of(results: str | Path, run: str) -> Path:
    """The folder of a sweep's files, beside the seeds of its run DATASET/SPLIT/NAME[/seedN]."""
    return Path(results, "runs", *run.split("/")[:3], "sweep")


def tried_file(folder: Path, candidate: str) -> Path:
    """The record of a candidate."""
    return folder / "tried" / f"{candidate}.json"


def choose(records: Mapping[str, Mapping[str, Any]]) -> str:
    """The candidate with the largest value on validation items; the first of several such.

    Parameters
    ----------
    records : candidate to its record, whose `value` is None where its training diverged.

    Raises
    ------
    UserError : the training of every candidate diverged.
    """
    values = {name: record["value"] for name, record in records.items() if record["value"] is not None}
    if not values:
        raise UserError(f"the training of all {len(records)} candidates diverged; sweep lower learning rates")
    return max(values, key=values.__getitem__)


def recorded(folder: Path, digest: str, sweep: Sweep) -> dict[str, Any] | None:
    """The record of a sweep's choice; None before it is made, and for one of other candidates.

    Parameters
    ----------
    digest : identity of the run with its sweep, apart from the seed.

    Raises
    ------
    UserError : the file is damaged, or its choice is none of the candidates.
    """
    path = folder / CHOICE
    if not path.exists():
        return None
    record = read_record(path)
    if record.get("digest") != digest:
        return None
    if record.get("settings") not in [*sweep.candidates.values()] or not isinstance(record.get("tried"), list):
        raise UserError(f"{path}: names no candidate of the sweep as its choice; delete the file: it is made again")
    return record


def sentence(record: Mapping[str, Any]) -> str:
    """What a table's note says of a sweep: the choice, its budget and all that was tried.

    Parameters
    ----------
    record : the record of a choice, as the file `choice.json` has it.
    """
    chosen, tried = _listed(record["settings"]), record["tried"]
    values = ", ".join(
        f"{_listed(one['settings'])}: {'diverged' if one['value'] is None else format(one['value'], '.1f')}"
        for one in tried
    )
    drawn = (
        f" of {record['combinations']}, drawn with seed {record['drawn_with']}"
        if record["combinations"] > len(tried)
        else ""
    )
    return (
        f"{chosen}, chosen from {len(tried)} combinations{drawn} by {record['label']} on validation items with seed "
        f"{record['seed']} ({values})"
    )


def _listed(settings: Mapping[str, Any]) -> str:
    return " and ".join(f"{name} {shown(value)}" for name, value in settings.items())
