"""Figures, the gallery and the page that holds them all."""

from __future__ import annotations

import json
import logging
import re
import shutil
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pandas as pd
import pytest

from crossmodal import experiments
from crossmodal.datasets.items import COLUMNS
from crossmodal.experiments import Plan
from crossmodal.reporting.figures import canvas, learning_curves
from crossmodal.reporting.figures.annotation import annotation
from crossmodal.reporting.page import leaderboard, report, sections
from crossmodal.reporting.page.curves import curves, label
from crossmodal.reporting.page.gallery import Items, choose, described, gallery
from crossmodal.reporting.results import collect, runs
from crossmodal.reporting.results.metrics import distinct
from tests.reporting.drawn import ROOT, draw_figures, make_results

TITLES = {"world": "embedded world"}


def test_figures_are_the_same_bytes_each_time(made: Path, plan: Plan) -> None:
    metrics, epochs = pd.read_parquet(made / "metrics.parquet"), runs.histories(made / "runs", plan.jobs)
    for draw in (lambda: learning_curves.learning_curves(epochs, TITLES), lambda: annotation(metrics, TITLES)):
        first = draw()
        assert draw() == first
        assert "<dc:date>" not in first
        ElementTree.fromstring(first)
    assert "vsepp.batch24" in learning_curves.learning_curves(epochs, TITLES)
    drawn = annotation(metrics, TITLES)
    assert all(f"{tick} %" in drawn for tick in (2, 10, 20, 100))
    free = metrics[(metrics.model == "vsepp") & (metrics.split == "full")].assign(model="sg", split="none")
    assert "sg, no pairs" not in drawn
    assert "sg, no pairs" in annotation(pd.concat([metrics, free]), TITLES)


def test_the_criterion_of_classes_is_drawn(made: Path, plan: Plan) -> None:
    epochs = runs.histories(made / "runs", plan.jobs).rename(columns={"val_recall_sum": "val_map@50_sum"})
    drawn = learning_curves.learning_curves(epochs, TITLES)
    assert "sum of mAP@50, validation" in drawn
    assert "sum of recalls" not in drawn
    one = epochs[epochs.run == epochs.run.iloc[0]]
    assert learning_curves.run_curve(one, "title").count("sum of mAP@50, validation") == 1


def test_a_run_without_a_criterion_is_done(made: Path, plan: Plan) -> None:
    metrics = pd.read_parquet(made / "metrics.parquet")
    plain = report.criterion_of_runs(metrics[metrics.metric != "recall_sum"])
    assert plain.empty
    rows = report.overview(plain, {key: {"seconds": 60.0} for key in plan.jobs}, plan.jobs)
    assert all(row["done"] == row["planned"] for row in rows)
    assert {row["criterion"] for row in rows} == {"–"}
    assert {row["seconds"] for row in rows} == {"1 min 0 s"}


def test_systems_are_told_apart_by_what_they_have() -> None:
    about = {"paper": "", "split": "full", "variant": "", "protocol": "all", "n_queries": 1, "n_gallery": 1}
    values = [("a", "x", 0, "both", "recall_sum", 300.0), ("a", "x", 1, "both", "recall_sum", 310.0)]
    values += [("a", "y", 0, "both", "recall_sum", 320.0), ("b", "x", 0, "average", "map@50", 40.0)]
    values += [("b", "y", 0, "average", "map@50", 50.0), ("b", "oracle", 0, "average", "map@50", 100.0)]
    names = ["dataset", "model", "seed", "aspect", "metric", "value"]
    found = report.best(report.criterion_of_runs(pd.DataFrame(values, columns=names).assign(**about)))
    assert found[["dataset", "name", "mean", "size"]].to_numpy().tolist() == [
        ["a", "y", 320.0, 1],
        ["a", "x", 305.0, 2],
        ["b", "y", 50.0, 1],
        ["b", "x", 40.0, 1],
    ]


def test_figures_of_nothing_say_so(made: Path) -> None:
    metrics = pd.read_parquet(made / "metrics.parquet")
    assert "One degree of annotation" in annotation(metrics[metrics.split == "full"], TITLES)
    assert "No run has been trained" in learning_curves.learning_curves(runs.histories(made / "none", {}), TITLES)


def test_inline_svg_follows_the_page(made: Path) -> None:
    body = sections.inline(annotation(pd.read_parquet(made / "metrics.parquet"), TITLES), "label")
    assert body.startswith("<svg class=")
    assert canvas.INK not in body
    assert "var(--ink)" in body
    assert not re.search(r'<svg[^>]* width="', body)


