"""What a system is to the rest of the package: inputs it reads, a loss, encodings, scores. One file a system.

A model's module has a class `Settings` (its parameters, with the paper's values as defaults) and a class `Model`. It
knows nothing of files, data sets or tracking.

The smallest system defines `encode` and `loss`. What others need is there to be overridden: `score` (cross attention
has no vectors to multiply), `optimisers` (adversaries take turns with their own), `stages` (modalities or losses that
come in one after another) and `fit` (closed forms).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Literal, NamedTuple

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

Form = str
"""How the items of a modality are handed to a model: the name of a module of `crossmodal.corpus.forms`, such as
`vector`, `regions` or `tokens`, or of an entry point of the group `crossmodal.forms`.
"""


class Settings(BaseModel):
    """Parameters of a system; a misspelt one is an error. Subclasses add theirs and set the paper's defaults."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    @property
    def fallbacks(self) -> list[str]:
        """What is chosen in the place of something better that must be brought; a run's manifest tells it."""
        return []

    @property
    def unasked(self) -> list[str]:
        """Settings by which random numbers stand in for what is published (`seeded`) though nobody asked for them."""
        fields = [name for name in type(self).model_fields if getattr(self, name) == "seeded"]
        return [name for name in fields if name not in self.model_fields_set]


EpochOver = Literal["annotated", "all"]


class Schedule(Settings):
    """The training that the published systems share: Adam, steps of the learning rate, clipped gradients."""

    batch_size: int = Field(128, ge=2, description="pairs in a batch")
    epochs: int = Field(30, ge=1)
    lr: float = Field(2e-4, gt=0, description="Adam's learning rate before the first step")
    lr_drop: int = Field(
        15, ge=1, description="epochs after which the learning rate is multiplied by lr_factor, again and again"
    )
    lr_factor: float = Field(0.1, gt=0, le=1)
    weight_decay: float = Field(0.0, ge=0)
    clip: float = Field(2.0, ge=0, description="largest norm of the gradient; 0 leaves it as it is")
    clip_by: Literal["norm", "value"] = Field(
        "norm", description="what `clip` bounds: the norm of the whole gradient, or the size of each of its elements"
    )
    min_count: int = Field(4, ge=1, description="rarer words of the training captions become <unk>")
    max_words: int = Field(82, ge=1, description="words of a caption that are read")
    epoch_steps: int = Field(
        0,
        ge=0,
        description="steps of an epoch, however many the pairs (A3VSE, section 4.2); 0: once through them",
    )


class Tokens(NamedTuple):
    """Captions of a batch."""

    ids: Tensor  # (B, L) int64, padded with 0
    lengths: Tensor  # (B,) int64


class Regions(NamedTuple):
    """Sets of region features of a batch."""

    features: Tensor  # (B, R, D)
    counts: Tensor  # (B,) int64, regions that are there


class Concepts(NamedTuple):
    """What the items of a batch show or speak of, as scores of named concepts."""

    ids: Tensor  # (B, L) int64 below `Context.n_concepts`, each once
    scores: Tensor  # (B, L), 0 where there is none


Input = Tensor | Tokens | Regions | Concepts
"""(B, D) vectors, captions, region sets, concepts, or (B, 3, S, S) uint8 pixels or images."""


@dataclass
class Batch:
    """Items that a step or an encoding is given.

    `inputs` maps a modality to its (B, ...) input, row i of each belonging to the same thing when training. `groups`
    are (B,) ids of what belongs together, such as captions of one image. `labels` are (B,) classes of a data set whose
    items are relevant to each other by class: row i of every modality is of class `labels[i]`. Where items are of
    several classes they are (B, C) zeros and ones (see `models.parts.labelled`). `unannotated` holds
    further items without a caption, as many as a batch has pairs. `source` is a batch of another data set that
    knowledge is transferred from, with labels of its own. `beside` holds the same items as `inputs` in the form that
    the model's `beside` names.
    """

    inputs: dict[str, Input]
    groups: Tensor | None = None
    labels: Tensor | None = None
    unannotated: dict[str, Input] = field(default_factory=dict)
    source: Batch | None = None
    beside: dict[str, Input] = field(default_factory=dict)

    def to(self, device: torch.device) -> Batch:
        def move(value):
            if isinstance(value, Mapping):
                return {key: move(one) for key, one in value.items()}
            if isinstance(value, Tokens | Regions | Concepts):
                return type(value)(*(move(one) for one in value))
            return value.to(device, non_blocking=True) if isinstance(value, Tensor) else value

        return replace(
            self,
            inputs=move(self.inputs),
            groups=move(self.groups),
            labels=move(self.labels),
            unannotated=move(self.unannotated),
            source=self.source and self.source.to(device),
            beside=move(self.beside),
        )


@dataclass(frozen=True)
class Context:
    """What a model must know of the data to be built: sizes, no items."""

    shapes: dict[str, tuple[int, ...]]  # modality to the shape of one item's features: (D,) or (R, D)
    vocabulary_size: int = 0
    n_classes: int = 0
    """Classes of the training partition; items of other classes have labels from this number on."""
    trained: tuple[int, ...] = ()
    """Those of the split's own training items: fewer where classes come in stages."""
    moments: Mapping[str, tuple[Tensor, Tensor]] = field(default_factory=dict)
    """Modality to the (D,) mean and standard deviation of its vectors over the training partition, found when asked."""
    source: Context | None = None
    """The same of the data set that knowledge is transferred from."""
    groups: Tensor | None = field(default=None, compare=False)
    """(G,) int64 ids of the groups of the training pairs, ascending; tensors are not compared."""
    word_vectors: Tensor | None = field(default=None, compare=False)
    """(vocabulary_size, word_dim) start of the word embedding, where a file of vectors is named."""
    n_concepts: int = 0
    """Names that the form `concepts` tells of."""


