"""The encodings of two modalities, and their rankings in both directions."""

from __future__ import annotations

import tempfile

import numpy as np
import torch

from crossmodal.core.console import progress, tracked
from crossmodal.core.errors import UserError
from crossmodal.corpus.corpus import Corpus
from crossmodal.evaluation.ranking.ranks import Ranking, rank_both_ways, rank_queries
from crossmodal.evaluation.ranking.scores import Scores, source
from crossmodal.evaluation.ranking.several_labels import rank_several
from crossmodal.models import base

ENCODE_BATCH = 256
SCORE_BATCH = 64
IN_MEMORY = 2**28  # bytes up to which a matrix of scores is held in memory


@torch.inference_mode()
def encode(
    model: base.Model, corpus: Corpus, modality: str, partner: str, index: np.ndarray, device: torch.device
) -> torch.Tensor:
    """(N, ...) encodings of the items at `index`, in that order, for comparison with those of `partner`."""
    model.eval()
    parts = corpus.items(modality, index, ENCODE_BATCH)
    shown = tracked(parts, f"encoding {modality} items", -(-len(index) // ENCODE_BATCH), "batches")
    return joined([model.encode(modality, batch.to(device), partner) for batch in shown])


def joined(parts: list[torch.Tensor]) -> torch.Tensor:
    """(N, ...) encodings from those of N items in batches, whose sequences are padded to the longest of all."""
    width = max((part.shape[1] for part in parts if part.ndim > 2), default=0)
    if width:  # a batch is padded to its own longest sequence, so batches differ in length
        parts = [torch.nn.functional.pad(part, (0, 0, 0, width - part.shape[1])) for part in parts]
    return torch.cat(parts)


class Pair:
    """The encodings of two modalities, to be ranked in both directions.

    The modalities are in the model's order, in which `score` takes them.
    """

    def __init__(
        self,
        encodings: dict[str, torch.Tensor],
        relevance: dict[str, np.ndarray],
        model: base.Model | None = None,
        ranked: dict[str, Ranking] | None = None,
    ):
        """
        Parameters
        ----------
        encodings : modality to its (N, ...) encodings.
        relevance : modality to (N,) codes, which are equal for items relevant to each other; or to (N, L) tables of
            zeros and ones, where items that share a label are relevant to each other.
        model : the model that scores the encodings if these are not compared as vectors.
        ranked : modality of the queries to the ranking of all items, if known already.
        """
        self.names = tuple(encodings)
        self.relevance = relevance
        self.encodings = list(encodings.values())
        self.ranked = ranked
        vectors = model is None or model.compares_vectors(*self.encodings)
        self.matrix = None if vectors else scored(model, *self.encodings)

    def rank(self, inside: list[np.ndarray] | None = None, k: int = 0, precision: bool = True) -> dict[str, Ranking]:
        """Rank the items in both directions.

        Parameters
        ----------
        inside : the indices of the items to be ranked in each of the two modalities; None for all.
        k : number of best items that are kept per query.
        precision : whether average precision is computed too.

        Returns
        -------
        {modality of the queries: ranking}.

        Raises
        ------
        UserError : encodings or scores that cannot be ranked.
        """
        if self.ranked is not None and (inside is None or [*map(len, inside)] == [*map(len, self.encodings)]):
            return self.ranked
        inside = inside or [np.arange(len(x)) for x in self.encodings]
        codes = [self.relevance[name][places] for name, places in zip(self.names, inside, strict=True)]
        several = codes[0].ndim == 2
        try:
            if self.matrix is None and several:
                of = source(*(x[torch.from_numpy(p).to(x.device)] for x, p in zip(self.encodings, inside, strict=True)))
                rankings = [rank_several(of, *codes, k), rank_several(of.turned, *codes[::-1], k)]
            elif self.matrix is None:
                of = source(*(x[torch.from_numpy(p).to(x.device)] for x, p in zip(self.encodings, inside, strict=True)))
                rankings = rank_both_ways(of, *codes, k, precision=precision)
            else:
                rankings = []
                for matrix, (rows, cols), pair in (
                    (self.matrix, inside, codes),
                    (self.matrix.T, inside[::-1], codes[::-1]),
                ):
                    of = Scores(lambda part, m=matrix, r=rows, c=cols: m[np.ix_(r[part], c)], (len(rows), len(cols)))
                    rankings.append(
                        rank_several(of, *pair, k) if several else rank_queries(of, *pair, k, precision=precision)
                    )
        except ValueError as error:
            raise UserError(f"{self.names[0]} and {self.names[1]}: {error}") from None
        return dict(zip(self.names, rankings, strict=True))


@torch.inference_mode()
def scored(model: base.Model, left: torch.Tensor, right: torch.Tensor) -> np.ndarray:
    """(N, M) float32 scores of a model that does not compare vectors; a large matrix is kept on disk."""
    shape = (len(left), len(right))
    if 4 * shape[0] * shape[1] <= IN_MEMORY:
        matrix = np.empty(shape, np.float32)
    else:
        with tempfile.TemporaryFile() as file:  # the unnamed file exists as long as the memory map does
            matrix = np.memmap(file, np.float32, "w+", shape=shape)
    with progress("scoring", len(left), unit="queries") as advance:
        for start in range(0, len(left), SCORE_BATCH):  # fixed batches, since their size may change the last bits
            rows = slice(start, start + SCORE_BATCH)
            matrix[rows] = model.score(left[rows], right).float().cpu().numpy()
            advance(len(left[rows]))
    return matrix


def encodings_of(
    model: base.Model, corpus: Corpus, pair: tuple[str, str], index: dict[str, np.ndarray], device: torch.device
) -> dict[str, torch.Tensor]:
    """Modality to the encodings of its items at `index`, for a pair of modalities in the model's order."""
    return {m: encode(model, corpus, m, partner, index[m], device) for m, partner in (pair, pair[::-1])}
