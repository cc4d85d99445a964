"""params.yaml: what refers to what, places that are filled in, overlays."""

from __future__ import annotations

from inspect import ismodule
from pathlib import Path

import pytest
import yaml
from pydantic import ValidationError

from crossmodal import experiments
from crossmodal.core import limits
from crossmodal.core.errors import UserError
from crossmodal.core.limits import Limits
from crossmodal.experiments import Job, config_of, extractors_in, from_config, load, merge

ROOT = Path(__file__).parents[2]
SMALL = {
    "papers": [],
    "seeds": [0],
    "datasets": {"world": {"reader": "world", "title": "W"}, "coco": {"reader": "karpathy", "title": "C"}},
    "extractors": {"net": {"extractor": "image"}, "boxes": {"extractor": "regions"}},
    "inputs": {"image": {"vector": "net", "regions": "boxes"}},
    "scales": {"embedded": {"stand_ins": {"coco": "world"}}},
}


def with_(**blocks):
    return from_config(merge(SMALL, blocks))


def fault(**blocks) -> str:
    with pytest.raises(UserError) as caught:
        with_(**blocks)
    return str(caught.value)


@pytest.mark.parametrize(
    ("blocks", "words"),
    [
        ({"datasets": {"coco": {"reader": "karpaty"}}}, "coco.reader: 'karpaty' is unknown; did you mean 'karpathy'"),
        ({"extractors": {"net": {"extractor": "imag"}}}, "net.extractor: 'imag' is unknown; did you mean 'image'"),
        ({"datasets": {"coco": {"inputs": {"image": "nett"}}}}, "datasets.coco.inputs.image: 'nett' is no extractor"),
        (
            {"inputs": {"image": {"vector": "nett"}}},
            "params.yaml: inputs.image: 'nett' is no extractor of `extractors`; did you mean 'net'",
        ),
        ({"scales": {"embedded": {"models": {"scan": {}}}}}, "scales.embedded.models: unknown key"),
        ({"datasets": {"coco": {"like": "word"}}}, "datasets.coco.like: 'word' is no data set of `datasets`; did you"),
        ({"datasets": {"coco": {"like": "world"}, "world": {"like": "coco"}}},
         "datasets.world.like: world is like coco is like world, in a circle"),
        ({"datasets": {"coco": {"like": "coco"}}}, "datasets.coco.like: coco is like coco, in a circle"),
        ({"scales": {"embedded": {"stand_ins": {"coco": "word"}}}}, "embedded.stand_ins.coco: 'word' is no data set"),
        ({"datasets": {"coco": {"stand_in": "word"}}}, "datasets.coco.stand_in: 'word' is no data set"),
        ({"models": {"scam": {}}}, "params.yaml: models: model 'scam' is unknown; did you mean 'scm'"),
        ({"datasets": {"coco": {"models": {"scam": {}}}}}, "datasets.coco.models: model 'scam' is unknown"),
        ({"datasets": {"coco": {"kind": "karpathy"}}}, "these are the same key"),
        ({"datasets": {"Coco": {"reader": "world", "title": "c"}}}, "'Coco': a name consists of lower-case letters"),
        ({"extractors": {"a-b": {"extractor": "image"}}}, "'a-b': a name consists of lower-case letters"),
        ({"seeds": []}, "seeds: "),
        ({"seeds": [*range(20_000)]}, "seeds: List should have at most 200 items"),
        ({"evaluation": {"shards": 0}}, "evaluation.shards: "),
        ({"threads": {"train": 0}}, "threads.train: "),
        ({"datasets": {"coco": {"stages": [3, 0]}}}, "datasets.coco.stages.1: "),
        ({"sede": 1}, "sede: unknown key; did you mean 'seeds'"),
    ],
)  # fmt: skip
def test_mistakes_are_named(blocks, words):
    assert words in fault(**blocks)


