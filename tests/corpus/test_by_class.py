"""Data whose items answer each other by class: rows, runs that begin from others, protocols, and controls."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pandas as pd
import pytest
import torch

from crossmodal.core.errors import UserError
from crossmodal.core.files import read_json
from crossmodal.corpus import splits
from crossmodal.corpus.batches import batches
from crossmodal.corpus.by_class import Classes, Labels
from crossmodal.corpus.opening import load
from crossmodal.experiments import Job
from crossmodal.runs.evaluate import encode_job, evaluate, gather_job, shard_job
from crossmodal.runs.train import train_job
from crossmodal.tasks.ranked.selection import validate
from crossmodal.training.loop import train
from tests.prepared import BY_CLASS

ALL = ("image", "text", "audio")
SETTINGS = {"dim": 8, "epochs": 3, "lr": 0.01, "batch_size": 16}
CPU = torch.device("cpu")


def corpus(labelled, split="full", modalities=ALL):
    raw = dict.fromkeys(modalities, "raw")
    return load(labelled / "kinds", split, dict.fromkeys(modalities, "vector"), raw, relevance="label")


def job(model="cvs", modalities=ALL, split="full", **more):
    settings = {"modalities": list(modalities), **(SETTINGS if model not in ("chance", "oracle") else {})}
    inputs = dict.fromkeys(modalities, "raw")
    return Job(
        dataset="kinds", split=split, model=model, seed=0, inputs=inputs, settings=settings, relevance="label", **more
    )


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    """Checkpoints go to the working folder."""
    monkeypatch.chdir(tmp_path)


def test_an_item_of_several_classes_counts_as_the_rarest_and_one_of_none_as_none():
    texts = ['["cat", "dog"]', "dog", "dog", None, '["cat", "cow"]', "cat"]
    items = pd.DataFrame({"item_id": list("abcdef"), "partition": ["train"] * 4 + ["test"] * 2, "label": texts})
    labels = Labels.of(items, "full")
    assert labels.names == ["cat", "dog", "cow"]  # the one of the test alone comes last
    assert labels.sets(items.label).tolist() == [[1, 1, 0], [0, 1, 0], [0, 1, 0], [0, 0, 0], [1, 0, 1], [1, 0, 0]]
    assert labels.encode(items.label).tolist() == [0, 1, 1, -1, 0, 0]
    assert labels.rarest(labels.sets(items.label), np.zeros(3, bool)).tolist() == [-1] * 6
    assert labels.rarest(labels.sets(items.label), np.array([False, True, True])).tolist() == [1, 1, 1, -1, 2, -1]


def test_items_of_a_class_are_listed_in_their_order(labelled):
    made = corpus(labelled)
    made.inputs["image"].labels[:] = 0
    rows = {m: made.inputs[m].where("train") for m in ("image",)}
    listed = Classes.of(Labels(["a"], 1, (0,), (), (0,)), rows, made.inputs).items["image"]
    assert listed.tolist() == rows["image"].tolist()
    assert len(listed) > 16  # NumPy sorts fewer without changing their order, whatever it is asked


def test_every_class_as_often_as_any_other_where_balanced(labelled):
    made = corpus(labelled)
    rows = list(batches(made, 8, 0, 0, sampling="balanced"))
    assert [len(b.labels) for b in rows] == [8, 8, 8, 1][: len(rows)]
    labels = torch.cat([b.labels for b in rows])
    assert len(labels) == 24  # five classes of five images; a lone row is left out
    assert max(Counter(labels.tolist()).values()) - min(Counter(labels.tolist()).values()) <= 1
    assert len(set(labels[:5].tolist())) == 5


@pytest.mark.parametrize("sampling", ["shuffled", "balanced"])
def test_rows_are_of_one_class_and_own_texts_stand_beside_their_images(labelled, sampling):
    made = corpus(labelled)
    chosen = made.classes.draw(ALL, torch.Generator().manual_seed(3), sampling)
    labels = {m: made.inputs[m].labels[chosen[m].numpy()] for m in ALL}
    assert (labels["image"] == labels["text"]).all()
    assert (labels["image"] == labels["audio"]).all()
    groups = [made.inputs[m].groups[chosen[m].numpy()] for m in ("image", "text")]
    assert (groups[0] == groups[1]).all()
    batch = next(batches(made, 8, 0, 0, sampling=sampling))
    centred = batch.inputs["image"] - made.context.moments["image"][0]
    assert centred.shape == (8, 5)
    assert set(batch.labels.tolist()) <= set(made.context.trained)


@pytest.mark.parametrize("sampling", ["shuffled", "balanced"])
def test_all_items_of_a_class_come_before_one_comes_again(labelled, sampling):
    made = corpus(labelled)
    chosen = made.classes.draw(ALL, torch.Generator().manual_seed(0), sampling)
    assert len(set(chosen["image"].tolist())) == 25
    audio = Counter(chosen["audio"].tolist())
    assert set(audio.values()) <= {2, 3}  # two clips of each class for five rows
    assert len(audio) == 10


def uneven() -> Classes:
    """Two classes: eight images and three texts, two of them images' own; two images and five texts of their own."""
    own = np.full(20, -1)
    own[[0, 3]] = [11, 10]  # the image at 0 has the text at 11
    back = np.full(20, -1)
    back[[11, 10]] = [0, 3]
    items = {"image": np.arange(10), "text": np.arange(10, 18)}
    kinds = {"image": np.array([0] * 8 + [1] * 2), "text": np.array([0] * 3 + [1] * 5)}
    return Classes(2, (0, 1), (), items, kinds, {("image", "text"): own, ("text", "image"): back})


