"""Stands in for a lock on a log file that one process alone writes here."""

from contextlib import nullcontext as LockFile

__all__ = ["LockFile"]
