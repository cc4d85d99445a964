"""The console that tables are printed on, and values, bytes and seconds as people read them."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console

WIDTH = 160  # of a file or a pipe, which has none of its own


def folding(console: Console | None = None) -> Console:
    """The console given, or one of the width that tables are folded to: the terminal's, COLUMNS, or else `WIDTH`."""
    from rich.console import Console

    if console is not None:
        return console
    console = Console()
    return console if console.is_terminal or "COLUMNS" in os.environ else Console(width=WIDTH)


def readable_bytes(size: float) -> str:
    """A number of bytes in readable form, such as 1.5 GB."""
    for unit in ("B", "kB", "MB"):
        if size < 1000:
            return f"{size:.3g} {unit}"
        size /= 1000
    return f"{size:.3g} GB"


def readable_seconds(seconds: float) -> str:
    """A duration in readable form, such as 0.4 s, 35 s, 2 min 5 s or 3 h 20 min."""
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    minutes = round(seconds / 60)
    return f"{minutes // 60} h {minutes % 60} min"


def json_text(value: Any) -> str:
    r"""JSON for a terminal or a pipe: what is not printable, such as a terminal's commands, is written as `\uXXXX`."""
    text = json.dumps(value, indent=2, ensure_ascii=False)
    return "".join(c if c.isprintable() or c == "\n" else json.dumps(c)[1:-1] for c in text)


def setting(value: Any) -> str:
    """A setting's value in the notation of params.yaml."""
    if isinstance(value, list):
        return f"[{', '.join(map(setting, value))}]"
    if value is None or isinstance(value, bool):
        return {None: "none", True: "true", False: "false"}[value]
    return f"{value:g}" if isinstance(value, float) else str(value)
