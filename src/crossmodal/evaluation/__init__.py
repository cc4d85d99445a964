"""Ranking and metrics as pure functions on arrays; knows nothing of models or files."""

from crossmodal.evaluation.metrics import folds, mean_rank, median_rank, recall_at_k
from crossmodal.evaluation.ranking import retrieval_ranks, score_blocks, top_k

__all__ = ["folds", "mean_rank", "median_rank", "recall_at_k", "retrieval_ranks", "score_blocks", "top_k"]
