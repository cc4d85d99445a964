"""Networks with weights from a file, by name and seeded, and what is said of weights that do not fit."""

from __future__ import annotations

import hashlib
import pathlib
import pickle
import time
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
import torchvision
from safetensors.torch import save_file
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

from crossmodal.core import limits
from crossmodal.core.errors import UserError
from crossmodal.features import image
from crossmodal.features.networks import backbones

CPU = torch.device("cpu")


def settings(**over) -> image.Settings:
    small = {"network": "shufflenet_v2_x0_5", "weights": "seeded", "resize": 72, "crop": 64, "precision": "fp32"}
    return image.Settings(**{**small, **over})


def test_networks_and_weights_that_cannot_be():
    with pytest.raises(UserError, match="no linear classifier"):
        backbones.build(settings(network="squeezenet1_1"))
    with pytest.raises(UserError, match=r"'IMAGENET1K_V9' is neither a file nor .*IMAGENET1K_V1"):
        backbones.build(settings(weights="IMAGENET1K_V9"))


@pytest.mark.parametrize(
    ("network", "width"),
    [
        ("resnet152", 2048),
        ("mobilenet_v2", 1280),
        ("shufflenet_v2_x1_0", 1024),
        ("efficientnet_b0", 1280),
        ("vit_b_16", 768),
        ("convnext_tiny", 768),
        ("densenet121", 1024),
        ("vgg16", 4096),
        ("swin_t", 768),
        ("inception_v3", 2048),
    ],
)
def test_the_layer_before_the_classifier(network, width):
    with torch.device("meta"):
        model = torchvision.models.get_model(network, weights=None)
    head = model.get_submodule(backbones._classifier(model, network))
    assert (head.in_features, head.out_features) == (width, 1000)


def saved(path: Path, state: dict[str, torch.Tensor]) -> str:
    save_file({name: value.contiguous() for name, value in state.items()}, path)
    return str(path)


def stirred() -> nn.Module:
    """A network whose batch norms do something."""
    torch.manual_seed(3)
    model = torchvision.models.shufflenet_v2_x0_5(weights=None).eval()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 2)
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, 0, 0.1)
    return model


def test_weights_with_folded_batch_norms(tmp_path):
    model = stirred()
    state = model.state_dict()
    modules = [(n, m) for n, m in model.named_modules() if isinstance(m, (nn.Conv2d, nn.BatchNorm2d))]
    for (conv, a), (norm, b) in zip(modules[::2], modules[1::2], strict=True):
        weight, bias = fuse_conv_bn_weights(a.weight, None, b.running_mean, b.running_var, b.eps, b.weight, b.bias)
        state |= {f"{conv}.weight": weight.detach(), f"{conv}.bias": bias.detach()}
        state = {name: value for name, value in state.items() if not name.startswith(f"{norm}.")}
    path = saved(tmp_path / "folded.safetensors", state)
    pixels = torch.randint(0, 256, (2, 3, 64, 64), dtype=torch.uint8)
    chosen = settings(weights=path)
    model.fc = nn.Identity()
    found = image.forward(backbones.build(chosen)[0], pixels, chosen, CPU, "fp32")
    torch.testing.assert_close(found, image.forward(model, pixels, chosen, CPU, "fp32"), atol=1e-5, rtol=1e-4)
    del state["conv5.0.bias"]  # half folded is not folded
    with pytest.raises(UserError, match=r"is missing.*differences"):
        backbones.build(settings(weights=saved(tmp_path / "half.safetensors", state)))


def test_weights_without_or_with_another_classifier(tmp_path):
    model = stirred()
    state = model.state_dict()
    body = {name: value for name, value in state.items() if not name.startswith("fc.")}
    other = {**body, "fc.weight": torch.zeros(7, 1024), "fc.bias": torch.zeros(7)}
    built = []
    for name, kept in (("body", body), ("other", other)):
        path = saved(tmp_path / f"{name}.safetensors", kept)
        built.append(backbones.build(settings(weights=path))[0].state_dict())
    half = {name: value.half() if value.is_floating_point() else value for name, value in state.items()}
    torch.save({"state_dict": {f"module.{name}": value for name, value in half.items()}}, tmp_path / "half.pth")
    loaded = backbones.build(settings(weights=str(tmp_path / "half.pth")))[0].state_dict()
    for name, value in body.items():
        assert torch.equal(built[0][name], value)
        assert torch.equal(built[1][name], value)
        torch.testing.assert_close(loaded[name].float(), value.float(), atol=1e-3, rtol=1e-3)


def test_weights_of_another_network(tmp_path):
    path = saved(tmp_path / "w.safetensors", stirred().state_dict())
    with pytest.raises(
        UserError, match=r"w\.safetensors: holds weights of another network than 'mobilenet_v2'.*missing"
    ):
        backbones.build(settings(network="mobilenet_v2", weights=path))
    with pytest.raises(UserError, match=r"stage2\.0\.branch1\.2\.weight is \(24, .*expected \(58, "):
        backbones.build(settings(network="shufflenet_v2_x1_0", weights=path))
    (tmp_path / "broken.safetensors").write_bytes(b"\0" * 30)
    with pytest.raises(UserError, match=r"broken\.safetensors: cannot be read"):
        backbones.build(settings(weights=str(tmp_path / "broken.safetensors")))


