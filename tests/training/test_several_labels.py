"""Items of several labels each: batches, losses, ranking, metrics and controls."""

from __future__ import annotations

import json
import shutil
from collections import Counter

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.metrics import average_precision_score

from crossmodal.core import registry
from crossmodal.core.errors import UserError
from crossmodal.core.files import read_json
from crossmodal.corpus.batches import batches, steps_of
from crossmodal.corpus.by_class import Labels, shared_classes
from crossmodal.corpus.opening import load
from crossmodal.corpus.splits import make_labelled
from crossmodal.datasets import items
from crossmodal.evaluation.ranking.ranks import rank_queries
from crossmodal.evaluation.ranking.relevance import NoRelevantItemError, relevant_counts
from crossmodal.evaluation.ranking.scores import Scores, source
from crossmodal.evaluation.ranking.several_labels import rank_several
from crossmodal.experiments import Job
from crossmodal.features.engine import store
from crossmodal.models import base
from crossmodal.models.parts import labelled as parts
from crossmodal.reporting.results import cutoffs
from crossmodal.reporting.results.comparison import controls
from crossmodal.runs.evaluate import encode_job, evaluate, gather_job, shard_job
from crossmodal.runs.train import train_job
from crossmodal.tasks.ranked import protocols

NAMES = "abcdef"
TASK = "category_retrieval"
SETS = ["a", "ab", "af", "ad", "e", "ef", "b", "bc", "c", "d"]
PAIR = ("image", "text")
SMALL_CVS = {"dim": 8, "epochs": 8, "lr": 0.01, "batch_size": 16}
SMALL = {"hidden": [16], "dim": 8, "epochs": 8, "lr": 0.01, "batch_size": 16}


@pytest.fixture(scope="session")
def several(tmp_path_factory):
    """`data/several`: 80 images with a text each, of one or two of six labels; a vector is the sum of theirs."""
    folder = tmp_path_factory.mktemp("data") / "several"
    rng = np.random.default_rng(0)
    rows, arrays = [], {m: [] for m in PAIR}
    for i in range(80):
        names, part = SETS[i % 10], "test" if i // 10 in (3, 7) else "val" if i // 10 == 5 else "train"
        for modality, dim in zip(PAIR, (8, 7), strict=True):
            rows.append((f"{modality}/{i}", modality, f"g{i}", items.encoded_labels(names), part, "x"))
            vector = sum(3 * np.eye(6, dim)[NAMES.index(name)] for name in names) + rng.normal(size=dim) / 2
            arrays[modality].append(vector.astype("f4"))
    frame = pd.DataFrame(rows, columns=list(items.COLUMNS)).sort_values("modality", kind="stable")
    items.write(frame, folder, {"root": "."})
    (folder / "splits").mkdir()
    make_labelled(frame, "full").to_parquet(folder / "splits" / "full.parquet")
    (folder / "features").mkdir()
    for modality, vectors in arrays.items():
        np.save(folder / "features" / f"{modality}.raw.npy", np.stack(vectors))
        ids = frame.item_id[frame.modality == modality].to_list()
        store.save(folder / "features" / f"{modality}.raw", ids, {"extractor": "made by hand"})
    return folder.parent


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    """Checkpoints go to the working folder."""
    monkeypatch.chdir(tmp_path)


def corpus(several):
    return load(
        several / "several", "full", dict.fromkeys(PAIR, "vector"), dict.fromkeys(PAIR, "raw"), relevance="label"
    )


def job(model, settings=None):
    return Job(
        dataset="several", split="full", model=model, seed=0, inputs=dict.fromkeys(PAIR, "raw"), relevance="label",
        settings={"modalities": list(PAIR), **(settings or {})},
    )  # fmt: skip


# -- how they are written ---------------------------------------------------------------------------------------------


def test_how_labels_are_written():
    assert items.encoded_labels(["sky"]) == "sky"
    assert items.encoded_labels(["traffic light", "bus", "bus"]) == '["bus", "traffic light"]'
    assert items.encoded_labels([]) is None
    for names in (["sky"], ["bus", "traffic light"], ['a "b"', "c|d", "é"]):
        assert items.labels_of(items.encoded_labels(names)) == sorted(names)
    assert items.labels_of(None) == items.labels_of(pd.NA) == []
    assert items.labels_of('["no list') == ['["no list']
    assert not items.several_labels(pd.Series(["a", '["no list', None], dtype="string"))
    assert items.several_labels(pd.Series(["a", '["b", "c"]'], dtype="string"))


