"""Rankings by the letter: one pair, one query at a time, in exact rational numbers."""

from __future__ import annotations

from fractions import Fraction

import numpy as np


def exact_scores(queries, gallery) -> list[list[Fraction]]:
    q, g = ([[Fraction(float(v)) for v in row] for row in x] for x in (queries, gallery))
    return [[sum((a * b for a, b in zip(x, y, strict=True)), Fraction(0)) for y in g] for x in q]


def literal_rank(scores, relevant) -> int:
    best = max(s for s, r in zip(scores, relevant, strict=True) if r)
    return 1 + sum(1 for s, r in zip(scores, relevant, strict=True) if s >= best and not r)


def literal_order(scores, relevant) -> list[bool]:
    """Relevance in rank order, ties against."""
    return [bool(r) for _, r in sorted(zip(scores, relevant, strict=True), key=lambda x: (-x[0], x[1]))]


def literal_precision(scores, relevant, at=None, normalise="retrieved") -> float:
    hits = literal_order(scores, relevant)
    kept = hits[:at]
    terms = [sum(kept[: place + 1]) / (place + 1) for place, hit in enumerate(kept) if hit]
    return sum(terms) / max(1, sum(kept) if normalise == "retrieved" else sum(hits))


def near_ties(seed: int, n_queries: int = 12, n_gallery: int = 60, dim: int = 48):
    """Vectors whose scores differ in the last bits of float32 and beyond, some being equal: what products get wrong."""
    rng = np.random.default_rng(seed)
    base = rng.normal(size=dim).astype(np.float32)
    gallery = np.tile(base, (n_gallery, 1))
    for row in gallery[: 2 * n_gallery // 3]:
        place = rng.integers(dim, size=2)
        row[place] = np.nextafter(row[place], np.float32(rng.choice([-9, 9])))
    queries = (base + 1e-3 * rng.normal(size=(n_queries, dim))).astype(np.float32)
    return queries, gallery[rng.permutation(n_gallery)]
