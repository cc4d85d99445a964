"""What goes on inside a trained model, on test pairs: numbers for `inside.json`, what figures draw for `inside.npz`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from crossmodal.corpus.corpus import Corpus
from crossmodal.evaluation import separation
from crossmodal.files import whole, write_json
from crossmodal.models import base
from crossmodal.text import SPECIAL

BATCH = 256
SHOWN = 12  # pairs whose pictures and captions are kept


def inspect(model: base.Model, corpus: Corpus, device: torch.device, folder: Path) -> None:
    """Write `inside.json` and `inside.npz` of the test images with a caption each; nothing of a model without insides.

    The first hold `numbers` (see `separation.numbers`; `picture_rank`: median rank of an image by the distance of its
    pixels to what was made of it, `words_right`: percentage of words that are said again at their place) and
    `captions`, the second cosines, points and pictures.
    """
    if type(model).inspect is base.Model.inspect:
        return
    found = _inspected(model, corpus, device)
    parts = {
        m: {part: found[f"{m}_{part}"] for part in ("modal", "semantic", "specific")}
        for m in model.reads
        if f"{m}_modal" in found
    }
    numbers = separation.numbers(parts)
    drawn = {f"{m}_cosines": separation.cosines(p["semantic"], p["specific"]) for m, p in parts.items()}
    drawn["modal_plane"] = separation.plane(np.concatenate([p["modal"] for p in parts.values()]))
    captions: list[dict[str, str]] = []
    if "pictures" in found:
        numbers["picture_rank"] = float(np.median(separation.ranks_of_own(found["pictures_made"], found["pictures"])))
        drawn |= {name: found[name][:SHOWN] for name in ("pictures", "pictures_made")}
    if "words" in found:
        told, said = found["words"][:, 1:], found["words_made"][:, : found["words"].shape[1] - 1]
        is_word = told >= len(SPECIAL)
        numbers["words_right"] = 100 * float((told == said)[is_word].mean())
    for row in range(min(SHOWN, len(next(iter(found.values()))))):
        own = {name: _sentence(corpus, found[name][row]) for name in ("words", "words_made") if name in found}
        captions.append(own)
    write_json(folder / "inside.json", {"numbers": numbers, "captions": captions})
    with whole(folder / "inside.npz") as temporary, temporary.open("wb") as stream:
        np.savez_compressed(stream, **drawn)


def _inspected(model: base.Model, corpus: Corpus, device: torch.device) -> dict[str, np.ndarray]:
    """What the model shows of all pairs; captions are padded to the longest of all."""
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
        shown.append({n: x.cpu().numpy() for n, x in model.inspect(corpus.gathered(chosen).to(device)).items()})
    joined = {}
    for name in shown[0]:
        parts = [one[name] for one in shown]
        if name.startswith("words"):
            width = max(part.shape[1] for part in parts)
            parts = [np.pad(part, ((0, 0), (0, width - part.shape[1]))) for part in parts]
        joined[name] = np.concatenate(parts)
    return joined


def _sentence(corpus: Corpus, ids: np.ndarray) -> str:
    return " ".join(corpus.vocabulary.words[i] for i in ids if i >= len(SPECIAL))
