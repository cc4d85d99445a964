"""The published numbers of the paper of encoders, spot-checked against the named table of open_clip."""

from __future__ import annotations

import math
from pathlib import Path

import yaml
from safetensors import safe_open

from crossmodal.experiments import read_papers
from crossmodal.features.networks.backbones import WORLD_CLIP

ROOT = Path(__file__).parents[1]


def test_zero_shot_numbers_are_those_of_open_clips_table():
    """Of docs/openclip_retrieval_results.csv: shares of one there, in per cent here."""
    (paper,) = read_papers(["encoders"], ROOT / "papers").values()
    tables = {table.dataset: table for table in paper.tables if table.has_published}
    assert set(tables) == {"flickr30k", "coco"}
    rows = {(name, row.label): row.published for name, table in tables.items() for row in table.rows}
    places = [(column.aspect, column.metric) for column in tables["coco"].columns]
    first = places.index(("text-to-image", "recall@1")), places.index(("image-to-text", "recall@1"))
    for (dataset, label), expected in {
        ("flickr30k", "CLIP ViT-B/32, OpenAI"): (58.78, 78.9),
        ("coco", "CLIP ViT-B/32, OpenAI"): (30.44, 50.12),
        ("flickr30k", "CLIP ViT-H/14, LAION-2B"): (77.64, 90.7),
        ("coco", "SigLIP SO400M/14 at 384 pixels, WebLI"): (54.21, 72.42),
    }.items():
        assert tuple(rows[dataset, label][place] for place in first) == expected
    for table in tables.values():
        assert "openclip_retrieval_results.csv" in table.source


def test_heads_on_the_drawn_world_start_at_the_scale_of_its_towers():
    params = yaml.safe_load((ROOT / "params.yaml").read_text())
    with safe_open(WORLD_CLIP / "open_clip_model.safetensors", "pt") as weights:
        scale = math.exp(float(weights.get_tensor("logit_scale")))
    assert round(scale, 1) == params["datasets"]["world"]["models"]["adapter"]["scale"]
