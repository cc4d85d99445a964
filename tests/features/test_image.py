"""Image extraction against plain torchvision, and what it does with kills, threads and bad files."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import torchvision
from PIL import Image
from pydantic import ValidationError
from safetensors.torch import load_file
from torch import nn
from torchvision import transforms

from crossmodal.core import cores
from crossmodal.core.errors import UserError
from crossmodal.features import image
from crossmodal.features.engine import extraction, store
from crossmodal.features.networks import backbones

SHARED = Path(__file__).parents[3] / "shared" / "data"
SMALL = {"network": "shufflenet_v2_x0_5", "weights": "seeded", "resize": 72, "crop": 64}
MODES = ["RGB", "L", "CMYK", "RGB", "RGBA", "P", "LA", "RGB", "1", "RGB", "RGB"]
CPU = torch.device("cpu")


def settings(**over) -> image.Settings:
    return image.Settings(**{**SMALL, "precision": "fp32", "batch_size": 2, "shard": 4, **over})


def frame(names: list[str]) -> pd.DataFrame:
    rows = [{"item_id": f"i{name}", "modality": "image", "source": name} for name in names]
    return pd.DataFrame([*rows, {"item_id": "t", "modality": "text", "source": "A caption."}])


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Eleven blurred pictures of several sizes and kinds."""
    folder = tmp_path_factory.mktemp("images")
    rng = np.random.default_rng(0)
    for n, mode in enumerate(MODES):
        coarse = Image.fromarray(rng.integers(0, 256, (7, 9, 3), np.uint8))
        picture = coarse.resize((90 + 7 * n, 140 - 6 * n), Image.Resampling.BICUBIC).convert(mode)
        exif = Image.Exif()
        exif[0x0112] = 6  # says: turn by 90 degrees
        extra = {"exif": exif} if n == 0 else {}
        picture.save(folder / f"{n}.{'jpg' if mode in ('RGB', 'L', 'CMYK') else 'png'}", **extra)
    return folder


@pytest.fixture(scope="module")
def names(folder) -> list[str]:
    return sorted((p.name for p in folder.iterdir()), key=lambda name: int(name.split(".")[0]))


def run(folder: Path, names: list[str], target: Path, threads: int = 2, **over) -> np.ndarray:
    extraction.run("image", frame(names), folder, settings(**over), target, threads=threads, modality="image")
    return np.array(store.open_features(target).array)


