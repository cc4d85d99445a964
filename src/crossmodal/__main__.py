"""Lets `python -m crossmodal` run the command `crossmodal`."""

from crossmodal.cli import main

main()
