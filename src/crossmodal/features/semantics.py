"""Regional semantics (A3VSE, section 4.3): what is named in an image's regions, as one sequence of words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
import pandas as pd

from crossmodal import concepts
from crossmodal.errors import UserError
from crossmodal.features.store import Features


def sequence(
    classes: Sequence[str], attributes: Sequence[str], confidences: Sequence[float], most: int | None = None
) -> list[str]:
    """`attribute class` of each region, the most confident first, as words; regions without a name say nothing.

    Parameters
    ----------
    most : regions that are told at most.
    """
    order = np.argsort(-np.asarray(confidences, dtype=np.float64), kind="stable")
    named = [i for i in order if classes[i]]
    words = [f"{attributes[i]} {classes[i]}".lower().split() for i in named[:most]]
    return [word for region in words for word in region]


NAMING = ("class", "attribute", "confidence")


def named_regions(features: Features) -> pd.DataFrame:
    """The index of region features, which names each image's regions.

    Raises
    ------
    UserError : features whose index names no regions.
    """
    missing = [column for column in NAMING if column not in features.index]
    if missing:
        raise UserError(
            f"{features.path}: its index has no column {missing[0]!r}; regional semantics need the features of a "
            "`regions` extractor"
        )
    return features.index


def token_table(features: Features, most: int | None = None) -> pd.DataFrame:
    """`item_id`, `tokens` of every image of region features: the form of `crossmodal.text.token_table`.

    Raises
    ------
    UserError : features whose index names no regions.
    """
    index = named_regions(features)
    tokens = [sequence(*row, most) for row in zip(*(index[column] for column in NAMING), strict=True)]
    return pd.DataFrame({"item_id": index.item_id, "tokens": tokens})


def named(features: Features, kind: Literal["regional", "global"]) -> pd.Series:
    """What is named in each image, as words by its id: its regions one by one, or the whole of it.

    Raises
    ------
    UserError : features whose index names no regions.
    """
    index = named_regions(features)
    if kind == "regional":
        return token_table(features).set_index("item_id").tokens
    names = concepts.names_of(index)
    return pd.Series(concepts.tags(concepts.of_regions(index, names), names), index.item_id, dtype=object)
