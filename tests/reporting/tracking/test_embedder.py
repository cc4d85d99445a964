"""The embedder that a run is tracked with: loaded by MLflow alone, it gives the embeddings of the run's model."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from mlflow import pyfunc
from mlflow.exceptions import MlflowException
from safetensors.torch import save_file

from crossmodal.core import registry
from crossmodal.core.errors import UserError
from crossmodal.core.files import read_json, sha256_file, write_json
from crossmodal.experiments import Job
from crossmodal.inference.run import open_run
from crossmodal.language.tokens import SPECIAL, Vocabulary, tokenize
from crossmodal.models import base
from crossmodal.models.base import described
from crossmodal.reporting.tracking import embedder, record, store
from tests.reporting.drawn import make_plan, make_run

KEY = "world/full/vsepp/seed0"
WORDS = ("a", "red", "green", "ball", "cup")
SENTENCES = ["A red ball", "a green cup and a ball"]
VECTORS = np.random.default_rng(0).normal(size=(3, 6)).astype(np.float32)


@pytest.fixture(scope="module")
def made_run(tmp_path_factory):
    """A run's folder with a small model of random weights, its job, and what it should give."""
    plan = make_plan()
    module = registry.module("models", "vsepp")
    settings = module.Settings(dim=8, word_dim=4)
    job = plan.jobs[KEY].model_copy(update={"settings": settings.model_dump(mode="json")})
    folder = tmp_path_factory.mktemp("results") / "runs" / KEY
    make_run(folder, job)
    vocabulary = Vocabulary((*SPECIAL, *WORDS))
    moments = {"image": (torch.zeros(6), torch.ones(6))}
    context = base.Context({"image": (6,)}, len(vocabulary), groups=torch.arange(2), moments=moments)
    torch.manual_seed(0)
    model = module.Model(settings, context).eval()
    save_file(model.state_dict(), folder / "model.safetensors")
    vocabulary.save(folder / "vocabulary.json")
    told = {"context": described(context), "weights_sha256": sha256_file(folder / "model.safetensors")}
    write_json(folder / "manifest.json", read_json(folder / "manifest.json") | told)
    ids, lengths = vocabulary.encode(tokenize(SENTENCES), 82)
    tokens = base.Tokens(torch.from_numpy(ids).long(), torch.from_numpy(lengths))
    with torch.inference_mode():
        images = model.encode("image", base.Batch({"image": torch.from_numpy(VECTORS)}), "text").numpy()
        texts = model.encode("text", base.Batch({"text": tokens}), "image").numpy()
    (folder / "instance_retrieval").mkdir(exist_ok=True)
    np.savez(folder / "instance_retrieval" / "embeddings.npz", image=images, text=texts)
    return plan, job, folder, images, texts


@pytest.fixture(scope="module")
def loaded(made_run, tmp_path_factory, empty_store):
    """The model as MLflow loads it from the run, the run itself, and its store's address."""

    plan, job, folder, *_ = made_run
    place = tmp_path_factory.mktemp("tracked")
    shutil.copy(empty_store, place / "mlflow.db")
    plan = make_plan(tracking={"uri": f"sqlite:///{place}/mlflow.db"})
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        assert record.track_all(plan, folder.parents[4], {KEY: job})
    client = store.client_of(plan.params.tracking.uri)
    experiment = client.get_experiment_by_name("crossmodal/mfsr").experiment_id
    (run,) = client.search_runs([experiment], f"tags.`{record.KEY}` = '{KEY}'")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", plan.params.tracking.uri)  # not by MLflow's function, which never unsets it
        yield pyfunc.load_model(f"runs:/{run.info.run_id}/model"), run


def test_it_gives_the_embeddings_of_the_run(made_run, loaded):
    *_, images, texts = made_run
    model, run = loaded
    assert run.data.tags["embedder"] == "model"
    np.testing.assert_allclose(model.predict(pd.DataFrame({"text": SENTENCES})), texts, atol=1e-6)
    np.testing.assert_allclose(model.predict(pd.DataFrame({"image": list(VECTORS)})), images, atol=1e-6)
    lists = pd.DataFrame({"image": VECTORS.astype(float).tolist()})
    np.testing.assert_allclose(model.predict(lists, params={"partner": "text"}), images, atol=1e-6)


def test_a_rows_run_has_the_embedder_of_its_first_seed(made_run, loaded):
    """The run under which the seeds are nested loads as those do, and says whose model it is."""
    *_, texts = made_run
    run = loaded[1]
    client = store.client_of(os.environ["MLFLOW_TRACKING_URI"])
    row = client.get_run(run.data.tags["mlflow.parentRunId"])
    assert (row.data.tags["embedder"], row.data.tags["embedder_seed"]) == ("model", "0")
    model = pyfunc.load_model(f"runs:/{row.info.run_id}/model")
    assert model.metadata.metadata["run"] == KEY
    np.testing.assert_allclose(model.predict(pd.DataFrame({"text": SENTENCES})), texts, atol=1e-6)


