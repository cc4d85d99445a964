"""What is collected of runs, and how two runs are told to be made alike."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
import yaml

from crossmodal.core.errors import UserError
from crossmodal.experiments import Plan
from crossmodal.reporting.results import measured
from crossmodal.reporting.results.measured import Facts

KEY = "world/full/vse0/seed1"
ALIKE = Facts({"settings": {"lr": 0.1}}, {"items": "a", "image.world": "b"}, "s", 1, {"cpu": "X"}, {"torch": "2"})


def test_every_number_stands_once_in_a_fixed_order(plan: Plan, made: Path) -> None:
    found = measured.read(made, made / "runs", plan.jobs)
    assert [*found.numbers] == [*measured.TYPES]
    assert not found.numbers.duplicated([*measured.RUN, "seed", *measured.NUMBER]).any()
    shuffled = found.numbers.sample(frac=1, random_state=0)
    pd.testing.assert_frame_equal(measured.ordered(shuffled), found.numbers)
    assert {*found.facts} == {*plan.jobs}
    assert found.facts["world/full/chance/seed0"] == Facts()


def test_a_run_that_is_not_planned_any_more(plan: Plan, made: Path) -> None:
    jobs = {key: job for key, job in plan.jobs.items() if key != KEY}
    with pytest.raises(UserError, match=f"has the run {KEY}, which is not planned any more; collect again"):
        measured.read(made, made / "runs", jobs)


def test_settings_are_those_that_were_trained_with_and_paths_are_names(plan: Plan, made: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(made / "runs" / KEY, tmp_path / "run"))
    config = yaml.safe_load((folder / "config.yaml").read_text())
    config["settings"] |= {"image_weights": "/where/they/lie/net.safetensors", "margin": 0.25}
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    manifest = json.loads((folder / "manifest.json").read_text())
    hardware = {"machine": "x86_64", "system": "Linux", "cpu": "Some CPU", "cores": 8, "gpu": "Some GPU"}
    more = {"source": "s", "device": "cpu", "hardware": hardware, "versions": {"torch": "2.0"}}
    (folder / "manifest.json").write_text(json.dumps(manifest | more))
    facts = measured.facts_of(folder, plan.jobs[KEY])
    assert facts.settings["settings"]["image_weights"] == "net.safetensors"
    assert facts.settings["settings"]["margin"] == 0.25
    # Neither the number of cores nor a card that was not used makes another kind of machine.
    assert facts.machine == {"device": "cpu", "machine": "x86_64", "system": "Linux", "cpu": "Some CPU"}
    (folder / "manifest.json").write_text(json.dumps(manifest | more | {"device": "cuda"}))
    assert measured.facts_of(folder, plan.jobs[KEY]).machine["gpu"] == "Some GPU"


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"machine": {"cpu": "Y"}}, "machine: X here, Y there"),
        ({"versions": {"torch": "3"}}, "torch 2 here, 3 there"),
        ({"versions": {"torch": "2", "numpy": "1"}}, "numpy none here, 1 there"),
        ({"threads": 4}, "threads: 1 here, 4 there"),
        ({"source": "t"}, "the code of the training differs"),
        ({"source": ""}, "a manifest is missing"),
    ],
)
def test_what_lets_last_bits_differ(change: dict, reason: str) -> None:
    assert ALIKE.why_not_exact(ALIKE) == []
    assert ALIKE.why_not_exact(replace(ALIKE, **change)) == [reason]


def test_settings_that_only_one_version_has_are_no_difference() -> None:
    other = replace(ALIKE, settings={"settings": {"lr": 0.2, "new": True}, "inputs": {"image": "x"}})
    assert ALIKE.other_settings(other) == ["lr: 0.1 here, 0.2 there"]
    assert ALIKE.other_data(replace(ALIKE, data={"items": "c", "image.world": "d"})) == ["items"]
    assert ALIKE.other_data(replace(ALIKE, data={})) == []
