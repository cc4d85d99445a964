"""Visual grounding of words: how much a captioner with a sentinel looks at the image for each word (Lu et al., 2017).

The paper plots this share of attention, 1 - β, for words of generated captions. Words that are not visual are those of
scikit-learn's list of English stop words, such as "the" and "of".
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from crossmodal.core.errors import UserError
from crossmodal.tasks import base
from crossmodal.tasks.captions.references import BATCH, Images, images_of

if TYPE_CHECKING:
    import torch
    from pandas import DataFrame

    from crossmodal.corpus.corpus import Corpus
    from crossmodal.models.base import Model

VISUAL, OTHER = "visual-words", "other-words"


def _shares(examples: base.Examples, k: int) -> np.ndarray:
    return 100.0 * np.asarray(examples["share"], np.float64)


@dataclass(frozen=True)
class Words:
    """W words of generated captions: the image, the word, and the share of its attention that the image had."""

    image: np.ndarray  # (W,) place among the images
    word: list[str]
    share: np.ndarray  # (W,) in [0, 1]


class Task(base.Task):
    """The share of the attention that is on the image, for visual words and for others."""

    name: ClassVar[str] = "visual_grounding"
    title: ClassVar[str] = "Visual grounding of words"
    place: ClassVar[int] = 70
    asks: ClassVar[str] = "image_share"
    metrics: ClassVar[tuple[base.Metric, ...]] = (
        base.Metric(
            "image_attention",
            "attention to the image",
            "per cent of a caption's attention that is on the image and not on the sentinel",
            ("share",),
            _shares,
        ),
    )
    aspects: ClassVar[tuple[str, ...]] = (VISUAL, OTHER)
    of_captions: ClassVar[bool] = True
    controls: ClassVar[tuple[str, ...]] = ()

    def hosts(self, relevance: str) -> bool:
        return relevance == "group"

    def targets(self, corpus: Corpus) -> Images:
        """The test images that have a caption."""
        return images_of(corpus, "test")

    def predict(self, model: Model, corpus: Corpus, targets: Images, device: torch.device) -> Words:
        """The words of one caption per image, the likeliest word each time, with the share of the image at each."""
        from crossmodal.evaluation.captions import MARKS

        model.eval()
        vocabulary = corpus.vocabulary.words
        images, words, shares = [], [], []
        for number, batch in enumerate(corpus.items("image", targets.places, BATCH)):
            batch = batch.to(device)
            ids = model.generate(batch, 1)
            share = model.image_share(batch, ids).cpu().numpy()
            for row, caption in enumerate(ids.tolist()):
                for place, word in enumerate(caption):
                    if word and vocabulary[word] not in MARKS:
                        images.append(number * BATCH + row)
                        words.append(vocabulary[word])
                        shares.append(share[row, place])
        return Words(np.array(images, dtype=np.int64), words, np.array(shares, dtype=np.float64))

    def score(self, targets: Images, predictions: Words, folds: list[int]) -> tuple[DataFrame, list[base.Number]]:
        """One row per image and kind of words, with the mean share over these words of its caption.

        A kind of words that no caption has is left out.

        Raises
        ------
        UserError : captions without any words.
        """
        import pandas as pd
        from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS

        if not predictions.word:
            raise UserError(f"visual grounding: none of {len(targets)} captions has a word; train the captioner longer")
        kinds = [OTHER if word in ENGLISH_STOP_WORDS else VISUAL for word in predictions.word]
        table = pd.DataFrame({"image": predictions.image, "aspect": kinds, "share": predictions.share})
        examples = table.groupby(["aspect", "image"], as_index=False).share.mean()
        ids = targets.ids[examples.pop("image")]
        examples = examples.assign(protocol="all", fold=0, query_id=ids, query_group=ids)
        numbers = []
        for aspect, part in examples.groupby("aspect"):
            value = self.metrics[0].value(part)
            about = {"protocol": "all", "aspect": aspect, "metric": "image_attention"}
            numbers.append({**about, "value": value, "n_queries": len(part), "n_gallery": 0})
        return examples, numbers
