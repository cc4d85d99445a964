"""Other cut-offs of a run that is tested: what its test itself gives at the usual ones, and values by hand."""

import json

import numpy as np
import pandas as pd
import pytest
import torch
from typer.testing import CliRunner

from crossmodal import cli
from crossmodal.core.errors import UserError
from crossmodal.core.files import write_json
from crossmodal.datasets import items as prepared
from crossmodal.experiments import Job
from crossmodal.reporting.results import collect, comparison, cutoffs
from crossmodal.reporting.tables import terminal
from crossmodal.tasks.base import tasks
from crossmodal.tasks.ranked import protocols
from crossmodal.tasks.ranked.encodings import Pair
from tests.reporting.toy import toy_plan

N = 12


def job(relevance="group"):
    return Job(
        dataset="world", split="full", model="vsepp", variant="", seed=0, inputs={}, settings={}, folds=[1, 2],
        relevance=relevance, threads=1, scale="embedded",
    )  # fmt: skip


@pytest.fixture
def run(tmp_path):
    """A run of twelve images with two captions each, tested by groups or by classes: its folder and its numbers."""

    def make(relevance="group", labels=None):
        rng = np.random.default_rng(0)
        groups = {"image": np.arange(N), "text": np.arange(2 * N) // 2}
        ids = {m: np.array([f"{m}{n}" for n in range(len(g))], object) for m, g in groups.items()}
        folder, data = tmp_path / f"run-{relevance}", tmp_path / "data" / "world"
        folder.mkdir(exist_ok=True)
        codes = groups if labels is None else {m: labels[g] for m, g in groups.items()}
        names = np.array(["a", "b", "c"])
        rows = [
            (ids[m][n], m, f"g{g}", None if labels is None else names[labels[g]], "test", "x")
            for m in ids
            for n, g in enumerate(groups[m])
        ]
        frame = pd.DataFrame(rows, columns=list(prepared.COLUMNS))
        prepared.write(frame, data, {"root": "."})
        vectors = {m: torch.from_numpy(rng.normal(size=(len(g), 5)).astype("f4")) for m, g in groups.items()}
        items = protocols.Items(ids, groups, codes, {}, relevance == "label")
        target = folder / ("instance_retrieval" if labels is None else "category_retrieval")
        target.mkdir(parents=True, exist_ok=True)
        folds = [1, 2] if labels is None else [1]
        task = tasks()[target.name]
        numbers = task.written(items, [Pair(vectors, codes)], folds, target)
        about = {key: getattr(job(), key) for key in ("dataset", "split", "model", "variant", "seed")}
        write_json(target / "metrics.json", {"job": about, "numbers": numbers})
        return folder, tmp_path / "data", {(n["aspect"], n["protocol"], n["metric"]): n for n in numbers}

    return make


def test_what_the_test_gave_is_given_again(run):
    folder, data, numbers = run()
    found = cutoffs.measure(folder, job(), data, ["recall@5", "recall@10", "map@50"])
    assert len(found) == 12  # two directions, two protocols
    for row in found:
        assert row.pop("task") == "instance_retrieval"
        assert row == numbers[row["aspect"], row["protocol"], row["metric"]]
    folder, data, numbers = run("label", np.arange(N) % 3)
    found = cutoffs.measure(folder, job("label"), data, ["recall@1", "map@50"])
    assert {row["metric"] for row in found} == {"recall@1", "map@50", "map@50_chance"}
    for row in found:
        other = numbers[row["aspect"], row["protocol"], row["metric"]]
        assert row["value"] == pytest.approx(other["value"], abs=1e-12)
        assert row["n_queries"] == other["n_queries"]
        assert row["n_gallery"] == other["n_gallery"]


def test_with_one_relevant_item_the_rank_says_all(run):
    """Of a caption's own image alone: its precision is 1 / rank, its gain 1 / log2(rank + 1), up to the cut."""
    folder, data, _ = run()
    ranks = pd.read_parquet(folder / "instance_retrieval" / "examples.parquet").query(
        "protocol == 'all' and aspect == 'text-to-image'"
    )
    found = cutoffs.measure(folder, job(), data, ["map@4", "ndcg@4", "recall@4", "pair_recall@4"])
    values = {
        row["metric"]: row["value"] for row in found if (row["aspect"], row["protocol"]) == ("text-to-image", "all")
    }
    rank = ranks["rank"].to_numpy()
    inside = rank <= 4
    assert values["recall@4"] == pytest.approx(100 * inside.mean())
    assert values["pair_recall@4"] == pytest.approx(values["recall@4"])
    assert values["map@4"] == pytest.approx(100 * np.mean(inside / rank))
    assert values["ndcg@4"] == pytest.approx(100 * np.mean(inside / np.log2(rank + 1)))


def test_several_labels_are_shared_ones(run):
    """Two of three labels each: every image and text share at least one, so that precision is whole at any cut."""
    folder, data, _ = run("label", np.arange(N) % 3)
    path = data / "world" / "items.parquet"
    frame = pd.read_parquet(path)
    pairs = [["a", "b"], ["b", "c"], ["a", "c"]]
    frame["label"] = [prepared.encoded_labels(pairs[int(group[1:]) % 3]) for group in frame.group_id]
    frame.to_parquet(path)
    found = cutoffs.measure(folder, job("label"), data, ["map@7", "ndcg@3", "pair_recall@9"])
    values = {(row["aspect"], row["protocol"], row["metric"]): row["value"] for row in found}
    for aspect in ("image-to-text", "text-to-image", "average"):
        assert values[aspect, "all", "map@7"] == pytest.approx(100)
        assert values[aspect, "all", "map@7_chance"] == pytest.approx(100)
        assert values[aspect, "all", "pair_recall@9"] == values[aspect, "all", "pair_recall@9_chance"]
    # A third of the gallery shares both labels (gain 3), the rest one (gain 1); the best three share both.
    assert values["image-to-text", "all", "ndcg@3_chance"] == pytest.approx(100 * (3 + 1 + 1) / 3 / 3)
    assert 100 / 3 < values["image-to-text", "all", "ndcg@3"] < 100


def test_a_table_asks_for_any_cut_off(run, tmp_path, caplog):
    folder, data, _ = run()
    columns = [{"aspect": "text-to-image", "metric": metric} for metric in ("recall@7", "ndcg@3", "map@1000")]
    rows = [{"label": "One", "published": [70.0, None, None], "experiment": "one"}]
    plan = toy_plan({"columns": columns, "rows": rows}, seeds=[0], paths={"data": str(data)})
    target = tmp_path / "runs" / "world" / "full" / "vsepp"
    target.mkdir(parents=True)
    folder.rename(target / "seed0")
    assert cutoffs.wanted(plan)["world"] == {"recall@7", "ndcg@3", "map@1000"}
    metrics = collect.collect(plan, tmp_path / "runs")
    cells = comparison.compare(plan, metrics, folder=tmp_path / "runs")
    assert list(cells.status) == ["done"] * 3
    expected = cutoffs.measure(target / "seed0", job(), data, ["recall@7", "ndcg@3", "map@1000"])
    values = {r["metric"]: r["value"] for r in expected if (r["aspect"], r["protocol"]) == ("text-to-image", "all")}
    assert list(cells.ours_mean) == [values["recall@7"], values["ndcg@3"], values["map@1000"]]
    assert cells.ours_low[0] < values["recall@7"] < cells.ours_high[0]
    (target / "seed0" / "instance_retrieval" / "embeddings.npz").unlink()
    cells = comparison.compare(plan, collect.collect(plan, tmp_path / "runs"))
    assert "vsepp compares none" in " ".join(caplog.text.split())
    assert cells.status[2].startswith("missing: ")


def test_faults(run):
    folder, data, _ = run()
    with pytest.raises(UserError, match="metric 'recall@0': expected recall@K, map@K, ndcg@K or pair_recall@K"):
        cutoffs.measure(folder, job(), data, ["recall@0"])
    (folder / "instance_retrieval" / "embeddings.npz").unlink()
    assert len(cutoffs.measure(folder, job(), data, ["recall@3"])) == 4
    with pytest.raises(
        UserError, match=r"embeddings\.npz: not found; .*computed from vectors, but vsepp compares none"
    ):
        cutoffs.measure(folder, job(), data, ["map@3"])


def test_controls_are_checked_at_any_cut_off():
    about = {"paper": "", "dataset": "d", "split": "full", "variant": "", "seed": 0, "aspect": "a-to-b"}
    about |= {"task": "instance_retrieval", "protocol": "all", "n_queries": 100, "n_gallery": 100}
    rows = [
        ("chance", "ndcg@9", 12.0),
        ("chance", "ndcg@9_chance", 10.0),
        ("oracle", "ndcg@9", 99.0),
        ("oracle", "recall@40", 100.0),
    ]
    frame = pd.DataFrame([{**about, "model": model, "metric": m, "value": v} for model, m, v in rows]).astype(
        collect.TYPES
    )
    checks = comparison.controls(frame[list(collect.TYPES)])
    found = {(row.model, row.metric): (row.expected, row.ok) for row in checks.itertuples()}
    assert found["chance", "ndcg@9"] == (10.0, True)
    assert found["oracle", "ndcg@9"] == (100.0, False)
    assert found["oracle", "recall@40"] == (100.0, True)


def test_the_command(run, monkeypatch, capsys):
    folder, data, _ = run()
    plan = toy_plan(seeds=[0], paths={"data": str(data)})
    monkeypatch.setattr(cli.results, "read_plan", lambda: plan)
    monkeypatch.setattr(cli.results, "run_of", lambda plan, name: (job(), folder))
    told = CliRunner().invoke(cli.app, ["measure", "world/full/vsepp/seed0", "recall@3", "ndcg@2", "--json"])
    assert told.exit_code == 0, told.output
    assert json.loads(told.stdout) == cutoffs.measure(folder, job(), data, ["recall@3", "ndcg@2"])
    terminal.show_numbers(cutoffs.measure(folder, job(), data, ["recall@3", "ndcg@2"]))
    shown = capsys.readouterr().out
    assert "nDCG@2" in shown
    assert "text-to-image" in shown
