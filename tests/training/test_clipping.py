"""What `clip` bounds in a step of the loop."""

import pytest
import torch

from crossmodal.corpus.opening import load
from crossmodal.models import a3vse, base, mfsr, vsepp
from crossmodal.training import loop
from tests.prepared import BY_RECALL

READS = {"image": "vector", "text": "tokens"}


class Plain(vsepp.Model):
    """Moves by its gradient itself."""

    def optimisers(self, stage):
        return {"model": torch.optim.SGD(self.parameters(), lr=1.0)}


def moved(prepared, monkeypatch, tmp_path, **settings):
    """All that one step changes in the weights, and the norm that the history tells."""
    monkeypatch.chdir(tmp_path)
    corpus = load(prepared / "toy", "full", READS, {"image": "raw"}, min_count=1)
    torch.manual_seed(0)
    chosen = {"dim": 16, "word_dim": 8, "epochs": 1, "epoch_steps": 1, "batch_size": 16, **settings}
    model = Plain(vsepp.Settings(**chosen), corpus.context)
    before = {name: value.detach().clone() for name, value in model.named_parameters()}
    done = loop.train(model, corpus, 0, torch.device("cpu"), BY_RECALL)
    change = torch.cat([(value.detach() - before[name]).flatten() for name, value in model.named_parameters()])
    return change, float(done.history.gradient_norm.iloc[0])


def test_norm_or_each_element(prepared, monkeypatch, tmp_path):
    gradient, norm = moved(prepared, monkeypatch, tmp_path, clip=0.0)
    assert float(gradient.norm()) == pytest.approx(norm, rel=1e-4)
    bound = float(gradient.abs().max()) / 4
    by_value, told = moved(prepared, monkeypatch, tmp_path, clip=bound, clip_by="value")
    assert told == pytest.approx(norm)  # as it was before it was clipped
    torch.testing.assert_close(by_value, gradient.clamp(-bound, bound), rtol=1e-3, atol=1e-7)
    assert int((by_value.abs() > 0.99 * bound).sum()) > 10
    by_norm, _ = moved(prepared, monkeypatch, tmp_path, clip=norm / 4)
    torch.testing.assert_close(by_norm, gradient / 4, rtol=1e-3, atol=1e-7)


TINY = {"dim": 6, "word_dim": 4}
ADVERSARIAL = {
    "a3vse": (a3vse, TINY, base.Context({"image": (3, 7)}, 12)),
    "mfsr": (mfsr, {**TINY, "layers": 1, "image_size": 8, "channels": 2}, base.Context({"image": (7,)}, 12)),
}


@pytest.mark.parametrize(("name", "adversary"), [("a3vse", "discriminators"), ("mfsr", "generator")])
def test_an_adversarys_gradients_leave_those_of_the_encoders_alone(name, adversary):
    """They share an optimiser; an adversary whose norm is 200 would otherwise take all of a clip of 2."""
    module, settings, context = ADVERSARIAL[name]
    model = module.Model(module.Settings(**settings), context)
    optimiser = model.optimisers(model.stages()[0])["model"]
    against = {id(p) for p in getattr(model, adversary).parameters()}
    optimised = [p for group in optimiser.param_groups for p in group["params"]]
    encoders = [p for p in optimised if id(p) not in against]
    assert len(against) == len(optimised) - len(encoders) > 0
    for parameters, norm in ((encoders, 1.0), ([p for p in optimised if id(p) in against], 200.0)):
        count = sum(p.numel() for p in parameters)
        for p in parameters:
            p.grad = torch.full_like(p, norm / count**0.5)
    before = [p.grad.clone() for p in encoders]
    norms = loop._clip(optimiser, 2.0, "norm")
    assert all(torch.equal(p.grad, was) for p, was in zip(encoders, before, strict=True))
    assert float(norms["gradient_norm"]) == pytest.approx(1, rel=1e-4)
    assert float(norms[f"{adversary}_gradient_norm"]) == pytest.approx(200, rel=1e-4)
    clipped = torch.cat([p.grad.flatten() for p in optimised if id(p) in against])
    assert float(clipped.norm()) == pytest.approx(2, rel=1e-4)
