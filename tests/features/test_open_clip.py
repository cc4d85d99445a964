from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from crossmodal.core.errors import UserError
from tests.features.makers import extracted, image
from tests.features.small_clip import open_clip_folder

open_clip = pytest.importorskip("open_clip", reason="the extra is not installed")
CAPTIONS = ["A dog runs.", "two cats, and a very long caption " + "of many words " * 20, "x"]
run = partial(extracted, "open_clip")


def library(place: str):
    return open_clip.create_model_and_transforms(f"local-dir:{place}")


@pytest.mark.parametrize("form", ["folder", "safetensors", "pt"])
def test_vectors_are_those_of_the_library(tmp_path, form):
    place = open_clip_folder(tmp_path)
    weights = None if form == "folder" else f"{place}/model.{form}"
    if form == "pt":
        torch.save(
            {"state_dict": {f"module.{k}": v for k, v in load_file(f"{place}/model.safetensors").items()}}, weights
        )
    model, _, preprocess = library(place)
    model.eval()
    pictures = [image(tmp_path, n) for n in range(3)]
    given = {"model": place, "weights": weights, "batch_size": 2}
    with torch.inference_mode():
        pixels = torch.stack([preprocess(Image.open(tmp_path / name)) for name in pictures])
        images = model.encode_image(pixels, normalize=True).numpy()
        texts = model.encode_text(open_clip.get_tokenizer(f"local-dir:{place}")(CAPTIONS), normalize=True).numpy()
    found = run(tmp_path, "image", pictures, **given)
    np.testing.assert_allclose(found.array, images, atol=1e-5)
    assert found.manifest["transform"]["mean"] == [0.5, 0.4, 0.3]
    np.testing.assert_allclose(run(tmp_path, "text", CAPTIONS, **given).array, texts, atol=1e-5)
    raw = run(tmp_path, "text", CAPTIONS, **given, l2=False).array
    np.testing.assert_allclose(raw / np.linalg.norm(raw, axis=1, keepdims=True), texts, atol=1e-5)
    assert np.abs(np.linalg.norm(raw, axis=1) - 1).min() > 0.1


def test_patches_are_the_tokens_of_the_image_tower_with_their_boxes(tmp_path):
    place = open_clip_folder(tmp_path)
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 128, 3), np.uint8)).save(tmp_path / "wide.png")
    model, _, preprocess = library(place)
    tokens = []
    model.visual.ln_post.register_forward_hook(lambda module, given, out: tokens.append(out[:, 1:]))
    with torch.inference_mode():
        model.eval().encode_image(preprocess(Image.open(tmp_path / "wide.png"))[None])
    found = run(tmp_path, "image", ["wide.png"], model=place, output="patches")  # by default not scaled
    np.testing.assert_allclose(found.array, tokens[0].numpy(), atol=1e-5)
    assert found.manifest["settings"]["l2"] is False
    scaled = run(tmp_path, "image", ["wide.png"], model=place, output="patches", l2=True)
    np.testing.assert_allclose(np.linalg.norm(scaled.array, axis=2), 1, atol=1e-5)
    row = found.index.iloc[0]
    assert row["count"] == 4
    # The middle square of 64 pixels is seen: two patches of 32 pixels each way, from 32 to 96.
    expected = [[32, 0, 64, 32], [64, 0, 96, 32], [32, 32, 64, 64], [64, 32, 96, 64]]
    np.testing.assert_allclose(np.stack(row["boxes"]), expected)


HOSTILE = {
    "code of the folder": (
        {"text_cfg": {"hf_tokenizer_name": "a/b", "tokenizer_kwargs": {"trust_remote_code": True}}},
        "tokenizer_kwargs: 'trust_remote_code' is not permitted",
    ),
    "an address": (
        {"vision_cfg": {"timm_model_name": "hf-hub:a/b", "image_size": 32}},
        "timm_model_name: found 'hf-hub:a/b', expected a name",
    ),
    "a path": (
        {"text_cfg": {"hf_model_name": "../../elsewhere"}},
        "hf_model_name: found '../../elsewhere'",
    ),
    "layers without end": ({"vision_cfg": {"image_size": 32, "layers": 10**9}}, "layers: found 1000000000, expected"),
    "a list for a block": ({"text_cfg": [1]}, "is not the configuration of an open_clip model"),
    "terabytes": (
        {
            "vision_cfg": {"image_size": 32, "layers": 1, "width": 32, "head_width": 16, "patch_size": 16},
            "text_cfg": {"context_length": 16, "vocab_size": 10**9, "width": 1024, "heads": 2, "layers": 1},
        },
        r"describes has 4,\d{3},\d{3},\d{3},\d{3} bytes of weights, but model\.safetensors has ",
    ),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_folder_whose_configuration_is_meant_to_harm(tmp_path, name):
    changed, message = HOSTILE[name]
    place = Path(open_clip_folder(tmp_path))
    config = json.loads((place / "open_clip_config.json").read_text())
    config["model_cfg"] |= changed
    (place / "open_clip_config.json").write_text(json.dumps(config))
    with pytest.raises(UserError, match=message):
        run(tmp_path, "text", ["x"], model=str(place), download=True)
    if name == "terabytes":  # nor by random weights, which have no file beside them
        with pytest.raises(UserError, match=r"bytes of weights, expected at most 4,294,967,296 of random ones"):
            run(tmp_path, "text", ["x"], model=str(place), weights="seeded")


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        # 20,000 ** 2 * 4 bytes of a mask, which is no weight
        (
            {"text_cfg": {"context_length": 20_000, "width": 16, "heads": 2, "layers": 1}},
            r"describes has 1,\d{3},\d{3},\d{3}",
        ),
        ({"multimodal_cfg": {"layers": 10**9}}, "layers: found 1000000000, expected whole numbers up to 200"),
    ],
)
def test_what_a_configuration_makes_beside_its_weights(tmp_path, changed, message):
    place = Path(open_clip_folder(tmp_path))
    path = place / "open_clip_config.json"
    config = json.loads(path.read_text())
    path.write_text(json.dumps({**config, "model_cfg": {**config["model_cfg"], **changed}}))
    with pytest.raises(UserError, match=message):
        run(tmp_path, "text", ["x"], model=str(place))


