"""papers/*.yaml: what a table, a row and an experiment must be, and each mistake's message."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from crossmodal.core.errors import UserError
from crossmodal.experiments import SPLIT, VARIANT, Paper, Row, named_experiments, read_papers, validated

ROOT = Path(__file__).parents[2]
COLUMNS = [{"aspect": "image-to-text", "metric": "recall@1"}, {"aspect": "text-to-image", "metric": "recall@1"}]


def paper(rows=(), table=None, **experiments):
    made = {"id": "t1", "title": "T", "source": "s", "dataset": "coco", "protocol": "p", "columns": COLUMNS}
    made |= {"rows": list(rows)} | (table or {})
    about = {"title": "t", "authors": "a", "venue": "v", "year": 2000}
    return {**about, "experiments": experiments, "tables": [made]}


def row(label="A", published=(1.0, None), **more):
    return {"label": label, "published": list(published), **more}


def fault(value) -> str:
    with pytest.raises(UserError) as caught:
        validated(Paper, value, "papers/x.yaml")
    return str(caught.value)


ONE = {"model": "scan", "dataset": "coco"}
SPLITS = ["full", "none", "1pct-1cap", "99pct-5cap", "10pct-2cap", "classes1of4", "classes40of99"]
NO_SPLITS = ["fulls", "0pct-1cap", "100pct-1cap", "10pct-6cap", "10pct-0cap", "classes0of4", "classes1of0", ""]


def test_a_row_has_a_number_for_each_column():
    for numbers in ((1.0,), (1.0, 2.0, 3.0), ()):
        said = fault(paper([row(), row("B", numbers)]))
        assert f"table t1, row 'B': {len(numbers)} published numbers for 2 columns" in said
    assert validated(Paper, paper([row()]), "x").tables[0].rows[0].published == [1.0, None]


def test_the_baseline_is_a_row():
    assert "table t1: baseline: no row 'AB'; did you mean 'ABC'" in fault(paper([row("ABC")], {"baseline": "AB"}))
    assert validated(Paper, paper([row("ABC")], {"baseline": "ABC"}), "x").tables[0].baseline == "ABC"


def test_a_rows_experiments_are_there():
    said = fault(paper([row(experiment="tow")], two=ONE))
    assert "table t1, row 'A': no experiment 'tow'; did you mean 'two'" in said
    said = fault(paper([row(experiment={"SCAN": "two", "VSE++": "three"})], two=ONE))
    assert "no experiment 'three'" in said
    assert validated(Paper, paper([row(experiment={"SCAN": "two"})], two=ONE), "x")


def test_experiments_of_a_row():
    made = {"label": "A", "published": []}
    assert named_experiments(Row(**made)) == []
    assert named_experiments(Row(**made, experiment="a")) == ["a"]
    assert named_experiments(Row(**made, experiment={"x": "a", "y": "b", "z": "a"})) == ["a", "b", "a"]


def test_chains_of_experiments_begin_somewhere():
    chain = {"a": {**ONE, "variant": "a"}, "b": {**ONE, "after": "a"}, "c": {**ONE, "after": "b"}}
    assert validated(Paper, paper([], **chain), "x").experiments["c"].after == "b"
    said = fault(paper([], **{**chain, "a": {**ONE, "after": "c"}}))
    assert "begins from itself, by way of a, c, b" in said
    assert "begins from itself" in fault(paper([], a={**ONE, "after": "a"}))
    ring = {"a": {**ONE, "after": "b"}, "b": {**ONE, "after": "c"}, "c": {**ONE, "after": "b"}}
    assert "experiments.a.after: begins from itself, by way of a, b, c" in fault(paper([], **ring))  # nor does it end
    said = fault(paper([], **{**chain, "b": {**ONE, "after": "aa"}}))
    assert "experiments.b.after: no experiment 'aa'; did you mean 'a'" in said


@pytest.mark.parametrize("name", SPLITS)
def test_splits_that_there_are(name):
    assert re.fullmatch(SPLIT, name)
    assert validated(Paper, paper([], a={**ONE, "split": name}), "x").experiments["a"].split == name


@pytest.mark.parametrize("name", NO_SPLITS)
def test_splits_that_there_are_not(name):
    assert "experiments.a.split" in fault(paper([], a={**ONE, "split": name}))


def test_variants_are_folders():
    for name in ("", "a", "0", "image+text", "a_b-c"):
        assert validated(Paper, paper([], a={**ONE, "variant": name}), "x").experiments["a"].variant == name
    for name in ("A", "a.b", "a/b", "+a", "-a", "a b"):
        assert "experiments.a.variant" in fault(paper([], a={**ONE, "variant": name}))
        assert not re.fullmatch(VARIANT, name)


def test_names_of_tables_are_files():
    for name in ("T1", "t 1", "t_1", ""):
        assert "tables.0.id" in fault(paper([], {"id": name}))


def test_what_is_not_said():
    made = validated(Paper, paper([row()], a=ONE), "x")
    experiment, table = made.experiments["a"], made.tables[0]
    assert (experiment.split, experiment.variant, experiment.quick, experiment.map) == ("full", "", False, False)
    assert (experiment.settings, experiment.published, experiment.stand_in) == ({}, {}, {})
    assert (table.folds, table.split, table.baseline, made.doi) == (1, "full", None, None)
    assert "tables.0.rows.0.notes: unknown key; did you mean 'note'" in fault(paper([row(notes="n")]))


def test_files_of_papers(tmp_path):
    (tmp_path / "one.yaml").write_text(yaml.safe_dump(paper([row()], a=ONE)))
    (tmp_path / "two.yaml").write_text(yaml.safe_dump(paper([], a={**ONE, "model": "scann"})))
    found = read_papers(["one"], tmp_path)
    assert (list(found), found["one"].name) == (["one"], "one")
    assert read_papers([], tmp_path) == {}
    with pytest.raises(
        UserError, match=r"params\.yaml: papers: no .*on\.yaml; did you mean 'one'\? \(known: one, two\)"
    ):
        read_papers(["one", "on"], tmp_path)
    with pytest.raises(
        UserError, match=r"two\.yaml: experiments\.a\.model: model 'scann' is unknown; did you mean 'scan'"
    ):
        read_papers(["one", "two"], tmp_path)


def asked(aspect="image-to-text", metric="recall@1", experiment="one"):
    columns = [{"aspect": aspect, "metric": metric}]
    return paper([row(published=(1.0,), experiment=experiment)], {"columns": columns}, one=ONE)


@pytest.mark.parametrize(
    ("metric", "meant"),
    [("recal@10", "recall@10"), ("Recall@10", "recall@10"), ("recall@0", "recall@"), ("mAP", "map"), ("map@r", "map"),
     ("R@10", None), ("meanrank", "mean_rank"), ("recall_sums", "recall_sum")],
)  # fmt: skip
def test_misspelt_metrics_are_told_at_once(metric, meant):
    said = fault(asked(metric=metric))
    assert f"table t1: metric {metric!r} is unknown" in said
    assert meant is None or f"did you mean '{meant}" in said


@pytest.mark.parametrize(
    ("aspect", "meant"),
    [("texttoimage", "text-to-image"), ("text_to_image", "text-to-image"), ("image-to-txt", "image-to-text"),
     ("averag", "average"), ("images-to-text", "image-to-text")],
)  # fmt: skip
def test_misspelt_directions_are_told_at_once(aspect, meant):
    said = fault(asked(aspect))
    assert f"table t1: direction {aspect!r} is unknown; did you mean {meant!r}" in said


def test_what_is_measured_or_may_be_by_a_model_itself():
    for metric in ("recall@50", "map@1000", "ndcg@5", "map@R", "recall_sum", "median_rank", "accuracy", "relatedness"):
        assert validated(Paper, asked(metric=metric), "x")
    for aspect in ("audio-to-mesh", "class-to-image", "average", "both", "shared-image-to-text", "fusion", "words"):
        assert validated(Paper, asked(aspect), "x")
    published_only = asked("whatever-it-was", "recal@7")
    published_only["tables"][0]["rows"][0]["experiment"] = None
    assert validated(Paper, published_only, "x")


def test_yaml_lines_can_be_read_without_scrolling() -> None:
    files = [ROOT / "params.yaml", *ROOT.glob("papers/*.yaml"), *ROOT.glob("examples/*.yaml")]
    assert len(files) > 6
    for path in files:
        for number, line in enumerate(path.read_text().splitlines(), 1):
            assert len(line) <= 160, f"{path.name}:{number}"


@pytest.mark.parametrize(
    ("key", "value", "form"),
    [
        ("split", "10pct", "the name of a subset: `full`, `none`, one such as `10pct-2cap`"),
        ("variant", "A b", "lower-case letters, digits, `_`, `+` and `-`"),
    ],
)
def test_a_name_of_another_form_is_explained_in_words(key, value, form):
    message = fault(paper(one={"model": "vsepp", "dataset": "coco", key: value}))
    assert f"experiments.one.{key}: expected {form}" in message
    assert f"found {value!r}" in message
    assert "pattern" not in message
