"""Paths out of files stay below their folder; folders of params.yaml are such as a command can hold."""

import os
import re
from pathlib import Path

import pandas as pd
import pytest
import yaml
from PIL import Image

from crossmodal.core import limits, paths
from crossmodal.core.errors import UserError
from crossmodal.core.files import write_json, write_text
from crossmodal.core.limits import Limits
from crossmodal.datasets import items, raw
from crossmodal.experiments import from_config, job_in
from crossmodal.features import pixels
from crossmodal.features.engine import extraction, store

ROOT = Path(__file__).parents[2]


@pytest.fixture
def root(tmp_path):
    (tmp_path / "secret").write_text("a key")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "b.jpg").write_text("another's")
    folder = tmp_path / "set"
    (folder / "images").mkdir(parents=True)
    (folder / "images" / "a.jpg").write_text("a picture")
    (folder / "images" / "leads out.jpg").symlink_to(tmp_path / "secret")
    (folder / "images" / "leads within.jpg").symlink_to("a.jpg")
    (folder / "images" / "round.jpg").symlink_to("round.jpg")
    (folder / "linked").symlink_to(tmp_path / "elsewhere")
    (folder / "..odd..name").write_text("two dots are no parent here")
    return folder


@pytest.mark.parametrize("name", ["images/a.jpg", "images/leads within.jpg", "images/missing.jpg", "..odd..name"])
def test_a_path_below_the_folder_is_taken(root, name):
    assert paths.inside(root, name, "list.txt: line 3") == root / name


@pytest.mark.parametrize(
    "name",
    ["/etc/passwd", "../secret", "images/../../secret", "images/..", "..\\secret", "C:\\secret", "C:secret", "a\0b"],
)
def test_a_path_that_leaves_the_folder_is_refused_with_its_place(root, name):
    with pytest.raises(UserError, match=r"list\.txt: line 3: .* leads out of its folder"):
        paths.inside(root, name, "list.txt: line 3")


@pytest.mark.parametrize("name", ["images/leads out.jpg", "linked/b.jpg", "linked/missing.jpg"])
def test_a_link_that_leaves_the_folder_is_refused(root, name):
    with pytest.raises(UserError, match=r"list\.txt: line 3: .* is a link that leads out of"):
        paths.inside(root, name, "list.txt: line 3")


def test_the_folder_itself_may_be_a_link_and_a_circle_of_links_ends(root, tmp_path):
    (tmp_path / "data").symlink_to(root)
    assert paths.inside(tmp_path / "data", "images/a.jpg", "").read_text() == "a picture"
    assert not paths.inside(root, "images/round.jpg", "").exists()


def config(**folders):
    return {**yaml.safe_load((ROOT / "params.yaml").read_text()), "paths": folders}


@pytest.mark.parametrize(
    "name", ["/x; touch marker; echo ", "$(id)", "`id`", "a{b}", "a\nb", "'", '"', "-rf", "a*", ""]
)
def test_a_folder_that_would_run_or_break_a_command_is_refused(name):
    with pytest.raises(UserError, match=r"params\.yaml: paths\.results: .*expected a folder's name"):
        from_config(config(results=name))


@pytest.mark.parametrize("name", ["my results", "/mnt/große Platte/results", "../results-2", "./r"])
def test_other_folders_are_taken(name):
    assert from_config(config(results=name)).paths.results == name


def test_the_commands_of_the_rules_quote_every_file():
    """A wildcard is constrained by a pattern, a parameter of a command is a flag of our own: all else is quoted."""
    for rules in (ROOT / "workflow" / "rules").glob("*.smk"):
        for command in re.findall(r'^ +"(?:crossmodal| --).*"$', rules.read_text(), re.M):
            places = re.findall(r"(?<!\{)\{(\w[^{}]*)\}", command)
            bare = [p for p in places if not (p.startswith("wildcards.") or p == "params.flag" or p.endswith(":q"))]
            assert not bare, (rules, command)


def test_a_manifest_names_folders_of_params_only(tmp_path):
    for name in ("mine/below", "private", "data/world/raw"):
        (tmp_path / name).mkdir(parents=True)
    data = tmp_path / "data" / "world"
    write_json(data / "items.json", {"root": str(tmp_path / "private")})
    assert items.root(data) == tmp_path / "private"  # a caller who read no params.yaml has chosen the data set
    paths.allow([{"root": str(tmp_path / "mine"), "modalities": {"image": [{"file": "a"}]}, "text": "no\0folder"}])
    with pytest.raises(UserError, match=r"items\.json: root: '.*private' is no folder or file that"):
        items.root(data)
    for root in (str(tmp_path / "mine"), str(tmp_path / "mine" / "below"), "raw", "../../mine"):
        write_json(data / "items.json", {"root": root})
        assert items.root(data).is_dir()


