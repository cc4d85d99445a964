"""Blocks of settings: merging, YAML that is read, and one clear error for each mistake."""

from __future__ import annotations

import pytest
from pydantic import Field, ValidationError, model_validator

from crossmodal.core.errors import UserError, suggestion
from crossmodal.experiments import Open, Strict, from_config, merge, read_yaml, validated


class Leaf(Strict):
    margin: float = Field(0.2, ge=0)
    name: str


class Tree(Strict):
    leaf: Leaf | None = None
    listed: list[Leaf] = Field([])
    named: dict[str, Leaf] = Field({})
    opened: dict[str, Open] = Field({})
    count: int = 1

    @model_validator(mode="after")
    def _odd(self) -> Tree:
        if self.count == 13:
            raise ValueError("count: 13 is odd; choose another")
        return self


def fault(value) -> str:
    with pytest.raises(UserError) as caught:
        validated(Tree, value, "x.yaml")
    return str(caught.value)


def test_blocks_are_merged_and_everything_else_is_replaced():
    base = {"a": {"x": 1, "y": {"p": 1, "q": [1, 2]}}, "b": 1, "c": {"z": 1}, "d": 5}
    over = {"a": {"y": {"q": [3]}, "n": 2}, "b": {"now": "a block"}, "c": None, "e": 6}
    before = repr((base, over))
    assert merge(base, over) == {
        "a": {"x": 1, "y": {"p": 1, "q": [3]}, "n": 2},
        "b": {"now": "a block"},
        "c": None,
        "d": 5,
        "e": 6,
    }
    assert repr((base, over)) == before
    assert merge({}, over) == over
    assert merge(base, {}) == base


def test_files_that_are_no_settings(tmp_path):
    path = tmp_path / "x.yaml"
    with pytest.raises(UserError, match=r"x\.yaml: not found"):
        read_yaml(path)
    for text, words in (
        ("a: [1", "is not valid YAML"),
        ("- 1\n- 2\n", "expected a mapping of settings, found list"),
        ("", "expected a mapping of settings, found NoneType"),
        ("a: 1\nb: 2\na: 3\n", "key 'a' occurs twice"),
        ("a:\n  deep:\n    x: 1\n    x: 1\n", "key 'x' occurs twice"),
    ):
        path.write_text(text)
        with pytest.raises(UserError, match=words) as caught:
            read_yaml(path)
        assert "\n" not in str(caught.value)
    path.write_bytes(b"a: \xff\xfe")
    with pytest.raises(UserError, match="is not valid YAML"):
        read_yaml(path)
    path.write_text("a: {x: 1}\nb: {x: 1}\nc: ö\n", encoding="utf-8")
    assert read_yaml(path) == {"a": {"x": 1}, "b": {"x": 1}, "c": "ö"}


def test_misspelt_keys_are_named_where_they_stand():
    good = {"name": "n"}
    for value, place in (
        ({"cuont": 1}, "cuont: unknown key; did you mean 'count'"),
        ({"leaf": {**good, "margn": 1}}, "leaf.margn: unknown key; did you mean 'margin'"),
        ({"listed": [good, {**good, "margn": 1}]}, "listed.1.margn: unknown key; did you mean 'margin'"),
        ({"named": {"one": {**good, "margn": 1}}}, "named.one.margn: unknown key; did you mean 'margin'"),
    ):
        assert fault(value).startswith(f"x.yaml: {place}"), value
    assert "(known: margin, name)" in fault({"leaf": {**good, "zzzzz": 1}})


def test_each_mistake_has_a_line_of_its_own():
    lines = fault({"leaf": {"margin": -1}, "count": "many", "cuont": 1}).splitlines()
    assert len(lines) == 4
    assert "x.yaml: leaf.name: is missing" in lines
    assert any(line.startswith("x.yaml: leaf.margin: ") and line.endswith("found -1") for line in lines)
    assert any(line.startswith("x.yaml: count: ") and line.endswith("found 'many'") for line in lines)


def test_a_blocks_own_rule_is_told_in_its_words():
    assert fault({"count": 13}) == "x.yaml: count: 13 is odd; choose another"


def test_open_blocks_keep_what_is_not_theirs():
    found = validated(Tree, {"opened": {"one": {"lr": 0.1, "deep": {"x": 1}}}}, "x.yaml")
    assert found.opened["one"].settings == {"lr": 0.1, "deep": {"x": 1}}
    found.opened["one"].settings["lr"] = 5  # a copy
    assert found.opened["one"].settings["lr"] == 0.1
    assert Open().settings == {}


def test_settings_do_not_change():
    leaf = Leaf(name="n")
    with pytest.raises(ValidationError, match="frozen"):
        leaf.margin = 1.0
    assert validated(Leaf, {"name": "n"}, "x") == leaf


def test_the_nearest_name_is_suggested():
    assert suggestion("vsep", ["scan", "vsepp", "vse0"]) == "; did you mean 'vsepp'? (known: scan, vse0, vsepp)"
    assert suggestion("qqqq", {"b": 1, "a": 2}) == "; (known: a, b)"
    assert suggestion("ab", ["axyz"]) == "; (known: axyz)"
    assert suggestion("abcd", ["abxy"]) == "; did you mean 'abxy'? (known: abxy)"  # half of it is the same
    assert suggestion("x", []) == "; (known: )"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("a: !!bool maybe", "'maybe'"),
        (f"a: 0x{'f' * 5000}", "a whole number of 5,002 characters, expected at most 100"),
        (f"a: 1{':1' * 5000}", "a whole number of 10,001 characters, expected at most 100"),
        ("a: !!int ''", "string index out of range"),
    ],
)
def test_tags_and_numbers_of_others_are_one_line(tmp_path, text, told):
    (tmp_path / "x.yaml").write_text(text)
    with pytest.raises(UserError, match=f"is not valid YAML: .*{told}"):
        read_yaml(tmp_path / "x.yaml")


def test_an_error_tells_no_password_and_no_page_of_text():
    whole = {"papers": ["a3vse"], "seeds": [0], "datasets": {}, "extractors": {}}
    with pytest.raises(UserError) as told:
        from_config(whole | {"tracking": "http://me:secret@host/x"})
    assert "found 'http://me:***@host/x'" in str(told.value)
    with pytest.raises(UserError) as told:
        from_config(whole | {"tracking": ["y" * 100] * 2000})
    assert len(str(told.value)) < 500
    assert str(told.value).endswith("... (208,000 characters)")  # each with quotes, a comma and a blank; two brackets
