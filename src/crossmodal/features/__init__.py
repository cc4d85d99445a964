"""Extractors: one module each, items to cached arrays; `store` reads them back memory-mapped."""

HELPERS = (
    "annotations",
    "backbone",
    "checkpoints",
    "detector",
    "extraction",
    "networks",
    "pooling",
    "semantics",
    "store",
)
