"""A word embedding that begins with the vectors of a file and may stay as it is, and the settings that choose them."""

from __future__ import annotations

import torch
from pydantic import Field
from torch import nn

from crossmodal.models import base


class WordVectors(base.Schedule):
    """Settings of systems that were published with word vectors of GloVe, word2vec or Skip-Thoughts."""

    word_dim: int = Field(300, ge=1, description="dimensions of a word vector")
    word_embedding: str = Field(
        "seeded", description="file of the vectors that initialise the word embedding, or seeded for random vectors"
    )
    words_covered: float = Field(
        0.3, ge=0, le=1, description="least share of the words that must have a vector in that file"
    )
    train_words: bool = Field(False, description="whether the word vectors are trained with the other parameters")

    @property
    def fallbacks(self) -> list[str]:
        named = ["word vectors: seeded, not those of the paper"] if self.word_embedding == "seeded" else []
        return [*super().fallbacks, *named]


def embedding(context: base.Context, settings: WordVectors) -> nn.Embedding:
    """The word embedding, with the vectors of the context or with uniform ones in [-.1, .1]; padding is zero."""
    words = nn.Embedding(context.vocabulary_size, settings.word_dim, padding_idx=0)
    nn.init.uniform_(words.weight, -0.1, 0.1)
    if context.word_vectors is not None:
        words.weight.data.copy_(context.word_vectors)
    with torch.no_grad():
        words.weight[0] = 0
    words.weight.requires_grad_(settings.train_words)
    return words
