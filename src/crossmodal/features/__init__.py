"""Extractors: one module each, items to cached arrays; `store` reads them back memory-mapped."""

HELPERS = ("annotations", "backbone", "detector", "extraction", "networks", "pooling", "semantics", "store")
