from __future__ import annotations

import pytest
import torch

from crossmodal.models import zeroshot
from crossmodal.models.base import Batch, Context


def test_scores_are_the_cosines_of_the_given_vectors():
    model = zeroshot.Model(zeroshot.Settings(), Context({"image": (2,), "text": (2,)}))
    batch = Batch({"image": torch.tensor([[3.0, 4.0], [0.0, 2.0]]), "text": torch.tensor([[5.0, 0.0]])})
    model.fit([batch])
    scores = model.score(model.encode("image", batch, "text"), model.encode("text", batch, "image"))
    torch.testing.assert_close(scores, torch.tensor([[0.6], [0.0]]))
    assert not model.state_dict()


def test_features_of_different_models_are_refused():
    with pytest.raises(ValueError, match=r"different dimensions \(image 2, text 3\)"):
        zeroshot.Model(zeroshot.Settings(), Context({"image": (2,), "text": (3,)}))
