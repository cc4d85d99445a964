"""RVS: a space that grows by one modality at a time around one reference modality (CVS thesis, section 3.3).

Each modality other than the reference has one attention block, which aligns the two. All blocks share W_ie
(eq. 3.3.1), which is fixed after the first stage. Two modalities that are not the reference are never trained against
each other.

Section 3.3 mentions n blocks for n modalities, and one more for each added modality. Since a block belongs to a
modality and the reference, the first two modalities have one block and n modalities have n - 1.
"""

from __future__ import annotations

from pydantic import Field, model_validator
from torch import Tensor, nn

from crossmodal.models import base, cvs, mcvs
from crossmodal.models.parts.aligned_attention import ReferenceAttention


class Settings(mcvs.Settings):
    """Settings of M-CVS, and `reference`, which is one of the first two modalities.

    Section 3.3 has one transformation per modality: a modality's vectors are the same for all partners, except that
    those of the reference depend on the partner.
    """

    reference: cvs.Modality = Field("image", description="modality to whose space all others are mapped")

    @model_validator(mode="after")
    def _early(self) -> Settings:
        if self.reference not in self.modalities[:2]:
            raise ValueError(f"reference: {self.reference!r} is none of the first two of {', '.join(self.modalities)}")
        return self


class Model(mcvs.Model):
    settings: Settings

    def made_blocks(self) -> dict[str, nn.Module]:
        """One block per modality other than the reference: n - 1 blocks for n modalities."""
        s = self.settings
        return {m: ReferenceAttention(s.dim, s.terms) for m in s.modalities if m != s.reference}

    def __init__(self, settings: Settings, context: base.Context):
        super().__init__(settings, context)
        if settings.attention:
            self.reference_out = nn.Linear(settings.dim, settings.dim, bias=False)  # W_ie

    def aligned(self, a: str, g_a: Tensor, b: str, g_b: Tensor) -> tuple[Tensor, Tensor]:
        if not self.settings.attention:
            return self.unaligned(g_a), self.unaligned(g_b)
        if b == self.settings.reference:
            return self.aligned(b, g_b, a, g_a)[::-1]
        return self.blocks[b](g_a, g_b, self.reference_out)

    def placed(self, modality: str, batch: base.Batch, partner: str) -> Tensor:
        """(B, dim) vectors; those of modalities other than the reference are the same for every partner."""
        reference = self.settings.reference
        return super().placed(modality, batch, partner if modality == reference else reference)

    def trained_pairs(self, names: tuple[str, ...]) -> list[tuple[str, str]]:
        """The pair that a stage trains: the reference and the new modality."""
        reference = self.settings.reference
        return [(reference, next(m for m in reversed(names) if m != reference))]

    def new_parts(self, names: tuple[str, ...]) -> list[nn.Module]:
        shared = [self.reference_out] if self.settings.attention and len(names) == 2 else []
        return [*super().new_parts(names), *shared]

    def block_of(self, a: str, b: str) -> str:
        return b if a == self.settings.reference else a
