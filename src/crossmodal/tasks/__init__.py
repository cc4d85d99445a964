"""What is asked of a trained model, against what truth, and which numbers come out: one file for each task.

A task is found by being a file here, or the entry point of another package (`crossmodal.registry`).
"""

HELPERS = ("base",)
