"""A task of another package is one file: it is found, planned, evaluated and labelled as those of this one are."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from crossmodal.core import registry
from crossmodal.core.files import read_json
from crossmodal.experiments import Job
from crossmodal.runs.evaluate import evaluate
from crossmodal.runs.train import train_job
from crossmodal.tasks import base
from tests.prepared import forget

TASK = """
from crossmodal.tasks import base


class Task(base.Task):
    name, title, asks = "counting", "Counting", "count"
    metrics = (base.Metric("miscounted", "Miscounted", "captions whose words are even or odd unlike their group",
                           ("wrong",), lambda examples, k: 100.0 * examples["wrong"], better="lower"),)
    aspects = ("words",)

    def hosts(self, relevance):
        return relevance == "group"

    def targets(self, corpus):
        texts = corpus.inputs["text"]
        places = texts.where("test")
        return texts.ids[places], places, texts.groups[places] % 2

    def predict(self, model, corpus, targets, device):
        return model.count(next(corpus.items("text", targets[1], len(targets[1])))).numpy()

    def score(self, targets, predictions, folds):
        import pandas as pd

        examples = pd.DataFrame({"protocol": "all", "aspect": "words", "fold": 0, "query_id": targets[0],
                                 "wrong": targets[2] != predictions})
        value = self.metric("miscounted").value(examples)
        return examples, [{"aspect": "words", "metric": "miscounted", "protocol": "all", "value": value,
                           "n_queries": len(examples), "n_gallery": 0}]

    def chance(self, targets, seed):
        return 1 - targets[2]

    def oracle(self, targets):
        return targets[2]
"""
MODEL = '''
from crossmodal.models import vsepp
from crossmodal.models.vsepp import Settings


class Model(vsepp.Model):
    def count(self, batch):
        """(B,) whether the words of the captions, beginning and end left out, are an odd number."""
        return (batch.inputs["text"].lengths - 2) % 2
'''


@pytest.fixture
def package(outside, tmp_path, monkeypatch):
    """The folder of an installed package with a task and a model."""
    monkeypatch.chdir(tmp_path)
    points = {"tasks": {"counting": "counting"}, "models": {"counter": "counter"}}
    return outside("plugged", {"counting": TASK, "counter": MODEL}, points)


def test_a_task_and_a_model_by_one_file_each(package: Path, prepared: Path, tmp_path: Path) -> None:
    settings = {"dim": 8, "word_dim": 4, "epochs": 1, "min_count": 1}
    job = Job(dataset="toy", split="full", model="counter", seed=0, inputs={"image": "raw"}, settings=settings)
    assert job.tasks == ("instance_retrieval", "counting")
    assert job.model_copy(update={"model": "vsepp"}).tasks == ("instance_retrieval",)
    assert job.model_copy(update={"model": "oracle"}).tasks == ("instance_retrieval", "captioning", "counting")
    train_job(job, tmp_path / "run", prepared)
    evaluate(job, tmp_path / "run", prepared, "embedded")
    (number,) = read_json(tmp_path / "run" / "counting" / "metrics.json")["numbers"]
    words = pd.read_parquet(prepared / "toy" / "tokens.parquet").set_index("item_id").tokens.map(len)
    examples = pd.read_parquet(tmp_path / "run" / "counting" / "examples.parquet")
    groups = examples.query_id.str.extract(r"i(\d+)#")[0].astype(int)  # things in their order
    expected = 100 * (words[examples.query_id].to_numpy() % 2 != groups % 2).mean()
    assert number["value"] == pytest.approx(expected)
    assert 0 < expected < 100
    for control, value in (("oracle", 0.0), ("chance", 100.0)):
        one = job.model_copy(update={"model": control, "settings": {}, "inputs": {}})
        evaluate(one, tmp_path / control, prepared, "embedded", "counting")
        assert read_json(tmp_path / control / "counting" / "metrics.json")["numbers"][0]["value"] == value
    assert base.label("miscounted") == "Miscounted"
    assert base.lower_is_better("miscounted")
    assert "miscounted" in base.metric_names()


def test_its_source_decides_what_is_asked_again(package: Path) -> None:
    asked, trained = registry.source_hash("tasks", "counting"), base.source_of_training("counter", "group")
    (package / "counting.py").write_text(TASK.replace("1 - targets[2]", "2 - targets[2]"))
    forget("plugged")
    assert registry.source_hash("tasks", "counting") != asked
    assert base.source_of_training("counter", "group") == trained


def test_the_task_of_the_documentation(package: Path, prepared: Path, tmp_path: Path) -> None:
    """Asked of a model that counts right, it finds nothing wrong."""
    page = (Path(__file__).parents[2] / "docs" / "howto" / "task.md").read_text()
    (package / "counting.py").write_text(page.split("```python\n")[1].split("```")[0])
    counts = 'def count(self, batch):\n        return batch.inputs["text"].lengths - 2\n'
    (package / "counter.py").write_text(MODEL.split("    def count")[0] + f"    {counts}")
    forget("plugged")
    settings = {"dim": 8, "word_dim": 4, "epochs": 1, "min_count": 1}
    job = Job(dataset="toy", split="full", model="counter", seed=0, inputs={"image": "raw"}, settings=settings)
    train_job(job, tmp_path / "run", prepared)
    evaluate(job, tmp_path / "run", prepared, "embedded", "counting")
    (number,) = read_json(tmp_path / "run" / "counting" / "metrics.json")["numbers"]
    assert (number["metric"], number["value"], number["n_queries"]) == ("miscounted", 0.0, 36)


def test_a_recall_over_the_whole_gallery_is_warned_of():
    """Of eight items, the first ten hold every one; of a thousand they do not, and mAP@50 differs among eight, too."""
    names = [("recall@10", 8), ("recall@8", 9), ("recall@5", 8), ("map@50", 8), ("recall@10", 1000), ("recall_sum", 0)]
    numbers = [{"metric": name, "n_gallery": size} for name, size in names]
    expected = "Too few test items: only 8 items are ranked, so that R@10 is 100 for any order."
    assert base.too_few(numbers) == expected
    assert base.too_few(numbers[1:]) == ""
