"""What a form of input is to the rest of the package. The smallest one declares the axes of its array.

Plans and rules ask `array`, `files` and the class's constants through `registry.form`, without importing torch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
import torch

from crossmodal.corpus.inputs import Inputs, cached
from crossmodal.errors import UserError
from crossmodal.text import Vocabulary

if TYPE_CHECKING:
    import pandas as pd

    from crossmodal.corpus.by_class import Labels
    from crossmodal.features.store import Features
    from crossmodal.models.base import Input


@dataclass(frozen=True, kw_only=True)
class Source:
    """What a form opens: items of one modality of a prepared data set, with what the model's settings say."""

    form: Form
    folder: Path  # data/DATASET
    modality: str
    settings: Mapping[str, Any]  # of the model, of which a form takes its own `options`
    items: pd.DataFrame | None = None  # N rows of items.parquet
    groups: np.ndarray | None = None  # (N,) int64 codes of their groups
    labels: Labels | None = None  # of the data set, where items answer each other by class
    trained: np.ndarray | None = None  # (N,) bool: the items that the split trains on
    features: Features | None = None  # the array that the model reads of this modality
    arrays: Mapping[str, Features] = field(default_factory=dict)  # modality to array, of all that are read in this form
    words: list[Sequence[str]] | None = None  # of each item, as `Form.words` gave them
    vocabulary: Vocabulary = field(default_factory=lambda: Vocabulary.build([]))  # of all forms that have words
    shared: dict[str, Any] = field(default_factory=dict)  # what `once` has made, for all sources of an opening

    def option(self, name: str) -> Any:
        """What the model's settings say of one of the form's `options`."""
        return self.settings.get(name, self.form.options[name])

    def once(self, name: str, make: Callable[[], Any]) -> Any:
        """`make()`, called once for all sources of an opening."""
        if name not in self.shared:
            self.shared[name] = make()
        return self.shared[name]

    def inputs(self, **fields: Any) -> Inputs:
        """The items with what the form has opened of them, by the fields of `Inputs`."""
        return Inputs(
            form=self.form,
            ids=self.items.item_id.to_numpy(dtype=object),
            groups=self.groups,
            partition=self.items.partition.to_numpy(dtype=object),
            labels=None if self.labels is None else self.labels.encode(self.items.label),
            sets=None if self.labels is None else self.labels.sets(self.items.label),
            **fields,
        )


class Form:
    """A form of input; the class `Form` of each module of `crossmodal.corpus.forms` is one of these."""

    axes: ClassVar[int | None] = None
    """Axes of the array that an extractor makes, items included; None: nothing is extracted."""
    holds: ClassVar[str] = ""
    """What such an array holds, for the message where it holds something else."""
    options: ClassVar[dict[str, Any]] = {}
    """Settings of models that it depends on, with what holds for models that have no such setting."""

    of_items: ClassVar[bool] = True
    """False: its inputs are no items of items.parquet, so `Source.items` has no rows; all of them are always ranked."""
    sized: ClassVar[bool] = True
    """Whether a model is told the shape of one input (`Context.shapes`)."""
    moments: ClassVar[bool] = False
    """Whether a model may ask for the mean and the standard deviation of the training items (`Context.moments`)."""
    counted: ClassVar[bool] = False
    """Whether items are sets of different sizes, which `of_rows` is given as `counts`."""
    joint: ClassVar[bool] = False
    """Whether inputs depend on what other modalities that are read in this form hold (`Source.arrays`)."""
    outside: ClassVar[Literal["", "sentences", "numbers"]] = ""
    """What an input can be made of without the data set: sentences, arrays of numbers, or nothing."""

    def __init__(self, name: str):
        self.name = name  # by which models and extractors' settings name it: its module's, or its entry point's

    # -- what must be made first; asked by the plan and the rules ------------------------------------------------------

    def array(self, modality: str) -> str | None:
        """The form whose extractors make its array, as `inputs` of params.yaml names them; None: it has no array."""
        return None if self.axes is None else self.name

    def files(self, modality: str) -> tuple[str, ...]:
        """Files of `data/DATASET` that it reads besides items and features."""
        return ()

    # -- opening ------------------------------------------------------------------------------------------------------

    def words(self, source: Source) -> list[Sequence[str]] | None:
        """The words of each item, in their order, from which the vocabulary is built; None: it has none."""
        return None

    def open(self, source: Source) -> Inputs | None:
        """The inputs of `source.items`; None where the settings ask for none.

        Raises
        ------
        UserError : a missing or damaged file.
        """
        rows = source.features.rows(source.items.item_id.to_numpy(dtype=object))
        counts = torch.from_numpy(source.features.counts[rows]) if self.counted else None
        return source.inputs(tensor=cached(source.features), rows=torch.from_numpy(rows), lengths=counts)

    # -- what a model is handed ---------------------------------------------------------------------------------------

    def gather(self, inputs: Inputs, index: torch.Tensor) -> Input:
        """The items at `index` (B,)."""
        rows = inputs.tensor[inputs.rows[index]]
        return self.of_rows(rows, None if inputs.lengths is None else inputs.lengths[index])

    def of_rows(self, rows: torch.Tensor, counts: torch.Tensor | None) -> Input:
        """Rows (B, ...) of the array, as the model reads them; of sets also how many of each row count, (B,) int64."""
        return rows

    # -- inputs from outside of the data set --------------------------------------------------------------------------

    def of_features(self, source: Source, array: np.ndarray, columns: Mapping[str, Sequence[Any]]) -> Input:
        """Features (B, ...) of further items, as their extractor makes them.

        Parameters
        ----------
        columns : what the extractor keeps of each item besides, such as the `count` of regions.
        """
        counts = torch.as_tensor(columns.get("count", [array.shape[1]] * len(array))) if self.counted else None
        return self.of_rows(torch.from_numpy(array), counts)

    def of_sentences(self, source: Source, sentences: list[str]) -> Input:
        """Sentences that anyone may have written.

        Raises
        ------
        UserError : the form has no words, or the model knows none of a sentence's.
        """
        raise UserError(f"{source.modality} is read in the form {self.name!r}, which cannot be made of a sentence")
