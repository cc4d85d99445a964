from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn.functional import normalize

from crossmodal.core.errors import UserError
from tests.features.makers import extracted, image
from tests.features.small_towers import KINDS, hugging_face_folder

transformers = pytest.importorskip("transformers", reason="the extra is not installed")
CAPTIONS = ["A red dog runs.", "two cats and " + "a dog and " * 20, "x"]
run = partial(extracted, "transformers")


def wide_picture(folder: Path) -> str:
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 128, 3), np.uint8)).save(folder / "wide.png")
    return "wide.png"


@pytest.mark.parametrize("kind", KINDS)
def test_vectors_and_patches_are_those_of_the_library(tmp_path, kind):
    place = hugging_face_folder(tmp_path, kind)
    pictures = [wide_picture(tmp_path), *(image(tmp_path, n) for n in range(2))]
    opened = [Image.open(tmp_path / name).convert("RGB") for name in pictures]
    pixels = transformers.AutoImageProcessor.from_pretrained(place)(images=opened, return_tensors="pt")
    loader = transformers.BlipForImageTextRetrieval if kind == "blip_retrieval" else transformers.AutoModel
    model = loader.from_pretrained(place).eval()
    given = {"model": place, "batch_size": 2}
    with torch.inference_mode():
        if kind == "blip_retrieval":
            seen = model.vision_model(**pixels)
            images = normalize(model.vision_proj(seen.last_hidden_state[:, 0]), dim=-1)
        elif kind.startswith("dino"):
            seen = model(**pixels)
            images = normalize(seen.pooler_output, dim=-1)
        else:
            seen = model.vision_model(**pixels)
            images = normalize(model.get_image_features(**pixels).pooler_output, dim=-1)
    found = run(tmp_path, "image", pictures, **given)
    np.testing.assert_allclose(found.array, images, atol=1e-5)
    half = run(tmp_path, "image", pictures, **given, precision="bf16")
    assert (half.array * images.numpy()).sum(1).min() > 0.99  # cosines
    assert half.manifest["precision"] == "bf16"
    patches = run(tmp_path, "image", pictures, **given, output="patches", l2=False)
    first = FURTHER.get(kind, 0)
    for row, tokens in zip(patches.index.itertuples(), seen.last_hidden_state[:, first:].numpy(), strict=True):
        np.testing.assert_allclose(patches.array[row.row, : row.count], tokens[: row.count], atol=1e-5)
        assert len(row.boxes) == row.count
    np.testing.assert_allclose(np.stack(patches.index.iloc[0].boxes)[:2], FIRST_BOXES[kind], atol=0.01)


# Tokens before those of patches: one of the class, and those of four registers.
FURTHER = {"clip": 1, "blip": 1, "blip_retrieval": 1, "dinov2": 1, "dinov2_with_registers": 5, "dinov3_vit": 5}
SQUASHED = [[0, 0, 64, 32], [64, 0, 128, 32]]  # 128 x 64 pixels become 32 x 32, of which a patch is a half each way
# The short side of 64 pixels becomes 40, of which the middle 32 are seen: patches of 16 / 40 * 64 = 25.6 pixels.
CROPPED = [[38.4, 6.4, 64, 32], [64, 6.4, 89.6, 32]]
FIRST_BOXES = {
    "clip": CROPPED,
    "dinov2": CROPPED,
    "dinov2_with_registers": CROPPED,
    "dinov3_vit": CROPPED,
    "siglip": SQUASHED,
    "blip": SQUASHED,
    "blip_retrieval": SQUASHED,
    # At most 16 patches of 8 pixels: 128 x 64 pixels are scaled by 5/16 to 40 x 20, and the height is rounded up to 24.
    "siglip2": [[0, 0, 25.6, 21.33], [25.6, 0, 51.2, 21.33]],
}


@pytest.mark.parametrize("kind", [kind for kind in KINDS if not kind.startswith("dino")])
def test_vectors_of_sentences_are_those_of_the_library(tmp_path, kind):
    place = hugging_face_folder(tmp_path, kind)
    tokens = transformers.AutoTokenizer.from_pretrained(place)(
        CAPTIONS, padding="max_length", truncation=True, max_length=12, return_tensors="pt"
    )
    tokens.pop("token_type_ids", None)
    with torch.inference_mode():
        if kind == "blip_retrieval":
            model = transformers.BlipForImageTextRetrieval.from_pretrained(place).eval()
            expected = model.text_proj(model.text_encoder(**tokens).last_hidden_state[:, 0])
        else:
            expected = transformers.AutoModel.from_pretrained(place).eval().get_text_features(**tokens).pooler_output
    raw = run(tmp_path, "text", CAPTIONS, model=place, l2=False, batch_size=2)
    np.testing.assert_allclose(raw.array, expected, atol=1e-5)
    assert raw.manifest["context_length"] == 12
    unit = run(tmp_path, "text", CAPTIONS, model=place)
    np.testing.assert_allclose(unit.array, normalize(expected, dim=-1), atol=1e-5)


