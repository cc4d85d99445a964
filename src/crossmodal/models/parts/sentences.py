"""Settings of systems that read a sentence as one vector, published with HGLMM Fisher vectors (DSPE, RRF-Net)."""

from __future__ import annotations

from pydantic import Field

from crossmodal.models import base


class SentenceVectors(base.Schedule):
    """The published sentence vectors are 6,000 principal components of HGLMM Fisher vectors, which are not public.

    Any vectors of texts that `inputs` names stand in for them, such as mean word vectors (`words`) or `tfidf`.
    """

    fisher_vectors: bool = Field(
        False, description="whether the sentence vectors that `inputs` names are the published HGLMM Fisher vectors"
    )

    @property
    def fallbacks(self) -> list[str]:
        return [] if self.fisher_vectors else ["sentence vectors: those that `inputs` names, not HGLMM Fisher vectors"]
