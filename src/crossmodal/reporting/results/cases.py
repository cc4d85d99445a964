"""A claim on one of its data sets: the runs that it compares, the averaged numbers, and its uncorrected tests."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from crossmodal.evaluation.bounds import chance_recall
from crossmodal.evaluation.contrasts import Contrast, above, below, interval, mean, negative, seeds_needed
from crossmodal.experiments import Claim, Job, Paper, Plan, UnreadableError
from crossmodal.experiments.claims import FIELDS, Place, Side, places
from crossmodal.reporting.results.cells import NOT_QUICK
from crossmodal.reporting.results.comparison import protocol_of
from crossmodal.reporting.results.evidence import Evidence, Number, Value, summed
from crossmodal.tasks.base import label
from crossmodal.tasks.base import metric as metric_of

LEVEL = 0.05


class _NotRunError(Exception):
    """The reason why a claim cannot be tested on the existing runs."""


@dataclass(frozen=True)
class Row:
    """An experiment with the names of its runs."""

    experiment: str
    dataset: str
    base: str
    """DATASET/SPLIT/NAME of its runs."""
    root: str
    """The `base` of the first of the runs that they are initialised from; their own, if they start anew."""
    seeds: frozenset[int]
    missing: str = ""


@dataclass(frozen=True)
class Part:
    """A weighted sum of numbers of runs, which by the claim is above 0, below 0 or near it."""

    name: str
    weights: dict[tuple[Row, Number], float]
    chance: bool = False
    """Whether the expected value of a random order is subtracted."""

    @property
    def signature(self) -> frozenset:
        """A value that is equal for parts with the same sum of the same runs."""
        return frozenset((row.base, number, round(weight, 9)) for (row, number), weight in self.weights.items())


@dataclass(frozen=True)
class Test:
    """The result of a test: p-values of the claim and of its opposite, and the estimate beside them."""

    estimate: Contrast
    parts: list[Contrast]
    names: list[str]
    p: np.ndarray
    """One p-value per part; all parts must hold."""
    p_opposite: float
    worst: int
    """The index of the part that supports the claim least."""


class Rows:
    """The experiments of papers with the names of their runs, each looked up once."""

    def __init__(self, plan: Plan, chosen: dict[str, Job], measured: set[str]):
        self.plan, self.chosen, self.measured = plan, chosen, measured
        self._rows: dict[tuple[str, str], Row] = {}

    def row(self, paper: Paper, name: str) -> Row:
        if (paper.name, name) not in self._rows:
            self._rows[paper.name, name] = self._found(paper, name)
        return self._rows[paper.name, name]

    def _found(self, paper: Paper, name: str) -> Row:
        experiment = paper.experiments[name]
        dataset = self.plan.dataset_of(experiment.dataset)
        try:
            planned = [self.plan.job(experiment, seed, paper.name) for seed in self.plan.params.seeds]
        except UnreadableError as error:
            return Row(name, dataset, "", "", frozenset(), str(error))
        base = planned[0].key.rpartition("/")[0]
        first = name
        while paper.experiments[first].after is not None:
            first = paper.experiments[first].after
        root = self.plan.job(paper.experiments[first], planned[0].seed, paper.name).key.rpartition("/")[0]
        chosen = [job for job in planned if job.key in self.chosen]
        seeds = frozenset(job.seed for job in chosen if job.key in self.measured)
        missing = "" if seeds else "not made yet" if chosen else NOT_QUICK.removeprefix("missing: ")
        return Row(name, dataset, base, root, seeds, missing)


class Case:
    """A claim on one published data set."""

    def __init__(self, plan: Plan, paper: Paper, claim: Claim, published: str, rows: Rows):
        self.plan, self.paper, self.claim, self.published = plan, paper, claim, published
        self.dataset = plan.dataset_of(published)

        def here(side: Side) -> bool:
            return paper.experiments[side.experiment].dataset == published

        self.pairs = [pair for pair in claim.pairs if here(pair[0])]
        self.sides = [side for pair in self.pairs for side in pair] or [s for s in claim.sides if here(s)]
        self.places: dict[Side, list[Place]] = {side: places(paper.tables, claim, side) for side in self.sides}
        self.rows = {side: rows.row(paper, side.experiment) for side in self.sides}
        self.seeds = sorted(frozenset.intersection(*(row.seeds for row in self.rows.values())))

    def numbers(self, side: Side) -> list[Number]:
        """The numbers whose mean is the value of a side."""
        return [(self._protocol(place), place.aspect, place.metric) for place in self.places[side]]

    def _protocol(self, place: Place) -> str:
        if place.protocol is not None or place.table is None:
            return place.protocol or "all"
        table = next(table for table in self.paper.tables if table.id == place.table)
        return protocol_of(self.plan.folds_of(table))

    @property
    def wanted(self) -> dict[str, list[Number]]:
        """{run: the numbers of it that the claim needs}"""
        numbers: dict[str, list[Number]] = {}
        for side in self.sides:
            for seed in self.seeds:
                numbers.setdefault(f"{self.rows[side].base}/seed{seed}", []).extend(self.numbers(side))
        return numbers

    # -- what is compared ---------------------------------------------------------------------------------------------

    def _value(self, side: Side, weight: float = 1.0) -> dict[tuple[Row, Number], float]:
        numbers = self.numbers(side)
        return {(self.rows[side], number): weight / len(numbers) for number in numbers}

    def _sum(self, weighted: Iterable[tuple[Side, float]]) -> dict[tuple[Row, Number], float]:
        total: dict[tuple[Row, Number], float] = {}
        for side, weight in weighted:
            for key, value in self._value(side, weight).items():
                total[key] = total.get(key, 0.0) + value
        return total

    def parts(self) -> tuple[Part | None, list[Part]]:
        """The trend, for kinds that have one, and the parts that must each hold: pairs, or steps of the trend."""
        if FIELDS[self.claim.kind] == "pairs":
            parts = [Part(_against(a, b), self._sum([(a, 1.0), (b, -1.0)])) for a, b in self.pairs]
            if self.claim.kind != "shrinks":
                return None, parts
            slopes = zip(self.pairs, trend(len(self.pairs)), strict=True)
            return Part(
                "trend", self._sum((s, w * f) for pair, w in slopes for s, f in zip(pair, (1, -1), strict=True))
            ), []
        if self.claim.kind == "above_chance":
            return None, [Part(side.experiment, self._value(side), chance=True) for side in self.sides]
        steps = zip(self.sides, self.sides[1:], strict=False)
        line = Part("trend", self._sum(zip(self.sides, trend(len(self.sides)), strict=True)))
        return line, [Part(_against(b, a), self._sum([(b, 1.0), (a, -1.0)])) for a, b in steps]

    @property
    def sign(self) -> int:
        """-1 where the reported difference is negative if the claim holds, else 1."""
        falling = self.claim.kind in ("falls", "shrinks")
        better = self.claim.lower_is_better and self.claim.kind not in ("grows", "falls")
        return -1 if falling != better else 1

    @property
    def signature(self) -> tuple:
        """A value that is equal for claims with the same test on the same numbers of the same runs."""
        line, parts = self.parts()
        whole = [part.signature for part in ([line] if line else []) + parts]
        return self.claim.kind, self.sign, self.claim.margin, frozenset(whole)

    def published_difference(self) -> float | None:
        """The difference of the published numbers, computed like ours from the pairs that have them."""
        if self.published in self.claim.published:
            return self.claim.published[self.published]
        values: dict[Side, float] = {}
        for side, listed in self.places.items():
            numbers = [place.published for place in listed]
            if all(number is not None for number in numbers):
                values[side] = float(np.mean(numbers))
        if self.claim.kind in ("above", "near"):
            differences = [values[a] - values[b] for a, b in self.pairs if a in values and b in values]
            return float(np.mean(differences)) if differences else None
        if self.claim.kind in ("counts", "above_chance") or len(values) < len(set(self.sides)):
            return None
        line = [values[a] - values[b] for a, b in self.pairs] or [values[side] for side in self.sides]
        return float(trend(len(line)) @ np.array(line))

    # -- how it is tested ---------------------------------------------------------------------------------------------

    def tested(self, evidence: Evidence) -> tuple[Test | None, dict[str, Any]]:
        """The test (None for a claim without one) and the row of `claims.parquet` without its verdict."""
        row: dict[str, Any] = {
            "paper": self.paper.name,
            "claim": self.claim.id,
            "says": self.claim.says,
            "source": self.claim.source,
            "kind": self.claim.kind,
            "dataset": self.dataset,
            "measure": measure(self.claim),
            "reason": "",
            "seeds": len(self.seeds),
            "published": self.published_difference(),
            "published_dataset": self.published,
        }
        try:
            self._check_runs()
            if self.claim.kind == "counts":
                return None, row | self._counted(evidence)
            test = self._test(evidence)
        except _NotRunError as error:
            return None, row | {"verdict": "not run", "reason": str(error)}
        low, high = interval(test.estimate)
        return test, row | {"ours": test.estimate.estimate, "ours_low": low, "ours_high": high}

    def _check_runs(self) -> None:
        lacking: dict[str, list[str]] = {}
        for row in dict.fromkeys(self.rows.values()):
            if row.missing:
                lacking.setdefault(row.missing, []).append(row.experiment)
        if lacking:
            raise _NotRunError("; ".join(f"{', '.join(named)}: {why}" for why, named in lacking.items()))
        if not self.seeds:
            raise _NotRunError("no seed with which all of its rows have been run")

    def _counted(self, evidence: Evidence) -> dict[str, Any]:
        """The row of a claim about a count, which is compared without a test."""
        (metric,) = self.claim.metrics
        counts, wrong = [], []
        for side in self.sides:
            row, expected = self.rows[side], self.claim.counts[side.experiment]
            values = [self._of(evidence, row, seed, ("all", "", metric)).mean for seed in self.seeds]
            counts += [f"{row.experiment} {values[0]:g}"]
            wrong += [f"{row.experiment} has {v:g}, not {expected}" for v in dict.fromkeys(values) if v != expected]
        return {
            "verdict": "contradicted" if wrong else "supported",
            "reason": "; ".join(wrong) if wrong else ", ".join(counts),
        }

    def _of(self, evidence: Evidence, row: Row, seed: int, number: Number) -> Value:
        value = evidence.value(f"{row.base}/seed{seed}", number)
        if value is None:
            protocol, aspect, metric = number
            what = f"{aspect} {metric} under protocol {protocol}" if aspect else metric
            raise _NotRunError(f"run {row.base}/seed{seed} has no {what}")
        return value

    def contrast(self, evidence: Evidence, part: Part) -> Contrast:
        """A part's estimate over the seeds, with its variation over queries and seeds."""
        units: dict[str, np.ndarray] = {}
        moves: list[np.ndarray] = []
        masks: list[np.ndarray] = []
        queries: dict[tuple[str, str], set[tuple[str, ...]]] = {}
        offset, over_queries = 0.0, True
        for (row, number), weight in part.weights.items():
            values = [self._of(evidence, row, seed, number) for seed in self.seeds]
            unit = units.setdefault(row.root, np.zeros(len(self.seeds)))
            unit += weight * np.array([value.mean for value in values])
            over_queries &= all(value.moves is not None for value in values)
            queries.setdefault(number[:2], set()).update(value.queries for value in values)
            if over_queries:
                moves += [value.moves * (weight / len(values)) for value in values]
                masks += [value.has_queries for value in values]
            if part.chance:
                offset += weight * self._chance(evidence, row, number, values[0])
        odd = next((aspect for (_, aspect), queries_of in queries.items() if len(queries_of) > 1), None)
        if odd is not None:
            raise _NotRunError(f"{part.name}: runs that were tested on different queries ({odd})")
        return Contrast(units, summed(moves)[summed(masks) > 0] if over_queries else np.empty(0), offset)

    def _chance(self, evidence: Evidence, row: Row, number: Number, value: Value) -> float:
        """The expected value of a random order, in per cent."""
        protocol, aspect, metric = number
        expected = evidence.told(f"{row.base}/seed{self.seeds[0]}", (protocol, aspect, f"{metric}_chance"))
        if expected is not None:
            return expected
        declared, relevance = metric_of(metric), self.plan.params.datasets[row.dataset].relevance
        if relevance == "group" and declared is not None and declared.name == f"recall@{declared.k}" and value.size:
            return 100 * chance_recall(declared.k, value.n_queries, value.size)
        raise _NotRunError(f"there is no expected value of a random order for {aspect} {metric}")

    def _test(self, evidence: Evidence) -> Test:
        line, parts = self.parts()
        raw = [self.contrast(evidence, part) for part in ([line] if line else []) + parts]
        signed = raw if self.sign > 0 else [negative(contrast) for contrast in raw]
        names = [part.name for part in ([line] if line else []) + parts]
        if self.claim.kind == "near":
            margin = self.claim.margin
            p = np.array([max(above(c, -margin), below(c, margin)) for c in signed])
            opposite = [2 * min(above(c, margin), below(c, -margin)) for c in signed]
            worst = int(np.argmax([abs(c.estimate) for c in signed]))
        else:
            p = np.array([above(c) for c in (signed[:1] if line else signed)])
            opposite = [below(c) for c in signed]
            worst = 0 if line else int(np.argmin([c.estimate for c in signed]))
        p_opposite = min(1.0, len(opposite) * min(opposite)) if not np.isnan(opposite).any() else float("nan")
        if line and np.argmin(opposite) > 0 and p_opposite < LEVEL:
            worst = int(np.argmin(opposite))
        return Test(raw[0] if line else mean(raw), signed, names, p, p_opposite, worst)

    def needed(self, test: Test, level: float) -> int | None:
        """The seeds needed for the claim, or its opposite, to be significant at `level`; None for too many."""
        if self.claim.kind == "near":
            margin = self.claim.margin
            ends = [(c, margin if c.estimate > 0 else -margin) for c in test.parts]
            outside = [(c, bound) for c, bound in ends if abs(c.estimate) > margin]
        else:
            ends = [(c, 0.0) for c in test.parts[: len(test.p)]]
            outside = [(c, bound) for c, bound in ends if c.estimate < 0]
        if outside:
            counts = [seeds_needed(c, level / len(test.parts), bound) for c, bound in outside]
            return min((count for count in counts if count is not None), default=None)
        counts = [seeds_needed(c, level, bound) for c, bound in ends]
        return None if None in counts else max(counts)


def trend(n: int) -> np.ndarray:
    """(n,) weights whose sum over n values is the rise of their least-squares line from the first to the last."""
    place = np.arange(n) - (n - 1) / 2
    return place * (n - 1) / np.square(place).sum()


def _against(a: Side, b: Side) -> str:
    """The comparison of two sides in words, with the names of the paper's file."""
    if a.experiment == b.experiment:
        return f"{a.experiment}: {_how(a)} against {_how(b)}"
    return f"{a.experiment} against {b.experiment}"


def _how(side: Side) -> str:
    return " ".join([*side.aspects, *side.metrics, *filter(None, [side.protocol])]) or "as the claim says"


def measure(claim: Claim) -> str:
    """The metrics and directions of a claim's values, in words."""
    names = {"milliseconds": "milliseconds per iteration", "attention_blocks": "attention blocks trained"}
    metrics = ", ".join(names.get(metric) or label(metric) for metric in claim.metrics)
    where = "all directions" if "average" in claim.aspects else ", ".join(claim.aspects)
    words = [metrics, where, f"{claim.protocol} classes" if claim.protocol else ""]
    several = len(claim.metrics) * max(1, len(claim.aspects)) > 1
    return f"{'mean of ' if several else ''}{'; '.join(filter(None, words))}"
