"""What is done around a model, whatever it is: steps and clipping, rates, seeds, selection, what is drawn and read.

A probe with hand-made gradients and scripted validation is trained by `loop.train`, and what has become of it is
compared with what is worked out here.
"""

from __future__ import annotations

import shutil
from dataclasses import replace
from itertools import chain, pairwise

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from crossmodal.core.errors import UserError
from crossmodal.corpus.corpus import Corpus
from crossmodal.corpus.opening import load
from crossmodal.models import base
from crossmodal.training import loop
from tests.prepared import BY_RECALL

READS = {"image": "vector", "text": "tokens"}
CPU = torch.device("cpu")
PAIRS = 108  # of 36 training images


class Known(Corpus):
    """Tells a model also which items it encodes, so that a probe can be as right as it should be."""

    def items(self, modality, index, size):
        for start, batch in zip(range(0, len(index), size), super().items(modality, index, size), strict=True):
            yield replace(batch, groups=torch.from_numpy(self.relevance(modality)[index[start : start + size]]))


@pytest.fixture
def corpus(prepared):
    return Known(**vars(load(prepared / "toy", "full", READS, {"image": "raw"}, min_count=1)))


class Probe(base.Model):
    """Its loss has the gradient (3, 4), of norm 5; `right` has the share of validation that it gets right, by epoch."""

    def __init__(self, settings, context, right=(), stages=(), rate=1.0):
        super().__init__(settings, context)
        self.weight = nn.Parameter(torch.zeros(2))
        self.right, self.parts, self.rate = right, stages, rate
        self.epochs_done, self.seen, self.modes = 0, [], set()

    def loss(self, batch, progress, turn):
        self.modes.add(("loss", self.training))
        self.seen.append((progress, batch.groups.tolist(), float(torch.rand(()))))
        return {"loss": (self.weight * torch.tensor([3.0, 4.0])).sum()}

    def encode(self, modality, batch, partner):
        self.modes.add(("encode", self.training))
        self.epochs_done += modality == "image"
        share = self.right[self.epochs_done - 1] if self.right else 0.5
        return torch.eye(60)[batch.groups] * (batch.groups % 12 < 12 * share)[:, None]

    def optimisers(self, stage):
        return {"model": torch.optim.SGD([self.weight], lr=self.rate * stage.lr)}

    def stages(self):
        return list(self.parts) or super().stages()


def probe(corpus, batch_size=36, epochs=1, lr=1.0, clip=0.0, lr_drop=99, lr_factor=0.1, epoch_steps=0, **options):
    settings = base.Schedule(
        batch_size=batch_size,
        epochs=epochs,
        lr=lr,
        clip=clip,
        lr_drop=lr_drop,
        lr_factor=lr_factor,
        epoch_steps=epoch_steps,
    )
    return Probe(settings, corpus.context, **options)


@pytest.mark.parametrize(("clip", "moved"), [(0.0, 1.0), (2.0, 0.4), (5.0, 1.0), (7.0, 1.0), (0.5, 0.1)])
def test_gradients_are_clipped_by_their_norm(corpus, clip, moved):
    """Each of three steps goes along the gradient (3, 4), as far as its norm of 5 is allowed to be."""
    model = probe(corpus, clip=clip)
    trained = loop.train(model, corpus, 0, CPU, BY_RECALL)
    torch.testing.assert_close(model.weight.data, -3 * moved * torch.tensor([3.0, 4.0]), rtol=1e-4, atol=0)
    assert trained.history.gradient_norm.tolist() == pytest.approx([5.0])  # as it was before
    assert trained.history.steps.tolist() == [3]


def test_rates_fall_by_their_factor_after_so_many_epochs(corpus):
    """1, 1, .1, .1, .01 over three steps each; where a group of parameters has a rate of its own, that falls too."""
    model = probe(corpus, epochs=5, lr_drop=2, right=[0, 0, 0, 0, 1.0])
    trained = loop.train(model, corpus, 0, CPU, BY_RECALL)
    torch.testing.assert_close(model.weight.data, -3 * 2.21 * torch.tensor([3.0, 4.0]))
    np.testing.assert_allclose(trained.history.learning_rate, [1, 1, 0.1, 0.1, 0.01])

    class Two(Probe):
        def __init__(self, *args, **options):
            super().__init__(*args, **options)
            self.other = nn.Parameter(torch.zeros(()))

        def loss(self, batch, progress, turn):
            return {"loss": self.other + super().loss(batch, progress, turn)["loss"]}

        def optimisers(self, stage):
            groups = [{"params": [self.weight]}, {"params": [self.other], "lr": 0.5}]
            return {"model": torch.optim.SGD(groups, lr=stage.lr)}

    model = Two(base.Schedule(batch_size=36, epochs=2, lr=1.0, lr_drop=1, clip=0), corpus.context, right=[0, 1])
    loop.train(model, corpus, 0, CPU, BY_RECALL)
    assert float(model.other) == pytest.approx(-3 * 0.55)
    assert model.weight.tolist() == pytest.approx([-9.9, -13.2])


