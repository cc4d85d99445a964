"""A function that makes the plan of a small params.yaml and of papers with the given experiments."""

import pytest
import yaml

from crossmodal.experiments import from_config, merge, plan
from tests.experiments.small_plan import PAPER, PARAMS


@pytest.fixture
def planned(tmp_path):
    def make(params=None, other=None, **named):
        papers = {"one": named, **({"two": other} if other is not None else {})}
        for name, chosen in papers.items():
            (tmp_path / f"{name}.yaml").write_text(yaml.safe_dump(PAPER | {"experiments": chosen}))
        return plan(from_config(merge(PARAMS, {"papers": list(papers), **(params or {})})), tmp_path)

    return make
