import logging
import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from crossmodal.core import console
from crossmodal.core.errors import UserError
from crossmodal.core.files import read_json, sha256_file
from crossmodal.corpus import inputs as data
from crossmodal.corpus.batches import batches
from crossmodal.corpus.corpus import Corpus
from crossmodal.corpus.opening import load
from crossmodal.experiments import Job
from crossmodal.features.engine import store
from crossmodal.models import base, vsepp
from crossmodal.runs import train as running
from crossmodal.runs.evaluate import evaluate
from crossmodal.runs.train import train_job
from crossmodal.tasks.base import tasks
from crossmodal.tasks.ranked import selection
from crossmodal.training import loop
from tests.prepared import BY_RECALL

SETTINGS = {"dim": 16, "word_dim": 8, "epochs": 6, "lr": 0.01, "lr_drop": 4, "batch_size": 16, "min_count": 1}
READS = {"image": "vector", "text": "tokens"}
CPU = torch.device("cpu")


def job(model="vsepp", seed=0, **settings):
    chosen = {**SETTINGS, **settings} if model.startswith("vse") else settings
    return Job(
        dataset="toy", split="full", model=model, seed=seed, inputs={"image": "raw"}, settings=chosen, folds=[1, 2]
    )


def test_skipped_images_go_with_their_captions(prepared, caplog):
    folder = prepared / "toy" / "features"
    kept = [i for i in range(60) if i not in (3, 40, 50)]
    np.save(folder / "image.holes.npy", np.load(folder / "image.raw.npy")[kept])
    skipped = [{"item_id": f"i{i}", "reason": "truncated"} for i in (3, 40, 50)]
    store.save(folder / "image.holes", [f"i{i}" for i in kept], {"skipped": skipped})
    corpus = load(prepared / "toy", "full", READS, {"image": "holes"}, min_count=1)
    assert "3 items have no features (skipped as bad); 9 more go with them" in caplog.text
    assert {m: len(x.ids) for m, x in corpus.inputs.items()} == {"image": 57, "text": 171}
    assert corpus.n_pairs == 35 * 3
    whole = load(prepared / "toy", "full", READS, {"image": "raw"}, min_count=1)
    batch = corpus.batch(torch.arange(corpus.n_pairs))
    assert 3 not in batch.groups
    other = whole.batch(torch.from_numpy(np.flatnonzero(whole.batch(torch.arange(whole.n_pairs)).groups.numpy() != 3)))
    assert torch.equal(batch.inputs["image"], other.inputs["image"])


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    """Checkpoints go to the working folder."""
    monkeypatch.chdir(tmp_path)


def run(prepared, folder, **options):
    made = job(**options)
    if not made.control:
        train_job(made, folder, prepared)
    evaluate(made, folder, prepared, "embedded")
    return read_json(folder / "instance_retrieval" / "metrics.json")


def number(metrics, *wanted):
    wanted = (*wanted, "all")[:3]
    (value,) = [r["value"] for r in metrics["numbers"] if (r["aspect"], r["metric"], r["protocol"]) == wanted]
    return value


def test_batches_are_pairs_and_every_pair_comes_once(prepared):
    corpus = load(prepared / "toy", "full", READS, {"image": "raw"}, min_count=1)
    vectors = np.load(prepared / "toy" / "features" / "image.raw.npy")
    seen = 0
    for batch in batches(corpus, 16, 0, 0):
        seen += len(batch.groups)
        np.testing.assert_array_equal(batch.inputs["image"], vectors[batch.groups])
        for ids, group in zip(batch.inputs["text"].ids, batch.groups, strict=True):
            words = {corpus.vocabulary.words[i] for i in ids.tolist()} - {"<pad>", "<start>", "<end>"}
            assert len(words) == (vectors[group] > 0).sum()
    assert seen == 108
    order = [[b.groups.tolist() for b in batches(corpus, 16, 0, epoch)] for epoch in (1, 1, 2)]
    assert order[0] == order[1] != order[2]


