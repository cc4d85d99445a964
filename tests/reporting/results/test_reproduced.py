"""Agreement with a reference set: to the bit, but for rounding, and within the spread of seeds, worked out by hand."""

from __future__ import annotations

import io
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from rich.console import Console
from scipy import stats

from crossmodal.evaluation.contrasts import SLACK
from crossmodal.reporting.results import measured, reproduced
from crossmodal.reporting.results.measured import Facts, Measured
from crossmodal.reporting.results.reference import CLAIM_TYPES, Reference
from crossmodal.reporting.results.reproduced import Agreement
from crossmodal.reporting.tables import agreements

HERE = Facts({"settings": {"lr": 0.1}}, {"items": "a", "split": "b", "image.x": "c"}, "s", 1, {"cpu": "X"}, {"t": "2"})
ELSEWHERE = replace(HERE, machine={"cpu": "Y"})
VSEPP, SCAN, CHANCE = "world/full/vsepp", "world/full/scan", "world/full/chance"
Runs = Mapping[str, Mapping[int, Mapping[str, float]]]


def results(runs: Runs, facts: Facts = HERE, **sizes: int) -> Measured:
    """Numbers {run: {seed: {metric: value}}} of runs that were all made alike; controls have no facts."""
    rows = []
    for run, seeds in runs.items():
        dataset, split, name = run.split("/")
        model, _, variant = name.partition(".")
        about = {"dataset": dataset, "split": split, "model": model, "variant": variant}
        about |= {"task": "instance_retrieval", "aspect": "image-to-text", "protocol": "all"}
        about |= {"n_queries": 200, "n_gallery": 1000} | sizes
        rows += [about | {"seed": seed, "metric": metric, "value": value}
                 for seed, values in seeds.items() for metric, value in values.items()]  # fmt: skip
    numbers = measured.ordered(pd.DataFrame(rows))
    return Measured(numbers, {key: Facts() if "/chance" in key else facts for key in measured.keys_of(numbers)})


def a_set(runs: Runs, facts: Facts = HERE, **sizes: int) -> Reference:
    claims = pd.DataFrame(columns=[*CLAIM_TYPES]).astype(CLAIM_TYPES)
    about: Any = SimpleNamespace(scope="all", scale="embedded", machines=["Y, 2 cores"], versions={"torch": "2"})
    return Reference(Path("results/reference/all"), about, results(runs, facts, **sizes), claims)


def compared(ours: Measured, theirs: Reference, *others: Reference) -> Agreement:
    return reproduced.compare(ours, theirs, others)


def outcomes(found: Agreement) -> dict[tuple[str, str], str]:
    return {(row.run, row.number[2]): row.outcome for row in found.rows}


def told(found: Agreement, theirs: Reference) -> str:
    stream = io.StringIO()
    agreements.show(found, theirs.about, Console(width=200, file=stream))
    return stream.getvalue()


def seeds(metric: str, *values: float) -> dict[int, dict[str, float]]:
    return {seed: {metric: value} for seed, value in enumerate(values)}


REFERENCE = {VSEPP: seeds("recall_sum", 400.0, 402.0, 407.0), SCAN: seeds("recall_sum", 440.0, 446.0, 443.0)}


def test_a_changed_last_bit_fails_on_the_same_kind_of_machine_and_passes_on_another() -> None:
    assert outcomes(compared(results(REFERENCE), a_set(REFERENCE))) == {
        (VSEPP, "recall_sum"): "equal",
        (SCAN, "recall_sum"): "equal",
    }
    changed = {**REFERENCE, VSEPP: seeds("recall_sum", 400.0, float(np.nextafter(402.0, 403.0)), 407.0)}
    found = compared(results(changed), a_set(REFERENCE))
    assert found.failed
    assert outcomes(found) == {(VSEPP, "recall_sum"): "outside", (SCAN, "recall_sum"): "equal"}
    text = told(found, a_set(REFERENCE))
    assert re.search(r"vsepp +image-to-text .* 1 +402\.00000000000006 +402\.0 +none", text)  # of the seed that differs
    assert "Does not agree with results/reference/all: 1 of 2 rows outside." in text
    elsewhere = compared(results(changed), a_set(REFERENCE, ELSEWHERE))
    assert not elsewhere.failed
    assert outcomes(elsewhere)[VSEPP, "recall_sum"] == "within"
    assert elsewhere.why_not_exact == {"machine: X here, Y there": 2}


