"""M-CVS: the common vector space grown a modality at a time, what is older left as it is (CVS thesis, section 3.2).

The first two modalities are trained as CVS trains them. Each later stage adds a branch and a block for the new modality
and each older one, and trains nothing else: the encodings of older modalities for each other keep every bit.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from crossmodal.models import base, cvs


class Settings(cvs.Settings):
    """As CVS; `modalities` in the order of the stages (section 5.1, D: image and text, video, audio, mesh).

    A run that begins from another trains the stages that the other lacks.
    """


class Model(cvs.Model):
    settings: Settings

    def __init__(self, settings: Settings, context: base.Context):
        super().__init__(settings, context)
        self.known = 0
        """Modalities that the run it begins from has been trained on."""

    def inherit(self, weights: Mapping[str, Tensor]) -> None:
        """Take over all that an earlier run has: the branches, blocks and centres of its modalities, the classifier."""
        own = self.state_dict()
        names = self.settings.modalities
        there = [name.removesuffix("_centre") for name in weights if name.endswith("_centre")]
        odd = [name for name, value in weights.items() if name not in own or own[name].shape != value.shape]
        if odd or set(there) != set(names[: len(there)]) or not 2 <= len(there) < len(names):
            what = f" ({odd[0]} is of another shape or not known here)" if odd else ""
            had = ", ".join(sorted(there)) or "no modality"
            raise ValueError(f"it has {had}, this run is of {', '.join(names)}{what}")
        self.load_state_dict({**own, **weights})
        self.known = len(there)

    def stages(self) -> list[base.Stage]:
        """One for the first two modalities together, one for each that is added; those of an earlier run are over."""
        s = self.settings
        counts = range(max(2, self.known + 1), len(s.modalities) + 1)
        names = {n: s.modalities[n - 1] if n > 2 else "+".join(s.modalities[:2]) for n in counts}
        return [base.Stage(names[n], s.epochs, s.lr, s.lr_drop, s.lr_factor, s.modalities[:n]) for n in counts]

    def begin(self, stage: base.Stage) -> None:
        """Let the stage's modality learn, and nothing that has been trained before it."""
        names = stage.modalities
        self.learning = set(names[-1:] if len(names) > 2 else names)
        self.pairs = self.trained_pairs(names)
        for parameter in self.parameters():
            parameter.requires_grad_(False)
        for part in self.new_parts(names):
            for parameter in part.parameters():
                parameter.requires_grad_(True)

    def trained_pairs(self, names: tuple[str, ...]) -> list[tuple[str, str]]:
        """The pairs of a stage: the first two modalities, or the new one with each older one."""
        return [(older, names[-1]) for older in names[:-1]]

    def new_parts(self, names: tuple[str, ...]) -> list[nn.Module]:
        """What a stage trains: the new branch and its blocks; in the first both branches and the classifier."""
        blocks = [self.blocks[self.block_of(*pair)] for pair in self.pairs] if self.settings.attention else []
        new = [self.branches[m] for m in self.learning]
        return [*new, *blocks, *([self.classifier] if len(names) == 2 else [])]

    def block_of(self, a: str, b: str) -> str:
        return f"{a}-{b}"
