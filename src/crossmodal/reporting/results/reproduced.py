"""Whether results agree with a reference set: to the bit, or within the spread of its seeds.

A row is one number of a run over its seeds. Runs that were made alike (the same kind of machine, versions, code and
threads) must be equal in every bit, seed by seed, and controls, which are computed and not trained, but for rounding.
Of all others the means over seeds are compared by a t test at `LEVEL`, with Holm's correction over all of these rows.
The variance over seeds is the reference's own, steadied by that of all runs of the data set under the metric
(`evaluation.spread`): without it three seeds would tell too little, and one seed nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from crossmodal.evaluation.contrasts import SLACK
from crossmodal.evaluation.spread import Prior, prior_of
from crossmodal.evaluation.statistics import holm
from crossmodal.experiments import CONTROLS
from crossmodal.reporting.results.measured import NUMBER, RUN, Facts, Measured, runs_of
from crossmodal.reporting.results.reference import CLAIM_TYPES, VERDICT, Reference
from crossmodal.tasks.base import metric as metric_of

LEVEL = 0.01
EXACT, ROUNDED, SPREAD = "to the bit", "but for rounding", "within the spread of seeds"
EQUAL, WITHIN, OUTSIDE, UNJUDGED = "equal", "within", "outside", "not judged"


@dataclass(frozen=True)
class Row:
    """A number of a run over its seeds, here and in the reference."""

    run: str
    """DATASET/SPLIT/MODEL[.VARIANT]"""
    number: tuple[str, str, str, str]
    """Task, aspect, metric, protocol."""
    ours: float
    theirs: float
    """Means over the seeds that are compared; of a row that should be equal and is not, the first seed that differs."""
    seeds: str
    by: str
    """How the row is judged: one of `EXACT`, `ROUNDED`, `SPREAD`."""
    outcome: str
    bound: float = 0.0
    """The largest difference of the means that agrees."""
    basis: str = ""
    """Where the spread of seeds is known from."""


@dataclass
class Agreement:
    """What a comparison with a reference set has found."""

    folder: str
    rows: list[Row] = field(default_factory=list)
    other_settings: dict[str, list[str]] = field(default_factory=dict)
    """Runs with other settings or data, which are not compared, to what differs."""
    only_here: dict[str, int] = field(default_factory=dict)
    only_there: dict[str, int] = field(default_factory=dict)
    """Runs to the number of their numbers that the other side lacks."""
    why_not_exact: dict[str, int] = field(default_factory=dict)
    """Reasons why runs are not compared to the bit, to the number of these runs."""
    other_features: dict[str, list[str]] = field(default_factory=dict)
    """Runs that must be equal to the bit and yet have read other features, to the names of these."""
    claims: int = 0
    other_verdicts: list[str] = field(default_factory=list)
    """Claims that both have tested, with both verdicts where these differ; nothing fails by them."""

    def of(self, outcome: str) -> list[Row]:
        """The rows with an outcome."""
        return [row for row in self.rows if row.outcome == outcome]

    @property
    def failed(self) -> bool:
        """Whether a row is outside, or nothing could be compared."""
        return bool(self.of(OUTSIDE)) or len(self.of(UNJUDGED)) == len(self.rows)


def compare(
    ours: Measured, reference: Reference, others: Iterable[Reference] = (), claims: pd.DataFrame | None = None
) -> Agreement:
    """Compare collected results with a reference set.

    Parameters
    ----------
    others : further sets whose seeds tell of the spread.
    claims : `claims.parquet` of ours, if it is there.
    """
    agreement = Agreement(str(reference.folder))
    spreads = Spreads([reference, *others])
    mine, its = _groups(ours.numbers), _groups(reference.measured.numbers)
    for run in dict.fromkeys([*mine, *its]):
        a, b = mine.get(run), its.get(run)
        if a is None or b is None:
            present, listed = (a, agreement.only_here) if b is None else (b, agreement.only_there)
            listed[run] = len(present)
        else:
            _compare_run(agreement, run, (a, b), (ours.facts, reference.measured.facts), spreads)
    _judge(agreement)
    if claims is not None:
        _compare_claims(agreement, claims, reference.claims)
    return agreement


def _groups(numbers: pd.DataFrame) -> dict[str, pd.DataFrame]:
    return {str(run): part for run, part in numbers.groupby(runs_of(numbers), sort=True)}


Sides = tuple[pd.DataFrame, pd.DataFrame]


def _compare_run(
    agreement: Agreement,
    run: str,
    sides: Sides,
    facts: tuple[Mapping[str, Facts], Mapping[str, Facts]],
    spreads: Spreads,
) -> None:
    seeds = [sorted(set(side.seed)) for side in sides]
    shared = [seed for seed in seeds[0] if seed in seeds[1]]
    pairs = [(facts[0][f"{run}/seed{seed}"], facts[1][f"{run}/seed{seed}"]) for seed in shared]
    if not shared:
        pairs = [(facts[0][f"{run}/seed{seeds[0][0]}"], facts[1][f"{run}/seed{seeds[1][0]}"])]
    differing = [what for a, b in pairs for what in a.other_settings(b)]
    differing += [f"other data: {name}" for a, b in pairs
                  for name in a.other_data(b) if shared or not name.endswith("split")]  # fmt: skip
    differing += _other_sizes(*sides)
    if differing:
        agreement.other_settings[run] = [*dict.fromkeys(differing)]
        return
    by = ROUNDED if shared and sides[0].model.iloc[0] in CONTROLS else SPREAD
    if by == SPREAD:
        reasons = (
            dict.fromkeys(reason for a, b in pairs for reason in a.why_not_exact(b)) if shared else ["other seeds"]
        )
        by = SPREAD if reasons else EXACT
        for reason in reasons:
            agreement.why_not_exact[reason] = agreement.why_not_exact.get(reason, 0) + 1
    if by == EXACT and (features := [name for a, b in pairs for name in a.other_data(b, tuple(a.data))]):
        agreement.other_features[run] = [*dict.fromkeys(features)]
    values = [_values(side, shared if by != SPREAD else kept) for side, kept in zip(sides, seeds, strict=True)]
    if by != SPREAD:
        for side, kept, listed in zip(sides, seeds, (agreement.only_here, agreement.only_there), strict=True):
            listed.update({f"{run}/seed{seed}": int((side.seed == seed).sum()) for seed in kept if seed not in shared})
    for one, other, listed in ((0, 1, agreement.only_here), (1, 0, agreement.only_there)):
        if lacking := len(values[one].keys() - values[other].keys()):
            listed[run] = lacking
    for number in (number for number in values[0] if number in values[1]):
        a, b = values[0][number], values[1][number]
        agreement.rows.append(_row(run, number, a, b, by, spreads))


def _other_sizes(ours: pd.DataFrame, theirs: pd.DataFrame) -> list[str]:
    """What differs in the numbers of queries and items: those of controls tell that the data are others."""
    both = ours.drop_duplicates(NUMBER).merge(theirs.drop_duplicates(NUMBER), on=NUMBER, suffixes=("", "_there"))
    messages = []
    for name in ("n_queries", "n_gallery"):
        rows = both[both[name] != both[f"{name}_there"]]
        if len(rows):
            messages.append(f"other data: {name} is {rows[name].iloc[0]} here, {rows[f'{name}_there'].iloc[0]} there")
    return messages


Values = dict[tuple[str, str, str, str], pd.DataFrame]


def _values(side: pd.DataFrame, seeds: list[int]) -> Values:
    return {number: part.set_index("seed") for number, part in side[side.seed.isin(seeds)].groupby(NUMBER, sort=True)}


def _row(run: str, number: Any, ours: pd.DataFrame, theirs: pd.DataFrame, by: str, spreads: Spreads) -> Row:
    a, b = ours.value, theirs.value
    if by != SPREAD:
        shared = a.index.intersection(b.index)
        a, b = a.loc[shared], b.loc[shared]
    named = ", ".join(map(str, sorted({*a.index}))) if {*a.index} == {*b.index} else _ranges(a, b)
    row = Row(run, number, float(a.mean()), float(b.mean()), named, by, EQUAL)
    if {*a.index} == {*b.index} and np.array_equal(a, b.loc[a.index], equal_nan=True):
        return row
    close = np.isclose(a, b.loc[a.index], rtol=SLACK, atol=SLACK, equal_nan=True) if by != SPREAD else []
    if by == ROUNDED and np.all(close):
        return replace(row, outcome=WITHIN, bound=SLACK)
    if by != SPREAD:
        same = (
            close if by == ROUNDED else [x == y or (x != x and y != y) for x, y in zip(a, b.loc[a.index], strict=True)]
        )
        first = a.index[int(np.argmin(same))]
        return replace(row, outcome=OUTSIDE, ours=float(a[first]), theirs=float(b[first]), seeds=str(first))
    prior, basis = spreads.of(theirs.iloc[0], number)
    if prior is None:
        return replace(row, outcome=UNJUDGED, basis=basis, bound=np.nan)
    variance, df = prior.moderated(*spreads.own(run, number))
    error = float(np.sqrt(variance * (1 / len(a) + 1 / len(b))))
    return _Tested(
        **vars(row) | {"outcome": WITHIN, "basis": basis}, error=error, df=df, step=_step(theirs.iloc[0], number)
    )


def _ranges(a: pd.Series, b: pd.Series) -> str:
    return " against ".join(", ".join(map(str, sorted(side.index))) for side in (a, b))


@dataclass(frozen=True)
class _Tested(Row):
    """A row that a t test decides: the standard error of the difference, and a difference that counts as none."""

    error: float = 0.0
    df: float = 1.0
    step: float = 0.0


def _step(theirs: pd.Series, number: tuple[str, str, str, str]) -> float:
    """What one query alone changes in a metric that is a mean over queries of bounded values."""
    declared = metric_of(number[2])
    if declared is None or declared.addends is None or declared.of_gallery or not theirs.n_queries:
        return 0.0
    step = (declared.high - declared.low) / theirs.n_queries
    return step * (1 + SLACK) if np.isfinite(step) else 0.0


def _judge(agreement: Agreement) -> None:
    """Test the rows that the spread decides, all together."""
    places = [place for place, row in enumerate(agreement.rows) if isinstance(row, _Tested)]
    rows = [agreement.rows[place] for place in places]
    p = np.array([_p(row) for row in rows])
    adjusted, ranks = holm(p), np.argsort(np.argsort(p, kind="stable"), kind="stable")
    for place, row, value, rank in zip(places, rows, adjusted, ranks, strict=True):
        bound = row.step + row.error * float(stats.t.isf(LEVEL / 2 / (len(rows) - rank), row.df))
        kept = {name: getattr(row, name) for name in Row.__dataclass_fields__}
        outcome = OUTSIDE if value < LEVEL else WITHIN
        agreement.rows[place] = Row(**kept | {"outcome": outcome, "bound": bound})


def _p(row: _Tested) -> float:
    """The two-sided p-value of a row's difference; 0 where one side is no number, or no seeds differ at all."""
    difference = abs(row.ours - row.theirs)
    if np.isnan(difference):
        return 0.0
    beyond = difference - row.step
    if beyond <= SLACK * max(1.0, abs(row.theirs)):
        return 1.0
    return float(2 * stats.t.sf(beyond / row.error, row.df)) if row.error > 0 else 0.0


