"""The bottom-up-attention detector (Anderson et al., 2018): Faster R-CNN C4 with 1600 classes and 400 attributes.

It is built from torchvision's modules, for inference only; `checkpoints` loads the public weights into it.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torchvision.models.detection._utils import BoxCoder
from torchvision.models.resnet import Bottleneck, ResNet
from torchvision.ops import box_iou, clip_boxes_to_image, nms, roi_pool

from crossmodal.core.files import read_lines
from crossmodal.features.networks import backbones

BLOCKS = {"resnet50": (3, 4, 6, 3), "resnet101": (3, 4, 23, 3), "resnet152": (3, 8, 36, 3)}
BGR_MEAN = (102.9801, 115.9465, 122.7717)
STRIDE = 16
SCALES, RATIOS = (4, 8, 16, 32), (0.5, 1.0, 2.0)  # of anchors; scales are multiples of the stride
BEFORE_NMS, PROPOSAL_NMS, LEAST_SIDE = 6000, 0.7, 16  # the side is in pixels of the picture
POOLED = 14  # cells per side of a pooled box, the input of `res5`
CHUNK = 25  # boxes that go through `res5` at a time
VOCABULARY = Path(__file__).parent / "vocabulary"


@cache
def names(kind: Literal["objects", "attributes"]) -> tuple[str, ...]:
    """Names of the 1600 objects or 400 attributes in the order of the outputs; of synonyms the first."""
    return tuple(line.split(",")[0].strip() for line in read_lines(VOCABULARY / f"{kind}.txt"))


# -- conventions ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Convention:
    """Conventions in which checkpoints differ, by which their parameters are interpreted."""

    background: Literal["first", "last"]
    """Position of the background among the classes, and of `none` among the attributes."""
    anchors: Literal["ratio", "size"]
    """Which of the two varies slowest along the twelve anchors of a position."""
    whole_pixels: bool
    """Caffe's convention: anchors are rounded to whole pixels about (7.5, 7.5), and a box is x2 - x1 + 1 wide."""
    box_weights: tuple[float, float, float, float]
    """Divisors of the four outputs of the box head."""
    kept: Literal["proposal", "regressed"]
    """The box of a region: the proposal from which its feature is pooled, or the proposal moved by the box head."""


CONVENTIONS = {
    "caffe": Convention("first", "ratio", True, (1, 1, 1, 1), "proposal"),
    "detectron2": Convention("last", "size", False, (10, 10, 5, 5), "regressed"),
}


# -- network ----------------------------------------------------------------------------------------------------------


class Shape(NamedTuple):
    """Sizes of a detector; the defaults are the published ones."""

    blocks: tuple[int, ...] = BLOCKS["resnet101"]
    width: int = 64
    """Channels inside the first stage's blocks."""
    classes: int = 1601
    attributes: int = 401
    box_rows: int = 6404
    objectness: int = 12
    """12, or 24 if each anchor has one logit for the background and one for an object."""
    rpn_width: int = 512
    hidden: int = 512
    embedding: int = 256


class Detection(NamedTuple):
    """Detected regions of a picture, in decreasing order of confidence."""

    features: Tensor  # (n, 2048) float32
    boxes: Tensor  # (n, 4) x1, y1, x2, y2 in pixels of the picture
    classes: Tensor  # (n,) int64, without the background
    attributes: Tensor  # (n,) int64, without `none`
    confidences: Tensor  # (n,)


