"""The one exception for a user's mistake, and suggestions for misspelt names."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class UserError(Exception):
    """Something the user can mend: names the file or key, what was found, what was expected and what to do.

    The command line prints it without a traceback and exits with 2.
    """


def suggestion(name: str, known: Iterable[str]) -> str:
    """`; did you mean 'vsepp'? (known: ...)` for an unknown name."""
    known = sorted(known)
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    hint = f"; did you mean {close[0]!r}?" if close else ";"
    return f"{hint} (known: {', '.join(known)})"


def printable(text: str) -> str:
    """A stranger's text as a terminal may show it: no control characters, which could recolour, overwrite or link."""
    return "".join(one if one.isprintable() else " " if one.isspace() else "\N{REPLACEMENT CHARACTER}" for one in text)
