"""A model that cannot be trained is named before anything is."""

from __future__ import annotations

import pytest

from crossmodal.core.errors import UserError
from crossmodal.experiments import Job
from crossmodal.runs.train import train_job

EMPTY = """
from crossmodal.models import base
Settings = base.Schedule
class Model(base.Model):
    reads = {"image": "vector", "text": "tokens"}
    def encode(self, modality, batch, partner): return batch.inputs["image"]
    def loss(self, batch, progress, turn): return {}
"""
FROZEN = """
    def __init__(self, settings, context):
        super().__init__(settings, context)
        self.layer = __import__("torch").nn.Linear(2, 2).requires_grad_(False)
"""


@pytest.mark.parametrize("text", [EMPTY, EMPTY + FROZEN])
def test_a_model_without_parameters_is_one_line(text, outside, prepared, tmp_path, monkeypatch):
    outside("plugged", {"model": text}, {"models": {"plugged": "model"}})
    monkeypatch.chdir(tmp_path)
    job = Job(dataset="toy", split="full", model="plugged", seed=0, inputs={"image": "raw"}, settings={})
    with pytest.raises(UserError) as error:
        train_job(job, tmp_path / "run", prepared)
    assert str(error.value) == (
        "model 'plugged' (plugged.model): has no parameters to train; make its layers in `__init__`, or set "
        "`trains = False`"
    )
    assert not (tmp_path / "run").exists()