def test_gallery_marks_the_true_matches(made: Path) -> None:
    items = Items(made.parent / "data" / "world")
    found = gallery(items, made / "runs/world/full/vse0/seed0")
    assert set(found.directions) == {"image-to-text", "text-to-image"}
    for aspect, queries in found.directions.items():
        assert len(queries) == 6
        assert [q.rank for q in queries] == sorted(q.rank for q in queries)
        for q in queries:
            scene = q.id.split("#")[0]
            assert [answer.true for answer in q.top] == [answer.id.split("#")[0] == scene for answer in q.top]
            assert any(answer.true for answer in q.top) == (q.rank <= 5) == (q.truth is None)
            assert [answer.score for answer in q.top] == sorted((answer.score for answer in q.top), reverse=True)
            assert all(("#" in answer.id) == (aspect == "image-to-text") for answer in q.top)
    assert gallery(items, made / "runs/world/full/vse0/seed0") == found
    other = gallery(items, made / "runs/world/full/vsepp/seed1", like=found)
    assert [[q.id for q in part] for part in other.directions.values()] == [
        [q.id for q in part] for part in found.directions.values()
    ]
    assert other != found


def test_a_gallery_of_classes_marks_all_of_the_class(made: Path) -> None:
    items = Items(made.parent / "data" / "world", "label")
    items.frame["label"] = [f"class {int(id_[3:].split('#')[0]) % 2}" for id_ in items.frame.index]
    found = gallery(items, made / "runs/world/full/vse0/seed0")
    for query in found.directions["text-to-image"]:
        even = int(query.id[3:].split("#")[0]) % 2
        assert [answer.true for answer in query.top] == [int(answer.id[3:]) % 2 == even for answer in query.top]


def test_classes_are_shown_by_their_names(tmp_path: Path) -> None:
    """Where models rank classes, which are no items of their own."""
    rows = [("a", "image", "a", "finch", "test", "a.jpg"), ("b", "image", "b", "heron", "test", "b.jpg")]
    pd.DataFrame(rows, columns=list(COLUMNS)).to_parquet(tmp_path / "items.parquet")
    texts = {"label": ["finch", "heron"], "text": ["small", "tall"]}
    pd.DataFrame(texts).to_parquet(tmp_path / "classes.parquet")
    asked = {"protocol": "all", "aspect": "image-to-class", "fold": 0, "query_id": ["a", "b"], "rank": [2, 1]}
    top = {"top": [["class/heron", "class/finch"], ["class/heron", "class/finch"]], "top_scores": [[0.9, 0.8]] * 2}
    (tmp_path / "category_retrieval").mkdir()
    pd.DataFrame({**asked, **top}).to_parquet(tmp_path / "category_retrieval" / "examples.parquet")
    birds = Items(tmp_path, "label")
    found = gallery(birds, tmp_path).directions["image-to-class"]
    assert {query.id: [answer.true for answer in query.top] for query in found} == {
        "a": [False, True],
        "b": [True, False],
    }
    shown = birds.describe("class/heron", 0)
    assert shown == {"modality": "class", "label": "heron", "text": "heron: tall"}


def test_pictures_past_the_room_are_left_out(made: Path, caplog) -> None:
    items = Items(made.parent / "data" / "world")
    found = gallery(items, made / "runs/world/full/vse0/seed0")
    (whole,) = described([(items, [found])])
    pictures = {id_: one["picture"] for id_, one in whole["items"].items() if "picture" in one}
    assert pictures
    assert all(("text" in one) != ("picture" in one) for one in whole["items"].values())
    with caplog.at_level(logging.WARNING):
        (short,) = described([(items, [found])], most=2 * max(map(len, pictures.values())))
    kept = sum("picture" in one for one in short["items"].values())
    assert 0 < kept < len(pictures)
    assert f"{len(pictures) - kept} of {len(whole['items'])} items have no thumbnail" in caplog.text


def marked(plan: Plan, *names: str) -> Plan:
    """The plan with experiments marked `gallery: true`."""

    def of(name: str, one: experiments.Experiment) -> experiments.Experiment:
        return one.model_copy(update={"gallery": name in names})

    papers = {
        key: paper.model_copy(update={"experiments": {name: of(name, one) for name, one in paper.experiments.items()}})
        for key, paper in plan.papers.items()
    }
    return experiments.Plan(plan.params, papers)


