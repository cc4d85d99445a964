"""Blocks of settings and their readers: YAML, overlays, and validation with one clear error per mistake."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from crossmodal.core import limits
from crossmodal.core.errors import UserError, masked, suggestion
from crossmodal.core.files import check_small, unreadable

DIGITS = 100  # of a whole number in YAML
DEEPEST = 1000  # blocks and lists of YAML within each other: libyaml has a stack that some tens of thousands overflow
TEMPLATE = "__use_yte__"  # in a file given to `--configfile`, Snakemake takes it for leave to run the Python within
SHOWN = 300  # characters of a value or a message of others in an error
MISTAKES = 20  # that are told at once


class Strict(BaseModel):
    """A block of settings in which a misspelt key is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Open(BaseModel):
    """A block whose further keys belong to a module of its own (`reader`, `extractor`) and are checked there."""

    model_config = ConfigDict(extra="allow", frozen=True)

    @property
    def settings(self) -> dict[str, Any]:
        return dict(self.model_extra or {})


def merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """`base` with the values of `over`; blocks are merged key by key, everything else is replaced."""
    merged = dict(base)
    for key, value in over.items():
        old = merged.get(key)
        merged[key] = merge(old, value) if isinstance(old, Mapping) and isinstance(value, Mapping) else value
    return merged


class _UniqueKeys(yaml.CSafeLoader if hasattr(yaml, "CSafeLoader") else yaml.SafeLoader):
    """YAML in which a key given twice is an error: the second would silently win."""

    def get_single_node(self) -> yaml.Node | None:
        """The root node; an error where aliases repeat values beyond the size of any settings, or form a cycle."""
        node = super().get_single_node()
        if node is not None:
            self._count(node, {})
        return node

    def _count(self, node: yaml.Node, counted: dict[int, int | None]) -> int:
        """The number of values in a node, each as often as aliases repeat it; `counted` keeps results by node id."""
        if not isinstance(node, yaml.CollectionNode):
            return 1
        if id(node) not in counted:
            counted[id(node)] = None  # still being counted
            parts = chain.from_iterable(node.value) if isinstance(node, yaml.MappingNode) else node.value
            counted[id(node)] = 1 + sum(self._count(part, counted) for part in parts)
        if (count := counted[id(node)]) is None:
            raise yaml.constructor.ConstructorError(
                None, None, "an alias refers to a value that contains it", node.start_mark
            )
        if count > limits.current().yaml_nodes:
            most = f"aliases repeat more than {limits.current().yaml_nodes:,} values"
            raise yaml.constructor.ConstructorError(None, None, most, node.start_mark)
        return count

    def construct_yaml_int(self, node: yaml.ScalarNode) -> int:
        if len(node.value) > DIGITS:
            told = f"a whole number of {len(node.value):,} characters, expected at most {DIGITS}"
            raise yaml.constructor.ConstructorError(None, None, told, node.start_mark)
        return super().construct_yaml_int(node)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict:
        keys: set[Any] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, Hashable):
                message = f"a {type(key).__name__} cannot be a key"
                raise yaml.constructor.ConstructorError(None, None, message, key_node.start_mark)
            if key in keys:
                raise yaml.constructor.ConstructorError(None, None, f"key {key!r} occurs twice", key_node.start_mark)
            keys.add(key)
        return super().construct_mapping(node, deep)


_UniqueKeys.add_constructor("tag:yaml.org,2002:int", _UniqueKeys.construct_yaml_int)


