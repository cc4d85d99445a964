"""Words of captions and of what is named in images: counts and overlaps by hand, on a data set of five images."""

from __future__ import annotations

from types import SimpleNamespace
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest

from crossmodal import dag, experiments
from crossmodal.datasets import items
from crossmodal.features.engine import store
from crossmodal.language.tokens import token_table
from crossmodal.reporting.figures import base, vocabulary
from tests.on_world import on_world
from tests.reporting.drawn import ROOT

# (partition, captions, [(attribute, class, confidence)] of its two regions)
IMAGES = [
    ("train", ["a car"], [("old", "bicycle", 0.9), ("", "wheel", 0.8)]),  # annotated: what it shows does not count
    ("train", ["a red box"], [("red", "Fire Truck", 0.9), ("", "kite", 0.2)]),
    ("train", ["two dogs"], [("red", "kite", 0.6), ("", "", 0.0)]),
    ("val", ["a zebra"], [("striped", "zebra", 0.9), ("", "grass", 0.9)]),
    ("test", ["A red kite, a box.", "the kite's box"], [("green", "lamp", 0.9), ("", "lamp", 0.5)]),
]


@pytest.fixture
def data(tmp_path):
    folder = tmp_path / "data" / "world"
    rows, index = [], []
    for i, (part, captions, regions) in enumerate(IMAGES):
        rows.append((f"i{i}", "image", f"i{i}", None, part, f"i{i}.jpg"))
        rows += [(f"i{i}#{k}", "text", f"i{i}", None, part, said) for k, said in enumerate(captions)]
        attributes, classes, confidences = map(list, zip(*regions, strict=True))
        index.append((f"i{i}", classes, attributes, confidences, 2))
    frame = pd.DataFrame(rows, columns=list(items.COLUMNS))
    items.write(frame, folder, {"root": "."})
    token_table(frame).to_parquet(folder / "tokens.parquet")
    (folder / "splits").mkdir()
    pairs = pd.DataFrame({"image_id": ["i0", "i1", "i2"], "caption_id": ["i0#0", None, None]}).astype("string")
    pairs.to_parquet(folder / "splits" / "10pct-5cap.parquet")
    (folder / "features").mkdir()
    np.save(folder / "features" / "image.regions.npy", np.zeros((len(IMAGES), 2, 3), np.float32))
    named = pd.DataFrame(index, columns=["item_id", "class", "attribute", "confidence", "count"])
    store.save(folder / "features" / "image.regions", named, {"extractor": "made by hand"})
    return folder


def test_words_are_tokens_with_a_letter_or_digit():
    told = [["A", "kite", ",", "a", "3d", "..."], ["kite", "'s", "kite", "box"]]
    assert vocabulary.words(told) == {"a", "kite", "3d", "'s", "box"}
    assert vocabulary.words(told, 2) == {"a", "kite"}
    assert vocabulary.words(told, 3) == {"kite"}
    assert vocabulary.words(told, 4) == set()
    assert vocabulary.words([]) == set()


def test_overlap_is_intersection_over_union():
    assert vocabulary.overlap({"a", "b", "c"}, {"b", "c", "d", "e"}) == pytest.approx(40.0)
    assert vocabulary.overlap({"a"}, {"a"}) == 100
    assert vocabulary.overlap({"a"}, {"b"}) == 0
    assert vocabulary.overlap({"a"}, set()) == vocabulary.overlap(set(), {"a"}) == 0
    assert np.isnan(vocabulary.overlap(set(), set()))


def test_a_data_set_by_hand(data):
    found = {(row["kind"], row["min_count"]): row for row in vocabulary.measure(data, "10pct-5cap", "regions")}
    # s of i1 and i2: red fire truck kite; the test captions: a red kite box the 's; both have red and kite.
    regional = found["regional", 1]
    assert (regional["words"], regional["caption_words"], regional["shared"]) == (4, 6, 2)
    assert regional["overlap"] == pytest.approx(100 * 2 / 8)
    assert (regional["images"], regional["captions"]) == (2, 2)
    # s_g leaves out the kite of i1 (0.2), but has that of i2; no word is there four times.
    assert (found["global", 1]["words"], found["global", 1]["shared"]) == (4, 2)
    assert np.isnan(found["global", 4]["overlap"])
    assert found["regional", 4]["words"] == found["regional", 4]["caption_words"] == 0


def test_the_threshold_of_whole_images(data):
    features = store.open_features(data / "features" / "image.regions")
    told = vocabulary.named(features, "global")
    assert sorted(told["i1"]) == ["fire", "red", "truck"]
    assert sorted(vocabulary.named(features, "regional")["i1"]) == ["fire", "kite", "red", "truck"]


def planned(tmp_path, **over):
    value = on_world(papers=["a3vse"], seeds=[0])
    value["paths"] = {"data": str(tmp_path / "data"), "results": str(tmp_path / "results")}
    return experiments.plan(experiments.from_config({**value, **over}), ROOT / "papers")


def test_the_step_writes_a_figure_and_its_numbers(data, tmp_path):
    plan = planned(tmp_path)
    jobs = {key: job for key, job in plan.jobs.items() if key.startswith("world/10pct-5cap/") or job.split == "full"}
    base.write("vocabulary", base.Scope(plan, jobs, str(tmp_path / "results")))
    numbers = pd.read_csv(tmp_path / "results" / "figures" / "vocabulary.csv")
    assert list(numbers) == list(vocabulary.COLUMNS)
    assert numbers[["split", "kind", "min_count"]].to_numpy().tolist() == [
        ["10pct-5cap", kind, count] for kind in ("regional", "global") for count in (1, 4)
    ]
    drawn = (tmp_path / "results" / "figures" / "vocabulary.svg").read_text()
    ElementTree.fromstring(drawn)
    for text in (
        "1,104",
        "1,576",
        "13.1",
        "9.8",
        "25.0",
        "6 words in its queries",
        "embedded world, 10 % of images annotated",
    ):
        assert text in drawn, text
    base.write("vocabulary", base.Scope(plan, jobs, str(tmp_path / "again")))
    assert (tmp_path / "again" / "figures" / "vocabulary.svg").read_text() == drawn


def test_an_overlap_of_no_words_is_a_dash(data):
    rows = [{"dataset": "world", **row} for row in vocabulary.measure(data, "10pct-5cap", "regions")]
    assert ">\N{EN DASH}<" in vocabulary.vocabulary(pd.DataFrame(rows), {}, {}, min_count=4).replace("> ", ">")


def test_sparse_splits_of_systems_that_read_names(tmp_path):
    plan = planned(tmp_path)
    found = [(job.dataset, job.split) for job in plan.named(plan.jobs)]
    assert found == [("world", f"{share}pct-1cap") for share in (10, 20, 50, 5)]  # whatever the captions of an image
    others = {key: job for key, job in plan.jobs.items() if job.model != "a3vse"}
    assert plan.named(others) == []


def test_the_rule_depends_on_what_is_counted(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "papers").symlink_to(ROOT / "papers")
    made = dag.Dag(experiments.read_yaml(ROOT / "params.yaml") | {"papers": ["a3vse"]})
    asked = made.figure(SimpleNamespace(scope="quick/", figure="vocabulary"))["reads"]
    files = ("features/image.scenes_regions.json", "items.parquet", "splits/10pct-1cap.parquet", "tokens.parquet")
    assert asked == [f"data/scenes/{file}" for file in files]
