"""The detector's parts against torchvision and figures by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.ops import nms, roi_pool

from crossmodal.features.networks import detector
from tests.features.small_detector import CAFFE, DETECTRON2, NARROW, NOISE, narrow


@pytest.fixture(scope="module")
def model() -> detector.Detector:
    return narrow()


# -- names ------------------------------------------------------------------------------------------------------------


def test_the_names_are_shipped():
    objects, attributes = detector.names("objects"), detector.names("attributes")
    assert (len(objects), len(set(objects)), len(attributes)) == (1600, 1600, 400)
    assert objects[:2] == ("yolk", "goal")
    assert objects[16] == "stop sign"  # `stop sign,stopsign`
    assert attributes[0] == "gray"
    assert objects[-1].strip() == objects[-1] != ""


# -- anchors and boxes ------------------------------------------------------------------------------------------------


def test_anchors_are_caffes():
    """The nine of scales 8, 16, 32 stand in the comment of py-faster-rcnn's generate_anchors (there from 1)."""
    found = detector.anchor_boxes(CAFFE).view(3, 4, 4)
    expected = [
        [[-84, -40, 99, 55], [-176, -88, 191, 103], [-360, -184, 375, 199]],
        [[-56, -56, 71, 71], [-120, -120, 135, 135], [-248, -248, 263, 263]],
        [[-36, -80, 51, 95], [-80, -168, 95, 183], [-168, -344, 183, 359]],
    ]
    assert found[:, 1:].tolist() == expected
    assert found[0, 0].tolist() == [-38, -16, 53, 31]


def test_anchors_by_size_have_their_area_and_ratio():
    found = detector.anchor_boxes(DETECTRON2)
    wide, high = (found[:, 2:] - found[:, :2]).T
    torch.testing.assert_close(high / wide, torch.tensor([0.5, 1.0, 2.0] * 4))
    torch.testing.assert_close((wide * high).sqrt(), torch.tensor([64.0, 128.0, 256.0, 512.0]).repeat_interleave(3))
    torch.testing.assert_close(found[:, :2], -found[:, 2:])


def test_decoding_by_hand():
    box = torch.tensor([[10.0, 20.0, 29.0, 59.0]])  # 20 x 40 of whole pixels, middle (20, 40)
    deltas = torch.tensor([[0.1, -0.5, float(np.log(2)), 9.0]])
    found = detector.decode(deltas, box, (1, 1, 1, 1), 1)[0, 0]
    high = 40 * 1000 / 16  # the logarithm is held back at log(1000 / 16)
    torch.testing.assert_close(found, torch.tensor([22 - 20.0, 20 - high / 2, 22 + 20, 20 + high / 2]))
    half = detector.decode(deltas, box, (10, 10, 5, 5), 0)[0, 0]  # 19 x 39, middle (19.5, 39.5)
    x, y, w, h = 19.5 + 0.01 * 19, 39.5 - 0.05 * 39, 19 * 2 ** (1 / 5), 39 * float(np.exp(9 / 5))
    torch.testing.assert_close(half, torch.tensor([x - w / 2, y - h / 2, x + w / 2, y + h / 2]))
    two = detector.decode(torch.cat([torch.zeros(1, 4), deltas], 1), box, (1, 1, 1, 1), 1)
    torch.testing.assert_close(two[0, 1], found)
    assert two[0, 0].tolist() == [10, 20, 30, 60]


def random_boxes(count: int, seed: int, classes: int = 1) -> Tensor:
    rng = torch.Generator().manual_seed(seed)
    low = torch.rand(count, classes, 2, generator=rng) * 60
    return torch.cat([low, low + 10 + torch.rand(count, classes, 2, generator=rng) * 40], 2)


@pytest.mark.parametrize("classes", [1, 70])
def test_each_class_suppresses_as_torchvision_does(classes):
    boxes, offset = random_boxes(60, 0, classes), 1
    scores = torch.rand(60, 70, generator=torch.Generator().manual_seed(1))
    found = detector.class_nms(boxes, scores, 0.3, offset)
    wider = boxes + torch.tensor([0, 0, offset, offset])
    assert torch.equal(detector.nms_together(wider, scores, 0.3, size=32), found)
    for c in range(70):
        own = wider[:, c if classes > 1 else 0]
        assert found[:, c].nonzero()[:, 0].tolist() == sorted(nms(own, scores[:, c], 0.3).tolist())
    assert 0.1 < found.float().mean() < 0.9


