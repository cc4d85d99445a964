"""Jobs of data sets with classes: what plays them, what their controls read, runs that begin from others."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from crossmodal import experiments
from crossmodal.core import registry
from crossmodal.core.errors import UserError
from crossmodal.dag import changes, check_place
from crossmodal.experiments.named import job_of

ROOT = Path(__file__).parents[1]
PAPER = {
    "title": "t",
    "authors": "a",
    "venue": "v",
    "year": 2000,
    "doi": "d",
    "tables": [],
    "experiments": {
        "two": {"model": "cvs", "dataset": "xmedia", "variant": "image+text"},
        "three": {
            "model": "mcvs",
            "dataset": "xmedia",
            "variant": "image+text+video",
            "settings": {"modalities": ["image", "text", "video"]},
            "after": "two",
        },
        "chance": {"model": "chance", "dataset": "pascal"},
    },
}


def planned(tmp_path, change=lambda paper, params: None):
    params = yaml.safe_load((ROOT / "params.yaml").read_text()) | {"papers": ["toy"], "seeds": [0, 1]}
    paper = yaml.safe_load(yaml.safe_dump(PAPER))
    change(paper, params)
    (tmp_path / "toy.yaml").write_text(yaml.safe_dump(paper))
    return experiments.plan(experiments.from_config(params), tmp_path)


def test_a_data_set_names_what_plays_it(tmp_path):
    plan = planned(tmp_path)
    played = {"xmedia": "media_world", "cub": "birds_world", "coco": "scenes", "media_world": "media_world"}
    assert {name: plan.dataset_of(name) for name in played} == played
    full = planned(tmp_path, lambda paper, params: params.update(scale="full"))
    assert {name: full.dataset_of(name) for name in played} == {name: name for name in played}

    def own(paper, params):
        params["scale"] = "full"
        params["datasets"]["xmedia"]["stand_in"] = "media_world"

    named = planned(tmp_path, own)  # in the data set's own block: at every scale
    assert {name: named.dataset_of(name) for name in played} == {
        "xmedia": "media_world", "cub": "cub", "coco": "coco", "media_world": "media_world",
    }  # fmt: skip

    def misspelt(paper, params):
        params["datasets"]["cub"]["stand_in"] = "bird_world"

    with pytest.raises(UserError, match=r"datasets.cub.stand_in: 'bird_world'.*did you mean 'birds_world'"):
        planned(tmp_path, misspelt)


def test_what_is_transferred_from_is_played_by_another_data_set(tmp_path):
    """XMediaNet and Pascal Sentence are both played by one world; transfer from it to itself would be none."""

    def change(paper, params):
        paper["experiments"]["moved"] = {"model": "dckt", "dataset": "pascal", "source": "xmedianet"}

    plan = planned(tmp_path, change)
    job = job_of(plan, "media_world/full/dckt/seed0")
    assert (job.source, job.source_inputs) == ("media_source", {"image": "world", "text": "bow"})
    assert "media_source" in plan.datasets
    assert plan.source_of("xmedia") == "media_world"  # which names no other
    settings = plan.params.datasets
    assert settings["media_source"].settings["seed"] != settings["media_world"].settings["seed"]

    def full(paper, params):
        change(paper, params)
        params["scale"] = "full"

    assert job_of(planned(tmp_path, full), "pascal/full/dckt/seed0").source == "xmedianet"

    def misspelt(paper, params):
        params["scales"]["embedded"]["source_stand_ins"]["xmedianet"] = "media_sources"

    what = r"embedded.source_stand_ins.xmedianet: 'media_sources'.*did you mean 'media_source'"
    with pytest.raises(UserError, match=what):
        planned(tmp_path, misspelt)


def test_inputs_follow_the_modalities(tmp_path):
    jobs = planned(tmp_path).jobs
    job = jobs["media_world/full/mcvs.image+text+video/seed1"]
    assert job.inputs == {"image": "world", "text": "bow", "video": "video"}
    assert job.relevance == "label"
    for control in ("chance", "oracle"):
        found = jobs[f"media_world/full/{control}/seed0"].settings["modalities"]
        assert found == ["image", "text", "audio", "video", "mesh"]
    assert registry.reads("cvs") == registry.reads("cvs", {"modalities": None}) == {"image": "vector", "text": "vector"}
    assert registry.reads("mcvs", {"modalities": ["mesh", "text"]}) == {"mesh": "vector", "text": "vector"}


def test_a_run_begins_from_the_one_of_its_seed(tmp_path):
    plan = planned(tmp_path)
    for seed in (0, 1, 5):
        job = job_of(plan, f"media_world/full/mcvs.image+text+video/seed{seed}")
        assert job.before == f"media_world/full/cvs.image+text/seed{seed}"

    def changed(paper, params):
        paper["experiments"]["two"]["settings"] = {"lr": 0.5}

    other = planned(tmp_path, changed).jobs
    for name, same in (("mcvs.image+text+video", False), ("cvs.image+text", False), ("chance", True)):
        key = f"media_world/full/{name}/seed0"
        assert (other[key].hash == plan.jobs[key].hash) is same


@pytest.mark.parametrize(
    ("after", "words"),
    [({"three": "tow"}, "experiments.three.after: no experiment 'tow'"), ({"two": "three"}, "begins from itself")],
)
def test_what_cannot_be_begun_from(tmp_path, after, words):
    def change(paper, params):
        for name, value in after.items():
            paper["experiments"][name]["after"] = value

    with pytest.raises(UserError, match=words):
        planned(tmp_path, change)


def test_a_project_in_a_folder_with_braces_is_told_so():
    check_place("/data/mine/cross modal")
    with pytest.raises(UserError, match=r"/data/\{mine\}/x: lies in a folder with braces"):
        check_place("/data/{mine}/x")


def test_changes_name_the_steps_that_files_are_read_by(tmp_path, monkeypatch):
    """Word vectors that a run begins with, by their content; and nothing that no file has changed of."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "glove.txt").write_text("one")

    def with_vectors(paper, params):
        paper["experiments"]["words"] = {
            "model": "vsepp", "dataset": "flickr8k", "settings": {"word_embedding": "glove.txt"}
        }  # fmt: skip

    plan = planned(tmp_path, with_vectors)
    found = changes(plan)
    assert {key.split("/")[2] for key in found} == {"vsepp"}
    assert len(found) == 2  # a run per seed
    (tmp_path / "glove.txt").write_text("two")
    again = changes(plan)
    assert found.keys() == again.keys()
    assert all(found[key] != again[key] for key in found)
