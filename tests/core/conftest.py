from pathlib import Path

import pytest

from tests.prepared import outside

__all__ = ["outside"]


@pytest.fixture
def plugin(outside):
    """A function that writes the modules of a package `plugged`, whose `model` is the model `plugged`."""

    def write(**modules: str) -> Path:
        named = {name.replace("__", "."): text for name, text in modules.items()}
        return outside("plugged", named, {"models": {"plugged": "model", "scan": "model"}})

    return write
