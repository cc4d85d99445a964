"""Fisher vectors of captions: the gradient of a mixture model of word vectors (Klein et al., 2015; DSPE and RRF-Net).

A mixture is fitted to the vectors of the words of the training captions. A caption is the gradient of its mean
log-likelihood by the centres and the widths of the mixture, divided by the root of their Fisher information; then come
signed square roots, unit length, and principal components of the training captions. The published vectors are of a
hybrid Gaussian-Laplacian mixture (HGLMM), in which each coordinate of each centre is either normally or Laplace
distributed, whichever is likelier: 30 centres of 300-d word2vec vectors, and 6,000 components. The independent
components of word vectors, which Klein et al. take before, are left out.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from pydantic import Field

from crossmodal.core.errors import UserError
from crossmodal.core.files import sha256_json
from crossmodal.features.engine import extraction
from crossmodal.features.engine.extraction import Given, Item, Recipe, Work
from crossmodal.features.networks.captions import (
    OfWordVectors,
    depends_on,
    rows_of,
    training,
    vectors_of,
    words,
    words_of,
)
from crossmodal.language.wordvectors import WordVectors

LEAST = 1e-6  # least variance of a coordinate, as scikit-learn's mixtures have it
TINY = 1e-12

CASES = [
    ("text", {"vectors": "seeded", "dim": 4, "centres": 2, "components": None}, lambda folder: {}, ("fallback",)),
    ("text", {"vectors": "seeded", "dim": 3, "centres": 1, "mixture": "gaussian", "components": 3}, lambda folder: {},
     ("fallback", "fisher_explained")),
]  # fmt: skip
"""How the conformance test of extractors runs this one."""


class Settings(extraction.Settings, OfWordVectors):
    """The published sizes of the HGLMM vectors (DSPE, RRF-Net)."""

    mixture: Literal["hybrid", "gaussian"] = Field(
        "hybrid", description="whether a coordinate of a centre may be Laplace distributed, or all are normal"
    )
    centres: int = Field(30, ge=1, description="centres of the mixture")
    rounds: int = Field(30, ge=1, description="rounds of the hybrid mixture, which begins with the Gaussian one")
    components: int | None = Field(
        6000, ge=1, description="principal components of the training captions; null: the Fisher vectors as they are"
    )
    sample: int = Field(
        20_000, ge=2, description="training captions that the mixture and the components are fitted to, at most"
    )
    l2: bool = Field(True, description="whether vectors are scaled to unit length")
    batch_size: int = Field(256, ge=1, description="number of captions per batch")
    seed: int = Field(0, ge=0, description="seed of the mixture's start, of the sample and of seeded vectors")


@dataclass(frozen=True)
class Mixture:
    """K centres in D dimensions: weights (K,), and (K, D) centres, widths and whether a coordinate is Laplacian.

    The width is the standard deviation of a normal coordinate, and the mean distance from the centre of a Laplacian.
    """

    weights: np.ndarray
    centres: np.ndarray
    widths: np.ndarray
    laplacian: np.ndarray

    def log_densities(self, x: np.ndarray) -> np.ndarray:
        """(N, K) logarithms of weight times density at (N, D) vectors."""
        logs = np.empty((len(x), len(self.weights)))
        for k, (weight, centre, width, laplacian) in enumerate(
            zip(self.weights, self.centres, self.widths, self.laplacian, strict=True)
        ):
            distance = np.abs(x - centre) / width
            terms = np.where(laplacian, -distance, -0.5 * distance**2)
            scale = np.where(laplacian, 2 * width, np.sqrt(2 * np.pi) * width)
            logs[:, k] = np.log(weight + TINY) + terms.sum(1) - np.log(scale).sum()
        return logs

    def shares(self, x: np.ndarray) -> np.ndarray:
        """(N, K) shares γ of the centres in (N, D) vectors, which sum to 1."""
        from scipy.special import softmax

        return softmax(self.log_densities(x), axis=1)

    def gradient(self, x: np.ndarray, shares: np.ndarray) -> np.ndarray:
        """(2 K D,) Fisher vector of a caption of the word vectors (N, D) with the (N, K) shares of the centres.

        It is the gradient of the mean log-likelihood by centres, then widths, each divided by the root of its Fisher
        information: w / σ² and 2 w / σ² of a normal coordinate, w / s² both of a Laplacian one.
        """
        distance = (x[:, None] - self.centres) / self.widths  # (N, K, D)
        by_centre = np.where(self.laplacian, np.sign(distance), distance)
        by_width = np.where(self.laplacian, np.abs(distance) - 1, (distance**2 - 1) / np.sqrt(2))
        both = np.stack([np.einsum("nk,nkd->kd", shares, part) for part in (by_centre, by_width)])
        return (both / (len(x) * np.sqrt(self.weights + TINY))[:, None]).ravel()


def fitted(x: np.ndarray, counts: np.ndarray, settings: Settings) -> Mixture:
    """The mixture of word vectors (V, D) that occur (V,) times in the training captions.

    The Gaussian one is scikit-learn's, with diagonal covariances. The hybrid one continues it by expectation
    maximisation, in which each coordinate of each centre takes the likelier of both distributions.

    Raises
    ------
    UserError : there are fewer words than centres.
    """
    from sklearn.mixture import GaussianMixture

    if len(x) < settings.centres:
        raise UserError(
            f"extractors.*.centres: {settings.centres} centres are more than the {len(x)} different words with a "
            "vector that the training captions have; take fewer centres"
        )
    model = GaussianMixture(settings.centres, covariance_type="diag", random_state=settings.seed, reg_covar=LEAST)
    model.fit(np.repeat(x, counts, axis=0))
    shape = model.means_.shape
    mixture = Mixture(model.weights_, model.means_, np.sqrt(model.covariances_), np.zeros(shape, bool))
    if settings.mixture == "gaussian":
        return mixture
    order = np.argsort(x, axis=0)
    for _ in range(settings.rounds):
        mixture = _updated(mixture.shares(x) * counts[:, None], x, order)
    return mixture


def _updated(weights: np.ndarray, x: np.ndarray, order: np.ndarray) -> Mixture:
    """The likeliest mixture of word vectors (V, D) with the (V, K) weights of the centres in them.

    Parameters
    ----------
    order : (V, D) the order of the words by each coordinate.
    """
    totals = np.maximum(weights.sum(0), TINY)
    means = (weights.T @ x) / totals[:, None]
    variances = np.maximum((weights.T @ x**2) / totals[:, None] - means**2, LEAST)
    medians, distances = np.empty_like(means), np.empty_like(means)
    ordered = np.take_along_axis(x, order, 0)
    for k, total in enumerate(totals):
        half = np.cumsum(weights[:, k][order], axis=0) >= total / 2
        medians[k] = np.take_along_axis(ordered, half.argmax(0)[None], 0)[0]
        distances[k] = weights[:, k] @ np.abs(x - medians[k]) / total
    distances = np.maximum(distances, np.sqrt(LEAST))
    # The mean log-densities at the optimum are -½ log 2πeσ² and -log 2es.
    laplacian = np.log(2 * np.e * distances) < 0.5 * np.log(2 * np.pi * np.e * variances)
    centres, widths = np.where(laplacian, medians, means), np.where(laplacian, distances, np.sqrt(variances))
    return Mixture(totals / totals.sum(), centres, widths, laplacian)


def improved(vector: np.ndarray) -> np.ndarray:
    """Signed square roots of a Fisher vector, at unit length."""
    rooted = np.sign(vector) * np.sqrt(np.abs(vector))
    return rooted / max(float(np.linalg.norm(rooted)), TINY)


def recipe(settings: Settings, given: Given) -> Recipe:
    """Recipe for the (N, D) features of captions; the index keeps the number of words without a vector.

    Raises
    ------
    UserError : a caption has no word with a vector, or there are too few training captions or words.
    """
    extraction.expect("text", given.modality, "fisher")
    return Recipe(lambda listed: _work(settings, listed), depends_on(settings), packages=("nltk", "scikit-learn"))


def _work(settings: Settings, listed: list[Item]) -> Work:
    captions = words_of(listed, words)
    vectors, facts = vectors_of(settings, captions)
    names = sorted(vectors.index)  # so that what is fitted does not depend on the order of the items
    vectors = WordVectors({word: n for n, word in enumerate(names)}, vectors.matrix[[vectors.index[w] for w in names]])
    matrix = vectors.matrix.astype(np.float64)
    rows = [[vectors.index[w] for w in caption if w in vectors.index] for caption in training(listed, captions)]
    rows = sorted(caption for caption in rows if caption)
    if len(rows) < 2:
        raise UserError("extractor fisher: fewer than two training captions have words with a vector")
    picks = np.random.default_rng(settings.seed).permutation(len(rows))[: settings.sample]
    rows = [rows[pick] for pick in np.sort(picks)]
    used, counts = np.unique(np.concatenate(rows), return_counts=True)
    mixture = fitted(matrix[used], counts, settings)
    shares = mixture.shares(matrix)

    def fisher(caption: list[int]) -> np.ndarray:
        return improved(mixture.gradient(matrix[caption], shares[caption]))

    components = None
    if settings.components is not None:
        components = _components(np.stack([fisher(caption).astype(np.float32) for caption in rows]), settings)
        facts["fisher_explained"] = float(components.explained_variance_ratio_.sum())
    facts["laplacian"] = float(mixture.laplacian.mean())
    facts["fitted_sha256"] = sha256_json([mixture.centres.tolist(), settings.components])

    def compute(batch: list[tuple[list[int], int]]) -> tuple[np.ndarray, dict[str, list[int]]]:
        array = np.stack([fisher(caption).astype(np.float32) for caption, _ in batch])
        array = array if components is None else components.transform(array)
        array = array / np.linalg.norm(array, axis=1, keepdims=True) if settings.l2 else array
        return array, {"unknown": [unknown for _, unknown in batch]}

    return Work(lambda item: rows_of(captions[item.item_id], vectors, item), compute, settings.batch_size, facts)


def _components(vectors: np.ndarray, settings: Settings) -> Any:
    """scikit-learn's principal components of Fisher vectors.

    Raises
    ------
    UserError : there are more components than vectors or dimensions.
    """
    from sklearn.decomposition import PCA

    most = min(vectors.shape)
    if settings.components > most:
        raise UserError(
            f"extractors.*.components: {settings.components} are more than {len(vectors)} training captions of "
            f"{vectors.shape[1]} numbers can have; take at most {most}, or null"
        )
    return PCA(settings.components, random_state=settings.seed).fit(vectors)
