"""Exact ranking in blocks: vectors and scores, relevance, ranks, average precision, the k best items, shards."""
