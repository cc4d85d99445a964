"""What every model has: batches on devices, contexts in manifests, weights of another run, and shared optimisers."""

from __future__ import annotations

from dataclasses import fields
from typing import Literal

import numpy as np
import pytest
import torch
from pydantic import Field
from torch import nn

from crossmodal.models import base
from crossmodal.models.parts import labelled, negatives
from crossmodal.models.parts.closed_form import ClosedForm
from crossmodal.models.parts.closed_form import Settings as ClosedSettings
from crossmodal.models.parts.optimisers import Chosen, others


def test_a_batch_moves_as_a_whole():
    """To the device `meta`, which has shapes and no values."""
    ids = base.Tokens(torch.ones(2, 3, dtype=torch.int64), torch.tensor([3, 2]))
    regions = base.Regions(torch.ones(2, 4, 5), torch.tensor([4, 1]))
    inner = base.Batch({"image": torch.ones(2, 6)}, labels=torch.tensor([0, 1]))
    batch = base.Batch(
        {"image": regions, "text": ids}, torch.arange(2), torch.arange(2), {"image": regions}, inner,
        {"image": torch.zeros(2, 3)},
    )  # fmt: skip
    moved = batch.to(torch.device("meta"))
    assert {field.name for field in fields(moved)} == {field.name for field in fields(batch)}
    assert type(moved.inputs["text"]) is base.Tokens
    tensors = [*moved.inputs["image"], *moved.inputs["text"], moved.groups, moved.labels, *moved.unannotated["image"],
               moved.source.inputs["image"], moved.source.labels, moved.second_form["image"]]  # fmt: skip
    assert {str(tensor.device) for tensor in tensors} == {"meta"}
    assert moved.inputs["image"].features.shape == (2, 4, 5)
    assert str(batch.groups.device) == "cpu"
    assert base.Batch({}).to(torch.device("meta")).source is None


def test_the_sizes_of_the_data_come_back_from_a_manifest():
    source = base.Context({"image": (9,)}, n_classes=4)
    context = base.Context(
        {"image": (36, 2048), "text": (7,)}, 12, 5, (1, 3), source=source, groups=torch.tensor([4, 8]), n_concepts=6
    )
    record = base.described(context)
    assert record == {
        "shapes": {"image": [36, 2048], "text": [7]}, "vocabulary_size": 12, "n_classes": 5, "trained": [1, 3],
        "n_groups": 2, "n_concepts": 6,
        "source": {"shapes": {"image": [9]}, "vocabulary_size": 0, "n_classes": 4, "trained": [], "n_groups": 0,
                   "n_concepts": 0, "source": None},
    }  # fmt: skip
    again = base.context_of(record)
    assert base.described(again) == record
    assert again.shapes["image"] == (36, 2048)
    assert again.source.shapes == {"image": (9,)}
    mean, deviation = again.moments["image"]
    assert (mean.shape, mean.unique().tolist(), deviation.unique().tolist()) == ((2048,), [0], [1])
    assert base.source_of(context) is source
    with pytest.raises(ValueError, match="name it as the experiment's `source`"):
        base.source_of(source)


class Linear(base.Model):
    def __init__(self, settings, context, width=2):
        super().__init__(settings, context)
        self.layer = nn.Linear(width, 1)


def test_weights_of_another_run_fit_by_name_and_shape():
    one, other = (Linear(base.Schedule(), base.Context({})) for _ in range(2))
    one.inherit(other.state_dict())
    assert torch.equal(one.layer.weight, other.layer.weight)
    for odd in (Linear(base.Schedule(), base.Context({}), 3).state_dict(), {"layer.weight": torch.zeros(1, 2)}, {}):
        with pytest.raises(ValueError, match="its weights have other shapes"):
            one.inherit(odd)


def test_vectors_are_compared_by_inner_products_unless_a_model_scores_otherwise():
    class Other(Linear):
        def score(self, queries, gallery):
            return -torch.cdist(queries, gallery)

    vectors, sets = torch.ones(3, 2), torch.ones(3, 4, 2)
    model, other = (kind(base.Schedule(), base.Context({})) for kind in (Linear, Other))
    assert model.compares_vectors(vectors, vectors)
    assert not model.compares_vectors(vectors, sets)
    assert not other.compares_vectors(vectors, vectors)
    assert model.score(torch.tensor([[1.0, 2.0]]), torch.tensor([[3.0, 4.0], [0.0, 1.0]])).tolist() == [[11, 2]]


def test_random_numbers_are_asked_for_by_their_name():
    class Settings(base.Settings):
        words: str = "seeded"
        weights: str = "seeded"
        dim: int = 3

    assert Settings().unasked == ["words", "weights"]
    assert Settings(words="seeded", weights="file").unasked == []
    assert Settings(words="seeded").unasked == ["weights"]


class ManySettings(base.Schedule):
    optimiser: Literal["adam", "adadelta", "sgd", "nesterov"] = "adam"
    weight_decay: float = Field(0.25)


class Many(Chosen):
    def __init__(self, settings):
        super().__init__(settings, base.Context({}))
        self.one, self.two, self.three = (nn.Parameter(torch.zeros(n)) for n in (1, 2, 3))

    def parts(self):
        small = {"params": [self.two], "factor": 0.5, "weight_decay": 0.0}
        return [{"params": others(self.parameters(), small), "factor": 2.0}, small]