def test_a_shuffled_epoch_passes_every_item(labelled):
    """Once each of the larger modality of a class; those of the other, its own or not, as evenly as it goes."""
    made = uneven()
    assert made.size(("image", "text")) == 8 + 5
    orders = set()
    for seed in range(5):
        rows = made.draw(("image", "text"), torch.Generator().manual_seed(seed))
        pairs = list(zip(rows["image"].tolist(), rows["text"].tolist(), strict=True))
        assert sorted(i for i, _ in pairs if i < 8) == [*range(8)]
        assert sorted(t for _, t in pairs if t >= 13) == [*range(13, 18)]
        assert all((i < 8) == (t < 13) for i, t in pairs)  # a row is of one class
        assert {(0, 11), (3, 10)} <= set(pairs)
        # Six images have no text of their own: the text that is no image's comes first, then all three in turn.
        texts = Counter(t for i, t in pairs if i in (1, 2, 4, 5, 6, 7))
        assert texts == {10: 2, 11: 2, 12: 2}
        assert sorted(Counter(i for i, _ in pairs if i >= 8).values()) == [2, 3]
        orders.add(tuple(pairs))
        again = made.draw(("image", "text"), torch.Generator().manual_seed(seed))
        assert all(torch.equal(again[m], rows[m]) for m in rows)
    assert len(orders) == 5
    # Classes are mixed, not one after another.
    assert len({tuple(i < 8 for i, _ in pairs) for pairs in orders}) > 1
    # Balanced, as many rows leave out items of the larger class and repeat the smaller one's.
    rows = made.draw(("image", "text"), torch.Generator().manual_seed(0), "balanced")
    kinds = Counter((rows["image"] < 8).tolist())
    assert sorted(kinds.values()) == [6, 7]
    assert len(set(rows["image"].tolist())) < 10


def test_texts_of_one_image_leave_no_row_for_an_image_without_one():
    """Three texts of the first of two images: each text once; the second image has no row, for there is no text."""
    groups = {"text": np.array([0, 0, 0]), "image": np.array([0, 1])}
    mates_ = {("text", "image"): np.array([0, 0, 0]), ("image", "text"): np.array([0, -1])}
    items = {m: np.arange(len(x)) for m, x in groups.items()}
    kinds = {m: np.zeros(len(x), dtype=np.int64) for m, x in groups.items()}
    rows = Classes(1, (0,), (), items, kinds, mates_).paired()
    assert rows["text"].tolist() == [0, 1, 2]
    assert rows["image"].tolist() == [0, 0, 0]


@pytest.mark.parametrize("sampling", ["shuffled", "balanced"])
def test_training_draws_as_the_settings_say(labelled, monkeypatch, sampling):
    from crossmodal.models import cvs

    made = corpus(labelled)
    drawn = []
    whole = Classes.draw
    monkeypatch.setattr(Classes, "draw", lambda self, m, g, s="shuffled": drawn.append(s) or whole(self, m, g, s))
    model = cvs.Model(cvs.Settings(modalities=ALL, **{**SETTINGS, "epochs": 1}, sampling=sampling), made.context)
    train(model, made, 0, CPU, BY_CLASS)
    assert drawn == [sampling]
    assert cvs.Settings().sampling == "shuffled"


