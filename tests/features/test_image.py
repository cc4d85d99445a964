import logging
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import torchvision
from PIL import Image
from safetensors.torch import save_file
from torchvision import transforms

from crossmodal.datasets import world
from crossmodal.errors import UserError
from crossmodal.features import image, store
from crossmodal.files import read_json, sha256_file

SMALL = {"network": "shufflenet_v2_x0_5", "weights": "seeded", "resize": 72, "crop": 64}
SHARED = Path(__file__).parents[3] / "shared" / "data"


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """Twenty scenes as files, among them a grey one, and their items."""
    folder = tmp_path_factory.mktemp("pictures")
    for index in range(20):
        picture = world.draw_scene(1, index)[0]
        (picture.convert("L") if index == 3 else picture).save(folder / f"{index}.jpg")
    ids = [str(i) for i in range(20)]
    return folder, pd.DataFrame({"item_id": ids, "modality": "image", "source": [f"{i}.jpg" for i in ids]})


def extract(pictures, target, threads=2, **settings):
    folder, items = pictures
    image.extract(items, folder, image.Settings(**{**SMALL, **settings}), target, threads=threads)
    return store.open_features(target)


def reference(pictures, settings, crops=lambda t: t.unsqueeze(0)):
    """torchvision's own transforms and network in float32, one image at a time."""
    folder, items = pictures
    model, _ = image.build(settings)
    prepare = transforms.Compose(
        [transforms.Resize(settings.resize), transforms.ToTensor(), transforms.Normalize(image.MEAN, image.STD)]
    )
    rows = []
    with torch.no_grad():
        for name in items.source:
            pixels = prepare(Image.open(folder / name).convert("RGB"))
            rows.append(torch.nn.functional.normalize(model(crops(pixels)).mean(0), dim=0))
    return torch.stack(rows).numpy()


def test_equals_torchvision(pictures, tmp_path):
    settings = image.Settings(**SMALL, precision="fp32")
    expected = reference(pictures, settings, lambda t: transforms.functional.center_crop(t, 64).unsqueeze(0))
    found = extract(pictures, tmp_path / "image.x", precision="fp32").array
    np.testing.assert_allclose(found, expected, atol=2e-5)


def test_ten_crop_is_the_mean_over_ten(pictures, tmp_path):
    settings = image.Settings(**SMALL, precision="fp32", crops="ten")
    expected = reference(pictures, settings, lambda t: torch.stack(transforms.functional.ten_crop(t, 64)))
    found = extract(pictures, tmp_path / "image.x", precision="fp32", crops="ten").array
    np.testing.assert_allclose(found, expected, atol=2e-5)


def test_bf16_is_near_fp32(pictures, tmp_path):
    weights = {"network": "shufflenet_v2_x1_0", "weights": "world", "resize": 128, "crop": 128}
    exact = extract(pictures, tmp_path / "image.a", precision="fp32", **weights).array
    rough = extract(pictures, tmp_path / "image.b", precision="bf16", **weights).array
    assert (exact * rough).sum(1).min() > 0.999


def test_bits_do_not_depend_on_threads(pictures, tmp_path):
    one = extract(pictures, tmp_path / "image.a", threads=1, batch_size=3)
    many = extract(pictures, tmp_path / "image.b", threads=3, batch_size=3)
    assert one.manifest["sha256"] == many.manifest["sha256"]


def test_goes_on_where_it_was_cut_off(pictures, tmp_path, monkeypatch):
    unbroken = extract(pictures, tmp_path / "image.a", shard=8, batch_size=4)
    seen, real = [], image.decode

    def failing(path, settings):
        seen.append(path.name)
        if len(seen) > 12:
            raise KeyboardInterrupt
        return real(path, settings)

    monkeypatch.setattr(image, "decode", failing)
    with pytest.raises(KeyboardInterrupt):
        extract(pictures, tmp_path / "image.b", threads=1, shard=8, batch_size=4)
    assert not (tmp_path / "image.b.json").exists()
    again = []
    monkeypatch.setattr(image, "decode", lambda path, s: again.append(path.name) or real(path, s))
    resumed = extract(pictures, tmp_path / "image.b", shard=8, batch_size=4)
    assert "0.jpg" not in again
    assert len(again) == 12
    assert resumed.manifest["sha256"] == unbroken.manifest["sha256"]
    assert not list(tmp_path.glob(".*shards"))


