"""Stands in for the reader of word vectors that PVSE's program imports."""