def test_learns_and_controls_hold(prepared, tmp_path):
    learned = run(prepared, tmp_path / "a", epochs=25, lr_drop=20)
    assert number(learned, "image-to-text", "recall@1") > 40
    assert number(run(prepared, tmp_path / "o", model="oracle"), "both", "recall_sum") == 600
    chance = run(prepared, tmp_path / "c", model="chance")
    assert number(chance, "both", "recall_sum") < number(learned, "both", "recall_sum")


def test_metrics_agree_with_the_saved_vectors(prepared, tmp_path):
    metrics = run(prepared, tmp_path / "a")
    with np.load(tmp_path / "a" / "instance_retrieval" / "embeddings.npz") as saved:
        scores = saved["image"] @ saved["text"].T
        owner = np.array([name.split("#")[0] for name in saved["text_ids"]])
        own = saved["image_ids"][:, None] == owner[None, :]

    def ranked(scores, own):
        best = np.where(own, scores, -np.inf).max(1, keepdims=True)
        return 1 + ((scores >= best) & ~own).sum(1)

    ranks = ranked(scores, own)
    assert number(metrics, "image-to-text", "recall@5") == pytest.approx(100 * (ranks <= 5).mean())
    assert number(metrics, "image-to-text", "median_rank") == np.median(ranks)
    assert number(metrics, "text-to-image", "mean_rank") == pytest.approx(ranked(scores.T, own.T).mean())
    queries = pd.read_parquet(tmp_path / "a" / "instance_retrieval" / "examples.parquet")
    kept = queries.query("protocol == 'all' and aspect == 'image-to-text'")
    assert kept["rank"].tolist() == ranks.tolist()
    halves = [ranked(scores[i : i + 6, 3 * i : 3 * i + 18], own[i : i + 6, 3 * i : 3 * i + 18]) for i in (0, 6)]
    expected = 100 * np.mean([(half <= 1).mean() for half in halves])
    assert number(metrics, "image-to-text", "recall@1", "fold2") == pytest.approx(expected)


def test_schedule_and_history(prepared, tmp_path):
    run(prepared, tmp_path / "a")
    history = pd.read_parquet(tmp_path / "a" / "history.parquet")
    assert history.epoch.tolist() == [1, 2, 3, 4, 5, 6]
    np.testing.assert_allclose(history.learning_rate, [0.01] * 4 + [0.001] * 2)
    assert (history.steps == 7).all()
    # The weights that are kept are those of the best epoch: validated once more, they give the largest sum there was.
    corpus = load(prepared / "toy", "full", READS, {"image": "raw"}, min_count=1)
    model = vsepp.Model(vsepp.Settings(**SETTINGS), corpus.context)
    model.load_state_dict(load_file(tmp_path / "a" / "model.safetensors"))
    found = selection.validate(model, corpus, "val", CPU)["recall_sum"]
    assert found == pytest.approx(max(history.val_recall_sum))
    best = read_json(tmp_path / "a" / "manifest.json")["best_epoch"]
    assert history.val_recall_sum[best - 1] == pytest.approx(found)
    assert (history.val_recall_sum[: best - 1] < found).all()


KILLED = """
import os, signal, sys
from pathlib import Path
from types import SimpleNamespace
from crossmodal.experiments import Job
from crossmodal.training import loop
from crossmodal.runs.evaluate import encode_job, evaluate, gather_job, shard_job
from crossmodal.runs.train import train_job
from crossmodal.runs.trained import trained
from crossmodal.runs.build import built
real = loop._epoch
def dying(*args):
    if args[6] == 3:  # the epoch
        os.kill(os.getpid(), signal.SIGKILL)
    return real(*args)
loop._epoch = dying
train_job(Job.model_validate_json(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3]))
"""


def test_resumes_to_the_same_bits_after_a_kill(prepared, tmp_path):
    whole = run(prepared, tmp_path / "whole")
    command = [sys.executable, "-c", KILLED, job().model_dump_json(), str(tmp_path / "cut"), str(prepared)]
    done = subprocess.run(command, cwd=tmp_path, env=os.environ, check=False)
    assert done.returncode == -signal.SIGKILL
    assert not (tmp_path / "cut" / "model.safetensors").exists()
    assert list(Path(".checkpoints").glob("*.pt"))
    cut = run(prepared, tmp_path / "cut")
    assert read_json(tmp_path / "cut" / "manifest.json")["resumed_after_epoch"] == 3
    assert cut == whole
    assert sha256_file(tmp_path / "cut" / "model.safetensors") == sha256_file(tmp_path / "whole" / "model.safetensors")
    assert not list(Path(".checkpoints").glob("*.pt"))


