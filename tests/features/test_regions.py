"""Regions of small pictures through the whole extraction: rows, counts, names, and what is refused."""

from __future__ import annotations

import json
import re

import numpy as np
import pandas as pd
import pytest
import torch
import torchvision
from PIL import Image
from pydantic import ValidationError
from safetensors.torch import save_file
from torchvision.ops import roi_align
from torchvision.transforms.functional import normalize, pil_to_tensor, resize

from crossmodal.core.errors import UserError
from crossmodal.datasets import items, world
from crossmodal.features import regions
from crossmodal.features.engine import extraction, store
from crossmodal.features.networks import backbones, checkpoints, detector
from crossmodal.features.region_annotations import semantics
from tests.features.small_detector import NARROW, published

SIZES = [(90, 70), (90, 70), (64, 120), (90, 70), (100, 100)]
GIVEN = {
    "0.png": [
        {"box": [5, 5, 40, 60], "class": "dog", "attribute": "brown", "confidence": 0.4},
        {"box": [30, 10, 90, 70], "class": "cat", "attribute": None, "confidence": 0.9},
    ],
    "1.png": [],
    "2.png": [{"box": [0, 0, 10, 10], "class": "sky", "attribute": "blue"}],
    "3.png": [{"box": [n, 0, n + 20, 20], "class": f"c{n}", "confidence": n / 10} for n in range(6)],
    "4.png": [{"box": [10.5, 20.5, 60, 80], "class": "car", "confidence": 0.5}],
}


def settings(boxes: str = "annotated", **over) -> regions.Settings:
    small = {"network": "shufflenet_v2_x0_5", "weights": "seeded", "resize": 64, "longest": 160, "precision": "fp32"}
    return regions.Settings(boxes=boxes, **{**small, "batch_size": 2, "shard": 2, **over})


@pytest.fixture
def folder(tmp_path):
    """A data set's folder: five noisy pictures and their annotations."""
    rng = np.random.default_rng(0)
    (tmp_path / "raw").mkdir()
    for n, (wide, high) in enumerate(SIZES):
        coarse = Image.fromarray(rng.integers(0, 256, (6, 6, 3), np.uint8))
        coarse.resize((wide, high), Image.Resampling.BICUBIC).save(tmp_path / "raw" / f"{n}.png")
    (tmp_path / "regions.json").write_text(json.dumps(GIVEN))
    (tmp_path / "items.json").write_text(json.dumps({"regions": {"file": "regions.json"}}))
    return tmp_path


def run(folder, chosen: regions.Settings, name: str = "a", threads: int = 2, count: int = 5) -> store.Features:
    names = [f"{n}.png" for n in range(count)]
    frame = pd.DataFrame({"item_id": names, "modality": "image", "source": names})
    target = folder / "features" / f"image.{name}"
    extraction.run("regions", frame, folder / "raw", chosen, target, threads=threads, modality="image")
    return store.open_features(target)


