"""The images of a partition with their reference captions, and what a model says of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from crossmodal.core import limits
from crossmodal.core.errors import UserError

if TYPE_CHECKING:
    import torch

    from crossmodal.corpus.corpus import Corpus
    from crossmodal.language.tokens import Vocabulary
    from crossmodal.models.base import Batch, Model

BATCH = 128
SHOWN = 8
"""Test images whose captions a report shows, and of which the attention to regions is kept."""


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
    """The words of the captions at the given indices of the corpus, as coco-caption counts them.

    Raises
    ------
    UserError : a caption has more than `limits.caption_words`.
    """
    from crossmodal.datasets import items
    from crossmodal.evaluation.captions import MARKS, coco_words

    frame = items.read(corpus.folder).set_index("item_id").source
    texts = frame.loc[corpus.inputs["text"].ids[list(places)]]
    if items.words(corpus.folder) == "blanks":
        captions = [[word for word in text.lower().split() if word not in MARKS] for text in texts]
    else:
        captions = coco_words(texts)
    most = limits.current().caption_words
    for item_id, caption in zip(texts.index, captions, strict=True):
        if len(caption) > most:
            raise UserError(
                f"{corpus.folder}: the caption {item_id!r} has {len(caption):,} words, expected at most {most:,} "
                "(`limits.caption_words` in params.yaml); shorten it"
            )
    return captions


def shown(count: int) -> np.ndarray:
    """The places of the images that are shown, of `count` images: `SHOWN` of them evenly spaced, whatever is said."""
    return np.unique(np.linspace(0, count - 1, min(count, SHOWN)).round().astype(np.int64))


def generated(model: Model, corpus: Corpus, images: Images, device: torch.device, beam: int) -> Iterator[list[str]]:
    """Yield the words of the caption that the model generates for each image, without punctuation marks."""
    model.eval()
    for batch in corpus.items("image", images.places, BATCH):
        for caption in said(model, batch.to(device), beam, corpus.vocabulary):
            yield caption.words


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


@dataclass(frozen=True)
class Said:
    """The words of a generated caption, without punctuation marks, and where the model looked when it said each."""

    words: list[str]
    attention: np.ndarray | None = None  # (words, R) weights of the image's R regions; None without attention


def said(model: Model, batch: Batch, beam: int, vocabulary: Vocabulary, *, attention: bool = False) -> Iterator[Said]:
    """Yield the caption that a model generates for each image of a batch.

    Parameters
    ----------
    attention : whether the weights of the regions are wanted, which takes another pass over the words.

    Raises
    ------
    UserError : a word that is not in the vocabulary.
    """
    from crossmodal.evaluation.captions import MARKS
    from crossmodal.language.tokens import SPECIAL
    from crossmodal.models.base import Regions

    ids = model.generate(batch, beam)
    check_words(ids, len(vocabulary))
    attend = getattr(model, "attend", None) if attention else None
    weights = None if attend is None else attend(batch, ids)
    image = batch.inputs["image"]
    counts = image.counts.tolist() if isinstance(image, Regions) else None
    for i, row in enumerate(ids.tolist()):
        spoken = [(p, vocabulary.words[word]) for p, word in enumerate(row) if word >= len(SPECIAL)]
        pairs = [(p, word) for p, name in spoken for word in name.split() if word not in MARKS]  # names of regions
        looked = None
        if weights is not None:
            looked = weights[i, [p for p, _ in pairs], : counts[i] if counts else None].float().cpu().numpy()
        yield Said([word for _, word in pairs], looked)
