"""The images of a partition with their reference captions, and what a model says of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from crossmodal.core.errors import UserError

if TYPE_CHECKING:
    import torch

    from crossmodal.corpus.corpus import Corpus
    from crossmodal.models.base import Model

BATCH = 128


@dataclass(frozen=True)
class Images:
    """N images, each with its reference captions as lists of words."""

    ids: np.ndarray  # (N,) item ids
    places: np.ndarray  # (N,) indices in the corpus
    references: list[list[list[str]]]

    def __len__(self) -> int:
        return len(self.ids)


def images_of(corpus: Corpus, partition: str) -> Images:
    """The images of a partition that have a caption, in the order of the data set.

    Raises
    ------
    UserError : no image of the partition has a caption, or a caption belongs to no image.
    """
    images, texts = (corpus.inputs[m] for m in ("image", "text"))
    captions_of: dict[int, list[int]] = {}
    for place in texts.where(partition):
        captions_of.setdefault(int(texts.groups[place]), []).append(int(place))
    unknown = captions_of.keys() - set(images.groups.tolist())
    if unknown:
        place = min(captions_of[group][0] for group in unknown)
        raise UserError(
            f"{corpus.folder / 'items.parquet'}: caption {texts.ids[place]!r} of the {partition} partition belongs to "
            f"no image of the data set, nor do those of {len(unknown) - 1} other images; name an image's own group, or "
            "leave them out"
        )
    places = [int(i) for i in images.where(partition) if int(images.groups[i]) in captions_of]
    if not places:
        raise UserError(f"{corpus.folder}: no image of its {partition} partition has a caption to compare with")
    chosen = [captions_of[int(images.groups[i])] for i in places]
    words = iter(words_of(corpus, [place for group in chosen for place in group]))
    references = [[next(words) for _ in group] for group in chosen]
    return Images(images.ids[places], np.array(places), references)


def words_of(corpus: Corpus, places: Sequence[int]) -> list[list[str]]:
    """The words of the captions at the given indices of the corpus, as coco-caption counts them."""
    from crossmodal.datasets import items
    from crossmodal.evaluation.captions import MARKS, coco_words

    frame = items.read(corpus.folder).set_index("item_id").source
    texts = frame.loc[corpus.inputs["text"].ids[list(places)]]
    if items.words(corpus.folder) == "blanks":
        return [[word for word in text.lower().split() if word not in MARKS] for text in texts]
    return coco_words(texts)


def generated(model: Model, corpus: Corpus, images: Images, device: torch.device, beam: int) -> Iterator[list[str]]:
    """Yield the words of the caption that the model generates for each image, without punctuation marks."""
    from crossmodal.evaluation.captions import MARKS

    model.eval()
    vocabulary = corpus.vocabulary.words
    for batch in corpus.items("image", images.places, BATCH):
        ids = model.generate(batch.to(device), beam)
        check_words(ids, len(vocabulary))
        for row in ids.tolist():
            yield [vocabulary[word] for word in _said(row) if vocabulary[word] not in MARKS]


def check_words(ids: torch.Tensor, size: int) -> None:
    """Check that generated words are in the vocabulary.

    Raises
    ------
    UserError : an id that is none of the vocabulary's.
    """
    if ids.numel() and not 0 <= int(ids.min()) <= int(ids.max()) < size:
        odd = int(ids.max()) if int(ids.max()) >= size else int(ids.min())
        raise UserError(
            f"a generated caption has the word id {odd}, and the run's vocabulary has {size} words; its weights "
            "and its vocabulary.json are of different runs: train it again"
        )


def _said(row: Iterable[int]) -> list[int]:
    """The ids of words; special ones are left out."""
    from crossmodal.language.tokens import SPECIAL

    return [word for word in row if word >= len(SPECIAL)]
