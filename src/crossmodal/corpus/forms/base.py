"""The base class of forms of input. The smallest form only declares the number of axes of its array.

Plans and rules read `array`, `files` and the constants of the class through `registry.form`, without importing torch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
import torch

from crossmodal.core.errors import UserError
from crossmodal.corpus.inputs import Inputs, cached
from crossmodal.language.tokens import Vocabulary

if TYPE_CHECKING:
    import pandas as pd

    from crossmodal.corpus.by_class import Labels
    from crossmodal.features.engine.store import Features
    from crossmodal.models.base import Input


@dataclass(frozen=True, kw_only=True)
class Source:
    """The input of a form: items of one modality of a prepared data set, and the model's settings."""

    form: Form
    folder: Path  # data/DATASET
    modality: str
    settings: Mapping[str, Any]  # of the model; a form uses its own `options` among them
    items: pd.DataFrame | None = None  # N rows of items.parquet
    groups: np.ndarray | None = None  # (N,) int64 codes of their groups
    labels: Labels | None = None  # of the data set, where relevance is by class
    trained: np.ndarray | None = None  # (N,) bool, whether the subset trains on each item
    features: Features | None = None  # the array that the model reads for this modality
    arrays: Mapping[str, Features] = field(default_factory=dict)  # modality to array, for all read in this form
    words: list[Sequence[str]] | None = None  # of each item, from `Form.words`
    vocabulary: Vocabulary = field(default_factory=lambda: Vocabulary.build([]))  # of all forms that have words
    shared: dict[str, Any] = field(default_factory=dict)  # results of `once`, shared by all sources of a data set

    def option(self, name: str) -> Any:
        """The value of one of the form's `options`: the model's setting, or else the form's default."""
        return self.settings.get(name, self.form.options[name])

    def once(self, name: str, make: Callable[[], Any]) -> Any:
        """The result of `make()`, which is called once for all sources of a data set."""
        if name not in self.shared:
            self.shared[name] = make()
        return self.shared[name]

    def inputs(self, **fields: Any) -> Inputs:
        """The opened items; `fields` are the further fields of `Inputs`."""
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
    """Base class of forms; each module of `crossmodal.corpus.forms` has a class `Form` derived from it."""

    axes: ClassVar[int | None] = None
    """Number of axes of the extracted array, including that of the items; None if nothing is extracted."""
    holds: ClassVar[str] = ""
    """Description of such an array, for the error message about an array of another shape."""
    options: ClassVar[dict[str, Any]] = {}
    """Settings of models on which the form depends, with the defaults for models without such a setting."""

    of_items: ClassVar[bool] = True
    """Whether inputs are items of items.parquet; otherwise `Source.items` has no rows, and all inputs are ranked."""
    sized: ClassVar[bool] = True
    """Whether the shape of one input is passed to the model (`Context.shapes`)."""
    moments: ClassVar[bool] = False
    """Whether the mean and the standard deviation of training items are available to the model (`Context.moments`)."""
    counted: ClassVar[bool] = False
    """Whether items are sets of different sizes, which `of_rows` receives as `counts`."""
    joint: ClassVar[bool] = False
    """Whether inputs depend on the arrays of other modalities that are read in this form (`Source.arrays`)."""
    outside: ClassVar[Literal["", "sentences", "numbers"]] = ""
    """From what an input outside of the data set can be made: sentences, arrays of numbers, or (empty) nothing."""

    def __init__(self, name: str):
        self.name = name  # the name of the module or entry point, which models and extractors' settings use

    # -- prerequisites, which the plan and the rules read --------------------------------------------------------------

    def array(self, modality: str) -> str | None:
        """The form whose extractors (`inputs` of params.yaml) make its array; None if it has no array."""
        return None if self.axes is None else self.name

    def files(self, modality: str) -> tuple[str, ...]:
        """Files of `data/DATASET` that the form reads besides items and features."""
        return ()

    # -- opening ------------------------------------------------------------------------------------------------------

    def words(self, source: Source) -> list[Sequence[str]] | None:
        """The words of each item in order, from which the vocabulary is built; None if the form has no words."""
        return None

    def open(self, source: Source) -> Inputs | None:
        """The inputs of `source.items`; None where the settings disable them.

        Raises
        ------
        UserError : a missing or damaged file.
        """
        rows = source.features.rows(source.items.item_id.to_numpy(dtype=object))
        counts = torch.from_numpy(source.features.counts[rows]) if self.counted else None
        return source.inputs(tensor=cached(source.features), rows=torch.from_numpy(rows), lengths=counts)

    # -- inputs of a model --------------------------------------------------------------------------------------------

    def gather(self, inputs: Inputs, index: torch.Tensor) -> Input:
        """The items at `index` (B,), as the model reads them."""
        rows = inputs.tensor[inputs.rows[index]]
        return self.of_rows(rows, None if inputs.lengths is None else inputs.lengths[index])

    def of_rows(self, rows: torch.Tensor, counts: torch.Tensor | None) -> Input:
        """Rows (B, ...) of the array, as the model reads them.

        Parameters
        ----------
        counts : for sets, the (B,) int64 number of valid elements in each row.
        """
        return rows

    # -- inputs from outside of the data set --------------------------------------------------------------------------

    def of_features(self, source: Source, array: np.ndarray, columns: Mapping[str, Sequence[Any]]) -> Input:
        """The inputs of further items, from their features.

        Parameters
        ----------
        array : (B, ...) features, as the extractor computes them.
        columns : further facts that the extractor keeps per item, such as the `count` of regions.
        """
        counts = torch.as_tensor(columns.get("count", [array.shape[1]] * len(array))) if self.counted else None
        return self.of_rows(torch.from_numpy(array), counts)

    def of_sentences(self, source: Source, sentences: list[str]) -> Input:
        """The inputs of any sentences, which need not be in the data set.

        Raises
        ------
        UserError : the form has no words, or the vocabulary has none of a sentence's words.
        """
        raise UserError(f"{source.modality} is read in the form {self.name!r}, which cannot be made of a sentence")
