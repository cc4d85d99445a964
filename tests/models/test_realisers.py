"""Systems that put named regions into sentences, by hand on a few boxes and captions."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from crossmodal.language.tokens import Vocabulary
from crossmodal.models import base, kulkarni, vdr
from crossmodal.models.parts.geometry import gap, offset, overlap

CAPTIONS = [  # what is in each image, with its box, attribute and confidence
    (
        "there is a white cloud above a green tree",
        [("cloud", "white", (0, 0, 10, 10)), ("tree", "green", (0, 40, 10, 60))],
    ),
    ("a white cloud above the tree", [("cloud", "white", (0, 0, 10, 10)), ("tree", "", (0, 40, 10, 60))]),
    ("a cloud is above a house", [("cloud", "", (0, 0, 10, 10)), ("house", "", (0, 40, 10, 60))]),
    ("a tree left of a house", [("tree", "", (0, 40, 10, 60)), ("house", "", (40, 40, 60, 60))]),
    ("the tree is beside the house and a dog", [("tree", "", (0, 40, 10, 60)), ("house", "", (14, 40, 60, 60))]),
]
TEXTS = [text.split() for text, _ in CAPTIONS]
WORDS = Vocabulary.build([*TEXTS, ["purple"]], 1)
PLACE = {word: i for i, word in enumerate(WORDS.words)}


def objects(*images) -> base.Objects:
    most = max(map(len, images))
    boxes, names, scores = (
        torch.zeros(len(images), most, 4),
        torch.zeros(2, len(images), most).long(),
        torch.zeros(len(images), most),
    )
    for i, regions in enumerate(images):
        for k, (name, mark, box, *score) in enumerate(regions):
            boxes[i, k] = torch.tensor(box).float()
            names[:, i, k] = torch.tensor([PLACE.get(name, 1), PLACE.get(mark, 0)])
            scores[i, k] = score[0] if score else 0.9
    return base.Objects(boxes, names[0], names[1], scores, torch.tensor([*map(len, images)]))


def fitted(module, **chosen):
    context = base.Context({}, len(WORDS), words=WORDS.words)
    model = module.Model(module.Settings(**chosen), context)
    ids, lengths = map(torch.from_numpy, WORDS.encode(TEXTS, 20))
    half = 2
    seen = objects(*(regions for _, regions in CAPTIONS))
    parts = [slice(0, half), slice(half, None)]
    model.fit(
        base.Batch({"image": base.Objects(*(x[p] for x in seen)), "text": base.Tokens(ids[p].long(), lengths[p])})
        for p in parts
    )
    again = module.Model(model.settings, base.Context({}, len(WORDS)))  # as a trained run is opened, without words
    again.load_state_dict(model.state_dict())
    return again


def say(model, *images) -> list[str]:
    ids = model.generate(base.Batch({"image": objects(*images)}), 5)
    return [" ".join(WORDS.words[word] for word in row if word) for row in ids.tolist()]


def test_boxes_by_hand():
    a, b = np.array([0.0, 0, 10, 10]), np.array([20.0, 0, 40, 10])
    assert (overlap(a, b), gap(a, b)) == (0, 10 / 40)
    assert offset(a, b) == (-25 / 40, 0)
    assert offset(b, a) == (25 / 40, 0)
    assert overlap(a, np.array([5.0, 0, 25, 10])) == 0.5
    assert overlap(np.array([2.0, 2, 4, 4]), a) == 1


def test_kulkarnis_potentials_of_boxes():
    """Below the other one by half of the box around both: above has .5, near .3 (1 - (1/3) / .35)."""
    values = kulkarni.geometry(np.array([0.0, 0, 10, 10]), np.array([0.0, 20, 10, 30]))
    least = kulkarni.LEAST
    expected = [least + 20 / 30, least, least, least, least + 0.3 * (1 - (1 / 3) / 0.35), least]
    assert values == pytest.approx(expected)
    inside = kulkarni.geometry(np.array([2.0, 2, 4, 4]), np.array([0.0, 0, 10, 10]))
    assert inside == pytest.approx([least] * 5 + [least + 1])


def test_kulkarni_says_the_labels_of_its_field():
    model = fitted(kulkarni)
    cloud, tree = ("cloud", "white", (0, 0, 10, 10)), ("tree", "green", (0, 40, 10, 60))
    house = ("house", "", (40, 40, 60, 60))
    assert say(model, [cloud, tree], [tree], [tree, house]) == [
        "there is a white cloud above a green tree",
        "there is a green tree",
        "there is a green tree left of a house",
    ]
    # No caption says `purple cloud`, so that the attribute is dropped, and no caption knows a zebra.
    assert say(model, [("cloud", "purple", (0, 0, 10, 10)), ("zebra", "", (0, 40, 10, 60))]) == ["there is a cloud"]
    assert say(model, []) == [""]


def test_kulkarnis_potentials_of_the_text():
    """`above` stands twice between cloud and tree: of six prepositions it has (2 + .1) / (2 + .6)."""
    model = fitted(kulkarni)
    (seen,) = model.seen(objects([("cloud", "white", (0, 0, 10, 10)), ("tree", "", (0, 40, 10, 60))]))
    number, value = model._preposition(seen, 0, 1)
    assert kulkarni.PREPOSITIONS[number] == "above"
    geometry = kulkarni.geometry(seen.boxes[0], seen.boxes[1])[0]
    assert value == pytest.approx(np.log(geometry) + np.log(2.1 / 2.6))
    # `white cloud` twice of three clouds.
    assert model._attribute(PLACE["white"], PLACE["cloud"]) == (PLACE["white"], pytest.approx(np.log(2.1 / 3.1)))


def test_an_n_gram_model_glues_words_in():
    """Between `above` and `tree`, `the` is likelier than nothing: captions never say `above tree`."""
    model = fitted(kulkarni, sentence="n-gram")
    said = say(model, [("cloud", "white", (0, 0, 10, 10)), ("tree", "", (0, 40, 10, 60))])[0]
    assert said == "a white cloud above the tree"
    a, the, above, tree = (PLACE[w] for w in ("a", "the", "above", "tree"))
    add, words = 0.1, len(model.counts("words"))
    assert model._log(above, the) == pytest.approx(np.log((1 + add) / (3 + add * words)))
    glued = (model._log(above, the) + model._log(the, tree)) / 2
    assert glued > max(model._log(above, tree), (model._log(above, a) + model._log(a, tree)) / 2)


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [
        ((0, 0, 10, 10), (0, 0, 40, 40), "on"),
        ((0, 0, 40, 40), (0, 0, 10, 10), "surrounds"),
        ((0, 0, 10, 10), (12, 0, 22, 10), "beside"),
        ((0, 0, 10, 10), (60, 0, 70, 10), "opposite"),
        ((0, 0, 10, 10), (0, 30, 10, 40), "above"),
        ((0, 30, 10, 40), (0, 0, 10, 10), "below"),
        ((0, 0, 10, 12), (8, 0, 18, 10), "infront"),
        ((8, 0, 18, 10), (0, 0, 10, 12), "behind"),
    ],
)
def test_relations_of_two_boxes(a, b, expected):
    assert vdr.RELATIONS[vdr.relation(np.array(a, float), np.array(b, float))] == expected


def test_the_four_templates_of_vdr():
    model = fitted(vdr)
    cloud, tree = ("cloud", "white", (0, 0, 10, 10)), ("tree", "green", (0, 40, 10, 60))
    house = ("house", "", (14, 40, 60, 60))
    assert say(model, [tree]) == ["there is a green tree"]
    assert say(model, [tree, cloud]) == ["a white cloud is above a green tree"]  # captions have the cloud first
    assert say(model, [cloud, tree, house])[0] == "a white cloud is above a green tree and a house"
    far = ("house", "", (40, 40, 60, 60))
    assert say(model, [far, tree]) == ["a green tree and a house"]  # opposite, which no caption says
    assert say(model, []) == [""]


def test_vdr_counts_what_captions_tell():
    model = fitted(vdr)
    above, beside = vdr.RELATIONS.index("above"), vdr.RELATIONS.index("beside")
    cloud, tree, house = (PLACE[w] for w in ("cloud", "tree", "house"))
    assert model.counts("edges")[cloud, above, tree] == 2
    assert model.counts("edges")[cloud, above, house] == 1
    assert model.counts("edges")[tree, beside, house] == 2 - (
        gap(np.array([0, 40, 10, 60]), np.array([40, 40, 60, 60])) >= 0.5
    )
    assert model.counts("heads") == {(cloud,): 3, (tree,): 2}
