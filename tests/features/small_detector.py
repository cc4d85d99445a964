"""A detector of few channels, and its state under the names of the public checkpoints, for tests."""

from __future__ import annotations

from collections import OrderedDict

import numpy as np
import torch
from torch import Tensor, nn

from crossmodal.features.networks import detector
from crossmodal.features.networks.detector import CONVENTIONS, Shape

CAFFE, DETECTRON2 = CONVENTIONS["caffe"], CONVENTIONS["detectron2"]
NARROW = Shape(detector.BLOCKS["resnet50"], width=4, rpn_width=8, hidden=16, embedding=8)
NOISE = np.random.default_rng(3).integers(0, 255, (80, 120, 3), dtype=np.uint8)
HEADS = {
    "caffe": ("cls_embed", "attr_linear1", "attr_linear2"),
    "detectron2": ("cls_embedding", "fc_attr", "attr_score"),
}


def narrow() -> detector.Detector:
    """A detector of few channels whose batch norms do something."""
    torch.manual_seed(0)
    made = detector.Detector(NARROW, CAFFE).eval()
    for module in made.modules():  # statistics that matter
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_var, 0.5, 2)
            nn.init.normal_(module.running_mean, 0, 0.1)
            nn.init.uniform_(module.weight, 0.1, 0.4)
    made.trunk.bn1.running_var.fill_(1e4)
    for layer in (made.rpn["objectness"], made.rpn["deltas"], made.head["classes"], made.head["boxes"]):
        nn.init.normal_(layer.weight, std=0.01)
    return made


def published(model: nn.Module, family: str) -> OrderedDict[str, Tensor]:
    """A detector's state under the names of a family of checkpoints, written out layer by layer."""
    state = model.state_dict()
    names: list[tuple[str, str]] = []

    def conv(theirs: str, ours: str, norm: str) -> None:
        names.append((f"{theirs}.weight", f"{ours}.weight"))
        names.extend(
            (f"{theirs}.norm.{leaf}", f"{norm}.{leaf}") for leaf in ("weight", "bias", "running_mean", "running_var")
        )

    conv("backbone.stem.conv1", "trunk.conv1", "trunk.bn1")
    for stage, part in ((2, "trunk.layer1"), (3, "trunk.layer2"), (4, "trunk.layer3"), (5, "res5")):
        place = f"backbone.res{stage}" if stage < 5 else "roi_heads.res5"
        blocks = sorted({int(n.removeprefix(part).split(".")[1]) for n in state if n.startswith(f"{part}.")})
        for b in blocks:
            for k in (1, 2, 3):
                conv(f"{place}.{b}.conv{k}", f"{part}.{b}.conv{k}", f"{part}.{b}.bn{k}")
        conv(f"{place}.0.shortcut", f"{part}.0.downsample.0", f"{part}.0.downsample.1")
    rpn = "proposal_generator.rpn_head"
    linear = [(f"{rpn}.conv", "rpn.conv"), (f"{rpn}.objectness_logits", "rpn.objectness")]
    linear += [(f"{rpn}.anchor_deltas", "rpn.deltas")]
    box = "roi_heads.box_predictor"
    embedding, hidden, attributes = HEADS[family]
    linear += [(f"{box}.cls_score", "head.classes"), (f"{box}.bbox_pred", "head.boxes")]
    linear += [(f"{box}.{hidden}", "head.hidden"), (f"{box}.{attributes}", "head.attributes")]
    names.extend((f"{a}.{leaf}", f"{b}.{leaf}") for a, b in linear for leaf in ("weight", "bias"))
    names.append((f"{box}.{embedding}.weight", "head.embedding.weight"))
    assert len(names) == len({n for n in state if not n.endswith("num_batches_tracked")})
    return OrderedDict((theirs, state[ours].clone()) for theirs, ours in names)