def test_a_configuration_of_another_run_names_no_other_places(tmp_path):
    job = {"dataset": "world", "split": "full", "model": "vsepp", "seed": 0, "inputs": {"image": "x"}, "settings": {}}
    write_text(tmp_path / "config.yaml", yaml.safe_dump(job))
    assert job_in(tmp_path).key == "world/full/vsepp/seed0"
    odd = (
        {"dataset": "../../x"},
        {"model": "/tmp/x"},
        {"split": ".."},
        {"inputs": {"image": "../y"}},
        {"source": "a/b"},
    )
    for change in odd:
        write_text(tmp_path / "config.yaml", yaml.safe_dump(job | change))
        with pytest.raises(UserError, match=r"config\.yaml: \w+: .* expected a name of letters"):
            job_in(tmp_path)


def test_a_name_of_a_list_may_not_lead_out_of_the_folder(root):
    listing = raw.Listing(root)
    assert listing.holds("images", "a.jpg")
    assert listing.holds("", "..odd..name")
    assert not listing.holds("images", "b.jpg")
    for sub, name in (("..", "secret"), ("images", "../../secret"), ("images", "leads out.jpg"), ("linked", "b.jpg")):
        with pytest.raises(UserError, match="leads out of"):
            listing.holds(sub, name)


@pytest.mark.parametrize(
    "name",
    ["images/" + "a" * 256 + "/b.jpg", "é" * 128, "a/" * 2000 + "b.jpg", "\ud800" * 90],
    ids=["part", "bytes", "whole", "surrogates"],
)
def test_a_name_of_a_list_may_not_be_longer_than_paths_are(root, name):
    with pytest.raises(UserError, match=r"is too long a path, .* 255 in each of at most 100 parts"):
        raw.Listing(root).holds("", name)
    assert raw.Listing(root).find("é" * 127 + "/" + "a" * 255) is None


def test_links_that_are_a_users_own_may_lead_anywhere(root):
    limits.use(limits.Limits(links="anywhere"))
    assert paths.inside(root, "images/leads out.jpg", "").read_text() == "a key"
    assert paths.inside(root, "linked/b.jpg", "").read_text() == "another's"
    with pytest.raises(UserError, match="leads out of its folder"):
        paths.inside(root, "../secret", "")


def extracted(root, sources, **settings):
    frame = pd.DataFrame({"item_id": [f"i{n}" for n in range(len(sources))], "modality": "image", "partition": "train"})
    target = root.parent / "features" / "image.pixels"
    chosen = pixels.Settings(resize=8, crop=8, **settings)
    extraction.run("pixels", frame.assign(source=sources), root, chosen, target, threads=1, modality="image")
    return store.open_features(target)


def test_files_below_a_folder(tmp_path, monkeypatch):
    """By hand: hidden folders, links and what cannot be entered, and a bound on how many and how deep."""
    for name in ("b/c/1", "b/.d/2", "a", "b/.3"):
        (tmp_path / "in" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "in" / name).touch()
    for name, target in (("l", "b"), ("round", "round"), ("up", ".."), ("gone", "nowhere")):
        (tmp_path / "in" / name).symlink_to(target)

    def found(**how):
        return sorted(name for name, _ in paths.below(tmp_path / "in", **how))

    assert found() == ["a", "b/.3", "b/c/1", "gone", "l", "round", "up"]
    assert found(hidden=True) == ["a", "b/.3", "b/.d/2", "b/c/1", "gone", "l", "round", "up"]
    followed = found(links=True, hidden=True)
    assert [name.rpartition("/")[2] for name in followed] == ["a", "gone", ".3", "2", "1", "round"]  # each folder once
    monkeypatch.setattr(limits, "_limits", Limits(files=11))
    assert len(found()) == 7
    monkeypatch.setattr(limits, "_limits", Limits(files=9))
    with pytest.raises(UserError, match=r"in: holds more than 9 files and folders \(`limits.files` in params.yaml\)"):
        found(hidden=True)