def test_the_epoch_that_is_kept(corpus):
    """Of equally good ones the first; its weights, not the last ones."""
    model = probe(corpus, epochs=5, right=[0.25, 0.75, 0.5, 0.75, 0.0])
    trained = loop.train(model, corpus, 0, CPU, BY_RECALL)
    assert trained.best_epoch == 2
    torch.testing.assert_close(model.weight.data, -6 * torch.tensor([3.0, 4.0]))
    # 12 images with 3 captions each: those told are first, all others last.
    assert trained.history.val_recall_sum.tolist() == pytest.approx([150, 450, 300, 450, 0])


def test_a_stage_goes_on_from_the_best_of_the_one_before(corpus):
    """Two epochs at 1, of which the first is kept, then at .5 two, of which the second is; the rate begins anew."""
    stages = [base.Stage("one", 2, 1.0, 1), base.Stage("two", 2, 0.5, 9)]
    model = probe(corpus, stages=stages, right=[0.75, 0.25, 0.25, 0.5])
    trained = loop.train(model, corpus, 0, CPU, BY_RECALL)
    torch.testing.assert_close(model.weight.data, -(3 + 3) * torch.tensor([3.0, 4.0]))
    assert trained.best_epoch == 4  # of the last stage, though one before was better
    assert trained.history.epoch.tolist() == [1, 2, 3, 4]
    assert trained.history.learning_rate.tolist() == pytest.approx([1, 0.1, 0.5, 0.5])


def test_progress_is_the_share_of_the_stage_that_is_done(corpus):
    model = probe(corpus, epochs=4)
    loop.train(model, corpus, 0, CPU, BY_RECALL)
    np.testing.assert_allclose([progress for progress, *_ in model.seen], np.arange(12) / 12, atol=1e-12)


def test_it_is_trained_in_one_mode_and_validated_in_the_other(corpus):
    model = probe(corpus, epochs=2)
    loop.train(model, corpus, 0, CPU, BY_RECALL)
    assert model.modes == {("loss", True), ("encode", False)}


def epochs_of(model, steps=3):
    return [model.seen[start : start + steps] for start in range(0, len(model.seen), steps)]


def test_order_and_dropout_follow_from_seed_and_epoch_alone(corpus):
    def course(seed, epochs=3, before=0):
        torch.manual_seed(before)  # what was drawn before makes no difference
        torch.rand(before)
        model = probe(corpus, epochs=epochs)
        loop.train(model, corpus, seed, CPU, BY_RECALL)
        return [([groups for _, groups, _ in part], [drawn for *_, drawn in part]) for part in epochs_of(model)]

    first = course(0)
    assert course(0, before=5) == first
    assert course(0, epochs=2) == first[:2]
    other = course(1)
    every = [*first, *other]
    for place, (order, drawn) in enumerate(every):
        assert sorted(chain(*order)) == sorted(np.repeat(np.arange(36), 3).tolist())
        assert len(set(drawn)) == 3
        for further_order, further_drawn in every[place + 1 :]:
            assert order != further_order
            assert not set(drawn) & set(further_drawn)


def test_stages_draw_other_orders(corpus):
    stages = [base.Stage("one", 1, 1.0, 9), base.Stage("two", 1, 1.0, 9)]
    model = probe(corpus, stages=stages)
    loop.train(model, corpus, 0, CPU, BY_RECALL)
    one, two = epochs_of(model)
    assert [groups for _, groups, _ in one] != [groups for _, groups, _ in two]
    assert not {drawn for *_, drawn in one} & {drawn for *_, drawn in two}