def test_settings_of_the_sets_that_a_data_set_is_like():
    """Of all of them in turn: mine is like coco, which is like the world; the nearest one wins."""
    world = {"models": {"scan": {"dim": 1, "epochs": 1, "lr": 0.1}, "vse0": {"dim": 9}}}
    coco = {"like": "world", "models": {"scan": {"epochs": 2, "lr": 0.2}}}
    mine = {"reader": "world", "title": "M", "like": "coco", "models": {"scan": {"lr": 0.3}}}
    made = with_(datasets={"world": world, "coco": coco, "mine": mine}, models={"scan": {"dim": 7, "clip": 5}})
    assert made.settings_on("mine", "scan") == {"dim": 1, "epochs": 2, "lr": 0.3, "clip": 5}
    assert made.settings_on("coco", "scan") == {"dim": 1, "epochs": 2, "lr": 0.2, "clip": 5}
    assert made.settings_on("mine", "vse0") == {"dim": 9}


def test_kind_is_another_word_for_reader():
    made = from_config({**SMALL, "datasets": {"world": {"kind": "world", "title": "W", "images": 5}}})
    assert made.datasets["world"].reader == "world"
    assert made.datasets["world"].settings == {"images": 5}


def test_features_made_elsewhere_need_no_extractors_block():
    assert with_().extractors["precomputed"].extractor == "precomputed"
    own = with_(extractors={"precomputed": {"extractor": "precomputed", "on_error": "skip"}})
    assert own.extractors["precomputed"].settings == {"on_error": "skip"}


def test_what_of_a_data_set_is_arrays():
    def arrays(reader, **modalities):
        block = {"reader": reader, "title": "T", "modalities": modalities}
        return with_(datasets={"x": block}).datasets["x"].arrays

    assert arrays("precomputed", image=[{"array": "a"}], text={"captions": "t.txt"}) == {"image": True, "text": False}
    assert arrays("precomputed", text=[{"array": "a"}, {"array": "b"}], image="odd") == {"text": True, "image": True}
    assert arrays("karpathy", image=[{"array": "a"}]) is None
    assert with_().datasets["world"].arrays is None


def test_extractors_of_a_modality():
    assert extractors_in("a") == ["a"]
    assert extractors_in({"vector": "a", "regions": "b"}) == ["a", "b"]


def test_who_plays_for_others():
    made = with_(
        datasets={"coco": {"stand_in": "mine"}, "mine": {"reader": "world", "title": "M"}},
        scales={"full": {"stand_ins": {"coco": "coco"}}},
    )
    assert made.players(["embedded"]) == {"world", "mine"}
    assert made.players(["full"]) == {"mine", "coco"}
    assert made.players() == {"world", "mine", "coco"}


def test_places_are_filled_wherever_they_are_named():
    made = from_config(
        {
            **SMALL,
            "here": "raw/a",
            "there": "b",
            "datasets": {
                "world": {"reader": "world", "title": "{here} {there}", "deep": [{"x": "{here}/1"}, 2, "{other}"]},
            },
        }
    )
    assert made.datasets["world"].title == "raw/a b"
    assert made.datasets["world"].settings == {"deep": [{"x": "raw/a/1"}, 2, "{other}"]}
    with pytest.raises(UserError, match="unused: unknown key"):
        from_config({**SMALL, "unused": "x"})


def titled(title, **blocks):
    return from_config({**SMALL, **blocks, "datasets": {"world": {"reader": "world", "title": title}}})


def test_what_fills_a_place_is_not_filled_again():
    """Forty places that name the next one twice would be 2 ** 40 letters."""
    doubling = {f"a{n}": f"{{a{n + 1}}}{{a{n + 1}}}" for n in range(40)}
    assert titled("{a0}{a1}", a0="{a1}", a1="x").datasets["world"].title == "{a1}x"
    with pytest.raises(UserError, match=r"params\.yaml: a1: unknown key"):
        titled("{a0}", **doubling, a40="x")


@pytest.mark.parametrize(
    ("title", "words"),
    [
        ("{a}" * 3000, r"\{a\}: fills more than 2,097,152 characters in"),
        ([["x"] * 101] * 10, "has more than 1,000 values, those that aliases repeat among them"),
    ],
)
def test_what_is_filled_in_is_bounded(monkeypatch, title, words):
    monkeypatch.setattr(limits, "_limits", Limits(yaml_nodes=1000 if isinstance(title, list) else 10**6))
    with pytest.raises(UserError, match=rf"params\.yaml: {words}"):
        titled(title, a="x" * 1000)


