"""A run that others have made and changed by hand is opened, or refused in one line, before it takes memory."""

import json
import shutil

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import save_file

from crossmodal.core import registry
from crossmodal.core.errors import UserError
from crossmodal.core.files import sha256_file, write_json
from crossmodal.experiments import Job
from crossmodal.inference import folder as folders
from crossmodal.inference.opened import OpenedRun, features_of
from crossmodal.inference.run import open_run
from crossmodal.inference.search import Query, search
from crossmodal.language.tokens import SPECIAL, Vocabulary
from crossmodal.models import base
from crossmodal.runs import weights

WORDS = ("a", "red", "ball")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """The folder of a run: a small model of random weights, that of others."""
    folder = tmp_path_factory.mktemp("runs") / "pulled"
    folder.mkdir()
    module = registry.module("models", "vsepp")
    settings = module.Settings(dim=8, word_dim=4)
    vocabulary = Vocabulary((*SPECIAL, *WORDS))
    context = base.Context({"image": (6,)}, len(vocabulary), groups=torch.arange(2))
    save_file(module.Model(settings, context).state_dict(), folder / "model.safetensors")
    vocabulary.save(folder / "vocabulary.json")
    told = {"context": base.described(context), "weights_sha256": sha256_file(folder / "model.safetensors"), "data": {}}
    write_json(folder / "manifest.json", told)
    job = {"dataset": "toy", "split": "full", "model": "vsepp", "seed": 0, "inputs": {"image": "raw"}}
    (folder / "config.yaml").write_text(yaml.safe_dump(job | {"settings": settings.model_dump(mode="json")}))
    return folder


@pytest.fixture
def folder(made, tmp_path):
    return shutil.copytree(made, tmp_path / "run")


def change(folder, *, context=None, settings=None, job=None, **manifest):
    """Write other values into a run's manifest and configuration."""
    told = json.loads((folder / "manifest.json").read_text()) | manifest
    told["context"] = told["context"] | context if context else told["context"]
    write_json(folder / "manifest.json", told)
    config = yaml.safe_load((folder / "config.yaml").read_text()) | (job or {})
    config["settings"] |= settings or {}
    (folder / "config.yaml").write_text(yaml.safe_dump(config))


def test_the_run_as_it_was_made_is_opened(folder):
    assert open_run(folder).model.settings.dim == 8


@pytest.mark.parametrize(
    "changed",
    [
        {"context": {"shapes": {"image": [10**10]}}},
        {"context": {"n_groups": 10**10}},
        {"context": {"vocabulary_size": 10**9}},
        {"settings": {"dim": 10**6}},
        {"settings": {"dim": 3000, "layers": 10**6}},
        {"settings": {"word_dim": 10**9}},
    ],
    ids=lambda changed: str(changed)[:40],
)
def test_a_model_larger_than_its_weights_is_refused(folder, changed):
    """A model of a few hundred numbers, of which 256 MiB cannot be made."""
    change(folder, **changed)
    with pytest.raises(UserError, match=r"a model of more than 268,4\d\d,\d\d\d bytes, but model\.safetensors"):
        open_run(folder)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"context": {"shapes": [1]}}, r"context\.shapes"),
        ({"context": {"shapes": {"image": ["x"]}}}, r"context\.shapes\.image\.0"),
        ({"context": {"shapes": {"image": []}}}, r"context\.shapes\.image"),
        ({"context": {"shapes": {f"m{n}": [1] for n in range(101)}}}, r"context\.shapes"),
        ({"context": {"n_groups": -1}}, r"context\.n_groups"),
        ({"context": {"trained": 5}}, r"context\.trained"),
        ({"context": {"source": "x"}}, r"context\.source"),
        ({"data": ["x"]}, "data: "),
        ({"weights_sha256": [1]}, "weights_sha256: "),
        ({"job": {"threads": 100_000}}, "threads: "),
        ({"job": {"threads": -1}}, "threads: "),
    ],
)
def test_values_of_another_type_are_one_line(folder, changed, message):
    change(folder, **changed)
    with pytest.raises(UserError, match=rf"(manifest\.json|config\.yaml): {message}") as error:
        open_run(folder)
    assert "\n" not in str(error.value)


def test_a_run_that_names_no_features_of_what_it_reads(folder):
    change(folder, job={"inputs": {"../text": "raw"}})
    with pytest.raises(UserError, match="letters, digits"):
        OpenedRun(folder, folder)
    job = Job(dataset="toy", split="full", model="vsepp", seed=0, inputs={}, settings={})
    with pytest.raises(UserError, match="names no features of image"):
        features_of(job, "image")


def test_vectors_of_other_sizes_than_the_querys_are_one_line(folder):
    change(folder)
    task = folder / "instance_retrieval"
    task.mkdir()
    write_json(task / "metrics.json", {"weights_sha256": sha256_file(folder / "model.safetensors")})
    ids = {"image_ids": np.array(["i"]), "text_ids": np.array(["t"])}
    np.savez(task / "embeddings.npz", **ids, image=np.ones((1, 5), np.float32), text=np.ones((1, 8), np.float32))
    data = folder / "toy"
    data.mkdir()
    write_items(data)
    with pytest.raises(UserError, match=r"embeddings\.npz: .* 5 numbers.* 8"):
        search(OpenedRun(folder, folder), Query("", "", "t"))


def test_an_index_of_sets_of_other_vectors_is_one_line(folder, tmp_path, monkeypatch):
    """A model compares them with the query's by torch, which does not tell the file."""
    change(folder)
    index = folders.Index(["a.jpg"], np.ones((1, 3, 5), np.float32), tmp_path / "x.npz")
    monkeypatch.setattr(folders, "index", lambda *given: index)
    with pytest.raises(UserError, match=r"x\.npz: is of other vectors than the query's .*delete it"):
        search(OpenedRun(folder, folder), Query("text", "a red ball"), folder=tmp_path)


def write_items(data):
    import pandas as pd

    rows = {"item_id": ["i", "t"], "modality": ["image", "text"], "source": ["i.png", "a red ball"]}
    pd.DataFrame(rows).to_parquet(data / "items.parquet")
    write_json(data / "items.json", {"root": "."})


def test_what_a_model_takes_is_counted_before_it_is_taken(tmp_path, monkeypatch):
    """Of 1,000 bytes with room for 4 times the weights: 249 numbers of 4 bytes fit, and one more does not."""
    monkeypatch.setattr(weights, "ROOM", 0)
    (tmp_path / "w").write_bytes(bytes(250))
    with weights.within(tmp_path / "w"):
        torch.nn.Linear(124, 2, bias=False), torch.zeros(1)
    for more in (lambda: torch.zeros(251), lambda: torch.empty((251,)), lambda: torch.ones(size=(2, 126))):
        with pytest.raises(UserError, match="more than 1,000 bytes"), weights.within(tmp_path / "w"):
            more()
    with pytest.raises(UserError, match="more than 1,000 bytes"), weights.within(tmp_path / "w"):
        torch.nn.Linear(125, 2, bias=False), torch.arange(2, dtype=torch.int8)