def test_galleries_of_sparse_runs_stand_beside_the_best(made: Path, plan: Plan) -> None:
    criterion = report.criterion_of_runs(pd.read_parquet(made / "metrics.parquet"))
    best = report.best(criterion).name.tolist()[: report.SYSTEMS]
    sparse = ("vsepp-flickr30k-10pct-5cap", "vsepp-coco-10pct-1cap")
    chosen = marked(plan, *sparse)
    (found,) = report.galleries(chosen, chosen.jobs, criterion, made, made.parent / "data")
    keys = [run["run"] for run in found["runs"]]
    assert [key.split("/")[:3] for key in keys] == [
        *(["world", "full", name] for name in best),
        ["world", "10pct-5cap", "vsepp"],
        ["world", "10pct-1cap", "vsepp"],
    ]
    assert [key.split("/")[3] for key in keys[2:]] == ["seed0", "seed0"]
    for aspect, queries in found["runs"][0]["directions"].items():
        for run in found["runs"][1:]:
            answered = run["directions"][aspect]
            assert [one["query"] for one in answered] == [one["query"] for one in queries]
            own = pd.read_parquet(made / "runs" / run["run"] / "instance_retrieval" / "examples.parquet").query(
                "aspect == @aspect"
            )
            own = own.set_index("query_id")
            for one in answered:
                assert one["rank"] == own["rank"][one["query"]]
                assert [row[0] for row in one["top"]] == own.top[one["query"]][:5].tolist()
                scene = one["query"].split("#")[0]
                assert [row[1] for row in one["top"]] == [row[0].split("#")[0] == scene for row in one["top"]]
    # A run that is marked and one of the best is shown once; one that is not of the scope, or not made, is not.
    again = marked(plan, "vsepp-flickr30k-full", *sparse)
    best_of = {key: job for key, job in again.jobs.items() if job.split == "full"}
    (found,) = report.galleries(again, best_of, criterion, made, made.parent / "data")
    shown = [run["run"] for run in found["runs"]]
    assert len(shown) == len(set(shown))
    assert {key.split("/")[1] for key in shown} == {"full"}


def test_the_a3vse_paper_marks_sparse_runs_of_it_and_of_scan(plan: Plan) -> None:
    whole = experiments.plan(plan.params, ROOT / "papers")
    assert {job.key for job in whole.shown(whole.jobs)} == {
        f"world/{split}/{model}/seed0" for split in ("10pct-1cap", "10pct-5cap") for model in ("a3vse", "scan")
    }
    assert whole.shown({}) == []


def test_choice_mixes_hits_and_misses() -> None:
    frame = pd.DataFrame({"rank": [1] * 50 + [4] * 3 + [40] * 2})
    assert choose(frame)["rank"].tolist() == [1, 1, 4, 4, 40, 40]
    assert choose(frame[frame["rank"] == 1])["rank"].tolist() == [1] * 6
    assert len(choose(frame.head(3))) == 3


def test_a_missing_gallery_is_a_warning(tmp_path: Path, caplog) -> None:
    assert gallery(Items(tmp_path), tmp_path) is None
    assert "no gallery" in caplog.text


@pytest.fixture(scope="module")
def page(made: Path, plan: Plan) -> str:
    draw_figures(plan, made)
    report.render(plan, made, made.parent / "data", made / "report.html")
    return (made / "report.html").read_text(encoding="utf-8")


def content(page: str, name: str) -> dict:
    return json.loads(re.search(rf'<script type="application/json" id="data-{name}">(.*?)</script>', page, re.S)[1])


def test_the_page_loads_nothing(page: str) -> None:
    body = page[: page.index("<script>")]
    assert not re.search(r"""(?:src|href|action|data)\s*=\s*["']?\s*(?:https?:)?//""", body)
    assert not re.search(r"@import|url\((?!#)", page)
    assert "default-src 'none'" in page
    assert not re.search(r"<script[^>]*\bsrc", page)
    for source in re.findall(r'\bsrc="([^"]{5})', page):
        assert source == "data:"
    for anchor in re.findall(r'href="#([\w.-]+)"', page):
        assert f'id="{anchor}"' in page, anchor


def test_the_page_shows_it_all(page: str) -> None:
    sections = ("summary", "leaderboard", "paper-mfsr", "paper-a3vse", "curves", "annotation", "gallery", "runs")
    for section in sections:
        assert f'<section id="{section}"' in page
    assert page.count('<figure class="table"') == 8
    assert page.count('<svg class="figure"') == 2
    assert "light-dark(" in page
    assert "36 checks pass" in page
    assert "24<small> of 24 done" in page
    assert len(page) < 1_500_000
    shown = content(page, "galleries")
    assert [len(entry["runs"]) for entry in shown] == [2]
    texts = [one["text"] for one in shown[0]["items"].values() if one["modality"] == "text"]
    assert any("& friends <0>" in text for text in texts)  # captions are text, whatever they hold
    assert "friends <0>" not in page


