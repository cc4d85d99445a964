"""Splits: which training images have captions, and how many (A3VSE, section 4.1), or which classes are trained on.

The names are `full`, `none`, or `NNpct-Mcap` for M captions of each of NN per cent of the training images; the other
training images stay in the corpus without a caption. For data with relevance by class they are `full`, or `classesIofN`
for the I-th of N groups of classes that are trained in stages (CVS thesis, section 3.4). The groups have equal sizes,
or those of the data set's `stages`. Validation and test stay whole, so that a subset lists training items only.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import accumulate, pairwise

import numpy as np
import pandas as pd

from crossmodal.core.errors import UserError

PATTERN = re.compile(r"(?P<percent>[1-9]\d?)pct-(?P<captions>[1-5])cap")
COLUMNS = {"image": "image_id", "text": "caption_id"}
"""Modalities whose pairs a subset lists, with the columns of their item ids."""

STAGE = re.compile(r"classes(?P<number>[1-9]\d?)of(?P<count>[1-9]\d?)")


def parse(split: str) -> tuple[int, int | None]:
    """Read the name of a subset of pairs.

    Returns
    -------
    The percentage of annotated images (0 for `none`), and the number of captions per image (None for all).

    Raises
    ------
    UserError : any other name.
    """
    if split in ("full", "none"):
        return (100 if split == "full" else 0), None
    match = PATTERN.fullmatch(split)
    if match is None:
        raise UserError(
            f"split {split!r}: expected `full`, `none` or NNpct-Mcap, such as 10pct-5cap (1-99 per cent, 1-5 captions)"
        )
    return int(match["percent"]), int(match["captions"])


def make(items: pd.DataFrame, split: str, seed: int) -> pd.DataFrame:
    """The annotated pairs and the un-annotated images of a sparsely annotated corpus.

    The images are shuffled once, and so are the captions of each image, both from `seed` alone; every split is a cut of
    these orders. Hence of two subsets with the same seed the smaller one lies within the larger one.

    Parameters
    ----------
    items : rows of `items.parquet`, in which an image and its captions are one group.
    split : `full`, `none` or `NNpct-Mcap`.

    Returns
    -------
    A table of `image_id` and `caption_id`, with a null caption for an un-annotated image, in the order of `items`.

    Raises
    ------
    UserError : an unknown split, or a data set without training pairs.
    """
    percent, captions = parse(split)
    train = items[items.partition == "train"]
    images = train.loc[train.modality == "image", ["item_id", "group_id"]]
    texts = train.loc[train.modality == "text", ["item_id", "group_id"]]
    pairs = images.merge(texts, on="group_id", suffixes=("_image", "_text"))
    if pairs.empty:
        raise UserError("items.parquet: no training image with a caption, so there is nothing to split")
    rng = np.random.default_rng(seed)
    place = pd.Series(rng.permutation(len(images)), index=images.item_id)
    # One number per caption determines its order within its image; all are drawn, so that splits are nested.
    pairs["draw"] = rng.random(len(pairs))
    pairs["order"] = pairs.groupby("item_id_image", sort=False)["draw"].rank(method="first")
    annotated = place[place < max(percent > 0, round(len(images) * percent / 100))].index
    chosen = pairs.item_id_image.isin(annotated)
    if captions is not None:
        chosen &= pairs.order <= captions
    frame = pairs.loc[chosen, ["item_id_image", "item_id_text"]].set_axis(["image_id", "caption_id"], axis=1)
    rest = images.item_id[~images.item_id.isin(annotated)]
    bare = pd.DataFrame({"image_id": rest, "caption_id": pd.Series(None, index=rest.index, dtype=object)})
    return pd.concat([frame.astype("string"), bare.astype("string")], ignore_index=True)


def stage(split: str) -> tuple[int, int] | None:
    """Read the name of a subset by classes.

    Returns
    -------
    (I, N) for `classesIofN`, with I from 1; None for `full`.

    Raises
    ------
    UserError : any other name, or I above N.
    """
    if split == "full":
        return None
    match = STAGE.fullmatch(split)
    if match is None or int(match["number"]) > int(match["count"]):
        raise UserError(f"split {split!r}: for data with classes, expected `full` or classesIofN, such as classes1of4")
    return int(match["number"]), int(match["count"])


def class_groups(labels: pd.Series, count: int, stages: Sequence[int] = ()) -> list[list[str]]:
    """The classes of training items, sorted by name and cut into `count` groups.

    Parameters
    ----------
    labels : the classes of the training items.
    stages : the sizes of the groups, used if there are `count` sizes; otherwise the groups have equal sizes, except for
        a smaller last one.

    Raises
    ------
    UserError : classes that cannot be cut into so many groups, or sizes whose sum is not the number of classes.
    """
    classes = sorted(labels.dropna().unique())
    if len(stages) == count:
        if sum(stages) != len(classes):
            raise UserError(
                f"params.yaml: datasets.*.stages: {' + '.join(map(str, stages))} are {sum(stages)} classes, but the "
                f"training items are of {len(classes)}; correct the sizes, or leave `stages` out for groups of one size"
            )
        return [classes[start:end] for start, end in pairwise(accumulate(stages, initial=0))]
    size = -(-len(classes) // count)
    groups = [classes[start : start + size] for start in range(0, len(classes), size)]
    if len(groups) != count:
        raise UserError(f"split: {len(classes)} classes cannot be cut into {count} groups of {size}")
    return groups


def make_labelled(items: pd.DataFrame, split: str, stages: Sequence[int] = ()) -> pd.DataFrame:
    """The training items of a data set with classes: all, or those of one group of classes (`class_groups`).

    Returns
    -------
    A table of `item_id` and `label`, in the order of `items`.

    Raises
    ------
    UserError : an unknown split, or training items without a class.
    """
    number = stage(split)
    train = items.loc[items.partition == "train", ["item_id", "label"]]
    bare = train.item_id[train.label.isna()]
    if len(bare) or train.empty:
        what = (
            f"{len(bare)} training items have no label, such as {bare.iloc[0]!r}"
            if len(bare)
            else "there are no training items"
        )
        raise UserError(f"items.parquet: {what}; a data set with `relevance: label` needs the class of each")
    if number is not None:
        train = train[train.label.isin(class_groups(train.label, number[1], stages)[number[0] - 1])]
    return train.reset_index(drop=True).astype("string")


def summary(split: pd.DataFrame) -> dict[str, int]:
    """The counts of a subset: pairs, annotated images and un-annotated images; or items and classes."""
    if "label" in split:
        return {"items": len(split), "classes": int(split.label.nunique())}
    annotated = split[split.caption_id.notna()]
    return {
        "pairs": len(annotated),
        "annotated_images": int(annotated.image_id.nunique()),
        "unannotated_images": int(split.caption_id.isna().sum()),
    }
