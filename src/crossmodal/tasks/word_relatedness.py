"""Word relatedness: do the vectors of words that look alike lie near each other (Kottur et al., 2016)?"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from crossmodal.errors import UserError
from crossmodal.files import write_parquet
from crossmodal.tasks import base

if TYPE_CHECKING:
    import torch

    from crossmodal.corpus.corpus import Corpus
    from crossmodal.models.base import Model

BATCH = 256


class Task(base.Task):
    name: ClassVar[str] = "word_relatedness"
    title: ClassVar[str] = "Word relatedness"
    asks: ClassVar[str] = "looks"
    metrics: ClassVar[tuple[base.Metric, ...]] = (
        base.Metric("relatedness", "relatedness", "relatedness: 100 times a rank correlation", low=-100.0),
    )
    aspects: ClassVar[tuple[str, ...]] = ("words",)

    def hosts(self, relevance: str) -> bool:
        return True

    def evaluate(
        self, model: Model, corpus: Corpus, folds: list[int], device: torch.device, folder: Path
    ) -> list[base.Number]:
        """100 times the rank correlation, over pairs of words, of the cosines of their vectors and of what they look
        like: the mean features of the test images whose captions have them.

        Raises
        ------
        UserError : fewer than three words that stand in enough captions.
        """
        import pandas as pd
        import torch

        from crossmodal.evaluation.relatedness import mean_looks, rank_correlation
        from crossmodal.text import SPECIAL

        model.eval()
        images, words_of = [], []
        for batch in corpus.joined("test", BATCH):
            images.append(model.looks(batch.to(device)).cpu())
            words_of += [{word for word in row.tolist() if word >= len(SPECIAL)} for row in batch.inputs["text"].ids]
        looks, words = mean_looks(torch.cat(images).double().numpy(), words_of, model.settings.frequent)
        vectors = model.vectors().detach().cpu().double().numpy()[words]
        try:
            value = 100 * rank_correlation(vectors, looks)
        except ValueError as error:
            raise UserError(f"{type(model).__module__.rpartition('.')[2]}: {error}") from None
        seen = {"example_id": [corpus.vocabulary.words[word] for word in words]}
        write_parquet(folder / "examples.parquet", pd.DataFrame({"protocol": "all", "direction": "words", **seen}))
        about = {"direction": "words", "metric": "relatedness", "protocol": "all", "value": value}
        return [{**about, "n_queries": len(words_of), "n_gallery": 0}]
