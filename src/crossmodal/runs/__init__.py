"""One run, from its job to its folder: `train` makes the weights, `evaluate` the numbers of each task."""
