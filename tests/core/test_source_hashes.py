"""The hash of the source that a rule runs: what it covers, what it overlooks, and that it ends."""

from __future__ import annotations

import re

import pytest

from crossmodal.core import registry
from tests.prepared import forget, watched_sources

MODEL = "from crossmodal.models.scan import Model, Settings\n"  # whose forms are asked for, to be hashed too
IMPORTING = [
    "import plugged.part as p\n",
    "from plugged import part\n",
    "from plugged.part import VALUE\n",
    "from . import part\n",
    "from .part import VALUE as V\n",
    "def later():\n    from plugged import middle\n    return middle\n",
    "from .deep.below import VALUE\n",
]


@pytest.mark.parametrize("text", IMPORTING)
def test_a_hash_changes_with_what_is_imported(plugin, monkeypatch, text):
    # Without the package's own training, which every model's hash covers, this takes a hundredth of the time.
    source = registry._source
    monkeypatch.setattr(registry, "_source", lambda path: source(path) if path.startswith("plugged") else ("", ()))
    more = {"middle": "from plugged.part import VALUE\n", "deep__below": "from ..part import VALUE\n"}
    plugin(model=MODEL + text, part="VALUE = 1\n", other="VALUE = 1\n", **more)
    before = registry.source_hash("models", "plugged")
    plugin(part="# A comment.\n\nVALUE  =  1   # another\n")
    assert registry.source_hash("models", "plugged") == before
    plugin(other="VALUE = 2\n")  # which nothing imports
    assert registry.source_hash("models", "plugged") == before
    plugin(part="VALUE = 2\n")
    assert registry.source_hash("models", "plugged") != before
    plugin(part="VALUE = 1\n")
    assert registry.source_hash("models", "plugged") == before
    plugin(model=f"{MODEL}{text}MORE = 1\n")
    assert registry.source_hash("models", "plugged") != before


CODE = """
class A:
    x = 1
    def f(self):
        return self.x

def g():
    return 1
"""


def test_a_hash_overlooks_what_is_said_and_what_types_are_asked_for(plugin, monkeypatch):
    source = registry._source
    monkeypatch.setattr(registry, "_source", lambda path: source(path) if path.startswith("plugged") else ("", ()))
    plugin(model=f"{MODEL}from plugged import part\n", part=CODE, other="VALUE = 1\n")
    before = registry.source_hash("models", "plugged")
    told = re.sub("( *)(class A|def .*):\n", r'\1\2:\n\1    """Said of it."""\n', CODE)
    assert told.count("Said") == 3
    plugin(part=f'"""All of it."""\n{told}')
    assert registry.source_hash("models", "plugged") == before
    typed = "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from plugged.other import VALUE\n"
    run = "import os\nif os.name:\n    from plugged.other import VALUE\n"
    for text, counts in ((typed, False), (run, True)):
        hashes = []
        for value in (1, 2):
            plugin(part=text, other=f"VALUE = {value}\n")
            hashes.append(registry.source_hash("models", "plugged"))
        assert (hashes[0] != hashes[1]) is counts


def test_a_hash_covers_data_that_lies_beside_the_module(plugin):
    """Weights and lists that are committed with the source, by a file's name or by that of its folder."""
    text = 'from pathlib import Path\nWEIGHTS = Path(__file__).parent / "data" / "net.bin"\n'
    model = "from plugged import net\nfrom crossmodal.models.vsepp import Model, Settings\n"
    site = plugin(model=model, net=text)
    (site / "data").mkdir()
    hashes = []
    for name, content in (("net.bin", "1"), ("net.bin", "2"), ("other.bin", "1"), ("net.bin", "1")):
        (site / "data" / name).write_text(content)
        forget()
        hashes.append(registry.source_hash("models", "plugged"))
    assert hashes[0] == hashes[3]
    assert hashes[1] == hashes[2] != hashes[0]
    plugin(
        net='from pathlib import Path\nfolder = Path(__file__).parent / "data"\nnone = Path(__file__).parent / "no"\n'
    )
    hashes = []
    for content in "12":
        (site / "data" / "other.bin").write_text(content)
        forget()
        hashes.append(registry.source_hash("models", "plugged"))
    assert hashes[0] != hashes[1]