@pytest.mark.parametrize(
    ("size", "epoch_steps", "sizes"),
    [
        (36, 0, [36, 36, 36]),
        (50, 0, [50, 50, 8]),
        (107, 0, [107]),  # one pair alone has no negative
        (53, 0, [53, 53, 2]),
        (36, 2, [36, 36]),
        (50, 5, [50, 50, 8, 50, 50]),
    ],
)
def test_batches_of_an_epoch(corpus, size, epoch_steps, sizes):
    model = probe(corpus, batch_size=size, epoch_steps=epoch_steps, epochs=2)
    trained = loop.train(model, corpus, 0, CPU, BY_RECALL)
    assert [len(groups) for _, groups, _ in model.seen] == 2 * sizes
    assert trained.history.steps.tolist() == [len(sizes)] * 2
    np.testing.assert_allclose([p for p, *_ in model.seen], np.arange(2 * len(sizes)) / (2 * len(sizes)), atol=1e-12)


class Paired(base.Schedule):
    """As DSPE's, each of whose captions brings a second one of its image."""

    captions_per_image: int = 2


def test_captions_bring_further_ones_of_their_image_where_the_settings_say_so(corpus):
    model = Probe(Paired(batch_size=36, epochs=1, lr=1.0, clip=0.0), corpus.context)
    loop.train(model, corpus, 0, CPU, BY_RECALL)
    for _, groups, _ in model.seen:
        assert len(groups) == 72
        assert groups[36:] == groups[:36]


class Turns(Probe):
    """A second optimiser with a loss of its own, ten times as long a gradient, and a term that is only told."""

    def __init__(self, *args, **options):
        super().__init__(*args, **options)
        self.judge = nn.Parameter(torch.zeros(()))

    def loss(self, batch, progress, turn):
        if turn == "judge":  # what the model has made is in its loss as well, and is not to be moved by it
            return {"loss": 50 * self.judge + 7 * self.weight.sum()}
        return {"loss": (self.weight * torch.tensor([3.0, 4.0])).sum() + self.judge, "told": 2.0 + self.weight.sum()}

    def optimisers(self, stage):
        return {
            "model": torch.optim.SGD([self.weight], lr=stage.lr),
            "judge": torch.optim.SGD([self.judge], lr=stage.lr),
        }


def test_each_optimiser_moves_its_own(corpus):
    model = Turns(base.Schedule(batch_size=36, epochs=1, lr=1.0, clip=0), corpus.context)
    history = loop.train(model, corpus, 0, CPU, BY_RECALL).history
    torch.testing.assert_close(model.weight.data, -3 * torch.tensor([3.0, 4.0]))
    assert float(model.judge) == pytest.approx(-150)
    # The first one's terms by their names, means over the steps: 2, 2 - 7 and 2 - 14; the others' with their turn's.
    assert history.told.tolist() == pytest.approx([-5.0])
    assert history.gradient_norm.tolist() == pytest.approx([5.0])
    assert history.judge_gradient_norm.tolist() == pytest.approx([50.0])
    assert {"loss", "judge_loss"} <= set(history.columns)


def test_each_optimisers_gradient_is_clipped_by_itself(corpus):
    model = Turns(base.Schedule(batch_size=36, epochs=1, lr=1.0, clip=2), corpus.context)
    loop.train(model, corpus, 0, CPU, BY_RECALL)
    torch.testing.assert_close(model.weight.data, -3 * torch.tensor([1.2, 1.6]), rtol=1e-4, atol=0)
    assert float(model.judge) == pytest.approx(-6, rel=1e-4)


def test_parameters_without_a_gradient_are_left_alone(corpus):
    class Idle(Probe):
        def __init__(self, *args, **options):
            super().__init__(*args, **options)
            self.idle = nn.Parameter(torch.ones(()))

        def optimisers(self, stage):
            return {"model": torch.optim.SGD([self.weight, self.idle], lr=stage.lr, weight_decay=0.5)}

    for clip in (0.0, 100.0):
        model = Idle(base.Schedule(batch_size=107, epochs=1, lr=1.0, clip=clip), corpus.context)
        loop.train(model, corpus, 0, CPU, BY_RECALL)
        assert float(model.idle) == 1.0
        assert model.weight.tolist() == pytest.approx([-3.0, -4.0])


