"""Experiments to jobs: which settings win, what a run depends on, who plays whom, and fallbacks to be asked for."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

import pytest
import yaml

from crossmodal import experiments
from crossmodal.core.errors import UserError
from crossmodal.dag import Dag, job_of
from crossmodal.experiments import Job, UnreadableError, check_settings, from_config, job_in, merge, plan
from crossmodal.experiments.sweeps import Sweep

ROOT = Path(__file__).parents[2]
TABLE = {
    "id": "t1",
    "title": "T",
    "source": "s",
    "dataset": "coco",
    "protocol": "p",
    "folds": 5,
    "columns": [],
    "rows": [],
}
PAPER = {"title": "t", "authors": "a", "venue": "v", "year": 2000, "tables": [TABLE]}
PARAMS = {
    "papers": ["one"],
    "seeds": [3, 4],
    "datasets": {
        "world": {"reader": "world", "title": "W", "models": {"scan": {"dim": 1, "epochs": 1, "lr": 0.5}}},
        "kinds": {
            "reader": "media_world",
            "title": "K",
            "relevance": "label",
            "inputs": {"text": "bag", "audio": "mfcc"},
        },
        "coco": {"reader": "karpathy", "title": "C", "folds": [1, 5], "annotations": "a.json", "images": "raw"},
        "media": {
            "reader": "xmedia",
            "title": "M",
            "root": "raw",
            "relevance": "label",
            "stages": [2, 3],
            "inputs": {"text": "bag"},
        },
    },
    "extractors": {
        "net": {"extractor": "image", "network": "resnet18", "weights": "seeded"},
        "boxes": {"extractor": "regions", "boxes": "grid", "network": "resnet18", "weights": "world"},
        "small": {"extractor": "pixels", "resize": 8, "crop": 8},
        "shown": {"extractor": "pixels", "resize": 32, "crop": 32},
        "bag": {"extractor": "text", "modality": "text", "kind": "bag_of_words"},
        "mfcc": {"extractor": "audio", "modality": "audio"},
    },
    "inputs": {"image": {"vector": "net", "regions": "boxes", "pixels": "small", "images": "shown"}},
    "models": {"scan": {"lr": 0.25, "sharpness": 5}},
    "scales": {"embedded": {"stand_ins": {"media": "kinds", "coco": "world"}}},
}
SCAN = {"model": "scan", "dataset": "coco"}


@pytest.fixture
def planned(tmp_path):
    def make(params=None, other=None, **named):
        papers = {"one": named, **({"two": other} if other is not None else {})}
        for name, chosen in papers.items():
            (tmp_path / f"{name}.yaml").write_text(yaml.safe_dump(PAPER | {"experiments": chosen}))
        return plan(from_config(merge(PARAMS, {"papers": list(papers), **(params or {})})), tmp_path)

    return make


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

WORDS = {"a3vse": "word_embedding", "dpc": "word_embedding", "mfsr": "word_embedding"}


@pytest.mark.parametrize("model", WORDS)
def test_random_word_vectors_are_asked_for_at_scale_full(planned, model):
    one = {"model": model, "dataset": "coco"}
    told = check_settings(planned(a=one))
    assert any(what.startswith(f"{model}: word vectors: seeded") for what in told)
    with pytest.raises(UserError, match=rf"params\.yaml: models\.{model}\.word_embedding: not set") as error:
        check_settings(planned({"scale": "full"}, a=one))
    assert "set it to `seeded` if you want them" in str(error.value)
    for value in ("seeded", "glove.txt"):
        chosen = {"scale": "full", "models": {model: {"word_embedding": value}}}
        told = check_settings(planned(chosen, a=one))
        assert any("word vectors" in what for what in told) is (value == "seeded")


@pytest.mark.parametrize("scale", ["embedded", "full"])
def test_vectors_of_the_classes_words_are_named(planned, scale):
    one = {"model": "devise", "dataset": "media", "settings": {"class_vectors": "words"}}
    with pytest.raises(UserError, match="class_vectors: words: names no word vectors; set `word_vectors`"):
        check_settings(planned({"scale": scale}, a=one))
    one["settings"]["word_vectors"] = "seeded"
    assert any(
        "class vectors: seeded random vectors" in what for what in check_settings(planned({"scale": scale}, a=one))
    )
    one["settings"]["word_vectors"] = "glove.txt"
    assert not any("class vectors" in what for what in check_settings(planned({"scale": scale}, a=one)))


def test_random_weights_of_an_extractor_are_named_where_it_is_read(planned):
    assert "extractor net: weights: seeded random numbers, which are not trained" in check_settings(
        planned(a={"model": "vsepp", "dataset": "coco"})
    )
    read = planned(a=SCAN)
    read = [job for job in read.jobs.values() if job.model == "scan"]
    assert all(("image", "net") not in job.extractors for job in read)


def test_the_settings_of_each_data_set_are_checked(planned):
    """Those of runs of one name too, whichever data set is planned last."""
    both = {"a": SCAN, "b": SCAN | {"dataset": "twin"}}
    twin = {"reader": "world", "title": "T"}
    for wrong in ("world", "twin"):
        odd = {wrong: {"models": {"scan": {"margn": 1}}}}
        with pytest.raises(UserError, match=r"model scan: margn: unknown key; did you mean 'margin'"):
            check_settings(planned({"datasets": merge({"twin": twin}, odd)}, **both))
    for seeded in ("world", "twin"):
        words = {name: {"models": {"dpc": {"word_embedding": "x.txt"}}} for name in {"world", "twin"} - {seeded}}
        runs = {key: one | {"model": "dpc"} for key, one in both.items()}
        told = check_settings(planned({"datasets": merge({"twin": twin}, words)}, **runs))
        assert any(what.startswith("dpc: word vectors: seeded") for what in told)


SENTENCES = ("vse0", "vsepp", "contrastive", "scan", "dan", "dpc", "a3vse", "mfsr", "order_embeddings", "cmpm", "dspe",
             "rrfnet", "mcnn", "cmrsc", "dvsa", "gsmn", "sgm", "pvse", "dsve", "sco", "gxn")  # fmt: skip


@pytest.mark.parametrize("split", ["10pct-1cap", "50pct-5cap"])
def test_every_system_of_sentences_has_a_place_in_the_sparse_matrix(tmp_path, split):
    """An experiment names a subset for any of them, with the small settings of the drawn world."""
    named = {name: {"model": name, "dataset": "flickr30k", "split": split} for name in SENTENCES}
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(PAPER | {"experiments": named}))
    value = experiments.read_yaml(ROOT / "params.yaml") | {"papers": ["mine"], "seeds": [0]}
    made = plan(from_config(value), tmp_path)
    check_settings(made)
    small = value["datasets"]["world"]["models"]
    for name in SENTENCES:
        job = made.jobs[f"world/{split}/{name}/seed0"]
        assert job.tasks[0] == "instance_retrieval"
        assert {key: job.settings[key] for key in small[name]}.keys() == small[name].keys()
        assert f"data/world/splits/{split}.parquet" in made.files_of(job)


NOT_TO_BE_HAD = {
    *(
        f"{model}: sentence vectors: those that `inputs` names, not HGLMM Fisher vectors"
        for model in ("dspe", "rrfnet")
    ),
    "gsmn: dependencies of words: neighbouring words, not CoreNLP's",
    "sgm: relations of regions: each with its nearest, by their boxes, not detected ones",
    "sgm: relations of words: windows of words, not parsed ones",
}
"""Stand-ins for what no public file holds; nothing in them is random."""


def test_nothing_is_random_unasked_in_the_shipped_file_at_scale_full():
    """Published files are named; what is missing then stops, and says where it is to be had."""
    value = experiments.read_yaml(ROOT / "params.yaml") | {"scale": "full"}
    made = plan(from_config(value), ROOT / "papers")
    assert {*check_settings(made)} == NOT_TO_BE_HAD
    assert not [name for name, one in made.params.extractors.items() if "seeded" in one.settings.values()]


def test_fallbacks_are_kept_with_the_check(tmp_path, monkeypatch, planned):
    made = planned(a={"model": "a3vse", "dataset": "coco"})
    shutil.copytree(tmp_path, tmp_path / "papers", ignore=lambda folder, names: [n for n in names if n == "papers"])
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", "")
    monkeypatch.setenv("CROSSMODAL_PARAMS", "")
    config = merge(PARAMS, {"papers": ["one"]})
    first = Dag(config).fallbacks
    assert first == check_settings(made)
    assert "a3vse: word vectors: seeded, not GloVe" in first

    def never(plan):
        raise AssertionError("checked again")

    monkeypatch.setattr(experiments, "check_settings", never)
    assert Dag(config).fallbacks == first
    with pytest.raises(AssertionError, match="checked again"):
        Dag(merge(config, {"seeds": [9]}))
