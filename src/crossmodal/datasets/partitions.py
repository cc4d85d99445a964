"""Partitions of items that a data set's files do not state, or only in part: by lists of names, or drawn."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from crossmodal.core.errors import UserError
from crossmodal.datasets import items, raw

if TYPE_CHECKING:
    from crossmodal.datasets.captioned import Drawn, Partition
    from crossmodal.datasets.precomputed import Settings

log = logging.getLogger(__name__)


@dataclass
class Image:
    """An image of an annotation file, whose partition `assign` completes."""

    place: str
    name: str
    source: str
    missing: bool
    captions: list[str]
    partition: str | None
    label: str | None


def assign(images: list[Image], settings: Drawn, dataset: str, *, strata: bool = False) -> dict[str, Any]:
    """Assign each image its partition in place; images that are left out keep None.

    Returns
    -------
    Entries of the manifest: `partitions` (their origin), and the number of `unlisted` images or the `drawn` partitions.

    Raises
    ------
    UserError : partitions are given twice or for some images only, or a partition is empty.
    """
    n_assigned = sum(image.partition is not None for image in images)
    facts: dict[str, Any] = {"partitions": "annotations"}
    if settings.lists:
        if n_assigned:
            raise UserError(
                f"params.yaml: datasets.{dataset}.lists: the annotations state the partition of {n_assigned} images "
                "already; leave `lists` out"
            )
        facts = {"partitions": "lists", "unlisted": _listed(images, settings.lists)}
    elif 0 < n_assigned < len(images):
        lone = next(image for image in images if image.partition is None)
        raise UserError(
            f"params.yaml: datasets.{dataset}: {len(images) - n_assigned} of {len(images)} images have no partition, "
            f"such as {lone.name!r} ({lone.place}); state it for each image or for none"
        )
    elif not n_assigned:
        for image in images:
            image.partition = "train"
        facts = {"partitions": "drawn"}
    have = {image.partition for image in images}
    lacking = {part: share for part, share in (("test", settings.test), ("val", settings.val)) if part not in have}
    if lacking:
        _draw([image for image in images if image.partition == "train"], lacking, settings.seed, strata)
        facts["drawn"] = sorted(lacking)
    empty = [part for part in items.PARTITIONS if not any(image.partition == part for image in images)]
    if empty:
        raise UserError(
            f"params.yaml: datasets.{dataset}: no image is of the partition(s) {', '.join(empty)}; all three are "
            "needed: correct the annotations, the `lists` or the shares `val` and `test`"
        )
    return facts


def _listed(images: list[Image], lists: Mapping[Partition, Path]) -> int:
    """Assign partitions by lists of names, and return the number of images in no list."""
    part_of: dict[str, str] = {}
    for part, path in lists.items():
        for line in raw.lines(path, "set `lists` in the data set's block of params.yaml to files of image names"):
            name = PurePosixPath(line.replace("\\", "/")).name
            if part_of.setdefault(name, part) != part:
                raise UserError(f"{path}: {name!r} is in the list of {part_of[name]} too; keep it in one of them")
    for image in images:
        path = PurePosixPath(image.source)
        image.partition = part_of.pop(path.name, None) or part_of.pop(path.stem, None)
    if part_of:
        raise UserError(
            f"{', '.join(str(path) for path in lists.values())}: {len(part_of)} listed image(s) are not among the "
            f"annotations: {raw.first([repr(name) for name in part_of])}"
        )
    return sum(image.partition is None for image in images)


def _draw(images: list[Image], shares: Mapping[str, float], seed: int, strata: bool) -> None:
    """Draw the share of each partition from the images, stratified by label if `strata` is set."""
    by_source = {image.source: image for image in images}
    order = raw.shuffled({source: (image.label or "") if strata else "" for source, image in by_source.items()}, seed)
    for members in order.values():
        sizes = {part: max(1, round(share * len(members))) if share else 0 for part, share in shares.items()}
        # At least one image of each stratum remains for training.
        places = iter(members[: len(members) - 1])
        for part, size in sizes.items():
            for _, source in zip(range(size), places, strict=False):
                by_source[source].partition = part


def with_validation(frame: pd.DataFrame, settings: Settings) -> tuple[pd.DataFrame, dict[str, Any] | None]:
    """If no item is of the partition `val`, assign it a stratified share of the training groups.

    Returns
    -------
    The items, and a description for the manifest (None if nothing was changed).
    """
    if (frame.partition == "val").any():
        if "val" in settings.model_fields_set and settings.val:
            raise UserError(
                "params.yaml: val: a share for validation is set, but some items already belong to the partition val"
            )
        return frame, None
    train = frame[frame.partition == "train"]
    # The stratum of a group consists of its modalities and its first label.
    strata = train.fillna({"label": ""}).groupby("group_id", sort=False)
    strata = strata.modality.agg(lambda m: "+".join(sorted(set(m)))) + "/" + strata.label.first()
    chosen = strata.index[stratified(strata.to_numpy(), settings.val, np.random.default_rng(settings.seed))]
    cut = frame.group_id.isin(chosen)
    facts = {"share": settings.val, "seed": settings.seed, "groups": len(chosen), "items": int(cut.sum())}
    log.info(
        "there are no validation items: %d of the %d training items are kept for validation", cut.sum(), len(train)
    )
    return frame.assign(partition=frame.partition.mask(cut, "val")), facts


def stratified(strata: np.ndarray, share: float, rng: np.random.Generator) -> np.ndarray:
    """Indices of round(share * n) random elements, stratified by largest remainders; no stratum is emptied."""
    names, of, sizes = np.unique(strata, return_inverse=True, return_counts=True)
    quota = np.floor(share * sizes).astype(int)
    rest = np.where(quota < sizes - 1, share * sizes - quota, -1)
    for stratum in np.argsort(-rest, kind="stable")[: max(0, round(share * len(strata)) - quota.sum())]:
        quota[stratum] += rest[stratum] >= 0
    order = rng.permutation(len(strata))
    picked = [order[of[order] == stratum][: quota[stratum]] for stratum in range(len(names))]
    return np.sort(np.concatenate(picked)) if picked else np.empty(0, int)
