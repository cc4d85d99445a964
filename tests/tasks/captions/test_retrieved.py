"""Retrieval systems as captioners: they say the training caption that they rank first, where an experiment asks it."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from torch import nn

from crossmodal import experiments
from crossmodal.core.errors import UserError
from crossmodal.corpus.opening import load
from crossmodal.datasets import items
from crossmodal.experiments import Job
from crossmodal.experiments.papers import read_papers
from crossmodal.models import base, mfsr
from crossmodal.tasks.base import tasks
from crossmodal.tasks.captions.retrieved import retrieved
from tests.prepared import WORDS


class Named(base.Model):
    """Compares the image's coordinates above zero with the words of a caption, as vectors or by a score."""

    def __init__(self, vocabulary, vectors: bool, text_first: bool):
        nn.Module.__init__(self)
        self.settings = SimpleNamespace()
        self.places = torch.tensor([WORDS.index(w) if w in WORDS else len(WORDS) for w in vocabulary.words])
        self.vectors = vectors
        self.reads = {"text": "tokens", "image": "vector"} if text_first else {"image": "vector", "text": "tokens"}
        self.text_first = text_first

    def encode(self, modality, batch, partner):
        if modality == "image":
            return torch.nn.functional.normalize((batch.inputs["image"] > 0).float(), dim=1)
        ids, _ = batch.inputs["text"]
        bags = torch.zeros(len(ids), len(WORDS) + 1).scatter_(1, self.places[ids], 1.0)[:, :-1]
        return torch.nn.functional.normalize(bags, dim=1)

    def compares_vectors(self, *encodings):
        return self.vectors

    def score(self, one, other):
        assert len(one) <= 512 or len(other) <= 512
        return one @ other.T


@pytest.mark.parametrize(("vectors", "text_first"), [(True, False), (False, False), (False, True)])
@pytest.mark.parametrize("split", ["full", "50pct-2cap"])
def test_the_training_caption_that_is_ranked_first(prepared, vectors, text_first, split):
    corpus = load(prepared / "toy", split, {"image": "vector", "text": "tokens"}, {"image": "raw"}, min_count=1)
    task = tasks()["captioning"]
    targets = task.targets(corpus)
    model = Named(corpus.vocabulary, vectors, text_first)
    said = retrieved(model, corpus, targets.images, torch.device("cpu"))
    frame = items.read(prepared / "toy").set_index("item_id")
    pairs = pd.read_parquet(prepared / "toy" / "splits" / f"{split}.parquet")
    training = [frame.source[id_].split() for id_ in pairs.caption_id.dropna().unique()]
    for id_, words in zip(targets.images.ids, said, strict=True):
        own = {*frame.source[f"{id_}#0"].split()}
        cosines = [len(own & {*other}) / np.sqrt(len(own) * len(other)) for other in training]
        assert len(own & {*words}) / np.sqrt(len(own) * len(words)) == pytest.approx(max(cosines))
        assert words in training
    assert task.predict(model, corpus, targets, torch.device("cpu")).captions == {"all": said}


def test_a_task_is_asked_where_an_experiment_names_it():
    facts = {"dataset": "toy", "split": "full", "seed": 0, "inputs": {}, "settings": {}}
    plain, also = (Job(model="vsepp", also=names, **facts) for names in ((), ("captioning",)))
    assert plain.tasks == ("instance_retrieval",)
    assert also.tasks == ("instance_retrieval", "captioning")
    assert plain.hash == also.hash  # so that nothing is trained again
    assert "captioning" not in Job(model="mfsr", **facts).tasks
    assert "captioning" in Job(model="mfsr", also=("captioning",), **facts).tasks
    assert "captioning" not in Job(model="vsepp", also=("captioning",), relevance="label", **facts).tasks


@pytest.mark.parametrize(
    ("model", "also", "message"),
    [
        ("vsepp", ["captoning"], "experiments.one.also: task 'captoning' is unknown"),
        ("nic", ["instance_retrieval"], "model 'nic' has no method for the task 'instance_retrieval'"),
        ("chance", ["captioning"], "model 'chance' has no method"),
    ],
)
def test_a_task_that_cannot_be_asked(tmp_path, model, also, message):
    about = {"title": "t", "experiments": {"one": {"model": model, "dataset": "toy", "also": also}}, "tables": []}
    (tmp_path / "own.yaml").write_text(yaml.safe_dump(about))
    with pytest.raises(UserError, match=message):
        read_papers(["own"], tmp_path)


def test_two_papers_ask_one_run_different_tasks(tmp_path):
    for name, also in (("one", []), ("two", ["captioning"])):
        experiment = {"model": "vsepp", "dataset": "world", "also": also}
        about = {"title": name, "experiments": {"x": experiment}, "tables": []}
        (tmp_path / f"{name}.yaml").write_text(yaml.safe_dump(about))
    params = experiments.load("params.yaml").model_copy(update={"papers": ["one", "two"], "seeds": [0]})
    jobs = experiments.plan(params, tmp_path).jobs
    assert jobs["world/full/vsepp/seed0"].tasks == ("instance_retrieval", "captioning")


def separated(**chosen) -> mfsr.Model:
    torch.manual_seed(0)
    settings = mfsr.Settings(dim=9, word_dim=5, part_dim=3, layers=2, image=0, word_embedding="seeded", **chosen)
    return mfsr.Model(settings, base.Context({"image": (6,)}, 12)).eval()


def test_mfsr_says_what_its_decoder_says_of_an_images_semantic_part():
    """Between the mean modal and specific parts of captions: as `say`, which reconstructs captions word by word."""
    model = separated()
    model.caption_modal.copy_(torch.tensor([0.6, 0.8, 0.0]))
    model.caption_specific.copy_(torch.tensor([0.0, 0.0, 1.0]))
    batch = base.Batch({"image": torch.randn(4, 6)})
    semantic = model.encode("image", batch, "text")
    vectors = torch.cat([model.caption_modal.expand(4, 3), semantic, model.caption_specific.expand(4, 3)], 1)
    with torch.no_grad():
        model.decoder.fc.bias[:2] = -50.0  # padding and the unknown word, which captioners never say
        model.decoder.fc.bias[2] = -50.0  # nor the start
    said = model.decoder.say(model.words, vectors, 2, 3, 20)
    for row, expected in zip(model.generate(batch, 1).tolist(), said.tolist(), strict=True):
        assert [w for w in row if w] == expected[: expected.index(3)] if 3 in expected else expected
    assert model.generate(batch, 3).shape[0] == 4


def test_mfsr_keeps_the_mean_parts_of_captions():
    model = separated().train()
    ids = torch.tensor([[2, 5, 6, 3], [2, 7, 3, 0]])
    batch = base.Batch({"image": torch.randn(2, 6), "text": base.Tokens(ids, torch.tensor([4, 3]))}, torch.arange(2))
    with torch.no_grad():
        parts = model.parts("text", batch)
    model.loss(batch, 0.5, "model")
    torch.testing.assert_close(model.caption_modal, 0.02 * parts.modal.mean(0))
    torch.testing.assert_close(model.caption_specific, 0.02 * parts.specific.mean(0))


def test_mfsr_without_a_decoder():
    with pytest.raises(UserError, match="`caption: 0` has no decoder"):
        separated(caption=0).generate(base.Batch({"image": torch.randn(1, 6)}), 1)
