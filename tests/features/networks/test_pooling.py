"""Feature maps of torchvision networks, and boxes pooled from them, against torchvision's own operators."""

from __future__ import annotations

import pytest
import torch
import torchvision
from torch import nn
from torchvision.ops import roi_align

from crossmodal.core.errors import UserError
from crossmodal.features.networks import backbones, pooling

LAYERS = {  # network: how its own code names the last map
    "resnet18": lambda m: [m.conv1, m.bn1, m.relu, m.maxpool, m.layer1, m.layer2, m.layer3, m.layer4],
    "shufflenet_v2_x0_5": lambda m: [m.conv1, m.maxpool, m.stage2, m.stage3, m.stage4, m.conv5],
    "mobilenet_v2": lambda m: [m.features],
    "alexnet": lambda m: [m.features],
}


@pytest.mark.parametrize("network", LAYERS)
def test_the_last_map_of_a_network(network):
    torch.manual_seed(0)
    model = torchvision.models.get_model(network, weights=None).eval()
    cut = pooling.last_map(model, network)
    assert cut.stride == 32
    pixels = torch.randn(1, 3, 224, 160)
    with torch.no_grad():
        torch.testing.assert_close(
            cut.net(pixels), nn.Sequential(*LAYERS[network](model))(pixels), rtol=1e-4, atol=1e-4
        )
    assert len(list(cut.net.parameters())) < len(list(model.parameters()))  # no classifier is carried along


def test_a_cut_network_is_folded_as_others_are():
    model = torchvision.models.resnet18(weights=None).eval()
    cut = pooling.last_map(model, "resnet18")
    run = backbones.prepare(cut.net, "fp32", torch.device("cpu"))
    pixels = torch.randn(2, 3, 96, 128)
    with torch.no_grad():
        torch.testing.assert_close(run(pixels), cut.net(pixels), rtol=1e-3, atol=1e-3)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in run.modules())


def test_a_network_without_a_map():
    model = torchvision.models.VisionTransformer(224, 32, 1, 2, 16, 32).eval()
    with pytest.raises(UserError, match=r"'vit'.*has no feature map.*choose a convolutional network"):
        pooling.last_map(model, "vit")


def test_a_grid_tiles_the_picture():
    boxes = pooling.grid(90, 60, 3)
    assert boxes.shape == (9, 4)
    assert boxes[0].tolist() == [0, 0, 30, 20]
    assert boxes[1].tolist() == [30, 0, 60, 20]
    assert boxes[8].tolist() == [60, 40, 90, 60]
    assert ((boxes[:, 2:] - boxes[:, :2]).prod(1)).sum() == 90 * 60
    assert pooling.grid(90, 60, 0).shape == (0, 4)


def test_boxes_on_the_map():
    box = torch.tensor([[100.0, 50, 200, 150]])
    # 400 x 300 scaled to 320 x 240, and cells of 32 pixels: 10 x 8, the last row half outside.
    assert pooling.cells(box, (300, 400), (240, 320), (8, 10), 32)[0].tolist() == [2.5, 1.25, 5.0, 3.75]
    # Without padding a map may have fewer cells than that, which then cover everything.
    torch.testing.assert_close(
        pooling.cells(box, (300, 400), (240, 320), (6, 8), 32)[0], torch.tensor([2.0, 1.0, 4.0, 3.0])
    )


@pytest.mark.parametrize("shape", [(4, 5), (13, 20), (1, 1)])
def test_align_is_torchvisions(shape):
    torch.manual_seed(0)
    last = torch.randn(33, *shape)
    low = torch.rand(20, 2) * torch.tensor([shape[1], shape[0]]) * 0.7
    boxes = torch.cat([low, torch.minimum(low + torch.rand(20, 2) * 5 + 0.05, torch.tensor(shape[::-1]).float())], 1)
    boxes[0] = torch.tensor([0, 0, shape[1], shape[0]])
    found = pooling.align(last, boxes)
    bins, samples = 4, pooling.SAMPLES // 4
    expected = roi_align(last[None], [boxes], bins, 1.0, samples, aligned=True).mean((2, 3))
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    wide = last[None].to(memory_format=torch.channels_last)[0]
    torch.testing.assert_close(pooling.align(wide, boxes), expected, rtol=1e-4, atol=1e-5)


def test_peak_is_the_maximum_of_the_cells():
    last = torch.arange(2 * 4 * 5.0).view(2, 4, 5)
    found = pooling.peak(last, torch.tensor([[0.0, 0, 1, 1], [1, 1, 3, 2], [0, 0, 4, 3]]))
    assert found.tolist() == [[6, 26], [13, 33], [19, 39]]  # ends included, as Caffe has it
