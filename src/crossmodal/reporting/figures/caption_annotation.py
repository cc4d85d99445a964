"""CIDEr of captioners against the share of annotated training pairs, as `annotation` draws recalls of retrieval."""

from __future__ import annotations

from crossmodal.reporting.figures import base
from crossmodal.reporting.figures.annotation import annotated, annotation
from crossmodal.tasks.captioning import Task


class Figure(base.Figure):
    section = base.ANNOTATION
    place = 15
    title = "Captions"
    label = "CIDEr against annotation"
    caption = (
        "CIDEr-D times 100 of the captions of all test images against the share of annotated training pairs. "
        "Points are runs; lines connect the means over seeds, and the random training caption is drawn as chance."
    )

    def wanted(self) -> bool:
        return any(Task.name in job.tasks for job in self.scope.jobs.values() if not job.control)

    def reads(self) -> list[str]:
        return [self.scope.collected("metrics.parquet")]

    def shown(self) -> bool:
        return bool(len(annotated(self.scope.metrics, Task.criterion).trained))

    def draw(self) -> str:
        return annotation(self.scope.metrics, self.scope.titles, Task.criterion)
