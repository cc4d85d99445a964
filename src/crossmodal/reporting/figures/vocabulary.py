"""The vocabularies of regions' names and of captions, and their overlap (A3VSE, section 4.6).

The paper gives 1,104 words of regional semantics (s) and 1,576 of global ones (s_g), and their overlap with the words
of natural language queries. It does not say which words count. Here they are lower-case tokens with a letter or a
digit, of the test captions and of the names in the training images that a subset leaves without a caption.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
from pydantic import Field

from crossmodal.core.files import read_parquet
from crossmodal.corpus.splits import parse
from crossmodal.experiments import Strict
from crossmodal.features.engine.store import open_features
from crossmodal.features.region_annotations.semantics import named
from crossmodal.reporting.figures import base, canvas
from crossmodal.reporting.figures.canvas import COLOURS, INK

Kind = Literal["regional", "global"]
KINDS: dict[Kind, str] = {"regional": "s, names of regions", "global": "s_g, names of whole images"}
COUNTS = (1, 4)
"""How often a word must occur: once, or four times, since A3VSE leaves out rarer ones (section 4.3)."""
Counted = Mapping[str, tuple[float, float]]
"""{kind of names: its words, and their overlap with the words of the queries in per cent}"""
COLUMNS = ("dataset", "split", "kind", "min_count", "images", "captions", "words", "caption_words", "shared", "overlap")


class Options(Strict):
    published: dict[str, dict[Kind, tuple[float, float]]] = Field(
        {},
        description="published numbers: words of each kind of names, and their overlap with the words of the "
        "queries in per cent",
    )


class Figure(base.Figure):
    section = base.VOCABULARY
    caption = (
        "Names in the images that a subset leaves without a caption, and words of the test captions: tokens with a "
        "letter or digit, including rare ones (``vocabulary.csv`` also counts those that occur at least four times). "
        "The overlap is the share of common words in per cent of all words of both. Our s_g are names of regions, "
        "scored above 0.3, where the paper has those of "
        "image classifiers."
    )
    has_numbers = True
    Options = Options

    def wanted(self) -> bool:
        return bool(self.scope.plan.named(self.scope.jobs))

    def reads(self) -> list[str]:
        plan = self.scope.plan
        return sorted({file for job in plan.named(self.scope.jobs) for file in plan.files_of(job)})

    @cached_property
    def measured(self) -> pd.DataFrame:
        """The rows of every data set and split whose un-annotated images are read by the names of their regions."""
        rows = [
            {"dataset": job.dataset, **row}
            for job in self.scope.plan.named(self.scope.jobs)
            for row in measure(self.scope.data / job.dataset, job.split, job.inputs["image"])
        ]
        return pd.DataFrame(rows, columns=list(COLUMNS))

    def draw(self) -> str:
        published = {label: row for options in self.options.values() for label, row in options.published.items()}
        return vocabulary(self.measured, published, self.scope.titles)

    def numbers(self) -> str:
        return self.measured.to_csv(index=False, float_format="%.2f")


def words(sequences: Iterable[Sequence[str]], min_count: int = 1) -> set[str]:
    """The distinct words that occur at least `min_count` times in sequences of tokens, without punctuation marks."""
    counts = Counter(token.lower() for sequence in sequences for token in sequence)
    return {word for word, count in counts.items() if count >= min_count and any(map(str.isalnum, word))}


def overlap(first: set[str], other: set[str]) -> float:
    """Intersection over union of two sets of words in per cent; NaN where both are empty."""
    return 100 * len(first & other) / len(first | other) if first | other else float("nan")


def measure(folder: Path, split: str, extractor: str) -> list[dict[str, Any]]:
    """One row per kind of names and per value of `COUNTS`, for a subset of a data set.

    Parameters
    ----------
    folder : `data/DATASET`.
    extractor : the extractor of the regions.

    Returns
    -------
    Rows with the keys of `COLUMNS` except `dataset`; `overlap` is in per cent.
    """
    items = read_parquet(folder / "items.parquet", ["item_id", "modality", "partition"])
    captions_tested = items.item_id[(items.modality == "text") & (items.partition == "test")]
    captions = read_parquet(folder / "tokens.parquet").set_index("item_id").tokens.loc[captions_tested]
    pairs = read_parquet(folder / "splits" / f"{split}.parquet")
    bare = pairs.image_id[pairs.caption_id.isna()]
    features = open_features(folder / "features" / f"image.{extractor}")
    rows = []
    for kind in KINDS:
        names = named(features, kind)
        names = names[names.index.isin(bare)]
        for count in COUNTS:
            vocabulary_words, queries = words(names, count), words(captions, count)
            about = {"split": split, "kind": kind, "min_count": count, "images": len(names), "captions": len(captions)}
            sizes = {
                "words": len(vocabulary_words),
                "caption_words": len(queries),
                "shared": len(vocabulary_words & queries),
            }
            rows.append({**about, **sizes, "overlap": overlap(vocabulary_words, queries)})
    return rows


def vocabulary(
    measured: pd.DataFrame, published: Mapping[str, Counted], titles: Mapping[str, str], min_count: int = 1
) -> str:
    """The words of each kind of names, and their overlap with those of the queries, beside the published numbers.

    Parameters
    ----------
    measured : columns `COLUMNS`; the rows of `min_count` are drawn.
    published : label to the numbers of a paper.
    titles : data set to its title.
    """
    part = measured[measured.min_count == min_count]
    rows: list[tuple[str, Counted]] = [*published.items()]
    for (dataset, _, split), rows_of in part.groupby(["dataset", "images", "split"], sort=True):
        counted = {of_kind.kind: (of_kind.words, of_kind.overlap) for of_kind in rows_of.itertuples()}
        about = f"{titles.get(dataset, dataset)}, {parse(split)[0]} % of images annotated"
        rows.append((f"{about}\n{rows_of.caption_words.iloc[0]:,} words in its queries", counted))
    with canvas.style():
        figure = canvas.figure(10.2, 1.3 + 0.55 * len(rows))
        left, right = figure.subplots(1, 2)
        places = np.arange(len(rows))[::-1]
        for n, (kind, label) in enumerate(KINDS.items()):
            for ax, which, form in ((left, 0, "{:,.0f}"), (right, 1, "{:.1f}")):
                values = [counted[kind][which] for _, counted in rows]
                at = places + 0.19 - 0.38 * n
                ax.barh(at, np.nan_to_num(values), height=0.34, color=COLOURS[n], alpha=0.55, label=label)
                for y, value in zip(at, values, strict=True):
                    text = " –" if np.isnan(value) else " " + form.format(value)
                    ax.text(np.nan_to_num(value), y, text, va="center", fontsize=8.5, color=INK)
        left.set_yticks(places, [label for label, _ in rows])
        right.set_yticks(places, [""] * len(rows))
        left.set_title("Different words")
        right.set_title("Overlap with the words of the queries (%)")
        for ax in (left, right):
            ax.grid(False)
            ax.margins(x=0.14)
            ax.set_xlim(left=0)
        figure.legend(*left.get_legend_handles_labels(), loc="outside lower left", ncols=2)
        return canvas.svg(figure)