def test_which_regions_are_kept():
    """Two classes; the second box lies on the first, the third apart."""
    boxes = torch.tensor([[0, 0, 10, 10], [1, 0, 11, 10], [50, 50, 60, 60.0], [80, 0, 90, 10]])[:, None]
    scores = torch.tensor([[0.9, 0.05], [0.8, 0.1], [0.3, 0.6], [0.1, 0.05]])
    ask = {"confidence": 0.2, "overlap": 0.3}
    rows, classes, confidences = detector.select(boxes, scores, least=1, most=4, **ask)
    assert rows.tolist() == [0, 2]  # the second is left its second class only, of .1
    assert classes.tolist() == [0, 1]
    torch.testing.assert_close(confidences, torch.tensor([0.9, 0.6]))
    rows, classes, confidences = detector.select(boxes, scores, least=3, most=4, **ask)
    assert rows.tolist() == [0, 2, 1]
    torch.testing.assert_close(confidences[-1], torch.tensor(0.1))
    assert detector.select(boxes, scores, least=1, most=1, **ask)[0].tolist() == [0]
    assert len(detector.select(boxes, scores, least=36, most=36, **ask)[0]) == 4  # as many as there are


KEPT = [(10, 100, 25, 25), (10, 100, 3, 10), (10, 100, 120, 100), (36, 36, 120, 36), (36, 36, 0, 36)]


@pytest.mark.parametrize(("least", "most", "sure", "expected"), KEPT)
def test_thirty_six_or_ten_to_a_hundred(least, most, sure, expected):
    boxes = torch.stack([torch.tensor([i * 20.0, 0, i * 20 + 10, 10]) for i in range(150)])[:, None]
    scores = torch.full((150, 3), 0.01)
    scores[torch.arange(150 - 1, 150 - 1 - sure, -1), 1] = 0.5
    rows, classes, confidences = detector.select(boxes, scores, least=least, most=most, confidence=0.2, overlap=0.3)
    assert len(rows) == expected
    assert (confidences >= 0.2).sum() == min(sure, most)
    assert (classes[: min(sure, most)] == 1).all()
    assert (confidences.diff() <= 0).all()


# -- network ----------------------------------------------------------------------------------------------------------


def block(x: Tensor, b: nn.Module, stride: int, dilation: int) -> Tensor:
    """A bottleneck as Caffe's ResNet has it: the first convolution halves."""

    def norm(y: Tensor, bn: nn.BatchNorm2d) -> Tensor:
        scale = bn.weight / (bn.running_var + 1e-5).sqrt()
        return y * scale[:, None, None] + (bn.bias - bn.running_mean * scale)[:, None, None]

    y = norm(F.conv2d(x, b.conv1.weight, stride=stride), b.bn1).relu()
    y = norm(F.conv2d(y, b.conv2.weight, padding=dilation, dilation=dilation), b.bn2).relu()
    y = norm(F.conv2d(y, b.conv3.weight), b.bn3)
    if b.downsample is not None:
        x = norm(F.conv2d(x, b.downsample[0].weight, stride=stride), b.downsample[1])
    return (x + y).relu()


@torch.no_grad()
def test_trunk_and_res5_by_hand(model):
    pixels = torch.randn(1, 3, 61, 83) * 50
    bn = model.trunk.bn1
    x = F.conv2d(pixels, model.trunk.conv1.weight, stride=2, padding=3)
    x = F.batch_norm(x, bn.running_mean, bn.running_var, bn.weight, bn.bias, eps=1e-5).relu()
    x = F.max_pool2d(x, 3, 2, ceil_mode=True)
    for layer, stride in ((model.trunk.layer1, 1), (model.trunk.layer2, 2), (model.trunk.layer3, 2)):
        for n, b in enumerate(layer):
            x = block(x, b, stride if n == 0 else 1, 1)
    torch.testing.assert_close(model.trunk(pixels), x, rtol=1e-3, atol=1e-4)
    boxes = torch.tensor([[0.0, 0, 40, 40], [17, 9, 80, 55]])
    y = roi_pool(x, [boxes], 14, 1 / 16)
    for b in model.res5:
        y = block(y, b, 1, 2)
    assert y.shape[-2:] == (14, 14)
    torch.testing.assert_close(model.regions(x, boxes), y.mean((2, 3)), rtol=1e-3, atol=1e-4)


@torch.no_grad()
@pytest.mark.parametrize("logits", [12, 24])
def test_the_likeliest_anchor_is_proposed(logits):
    torch.manual_seed(1)
    made = detector.Detector(NARROW._replace(objectness=logits), CAFFE).eval()
    for layer in made.rpn.values():
        nn.init.zeros_(layer.weight)
        nn.init.zeros_(layer.bias)
    made.rpn["conv"].weight[0, :, 1, 1] = 1  # channel 0 is the map's own brightness
    kind = 5  # ratio 1, scale 8: 128 pixels
    made.rpn["objectness"].weight[logits - 12 + kind, 0] = 1
    if logits == 24:
        made.rpn["objectness"].weight[kind, 0] = 0.25  # the logit of nothing is taken off
    made.rpn["deltas"].weight[4 * kind, 0] = 0.5 / 1024  # a shift to the right by half its width
    last = torch.zeros(1, 1024, 20, 30)
    last[0, :, 11, 12] = 1
    found = made.propose(last, (320, 480), 1.0, 300)
    x, y = 12 * 16, 11 * 16
    assert found[0].tolist() == [x - 56 + 64, y - 56, x + 72 + 64, y + 72]
    assert len(found) <= 300
    assert (found >= 0).all()
    assert (found[:, 2] <= 479).all()
    assert (found[:, 3] <= 319).all()
    sides = found[:, 2:] - found[:, :2] + 1
    assert (sides >= 16).all()
    assert len(made.propose(last, (320, 480), 1.0, 7)) == 7
    assert made.propose(last, (320, 480), 50.0, 7).tolist() == [[0, 0, 479, 319]]  # none of 800 pixels


