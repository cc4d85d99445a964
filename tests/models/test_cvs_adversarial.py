"""The adversarial reconstruction beside CVS: its two sides in NumPy, who learns of whom, and what it leaves alone."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from crossmodal.models import base, cvs, cvs_adversarial
from crossmodal.models.cvs_adversarial import JUDGES

SIZES = {"image": 7, "text": 9, "audio": 4}
N, CLASSES, DIM = 10, 3, 6
LABELS = torch.arange(N) % CLASSES


def made(module=cvs_adversarial, modalities=("image", "text"), **settings):
    torch.manual_seed(0)
    context = base.Context({m: (SIZES[m],) for m in modalities}, n_classes=CLASSES)
    return module.Model(module.Settings(modalities=modalities, dim=DIM, **settings), context).double()


def batch(modalities=("image", "text")):
    generator = torch.Generator().manual_seed(1)
    inputs = {m: torch.randn(N, SIZES[m], generator=generator, dtype=torch.float64) for m in modalities}
    return base.Batch(inputs, torch.arange(N), LABELS)


def perceptron(layers, x):
    """Two layers with a rectifier between them, in NumPy."""
    first, second = (layer for layer in layers if hasattr(layer, "weight"))
    hidden = np.maximum(x @ first.weight.detach().numpy().T + first.bias.detach().numpy(), 0)
    return hidden @ second.weight.detach().numpy().T + second.bias.detach().numpy()


def by_hand(model):
    """Modality to its input vectors, those made again, and the discriminator's probabilities of both."""
    given = batch()
    with torch.no_grad():
        g = {m: model.branches[m](given.inputs[m]) for m in ("image", "text")}
        vectors = dict(zip(g, model.aligned("image", g["image"], "text", g["text"]), strict=True))
    found = {}
    for m in g:
        again = perceptron(model.generators[m], vectors[m].numpy())
        logits = [perceptron(model.judges[m].layers, x)[:, 0] for x in (g[m].numpy(), again)]
        found[m] = (g[m].numpy(), again, *(1 / (1 + np.exp(-x)) for x in logits))
    return found


@pytest.mark.parametrize("aim", ["printed", "non-saturating"])
def test_the_generators_side(aim):
    model = made(aim=aim, difference=0.7, adversary=0.3)
    terms = {name: float(value.detach()) for name, value in model.loss(batch(), 0.0, "model").items()}
    total = 0.0
    for m, (real, again, _, judged) in by_hand(model).items():
        difference = ((real - again) ** 2).mean()
        fooled = np.log(1 - judged).mean() if aim == "printed" else -np.log(judged).mean()
        assert terms[f"{m}_difference"] == pytest.approx(difference)
        assert terms[f"{m}_adversary"] == pytest.approx(fooled)
        assert terms[f"{m}_reconstruction"] == pytest.approx(0.7 * difference + 0.3 * fooled)
        total += terms[f"{m}_reconstruction"]
    assert terms["loss"] == pytest.approx(terms["classes"] + terms["triplets"] + total)
    own = cvs.Model(cvs.Settings(modalities=("image", "text"), dim=DIM), model.context).double()
    own.load_state_dict({name: value for name, value in model.state_dict().items() if name in own.state_dict()})
    assert terms["classes"] + terms["triplets"] == pytest.approx(
        float(own.loss(batch(), 0.0, "model")["loss"].detach())
    )


def test_the_discriminators_side():
    model = made()
    found = float(model.loss(batch(), 0.0, JUDGES)["loss"].detach())
    assert found == pytest.approx(
        sum(-np.log(true).mean() - np.log(1 - false).mean() for *_, true, false in by_hand(model).values())
    )


def test_each_side_trains_its_own():
    model = made()
    optimisers = model.optimisers(model.stages()[0])
    assert list(optimisers) == ["model", JUDGES]
    groups = [{id(p) for group in one.param_groups for p in group["params"]} for one in optimisers.values()]
    assert not groups[0] & groups[1]
    assert groups[0] | groups[1] == {id(p) for p in model.parameters()}
    assert groups[1] == {id(p) for p in model.judges.parameters()}
    model.loss(batch(), 0.0, JUDGES)["loss"].backward()
    assert {id(p) for p in model.parameters() if p.grad is not None} == groups[1]
    rate = made(discriminator_lr=0.5).optimisers(base.Stage("train", 1, 0.01, 1))
    assert [one.param_groups[0]["lr"] for one in rate.values()] == [0.01, 0.005]


@pytest.mark.parametrize("moving", [False, True])
def test_what_is_made_again_stands_still_unless_told(moving):
    """With generators that say nothing of their input, the encoders feel the difference through its target alone."""
    model = made(class_weight=0.0, triplet_weight=0.0, adversary=0.0, moving=moving)
    for generator in model.generators.values():
        torch.nn.init.zeros_(generator[0].weight)
    model.loss(batch(), 0.0, "model")["loss"].backward()
    felt = sum(float(p.grad.abs().sum()) for p in model.branches.parameters() if p.grad is not None)
    assert (felt > 0) == moving


def test_alone_it_is_the_whole_loss():
    model = made(class_weight=0.0, triplet_weight=0.0)
    terms = model.loss(batch(), 0.0, "model")
    torch.testing.assert_close(terms["loss"], terms["image_reconstruction"] + terms["text_reconstruction"])


def test_each_pair_of_modalities_is_made_again():
    names = ("image", "text", "audio")
    model = made(modalities=names)
    remade = model.remade(batch(names))
    assert {m: real.shape for m, (real, _) in remade.items()} == dict.fromkeys(names, (2, N, DIM))
    real, again = remade["text"]
    assert torch.equal(real[0], real[1])  # the input vectors know no partner; what they are made of again does
    assert not torch.equal(again[0], again[1])


def test_encodings_are_those_of_cvs():
    model, plain = made(), made(cvs)
    plain.load_state_dict({name: value for name, value in model.state_dict().items() if name in plain.state_dict()})
    with torch.no_grad():
        assert torch.equal(model.encode("text", batch(), "image"), plain.encode("text", batch(), "image"))


def test_a_step_of_the_discriminators_tells_better():
    model = made()
    judges = model.optimisers(base.Stage("train", 1, 0.01, 1))[JUDGES]
    losses = []
    for _ in range(60):
        loss = model.loss(batch(), 0.0, JUDGES)["loss"]
        judges.zero_grad()
        loss.backward()
        judges.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.7 * losses[0]
