"""UGACH: unsupervised generative adversarial cross-modal hashing (Zhang et al., 2018; a row of the CVS thesis).

Two networks of the same shape map both modalities to hash codes. The discriminator learns, by triplets, that an item is
near to those of the other modality whose pairs are its neighbours in the features; the generator draws the negatives of
these triplets and is rewarded, by a policy gradient, for those that the discriminator finds hard. No classes are used.

As in the authors' program (UGACH_AAAI2018), the positives of an item are the five nearest images and the five nearest
texts of its pair, and the codes are the discriminator's. The program draws negatives from a fiftieth of all training
items; here they are drawn from the batch. Batches of labelled data are drawn as for other systems; that their rows are
joined by class where an item has no partner is the only way in which classes can matter.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from crossmodal.models import base
from crossmodal.models.base import Form
from crossmodal.models.parts.encoders import Standardiser
from crossmodal.models.parts.labelled import Labelled, Standardise
from crossmodal.models.parts.triplets import squared_distances, with_squares

BLOCK = 1024  # pairs whose distances to all others are computed at a time
DEVIATION = 0.1  # of the first weights, from a normal distribution cut at two s.d.


class Settings(Labelled):
    """The settings of the authors' program on NUS-WIDE, whose row in the CVS thesis is that of 128 bits.

    It pre-trains the discriminator for up to 1,000 passes and makes 30 rounds of one pass for the discriminator and two
    for the generator, with rates that fall by a tenth every 20,000 steps. Its pre-training has batches of 20, its
    rounds take one item at a time; here all batches have 20. The 100 epochs of pre-training are this project's choice.
    """

    standardise: Standardise = False
    bits: int = Field(128, ge=1, description="L: length of a code")
    hidden: tuple[int, ...] = Field((8192,), min_length=1, max_length=1, description="units of each hidden layer")
    neighbours: int = Field(5, ge=1, description="nearest images, and nearest texts, that are positives")
    codes: Literal["binary", "real"] = Field(
        "binary", description="what is compared: the bits, by their Hamming distance, or the outputs before rounding"
    )
    batch_size: int = Field(20, ge=2)
    pretrain_epochs: int = Field(100, ge=0, description="epochs of the discriminator alone, with random negatives")
    epochs: int = Field(30, ge=1, description="epochs in which both networks take turns")
    generator_steps: int = Field(2, ge=1, description="steps of the generator per step of the discriminator")
    optimiser: Literal["sgd", "adam"] = Field("sgd", description="optimiser; sgd has no momentum")
    lr: float = Field(1e-2, gt=0, description="learning rate of the pre-training and of the generator")
    discriminator_lr: float = Field(0.1, gt=0, description="rate of the discriminator beside it, as a multiple of `lr`")
    lr_drop: int = Field(30, ge=1)
    lr_factor: float = Field(0.9, gt=0, le=1)
    weight_decay: float = Field(0.01, ge=0)
    clip: float = Field(0.0, ge=0)


class Codes(nn.Module):
    """A network per modality: a tanh layer and logistic outputs, one per bit."""

    def __init__(self, dims: dict[str, int], hidden: int, bits: int):
        super().__init__()
        self.networks = nn.ModuleDict(
            {m: nn.Sequential(nn.Linear(d, hidden), nn.Tanh(), nn.Linear(hidden, bits)) for m, d in dims.items()}
        )
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=DEVIATION, a=-2 * DEVIATION, b=2 * DEVIATION)
                nn.init.zeros_(module.bias)

    def forward(self, modality: str, features: Tensor) -> Tensor:
        """(B, D) -> (B, L) in (0, 1)."""
        return torch.sigmoid(self.networks[modality](features))


class Model(base.Model):
    reads: ClassVar[dict[str, Form]] = {"image": "vector", "text": "vector"}

    def __init__(self, settings: Settings, context: base.Context):
        super().__init__(settings, context)
        s = settings
        dims = {m: context.shapes[m][0] for m in self.reads}
        self.scaled = nn.ModuleDict({m: Standardiser(context, m, wanted=s.standardise) for m in dims})
        self.discriminator = Codes(dims, *s.hidden, s.bits)
        self.generator = Codes(dims, *s.hidden, s.bits)
        self.margin = s.bits / 8  # β
        self.groups = torch.empty(0, dtype=torch.int64)  # of the training pairs, ascending; filled by `prepare`
        self.near = torch.empty(0, 0, dtype=torch.int64)  # (G, 2k) groups of the nearest images and texts

    def prepare(self, batches: Iterable[base.Batch]) -> None:
        """Find the nearest images and the nearest texts of each training pair; one item per group and modality."""
        groups, features = [], {m: [] for m in self.reads}
        for batch in batches:
            groups.append(batch.groups)
            for m, parts in features.items():
                parts.append(batch.inputs[m].float())
        groups = torch.cat(groups)
        self.groups, first = first_rows(groups)
        near = [nearest(torch.cat(parts)[first], self.settings.neighbours) for parts in features.values()]
        self.near = self.groups[torch.cat(near, 1)]

    def positives(self, groups: Tensor) -> Tensor:
        """(B, B) bool: whether the pair of a column is a neighbour of that of a row, or of its group."""
        same = groups[:, None] == groups[None, :]
        if not len(self.groups):
            return same
        known = self.groups.to(groups.device)
        rows = torch.searchsorted(known, groups)
        near = self.near.to(groups.device)[rows]  # (B, 2k)
        return same | (near[:, :, None] == groups).any(1)

    def encode(self, modality: str, batch: base.Batch, partner: str) -> Tensor:
        """(B, bits) of ±1, whose inner products are L - 2 · Hamming distance, or (B, bits + 2) of real codes."""
        outputs = self.discriminator(modality, self.scaled[modality](batch.inputs[modality]))
        if self.settings.codes == "binary":
            return torch.where(outputs > 0.5, 1.0, -1.0).to(outputs)
        return with_squares(outputs, modality == "image")

    def stages(self) -> list[base.Stage]:
        s = self.settings
        first = base.Stage("discriminator", s.pretrain_epochs, s.lr, s.lr_drop, s.lr_factor)
        both = base.Stage("both", s.epochs, s.lr, s.lr_drop, s.lr_factor)
        return [*([first] if s.pretrain_epochs else []), both]

    def optimisers(self, stage: base.Stage) -> dict[str, torch.optim.Optimizer]:
        """The discriminator alone in the first stage; then its step before those of the generator."""
        s = self.settings
        kind = torch.optim.Adam if s.optimiser == "adam" else torch.optim.SGD

        def of(network: Codes, factor: float) -> torch.optim.Optimizer:
            return kind(network.parameters(), lr=stage.lr * factor, weight_decay=s.weight_decay)

        if stage.name == "discriminator":
            return {"discriminator": of(self.discriminator, 1.0)}
        generator = of(self.generator, 1.0)
        turns = {f"generator{n + 1}": generator for n in range(s.generator_steps)}
        return {"against_generator": of(self.discriminator, s.discriminator_lr), **turns}

    def loss(self, batch: base.Batch, progress: float, turn: str) -> dict[str, Tensor]:
        features = {m: self.scaled[m](batch.inputs[m]) for m in self.reads}
        positive = self.positives(batch.groups)
        parts = []
        for query, other in (("image", "text"), ("text", "image")):
            with torch.no_grad():
                chances = -distances(self.generator, query, other, features)
                if turn == "discriminator":
                    chances = torch.zeros_like(chances)  # any other pair of the batch
                negative, available = drawn(chances.masked_fill(positive, -torch.inf))
                place, _ = drawn(torch.zeros_like(chances).masked_fill(~positive, -torch.inf))
            if turn in ("discriminator", "against_generator"):
                hinges = self._hinges(query, other, features, place, negative)
                parts.append((hinges * available).mean())
            else:
                with torch.no_grad():
                    rewards = torch.sigmoid(self._hinges(query, other, features, place, negative))
                logits = -distances(self.generator, query, other, features)
                chosen = logits.log_softmax(1).gather(1, negative[:, None])[:, 0]
                parts.append(-(chosen * rewards * available).mean())
        return {"loss": torch.stack(parts).sum()}

    def _hinges(self, query: str, other: str, features: dict[str, Tensor], place: Tensor, negative: Tensor) -> Tensor:
        """(B,) hinges [β + d(x, x⁺) - d(x, x⁻)]₊ of the discriminator's squared distances."""
        far = distances(self.discriminator, query, other, features)
        near = far.gather(1, place[:, None])[:, 0]
        return (self.margin + near - far.gather(1, negative[:, None])[:, 0]).clamp(min=0)


