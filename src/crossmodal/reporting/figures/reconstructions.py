"""Test images and captions beside their reconstructions from the parts of their encodings (mFSR, figure 5)."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from typing import Any

from crossmodal.core import packed
from crossmodal.reporting.figures import canvas
from crossmodal.reporting.figures.canvas import COLOURS, INK
from crossmodal.reporting.figures.parts import Inspected

SHOWN = 6  # pairs in a figure


class Figure(Inspected):
    place = 10
    caption = (
        "Test images and captions, and their reconstructions from the parts of their encodings (captions in blue)."
    )

    def draw(self) -> str:
        return reconstructions(self.inspected())


def reconstructions(shown: Mapping[str, list[dict[str, Any]]]) -> str:
    """Test images and captions, each above its reconstructions by the first system that reconstructs both, or one."""
    making = [run for runs_ in shown.values() for run in runs_ if run["captions"] and any(run["captions"])]
    making += [run for runs_ in shown.values() for run in runs_ if "picture_rank" in run["numbers"]]
    with canvas.style():
        figure = canvas.figure(10.2, 5.2)
        if not making:
            return canvas.empty(figure, "No run that reconstructs images or captions has been tested yet.")
        run = max(making, key=lambda run: ("picture_rank" in run["numbers"]) + any(map(bool, run["captions"])))
        with packed.arrays(run["folder"] / "shown.npz") as file:
            pictures = [file[name] for name in ("pictures", "pictures_made") if name in file]
        count = min(SHOWN, len(run["captions"]))
        axes = figure.subplots(3, count, squeeze=False, height_ratios=(1, 1, 0.9))
        for column in range(count):
            for row in range(2):
                axes[row][column].axis("off")
                if row < len(pictures):
                    axes[row][column].imshow(pictures[row][column].transpose(1, 2, 0), interpolation="nearest")
            texts = run["captions"][column]
            axes[2][column].axis("off")
            for place, (name, colour) in enumerate((("words", INK), ("words_made", COLOURS[0]))):
                text = textwrap.fill(texts.get(name, ""), 22)
                options = {"va": "top", "fontsize": 7.5, "color": colour}
                axes[2][column].text(0, 1 - 0.52 * place, text, transform=axes[2][column].transAxes, **options)
        for row, label in enumerate(("image", "reconstructed from its parts")):
            axes[row][0].set_title(label, fontsize=9)
        return canvas.svg(figure)