class Detector(nn.Module):
    """Detects the regions of a picture. It is built with random weights; `checkpoints.load` loads trained ones."""

    def __init__(self, shape: Shape, convention: Convention) -> None:
        super().__init__()
        self.convention = convention
        net = ResNet(Bottleneck, list(shape.blocks), width_per_group=shape.width)
        for layer in (net.layer2, net.layer3):  # Caffe's ResNet has the stride in the first convolution of a block
            layer[0].conv1.stride, layer[0].conv2.stride = (2, 2), (1, 1)
        net.layer4[0].downsample[0].stride = (1, 1)
        for block in net.layer4:
            block.conv2.stride, block.conv2.dilation, block.conv2.padding = (1, 1), (2, 2), (2, 2)
        pool = nn.MaxPool2d(3, 2, ceil_mode=True)
        parts = {"conv1": net.conv1, "bn1": net.bn1, "relu": nn.ReLU(), "pool": pool}
        self.trunk = nn.Sequential(
            OrderedDict(parts, layer1=net.layer1, layer2=net.layer2, layer3=net.layer3)
        )  # (1, 3, H, W) -> (1, 1024, H/16, W/16)
        self.res5 = net.layer4
        anchors = len(SCALES) * len(RATIOS)
        self.rpn = nn.ModuleDict(
            {
                "conv": nn.Conv2d(1024, shape.rpn_width, 3, padding=1),
                "objectness": nn.Conv2d(shape.rpn_width, shape.objectness, 1),
                "deltas": nn.Conv2d(shape.rpn_width, 4 * anchors, 1),
            }
        )
        self.head = nn.ModuleDict(
            {
                "classes": nn.Linear(2048, shape.classes),
                "boxes": nn.Linear(2048, shape.box_rows),
                "embedding": nn.Embedding(shape.classes, shape.embedding),
                "hidden": nn.Linear(2048 + shape.embedding, shape.hidden),
                "attributes": nn.Linear(shape.hidden, shape.attributes),
            }
        )
        self.register_buffer("anchors", anchor_boxes(convention), persistent=False)
        self.precision = "fp32"

    def prepare(self, precision: str, device: torch.device) -> Detector:
        """Prepare the convolutions for inference (`networks.prepare`) and return itself; other layers stay in fp32."""
        self.to(device)
        self.trunk = backbones.prepare(self.trunk, precision, device)
        self.res5 = backbones.prepare(self.res5, precision, device)
        self.rpn["conv"] = backbones.prepare(self.rpn["conv"], precision, device)
        self.precision = precision
        return self

    def _run(self, part: nn.Module, batch: Tensor) -> Tensor:
        batch = batch.to(torch.bfloat16 if self.precision == "bf16" else torch.float32)
        return part(batch.contiguous(memory_format=torch.channels_last)).float()

    def regions(self, last: Tensor, boxes: Tensor) -> Tensor:
        """(P, 2048) features of boxes (P, 4), in pixels of the network's input, from the map (1, 1024, h, w)."""
        rois = torch.cat([boxes.new_zeros(len(boxes), 1), boxes], 1)
        last = last.contiguous()
        pooled = [
            self._run(self.res5, roi_pool(last, part, POOLED, 1 / STRIDE)).mean((2, 3)) for part in rois.split(CHUNK)
        ]
        return torch.cat(pooled) if pooled else last.new_empty(0, 2048)

    def propose(self, last: Tensor, size: tuple[int, int], scale: float, count: int) -> Tensor:
        """(P, 4) proposals, at most `count`, in decreasing order of their score.

        If all boxes are smaller than `LEAST_SIDE` pixels of the picture, the whole input is the only proposal.

        Parameters
        ----------
        last : (1, 1024, h, w) feature map.
        size : (height, width) of the network's input, in whose pixels the proposals are.
        scale : size of the input relative to the picture.
        """
        offset = float(self.convention.whole_pixels)
        hidden = self._run(self.rpn["conv"], last).relu()
        scores = self.rpn["objectness"](hidden)[0]  # (A, h, w), or background and object: (2A, h, w)
        if len(scores) == 2 * len(self.anchors):
            nothing, something = scores.chunk(2)
            scores = something - nothing
        high, wide = scores.shape[1:]
        deltas = self.rpn["deltas"](hidden)[0].view(-1, 4, high, wide).permute(2, 3, 0, 1).reshape(-1, 4)
        shift = torch.stack(
            torch.meshgrid(torch.arange(high), torch.arange(wide), indexing="ij")[::-1] * 2, -1
        )  # (h, w, 4): x, y, x, y
        places = (shift.to(self.anchors)[:, :, None] * STRIDE + self.anchors).reshape(-1, 4)
        boxes = decode(deltas, places, (1, 1, 1, 1), offset)[:, 0]
        boxes = clip_boxes_to_image(boxes, (size[0] - offset, size[1] - offset))
        sides = boxes[:, 2:] - boxes[:, :2] + offset
        large = (sides >= LEAST_SIDE * scale).all(1)
        boxes, scores = boxes[large], scores.permute(1, 2, 0).reshape(-1)[large]
        if not len(boxes):
            return boxes.new_tensor([[0, 0, size[1] - offset, size[0] - offset]])
        order = scores.argsort(descending=True, stable=True)[:BEFORE_NMS]
        boxes, scores = boxes[order], scores[order]
        ends = boxes.new_tensor([0, 0, offset, offset])
        return boxes[nms(boxes + ends, scores, PROPOSAL_NMS)[:count]]

    def classify(self, features: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Class probabilities (P, C), attribute probabilities (P, A) and box deltas (P, 4 or 4C) of (P, 2048) features.

        The probabilities leave out the background and `none`. Attributes are predicted from the feature and the
        embedding of the most probable class, which may be the background.
        """
        logits = self.head["classes"](features)
        embedded = self.head["embedding"](logits.argmax(1))
        hidden = self.head["hidden"](torch.cat([features, embedded], 1)).relu()
        attributes = self.head["attributes"](hidden)
        deltas = self.head["boxes"](features)
        if deltas.shape[1] == 4 * logits.shape[1]:
            deltas = self._foreground(deltas.view(len(deltas), -1, 4)).flatten(1)
        attributes = attributes.softmax(1)
        if attributes.shape[1] > len(names("attributes")):
            attributes = self._foreground(attributes)
        return self._foreground(logits.softmax(1)), attributes, deltas

    def _foreground(self, values: Tensor) -> Tensor:
        return values[:, 1:] if self.convention.background == "first" else values[:, :-1]

    @torch.inference_mode()
    def detect(self, pixels: Tensor, scale: float, *, proposals: int, **selection: Any) -> Detection:
        """Detect the regions of a picture.

        Parameters
        ----------
        pixels, scale : (3, H, W) input and its scale, from `pixels_of`.
        proposals : maximum number of boxes that are classified.
        selection : keyword arguments of `select`.
        """
        device = self.anchors.device
        last = self._run(self.trunk, pixels[None].to(device))
        size = (pixels.shape[1], pixels.shape[2])
        boxes = self.propose(last, size, scale, proposals)
        features = self.regions(last, boxes)
        scores, attributes, deltas = self.classify(features)
        offset = float(self.convention.whole_pixels)
        if self.convention.kept == "regressed":
            moved = decode(deltas, boxes, self.convention.box_weights, offset)  # (P, C or 1, 4)
            boxes = clip_boxes_to_image(moved, (size[0] - offset, size[1] - offset))
        else:
            boxes = boxes[:, None]
        rows, classes, confidences = select(boxes, scores, offset=offset, **selection)
        boxes = boxes[rows, classes if boxes.shape[1] > 1 else torch.zeros_like(classes)]
        values = (features[rows], boxes / scale, classes, attributes[rows].argmax(1), confidences)
        return Detection(*(value.cpu() for value in values))


def anchor_boxes(convention: Convention) -> Tensor:
    """(12, 4) anchors of the first position of the map.

    With `whole_pixels`, the base box of 16 pixels is rounded before it is scaled, as in Caffe's `generate_anchors`;
    otherwise the anchors are exact and centred at 0.
    """
    corners = []
    for ratio in RATIOS:  # height over width
        for scale in SCALES:
            if convention.whole_pixels:
                wide = round(math.sqrt(STRIDE**2 / ratio))
                high = round(wide * ratio)  # rounds halves to even, as NumPy does
                middle, side = (STRIDE - 1) / 2, (wide * scale - 1, high * scale - 1)
            else:
                area = (scale * STRIDE) ** 2
                wide = math.sqrt(area / ratio)
                middle, side = 0.0, (wide, wide * ratio)
            x, y = side[0] / 2, side[1] / 2
            corners.append((middle - x, middle - y, middle + x, middle + y))
    boxes = torch.tensor(corners, dtype=torch.float32).view(len(RATIOS), len(SCALES), 4)
    return (boxes if convention.anchors == "ratio" else boxes.transpose(0, 1)).reshape(-1, 4)


def decode(deltas: Tensor, boxes: Tensor, weights: tuple[float, ...], offset: float) -> Tensor:
    """(P, k, 4) boxes that result from moving boxes (P, 4) by deltas (P, k * 4) (Girshick et al., 2014, eqs. 1-4).

    Parameters
    ----------
    deltas : shifts and logarithmic scalings.
    weights : divisors of the four deltas.
    offset : by how much a box is wider than the difference of its ends (1 in Caffe's convention).
    """
    coder = BoxCoder(weights, bbox_xform_clip=math.log(1000 / 16))
    return coder.decode_single(deltas, boxes + boxes.new_tensor([0, 0, offset, offset])).view(len(boxes), -1, 4)


def select(
    boxes: Tensor, scores: Tensor, *, least: int, most: int, confidence: float, overlap: float, offset: float = 0
) -> tuple[Tensor, Tensor, Tensor]:
    """Select the regions with at least the given confidence, but at least `least` and at most `most` of them.

    Non-maximum suppression runs per class. The confidence of a region is its highest probability among the classes that
    kept it, and its class is the most probable one.

    Parameters
    ----------
    boxes : (P, 1, 4), or (P, C, 4) with one box per class.
    scores : (P, C) probabilities without the background.
    overlap : IoU of two boxes of one class above which the one with the lower score is suppressed.
    offset : as in `decode`.

    Returns
    -------
    (n,) rows, (n,) classes and (n,) confidences, in decreasing order of confidence.
    """
    kept = class_nms(boxes, scores, overlap, offset)
    confidences = (scores * kept).amax(1)
    count = min(max(int((confidences >= confidence).sum()), least), most)
    rows = confidences.argsort(descending=True, stable=True)[:count]
    return rows, scores[rows].argmax(1), confidences[rows]


def class_nms(boxes: Tensor, scores: Tensor, overlap: float, offset: float = 0) -> Tensor:
    """(P, C) bool: which boxes each class keeps after non-maximum suppression.

    Parameters
    ----------
    boxes : (P, 1, 4), or (P, C, 4) with one box per class.
    scores : (P, C) probabilities.
    """
    boxes = boxes + boxes.new_tensor([0, 0, offset, offset])
    if scores.device.type != "cpu":
        return nms_together(boxes, scores, overlap)
    kept = torch.zeros_like(scores, dtype=torch.bool)
    of_class = boxes.transpose(0, 1).contiguous().expand(scores.shape[1], -1, -1)
    for n, (part, score) in enumerate(zip(of_class, scores.T.contiguous(), strict=True)):
        kept[nms(part, score, overlap), n] = True
    return kept


def nms_together(boxes: Tensor, scores: Tensor, overlap: float, size: int = 512) -> Tensor:
    """`class_nms` for `size` classes at a time in parallel, for a GPU, on which 1600 separate calls are slow."""
    shared = box_iou(boxes[:, 0], boxes[:, 0]) > overlap if boxes.shape[1] == 1 else None
    kept = torch.ones_like(scores, dtype=torch.bool)
    for start in range(0, scores.shape[1], size):
        part = scores[:, start : start + size].T  # (c, P)
        rows = torch.arange(len(part), device=part.device)
        near = None if shared is not None else _ious(boxes[:, start : start + size].transpose(0, 1)) > overlap
        alive = torch.ones_like(part, dtype=torch.bool)
        for pick in part.argsort(dim=1, descending=True, stable=True).T:  # (c,) the next box of each class
            suppressed = shared[pick] if near is None else near[rows, pick]  # (c, P)
            stays = alive[rows, pick]
            alive &= ~(suppressed & stays[:, None])
            alive[rows, pick] = stays
        kept[:, start : start + size] = alive.T
    return kept


def _ious(boxes: Tensor) -> Tensor:
    """(c, P, P) intersections over unions of the boxes (c, P, 4) of each class."""
    area = (boxes[..., 2:] - boxes[..., :2]).prod(-1)
    low = torch.maximum(boxes[:, :, None, :2], boxes[:, None, :, :2])
    high = torch.minimum(boxes[:, :, None, 2:], boxes[:, None, :, 2:])
    both = (high - low).clamp(min=0).prod(-1)
    return both / (area[:, :, None] + area[:, None] - both)


def pixels_of(picture: Image.Image, short: int, longest: int) -> tuple[Tensor, float]:
    """(3, H, W) float32 input of the network, BGR minus its mean, and its scale relative to the picture.

    The short side becomes `short` pixels unless the long side would exceed `longest`. As in the published extractors,
    the picture is scaled bilinearly without antialiasing after the mean is subtracted.
    """
    scale = min(short / min(picture.size), longest / max(picture.size))
    size = [max(1, round(side * scale)) for side in reversed(picture.size)]
    pixels = torch.from_numpy(np.asarray(picture)[:, :, ::-1].copy()).permute(2, 0, 1).float()
    pixels -= pixels.new_tensor(BGR_MEAN)[:, None, None]
    return nn.functional.interpolate(pixels[None], size, mode="bilinear", align_corners=False)[0], scale
