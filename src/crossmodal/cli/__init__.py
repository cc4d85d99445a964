"""`crossmodal`: one sub-command per rule of the DAG, and tools beside them. Imports are lazy: `--help` is quick."""

from crossmodal.cli import new, results, steps, tools
from crossmodal.cli.base import app, main

__all__ = ["app", "main", "new", "results", "steps", "tools"]
