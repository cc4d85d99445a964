"""params.yaml with the plain drawn world in the place of photographs, whose runs many tests know by name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from crossmodal.experiments import merge, read_yaml

ROOT = Path(__file__).parents[1]
STAND_INS = dict.fromkeys(("flickr30k", "flickr8k", "coco"), "world")


def on_world(**over: Any) -> dict[str, Any]:
    """The parameters of the project, in which the world plays all photographs, with others in the place of some."""
    return merge(read_yaml(ROOT / "params.yaml"), {"scales": {"embedded": {"stand_ins": STAND_INS}}}) | over
