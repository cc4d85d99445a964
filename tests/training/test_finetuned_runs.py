"""A run that fine-tunes an image network, from its job to its folder."""

import numpy as np
import pytest
import torch
from torch import nn

from crossmodal.core.errors import UserError
from crossmodal.core.files import read_json
from crossmodal.experiments import Job
from crossmodal.features.networks import backbones
from crossmodal.inference.run import open_run
from crossmodal.runs.evaluate import evaluate
from crossmodal.runs.train import train_job

NETWORK = "shufflenet_v2_x0_5"
TUNED = {"image_network": NETWORK, "image_weights": "seeded", "image_crop": 8}
COMMON = {"dim": 8, "word_dim": 4, "epochs": 1, "batch_size": 12, "min_count": 1}


@pytest.fixture
def fifteen(monkeypatch):
    """Networks of as many features as the toy data has, which the run before is trained on."""
    bare, build = backbones.bare, backbones.build

    def cut(network):
        return nn.Sequential(network, nn.AdaptiveAvgPool1d(15))

    monkeypatch.setattr(backbones, "bare", lambda name: (cut(bare(name)[0]), 15))
    monkeypatch.setattr(backbones, "build", lambda settings: (cut(build(settings)[0]), {}))


@pytest.mark.usefixtures("fifteen")
def test_it_goes_on_from_a_run_and_opens_again(prepared, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    job = Job(dataset="toy", split="full", model="vsepp", seed=0, inputs={"image": "raw"}, settings=COMMON)
    train_job(job, tmp_path / "fixed", prepared)
    changes = {"inputs": {"image": "pixels"}, "variant": "finetuned", "settings": COMMON | TUNED, "after": "x"}
    tuned = job.model_copy(update=changes)
    train_job(tuned, tmp_path / "tuned", prepared, before=tmp_path / "fixed")
    manifest = read_json(tmp_path / "tuned" / "manifest.json")
    assert f"{NETWORK}: seeded random weights" in manifest["fallbacks"]
    weights = read_json(tmp_path / "fixed" / "manifest.json")["weights_sha256"]
    assert manifest["before"] == {"run": tuned.before, "weights_sha256": weights}
    evaluate(tuned, tmp_path / "tuned", prepared, "embedded")
    with np.load(tmp_path / "tuned" / "instance_retrieval" / "embeddings.npz") as kept:
        expected, ids = kept["image"], list(kept["image_ids"])
    pixels = torch.from_numpy(np.load(prepared / "toy" / "features" / "image.pixels.npy"))
    found = open_run(tmp_path / "tuned").encode("image", pixels[[int(name[1:]) for name in ids]], "text")
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-5)
    other = tuned.model_copy(update={"settings": COMMON | TUNED | {"dim": 9}})
    with pytest.raises(UserError, match="other shapes"):
        train_job(other, tmp_path / "other", prepared, before=tmp_path / "fixed")


@pytest.mark.usefixtures("fifteen")
def test_it_does_not_begin_alone(prepared, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    inputs = {"image": "pixels"}
    job = Job(dataset="toy", split="full", model="vsepp", seed=0, inputs=inputs, settings=COMMON | TUNED)
    with pytest.raises(UserError, match="name that run as `after`"):
        train_job(job, tmp_path / "alone", prepared)
    assert not (tmp_path / "alone").exists()