@torch.no_grad()
@pytest.mark.parametrize("convention", [CAFFE, DETECTRON2])
def test_the_attribute_is_told_from_the_feature_and_the_class(model, convention):
    model.convention, before = convention, model.convention
    features = torch.randn(5, 2048)
    scores, attributes, deltas = model.classify(features)
    model.convention = before
    logits = F.linear(features, model.head["classes"].weight, model.head["classes"].bias)
    place = slice(1, None) if convention is CAFFE else slice(None, -1)
    torch.testing.assert_close(scores, logits.softmax(1)[:, place])
    joined = torch.cat([features, model.head["embedding"].weight[logits.argmax(1)]], 1)
    assert joined.shape[1] == 2048 + 8
    hidden = F.relu(F.linear(joined, model.head["hidden"].weight, model.head["hidden"].bias))
    expected = F.linear(hidden, model.head["attributes"].weight, model.head["attributes"].bias).softmax(1)
    torch.testing.assert_close(attributes, expected[:, place])
    moves = F.linear(features, model.head["boxes"].weight, model.head["boxes"].bias).view(5, 1601, 4)
    torch.testing.assert_close(deltas, moves[:, place].flatten(1))
    assert (scores.shape, attributes.shape, deltas.shape) == ((5, 1600), (5, 400), (5, 6400))


def test_the_input_is_caffes():
    picture = Image.new("RGB", (100, 50), (200, 100, 50))
    pixels, scale = detector.pixels_of(picture, 600, 1000)
    assert pixels.shape == (3, 500, 1000)  # the long side holds it back
    assert scale == 10
    torch.testing.assert_close(pixels[:, 3, 4], torch.tensor([50 - 102.9801, 100 - 115.9465, 200 - 122.7717]))
    assert detector.pixels_of(picture, 60, 1000)[0].shape == (3, 60, 120)
    ramp = Image.fromarray(np.arange(8, dtype=np.uint8)[None].repeat(4, 0)).convert("RGB")
    half, _ = detector.pixels_of(ramp, 2, 1000)  # places between two pixels, half of each
    torch.testing.assert_close(half[0, 0] + 102.9801, torch.tensor([0.5, 2.5, 4.5, 6.5]))


def test_whole_pictures_give_the_same_regions_by_hand(model):
    pixels, scale = detector.pixels_of(Image.fromarray(NOISE), 96, 200)
    ask = {"least": 5, "most": 5, "confidence": 0.2, "overlap": 0.3}
    found = model.detect(pixels, scale, proposals=12, **ask)
    with torch.no_grad():
        last = model.trunk(pixels[None])
        boxes = model.propose(last, tuple(pixels.shape[1:]), scale, 12)
        features = model.regions(last, boxes)
        scores, attributes, _ = model.classify(features)
        rows, classes, confidences = detector.select(boxes[:, None], scores, offset=1, **ask)
    torch.testing.assert_close(found.features, features[rows])
    torch.testing.assert_close(found.boxes, boxes[rows] / scale)
    assert found.classes.tolist() == classes.tolist()
    assert found.attributes.tolist() == attributes[rows].argmax(1).tolist()
    torch.testing.assert_close(found.confidences, confidences)
    assert found.boxes.max() <= 120


def test_a_regressed_box_is_its_classs(model):
    model.convention, before = DETECTRON2, model.convention
    pixels, scale = detector.pixels_of(Image.fromarray(NOISE), 96, 200)
    found = model.detect(pixels, scale, proposals=6, least=6, most=6, confidence=0.2, overlap=1.0)
    with torch.no_grad():
        last = model.trunk(pixels[None])
        boxes = model.propose(last, tuple(pixels.shape[1:]), scale, 6)
        scores, _, deltas = model.classify(model.regions(last, boxes))
    model.convention = before
    row = int(scores.max(1).values.argmax())
    best = int(scores[row].argmax())
    moved = detector.decode(deltas[row, 4 * best : 4 * best + 4][None], boxes[row][None], (10, 10, 5, 5), 0)[0, 0]
    limit = torch.tensor([pixels.shape[2], pixels.shape[1]] * 2)
    torch.testing.assert_close(found.boxes[0] * scale, torch.minimum(moved.clamp(min=0), limit.float()))
