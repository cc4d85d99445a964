"""Region features of images, (N, R, D), with the `count` of regions, boxes, classes and confidences of each image.

`boxes: detected` runs the bottom-up-attention detector (Anderson et al., 2018), whose 36 regions SCAN and A3VSE use.
`annotated` pools the last feature map of any torchvision network in annotated boxes, `grid` in those of a uniform
grid. Rows beyond an image's `count` are zeros and must not be used.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torchvision.ops import clip_boxes_to_image
from torchvision.transforms.functional import InterpolationMode, pil_to_tensor, resize

from crossmodal.core import pictures
from crossmodal.core.errors import UserError
from crossmodal.features.engine.extraction import Given, Item, Recipe, Work
from crossmodal.features.networks import backbones, checkpoints, detector, pooling
from crossmodal.features.region_annotations import annotations
from crossmodal.features.region_annotations.annotations import Annotations, Region, Worsening

NEUTRAL = "image"  # class of the single region of an image without annotated regions
DETECTED, ANNOTATED = 36, 8  # default maximum number of regions per image


class Settings(backbones.Settings):
    """Settings of the extractor.

    The defaults of `boxes: detected` are the published ones: 36 regions of 300 proposals at a short side of 600 pixels.
    """

    boxes: Literal["detected", "annotated", "grid"] = Field(description="source of the boxes")
    network: str = Field("resnet101", description="torchvision network; for the detector its ResNet")
    weights: str = Field(
        description="for detected boxes the file of a checkpoint or seeded; else as for the extractor `image`"
    )
    resize: int = Field(
        600, ge=32, description="length of the short side in pixels; the aspect ratio is kept and nothing is cropped"
    )
    longest: int = Field(1000, ge=32, description="largest length of the long side in pixels")
    regions: int | None = Field(
        None, ge=1, description="largest number of detected or annotated regions; by default 36 or 8"
    )
    grid: int | None = Field(
        None,
        ge=0,
        description="cells per side of the grid that is added; by default 6 for `grid` and 3 for `annotated`",
    )
    pool: Literal["align", "max"] = Field(
        "align", description="pooling of a box: mean over sampled points, or maximum over its cells"
    )
    l2: bool = Field(False, description="whether the features of each region are scaled to unit length")
    batch_size: int = Field(8, ge=1, description="number of images that one thread processes at a time")
    # settings of `boxes: annotated`
    unannotated: Literal["whole", "bad"] = Field(
        "whole",
        description=f"whether an image without regions becomes one region, {NEUTRAL!r}, or is a bad item (`on_error`)",
    )
    worsen: Worsening | None = Field(
        Worsening(), description="simulated detector errors in exact annotations (of the drawn world); null: none"
    )
    names: Literal["given", "classifier"] = Field(
        "given",
        description="names of regions: given: those of the annotations; classifier: the class of ImageNet that the "
        "network's own classifier finds likeliest for a region or a cell, if at least as likely as `confidence`",
    )
    confidence: float = Field(
        0.2,
        ge=0,
        le=1,
        description="least confidence of detected regions beyond the least number, and of names by a classifier",
    )
    # settings of `boxes: detected`
    least: int | None = Field(
        None, ge=1, description="least number of regions, whatever their confidence; by default `regions`"
    )
    overlap: float = Field(
        0.3, gt=0, le=1, description="overlap of two boxes of the same class above which one is removed"
    )
    proposals: int = Field(300, ge=1, description="number of proposed boxes that are classified")
    convention: Literal["auto", *detector.CONVENTIONS] = Field(
        "auto", description="convention of the checkpoint; auto: inferred from the names and shapes of its parameters"
    )
    background: Literal["first", "last"] | None = Field(
        None, description="position of the background among the classes, if it differs from the convention"
    )
    anchors: Literal["ratio", "size"] | None = Field(
        None,
        description="whether aspect ratio or size varies slowest along the anchors, if it differs from the convention",
    )
    box_weights: tuple[float, float, float, float] | None = Field(
        None,
        description="weights of the four coordinates in the regression of boxes, if they differ from the convention",
    )
    kept: Literal["proposal", "regressed"] | None = Field(
        None, description="box of a region, if it differs from the convention"
    )

    @model_validator(mode="after")
    def _possible(self) -> Settings:
        if self.longest < self.resize:
            raise ValueError(f"longest: {self.longest} pixels are less than the short side of {self.resize} (`resize`)")
        if self.boxes != "detected":
            if self.boxes == "grid" and self.side == 0:
                raise ValueError("grid: is 0, but a grid needs at least 1 cell per side")
            return self
        if self.names == "classifier":
            raise ValueError(
                "names: a detector names its own regions; `classifier` is for `boxes: annotated` or `grid`"
            )
        if self.network not in detector.BLOCKS:
            raise ValueError(f"network: {self.network!r} is no detector's; expected {', '.join(detector.BLOCKS)}")
        if self.grid:
            raise ValueError("grid: `boxes: detected` has no grid; use `boxes: annotated` or `grid`")
        if self.most < (self.least or 0):
            raise ValueError(f"least: {self.least} regions exceed the largest number, {self.most} (`regions`)")
        return self

    @property
    def most(self) -> int:
        """Maximum number of regions, not counting the cells of the grid."""
        if self.boxes == "grid":
            return 0
        return self.regions or (DETECTED if self.boxes == "detected" else ANNOTATED)

    @property
    def side(self) -> int:
        """Number of grid cells per side."""
        return {"detected": 0, "annotated": 3, "grid": 6}[self.boxes] if self.grid is None else self.grid

    @property
    def rows(self) -> int:
        """Number of rows per image, R: the maximum number of regions plus the cells of the grid."""
        return self.most + self.side**2

    def convention_of(self) -> dict[str, Any]:
        """The fields of `detector.Convention` that the settings override; None leaves a field unchanged."""
        return {key: getattr(self, key) for key in ("background", "anchors", "box_weights", "kept")}


class Found(NamedTuple):
    """Regions of one image: features (n, D), boxes (n, 4) in pixels of its file, and the classes and attributes."""

    size: tuple[int, int]  # (width, height) of the file
    features: Tensor
    boxes: Tensor
    names: list[str]
    attributes: list[str]
    confidences: list[float]


def recipe(settings: Settings, given: Given) -> Recipe:
    """Recipe for the (N, R, D) features of the regions of images.

    For each image the index keeps `count` (the number of regions), `size` (width and height of its file in pixels) and
    lists with an entry per region: `boxes` (x1, y1, x2, y2 in pixels of its file), `class`, `attribute` (either may be
    empty) and `confidence`. Annotated or detected regions come first, in decreasing order of confidence, followed by
    the cells of the grid, which have no class. With `names: classifier` classes and confidences are the classifier's
    and no region has an attribute. For `boxes: annotated`, `items.json` in the data set's folder names the
    file of annotations.

    Raises
    ------
    UserError : an image, the annotations or the weights cannot be read.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    depends: dict[str, Any] = {"network": settings.network, "rows": settings.rows}
    if settings.boxes == "detected":
        model, facts = _detector(settings)

        def begin(listed: list[Item]) -> Work:
            return _detect(model, settings, device, listed)
    else:
        net, facts = backbones.build(settings)
        cut = pooling.last_map(net, settings.network)
        facts = {**facts, "layer": cut.layer, "stride": cut.stride}
        named = None
        if settings.boxes == "annotated":
            named = annotations.read(given.folder, settings.worsen)
            facts["annotations"] = {
                "file": named.path.name,
                "sha256": named.sha256,
                "worsened": named.worsening.model_dump() if named.worsening else None,
                "without_regions": named.bare(given.rows.source),
            }

        namer = None if settings.names == "given" else _namer(settings, device)

        def begin(listed: list[Item]) -> Work:
            return _pool(cut, named, namer, settings, device, listed)

    return Recipe(begin, {**depends, **facts}, packages=("torchvision", "pillow"))


