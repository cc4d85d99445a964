"""Stands in for the reader of videos that PVSE's program imports."""

GulpDirectory = None