def test_the_bound_of_a_row_by_hand() -> None:
    """Variances 13 and 9 of two runs are no further apart than by chance: 11 with all 4 degrees of freedom."""
    ours = {VSEPP: seeds("recall_sum", 410.0), SCAN: seeds("recall_sum", 470.0)}
    theirs = a_set(REFERENCE, ELSEWHERE)
    found = compared(results(ours), theirs)
    near, far = sorted(found.rows, key=lambda row: abs(row.ours - row.theirs))
    error = np.sqrt(11 * (1 + 1 / 3))
    assert (near.run, near.ours, near.theirs, near.seeds) == (VSEPP, 410.0, 403.0, "0 against 0, 1, 2")
    assert far.bound == pytest.approx(stats.t.ppf(1 - 0.005 / 2, 4) * error)  # the first of two in Holm's order
    assert near.bound == pytest.approx(stats.t.ppf(1 - 0.005, 4) * error)
    assert (near.outcome, far.outcome) == ("within", "outside")
    off = compared(results({**ours, SCAN: seeds("recall_sum", 443 + 1.01 * far.bound)}), theirs)
    assert outcomes(off) == {(VSEPP, "recall_sum"): "within", (SCAN, "recall_sum"): "outside"}
    assert f"±{far.bound:.3g}" in told(off, theirs)
    fine = compared(results({**ours, SCAN: seeds("recall_sum", 443 + 0.99 * far.bound)}), theirs)
    assert not fine.failed


def test_many_honest_rows_pass_and_one_far_off_fails() -> None:
    """Of 300 rows three are beyond 1 % each by chance: the family is tested together."""
    rng = np.random.default_rng(1)
    truth = {f"world/full/m{run}": 300.0 + run for run in range(300)}
    there = {run: seeds("recall_sum", *(mean + rng.normal(0, 2, 3))) for run, mean in truth.items()}
    here = {run: seeds("recall_sum", *(mean + rng.normal(0, 2, 3))) for run, mean in truth.items()}
    theirs = a_set(there, ELSEWHERE)
    found = compared(results(here), theirs)
    alone = [abs(row.ours - row.theirs) > stats.norm.isf(0.005) * 2 * np.sqrt(2 / 3) for row in found.rows]
    assert sum(alone) > 0
    assert not found.failed
    here["world/full/m7"] = seeds("recall_sum", 340.0, 339.0, 341.0)
    assert [row.run for row in compared(results(here), theirs).of("outside")] == ["world/full/m7"]


def test_a_seed_that_failed_here_does_not_widen_the_bound() -> None:
    here = {VSEPP: seeds("recall_sum", 400.0, 402.0, 3.0), SCAN: REFERENCE[SCAN]}
    assert [row.run for row in compared(results(here), a_set(REFERENCE, ELSEWHERE)).of("outside")] == [VSEPP]


def test_a_single_seed_is_judged_by_the_spread_of_others() -> None:
    one = {VSEPP: seeds("recall_sum", 400.0)}
    alone = a_set(one, ELSEWHERE)
    ours = results({VSEPP: seeds("recall_sum", 401.0)})
    unknown = compared(ours, alone)
    assert outcomes(unknown) == {(VSEPP, "recall_sum"): "not judged"}
    assert unknown.failed  # nothing is compared at all
    assert "Nothing could be compared" in told(unknown, alone)
    assert outcomes(compared(results(one), alone)) == {(VSEPP, "recall_sum"): "equal"}
    beside = a_set({SCAN: REFERENCE[SCAN]}, ELSEWHERE)
    found = compared(ours, alone, beside)
    assert outcomes(found) == {(VSEPP, "recall_sum"): "within"}
    assert found.rows[0].basis == "seeds of the runs on world"
    assert found.rows[0].bound == pytest.approx(stats.t.isf(0.005, 2) * np.sqrt(9 * 2))
    assert compared(results({VSEPP: seeds("recall_sum", 460.0)}), alone, beside).failed
    other = a_set({SCAN.replace("world", "flickr8k"): REFERENCE[SCAN]}, ELSEWHERE)
    assert compared(ours, alone, other).rows[0].basis == "seeds of the runs on other data sets"


