"""The exception for users' mistakes, and suggestions for misspelt names."""

from __future__ import annotations

import difflib
import re
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


def first_line(error: BaseException) -> str:
    """The first line of what an exception says, or its type where it says nothing; at most 300 characters."""
    lines = str(error).strip().splitlines()
    return lines[0][:300] if lines else type(error).__name__


def is_text(text: str) -> bool:
    """Whether a text can be written in UTF-8: bytes of a name or a command that cannot are read as half characters."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def printable(text: str) -> str:
    """A text safe for the terminal: without control characters, which could recolour, overwrite or link."""
    return "".join(c if c.isprintable() else " " if c.isspace() else "\N{REPLACEMENT CHARACTER}" for c in text)


def masked(text: str) -> str:
    """A text without the passwords and keys of the addresses in it, before an `@` or among what follows a `?`."""
    text = re.sub(r"(?<=://)([^\s/@:'\"]{0,200}):[^\s/'\"]{1,2000}@", r"\1:***@", text)
    # A password with a slash, which is no port before a path.
    text = re.sub(r"(?<=://)([^\s/@:'\"]{0,200}):(?!\d{1,5}/)[^\s@'\"]{1,2000}@", r"\1:***@", text)
    text = re.sub(r"(?<=://)[^\s/@:'\"]{20,200}@", "***@", text)  # a key alone
    return re.sub(
        r"(?i)(?<=[?&;])([a-z_.-]{0,40}(?:passw|pwd|token|secret|key)[a-z_.-]{0,40}=)[^\s&;'\"]{1,2000}", r"\1***", text
    )
