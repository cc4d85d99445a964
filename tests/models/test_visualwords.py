"""Word embeddings with visual context: equations 9.1 to 9.4 literally, and words that look alike."""

from __future__ import annotations

import numpy as np
import torch

from crossmodal.models import base, visualwords

IDS = torch.tensor([[5, 9, 1, 7, 6, 0, 0], [8, 5, 9, 6, 7, 5, 4], [4, 4, 0, 0, 0, 0, 0]])


def made(context: str, **settings) -> visualwords.Model:
    torch.manual_seed(0)
    chosen = visualwords.Settings(context=context, dim=6, visual_dim=4, scenes=3, **settings)
    return visualwords.Model(chosen, base.Context({"image": (5,)}, vocabulary_size=10)).double()


def window(row: list[int], t: int, with_itself: bool) -> list[int]:
    around = [k for k in range(max(0, t - 2), min(len(row), t + 3)) if with_itself or k != t]
    return [row[k] for k in around if row[k] >= visualwords.SPECIAL]


def test_loss_with_global_context_is_equations_9_1_to_9_3() -> None:
    model = made("global")
    images = torch.randn(3, 5, dtype=torch.float64)
    terms = []
    for i, row in enumerate(IDS.tolist()):
        for t, word in enumerate(row):
            if word < visualwords.SPECIAL:
                continue
            near = window(row, t, with_itself=False)
            local = model.words.weight[near].mean(0) if near else torch.zeros(6, dtype=torch.float64)
            f = torch.cat([local, model.image.weight @ images[i] + model.image.bias])
            scores = model.told.weight @ f
            terms.append(-(scores[word] - torch.logsumexp(scores, 0)))
    torch.testing.assert_close(model.loss_of(images, IDS, None), torch.stack(terms).mean())


def test_loss_with_scenes_is_equation_9_4() -> None:
    model = made("scene")
    scenes = torch.tensor([2, 0, 1])
    terms = []
    for i, row in enumerate(IDS.tolist()):
        for t, word in enumerate(row):
            if word >= visualwords.SPECIAL:
                hidden = model.words.weight[window(row, t, with_itself=True)].mean(0)
                terms.append(-torch.log_softmax(model.told.weight @ hidden, 0)[scenes[i]])
    torch.testing.assert_close(model.loss_of(torch.zeros(3, 5).double(), IDS, scenes), torch.stack(terms).mean())


def test_words_that_look_alike_come_together() -> None:
    """Two pairs of words stand in the same sentences; only images tell which two look alike."""
    rng = np.random.default_rng(0)
    kinds = rng.integers(0, 4, 600)
    images = torch.from_numpy(np.eye(5)[kinds % 2] + 0.1 * rng.normal(size=(600, 5))).float()
    ids = torch.from_numpy(np.stack([np.full(600, 8), 4 + kinds, np.full(600, 9)], 1))
    found = {}
    for context in ("global", "scene", "none"):
        torch.manual_seed(0)
        settings = visualwords.Settings(context=context, dim=8, visual_dim=4, scenes=2, epochs=30, frequent=1)
        model = visualwords.Model(settings, base.Context({"image": (5,)}, vocabulary_size=10))
        batch = base.Batch({"image": images, "text": base.Tokens(ids, torch.full((600,), 3))})
        model.fit([batch])
        v = torch.nn.functional.normalize(model.vectors().detach()[4:8], dim=1)
        found[context] = float((v[0] @ v[2] + v[1] @ v[3] - v[0] @ v[1] - v[2] @ v[3]) / 2)
    assert found["global"] > 0.3
    assert found["scene"] > 0.3
    assert abs(found["none"]) < 0.3
