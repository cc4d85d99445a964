"""Feature maps, and regions with their places and names."""

from __future__ import annotations

import logging

import numpy as np
import pandas as pd
import pytest
import torch

from crossmodal.core import registry
from crossmodal.core.errors import UserError
from crossmodal.corpus.forms import form
from crossmodal.corpus.forms.base import Source
from crossmodal.corpus.opening import load
from crossmodal.features.engine import store
from crossmodal.language.tokens import PAD, UNKNOWN
from crossmodal.models.base import Batch
from tests.corpus.forms.conftest import ARRAYS, REGIONS

BOXES = {"a": [[0, 0, 100, 50], [50, 25, 200, 100]], "b": [[10, 10, 20, 20]], "c": [[0, 0, 40, 80], [0, 40, 40, 80]]}
SIZES = {"a": [200, 100], "b": [40, 20], "c": [80, 80]}


@pytest.fixture
def placed(tiny):
    """Rewrites the index of the regions with boxes in pixels and, if wanted, the sizes of the pictures."""

    def write(**without):
        index = pd.DataFrame([(key, *REGIONS[key]) for key in "abc"])
        index.columns = ["item_id", "class", "attribute", "confidence"]
        index = index.assign(count=[2, 1, 2], boxes=[BOXES[k] for k in "abc"], size=[SIZES[k] for k in "abc"])
        stem = tiny / "features" / "image.regions"
        np.save(f"{stem}.npy", ARRAYS["regions"])
        store.save(stem, index.drop(columns=[*without]), {"extractor": "made by hand"})
        return tiny

    return write


def gathered(folder, name, **options):
    reads = {"image": name, "text": "tokens"}
    corpus = load(folder, "full", reads, {"image": "regions"}, min_count=1, **options)
    return corpus, corpus.inputs["image"].gather(torch.tensor([2, 0, 1]))


def source_of(folder, name):
    """What a form makes inputs of that are not in the data set, with the words of those that are."""
    corpus, _ = gathered(folder, name)
    return Source(form=form(name), folder=folder, modality="image", settings={}, vocabulary=corpus.vocabulary)


def test_boxes_are_shares_of_the_picture(placed):
    _, regions = gathered(placed(), "boxed_regions")
    assert regions.features[1].tolist() == [[0, 1], [2, 3]]
    assert regions.counts.tolist() == [2, 2, 1]
    torch.testing.assert_close(regions.boxes[0], torch.tensor([[0, 0, 0.5, 1], [0, 0.5, 0.5, 1]]))
    torch.testing.assert_close(regions.boxes[1], torch.tensor([[0, 0, 0.5, 0.5], [0.25, 0.25, 1, 1]]))
    torch.testing.assert_close(regions.boxes[2], torch.tensor([[0.25, 0.5, 0.5, 1], [0.0, 0, 0, 0]]))
    assert regions.names is None
    moved = Batch({"image": regions}).to(torch.device("cpu")).inputs["image"]
    assert type(moved) is type(regions)
    assert moved.names is None


def test_without_sizes_the_outermost_edges_stand_in_and_a_warning_says_so(placed, caplog):
    with caplog.at_level(logging.WARNING):
        _, regions = gathered(placed(size=None), "boxed_regions")
    assert "no sizes of pictures" in caplog.text
    torch.testing.assert_close(regions.boxes[0], torch.tensor([[0, 0, 1, 1.0], [0, 0.5, 1, 1]]))


def test_regions_without_boxes_are_refused(tiny):
    with pytest.raises(UserError, match=r"image\.regions\.npy: its index has no boxes of regions"):
        gathered(tiny, "boxed_regions")


def test_names_of_regions_are_words_of_the_vocabulary(placed):
    corpus, regions = gathered(placed(), "named_regions")
    words = corpus.vocabulary.words
    said = [[[words[i] for i in name if i] for name in image] for image in regions.names.tolist()]
    # "box" names regions of both the test image and a training image; the car's second region has no name.
    assert said == [[["box"], ["box"]], [["kite"], ["box"]], [["car"], []]]
    assert regions.names.dtype == torch.int64


