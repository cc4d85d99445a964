"""Extractors: one module each, items to cached arrays; `store` reads them back memory-mapped."""

HELPERS = (
    "annotations",
    "backbone",
    "catalog",
    "checkpoints",
    "contract",
    "detector",
    "dodecahedron",
    "driver",
    "extraction",
    "networks",
    "placed",
    "polygons",
    "pooling",
    "semantics",
    "shapes",
    "silhouettes",
    "skipthoughts",
    "store",
)
