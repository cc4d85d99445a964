"""The answers of a search, shown in the terminal or as a page."""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from crossmodal.core.display import json_text
from crossmodal.core.errors import printable

if TYPE_CHECKING:
    from crossmodal.inference.search import Found


def show(result: Found, *, as_json: bool = False) -> None:
    """Print the answers as JSON, as a table, or as tab-separated lines where the output is no terminal."""
    if as_json:
        print(json_text(asdict(result)))
        return
    if not sys.stdout.isatty():
        for rank, answer in enumerate(result.answers, 1):
            print(rank, f"{answer.score:.4f}", printable(answer.item_id), printable(answer.source), sep="\t")
        return
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    # `Text` keeps rich from reading a caption's square brackets as markup.
    head = Text(f"{title(result)}, of {result.gallery:,} {result.to} items")
    table = Table(title=head, title_justify="left", box=None)
    table.add_column("", justify="right", style="dim")
    table.add_column("score", justify="right")
    table.add_column("item", style="dim", overflow="fold")
    table.add_column("caption" if result.to == "text" else "file", overflow="fold")
    for rank, answer in enumerate(result.answers, 1):
        item, source = (Text(printable(text)) for text in (answer.item_id, answer.source))
        table.add_row(str(rank), f"{answer.score:.4f}", item, source)
    Console().print(table)


def title(result: Found) -> str:
    """The heading of a search: the query and the run."""
    query = f"“{result.query.source}”" if result.query.modality == "text" else Path(result.query.source).name
    return printable(f"{query} in {result.run}")


def write(result: Found, path: Path) -> None:
    """Write the answers as one self-contained page."""
    from crossmodal.core.files import write_text
    from crossmodal.reporting.page.thumbnails import medium
    from crossmodal.reporting.tables.writers import environment

    def shown(modality: str, source: str) -> dict[str, str | None]:
        if modality == "text":
            return {"modality": modality, "text": source}
        return {"modality": modality, **vars(medium(Path(source), modality))}

    query = shown(result.query.modality, result.query.source)
    answers = [
        (printable(answer.item_id), answer.score, shown(answer.modality, answer.source)) for answer in result.answers
    ]
    page = environment().get_template("answers.html.j2")
    write_text(path, page.render(found=result, query=query, answers=answers, title=title(result)))
