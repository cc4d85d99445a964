"""Describes pictures of the user's own by a trained captioner, which also tells where it looked for each word."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from crossmodal.core import registry
from crossmodal.core.errors import UserError, first_line
from crossmodal.experiments import Job
from crossmodal.inference.opened import OpenedRun
from crossmodal.inference.search import rows_of

if TYPE_CHECKING:
    from crossmodal.models.base import Batch

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Described:
    """A picture and its caption."""

    source: str
    """The path of the picture."""
    words: list[str]
    """The words of the caption, without punctuation marks."""
    attention: list[list[float]] | None = None
    """The weight of each region when each word was said, (words, R); None for a system without attention."""
    boxes: list[list[float]] | None = None
    """The corners x1, y1, x2, y2 of the R regions in pixels of the picture's file; None where they are unknown."""
    item_id: str | None = None
    """The id of an item of the data set."""
    caption: str = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "caption", " ".join(self.words))


@dataclass(frozen=True)
class Descriptions:
    """The captions of several pictures by one run."""

    run: str
    beam: int
    pictures: list[Described]


def describe(
    run: OpenedRun, pictures: Sequence[str] = (), items: Sequence[str] = (), beam: int | None = None
) -> Descriptions:
    """The caption that a run generates for each picture.

    Parameters
    ----------
    pictures : paths of files.
    items : ids of images of the run's data set, whose stored features are used.
    beam : unfinished captions that are kept per picture; by default the run's setting, and 1 where it has none.

    Raises
    ------
    UserError : no picture, a run that generates no captions or was not trained, a beam out of its range, or a file that
        is no picture or whose features cannot be computed.
    """
    check(run.job)
    if beam is not None:
        _check_beam(beam)
    if not pictures and not items:
        raise UserError("no picture is given to describe; expected files of pictures, or ids of images of the data set")
    from crossmodal.inference import encoding

    sources = rows_of(run.data, items)
    for item, (modality, _) in zip(items, sources, strict=True):
        if modality != "image":
            raise UserError(f"item {item!r}: is of the modality {modality}, and only images are described")
    trained = run.trained
    beam = beam or getattr(trained.model.settings, "beam", 1)
    described: list[Described] = []
    if pictures:
        for inputs, columns in encoding.files_opened(trained, run.data, "image", pictures):
            part = pictures[len(described) : len(described) + encoding.BLOCK]
            described += _captions(run, inputs, beam, [(source, None) for source in part], columns.get("boxes"))
    for item, (_, source) in zip(items, sources, strict=True):
        inputs, columns = encoding.item_opened(trained, run.data, "image", item)
        described += _captions(run, inputs, beam, [(source, item)], columns.get("boxes"))
    if silent := sum(not one.words for one in described):
        log.warning("%s: says no word of %d of %d pictures; train it longer", run.job.key, silent, len(described))
    return Descriptions(run.job.key, beam, described)


def _check_beam(beam: int) -> None:
    from crossmodal.models.parts.decoding import LARGEST_BEAM

    if not isinstance(beam, int) or isinstance(beam, bool):
        raise UserError(f"beam {beam!r}: expected a whole number from 1 to {LARGEST_BEAM}")
    if not 1 <= beam <= LARGEST_BEAM:
        raise UserError(f"beam {beam}: expected 1, which takes the likeliest word each time, to {LARGEST_BEAM}")


def check(job: Job) -> None:
    """Check that a run generates captions.

    Raises
    ------
    UserError : it is a control, or evaluated on other tasks.
    """
    if job.control:
        raise UserError(f"{job.key}: is a control, which is not trained and describes nothing; choose another run")
    if "generate" not in registry.methods(job.model) | registry.on_request(job.model):
        able = [name for name in registry.names("models") if "generate" in registry.methods(name)]
        raise UserError(
            f"{job.key}: is evaluated on {', '.join(job.tasks) or 'nothing'} and generates no captions; choose a run "
            f"of {', '.join(able)}"
        )


def _captions(
    run: OpenedRun, inputs: Any, beam: int, about: list[tuple[str, str | None]], boxes: Sequence[Any] | None
) -> list[Described]:
    """The captions of pictures, whose sources and items are `about`; `boxes` has those of each picture's regions."""
    import torch

    from crossmodal.models.base import Batch
    from crossmodal.tasks.captions.references import said

    batch: Batch = Batch({"image": inputs})
    described = []
    with torch.inference_mode():
        try:
            captions = [*said(run.trained.model, batch, beam, run.trained.vocabulary, attention=True)]
        except (RuntimeError, ValueError, LookupError, MemoryError) as error:  # of odd tables among a run's weights
            raise UserError(
                f"{run.folder / 'model.safetensors'}: generates no caption ({first_line(error)}); fetch or train the "
                "run again"
            ) from error
    for place, (caption, (source, item)) in enumerate(zip(captions, about, strict=True)):
        weights = None if caption.attention is None else caption.attention.astype(float).round(4).tolist()
        of_regions = None if weights is None or boxes is None else [[*map(float, box)] for box in boxes[place]]
        described.append(Described(source, caption.words, weights, of_regions, item))
    return described
