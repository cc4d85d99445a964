"""Keywords: words are proposed for each image, and compared with the words that its captions agree on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from crossmodal.tasks import base
from crossmodal.tasks.captions.references import BATCH, Images, images_of, words_of

if TYPE_CHECKING:
    import torch
    from pandas import DataFrame

    from crossmodal.corpus.corpus import Corpus
    from crossmodal.models.base import Model

BEST = 5
COMMON = 0.05
"""Share of the training captions from which on a word says nothing of an image, such as an article."""
AGREED = 2


def _right(examples: base.Examples, k: int) -> np.ndarray:
    return 100.0 * np.asarray(examples["right"], np.float64) / BEST


def _hit(examples: base.Examples, k: int) -> np.ndarray:
    return 100.0 * (np.asarray(examples["right"]) > 0)


def _metric(name: str, label: str, meaning: str, addends: Callable[[base.Examples, int], np.ndarray]) -> base.Metric:
    return base.Metric(name, label, meaning, ("right",), addends)


class Task(base.Task):
    """Keywords of images.

    A keyword is right if two of the image's captions (one, if it has a single one) have the word. Words that more than
    a twentieth of the training captions have are no keywords: without a tagger of parts of speech they stand for those
    that are no nouns.
    """

    name: ClassVar[str] = "keywords"
    title: ClassVar[str] = "Keywords"
    place: ClassVar[int] = 65
    asks: ClassVar[str] = "keywords"
    metrics: ClassVar[tuple[base.Metric, ...]] = (
        _metric("keyword_precision", "keywords P@5", "per cent of the five best keywords that are right", _right),
        _metric("keyword_hit", "keywords hit@5", "per cent of the images with a right keyword among the five", _hit),
    )
    aspects: ClassVar[tuple[str, ...]] = ("image-to-keywords",)
    overall: ClassVar[str] = "image-to-keywords"
    of_captions: ClassVar[bool] = True
    controls: ClassVar[tuple[str, ...]] = ()

    def hosts(self, relevance: str) -> bool:
        return relevance == "group"

    def targets(self, corpus: Corpus) -> Images:
        """The test images that have a caption, with all their captions."""
        return images_of(corpus, "test")

    def predict(
        self, model: Model, corpus: Corpus, targets: Images, device: torch.device
    ) -> tuple[list[list[str]], list[list[str]]]:
        """The five best keywords of each image by the model, and those that are the most frequent in training."""
        from crossmodal.language.tokens import SPECIAL

        model.eval()
        vocabulary = corpus.vocabulary.words
        counts, captions = Counter(), 0
        for words in words_of(corpus, np.unique(corpus.pairs["text"])):
            counts.update({*words})
            captions += 1
        kept = [i for i, w in enumerate(vocabulary) if i >= len(SPECIAL) and 0 < counts[w] <= COMMON * captions]
        frequent = sorted((vocabulary[i] for i in kept), key=lambda word: (-counts[word], word))[:BEST]
        best: list[list[str]] = []
        for batch in corpus.items("image", targets.places, BATCH):
            scores = model.keywords(batch.to(device))[:, kept]
            rows = scores.topk(min(BEST, len(kept)), 1).indices.tolist()
            best += [[vocabulary[kept[i]] for i in row] for row in rows]
        return best, [frequent] * len(best)

    def score(self, targets: Images, predictions: Any, folds: list[int]) -> tuple[DataFrame, list[base.Number]]:
        """One row per image, by the model (`all`) and by the most frequent words (`frequent`, a control)."""
        import pandas as pd

        tables, numbers = [], []
        for protocol, listed in zip(("all", "frequent"), predictions, strict=True):
            pairs = zip(listed, targets.references, strict=True)
            right = [len({*words} & agreed(references)) for words, references in pairs]
            about = {"protocol": protocol, "aspect": self.overall}
            columns = {"right": np.array(right, np.float64)}
            text = [" ".join(words) for words in listed]
            ids = targets.ids
            of = {**about, "fold": 0, "query_id": ids, "query_group": ids}
            tables.append(pd.DataFrame({**of, "keywords": text, **columns}))
            size = {"n_queries": len(ids), "n_gallery": 0}
            numbers += [{**about, **size, "metric": m.name, "value": m.value(columns)} for m in self.metrics]
        return pd.concat(tables, ignore_index=True), numbers


def agreed(references: list[list[str]]) -> set[str]:
    """The words that at least two of an image's captions have, or its only caption.

    Examples
    --------
    >>> sorted(agreed([["a", "dog"], ["the", "dog", "dog"], ["a", "cat"]]))
    ['a', 'dog']
    """
    counts = Counter(word for words in references for word in {*words})
    return {word for word, n in counts.items() if n >= min(AGREED, len(references))}
