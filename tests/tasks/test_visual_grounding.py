"""Visual grounding: the share of attention on the image, over visual words and over others."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from crossmodal.core.errors import UserError
from crossmodal.corpus.opening import load
from crossmodal.models.base import Batch
from crossmodal.tasks.base import tasks, tasks_of
from crossmodal.tasks.captions.references import Images
from crossmodal.tasks.visual_grounding import Words

TASK = tasks()["visual_grounding"]


def images(count):
    ids = np.array([f"i{n}" for n in range(count)], dtype=object)
    return Images(ids, np.arange(count), [[["x"]]] * count)


def test_shares_are_means_over_images_of_the_means_over_words():
    """Visual words: 0.9 in one image, 0.5 and 0.7 in the other one, so that the mean is (0.9 + 0.6) / 2."""
    words = Words(np.array([0, 0, 1, 1, 1]), ["dog", "the", "of", "cat", "red"], np.array([0.9, 0.2, 0.1, 0.5, 0.7]))
    examples, numbers = TASK.score(images(2), words, [1])
    assert {n["aspect"]: n["value"] for n in numbers} == pytest.approx({"visual-words": 75.0, "other-words": 15.0})
    shares = examples.set_index(["aspect", "query_id"]).share
    assert shares["visual-words"].to_dict() == pytest.approx({"i0": 0.9, "i1": 0.6})
    assert TASK.metrics[0].value(examples[examples.aspect == "visual-words"]) == pytest.approx(75.0)


def test_captions_without_a_visual_word_or_without_any():
    words = Words(np.array([0, 0]), ["the", "of"], np.array([0.2, 0.1]))
    assert [number["aspect"] for number in TASK.score(images(1), words, [1])[1]] == ["other-words"]
    with pytest.raises(UserError, match="none of 1 captions has a word"):
        TASK.score(images(1), Words(np.array([], dtype=np.int64), [], np.array([])), [1])


def test_only_captioners_with_a_sentinel_are_asked():
    def asked(model, **options):
        return TASK.name in [task.name for task in tasks_of(model, "group", **options)]

    systems = ("adaptive", "contrastive_captions", "sat", "nic")
    assert [name for name in systems if asked(name)] == ["adaptive", "contrastive_captions"]
    assert not asked("adaptive", captioned=False)


class Model(torch.nn.Module):
    """Says `worda` and, for even images, `wordb`, and looks at the image for the first word only."""

    def generate(self, batch: Batch, beam: int) -> torch.Tensor:
        assert beam == 1
        count = len(batch.inputs["image"])
        return torch.tensor([[4, 5 * (i % 2 == 0)] for i in range(count)])

    def image_share(self, batch: Batch, ids: torch.Tensor) -> torch.Tensor:
        return torch.tensor([1.0, 0.25]).expand(ids.shape)


def test_words_of_generated_captions(prepared):
    corpus = load(prepared / "toy", "full", {"image": "vector", "text": "tokens"}, {"image": "raw"})
    targets = TASK.targets(corpus)
    words = TASK.predict(Model(), corpus, targets, torch.device("cpu"))
    assert words.image.tolist() == [i for i in range(12) for _ in range(2 - i % 2)]
    assert words.share.tolist() == [share for i in range(12) for share in ([1.0, 0.25] if i % 2 == 0 else [1.0])]
    assert set(words.word) == {corpus.vocabulary.words[4], corpus.vocabulary.words[5]}
