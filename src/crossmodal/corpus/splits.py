"""Splits: which training images have captions, and how many (A3VSE, section 4.1), or which classes are trained on.

`full`, `NNpct-Mcap`: NN per cent of the training images, M captions of each, or `none`; the other training images stay
in the corpus without a caption. Of data whose items answer each other by class: `full`, or `classesIofN`, the I-th of N
groups of classes that come one after another (Gopalakrishnan 2019, section 3.4). The groups are of one size, or of the
sizes that the data set's `stages` names. Validation and test stay whole, so a split names training items only.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import accumulate, pairwise

import numpy as np
import pandas as pd

from crossmodal.errors import UserError

PATTERN = re.compile(r"(?P<percent>[1-9]\d?)pct-(?P<captions>[1-5])cap")
COLUMNS = {"image": "image_id", "text": "caption_id"}
"""Modalities whose pairs a split names, with the column that holds their items' ids."""

STAGE = re.compile(r"classes(?P<number>[1-9]\d?)of(?P<count>[1-9]\d?)")


def parse(split: str) -> tuple[int, int | None]:
    """(per cent of the images, captions an image or None for all) of a split's name; 0 per cent for `none`.

    Raises
    ------
    UserError : a name of another form.
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
    """The annotated pairs and the un-annotated images of a sparse corpus.

    One shuffle of the images and one of each image's captions, both from `seed` alone, are cut for every split: of two
    splits of a seed the smaller is inside the larger one.

    Parameters
    ----------
    items : rows of `items.parquet` with an image and its captions a group.
    split : `full`, `none` or `NNpct-Mcap`.

    Returns
    -------
    Frame of `image_id`, `caption_id`; null captions mark un-annotated images. In the order of `items`.

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
    # A number a caption, drawn for all of them whatever the split: its order within its image.
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
    """(I, N) of `classesIofN`, from 1; None for `full`.

    Raises
    ------
    UserError : a name of another form, or more stages than there are.
    """
    if split == "full":
        return None
    match = STAGE.fullmatch(split)
    if match is None or int(match["number"]) > int(match["count"]):
        raise UserError(f"split {split!r}: of data with classes, expected `full` or classesIofN, such as classes1of4")
    return int(match["number"]), int(match["count"])


def class_groups(labels: pd.Series, count: int, stages: Sequence[int] = ()) -> list[list[str]]:
    """The classes of training items, sorted by name, in `count` groups.

    Parameters
    ----------
    stages : sizes of the groups, where there are `count` of them; otherwise the groups are of one size, of which the
        last may be smaller.

    Raises
    ------
    UserError : fewer classes than groups, or sizes that are not those of as many classes as there are.
    """
    classes = sorted(labels.dropna().unique())
    if len(stages) == count:
        if sum(stages) != len(classes):
            raise UserError(
                f"params.yaml: datasets.*.stages: {' + '.join(map(str, stages))} are {sum(stages)} classes, but the "
                f"training items are of {len(classes)}; mend the sizes, or leave `stages` out for groups of one size"
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
    Frame of `item_id` and `label`, in the order of `items`.

    Raises
    ------
    UserError : an unknown split, or training items without a class.
    """
    number = stage(split)
    train = items.loc[items.partition == "train", ["item_id", "label"]]
    bare = train.item_id[train.label.isna()]
    if len(bare) or train.empty:
        what = (
            f"{len(bare)} training items have no label, such as {bare.iloc[0]!r}" if len(bare) else "none is trained on"
        )
        raise UserError(f"items.parquet: {what}; a data set with `relevance: label` needs the class of each")
    if number is not None:
        train = train[train.label.isin(class_groups(train.label, number[1], stages)[number[0] - 1])]
    return train.reset_index(drop=True).astype("string")


def summary(split: pd.DataFrame) -> dict[str, int]:
    """Counts of a split: pairs, annotated images, un-annotated images; or items and classes."""
    if "label" in split:
        return {"items": len(split), "classes": int(split.label.nunique())}
    annotated = split[split.caption_id.notna()]
    return {
        "pairs": len(annotated),
        "annotated_images": int(annotated.image_id.nunique()),
        "unannotated_images": int(split.caption_id.isna().sum()),
    }
