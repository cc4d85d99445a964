"""Ranking, metrics and statistics as pure functions on arrays; knows nothing of models or files.

NumPy arrays or torch tensors, on the CPU or a GPU, as vectors or through a function that scores (`Scores`).
"""

from crossmodal.evaluation.blocks import Products, Scores, source
from crossmodal.evaluation.cutoffs import ndcg
from crossmodal.evaluation.efficiency import annotation_ratio, annotations_to_reach, area, crossover
from crossmodal.evaluation.metrics import folds, mean_rank, median_rank, metrics_of_queries, recall_at_k
from crossmodal.evaluation.precision import average_precision, precision_recall_curve
from crossmodal.evaluation.ranking import (
    NoRelevantItemError,
    Ranking,
    rank_both_ways,
    rank_queries,
    ranks_both_ways,
    retrieval_ranks,
    top_k,
)
from crossmodal.evaluation.statistics import bootstrap_interval, holm, permutation_test
from crossmodal.evaluation.vectors import Vectors

__all__ = [
    "NoRelevantItemError",
    "Products",
    "Ranking",
    "Scores",
    "Vectors",
    "annotation_ratio",
    "annotations_to_reach",
    "area",
    "average_precision",
    "bootstrap_interval",
    "crossover",
    "folds",
    "holm",
    "mean_rank",
    "median_rank",
    "metrics_of_queries",
    "ndcg",
    "permutation_test",
    "precision_recall_curve",
    "rank_both_ways",
    "rank_queries",
    "ranks_both_ways",
    "recall_at_k",
    "retrieval_ranks",
    "source",
    "top_k",
]
