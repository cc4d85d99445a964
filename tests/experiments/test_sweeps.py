"""Sweeps in papers: what is tried, under which names, and what is chosen."""

from __future__ import annotations

from pathlib import Path

import pytest

from crossmodal.core.errors import UserError
from crossmodal.core.files import write_json
from crossmodal.experiments import sweeps
from crossmodal.experiments.sweeps import Sweep
from tests.test_plan import planned

GRID = {"lr": [0.0002, 0.01], "margin": [0.1, 0.25, 1.0]}
KEY = "world/full/vsepp/seed0"


def swept(tmp_path, results="results", budget=None, **values):
    def change(paper, params):
        for name, sweep in values.items():
            model = name.rstrip("2")
            paper["experiments"][name] = {"model": model, "dataset": "world", "sweep": sweep}
        params["sweeps"] = {"budget": budget}
        params["paths"] = {"results": str(results)}

    return planned(tmp_path, change)


def test_candidates_are_the_grid_under_readable_names():
    assert [*Sweep(values=GRID).candidates.items()] == [
        ("lr2e-4+margin1e-1", {"lr": 0.0002, "margin": 0.1}),
        ("lr2e-4+margin25e-2", {"lr": 0.0002, "margin": 0.25}),
        ("lr2e-4+margin1", {"lr": 0.0002, "margin": 1.0}),
        ("lr1e-2+margin1e-1", {"lr": 0.01, "margin": 0.1}),
        ("lr1e-2+margin25e-2", {"lr": 0.01, "margin": 0.25}),
        ("lr1e-2+margin1", {"lr": 0.01, "margin": 1.0}),
    ]


@pytest.mark.parametrize(
    ("value", "name"),
    [
        (True, "on"), (False, "off"), (12, "12"), (10.0, "10"), (1e-5, "1e-5"), (-0.5, "-5e-1"), (300.0, "300"),
        (1e30, "1e30"),
        ([512, 256], "512_256"), ("Hardest first", "hardest_first"), (None, "none"),
    ],
)  # fmt: skip
def test_a_value_is_part_of_a_name(value, name):
    assert sweeps.slug(value) == name


def test_names_that_would_be_equal_or_too_long_end_in_a_hash():
    equal = Sweep(values={"kind": ["a b", "a_b"]}).candidates
    assert len(equal) == 2
    long = Sweep(values={"path": ["a" * 300, "b" * 300]}).candidates
    assert all(len(name) < 120 for name in long)


def test_of_a_larger_grid_the_budget_is_drawn():
    drawn = Sweep(values=GRID, budget=4, seed=3).candidates
    assert drawn == Sweep(values=GRID, budget=4, seed=3).candidates
    grid = [*Sweep(values=GRID).candidates]
    assert len(drawn) == 4
    assert [name for name in grid if name in drawn] == [*drawn]  # in the grid's order
    assert {tuple(Sweep(values=GRID, budget=4, seed=seed).candidates) for seed in range(20)} != {tuple(drawn)}


def test_the_largest_value_is_chosen_and_a_diverged_candidate_never():
    records = {"a": {"value": None}, "b": {"value": 3.0}, "c": {"value": 7.0}, "d": {"value": 7.0}}
    assert sweeps.choose(records) == "c"
    with pytest.raises(UserError, match="all 1 candidates diverged"):
        sweeps.choose({"a": {"value": None}})


