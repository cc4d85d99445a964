"""The captions of pictures, shown in the terminal or as a page with the attention drawn over the pictures."""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from crossmodal.core.display import json_text
from crossmodal.core.errors import printable

if TYPE_CHECKING:
    from crossmodal.inference.description import Described, Descriptions

HEIGHT = 260  # pixels of a picture


def show(result: Descriptions, *, as_json: bool = False) -> None:
    """Print the captions as JSON, as a table, or as tab-separated lines where the output is no terminal."""
    if as_json:
        print(json_text(asdict(result)))
        return
    rows = [(printable(one.item_id or one.source), printable(one.caption)) for one in result.pictures]
    if not sys.stdout.isatty():
        for row in rows:
            print(*row, sep="\t")
        return
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(title=Text(printable(result.run)), title_justify="left", box=None)
    table.add_column("picture", style="dim", overflow="fold")
    table.add_column("caption", overflow="fold")
    for row in rows:
        table.add_row(*map(Text, row))
    Console().print(table)


def write(result: Descriptions, path: Path) -> None:
    """Write the captions as one self-contained page."""
    from crossmodal.core.files import write_text
    from crossmodal.reporting.tables.writers import environment

    shown = [_shown(one) for one in result.pictures]
    page = environment().get_template("descriptions.html.j2")
    write_text(path, page.render(result=result, shown=shown))


def _shown(one: Described) -> dict[str, object]:
    """What the page shows of a picture."""
    from crossmodal.reporting.page.looks import looks
    from crossmodal.reporting.page.thumbnails import picture

    drawn = picture(Path(one.source), HEIGHT)
    looked = None
    if drawn is not None and one.attention is not None and one.boxes is not None:
        looked = looks(one.words, one.attention, one.boxes)
    name = printable(one.item_id or Path(one.source).name)
    return {"name": name, "caption": one.caption, "drawn": drawn, "looks": looked,
            "attends": one.attention is not None}  # fmt: skip
