"""The objects that are annotated in the images of a data set, to find those that captions only imagine (CHAIR)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from crossmodal.evaluation.hallucination import Names, hallucinations, names_of

if TYPE_CHECKING:
    from crossmodal.corpus.corpus import Corpus
    from crossmodal.tasks.captions.references import Images

COLUMNS = ("objects", "absent", "astray", "annotated")


@dataclass(frozen=True)
class Objects:
    """The annotated objects of images by their ids (None for an image that is not listed), and their names."""

    of_image: dict[str, list[str] | None]
    names: Names

    def columns(
        self, ids: Sequence[str], said: Sequence[Sequence[str]], references: Sequence[Sequence[Sequence[str]]]
    ) -> dict[str, np.ndarray]:
        """Columns of the examples' table, each (N,): how many objects each caption mentions, and how many are absent.

        `astray` is whether one is absent, and `annotated` whether the image counts.
        """
        present = [self.of_image[id_] for id_ in ids]
        return dict(zip(COLUMNS, hallucinations(said, references, present, self.names).T, strict=True))


def objects_of(corpus: Corpus, images: Images) -> Objects | None:
    """The objects of images from the data set's annotations of regions; None where it names none, or lists no image.

    Raises
    ------
    UserError : the file of annotations is missing or malformed.
    """
    from crossmodal.core.files import read_record
    from crossmodal.datasets import items
    from crossmodal.features.region_annotations import annotations

    record = read_record(corpus.folder / "items.json")
    if not record.get("regions"):
        return None
    known = annotations.read(corpus.folder, None)
    sources = items.read(corpus.folder).set_index("item_id").source.loc[images.ids]
    of_image = {str(id_): known.names(source) for id_, source in sources.items()}
    if all(names is None for names in of_image.values()):
        return None
    return Objects(of_image, names_of(known.classes, record["regions"].get("synonyms")))
