"""Readers of data sets, one module per file layout, which turn raw files into `items.parquet`."""

HELPERS = ("captioned", "embedded", "items", "partitions", "raw")
