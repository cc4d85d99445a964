"""Paths out of files stay below their folder; folders of params.yaml are such as a command can hold."""

import re
from pathlib import Path

import pytest
import yaml

from crossmodal import paths
from crossmodal.errors import UserError
from crossmodal.experiments import from_config

ROOT = Path(__file__).parents[1]


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