class Spreads:
    """How far seeds of one run lie apart in some reference sets."""

    def __init__(self, references: list[Reference]):
        numbers = pd.concat([one.measured.numbers for one in references]).drop_duplicates([*RUN, "seed", *NUMBER])
        numbers = numbers[~numbers.model.isin(CONTROLS)]
        groups = numbers.assign(run=runs_of(numbers)).groupby(["run", "dataset", *NUMBER]).value.agg(["var", "size"])
        groups = groups[groups["size"] > 1].reset_index()
        self._own = {(row.run, row.task, row.aspect, row.metric, row.protocol): (row["var"], row["size"] - 1.0)
                     for _, row in groups.iterrows()}  # fmt: skip
        self._priors = {name: _prior(part) for name, part in groups.groupby(["dataset", "task", "metric"])}
        self._anywhere = {name: _prior(part) for name, part in groups.groupby(["task", "metric"])}

    def own(self, run: str, number: tuple[str, str, str, str]) -> tuple[float, float]:
        """The variance of a run's number over its seeds and its degrees of freedom; both 0 of a single seed."""
        return self._own.get((run, *number), (0.0, 0.0))

    def of(self, about: pd.Series, number: tuple[str, str, str, str]) -> tuple[Prior | None, str]:
        """What the runs of a data set, or else those of all data sets, say of the spread under a metric; and which."""
        task, _, metric, _ = number
        if (about.dataset, task, metric) in self._priors:
            return self._priors[about.dataset, task, metric], f"seeds of the runs on {about.dataset}"
        if (task, metric) in self._anywhere:
            return self._anywhere[task, metric], "seeds of the runs on other data sets"
        return None, "no run of the reference has a second seed"


def _prior(groups: pd.DataFrame) -> Prior | None:
    return prior_of(groups["var"].to_numpy(), groups["size"].to_numpy() - 1.0)


def _compare_claims(agreement: Agreement, ours: pd.DataFrame, theirs: pd.DataFrame) -> None:
    both = ours[[*CLAIM_TYPES]].merge(theirs, on=VERDICT, suffixes=("", "_there"))
    both = both[(both.verdict != "not run") & (both.verdict_there != "not run")]
    agreement.claims = len(both)
    agreement.other_verdicts = [
        f"{row.paper} {row.claim} on {row.dataset}: {row.verdict} here, {row.verdict_there} there"
        for row in both[both.verdict != both.verdict_there].itertuples()
    ]
