"""The drawing tools of all figures: one style, and SVG with the same bytes each time.

Figures use matplotlib's `Figure` alone, without windows or global state; all drawing stands inside `with style():`.
"""

from __future__ import annotations

import io
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

INK, FAINT, GRID = "#22262e", "#6b7280", "#d9dce3"
COLOURS = ("#3f6fd8", "#dd7a2b", "#25967a", "#b0509c", "#c9a227", "#d0494c", "#6a7fa0", "#7d8f2f")
STYLES = ("-", (0, (4, 1.5)), (0, (1.2, 1.2)), (0, (6, 1.5, 1.2, 1.5)), (0, (8, 3)))
MARKERS = ("o", "s", "^", "v", "D")
_RC = {
    "svg.fonttype": "none",
    "svg.hashsalt": "crossmodal",
    "font.family": "sans-serif",
    "font.size": 9.5,
    "text.color": INK,
    "axes.edgecolor": FAINT,
    "axes.labelcolor": INK,
    "axes.titlecolor": INK,
    "axes.titlesize": 10.5,
    "axes.titlelocation": "left",
    "axes.titleweight": "bold",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "axes.axisbelow": True,
    "grid.color": GRID,
    "grid.linewidth": 0.7,
    "xtick.color": FAINT,
    "ytick.color": FAINT,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "legend.frameon": False,
    "legend.fontsize": 9,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "savefig.facecolor": "none",
}


def style() -> AbstractContextManager[None]:
    """The style of all figures, for a `with` block around what draws one."""
    import matplotlib

    return matplotlib.rc_context(_RC)


def figure(width: float, height: float, **options: Any) -> Figure:
    """An empty figure of a width and a height in inches, which lays out its axes by itself."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    canvas = Figure(figsize=(width, height), layout="constrained", **options)
    FigureCanvasAgg(canvas)
    return canvas


def empty(figure: Figure, text: str) -> str:
    """An SVG that holds one sentence in place of the figure: why there is nothing to draw yet."""
    figure.set_size_inches(10.2, 0.8)
    figure.text(0.01, 0.5, text, color=FAINT, va="center")
    return svg(figure)


def sign(marker: str, colour: str) -> Line2D:
    """A marker for a legend."""
    from matplotlib.lines import Line2D

    return Line2D([], [], linestyle="none", marker=marker, color=colour, markersize=5)


def svg(figure: Figure) -> str:
    """A figure as SVG."""
    _take_literally(figure)
    stream = io.StringIO()
    figure.savefig(stream, format="svg", metadata={"Date": None, "Creator": None}, transparent=True)
    return stream.getvalue()


def _take_literally(figure: Figure) -> None:
    """Show dollar signs in names and captions as such: matplotlib would read them as formulas, and mostly fail.

    Labels of numeric axes are left alone: matplotlib makes them itself, as formulas where they are powers.
    """
    from matplotlib.text import Text
    from matplotlib.ticker import LogFormatter, ScalarFormatter

    numbers: set[int] = set()
    for axis in (axis for axes in figure.axes for axis in (axes.xaxis, axes.yaxis)):
        numbers.add(id(axis.offsetText))
        kinds = ((axis.get_major_formatter, axis.get_major_ticks), (axis.get_minor_formatter, axis.get_minor_ticks))
        for formatter, ticks in kinds:
            if isinstance(formatter(), LogFormatter | ScalarFormatter):
                numbers.update(id(label) for tick in ticks() for label in (tick.label1, tick.label2))
    for text in figure.findobj(Text):
        if id(text) not in numbers:
            text.set_parse_math(False)
