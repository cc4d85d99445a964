"""Skip-Thoughts (Kiros et al., 2015): the published encoder, loaded from its published files without Theano.

Two encoders read a sentence, one forwards (2400-d) and one in both directions (2 × 1200-d). The embedding concatenates
their outputs, each of unit length; the paper calls this combine-skip (4800-d). Decoders and training are not
implemented.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_sequence

from crossmodal.core import packed
from crossmodal.core.errors import UserError
from crossmodal.core.files import sha256_file, sha256_json
from crossmodal.language import wordvectors

FILES = ("dictionary.txt", "utable.npy", "btable.npy", "uni_skip.npz", "bi_skip.npz")
PLACE = "http://www.cs.toronto.edu/~rkiros/models"
WORD_DIM = 620
UNKNOWN = "UNK"


class Encoder(nn.Module):
    """Encodes sentences, given as lists of words, as vectors of `uni_dim` + 2 * `bi_dim` values."""

    def __init__(self, words: Sequence[str], uni: np.ndarray, bi: np.ndarray, uni_dim: int, bi_dim: int):
        """
        Parameters
        ----------
        words : the words that have a vector.
        uni, bi : (len(words) + 1, W) word vectors of each encoder; the last row is that of unknown words.
        uni_dim, bi_dim : hidden sizes of the two encoders.
        """
        super().__init__()
        self.index = {word: n for n, word in enumerate(words)}
        self.uni_words, self.bi_words = (nn.Embedding.from_pretrained(torch.from_numpy(a)) for a in (uni, bi))
        self.uni = nn.GRU(uni.shape[1], uni_dim, batch_first=True)
        self.bi = nn.GRU(bi.shape[1], bi_dim, batch_first=True, bidirectional=True)

    @torch.inference_mode()
    def forward(self, sentences: Sequence[Sequence[str]]) -> torch.Tensor:
        """(B, uni_dim + 2 * bi_dim) embeddings of B sentences, each half of unit length."""
        device = self.uni_words.weight.device
        unknown = len(self.index)
        ids = [torch.tensor([self.index.get(word, unknown) for word in words]) for words in sentences]
        lengths = torch.tensor([len(sentence) for sentence in ids])
        padded = pad_sequence(ids, batch_first=True).to(device)
        halves = []
        for table, gru in ((self.uni_words, self.uni), (self.bi_words, self.bi)):
            packed = pack_padded_sequence(table(padded), lengths, batch_first=True, enforce_sorted=False)
            last = gru(packed)[1]  # (directions, B, H)
            halves.append(nn.functional.normalize(last.transpose(0, 1).flatten(1), dim=1))
        return torch.cat(halves, 1)


def describe(folder: Path) -> dict[str, Any]:
    """Name and hash of the published files, for a manifest.

    Raises
    ------
    UserError : one of the files is missing.
    """
    lacking = [name for name in FILES if not (folder / name).is_file()]
    if lacking:
        raise UserError(f"{folder}: lacks {', '.join(lacking)} of Skip-Thoughts; put {PLACE}/NAME there")
    return {
        "vectors": folder.name,
        "vectors_sha256": sha256_json({name: sha256_file(folder / name) for name in FILES}),
    }


def load(folder: Path, words: Iterable[str]) -> Encoder:
    """The published encoder with the vectors of `words` only, so that the whole tables need not be read.

    Raises
    ------
    UserError : a file cannot be read, or does not match the others.
    """
    dictionary, *tables, uni, bi = (folder / name for name in FILES)
    wanted, rows, count = {*words, UNKNOWN}, {}, 0
    with dictionary.open(encoding="utf-8-sig", newline="\n") as lines:
        for count, line in enumerate(lines, 1):
            if (word := line.strip()) in wanted:
                rows.setdefault(word, count - 1)
    if UNKNOWN not in rows:
        raise UserError(f"{dictionary}: lacks the word {UNKNOWN!r}; fetch it again")
    rows[UNKNOWN] = rows.pop(UNKNOWN)  # moves it to the end
    vectors = []
    for path in tables:
        table = _opened(path)
        if table.ndim != 2 or len(table) != count:
            raise UserError(f"{path}: has shape {table.shape} for {count} words of {dictionary.name}; fetch both again")
        vectors.append(np.array(table[list(rows.values())], np.float32))
    parameters = {path: _opened(path) for path in (uni, bi)}
    dims = [_taken(path, parameters[path], "encoder_Ux").shape[0] for path in (uni, bi)]
    encoder = Encoder(list(rows)[:-1], *vectors, *dims)
    _fill(encoder.uni, "", uni, parameters[uni], "encoder")
    _fill(encoder.bi, "", bi, parameters[bi], "encoder")
    _fill(encoder.bi, "_reverse", bi, parameters[bi], "encoder_r")
    return encoder.eval()


def seeded(words: Iterable[str], dim: int, seed: int) -> Encoder:
    """An untrained encoder with random weights; `dim` is the size of its embeddings (4800 for the published one)."""
    words = list(words)
    table = wordvectors.seeded([*words, UNKNOWN], WORD_DIM, seed).matrix * np.float32(np.sqrt(WORD_DIM))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Encoder(words, table, table, dim // 2, dim // 4).eval()


def _opened(path: Path) -> Any:
    try:
        if path.suffix == ".npy":
            return packed.mapped(path)
        with packed.arrays(path) as archive:
            return dict(archive)
    except (OSError, ValueError, EOFError, BadZipFile) as error:
        raise UserError(f"{path}: is truncated or holds no arrays ({error}); fetch it again") from None


def _taken(path: Path, arrays: dict[str, np.ndarray], name: str) -> np.ndarray:
    if name not in arrays:
        raise UserError(f"{path}: lacks {name!r}; it holds {', '.join(sorted(arrays)) or 'nothing'}")
    return arrays[name]


def _fill(gru: nn.GRU, suffix: str, path: Path, arrays: dict[str, np.ndarray], prefix: str) -> None:
    """Copy the published parameters into `gru`.

    torch keeps the gates reset, update and new in one array; the files keep the first two in W, U and b, and the
    third in Wx, Ux and bx.
    """
    parts = {name: _taken(path, arrays, f"{prefix}_{name}") for name in ("W", "Wx", "U", "Ux", "b", "bx")}
    weights = {
        "weight_ih_l0": np.concatenate([parts["W"], parts["Wx"]], 1).T,
        "weight_hh_l0": np.concatenate([parts["U"], parts["Ux"]], 1).T,
        "bias_ih_l0": np.concatenate([parts["b"], parts["bx"]]),
    }
    with torch.no_grad():
        getattr(gru, f"bias_hh_l0{suffix}").zero_()
        for name, value in weights.items():
            parameter = getattr(gru, name + suffix)
            if parameter.shape != value.shape:
                raise UserError(
                    f"{path}: {prefix} has {value.shape} values, expected {tuple(parameter.shape)}; fetch it again"
                )
            parameter.copy_(torch.from_numpy(np.ascontiguousarray(value, np.float32)))
