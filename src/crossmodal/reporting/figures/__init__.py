"""One file per figure. The file declares when the figure is drawn, of which files, and where it stands on the page.

A figure is found by being a file of this folder, or an entry point of the group `crossmodal.figures` in another
package, whose module has a class `Figure` as `base.Figure` describes it. Its name is that of `figures/NAME.svg`.
"""

HELPERS = ("base", "canvas")
