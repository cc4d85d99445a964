"""Published systems, one module each; `parts` holds the code that several of them share."""

HELPERS = ("base", "capabilities")
