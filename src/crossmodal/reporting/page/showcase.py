"""The parts of the page that show examples of tasks which rank nothing; a file of `showcases/` is one part.

A file has `Showcase`, a class derived from the one here. Its name is the last part of the part's address on the page.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, ClassVar

from markupsafe import Markup

from crossmodal.experiments import Job, Plan

FOLDER = Path(__file__).parent / "showcases"


@dataclass(frozen=True)
class Part:
    """A part of the page: its name, its title in the navigation, its heading, a sentence below that, and its HTML."""

    name: str
    short: str
    title: str
    about: str
    html: Markup


class Showcase:
    """Base class of parts."""

    short: ClassVar[str]
    title: ClassVar[str]
    about: ClassVar[str]

    def html(self, plan: Plan, jobs: Mapping[str, Job], results: Path, data: Path) -> Markup:
        """The part's HTML; empty where there is nothing to show.

        Parameters
        ----------
        jobs : those that the page covers.
        results : folder with `runs/`.
        data : folder of the prepared data sets.
        """
        raise NotImplementedError


def parts(plan: Plan, jobs: Mapping[str, Job], results: Path, data: Path) -> list[Part]:
    """The parts that have something to show, in the order of their names."""
    shown = []
    for path in sorted(FOLDER.glob("[!_]*.py")):
        module: Any = import_module(f"{__package__}.showcases.{path.stem}")
        one = module.Showcase()
        html = one.html(plan, jobs, results, data)
        if html:
            shown.append(Part(path.stem, one.short, one.title, one.about, html))
    return shown
