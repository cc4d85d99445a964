"""Reconstruction: the parts of encodings, and the images and captions that are made again of them (mFSR, section 4.4).

Besides its numbers `shown.json` holds captions as they are and as they are made again, `shown.npz` cosines, points and
pictures: what figures draw.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from crossmodal.files import whole, write_json, write_parquet
from crossmodal.tasks import base
from crossmodal.tasks.base import Metric

if TYPE_CHECKING:
    import torch

    from crossmodal.corpus.corpus import Corpus
    from crossmodal.models.base import Model

BATCH = 256
SHOWN = 12  # pairs whose pictures and captions are kept
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


class Task(base.Task):
    name: ClassVar[str] = "reconstruction"
    title: ClassVar[str] = "Reconstruction"
    asks: ClassVar[str] = "reconstruct"
    metrics: ClassVar[tuple[Metric, ...]] = (
        Metric(
            "picture_rank",
            "picture rank",
            "median rank of an image by the distance of its pixels to what was made of it",
            ("picture_rank",),
            whole=_median_rank,
            better="lower",
            low=1,
            high=math.inf,
        ),
        Metric(
            "words_right",
            "words right",
            "per cent of the words that are said again at their place",
            ("words", "words_right"),
            whole=_share_of_words,
        ),
        *(_mean_cosine(m) for m in ("image", "text")),
        *(_mean_cosine(m, absolute=True) for m in ("image", "text")),
        *(_silhouette(part) for part in PARTS),
    )
    aspects: ClassVar[tuple[str, ...]] = ("parts",)

    def hosts(self, relevance: str) -> bool:
        return relevance == "group"

    def evaluate(
        self, model: Model, corpus: Corpus, folds: list[int], device: torch.device, folder: Path
    ) -> list[base.Number]:
        """What goes on inside a model on the test images with a caption each; writes `shown.json` and `shown.npz`."""
        import pandas as pd

        from crossmodal.evaluation import separation
        from crossmodal.text import SPECIAL

        ids, shown = _shown(model, corpus, device)
        parts = {m: {part: shown[f"{m}_{part}"] for part in PARTS} for m in model.reads if f"{m}_modal" in shown}
        numbers = separation.numbers(parts)
        drawn = {f"{m}_cosines": separation.cosines(p["semantic"], p["specific"]) for m, p in parts.items()}
        columns = {name.removesuffix("s"): values for name, values in drawn.items()}
        drawn["modal_plane"] = separation.plane(np.concatenate([p["modal"] for p in parts.values()]))
        if "pictures" in shown:
            ranks = separation.ranks_of_own(shown["pictures_made"], shown["pictures"])
            numbers["picture_rank"] = float(np.median(ranks))
            columns["picture_rank"] = ranks
            drawn |= {name: shown[name][:SHOWN] for name in ("pictures", "pictures_made")}
        if "words" in shown:
            written, made = shown["words"][:, 1:], shown["words_made"][:, : shown["words"].shape[1] - 1]
            is_word = written >= len(SPECIAL)
            numbers["words_right"] = 100 * float((written == made)[is_word].mean())
            columns |= {"words": is_word.sum(1), "words_right": ((written == made) & is_word).sum(1)}
        count = len(ids)
        about = {"protocol": "all", "direction": "parts", "fold": 0, "example_id": ids}
        write_parquet(folder / "examples.parquet", pd.DataFrame({**about, **columns}))
        captions: list[dict[str, str]] = [
            {name: _sentence(corpus, shown[name][row]) for name in ("words", "words_made") if name in shown}
            for row in range(min(SHOWN, count))
        ]
        write_json(folder / "shown.json", {"numbers": numbers, "captions": captions})
        with whole(folder / "shown.npz") as temporary, temporary.open("wb") as stream:
            np.savez_compressed(stream, **drawn)
        about = {"direction": "parts", "protocol": "all", "n_queries": count, "n_gallery": 0}
        return [{**about, "metric": name, "value": value} for name, value in numbers.items()]


def _shown(model: Model, corpus: Corpus, device: torch.device) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Ids of the images, and what the model shows of all pairs; captions are padded to the longest of all."""
    import torch

    images = corpus.inputs["image"].where("test")
    texts = corpus.inputs["text"].where("test")
    groups = corpus.inputs["text"].groups[texts]
    first = {int(group): int(place) for group, place in zip(groups[::-1], texts[::-1], strict=True)}
    images = np.array([i for i in images if int(corpus.inputs["image"].groups[i]) in first])
    texts = np.array([first[int(group)] for group in corpus.inputs["image"].groups[images]])
    model.eval()
    shown: list[dict[str, Any]] = []
    for start in range(0, len(images), BATCH):
        part = slice(start, start + BATCH)
        chosen = {"image": torch.from_numpy(images[part]), "text": torch.from_numpy(texts[part])}
        arrays = model.reconstruct(corpus.gathered(chosen).to(device))
        shown.append({name: value.cpu().numpy() for name, value in arrays.items()})
    joined = {}
    for name in shown[0]:
        parts = [one[name] for one in shown]
        if name.startswith("words"):
            width = max(part.shape[1] for part in parts)
            parts = [np.pad(part, ((0, 0), (0, width - part.shape[1]))) for part in parts]
        joined[name] = np.concatenate(parts)
    return corpus.inputs["image"].ids[images], joined


def _sentence(corpus: Corpus, ids: np.ndarray) -> str:
    from crossmodal.text import SPECIAL

    return " ".join(corpus.vocabulary.words[i] for i in ids if i >= len(SPECIAL))