def described(context: Context) -> dict[str, Any]:
    """What a manifest keeps of a context: enough to build the model again, whose weights hold the rest."""
    return {
        "shapes": {modality: list(shape) for modality, shape in context.shapes.items()},
        "vocabulary_size": context.vocabulary_size,
        "n_classes": context.n_classes,
        "trained": list(context.trained),
        "n_groups": 0 if context.groups is None else len(context.groups),
        "n_concepts": context.n_concepts,
        "source": None if context.source is None else described(context.source),
    }


def context_of(told: dict[str, Any]) -> Context:
    """The context that `described` told of; vectors of zeros stand where the weights hold better ones."""
    shapes = {modality: tuple(shape) for modality, shape in told["shapes"].items()}
    moments = {m: (torch.zeros(shape[-1]), torch.ones(shape[-1])) for m, shape in shapes.items()}
    rest = {
        "groups": torch.zeros(told["n_groups"], dtype=torch.int64),
        "n_concepts": told["n_concepts"],
        "source": told["source"] and context_of(told["source"]),
    }
    return Context(shapes, told["vocabulary_size"], told["n_classes"], tuple(told["trained"]), moments, **rest)


@dataclass(frozen=True)
class Stage:
    """A part of the training: epochs with their learning rates, and what is trained in them."""

    name: str
    epochs: int
    lr: float
    lr_drop: int
    lr_factor: float = 0.1
    modalities: tuple[str, ...] | None = None
    """Modalities of its batches and of its selection; None for all of the model's."""


class Model(nn.Module):
    """A system; the class `Model` of each module of `crossmodal.models` is one of these."""

    reads: ClassVar[dict[str, Form]] = {"image": "vector", "text": "tokens"}
    """Modalities with the form in which each is read.

    A setting `modalities` chooses others, read as vectors; a setting `image_network` has images read as such.
    """

    beside: ClassVar[dict[str, Form]] = {}
    """Modality to a second form that its items are read in, such as the pixels of the images whose vectors are read."""

    trains: ClassVar[bool] = True
    """False: no gradient steps; `fit` is called once and the result is what is evaluated."""

    unannotated: ClassVar[tuple[str, ...]] = ()
    """Of what each batch also brings images outside of the annotated pairs: modalities, or names of `further`."""

    further: ClassVar[dict[str, tuple[str, Form]]] = {}
    """Inputs that are not ranked, by a name of their own: the modality whose items they are of, and their form."""

    needs_classes: ClassVar[bool] = False
    """Its batches must have `labels`: it is for data whose items answer each other by class."""
    one_class: ClassVar[bool] = False
    """Its items must be of one class each."""

    source_reads: ClassVar[dict[str, Form]] = {}
    """Modalities that are read of the data set that an experiment names as its `source`; none: it needs no such."""

    def __init__(self, settings: Settings, context: Context):
        super().__init__()
        self.settings = settings
        self.context = context
        if modalities := getattr(settings, "modalities", None):
            self.reads = dict.fromkeys(modalities, "vector")
        if getattr(settings, "image_network", ""):
            self.reads = {**self.reads, "image": "images"}

    # -- what every system defines ------------------------------------------------------------------------------------

    def loss(self, batch: Batch, progress: float, turn: str) -> dict[str, Tensor]:
        """Terms of the loss of a batch; `loss` is what is minimised, the others are kept in the history.

        Parameters
        ----------
        progress : share of the stage's steps that are done, in [0, 1).
        turn : the optimiser whose turn it is, a key of `optimisers`.
        """
        raise NotImplementedError

    # -- what some override -------------------------------------------------------------------------------------------

    def score(self, queries: Tensor, gallery: Tensor) -> Tensor:
        """(q, g) scores of encodings (q, ...) with encodings (g, ...), larger is better: inner products here."""
        return queries @ gallery.T

    def compares_vectors(self, *encodings: Tensor) -> bool:
        """Whether its scores of these encodings are their inner products."""
        return type(self).score is Model.score and all(x.ndim == 2 for x in encodings)

    def optimisers(self, stage: Stage) -> dict[str, torch.optim.Optimizer]:
        """Optimisers by name; each takes its turn at every batch, in this order."""
        parameters = [p for p in self.parameters() if p.requires_grad]
        return {"model": torch.optim.Adam(parameters, lr=stage.lr, weight_decay=self.settings.weight_decay)}

    def stages(self) -> list[Stage]:
        s = self.settings
        return [Stage("train", s.epochs, s.lr, s.lr_drop, s.lr_factor)]

    def begin(self, stage: Stage) -> None:
        """Called before a stage: freeze or add what it asks for."""

    def fit(self, batches: Iterable[Batch]) -> None:
        """Closed-form systems take all training pairs here, a batch at a time; `trains` is False for them."""

    def inherit(self, weights: Mapping[str, Tensor]) -> None:
        """Take over the weights of the run that this one begins from (`after` of its experiment), before training.

        Raises
        ------
        ValueError : they do not fit.
        """
        own = {name: tuple(value.shape) for name, value in self.state_dict().items()}
        if own != {name: tuple(value.shape) for name, value in weights.items()}:
            raise ValueError("its weights are of another shape")
        self.load_state_dict(dict(weights))


def source_of(context: Context) -> Context:
    """The context of the data set that knowledge is transferred from.

    Raises
    ------
    ValueError : there is none.
    """
    if context.source is None:
        raise ValueError("transfers from a labelled source data set; name it as the experiment's `source`")
    return context.source
