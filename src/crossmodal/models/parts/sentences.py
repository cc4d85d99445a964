"""Settings of systems that read a sentence as one vector, published with HGLMM Fisher vectors (DSPE, RRF-Net)."""

from __future__ import annotations

from pydantic import Field

from crossmodal.models import base


class SentenceVectors(base.Schedule):
    """The published sentence vectors are 6,000 principal components of HGLMM Fisher vectors, which are not public.

    The extractor `fisher` computes such vectors anew. Any other vectors of texts that `inputs` names stand in for them,
    such as mean word vectors (`words`) or `tfidf`.
    """

    fisher_vectors: bool = Field(
        False,
        description="whether the sentence vectors that `inputs` names are HGLMM Fisher vectors, such as those of the "
        "extractor `fisher`",
    )

    @property
    def fallbacks(self) -> list[str]:
        return [] if self.fisher_vectors else ["sentence vectors: those that `inputs` names, not HGLMM Fisher vectors"]