def distances(network: Codes, query: str, other: str, features: dict[str, Tensor]) -> Tensor:
    """(B, B) squared distances of the outputs of two modalities."""
    return squared_distances(network(query, features[query]), network(other, features[other]))


def drawn(logits: Tensor) -> tuple[Tensor, Tensor]:
    """(B,) a column of each row drawn by the softmax of (B, N) logits, and (B,) bool whether any is finite."""
    available = logits.isfinite().any(1)
    probabilities = torch.where(available[:, None], logits, 0.0).softmax(1)
    return torch.multinomial(probabilities, 1)[:, 0], available


def first_rows(groups: Tensor) -> tuple[Tensor, Tensor]:
    """(G,) the different groups, ascending, and (G,) the first row of each."""
    known, codes = groups.unique(return_inverse=True)
    rows = torch.full((len(known),), len(groups), dtype=torch.int64)
    return known, rows.scatter_reduce(0, codes, torch.arange(len(groups)), "amin")


def nearest(features: Tensor, k: int) -> Tensor:
    """(N, K) rows with the smallest Euclidean distance to each of the (N, D) rows, which counts as one of its own."""
    k = min(k, len(features))
    return torch.cat(
        [torch.cdist(part, features).topk(k, dim=1, largest=False).indices for part in features.split(BLOCK)]
    )