def test_no_chance_level_is_the_best(made: Path) -> None:
    metrics = pd.read_parquet(made / "metrics.parquet")
    one = metrics[metrics.metric == "recall@1"]
    board = leaderboard.leaderboard(pd.concat([one, one.assign(metric="map@50_chance")]), {}, {})
    assert {c["metric"]: c["compared"] for c in board["columns"]} == {"recall@1": True, "map@50_chance": False}


def test_the_board_holds_every_number(page: str, made: Path) -> None:
    metrics = distinct(pd.read_parquet(made / "metrics.parquet"))
    board = content(page, "board")
    assert board["base"] == "runs"
    found = {}
    for row in board["rows"]:
        for j, values in row["values"].items():
            column = board["columns"][int(j)]
            for seed, value in zip(row["seeds"], values, strict=True):
                key = (row["dataset"], row["split"], row["name"], seed, row["protocol"])
                found[*key, column["aspect"], column["metric"]] = value
    assert len(found) == len(metrics)
    for row in metrics.itertuples():
        key = (row.dataset, row.split, row.name, row.seed, row.protocol, row.aspect, row.metric)
        assert found[key] == pytest.approx(row.value, abs=6e-4)
    assert {c["metric"] for c in board["columns"] if c["lower"]} == {"median_rank", "mean_rank"}
    overview = board["views"][0]
    assert overview["title"] == "Overview"
    labels = [board["columns"][j]["label"] for j in overview["columns"]]
    assert labels == ["R@1", "R@5", "R@10", "R@1", "R@5", "R@10", "Sum"]


def test_the_page_holds_every_epoch(page: str, made: Path, plan: Plan) -> None:
    epochs = runs.histories(made / "runs", plan.jobs)
    drawn = content(page, "curves")
    assert drawn["measures"][0] == {"name": "val_recall_sum", "label": "Validation: sum of recalls"}
    assert {run["run"] for run in drawn["runs"]} == set(epochs.run)
    for run in drawn["runs"]:
        own = epochs[epochs.run == run["run"]]
        assert run["epochs"] == own.epoch.tolist()
        assert run["values"]["loss"] == pytest.approx(own.loss.tolist(), rel=1e-4)


def test_long_histories_are_thinned_but_keep_their_ends() -> None:
    frame = pd.DataFrame({"run": "a", "dataset": "d", "split": "full", "name": "m", "seed": 0, "epoch": range(1, 1001)})
    (run,) = curves(frame.assign(loss=1.0))["runs"]
    assert len(run["epochs"]) == 200
    assert run["epochs"][0] == 1
    assert run["epochs"][-1] == 1000
    assert label("val_image-to-text_recall@1") == "Validation: R@1, image to text"


def test_the_page_is_the_same_each_time(made: Path, plan: Plan, page: str) -> None:
    report.render(plan, made, made.parent / "data", made / "again.html")
    assert (made / "again.html").read_text(encoding="utf-8") == page


def test_the_quick_page_of_a_part(tmp_path: Path, plan: Plan) -> None:
    quick = {key: job for key, job in plan.jobs.items() if job.quick}
    results = make_results(tmp_path, plan, [key for key in quick if "vse0" not in key])
    (results / "runs/world/full/vsepp/seed0/instance_retrieval/examples.parquet").unlink()
    shutil.rmtree(tmp_path / "data")
    target = results / "quick"
    collect.write(plan, quick, results / "runs", target)
    draw_figures(plan, target, quick)
    report.render(plan, results, tmp_path / "data", target / "report.html", quick)
    page = (target / "report.html").read_text(encoding="utf-8")
    assert "4<small> of 5 done" in page
    assert "missing: seed 0" in page
    assert 'id="gallery"' not in page
    assert (target / "figures" / "learning_curves.svg").exists()


def test_the_page_of_no_runs(tmp_path: Path, plan: Plan) -> None:
    collect.write(plan, plan.jobs, tmp_path / "runs", tmp_path)
    report.render(plan, tmp_path, tmp_path / "data", tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "No run is done yet" in page
    assert "0<small> of 24 done" in page


def test_failed_controls_head_the_page(made: Path, plan: Plan, tmp_path: Path) -> None:
    metrics = pd.read_parquet(made / "metrics.parquet")
    metrics.loc[(metrics.model == "chance") & (metrics.metric == "recall@10"), "value"] = 80.0
    metrics.to_parquet(tmp_path / "metrics.parquet")
    from crossmodal.reporting.results.comparison import compare

    compare(plan, metrics).to_parquet(tmp_path / "comparison.parquet")
    shutil.copy(made / "annotation_efficiency.csv", tmp_path)
    report.render(plan, made, made.parent / "data", tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "6 off<small> of 36 checks" in page
    assert "Quality control failed" in page
