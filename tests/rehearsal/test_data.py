"""The time per item that a rehearsal reckons with is that of a batch, not that of the first two items."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from crossmodal.core.files import read_json, write_json
from crossmodal.datasets import karpathy
from crossmodal.features.region_annotations import annotations
from crossmodal.rehearsal import data
from crossmodal.rehearsal.layouts import LAYOUTS

ROWS = 10_000


@pytest.fixture
def clock(monkeypatch):
    """A clock that extraction moves: a second to begin with, a tenth per batch, and 2 ms per item."""
    now = SimpleNamespace(seconds=0.0, batches=[])
    monkeypatch.setattr(data.time, "perf_counter", lambda: now.seconds)
    return now


def features(clock, monkeypatch, tmp_path):
    def compute(loaded):
        clock.seconds += (0.0 if clock.batches else 1.0) + 0.1 + 0.002 * len(loaded)
        clock.batches.append(len(loaded))
        return np.ones((len(loaded), 4), np.float32)

    work = SimpleNamespace(load=lambda item: item, compute=compute)
    module = SimpleNamespace(Settings=None, recipe=lambda *_: SimpleNamespace(begin=lambda _: work))
    rows = pd.DataFrame({"item_id": [f"{n}" for n in range(ROWS)]})
    context = SimpleNamespace(rows=rows, items=[*range(ROWS)])
    monkeypatch.setattr(data.registry, "module", lambda *_: module)
    monkeypatch.setattr(data, "validated", lambda *_: None)
    monkeypatch.setattr(data.extraction, "given_of", lambda *_: context)
    plan = SimpleNamespace(params=SimpleNamespace(extractors={"slow": SimpleNamespace(extractor="x", settings={})}))
    (tmp_path / "set").mkdir()
    return data._features(plan, rows, tmp_path, "image", "slow", tmp_path / "set", {})


def test_the_time_per_item_is_that_of_a_batch(clock, monkeypatch, tmp_path):
    taken, missing = features(clock, monkeypatch, tmp_path)
    assert missing == []
    assert clock.batches == [2, 2, 16]
    assert taken["seconds_per_item"] == pytest.approx((0.1 + 16 * 0.002) / 16)


def test_annotated_regions_of_prepared_data_are_there_too(tmp_path):
    """The test of captioners reads them for the objects of an image, whatever features a run reads."""
    real = tmp_path / "data" / "small"
    karpathy.make(
        karpathy.Settings(**LAYOUTS["karpathy"](tmp_path / "raw", {}, images=30, held=5)), real, title="Small"
    )
    write_json(real / "raw" / "regions.json", {"1.jpg": [{"box": [0, 0, 5, 5], "class": "mug"}]})
    regions = {"file": "raw/regions.json", "exact": False, "synonyms": {}}
    write_json(real / "items.json", read_json(real / "items.json") | {"regions": regions})
    small = SimpleNamespace(arrays=None, relevance="group", size=None, stages=[])
    params = SimpleNamespace(datasets={"small": small}, paths=SimpleNamespace(data=str(tmp_path / "data")))
    params.splits = SimpleNamespace(seed=0)
    data.prepare(SimpleNamespace(params=params), "small", [], ["full"], tmp_path / "rehearsal")
    assert annotations.read(tmp_path / "rehearsal/data/small", None).names("1.jpg") == ["mug"]
