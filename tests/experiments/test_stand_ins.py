"""Who plays whom where raw files are there: published data sets alone are played, and those that are there are not."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml

from crossmodal import experiments
from crossmodal.core import paths
from crossmodal.core.files import read_json
from crossmodal.dag import Dag
from crossmodal.experiments import UnreadableError, from_config, merge, plan
from tests.experiments.small_plan import PAPER, PARAMS
from tests.pipeline.commands import call

ROOT = Path(__file__).parents[2]
SCAN = {"model": "scan", "dataset": "coco", "stand_in": {"epochs": 2}, "published": {"epochs": 9}}
MINE = {"reader": "table", "title": "Mine", "annotations": "raw/mine.csv", "images": "raw/mine"}


@pytest.fixture
def planned(tmp_path, monkeypatch):
    """A function that plans experiments in a folder where `a.json` and `raw` of the block `coco` are not yet there."""
    monkeypatch.chdir(tmp_path)

    def make(params=None, **named):
        (tmp_path / "one.yaml").write_text(yaml.safe_dump(PAPER | {"experiments": named}))
        return plan(from_config(merge(PARAMS, params or {})), tmp_path)

    return make


def bring(folder: Path) -> None:
    """The raw files of `coco`."""
    (folder / "raw").mkdir()
    (folder / "a.json").write_text("{}")


def runs(made: experiments.Plan) -> set[str]:
    return {job.key for job in made.jobs.values() if not job.control and job.seed == 3}


@pytest.mark.parametrize("scale", ["embedded", "full"])
def test_ones_own_data_set_is_never_played(planned, scale):
    made = planned({"scale": scale, "datasets": {"mine": MINE}}, a={"model": "scan", "dataset": "mine"})
    assert runs(made) == {"mine/full/scan/seed3"}
    assert made.players() == []


def test_a_published_data_set_plays_itself_once_its_raw_files_are_there(planned, tmp_path):
    assert runs(planned(a=SCAN)) == {"world/full/scan/seed3"}
    (tmp_path / "raw").mkdir()
    assert runs(planned(a=SCAN)) == {"world/full/scan/seed3"}  # the annotations are not there
    (tmp_path / "a.json").write_text("{}")
    made, full = planned(a=SCAN), planned({"scale": "full"}, a=SCAN)
    key = "coco/full/scan/seed3"
    assert runs(made) == {key}
    assert made.jobs[key].identity == full.jobs[key].identity  # a path has its settings at either scale
    assert made.jobs[key].settings["epochs"] == 9
    assert made.folds_of(made.tables["one-t1"][1]) == 5
    off = planned({"scales": {"embedded": {"prefer_raw": False}}}, a=SCAN)
    assert runs(off) == {"world/full/scan/seed3"}
    assert off.jobs["world/full/scan/seed3"].settings["epochs"] == 2


def test_a_stand_in_of_its_own_block_comes_first(planned, tmp_path):
    bring(tmp_path)
    for scale in ("embedded", "full"):
        made = planned({"scale": scale, "datasets": {"coco": {"stand_in": "world"}}}, a=SCAN)
        assert runs(made) == {"world/full/scan/seed3"}
        assert made.players() == ["world plays coco"]


def test_the_source_of_a_transfer(planned, tmp_path):
    """Stand-ins learn from stand-ins, published data sets from published ones: a path has one source."""
    other = {"reader": "xmedia", "title": "O", "root": "other", "relevance": "label", "inputs": {"text": "bag"}}
    drawn = {"reader": "media_world", "title": "D", "relevance": "label", "inputs": {"text": "bag"}}
    stand_ins = {"stand_ins": {"media": "kinds", "other": "kinds"}, "source_stand_ins": {"other": "drawn"}}
    params = {"datasets": {"other": other, "drawn": drawn}, "scales": {"embedded": stand_ins}}
    moved = {"a": {"model": "dckt", "dataset": "media", "source": "other"}, "b": SCAN}

    def sources():
        return {job.key: job.source for job in planned(params, **moved).jobs.values() if job.model == "dckt"}

    played = {f"kinds/full/dckt/seed{seed}": "drawn" for seed in (3, 4)}
    assert sources() == played
    (tmp_path / "other").mkdir()
    assert sources() == played
    (tmp_path / "raw").mkdir()  # of `media`
    assert sources() == {f"media/full/dckt/seed{seed}": "other" for seed in (3, 4)}
    (tmp_path / "other").rmdir()
    assert sources() == {}  # left out, as what cannot be read is
    made = planned(params, **moved)
    with pytest.raises(UnreadableError, match=r"datasets\.other: media learns from it, and its raw files"):
        made.job(made.papers["one"].experiments["a"], 3, "one")


def test_who_plays_whom_in_words(planned, tmp_path):
    both = {"a": SCAN, "b": {"model": "cvs", "dataset": "media"}}
    assert planned(**both).players() == ["world plays coco", "kinds plays media"]
    bring(tmp_path)
    itself = "plays itself: its raw files are there (scales.embedded.prefer_raw: false plays it by its stand-in)"
    assert planned(**both).players() == [f"coco {itself}", f"media {itself}"]
    assert planned({"scale": "full"}, **both).players() == []


def test_list_runs_prints_it_beside_the_runs(planned, tmp_path):
    planned(a=SCAN)
    (tmp_path / "papers").mkdir()
    shutil.move(tmp_path / "one.yaml", tmp_path / "papers")
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(PARAMS))
    code, text = call(tmp_path, "crossmodal", "list", "runs")
    assert code == 0, text
    assert text.count("world plays coco") == 1
    assert "world/full/scan/seed3\n" in text


def test_it_is_decided_once_before_the_rules(planned, tmp_path, monkeypatch):
    """Sub-commands and jobs of a run of Snakemake keep to what was there when it began."""
    planned(a=SCAN)
    (tmp_path / "papers").mkdir()
    shutil.move(tmp_path / "one.yaml", tmp_path / "papers")
    monkeypatch.setenv("PATH", "")
    monkeypatch.setenv("CROSSMODAL_PARAMS", "")
    monkeypatch.setattr(experiments, "check_settings", lambda made: [])

    def handed() -> set[str]:
        config = read_json(Path(os.environ["CROSSMODAL_PARAMS"]))
        return runs(plan(from_config(config), tmp_path / "papers"))

    assert runs(Dag(PARAMS).plan) == handed() == {"world/full/scan/seed3"}
    bring(tmp_path)
    assert handed() == runs(Dag(PARAMS, look=False).plan) == {"world/full/scan/seed3"}
    assert runs(Dag(PARAMS).plan) == handed() == {"coco/full/scan/seed3"}
    (tmp_path / "a.json").unlink()
    assert handed() == runs(Dag(PARAMS, look=False).plan) == {"coco/full/scan/seed3"}
    assert runs(Dag(PARAMS).plan) == {"world/full/scan/seed3"}


def test_the_demonstration_draws_its_data_whatever_is_there(tmp_path, monkeypatch):
    (config,) = re.findall(r"quick .*--config '(\w+)=([^']+)'", (ROOT / "Makefile").read_text())
    value = experiments.read_yaml(ROOT / "params.yaml")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "raw" / "xmedia").mkdir(parents=True)
    assert "xmedia" in plan(from_config(value), ROOT / "papers").datasets
    value = merge(value, {config[0]: yaml.safe_load(config[1])})
    drawn = {"scenes", "media_world", "media_source", "birds_world"}
    assert set(plan(from_config(value), ROOT / "papers").datasets) == drawn
    (tmp_path / "papers").symlink_to(ROOT / "papers")
    monkeypatch.setenv("CROSSMODAL_PARAMS", "")
    made = Dag(value, look=False)
    files = {
        scope: {Path(file).parent.name for file in made.datasets(SimpleNamespace(scope=scope))}
        for scope in ("", "quick/")
    }
    assert files == {"": drawn, "quick/": drawn - {"media_source"}}  # from which no quick run transfers anything


def test_which_files_a_block_names(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "arrays").mkdir()
    (tmp_path / "arrays" / "x.npz").touch()
    (tmp_path / "photos").mkdir()
    assert not paths.present({"seed": 1, "words": "tokens"})  # a drawn data set names no files
    assert paths.present({"images": "photos"})
    assert not paths.present({"images": "photos", "annotations": {"train": ["raw/train.json"]}})
    assert paths.present({"root": str(tmp_path / "photos"), "pairs": []})
    assert not paths.present({"root": str(tmp_path / "none")})
    assert paths.present({"root": "arrays", "modalities": {"image": [{"file": "x.npz#ids/of[3:4]"}]}})
    assert paths.present({"root": "arrays", "modalities": {"image": [{"file": "../arrays/x.npz"}]}})
    assert not paths.present({"root": "arrays", "modalities": {"image": [{"file": "features/y.npz"}]}})