def test_a_run_takes_the_choice_once_it_is_made(tmp_path):
    before = swept(tmp_path, tmp_path, vsepp=GRID).jobs[KEY]
    assert before.sweep.choice is None
    chosen = {"lr": 0.01, "margin": 0.25}
    tried = [{"settings": one, "value": 1.0} for one in before.sweep.candidates.values()]
    record = {"digest": before.digest, "settings": chosen, "tried": tried}
    write_json(tmp_path / "runs/world/full/vsepp/sweep/choice.json", record)
    plan = swept(tmp_path, tmp_path, vsepp=GRID)
    after = plan.jobs[KEY]
    assert {name: after.settings[name] for name in GRID} == chosen
    assert after.hash == before.hash  # or Snakemake, which has planned before the choice, would train again
    assert plan.jobs["world/full/vsepp/seed1"].settings == after.settings
    other = swept(tmp_path, tmp_path, vsepp=GRID | {"margin": [0.1, 0.3]}).jobs[KEY]
    assert other.sweep.choice is None  # a choice among other candidates
    assert other.hash != before.hash
    write_json(tmp_path / "runs/world/full/vsepp/sweep/choice.json", record | {"settings": {"lr": 99.0, "margin": 0.1}})
    with pytest.raises(UserError, match=r"choice\.json: names no candidate"):
        _ = swept(tmp_path, tmp_path, vsepp=GRID).jobs


def test_candidates_are_jobs_with_variants_and_settings_of_their_own(tmp_path):
    job = swept(tmp_path, vsepp=GRID).jobs[KEY]
    one = job.candidates["lr1e-2+margin1"]
    assert one.key == "world/full/vsepp.lr1e-2+margin1/seed0"
    assert one.settings == job.settings | {"lr": 0.01, "margin": 1.0}
    assert len({candidate.hash for candidate in (*job.candidates.values(), job)}) == 7


def test_systems_of_a_paper_have_the_same_budget(tmp_path):
    smaller = {"lr": [0.1, 0.2]}
    with pytest.raises(UserError, match=r"'vsepp' sweeps 6 combinations and 'scan' 2.*sweeps\.budget.* to 2 or less"):
        swept(tmp_path, vsepp=GRID, scan=smaller)
    plan = swept(tmp_path, budget=2, vsepp=GRID, scan=smaller)
    assert [len(plan.jobs[f"world/full/{name}/seed0"].candidates) for name in ("vsepp", "scan")] == [2, 2]


@pytest.mark.parametrize(
    ("sweep", "message"),
    [
        ({"lr": []}, "lr: names no value"),
        ({"lr": [0.1, 0.1]}, "a value occurs twice"),
        ({"lr": [0.1]}, "a single combination"),
        ({"lr": 0.1}, "list"),
    ],
)
def test_mistakes_in_a_sweep_are_named(tmp_path, sweep, message):
    with pytest.raises(UserError, match=rf"experiments\.vsepp\.sweep.*{message}"):
        swept(tmp_path, vsepp=sweep)


def test_a_setting_is_fixed_or_swept(tmp_path):
    def change(paper, params):
        both = {"settings": {"lr": 1.0}, "sweep": {"lr": [1.0, 2.0]}}
        paper["experiments"]["vsepp"] = {"model": "vsepp", "dataset": "world", **both}

    with pytest.raises(UserError, match=r"experiments\.vsepp: sweep: lr has a value in `settings`"):
        planned(tmp_path, change)


def test_what_decides_about_inputs_cannot_be_swept(tmp_path):
    def change(paper, params):
        sweep = {"modalities": [["image", "text"], ["image", "text", "audio"]]}
        paper["experiments"]["cvs"] = {"model": "cvs", "dataset": "xmedia", "sweep": sweep}

    with pytest.raises(UserError, match="change which inputs the model reads"):
        _ = planned(tmp_path, change).jobs


def test_a_sentence_has_the_choice_its_budget_and_all_that_was_tried():
    record = {
        "settings": {"lr": 0.01},
        "tried": [{"settings": {"lr": 0.01}, "value": 512.34}, {"settings": {"lr": 0.5}, "value": None}],
        "combinations": 5,
        "drawn_with": 3,
        "label": "sum of recalls",
        "seed": 0,
    }
    assert sweeps.sentence(record) == (
        "lr 0.01, chosen from 2 combinations of 5, drawn with seed 3 by sum of recalls on validation items with seed 0 "
        "(lr 0.01: 512.3, lr 0.5: diverged)"
    )


def test_where_a_candidate_is_recorded():
    assert sweeps.tried_file(Path("a"), "lr1e-2") == Path("a/tried/lr1e-2.json")
