"""A trial does a limited part of a run and times it; where a cut-off training goes on; and what is told of epochs."""

from __future__ import annotations

import logging
from itertools import count

import pytest
import torch
from torch import nn

from crossmodal.corpus.opening import load
from crossmodal.models import base
from crossmodal.training import loop
from crossmodal.training.loop import Limit, Selection

READS = {"image": "vector", "text": "tokens"}
CPU = torch.device("cpu")
NOTHING = Selection("sum", lambda *_: {"sum": 0.0})


@pytest.fixture
def corpus(prepared):
    return load(prepared / "toy", "full", READS, {"image": "raw"}, min_count=1)  # 108 pairs


class Line(base.Model):
    """Its loss has a gradient from 2 to 4, of which Adam makes steps of about its rate."""

    def __init__(self, settings, context, stages=()):
        super().__init__(settings, context)
        self.weight, self.parts, self.sizes, self.begun = nn.Parameter(torch.zeros(())), stages, [], []

    def loss(self, batch, progress, turn):
        self.sizes.append(len(batch.groups))
        return {"loss": 2 * self.weight * (1 + torch.rand(()))}

    def begin(self, stage):
        self.begun.append(stage.name)

    def stages(self):
        return list(self.parts) or super().stages()


def line(corpus, stages=(), **settings):
    return Line(
        base.Schedule(**{"batch_size": 36, "epochs": 2, "lr": 0.5, "clip": 0, **settings}), corpus.context, stages
    )


def ticking():
    """A clock that goes on by one second each time it is read."""
    ticks = count(100.0)
    return lambda: next(ticks)


def test_a_trial_does_two_steps_of_each_stage(corpus, tmp_path):
    stages = [base.Stage("one", 5, 0.5, 9), base.Stage("two", 7, 0.5, 9)]
    model = line(corpus, stages, batch_size=9)
    history = loop.train(model, corpus, 0, CPU, NOTHING, tmp_path / "c.pt", limit=Limit(clock=ticking())).history
    assert history.stage.tolist() == ["one", "two"]
    assert history.steps.tolist() == [2, 2]
    assert model.sizes == [9] * 4
    assert history.step_seconds.tolist() == [1.0, 1.0]  # the clock is read after each step
    assert history.validation_seconds.tolist() == [1.0, 1.0]
    assert history.closing_seconds.tolist() == [1.0, 1.0]
    assert (tmp_path / "c.pt").exists()


def test_a_trial_of_other_batches_steps_and_times(corpus, tmp_path):
    model = line(corpus)
    limit = Limit(steps=3, batch_size=12, saves=False, clock=ticking())
    history = loop.train(model, corpus, 0, CPU, NOTHING, tmp_path / "c.pt", limit=limit).history
    assert (history.steps.tolist(), model.sizes) == ([3], [12] * 3)
    assert history.step_seconds.tolist() == [1.0]  # two seconds between the first of three steps and the last
    assert not (tmp_path / "c.pt").exists()
    longer = Limit(seconds=4.0, clock=ticking())
    history = loop.train(line(corpus, batch_size=9), corpus, 0, CPU, NOTHING, limit=longer).history
    assert history.steps.tolist() == [5]  # four seconds after the first one
    history = loop.train(line(corpus), corpus, 0, CPU, NOTHING, limit=Limit(steps=50, clock=ticking())).history
    assert history.steps.tolist() == [3]  # no more than an epoch has
    one = loop.train(line(corpus), corpus, 0, CPU, NOTHING, limit=Limit(steps=1, clock=ticking())).history
    assert one.steps.tolist() == [1]
    assert one.step_seconds.tolist() == one.seconds.tolist()


def test_a_trial_without_validation(corpus, tmp_path):
    def never(*_):
        raise AssertionError("validated")

    model = line(corpus)
    selection = Selection("recall_sum", never)
    trained = loop.train(model, corpus, 0, CPU, selection, tmp_path / "c.pt", limit=Limit(validates=False))
    assert trained.best_epoch == 0
    assert trained.history.epoch.tolist() == [1]
    assert not [name for name in trained.history if name.startswith("val")]
    assert float(model.weight.detach()) != 0  # the last weights are kept


