"""The benchmark of training: both sides take the same steps, and results that were measured before are kept."""

import json
from pathlib import Path

import pytest

from crossmodal.core import registry

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def training(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import training

    return training


def test_the_loop_takes_as_many_steps_as_the_bare_one(training, monkeypatch, tmp_path):
    """An epoch of a system that is trained on classes has more than two steps: 24 pictures' 120 captions in tens."""
    training.prepared(tmp_path, train=24, regions=2, width=8)
    system = registry.module("models", "corrae").Model
    calls = []
    loss = system.loss

    def counted(self, *args):
        calls.append(len(args[0].inputs["image"]))
        return loss(self, *args)

    def taken(cases, *_):
        steps = {}
        for name, case in cases.items():
            calls.clear()
            case()
            steps[name] = list(calls)
        return steps

    monkeypatch.setattr(system, "loss", counted)
    monkeypatch.setattr(training, "alternate", taken)
    monkeypatch.setitem(training.SYSTEMS, "corrae", {"hidden": (8,), "dim": 4, "batch_size": 10})
    assert training.measured(tmp_path, "corrae", 2) == {"bare": [10, 10], "ours": [10, 10]}


def test_results_of_other_systems_stay_if_they_were_measured_alike(training, tmp_path):
    path = tmp_path / "training.json"
    about = {"steps": 40, "torch": "2.15"}
    assert training.earlier(path, about) == {}
    systems = {"scan": {"share_of_bare": 0.95}, "a system that is gone": {"share_of_bare": 1.0}}
    path.write_text(json.dumps({**about, "systems": systems}))
    assert training.earlier(path, about) == {"scan": {"share_of_bare": 0.95}}
    assert training.earlier(path, {**about, "torch": "2.16"}) == {}
