"""Fixtures of several conftest.py: small prepared data sets, and a package beside this one."""

import importlib
import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from crossmodal.core import registry
from crossmodal.corpus.splits import make, make_labelled
from crossmodal.datasets import items
from crossmodal.features.engine import store
from crossmodal.language.tokens import token_table
from crossmodal.tasks import base as tasks
from crossmodal.tasks.ranked.selection import validate
from crossmodal.training.loop import Selection

EXTRACTED = {"extractor": "image", "settings": {"network": "shufflenet_v2_x0_5", "weights": "seeded"}}
WORDS = [f"word{letter}" for letter in "abcdefghijklmno"]


@pytest.fixture(scope="session")
def prepared(tmp_path_factory):
    """`data/toy`: 60 things with vectors, each with three captions that name the coordinates above zero."""
    folder = tmp_path_factory.mktemp("data") / "toy"
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(60, 15)).astype(np.float32)
    images, texts = [], []
    for i, vector in enumerate(vectors):
        part = "train" if i < 36 else "val" if i < 48 else "test"
        images.append((f"i{i}", "image", f"i{i}", None, part, f"i{i}.jpg"))
        for k in range(3):
            named = [w for w, v in zip(WORDS, vector, strict=True) if v > 0]
            texts.append((f"i{i}#{k}", "text", f"i{i}", None, part, " ".join(rng.permutation(named))))
    frame = pd.DataFrame(images + texts, columns=list(items.COLUMNS))
    items.write(frame, folder, {"root": "."})
    token_table(frame).to_parquet(folder / "tokens.parquet")
    (folder / "splits").mkdir()
    for name in ("full", "50pct-2cap"):
        make(frame, name, 0).to_parquet(folder / "splits" / f"{name}.parquet")
    (folder / "features").mkdir()
    regions = rng.normal(size=(60, 4, 6)).astype(np.float32)
    pixels = rng.integers(0, 256, (60, 3, 8, 8), np.uint8)
    for name, array in (("raw", vectors), ("regions", regions), ("pixels", pixels)):
        np.save(folder / "features" / f"image.{name}.npy", array)
        told = EXTRACTED if name == "raw" else {"extractor": "made by hand"}
        store.save(folder / "features" / f"image.{name}", [row[0] for row in images], told)
    return folder.parent


MODALITIES = {"image": (8, 5), "text": (8, 6), "audio": (4, 3)}  # items of each class and dimensions


@pytest.fixture(scope="session")
def labelled(tmp_path_factory):
    """`data/kinds`: six classes, `f` without training items, in three modalities; images have texts of their own."""
    folder = tmp_path_factory.mktemp("data") / "kinds"
    rng = np.random.default_rng(0)
    rows, arrays = [], {}
    for modality, (count, dim) in MODALITIES.items():
        for kind, label in enumerate("abcdef"):
            centre = np.zeros(dim)
            centre[kind % dim] = 3 - kind
            for i in range(count):
                part = "test" if label == "f" or i % 4 == 3 else "val" if i == 2 else "train"
                group = f"{label}{i}" if modality in ("image", "text") else f"{modality}{label}{i}"
                rows.append((f"{modality}/{label}{i}", modality, group, label, part, "x"))
                arrays.setdefault(modality, []).append(centre + rng.normal(size=dim))
    frame = pd.DataFrame(rows, columns=list(items.COLUMNS))
    items.write(frame, folder, {"root": "."})
    (folder / "splits").mkdir()
    for name in ("full", "classes1of3", "classes2of3"):
        make_labelled(frame, name).to_parquet(folder / "splits" / f"{name}.parquet")
    (folder / "features").mkdir()
    for modality, values in arrays.items():
        stem = folder / "features" / f"{modality}.raw"
        np.save(folder / "features" / f"{modality}.raw.npy", np.asarray(values, np.float32))
        store.save(stem, frame.item_id[frame.modality == modality].to_list(), {"extractor": "made by hand"})
    return folder.parent


BY_RECALL, BY_CLASS = (Selection(criterion, validate) for criterion in ("recall_sum", "map@50_sum"))
"""How runs choose their epochs where items are relevant by group, and by class."""


# -- a package beside this one ----------------------------------------------------------------------------------------

CACHES = [one for module in (registry, tasks) for one in vars(module).values() if hasattr(one, "cache_clear")]


def install(site: Path, name: str, modules: Mapping[str, str], points: Mapping[str, Mapping[str, str]]) -> Path:
    """Lay a package out in `site` as pip leaves it, and return its folder.

    Parameters
    ----------
    modules : name to text; `deep.below` lies in a folder.
    points : kind of the registry to {name: module}, its entry points.
    """
    for module, text in modules.items():
        path = site.joinpath(name, *module.split(".")).with_suffix(".py")
        for folder in [path.parent, *path.parent.parents]:
            if folder.is_relative_to(site / name):
                folder.mkdir(parents=True, exist_ok=True)
                (folder / "__init__.py").touch()
        path.write_text(text)
    info = site / f"{name}-1.0.dist-info"
    if points:
        info.mkdir(exist_ok=True)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        blocks = [
            f"[crossmodal.{kind}]\n" + "".join(f"{point} = {name}.{module}\n" for point, module in named.items())
            for kind, named in points.items()
        ]
        (info / "entry_points.txt").write_text("".join(blocks))
    return site / name


def forget(*packages: str) -> None:
    """Make the registry and the tasks look everything up again, and Python import these packages again."""
    importlib.invalidate_caches()
    for cached in CACHES:
        cached.cache_clear()
    for module in [module for module in sys.modules if module.split(".")[0] in packages]:
        del sys.modules[module]


@pytest.fixture
def outside(tmp_path, monkeypatch):
    """A function like `install` without `site`, whose package is found; called again, it changes modules."""
    (tmp_path / "site").mkdir()
    monkeypatch.syspath_prepend(tmp_path / "site")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)  # which would hide a change within a second
    packages: set[str] = set()

    def put(name, modules, points=None):
        packages.add(name)
        folder = install(tmp_path / "site", name, modules, points or {})
        forget(*packages)
        return folder

    yield put
    forget(*packages)


def watched_sources(monkeypatch) -> set[str]:
    """A set that receives the name of each module whose source a hash covers from now on."""
    seen, source = set(), registry._source

    def watched(path):
        seen.add(path)
        return source(path)

    monkeypatch.setattr(registry, "_source", watched)
    return seen