def test_many_places_are_looked_up_by_their_names():
    places = {f"k{n}": "v" for n in range(20_000)}
    made = titled("t", **places, extractors={"net": {"extractor": "image", "texts": [f"{{{k}}}" for k in places]}},
                  inputs={}, scales={})  # fmt: skip
    assert made.extractors["net"].settings["texts"] == ["v"] * 20_000


def test_a_configuration_that_is_nested_without_end():
    deep: list = []
    deep.append(deep)
    with pytest.raises(UserError, match="nested too deeply"):
        titled(deep)


def test_later_files_win(tmp_path):
    for name, value in (("a", SMALL), ("b", {"seeds": [1], "splits": {"seed": 5}}), ("c", {"seeds": [2, 3]})):
        (tmp_path / f"{name}.yaml").write_text(yaml.safe_dump(value))
    found = load(tmp_path / "a.yaml", [tmp_path / "b.yaml", tmp_path / "c.yaml"])
    assert (found.seeds, found.splits.seed) == ([2, 3], 5)
    assert load(tmp_path / "a.yaml").seeds == [0]
    (tmp_path / "d.yaml").write_text("sede: 1\n")
    with pytest.raises(UserError, match=r"a\.yaml: sede: unknown key"):
        load(tmp_path / "a.yaml", [tmp_path / "d.yaml"])


def test_the_environment_says_where_runs_are_tracked(monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    assert with_(tracking={"uri": "sqlite:///a.db"}).tracking.address == "sqlite:///a.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://b")
    assert with_(tracking={"uri": "sqlite:///a.db"}).tracking.address == "http://b"


def test_the_shipped_file():
    made = load(ROOT / "params.yaml")
    assert (made.scale, made.seeds, made.evaluation.shards) == ("embedded", [0, 1, 2], 1)
    assert not made.at("full").stand_ins
    assert not any(dataset.stand_in for dataset in made.datasets.values())
    assert experiments.Params.model_validate(made.model_dump()) == made


@pytest.mark.parametrize(
    ("seeds", "words"),
    [
        ([-1], "seeds: -1: a seed is a whole number from 0 to 4294967295"),
        ([2**32], "seeds: 4294967296: a seed is a whole number from 0 to 4294967295"),
        ([0, 3, 0], "seeds: 0 occurs twice"),
        ([True], "seeds: true is no number; expected whole numbers such as [0, 1, 2]"),
        ([1.5], "seeds.0: "),
        ([], "seeds: "),
    ],
)
def test_seeds_that_are_none(seeds, words):
    with pytest.raises(UserError) as caught:
        with_(seeds=seeds)
    assert words in str(caught.value)


def test_the_largest_seed():
    assert with_(seeds=[0, 2**32 - 1]).seeds == [0, 4294967295]


def test_dvc_runs_again_for_every_setting():
    """Tracking alone changes no result; extractors do so by the features, which are data."""
    stages = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
    keys = set(yaml.safe_load((ROOT / "params.yaml").read_text())) - {"tracking"}
    assert {*stages["benchmark"]["params"], "extractors"} == keys
    assert {"datasets", "extractors", "inputs", "models", "papers", "scale", "scales"} <= {*stages["data"]["params"]}
    made = {"data", "results/.changes.json"}
    deps = {dep for stage in stages.values() for dep in stage.get("deps", ())}
    assert all((ROOT / dep).exists() for dep in deps - made)
    assert stages["raw"]["always_changed"]
    assert "results/.changes.json" in stages["data"]["deps"]


