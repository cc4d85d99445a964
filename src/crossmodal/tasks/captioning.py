"""Captioning: a sentence is generated for each image, and compared with the sentences that people wrote of it."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from crossmodal.core.errors import UserError
from crossmodal.core.files import write_parquet
from crossmodal.evaluation import captions, hallucination
from crossmodal.tasks import base
from crossmodal.tasks.captions.objects import Objects, objects_of
from crossmodal.tasks.captions.references import Images, Said, generated, images_of, said, shown, words_of

if TYPE_CHECKING:
    import torch
    from pandas import DataFrame

    from crossmodal.corpus.corpus import Corpus
    from crossmodal.models.base import Model

SUMS = (*(f"matched{n}" for n in range(1, 5)), *(f"guessed{n}" for n in range(1, 5)), "length", "reference_length")
ATTENTION = "attention.parquet"
ALL, GREEDY, HUMAN = "all", "greedy", "human"
Captions = dict[str, list[list[str]]]
"""Protocol to the words of one caption per image."""


@dataclass(frozen=True)
class Predictions:
    """The captions of all images, and of some images where the model looked when it said each word."""

    captions: Captions
    looks: dict[str, Said] = field(default_factory=dict)
    """Image id to the caption of the protocol `all` with its attention, of a few images; empty without attention."""


@dataclass(frozen=True)
class Targets:
    """The test images, and the captions of the training part for a control that draws from them."""

    images: Images
    corpus: Corpus

    @cached_property
    def training(self) -> np.ndarray:
        """(T,) indices of the training captions in the corpus."""
        return self.corpus.inputs["text"].where("train")

    @cached_property
    def objects(self) -> Objects | None:
        """The objects that are annotated in the test images; None where no data are annotated."""
        return objects_of(self.corpus, self.images)

    @cached_property
    def known(self) -> list[list[str]]:
        """The words of each training caption."""
        return words_of(self.corpus, self.training)


def _bleu(order: int) -> base.Metric:
    def formula(sums: np.ndarray) -> np.ndarray:
        return captions.bleu(sums)[..., order - 1]

    return base.Metric(f"bleu{order}", f"BLEU-{order}", f"BLEU-{order} of the whole set", SUMS, formula=formula)


def _mean(name: str, label: str, meaning: str, *, share: bool = False, **facts: Any) -> base.Metric:
    def addends(examples: base.Examples, k: int) -> np.ndarray:
        return np.asarray(examples[name], np.float64) * (100.0 if share else 1.0)

    return base.Metric(name, label, meaning, (name,), addends, **facts)


def _share(name: str, label: str, meaning: str, *columns: str) -> base.Metric:
    return base.Metric(name, label, meaning, columns, formula=hallucination.share, better="lower")


class Task(base.Task):
    """Captioning of images, measured as coco-caption measures it."""

    name: ClassVar[str] = "captioning"
    title: ClassVar[str] = "Captioning"
    place: ClassVar[int] = 60
    asks: ClassVar[str] = "generate"
    on_request: ClassVar[tuple[str, ...]] = ("encode",)  # of a retrieval system, the training caption it ranks first
    metrics: ClassVar[tuple[base.Metric, ...]] = (
        _mean("cider", "CIDEr", "CIDEr-D times 100, as coco-caption has it", high=1000.0, headline=True),
        *map(_bleu, (4, 3, 2, 1)),
        _mean("rouge_l", "ROUGE-L", "ROUGE-L times 100"),
        _mean("cider_plain", "plain CIDEr", "CIDEr without clipping and without a penalty of length", high=1000.0),
        _share("chair_i", "CHAIR-i", "per cent of the objects said that are not in the picture", "absent", "objects"),
        _share("chair_s", "CHAIR-s", "per cent of the captions with such an object", "astray", "annotated"),
        _mean("length", "words", "mean number of words", high=math.inf),
        _mean("novel", "novel", "per cent of the captions that are no training caption", share=True),
        base.Metric("distinct1", "distinct-1", "distinct words over all words said"),
        base.Metric("distinct2", "distinct-2", "distinct pairs of words over all pairs said"),
        base.Metric("vocabulary", "vocabulary", "number of different words said", high=math.inf),
    )
    aspects: ClassVar[tuple[str, ...]] = ("image-to-caption",)
    overall: ClassVar[str] = "image-to-caption"
    criterion: ClassVar[str] = "cider"
    criterion_label: ClassVar[str] = "CIDEr"
    selection: ClassVar[str] = "crossmodal.tasks.captions.selection"
    curves: ClassVar[tuple[str, ...]] = ("cider",)
    of_captions: ClassVar[bool] = True

    def hosts(self, relevance: str) -> bool:
        return relevance == "group"

    def targets(self, corpus: Corpus) -> Targets:
        """The test images that have a caption, with all their captions."""
        return Targets(images_of(corpus, "test"), corpus)

    def predict(self, model: Model, corpus: Corpus, targets: Targets, device: torch.device) -> Predictions:
        """One caption per image, by a beam of the model's setting `beam` and by taking the likeliest word each time.

        A system that generates none, which retrieves, says the training caption that it ranks first.

        Raises
        ------
        UserError : all captions are empty, or have words that are not in the vocabulary.
        """
        if not hasattr(model, "generate"):
            from crossmodal.tasks.captions.retrieved import retrieved

            return Predictions({ALL: retrieved(model, corpus, targets.images, device)})
        beam = getattr(model.settings, "beam", 1)  # systems that lend captions have none
        captions_of = {ALL: [*generated(model, corpus, targets.images, device, beam)]}
        if beam > 1:
            captions_of[GREEDY] = [*generated(model, corpus, targets.images, device, 1)]
        if not any(any(spoken) for spoken in captions_of.values()):
            raise UserError(
                f"the model says no word of any of the {len(targets.images)} test images, whose captions all end at "
                "once; train it longer, or with a lower learning rate"
            )
        looks: dict[str, Said] = {}
        if hasattr(model, "attend"):
            chosen = shown(len(targets.images))
            (batch,) = corpus.items("image", targets.images.places[chosen], len(chosen))
            listed = said(model, batch.to(device), beam, corpus.vocabulary, attention=True)
            looks = dict(zip(map(str, targets.images.ids[chosen]), listed, strict=True))
        return Predictions(captions_of, looks)

    def keep(self, targets: Targets, predictions: Predictions, folder: Path) -> None:
        """Write `attention.parquet`: one row per word of some images, with the `weights` of the image's regions."""
        import pandas as pd

        (folder / ATTENTION).unlink(missing_ok=True)
        rows = [
            {"query_id": id_, "place": place, "word": word, "weights": weights}
            for id_, look in predictions.looks.items()
            for place, (word, weights) in enumerate(zip(look.words, look.attention, strict=True))
        ]
        if rows:
            write_parquet(folder / ATTENTION, pd.DataFrame(rows))

    def chance(self, targets: Targets, seed: int) -> Predictions:
        """A training caption for each image, drawn at random."""
        rng = np.random.default_rng(seed)
        drawn = rng.integers(len(targets.known), size=len(targets.images))
        return Predictions({ALL: [targets.known[i] for i in drawn]})

    def oracle(self, targets: Targets) -> Predictions:
        """The first reference: compared with all references of its image, and, as people are, with the others alone."""
        first = [references[0] for references in targets.images.references]
        return Predictions({ALL: first, HUMAN: first})

    def expected(
        self, control: str, number: base.Number, numbers: Iterable[base.Number]
    ) -> tuple[float, float, float] | None:
        """What a reference reaches against itself, and that a training caption is not new."""
        if control == "chance" and number["metric"] == "novel":
            return 0.0, 0.0, 0.0
        if control == "oracle" and number["protocol"] == ALL and number["metric"] in ("bleu1", "rouge_l"):
            return 100.0, 100.0 - 1e-6, 100.0  # coco-caption adds 1e-9 to the number of words
        return None

    def truth_is_best(self, number: base.Number) -> bool:
        """A reference agrees with itself; what CIDEr gives it depends on how far the other references agree."""
        return number["protocol"] == ALL and number["metric"] in ("bleu1", "bleu2", "bleu3", "bleu4", "rouge_l")

    def score(
        self, targets: Targets, predictions: Predictions, folds: list[int]
    ) -> tuple[DataFrame, list[base.Number]]:
        """One row per image and protocol, with the numbers that all metrics are computed from."""
        import pandas as pd

        tables, numbers = [], []
        for protocol, spoken in predictions.captions.items():
            ids, references = targets.images.ids, targets.images.references
            if protocol == HUMAN:
                several = [i for i, others in enumerate(references) if len(others) > 1]
                if not several:
                    continue
                ids, spoken = ids[several], [spoken[i] for i in several]
                references = [references[i][1:] for i in several]
            columns = _columns(spoken, references, targets.known)
            if targets.objects is not None:
                columns |= targets.objects.columns(ids, spoken, references)
            about = {"protocol": protocol, "aspect": "image-to-caption"}
            caption = [" ".join(words) for words in spoken]
            tables.append(
                pd.DataFrame({**about, "fold": 0, "query_id": ids, "query_group": ids, "caption": caption, **columns})
            )
            values = {metric.name: metric.value(columns) for metric in self.metrics if metric.columns}
            values = {name: value for name, value in values.items() if value is not None} | _of_all(spoken)
            size = {"n_queries": len(ids), "n_gallery": 0}
            numbers += [{**about, **size, "metric": name, "value": value} for name, value in values.items()]
        return pd.concat(tables, ignore_index=True), numbers


def _columns(said: list[list[str]], references: list[list[list[str]]], known: list[list[str]]) -> dict[str, np.ndarray]:
    """The columns of the examples' table, each (N,)."""
    sums = captions.bleu_sums(said, references)
    scores = captions.cider(said, references)
    columns = dict(zip(SUMS, sums.T, strict=True))
    columns |= {"cider": scores.d, "cider_plain": scores.plain, "rouge_l": captions.rouge_l(said, references)}
    return {**columns, "novel": captions.novel(said, known)}


def _of_all(said: list[list[str]]) -> dict[str, float]:
    """The metrics of all captions together that are no sums over images."""
    values = {f"distinct{n}": captions.distinct(said, n) for n in (1, 2) if any(len(words) >= n for words in said)}
    return {**values, "vocabulary": float(len({word for words in said for word in words}))}
