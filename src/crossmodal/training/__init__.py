"""Batches, the training loop and the test of a trained model."""
