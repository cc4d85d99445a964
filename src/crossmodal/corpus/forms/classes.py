"""One vector per class, with which zero-shot systems compare images: float32 (B, D).

Readers of data sets with unseen classes write `classes.parquet` with the attributes of each class, also as a text.
"""

from __future__ import annotations

import logging
from collections import Counter
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch

from crossmodal.core.errors import UserError
from crossmodal.core.files import read_parquet, sha256_bytes
from crossmodal.corpus.forms import base
from crossmodal.corpus.inputs import Inputs
from crossmodal.datasets.items import class_id
from crossmodal.language import wordvectors
from crossmodal.language.tokens import tokenize

log = logging.getLogger(__name__)

SEEDED_DIM = 50  # dimension of word vectors without a file, as in Socher et al. (2013)


class Form(base.Form):
    """The form of class vectors.

    For training and validation the classes are those of the subset; for the test they are the classes that have test
    items. So if all images of the seen classes are used for training, the test is on the unseen classes alone.

    The vector of a class holds its attributes (shares from 0 to 1), or is the mean word vector of its text
    (`class_vectors`). For the latter `word_vectors` names a file, or `seeded` for random vectors, and `words_covered`
    is the smallest share of words that must have a vector.
    """

    options: ClassVar[dict[str, Any]] = {"class_vectors": "attributes", "word_vectors": "", "words_covered": 0.0}
    of_items = False

    def open(self, source: base.Source) -> Inputs | None:
        """The vectors of the classes in each partition.

        Raises
        ------
        UserError : no table of classes, a class missing there, a text without a known word, or several classes per
            item.
        """
        folder, labels = source.folder, source.labels
        if labels is None:
            raise UserError(f"{folder.name}: the model ranks classes, which needs a data set with relevance: label")
        if labels.several:
            raise UserError(
                f"{folder.name}: the model ranks classes, of which each item must have one; the items of "
                "items.parquet have several"
            )
        path = folder / "classes.parquet"
        if not path.exists():
            raise UserError(
                f"{path}: not found; zero-shot models need a data set whose classes are described, such as `cub`"
            )
        table = read_parquet(path).set_index("label")
        lacking = [name for name in labels.names if name not in table.index]
        if lacking:
            raise UserError(f"{path}: lacks class {lacking[0]!r} of items.parquet; prepare the data set again")
        table = table.loc[labels.names]
        if source.option("class_vectors") == "attributes":
            matrix = np.stack(table.attributes.to_list()).astype(np.float32)
        else:
            named, least = source.option("word_vectors"), source.option("words_covered")
            matrix = _of_words(table.text.to_list(), named, path, least)
        listed = {"train": labels.trained, "val": labels.trained, "test": labels.tested}
        codes = np.concatenate([*listed.values()]).astype(np.int64)
        return Inputs(
            form=self,
            ids=np.array([class_id(labels.names[code]) for code in codes], dtype=object),
            groups=-1 - codes,  # negative, so that no item is in these groups
            partition=np.array([name for name, some in listed.items() for _ in some], dtype=object),
            tensor=torch.from_numpy(matrix),
            rows=torch.from_numpy(codes),
            labels=codes,
            digest=sha256_bytes(matrix.tobytes()),
        )

    def of_rows(self, rows: torch.Tensor, counts: torch.Tensor | None) -> torch.Tensor:
        return rows.float()


def _of_words(texts: list[str], named: str, path: Path, least: float) -> np.ndarray:
    """(C, D) mean word vectors of the text of each class."""
    words = tokenize(texts)
    every = [word for tokens in words for word in tokens]
    vectors = wordvectors.seeded(every, SEEDED_DIM) if named == "seeded" else wordvectors.read(named, every)
    rows = [[vectors.index[word] for word in tokens if word in vectors.index] for tokens in words]
    if not all(rows):
        bare = texts[[bool(row) for row in rows].index(False)]
        raise UserError(f"{path}: {named} has a vector of no word of {bare!r}; name a larger file")
    log.info("%s", wordvectors.coverage(vectors, Counter(every), named, least, "words_covered"))
    return np.stack([vectors.matrix[row].mean(0) for row in rows])
