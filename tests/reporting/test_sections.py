"""Figures of other steps stand in the page if they are there, in their order, in the page's colours."""

from __future__ import annotations

from pathlib import Path

from crossmodal.reporting import figures, sections

SVG = '<?xml version="1.0"?><svg width="9pt" height="9pt" viewBox="0 0 9 9"><path stroke="%s"/></svg>'


def test_only_what_is_drawn_is_shown(tmp_path: Path) -> None:
    assert sections.drawn(tmp_path) == []
    for name in ("space-time", "embeddings", "space-losses", "of-another-kind"):
        (tmp_path / f"{name}.svg").write_text(SVG % figures.INK)
    found = sections.drawn(tmp_path)
    assert [section["id"] for section in found] == ["embeddings", "spaces"]
    assert [part["title"] for part in found[1]["parts"]] == ["Losses", "Time"]
    svg = found[0]["parts"][0]["svg"]
    assert svg.startswith("<svg")
    assert "var(--ink)" in svg
    assert figures.INK not in svg
