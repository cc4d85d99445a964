"""Keywords as a task: which are right, beside those that are the most frequent."""

from __future__ import annotations

import pandas as pd
import pytest
import torch

from crossmodal.corpus.opening import load
from crossmodal.datasets import items
from crossmodal.tasks import keywords
from crossmodal.tasks.base import tasks, tasks_of
from tests.prepared import WORDS


class Knows:
    """Scores the words whose coordinate of the image is above zero."""

    def __init__(self, corpus):
        self.words = corpus.vocabulary.words

    def eval(self):
        return self

    def keywords(self, batch):
        place = [WORDS.index(word) if word in WORDS else -1 for word in self.words]
        scores = batch.inputs["image"][:, place]
        return scores.masked_fill(torch.tensor(place) < 0, -9)


def test_right_keywords(prepared, tmp_path, monkeypatch):
    monkeypatch.setattr(keywords, "COMMON", 1.0)  # the toy has fifteen words, each in half of its captions
    corpus = load(prepared / "toy", "full", {"image": "vector", "text": "tokens"}, {"image": "raw"}, min_count=1)
    numbers = tasks()["keywords"].evaluate(Knows(corpus), corpus, [1], torch.device("cpu"), tmp_path)
    value = {(n["protocol"], n["metric"]): n["value"] for n in numbers}
    frame = pd.read_parquet(tmp_path / "examples.parquet")
    assert {"protocol", "aspect", "fold", "query_id"} <= {*frame.columns}  # what `crossmodal check` reads
    texts = items.read(prepared / "toy").set_index("item_id").source
    model = frame[frame.protocol == "all"]
    counts = [len({*row.keywords.split()} & {*texts[f"{row.query_id}#0"].split()}) for row in model.itertuples()]
    assert model.right.tolist() == counts
    assert value["all", "keyword_precision"] == pytest.approx(100 * sum(counts) / 5 / 12)
    assert value["all", "keyword_hit"] == pytest.approx(100 * sum(n > 0 for n in counts) / 12)
    enough = [len(texts[f"{id_}#0"].split()) >= 5 for id_ in model.query_id]
    assert [n == 5 for n, e in zip(counts, enough, strict=True) if e] == [True] * sum(enough)
    training = texts[[f"i{i}#{k}" for i in range(36) for k in range(3)]]
    frequent = pd.Series([word for text in training for word in text.split()]).value_counts()
    best = sorted(frequent.index, key=lambda word: (-frequent[word], word))[:5]
    assert {*frame[frame.protocol == "frequent"].keywords} == {" ".join(best)}


def test_only_mori_is_asked():
    assert [task.name for task in tasks_of("mori", "group")] == ["keywords"]
    assert "keywords" not in [task.name for task in tasks_of("nic", "group")]
