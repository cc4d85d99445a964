"""Published beside ours: hand-computed means, statuses, and the quality control of the controls."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from crossmodal import experiments
from crossmodal.evaluation.bounds import chance_recall
from crossmodal.experiments import Plan
from crossmodal.reporting.results import comparison as comparing
from crossmodal.reporting.results.collect import collect
from crossmodal.reporting.results.metrics import TYPES
from tests.reporting.drawn import ROOT, make_plan, make_run


def numbers(
    values: dict[int, float], model: str = "vsepp", dataset: str = "world", protocol: str = "all", **over: object
) -> pd.DataFrame:
    """Metrics of one number in several seeds."""
    row = {
        "paper": "mfsr",
        "dataset": dataset,
        "split": "full",
        "model": model,
        "variant": "",
        "task": "instance_retrieval",
        "aspect": "image-to-text",
        "metric": "recall@1",
        "protocol": protocol,
        "n_queries": 200,
        "n_gallery": 1000,
    } | over
    return pd.DataFrame([{**row, "seed": s, "value": v} for s, v in values.items()], columns=list(TYPES)).astype(TYPES)


def cell(frame: pd.DataFrame, table: str = "table1", system: str = "VSE++ [3]", column: int = 0) -> pd.Series:
    found = frame[
        (frame.paper == "mfsr") & (frame.table == table) & (frame.system == system) & (frame.column == column)
    ]
    assert len(found) == 1
    return found.iloc[0]


def test_mean_and_sample_deviation_by_hand(plan: Plan) -> None:
    found = cell(comparing.compare(plan, numbers({0: 60.0, 1: 63.0, 2: 69.0})))
    assert found.status == "done"
    assert found.ours_mean == pytest.approx(64.0)
    assert found.ours_sd == pytest.approx(21**0.5)  # (16 + 1 + 25) / 2
    assert found.published == 64.6
    assert (found.n_seeds, found.n_expected) == (3, 3)
    assert (found.ours_dataset, found.dataset, found.protocol) == ("world", "coco", "all")
    assert not found.comparable
    assert pd.isna(found.difference)  # a stand-in's difference means nothing
    assert pd.isna(found.significant)
    assert (found.n_queries, found.n_gallery) == (200, 1000)


def test_one_seed_has_no_deviation(plan: Plan) -> None:
    found = cell(comparing.compare(plan, numbers({1: 60.0})))
    assert found.status == "done"
    assert (found.n_seeds, found.n_expected) == (1, 3)
    assert pd.isna(found.ours_sd)


def test_a_run_of_two_papers_counts_once(plan: Plan) -> None:
    twice = pd.concat([numbers({0: 60.0, 1: 62.0}), numbers({0: 60.0, 1: 62.0}).assign(paper="a3vse")])
    assert cell(comparing.compare(plan, twice)).n_seeds == 2


def test_statuses(plan: Plan) -> None:
    quick = {key: job for key, job in plan.jobs.items() if job.quick}
    found = comparing.compare(plan, numbers({0: 60.0}), quick)
    assert cell(found).status == "done"
    assert cell(found).n_expected == 1
    assert cell(found, system="DVSA [29]").status == "published only"
    assert cell(found, system="VSE0 (sum of hinges)").status == "missing: run vse0 on world/full not made yet"
    assert cell(found, system="VSE++").status == "missing: not part of quick; run `snakemake all`"
    assert cell(found, column=1).status == "missing: run vsepp on world/full has no recall@5 under protocol all"
    assert len(found) == len(comparing.compare(plan, numbers({})))  # every published cell, whatever has been run
    assert set(found.status.str.split(":").str[0]) == {"done", "missing", "published only"}


def test_full_scale_uses_folds_and_tells_what_is_significant() -> None:
    full = make_plan(scale="full")
    folds = numbers({0: 60.0, 1: 61.0, 2: 62.0}, dataset="coco", protocol="fold5", n_queries=1000, n_gallery=5000)
    found = cell(comparing.compare(full, folds))
    assert (found.ours_mean, found.protocol) == (61.0, "fold5")
    assert found.comparable
    # t(.975, 2) * 1 / sqrt(3) = 4.303 / 1.732 = 2.484: 64.6 lies 3.6 off
    assert found.significant
    near = numbers({0: 63.0, 1: 64.0, 2: 65.0}, dataset="coco", protocol="fold5")
    assert not cell(comparing.compare(full, near)).significant
    whole = comparing.compare(full, numbers({0: 60.0}, dataset="coco"))
    assert cell(whole).status == "missing: run vsepp on coco/full has no recall@1 under protocol fold5"


def test_systems_in_columns_take_their_own_experiment(plan: Plan) -> None:
    paper = plan.papers["a3vse"]
    table = next(t for t in paper.tables if t.id == "table1")
    row = table.rows[2].model_copy(update={"experiment": {"SCAN": "vsepp-flickr30k-10pct-5cap"}})
    by_system = {column.system: row.experiment_of(column) for column in table.columns}
    assert by_system == {"A3VSE": None, "SCAN": "vsepp-flickr30k-10pct-5cap"}


def test_chance_by_hand() -> None:
    assert chance_recall(1, 1000, 200) == pytest.approx(1 / 200)
    assert chance_recall(10, 1000, 200) == pytest.approx(10 / 200)
    # five captions among a thousand: 1 - (995/1000)(994/999)...(986/991)
    by_hand = 1 - np.prod([(995 - i) / (1000 - i) for i in range(10)])
    assert chance_recall(10, 200, 1000) == pytest.approx(by_hand)
    assert chance_recall(10, 3, 4) == 1.0


def test_quality_control(plan: Plan) -> None:
    chance = numbers({0: 0.5}, "chance")
    oracle = numbers({0: 100.0}, "oracle")
    good = comparing.compare(plan, pd.concat([chance, oracle, numbers({0: 60.0})]))
    assert cell(good).qc == "ok"
    for broken in (
        numbers({0: 99.5}, "oracle"),
        numbers({0: 30.0}, "chance"),
    ):
        other = chance if broken.model.iloc[0] == "oracle" else oracle
        off = cell(comparing.compare(plan, pd.concat([broken, other]))).qc
        assert off.startswith(f"off: {broken.model.iloc[0]} has image-to-text recall@1")
    assert cell(comparing.compare(plan, oracle)).qc == "not run: chance"
    assert cell(comparing.compare(plan, numbers({}))).qc == "not run: chance and oracle"


def test_chance_at_zero_is_within_bounds_where_few_queries_hit() -> None:
    checks = comparing.controls(numbers({0: 0.0}, "chance"))
    assert checks.ok.all()  # one of 200 queries is expected to hit
    crowded = numbers({0: 0.0}, "chance", metric="recall@10", n_queries=5000, n_gallery=1000)
    assert not comparing.controls(crowded).ok.any()


def test_real_ranks_of_random_scores_pass(made: Path) -> None:
    checks = comparing.controls(pd.read_parquet(made / "metrics.parquet"))
    assert len(checks) == 2 * 3 * 6
    assert checks.ok.all()


def test_fallbacks_come_from_the_manifests(tmp_path: Path, plan: Plan) -> None:
    job = plan.jobs["world/full/vsepp/seed0"]
    make_run(tmp_path / job.key, job, fallbacks=("world backbone", "hand-made boxes"))
    found = cell(comparing.compare(plan, collect(plan, tmp_path), folder=tmp_path))
    assert found.fallbacks == "world backbone; hand-made boxes"


def test_a_setting_that_no_paper_names_is_known_in_tables() -> None:
    """DeViSE with word vectors cannot do without a file of them, which `models` names and no paper does."""
    params = experiments.from_config(experiments.read_yaml(ROOT / "params.yaml") | {"papers": ["chapter9"]})
    plan = experiments.Plan(params, experiments.read_papers(["chapter9"], ROOT / "papers"))
    run = {"paper": "chapter9", "variant": "words", "aspect": "image-to-class"}
    metrics = numbers({0: 60.0}, "devise", "birds_world", "unseen", **run)
    found = comparing.compare(plan, metrics)
    (row,) = found[found.status == "done"].to_dict("records")
    assert row["system"] == "DeViSE, word vectors"
    assert "word_vectors" not in row["ours_settings"]  # random ones are a fallback, which the manifest tells
