"""Reconstruction: the parts of encodings, and the images and captions reconstructed from them (mFSR, section 4.4).

The task also keeps examples, which are drawn in figures.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from crossmodal.core.files import atomic_write, write_json
from crossmodal.tasks import base
from crossmodal.tasks.base import Metric

if TYPE_CHECKING:
    import torch
    from pandas import DataFrame

    from crossmodal.corpus.corpus import Corpus
    from crossmodal.models.base import Model

BATCH = 256
SHOWN = 12  # number of pairs whose pictures and captions are kept
PARTS = ("modal", "semantic", "specific")


def _median_rank(examples: base.Examples, k: int) -> float:
    return float(np.median(examples["picture_rank"]))


def _share_of_words(examples: base.Examples, k: int) -> float:
    return 100 * float(np.sum(examples["words_right"]) / np.sum(examples["words"]))


def _mean_cosine(modality: str, *, absolute: bool = False) -> Metric:
    column, kind = f"{modality}_cosine", "absolute cosine" if absolute else "cosine"

    def addends(examples: base.Examples, k: int) -> np.ndarray:
        values = np.asarray(examples[column])
        return np.abs(values) if absolute else values

    name = f"{modality}_abs_cosine" if absolute else column
    meaning = f"mean {kind} of semantic and specific parts"
    low = 0 if absolute else -1
    return Metric(name, f"{modality} {kind}", meaning, (column,), addends, better="lower", low=low, high=1)


def _silhouette(part: str) -> Metric:
    return Metric(
        f"{part}_silhouette", f"{part} silhouette", f"silhouette of modalities in {part} parts", low=-1, high=1
    )


@dataclass(frozen=True)
class Pairs:
    """N images with one caption each."""

    ids: np.ndarray  # (N,) item ids of the images
    images: np.ndarray  # (N,) indices of the images in the corpus
    texts: np.ndarray  # (N,) indices of the captions in the corpus
    vocabulary: Sequence[str]

    def sentence(self, words: np.ndarray) -> str:
        """The text of (L,) word ids, without special tokens."""
        from crossmodal.language.tokens import SPECIAL

        return " ".join(self.vocabulary[word] for word in words if word >= len(SPECIAL))


class Task(base.Task):
    """Reconstruction of images and captions, and the separation of encodings into parts."""

    name: ClassVar[str] = "reconstruction"
    title: ClassVar[str] = "Reconstruction"
    place: ClassVar[int] = 40
    asks: ClassVar[str] = "reconstruct"
    metrics: ClassVar[tuple[Metric, ...]] = (
        Metric(
            "picture_rank",
            "picture rank",
            "median rank of an image by the distance of its pixels to its reconstruction",
            ("picture_rank",),
            whole=_median_rank,
            better="lower",
            low=1,
            high=math.inf,
        ),
        Metric(
            "words_right",
            "words right",
            "per cent of the words that are reconstructed at their position",
            ("words", "words_right"),
            whole=_share_of_words,
        ),
        *(_mean_cosine(m) for m in ("image", "text")),
        *(_mean_cosine(m, absolute=True) for m in ("image", "text")),
        *(_silhouette(part) for part in PARTS),
    )
    aspects: ClassVar[tuple[str, ...]] = ("parts",)

    controls: ClassVar[tuple[str, ...]] = ()

    def hosts(self, relevance: str) -> bool:
        return relevance == "group"

    def targets(self, corpus: Corpus) -> Pairs:
        """The test images that have a caption, each with its first caption."""
        images, texts = (corpus.inputs[m].where("test") for m in ("image", "text"))
        groups = corpus.inputs["text"].groups[texts]
        first = {int(group): int(place) for group, place in zip(groups[::-1], texts[::-1], strict=True)}
        of_image = corpus.inputs["image"].groups
        images = np.array([i for i in images if int(of_image[i]) in first])
        texts = np.array([first[int(group)] for group in of_image[images]])
        return Pairs(corpus.inputs["image"].ids[images], images, texts, corpus.vocabulary.words)

    def predict(self, model: Model, corpus: Corpus, targets: Pairs, device: torch.device) -> dict[str, np.ndarray]:
        """The arrays of the model's `reconstruct` for all pairs; captions are padded to the length of the longest."""
        import torch

        model.eval()
        shown: list[dict[str, Any]] = []
        for start in range(0, len(targets.ids), BATCH):
            part = slice(start, start + BATCH)
            chosen = {"image": torch.from_numpy(targets.images[part]), "text": torch.from_numpy(targets.texts[part])}
            arrays = model.reconstruct(corpus.gathered(chosen).to(device))
            shown.append({name: value.cpu().numpy() for name, value in arrays.items()})
        joined = {}
        for name in shown[0]:
            parts = [arrays[name] for arrays in shown]
            if name.startswith("words"):
                width = max(part.shape[1] for part in parts)
                parts = [np.pad(part, ((0, 0), (0, width - part.shape[1]))) for part in parts]
            joined[name] = np.concatenate(parts)
        return joined

    def score(
        self, targets: Pairs, predictions: dict[str, np.ndarray], folds: list[int]
    ) -> tuple[DataFrame, list[base.Number]]:
        """One row per pair; the separation of the parts, and how well images and captions are reconstructed."""
        import pandas as pd

        from crossmodal.evaluation import separation
        from crossmodal.language.tokens import SPECIAL

        parts = _parts(predictions)
        numbers = separation.numbers(parts)
        columns = {f"{m}_cosine": separation.cosines(p["semantic"], p["specific"]) for m, p in parts.items()}
        if "pictures" in predictions:
            columns["picture_rank"] = separation.ranks_of_own(predictions["pictures_made"], predictions["pictures"])
            numbers["picture_rank"] = float(np.median(columns["picture_rank"]))
        if "words" in predictions:
            written = predictions["words"][:, 1:]
            right = written == predictions["words_made"][:, : written.shape[1]]
            is_word = written >= len(SPECIAL)
            numbers["words_right"] = 100 * float(right[is_word].mean())
            columns |= {"words": is_word.sum(1), "words_right": (right & is_word).sum(1)}
        about = {"protocol": "all", "aspect": "parts"}
        size = {"n_queries": len(targets.ids), "n_gallery": 0}
        examples = pd.DataFrame({**about, "fold": 0, "query_id": targets.ids, **columns})
        return examples, [{**about, **size, "metric": name, "value": value} for name, value in numbers.items()]

    def keep(self, targets: Pairs, predictions: dict[str, np.ndarray], folder: Path) -> None:
        """Write `shown.json` (captions and their reconstructions) and `shown.npz` (cosines, points and pictures)."""
        from crossmodal.evaluation import separation

        parts = _parts(predictions)
        drawn = {f"{m}_cosines": separation.cosines(p["semantic"], p["specific"]) for m, p in parts.items()}
        drawn["modal_plane"] = separation.plane(np.concatenate([p["modal"] for p in parts.values()]))
        drawn |= {name: predictions[name][:SHOWN] for name in ("pictures", "pictures_made") if name in predictions}
        captions = [
            {name: targets.sentence(predictions[name][row]) for name in ("words", "words_made") if name in predictions}
            for row in range(min(SHOWN, len(targets.ids)))
        ]
        write_json(folder / "shown.json", {"captions": captions})
        with atomic_write(folder / "shown.npz") as temporary, temporary.open("wb") as stream:
            np.savez_compressed(stream, **drawn)


def _parts(shown: dict[str, np.ndarray]) -> dict[str, dict[str, np.ndarray]]:
    """Modality to its parts, each (N, d)."""
    return {m: {part: shown[f"{m}_{part}"] for part in PARTS} for m in ("image", "text") if f"{m}_modal" in shown}
