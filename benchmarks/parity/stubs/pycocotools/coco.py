"""Stands in for the reader of MS-COCO's own annotations, which precomputed features need not."""

COCO = None
