"""Which features a run reads: those of its data set, or those of the encoder that its experiment names."""

from __future__ import annotations

from pathlib import Path

import pytest

from crossmodal.core.errors import UserError
from crossmodal.experiments import from_config, merge, plan
from tests.experiments.small_plan import PARAMS, SCAN
from tests.on_world import on_world

ROOT = Path(__file__).parents[2]
ENCODERS = {
    "encoders": {"new": {"image": {"vector": "other", "regions": "boxes"}}, "bare": {"image": "small"}},
    "extractors": {"other": {"extractor": "image", "network": "resnet34", "weights": "seeded"}},
}
WORLD = {"datasets": {"world": {"inputs": {"text": "bag"}}}}


def test_an_encoder_replaces_the_modalities_that_it_has(planned):
    cca = {"model": "cca", "dataset": "world"}
    made = planned(merge(ENCODERS, WORLD), a=cca, b={**cca, "variant": "new", "encoder": "new"})
    assert made.jobs["world/full/cca/seed3"].inputs == {"image": "net", "text": "bag"}
    job = made.jobs["world/full/cca.new/seed3"]
    assert job.inputs == {"image": "other", "text": "bag"}
    assert job.hash != made.jobs["world/full/cca/seed3"].hash
    assert "data/world/features/image.other.json" in made.files_of(job)
    assert ("image", "other") in made.extractors_of("world")
    assert ("image", "other") not in planned(ENCODERS, a=SCAN).extractors_of("world")


def test_a_data_set_has_encoders_of_its_own_alone(planned):
    params = merge(ENCODERS, {"datasets": {"world": {"encoders": {"new": {"image": {"regions": "small"}}}}}})
    lacking = {**SCAN, "variant": "b", "encoder": "bare"}
    made = planned(params, a={**SCAN, "variant": "new", "encoder": "new"}, b=lacking)
    assert made.jobs["world/full/scan.new/seed3"].inputs == {"image": "small"}
    assert not [key for key in made.jobs if ".b/" in key]  # left out, since the data set lacks it
    with pytest.raises(UserError, match=r"datasets\.world\.encoders: has no 'nwe'; did you mean 'new'"):
        _ = planned(params, a={**SCAN, "encoder": "nwe"}).jobs
    with pytest.raises(UserError, match=r"params\.yaml: encoders: has no 'other'"):
        _ = planned(ENCODERS, a={**SCAN, "encoder": "other"}).jobs


def test_an_unknown_extractor_of_an_encoder_is_named():
    with pytest.raises(UserError, match=r"encoders\.new\.image: 'smal' is no extractor of `extractors`; did you mean"):
        from_config(merge(PARAMS, {"encoders": {"new": {"image": "smal"}}}))
    with pytest.raises(UserError, match=r"datasets\.world\.encoders\.new\.image: 'regoins' is no form of input"):
        from_config(merge(PARAMS, {"datasets": {"world": {"encoders": {"new": {"image": {"regoins": "net"}}}}}}))


def test_the_paper_of_encoders_is_planned_at_both_scales():
    """On drawn data nothing is read that does not come with the package; at full scale no encoder is left out."""
    chosen = on_world(papers=["encoders", "encoders_five"], seeds=[0])
    small, full = (plan(from_config({**chosen, "scale": scale}), ROOT / "papers") for scale in SCALES)
    read = {name for job in small.jobs.values() for _, name in job.extractors}
    blocks = {name: small.params.extractors[name].settings for name in read}
    assert {block["model"] for block in blocks.values() if "model" in block} == {"world"}
    assert {block["weights"] for block in blocks.values() if "weights" in block} == {"world"}
    assert small.jobs["world/none/zeroshot.clip/seed0"].inputs == {"image": "towers", "text": "towers_text"}
    assert small.jobs["world/10pct-1cap/scan.clip/seed0"].inputs == {"image": "towers_patches"}
    wanted = {f"{e.dataset}/{e.split}" for paper in full.papers.values() for e in paper.experiments.values()}
    assert wanted <= {f"{job.dataset}/{job.split}" for job in full.jobs.values()}
    assert full.jobs["flickr30k/full/vsepp/seed0"].inputs == {"image": "resnet152"}


SCALES = ("embedded", "full")