def test_truncated_and_missing_images_are_named(pictures, tmp_path):
    folder, items = pictures
    data = (folder / "0.jpg").read_bytes()
    (tmp_path / "0.jpg").write_bytes(data[: len(data) // 2])
    settings = image.Settings(**SMALL)
    with pytest.raises(UserError, match=r"0\.jpg: is truncated"):
        image.extract(items[:1], tmp_path, settings, tmp_path / "image.x", threads=1)
    with pytest.raises(UserError, match=r"1\.jpg: not found"):
        image.extract(items[:2], tmp_path, settings, tmp_path / "image.x", threads=1)
    assert not (tmp_path / "image.x.npy").exists()


def test_weights_of_another_network_are_refused(tmp_path):
    save_file(torchvision.models.resnet18().state_dict(), tmp_path / "w.safetensors")
    with pytest.raises(UserError, match="weights of another network"):
        image.build(image.Settings(network="shufflenet_v2_x0_5", weights=str(tmp_path / "w.safetensors")))


def test_unknown_network_and_weights():
    with pytest.raises(UserError, match="did you mean 'resnet152'"):
        image.build(image.Settings(network="resnet-152", weights="seeded"))
    with pytest.raises(UserError, match="IMAGENET1K_V1"):
        image.build(image.Settings(network="resnet18", weights="nowhere.pth"))


def test_weights_with_folded_batch_norms(tmp_path):
    torch.manual_seed(0)
    network = torchvision.models.resnet18().eval()
    state = {}
    for _name, module in network.named_modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2)
    pairs = [("conv1", "bn1")] + [
        (f"{n}.conv{i}", f"{n}.bn{i}") for n, m in network.named_modules() if hasattr(m, "conv2") for i in (1, 2)
    ]
    pairs += [(f"{n}.0", f"{n}.1") for n, m in network.named_modules() if n.endswith("downsample")]
    for conv, norm in pairs:
        fused = torch.nn.utils.fuse_conv_bn_eval(network.get_submodule(conv), network.get_submodule(norm))
        state |= {f"{conv}.weight": fused.weight.detach(), f"{conv}.bias": fused.bias.detach()}
    save_file(state, tmp_path / "w.safetensors")
    built, _ = image.build(image.Settings(network="resnet18", weights=str(tmp_path / "w.safetensors")))
    network.fc = torch.nn.Identity()
    x = torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(built(x), network(x), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(
    ("network", "dim"), [("resnet152", 2048), ("mobilenet_v2", 1280), ("vgg11", 4096), ("vit_b_16", 768)]
)
def test_dimension_before_the_classifier(network, dim):
    model, facts = image.build(image.Settings(network=network, weights="seeded"))
    with torch.no_grad():
        assert model(torch.zeros(1, 3, 224, 224)).shape == (1, dim)
    assert "random" in facts["fallback"]


def test_the_committed_backbone_is_what_its_manifest_says():
    manifest = read_json(image.WORLD.with_suffix(".json"))
    assert sha256_file(image.WORLD) == manifest["sha256"]
    assert image.WORLD.stat().st_size < 8e6
    assert manifest["settings"]["seed"] != 1


@pytest.mark.parametrize("damage", ["truncate", "flip", "index", "manifest"])
def test_damaged_features_are_noticed(pictures, tmp_path, damage):
    target = tmp_path / "image.x"
    extract(pictures, target)
    array, index, manifest = store.paths(target)
    if damage == "truncate":
        array.write_bytes(array.read_bytes()[:-100])
    elif damage == "flip":
        data = bytearray(array.read_bytes())
        data[-7] ^= 1
        array.write_bytes(data)
    elif damage == "index":
        frame = pd.read_parquet(index)
        frame.assign(row=frame.row[::-1].to_numpy()).to_parquet(index)
    else:
        manifest.unlink()
    with pytest.raises(UserError, match=r"image\.x\.(npy|parquet|json)"):
        store.open_features(target)


def test_an_item_without_features(pictures, tmp_path):
    with pytest.raises(UserError, match="'nobody'"):
        extract(pictures, tmp_path / "image.x").rows(["0", "nobody"])


@pytest.mark.skipif(not SHARED.is_dir(), reason="the weights are not beside the checkout")
def test_real_weights_on_a_real_photograph(caplog):
    caplog.set_level(logging.INFO)
    settings = image.Settings(
        network="mobilenet_v2", weights=str(SHARED / "weights" / "mobilenet_v2-imagenet.safetensors")
    )
    model, facts = image.build(settings)
    assert "fallback" not in facts
    folder = SHARED / "flickr8k-1000" / "images"
    paths = sorted(folder.iterdir())[:12]
    pixels = torch.stack([image.decode(path, settings)[0] for path in paths])
    exact = image.forward(model, pixels, settings, torch.device("cpu"), "fp32")
    rough = image.forward(
        image.prepare(model, "bf16", torch.device("cpu")), pixels, settings, torch.device("cpu"), "bf16"
    )
    assert (exact * rough).sum(1).min() > 0.99
    assert (exact @ exact.T).fill_diagonal_(0).max() < 0.9  # trained: photographs are told apart