def test_it_says_what_it_takes(loaded):
    signature = loaded[0].metadata.signature
    assert [(column.name, column.required) for column in signature.inputs] == [("image", False), ("text", False)]
    assert signature.outputs.inputs[0].type == np.float32
    assert loaded[0].metadata.metadata == {"run": KEY, "shapes": {"image": [6]}}


@pytest.mark.parametrize(
    ("columns", "partner", "told"),
    [
        ({"image": [[0.0] * 5]}, "", r"arrays of \[6\], not \(5,\)"),
        ({"text": ["a ball"], "image": [[0.0] * 6]}, "", "one column of image, text at a time"),
        ({"text": ["zebra"]}, "", "none of the 9 words"),
        ({"text": ["a ball"]}, "audio", "partner 'audio'.*compares text with image"),
    ],
)
def test_what_cannot_be_embedded_is_told(loaded, columns, partner, told):
    with pytest.raises((UserError, MlflowException), match=told):
        loaded[0].predict(pd.DataFrame(columns), params={"partner": partner})


def test_why_there_is_none(made_run, tmp_path: Path):
    _, job, folder, *_ = made_run
    assert embedder.without(job, folder) == ""
    other = shutil.copytree(folder, tmp_path / "other")
    (other / "model.safetensors").unlink()
    assert embedder.without(job, other) == "model.safetensors is missing"
    (other / "instance_retrieval" / "embeddings.npz").unlink()
    assert embedder.without(job, other) == "it compares items without vectors"


def test_which_runs_are_tracked_with_theirs(made_run, tmp_path: Path):
    _, job, folder, *_ = made_run
    for models, seed, kept in (("first", 0, True), ("first", 1, False), ("none", 0, False)):
        params = make_plan(tracking={"models": models}).params
        tags = record._model(job.model_copy(update={"seed": seed}), folder, tmp_path / f"{models}{seed}", "0", params)
        assert (tags["embedder"] == "model") is kept
        assert (tmp_path / f"{models}{seed}").exists() is kept
    size = sum(file.stat().st_size for file in (tmp_path / "first0").rglob("*") if file.is_file())
    assert size < (folder / "model.safetensors").stat().st_size + 20_000


def test_a_captioner_gives_captions(tmp_path):
    """Saved and loaded by MLflow, it says what the run's model says, by the beam that is asked for."""
    module = registry.module("models", "nic")
    settings = module.Settings(dim=8, word_dim=4, longest=6)
    facts = {"dataset": "toy", "split": "full", "model": "nic", "seed": 0, "inputs": {"image": "raw"}}
    job = Job(settings=settings.model_dump(mode="json"), **facts)
    vocabulary = Vocabulary((*SPECIAL, *WORDS))
    context = base.Context({"image": (6,)}, len(vocabulary), groups=torch.arange(2))
    torch.manual_seed(0)
    model = module.Model(settings, context).eval()
    folder = tmp_path / "run"
    folder.mkdir()
    assert embedder.without(job, folder) == "config.yaml is missing"
    (folder / "config.yaml").write_text(yaml.safe_dump(job.model_dump(mode="json")))
    vocabulary.save(folder / "vocabulary.json")
    save_file(model.state_dict(), folder / "model.safetensors")
    weights = sha256_file(folder / "model.safetensors")
    write_json(folder / "manifest.json", {"context": described(context), "weights_sha256": weights})
    assert embedder.without(job, folder) == ""
    embedder.save(job, folder, tmp_path / "model", "0" * 32)
    loaded = pyfunc.load_model(str(tmp_path / "model"))
    frame = pd.DataFrame({"image": [row.tolist() for row in VECTORS.astype(float)]})
    for beam in (1, 3):
        with torch.inference_mode():
            ids = model.generate(base.Batch({"image": torch.from_numpy(VECTORS)}), beam)
        expected = [" ".join(vocabulary.words[word] for word in row if word) for row in ids.tolist()]
        assert loaded.predict(frame, params={"beam": beam}).caption.tolist() == expected
    assert [spec.name for spec in loaded.metadata.signature.outputs] == ["caption"]
    opened = open_run(folder)
    with pytest.raises(UserError, match="describes the images of a whole column `image`; found text"):
        embedder.caption(opened, {"image": [6]}, pd.DataFrame({"text": ["a"]}))
    with pytest.raises(UserError, match="beam -1: expected at least 1"):
        embedder.caption(opened, {"image": [6]}, frame, -1)


def test_named_regions_have_no_mlflow_model(tmp_path):
    job = Job(dataset="toy", split="full", model="kulkarni", seed=0, inputs={"image": "regions"}, settings={})
    assert embedder.without(job, tmp_path) == "it reads image as objects"
