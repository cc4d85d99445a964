"""The exception for users' mistakes, and suggestions for misspelt names."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class UserError(Exception):
    """An error that the user can fix. Its message names the file or key, the value, what is expected and what to do.

    The command line prints it without a traceback and exits with 2.
    """


def suggestion(name: str, names: Iterable[str]) -> str:
    """The end of an error message on an unknown name, such as `; did you mean 'vsepp'? (known: ...)`."""
    names = sorted(names)
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    hint = f"; did you mean {close[0]!r}?" if close else ";"
    return f"{hint} (known: {', '.join(names)})"


def printable(text: str) -> str:
    """A text safe for the terminal: without control characters, which could recolour, overwrite or link."""
    return "".join(c if c.isprintable() else " " if c.isspace() else "\N{REPLACEMENT CHARACTER}" for c in text)
