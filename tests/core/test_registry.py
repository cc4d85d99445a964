"""What is found by its file or entry point, and what a class declares."""

from __future__ import annotations

import json
import re
import sys

import pytest

from crossmodal.core import registry
from crossmodal.core.errors import UserError
from crossmodal.models import base
from tests.prepared import forget

MODELS = sorted(registry.names("models"))


def asked_of_python(name: str, settings: dict) -> dict[str, str]:
    """`reads` of a model when it is built, without the networks that its own `__init__` makes."""
    module = registry.module("models", name)
    model = module.Model.__new__(module.Model)
    base.Model.__init__(model, module.Settings(**settings), base.Context({}))
    return dict(model.reads)


@pytest.mark.parametrize("name", MODELS)
def test_what_a_model_reads_is_what_its_class_says(name):
    fields = registry.module("models", name).Settings.model_fields
    model = registry.module("models", name).Model
    chosen: list[dict] = [{}]
    if "modalities" in fields:
        chosen.append({"modalities": ["text", "image"]})
    if "image_network" in fields:
        chosen.append({"image_network": "resnet18"})
    for settings in chosen:
        assert list(registry.reads(name, settings).items()) == list(asked_of_python(name, settings).items())
    assert registry.reads(name) == registry.reads(name, {}) == registry.reads(name, {"epochs": 1})
    assert registry.source_reads(name) == model.source_reads
    assert registry.second_forms(name) == model.second_form


@pytest.mark.parametrize("kind", sorted(registry.KINDS))
def test_the_first_line_of_each_module_is_that_of_its_docstring(kind):
    for name in registry.names(kind):
        assert registry.about(kind, name) == registry.module(kind, name).__doc__.splitlines()[0]


@pytest.mark.parametrize("name", MODELS)
def test_a_models_first_line_names_its_paper(name):
    assert re.search(r"\b(19|20)\d\d\b|CVS thesis|A3VSE", registry.about("models", name))


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ('"""One\n\ntwo."""\n', "One"),
        ("#!/usr/bin/python\n# A comment.\n\n'A line.'\nimport torch\n", "A line."),
        ('r"""\n  Below.\n"""\n', "Below."),
        ("import torch\n", ""),
        ("", ""),
        ('b"""Bytes."""\n', ""),
        ('"""Never ends\n', ""),
        ('""""""\n', ""),
    ],
)
def test_the_first_line_is_read_without_an_import(plugin, text, line):
    plugin(model=text)
    assert registry.about("models", "plugged") == line
    assert "plugged.model" not in sys.modules


def test_inherited_declarations_are_seen():
    for name in ("mcvs", "rvs"):
        assert registry.reads(name) == {"image": "vector", "text": "vector"}
    assert registry.reads("vse0") == registry.reads("vsepp") == {"image": "vector", "text": "tokens"}
    assert registry.source_reads("dckt") == {"image": "vector", "text": "vector"}
    assert registry.second_forms("mfsr") == {"image": "pixels"}
    assert registry.source_reads("scan") == {}


def test_chosen_modalities_and_a_network_of_its_own():
    assert registry.reads("mcvs", {"modalities": ["mesh", "text"]}) == {"mesh": "vector", "text": "vector"}
    assert registry.reads("mcvs", {"modalities": []}) == {"image": "vector", "text": "vector"}
    assert registry.reads("vsepp", {"image_network": "resnet152"}) == {"image": "images", "text": "tokens"}
    assert registry.reads("vsepp", {"image_network": ""}) == {"image": "vector", "text": "tokens"}


def test_an_answer_is_the_callers_own():
    registry.reads("scan")["image"] = "changed"
    registry.second_forms("mfsr").clear()
    assert registry.reads("scan")["image"] == "regions"
    assert registry.second_forms("mfsr")


@pytest.mark.parametrize(
    "text",
    [
        "from crossmodal.models.scan import Model, Settings\n",
        "from crossmodal.models import scan\nSettings = scan.Settings\nclass Model(scan.Model):\n    pass\n",
        "from plugged.parent import Model\nfrom crossmodal.models.scan import Settings\n",
        "from .parent import Model, Settings\n",
        "from . import parent\nclass Model(parent.Model):\n    pass\nSettings = parent.Settings\n",
    ],
)
def test_a_model_that_says_nothing_itself(plugin, text):
    plugin(model=text, parent="from crossmodal.models.scan import Model, Settings\n")
    assert registry.reads("plugged") == {"image": "regions", "text": "tokens"}
    assert registry.reads("plugged") == asked_of_python("plugged", {})


