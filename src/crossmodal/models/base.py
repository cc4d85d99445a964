"""The interface of a retrieval system: the inputs that it reads, its loss, its encodings and its scores.

A model's module has a class `Settings` (its parameters, whose defaults are the paper's values) and a class `Model`. It
has no access to files, data sets or experiment tracking.

The smallest system defines `encode` and `loss`. Other methods can be overridden: `score` (cross attention does not
compare single vectors), `optimisers` (adversaries have an optimiser of their own), `stages` (modalities or losses are
added one after another), `prepare` (all training pairs are seen before the training) and `fit` (the solution has a
closed form).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Literal, NamedTuple

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

Form = str
"""The form in which a model reads the items of a modality: the name of a module of `crossmodal.corpus.forms`, such as
`vector`, `regions` or `tokens`, or of an entry point of the group `crossmodal.forms`.
"""


class Settings(BaseModel):
    """Parameters of a system; an unknown name is an error. Subclasses add fields, whose defaults are the paper's."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    @property
    def fallbacks(self) -> list[str]:
        """Descriptions of substitutes for data that the user must provide; a run's manifest records them."""
        return []

    @property
    def unasked(self) -> list[str]:
        """Names of settings that are `seeded` by default: unchosen random numbers in place of published data."""
        fields = [name for name in type(self).model_fields if getattr(self, name) == "seeded"]
        return [name for name in fields if name not in self.model_fields_set]


EpochOver = Literal["annotated", "all"]


class Schedule(Settings):
    """Training settings that the published systems share: Adam, a stepwise learning rate, gradient clipping."""

    batch_size: int = Field(128, ge=2, description="number of pairs per batch")
    epochs: int = Field(30, ge=1)
    lr: float = Field(2e-4, gt=0, description="Adam's learning rate before the first step")
    lr_drop: int = Field(
        15, ge=1, description="number of epochs after which the learning rate is multiplied by `lr_factor`, repeatedly"
    )
    lr_factor: float = Field(0.1, gt=0, le=1)
    weight_decay: float = Field(0.0, ge=0)
    clip: float = Field(2.0, ge=0, description="largest norm of the gradient; 0 disables clipping")
    clip_by: Literal["norm", "value"] = Field(
        "norm", description="what `clip` bounds: the norm of the whole gradient, or the size of each of its elements"
    )
    min_count: int = Field(
        4,
        ge=1,
        description="occurrences in the training captions that a word needs to be in the vocabulary; rarer words "
        "become <unk>",
    )
    max_words: int = Field(82, ge=1, description="largest number of words of a caption; further words are ignored")
    epoch_steps: int = Field(
        0,
        ge=0,
        description="steps per epoch, regardless of the number of pairs (A3VSE, section 4.2); 0: every pair occurs "
        "once",
    )


class Tokens(NamedTuple):
    """Captions of a batch as word ids."""

    ids: Tensor  # (B, L) int64, padded with 0
    lengths: Tensor  # (B,) int64


class Regions(NamedTuple):
    """Sets of region features of a batch."""

    features: Tensor  # (B, R, D)
    counts: Tensor  # (B,) int64, numbers of regions; later places are padding


class PlacedRegions(NamedTuple):
    """Sets of region features of a batch with their places in the pictures, and possibly their names."""

    features: Tensor  # (B, R, D)
    counts: Tensor  # (B,) int64, numbers of regions; later places are padding
    boxes: Tensor  # (B, R, 4) x1, y1, x2, y2 as shares of the picture's width and height; zeros for padding
    names: Tensor | None = None  # (B, R, W) int64 ids of the words of each region's name, padded with 0


class Concepts(NamedTuple):
    """Concepts that the images of a batch show or its texts mention, with scores."""

    ids: Tensor  # (B, L) int64 below `Context.n_concepts`, without repetition
    scores: Tensor  # (B, L), 0 for padding


class Objects(NamedTuple):
    """Named regions of the images of a batch, by decreasing confidence; later places are padding."""

    boxes: Tensor  # (B, R, 4) corners x1, y1, x2, y2 in pixels, y downwards
    classes: Tensor  # (B, R) int64 ids of the names in the vocabulary
    attributes: Tensor  # (B, R) int64 ids, 0 for none
    scores: Tensor  # (B, R) confidences
    counts: Tensor  # (B,) int64, numbers of regions


Input = Tensor | Tokens | Regions | PlacedRegions | Concepts | Objects
"""(B, D) vectors, captions, region sets, also with places, concepts, or (B, 3, S, S) uint8 pixels or images."""