def test_weights_in_parts_and_those_of_torch_save_are_the_same(tmp_path):
    whole = Path(hugging_face_folder(tmp_path))
    parts = Path(hugging_face_folder(tmp_path / "parts", max_shard_size="8KB"))
    assert len(list(parts.glob("model-*.safetensors"))) > 1
    pickled = Path(hugging_face_folder(tmp_path / "pickled"))
    from safetensors.torch import load_file

    torch.save(load_file(pickled / "model.safetensors"), pickled / "pytorch_model.bin")
    (pickled / "model.safetensors").unlink()
    changed(whole, "config.json", attn_implementation="someone/kernels")  # which are not fetched
    hashes = set()
    for place in (whole, parts, pickled):
        found = run(tmp_path, "text", CAPTIONS, model=str(place))
        hashes.add(found.manifest["weights_sha256"])
    assert len(hashes) == 1


def test_a_name_is_fetched_only_where_that_is_permitted(tmp_path, monkeypatch):
    place = hugging_face_folder(tmp_path)
    asked = []
    monkeypatch.setattr("huggingface_hub.snapshot_download", lambda name, **more: asked.append(name) or place)
    with pytest.raises(UserError, match=r"'openai/clip' is no folder; .*download: true"):
        run(tmp_path, "text", ["a dog"], model="openai/clip")
    with pytest.raises(UserError, match="is no folder"):
        run(tmp_path, "text", ["a dog"], model="../clip/nowhere", download=True)
    assert asked == []
    run(tmp_path, "text", ["a dog"], model="openai/clip", download=True)
    assert asked == ["openai/clip"]


def changed(place: Path, name: str, **entries) -> None:
    path = place / name
    path.write_text(json.dumps({**json.loads(path.read_text()), **entries}))


def spoil_weights(place: Path) -> None:
    (place / "model.safetensors").write_bytes(b"nothing")


def drop_weights(place: Path) -> None:
    (place / "model.safetensors").unlink()


def pickle_weights(place: Path) -> None:
    drop_weights(place)
    torch.save({"a": Path("x")}, place / "pytorch_model.bin")


def leave_out(place: Path) -> None:
    from safetensors.torch import load_file, save_file

    state = load_file(place / "model.safetensors")
    del state["text_projection.weight"]
    save_file(state, place / "model.safetensors", {"format": "pt"})


def point_outside(place: Path) -> None:
    drop_weights(place)
    index = {"weight_map": {"a": "../other/model.safetensors"}}
    (place / "model.safetensors.index.json").write_text(json.dumps(index))


def list_arrays(place: Path) -> None:
    nothing = {f"a{n}": {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]} for n in range(200_000)}
    text = json.dumps(nothing).encode()
    (place / "model.safetensors").write_bytes(len(text).to_bytes(8, "little") + text)


HARM = {
    "another kind": (lambda p: changed(p, "config.json", model_type="clap"), "'clap' is none of clip, .*did you mean"),
    "code of the folder": (
        lambda p: changed(p, "config.json", model_type="mine", auto_map={"AutoModel": "code.Mine"}),
        "model_type: 'mine' is none of",
    ),
    "an adapter": (lambda p: (p / "adapter_config.json").write_text("{}"), "quantised weights or an adapter"),
    "quantised": (lambda p: changed(p, "config.json", quantization_config={"quant_method": "gptq"}), "quantised"),
    "layers without end": (
        lambda p: changed(p, "config.json", vision_config={"num_hidden_layers": 10**9}),
        "layers: found 1000000000",
    ),
    "kernels of others": (
        lambda p: changed(p, "config.json", text_config={"_attn_implementation": "someone/kernels"}),
        r"_attn_implementation: 'someone/kernels' is none of eager, sdpa",
    ),
    "a million arrays of nothing": (list_arrays, r"model\.safetensors: has a list of arrays of \d\d,\d{3},\d{3} bytes"),
    "terabytes": (
        lambda p: changed(p, "config.json", text_config={"vocab_size": 10**9, "hidden_size": 1024}),
        r"describes has 4,\d{3},\d{3},\d{3},\d{3} bytes of weights, but model\.safetensors has ",
    ),
    "no list of its own": (lambda p: (p / "config.json").write_text("[1]"), r"config\.json: expected an object"),
    "no configuration": (lambda p: (p / "config.json").unlink(), r"has no config\.json"),
    "no weights": (drop_weights, r"has neither model\.safetensors nor pytorch_model\.bin"),
    "spoilt weights": (spoil_weights, r"model\.safetensors: cannot be read as a state dict"),
    "more than arrays": (pickle_weights, r"pytorch_model\.bin: cannot be read as a state dict"),
    "weights of another model": (leave_out, r"has no text_projection\.weight \(1 arrays are missing\)"),
    "an index of files elsewhere": (point_outside, r"names '\.\./other/model\.safetensors', which is no file beside"),
    "no tokenizer": (lambda p: (p / "tokenizer.json").unlink(), "its tokenizer cannot be loaded"),
}


