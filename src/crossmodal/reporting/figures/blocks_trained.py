"""Numbers of attention blocks trained when a modality is added (CVS thesis, sections 3.1 to 3.3, figure 26)."""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import Field

from crossmodal.experiments import Strict
from crossmodal.reporting.figures import base, canvas
from crossmodal.reporting.figures.canvas import COLOURS


class Options(Strict):
    systems: dict[str, list[int]] = Field(
        description="title to the blocks that are trained when the second, third, ... modality is added"
    )


class Figure(base.Figure):
    section = base.SPACES
    place = 40
    title = "Blocks"
    caption = "Attention blocks that are trained when a modality is added."
    Options = Options

    def wanted(self) -> bool:
        return bool(self.options)

    def reads(self) -> list[str]:
        return []

    def draw(self) -> str:
        return blocks_trained({t: blocks for options in self.options.values() for t, blocks in options.systems.items()})


def blocks_trained(systems: Mapping[str, list[int]]) -> str:
    """The number of trained blocks against the number of modalities, one line per system.

    Parameters
    ----------
    systems : title to the number of blocks that are trained when the second, third, ... modality is added.
    """
    with canvas.style():
        figure = canvas.figure(5.4, 3.2)
        ax = figure.subplots()
        for (title, blocks), colour in zip(systems.items(), COLOURS, strict=False):
            ax.plot(range(2, 2 + len(blocks)), blocks, "o-", color=colour, label=title)
        ax.set_xticks(range(2, 2 + max(map(len, systems.values()))))
        ax.set_xlabel("Modalities")
        ax.set_ylabel("Attention blocks trained")
        ax.legend()
        return canvas.svg(figure)
