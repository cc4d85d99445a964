"""Data sets: one module a layout, raw files to `items.parquet`."""

HELPERS = ("captioned", "items", "raw")