def test_the_log_counts_every_step_and_what_is_validated(prepared, monkeypatch, caplog):
    monkeypatch.setattr(console, "FIRST", 0.0)
    monkeypatch.setattr(console, "GAP", 0.0)  # a line for each step
    corpus = load(prepared / "toy", "full", READS, {"image": "raw"}, min_count=1)
    model = vsepp.Model(vsepp.Settings(**{**SETTINGS, "epochs": 2}), corpus.context)
    with caplog.at_level(logging.INFO):
        steps = int(loop.train(model, corpus, 0, CPU, BY_RECALL).history.steps.sum())
    counted = [re.search(r"^train: (\d+) of (\d+) steps", line) for line in caplog.messages]
    numbers = [tuple(map(int, found.groups())) for found in counted if found]
    assert list(dict.fromkeys(numbers)) == [(n + 1, steps) for n in range(steps)]
    assert sum(line.startswith("encoding image items: 1 of 1 batches") for line in caplog.messages) == 2


def test_a_checkpoint_of_other_data_is_not_gone_on_from(prepared, tmp_path):
    corpus = load(prepared / "toy", "full", READS, {"image": "raw"}, min_count=1)
    model = vsepp.Model(vsepp.Settings(**{**SETTINGS, "epochs": 2}), corpus.context)
    checkpoint = tmp_path / "c.pt"
    assert loop.train(model, corpus, 0, CPU, BY_RECALL, checkpoint, "one").resumed_at == 0
    assert loop.train(model, corpus, 0, CPU, BY_RECALL, checkpoint, "other").resumed_at == 0
    assert loop.train(model, corpus, 0, CPU, BY_RECALL, checkpoint, "other").resumed_at == 2
    checkpoint.write_bytes(b"half")
    assert loop.train(model, corpus, 0, CPU, BY_RECALL, checkpoint, "other").resumed_at == 0


def test_seeds_differ(prepared, tmp_path):
    assert len({number(run(prepared, tmp_path / f"{s}", seed=s), "text-to-image", "mean_rank") for s in range(3)}) > 1


def test_damaged_weights_are_not_tested(prepared, tmp_path):
    made = job(epochs=1)
    train_job(made, tmp_path / "a", prepared)
    path = tmp_path / "a" / "model.safetensors"
    data = bytearray(path.read_bytes())
    data[-5] ^= 1
    path.write_bytes(data)
    with pytest.raises(UserError, match="corrupted"):
        evaluate(made, tmp_path / "a", prepared, "embedded")


class Everything(base.Model):
    """What later systems need: regions, cross-attention scores, an adversary's turns, un-annotated items, stages."""

    reads = {"image": "regions", "text": "tokens"}  # noqa: RUF012
    unannotated = ("image",)

    def __init__(self, settings, context):
        super().__init__(settings, context)
        self.regions = nn.Linear(context.shapes["image"][1], 8)
        self.words = nn.Embedding(context.vocabulary_size, 8)
        self.adversary = nn.Linear(8, 1)
        self.turns, self.begun, self.bare = [], [], 0

    def encode(self, modality, batch, partner):
        if modality == "image":
            return self.regions(batch.inputs["image"].features)
        return self.words(batch.inputs["text"].ids)

    def score(self, queries, gallery):
        """Best region of each word, averaged; images come first, as in `reads`."""
        return torch.einsum("ird,jwd->ijrw", queries, gallery).amax(2).mean(2)

    def loss(self, batch, progress, turn):
        assert 0 <= progress < 1
        self.turns.append(turn)
        self.bare += len(batch.unannotated["image"].features)
        images, texts = self.encode("image", batch, "text"), self.encode("text", batch, "image")
        judged = self.adversary(images.mean(1)).mean() - self.adversary(texts.mean(1)).mean()
        if turn == "adversary":
            return {"loss": judged**2}
        scores = self.score(images, texts)
        return {"loss": nn.functional.cross_entropy(scores, torch.arange(len(scores))) - 0.1 * judged**2}

    def optimisers(self, stage):
        mine = [*self.regions.parameters(), *self.words.parameters()]
        adversary = torch.optim.SGD(self.adversary.parameters(), lr=stage.lr)
        return {"model": torch.optim.Adam(mine, lr=stage.lr), "adversary": adversary}

    def stages(self):
        return [base.Stage("one", 2, 1e-2, 9), base.Stage("two", 1, 1e-3, 9)]

    def begin(self, stage):
        self.begun.append(stage.name)
        self.regions.requires_grad_(stage.name == "one")