def test_placed_regions_from_outside(placed):
    source = source_of(placed(), "named_regions")
    columns = {"count": [1], "boxes": [[[0, 0, 5, 5]]], "size": [[10, 20]], "class": [["kite"]]}
    given = source.form.of_features(source, np.ones((1, 2, 3), np.float32), columns)
    torch.testing.assert_close(given.boxes, torch.tensor([[[0, 0, 0.5, 0.25], [0, 0, 0, 0]]]))
    assert given.names.tolist() == [[[source.vocabulary.words.index("kite"), 0, 0], [0, 0, 0]]]


def test_three_words_of_a_name_are_read(placed):
    source = source_of(placed(), "named_regions")
    columns = {"count": [1], "boxes": [[[0, 0, 5, 5]]], "size": [[10, 20]], "class": [["red box kite car"]]}
    given = source.form.of_features(source, np.ones((1, 1, 3), np.float32), columns)
    assert [source.vocabulary.words[i] for i in given.names[0, 0]] == ["red", "box", "kite"]


def test_objects_are_named_regions_the_most_confident_first(placed):
    corpus, objects = gathered(placed(), "objects")
    words = corpus.vocabulary.words
    assert objects.counts.tolist() == [2, 2, 1]
    assert [[words[i] for i in row] for row in objects.classes.tolist()] == [
        ["box"] * 2,
        ["box", "kite"],
        ["car", words[0]],
    ]
    assert [[words[i] for i in row] for row in objects.attributes.tolist()] == [
        [words[0], "red"], [words[0], "red"], ["red", words[0]],
    ]  # fmt: skip
    torch.testing.assert_close(objects.scores, torch.tensor([[0.4, 0.2], [0.75, 0.25], [0.5, 0]]))
    assert objects.boxes.tolist() == [
        [[0, 0, 40, 80], [0, 40, 40, 80]], [[50, 25, 200, 100], [0, 0, 100, 50]], [[10, 10, 20, 20], [0, 0, 0, 0]],
    ]  # fmt: skip
    assert "image" not in corpus.context.shapes
    assert registry.form("objects", "image")["array"] == "regions"


def test_objects_from_outside_and_none_at_all(placed):
    source = source_of(placed(), "objects")
    columns = {
        "boxes": [[[0, 0, 5, 5], [1, 1, 2, 2], [2, 2, 4, 4]], [[0, 0, 9, 9]]],
        "class": [["Kite", "zebra", ""], [""]],
        "attribute": [[None, "red", "red"], [""]],
        "confidence": [[0.5, 0.75, 1.0], [1.0]],
    }
    given = source.form.of_features(source, np.ones((2, 3, 3), np.float32), columns)
    place = source.vocabulary.words.index
    assert given.counts.tolist() == [2, 0]
    assert given.classes.tolist() == [[UNKNOWN, place("kite")], [PAD, PAD]]
    assert given.attributes.tolist() == [[place("red"), PAD], [PAD, PAD]]
    columns = {name: column[1:] for name, column in columns.items()}
    bare = source.form.of_features(source, np.ones((1, 1, 3), np.float32), columns)
    assert bare.boxes.shape == (1, 1, 4)  # at least one place, of padding
    with pytest.raises(UserError, match="its index has no column 'boxes'"):
        gathered(placed(boxes=None), "objects")


def test_a_map_is_read_as_regions_are_from_features_of_its_own(tiny):
    assert registry.form("grid", "image")["array"] == "grid"
    for name in ("boxed_regions", "named_regions"):
        assert registry.form(name, "image")["array"] == "regions"
    maps = load(tiny, "full", {"image": "grid"}, {"image": "regions"})
    assert maps.context.shapes == {"image": (2, 2)}
    assert maps.inputs["image"].gather(torch.tensor([1])).features.tolist() == [[[4, 5], [6, 7]]]
