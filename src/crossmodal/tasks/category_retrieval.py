"""Category retrieval: find the items of the query's class, such as all sounds of birds for the image of a bird."""

from __future__ import annotations

from typing import ClassVar

from crossmodal.tasks.base import Metric
from crossmodal.tasks.ranked.metrics import PRECISIONS, RANKS
from crossmodal.tasks.ranked.task import Ranked


class Task(Ranked):
    """Category retrieval, with relevance by class."""

    name: ClassVar[str] = "category_retrieval"
    title: ClassVar[str] = "Category retrieval"
    place: ClassVar[int] = 20
    metrics: ClassVar[tuple[Metric, ...]] = (*PRECISIONS, *RANKS)
    overall: ClassVar[str] = "average"
    aspects: ClassVar[tuple[str, ...]] = (*Ranked.aspects, overall)
    criterion: ClassVar[str] = "map@50_sum"
    criterion_label: ClassVar[str] = "sum of mAP@50"
    relevance: ClassVar[str] = "label"
