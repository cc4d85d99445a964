"""Ranking, metrics and statistics as pure functions on arrays; this package knows nothing of models or files.

The functions take NumPy arrays or torch tensors, on the CPU or a GPU: (Q, d) vectors of queries and (G, d) vectors of
the gallery, which are compared by inner products (with `cosine=True` by cosines), or the (Q, G) scores of a function
(`Scores`). What is relevant to a query is given as groups or labels: (Q,) and (G,) codes, of which equal ones are
relevant to each other. The group of a caption is its image; its label is a class. `retrieval_ranks` and
`average_precision` take these arguments and return one value per query; `source`, `rank_queries` and
`rank_both_ways` do several of them in one pass.

Each name is imported from its module when it is first used, so that the statistics do not load torch.
"""

from importlib import import_module
from typing import Any

_HOMES = {
    "cutoffs": ("ndcg",),
    "efficiency": ("annotation_ratio", "annotations_to_reach", "area", "crossover"),
    "metrics": ("folds", "mean_rank", "median_rank", "metrics_of_queries", "recall_at_k"),
    "ranking.average_precision": ("average_precision", "precision_recall_curve"),
    "ranking.ranks": (
        "Ranking",
        "rank_both_ways",
        "rank_queries",
        "retrieval_ranks_both_ways",
        "retrieval_ranks",
        "top_k",
    ),
    "ranking.relevance": ("NoRelevantItemError",),
    "ranking.scores": ("Products", "Scores", "source"),
    "ranking.vectors": ("Vectors",),
    "statistics": ("bootstrap_interval", "holm", "permutation_test"),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

__all__ = sorted(_HOME_OF)


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME_OF[name]}"), name)


def __dir__() -> list[str]:
    return __all__
