"""Exact ranking in blocks: vectors and scores, relevance, ranks, average precision, the best items, shards."""
