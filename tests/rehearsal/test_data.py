"""The time per item that a rehearsal reckons with is that of a batch, not that of the first two items."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from crossmodal.rehearsal import data

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
