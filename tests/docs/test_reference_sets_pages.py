"""The pages of reference results: from no folder, and from a set."""

from __future__ import annotations

from pathlib import Path

import pytest

from crossmodal.core.errors import UserError
from crossmodal.core.files import write_json
from tests.docs.documents import HOOKS

pytest.importorskip("mkdocs", reason="mkdocs is not installed")
import reference_sets_pages as pages

ABOUT = {
    "name": "mine",
    "scope": "quick",
    "scale": "embedded",
    "papers": ["mfsr"],
    "seeds": [0, 2],
    "datasets": {"world": {"title": "embedded <world>", "sha256": {"items": "a"}}},
    "machines": ["Some CPU, 2 cores"],
    "versions": {"torch": "9.9"},
    "commits": ["abc"],
    "commit": "abc",
    "first": "2026-01-01 00:00 UTC",
    "last": "2026-01-02 00:00 UTC",
    "fallbacks": {"word vectors: seeded": 3},
    "runs": 4,
    "numbers": 1234,
    "faults": [],
    "sha256": {},
}


class Config:
    """As much of MkDocs' configuration as the hook reads."""

    def __init__(self) -> None:
        self.nav = [{"Measured": ["speed.md", {"Reference results": []}]}]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(pages, "FOLDER", tmp_path / "reference")
    return tmp_path / "reference"


def test_without_a_set_the_list_says_so(folder: Path) -> None:
    assert HOOKS.is_dir()
    config = Config()
    pages.on_config(config)
    assert config.nav[0]["Measured"][1] == {"Reference results": ["results/index.md"]}
    assert "There is no set yet" in pages.index({})
    assert "|" not in pages.index({})


def test_a_set_has_a_row_and_a_page_with_its_tables(folder: Path) -> None:
    write_json(folder / "mine" / "reference.json", ABOUT)
    (folder / "mine" / "tables").mkdir()
    (folder / "mine" / "tables" / "mfsr-table1.md").write_text('### A "title"\n\nCaption.\n\n| a |\n| - |\n| 1 |\n')
    config = Config()
    pages.on_config(config)
    assert config.nav[0]["Measured"][1]["Reference results"] == ["results/index.md", {"mine": "results/mine.md"}]
    about = pages.read_about(folder / "mine")
    index = pages.index({folder / "mine": about})
    assert "| [mine](mine.md) | quick, scale `embedded` | embedded &lt;world> | 0, 2 | 4 | 1,234 |" in index
    page = pages.page(folder / "mine", about)
    assert page.startswith("# mine\n")
    assert "| libraries | torch 9.9 |" in page
    assert "- word vectors: seeded: 3 of the runs" in page
    assert "??? note \"mfsr-table1: A 'title'\"\n\n    Caption.\n\n    | a |\n    | - |\n    | 1 |" in page
    assert "Incomplete" not in page
    assert "- a run is missing" in pages.page(
        folder / "mine", about.model_copy(update={"faults": ["a run is missing"]})
    )


def test_a_damaged_set_ends_the_build_with_one_error(folder: Path) -> None:
    write_json(folder / "mine" / "reference.json", {**ABOUT, "seeds": "all"})
    with pytest.raises(UserError, match=r"reference\.json: seeds"):
        pages.on_files([], Config())
