"""Loading of checkpoints of the bottom-up-attention detector, with their parameter names and conventions.

The public checkpoints have detectron2's names. They form two families with different names of the attribute head:
those converted unchanged from the Caffe original (`caffe`), and those that also follow detectron2's conventions
(`detectron2`).
"""

from __future__ import annotations

import logging
import re
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.models.resnet import Bottleneck

from crossmodal.core.errors import UserError
from crossmodal.core.files import sha256_file
from crossmodal.features.networks import backbones
from crossmodal.features.networks.detector import BGR_MEAN, BLOCKS, CONVENTIONS, Convention, Detector, Shape, names

log = logging.getLogger(__name__)

_HEADS = {  # names below `roi_heads.box_predictor` in the two families of checkpoints
    "caffe": {"cls_embed": "embedding", "attr_linear1": "hidden", "attr_linear2": "attributes"},
    "detectron2": {"cls_embedding": "embedding", "fc_attr": "hidden", "attr_score": "attributes"},
}
_IGNORED = re.compile(r"num_batches_tracked$|^pixel_(mean|std)$|anchor_generator\.cell_anchors\.0$")
_CELL_ANCHORS = "proposal_generator.anchor_generator.cell_anchors.0"


def _renamed(name: str, head: dict[str, str]) -> str:
    """This package's name of a parameter for detectron2's name; other names are returned unchanged."""
    stage = re.fullmatch(r"(?:backbone\.res([234])|roi_heads\.res5)\.(\d+)\.(conv([123])|shortcut)\.(.+)", name)
    if stage:
        number, block, layer, conv, leaf = stage.groups()
        prefix = f"trunk.layer{int(number) - 1}" if number else "res5"
        norm = leaf.removeprefix("norm.") if leaf.startswith("norm.") else None
        if layer == "shortcut":
            return f"{prefix}.{block}.downsample.{f'1.{norm}' if norm else f'0.{leaf}'}"
        return f"{prefix}.{block}.{f'bn{conv}.{norm}' if norm else f'conv{conv}.{leaf}'}"
    if name.startswith("backbone.stem.conv1."):
        leaf = name.removeprefix("backbone.stem.conv1.")
        return f"trunk.bn1.{leaf.removeprefix('norm.')}" if leaf.startswith("norm.") else f"trunk.conv1.{leaf}"
    parts = {"conv": "conv", "objectness_logits": "objectness", "anchor_deltas": "deltas"}
    for theirs, ours in parts.items():
        name = name.replace(f"proposal_generator.rpn_head.{theirs}.", f"rpn.{ours}.")
    for theirs, ours in {"cls_score": "classes", "bbox_pred": "boxes", **head}.items():
        name = name.replace(f"roi_heads.box_predictor.{theirs}.", f"head.{ours}.")
    return name


def convention_of(state: dict[str, Tensor], name: str = "auto", **over: Any) -> tuple[str, Convention]:
    """The family of a state dict, judged by its parameter names, and its convention.

    If the box head also has four rows for the background, the background is the first class, as in Caffe.

    Parameters
    ----------
    name : a name in `CONVENTIONS`, or auto for the convention of the family.
    over : fields of `Convention` to override; None leaves a field unchanged.
    """
    family = "caffe" if any(".cls_embed." in key for key in state) else "detectron2"
    chosen = CONVENTIONS[family if name == "auto" else name]
    boxes, classes = (state.get(f"roi_heads.box_predictor.{n}.bias") for n in ("bbox_pred", "cls_score"))
    if name == "auto" and boxes is not None and classes is not None and len(boxes) == 4 * len(classes):
        chosen = replace(chosen, background="first")
    return family, replace(chosen, **_given(over))


def _given(over: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in over.items() if value is not None}


def seeded(network: str, seed: int, convention: str = "auto", **over: Any) -> tuple[Detector, dict[str, Any]]:
    """A detector with random weights, and its description for the manifest; `convention` and `over` as in `load`."""
    chosen = replace(CONVENTIONS["caffe" if convention == "auto" else convention], **_given(over))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = Detector(Shape(BLOCKS[network]), chosen).eval()
        _settle(model)
    facts = {"weights": "seeded", "fallback": "seeded random weights", "convention": asdict(chosen)}
    log.warning("%s detector: %s, not trained on anything", network, facts["fallback"])
    return model, {**facts, "weights_sha256": backbones.hash_of(model)}


