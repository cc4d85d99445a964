"""A prepared data set as a model reads it: inputs of each modality, training pairs, batches, classes and splits."""
