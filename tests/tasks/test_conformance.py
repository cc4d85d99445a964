"""Every task, also one that another package brings, is what tables, charts and checks take it for."""

from __future__ import annotations

import importlib
import inspect
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from crossmodal.core import registry
from crossmodal.corpus.opening import load
from crossmodal.tasks.base import CONTROLS, Metric, Task, tasks

EVERY = [*tasks().values()]
SUFFIX = "_chance"  # a number that says what another one is by chance


@pytest.fixture(scope="module", params=["group", "label"])
def data(request, prepared, labelled):
    """How items are relevant to each other, and test items of that kind."""
    if request.param == "group":
        return "group", load(prepared / "toy", "full", dict.fromkeys(("image", "text"), "ids"), {})
    return "label", load(
        labelled / "kinds", "full", dict.fromkeys(("image", "text", "audio"), "ids"), {}, relevance="label"
    )


@pytest.mark.parametrize("task", EVERY, ids=lambda task: task.name)
def test_what_a_task_declares(task):
    assert isinstance(task, Task)
    assert registry.names("tasks")[task.name] == type(task).__module__
    assert task.title
    assert task.asks.isidentifier()
    assert any(task.hosts(relevance) for relevance in ("group", "label"))
    assert set(task.controls) <= set(CONTROLS)
    assert task.overall in ("", *task.aspects)
    assert len(set(task.aspects)) == len(task.aspects) > 0
    assert bool(task.criterion) == bool(task.selection) == bool(task.criterion_label)
    if task.selection:
        assert "partition" in inspect.signature(importlib.import_module(task.selection).validate).parameters


@pytest.mark.parametrize("task", EVERY, ids=lambda task: task.name)
def test_metrics(task):
    assert len({metric.name for metric in task.metrics}) == len(task.metrics) > 0
    for metric in task.metrics:
        assert metric.label
        assert metric.meaning
        assert metric.family == metric.name.endswith("@K") == metric.label.endswith("@K")
        assert bool(metric.addends or metric.whole) <= bool(metric.columns)
        named = metric.name.replace("@K", "@7")
        found = task.metric(named)
        assert found == (replace(metric, name=named, label=found.label, k=7) if metric.family else metric)
        assert found.label == metric.label.replace("@K", "@7")
        assert task.metric(f"{metric.name}x") is None
        low, high = metric.range(50)
        assert low < high


def test_a_family_has_a_member_for_each_whole_number_from_one():
    metric = Metric("hits@K", "H@K", "hits")
    assert (metric.named("hits@12").label, metric.named("hits@12").k) == ("H@12", 12)
    assert [metric.named(name) for name in ("hits@0", "hits@-1", "hits@1.5", "hits@", "hits", "hit@1", "hits@K")] == (
        [None] * 7
    )


def test_to_look_up_a_label_imports_no_torch():
    heavy = "{*sys.modules} & {'torch', 'pandas'}"
    code = f"import sys; from crossmodal.tasks.base import label; label('recall@1'); print({heavy})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


@pytest.mark.parametrize("control", CONTROLS)
@pytest.mark.parametrize("task", EVERY, ids=lambda task: task.name)
def test_controls_are_where_they_must_be(data, task, control, tmp_path):
    """The oracle reaches the best of every metric, chance lies in its interval."""
    relevance, corpus = data
    if not task.evaluates(control, relevance):
        pytest.skip("has no such control on these data")
    numbers = task.control(control, corpus, [1, 2], 0, tmp_path)
    looked_at = 0
    for number in numbers:
        metric = task.metric(number["metric"])
        if metric is None:
            assert number["metric"].endswith(SUFFIX)
            continue
        low, high = metric.range(number["n_gallery"] or number["n_queries"])
        assert low <= number["value"] <= high
        if control == "oracle" and np.isfinite(high) and task.truth_is_best(number):
            assert number["value"] == pytest.approx(high if metric.better == "higher" else low)
        expected = task.expected(control, number, numbers)
        if expected is not None:
            looked_at += 1
            value, least, most = expected
            assert least - 1e-9 <= number["value"] <= most + 1e-9, number
            assert least <= value <= most
    assert looked_at


@pytest.mark.parametrize("task", EVERY, ids=lambda task: task.name)
def test_examples_give_the_metrics_again(data, task, tmp_path):
    relevance, corpus = data
    if not task.evaluates("chance", relevance):
        pytest.skip("has no such control on these data")
    numbers = task.control("chance", corpus, [1, 2], 0, tmp_path)
    examples = pd.read_parquet(tmp_path / "examples.parquet")
    parts = examples.groupby(["protocol", "aspect", "fold"])
    made = 0
    for number in numbers:
        metric = task.metric(number["metric"])
        inside = [part for key, part in parts if key[:2] == (number["protocol"], number["aspect"])]
        if metric is None or not metric.columns or not inside:
            continue
        made += 1
        assert np.mean([metric.value(part) for part in inside]) == pytest.approx(number["value"], rel=1e-12)
        if metric.addends is not None:
            values = metric.of_examples(inside[0])
            assert values.shape == (len(inside[0]),)
            shuffled = inside[0].sample(frac=1, random_state=1)
            assert metric.value(shuffled) == pytest.approx(metric.value(inside[0]), rel=1e-12)
    assert made
