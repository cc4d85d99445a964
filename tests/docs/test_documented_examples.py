"""The examples of the documentation run: modules of the how-to pages, and blocks of params.yaml and papers/*.yaml."""

from __future__ import annotations

import sys
from importlib import util
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from PIL import Image

from crossmodal import experiments
from crossmodal.core import registry
from crossmodal.core.errors import UserError
from crossmodal.datasets import items
from crossmodal.features.engine import extraction
from crossmodal.models import base
from tests.docs.documents import ROOT, Block, blocks

MODULES = {Path(block.title).stem: block for block in blocks("python") if block.title}
YAML = blocks("yaml")


def imported(name: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """A module of a how-to page, from a file of its own."""
    path = folder / f"{name}.py"
    path.write_text(MODULES[name].text)
    spec = util.spec_from_file_location(name, path)
    module = util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, name, module)
    spec.loader.exec_module(module)
    return module


def test_the_reader_reads(tmp_path, monkeypatch):
    module = imported("bars", tmp_path, monkeypatch)
    (tmp_path / "images").mkdir()
    for n in range(10):
        Image.new("RGB", (4, 4), (n, 0, 0)).save(tmp_path / "images" / f"{n}.png")
    lines = [f"{n}.png|a picture of the shade {n}" for n in range(10)] + ["3.png|again the third"]
    (tmp_path / "captions.txt").write_text("\n".join(lines) + "\n")
    settings = module.Settings(images=tmp_path / "images", annotations=tmp_path / "captions.txt")
    module.make(settings, tmp_path / "data" / "mine", title="Mine")
    frame = items.read(tmp_path / "data" / "mine")
    assert frame.modality.value_counts().to_dict() == {"text": 11, "image": 10}
    texts = frame[frame.modality == "text"]
    assert sorted(texts.groupby("group_id").size()) == [1] * 9 + [2]
    assert set(frame.partition) == {"train", "val", "test"}
    (tmp_path / "captions.txt").write_text("0.png a picture\n")
    with pytest.raises(UserError, match="line 1"):
        module.make(settings, tmp_path / "data" / "mine", title="Mine")


def test_the_extractor_extracts(tmp_path, monkeypatch):
    module = imported("colours", tmp_path, monkeypatch)
    picture = np.zeros((4, 4, 3), np.uint8)
    picture[:2, :2] = (255, 130, 0)  # a quarter of the pixels; of two bins the second begins at 128
    Image.fromarray(picture).save(tmp_path / "one.png")
    rows = pd.DataFrame({"item_id": ["one"], "source": ["one.png"], "modality": ["image"], "partition": ["train"]})
    settings = module.Settings(bins=2)
    given = extraction.given_of(rows, tmp_path, "image", tmp_path)
    extraction.extract(
        given, module.recipe(settings, given), settings, tmp_path / "image.colours", extractor="image", threads=1
    )
    np.testing.assert_array_equal(np.load(tmp_path / "image.colours.npy"), [[0.75, 0.25, 0.75, 0.25, 1.0, 0.0]])
    with pytest.raises(UserError):
        module.recipe(settings, extraction.given_of(rows, tmp_path, "audio", tmp_path))


def test_the_model_learns(tmp_path, monkeypatch):
    module = imported("meanwords", tmp_path, monkeypatch)
    torch.manual_seed(0)
    context = base.Context({"image": (6,)}, vocabulary_size=9)
    model = module.Model(module.Settings(dim=16, lr=0.01), context)
    lengths = torch.tensor([1, 2, 3, 4])
    ids = torch.tensor([[1, 0, 0, 0], [2, 3, 0, 0], [4, 5, 6, 0], [7, 8, 1, 2]])
    batch = base.Batch({"image": torch.eye(4, 6), "text": base.Tokens(ids, lengths)}, torch.arange(4))
    (optimiser,) = model.optimisers(model.stages()[0]).values()
    for _ in range(100):
        loss = model.loss(batch, 0.5, "model")["loss"]
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert float(loss.detach()) < 0.1
    with torch.no_grad():
        texts = model.encode("text", batch, "image")
    torch.testing.assert_close(texts.norm(dim=1), torch.ones(4))
    mean = model.words.weight[[2, 3]].mean(0)  # padding counts for nothing
    torch.testing.assert_close(texts[1], mean / mean.norm())


