"""Labelled systems on photographs and sentences of Pascal Sentence, where the data are at hand: none collapses."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch

from crossmodal.core import registry
from crossmodal.language.tokens import tokenize
from crossmodal.models import base

DATA = Path(__file__).parents[3] / "shared" / "data"
FEATURES = DATA / "features"
pytestmark = pytest.mark.skipif(not FEATURES.is_dir(), reason="no ../shared/data beside the checkout")

TESTED = 10  # of each class
WORDS = 500  # the most common ones are counted
BATCH = 60


@pytest.fixture(scope="module")
def photographs() -> tuple[base.Batch, base.Batch]:
    """Training and test items: features of an image network, and counts of words."""
    ids = (FEATURES / "pascal_ids.txt").read_text().split()
    images = np.load(FEATURES / "pascal_efflite2.npy").astype(np.float32)
    texts = tokenize([(DATA / "pascal_sentence" / "sentence" / f"{one}.txt").read_text() for one in ids])
    kinds = [one.split("/")[0] for one in ids]
    place = Counter()
    tested = np.zeros(len(ids), dtype=bool)
    for row, kind in enumerate(kinds):
        tested[row] = place[kind] < TESTED
        place[kind] += 1
    count = Counter(w for row in np.flatnonzero(~tested) for w in texts[row])
    column = {word: k for k, (word, _) in enumerate(count.most_common(WORDS))}
    bags = np.zeros((len(ids), WORDS), np.float32)
    for row, words in enumerate(texts):
        for word in words:
            if word in column:
                bags[row, column[word]] += 1
    labels = torch.from_numpy(np.unique(kinds, return_inverse=True)[1])
    parts = (torch.from_numpy(np.flatnonzero(part)) for part in (~tested, tested))
    train, test = (
        base.Batch({"image": torch.from_numpy(images)[p], "text": torch.from_numpy(bags)[p]}, labels=labels[p])
        for p in parts
    )
    return train, test


def fitted(name: str, train: base.Batch, epochs: int = 0, **settings) -> base.Model:
    module = registry.module("models", name)
    torch.manual_seed(0)
    shapes = {m: tuple(x.shape[1:]) for m, x in train.inputs.items()}
    model = module.Model(module.Settings(**settings), base.Context(shapes, n_classes=20))
    if not model.trains:
        model.fit([train])
        return model.eval()
    (optimiser,) = model.optimisers(model.stages()[0]).values()
    for epoch in range(epochs):
        for step, rows in enumerate(torch.randperm(len(train.labels)).split(BATCH)):
            batch = base.Batch({m: x[rows] for m, x in train.inputs.items()}, labels=train.labels[rows])
            optimiser.zero_grad()
            progress = (epoch + step * BATCH / len(train.labels)) / epochs
            model.loss(batch, progress, "model")["loss"].backward()
            optimiser.step()
    return model.eval()


@torch.no_grad()
def mean_average_precision(model: base.Model, test: base.Batch) -> float:
    """Per cent of both directions, at 50 results: the mean over the queries."""
    scores = model.score(model.encode("image", test, "text"), model.encode("text", test, "image"))
    found = []
    for matrix in (scores, scores.T):
        for row, own in zip(matrix, test.labels, strict=True):
            hits = (test.labels[row.argsort(descending=True)[:50]] == own).double()
            precision = hits.cumsum(0) / torch.arange(1, 51)
            found.append(float((precision * hits).sum() / hits.sum()) if hits.any() else 0.0)
    return 100 * float(np.mean(found))


@pytest.mark.parametrize("name", ["acmr", "dscmr"])
def test_a_labelled_system_is_above_canonical_correlations_of_principal_components(photographs, name: str) -> None:
    """Labels help: with its own triplets ACMR does not collapse, nor does DSCMR."""
    train, test = photographs
    without_labels = mean_average_precision(fitted("cca", train, components=64), test)
    chance = mean_average_precision(fitted("cca", train), test)  # as many dimensions as items: all correlations are 1
    found = mean_average_precision(fitted(name, train, 20, hidden=(256,), dim=128, lr=1e-3), test)
    assert found > without_labels + 2
    assert without_labels > 3 * chance
