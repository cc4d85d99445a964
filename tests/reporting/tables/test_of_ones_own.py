"""A table of one's own: a paper without authors, venue, year or published numbers, and rows of several data sets."""

from __future__ import annotations

from typing import Any

import pytest

from crossmodal import experiments
from crossmodal.experiments import Plan
from crossmodal.reporting.results import comparison, cutoffs
from crossmodal.reporting.tables import writers
from tests.on_world import on_world
from tests.reporting.toy import MODELS, seen, toy_metrics, toy_plan

MINE = {"reader": "table", "title": "Mine", "annotations": "raw/mine.csv", "images": "raw/mine", "models": MODELS}
OTHER = {**MINE, "title": "Other"}
TABLE = {
    "id": "t1",
    "title": "Losses",
    "dataset": "mine",
    "columns": [{"aspect": "image-to-text", "metric": "recall@1"}, {"aspect": "text-to-image", "metric": "recall@5"}],
    "rows": [
        {"label": "Sum", "experiment": "sum"},
        {"label": "Hardest", "experiment": "hardest", "differs": "of half the words."},
    ],
}
PAPER: dict[str, Any] = {
    "title": "My comparison",
    "experiments": {"sum": {"model": "vse0", "dataset": "mine"}, "hardest": {"model": "vsepp", "dataset": "mine"}},
    "tables": [TABLE],
}


def own_plan(*rows: dict[str, Any], **experiment: dict[str, Any]) -> Plan:
    value = on_world(papers=["toy"])
    params = experiments.from_config(experiments.merge(value, {"datasets": {"mine": MINE, "other": OTHER}}))
    paper = {**PAPER, "name": "toy", "experiments": PAPER["experiments"] | experiment}
    paper["tables"] = [TABLE | {"rows": [*TABLE["rows"], *rows]}]
    return Plan(params, {"toy": experiments.validated(experiments.Paper, paper, "toy.yaml")})


def test_nothing_is_said_to_be_published(monkeypatch: pytest.MonkeyPatch) -> None:
    plan = own_plan()
    assert plan.papers["toy"].tables[0].rows[0].published == [None, None]
    view = seen(plan, comparison.compare(plan, toy_metrics("mine")))
    assert view.caption[0] == (
        "ours",
        "Here: the test items of Mine (200 images to test on), ranked as a whole; scale embedded; mean ± sample s.d. "
        "over seeds.",
    )
    assert view.notes[0] == ("a", "Of half the words.")
    assert view.notes[1][1] == (
        "Settings here of Sum, in brackets the defaults: batch_size 64 (128), epochs 8 (30), lr 0.001 (0.0002), "
        "lr_drop 6 (15), dim 256 (1024)."
    )
    for write in (writers.to_md, writers.to_tex, writers.to_html):
        text = write(view).lower()
        for word in ("published", "the paper", "none,", "toy,"):
            assert word not in text, (write, word)
    assert view.lines[1].cells[0].mean_text == "64.0"


def test_rows_of_several_data_sets_are_captioned_with_all_of_them() -> None:
    """A row's data set is its experiment's, where it names none; stand-ins are named beside the others."""
    plan = own_plan(
        {"label": "Other's", "experiment": "other"},
        {"label": "Played", "experiment": "flickr"},
        {"label": "Played too", "experiment": "coco"},
        other={"model": "vsepp", "dataset": "other"},
        flickr={"model": "vsepp", "dataset": "flickr30k"},
        coco={"model": "vsepp", "dataset": "coco"},
    )
    paper, table = plan.tables["toy-t1"]
    assert [paper.dataset_of(table, row) for row in table.rows] == ["mine", "mine", "other", "flickr30k", "coco"]
    frame = comparison.compare(plan, toy_metrics("other"))
    assert frame.dataset.tolist()[::2] == ["mine", "mine", "other", "flickr30k", "coco"]
    assert set(cutoffs.wanted(plan)) == {"mine", "other", "world"}
    assert dict(seen(plan, frame).caption)["ours"].startswith(
        "Here: the test items of Mine; the test items of Other (200 images to test on); Flickr30K and MS-COCO are "
        "played by the stand-in “embedded world”, ranked as a whole"
    )
    assert not any("published number" in text for _, text in seen(plan, frame).caption)


def test_a_table_of_what_is_not_ranked_does_not_speak_of_ranks() -> None:
    rows = [{"label": "One", "experiment": "one"}]
    plan = toy_plan({"rows": rows, "columns": [{"aspect": "image-to-caption", "metric": "cider"}]})
    sentences = [text for _, text in seen(plan, comparison.compare(plan, toy_metrics())).caption]
    assert any("tested as a whole" in text for text in sentences)
    assert not any("rank" in text for text in sentences)


def test_a_source_or_a_protocol_without_numbers_is_no_publication() -> None:
    def first(**table: Any) -> str:
        plan = toy_plan({"rows": [{"label": "One", "experiment": "one"}], **table})
        return seen(plan, comparison.compare(plan, toy_metrics())).caption[0][1]

    assert first() == "Of A. Author, V 2020, table 1: 1,000 test images."
    assert first(rows=[{"label": "One", "experiment": "one", "published": [1.0, None]}]).startswith(
        "Published: A. Author, V 2020, table 1: "
    )


@pytest.mark.parametrize(
    ("dataset", "sentence"), [("mine", "Measured on 9 pictures."), ("coco", "Meant for 9 pictures.")]
)
def test_nothing_is_measured_on_items_that_a_stand_in_plays(dataset: str, sentence: str) -> None:
    plan = own_plan(one={"model": "vsepp", "dataset": dataset})
    (table,) = plan.papers["toy"].tables
    row = table.rows[0].model_copy(update={"experiment": "one", "dataset": dataset})
    plan.papers["toy"].tables[0] = table.model_copy(update={"rows": [row], "protocol": "9 pictures"})
    assert seen(plan, comparison.compare(plan, toy_metrics(dataset))).caption[0][1] == sentence


def test_references_say_what_there_is() -> None:
    def paper(**about: Any) -> experiments.Paper:
        return experiments.Paper(**{**PAPER, **about})

    whole = paper(authors="A. Author", venue="V", year=2020, doi="10.1/2")
    assert (whole.reference, whole.credit) == ("A. Author, V 2020, doi:10.1/2", "A. Author. V, 2020.")
    assert (paper().reference, paper().credit) == ("", "")
    assert (paper(year=2026).reference, paper(authors="Me").credit) == ("2026", "Me.")
