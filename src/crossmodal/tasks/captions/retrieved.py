"""Captions by a retrieval system: of the training captions, the one that it ranks first for an image."""

from __future__ import annotations

import numpy as np
import torch

from crossmodal.corpus.corpus import Corpus
from crossmodal.evaluation.ranking.ranks import top_k
from crossmodal.models import base
from crossmodal.tasks.captions.references import Images, words_of
from crossmodal.tasks.ranked.encodings import encode

BLOCK = 512  # captions that are scored at once by a system that does not compare vectors
IMAGES = 64


def retrieved(model: base.Model, corpus: Corpus, images: Images, device: torch.device) -> list[list[str]]:
    """The words of the training caption of the split that the model ranks first for each image."""
    texts = np.unique(corpus.pairs["text"])
    pictures = encode(model, corpus, "image", "text", images.places, device)
    captions = encode(model, corpus, "text", "image", texts, device)
    if model.compares_vectors(pictures, captions):
        first = top_k(pictures, captions, 1)[0][:, 0]
    else:
        first = np.concatenate([_first(model, part, captions) for part in pictures.split(IMAGES)])
    return words_of(corpus, texts[first])


@torch.inference_mode()
def _first(model: base.Model, pictures: torch.Tensor, captions: torch.Tensor) -> np.ndarray:
    """(n,) indices of the captions that a model scores highest for (n, ...) images; of equal ones the first."""
    image_first = [*model.reads].index("image") < [*model.reads].index("text")
    best = torch.full((len(pictures),), -torch.inf)
    place = torch.zeros(len(pictures), dtype=torch.int64)
    for number, part in enumerate(captions.split(BLOCK)):
        scores = model.score(pictures, part) if image_first else model.score(part, pictures).T
        value, index = scores.float().cpu().max(1)
        better = value > best
        best[better], place[better] = value[better], index[better] + number * BLOCK
    return place.numpy()
