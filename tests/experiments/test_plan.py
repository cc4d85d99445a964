"""Experiments to jobs: which settings win, what a run depends on, and who plays whom."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
import yaml

from crossmodal import experiments
from crossmodal.core.errors import UserError
from crossmodal.experiments import Job, UnreadableError, from_config, job_in, merge, plan
from crossmodal.experiments.named import job_of
from crossmodal.experiments.sweeps import Sweep
from tests.experiments.small_plan import SCAN

ROOT = Path(__file__).parents[2]


def test_nearer_settings_win(planned):
    own = {"settings": {"margin": 3.0}, "stand_in": {"epochs": 2, "margin": 2.0}, "published": {"epochs": 9, "dim": 7}}
    made = planned(a=SCAN | own)
    played = {"sharpness": 5, "dim": 1, "lr": 0.5, "epochs": 2, "margin": 3.0}
    assert made.jobs["world/full/scan/seed3"].settings == played
    itself = {"sharpness": 5, "lr": 0.25, "epochs": 9, "dim": 7, "margin": 3.0}
    for scale in ({"scale": "full"}, {"scales": {"embedded": {"stand_ins": {"coco": "coco"}}}}):
        assert planned(scale, a=SCAN | own).jobs["coco/full/scan/seed3"].settings == itself


def test_a_data_set_that_is_like_another_has_its_settings(planned):
    twin = {"reader": "world", "title": "T", "like": "world", "models": {"scan": {"epochs": 4}}}
    params = {"datasets": {"twin": twin}}
    found = planned(params, a=SCAN | {"dataset": "twin"}).jobs["twin/full/scan/seed3"].settings
    assert found == {"sharpness": 5, "dim": 1, "epochs": 4, "lr": 0.5}


def test_a_path_has_its_settings_at_either_scale():
    """Of the shipped file: what is trained at both scales, and what is asked for by its path alone, is the same."""
    value = experiments.read_yaml(ROOT / "params.yaml")
    plans = [plan(from_config(value | {"scale": scale}), ROOT / "papers") for scale in ("embedded", "full")]
    for mine, other in (plans, plans[::-1]):
        for key, job in mine.jobs.items():
            if job.seed or job.variant or job.source:
                continue
            asked = job_of(other, key)
            if key in other.jobs:
                assert asked.identity == job.identity, key
            else:
                # What a paper says of a run comes on top; the data set's own settings are below it at either scale.
                assert set(asked.settings) <= set(job.settings), key
                assert asked.inputs == job.inputs, key
    small = plans[0].params.datasets["world"].models["vsepp"]
    assert job_of(plans[1], "world/full/vsepp/seed0").settings == small
    assert job_of(plans[0], "flickr30k/full/vsepp/seed0").settings == {}


def test_a_run_for_each_seed_and_the_controls_of_the_first(planned):
    made = planned(a=SCAN | {"quick": True}, b={"model": "vsepp", "dataset": "world", "split": "10pct-1cap"})
    runs = {f"full/scan/seed{s}" for s in (3, 4)} | {f"10pct-1cap/vsepp/seed{s}" for s in (3, 4)}
    controls = {"full/chance/seed3", "full/oracle/seed3"}
    assert set(made.jobs) == {f"world/{run}" for run in runs | controls}
    assert {key for key, job in made.jobs.items() if job.quick} == {
        f"world/{k}" for k in controls | {"full/scan/seed3"}
    }
    assert made.jobs["world/full/chance/seed3"].papers == ()
    assert made.datasets == ["world"]


def test_controls_that_a_paper_asks_for_are_its_own(planned):
    made = planned(a={"model": "chance", "dataset": "coco"})
    assert made.jobs["world/full/chance/seed3"].papers == ("one",)
    assert {"world/full/chance/seed4", "world/full/oracle/seed3"} <= set(made.jobs)


def test_papers_share_a_run_that_both_want(planned):
    made = planned(a=SCAN, other={"b": SCAN | {"quick": True}})
    job = made.jobs["world/full/scan/seed3"]
    assert (job.papers, job.quick) == (("one", "two"), True)
    assert planned(a=SCAN | {"quick": True}, other={"b": SCAN}).jobs["world/full/scan/seed3"].quick
    assert planned(a=SCAN, b=SCAN).jobs["world/full/scan/seed3"].papers == ("one",)
    with pytest.raises(
        UserError, match="experiment 'b' wants world/full/scan/seed3 with other settings than papers/one"
    ):
        _ = planned(a=SCAN, other={"b": SCAN | {"settings": {"margin": 0.9}}}).jobs


def test_what_a_runs_weights_depend_on(planned):
    job = planned(a=SCAN).jobs["world/full/scan/seed3"]
    free = {
        "papers": ("x",),
        "quick": True,
        "folds": [1, 2],
        "scale": "full",
        "captioned": False,
        "also": ("captioning",),
    }
    for key, value in free.items():
        assert getattr(job, key) != value
        assert job.model_copy(update={key: value}).hash == job.hash, key
    bound = {
        "dataset": "x", "split": "none", "model": "x", "variant": "x", "seed": 9, "inputs": {}, "settings": {},
        "second_inputs": {"image": "x"}, "relevance": "label", "stages": (1, 2), "source": "x",
        "source_inputs": {"image": "x"}, "after": "x", "origin": "x", "threads": 2,
        "sweep": Sweep(values={"lr": [1, 2]}),
    }  # fmt: skip
    assert set(free) | set(bound) == set(Job.model_fields)
    hashes = {job.model_copy(update={key: value}).hash for key, value in bound.items()}
    assert len(hashes) == len(bound)
    assert job.hash not in hashes
    assert len(job.hash) == 16


def test_a_run_of_a_fields_former_name_stays_valid(planned):
    """`second_inputs` was called `beside`: in the files of finished runs, and in the hashes of what they depend on."""
    job = planned(a=SCAN).jobs["world/full/scan/seed3"].model_copy(update={"second_inputs": {"image": "p"}})
    former = {("beside" if key == "second_inputs" else key): value for key, value in job.model_dump().items()}
    assert Job.model_validate(former) == job
    free = {"papers", "quick", "folds", "scale", "captioned", "also", "sweep"}  # none, as in runs before there were any
    kept = {key: former[key] for key in former if key not in free}
    text = json.dumps(kept, sort_keys=True, separators=(",", ":"))
    assert job.hash == hashlib.sha256(text.encode()).hexdigest()[:16]


def test_names_of_a_run(planned):
    job = planned(a=SCAN | {"variant": "big", "split": "5pct-2cap"}).jobs["world/5pct-2cap/scan.big/seed4"]
    assert (job.name, job.key) == ("scan.big", "world/5pct-2cap/scan.big/seed4")
    assert job.before is None
    assert job.model_copy(update={"after": "a/b/c"}).before == "a/b/c/seed4"
    assert job.model_copy(update={"second_inputs": {"image": "p"}}).extractors == [("image", "boxes"), ("image", "p")]


def test_forms_choose_extractors(planned):
    tuned = {"model": "vsepp", "dataset": "coco", "variant": "tuned", "settings": {"image_network": "resnet18"}}
    made = planned(
        a=SCAN,
        b={"model": "vsepp", "dataset": "coco"},
        c={"model": "mfsr", "dataset": "coco"},
        d={"model": "sg", "dataset": "coco"},
        e=tuned,
        f={"model": "cvs", "dataset": "media"},
    )
    found = {job.name: (job.inputs, job.second_inputs) for job in made.jobs.values()}
    assert found["scan"] == ({"image": "boxes"}, {})
    assert found["vsepp"] == ({"image": "net"}, {})  # captions are read as words, of which there are no features
    assert found["mfsr"] == ({"image": "net"}, {"image": "small"})
    assert found["sg"] == ({"image": "boxes"}, {})  # concepts are those of regions
    assert found["vsepp.tuned"] == ({"image": "shown"}, {})
    assert found["cvs"] == ({"image": "net", "text": "bag"}, {})


def test_controls_of_classes_are_of_all_modalities_and_need_no_features(planned):
    made = planned(a={"model": "cvs", "dataset": "media"})
    for control in ("chance", "oracle"):
        job = made.jobs[f"kinds/full/{control}/seed3"]
        assert job.settings == {"modalities": ["image", "text", "audio"]}
        assert job.inputs == {}
    assert "modalities" not in planned(a=SCAN).jobs["world/full/chance/seed3"].settings


def test_who_plays_whom(planned):
    made = planned(a=SCAN)
    assert [made.dataset_of(name) for name in ("coco", "media", "world", "kinds", "elsewhere")] == [
        "world", "kinds", "world", "kinds", "elsewhere",
    ]  # fmt: skip
    full = {"scale": "full"}
    assert [planned(full, a=SCAN).dataset_of(name) for name in ("coco", "media", "world")] == ["coco", "media", "world"]
    own = {"datasets": {"coco": {"stand_in": "media"}}}
    assert planned(own, a=SCAN).dataset_of("coco") == "media"
    assert planned(own, a=SCAN).dataset_of("media") == "media"  # which plays, and is not played
    assert planned(full | own, a=SCAN).dataset_of("coco") == "media"
    assert planned(full | own, a=SCAN).dataset_of("world") == "world"


def test_a_stand_ins_test_set_is_ranked_whole(planned):
    def folds(params):
        made = planned(params, a=SCAN)
        return made.folds_of(made.tables["one-t1"][1])

    assert folds({}) == 1
    assert folds({"scale": "full"}) == 5
    assert folds({"scale": "full", "datasets": {"coco": {"stand_in": "media"}}}) == 1


def test_an_example_plays_its_data_sets_at_either_scale():
    for scale in ("embedded", "full"):
        overlay = experiments.read_yaml(ROOT / "examples" / "labelled.yaml") | {"scale": scale}
        made = plan(from_config(merge(experiments.read_yaml(ROOT / "params.yaml"), overlay)), ROOT / "papers")
        assert [made.dataset_of(name) for name in ("xmedia", "xmedianet", "pascal", "nuswide")] == ["arrays"] * 4
        assert made.jobs["arrays/full/dscmr/seed0"].inputs == {"image": "precomputed", "text": "precomputed"}


def test_stages_and_folds_are_the_data_sets(planned):
    job = planned({"scale": "full"}, a={"model": "cvs", "dataset": "media"}).jobs["media/full/cvs/seed3"]
    assert (job.stages, job.relevance, job.folds, job.scale) == ((2, 3), "label", [1], "full")
    job = planned({"scale": "full"}, a=SCAN).jobs["coco/full/scan/seed3"]
    assert (job.stages, job.relevance, job.folds) == ((), "group", [1, 5])
    assert planned(a=SCAN).jobs["world/full/scan/seed3"].scale == "embedded"


def test_knowledge_of_a_source(planned):
    job = planned(a={"model": "dckt", "dataset": "media", "source": "media"}).jobs["kinds/full/dckt/seed3"]
    assert (job.source, job.source_inputs) == ("kinds", {"image": "net", "text": "bag"})
    made = planned({"scale": "full"}, a={"model": "dckt", "dataset": "media", "source": "kinds"})
    assert made.datasets == ["kinds", "media"]
    assert planned(a=SCAN).jobs["world/full/scan/seed3"].source_inputs == {}


def test_a_run_that_begins_from_another(planned):
    first, then = SCAN | {"variant": "first"}, SCAN | {"after": "a"}
    job = planned(a=first, b=then).jobs["world/full/scan/seed4"]
    assert (job.after, job.before) == ("world/full/scan.first", "world/full/scan.first/seed4")
    changed = planned(a=first | {"settings": {"margin": 0.9}}, b=then).jobs["world/full/scan/seed4"]
    assert changed.origin != job.origin
    # The first run's seed is this one's own: it tells them apart already.
    assert planned(a=first, b=then).jobs["world/full/scan/seed3"].origin == job.origin


def test_what_cannot_be_read_is_left_out_but_not_all_of_it(planned):
    odd = {"model": "cvs", "dataset": "coco"}
    made = planned(a=odd, b=SCAN)
    assert not any(job.model == "cvs" for job in made.jobs.values())
    with pytest.raises(
        UnreadableError, match=r"datasets\.world\.inputs: model 'cvs' reads text features in the form 'vector'"
    ):
        _ = planned(a=odd).jobs
    arrays = {
        "x": {"reader": "precomputed", "title": "X", "modalities": {"image": {"array": "a"}, "text": {"array": "b"}}}
    }
    with pytest.raises(UnreadableError, match="model 'scan' reads text as words, of which there are none"):
        _ = planned({"scale": "full", "datasets": arrays}, a={"model": "scan", "dataset": "x"}).jobs
    bare = {"inputs": {"image": "net"}}
    with pytest.raises(UnreadableError, match=r"world\.inputs: model 'mfsr' reads image in the form 'pixels' besides"):
        _ = planned(bare, a={"model": "mfsr", "dataset": "coco"}).jobs


def test_an_unknown_data_set(planned):
    with pytest.raises(
        UserError, match=r"one\.yaml: experiments\.a\.dataset: 'cocoa' is no data set .*did you mean 'coco'"
    ):
        planned({"scale": "full"}, a=SCAN | {"dataset": "cocoa"})


def test_embeddings_that_papers_want_drawn(planned):
    made = planned(
        a=SCAN | {"map": True},
        b={"model": "vsepp", "dataset": "coco"},
        c={"model": "cvs", "dataset": "coco", "map": True},
    )
    assert [job.key for job in made.mapped(made.jobs)] == ["world/full/scan/seed3"]
    assert made.mapped({}) == []


def test_runs_asked_for_by_their_path(planned):
    made = planned(a=SCAN | {"settings": {"margin": 0.9}, "quick": True})
    job = job_of(made, "world/full/scan/seed17")
    assert (job.seed, job.settings["margin"], job.quick) == (17, 0.9, False)
    job = job_of(made, "coco/50pct-1cap/scan/seed0")  # not played: the very data set
    assert (job.dataset, job.settings) == ("coco", {"lr": 0.25, "sharpness": 5})
    for path, words in (
        ("world/full/scan", "names no run"),
        ("world/full/scan/sead0", "names no run"),
        ("world/full/scan/seedx", "names no run"),
        ("world/full/scan.big/seed0", "no experiment of papers/.* defines the variant 'big' of scan"),
        ("word/full/scan/seed0", "data set 'word' is unknown; did you mean 'world'"),
        ("world/full/scann/seed0", "world/full/scann/seed0: model 'scann' is unknown; did you mean 'scan'"),
        ("world/half/scan/seed0", "run world/half/scan/seed0: split: "),
        ("world/full/cvs/seed0", "world/full/cvs/seed0: params.yaml: .*model 'cvs' reads text"),
    ):
        with pytest.raises(UserError, match=words):
            job_of(made, path)


def test_a_runs_folder_tells_its_job(tmp_path, planned):
    folder = tmp_path / "results/runs/world/full/scan/seed3"
    with pytest.raises(
        UserError, match=r"config\.yaml: not found; train the run first \(crossmodal train world/full/scan/seed3\)"
    ):
        job_in(folder)
    folder.mkdir(parents=True)
    job = planned(a=SCAN).jobs["world/full/scan/seed3"]
    (folder / "config.yaml").write_text(yaml.safe_dump(job.model_dump(mode="json")))
    assert job_in(folder) == job
    (folder / "config.yaml").write_text("seed: 1\n")
    with pytest.raises(UserError, match=r"config\.yaml: dataset: is missing"):
        job_in(folder)


# -- fallbacks --------------------------------------------------------------------------------------------------------