def test_classes_of_a_stage_are_those_of_the_named_sizes(labelled):
    """Five training classes; runs of a later stage are also tested on the classes of the first."""
    items = pd.read_parquet(labelled / "kinds" / "items.parquet")
    for number, trained in ((1, (0,)), (2, (1, 2, 3)), (3, (4,))):
        found = Labels.of(items, f"classes{number}of3", (1, 3, 1))
        assert (found.trained, found.first) == (trained, (0,))
        assert Labels.of(items, f"classes{number}of3").first == (0, 1)
    full = Labels.of(items, "full", (1, 3, 1))
    assert (full.trained, full.first) == ((0, 1, 2, 3, 4), ())


def test_rows_follow_from_seed_and_epoch(labelled):
    made = corpus(labelled)

    def drawn(seed, epoch):
        return torch.cat([b.inputs["audio"] for b in batches(made, 8, seed, epoch)])

    assert torch.equal(drawn(1, 2), drawn(1, 2))
    assert not torch.equal(drawn(1, 2), drawn(1, 3))
    assert not torch.equal(drawn(1, 2), drawn(2, 2))
    some = next(batches(made, 8, 0, 0, modalities=("audio",)))
    assert list(some.inputs) == ["audio"]
    assert made.n_rows(("audio",)) == 10


def test_pairs_for_a_closed_form(labelled):
    made = corpus(labelled)
    assert made.n_pairs == 25
    batch = made.batch(torch.arange(25))
    assert Counter(batch.labels.tolist()) == dict.fromkeys(range(5), 5)
    assert sorted(made.pairs["image"]) == sorted(made.inputs["image"].where("train"))
    assert Counter(Counter(made.pairs["audio"]).values()) == {3: 5, 2: 5}


def test_moments_are_of_the_whole_training_partition(labelled):
    for split in ("full", "classes2of3"):
        made = corpus(labelled, split)
        index = made.inputs["text"].rows[made.inputs["text"].where("train")]
        assert len(index) == 25
        x = np.load(labelled / "kinds" / "features" / "text.raw.npy")[index].astype(np.float64)
        mean, deviation = made.context.moments["text"]
        np.testing.assert_allclose(mean, x.mean(0), rtol=1e-6)
        np.testing.assert_allclose(deviation, x.std(0), rtol=1e-6)


def test_classes_come_in_stages(labelled):
    made = corpus(labelled, "classes2of3")
    assert made.context.trained == (2, 3)  # c and d of a to e
    assert made.context.n_classes == 5
    assert made.n_rows() == 10
    assert set(made.inputs["image"].labels[made.inputs["image"].where("val")]) == {2, 3}
    assert set(made.inputs["image"].labels[made.inputs["image"].where("test")]) == set(range(6))
    assert made.classes.subsets(set(range(6))) == {"seen": [0, 1, 2, 3, 4], "unseen": [5], "first": [0, 1]}


def test_splits_that_cannot_be(labelled):
    frame = pd.read_parquet(labelled / "kinds" / "items.parquet")
    for name, words in (("10pct-1cap", "classesIofN"), ("classes3of2", "classesIofN"), ("classes1of9", "5 classes")):
        with pytest.raises(UserError, match=words):
            splits.make_labelled(frame, name)
    frame.loc[0, "label"] = None
    with pytest.raises(UserError, match="1 training items have no label, such as 'image/a0'"):
        splits.make_labelled(frame, "full")


def test_a_modality_that_lacks_a_class_is_named(labelled):
    folder = labelled / "kinds"
    whole = pd.read_parquet(folder / "splits" / "full.parquet")
    whole[~((whole.label == "b") & whole.item_id.str.startswith("audio"))].to_parquet(folder / "splits" / "x.parquet")
    with pytest.raises(UserError, match="expected `full`"):
        corpus(labelled, "x")
    bad = folder / "splits" / "classes1of1.parquet"
    (folder / "splits" / "x.parquet").rename(bad)
    with pytest.raises(UserError, match="no audio item of class 'b'"):
        corpus(labelled, "classes1of1")
    bad.unlink()


