"""Naturalness: the scores of a captioner's evaluator for captions of people, generated ones and those of others."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from crossmodal.core.errors import UserError
from crossmodal.corpus.opening import load
from crossmodal.language.tokens import END
from crossmodal.models.base import Batch
from crossmodal.tasks.base import tasks, tasks_of
from crossmodal.tasks.naturalness import Targets
from tests.models.captioners import small

TASK = tasks()["naturalness"]
CPU = torch.device("cpu")


class Model(torch.nn.Module):
    """Says the word 4 of each image, and gives .75 to a caption of one word, else the share of its words below 8."""

    def __init__(self, word: int = 4):
        super().__init__()
        self.word, self.settings, self.judged = word, SimpleNamespace(beam=3, longest=5), []

    def generate(self, batch: Batch, beam: int) -> torch.Tensor:
        assert beam == 3
        return torch.full((len(batch.inputs["image"]), 1), self.word)

    def judge(self, batch: Batch, ids: torch.Tensor) -> torch.Tensor:
        self.judged.append(ids)
        words = (ids > END).sum(1)
        return torch.where(words == 1, 0.75, ((ids > END) & (ids < 8)).sum(1) / words)


@pytest.fixture(scope="module")
def corpus(prepared):
    return load(prepared / "toy", "full", {"image": "vector", "text": "tokens"}, {"image": "raw"})


def test_the_first_caption_of_each_image_and_of_the_next_one(corpus):
    targets, model = TASK.targets(corpus), Model()
    examples, numbers = TASK.score(targets, TASK.predict(model, corpus, targets, CPU), [1])
    words = {word: number for number, word in enumerate(corpus.vocabulary.words)}
    first = [[words[word] for word in several[0]] for several in targets.images.references]
    by_hand = [sum(word < 8 for word in caption) / len(caption) for caption in first]
    assert len({*by_hand}) > 1
    score = examples.set_index(["aspect", "query_id"]).score
    assert score["written-captions"].tolist() == pytest.approx(by_hand)
    assert score["captions-of-others"].tolist() == pytest.approx(by_hand[1:] + by_hand[:1])
    assert {n["aspect"]: n["value"] for n in numbers} == pytest.approx(
        {
            "written-captions": 100 * sum(by_hand) / 12,
            "generated-captions": 75.0,
            "captions-of-others": 100 * sum(by_hand) / 12,
        }
    )
    written, generated, _ = model.judged
    assert written[0].tolist()[: len(first[0]) + 1] == [*first[0], END]
    assert generated.tolist() == [[4, END]] * 12


def test_what_cannot_be_judged(corpus):
    targets = TASK.targets(corpus)
    alone = targets.images.__class__(targets.images.ids[:1], targets.images.places[:1], targets.images.references[:1])
    with pytest.raises(UserError, match="naturalness: one test image has a caption; expected at least two"):
        TASK.predict(Model(), corpus, Targets(alone, targets.captions[:1]), CPU)
    with pytest.raises(UserError, match="has the word id 900, and the run's vocabulary has"):
        TASK.predict(Model(900), corpus, targets, CPU)


def test_an_evaluator_is_asked():
    asked = {name: [task.name for task in tasks_of(name, "group")] for name in ("cgan", "nic", "vsepp")}
    assert [name for name, named in asked.items() if TASK.name in named] == ["cgan"]
    assert TASK.name not in [task.name for task in tasks_of("cgan", "group", captioned=False)]


def test_the_score_is_the_evaluators_probability():
    model, batch = small("cgan")
    tokens = batch.inputs["text"]
    logits = model.evaluator(batch.inputs["image"], tokens._replace(ids=tokens.ids[:, 1:], lengths=tokens.lengths - 1))
    assert model.judge(batch, tokens.ids[:, 1:]).tolist() == pytest.approx((1 / (1 + (-logits).exp())).tolist())
