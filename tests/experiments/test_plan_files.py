"""What a plan says of its jobs: the files that each reads, which of them papers want shown, and blocks of YAML."""

from __future__ import annotations

import re

import pytest
import yaml

from crossmodal.core import limits
from crossmodal.core.errors import UserError
from crossmodal.experiments import from_config, merge, plan, read_yaml, settings
from crossmodal.experiments.settings import validated
from crossmodal.experiments.tables import Column, Row, Table, named_experiments
from tests.experiments.small_plan import PAPER, PARAMS, SCAN

ITEMS = ["items.parquet", "splits/full.parquet"]


@pytest.fixture
def planned(tmp_path):
    def make(params=None, **named):
        (tmp_path / "one.yaml").write_text(yaml.safe_dump(PAPER | {"experiments": named}))
        return plan(from_config(merge(PARAMS, params or {})), tmp_path)

    return make


def below(folder, names):
    return [f"{folder}/{name}" for name in names]


def test_the_files_that_a_run_reads(planned):
    media = {"model": "dckt", "dataset": "media", "source": "media"}
    made = planned({"paths": {"data": "my data"}}, a=SCAN, b=media, c={"model": "mfsr", "dataset": "coco"})
    files = {key: made.files_of(job) for key, job in made.jobs.items()}
    world = below("my data/world", [*ITEMS, "tokens.parquet"])
    assert files["world/full/scan/seed3"] == [*world, "my data/world/features/image.boxes.json"]
    features = below("my data/world/features", ["image.net.json", "image.small.json"])
    assert files["world/full/mfsr/seed4"] == [*world, *features]  # in two forms
    kinds = below("my data/kinds", [*ITEMS, "features/image.net.json", "features/text.bag.json"])
    assert files["kinds/full/dckt/seed3"] == [*kinds, *kinds]  # of the source, which is the same data set here
    assert files["world/full/chance/seed3"] == below("my data/world", ITEMS)
    split = planned(a=SCAN | {"split": "10pct-1cap"})
    assert split.files_of(split.jobs["world/10pct-1cap/scan/seed3"])[1] == "data/world/splits/10pct-1cap.parquet"


def test_the_source_of_a_transfer_is_read_whole(planned):
    made = planned(
        {"scale": "full"}, a={"model": "dckt", "dataset": "media", "source": "kinds", "split": "classes1of2"}
    )
    (files,) = {tuple(made.files_of(job)) for job in made.jobs.values() if job.model == "dckt"}
    features = ["features/image.net.json", "features/text.bag.json"]
    own = below("data/media", ["items.parquet", "splits/classes1of2.parquet", *features])
    assert [*files] == [*own, *below("data/kinds", [*ITEMS, *features])]


def test_answers_that_papers_want_shown_are_of_the_first_seed(planned):
    made = planned(
        a=SCAN | {"gallery": True}, b=SCAN | {"variant": "b"}, c={"model": "cvs", "dataset": "coco", "gallery": True}
    )
    assert [job.key for job in made.shown(made.jobs)] == ["world/full/scan/seed3"]
    assert made.mapped(made.jobs) == made.shown({}) == []


def test_one_run_of_each_share_tells_the_names_in_images_without_captions(planned):
    """Whatever the number of captions; those of all images tell none, nor does a system that reads no names."""
    sparse = {"model": "a3vse", "dataset": "coco"}
    splits = ["10pct-1cap", "10pct-5cap", "20pct-1cap", "full"]
    runs = {f"e{n}": sparse | {"split": split} for n, split in enumerate(splits)}
    made = planned(**runs, z=SCAN | {"split": "30pct-1cap"})
    named = [(job.split, job.seed) for job in made.named(made.jobs)]
    assert named == [("10pct-1cap", 3), ("20pct-1cap", 3)]


COLUMNS = [{"aspect": "both", "metric": "recall_sum", "system": name} for name in ("A", "B")]
TABLE = {"id": "t", "title": "T", "dataset": "coco", "columns": COLUMNS}


