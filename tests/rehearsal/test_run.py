"""All papers at the full settings without their data: a run of every system is tried on small sets in the layouts."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest

from crossmodal import experiments
from crossmodal.core import paths
from crossmodal.core.files import read_json
from crossmodal.rehearsal import run
from crossmodal.rehearsal.layouts import LAYOUTS

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[2]
# Networks as published, shown little pictures: their time is not what is tried here.
LITTLE = {
    "resnet152": {"resize": 64, "crop": 64},
    "video_resnet152": {"resize": 64, "crop": 64, "frames": 2},
    "bottomup": {"resize": 64, "longest": 96, "proposals": 40},
}
# Rounds and layers of one kind are many, and widths are large, as published: the same code builds fewer and narrower
# ones. Large models, whose trials are other ones, remain: those that fine-tune a network.
NARROW = {
    "ccl": {"hidden": [512], "dim": 256},
    "cmrsc": {"dim": 256},
    "dan": {"dim": 256, "word_dim": 256},
    "dpc": {"batch_size": 4, "candidates": 64},
    "dsve": {"dim": 600, "units": 600},
    "gsmn": {"dim": 256},
    "gxn": {"dim": 256, "channels": 16},
    "jrl": {"rounds": 1},
    "mcsm": {"dim": 512},
    "mfsr": {"layers": 1, "dim": 768},  # of 4 and 3072, which take minutes
    "pls": {"dim": 4},
    "s2upg": {"rounds": 1},
    "scan": {"dim": 256},
    "sgm": {"dim": 256, "units": 512},
    "ugach": {"hidden": [512]},
    "vsepp": {"image_crop": 64},
}


@pytest.fixture(scope="module")
def rehearsed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("rehearsed")
    value = experiments.read_yaml(ROOT / "params.yaml") | {"scale": "full", "seeds": [0]}
    for name, little in LITTLE.items():
        value["extractors"][name] |= little
    for name, narrow in NARROW.items():
        value["models"][name] = value["models"].get(name, {}) | narrow
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("TORCH_HOME", str(folder / "torch"))
        patch.setitem(LAYOUTS, "karpathy", partial(LAYOUTS["karpathy"], images=400))
        patch.setitem(LAYOUTS, "cub", partial(LAYOUTS["cub"], images=4))
        plan = experiments.plan(experiments.from_config(value), ROOT / "papers")
        jobs, tried = {}, set()
        smaller_first = sorted(plan.jobs.items(), key=lambda one: one[1].dataset in ("coco", "xmedianet"))
        for key, job in smaller_first:  # each system, and each layout with each of its inputs: the command tries all
            what = {job.model, (plan.params.datasets[job.dataset].reader, *sorted(job.inputs.items()))}
            if not what <= tried:
                jobs[key] = job
                tried |= what
        for job in [*jobs.values()]:
            while job.before is not None:
                job = plan.jobs[job.before]
                jobs[job.key] = job
        paths.allow({name: dataset.settings for name, dataset in plan.params.datasets.items()})  # as the command does
        found = run.run(plan, jobs, workers=2, paced=False)
        yield plan, jobs, found, folder


def test_every_run_is_sound(rehearsed):
    _, jobs, found, _ = rehearsed
    assert {key: trial.failed for key, trial in found.trials.items() if trial.failed} == {}
    assert found.failed == {}
    assert found.sound
    assert set(found.trials) == set(jobs)
    assert len({job.model for job in jobs.values()}) > 25


def test_what_is_missing_is_named_with_where_it_is_to_be_had(rehearsed):
    _, _, found, _ = rehearsed
    named = {one.what: one for one in found.missing}
    assert len(found.data) >= 5
    for name in found.data:
        assert named[f"data set {name}"].home.startswith("http"), name
    assert "raw/flickr30k/dataset_flickr30k.json" in named["data set flickr30k"].message
    assert "faster_rcnn_from_caffe_attr" in named["extractor bottomup"].message
    assert any("raw/glove/glove.6B.300d.txt" in one.message for one in found.missing)
    assert any("GoogleNews-vectors-negative300.bin" in one.message for one in found.missing)


def test_published_sizes_are_planned_with(rehearsed):
    _, _, found, _ = rehearsed
    made = found.data["flickr30k"]
    assert (made.origin, made.known) == ("small set", True)
    assert made.share == pytest.approx({"train": 29000 / 200, "val": 10.14, "test": 10.0})
    regions = next(one for one in made.extraction if one["array"] == "image.bottomup")
    assert regions["items"] == 29000 + 1014 + 1000
    assert regions["bytes_per_item"] == 36 * 2048 * 4


def test_nothing_large_is_left_and_nothing_of_the_users_is_touched(rehearsed):
    _, _, _, folder = rehearsed
    written = read_json(folder / "results/rehearsal/rehearsal.json")
    assert written["failed"] == {}
    assert sorted(path.name for path in (folder / "results/rehearsal").iterdir()) == ["rehearsal.json"]
    assert not (folder / "data").exists()
    assert not (folder / "results/runs").exists()
