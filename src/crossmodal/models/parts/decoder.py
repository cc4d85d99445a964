"""A recurrent decoder, which generates a caption from a vector (mFSR, eq. 5 and 14)."""

from __future__ import annotations

from functools import partial
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.rnn import pack_padded_sequence

from crossmodal.models.base import Tokens
from crossmodal.models.parts import decoding
from crossmodal.models.parts.decoding import State
from crossmodal.models.parts.recurrent import GRU


class CaptionDecoder(nn.Module):
    """A recurrent network whose initial state, in every layer, is the vector from which a caption is generated.

    The vector needs no projection: as in mFSR, its parts together are as wide as the network. The word embedding is an
    argument, since encoder and decoder of mFSR share one.
    """

    def __init__(
        self, vocabulary_size: int, word_dim: int, dim: int, layers: int = 1, cell: Literal["gru", "rnn"] = "gru"
    ):
        super().__init__()
        self.network = {"gru": GRU, "rnn": nn.RNN}[cell](word_dim, dim, layers, batch_first=True)
        self.fc = nn.Linear(dim, vocabulary_size)

    def loss(self, words: nn.Embedding, tokens: Tokens, vectors: Tensor, per_word: bool = False) -> Tensor:
        """Eq. 14 of mFSR: -Σ log p(w_t | w_0 ... w_{t-1}) of each caption, given its true words (teacher forcing).

        Parameters
        ----------
        words : the word embedding.
        tokens : captions between their start and end marks, of at least two ids each.
        vectors : (B, dim) initial states.
        per_word : whether the mean over all words is returned, or else the mean over captions of their sums.
        """
        lengths = (tokens.lengths - 1).cpu()
        inputs = pack_padded_sequence(words(tokens.ids[:, :-1]), lengths, batch_first=True, enforce_sorted=False)
        targets = pack_padded_sequence(tokens.ids[:, 1:], lengths, batch_first=True, enforce_sorted=False)
        out, _ = self.network(inputs, self._state(vectors))
        total = F.cross_entropy(self.fc(out.data), targets.data, reduction="sum")
        return total / (len(targets.data) if per_word else len(vectors))

    @torch.no_grad()
    def say(self, words: nn.Embedding, vectors: Tensor, start: int, end: int, most: int) -> Tensor:
        """(B, most) ids of the likeliest words, generated one after another; `end` from the first `end` on."""
        state, last = self._state(vectors), torch.full((len(vectors), 1), start, device=vectors.device)
        ids = []
        for _ in range(most):
            out, state = self.network(words(last), state)
            ended = last == end
            last = self.fc(out).argmax(2).masked_fill(ended, end)
            ids.append(last)
        return torch.cat(ids, 1)

    @torch.no_grad()
    def generate(self, words: nn.Embedding, vectors: Tensor, beam: int, most: int) -> Tensor:
        """(N, L) word ids of a caption of at most `most` words from each vector, padded with 0; see `decoding.beam`."""
        step, state = partial(self.step, words), self.first_state(vectors)
        if beam == 1:
            return decoding.greedy(step, state, len(vectors), most, vectors.device)
        return decoding.beam(step, state, len(vectors), most, beam, vectors.device)

    def sample(self, words: nn.Embedding, vectors: Tensor, most: int) -> decoding.Sample:
        """A caption from each of (N, dim) vectors, whose words are drawn; their log-probabilities have gradients."""
        step, state = partial(self.step, words), self.first_state(vectors)
        return decoding.sample(step, state, len(vectors), most, vectors.device)

    def step(self, words: nn.Embedding, last: Tensor, state: State) -> tuple[Tensor, dict[str, Tensor]]:
        """The (N, V) logits of the next words after the (N,) last ones, and the next state, as `decoding` takes it."""
        out, hidden = self.network(words(last)[:, None], state["hidden"].transpose(0, 1).contiguous())
        return self.fc(out[:, 0]), {"hidden": hidden.transpose(0, 1)}

    def first_state(self, vectors: Tensor) -> dict[str, Tensor]:
        """The state before the first word of captions that are generated from (N, dim) vectors."""
        return {"hidden": self._state(vectors).transpose(0, 1)}

    def _state(self, vectors: Tensor) -> Tensor:
        return vectors.expand(self.network.num_layers, -1, -1).contiguous()
