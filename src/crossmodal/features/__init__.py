"""Feature extractors, one per module; `store` opens the cached arrays that they write."""

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