def test_default_settings_choose_modalities(plugin):
    plugin(
        model="from crossmodal.models.cvs import Model, Settings as Theirs\n"
        "class Settings(Theirs):\n    modalities: tuple[str, ...] = ('mesh', 'audio')\n"
    )
    assert registry.reads("plugged") == {"mesh": "vector", "audio": "vector"}
    assert registry.reads("plugged", {"modalities": ["text"]}) == {"text": "vector"}


def test_python_is_asked_once_for_a_source(plugin, monkeypatch):
    folder = plugin(model="from crossmodal.models.dckt import Model, Settings\n")
    first = [registry.reads("plugged"), registry.source_reads("plugged"), registry.second_forms("plugged")]

    def never(name):
        raise AssertionError(f"{name} was asked again")

    forget()
    with monkeypatch.context() as patch:
        patch.setattr(registry, "_inspected", never)
        assert [registry.reads("plugged"), registry.source_reads("plugged"), registry.second_forms("plugged")] == first
        (folder / "model.py").write_text("# A comment.\nfrom crossmodal.models.dckt import Model, Settings\n")
        forget()
        assert registry.reads("plugged") == first[0]
    plugin(model="from crossmodal.models.mfsr import Model, Settings\n")
    assert registry.second_forms("plugged") == {"image": "pixels"}
    assert registry.source_reads("plugged") == {}


def test_a_changed_base_class_is_asked_again(plugin):
    plugin(
        model="from plugged.parent import Model, Settings\n",
        parent="from crossmodal.models.cvs import Model, Settings\n",
    )
    assert registry.reads("plugged")["text"] == "vector"
    plugin(parent="from crossmodal.models.scan import Model, Settings\n")
    assert registry.reads("plugged")["text"] == "tokens"


@pytest.mark.parametrize("damage", ["", "{", "[]", '{"version": 1}', "null"])
def test_a_damaged_memory_is_made_again(plugin, tmp_path, damage):
    plugin(model="from crossmodal.models.scan import Model, Settings\n")
    expected, digest = registry.reads("plugged"), registry.source_hash("models", "plugged")
    remembered = list((tmp_path / "cache" / "crossmodal").iterdir())
    assert remembered
    for path in remembered:
        path.write_text(damage)
    forget()
    assert registry.reads("plugged") == expected
    assert registry.source_hash("models", "plugged") == digest
    assert all(json.loads(path.read_text())["version"] for path in remembered)


def test_a_memory_that_cannot_be_written_costs_time_alone(plugin, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    plugin(model="from crossmodal.models.scan import Model, Settings\n")
    assert registry.reads("plugged") == {"image": "regions", "text": "tokens"}


def test_the_memory_does_not_grow_with_versions(plugin, tmp_path):
    counts = set()
    for n in range(3):
        plugin(model=f"from crossmodal.models.scan import Model, Settings\nNUMBER = {n}\n")
        registry.reads("plugged")
        counts.add(len(list((tmp_path / "cache" / "crossmodal").iterdir())))
    assert len(counts) == 1


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("import not_installed_anywhere\n", "plugged.model.*No module named 'not_installed_anywhere'"),
        ("def broken(:\n", r"model\.py: line 1: is not valid Python"),
        ("Settings = None\n", "must be importable and have the classes `Model`"),
        ("from crossmodal.models.scan import Settings\n", "must be importable and have the classes `Model`"),
    ],
)
def test_a_module_that_is_no_model(plugin, text, words):
    plugin(model=text)
    with pytest.raises(UserError, match=words):
        registry.reads("plugged")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("import not_installed_anywhere\n", "No module named 'not_installed_anywhere'"),
        ("import broken_elsewhere\n", "invalid syntax"),
        ("Form = None\n", "'NoneType' object is not callable"),
        ("", "has no attribute 'Form'"),
    ],
)
def test_a_module_that_is_no_form(outside, text, words):
    site = outside("shaped", {"form": text}, {"forms": {"shaped": "form"}})
    (site.parent / "broken_elsewhere.py").write_text("def broken(:\n")
    with pytest.raises(UserError, match=r"form of input 'shaped' \(shaped\.form\): .*must be importable") as error:
        registry.form("shaped", "image")
    assert words in str(error.value)