def test_values_on_the_command_line_are_read_as_snakemake_reads_them(tmp_path):
    from snakemake.cli import parse_config

    words = [
        "scale=full",
        "seeds=[0, 1]",
        "paths={data: mine}",
        "paths={results: there}",
        "many=3",
        "share=0.5",
        "on=True",
    ]
    words += ["photographs=/data/flickr8k", "none=", "odd=[a", "equals=a=b"]
    assert config_of(words) == parse_config(words)
    (tmp_path / "a.yaml").write_text(yaml.safe_dump({**SMALL, "seeds": [5], "paths": {"data": "here"}}))
    (tmp_path / "b.yaml").write_text("where: nowhere\npaths: {results: '{where}/results'}\n")
    made = load(tmp_path / "a.yaml", [tmp_path / "b.yaml"], config_of(["seeds=[0, 1]", "where=mine"]))
    assert made.seeds == [0, 1]
    assert (made.paths.data, made.paths.results) == ("here", "mine/results")
    for word in ("photographs", "=x", "a b=c"):
        with pytest.raises(UserError, match="expected NAME=VALUE"):
            config_of([word])


def test_an_overlay_alone_is_told_what_it_lies_over(tmp_path):
    (tmp_path / "b.yaml").write_text("seeds: [1]\n")
    with pytest.raises(UserError, match=r"so that it is an overlay; .*\(--params params.yaml --params .*b\.yaml\)"):
        load(tmp_path / "b.yaml")


def test_a_place_may_be_filled_by_a_number():
    extractors = {"net": {"extractor": "image", "resize": "{side}", "weights": "of {side} pixels"}}
    settings = with_(extractors=extractors, side=224).extractors["net"].settings
    assert settings == {"resize": 224, "weights": "of 224 pixels"}
    assert with_(extractors=extractors, side="raw").extractors["net"].settings["resize"] == "raw"
    with pytest.raises(UserError, match="side"):
        with_(side=224)  # nothing refers to it


def test_what_holds_where_a_file_says_nothing():
    params = from_config(SMALL)
    assert (params.scale, params.paths.data, params.paths.results) == ("embedded", "data", "results")
    assert (params.threads.features, params.threads.train) == (64, 1)
    assert (params.evaluation.shards, params.splits.seed) == (1, 0)
    assert (params.tracking.enabled, params.tracking.models) == (True, "all")
    assert params.tracking.uri == "sqlite:///mlflow.db"


@pytest.mark.parametrize(
    "block", [{"threads": {"train": 0}}, {"threads": {"features": 0}}, {"evaluation": {"shards": 0}}]
)
def test_nothing_is_done_by_none(block):
    ((name, settings),) = block.items()
    assert f"{name}.{next(iter(settings))}: Input should be greater than or equal to 1; found 0" in fault(**block)
    assert with_(**{name: dict.fromkeys(settings, 1)})


def test_bounds_of_what_is_filled_in_are_reached_and_not_passed(monkeypatch):
    """A title of six characters, which stands there twice; and the values of the file, each counted once."""
    blocks = {"place": "sixsix", "datasets": {"world": {"title": "{place}!"}, "coco": {"title": "{place}!"}}}
    monkeypatch.setattr(limits, "_limits", Limits(yaml_bytes=12))
    assert with_(**blocks).datasets["coco"].title == "sixsix!"
    monkeypatch.setattr(limits, "_limits", Limits(yaml_bytes=11))
    assert "fills more than 11 characters in" in fault(**blocks)

    def count(value):
        if isinstance(value, dict):
            return 1 + sum(map(count, value.values()))
        return 1 + sum(map(count, value)) if isinstance(value, list) else 1

    values = sum(map(count, merge(SMALL, {"datasets": blocks["datasets"]}).values()))
    monkeypatch.setattr(limits, "_limits", Limits(yaml_nodes=values))
    assert with_(**blocks)
    monkeypatch.setattr(limits, "_limits", Limits(yaml_nodes=values - 1))
    assert f"has more than {values - 1} values" in fault(**blocks)


def test_a_job_has_a_thread_at_least():
    with pytest.raises(ValidationError, match="threads"):
        Job(dataset="a", split="full", model="vsepp", seed=0, threads=0)


def test_all_that_the_package_offers_is_listed():
    offered = {name for name, value in vars(experiments).items() if not name.startswith("_") and not ismodule(value)}
    assert set(experiments.__all__) == offered - {"annotations"}