def test_the_epoch_of_the_largest_sum_is_kept(labelled):
    from crossmodal.models import cvs

    made = corpus(labelled)
    torch.manual_seed(0)
    model = cvs.Model(cvs.Settings(modalities=ALL, **SETTINGS), made.context)
    done = train(model, made, 0, CPU, BY_CLASS)
    assert len([c for c in done.history if c.startswith("val_") and c.endswith("map@50")]) == 6
    sums = done.history["val_map@50_sum"]
    assert done.best_epoch == int(sums.idxmax()) + 1
    assert validate(model, made, "val", CPU)["map@50_sum"] == sums.max()


@pytest.fixture
def without_validation(labelled, tmp_path):
    """The data set as its reader makes it with `val: 0`."""
    import shutil

    shutil.copytree(labelled / "kinds", tmp_path / "kinds")
    frame = pd.read_parquet(tmp_path / "kinds" / "items.parquet")
    frame["partition"] = frame.partition.replace("val", "train")
    frame.to_parquet(tmp_path / "kinds" / "items.parquet")
    splits.make_labelled(frame, "full").to_parquet(tmp_path / "kinds" / "splits" / "full.parquet")
    return tmp_path


def test_closed_forms_need_no_validation_items(without_validation):
    made = job("pls").model_copy(update={"settings": {"modalities": list(ALL), "dim": 2}})
    train_job(made, without_validation / "run", without_validation)
    evaluate(made, without_validation / "run", without_validation, "embedded")
    numbers = pd.DataFrame(read_json(without_validation / "run" / "category_retrieval" / "metrics.json")["numbers"])
    assert (numbers[numbers.aspect == "image-to-text"].n_queries > 0).all()
    assert read_json(without_validation / "run" / "manifest.json")["pairs"] == 30  # of five classes six, not five


def test_without_validation_items_no_epoch_can_be_chosen(without_validation):
    with pytest.raises(UserError, match=r"items\.parquet: no image item of the partition val.*datasets\.kinds\.val"):
        train_job(job("cvs"), without_validation / "run", without_validation)


@pytest.fixture(scope="module")
def grown(labelled, tmp_path_factory):
    """Runs of two modalities and of a third after them."""
    folder = tmp_path_factory.mktemp("runs")
    first, second = job("cvs", ALL[:2]), job("mcvs", after="kinds/full/cvs", origin="x")
    train_job(first, folder / "cvs", labelled)
    train_job(second, folder / "mcvs", labelled, before=folder / "cvs")
    for made, name in ((first, "cvs"), (second, "mcvs")):
        evaluate(made, folder / name, labelled, "embedded")
    return folder


def test_a_run_that_begins_from_another_keeps_its_numbers(grown):
    numbers = [
        {
            (n["aspect"], n["metric"]): n["value"]
            for n in read_json(grown / name / "category_retrieval" / "metrics.json")["numbers"]
        }
        for name in ("cvs", "mcvs")
    ]
    directions = ("image-to-text", "text-to-image")
    shared = [key for key in numbers[0] if key[0] in directions]
    assert all(numbers[0][key] == numbers[1][key] for key in shared)
    manifest = read_json(grown / "mcvs" / "manifest.json")
    assert manifest["before"]["run"] == "kinds/full/cvs/seed0"
    assert manifest["before"]["weights_sha256"] == read_json(grown / "cvs" / "manifest.json")["weights_sha256"]
    history = pd.read_parquet(grown / "mcvs" / "history.parquet")
    assert set(history.stage) == {"audio"}
    assert len(history) == 3


def test_what_a_run_begins_from_must_be_there_and_fit(grown, labelled, tmp_path):
    with pytest.raises(UserError, match=r"model.safetensors: not found; train the run first"):
        train_job(job("mcvs"), tmp_path / "run", labelled, before=tmp_path / "none")
    with pytest.raises(
        UserError, match="training cannot be resumed from it: it has audio, image, text, this run is of image, text"
    ):
        train_job(job("mcvs", ALL[:2]), tmp_path / "run", labelled, before=grown / "mcvs")