@pytest.mark.parametrize("name", ["adam", "adadelta", "sgd", "nesterov"])
def test_an_optimiser_is_chosen_with_a_rate_for_each_part(name):
    (optimiser,) = Many(ManySettings(optimiser=name)).optimisers(base.Stage("one", 1, 0.5, 1)).values()
    first, second = optimiser.param_groups
    assert [tuple(p.shape) for p in first["params"]] == [(1,), (3,)]
    assert [tuple(p.shape) for p in second["params"]] == [(2,)]
    assert (first["lr"], second["lr"], first["weight_decay"], second["weight_decay"]) == (1.0, 0.25, 0.25, 0.0)
    expected = {
        "adam": (torch.optim.Adam, {"betas": (0.9, 0.999)}),
        "adadelta": (torch.optim.Adadelta, {"rho": 0.95, "eps": 1e-8}),  # TensorFlow's
        "sgd": (torch.optim.SGD, {"momentum": 0.9, "nesterov": False}),
        "nesterov": (torch.optim.SGD, {"momentum": 0.9, "nesterov": True}),
    }
    kind, options = expected[name]
    assert type(optimiser) is kind
    assert {key: first[key] for key in options} == options


def test_negatives_are_drawn_without_repetition_of_those_that_can_be():
    possible = torch.tensor([[False, True, True, True], [False, False, True, False], [False] * 4])
    torch.manual_seed(0)
    seen = [set(), set(), set()]
    for _ in range(80):
        found = negatives.drawn(possible, 2)
        assert not (found & ~possible).any()
        assert found.sum(1).tolist() == [2, 1, 0]
        for row, places in zip(seen, found, strict=True):
            row.add(tuple(places.nonzero().flatten().tolist()))
    assert seen == [{(1, 2), (1, 3), (2, 3)}, {(2,)}, {()}]
    assert torch.equal(negatives.drawn(possible, 9), possible)


def test_the_hardest_of_those_that_can_be_and_hinges_where_there_is_one():
    scores = torch.tensor([[5.0, 1.0, 3.0], [1.0, 2.0, 2.5]])
    possible = torch.tensor([[False, True, True], [False, False, False]])
    places, available = negatives.hardest(scores, possible)
    assert int(places[0]) == 2
    assert available.tolist() == [True, False]
    found = negatives.hinges(
        torch.tensor([1.0, 1.0, 3.0]), torch.tensor([0.75, 5.0, 1.0]), torch.tensor([1, 0, 1]), 0.5
    )
    assert found.tolist() == [0.25, 0, 0]  # .5 - 1 + .75; none; below zero


def test_labels_of_one_class_and_of_several():
    one, several = torch.tensor([1, 3, 1]), torch.tensor([[1.0, 1, 0, 0], [0, 1, 0, 1], [0, 0, 1, 0]])
    assert labelled.same_class(one).tolist() == [[True, False, True], [False, True, False], [True, False, True]]
    assert labelled.same_class(several).tolist() == [[True, True, False], [True, True, False], [False, False, True]]
    assert labelled.targets(one) is one
    assert labelled.targets(several)[0].tolist() == [0.5, 0.5, 0, 0]
    assert labelled.ones(one, 4).tolist() == [[0, 1, 0, 0], [0, 0, 0, 1], [0, 1, 0, 0]]
    assert labelled.ones(several, 3).tolist() == several[:, :3].tolist()
    trained = torch.tensor([1, 3])
    assert labelled.places(one, trained).tolist() == [0, 1, 0]
    assert labelled.places(several, trained).tolist() == [[1, 0], [1, 1], [0, 0]]


def test_closed_forms_scale_what_varies_in_training_and_load_what_they_have_kept():
    x = np.array([[1.0, 7.0, 2.0], [3.0, 7.0, 2.0 + 1e-7], [5.0, 7.0, 2.0]])  # the last varies by rounding alone
    for standardise, first in ((True, [-(1.5**0.5), 0, 1.5**0.5]), (False, [-2, 0, 2])):
        model = ClosedForm(ClosedSettings(standardise=standardise), base.Context({"image": (3,)}))
        scaled = model.scaled("image", x)
        assert scaled[:, 0] == pytest.approx(first)  # the deviation of 1, 3, 5 is the root of 8 / 3
        assert np.abs(scaled[:, 1:]).max() < 1e-6
        batch = base.Batch({"image": torch.tensor(x).float()})
        np.testing.assert_allclose(model.features("image", batch), scaled, atol=1e-6)
        again = ClosedForm(ClosedSettings(), base.Context({"image": (3,)}))
        again.load_state_dict(model.state_dict())
        assert torch.equal(again.features("image", batch), model.features("image", batch))
        outer = nn.ModuleDict({"a": ClosedForm(ClosedSettings(), base.Context({}))})
        outer.load_state_dict({f"a.{name}": value for name, value in model.state_dict().items()})
        assert torch.equal(outer["a"].get_buffer("image_mean"), model.get_buffer("image_mean"))