@pytest.mark.parametrize("term", ["loss", "told"])
def test_a_loss_that_is_not_finite_stops_the_run(corpus, term):
    class Broken(Probe):
        def loss(self, batch, progress, turn):
            terms = {**super().loss(batch, progress, turn), "told": torch.zeros(())}
            return {**terms, term: terms[term] * (float("nan") if progress >= 0.5 else 1.0)}

    model = Broken(base.Schedule(batch_size=36, epochs=2, lr=1.0, clip=0), corpus.context)
    with pytest.raises(UserError, match=r"diverged in epoch 2.*lower"):
        loop.train(model, corpus, 0, CPU, BY_RECALL)


def test_the_shared_optimiser_is_adam_with_the_schedules_rate_and_decay(corpus):
    model = probe(corpus)
    model.settings = base.Schedule(lr=0.25, weight_decay=0.125)
    model.frozen = nn.Parameter(torch.ones(3), requires_grad=False)
    (optimiser,) = base.Model.optimisers(model, base.Stage("one", 1, 0.75, 1)).values()
    assert type(optimiser) is torch.optim.Adam
    (group,) = optimiser.param_groups
    assert (group["lr"], group["weight_decay"], group["betas"], group["eps"]) == (0.75, 0.125, (0.9, 0.999), 1e-8)
    assert [id(p) for p in group["params"]] == [id(model.weight)]
    assert base.Model.stages(model) == [base.Stage("train", 30, 0.25, 15, 0.1)]


class Bare(Probe):
    """Keeps the un-annotated images that it is brought."""

    unannotated = ("image",)

    def loss(self, batch, progress, turn):
        self.brought.append(batch.unannotated["image"])
        return super().loss(batch, progress, turn)


def test_unannotated_images_are_training_images_without_a_caption(prepared):
    folder = prepared / "toy"
    vectors = torch.from_numpy(np.load(folder / "features" / "image.raw.npy"))
    split = pd.read_parquet(folder / "splits" / "50pct-2cap.parquet")
    annotated = {int(name[1:]) for name in split.image_id[split.caption_id.notna()]}
    assert len(annotated) == 18

    def brought(name, seed=0):
        corpus = Known(**vars(load(folder, name, READS, {"image": "raw"}, min_count=1)))
        model = Bare(base.Schedule(batch_size=12, epochs=8, lr=1.0, clip=0), corpus.context)
        model.brought = []
        loop.train(model, corpus, seed, CPU, BY_RECALL)
        assert [len(x) for x in model.brought] == [len(groups) for _, groups, _ in model.seen]
        rows = (torch.cat(model.brought)[:, None] == vectors).all(2)
        assert (rows.sum(1) == 1).all()
        return rows.int().argmax(1).tolist()

    once = brought("50pct-2cap")
    assert set(once) == set(range(36)) - annotated  # none with a caption, none of validation or test
    assert brought("50pct-2cap") == once
    assert brought("50pct-2cap", 1) != once
    halves = [once[start : start + 36] for start in range(0, len(once), 36)]
    assert all(one != other for one, other in pairwise(halves))  # another draw in each epoch
    assert set(brought("full")) == set(range(36))  # where all are annotated these play the part


def test_words_of_captions_that_are_not_trained_on_are_unknown(prepared, tmp_path):
    """A word of validation or test captions, or of training captions that a split leaves out, is in no vocabulary."""
    folder = tmp_path / "toy"
    shutil.copytree(prepared / "toy", folder)
    tokens = pd.read_parquet(folder / "tokens.parquet").set_index("item_id")
    split = pd.read_parquet(folder / "splits" / "50pct-2cap.parquet")
    kept = set(split.caption_id.dropna())
    left_out = next(name for name in tokens.index if int(name[1:].split("#")[0]) < 36 and name not in kept)
    for name, word in (("i40#0", "valid"), ("i55#1", "tested"), (left_out, "unread"), (min(kept), "read")):
        tokens.at[name, "tokens"] = [*tokens.at[name, "tokens"], word]
    tokens.reset_index().to_parquet(folder / "tokens.parquet")
    words = {
        name: set(load(folder, name, READS, {"image": "raw"}, min_count=1).vocabulary.words)
        for name in ("50pct-2cap", "full")
    }
    assert words["full"] - words["50pct-2cap"] == {"unread"}
    assert "read" in words["50pct-2cap"]
    assert not {"valid", "tested"} & words["full"]
    twice = load(folder, "full", READS, {"image": "raw"}, min_count=2).vocabulary.words
    assert not {"read", "unread"} & set(twice)