def test_an_epoch_that_finds_nothing_is_kept_all_the_same(corpus):
    """Its weights, and not those from before it."""
    model = line(corpus, epochs=1)
    trained = loop.train(model, corpus, 0, CPU, NOTHING)
    assert trained.best_epoch == 1
    assert float(model.weight.detach()) == pytest.approx(-1.5, rel=0.1)  # three of Adam's steps of .5
    assert 0 < trained.history.seconds[0] < 60
    assert 0 <= trained.history.validation_seconds[0] < 60


def test_the_log_says_how_each_epoch_went(corpus, caplog):
    scores = iter([12.5, 7.0])
    with caplog.at_level(logging.INFO):
        loop.train(line(corpus, lr_drop=1), corpus, 0, CPU, Selection("sum", lambda *_: {"sum": next(scores)}))
    (one, other) = (text for text in caplog.messages if text.startswith("train epoch"))
    assert one.startswith("train epoch 1/2: loss -")
    assert one.endswith("validation sum 12.5 (best 12.5), lr 0.5")
    assert other.endswith("validation sum 7.0 (best 12.5), lr 0.05")


@pytest.mark.parametrize("cut_at", range(1, 5))
def test_stages_go_on_to_the_same_bits_wherever_they_were_cut(corpus, tmp_path, cut_at):
    """With the moments of Adam, a rate that has fallen, dropout, and the best epoch of the first stage."""
    stages = [base.Stage("one", 2, 0.5, 1), base.Stage("two", 3, 0.25, 2)]
    values = {1: 5.0, 2: 4.0, 3: 1.0, 4: 3.0, 5: 2.0}

    def selection(cut=0):
        number = count(1)

        def validated(*_):
            epoch = next(number)
            if epoch == cut:
                raise KeyboardInterrupt
            return {"sum": values[epoch]}

        return Selection("sum", validated)

    whole = line(corpus, stages)
    expected = loop.train(whole, corpus, 0, CPU, selection())
    with pytest.raises(KeyboardInterrupt):
        loop.train(line(corpus, stages), corpus, 0, CPU, selection(cut_at + 1), tmp_path / "c.pt", "x")
    again, number = line(corpus, stages), count(cut_at + 1)
    later = Selection("sum", lambda *_: {"sum": values[next(number)]})
    found = loop.train(again, corpus, 0, CPU, later, tmp_path / "c.pt", "x")
    assert found.resumed_at == cut_at
    assert found.best_epoch == expected.best_epoch == 4
    assert torch.equal(again.weight, whole.weight)
    columns = ["epoch", "stage", "loss", "learning_rate", "val_sum", "steps", "gradient_norm"]
    assert found.history[columns].equals(expected.history[columns])
    assert again.begun == whole.begun == ["one", "two"]


def test_a_device_is_named_by_its_number_and_waited_for(monkeypatch):
    devices = [torch.device("cpu"), torch.device("cuda"), torch.device("cuda", 3)]
    assert [loop._devices(device) for device in devices] == [1, [0], [3]]
    waited = []
    monkeypatch.setattr(torch.cuda, "synchronize", waited.append)
    for device in devices:
        loop._wait(device)
    assert waited == devices[1:]


def test_of_several_rates_the_first_is_told(corpus):
    class Two(Line):
        def optimisers(self, stage):
            groups = [{"params": [self.weight]}, {"params": [nn.Parameter(torch.zeros(1))], "lr": 0.125}]
            return {"model": torch.optim.SGD(groups, lr=stage.lr)}

    model = Two(base.Schedule(batch_size=36, epochs=2, lr=0.5, lr_drop=1, clip=0), corpus.context)
    history = loop.train(model, corpus, 0, CPU, NOTHING).history
    assert history.learning_rate.tolist() == pytest.approx([0.5, 0.05])
