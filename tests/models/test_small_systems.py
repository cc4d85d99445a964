"""Small systems against values by hand and libraries: ConSE, DeViSE, Deep-SM, semantic matching, visual words."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from crossmodal.models import base, conse, deepsm, devise, socher, visualwords
from crossmodal.models.parts.classifier import logistic

F64 = torch.float64


def drawn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=F64)


def test_two_classes_have_the_probabilities_of_one_logistic_regression():
    rng = np.random.default_rng(0)
    x, labels = rng.normal(size=(60, 3)), rng.integers(0, 2, 60)
    weight, bias = logistic(x, labels, 0.5, 200)
    assert weight.shape == (3, 2)
    from sklearn.linear_model import LogisticRegression

    expected = LogisticRegression(C=0.5, max_iter=200).fit(x, labels).predict_proba(x)
    np.testing.assert_allclose(torch.softmax(torch.from_numpy(x @ weight + bias), 1), expected, rtol=1e-9)
    with pytest.raises(ValueError, match="at least two classes"):
        logistic(x, np.zeros(60), 0.5, 200)


def test_an_image_is_a_convex_combination_of_its_likeliest_classes():
    """ConSE's encoding from its own parts: softmax over scaled features, the two likeliest classes' unit vectors."""
    rng = np.random.default_rng(1)
    labels = np.arange(90) % 3
    vectors = rng.normal(size=(3, 4))
    images = rng.normal(size=(90, 5)) + np.eye(5)[labels] * 2
    batch = base.Batch(
        {"image": torch.from_numpy(images).float(), "class": torch.from_numpy(vectors[labels]).float()},
        labels=torch.from_numpy(labels),
    )
    model = conse.Model(conse.Settings(top=2, inverse_penalty=1.0), base.Context({"image": (5,), "class": (4,)}))
    model.fit([batch])
    from sklearn.linear_model import LogisticRegression

    x = (images - images.mean(0)) / images.std(0)
    probabilities = LogisticRegression(C=1.0, max_iter=300).fit(x, labels).predict_proba(x)
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    expected = []
    for row in probabilities:
        best = np.argsort(-row)[:2]
        expected.append((row[best][:, None] * unit[best]).sum(0) / row[best].sum())
    expected = np.array(expected)
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    np.testing.assert_allclose(model.encode("image", batch, "class"), expected, atol=1e-4)
    np.testing.assert_allclose(model.encode("class", batch, "image"), unit[labels], atol=1e-6)


def test_devise_takes_the_other_classes_of_the_batch_as_negatives():
    torch.manual_seed(0)
    model = devise.Model(devise.Settings(margin=0.5), base.Context({"image": (5,), "class": (3,)})).double()
    vectors, labels = drawn(4, 3), torch.tensor([2, 0, 2, 3])
    batch = base.Batch({"image": drawn(4, 5, seed=1), "class": vectors[labels]}, labels=labels)
    made = batch.inputs["image"] @ model.map.weight.T
    unit = F.normalize(vectors, dim=1)
    expected = 0.0
    for image, label in zip(made, labels.tolist(), strict=True):
        for other in {0, 2, 3} - {label}:
            expected += max(0.0, float(0.5 - image @ unit[label] + image @ unit[other]))
    assert float(model.loss(batch, 0.0, "model")["loss"]) == pytest.approx(expected / 4)


def test_deep_sm_by_hand():
    torch.manual_seed(0)
    context = base.Context({"image": (4,), "text": (3,)}, n_classes=3)
    model = deepsm.Model(deepsm.Settings(hidden=(6, 5), dropout=0.25), context).double().eval()
    batch = base.Batch({"image": drawn(7, 4), "text": drawn(7, 3, seed=1)}, labels=torch.arange(7) % 3)
    losses = []
    for m in ("image", "text"):
        layers = [layer for layer in model.networks[m] if isinstance(layer, nn.Linear)]
        x = batch.inputs[m]
        for layer in layers[:-1]:
            x = torch.relu(x @ layer.weight.T + layer.bias)
        p = torch.softmax(x @ layers[-1].weight.T + layers[-1].bias, 1)
        losses.append(float(-p[torch.arange(7), batch.labels].log().mean()))
        torch.testing.assert_close(model.encode(m, batch, "any"), p / p.norm(dim=1, keepdim=True))
        assert [layer.out_features for layer in layers] == [6, 5, 3]
        assert [layer.p for layer in model.networks[m] if isinstance(layer, nn.Dropout)] == [0.25] * 2
    assert float(model.loss(batch, 0.0, "model")["loss"]) == pytest.approx(np.mean(losses))


def test_neighbours_are_those_of_scikit_learn(monkeypatch):
    from sklearn.neighbors import NearestNeighbors

    x, of = drawn(11, 3), drawn(9, 3, seed=1)
    monkeypatch.setattr(socher, "BLOCK", 4)
    distances, places = socher.neighbour_distances(x, of, 5)
    expected = NearestNeighbors(n_neighbors=5).fit(of.numpy()).kneighbors(x.numpy())
    np.testing.assert_allclose(distances, expected[0], atol=1e-9)
    assert (places.numpy() == expected[1]).all()
    distances, places = socher.neighbour_distances(of, of, 5, skip_self=True)
    expected = NearestNeighbors(n_neighbors=6).fit(of.numpy()).kneighbors(of.numpy())
    np.testing.assert_allclose(distances, expected[0][:, 1:], atol=1e-7)
    assert (places.numpy() == expected[1][:, 1:]).all()
    assert socher.neighbour_distances(of, of, 99, skip_self=True)[0].shape == (9, 8)
    assert socher.neighbour_distances(x, of, 99)[0].shape == (11, 9)


def test_windows_by_hand():
    """Words 1, 2, 4, 8 and one that is not there; a window of one to either side."""
    vectors = torch.tensor([[[1.0], [2], [4], [8], [16]]], dtype=F64)
    there = torch.tensor([[True, True, True, False, True]])
    without, whole = visualwords.window_means(vectors, there, 1)
    assert without[0, :, 0].tolist() == [2, 2.5, 2, 10, 0]
    torch.testing.assert_close(whole[0, :, 0], torch.tensor([1.5, 7 / 3, 3, 10, 16], dtype=F64))


def test_captions_and_images_find_each_other_by_words_and_scenes():
    torch.manual_seed(0)
    ids = torch.tensor([[2, 5, 6, 3, 0], [2, 9, 3, 0, 0]])
    batch = base.Batch(
        {"image": torch.randn(2, 4), "text": base.Tokens(ids, torch.tensor([4, 3]))}, groups=torch.arange(2)
    )
    for context in ("global", "scene", "none"):
        settings = visualwords.Settings(context=context, dim=3, visual_dim=2, scenes=2, epochs=1)
        model = visualwords.Model(settings, base.Context({"image": (4,)}, vocabulary_size=10))
        model.fit([batch])
        image, text = (model.encode(m, batch, "") for m in ("image", "text"))
        if context == "none":
            assert not image.any()
            assert not text.any()
        elif context == "global":
            told = model.told.weight[:, 3:]
            torch.testing.assert_close(text, torch.stack([told[[5, 6]].mean(0), told[9]]))
            x = (batch.inputs["image"] - batch.inputs["image"].mean(0)) / batch.inputs["image"].std(0)
            torch.testing.assert_close(image, x @ model.image.weight.T + model.image.bias)
        else:
            mean = torch.stack([model.words.weight[[5, 6]].mean(0), model.words.weight[9]])
            torch.testing.assert_close(text, torch.softmax(mean @ model.told.weight.T, 1))
            assert sorted(image.argmax(1).tolist()) == [0, 1]  # two images, two scenes
            assert image.sum(1).tolist() == [1, 1]