def test_a_table_of_labels():
    frame = pd.DataFrame({"item_id": ["1", "2", "3"], "label": ["a", '["a", "c"]', None]}, dtype="string")
    table = items.label_table(frame)
    assert table.of(np.array(["1", "2", "class/c"])).tolist() == [[1, 0], [1, 1], [0, 1]]
    one = items.label_table(frame[:1])
    assert one.of(np.array(["1", "class/a"])).tolist() == [0, 0]


# -- batches ----------------------------------------------------------------------------------------------------------


def test_an_item_stands_under_its_rarest_class(several):
    made = corpus(several)
    train = made.inputs["image"].where("train")
    counts = made.inputs["image"].sets[train].sum(0)
    assert counts.argmax() == 0  # `a` is the commonest
    for index in train:
        own = np.flatnonzero(made.inputs["image"].sets[index])
        assert counts[made.inputs["image"].labels[index]] == counts[own].min()


def test_a_shuffled_epoch_passes_every_item_once_beside_its_own_text(several):
    made = corpus(several)
    rows = list(batches(made, 8, 0, 0))
    assert len(rows) == steps_of(made, 8)
    chosen = made.classes.draw(PAIR, torch.Generator().manual_seed(0))
    n = int((made.inputs["image"].partition == "train").sum())
    assert sorted(chosen["image"].tolist()) == made.inputs["image"].where("train").tolist()
    assert len(chosen["text"].unique()) == n
    groups = [made.inputs[m].groups[chosen[m].numpy()] for m in PAIR]
    assert (groups[0] == groups[1]).all()
    batch = made.gathered(chosen)
    assert batch.labels.shape == (n, 6)
    assert torch.equal(batch.labels, torch.from_numpy(made.inputs["text"].sets[chosen["text"].numpy()]).float())


