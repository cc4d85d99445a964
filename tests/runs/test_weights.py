"""The bound on what a model may take while it is built."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import save_file

from crossmodal.core.errors import UserError
from crossmodal.runs import weights


@pytest.fixture
def room(tmp_path, monkeypatch):
    """A file of weights of ten bytes, whose model may take 40 bytes in all."""
    monkeypatch.setattr(weights, "ROOM", 30)
    monkeypatch.setattr(weights, "COPIES", 1)
    path = tmp_path / "model.safetensors"
    path.write_bytes(bytes(10))
    return path


def test_tensors_up_to_the_bound_are_made_and_one_byte_more_is_refused(room):
    with weights.within(room):
        torch.zeros(3, 3)
        torch.ones(4, dtype=torch.uint8)
    told = r"describe a model of more than 40 bytes, but model.safetensors has 10"
    with pytest.raises(UserError, match=told), weights.within(room):
        [torch.zeros(3, 3), torch.ones(4, dtype=torch.uint8), torch.empty(1, dtype=torch.uint8)]


@pytest.mark.parametrize(
    "make",
    [
        lambda: torch.arange(0, 11),
        lambda: torch.arange(end=11),
        lambda: torch.zeros((1, 11)),
        lambda: torch.rand(size=(11, 1)),
        lambda: torch.zeros(1).new_empty((2, 6)),
        lambda: torch.linspace(0, 1, 11),
        lambda: torch.eye(4),
        lambda: torch.randperm(6),
        lambda: torch.full((11,), 0.5),
    ],
)
def test_sizes_are_found_however_they_are_given(room, make):
    with pytest.raises(UserError, match="describe a model of more than 40 bytes"), weights.within(room):
        make()


def test_weights_of_another_model_are_refused(tmp_path):
    save_file({"weight": torch.zeros(2, 3), "bias": torch.zeros(2)}, tmp_path / "model.safetensors")
    with pytest.raises(
        UserError, match=r"model\.safetensors: does not fit: .*size mismatch for weight.*train it again"
    ):
        weights.take_weights(torch.nn.Linear(4, 2), tmp_path / "model.safetensors")
