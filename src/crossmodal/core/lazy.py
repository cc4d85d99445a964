"""Quicker imports of libraries."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def without_imports(*names: str) -> Iterator[None]:
    """Hide modules from the imports inside the `with` block, of libraries that use these only if they are installed.

    Each rule of the DAG is a process of its own, so that a second of imports is spent hundreds of times.
    """
    hidden = [name for name in names if name not in sys.modules]
    for name in hidden:
        sys.modules[name] = None
    try:
        yield
    finally:
        for name in hidden:
            del sys.modules[name]
