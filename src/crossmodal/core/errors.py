"""The exception for users' mistakes, and suggestions for misspelt names."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class UserError(Exception):
    """An error that the user can fix. Its message names the file or key, the value, what is expected and what to do.

    The command line prints it without a traceback and exits with 2.
    """


def suggestion(name: str, known: Iterable[str]) -> str:
    """The end of an error message on an unknown name, such as `; did you mean 'vsepp'? (known: ...)`."""
    known = sorted(known)
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    hint = f"; did you mean {close[0]!r}?" if close else ";"
    return f"{hint} (known: {', '.join(known)})"


def printable(text: str) -> str:
    """A text safe for the terminal: without control characters, which could recolour, overwrite or link."""
    return "".join(one if one.isprintable() else " " if one.isspace() else "\N{REPLACEMENT CHARACTER}" for one in text)
