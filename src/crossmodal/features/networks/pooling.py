"""The last feature map of a torchvision network, and its mean in boxes (RoI align; He et al., 2017)."""

from __future__ import annotations

import copy
import io
import logging
from contextlib import redirect_stderr
from typing import NamedTuple

import torch
from torch import Tensor, fx, nn
from torch.fx.passes.shape_prop import ShapeProp
from torchvision.ops import roi_pool

from crossmodal.core.errors import UserError

log = logging.getLogger(__name__)

PROBES = (224, 320)  # sides of two inputs; only a feature map grows with them, a pooled value does not
SAMPLES = 8  # points per side of a box at which the map is sampled


class LastMap(NamedTuple):
    """A network cut after its last feature map, whose cells are `stride` pixels apart."""

    net: nn.Module  # (B, 3, H, W) -> (B, D, h, w)
    stride: int
    layer: str


def last_map(model: nn.Module, network: str) -> LastMap:
    """Cut a network after its last feature map: the last (B, D, h, w) value whose h and w grow with the input.

    Raises
    ------
    UserError : the network has no such map, such as a transformer with a fixed input size.
    """
    try:
        traced = fx.symbolic_trace(copy.deepcopy(model))
        bare = copy.deepcopy(traced).to("meta")  # only shapes are computed
        small, large = (_shapes(bare, side) for side in PROBES)
        maps = [node for node in traced.graph.nodes if _grows(small.get(node.name), large.get(node.name))]
        last = maps[-1]
        (_, _, h, _), (_, _, higher, _) = small[last.name], large[last.name]
    except Exception as error:  # tracing raises a different exception for each network
        log.debug("%s: %s", network, error)
        raise UserError(
            f"extractors.*.network: {network!r} has no feature map that boxes could be pooled from (it reads pictures "
            "of one size only, or cannot be traced); choose a convolutional network"
        ) from None
    for node in traced.graph.nodes:
        if node.op == "output":
            node.args = (last,)
    traced.graph.eliminate_dead_code()
    traced.recompile()
    traced.delete_all_unused_submodules()
    return LastMap(traced.eval(), (PROBES[1] - PROBES[0]) // (higher - h), last.name)


def _shapes(traced: fx.GraphModule, side: int) -> dict[str, tuple[int, ...]]:
    with torch.no_grad(), redirect_stderr(io.StringIO()):  # on failure, it also prints to stderr
        ShapeProp(traced).propagate(torch.zeros(1, 3, side, side, device="meta"))
    metadata = {node.name: node.meta.get("tensor_meta") for node in traced.graph.nodes}
    return {name: tuple(meta.shape) for name, meta in metadata.items() if hasattr(meta, "shape")}


def _grows(small: tuple[int, ...] | None, large: tuple[int, ...] | None) -> bool:
    return bool(small and large and len(small) == 4 and small[2] < large[2] and small[3] < large[3])


def grid(wide: float, high: float, side: int) -> Tensor:
    """(side * side, 4) boxes that tile a picture of `wide` x `high` pixels, row by row."""
    steps = torch.arange(side, dtype=torch.float32)
    y, x = torch.meshgrid(steps, steps, indexing="ij")
    boxes = torch.stack([x, y, x + 1, y + 1], -1).view(-1, 4)
    return boxes * torch.tensor([wide, high, wide, high]) / max(side, 1)


def cells(
    boxes: Tensor, picture: tuple[int, int], pixels: tuple[int, int], shape: tuple[int, int], stride: int
) -> Tensor:
    """Convert (R, 4) boxes in pixels of a picture to positions on its map, in which cell i covers [i, i + 1).

    A map with fewer cells than the input has strides (no padding) is assumed to cover the whole input.

    Parameters
    ----------
    picture, pixels, shape : (height, width) of the picture, of the network's input, and of the map.
    """
    scale = [
        inner / outer * min(1 / stride, count / inner)
        for outer, inner, count in zip(picture, pixels, shape, strict=True)
    ]
    return boxes * boxes.new_tensor([scale[1], scale[0]] * 2)


def align(last: Tensor, boxes: Tensor) -> Tensor:
    """(R, D) means of a map (D, h, w) over `SAMPLES` x `SAMPLES` points in each of (R, 4) boxes.

    This equals `torchvision.ops.roi_align(aligned=True)` averaged over its bins, computed as one matrix product:
    bilinear interpolation is linear in the map, so that a box is a row of weights over the cells.
    """
    depth, high, wide = last.shape
    rows, columns = _weights(boxes[:, 1::2], high), _weights(boxes[:, 0::2], wide)  # (R, h), (R, w)
    weights = (rows[:, :, None] * columns[:, None]).flatten(1)
    # The cells come first, which is the memory layout of a channels-last map.
    return weights @ last.permute(1, 2, 0).reshape(high * wide, depth)


def _weights(ends: Tensor, count: int) -> Tensor:
    """(R, count) weights of the cells of an axis for (R, 2) starts and ends on it; each row sums to 1."""
    steps = (torch.arange(SAMPLES, device=ends.device) + 0.5) / SAMPLES
    points = ends[:, :1] + (ends[:, 1:] - ends[:, :1]) * steps - 0.5  # from the cells' middles
    points = points.clamp(0, count - 1)
    places = torch.arange(count, device=ends.device)
    return (1 - (points[:, :, None] - places).abs()).clamp(min=0).mean(1)


def peak(last: Tensor, boxes: Tensor) -> Tensor:
    """(R, D) maxima of a map (D, h, w) over the cells in each of (R, 4) boxes (RoI pooling; Girshick, 2015)."""
    rois = torch.cat([boxes.new_zeros(len(boxes), 1), boxes], 1)
    return roi_pool(last[None].contiguous(), rois, 1, 1.0)[:, :, 0, 0]
