"""The figures of spaces that grow: formulae against built models, stages in order, times by hand."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import pandas as pd
import pytest

from crossmodal import experiments
from crossmodal.models import base, cvs, mcvs, rvs
from crossmodal.reporting import spaces

ROOT = Path(__file__).parents[2]
NAMES = ("image", "text", "video", "audio", "mesh")
LAST = "media_world/full/mcvs.image+text+video+audio+mesh/seed1"


@pytest.fixture(scope="module")
def plan() -> experiments.Plan:
    value = experiments.read_yaml(ROOT / "params.yaml") | {"papers": ["cvs"], "seeds": [0, 1]}
    return experiments.plan(experiments.from_config(value), ROOT / "papers")


@pytest.mark.parametrize("module", [cvs, mcvs, rvs])
def test_blocks_are_those_that_a_stage_trains(module) -> None:
    context = base.Context(dict.fromkeys(NAMES, (3,)), n_classes=2)
    for n in range(2, 6):
        model = module.Model(module.Settings(modalities=NAMES[:n], dim=4), context)
        model.begin(model.stages()[-1])
        trained = [block for block in model.blocks.values() if next(block.parameters()).requires_grad]
        assert len(trained) == spaces.BLOCKS[module.__name__.rpartition(".")[2]](n)


def test_a_chain_is_the_stages_in_their_order(plan: experiments.Plan) -> None:
    found = [job.name for job in spaces.chain(plan.jobs[LAST], plan.jobs)]
    assert found == ["cvs.image+text", *(f"mcvs.{'+'.join(NAMES[:n])}" for n in (3, 4, 5))]
    assert {job.seed for job in spaces.chain(plan.jobs[LAST], plan.jobs)} == {1}


def test_times_by_hand(plan: experiments.Plan, tmp_path: Path) -> None:
    for key, seconds in (("media_world/full/cvs.five/seed0", [1.0, 2.0]), (LAST, [0.5, 0.7])):
        (tmp_path / key).mkdir(parents=True)
        frame = pd.DataFrame({"epoch": [1, 2], "loss": [3.0, 2.0], "seconds": seconds, "steps": [10, 20]})
        frame.assign(triplets=1.0, classes=1.0).to_parquet(tmp_path / key / "history.parquet")
    found = spaces.times(plan.jobs, tmp_path).set_index("model")
    assert found.milliseconds.to_dict() == pytest.approx({"cvs": 100.0, "mcvs": 40.0})
    assert found.modalities.to_dict() == {"cvs": 5, "mcvs": 5}


def test_figures_of_nothing_and_of_numbers(plan: experiments.Plan, tmp_path: Path) -> None:
    about = {"paper": "cvs", "dataset": "media_world", "split": "full", "model": "cvs", "variant": "five", "seed": 0}
    rows = [
        about | {"direction": f"{a}-to-{b}", "metric": "map@50", "protocol": "all", "value": 37.0 + i + 5 * j}
        for i, a in enumerate(NAMES)
        for j, b in enumerate(NAMES)
        if a != b
    ]
    rows.append(about | {"direction": "average", "metric": "map@50", "protocol": "all", "value": 49.0})
    metrics = pd.DataFrame(rows).assign(n_queries=10, n_gallery=10)
    made = spaces.draw(plan, plan.jobs, tmp_path, metrics)
    assert set(made) == set(spaces.FIGURES)
    assert made == spaces.draw(plan, plan.jobs, tmp_path, metrics)
    assert made["space-losses"].count("not made yet") == 3
    assert ">42<" in made["space-directions"]
    assert ">49.0<" in made["space-attention"]


def test_reconstructions_by_hand(plan: experiments.Plan, tmp_path: Path) -> None:
    """Means over seeds, and the factor between the first epoch and the last: 2 and 6 to 100 and 300 is fifty-fold."""
    assert "No run with an adversarial reconstruction yet" in spaces.reconstruction(plan.jobs, tmp_path)
    rows = {"alone": ([[2.0, 100.0], [6.0, 300.0]], [4.0, 1.0]), "moving": ([[1.0, 0.5]] * 2, [1.0, 1.0])}
    for variant, (images, texts) in rows.items():
        for seed, image in enumerate(images):
            folder = tmp_path / f"media_world/full/cvs_adversarial.{variant}/seed{seed}"
            folder.mkdir(parents=True)
            frame = pd.DataFrame({"epoch": [1, 2], "loss": [3.0, 2.0], "image_difference": image})
            frame.assign(text_difference=texts, **{"val_map@50_sum": [10.0, 20.0]}).to_parquet(
                folder / "history.parquet"
            )
    drawn = spaces.reconstruction(plan.jobs, tmp_path)
    assert drawn == spaces.reconstruction(plan.jobs, tmp_path)
    ElementTree.fromstring(drawn)
    for factor in ("× 50", "× 0.25", "× 0.5", "× 1"):
        assert f">{factor}<" in drawn, factor
    assert "reconstruction alone" in drawn
    assert "reconstruction alone, its target moves too" in drawn
    assert "with class and metric losses" not in drawn  # not trained yet
    assert "Sum of mAP@50" in drawn
    made = [plan.jobs[f"media_world/full/cvs_adversarial.{name}/seed0"] for name in ("alone", "beside", "moving")]
    assert [spaces._trained_by(job) for job in made] == [
        "reconstruction alone",
        "with class and metric losses",
        "reconstruction alone, its target moves too",
    ]