def test_the_code_beside_named_data_counts_too(plugin):
    text = 'from pathlib import Path\nWEIGHTS = Path(__file__).parent / "data" / "net.bin"\n'
    site = plugin(model=MODEL, net=text)
    (site / "data").mkdir()
    (site / "data" / "net.bin").write_text("1")
    hashes = []
    for more in ("", "VALUE = 2\n", "import plugged.model\n", ""):
        plugin(model=MODEL, net=text + more)
        hashes.append(registry.source_hash_of(("plugged.net",)))
    assert len(set(hashes)) == 3
    assert hashes[0] == hashes[3]


def test_committed_weights_are_part_of_what_images_are_extracted_by(monkeypatch):
    before = {name: registry.source_hash("features", name) for name in ("image", "video", "audio")}
    monkeypatch.setattr(registry, "_content", lambda path: [(path.name, "other weights")])
    forget()
    after = {name: registry.source_hash("features", name) for name in before}
    forget()
    assert {name: after[name] == before[name] for name in before} == {"image": False, "video": False, "audio": True}


def test_a_hash_knows_which_module_holds_what(plugin):
    plugin(model=f"{MODEL}from plugged import part, other\n", part="VALUE = 1\n", other="VALUE = 2\n")
    before = registry.source_hash("models", "plugged")
    plugin(part="VALUE = 2\n", other="VALUE = 1\n")
    assert registry.source_hash("models", "plugged") != before


def test_modules_that_import_each_other_have_an_end(plugin):
    plugin(model=f"{MODEL}from plugged import part\n", part="from plugged import model\n")
    assert len(registry.source_hash("models", "plugged")) == 16


def followed(monkeypatch, kind: str, name: str) -> set[str]:
    """The modules that a hash covers."""
    seen = watched_sources(monkeypatch)
    registry.source_hash.__wrapped__(kind, name)
    return seen


def test_what_a_models_hash_covers(monkeypatch):
    seen = followed(monkeypatch, "models", "mcvs")
    needed = {"models.mcvs", "models.cvs", "models.base", "models.parts.aligned_attention", "models.parts.triplets"}
    needed |= {
        "training.loop",
        "corpus.opening",
        "corpus.corpus",
        "corpus.batches",
        "corpus.by_class",
        "corpus.splits",
        "language.tokens",
    }
    assert {f"crossmodal.{name}" for name in needed} <= seen
    left_out = {"core.errors", "core.files", "core.registry", "experiments", "experiments.plan"}
    left_out |= {"features.engine.extraction", "models.scan"}
    assert not {f"crossmodal.{name}" for name in left_out} & seen
    assert not any(path.startswith(("crossmodal.reporting", "torch", "numpy")) for path in seen)


def test_a_data_sets_hash_does_not_cover_the_training(monkeypatch):
    seen = followed(monkeypatch, "datasets", "cub")
    assert {"crossmodal.datasets.cub", "crossmodal.datasets.items", "crossmodal.datasets.raw"} <= seen
    assert not any(path.startswith(("crossmodal.training", "crossmodal.models")) for path in seen)


def test_hashes_of_all_differ():
    hashes = [registry.source_hash(kind, name) for kind in registry.KINDS for name in registry.names(kind)]
    assert len(set(hashes)) == len(hashes)
    assert all(len(one) == 16 for one in hashes)


def test_what_a_module_imports_tells_which_data_sets_are_drawn():
    drawing = "crossmodal.datasets.drawing.work"
    drawn = {name for name in registry.names("datasets") if drawing in registry.imports("datasets", name)}
    assert drawn == {"world", "birds_world", "media_world", "scenes"}
