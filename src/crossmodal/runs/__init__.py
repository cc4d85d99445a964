"""One run, from its job to its folder: `train` writes the weights, and `evaluate` writes the numbers of each task."""