def _together(detections: list[Found], settings: Settings) -> tuple[np.ndarray, dict[str, list[Any]]]:
    """(B, R, D) features, padded with zeros, and the columns of the index."""
    array = np.zeros((len(detections), settings.rows, detections[0].features.shape[1]), np.float32)
    for row, detection in zip(array, detections, strict=True):
        features = nn.functional.normalize(detection.features, dim=1) if settings.l2 else detection.features
        row[: len(features)] = features.cpu().numpy()
    columns = {
        "count": [len(detection.boxes) for detection in detections],
        "size": [[*detection.size] for detection in detections],
        "boxes": [np.round(detection.boxes.numpy().astype(np.float64), 2).tolist() for detection in detections],
        "class": [detection.names for detection in detections],
        "attribute": [detection.attributes for detection in detections],
        "confidence": [[round(float(value), 4) for value in detection.confidences] for detection in detections],
    }
    return array, columns


def _sides(path: Path, wide: int, high: int, settings: Settings, least: int) -> tuple[int, int]:
    """(height, width) in pixels to which a picture of `wide` x `high` pixels is scaled.

    Raises
    ------
    UserError : the picture is so long that its short side would have fewer than `least` pixels.
    """
    scale = min(settings.resize / min(wide, high), settings.longest / max(wide, high))
    size = max(1, round(high * scale)), max(1, round(wide * scale))
    if min(size) < least:
        raise UserError(
            f"{path}: is {wide} x {high} pixels, too narrow to be scaled to a long side of {settings.longest} with at "
            f"least {least} pixels on its short side; raise `longest`, or leave it out"
        )
    return size