@dataclass
class Batch:
    """Items of a training step or of an encoding.

    `inputs` maps a modality to its (B, ...) input; in training the rows i of all modalities belong together. `groups`
    are (B,) ids of items that belong together, such as captions of one image. `labels` are (B,) classes of a data set
    whose items are relevant to each other by class: row i of every modality is of class `labels[i]`. Where items have
    several classes, labels are (B, C) zeros and ones (see `models.parts.labelled`). `unannotated` holds further items
    without a caption, as many as the batch has pairs. `source` is a batch, with labels of its own, of the data set that
    knowledge is transferred from. `second_form` holds items in their second form.
    """

    inputs: dict[str, Input]
    groups: Tensor | None = None
    labels: Tensor | None = None
    unannotated: dict[str, Input] = field(default_factory=dict)
    source: Batch | None = None
    second_form: dict[str, Input] = field(default_factory=dict)

    def to(self, device: torch.device) -> Batch:
        """A copy of the batch whose tensors are on `device`."""

        def move(value):
            if isinstance(value, Mapping):
                return {key: move(part) for key, part in value.items()}
            if isinstance(value, Tokens | Regions | PlacedRegions | Concepts | Objects):
                return type(value)(*(move(part) for part in value))
            return value.to(device, non_blocking=True) if isinstance(value, Tensor) else value

        return replace(
            self,
            inputs=move(self.inputs),
            groups=move(self.groups),
            labels=move(self.labels),
            unannotated=move(self.unannotated),
            source=self.source and self.source.to(device),
            second_form=move(self.second_form),
        )


@dataclass(frozen=True)
class Context:
    """Sizes and statistics of the data from which a model is built; no items."""

    shapes: dict[str, tuple[int, ...]]  # modality to the shape of one item's features: (D,) or (R, D)
    vocabulary_size: int = 0
    n_classes: int = 0
    """Number of classes of the training partition; other classes have labels from this number on."""
    trained: tuple[int, ...] = ()
    """Classes of the subset's own training items; they are fewer where classes are added in stages."""
    moments: Mapping[str, tuple[Tensor, Tensor]] = field(default_factory=dict)
    """Modality to the (D,) mean and standard deviation of its vectors over the training items, computed on access."""
    source: Context | None = None
    """Context of the data set that knowledge is transferred from."""
    groups: Tensor | None = field(default=None, compare=False)
    """(G,) int64 ids of the groups of the training pairs, ascending; not compared when contexts are."""
    word_vectors: Tensor | None = field(default=None, compare=False)
    """(vocabulary_size, word_dim) initial word embedding, if the settings name a file of vectors."""
    words: tuple[str, ...] = field(default=(), compare=False)
    """The words of the vocabulary by their ids, while a model is built from data; not kept with a trained model."""
    n_concepts: int = 0
    """Number of concepts that the form `concepts` has scores of."""
    captions: Callable[[], tuple[Tokens, Tensor]] | None = field(default=None, compare=False)
    """Returns the training captions and the (C,) groups that they belong to, for systems that learn from all of them
    at once; None where the data have no captions or the model is not trained."""


def described(context: Context) -> dict[str, Any]:
    """A context's sizes for the manifest, from which the model is built again before its weights are loaded."""
    return {
        "shapes": {modality: list(shape) for modality, shape in context.shapes.items()},
        "vocabulary_size": context.vocabulary_size,
        "n_classes": context.n_classes,
        "trained": list(context.trained),
        "n_groups": 0 if context.groups is None else len(context.groups),
        "n_concepts": context.n_concepts,
        "source": None if context.source is None else described(context.source),
    }


def context_of(record: dict[str, Any]) -> Context:
    """The context with the sizes that `described` returned; the loaded weights replace its placeholder tensors."""
    shapes = {modality: tuple(shape) for modality, shape in record["shapes"].items()}
    moments = {m: (torch.zeros(shape[-1]), torch.ones(shape[-1])) for m, shape in shapes.items()}
    rest = {
        "groups": torch.zeros(record["n_groups"], dtype=torch.int64),
        "n_concepts": record["n_concepts"],
        "source": record["source"] and context_of(record["source"]),
    }
    return Context(shapes, record["vocabulary_size"], record["n_classes"], tuple(record["trained"]), moments, **rest)


@dataclass(frozen=True)
class Stage:
    """A part of the training: its epochs, their learning rates and the modalities that are trained."""

    name: str
    epochs: int
    lr: float
    lr_drop: int
    lr_factor: float = 0.1
    modalities: tuple[str, ...] | None = None
    """Modalities of its batches and of its validation; None means all modalities of the model."""
    selects: bool = True
    """Whether it ends with the weights of its best epoch on the validation items; otherwise with those of its last one,
    since what it trains, such as an adversary alone, does not show there."""


