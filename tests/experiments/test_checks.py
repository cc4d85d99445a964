"""The settings of planned runs are checked by the modules that they belong to, and fallbacks are to be asked for."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import yaml

from crossmodal import experiments
from crossmodal.core.errors import UserError
from crossmodal.dag import Dag
from crossmodal.experiments import check_datasets, check_settings, from_config, merge, plan
from crossmodal.experiments.named import before_of
from tests.experiments.small_plan import PAPER, PARAMS, SCAN

ROOT = Path(__file__).parents[2]
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
    """An experiment names a subset for any of them, with the small settings of the drawn scenes."""
    named = {name: {"model": name, "dataset": "flickr30k", "split": split} for name in SENTENCES}
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(PAPER | {"experiments": named}))
    value = experiments.read_yaml(ROOT / "params.yaml") | {"papers": ["mine"], "seeds": [0]}
    made = plan(from_config(value), tmp_path)
    check_settings(made)
    small = value["datasets"]["world"]["models"]  # which the scenes are like
    for name in SENTENCES:
        job = made.jobs[f"scenes/{split}/{name}/seed0"]
        assert job.tasks[0] == "instance_retrieval"
        assert {key: job.settings[key] for key in small[name]}.keys() == small[name].keys()
        assert f"data/scenes/splits/{split}.parquet" in made.files_of(job)


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


def test_the_settings_of_a_data_set_are_checked_by_its_reader(planned):
    one = planned(a=SCAN)
    check_datasets(one)
    with pytest.raises(UserError, match=r"params\.yaml: datasets\.world: side: unknown key"):
        check_datasets(planned({"datasets": {"world": {"side": 48}}}, a=SCAN))
    with pytest.raises(UserError, match=r"params\.yaml: datasets\.world: images: .*found 0"):
        check_datasets(planned({"datasets": {"world": {"images": 0}}}, a=SCAN))


def test_the_run_before_lies_beside_a_run_whose_folder_has_its_name(planned, tmp_path, monkeypatch):
    """Wherever that is; a run in a folder of another name begins from the planned one."""
    monkeypatch.chdir(tmp_path)
    one = planned(a={"model": "vsepp", "dataset": "coco"})
    job = next(iter(one.jobs.values())).model_copy(update={"after": "world/full/vse0", "variant": "later"})
    assert job.before == f"world/full/vse0/seed{job.seed}"
    elsewhere = tmp_path / "elsewhere"
    assert before_of(one, job, elsewhere / job.key) == elsewhere / job.before
    assert before_of(one, job, elsewhere / "mine") == Path("results/runs") / job.before
    assert before_of(one, job.model_copy(update={"after": None}), elsewhere / job.key) is None
