"""CCA, PLS, SM and SCM: against scikit-learn and literal dual solutions; what is saved is what is loaded."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.cross_decomposition import CCA
from sklearn.linear_model import LogisticRegression
from sklearn.metrics.pairwise import pairwise_kernels, rbf_kernel

from crossmodal.core import registry
from crossmodal.models import base, cca
from crossmodal.models.parts.classifier import logistic
from crossmodal.models.parts.closed_form import gathered

N, P, Q, CLASSES = 120, 7, 5, 4


def related(n: int = N, seed: int = 0) -> dict[str, np.ndarray]:
    """Two modalities that share three hidden directions, with labels that depend on them."""
    rng = np.random.default_rng(seed)
    hidden = rng.normal(size=(n, 3))
    maps = np.random.default_rng(9)
    x = hidden @ maps.normal(size=(3, P)) + 0.5 * rng.normal(size=(n, P)) + 3
    y = hidden @ maps.normal(size=(3, Q)) + 0.5 * rng.normal(size=(n, Q)) - 1
    return {"image": x, "text": y, "labels": (hidden[:, 0] > 0) * 2 + (hidden[:, 1] > 0)}


def batch_of(data: dict[str, np.ndarray]) -> base.Batch:
    inputs = {m: torch.from_numpy(x).float() for m, x in data.items() if m != "labels"}
    return base.Batch(inputs, labels=torch.from_numpy(data["labels"]))


def fitted(name: str, data: dict[str, np.ndarray], **settings) -> base.Model:
    module = registry.module("models", name)
    shapes = {m: x.shape[1:] for m, x in data.items() if m != "labels"}
    model = module.Model(module.Settings(**settings), base.Context(shapes, n_classes=CLASSES))
    whole = batch_of(data)
    halves = [base.Batch({m: x[part] for m, x in whole.inputs.items()}, labels=whole.labels[part])
              for part in (slice(0, 50), slice(50, None))]  # fmt: skip
    model.fit(halves)
    return model.eval()


def centred(data: dict[str, np.ndarray]) -> list[np.ndarray]:
    scaled = [np.float32(data[m]).astype(float) for m in ("image", "text")]
    return [(x - x.mean(0)) / x.std(0) for x in scaled]


def test_canonical_directions_are_those_of_scikit_learn() -> None:
    x, y = centred(related())
    of_x, of_y, correlations = cca.canonical(x, y, 3)
    theirs = CCA(3, scale=False, max_iter=5000, tol=1e-12).fit(x, y)
    u, v = theirs.transform(x, y)
    expected = [np.corrcoef(u[:, k], v[:, k])[0, 1] for k in range(3)]
    np.testing.assert_allclose(correlations, expected, atol=1e-6)
    for k in range(3):
        assert abs(np.corrcoef(x @ of_x[:, k], u[:, k])[0, 1]) == pytest.approx(1, abs=1e-6)
        assert np.corrcoef(x @ of_x[:, k], y @ of_y[:, k])[0, 1] == pytest.approx(correlations[k])


@pytest.mark.parametrize("standardise", [True, False])
def test_shares_that_sum_to_one_have_no_further_direction_in_single_precision(standardise: bool) -> None:
    """Stored as float32 their null direction has a singular value of about 1e-8 of the largest, which is none.

    The reference takes the exact shares without the last one, which follows from the others, in double precision.
    """
    data = related(400)
    logits = 0.5 * data["image"] + 0.2 * np.random.default_rng(5).normal(size=(400, P))
    exact = np.exp(logits - logits.max(1, keepdims=True))
    exact /= exact.sum(1, keepdims=True)
    stored = {**data, "image": np.float32(exact), "text": np.hstack([data["text"], data["text"] ** 2])}
    module = registry.module("models", "cca")
    shapes = {"image": (P,), "text": (2 * Q,)}
    model = module.Model(module.Settings(dim=32, standardise=standardise), base.Context(shapes))
    model.fit([batch_of(stored)])
    x, y = exact[:, :-1], np.float32(stored["text"]).astype(float)
    u, v = ((z - z.mean(0)) / np.sqrt(len(z)) for z in (x, y))
    white = [z @ np.linalg.inv(np.linalg.cholesky(z.T @ z)).T for z in (u, v)]
    left, rho, _ = np.linalg.svd(white[0].T @ white[1], full_matrices=False)
    assert len(rho) == P - 1
    found = [model.features(m, batch_of(stored)) @ model.get_buffer(f"{m}_to_{o}")
             for m, o in (("image", "text"), ("text", "image"))]  # fmt: skip
    assert found[0].shape == (400, P - 1)
    ours, theirs = (z.double().numpy() for z in found)
    np.testing.assert_allclose(np.diag(ours.T @ theirs) / 400, rho, atol=1e-4)
    for k in range(3):
        assert abs(np.corrcoef(ours[:, k], white[0] @ left[:, k])[0, 1]) == pytest.approx(1, abs=1e-4)


def test_regularised_directions_solve_the_generalised_eigenproblem() -> None:
    """Cxy (Cyy + κI)⁻¹ Cyx w = ρ² (Cxx + κI) w, and wᵀ(Cxx + κI)w = 1."""
    x, y = centred(related())
    of_x, of_y, rho = cca.canonical(x, y, 4, regularisation=0.3)
    cxx, cyy, cxy = x.T @ x / N, y.T @ y / N, x.T @ y / N
    cxx += 0.3 * np.trace(cxx) / P * np.eye(P)
    cyy += 0.3 * np.trace(cyy) / Q * np.eye(Q)
    np.testing.assert_allclose(cxy @ np.linalg.solve(cyy, cxy.T @ of_x), cxx @ of_x * rho**2, atol=1e-10)
    np.testing.assert_allclose(of_x.T @ cxx @ of_x, np.eye(4), atol=1e-10)
    np.testing.assert_allclose(of_y.T @ cyy @ of_y, np.eye(4), atol=1e-10)
    np.testing.assert_allclose(np.diag(of_x.T @ cxy @ of_y), rho, atol=1e-10)


def test_components_are_an_analysis_of_the_principal_components() -> None:
    x, y = centred(related())
    _, _, rho = cca.canonical(x, y, 9, components=4)
    left = np.linalg.svd(x, full_matrices=False)[0][:, :4]
    right = np.linalg.svd(y, full_matrices=False)[0][:, :4]
    np.testing.assert_allclose(rho, np.linalg.svd(left.T @ right)[1], atol=1e-12)


def test_kernel_analysis_is_the_dual_one() -> None:
    """With every item a landmark: α, β of the largest αᵀKxKyβ under αᵀ(Kx² + NκKx)α = βᵀ(Ky² + NκKy)β = 1."""
    data = related(40)
    model = fitted("cca", data, kernel="rbf", dim=2, regularisation=0.2, width=0.8)
    x, y = centred(data)
    kernels, ridges = [], []
    for z in (x, y):
        gamma = 1 / (0.8 * cca.median_distance(z, "rbf")) ** 2
        kernel = rbf_kernel(z, gamma=gamma)
        centring = np.eye(40) - 1 / 40
        kernel = centring @ kernel @ centring
        kernels.append(kernel)
        ridges.append(kernel @ kernel + 0.2 * np.trace(kernel) / 40 * kernel)  # N κ, κ = .2 trace / N over 40 features
    kx, ky = kernels
    left, right = (np.linalg.pinv(r, rcond=1e-12, hermitian=True) for r in ridges)
    rho = np.sort(np.sqrt(np.abs(np.linalg.eigvals(left @ kx @ ky @ right @ ky @ kx))))[::-1]
    batch = batch_of(data)
    u, v = ((model.features(m, batch) @ model.get_buffer(f"{m}_to_{o}")).double().numpy()
            for m, o in (("image", "text"), ("text", "image")))  # fmt: skip
    np.testing.assert_allclose(np.diag(u.T @ v) / 40, rho[:2], atol=2e-4)


def test_kernels_of_a_model_are_those_of_scikit_learn() -> None:
    data = related(30)
    for kernel in ("rbf", "laplacian", "cosine"):
        model = fitted("cca", data, kernel=kernel, dim=2, regularisation=0.1)
        mapped = model.features("image", batch_of(data)).double()
        x = centred(data)[0]
        gamma = {} if kernel == "cosine" else {"gamma": float(model.get_buffer("image_gamma"))}
        expected = pairwise_kernels(x, metric=kernel, **gamma)
        centring = np.eye(30) - 1 / 30
        np.testing.assert_allclose(mapped @ mapped.T, centring @ expected @ centring, atol=2e-3)


@pytest.mark.parametrize("form", ["svd", "canonical"])
def test_first_direction_of_pls_has_the_largest_covariance(form: str) -> None:
    data = related()
    model = fitted("pls", data, form=form, dim=3)
    x, y = centred(data)
    u, _, vt = np.linalg.svd(x.T @ y)
    for name, expected in (("image_to_text", u[:, 0]), ("text_to_image", vt[0])):
        ours = model.get_buffer(name)[:, 0].double().numpy()
        assert abs(ours @ expected) / np.linalg.norm(ours) == pytest.approx(1, abs=1e-5)


def test_semantic_matching_compares_class_probabilities() -> None:
    data = related()
    model = fitted("sm", data, inverse_penalty=0.5)
    x, _ = centred(data)
    expected = LogisticRegression(C=0.5, max_iter=300).fit(x, data["labels"]).predict_proba(x)
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    np.testing.assert_allclose(model.encode("image", batch_of(data), "text"), expected, atol=1e-4)


def test_semantic_matching_of_two_classes() -> None:
    data = related()
    data["labels"] = data["labels"] % 2
    model = fitted("sm", data)
    x, _ = centred(data)
    expected = LogisticRegression(C=0.01, max_iter=300).fit(x, data["labels"]).predict_proba(x)
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    np.testing.assert_allclose(model.encode("image", batch_of(data), "text"), expected, atol=1e-4)


def test_without_labels_semantic_matching_says_what_it_needs() -> None:
    with pytest.raises(ValueError, match="labels"):
        logistic(np.ones((3, 2)), None, 1.0, 10)


def test_semantic_correlation_matching_stands_on_cca() -> None:
    data = related()
    common = {"dim": 3, "regularisation": 0.1}
    below, model = fitted("cca", data, **common), fitted("scm", data, **common)
    batch = batch_of(data)
    projected = below.features("text", batch) @ below.get_buffer("text_to_image")
    found = LogisticRegression(C=1.0, max_iter=300).fit(projected, data["labels"]).predict_proba(projected)
    found /= np.linalg.norm(found, axis=1, keepdims=True)
    np.testing.assert_allclose(model.encode("text", batch, "image"), found, atol=1e-3)


@pytest.mark.parametrize("name", ["cca", "pls", "sm", "scm"])
def test_pairs_that_belong_together_are_found_and_come_back_from_a_file(name: str, tmp_path) -> None:
    from safetensors.torch import load_file, save_file

    data = {**related(), "audio": related(seed=0)["image"][:, :4] ** 3}
    modalities = ("image", "text", "audio")
    model = fitted(name, data, modalities=modalities)
    save_file(model.state_dict(), tmp_path / "model.safetensors")
    module = registry.module("models", name)
    fresh = module.Model(model.settings, model.context).eval()
    fresh.load_state_dict(load_file(tmp_path / "model.safetensors"))
    batch = batch_of({**related(60, seed=1), "audio": related(60, seed=1)["image"][:, :4] ** 3})
    for one, other in (("image", "text"), ("audio", "text"), ("image", "audio")):
        encoded = [fresh.encode(a, batch, b) for a, b in ((one, other), (other, one))]
        torch.testing.assert_close(encoded[0], model.encode(one, batch, other), rtol=0, atol=0)
        torch.testing.assert_close(encoded[0].norm(dim=1), torch.ones(60))
        scores = encoded[0] @ encoded[1].T
        ranks = (scores > scores.diagonal()[:, None]).sum(1)
        assert ranks.float().mean() < 18  # 29.5 by chance


def test_constant_features_are_left_alone() -> None:
    data = related()
    data["image"][:, 2] = 7.0
    for name in ("cca", "pls", "sm", "scm"):
        assert torch.isfinite(fitted(name, data).encode("image", batch_of(data), "text")).all()


def test_gathered_keeps_the_order_of_the_batches() -> None:
    whole = batch_of(related())
    parts = [base.Batch({m: x[a:b] for m, x in whole.inputs.items()}) for a, b in ((0, 7), (7, N))]
    values, labels = gathered(parts, ("text",))
    assert labels is None
    np.testing.assert_array_equal(values["text"], whole.inputs["text"].double().numpy())