def plain(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    model = torchvision.models.shufflenet_v2_x0_5(weights=None)
    model.fc = nn.Identity()
    return model.eval()


TRANSFORM = transforms.Compose(
    [
        transforms.Resize(72),
        transforms.CenterCrop(64),
        transforms.ToTensor(),
        transforms.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    ]
)


@torch.no_grad()
def by_hand(folder: Path, names: list[str]) -> np.ndarray:
    return plain()(torch.stack([TRANSFORM(Image.open(folder / name).convert("RGB")) for name in names])).numpy()


def test_equals_plain_torchvision(folder, names, tmp_path):
    expected = by_hand(folder, names)
    np.testing.assert_allclose(run(folder, names, tmp_path / "image.a", l2=False), expected, rtol=1e-3, atol=1e-5)
    unit = run(folder, names, tmp_path / "image.b")
    np.testing.assert_allclose(unit, expected / np.linalg.norm(expected, axis=1, keepdims=True), atol=1e-5)
    features = store.open_features(tmp_path / "image.b")
    assert features.rows([f"i{names[3]}"]).tolist() == [3]
    assert len(features.index) == len(names)
    manifest = features.manifest
    assert manifest["fallback"] == "seeded random weights"
    assert manifest["precision"] == "fp32"
    assert manifest["shape"] == [11, 1024]
    assert manifest["transform"]["crop"] == 64
    assert len(manifest["weights_sha256"]) == len(manifest["inputs_sha256"]) == len(manifest["items_sha256"]) == 64
    assert manifest["items_a_second"] > 0
    assert [p.name for p in tmp_path.iterdir() if p.name.startswith(".")] == [".features"]


def test_bf16_is_near(folder, names, tmp_path):
    unit = run(folder, names, tmp_path / "image.a", precision="bf16")
    expected = by_hand(folder, names)
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    assert (unit * expected).sum(1).min() >= 0.999
    assert unit.dtype == np.float32


def test_auto_leaves_bf16_where_it_is_not_near(folder, names, tmp_path, monkeypatch):
    monkeypatch.setattr(backbones, "precision_of", lambda *_: "bf16")
    run(folder, names[:2], tmp_path / "image.a", precision="auto")
    monkeypatch.setattr(backbones, "LEAST_COSINE", 1.1)
    run(folder, names[:2], tmp_path / "again" / "image.a", precision="auto")
    assert store.open_features(tmp_path / "image.a").manifest["precision"] == "bf16"
    assert store.open_features(tmp_path / "again" / "image.a").manifest["precision"] == "fp32"


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_the_same_bits_with_any_number_of_threads(folder, names, tmp_path, monkeypatch, precision):
    monkeypatch.setattr(cores, "available", lambda: 3)
    torch.set_num_threads(2)
    for threads in (1, 3):
        run(folder, names, tmp_path / f"image.{threads}", threads=threads, precision=precision)
    assert torch.get_num_threads() == 2
    assert (tmp_path / "image.1.npy").read_bytes() == (tmp_path / "image.3.npy").read_bytes()
    run(folder, names, tmp_path / "image.shard", shard=7, precision=precision)
    assert (tmp_path / "image.1.npy").read_bytes() == (tmp_path / "image.shard.npy").read_bytes()


def test_goes_on_after_a_kill(folder, names, tmp_path, monkeypatch):
    unbroken = run(folder, names, tmp_path / "whole" / "image.a")
    decode, seen = image.decode, []

    def killed(path, chosen):
        if path.name == names[9]:
            raise KeyboardInterrupt
        return decode(path, chosen)

    def counted(path, chosen):
        seen.append(path.name)
        return decode(path, chosen)

    target = tmp_path / "image.a"
    monkeypatch.setattr(image, "decode", killed)
    with pytest.raises(KeyboardInterrupt):
        run(folder, names, target, threads=1)
    done = sorted(path.name.split(".")[0] for path in (tmp_path / ".image.a.shards").glob("*/*.npy"))
    assert done == ["0", "4"]
    assert not (tmp_path / "image.a.json").exists()
    monkeypatch.setattr(image, "decode", counted)
    assert np.array_equal(run(folder, names, target), unbroken)
    assert sorted(seen) == sorted(names[8:])
    assert (tmp_path / "image.a.npy").read_bytes() == (tmp_path / "whole" / "image.a.npy").read_bytes()
    whole, resumed = (
        json.loads(p.read_text()) for p in (tmp_path / "whole" / "image.a.json", tmp_path / "image.a.json")
    )
    assert whole["inputs_sha256"] == resumed["inputs_sha256"]
    assert not (tmp_path / ".image.a.shards").exists()


def test_shards_of_other_settings_are_not_taken(folder, names, tmp_path, monkeypatch):
    decode = image.decode

    def killed(path, chosen):
        if path.name == names[9]:
            raise KeyboardInterrupt
        return decode(path, chosen)

    monkeypatch.setattr(image, "decode", killed)
    with pytest.raises(KeyboardInterrupt):
        run(folder, names, tmp_path / "image.a", threads=1)
    monkeypatch.setattr(image, "decode", decode)
    found = run(folder, names, tmp_path / "image.a", seed=5)
    assert np.array_equal(found, run(folder, names, tmp_path / "image.b", seed=5))


def test_ten_crops_against_a_loop(folder, names, tmp_path):
    expected = []
    model = plain()
    for name in names:
        picture = transforms.functional.resize(Image.open(folder / name).convert("RGB"), 72)
        w, h = picture.size
        corners = [(0, 0), (w - 64, 0), (0, h - 64), (w - 64, h - 64), (round((w - 64) / 2), round((h - 64) / 2))]
        both = (picture, picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT))
        crops = [one.crop((x, y, x + 64, y + 64)) for one in both for x, y in corners]
        with torch.no_grad():
            mean = model(torch.stack([TRANSFORM.transforms[3](TRANSFORM.transforms[2](c)) for c in crops])).mean(0)
        expected.append(nn.functional.normalize(mean, dim=0).numpy())
    found = run(folder, names, tmp_path / "image.a", crops="ten", batch_size=20)
    np.testing.assert_allclose(found, np.stack(expected), atol=1e-5)
    assert "before the norm" in store.open_features(tmp_path / "image.a").manifest["transform"]["crops"]