def test_an_elaborate_system_fits_the_interface(prepared, tmp_path):
    corpus = load(prepared / "toy", "50pct-2cap", Everything.reads, {"image": "regions"}, min_count=1)
    model = Everything(base.Schedule(batch_size=12), corpus.context)
    before = model.regions.weight.detach().clone()
    trained = loop.train(model, corpus, 0, CPU, BY_RECALL)
    assert trained.history.stage.tolist() == ["one", "one", "two"]
    assert model.begun == ["one", "two"]
    assert model.turns[:4] == ["model", "adversary", "model", "adversary"]
    assert model.bare == len(model.turns) * 12
    assert not torch.equal(before, model.regions.weight)
    found = tasks()["instance_retrieval"].evaluate(model, corpus, [1], CPU, tmp_path)
    rows = {(r["aspect"], r["metric"]): r for r in found}
    assert rows["text-to-image", "recall@1"]["n_queries"] == 36
    assert rows["image-to-text", "recall@10"]["value"] > 0
    assert not (tmp_path / "instance_retrieval" / "embeddings.npz").exists()  # its encodings are no vectors


@pytest.mark.parametrize("name", ["raw", "regions"])
def test_rows_read_from_the_file_are_those_of_the_map(prepared, name, monkeypatch):
    reads = {"image": "vector" if name == "raw" else "regions", "text": "tokens"}
    mapped = load(prepared / "toy", "50pct-2cap", reads, {"image": name})
    monkeypatch.setattr(data, "MAPPED", 0)
    read = load(prepared / "toy", "50pct-2cap", reads, {"image": name})
    assert (mapped.waits, read.waits) == (False, True)
    assert mapped.context == read.context
    for one, other in zip(batches(mapped, 16, 3, 1, ("image",)), batches(read, 16, 3, 1, ("image",)), strict=True):
        for a, b in ((one.inputs, other.inputs), (one.unannotated, other.unannotated)):
            assert a.keys() == b.keys()
            for left, right in zip(a.values(), b.values(), strict=True):
                for x, y in zip(left, right, strict=True):
                    assert torch.equal(x, y)
        assert torch.equal(one.groups, other.groups)
    index = np.arange(60)
    for one, other in zip(mapped.items("image", index, 7), read.items("image", index, 7), strict=True):
        assert all(torch.equal(x, y) for x, y in zip(one.inputs["image"], other.inputs["image"], strict=True))


def test_the_next_batch_is_made_while_one_is_used(prepared, monkeypatch):
    monkeypatch.setattr(data, "MAPPED", 0)
    corpus = load(prepared / "toy", "full", READS, {"image": "raw"})
    made = []
    original = Corpus.batch
    monkeypatch.setattr(Corpus, "batch", lambda *a: made.append(threading.current_thread()) or original(*a))
    stream = batches(corpus, 16, 0, 0)
    next(stream)
    for _ in range(500):
        if len(made) == 2:
            break
        time.sleep(0.01)
    assert len(made) == 2
    assert threading.main_thread() not in made
    stream.close()

    def broken(*_):
        raise UserError("a bad row")

    monkeypatch.setattr(Corpus, "batch", broken)
    with pytest.raises(UserError, match="a bad row"):
        next(batches(corpus, 16, 0, 0))


