"""The figures of the page: those of a scope that have been drawn, by section, as SVG that follows the page's theme."""

from __future__ import annotations

import logging
import re
from typing import Any

from markupsafe import Markup, escape

from crossmodal.core.errors import UserError
from crossmodal.reporting.figures import base
from crossmodal.reporting.figures.canvas import FAINT, GRID, INK

log = logging.getLogger(__name__)

# Parts of an SVG that matplotlib never writes and that a page must not hold.
FOREIGN = re.compile(
    r"<\s*(?:/\s*)?(?:script|foreignobject|iframe|object|embed|animate\w*|set|handler|link|meta|base|a)\b"
    r"|<[^<>]*[\s\"'/]on[a-z]+\s*=|href\s*=\s*(?![\"'](?:#|data:image/(?:png|jpeg);))|@import|url\(\s*(?!#)"
    r"|</svg\s*>\s*\S",
    re.I,
)


def inline(svg: str, label: str) -> str:
    """An SVG to be put into a page: without XML head, as wide as its place, in the colours of the page's theme.

    Raises
    ------
    UserError : it holds what our figures never do: scripts, other pages or addresses.
    """
    body = svg[max(svg.find("<svg"), 0) :]
    if not body.startswith("<svg") or (odd := FOREIGN.search(body)):
        what = repr(odd[0][:40]) if body.startswith("<svg") else "no <svg>"
        raise UserError(f"the figure {label!r} was not drawn here (it contains {what}); delete it and draw it again")
    start, _, rest = body.partition("<metadata>")
    body = start + rest.partition("</metadata>")[2] if "</metadata>" in rest else body  # matplotlib writes one
    head, end, rest = body.partition(">")
    for side in ("width", "height"):
        head = re.sub(rf' {side}="[^"]*"', "", head, count=1)
    body = head + end + rest
    body = body.replace("<svg ", f'<svg class="figure" role="img" aria-label="{label}" ', 1)
    for colour, variable in ((INK, "--ink"), (FAINT, "--faint"), (GRID, "--rule")):
        body = body.replace(colour, f"var({variable})")
    return body


def drawn(scope: base.Scope) -> list[dict[str, Any]]:
    """The sections that have at least one drawn figure, in their order, each with its figures.

    A section has the keys `id`, `short`, `title` and `parts`; a part has `title`, `caption` and `svg`.
    """
    sections: dict[base.Section, list[dict[str, Any]]] = {}
    for figure in base.wanted(scope):
        path = scope.target / "figures" / f"{figure.name}.svg"
        if figure.section is None or not path.exists() or not figure.shown():
            continue
        heading = figure.section.title
        try:
            label = figure.label or (f"{heading}: {figure.title}" if figure.title else heading)
            svg = inline(path.read_text(encoding="utf-8"), label)
        except (UserError, UnicodeDecodeError) as error:
            log.warning("%s: %s", path, error)
            continue
        part = {"title": figure.title, "caption": with_code(figure.caption), "svg": Markup(svg)}
        sections.setdefault(figure.section, []).append(part)
    return [{"id": s.name, "short": s.short, "title": s.title, "parts": parts} for s, parts in sections.items()]


def with_code(caption: str) -> Markup:
    """A caption as HTML; file names, which stand in double backticks as in reStructuredText, are set as code."""
    return Markup(re.sub("``(.+?)``", r"<code>\1</code>", str(escape(caption))))