@pytest.mark.parametrize("harm", ["truncated", "text", "missing", "empty"])
def test_a_bad_image_is_named(folder, names, tmp_path, harm):
    for name in names:
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    bad = tmp_path / names[7]
    data = bad.read_bytes()
    if harm == "missing":
        bad.unlink()
    else:
        bad.write_bytes({"truncated": data[: len(data) // 2], "text": b"not found", "empty": b""}[harm])
    with pytest.raises(UserError, match=rf"{bad.name}: (not found|is truncated or no image)"):
        run(tmp_path, names, tmp_path / "image.a")
    assert not (tmp_path / "image.a.json").exists()
    if harm != "missing":
        bad.write_bytes(data)
        run(tmp_path, names, tmp_path / "image.a")


def test_no_items_of_the_modality(folder, tmp_path):
    with pytest.raises(UserError, match="no image items"):
        run(folder, [], tmp_path / "image.a")


def test_features_that_are_no_numbers(folder, names, tmp_path):
    model = torchvision.models.shufflenet_v2_x0_5(weights=None)
    model.conv5[0].weight.data[0] = torch.nan
    torch.save(model.state_dict(), tmp_path / "w.pth")
    with pytest.raises(UserError, match="not finite numbers"):
        run(folder, names, tmp_path / "image.a", weights=str(tmp_path / "w.pth"))


def test_settings_that_cannot_be():
    with pytest.raises(ValidationError, match="did you mean 'resnet152'"):
        settings(network="resnet15")
    with pytest.raises(ValidationError, match="do not fit"):
        settings(crop=80)
    with pytest.raises(ValidationError, match="rezize"):
        settings(rezize=80)


# -- real photographs -------------------------------------------------------------------------------------------------


@pytest.mark.skipif(not SHARED.is_dir(), reason="no ../shared/data beside the checkout")
def test_real_weights_see_the_dogs(tmp_path):
    """ImageNet's classes 151 to 268 are dogs; photographs whose five captions all say dog are to be among them."""
    told = json.loads((SHARED / "flickr8k-1000" / "dataset_flickr8k.json").read_text())["images"]
    dogs = [i for i in told if all("dog" in s["raw"].lower().split() for s in i["sentences"])][:12]
    names = [i["filename"] for i in dogs]
    path = SHARED / "weights" / "mobilenet_v2-imagenet.safetensors"
    chosen = image.Settings(network="mobilenet_v2", weights=str(path), l2=False, precision="fp32")
    root = SHARED / "flickr8k-1000" / "images"
    extraction.run("image", frame(names), root, chosen, tmp_path / "image.a", threads=2, modality="image")
    found = torch.from_numpy(np.array(store.open_features(tmp_path / "image.a").array))
    state = {name: value.float() for name, value in load_file(path).items()}
    classes = (found @ state["classifier.1.weight"].T + state["classifier.1.bias"]).argmax(1)
    assert ((classes >= 151) & (classes <= 268)).float().mean() >= 0.75
    model = torchvision.models.mobilenet_v2(weights=None)
    model.load_state_dict(state)
    preset = torchvision.models.MobileNet_V2_Weights.IMAGENET1K_V1.transforms()
    batch = torch.stack([preset(Image.open(root / name).convert("RGB")) for name in names[:3]])
    with torch.no_grad():
        expected = model.eval().features(batch).mean((2, 3))
    torch.testing.assert_close(found[:3], expected, atol=1e-3, rtol=1e-3)
