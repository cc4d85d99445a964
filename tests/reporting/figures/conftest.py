from __future__ import annotations

import pytest

from crossmodal import experiments
from tests.prepared import labelled, outside
from tests.reporting.drawn import ROOT

__all__ = ["labelled", "outside", "thesis"]


@pytest.fixture(scope="session")
def thesis() -> experiments.Plan:
    """The plan of the CVS thesis, of two seeds."""
    value = experiments.read_yaml(ROOT / "params.yaml") | {"papers": ["cvs"], "seeds": [0, 1]}
    return experiments.plan(experiments.from_config(value), ROOT / "papers")
