"""Intervals and tests of cells: those of the library on the runs' queries, against the right reference."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from crossmodal.core.errors import UserError
from crossmodal.core.files import records_of
from crossmodal.evaluation.statistics import bootstrap_interval, holm, permutation_test
from crossmodal.experiments import Plan, Table, validated
from crossmodal.reporting.results import comparison as comparing
from crossmodal.reporting.results import significance
from crossmodal.reporting.tables import writers
from tests.reporting.drawn import make_plan


@pytest.fixture(scope="module")
def cells(made: Path) -> pd.DataFrame:
    return pd.read_parquet(made / "comparison.parquet")


def hits(made: Path, name: str, aspect: str, k: int) -> tuple[np.ndarray, np.ndarray]:
    """(seeds, queries) by the letter, and the queries' groups."""
    rows = []
    for seed in (0, 1, 2):
        queries = pd.read_parquet(made / f"runs/world/full/{name}/seed{seed}/instance_retrieval/examples.parquet")
        queries = queries[queries.aspect == aspect].sort_values("query_id")
        rows.append(100.0 * (queries["rank"] <= k))
    return np.stack(rows), queries.query_group.to_numpy()


def test_a_cell_has_the_librarys_interval_and_p_value(made: Path, cells: pd.DataFrame) -> None:
    table = cells[(cells.paper == "mfsr") & (cells.table == "table1")]
    cell = table[(table.ours_model == "vse0") & (table.metric == "recall@5")].iloc[0]
    own, groups = hits(made, "vse0", cell.aspect, 5)
    assert cell.ours_mean == pytest.approx(own.mean())
    low, high = bootstrap_interval(own, groups)
    assert cell.ours_low == pytest.approx(low, abs=1e-6)
    assert cell.ours_high == pytest.approx(high, abs=1e-6)
    means = {name: hits(made, name, cell.aspect, 5)[0].mean() for name in ("vsepp", "vsepp.batch24")}
    best = max(means, key=means.get)
    assert cell.reference == best
    assert cell.p_value == permutation_test(own, hits(made, best, cell.aspect, 5)[0], groups)


def test_holm_counts_each_comparison_of_a_table_once(cells: pd.DataFrame) -> None:
    table = cells[(cells.paper == "mfsr") & (cells.table == "table1")].dropna(subset=["p_value"])
    pairs = {}
    for row in table.itertuples():
        pairs[row.column, frozenset((row.ours_model, row.reference))] = row.p_value
    expected = dict(zip(pairs, holm(np.array(list(pairs.values()))), strict=True))
    for row in table.itertuples():
        assert row.p_holm == expected[row.column, frozenset((row.ours_model, row.reference))]
        assert pd.notna(row.against) == (row.p_holm < significance.LEVEL)


def test_controls_are_never_compared(cells: pd.DataFrame) -> None:
    controls = cells[cells.ours_model.isin(["chance", "oracle"])]
    assert controls.p_value.isna().all()
    assert controls.ours_low.notna().all()
    assert not cells.reference.isin(["chance", "oracle"]).any()
    alone = cells[(cells.paper == "a3vse") & (cells.status == "done")]
    assert alone.reference.isna().all()  # one system at each degree of annotation


def test_tables_say_what_is_significant(made: Path, plan: Plan, cells: pd.DataFrame) -> None:
    spoilt = cells.copy()
    mine = (spoilt.paper == "mfsr") & (spoilt.table == "table1") & (spoilt.ours_model == "vse0")
    spoilt.loc[mine, "against"] = "worse"
    view = next(v for v in writers.all_views(plan, records_of(spoilt)) if v.id == "mfsr-table1")
    for kind, mark in (("md", "↓"), ("html", "↓"), ("tex", r"$\downarrow$")):
        text = writers.WRITERS[kind](view)
        assert text.count(mark) >= 6 + 1
        assert "Holm" in text
    assert "95 % interval" in writers.to_html(view)


def test_a_named_baseline(made: Path) -> None:
    plan = make_plan()
    paper = plan.papers["mfsr"]
    table = paper.tables[0].model_copy(update={"baseline": "VSE0 (sum of hinges)"})
    plan.papers["mfsr"] = paper.model_copy(update={"tables": [table, *paper.tables[1:]]})
    found = comparing.compare(plan, pd.read_parquet(made / "metrics.parquet"), folder=made / "runs")
    here = found[(found.paper == "mfsr") & (found.table == "table1") & (found.status == "done")]
    assert set(here[here.ours_model == "vsepp"].reference) == {"vse0"}
    assert here[here.ours_model == "vse0"].reference.isna().all()
    with pytest.raises(UserError, match="no row 'VSE1'"):
        validated(Table, table.model_dump() | {"baseline": "VSE1"}, "papers/mfsr.yaml")


def test_runs_without_queries_have_no_interval(made: Path, plan: Plan, tmp_path: Path) -> None:
    found = comparing.compare(plan, pd.read_parquet(made / "metrics.parquet"), folder=tmp_path)
    assert found.ours_mean.notna().any()
    assert found.ours_low.isna().all()


def test_intervals_of_folds_are_of_the_ranks_within_folds(made: Path, plan: Plan, tmp_path: Path) -> None:
    """The same queries have other ranks among a fifth of the gallery, so that both protocols stay apart."""
    key = "world/full/vse0/seed0"
    task = tmp_path / key / "instance_retrieval"
    task.mkdir(parents=True)
    frame = pd.read_parquet(made / "runs" / key / "instance_retrieval/examples.parquet")
    frame = frame[frame.protocol == "all"]
    in_folds = frame.assign(protocol="fold5", rank=(frame["rank"] + 4) // 5)
    pd.concat([in_folds, frame], ignore_index=True).to_parquet(task / "examples.parquet")
    (task / "metrics.json").write_text((made / "runs" / key / "instance_retrieval/metrics.json").read_text())
    values = significance.reader(plan, {key}, tmp_path)
    for protocol, part in (("all", frame), ("fold5", in_folds)):
        here = part[part.aspect == "image-to-text"].sort_values("query_id")
        found, ids, _ = values("world", ("full", "vse0"), protocol, "image-to-text", "recall@5")
        assert ids.tolist() == here.query_id.tolist()
        assert found.tolist() == [(100.0 * (here["rank"] <= 5)).tolist()]
