"""Published systems, one module each; `parts` holds what several share."""

HELPERS = ("base", "capabilities")
