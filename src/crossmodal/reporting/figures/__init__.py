"""One file per figure. It declares when the figure is drawn, which files it reads, and where it stands on the page.

Every file of this folder and every entry point of the group `crossmodal.figures` in another package is a figure. Its
module has a class `Figure` that inherits from `base.Figure`; the figure NAME is drawn to `figures/NAME.svg`.
"""

HELPERS = ("base", "canvas")
