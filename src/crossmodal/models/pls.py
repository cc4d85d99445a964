"""Partial least squares: directions of the largest covariance of two modalities (Sharma and Jacobs, 2011).

This classical baseline, fitted with scikit-learn, maximises covariance where CCA maximises correlation, so that it
needs no regularisation.
"""

from __future__ import annotations

from typing import ClassVar, Literal

import numpy as np
from pydantic import Field

from crossmodal.models.base import Form
from crossmodal.models.parts import closed_form
from crossmodal.models.parts.closed_form import LinearProjection


class Settings(closed_form.Settings):
    dim: int = Field(32, ge=1, description="largest number of directions")
    form: Literal["canonical", "svd"] = Field(
        "canonical",
        description="canonical: directions are computed one after another, each after deflation by the "
        "previous one; svd: all at once",
    )


class Model(LinearProjection):
    reads: ClassVar[dict[str, Form]] = {"image": "vector", "text": "vector"}

    settings: Settings

    def fit_pair(self, a: str, x: np.ndarray, b: str, y: np.ndarray, labels: np.ndarray | None) -> None:
        from sklearn.cross_decomposition import PLSSVD, PLSCanonical

        dim = min(self.settings.dim, *(np.linalg.matrix_rank(z, rtol=closed_form.NEGLIGIBLE) for z in (x, y)))
        if self.settings.form == "svd":
            regression = PLSSVD(dim, scale=False).fit(x, y)
            of_a, of_b = regression.x_weights_, regression.y_weights_
        else:
            regression = PLSCanonical(dim, scale=False, max_iter=1000).fit(x, y)
            of_a, of_b = regression.x_rotations_, regression.y_rotations_
        self.keep_pair(a, of_a, b, of_b)