def test_rows_without_numbers_have_none_for_each_column():
    table = validated(Table, TABLE | {"rows": [{"label": "x"}, {"label": "y", "published": [1, None]}]}, "x")
    assert [row.published for row in table.rows] == [[None, None], [1, None]]
    assert table.has_published
    assert not validated(Table, TABLE | {"rows": [{"label": "x"}]}, "x").has_published
    with pytest.raises(UserError, match="table t, row 'y': 1 published numbers for 2 columns"):
        validated(Table, TABLE | {"rows": [{"label": "y", "published": [1]}]}, "x")


def test_each_system_of_a_row_has_its_experiment():
    columns = [Column(aspect="both", metric="recall_sum", system=name) for name in ("A", "B", None)]
    rows = [Row(label="x", experiment=value) for value in ({"A": "one", "B": "two"}, "all", None)]
    assert [[row.experiment_of(column) for column in columns] for row in rows] == [
        ["one", "two", None], ["all"] * 3, [None] * 3,
    ]  # fmt: skip
    assert [named_experiments(row) for row in rows] == [["one", "two"], ["all"], []]


def test_aliases_that_multiply_or_hold_themselves(tmp_path):
    """Three values each of the three lists above: 1 + 3, 1 + 3 · 4 and 1 + 3 · 13, and the names beside them."""
    path = tmp_path / "x.yaml"
    path.write_text("a: &a [1, 1, 1]\nb: &b [*a, *a, *a]\nc: [*b, *b, *b]\n")
    limits.use(limits.Limits(yaml_nodes=61))  # 1 + 3 names + 4 + 13 + 40
    assert read_yaml(path)["c"] == [[[1] * 3] * 3] * 3
    limits.use(limits.Limits(yaml_nodes=60))
    with pytest.raises(UserError, match="aliases repeat more than 60 values"):
        read_yaml(path)
    for text in ("a: &a [*a]\n", "a: &a {b: [1, *a]}\n", "a: &a {*a : 1}\n"):
        path.write_text(text)
        with pytest.raises(UserError, match="an alias refers to a value that contains it"):
            read_yaml(path)
    path.write_text("? [1]\n: 2\n")
    with pytest.raises(UserError, match="a list cannot be a key"):
        read_yaml(path)
    path.write_text(f"a: {'9' * 100}\n")
    assert read_yaml(path)["a"] == 10**100 - 1


def test_a_long_value_of_others_is_cut_in_the_error():
    for length, shown in ((298, 300), (299, 300)):  # with its two quotes 300 and 301 characters
        with pytest.raises(UserError) as error:
            validated(Table, "x" * length, "f")
        value = str(error.value).partition("; found ")[2]
        assert value.startswith("'" + "x" * (shown - 2))
        assert value.endswith("... (301 characters)") is (length == 299)


def test_a_file_of_too_many_values_is_refused_before_they_are_made(tmp_path, monkeypatch):
    """600,000 values took six seconds; the largest of this package's own files have 4,000."""
    path = tmp_path / "x.yaml"
    composed = []
    monkeypatch.setattr(settings._UniqueKeys, "get_single_node", lambda loader: composed.append(loader))
    for text in ("a: [" + "1," * 60_000 + "]", "".join(f"k{n}: 1\n" for n in range(30_000)), "- x\n" * 60_000):
        path.write_text(text)
        with pytest.raises(UserError, match=r"x\.yaml: is not valid YAML: it has more than 50,000 values") as error:
            read_yaml(path)
        assert "\n" not in str(error.value)
    assert not composed


def test_some_mistakes_of_many_are_told():
    """Each was compared with the names of all keys, which took 8 s, and a line of the error."""
    with pytest.raises(UserError) as error:
        validated(Table, {f"k{n}": 1 for n in range(5000)}, "f")
    lines = str(error.value).splitlines()
    assert len(lines) == 21
    assert re.fullmatch(r"f: 4,98\d more mistakes of these kinds", lines[-1])
    with pytest.raises(UserError) as error:
        validated(Table, {f"k{n}": 1 for n in range(3)}, "f")
    assert "more mistakes" not in str(error.value)


def test_a_limit_beyond_what_is_kept_of_it():
    """`item_memory` is handed to another process in 64 bits."""
    with pytest.raises(ValueError, match="item_memory"):
        limits.Limits(item_memory=2**63)