def test_numbers_of_every_direction_and_their_mean(grown):
    numbers = pd.DataFrame(read_json(grown / "mcvs" / "category_retrieval" / "metrics.json")["numbers"])
    assert set(numbers.protocol) == {"all", "seen", "unseen"}
    queries = pd.read_parquet(grown / "mcvs" / "category_retrieval" / "examples.parquet")
    for protocol, part in numbers[numbers.metric == "map@50"].groupby("protocol"):
        each = part[part.aspect != "average"].set_index("aspect").value
        assert len(each) == 6
        (mean,) = part[part.aspect == "average"].value
        assert mean == pytest.approx(each.mean())
        own = queries[queries.protocol == protocol].groupby("aspect")["average_precision@50"].mean() * 100
        pd.testing.assert_series_equal(own, each.loc[own.index], check_names=False)
    assert (queries[queries.protocol == "unseen"].query_id.str.contains("/f")).all()
    audio = numbers[(numbers.aspect == "audio-to-image") & (numbers.metric == "map")].set_index("protocol")
    assert audio.n_queries.to_dict() == {"all": 9, "seen": 5, "unseen": 4}
    assert audio.n_gallery.to_dict() == {"all": 18, "seen": 10, "unseen": 8}


def test_average_precision_by_hand(grown):
    with np.load(grown / "mcvs" / "category_retrieval" / "embeddings.npz") as file:
        vectors, others = file["audio.image"], file["image.audio"]
        ids = [file[f"{m}_ids"] for m in ("audio", "image")]
    queries = pd.read_parquet(grown / "mcvs" / "category_retrieval" / "examples.parquet").set_index(
        ["protocol", "aspect", "query_id"]
    )
    kinds = [np.array([one.split("/")[1][0] for one in part]) for part in ids]
    for row, query in enumerate(ids[0]):
        order = np.argsort(-(others @ vectors[row]), kind="stable")
        hits = kinds[1][order] == kinds[0][row]
        precision = np.cumsum(hits) / np.arange(1, len(hits) + 1)
        found = queries.loc["all", "audio-to-image", query]
        assert found["average_precision@50"] == pytest.approx(precision[hits].sum() / hits.sum())
        r = hits.sum()
        assert found["average_precision@R"] == pytest.approx(precision[:r][hits[:r]].sum() / r)


def test_shards_give_the_same_bits(grown, labelled, tmp_path):
    import shutil

    made = job("mcvs", after="kinds/full/cvs", origin="x")
    shutil.copytree(grown / "mcvs", tmp_path / "run")
    task = "category_retrieval"
    cut, whole = tmp_path / "run" / task, grown / "mcvs" / task
    shutil.rmtree(cut)
    encode_job(made, tmp_path / "run", labelled, task)
    for number in range(3):
        shard_job(made, tmp_path / "run", task, number, 3)
    gather_job(made, tmp_path / "run", labelled, "embedded", task, 3)
    assert read_json(cut / "metrics.json") == read_json(whole / "metrics.json")
    examples = [pd.read_parquet(folder / "examples.parquet") for folder in (cut, whole)]
    pd.testing.assert_frame_equal(*examples, check_exact=True)


def test_controls_know_classes_or_nothing(labelled, tmp_path):
    from crossmodal.reporting.results.comparison import controls

    rows = []
    for name in ("chance", "oracle"):
        evaluate(job(name), tmp_path / name, labelled, "embedded")
        about = {"paper": "", "dataset": "kinds", "split": "full", "model": name, "variant": "", "seed": 0}
        about["task"] = "category_retrieval"
        rows += [
            {**about, **number}
            for number in read_json(tmp_path / name / "category_retrieval" / "metrics.json")["numbers"]
        ]
    checks = controls(pd.DataFrame(rows))
    assert checks.ok.all(), checks[~checks.ok.astype(bool)]
    assert (checks[checks.model == "oracle"].value == 100).all()
    chance = checks[checks.model == "chance"]
    assert set(chance.metric) == {"map", "map@50", "map@R"}
    assert {"all", "seen"} <= set(chance.protocol)
    leak = pd.DataFrame(rows)
    leak.loc[(leak.model == "chance") & (leak.metric == "map"), "value"] = 99.0
    assert not controls(leak).ok.all()


def test_a_model_of_classes_wants_data_that_has_them(labelled, tmp_path):
    made = job().model_copy(update={"relevance": "group"})
    with pytest.raises(UserError, match=r"datasets.kinds: model 'cvs' learns from classes; set `relevance: label`"):
        train_job(made, tmp_path / "run", labelled)
