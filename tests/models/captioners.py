"""Small captioners with random weights, and a batch of three images with a caption each."""

from __future__ import annotations

import torch

from crossmodal.core import registry
from crossmodal.language.tokens import END, START
from crossmodal.models import base

WORDS = 12


def small(name: str, **settings: object) -> tuple[base.Model, base.Batch]:
    module = registry.module("models", name)
    torch.manual_seed(0)
    chosen = {"word_dim": 6, "dim": 8, "attention_dim": 5, "longest": 7, "dropout": 0.0, "objective": "likelihood"}
    chosen |= settings
    chosen = {key: value for key, value in chosen.items() if key in module.Settings.model_fields}
    form = module.Model.reads["image"]
    regions = form in ("regions", "grid")
    context = base.Context({"image": (4, 10) if regions else (10,)}, vocabulary_size=WORDS)
    model = module.Model(module.Settings(**chosen), context).double()
    lengths = torch.tensor([6, 4, 5])
    ids = torch.randint(4, WORDS, (3, 6)) * (torch.arange(6) < lengths[:, None])
    ids[:, 0] = START
    ids[torch.arange(3), lengths - 1] = END
    image = torch.randn(3, 4, 10).double() if regions else torch.randn(3, 10).double()
    counts = [4, 4, 4] if form == "grid" else [4, 2, 3]
    image = base.Regions(image, torch.tensor(counts)) if regions else image
    return model, base.Batch({"image": image, "text": base.Tokens(ids, lengths)}, torch.arange(3))