class Model(nn.Module):
    """A retrieval system; the class `Model` of each module of `crossmodal.models` derives from this class."""

    reads: ClassVar[dict[str, Form]] = {"image": "vector", "text": "tokens"}
    """Modalities with the form in which each is read.

    A setting `modalities` chooses others, which are read as vectors; with a setting `image_network` the form of images
    is `images`.
    """

    second_form: ClassVar[dict[str, Form]] = {}
    """Modality to a second form in which its items are read, such as the pixels of images beside their vectors."""

    trains: ClassVar[bool] = True
    """Whether the model is trained by gradient steps; otherwise `fit` is called once before the evaluation."""

    on_request: ClassVar[tuple[str, ...]] = ()
    """Methods of tasks that the model is asked only where an experiment names the task (`also`)."""

    unannotated: ClassVar[tuple[str, ...]] = ()
    """Inputs of un-annotated images that each batch also holds: modalities, or names of `further`."""

    further: ClassVar[dict[str, tuple[str, Form]]] = {}
    """Inputs that are not ranked: name to the modality whose items they describe, and their form."""

    needs_classes: ClassVar[bool] = False
    """Whether batches must have `labels`, for data sets whose items are relevant to each other by class."""
    one_class: ClassVar[bool] = False
    """Whether each item must have exactly one class."""

    source_reads: ClassVar[dict[str, Form]] = {}
    """Modalities and forms that are read from the experiment's `source` data set; empty for models that need none."""

    def __init__(self, settings: Settings, context: Context):
        super().__init__()
        self.settings = settings
        self.context = context
        if modalities := getattr(settings, "modalities", None):
            self.reads = dict.fromkeys(modalities, "vector")
        if getattr(settings, "image_network", ""):
            self.reads = {**self.reads, "image": "images"}

    # -- methods that every system defines ----------------------------------------------------------------------------

    def loss(self, batch: Batch, progress: float, turn: str) -> dict[str, Tensor]:
        """Scalar terms of a batch's loss by name; `loss` is minimised, the others are recorded in the history.

        Parameters
        ----------
        progress : fraction of the stage's steps that are done, in [0, 1).
        turn : the optimiser that makes the next step, a key of `optimisers`.
        """
        raise NotImplementedError

    # -- methods that some systems override ---------------------------------------------------------------------------

    def score(self, queries: Tensor, gallery: Tensor) -> Tensor:
        """(q, g) scores of encodings (q, ...) with (g, ...), larger is better: inner products unless overridden."""
        return queries @ gallery.T

    def compares_vectors(self, *encodings: Tensor) -> bool:
        """Whether its scores of these encodings are their inner products."""
        return type(self).score is Model.score and all(x.ndim == 2 for x in encodings)

    def optimisers(self, stage: Stage) -> dict[str, torch.optim.Optimizer]:
        """Optimisers by name; each makes one step for every batch, in this order."""
        parameters = [p for p in self.parameters() if p.requires_grad]
        return {"model": torch.optim.Adam(parameters, lr=stage.lr, weight_decay=self.settings.weight_decay)}

    def stages(self) -> list[Stage]:
        """Stages of the training in their order; a single one unless overridden."""
        s = self.settings
        return [Stage("train", s.epochs, s.lr, s.lr_drop, s.lr_factor)]

    def begin(self, stage: Stage) -> None:
        """Prepare for a stage, such as by freezing parameters; called before its first epoch."""

    def prepare(self, batches: Iterable[Batch]) -> None:
        """See all training pairs once before the training, in batches, such as for a table of neighbours.

        Called only if a model overrides it, also before a training is resumed. What it keeps is no weight of the model.
        """

    def fit(self, batches: Iterable[Batch]) -> None:
        """Fit a closed-form system (`trains` is False) to all training pairs, which come in batches."""

    def inherit(self, weights: Mapping[str, Tensor]) -> None:
        """Load, before training, the weights of the run that this one continues (`after` of its experiment).

        Raises
        ------
        ValueError : names or shapes of the weights differ from the model's.
        """
        shapes = {name: tuple(value.shape) for name, value in self.state_dict().items()}
        if shapes != {name: tuple(value.shape) for name, value in weights.items()}:
            raise ValueError("its weights have other shapes")
        self.load_state_dict(dict(weights))


def source_of(context: Context) -> Context:
    """The context of the data set that knowledge is transferred from.

    Raises
    ------
    ValueError : the experiment names no source data set.
    """
    if context.source is None:
        raise ValueError("transfers from a labelled source data set; name it as the experiment's `source`")
    return context.source
