"""crossmodal: one reproducible benchmark pipeline for cross-modal retrieval.

`load` opens a trained run and `metrics` reads all numbers; both are imported when they are first used.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from crossmodal.library import Run, load, metrics

__version__ = "0.1.0"
__all__ = ["Run", "load", "metrics"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from crossmodal import library

    return getattr(library, name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
