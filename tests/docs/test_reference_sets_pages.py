"""The pages of reference results: from no folder, and from a set."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from crossmodal.core.errors import UserError
from crossmodal.core.files import sha256_file, write_json, write_parquet
from crossmodal.reporting.results import measured, reference
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


def write_set(folder: Path, claims: pd.DataFrame) -> None:
    """Make a set with these verdicts and without any number."""
    kinds = {reference.METRICS: measured.TYPES, reference.RUNS: reference.RUN_TYPES}
    tables = {name: pd.DataFrame({column: [] for column in types}).astype(types) for name, types in kinds.items()}
    for name, table in (tables | {reference.CLAIMS: claims.reindex(columns=[*reference.CLAIM_TYPES])}).items():
        write_parquet(folder / name, table)
    hashes = {name: sha256_file(folder / name) for name in (*kinds, reference.CLAIMS)}
    write_json(folder / "reference.json", ABOUT | {"sha256": hashes})


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
    write_set(folder / "mine", pd.DataFrame())
    (folder / "mine" / "tables").mkdir()
    (folder / "mine" / "tables" / "mfsr-table1.md").write_text('### A "title"\n\nCaption.\n\n| a |\n| - |\n| 1 |\n')
    config = Config()
    pages.on_config(config)
    assert config.nav[0]["Measured"][1]["Reference results"] == ["results/index.md", {"mine": "results/mine.md"}]
    about = pages.read_about(folder / "mine")
    index = pages.index({folder / "mine": about})
    assert "| [mine](mine.md) | quick, scale `embedded` | embedded &lt;world> | 0, 2 | 4 | 1,234 |" in index
    assert "What the claims say" not in index
    page = pages.page(folder / "mine", about)
    assert page.startswith("# mine\n")
    assert "| libraries | torch 9.9 |" in page
    assert "- word vectors: seeded: 3 of the runs" in page
    assert "??? note \"mfsr-table1: A 'title'\"\n\n    Caption.\n\n    | a |\n    | - |\n    | 1 |" in page
    assert "Incomplete" not in page
    assert "- a run is missing" in pages.page(
        folder / "mine", about.model_copy(update={"faults": ["a run is missing"]})
    )


def test_each_set_says_what_it_makes_of_a_claim(folder: Path) -> None:
    """In the paper's words; a verdict that two published data sets share stands once."""
    row = {
        "paper": "cvs",
        "claim": "attention-helps",
        "dataset": "world",
        "verdict": "confirmed",
        "ours": 2.34,
        "seeds": 2,
    }
    other = {
        "paper": "gone",
        "claim": "of-its-own",
        "dataset": "elsewhere",
        "verdict": "not run",
        "ours": None,
        "seeds": 0,
    }
    write_set(folder / "mine", pd.DataFrame([row, row, row | {"ours": -1.0, "verdict": "undecided"}, other]))
    write_set(folder / "ours", pd.DataFrame([row | {"verdict": "refuted", "ours": -7.0}]))
    index = pages.index({folder / name: pages.read_about(folder / name) for name in ("mine", "ours")})
    assert "| claim | on | mine | ours |" in index
    said = "Aligned attention improves CVS of images and texts."
    assert f"| {said} | embedded &lt;world> | confirmed (+2.3); undecided (-1.0) | refuted (-7.0) |" in index
    assert "| of-its-own | elsewhere | not run | – |" in index


def test_a_damaged_set_ends_the_build_with_one_error(folder: Path) -> None:
    write_json(folder / "mine" / "reference.json", {**ABOUT, "seeds": "all"})
    with pytest.raises(UserError, match=r"reference\.json: seeds"):
        pages.on_files([], Config())
