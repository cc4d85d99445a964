"""Re-ranked retrieval as a task: asked by name alone, in the order in which a model reads, in folds."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch

from crossmodal.corpus.opening import load
from crossmodal.evaluation.ranking.reciprocal import reranked
from crossmodal.models import base
from crossmodal.tasks.base import tasks, tasks_of


class Cosines(base.Model):
    """Encodes images and texts by fixed random maps; the order of its modalities is given."""

    def __init__(self, reads):
        super().__init__(base.Settings(), base.Context({}))
        self.reads = reads

    def encode(self, modality, batch, partner):
        value = batch.inputs[modality]
        if modality == "image":
            return torch.sin(3 * value[:, :6])
        return torch.stack([torch.cos(value.ids.float() * (n + 1)).sum(1) for n in range(6)], 1)


def test_it_is_evaluated_where_it_is_named():
    task = tasks()["reranked_retrieval"]
    assert task not in tasks_of("scan", "group")
    assert task in tasks_of("scan", "group", also=["reranked_retrieval"])
    assert task not in tasks_of("scan", "label", also=["reranked_retrieval"])
    assert task not in [*tasks_of("chance", "group"), *tasks_of("nic", "group", also=["reranked_retrieval"])]


@pytest.mark.parametrize("names", [("image", "text"), ("text", "image")])
def test_recalls_of_both_directions_and_folds(prepared, tmp_path, names):
    forms = {"image": "vector", "text": "tokens"}
    corpus = load(prepared / "toy", "full", forms, {"image": "raw"}, min_count=1)
    model = Cosines({name: forms[name] for name in names})
    task = tasks()["reranked_retrieval"]
    numbers = task.evaluate(model, corpus, [1, 2], torch.device("cpu"), tmp_path)
    examples = pd.read_parquet(tmp_path / "examples.parquet")
    items = task.targets(corpus)
    vectors = {
        m: torch.cat([model.encode(m, b, "") for b in corpus.items(m, items.places[m], 100)]).numpy() for m in forms
    }
    images, texts = items.groups["image"], items.groups["text"]
    expected = {}
    for protocol, parts in (("all", [images]), ("fold2", [images[:6], images[6:]])):
        for part in parts:
            rows, cols = (np.flatnonzero(np.isin(of, part)) for of in (images, texts))
            scores = vectors["image"][rows] @ vectors["text"][cols].T
            expected.setdefault((protocol, "image-to-text"), []).append(reranked(scores, images[rows], texts[cols]))
            expected.setdefault((protocol, "text-to-image"), []).append(reranked(scores.T, texts[cols], images[rows]))
    for (protocol, aspect), ranks in expected.items():
        part = examples[(examples.protocol == protocol) & (examples.aspect == aspect)]
        assert part["rank"].tolist() == np.concatenate(ranks).tolist()
        for k in (1, 5, 10):
            (number,) = [
                n
                for n in numbers
                if (n["protocol"], n["aspect"]) == (protocol, aspect) and n["metric"].endswith(f"@{k}")
            ]
            assert number["metric"] == f"reranked_recall@{k}"
            assert number["value"] == pytest.approx(100 * np.mean([np.mean(r <= k) for r in ranks]))
            assert (number["n_queries"], number["n_gallery"]) == (
                len(ranks[0]),
                len(
                    expected[protocol, {"image-to-text": "text-to-image", "text-to-image": "image-to-text"}[aspect]][0]
                ),
            )
    assert len(numbers) == 12
