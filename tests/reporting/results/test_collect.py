"""Runs to metrics, the summary for DVC and its plots."""

from __future__ import annotations

import json
import logging
import shutil
from pathlib import Path

import pandas as pd
import pytest

from crossmodal.experiments import Plan
from crossmodal.reporting.results import summary
from crossmodal.reporting.results.collect import collect
from crossmodal.reporting.results.metrics import TYPES, distinct
from tests.reporting.drawn import make_run


def test_columns_and_papers(made: Path, plan: Plan) -> None:
    metrics = pd.read_parquet(made / "metrics.parquet")
    assert list(metrics) == list(TYPES)
    shared = metrics[(metrics.model == "vsepp") & (metrics.variant == "") & (metrics.split == "full")]
    assert set(shared.paper) == {"mfsr", "a3vse"}
    assert len(shared) == 2 * 3 * 11  # papers, seeds, numbers
    assert len(distinct(shared)) == 3 * 11
    assert set(metrics[metrics.model == "vse0"].paper) == {"mfsr"}


def test_controls_of_no_paper_are_kept(tmp_path: Path, plan: Plan) -> None:
    job = plan.jobs["world/full/chance/seed0"].model_copy(update={"papers": ()})
    make_run(tmp_path / job.key, job)
    assert set(collect(plan, tmp_path, {job.key: job}).paper) == {""}


def test_damaged_runs_are_left_out_and_named(made: Path, tmp_path: Path, plan: Plan, caplog) -> None:
    keys = [f"world/full/vsepp/seed{seed}" for seed in (0, 1, 2)] + ["world/full/vse0/seed0", "world/full/vse0/seed1"]
    for key in keys:
        shutil.copytree(made / "runs" / key, tmp_path / key)
    (tmp_path / keys[0] / "instance_retrieval" / "metrics.json").write_text('{"job": ')
    content = json.loads((tmp_path / keys[1] / "instance_retrieval" / "metrics.json").read_text())
    content["numbers"][0]["value"] = float("nan")
    (tmp_path / keys[1] / "instance_retrieval" / "metrics.json").write_text(json.dumps(content))
    shutil.copy(
        tmp_path / keys[3] / "instance_retrieval" / "metrics.json",
        tmp_path / keys[2] / "instance_retrieval" / "metrics.json",
    )  # another job's
    (tmp_path / keys[4] / "instance_retrieval" / "metrics.json").write_text('{"job": {"dataset": "world"}}')
    with caplog.at_level(logging.WARNING):
        found = collect(plan, tmp_path)
    assert set(found.model) == {"vse0"}
    assert set(found.seed) == {0}
    assert len([r for r in caplog.records if r.levelno == logging.WARNING]) == 4
    assert all(any(key in record.getMessage() for record in caplog.records) for key in (*keys[:3], keys[4]))


def test_nothing_made_yet(tmp_path: Path, plan: Plan) -> None:
    found = collect(plan, tmp_path)
    assert len(found) == 0
    assert list(found) == list(TYPES)
    assert summary.summary(found) == {}


def test_summary_is_the_mean_over_seeds(made: Path) -> None:
    metrics = pd.read_parquet(made / "metrics.parquet")
    found = json.loads((made / "summary.json").read_text())
    runs = [
        json.loads((made / f"runs/world/full/vsepp/seed{s}/instance_retrieval/metrics.json").read_text())
        for s in (0, 1, 2)
    ]
    sums = [next(n["value"] for n in run["numbers"] if n["metric"] == "recall_sum") for run in runs]
    assert found["world"]["full"]["vsepp"]["recall_sum"] == pytest.approx(sum(sums) / 3, abs=1e-3)
    assert found["world"]["full"]["oracle"]["text-to-image.recall@1"] == 100.0
    assert "vsepp.batch24" in found["world"]["full"]
    folded = metrics.assign(protocol="fold5")
    assert "fold5.recall_sum" in summary.summary(folded)["world"]["full"]["vsepp"]
    halves = summary.summary(pd.concat([metrics, folded.assign(value=folded.value / 2)]))["world"]["full"]["vsepp"]
    assert halves["recall_sum"] == found["world"]["full"]["vsepp"]["recall_sum"]
    assert halves["fold5.recall_sum"] == pytest.approx(sum(sums) / 6, abs=1e-3)


def test_headline_is_one_number_a_model(made: Path) -> None:
    found = json.loads((made / "headline.json").read_text())["world"]["full"]
    whole = json.loads((made / "summary.json").read_text())["world"]["full"]
    assert found == {name: {"recall_sum": numbers["recall_sum"]} for name, numbers in whole.items()}
    metrics = pd.read_parquet(made / "metrics.parquet")
    rows = metrics[metrics.metric == "recall_sum"].assign(metric="map@50", aspect="average")
    assert summary.headline(rows)["world"]["full"]["oracle"] == {"map@50": 600.0}
    both = summary.headline(pd.concat([metrics, rows]))
    assert both["world"]["full"]["oracle"] == {"recall_sum": 600.0}


def test_plots(made: Path) -> None:
    curves = pd.read_csv(made / "plots" / "learning_curves.csv")
    assert list(curves) == summary.CURVES
    assert curves.run.nunique() == 6 * 3  # the controls are not trained
    history = pd.read_parquet(made / "runs/world/full/vse0/seed0/history.parquet")
    shown = curves[curves.run == "world/full/vse0/seed0"].validation.to_numpy()
    assert shown == pytest.approx(history.val_recall_sum.to_numpy(), rel=1e-5)

    recalls = pd.read_csv(made / "plots" / "recall.csv")
    assert list(recalls) == summary.RECALLS
    one = recalls[(recalls.run == "world/full/oracle/seed0") & (recalls.aspect == "image-to-text")]
    assert one.k.tolist() == [1, 5, 10]
    assert one.recall.tolist() == [100.0] * 3


def test_runs_with_classes_are_drawn_by_their_precision(monkeypatch) -> None:
    epochs = {"run": ["a", "b"], "name": ["x", "y"], "dataset": "d", "split": "full", "epoch": 1, "loss": 0.5}
    frame = pd.DataFrame({**epochs, "val_recall_sum": [100.0, None], "val_map@50_sum": [None, 70.0]})
    monkeypatch.setattr(summary.runs, "histories", lambda folder, jobs: frame)
    assert summary.curves({}, Path()).validation.tolist() == [100.0, 70.0]