def test_folders_without_end(tmp_path):
    """Deeper than anybody lays out, as Python's own functions do not end; 2 ** 40 ways through 40 folders."""
    (tmp_path / "/".join("d" * 150)).mkdir(parents=True)
    with pytest.raises(UserError, match="has folders nested more than 100 times; name a flatter one"):
        [*paths.below(tmp_path)]
    farm = tmp_path / "farm"
    for n in range(40):
        (farm / f"{n}").mkdir(parents=True)
        for name in "ab":
            (farm / f"{n}" / name).symlink_to(f"../{n + 1}")
    (farm / "40").mkdir()
    (farm / "40" / "x").touch()
    assert [entry.name for _, entry in paths.below(farm, links=True)] == ["x"]


def test_extraction_opens_nothing_outside_of_the_root_and_no_pipe(root, monkeypatch):
    picture = Image.new("RGB", (8, 8), (9, 8, 7))
    picture.save(root.parent / "secret.png")
    picture.save(root / "good.png")
    (root / "link.png").symlink_to(root.parent / "secret.png")
    os.mkfifo(root / "pipe.png")
    sources = ["good.png", "link.png", "../secret.png", str(root.parent / "secret.png"), "pipe.png"]
    features = extracted(root, sources, on_error="skip")
    assert list(features.index.item_id) == ["i0"]
    reasons = [one["reason"] for one in features.manifest["skipped"]]
    assert ["leads out of" in reason for reason in reasons] == [True, True, True, False]
    assert "a device or a pipe" in reasons[3]


@pytest.mark.parametrize("error", [MemoryError(), RecursionError("deep"), OverflowError("large"), KeyError("a")])
def test_whatever_an_item_makes_a_library_raise_is_its_own_error(root, monkeypatch, error):
    for name in ("a.png", "b.png"):
        Image.new("RGB", (8, 8)).save(root / name)
    plain = pixels.pictures.read

    def read(path):
        if path.name == "b.png":
            raise error
        return plain(path)

    monkeypatch.setattr(pixels.pictures, "read", read)
    with pytest.raises(UserError, match=rf"i1 \(b\.png\): cannot be read \({type(error).__name__}"):
        extracted(root, ["a.png", "b.png"])
    assert list(extracted(root, ["a.png", "b.png"], on_error="skip").index.item_id) == ["i0"]


def test_texts_that_may_be_paths_at_any_depth():
    """None has a null or a line break, and Linux takes up to 4,095 bytes."""
    texts = ["a", {"b": ["c", ("d", Path("e/f"))], "g": 5, "h": None}, "", "a\0b", "a\nb", "x" * 4095, "y" * 4096]
    assert list(paths.possible(texts)) == ["a", "c", "d", "e/f", "x" * 4095]


def test_what_a_data_set_names_is_there(tmp_path, monkeypatch):
    """As it stands or below `root`, without an array's name after # or in brackets; words are no paths."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "x.npz").touch()
    (tmp_path / "word").touch()
    there = [
        {"root": "set"},
        {"root": "set", "file": "x.npz"},
        {"root": "set", "file": "x.npz#a/b", "other": ["x.npz[1:2]", "train"]},
        {"file": "set/x.npz", "seed": 3, "kind": "images"},
        {"name": "word"},  # which happens to be a file
    ]
    missing = [
        {},
        {"kind": "images", "seed": 3},  # nothing is named
        {"root": "none"} | {"file": "a/b"},
        {"root": "set", "file": "y.npz"},  # by the ending of a file
        {"root": "set", "file": "y/z"},
        {"root": "set", "more": {"deep": ["x.npz", "gone.txt"]}},
        {"root": 5, "file": "x.npz"},
    ]
    assert [paths.present(settings) for settings in there] == [True] * len(there)
    assert [paths.present(settings) for settings in missing] == [False] * len(missing)


@pytest.mark.parametrize("value", [".hidden", "-rf", "+a", "a b", "a/b", "", "ä!"])
def test_a_text_that_is_no_name_of_a_folder(value):
    with pytest.raises(UserError, match=r"x\.yaml: model: .*: expected a name of letters, digits"):
        paths.check_part(value, "x.yaml: model")


def test_names_of_folders():
    for value in ("a", "_", "9", "vsepp.batch24-x_+y", "über"):
        paths.check_part(value, "x.yaml: model")
    assert paths.folder("a b/c") == "a b/c"
    for value in ("", " a", "a ", "a;b"):
        with pytest.raises(ValueError, match="expected a folder's name"):
            paths.folder(value)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no pipes")
def test_a_pipe_that_a_manifest_names_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "regions.json")
    with pytest.raises(UserError, match=r"regions\.file: 'regions\.json' is neither a file nor a folder"):
        paths.named(tmp_path, "regions.json", "items.json: regions.file")
