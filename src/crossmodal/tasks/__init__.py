"""Tasks on which trained models are evaluated, one file per task: its ground truth, predictions and metrics.

A task is discovered as a file of this folder, or through an entry point of another package: see
`crossmodal.core.registry`.
"""

HELPERS = ("base",)
