"""A prepared data set as a model reads it: inputs per modality, training pairs, mini-batches, classes and splits."""
