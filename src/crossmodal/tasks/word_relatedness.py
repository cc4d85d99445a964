"""Word relatedness: whether words with similar images have similar vectors (Kottur et al., 2016)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from crossmodal.core.errors import UserError
from crossmodal.tasks import base

if TYPE_CHECKING:
    import torch
    from pandas import DataFrame

    from crossmodal.corpus.corpus import Corpus
    from crossmodal.models.base import Model

BATCH = 256


@dataclass(frozen=True)
class Answers:
    """W words, each with its vector and its mean image features."""

    words: list[str]
    vectors: np.ndarray  # (W, d)
    looks: np.ndarray  # (W, D), as of `evaluation.relatedness.mean_looks`


class Task(base.Task):
    """Correlation between the similarities of word vectors and those of the words' images."""

    name: ClassVar[str] = "word_relatedness"
    title: ClassVar[str] = "Word relatedness"
    place: ClassVar[int] = 50
    asks: ClassVar[str] = "looks"
    metrics: ClassVar[tuple[base.Metric, ...]] = (
        base.Metric("relatedness", "relatedness", "relatedness: 100 times a rank correlation", low=-100.0),
    )
    aspects: ClassVar[tuple[str, ...]] = ("words",)

    controls: ClassVar[tuple[str, ...]] = ()

    def hosts(self, relevance: str) -> bool:
        return True

    def targets(self, corpus: Corpus) -> list[set[int]]:
        """The word ids of the caption of each test image that has a caption."""
        from crossmodal.language.tokens import SPECIAL

        return [
            {word for word in row.tolist() if word >= len(SPECIAL)}
            for batch in corpus.joined("test", BATCH)
            for row in batch.inputs["text"].ids
        ]

    def predict(self, model: Model, corpus: Corpus, targets: list[set[int]], device: torch.device) -> Answers:
        """The vectors and the mean image features of the words that occur in enough captions."""
        import torch

        from crossmodal.evaluation.relatedness import mean_looks

        model.eval()
        images = torch.cat([model.looks(batch.to(device)).cpu() for batch in corpus.joined("test", BATCH)])
        looks, words = mean_looks(images.double().numpy(), targets, model.settings.frequent)
        vectors = model.vectors().detach().cpu().double().numpy()[words]
        return Answers([corpus.vocabulary.words[word] for word in words], vectors, looks)

    def score(
        self, targets: list[set[int]], predictions: Answers, folds: list[int]
    ) -> tuple[DataFrame, list[base.Number]]:
        """One row per word, and 100 times the rank correlation between cosines of word vectors and of image features.

        The correlation is over pairs of words; the image features of a word are the mean features of the test images
        whose captions contain it.

        Raises
        ------
        UserError : fewer than three words that occur in enough captions.
        """
        import pandas as pd

        from crossmodal.evaluation.relatedness import rank_correlation

        try:
            value = 100 * rank_correlation(predictions.vectors, predictions.looks)
        except ValueError as error:
            raise UserError(f"word relatedness: {error}") from None
        about = {"protocol": "all", "aspect": "words"}
        number = {**about, "metric": "relatedness", "value": value, "n_queries": len(targets), "n_gallery": 0}
        return pd.DataFrame({**about, "fold": 0, "query_id": predictions.words}), [number]
