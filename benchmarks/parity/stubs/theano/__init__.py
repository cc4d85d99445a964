"""Stands in for Theano: the few functions of the loss of order embeddings' program, computed at once by NumPy."""
