"""M-CVS: a common vector space that grows by one modality at a time, with older parts frozen (CVS thesis, section 3.2).

The first two modalities are trained as in CVS. Each later stage adds a branch for the new modality and a block for it
with each older one, and trains nothing else: the encodings of older modalities for each other do not change.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from crossmodal.models import base, cvs


class Settings(cvs.Settings):
    """Settings of CVS; `modalities` are in the order of the stages (section 5.1, D: image, text, video, audio, mesh).

    A run that continues another one trains the stages that the other lacks.
    """


class Model(cvs.Model):
    settings: Settings

    def __init__(self, settings: Settings, context: base.Context):
        super().__init__(settings, context)
        self.known = 0
        """Number of modalities on which the run that this one continues was trained."""

    def inherit(self, weights: Mapping[str, Tensor]) -> None:
        """Load the weights of an earlier run: the branches, blocks and centres of its modalities, and the classifier.

        Raises
        ------
        ValueError : the earlier run is not of this run's first modalities, two at least, or its weights do not fit.
        """
        state = self.state_dict()
        names = self.settings.modalities
        had_before = [name.removesuffix("_centre") for name in weights if name.endswith("_centre")]
        odd = [name for name, value in weights.items() if name not in state or state[name].shape != value.shape]
        if odd or set(had_before) != set(names[: len(had_before)]) or not 2 <= len(had_before) < len(names):
            what = f" ({odd[0]} has another shape or is unknown here)" if odd else ""
            had = ", ".join(sorted(had_before)) or "no modality"
            raise ValueError(f"it has {had}, this run is of {', '.join(names)}{what}")
        self.load_state_dict({**state, **weights})
        self.known = len(had_before)

    def stages(self) -> list[base.Stage]:
        """One stage for the first two modalities and one per added modality, without those of an earlier run."""
        s = self.settings
        counts = range(max(2, self.known + 1), len(s.modalities) + 1)
        names = {n: s.modalities[n - 1] if n > 2 else "+".join(s.modalities[:2]) for n in counts}
        return [base.Stage(names[n], s.epochs, s.lr, s.lr_drop, s.lr_factor, s.modalities[:n]) for n in counts]

    def begin(self, stage: base.Stage) -> None:
        """Unfreeze the parts that the stage adds, and freeze everything that was trained before it."""
        names = stage.modalities
        self.learning = set(names[-1:] if len(names) > 2 else names)
        self.pairs = self.trained_pairs(names)
        for parameter in self.parameters():
            parameter.requires_grad_(False)
        for part in self.new_parts(names):
            for parameter in part.parameters():
                parameter.requires_grad_(True)

    def trained_pairs(self, names: tuple[str, ...]) -> list[tuple[str, str]]:
        """The pairs that a stage trains: the first two modalities, or the new one with each older one."""
        return [(older, names[-1]) for older in names[:-1]]

    def new_parts(self, names: tuple[str, ...]) -> list[nn.Module]:
        """The modules that a stage trains: new branches, their blocks and, in the first stage, the classifier."""
        blocks = [self.blocks[self.block_of(*pair)] for pair in self.pairs] if self.settings.attention else []
        new = [self.branches[m] for m in self.learning]
        return [*new, *blocks, *([self.classifier] if len(names) == 2 else [])]

    def block_of(self, a: str, b: str) -> str:
        """The name of the attention block of two modalities."""
        return f"{a}-{b}"
