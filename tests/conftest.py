from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from typing import TYPE_CHECKING

import h5py
import numpy as np
import pytest

from crossmodal.core import limits, paths

if TYPE_CHECKING:
    from playwright.sync_api import Browser


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with slow tests come first, so that the last minutes are not those of one process with one such file."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)


@pytest.fixture(autouse=True, scope="session")
def records_of_dvc(tmp_path_factory: pytest.TempPathFactory) -> None:
    """DVC keeps its records where only this account may write, not in /var/tmp."""
    os.environ["DVC_SITE_CACHE_DIR"] = str(tmp_path_factory.mktemp("dvc"))


@pytest.fixture(autouse=True)
def environment():
    """What a test sets in the environment, or makes the planning of a DAG set there, ends with it."""
    before = dict(os.environ)
    yield
    os.environ.clear()
    os.environ.update(before)


@pytest.fixture(autouse=True)
def guards(monkeypatch):
    """What a command reads of params.yaml about limits and folders ends with its test."""
    monkeypatch.setattr(limits, "_limits", limits.Limits())
    monkeypatch.setattr(paths, "_roots", None)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Headless Chromium; a test that asks for it skips where there is none."""
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if chromium is None:
        pytest.skip("no Chromium on this machine")
    with sync_api.sync_playwright() as tool:
        browser = tool.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def matlab73():
    """A function that writes arrays and lists of texts as MATLAB does with -v7.3."""
    return write_matlab73


def write_matlab73(path, **values):
    """As MATLAB writes -v7.3: a header before the HDF5 file, axes reversed, texts as cells of character codes."""
    with h5py.File(path, "w", userblock_size=512) as file:
        for name, value in values.items():
            if isinstance(value, list):
                cells = file.create_dataset(name, (1, len(value)), dtype=h5py.ref_dtype)
                for i, text in enumerate(value):
                    codes = np.array([list(map(ord, text))], np.uint16).T
                    cells[0, i] = file.create_dataset(f"#refs#/{name}{i}", data=codes).ref
                cells.attrs["MATLAB_class"] = np.bytes_("cell")
            else:
                file[name] = np.asarray(value).T
    with path.open("r+b") as stream:
        stream.write(b"MATLAB 7.3 MAT-file".ljust(124) + b"\x00\x02IM")
    return path
