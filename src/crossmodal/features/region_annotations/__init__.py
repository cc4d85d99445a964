"""Annotations of regions, and the words for an image's regions."""