def test_published_weights_from_the_cache_or_an_explanation(tmp_path, monkeypatch):
    name = "shufflenetv2_x0.5-f707e7126e.pth"
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    with monkeypatch.context() as patch:

        def offline(*_, **__):
            raise OSError("no route to host")

        patch.setattr(torch.hub, "download_url_to_file", offline)
        with pytest.raises(UserError, match=rf"cannot be fetched .*place https://.*{name} at .*checkpoints/{name}"):
            backbones.build(settings(weights="IMAGENET1K_V1"))
    model = stirred()
    cached(tmp_path, monkeypatch, lambda path: torch.save(model.state_dict(), path))
    built, facts = backbones.build(settings(weights="IMAGENET1K_V1"))
    assert torch.equal(built.conv5[0].weight, model.conv5[0].weight)
    assert facts["weights"] == "IMAGENET1K_V1"
    assert "fallback" not in facts


def cached(folder, monkeypatch, save):
    """A file in torch's cache whose name tells its SHA-256 truly, as the published weights of the small network."""
    (folder / "checkpoints").mkdir(exist_ok=True)
    save(folder / "weights")
    digest = hashlib.sha256((folder / "weights").read_bytes()).hexdigest()
    path = (folder / "weights").rename(folder / "checkpoints" / f"shufflenetv2_x0.5-{digest[:10]}.pth")
    weights = torchvision.models.get_model_weights("shufflenet_v2_x0_5").IMAGENET1K_V1.value
    monkeypatch.setattr(weights, "url", f"https://download.pytorch.org/models/{path.name}")
    return path


class Planted:
    """Touches a file when it is unpickled."""

    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return pathlib.Path.touch, (self.marker,)


def test_a_planted_file_of_the_cache_does_not_run(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    marker = tmp_path / "marker"
    planted = {"conv1.0.weight": Planted(marker)}
    path = cached(tmp_path, monkeypatch, lambda path: torch.save(planted, path))
    with pytest.raises(UserError, match="IMAGENET1K_V1 of shufflenet_v2_x0_5 cannot be fetched"):
        backbones.build(settings(weights="IMAGENET1K_V1"))
    assert not marker.exists()
    torch.save(stirred().state_dict(), path)  # arrays alone, but not those of the name
    with pytest.raises(UserError, match="is not the published file"):
        backbones.build(settings(weights="IMAGENET1K_V1"))
    pickle.loads(pickle.dumps(Planted(marker)))  # what it would do
    assert marker.exists()


def test_a_seed_makes_the_weights_and_leaves_torchs_own_alone():
    torch.manual_seed(11)
    expected = torch.rand(3)
    torch.manual_seed(11)
    one, two, three = (backbones.build(settings(seed=seed))[1]["weights_sha256"] for seed in (0, 0, 1))
    assert one == two != three
    assert torch.equal(torch.rand(3), expected)


def test_a_few_bytes_of_weights_are_no_gigabytes(tmp_path, monkeypatch):
    monkeypatch.setattr(limits, "_limits", limits.Limits(unpacked=2**20))
    torch.save({"a": torch.zeros(1, dtype=torch.float16).expand(1000, 1000)}, tmp_path / "x.pth")
    with pytest.raises(UserError, match="bytes of the file would become 4,000,000 in memory"):
        backbones.read_state(tmp_path / "x.pth")
    torch.save({"a": torch.zeros(1000)}, tmp_path / "x.pth")
    with zipfile.ZipFile(tmp_path / "x.pth") as stored, zipfile.ZipFile(tmp_path / "y.pth", "w", 8) as deflated:
        for member in stored.infolist():
            deflated.writestr(member.filename, stored.read(member))
    with pytest.raises(UserError, match="arrays are compressed, which those of torch"):
        backbones.read_state(tmp_path / "y.pth")
    listed = [[0.0] * 10] * 10
    (tmp_path / "x.pkl").write_bytes(pickle.dumps({"model": {"a": listed}}))
    with pytest.raises(UserError, match="a is no array but list"):
        backbones.read_state(tmp_path / "x.pkl")


def test_batches_take_turns_on_a_gpu_alone():
    now, most = [], []

    def run(batch: int) -> int:
        now.append(batch)
        time.sleep(0.01)
        most.append(len(now))
        now.remove(batch)
        return 2 * batch

    waiting = backbones.in_turn(torch.device("cuda"), run)
    with ThreadPoolExecutor(4) as pool:
        assert [*pool.map(waiting, range(8))] == [*range(0, 16, 2)]
    assert most == [1] * 8
    assert backbones.in_turn(CPU, run) is run
