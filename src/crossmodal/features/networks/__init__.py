"""Networks that extractors run: torchvision's backbones, the region detector, Skip-Thoughts, and their weights."""
