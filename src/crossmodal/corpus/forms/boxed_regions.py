"""Sets of region vectors with the place of each region in its picture, as models of relations between regions read."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from crossmodal.core.errors import UserError
from crossmodal.corpus.forms import base, regions
from crossmodal.corpus.inputs import Inputs
from crossmodal.models.base import PlacedRegions

log = logging.getLogger(__name__)


class Form(regions.Form):
    """Sets of region vectors with boxes.

    Boxes are shares of the picture's width and height, which the extractor `regions` records as `size`. Where they were
    extracted without it, as released features are, the outermost edges of a picture's boxes stand in for its own.
    """

    outside = ""

    def array(self, modality: str) -> str | None:
        return "regions"

    def open(self, source: base.Source) -> Inputs | None:
        """The inputs of `source.items`.

        Raises
        ------
        UserError : the index of the features has no boxes.
        """
        index = source.features.index
        if "boxes" not in index or not index.boxes.map(len).any():
            raise UserError(
                f"{source.features.path}: its index has no boxes of regions, which the model reads; use the features "
                "of a `regions` extractor"
            )
        if "size" not in index:
            log.warning(
                "%s: its index has no sizes of pictures; the outermost edges of a picture's boxes stand in for them",
                source.features.path,
            )
        opened = super().open(source)
        columns, width = index.to_dict("list"), source.features.array.shape[1]
        return source.inputs(
            tensor=opened.tensor,
            rows=opened.rows,
            lengths=opened.lengths,
            boxes=torch.from_numpy(self.placed(columns, width)),
            names=self.names(source, columns, width),
        )

    def names(self, source: base.Source, columns: Mapping[str, Sequence[Any]], width: int) -> torch.Tensor | None:
        """The ids of the words of the regions' names; None unless a subclass reads them."""
        return None

    def placed(self, columns: Mapping[str, Sequence[Any]], width: int) -> np.ndarray:
        """(N, `width`, 4) float32 boxes as shares of their pictures, padded with zeros.

        Parameters
        ----------
        columns : `boxes` in pixels and possibly `size`, per picture.
        """
        boxes = columns["boxes"]
        sizes = columns.get("size", [None] * len(boxes))
        out = np.zeros((len(boxes), width, 4), np.float32)
        for row, of_picture, size in zip(out, boxes, sizes, strict=True):
            values = np.array([*of_picture], np.float64).reshape(-1, 4)[:width]
            if len(values):
                sides = values[:, 2:].max(0) if size is None else np.asarray(size, np.float64)
                row[: len(values)] = values / np.tile(np.maximum(sides, 1e-9), 2)
        return out

    def gather(self, inputs: Inputs, index: torch.Tensor) -> PlacedRegions:
        rows = inputs.rows[index]
        names = None if inputs.names is None else inputs.names[rows].long()
        return PlacedRegions(inputs.tensor[rows].float(), inputs.lengths[index], inputs.boxes[rows], names)

    def of_features(
        self, source: base.Source, array: np.ndarray, columns: Mapping[str, Sequence[Any]]
    ) -> PlacedRegions:
        counts, width = torch.as_tensor(columns["count"]), array.shape[1]
        boxes, names = torch.from_numpy(self.placed(columns, width)), self.names(source, columns, width)
        return PlacedRegions(torch.from_numpy(array).float(), counts, boxes, None if names is None else names.long())
