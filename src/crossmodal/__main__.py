"""`python -m crossmodal` is `crossmodal`."""

from crossmodal.cli import main

main()
