"""The papers' claims tested on our runs: `claims.parquet`, one row per claim and published data set.

A claim is tested on the data set that was run, be it the published one or its stand-in. Both queries and seeds are
treated as random samples (`crossmodal.evaluation.contrasts`). P-values are one-sided, for the claim and for its
opposite, and corrected by Holm's method within a paper and data set, where a test that several published data sets
share is counted once. A contradicted claim is a result like any other.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from crossmodal.core.console import tracked
from crossmodal.core.errors import UserError
from crossmodal.core.files import read_parquet, write_parquet
from crossmodal.evaluation.contrasts import SEEDS
from crossmodal.evaluation.statistics import holm
from crossmodal.experiments import Job, Plan
from crossmodal.reporting.results import runs
from crossmodal.reporting.results.cases import LEVEL, Case, Rows, Test
from crossmodal.reporting.results.evidence import Evidence, Number

log = logging.getLogger(__name__)

TYPES = {
    "paper": "string",
    "claim": "string",
    "says": "string",
    "source": "string",
    "kind": "string",
    "dataset": "string",
    "measure": "string",
    "ours": "float64",
    "ours_low": "float64",
    "ours_high": "float64",
    "p": "float64",
    "p_holm": "float64",
    "p_opposite": "float64",
    "p_opposite_holm": "float64",
    "verdict": "string",
    "reason": "string",
    "seeds": "int64",
    "seeds_needed": "Int64",
    "published": "float64",
    "published_dataset": "string",
}
VERDICTS = ("supported", "contradicted", "undecided", "not run")
ONE_SEED = "one seed does not show the spread over seeds"


def test(plan: Plan, metrics: pd.DataFrame, jobs: dict[str, Job] | None, folder: Path) -> pd.DataFrame:
    """Every claim of every paper, tested on the runs that exist.

    Parameters
    ----------
    metrics : as `collect` gives them.
    jobs : the jobs that they were collected from.
    folder : `results/runs`.

    Returns
    -------
    The columns of `TYPES`. `ours` is the difference of the means with its 95 % interval (for a trend, the rise of a
    straight line through the rows from the first to the last; for several pairs, their mean). `published` is the same
    for the published numbers. Undecided claims have `seeds_needed`, which is null where more than `SEEDS` are needed or
    one seed gives no estimate; `reason` says which.
    """
    chosen = runs.chosen(plan, jobs)
    evidence = Evidence(chosen, metrics, Path(folder))
    rows = Rows(plan, chosen, evidence.measured)
    cases = [
        Case(plan, paper, claim, dataset, rows)
        for paper in plan.papers.values()
        for claim in paper.claims
        for dataset in dict.fromkeys(paper.experiments[side.experiment].dataset for side in claim.sides)
    ]
    wanted: dict[str, list[Number]] = {}
    for case in cases:
        for key, numbers in case.wanted.items():
            wanted.setdefault(key, []).extend(numbers)
    evidence.read(wanted)
    tested = [case.tested(evidence) for case in tracked(cases, "testing claims", unit="claims")]
    _decide(cases, tested)
    return pd.DataFrame([row for _, row in tested], columns=list(TYPES)).astype(TYPES)


def _decide(cases: list[Case], tested: list[tuple[Test | None, dict[str, Any]]]) -> None:
    """Correct the p-values of each paper and data set for multiple testing, and decide the verdicts."""
    families: dict[tuple[str, str], dict[tuple, list[int]]] = {}
    for place, (case, (test, _)) in enumerate(zip(cases, tested, strict=True)):
        if test is not None:
            families.setdefault((case.paper.name, case.dataset), {}).setdefault(case.signature, []).append(place)
    for family in families.values():
        tests = [tested[members[0]][0] for members in family.values()]
        p = np.array([test.p.max() for test in tests])
        opposite = np.array([test.p_opposite for test in tests])
        for n, (members, values) in enumerate(
            zip(family.values(), zip(holm(p), holm(opposite), strict=True), strict=True)
        ):
            for place in members:
                row = tested[place][1]
                row |= {"p": p[n], "p_holm": values[0], "p_opposite": opposite[n], "p_opposite_holm": values[1]}
                row |= _verdict(cases[place], tests[n], row, len(tests))


def _verdict(case: Case, test: Test, row: dict[str, Any], tests: int) -> dict[str, Any]:
    worst = test.names[test.worst]
    estimate = (
        ""
        if worst == "trend" or len(test.names) == 1
        else f"{worst}: {case.sign * test.parts[test.worst].estimate:+.2f}"
    )
    if np.isnan(row["p"]):
        return {"verdict": "undecided", "reason": ONE_SEED}
    if row["p_opposite_holm"] < LEVEL:
        return {"verdict": "contradicted", "reason": estimate}
    if row["p_holm"] < LEVEL:
        return {"verdict": "supported", "reason": estimate and f"least: {estimate}"}
    needed = case.needed(test, LEVEL / tests)
    if needed is None:
        return {"verdict": "undecided", "reason": "; ".join(filter(None, [f"more than {SEEDS} seeds", estimate]))}
    return {"verdict": "undecided", "reason": estimate, "seeds_needed": max(needed, row["seeds"] + 1)}


def read(path: Path) -> pd.DataFrame:
    """The table `claims.parquet`.

    Raises
    ------
    UserError : the file is missing, or was written by another version.
    """
    frame = read_parquet(path)
    if list(frame) != list(TYPES):
        raise UserError(f"{path}: was made by another version; run `crossmodal claims` again")
    return frame


def write(plan: Plan, jobs: dict[str, Job], target: Path) -> pd.DataFrame:
    """The step of the DAG: test the claims on `target/metrics.parquet` and queries, write `target/claims.parquet`."""
    frame = test(plan, read_parquet(target / "metrics.parquet"), jobs, Path(plan.params.paths.results) / "runs")
    write_parquet(target / "claims.parquet", frame)
    counts = frame.verdict.value_counts()
    log.info("claims: %s", ", ".join(f"{counts[name]} {name}" for name in VERDICTS if name in counts))
    return frame
