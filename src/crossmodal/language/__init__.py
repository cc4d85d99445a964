"""Words: tokens and vocabularies, word vectors, and concepts."""
