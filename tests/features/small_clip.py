"""A model of open_clip with one small layer in each tower and random weights, in the form of the real ones."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

CONFIG = {
    "model_cfg": {
        "embed_dim": 12,
        "vision_cfg": {"image_size": 32, "layers": 1, "width": 32, "head_width": 16, "patch_size": 16},
        "text_cfg": {"context_length": 16, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1},
    },
    "preprocess_cfg": {"mean": [0.5, 0.4, 0.3], "std": [0.2, 0.3, 0.4]},
}


def open_clip_folder(folder: Path, **changed: object) -> str:
    """Write the model's folder, as the Hugging Face hub has it, and return its path.

    Parameters
    ----------
    changed : entries of the configuration's `model_cfg` that differ.
    """
    open_clip = pytest.importorskip("open_clip", reason="the extra is not installed")
    place = folder / "clip"
    place.mkdir(exist_ok=True)
    config = {**CONFIG, "model_cfg": {**CONFIG["model_cfg"], **changed}}
    (place / "open_clip_config.json").write_text(json.dumps(config))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = open_clip.create_model(f"local-dir:{place}", load_weights=False)
        for parameter in model.parameters():  # those that begin as zeros would hide what is left out
            parameter.data += 0.1 * torch.randn_like(parameter)
    save_file({name: value.contiguous() for name, value in model.state_dict().items()}, place / "model.safetensors")
    return str(place)