def test_forms_of_a_model_whatever_its_settings(plugin):
    """Those of a second data set, of a second look, of what is not ranked, and of settings that choose others."""
    plugin(
        model="from typing import ClassVar\n"
        "from crossmodal.models.cvs import Model as Theirs, Settings as Base\n"
        "class Settings(Base):\n    image_network: str = ''\n"
        "class Model(Theirs):\n"
        "    reads: ClassVar = {'image': 'grid'}\n"
        "    source_reads: ClassVar = {'image': 'regions'}\n"
        "    second_form: ClassVar = {'image': 'pixels'}\n"
        "    further: ClassVar = {'names': ('image', 'region_names')}\n"
    )
    assert registry.forms_of("plugged") == ("grid", "images", "pixels", "region_names", "regions", "vector")
    assert registry.forms_of("scan") == ("regions", "tokens")


PLAIN = """
from pydantic import BaseModel
from crossmodal.models import base
class Settings(base.Schedule): pass
class Model(base.Model):
    def encode(self, modality, batch, partner): return batch.inputs[modality]
    def loss(self, batch, progress, turn): return {}
"""


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        (
            "Settings(base.Schedule)",
            "Settings(BaseModel)",
            "`Settings` must derive from crossmodal.models.base.",
        ),
        ("Model(base.Model)", "Model", "`Model` must derive from crossmodal.models.base.Model"),
        ("class Settings(base.Schedule): pass", "", "has no attribute 'Settings'; its module must be importable"),
        ("def loss", "def lost", "has no method `loss`; define it, or set `trains = False`"),
        (
            "Settings(base.Schedule)",
            "Settings(base.Settings)",
            "no batch_size, clip, clip_by, which training reads",
        ),
    ],
)
def test_what_a_model_lacks_is_one_line(plugin, old, new, words):
    plugin(model=PLAIN)
    assert registry.reads("plugged") == {"image": "vector", "text": "tokens"}
    assert PLAIN.count(old) == 1
    plugin(model=PLAIN.replace(old, new))
    with pytest.raises(UserError) as error:
        registry.reads("plugged")
    assert "model 'plugged' (plugged.model): " in str(error.value)
    assert words in str(error.value)
    assert "\n" not in str(error.value)
    plugin(model=PLAIN.replace("Schedule", "Settings").replace("def encode", "trains = False\n    def encode"))
    assert registry.methods("plugged") == {"encode"}


def test_names_are_files_and_entry_points_but_no_helpers(plugin):
    plugin(model="")
    models = registry.names("models")
    assert models["plugged"] == "plugged.model"
    assert models["scan"] == "crossmodal.models.scan"  # another package replaces none of ours
    assert not {"base", "parts", "__init__"} & set(models)
    assert {"cca", "vsepp", "mcvs"} <= set(models)
    assert not {"store", "networks", "extraction"} & set(registry.names("features"))
    assert {"image", "text", "precomputed"} <= set(registry.names("features"))
    assert not {"items", "raw", "drawing"} & set(registry.names("datasets"))


def test_an_entry_point_may_name_a_class_and_a_module_may_be_no_package(outside, tmp_path):
    outside(
        "plugged",
        {"model": "from crossmodal.models.scan import Model, Settings\n"},
        {"models": {"plugged": "model:Model"}},
    )
    assert registry.names("models")["plugged"] == "plugged.model"
    assert registry.reads("plugged") == {"image": "regions", "text": "tokens"}
    alone = tmp_path / "site" / "alone.py"
    alone.write_text('"""What stands alone."""\n')
    assert registry._file("alone") == alone
    assert registry._file("alone.below") is None


@pytest.mark.parametrize(
    ("kind", "name", "words"),
    [
        ("models", "vsep", "model 'vsep' is unknown; did you mean 'vsepp'"),
        ("datasets", "karpaty", "data set 'karpaty' is unknown; did you mean 'karpathy'"),
        ("features", "imag", "extractor 'imag' is unknown; did you mean 'image'"),
        ("tasks", "captionin", "task 'captionin' is unknown; did you mean 'captioning'"),
        ("forms", "region", "form of input 'region' is unknown; did you mean 'regions'"),
        ("figures", "embedings", "figure 'embedings' is unknown; did you mean 'embeddings'"),
        ("models", "zzzzzz", r"model 'zzzzzz' is unknown; \(known: "),
    ],
)
def test_unknown_names(kind, name, words):
    for ask in (registry.module, registry.source_hash):
        with pytest.raises(UserError, match=words):
            ask(kind, name)
    if kind == "models":
        for ask in (registry.reads, registry.second_forms, registry.source_reads):
            with pytest.raises(UserError, match=words):
                ask(name)
