"""Naturalness: how probable an evaluator holds it that a person wrote a caption of its image (Dai et al., 2017).

The E-GAN score of the paper: the mean score of a captioner's own evaluator, σ(⟨f(I), h(S)⟩), over the captions that it
generates, beside the mean scores of a person's caption and of a person's caption of another image.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, NamedTuple

import numpy as np

from crossmodal.core.errors import UserError
from crossmodal.tasks import base
from crossmodal.tasks.captions.references import BATCH, Images, check_words, images_of

if TYPE_CHECKING:
    import torch
    from pandas import DataFrame

    from crossmodal.corpus.corpus import Corpus
    from crossmodal.models.base import Model

WRITTEN, GENERATED, OTHERS = "written-captions", "generated-captions", "captions-of-others"


class Targets(NamedTuple):
    """N test images, and the first caption of each as its place among all texts."""

    images: Images
    captions: np.ndarray  # (N,)


def _score(examples: base.Examples, k: int) -> np.ndarray:
    return 100.0 * np.asarray(examples["score"], np.float64)


class Task(base.Task):
    """The scores that an evaluator gives captions of people, generated ones and those of other images."""

    name: ClassVar[str] = "naturalness"
    title: ClassVar[str] = "Naturalness of captions"
    place: ClassVar[int] = 75
    asks: ClassVar[str] = "judge"
    metrics: ClassVar[tuple[base.Metric, ...]] = (
        base.Metric(
            "e_gan",
            "E-GAN",
            "per cent by which the evaluator holds it probable that a person wrote the caption of the image, mean",
            ("score",),
            _score,
        ),
    )
    aspects: ClassVar[tuple[str, ...]] = (WRITTEN, GENERATED, OTHERS)
    of_captions: ClassVar[bool] = True
    controls: ClassVar[tuple[str, ...]] = ()

    def hosts(self, relevance: str) -> bool:
        return relevance == "group"

    def targets(self, corpus: Corpus) -> Targets:
        """The test images that have a caption, with the first one of each."""
        images, texts = images_of(corpus, "test"), corpus.inputs["text"]
        first: dict[int, int] = {}
        for place in texts.where("test"):
            first.setdefault(int(texts.groups[place]), int(place))
        groups = corpus.inputs["image"].groups[images.places]
        return Targets(images, np.array([first[int(group)] for group in groups]))

    def predict(self, model: Model, corpus: Corpus, targets: Targets, device: torch.device) -> dict[str, np.ndarray]:
        """Kind of captions to the (N,) scores of one per image, in [0, 1]; another image is the next one.

        Raises
        ------
        UserError : there is one test image, so that no other has a caption; a generated word is not in the vocabulary.
        """
        from crossmodal.models.parts.decoding import with_end

        if len(targets.images) < 2:
            raise UserError(f"{corpus.folder}: naturalness: one test image has a caption; expected at least two")
        model.eval()
        scores: dict[str, list[np.ndarray]] = {kind: [] for kind in self.aspects}
        pictures = corpus.items("image", targets.images.places, BATCH)
        people = (corpus.items("text", places, BATCH) for places in (targets.captions, np.roll(targets.captions, -1)))
        for batch, own, other in zip(pictures, *people, strict=True):
            image = batch.to(device)
            generated = model.generate(image, model.settings.beam)
            check_words(generated, len(corpus.vocabulary))
            written = {WRITTEN: own, OTHERS: other}
            ids = {kind: part.to(device).inputs["text"].ids[:, 1:] for kind, part in written.items()}
            ids[GENERATED] = with_end(generated, model.settings.longest)
            for kind in self.aspects:
                scores[kind].append(model.judge(image, ids[kind]).float().cpu().numpy())
        return {kind: np.concatenate(parts) for kind, parts in scores.items()}

    def score(
        self, targets: Targets, predictions: dict[str, np.ndarray], folds: list[int]
    ) -> tuple[DataFrame, list[base.Number]]:
        """One row per image and kind of captions."""
        import pandas as pd

        ids = targets.images.ids
        tables, numbers = [], []
        for aspect, scores in predictions.items():
            about = {"protocol": "all", "aspect": aspect}
            part = pd.DataFrame({**about, "fold": 0, "query_id": ids, "query_group": ids, "score": scores})
            tables.append(part)
            size = {"n_queries": len(ids), "n_gallery": 0}
            numbers.append({**about, **size, "metric": "e_gan", "value": self.metrics[0].value(part)})
        return pd.concat(tables, ignore_index=True), numbers
