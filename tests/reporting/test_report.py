"""Figures, the gallery and the page that holds them all."""

from __future__ import annotations

import base64
import io
import logging
import re
import shutil
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pandas as pd
import pytest
from PIL import Image

from conftest import make_results
from crossmodal.experiments import Plan
from crossmodal.reporting import collect, figures, report, runs
from crossmodal.reporting.gallery import choose, gallery, thumbnail

TITLES = {"world": "embedded world"}


def test_share_of_splits() -> None:
    assert figures.share("full") == 100
    assert figures.share("10pct-2cap") == pytest.approx(4)
    assert figures.share("50pct-5cap") == pytest.approx(50)


def test_figures_are_the_same_bytes_each_time(made: Path, plan: Plan) -> None:
    metrics, epochs = pd.read_parquet(made / "metrics.parquet"), runs.histories(made / "runs", plan.jobs)
    for draw in (lambda: figures.learning_curves(epochs, TITLES), lambda: figures.annotation(metrics, TITLES)):
        first = draw()
        assert draw() == first
        assert "<dc:date>" not in first
        ElementTree.fromstring(first)
    assert "vsepp.batch24" in figures.learning_curves(epochs, TITLES)
    drawn = figures.annotation(metrics, TITLES)
    assert all(f"{tick} %" in drawn for tick in (2, 10, 20, 100))
    free = metrics[(metrics.model == "vsepp") & (metrics.split == "full")].assign(model="sg", split="none")
    assert "sg, no pairs" not in drawn
    assert "sg, no pairs" in figures.annotation(pd.concat([metrics, free]), TITLES)


def test_figures_of_nothing_say_so(made: Path) -> None:
    metrics = pd.read_parquet(made / "metrics.parquet")
    assert "One degree of annotation" in figures.annotation(metrics[metrics.split == "full"], TITLES)
    assert "No run has been trained" in figures.learning_curves(runs.histories(made / "none", {}), TITLES)


def test_inline_svg_follows_the_page(made: Path) -> None:
    body = figures.inline(figures.annotation(pd.read_parquet(made / "metrics.parquet"), TITLES), "label")
    assert body.startswith("<svg class=")
    assert figures.INK not in body
    assert "var(--ink)" in body
    assert not re.search(r'<svg[^>]* width="', body)


def test_gallery_marks_the_true_matches(made: Path) -> None:
    found = gallery(made.parent / "data" / "world", made / "runs/world/full/vse0/seed0")
    assert set(found.directions) == {"image-to-text", "text-to-image"}
    for direction, queries in found.directions.items():
        assert len(queries) == 6
        assert [q.rank for q in queries] == sorted(q.rank for q in queries)
        for q in queries:
            scene = q.query.id.split("#")[0]
            assert [item.true for item in q.top] == [item.id.split("#")[0] == scene for item in q.top]
            assert any(item.true for item in q.top) == (q.rank <= 5) == (q.truth is None)
            assert all((item.image if direction == "text-to-image" else item.text) for item in q.top)
    again = gallery(made.parent / "data" / "world", made / "runs/world/full/vse0/seed0")
    assert again == found


def test_choice_mixes_hits_and_misses() -> None:
    frame = pd.DataFrame({"rank": [1] * 50 + [4] * 3 + [40] * 2})
    assert choose(frame)["rank"].tolist() == [1, 1, 4, 4, 40, 40]
    assert choose(frame[frame["rank"] == 1])["rank"].tolist() == [1] * 6
    assert len(choose(frame.head(3))) == 3


def test_thumbnails(tmp_path: Path, caplog) -> None:
    Image.new("RGB", (640, 480), "teal").save(tmp_path / "a.jpg")
    uri = thumbnail(tmp_path / "a.jpg")
    with Image.open(io.BytesIO(base64.b64decode(uri.split(",")[1]))) as small:
        assert (small.format, small.size) == ("JPEG", (149, 112))
    (tmp_path / "b.jpg").write_bytes((tmp_path / "a.jpg").read_bytes()[:300])
    with caplog.at_level(logging.WARNING):
        assert thumbnail(tmp_path / "b.jpg") is None
        assert thumbnail(tmp_path / "c.jpg") is None
    assert "b.jpg" in caplog.text
    assert "c.jpg" in caplog.text


def test_a_missing_gallery_is_a_warning(tmp_path: Path, caplog) -> None:
    assert gallery(tmp_path, tmp_path) is None
    assert "no gallery" in caplog.text


@pytest.fixture(scope="module")
def page(made: Path, plan: Plan) -> str:
    report.render(plan, made, made.parent / "data", made / "report.html")
    return (made / "report.html").read_text(encoding="utf-8")


def test_the_page_loads_nothing(page: str) -> None:
    assert not re.search(r"""(?:src|href|action|data)\s*=\s*["']?\s*(?:https?:)?//""", page)
    assert not re.search(r"@import|url\((?!#)", page)
    assert "<script" not in page
    for source in re.findall(r'\bsrc="([^"]{5})', page):
        assert source == "data:"
    for anchor in re.findall(r'href="#([\w.-]+)"', page):
        assert f'id="{anchor}"' in page, anchor


def test_the_page_shows_it_all(page: str) -> None:
    for section in ("summary", "paper-mfsr", "paper-a3vse", "curves", "annotation", "gallery", "runs"):
        assert f'<section id="{section}"' in page
    assert page.count('<figure class="table"') == 8
    assert page.count('<svg class="figure"') == 3
    assert "prefers-color-scheme: dark" in page
    assert "36 checks pass" in page
    assert "24<small> of 24 done" in page
    assert "observer 0 &amp; friends &lt;0&gt;" in page  # captions are text, whatever they hold
    assert 'class="thumb true"' in page
    assert len(page) < 1_500_000


def test_the_page_is_the_same_each_time(made: Path, plan: Plan, page: str, tmp_path: Path) -> None:
    report.render(plan, made, made.parent / "data", tmp_path / "again.html", scope=made)
    assert (tmp_path / "again.html").read_text(encoding="utf-8") == page


def test_the_quick_page_of_a_part(tmp_path: Path, plan: Plan) -> None:
    quick = {key: job for key, job in plan.jobs.items() if job.quick}
    results = make_results(tmp_path, plan, [key for key in quick if "vse0" not in key])
    (results / "runs/world/full/vsepp/seed0/queries.parquet").unlink()
    shutil.rmtree(tmp_path / "data")
    target = results / "quick"
    collect.write(plan, quick, results / "runs", target)
    report.render(plan, results, tmp_path / "data", target / "report.html", quick)
    page = (target / "report.html").read_text(encoding="utf-8")
    assert "4<small> of 5 done" in page
    assert "missing: seed 0" in page
    assert 'id="gallery"' not in page
    assert (target / "figures" / "learning-curves.svg").exists()


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
    from crossmodal.reporting.comparison import compare

    compare(plan, metrics).to_parquet(tmp_path / "comparison.parquet")
    report.render(plan, made, made.parent / "data", tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "6 off<small> of 36 checks" in page
    assert "Quality control failed" in page