def test_one_query_is_no_difference_where_seeds_do_not_differ() -> None:
    """Recall of 100 for all seeds: one of 200 queries is 0.5."""
    theirs = a_set({VSEPP: seeds("recall@10", 100.0, 100.0, 100.0)}, ELSEWHERE)
    assert not compared(results({VSEPP: seeds("recall@10", 99.5)}), theirs).failed
    assert compared(results({VSEPP: seeds("recall@10", 99.0)}), theirs).failed


def test_controls_are_equal_but_for_rounding() -> None:
    theirs = a_set({CHANCE: seeds("recall@1", 0.5, 0.25)}, ELSEWHERE)
    found = compared(results({CHANCE: seeds("recall@1", 0.5 + SLACK / 10, 0.25)}), theirs)
    assert outcomes(found) == {(CHANCE, "recall@1"): "within"}
    off = compared(results({CHANCE: seeds("recall@1", 0.5, 0.25001)}), theirs)
    assert outcomes(off) == {(CHANCE, "recall@1"): "outside"}


def test_numbers_that_are_none_are_outside() -> None:
    here = {**REFERENCE, VSEPP: seeds("recall_sum", float("nan"))}
    assert compared(results(here), a_set(REFERENCE, ELSEWHERE)).of("outside")[0].run == VSEPP


def test_other_settings_and_other_data_are_told_and_not_compared() -> None:
    theirs = a_set(REFERENCE, replace(ELSEWHERE, settings={"settings": {"lr": 0.5}}))
    found = compared(results(REFERENCE), theirs)
    assert found.rows == []
    assert found.failed
    assert found.other_settings == {run: ["lr: 0.1 here, 0.5 there"] for run in (SCAN, VSEPP)}
    assert f"Not compared, other settings: {SCAN}: lr: 0.1 here, 0.5 there." in told(found, theirs)
    data = compared(results(REFERENCE), a_set(REFERENCE, replace(HERE, data={"items": "z"})))
    assert data.other_settings[VSEPP] == ["other data: items"]
    controls = {CHANCE: seeds("recall@1", 0.5)}
    sizes = compared(results(controls, n_gallery=50), a_set(controls))
    assert sizes.other_settings == {CHANCE: ["other data: n_gallery is 50 here, 1000 there"]}


def test_other_features_on_the_same_machine_are_named() -> None:
    theirs = a_set(REFERENCE, replace(HERE, data=HERE.data | {"image.x": "z"}))
    found = compared(results({**REFERENCE, VSEPP: seeds("recall_sum", 1.0, 2.0, 3.0)}), theirs)
    assert found.other_features == {run: ["image.x"] for run in (SCAN, VSEPP)}
    assert [row.run for row in found.of("outside")] == [VSEPP]


def test_rows_of_one_side_are_counted_and_do_not_fail() -> None:
    here = {VSEPP: {0: {"recall_sum": 400.0, "mean_rank": 4.0}}, "world/full/new": seeds("recall_sum", 1.0)}
    found = compared(results(here), a_set(REFERENCE))
    assert found.only_here == {"world/full/new": 1, VSEPP: 1}
    assert found.only_there == {SCAN: 3, f"{VSEPP}/seed1": 1, f"{VSEPP}/seed2": 1}
    assert outcomes(found) == {(VSEPP, "recall_sum"): "equal"}
    assert not found.failed


def test_claims_with_another_verdict_are_told() -> None:
    row = {"paper": "p", "claim": "c", "dataset": "world", "verdict": "supported", "seeds": 3}
    rows = [row, row | {"claim": "d"}, row | {"claim": "e", "verdict": "not run"}]
    theirs = pd.DataFrame(rows, columns=[*CLAIM_TYPES]).astype(CLAIM_TYPES)
    ours = theirs.assign(verdict=["undecided", "supported", "supported"]).astype(CLAIM_TYPES)
    reference = replace(a_set(REFERENCE), claims=theirs)
    found = reproduced.compare(results(REFERENCE), reference, claims=ours)
    assert (found.claims, found.other_verdicts) == (2, ["p c on world: undecided here, supported there"])
    assert not found.failed
    assert "Claims: 1 of 2 verdicts are the same." in told(found, reference)