def _work(load, compute, settings: Settings, device: torch.device, precision: str) -> Work:
    """Wrap `load` and `compute` so that batches run in parallel on the CPU and one at a time on a GPU."""
    run = backbones.in_turn(device, lambda loaded: _together(compute(loaded), settings))
    return Work(load, run, settings.batch_size, {"precision": precision, "device": device.type})


# -- detected ---------------------------------------------------------------------------------------------------------


def _detector(settings: Settings) -> tuple[detector.Detector, dict[str, Any]]:
    convention = (settings.convention, settings.convention_of())
    if settings.weights == "seeded":
        return checkpoints.seeded(settings.network, settings.seed, convention[0], **convention[1])
    path = Path(settings.weights)
    if not path.is_file():
        raise UserError(
            f"extractors.*.weights: {settings.weights!r} is no file; `boxes: detected` takes a checkpoint of the "
            "bottom-up-attention detector (.pth, .pkl or .safetensors) or `seeded`"
        )
    return checkpoints.load(path, settings.network, convention[0], **convention[1])


def _detect(model: detector.Detector, settings: Settings, device: torch.device, listed: list[Item]) -> Work:
    objects, attributes = detector.names("objects"), detector.names("attributes")

    def load(item: Item) -> tuple[Tensor, float, tuple[int, int]]:
        picture = pictures.read(item.path)
        wide, high = picture.size
        if min(wide, high) < detector.LEAST_SIDE:
            least = detector.LEAST_SIDE
            raise UserError(f"{item.path}: is {wide} x {high} pixels; the detector needs at least {least} per side")
        _sides(item.path, wide, high, settings, 2 * detector.STRIDE)
        return *detector.pixels_of(picture, settings.resize, settings.longest), (high, wide)

    def probe(net: nn.Module, precision: str) -> Tensor:
        kind = torch.bfloat16 if precision == "bf16" else torch.float32
        pixels = [loaded[0] for loaded in backbones.first_readable(listed, load)]
        pixels = pixels or [torch.randn(3, settings.resize, settings.resize) * 50]
        with torch.inference_mode():
            return torch.cat([net(picture[None].to(device, kind)).float().mean((2, 3)) for picture in pixels])

    # These two parts run in lower precision; here they see the whole map, later the boxes on it.
    _, precision = backbones.ready(nn.Sequential(model.trunk, model.res5), settings, device, probe)
    model.prepare(precision, device)

    def compute(loaded: list[tuple[Tensor, float, tuple[int, int]]]) -> list[Found]:
        detections = []
        for pixels, scale, size in loaded:
            detection = model.detect(
                pixels,
                scale,
                proposals=settings.proposals,
                least=settings.least or settings.most,
                most=settings.most,
                confidence=settings.confidence,
                overlap=settings.overlap,
            )
            named = [objects[n] for n in detection.classes], [attributes[n] for n in detection.attributes]
            boxes = clip_boxes_to_image(detection.boxes, size)  # rounding the scaled size may have moved them outside
            detections.append(Found(size[::-1], detection.features, boxes, *named, detection.confidences.tolist()))
        return detections

    return _work(load, compute, settings, device, precision)