def _settle(model: Detector) -> None:
    """Initialise a detector so that activations neither grow nor vanish, since its batch norms have no statistics."""
    model.trunk.bn1.running_var.fill_(float(max(BGR_MEAN)) ** 2)
    for module in (*model.trunk.modules(), *model.res5.modules()):
        if isinstance(module, Bottleneck):
            nn.init.constant_(module.bn3.weight, 0.2)
    for module in (*model.rpn.values(), *model.head.values()):
        nn.init.normal_(module.weight, std=0.01)


def load(path: Path, network: str, convention: str = "auto", **over: Any) -> tuple[Detector, dict[str, Any]]:
    """A detector with the weights of a public checkpoint, and its description for the manifest with its conventions.

    If the file contains anchors, they are used.

    Parameters
    ----------
    network : the detector's ResNet.
    convention : a name in `CONVENTIONS`, or auto to infer it from the checkpoint's names and shapes.
    over : fields of `Convention` to override; None leaves a field unchanged.

    Raises
    ------
    UserError : the file cannot be read, or parameters are missing, unexpected or of another shape.
    """
    state = backbones.read_state(path)
    family, chosen = convention_of(state, convention, **over)
    ours, shape = matched(state, network, family, path)
    model = Detector(shape, chosen).eval()
    model.load_state_dict(ours, strict=False)  # checkpoints need not have the batch norms' counts of batches
    facts = {"family": family, "convention": asdict(chosen), "anchors": "by the convention"}
    if (cells := state.get(_CELL_ANCHORS)) is not None and cells.shape == model.anchors.shape:
        facts["anchors"] = "of the file"
        model.anchors.copy_(cells)
    return model, {**facts, "weights": path.name, "weights_sha256": sha256_file(path)}


def matched(state: dict[str, Tensor], network: str, family: str, where: Path) -> tuple[dict[str, Tensor], Shape]:
    """The state dict under this package's names, and the sizes of its detector.

    Raises
    ------
    UserError : parameters are missing, unexpected or of another shape.
    """
    theirs = {_renamed(name, _HEADS[family]): name for name in state if not _IGNORED.search(name)}
    ours = {name: state[their] for name, their in theirs.items()}

    def size(name: str, usual: int, axis: int = 0) -> int:
        value = ours.get(name)
        return value.shape[axis] if value is not None and value.dim() > axis else usual

    usual = Shape(BLOCKS[network])
    shape = Shape(
        BLOCKS[network],
        size("trunk.layer1.0.conv1.weight", usual.width),
        size("head.classes.bias", usual.classes),
        size("head.attributes.bias", usual.attributes),
        size("head.boxes.bias", usual.box_rows),
        size("rpn.objectness.bias", usual.objectness),
        size("rpn.conv.bias", usual.rpn_width),
        size("head.hidden.bias", usual.hidden),
        size("head.embedding.weight", usual.embedding, 1),
    )
    with torch.device("meta"):
        expected = Detector(shape, CONVENTIONS[family]).state_dict()
    expected = {name: value for name, value in expected.items() if not name.endswith("num_batches_tracked")}
    missing = [name for name in expected if name not in ours]
    further = [their for name, their in theirs.items() if name not in expected]
    shapes = [name for name in expected if name in ours and ours[name].shape != expected[name].shape]
    wrong = [f"{name} is missing" for name in missing[:2]] + [f"{name} is not one of its names" for name in further[:2]]
    wrong += [f"{theirs[n]} is {tuple(ours[n].shape)}, expected {tuple(expected[n].shape)}" for n in shapes[:2]]
    classes, attributes = len(names("objects")), len(names("attributes"))
    if not missing and (shape.classes != classes + 1 or shape.attributes not in (attributes, attributes + 1)):
        wrong.append(f"it distinguishes {shape.classes} classes and {shape.attributes} attributes")
    if not missing and shape.box_rows not in (4, 4 * classes, 4 * (classes + 1)):
        wrong.append(f"it moves boxes by {shape.box_rows} numbers")
    if not missing and shape.objectness not in (12, 24):
        wrong.append(f"it has {shape.objectness} logits per position for 12 anchors")
    if wrong:
        raise UserError(
            f"{where}: holds no bottom-up-attention detector on {network!r} with {classes} classes and {attributes} "
            f"attributes: {'; '.join(wrong)} ({len(missing)} missing, {len(further)} unexpected, {len(shapes)} of "
            "another shape); set `network` to its depth, or `weights` to another file"
        )
    return ours, shape