def read_yaml(path: str | Path) -> dict[str, Any]:
    """The mapping in a YAML file.

    Raises
    ------
    UserError : the file is missing, too large, no valid YAML, no mapping, or a template that runs Python.
    """
    check_small(path, "yaml_bytes", limits.current().yaml_bytes)
    try:
        text = Path(path).read_text(encoding="utf-8")
        _check_size(text)
        value = yaml.load(text, _UniqueKeys)
    except OSError as error:
        raise unreadable(path, error) from None
    except RecursionError:
        raise UserError(f"{path}: is not valid YAML: it is nested too deeply") from None
    except Exception as error:  # PyYAML raises many kinds for tags, such as KeyError for a truth value that is none
        told = " ".join(str(error).split()) or type(error).__name__
        raise UserError(f"{path}: is not valid YAML: {told[:SHOWN]}") from None
    if not isinstance(value, dict):
        raise UserError(f"{path}: expected a mapping of settings, found {type(value).__name__}")
    if TEMPLATE in value:
        raise UserError(
            f"{path}: {TEMPLATE}: makes the file a template, whose Python `snakemake --configfile` runs; expected "
            "settings alone: take it out, and do not give the file to Snakemake before"
        )
    return value


def _check_size(text: str) -> None:
    """Refuse YAML of too many values, or nested too deeply for libyaml, which ends the process.

    A quick look spares most files.

    Raises
    ------
    RecursionError : it is nested too deeply.
    ValueError : it has more values than `limits.yaml_nodes`.
    """
    most = limits.current().yaml_nodes
    if sum(map(text.count, "[{-?:,")) < min(DEEPEST, most):  # each value, list or block has one of these at least
        return
    depth = count = 0
    for event in yaml.parse(text, yaml.CSafeLoader if hasattr(yaml, "CSafeLoader") else yaml.SafeLoader):
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        count += isinstance(event, yaml.NodeEvent)
        if depth > DEEPEST:
            raise RecursionError
        if count > most:
            raise ValueError(f"it has more than {most:,} values (`limits.yaml_nodes` in params.yaml)")


def validated(model: type[BaseModel], value: Any, where: str) -> Any:
    """`value` validated as `model`.

    Raises
    ------
    UserError : it is invalid; the message names the key and suggests a known one for a misspelt key.
    """
    try:
        return model.model_validate(value)
    except ValidationError as error:
        items = error.errors(include_url=False)
        lines = [_explain(model, item, where) for item in items[:MISTAKES]]
        if len(items) > MISTAKES:
            lines.append(f"{where}: {len(items) - MISTAKES:,} more mistakes of these kinds")
        raise UserError("\n".join(lines)) from None


def _explain(model: type[BaseModel], item: Mapping[str, Any], where: str) -> str:
    place = ".".join(str(part) for part in item["loc"])
    if item["type"] == "extra_forbidden":
        owner = _block(model, item["loc"][:-1])
        fields = owner.model_fields if owner is not None else ()
        return f"{where}: {place}: unknown key{suggestion(str(item['loc'][-1]), fields)}"
    if item["type"] == "value_error":
        return f"{where}: {place + ': ' if place else ''}{masked(str(item['ctx']['error']))}"
    if item["type"] == "missing":
        return f"{where}: {place}: is missing"
    found = masked(repr(item["input"]))
    found = found if len(found) <= SHOWN else f"{found[:SHOWN]}... ({len(found):,} characters)"
    if item["type"] == "string_pattern_mismatch" and (form := _described(model, item["loc"])):
        return f"{where}: {place}: expected {form}; found {found}"
    return f"{where}: {place}: {item['msg']}; found {found}"


def _described(model: type[BaseModel], path: Sequence[Any]) -> str | None:
    """The description of the field at `path` below `model`."""
    owner = _block(model, path[:-1])
    field = owner.model_fields.get(path[-1]) if owner is not None else None
    return field.description if field is not None else None


def _block(model: type[BaseModel], path: Iterable[Any]) -> type[BaseModel] | None:
    """The class of the block at `path` below `model`, looked up through lists and dicts of blocks."""
    current: Any = model
    for part in path:
        if not _is_block(current):
            current = next((argument for argument in getattr(current, "__args__", ()) if _holds_block(argument)), None)
        elif part in current.model_fields:
            current = current.model_fields[part].annotation
        else:
            return None
    while current is not None and not _is_block(current):
        current = next((argument for argument in getattr(current, "__args__", ()) if _holds_block(argument)), None)
    return current


def _is_block(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)


def _holds_block(annotation: Any) -> bool:
    return _is_block(annotation) or any(_holds_block(argument) for argument in getattr(annotation, "__args__", ()))