# -- annotated, grid --------------------------------------------------------------------------------------------------


class Picture(NamedTuple):
    """A loaded picture with the regions in which its map is pooled."""

    pixels: Tensor  # (3, H, W) uint8
    size: tuple[int, int]  # (height, width) of the file
    regions: list[Region]


class Namer(NamedTuple):
    """Names regions by the classifier of a network."""

    layer: nn.Linear
    names: tuple[str, ...]
    least: float  # probability

    def of(self, features: Tensor) -> tuple[list[str], list[float]]:
        """The likeliest class of each of (n, D) regions, empty if it is not likely enough, and its probability."""
        if features.shape[1] != self.layer.in_features:
            raise UserError(
                f"extractors.*.names: the classifier reads {self.layer.in_features} values, but a region has "
                f"{features.shape[1]}; choose a network whose classifier reads the mean of its last map, as resnet152"
            )
        with torch.inference_mode():
            chances, classes = self.layer(features.float()).softmax(1).max(1)
        sure = chances >= self.least
        return [self.names[n] if ok else "" for n, ok in zip(classes, sure, strict=True)], chances.tolist()


def _namer(settings: Settings, device: torch.device) -> Namer:
    layer, names = backbones.classifier(settings)
    return Namer(layer.to(device).eval(), names, settings.confidence)


def _pool(
    cut: pooling.LastMap,
    given: Annotations | None,
    namer: Namer | None,
    settings: Settings,
    device: torch.device,
    listed: list[Item],
) -> Work:
    def load(item: Item) -> Picture:
        picture = pictures.read(item.path)
        wide, high = picture.size
        size = _sides(item.path, wide, high, settings, cut.stride)
        regions = [] if given is None else given.of(item.source, wide, high)[: settings.most]
        if given is not None and not regions:
            if settings.unannotated == "bad":
                raise UserError(f"{given.path}: has no region of {item.source}, and `unannotated: bad` is set")
            regions = [annotations.whole_picture(wide, high, NEUTRAL)]
        pixels = pil_to_tensor(resize(picture, list(size), InterpolationMode.BILINEAR))
        regions += [Region(tuple(box), "", "", 0.0) for box in pooling.grid(wide, high, settings.side).tolist()]
        return Picture(pixels, (high, wide), regions)

    def run(net: nn.Module, precision: str, loaded: list[Picture]) -> list[Found]:
        """Regions of each picture; pictures of the same size go through the network together."""
        shapes: dict[tuple[int, ...], list[int]] = {}
        for n, picture in enumerate(loaded):
            shapes.setdefault(tuple(picture.pixels.shape), []).append(n)
        by_image: dict[int, Found] = {}
        for picks in shapes.values():
            batch = torch.stack([loaded[n].pixels for n in picks])
            with torch.inference_mode():
                maps = net(backbones.normalised(batch, device, precision)).float()
                for n, last in zip(picks, maps, strict=True):
                    by_image[n] = pooled(last, loaded[n])
        return [by_image[n] for n in range(len(loaded))]

    def pooled(last: Tensor, picture: Picture) -> Found:
        boxes = torch.tensor([region.box for region in picture.regions])
        shape = (last.shape[1], last.shape[2])
        places = pooling.cells(boxes.to(last), picture.size, tuple(picture.pixels.shape[1:]), shape, cut.stride)
        features = (pooling.align if settings.pool == "align" else pooling.peak)(last, places)
        _, names, attributes, confidences = zip(*picture.regions, strict=True)
        if namer:
            names, confidences = namer.of(features)
            attributes = [""] * len(names)
        return Found(picture.size[::-1], features, boxes, list(names), list(attributes), list(confidences))

    def probe(net: nn.Module, precision: str) -> Tensor:
        side = settings.resize
        noise = torch.randint(0, 256, (3, side, side), dtype=torch.uint8)
        spare = [Picture(noise, (side, side), [annotations.whole_picture(side, side, NEUTRAL)])]
        by_image = run(net, precision, backbones.first_readable(listed, load) or spare)
        return torch.cat([detection.features for detection in by_image])

    net, precision = backbones.ready(cut.net, settings, device, probe)
    return _work(load, lambda loaded: run(net, precision, loaded), settings, device, precision)
