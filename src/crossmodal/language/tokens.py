"""Turns captions into word ids with NLTK's tokenizer, in lower case, and a vocabulary of the frequent training words.

Tokens are computed once per data set; each subset has its own vocabulary, since a sparse corpus has fewer words.
"""

from __future__ import annotations

import logging
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from crossmodal.core.console import tracked
from crossmodal.core.errors import UserError
from crossmodal.core.files import read_record, write_json
from crossmodal.core.lazy import without_imports

if TYPE_CHECKING:
    import pandas as pd

RareWords = Literal["mark", "drop"]
PAD, UNKNOWN, START, END = 0, 1, 2, 3
MOST_WORDS, LONGEST_WORD = 2**20, 10_000  # of a vocabulary that is read: some times those of any language
SPECIAL = ("<pad>", "<unk>", "<start>", "<end>")


log = logging.getLogger(__name__)

# Characters of scripts without spaces between words: Thai, Lao, Burmese, Khmer, Japanese and Chinese.
_UNCUT = re.compile(r"[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff]")
# The end of a sentence, but not of a common abbreviation or an initial.
_SENTENCE = re.compile(r"(?<!\b[a-z]\.)(?<!\b(?:mr|ms|dr|st|jr|sr|vs|no)\.)(?<!\b(?:mrs|etc)\.)(?<=[.!?])\s+")


def tokenize(captions: Iterable[str]) -> list[list[str]]:
    """Lower-cased word tokens of each caption (mFSR and A3VSE both use NLTK's word tokenizer).

    NLTK's tokenizer expects one sentence, since it separates the full stop from the last word only. Sentences are split
    by a rule of this module, since NLTK's own splitter needs a download.
    """
    with without_imports("scipy", "sklearn", "matplotlib"):  # only other parts of NLTK need them
        from nltk.tokenize import NLTKWordTokenizer

    split = NLTKWordTokenizer().tokenize
    return [[word for part in _SENTENCE.split(text.lower()) for word in split(part)] for text in captions]


def token_table(items: pd.DataFrame, words: Literal["nltk", "blanks"] = "nltk") -> pd.DataFrame:
    """`item_id` and `tokens` of every caption of a data set.

    Parameters
    ----------
    words : `nltk` for NLTK's tokenizer, or `blanks` where captions are already tokens separated by blanks.
    """
    import pandas as pd

    texts = items[items.modality == "text"]
    shown = tracked(texts.source, "tokenizing", unit="captions")
    cut = [text.lower().split() for text in shown] if words == "blanks" else tokenize(shown)
    uncut = sum(len(_UNCUT.findall(text)) for text in texts.source)
    count = sum(map(len, cut))
    if uncut > 2 * count:
        log.warning(
            "captions are cut into %d words, but hold %d letters of scripts that are written without blanks between "
            "words, such as %r; give captions with blanks between their words, as the `tokens` of Karpathy's layout",
            count, uncut, texts.source.iloc[0],
        )  # fmt: skip
    return pd.DataFrame({"item_id": texts.item_id.to_numpy(), "tokens": cut})


@dataclass(frozen=True)
class Vocabulary:
    """Words with their ids; the first four are special."""

    words: tuple[str, ...]

    @classmethod
    def build(cls, captions: Iterable[Sequence[str]], min_count: int = 4) -> Vocabulary:
        """The words that occur at least `min_count` times, by decreasing frequency and then in alphabetical order."""
        counts = Counter(word for caption in captions for word in caption)
        kept = sorted((word for word, count in counts.items() if count >= min_count), key=lambda w: (-counts[w], w))
        return cls(SPECIAL + tuple(word for word in kept if word not in SPECIAL))

    def __len__(self) -> int:
        return len(self.words)

    def encode(
        self, captions: Sequence[Sequence[str]], max_length: int, rare_words: RareWords = "mark"
    ) -> tuple[np.ndarray, np.ndarray]:
        """The word ids of captions between start and end marks.

        Parameters
        ----------
        rare_words : `mark` makes words outside the vocabulary `<unk>` (VSE++); `drop` leaves them out, after the
            caption is cut (A3VSE, section 4.3).

        Returns
        -------
        (N, L) int32 ids padded with 0, where L is the length of the longest caption; (N,) int64 lengths, marks
        included. A caption of more than `max_length` words is cut.
        """
        index = {word: i for i, word in enumerate(self.words)}
        cut = ([index.get(word, UNKNOWN) for word in caption[:max_length]] for caption in captions)
        dropped = UNKNOWN if rare_words == "drop" else None
        rows = [[START, *(word for word in ids if word != dropped), END] for ids in cut]
        lengths = np.array([len(row) for row in rows], dtype=np.int64)
        ids = np.full((len(rows), int(lengths.max(initial=1))), PAD, dtype=np.int32)
        for i, row in enumerate(rows):
            ids[i, : len(row)] = row
        return ids, lengths

    def encode_known(
        self, captions: list[str], max_length: int, rare_words: RareWords = "mark"
    ) -> tuple[np.ndarray, np.ndarray]:
        """Tokenize and `encode` captions from users.

        Raises
        ------
        UserError : none of a caption's words is known.
        """
        words_known = set(self.words)
        # The run's own captions may have been split at blanks only.
        words = [
            max(
                cut,
                caption.lower().split(),
                key=lambda tokens: sum(word in words_known for word in tokens) / max(1, len(tokens)),
            )
            for caption, cut in zip(captions, tokenize(captions), strict=True)
        ]
        for caption, tokens in zip(captions, words, strict=True):
            if not words_known.intersection(tokens):
                raise UserError(f"{caption!r}: has none of the {len(words_known)} words that the run was trained with")
        return self.encode(words, max_length, rare_words)

    def save(self, path: str | Path) -> None:
        """Write the words to a JSON file."""
        write_json(path, {"words": self.words})

    @classmethod
    def load(cls, path: str | Path) -> Vocabulary:
        """The vocabulary of a file that `save` has written.

        Raises
        ------
        UserError : the file is missing, damaged or no vocabulary.
        """
        words = read_record(path).get("words")
        if not isinstance(words, list) or words[:4] != [*SPECIAL] or not all(isinstance(one, str) for one in words):
            raise UserError(f"{path}: is no vocabulary (expected `words` that begin with {', '.join(SPECIAL)})")
        longest = max(map(len, words))
        if len(words) > MOST_WORDS or longest > LONGEST_WORD:
            raise UserError(
                f"{path}: has {len(words):,} words of up to {longest:,} characters, expected at most {MOST_WORDS:,} "
                f"of {LONGEST_WORD:,}; fetch or train the run again"
            )
        return cls(tuple(words))
