"""Extractors: one module each, items to cached arrays; `store` reads them back memory-mapped."""

HELPERS = ("backbone", "extraction", "networks", "store")