def by_hand(folder, n: int, boxes: torch.Tensor) -> torch.Tensor:
    """torchvision's network and operator on one picture."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        m = torchvision.models.shufflenet_v2_x0_5(weights=None).eval()
    picture = Image.open(folder / "raw" / f"{n}.png")
    pixels = normalize(pil_to_tensor(resize(picture, 64)).float() / 255, backbones.MEAN, backbones.STD)[None]
    with torch.no_grad():
        for part in (m.conv1, m.maxpool, m.stage2, m.stage3, m.stage4, m.conv5):
            pixels = part(pixels)
    wide, high = picture.size
    scale = 64 / min(wide, high)
    places = boxes * torch.tensor([int(scale * wide) / wide, int(scale * high) / high] * 2) / 32
    return roi_align(pixels, [places], 8, 1.0, 1, aligned=True).mean((2, 3))


def test_annotated_regions_and_a_grid(folder):
    features = run(folder, settings(regions=4, grid=2))
    assert features.array.shape == (5, 8, 1024)
    assert features.index["count"].tolist() == [6, 5, 5, 8, 5]
    first = features.index.iloc[0]
    assert list(first["class"]) == ["cat", "dog", "", "", "", ""]
    assert list(first.attribute) == ["", "brown", "", "", "", ""]
    assert list(first.confidence) == [0.9, 0.4, 0, 0, 0, 0]
    boxes = torch.tensor(np.stack(first.boxes), dtype=torch.float32)
    assert boxes[:2].tolist() == [[30, 10, 90, 70], [5, 5, 40, 60]]
    assert boxes[2:].tolist() == [[0, 0, 45, 35], [45, 0, 90, 35], [0, 35, 45, 70], [45, 35, 90, 70]]
    np.testing.assert_allclose(features.array[0, :6], by_hand(folder, 0, boxes), rtol=1e-3, atol=1e-5)
    assert not features.array[0, 6:].any()
    assert list(features.index["class"][3])[:4] == ["c5", "c4", "c3", "c2"]  # the surest of six
    whole = features.index.iloc[1]
    assert (whole["class"][0], list(whole.boxes[0])) == ("image", [0, 0, 90, 70])
    boxes = torch.tensor(np.stack(features.index.boxes[2]), dtype=torch.float32)
    np.testing.assert_allclose(features.array[2, :5], by_hand(folder, 2, boxes), rtol=1e-3, atol=1e-5)
    manifest = features.manifest
    assert manifest["annotations"]["without_regions"] == 1
    assert manifest["annotations"]["worsened"] is None
    assert len(manifest["annotations"]["sha256"]) == 64
    assert (manifest["stride"], manifest["rows"]) == (32, 8)
    assert manifest["fallback"] == "seeded random weights"
    assert semantics.token_table(features).tokens[0] == ["cat", "brown", "dog"]


def test_a_grid_alone_and_its_maximum(folder):
    features = run(folder, settings("grid", grid=3, l2=True))
    assert features.array.shape == (5, 9, 1024)
    assert set(features.index["count"]) == {9}
    np.testing.assert_allclose(np.linalg.norm(features.array, axis=2), 1, rtol=1e-5)
    assert semantics.token_table(features).tokens.tolist() == [[]] * 5
    one = run(folder, settings("grid", grid=1, pool="max"), "b")
    mean = run(folder, settings("grid", grid=1), "c")
    assert (one.array >= mean.array - 1e-6).all()
    assert "annotations" not in one.manifest


def test_regions_are_named_by_the_classifier_of_the_network(folder, tmp_path):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = torchvision.models.shufflenet_v2_x0_5(weights=None)
    model.fc.weight.data.mul_(1_000_000)  # a network without training finds all classes about as likely
    save_file(model.state_dict(), tmp_path / "trained.safetensors")
    chosen = settings(regions=4, grid=1, names="classifier", weights=str(tmp_path / "trained.safetensors"))
    features = run(folder, chosen)
    given = run(folder, settings(regions=4, grid=1), "given")
    np.testing.assert_allclose(features.array, given.array, rtol=1e-3, atol=1e-5)
    categories = torchvision.models.ShuffleNet_V2_X0_5_Weights.DEFAULT.meta["categories"]
    seen = set()
    for row, array in zip(features.index.itertuples(), features.array, strict=True):
        chances = model.fc(torch.tensor(array[: row.count])).softmax(1).detach().numpy()
        np.testing.assert_allclose(row.confidence, chances.max(1), atol=1e-2)
        for name, attribute, chance in zip(
            row[features.index.columns.get_loc("class") + 1], row.attribute, chances, strict=True
        ):
            assert abs(chance.max() - 0.2) > 0.01, "a chance too near to the bound tells nothing"
            assert name == (categories[chance.argmax()] if chance.max() > 0.2 else "")
            assert attribute == ""
            seen.add(bool(name))
    assert seen == {True, False}
    with pytest.raises(UserError, match=r"extractors\.\*\.names: the classifier reads 1024 values, but a region has 7"):
        regions._namer(chosen, torch.device("cpu")).of(torch.zeros(2, 7))


@pytest.mark.parametrize("weights", ["seeded", "scenes", "headless", "narrow"])
def test_weights_without_a_classifier_name_nothing(folder, tmp_path, weights):
    model = torchvision.models.shufflenet_v2_x0_5(weights=None)
    state = {name: value for name, value in model.state_dict().items() if not name.startswith("fc.")}
    save_file(state, tmp_path / "headless.safetensors")
    save_file({**state, "fc.weight": torch.zeros(7, 1024), "fc.bias": torch.zeros(7)}, tmp_path / "narrow.safetensors")
    path = tmp_path / f"{weights}.safetensors"
    chosen = settings("grid", names="classifier", weights=str(path) if path.exists() else weights)
    with pytest.raises(UserError, match=r"holds no 'fc' of 1,000 classes.*trained on ImageNet"):
        regions._namer(chosen, torch.device("cpu"))


def test_batches_threads_and_order_change_nothing(folder):
    two = run(folder, settings(), threads=1)
    one = run(folder, settings(batch_size=1), "b")
    np.testing.assert_allclose(one.array, two.array, rtol=1e-4, atol=1e-6)
    for name, order, threads in (("threads", list(GIVEN), 2), ("turned", ["2.png", "0.png"], 1)):
        frame = pd.DataFrame({"item_id": order, "modality": "image", "source": order})
        target = folder / "features" / f"image.{name}"
        extraction.run(
            "regions",
            frame,
            folder / "raw",
            settings(),
            target,
            threads=threads,
            store=folder / "elsewhere",
            modality="image",
        )
    assert (folder / "features" / "image.threads.npy").read_bytes() == two.path.read_bytes()
    turned = store.open_features(folder / "features" / "image.turned")
    np.testing.assert_allclose(turned.array, two.array[[2, 0]], rtol=1e-4, atol=1e-6)


def test_bf16_is_near(folder):
    exact = run(folder, settings(), "a")
    near = run(folder, settings(precision="bf16"), "b")
    there = np.arange(exact.array.shape[1]) < exact.index["count"].to_numpy()[:, None]
    one, other = exact.array[there], near.array[there]
    cosine = (one * other).sum(1) / np.linalg.norm(one, axis=1) / np.linalg.norm(other, axis=1)
    assert cosine.min() > 0.99
    assert np.median(cosine) > 0.9999


def test_other_annotations_are_other_features(folder):
    first = run(folder, settings())
    assert run(folder, settings()).manifest["identity"] == first.manifest["identity"]
    (folder / "regions.json").write_text(json.dumps(GIVEN | {"1.png": GIVEN["0.png"]}))
    second = run(folder, settings())
    assert second.manifest["identity"] != first.manifest["identity"]
    assert second.index["count"][1] == 11


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_bad_items_are_told_or_left_out(folder):
    Image.new("RGB", (1, 1)).save(folder / "raw" / "1.png")
    Image.new("1", (10_000, 10_000)).save(folder / "raw" / "3.png")
    (folder / "raw" / "4.png").write_bytes((folder / "raw" / "4.png").read_bytes()[:300])
    bad = {"2.png": [{"box": [0, 0, 300, 10], "class": "sky"}]}
    (folder / "regions.json").write_text(json.dumps(GIVEN | bad))
    features = run(folder, settings(on_error="skip", batch_size=4))
    assert features.index.item_id.tolist() == ["0.png"]
    expected = {
        "1.png": r"1\.png: is 1 x 1 pixels; expected at least",
        "2.png": r"2\.png: the box .* of 'sky' reaches outside of the picture of 64 x 120",
        "3.png": r"3\.png: is 10000 x 10000 pixels; .* at most 50 million",
        "4.png": r"4\.png: is truncated or no image",
    }
    for one in features.manifest["skipped"]:
        assert re.search(expected.pop(one["item_id"]), one["reason"])
    assert not expected
    Image.new("RGB", (9, 2000)).save(folder / "raw" / "1.png")
    with pytest.raises(UserError, match="too narrow to be scaled to a long side of 160 with at least 32 pixels"):
        run(folder, settings(), count=2)


def test_an_image_without_regions_can_be_bad(folder):
    features = run(folder, settings(unannotated="bad", on_error="skip"))
    assert len(features.index) == 4
    assert re.search(r"has no region of 1\.png, and `unannotated: bad`", features.manifest["skipped"][0]["reason"])


def test_a_data_set_without_annotations(folder):
    (folder / "items.json").write_text("{}")
    with pytest.raises(UserError, match=r"names no `regions` file"):
        run(folder, settings())


def test_the_worlds_regions_are_worsened_and_know_what_they_hold(tmp_path):
    chosen = world.Settings(images=60, val=10, test=10)
    world.make(chosen, tmp_path, title="w")
    frame, root = items.read(tmp_path), items.root(tmp_path)
    base = {"network": "shufflenet_v2_x1_0", "weights": "world", "resize": 128, "regions": 3}
    worse, exact = regions.Settings(boxes="annotated", **base), regions.Settings(boxes="annotated", worsen=None, **base)
    for name, one in (("worse", worse), ("exact", exact)):
        extraction.run(
            "regions", frame, root, one, tmp_path / "features" / f"image.{name}", threads=2, modality="image"
        )
    worse, exact = (store.open_features(tmp_path / "features" / f"image.{name}") for name in ("worse", "exact"))
    assert worse.manifest["annotations"]["worsened"]["missed"] == 0.1
    assert {tuple(size) for size in exact.index["size"]} == {(176, 144)}
    assert worse.index["count"].sum() < exact.index["count"].sum()
    told = {word for tokens in semantics.token_table(worse).tokens for word in tokens}
    assert told - {word for tokens in semantics.token_table(exact).tokens for word in tokens}  # synonyms
    # The feature under a thing's box is of its colour: nearer to the mean of that colour than to any other's.
    rows, colours = [], []
    for features, names, attributes in zip(exact.array, exact.index["class"], exact.index.attribute, strict=True):
        rows += [features[n] for n, name in enumerate(names) if name]
        colours += [colour for name, colour in zip(names, attributes, strict=True) if name]
    rows, colours = np.array(rows), np.array(colours)
    half = len(rows) // 2
    known = sorted(set(colours[:half]))
    means = np.stack([rows[:half][colours[:half] == colour].mean(0) for colour in known])
    nearest = np.linalg.norm(rows[half:, None] - means, axis=2).argmin(1)
    assert np.mean(np.array(known)[nearest] == colours[half:]) > 0.4  # chance is an eighth


# -- detected ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory) -> str:
    path = tmp_path_factory.mktemp("weights") / "w.safetensors"
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = detector.Detector(NARROW, detector.CONVENTIONS["caffe"]).eval()
        checkpoints._settle(model)
    save_file(published(model, "caffe"), path)
    return str(path)


def detected(checkpoint: str, **over) -> regions.Settings:
    base = {"network": "resnet50", "weights": checkpoint, "proposals": 9, "precision": "fp32", "batch_size": 2}
    return regions.Settings(boxes="detected", **{**base, "resize": 64, "longest": 128, "regions": 6, **over})


def test_detected_regions(folder, checkpoint):
    features = run(folder, detected(checkpoint))
    assert features.array.shape == (5, 6, 2048)
    assert features.index["count"].tolist() == [6] * 5
    for row, size in zip(features.index.itertuples(), SIZES, strict=True):
        boxes = np.stack(row.boxes)
        assert (boxes[:, 2:] > boxes[:, :2]).all()
        assert (boxes >= 0).all()
        assert (boxes <= [*size, *size]).all()
        assert set(row.attribute) <= set(detector.names("attributes"))
        assert list(row.confidence) == sorted(row.confidence, reverse=True)
    assert set(np.concatenate(features.index["class"])) <= set(detector.names("objects"))
    manifest = features.manifest
    assert manifest["family"] == "caffe"
    assert manifest["convention"]["anchors"] == "ratio"
    assert "fallback" not in manifest
    assert all(len(tokens) >= 12 for tokens in semantics.token_table(features).tokens)
    alone = run(folder, detected(checkpoint, batch_size=1), "b", threads=1)
    assert np.array_equal(alone.array, features.array)
    few = run(folder, detected(checkpoint, least=2, confidence=0.9), "c")
    assert set(few.index["count"]) == {2}
    assert few.array[:, 2:].any() == np.False_
    np.testing.assert_array_equal(few.array[:, :2], features.array[:, :2])


def test_detection_in_lower_precision(folder, checkpoint):
    manifest = run(folder, detected(checkpoint, precision="auto"), count=1).manifest
    assert manifest["precision"] in ("bf16", "fp32")


def test_pictures_that_nothing_is_detected_in(folder, checkpoint):
    Image.new("RGB", (15, 40)).save(folder / "raw" / "0.png")
    with pytest.raises(UserError, match=r"is 15 x 40 pixels; the detector needs at least 16 per side"):
        run(folder, detected(checkpoint), count=1)
    with pytest.raises(UserError, match=r"'nowhere\.pth' is no file; `boxes: detected` takes a checkpoint"):
        run(folder, detected("nowhere.pth"))


@pytest.mark.parametrize(
    ("over", "message"),
    [
        ({"network": "mobilenet_v2"}, "is no detector's; expected resnet50, resnet101, resnet152"),
        ({"grid": 2}, "has no grid"),
        ({"least": 7}, "7 regions exceed the largest number, 6"),
        ({"longest": 40}, "less than the short side"),
        ({"names": "classifier"}, "a detector names its own regions"),
        ({"convention": "tensorflow"}, "'auto', 'caffe' or 'detectron2'"),
    ],
)
def test_settings_that_contradict_each_other(over, message):
    with pytest.raises(ValidationError, match=message):
        detected("w.pth", **over)


def test_defaults_are_the_papers():
    chosen = regions.Settings(boxes="detected", weights="w.pth")
    found = (chosen.network, chosen.most, chosen.rows, chosen.resize, chosen.longest, chosen.proposals)
    assert found == ("resnet101", 36, 36, 600, 1000, 300)
    assert (chosen.confidence, chosen.overlap) == (0.2, 0.3)
    assert regions.Settings(boxes="annotated", weights="seeded").rows == 8 + 9
    assert regions.Settings(boxes="grid", weights="seeded").rows == 36
    assert extraction.Settings.model_fields["on_error"].default == "stop"
