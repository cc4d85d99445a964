"""Instance retrieval: find the items that belong to the query itself, such as the image that a caption describes."""

from __future__ import annotations

from typing import ClassVar

from crossmodal.tasks.base import Metric
from crossmodal.tasks.ranked.metrics import PRECISIONS, RANKS, RECALL_SUM
from crossmodal.tasks.ranked.task import Ranked


class Task(Ranked):
    """Instance retrieval, with relevance by group."""

    name: ClassVar[str] = "instance_retrieval"
    title: ClassVar[str] = "Instance retrieval"
    place: ClassVar[int] = 10
    metrics: ClassVar[tuple[Metric, ...]] = (RECALL_SUM, *RANKS, *PRECISIONS)
    overall: ClassVar[str] = "both"
    aspects: ClassVar[tuple[str, ...]] = (*Ranked.aspects, overall)
    criterion: ClassVar[str] = "recall_sum"
    criterion_label: ClassVar[str] = "sum of recalls"
    curves: ClassVar[tuple[str, ...]] = ("recall@1", "recall@5", "recall@10")
    relevance: ClassVar[str] = "group"