def test_all_modules_of_the_pages_are_tested():
    assert set(MODULES) == {"bars", "colours", "meanwords"}


@pytest.fixture
def documented(tmp_path, monkeypatch):
    """The modules of the how-to pages, known as those that lie in the package are."""
    for name, kind in (("bars", "datasets"), ("colours", "features"), ("meanwords", "models")):
        imported(name, tmp_path, monkeypatch)
        monkeypatch.setitem(registry.names(kind), name, name)


@pytest.mark.usefixtures("documented")
@pytest.mark.parametrize("block", YAML, ids=str)
def test_a_block_of_yaml_is_read(block: Block):
    """As a part of params.yaml, or as a paper; blocks of experiments or claims alone are parts of a paper."""
    value = yaml.safe_load(block.text)
    if set(value) <= set(experiments.Params.model_fields):
        check_params(value)
    elif "tables" in value:
        check_paper(value)
    elif set(value) == {"experiments"}:
        for one in value["experiments"].values():
            assert experiments.Experiment(**one).model in registry.names("models")
    elif set(value) == {"claims"}:
        for one in value["claims"]:
            experiments.Claim(**one)
    else:  # lines of a data set's block
        inner = value if set(value) <= {"inputs"} else next(iter(value.values()))
        name = "flickr30k" if inner is value else next(iter(value))
        check_params({"datasets": {name: inner}})


def check_params(value: dict) -> None:
    """Merged into params.yaml; what only a reader or an extractor knows is checked by its own settings."""
    params = experiments.from_config(experiments.merge(experiments.read_yaml(ROOT / "params.yaml"), value))
    for name in value.get("datasets", {}):
        chosen = params.datasets[name]
        experiments.validated(registry.module("datasets", chosen.reader).Settings, chosen.settings, name)
    for name in value.get("extractors", {}):
        chosen = params.extractors[name]
        experiments.validated(registry.module("features", chosen.extractor).Settings, chosen.settings, name)


def check_paper(value: dict) -> None:
    paper = experiments.validated(experiments.Paper, {**value, "name": "mine"}, "a page")
    params = experiments.load(ROOT / "params.yaml")
    planned = experiments.Plan(params, {"mine": paper})
    assert len(planned.jobs) > len(paper.experiments)
    assert all(one.model in registry.names("models") for one in paper.experiments.values())


def test_the_example_of_the_library_runs_as_it_is_pasted():
    """Its numbers are those of a plain product and a plain sort."""
    (block,) = [block for block in blocks("python") if block.path.name == "evaluation.md"]
    values: dict[str, Any] = {}
    exec(block.text, values)
    images, captions = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (values["images"], values["captions"]))
    scores = captions @ images.T
    own = scores[np.arange(100), values["caption_groups"]]
    ranks = 1 + (scores > own[:, None]).sum(1)
    np.testing.assert_array_equal(values["caption_ranks"], ranks)
    best = np.where(values["caption_groups"] == np.arange(20)[:, None], scores.T, -np.inf).max(1)
    np.testing.assert_array_equal(values["image_ranks"], 1 + (best[:, None] < scores.T).sum(1))
    assert values["recalls"] == pytest.approx({k: 100 * (ranks <= k).mean() for k in (1, 5, 10)})
    order = np.argsort(-scores.T, axis=1)[:, :50]
    hits = values["caption_labels"][order] == values["image_labels"][:, None]
    at_hits = (hits.cumsum(1) / np.arange(1, 51) * hits).sum(1) / hits.sum(1)
    np.testing.assert_allclose(values["precisions"], at_hits)
    assert 0 < values["p"] < 0.01
