"""Regional semantics (A3VSE, section 4.3): the attributes and classes of an image's regions as a sequence of words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
import pandas as pd

from crossmodal.core.errors import UserError
from crossmodal.features.engine.store import Features
from crossmodal.language import concepts


def sequence(
    classes: Sequence[str], attributes: Sequence[str], confidences: Sequence[float], most: int | None = None
) -> list[str]:
    """The words `attribute class` of each region, in decreasing order of confidence.

    Regions without a class are skipped.

    Parameters
    ----------
    most : maximum number of regions; by default all.
    """
    order = np.argsort(-np.asarray(confidences, dtype=np.float64), kind="stable")
    named = [i for i in order if classes[i]]
    words = [f"{attributes[i]} {classes[i]}".lower().split() for i in named[:most]]
    return [word for region in words for word in region]


NAMING = ("class", "attribute", "confidence")


def named_regions(features: Features) -> pd.DataFrame:
    """The index of region features, with the columns `class`, `attribute` and `confidence`.

    Raises
    ------
    UserError : the index lacks one of these columns.
    """
    missing = [column for column in NAMING if column not in features.index]
    if missing:
        raise UserError(
            f"{features.path}: its index has no column {missing[0]!r}; regional semantics need the features of a "
            "`regions` extractor"
        )
    return features.index


def token_table(features: Features, most: int | None = None) -> pd.DataFrame:
    """Table of `item_id` and `tokens` of every image, in the form of `crossmodal.language.tokens.token_table`.

    Parameters
    ----------
    most : maximum number of regions per image; by default all.

    Raises
    ------
    UserError : the index of the features has no classes of regions.
    """
    index = named_regions(features)
    tokens = [sequence(*row, most) for row in zip(*(index[column] for column in NAMING), strict=True)]
    return pd.DataFrame({"item_id": index.item_id, "tokens": tokens})


def named(features: Features, kind: Literal["regional", "global"]) -> pd.Series:
    """The words of each image by its item id: those of its regions (`regional`), or its concepts (`global`).

    Raises
    ------
    UserError : the index of the features has no classes of regions.
    """
    index = named_regions(features)
    if kind == "regional":
        return token_table(features).set_index("item_id").tokens
    names = concepts.names_of(index)
    return pd.Series(concepts.tags(concepts.of_regions(index, names), names), index.item_id, dtype=object)