def test_training_on_a_large_file_gives_the_same_bits(prepared, tmp_path, monkeypatch):
    run(prepared, tmp_path / "mapped", epochs=2)
    monkeypatch.setattr(data, "MAPPED", 0)
    run(prepared, tmp_path / "read", epochs=2)
    hashes = [read_json(tmp_path / name / "manifest.json")["weights_sha256"] for name in ("mapped", "read")]
    assert hashes[0] == hashes[1]


def test_what_a_run_takes_of_a_card_is_noted(monkeypatch):
    """On a made-up card: the driver's counter before and after, none where it stands still unread."""
    card = SimpleNamespace(uuid="a")
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: card)
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda device: 3 * 2**20)
    for counter, noted in ((iter([10.0, 12.5]), {"gpu_energy_joules": 2.5}), (iter([None]), {})):
        monkeypatch.setattr(running, "card_joules", lambda uuid, counter=counter: next(counter))
        facts = {}
        with running._card(torch.device("cuda"), facts):
            pass
        assert facts == {"gpu_memory_mib": 3.0, **noted}
    with running._card(torch.device("cpu"), facts := {}):
        pass
    assert facts == {}


class Two(base.Model):
    """Two optimiser groups whose gradients differ by a hundred."""

    def __init__(self, settings, context):
        super().__init__(settings, context)
        self.encoder, self.judge = nn.Parameter(torch.zeros(2)), nn.Parameter(torch.zeros(1))
        self.words = nn.Embedding(context.vocabulary_size, 4)

    def encode(self, modality, batch, partner):
        value = batch.inputs[modality]
        return value[:, :4] if modality == "image" else self.words(value.ids).mean(1)

    def loss(self, batch, progress, turn):
        return {"loss": self.encoder @ torch.tensor([0.3, 0.4]) + 50 * self.judge.sum()}

    def optimisers(self, stage):
        groups = [{"params": [self.encoder]}, {"params": [self.judge], "name": "judge"}]
        return {"model": torch.optim.SGD(groups, lr=1.0)}


@pytest.mark.parametrize(("clip", "encoder", "judge"), [(2.0, 0.5, 2.0), (0.25, 0.25, 0.25), (0.0, 0.5, 50.0)])
def test_each_group_of_an_optimiser_is_clipped_by_itself(prepared, clip, encoder, judge):
    """A large norm of the adversary's must not take the encoders' steps away; 0 clips nothing."""
    corpus = load(prepared / "toy", "full", READS, {"image": "raw"}, min_count=1)
    model = Two(base.Schedule(batch_size=200, epochs=1, clip=clip), corpus.context)  # one step of 108 pairs
    history = loop.train(model, corpus, 0, CPU, BY_RECALL).history.iloc[0]
    torch.testing.assert_close(model.encoder.detach(), -encoder * torch.tensor([0.6, 0.8]))
    torch.testing.assert_close(model.judge.detach(), torch.tensor([-judge]))
    assert (history.gradient_norm, history.judge_gradient_norm) == (pytest.approx(0.5), 50)  # before they were clipped


@pytest.mark.parametrize(("selects", "steps"), [(True, 1), (False, 3)])
def test_a_stage_that_does_not_show_in_the_validation_keeps_its_last_epoch(prepared, selects, steps):
    """Neither parameter is in the encodings, so that all epochs are as good and the first one would be taken."""

    class Hidden(Two):
        def stages(self):
            return [base.Stage("hidden", 3, 1.0, 9, selects=selects), base.Stage("train", 1, 0.0, 9)]

    corpus = load(prepared / "toy", "full", READS, {"image": "raw"}, min_count=1)
    model = Hidden(base.Schedule(batch_size=200, clip=0.25), corpus.context)  # a step of 108 pairs per epoch
    loop.train(model, corpus, 0, CPU, BY_RECALL)
    # The second stage has a learning rate of 1 for all groups, and one step.
    torch.testing.assert_close(model.encoder.detach(), -0.25 * (steps + 1) * torch.tensor([0.6, 0.8]))
