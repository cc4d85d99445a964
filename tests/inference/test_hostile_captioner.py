"""A captioner that others have made and changed by hand describes a picture, or is refused in one line."""

import json
import re
import shutil

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from PIL import Image
from safetensors.torch import load_file, save_file

from crossmodal.core import registry
from crossmodal.core.errors import UserError
from crossmodal.core.files import sha256_file, write_json
from crossmodal.features.engine import store
from crossmodal.inference import description
from crossmodal.inference.opened import OpenedRun
from crossmodal.language.tokens import SPECIAL, Vocabulary
from crossmodal.models import base
from crossmodal.reporting.page import descriptions

WORDS = ("<img src=x onerror=alert(1)>", "\x1b]8;;http://x\x1b\\link\x1b[31m", "'><script>", "\u202eabc\x00\x07")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Runs by name, of random weights, and their data: two pictures and their features."""
    root = tmp_path_factory.mktemp("captioners")
    data = root / "data" / "toy"
    (data / "features").mkdir(parents=True)
    vectors = np.random.default_rng(0).standard_normal((2, 6)).astype(np.float32)
    np.save(data / "features" / "image.raw.npy", vectors)
    store.save(data / "features" / "image.raw", ["a", "b"], {})
    rows = {"item_id": ["a", "b"], "modality": ["image"] * 2, "source": ["a.png", "b.png"]}
    pd.DataFrame(rows).to_parquet(data / "items.parquet")
    write_json(data / "items.json", {"root": "."})
    for name in "ab":
        Image.new("RGB", (40, 30), (200, 30, 30)).save(data / f"{name}.png")
    vocabulary = Vocabulary((*SPECIAL, *WORDS))
    context = base.Context({"image": (6,)}, len(vocabulary), groups=torch.arange(2))
    for name, changed in (("nic", {"dim": 8, "word_dim": 4, "beam": 2}), ("farhadi", {}), ("consensus", {})):
        folder = root / name
        folder.mkdir()
        module = registry.module("models", name)
        settings = module.Settings(**changed)
        model = module.Model(settings, context)
        if name != "nic":
            ids = torch.tensor([[2, 4, 5, 3], [2, 6, 7, 3]])
            tokens = base.Tokens(ids, torch.tensor([4, 4]))
            batch = base.Batch({"image": torch.from_numpy(vectors), "text": tokens}, groups=torch.arange(2))
            model.fit([batch])
        save_file({k: v.contiguous() for k, v in model.state_dict().items()}, folder / "model.safetensors")
        vocabulary.save(folder / "vocabulary.json")
        write_json(folder / "manifest.json", {"context": base.described(context), "data": {}})
        job = {"dataset": "toy", "split": "full", "model": name, "seed": 0, "inputs": {"image": "raw"}}
        (folder / "config.yaml").write_text(yaml.safe_dump(job | {"settings": settings.model_dump(mode="json")}))
        signed(folder)
    return root


def signed(folder):
    """The manifest with the hash of the weights as they are."""
    manifest = json.loads((folder / "manifest.json").read_text())
    write_json(folder / "manifest.json", manifest | {"weights_sha256": sha256_file(folder / "model.safetensors")})


@pytest.fixture
def run(made, tmp_path):
    """The folder of a copy of a run, and what describes an item by it."""

    def of(name):
        folder = shutil.copytree(made / name, tmp_path / name)
        return folder, lambda **more: description.describe(OpenedRun(folder, made / "data"), items=["a"], **more)

    return of


def assert_one_line_or_captions(describe):
    try:
        pictures, message = describe().pictures, ""
    except UserError as error:
        pictures, message = [], str(error)
    assert bool(message) != (len(pictures) == 1)
    assert "\n" not in message


def test_words_of_markup_and_control_characters_are_text(run, tmp_path, capsys):
    folder, describe = run("nic")
    weights = load_file(folder / "model.safetensors")
    bias = next(key for key, value in weights.items() if value.shape == (8,) and "word" in key and "bias" in key)
    weights[bias] = torch.tensor([0.0, 0, 0, -50, 9, 9, 9, 9])
    save_file(weights, folder / "model.safetensors")
    signed(folder)
    found = describe()
    assert found.pictures[0].words
    for as_json in (False, True):
        descriptions.show(found, as_json=as_json)
        assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f\u202e]", capsys.readouterr().out)
    descriptions.write(found, tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text()
    assert "<img src=x" not in page
    assert "<script>" not in page
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f\u202e]", page)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"beam": 10**9}, r"config\.yaml: settings: beam: Input should be less than or equal to 100"),
        ({"longest": 10**9}, r"config\.yaml: settings: longest: Input should be less than or equal to 500"),
        ({"longest": -1}, r"config\.yaml: settings: longest"),
    ],
)
def test_a_beam_or_a_caption_without_end(run, settings, message):
    folder, describe = run("nic")
    config = yaml.safe_load((folder / "config.yaml").read_text())
    (folder / "config.yaml").write_text(yaml.safe_dump(config | {"settings": config["settings"] | settings}))
    with pytest.raises(UserError, match=message) as error:
        describe()
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("words", [[*SPECIAL, "x" * 10_001], [*SPECIAL, *["x"] * 2**20]], ids=["long", "many"])
def test_a_vocabulary_without_end(run, words):
    folder, describe = run("nic")
    write_json(folder / "vocabulary.json", {"words": words})
    with pytest.raises(UserError, match=r"vocabulary\.json: has [\d,]+ words of up to [\d,]+ characters, expected"):
        describe()


@pytest.mark.parametrize("name", ["farhadi", "consensus"])
@pytest.mark.parametrize(
    ("table", "value"),
    [
        *(("group", 10**12), ("group", -(10**12)), ("group", 0), ("lengths", 10**12), ("lengths", -5)),
        *(("captions", 10**9), ("captions", -7), ("images", float("nan"))),
    ],
)
def test_odd_tables_among_the_weights(run, name, table, value):
    folder, describe = run(name)
    weights = load_file(folder / "model.safetensors")
    weights[table] = torch.full_like(weights[table], value)
    save_file(weights, folder / "model.safetensors")
    signed(folder)
    assert_one_line_or_captions(describe)


@pytest.mark.parametrize("dtype", [torch.float64, torch.int8, torch.bool, torch.complex64, torch.float8_e4m3fn])
def test_weights_of_another_type(run, dtype):
    folder, describe = run("nic")
    weights = {key: value.to(dtype) for key, value in load_file(folder / "model.safetensors").items()}
    save_file(weights, folder / "model.safetensors")
    signed(folder)
    assert_one_line_or_captions(describe)