def test_prompts_are_averaged_as_clip_does(tmp_path):
    place = open_clip_folder(tmp_path)
    names = ["dog", "fir", "dog"]  # an ensemble that is computed once
    prompts = ["a photo of a {}.", "a {}, drawn", "{}"]
    model = library(place)[0].eval()
    tokenizer = open_clip.get_tokenizer(f"local-dir:{place}")
    expected = []
    with torch.inference_mode():
        for name in names:
            sentences = tokenizer([f"a photo of a {name}.", f"a {name}, drawn", name])
            mean = model.encode_text(sentences, normalize=True).mean(0)
            expected.append((mean / mean.norm()).numpy())
    found = run(tmp_path, "text", names, model=place, prompts=prompts, batch_size=2)
    np.testing.assert_allclose(found.array, expected, atol=1e-5)
    plain = run(tmp_path, "text", names, model=place, prompts=["{}"])
    np.testing.assert_allclose(plain.array, run(tmp_path, "text", names, model=place).array, atol=1e-6)
    with pytest.raises(ValueError, match=r"'a photo' has 0 places for a text, expected one: \{\}"):
        run(tmp_path, "text", names, model=place, prompts=["a photo"])
    with pytest.raises(UserError, match="prompts: are for texts, found image items"):
        run(tmp_path, "image", [image(tmp_path, 0)], model=place, prompts=prompts)
    with pytest.raises(UserError, match="text item 'i1' is empty"):
        run(tmp_path, "text", ["dog", " "], model=place, prompts=prompts)


@pytest.mark.parametrize(
    ("modality", "given", "message"),
    [
        (
            "image",
            {"model": "ViT-B-23", "weights": "seeded"},
            r"neither a folder nor a model of open_clip; did you mean",
        ),
        ("image", {"model": "ViT-B-32", "weights": "laion2b_e16"}, r"is no file; open_clip's names are .*laion2b_e16"),
        (
            "text",
            {"model": "xlm-roberta-base-ViT-B-32", "weights": "seeded"},
            r"needs xlm-roberta-base.*download: true",
        ),
        ("image", {"model": "ViT-B-32"}, "weights: missing for the model 'ViT-B-32', which is no folder"),
        ("image", {"weights": "broken.pt"}, r"broken\.pt: cannot be read as a state dict"),
        ("image", {"weights": "other.pt"}, "cannot be loaded as"),
        ("text", {"output": "patches"}, "output: `patches` are those of images"),
        ("audio", {}, "reads image and text items, found 'audio'"),
        ("image", {"model": "RN50", "weights": "seeded", "output": "patches"}, "has no patch tokens"),
    ],
)
def test_one_clear_error(tmp_path, monkeypatch, modality, given, message):
    place = open_clip_folder(tmp_path)
    monkeypatch.chdir(tmp_path)
    Path("broken.pt").write_bytes(b"nothing")
    torch.save({"visual.conv1.weight": torch.zeros(2)}, "other.pt")
    sources = {"image": [image(tmp_path, 0)], "text": ["a dog"], "audio": ["a.wav"]}[modality]
    with pytest.raises(UserError, match=message) as error:
        run(tmp_path, modality, sources, **{"model": place, **given})
    assert "\n" not in str(error.value)


def test_a_folder_without_weights_or_configuration(tmp_path):
    place = Path(open_clip_folder(tmp_path))
    (place / "model.safetensors").rename(place / "weights.safetensors")
    with pytest.raises(UserError, match=r"has none of open_clip_model\.safetensors"):
        run(tmp_path, "text", ["a dog"], model=str(place))
    (place / "open_clip_config.json").write_text(json.dumps([1]))
    with pytest.raises(UserError, match="is not the configuration of an open_clip model"):
        run(tmp_path, "text", ["a dog"], model=str(place))
    (place / "open_clip_config.json").unlink()
    with pytest.raises(UserError, match=r"has no open_clip_config\.json"):
        run(tmp_path, "text", ["a dog"], model=str(place))
