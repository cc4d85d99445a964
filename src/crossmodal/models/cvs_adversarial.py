"""CVS with an adversarial reconstruction of its input vectors (CVS thesis, sections 2.5 C, 3.1 A and 5.2 C; figure 28).

From an item's vector in the common space, a generator of its modality reconstructs the 512-d output of the fully
connected layers, and a discriminator learns to distinguish the two. The thesis reports that the loss grows without
bound and leaves it out of its models. With `class_weight` and `triplet_weight` of 0 only the reconstruction is trained.
"""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from crossmodal.models import base, cvs
from crossmodal.models.parts.adversaries import Discriminator
from crossmodal.models.parts.encoders import MLP
from crossmodal.models.parts.optimisers import others

JUDGES = "discriminators"


class Settings(cvs.Settings):
    """Settings of CVS and of the reconstruction; its networks and weights are this project's choice.

    The thesis describes the loss in two ways, which are both used: the difference between an embedding and its
    reconstruction (section 3.1, A), and the game of a generator and a discriminator (eq. 2.5.3).
    """

    difference: float = Field(
        1.0, ge=0, description="weight of the mean squared difference between generated and real vectors"
    )
    adversary: float = Field(1.0, ge=0, description="weight of the generators' loss in eq. 2.5.3")
    aim: Literal["printed", "non-saturating"] = Field(
        "printed",
        description="loss of the generators: log(1 - D(G(z))), as in eq. 2.5.3, or -log D(G(z)), which Goodfellow et "
        "al. (2014) use in training, since its gradient does not vanish where the discriminator is right",
    )
    moving: bool = Field(
        False,
        description="whether the gradient of the difference also moves the real vectors, so that it can shrink them "
        "to zero; else they are constants, like the real samples of eq. 2.5.3",
    )
    hidden_layers: int = Field(1, ge=0, description="number of hidden layers of a generator, with `dim` units each")
    discriminator_lr: float = Field(1.0, gt=0, description="learning rate of discriminators, as a multiple of `lr`")


class Model(cvs.Model):
    settings: Settings

    def __init__(self, settings: Settings, context: base.Context):
        super().__init__(settings, context)
        widths = [settings.dim] * (settings.hidden_layers + 2)
        self.generators = nn.ModuleDict({m: MLP(*widths) for m in settings.modalities})
        self.judges = nn.ModuleDict({m: Discriminator(settings.dim, settings.dim) for m in settings.modalities})

    def optimisers(self, stage: base.Stage) -> dict[str, torch.optim.Optimizer]:
        s = self.settings
        judges = {"params": list(self.judges.parameters()), "lr": stage.lr * s.discriminator_lr}
        group = {"params": others(self.parameters(), judges), "lr": stage.lr}
        options = {"weight_decay": s.weight_decay}
        return {"model": torch.optim.Adam([group], **options), JUDGES: torch.optim.Adam([judges], **options)}

    def remade(self, batch: base.Batch) -> dict[str, tuple[Tensor, Tensor]]:
        """Modality to its (P, B, d) input vectors and to their reconstructions from its vectors for P partners."""
        g = {m: self.branches[m](batch.inputs[m]) for m in self.settings.modalities}
        real: dict[str, list[Tensor]] = {m: [] for m in g}
        generated: dict[str, list[Tensor]] = {m: [] for m in g}
        for a, b in self.pairs:
            for m, vectors in zip((a, b), self.aligned(a, g[a], b, g[b]), strict=True):
                real[m].append(g[m])
                generated[m].append(self.generators[m](vectors))
        return {m: (torch.stack(real[m]), torch.stack(generated[m])) for m in g}

    def loss(self, batch: base.Batch, progress: float, turn: str) -> dict[str, Tensor]:
        s = self.settings
        if turn == JUDGES:
            with torch.no_grad():
                remade = self.remade(batch)
            losses = [judged(self.judges[m], *vectors) for m, vectors in remade.items()]
            return {"loss": torch.stack(losses).sum()}
        terms = super().loss(batch, progress, turn)
        for m, (real, generated) in self.remade(batch).items():
            far = F.mse_loss(generated, real if s.moving else real.detach())
            logits = self.judges[m](generated.flatten(0, 1))
            fooled = -F.softplus(logits).mean() if s.aim == "printed" else F.softplus(-logits).mean()
            reconstruction = s.difference * far + s.adversary * fooled
            terms["loss"] = terms["loss"] + reconstruction
            terms |= {f"{m}_reconstruction": reconstruction, f"{m}_difference": far, f"{m}_adversary": fooled}
        return terms


def judged(judge: Discriminator, real: Tensor, generated: Tensor) -> Tensor:
    """-log D(x) - log(1 - D(G(z))), averaged over (P, B, d) vectors and over their reconstructions (eq. 2.5.3)."""
    true, false = (judge(vectors.flatten(0, 1)) for vectors in (real, generated))
    return F.softplus(-true).mean() + F.softplus(false).mean()