@pytest.mark.parametrize("name", HARM)
def test_a_damaged_or_hostile_folder(tmp_path, name):
    harm, message = HARM[name]
    place = Path(hugging_face_folder(tmp_path))
    harm(place)
    with pytest.raises(UserError, match=message) as error:
        run(tmp_path, "text", ["a dog"], model=str(place))
    assert "\n" not in str(error.value)
    if name == "terabytes":  # nor by random weights, which have no file beside them
        with pytest.raises(UserError, match=r"bytes of weights, expected at most 4,294,967,296 of random ones"):
            run(tmp_path, "text", ["a dog"], model=str(place), weights="seeded")


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ({"size": {"shortest_edge": 10**6}}, "a side of 1000000 pixels, expected at most 4096"),
        ({"crop_size": {"height": 10**6, "width": 1}}, "a side of 1000000 pixels, expected at most 4096"),
        ({"image_processor_type": "Mine", "auto_map": {"AutoImageProcessor": "code.Mine"}}, "is no image processor of"),
        (
            {"image_processor_type": "OneFormerImageProcessor", "repo_path": "a/b", "class_info_file": "c.json"},
            "'OneFormerImageProcessor' is no image processor of these models",  # it fetches or opens that file
        ),
        (
            {"size": {"shortest_edge": 2048}, "do_center_crop": False},
            "makes 805,306,368 bytes of 16 pictures, expected at most 536,870,912; set `batch_size` to 10 or less",
        ),
    ],
)
def test_an_image_processor_that_is_meant_to_harm(tmp_path, entries, message):
    place = Path(hugging_face_folder(tmp_path))
    changed(place, "preprocessor_config.json", **entries)
    with pytest.raises(UserError, match=message):
        run(tmp_path, "image", [image(tmp_path, 0)], model=str(place))


def test_sentences_need_a_text_tower(tmp_path):
    place = hugging_face_folder(tmp_path, "dinov2")
    with pytest.raises(UserError, match="of the type 'dinov2' has no text tower"):
        run(tmp_path, "text", ["a dog"], model=place)
    with pytest.raises(UserError, match="output: `patches` are those of images"):
        run(tmp_path, "text", ["a dog"], model=place, output="patches")
    with pytest.raises(UserError, match="'transformers' reads image and text items, found 'audio'"):
        run(tmp_path, "audio", ["a.wav"], model=place)


def test_a_picture_that_would_be_scaled_to_gigabytes(tmp_path):
    """Of 1,000 x 4 pixels, with the short side scaled to 40, an image would have 10,000 x 40."""
    place = hugging_face_folder(tmp_path)
    Image.new("RGB", (1000, 4)).save(tmp_path / "thin.png")
    with pytest.raises(UserError, match=r"thin\.png: is 1000 x 4 pixels, expected sides of 1:200 at most"):
        run(tmp_path, "image", ["thin.png"], model=place)


def test_a_tokenizer_that_panics_is_an_item_s_error(tmp_path, monkeypatch):
    """A panic of Rust is no `Exception`, and would end the extraction of all items."""
    panic = type("PanicException", (BaseException,), {})

    def fail(self, sentence, **options):
        raise panic("retry-limit-in-match over") if "bomb" in sentence else KeyError("other")

    place = hugging_face_folder(tmp_path)
    monkeypatch.setattr(transformers.PreTrainedTokenizerBase, "__call__", fail)
    with pytest.raises(UserError, match=r"its tokenizer fails \(retry-limit-in-match over\)"):
        run(tmp_path, "text", ["a bomb"], model=place)