def test_a_balanced_epoch_draws_every_class_alike(several):
    """Of six classes each is drawn as often as any other, whatever else its items are of."""
    made = corpus(several)
    every = made.classes.every
    for m in PAIR:
        under = Counter(zip(every.items[m].tolist(), every.kinds[m].tolist(), strict=True))
        assert set(under.values()) == {1}
        for place, kind in under:
            assert made.inputs[m].sets[place, every.several[kind]] == 1
        assert len(under) == made.inputs[m].sets[made.inputs[m].where("train")].sum()
    chosen = made.classes.draw(PAIR, torch.Generator().manual_seed(0), "balanced")
    n = len(chosen["image"])
    assert n == made.classes.size(PAIR)
    # In each turn of six rows there is a row of each class: some one-to-one order of them fits.
    sets = made.inputs["image"].sets[chosen["image"].numpy()]
    from scipy.optimize import linear_sum_assignment

    for turn in range(n // 6):
        part = sets[6 * turn : 6 * turn + 6]
        row, column = linear_sum_assignment(part, maximize=True)
        assert part[row, column].all()


def test_rows_without_a_shared_class_have_all():
    image, text = np.array([[1, 1, 0], [1, 0, 0]], np.uint8), np.array([[0, 1, 1], [0, 1, 0]], np.uint8)
    assert shared_classes([image, text]).tolist() == [[0, 1, 0], [1, 1, 0]]


def test_a_class_that_one_modality_lacks_is_left_to_others():
    rows = [("1", "image", '["x", "y"]'), ("2", "image", "y"), ("3", "text", "y"), ("4", "text", "y")]
    frame = pd.DataFrame(rows, columns=["item_id", "modality", "label"]).assign(partition="train")
    labels = Labels.of(frame.astype("string"), "full")
    assert labels.names == ["x", "y"]
    assert labels.encode(frame.label).tolist() == [0, 1, 1, 1]
    with pytest.raises(UserError, match="items of several classes cannot be trained on in stages"):
        Labels.of(frame.astype("string"), "classes1of2")


# -- losses -----------------------------------------------------------------------------------------------------------


def test_what_losses_make_of_labels():
    table = torch.tensor([[1.0, 1.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]])
    assert parts.same_class(table).tolist() == [[True, True, False], [True, True, False], [False, False, True]]
    assert parts.targets(table).tolist() == [[0.5, 0.5, 0], [0, 1, 0], [0, 0, 1]]
    assert parts.ones(table, 2).tolist() == [[1, 1], [0, 1], [0, 0]]
    assert parts.places(table, torch.tensor([1, 2])).tolist() == [[1, 0], [1, 0], [0, 1]]


@pytest.mark.parametrize("model", ["acmr", "dscmr", "deepsm", "cvs", "sm", "scm"])
def test_one_label_in_a_table_is_that_label(model):
    """Each system's loss, or what it fits, is the same whether classes are numbers or rows with a single one."""
    module = registry.module("models", model)
    rng = torch.Generator().manual_seed(0)
    inputs = {m: torch.randn(12, 5, generator=rng) for m in PAIR}
    numbers = torch.arange(12) % 3
    context = base.Context(dict.fromkeys(PAIR, (5,)), n_classes=3, trained=(0, 1, 2))
    found = []
    for labels in (numbers, torch.nn.functional.one_hot(numbers).float()):
        torch.manual_seed(0)
        fields = module.Settings.model_fields
        small = {key: value for key, value in {"hidden": (6,), "dim": 4, "dropout": 0.0}.items() if key in fields}
        if model == "scm":
            small.pop("dim", None)
        made = module.Model(module.Settings(**small), context).train()
        batch = base.Batch(inputs, labels=labels)
        if made.trains:
            torch.manual_seed(1)
            found.append(made.loss(batch, 0.5, "model")["loss"].detach())
        else:
            made.fit([batch])
            found.append(made.encode("image", batch, "text"))
    torch.testing.assert_close(*found, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kind", ["none", "printed", "complement"])
def test_the_thesis_cross_entropy_of_two_classes(kind):
    """Half of each class's own part, and nothing of the other classes' for either."""
    from crossmodal.models.cvs import cross_entropy

    logits = torch.tensor([[1.0, -0.5, 0.3]])
    f = torch.softmax(logits, 1)[0]
    own = -(f[0].log() + f[1].log()) / 2
    other = {"none": 0.0, "printed": 1 - f[2].log(), "complement": (1 - f[2]).log()}[kind]
    found = cross_entropy(logits, torch.tensor([[1.0, 1.0, 0.0]]), kind)
    assert float(found) == pytest.approx(float(own - other), abs=1e-5)


# -- ranking ----------------------------------------------------------------------------------------------------------


def tables(seed=0, n=(15, 40)):
    rng = np.random.default_rng(seed)
    made = [rng.integers(0, 2, (count, 4)) for count in n]
    made[0][:, 0] = made[1][::5, 0] = 1
    return made


def test_precision_is_scikit_learn_s():
    rng = np.random.default_rng(0)
    queries, gallery = rng.normal(size=(15, 6)), rng.normal(size=(40, 6))
    q, g = tables()
    found = rank_several(source(queries, gallery), q, g, 3)
    scores, relevant = queries @ gallery.T, q @ g.T > 0
    expected = [average_precision_score(r, s) for r, s in zip(relevant, scores, strict=True)]
    np.testing.assert_allclose(found.precision["average_precision"], expected, atol=1e-12)
    order = np.argsort(-scores, axis=1)
    assert (found.ranks == np.take_along_axis(relevant, order, 1).argmax(1) + 1).all()
    assert (found.top == order[:, :3]).all()
    assert (relevant_counts(q, g) == relevant.sum(1)).all()
    other = rank_several(Scores.of(scores.astype("f4")), q, g, 3)
    np.testing.assert_array_equal(other.ranks, found.ranks)


def test_one_label_each_is_the_ranking_of_one_label():
    rng = np.random.default_rng(1)
    of = source(rng.integers(-2, 3, (20, 3)).astype(float), rng.integers(-2, 3, (30, 3)).astype(float))  # many ties
    q, g = np.arange(20) % 4, np.arange(30) % 4
    one, several = rank_queries(of, q, g, 5), rank_several(of, np.eye(4)[q], np.eye(4)[g], 5)
    np.testing.assert_array_equal(one.ranks, several.ranks)
    for name, values in one.precision.items():
        np.testing.assert_allclose(several.precision[name], values, atol=1e-12)
    np.testing.assert_array_equal(one.top, several.top)
    assert (relevant_counts(q, g) == relevant_counts(np.eye(4)[q], np.eye(4)[g])).all()


def test_a_query_that_shares_nothing():
    with pytest.raises(NoRelevantItemError, match="query 1 shares no label"):
        rank_several(source(np.eye(2), np.eye(2)), [[1, 0], [0, 1]], [[1, 0], [1, 0]])


# -- whole runs -------------------------------------------------------------------------------------------------------


def run(name, several, tmp_path, settings=None):
    made = job(name, settings)
    if not made.control:
        train_job(made, tmp_path / name, several)
    evaluate(made, tmp_path / name, several, "embedded")
    return read_json(tmp_path / name / "category_retrieval" / "metrics.json")["numbers"]


@pytest.mark.parametrize("model", ["cvs", "dscmr", "acmr", "deepsm", "sm", "scm", "pls", "cca"])
def test_systems_learn_several_labels(several, tmp_path, model):
    fields = registry.module("models", model).Settings.model_fields
    small = {key: value for key, value in SMALL.items() if key in fields}
    small |= {"dim": 3} if model in ("pls", "cca", "scm") else {}
    found = {(n["aspect"], n["metric"]): n["value"] for n in run(model, several, tmp_path, small)}
    chance, perfect = found["average", "map_chance"], 100
    assert 25 < chance < 50
    assert found["average", "map"] > chance + 0.4 * (perfect - chance), found


def test_controls_meet_what_is_expected(several, tmp_path):
    rows = []
    for name in ("chance", "oracle"):
        about = {"paper": "", "dataset": "several", "split": "full", "model": name, "variant": "", "seed": 0}
        about["task"] = TASK
        numbers = run(name, several, tmp_path)
        numbers += cutoffs.measure(tmp_path / name, job(name), several, ["map@3", "ndcg@5"])
        rows += [{**about, **number} for number in numbers]
    checks = controls(pd.DataFrame(rows))
    assert checks.ok.all(), checks[~checks.ok.astype(bool)]
    assert set(checks.metric) >= {"map", "map@50", "map@R", "map@3", "ndcg@5"}
    assert (checks[checks.model == "oracle"].value > 100 - 1e-9).all()


def test_what_one_class_is_needed_for(several, tmp_path):
    with pytest.raises(UserError, match="model 'bimodal' needs items of one class each"):
        train_job(job("bimodal"), tmp_path / "bimodal", several)
    assert corpus(several).classes.every is not None


@pytest.fixture(scope="module")
def in_folds(several, tmp_path_factory):
    """A trained run and its job, tested in one process, also in two folds of its 20 photographs."""
    folder = tmp_path_factory.mktemp("folds") / "cvs"
    made = job("cvs", SMALL_CVS).model_copy(update={"folds": [1, 2]})
    train_job(made, folder, several)
    evaluate(made, folder, several, "embedded")
    return folder, made


@pytest.mark.parametrize("count", [2, 25])
def test_shards_have_the_bits_of_one_process(in_folds, several, tmp_path, count):
    """25 are more than there are queries."""
    folder, made = in_folds
    shutil.copytree(folder, tmp_path / "cut")
    cut, whole = tmp_path / "cut" / TASK, folder / TASK
    shutil.rmtree(cut)
    encode_job(made, tmp_path / "cut", several, TASK)
    for number in range(count):
        shard_job(made, tmp_path / "cut", TASK, number, count)
    gather_job(made, tmp_path / "cut", several, "embedded", TASK, count)
    assert read_json(cut / "metrics.json") == read_json(whole / "metrics.json")
    examples = [pd.read_parquet(path / "examples.parquet") for path in (cut, whole)]
    pd.testing.assert_frame_equal(*examples, check_exact=True)


def test_folds_keep_what_belongs_together(in_folds, several):
    """The mean over two folds of ten photographs and their texts, of average precisions by scikit-learn."""
    folder, _ = in_folds
    frame = items.read(several / "several").set_index("item_id")
    with np.load(folder / TASK / "embeddings.npz") as file:
        vectors = {m: dict(zip(file[f"{m}_ids"], file[m].astype(np.float64), strict=True)) for m in PAIR}
    tested = [id_.split("/")[1] for id_ in frame.index[(frame.partition == "test") & (frame.modality == "image")]]
    means = []
    for fold in (tested[:10], tested[10:]):
        of = {m: np.stack([vectors[m][f"{m}/{n}"] for n in fold]) for m in PAIR}
        labels = [set(items.labels_of(frame.label[f"image/{n}"])) for n in fold]
        relevant = np.array([[bool(a & b) for b in labels] for a in labels])
        scores = of["image"] @ of["text"].T
        means.append(np.mean([average_precision_score(r, s) for r, s in zip(relevant, scores, strict=True)]))
    numbers = read_json(folder / TASK / "metrics.json")["numbers"]
    wanted = {"protocol": "fold2", "metric": "map", "aspect": "image-to-text"}
    (found,) = (one for one in numbers if wanted.items() <= one.items())
    assert found["value"] == pytest.approx(100 * np.mean(means), abs=1e-9)
    assert (found["n_queries"], found["n_gallery"]) == (10, 10)


def test_folds_of_items_that_stand_for_themselves(in_folds):
    labels = {m: np.ones((2, 1), np.uint8) for m in PAIR}
    ids = {m: np.array([f"{m}/0", f"{m}/1"], object) for m in PAIR}
    alone = protocols.Items(ids, {"image": np.arange(2), "text": np.arange(2, 4)}, labels, {}, by_class=True)
    ((name, (places,)),) = alone.parts(PAIR, [1])
    assert (name, [list(one) for one in places]) == ("all", [[0, 1], [0, 1]])
    with pytest.raises(UserError, match=r"by the groups that image and text items share, and some .* use \[1\]"):
        list(alone.parts(PAIR, [1, 2]))


# -- readers ----------------------------------------------------------------------------------------------------------


def test_readers_that_bring_several(tmp_path):
    from crossmodal.datasets import coco_captions, precomputed, table

    np.savez(tmp_path / "mirflickr.npz", x=np.eye(4), y=np.array([[1, 1, 0], [0, 1, 0], [0, 0, 0], [1, 0, 1]]))
    given = {"partition": "test", "file": "mirflickr.npz", "array": "x", "labels": "y"}
    with pytest.raises(UserError, match=r"row 0 has 2 classes; .*`several: true`"):
        precomputed.read(precomputed.Settings(root=tmp_path, modalities={"image": given}))
    frame, _ = precomputed.read(precomputed.Settings(root=tmp_path, modalities={"image": given}, several=True))
    assert [items.labels_of(label) for label in frame.label] == [["0", "1"], ["1"], [], ["0", "2"]]
    (tmp_path / "images").mkdir()
    names = [f"{n}.jpg" for n in range(10)]
    for name in names:
        (tmp_path / "images" / name).touch()
    rows = [{"image": name, "caption": "a dog", "label": ["sky", "dog"]} for name in names]
    (tmp_path / "mine.jsonl").write_text("\n".join(map(json.dumps, rows)))
    settings = {"images": tmp_path / "images", "annotations": tmp_path / "mine.jsonl", "columns": {"label": "label"}}
    assert set(table.read(table.Settings(**settings)).label) == {'["dog", "sky"]'}
    images = [{"id": n, "file_name": name} for n, name in enumerate(names)]
    captions = [{"image_id": n, "caption": "a dog"} for n in range(10)]
    things = [{"image_id": n, "category_id": 7} for n in range(10)] + [{"image_id": 3, "category_id": 9}] * 2
    categories = [{"id": 7, "name": "dog"}, {"id": 9, "name": "traffic light"}]
    (tmp_path / "captions.json").write_text(json.dumps({"images": images, "annotations": captions}))
    whole = {"images": images, "annotations": things, "categories": categories}
    (tmp_path / "instances.json").write_text(json.dumps(whole))
    settings = {"images": tmp_path / "images", "annotations": tmp_path / "captions.json"}
    frame = coco_captions.read(coco_captions.Settings(**settings, instances=tmp_path / "instances.json"))
    label = frame.set_index("item_id").label
    assert label["3"] == label["3#0"] == '["dog", "traffic light"]'
    assert label["4"] == "dog"
    (tmp_path / "instances.json").write_text("{}")
    with pytest.raises(UserError, match=r"instances\.json: is no instances_\*\.json of COCO's"):
        coco_captions.read(coco_captions.Settings(**settings, instances=tmp_path / "instances.json"))
