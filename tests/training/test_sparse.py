"""What sparse corpora need of the data: longer epochs, names of images without captions, concepts, word vectors."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from crossmodal.core.errors import UserError
from crossmodal.core.files import read_json
from crossmodal.corpus.batches import batches, steps_of, steps_over_all
from crossmodal.corpus.opening import load
from crossmodal.corpus.splits import make
from crossmodal.datasets import items
from crossmodal.experiments import Job
from crossmodal.features.engine import store
from crossmodal.language.tokens import token_table
from crossmodal.models import a3vse, dpc, sg
from crossmodal.runs.evaluate import evaluate
from crossmodal.runs.train import train_job
from crossmodal.runs.trained import trained
from crossmodal.training.loop import train
from tests.prepared import BY_RECALL

READS = {"image": "vector", "text": "tokens"}
THINGS = ["box", "car", "kite", "tree"]


@pytest.fixture(scope="module")
def named(tmp_path_factory):
    """`data/named`: 40 images of two things each, whose regions are named, with two captions of other words."""
    folder = tmp_path_factory.mktemp("data") / "named"
    rng = np.random.default_rng(0)
    rows, index = [], []
    for i in range(40):
        part = "train" if i < 24 else "val" if i < 32 else "test"
        two = [THINGS[n] for n in rng.permutation(4)[:2]]
        rows.append((f"i{i}", "image", f"i{i}", None, part, f"i{i}.jpg"))
        other = ["crate" if one == "box" else one for one in two]
        rows += [(f"i{i}#{k}", "text", f"i{i}", None, part, f"a {other[0]} and a {other[1]}") for k in range(2)]
        index.append((f"i{i}", two, ["red", ""], [0.25, 0.75]))
    frame = pd.DataFrame(rows, columns=list(items.COLUMNS))
    items.write(frame, folder, {"root": ".", "regions": {"file": "regions.json", "synonyms": {"box": ["crate"]}}})
    token_table(frame).to_parquet(folder / "tokens.parquet")
    (folder / "splits").mkdir()
    for name in ("full", "none", "50pct-1cap"):
        make(frame, name, 0).to_parquet(folder / "splits" / f"{name}.parquet")
    (folder / "features").mkdir()
    array = rng.normal(size=(40, 2, 6)).astype(np.float32)
    np.save(folder / "features" / "image.regions.npy", array)
    np.save(folder / "features" / "image.raw.npy", array.mean(1))
    regions = pd.DataFrame(index, columns=["item_id", "class", "attribute", "confidence"])
    store.save(folder / "features" / "image.regions", regions.assign(count=2), {"extractor": "made by hand"})
    store.save(folder / "features" / "image.raw", regions.item_id, {"extractor": "made by hand"})
    return folder.parent


def test_an_epoch_has_the_steps_that_are_asked_for(prepared):
    corpus = load(prepared / "toy", "50pct-2cap", READS, {"image": "raw"}, min_count=1)  # 36 pairs
    for size, steps, expected in ((16, 0, 3), (16, 2, 2), (16, 7, 7), (35, 0, 1), (35, 2, 2)):
        found = list(batches(corpus, size, 0, 0, steps=steps))
        assert len(found) == steps_of(corpus, size, steps=steps) == expected
    once, twice, few = ([b.groups.tolist() for b in batches(corpus, 16, 0, 0, steps=n)] for n in (0, 6, 2))
    assert twice[:3] == once
    assert few == once[:2]
    assert sorted(map(sorted, twice[3:])) != sorted(map(sorted, once))
    seen = [group for groups in twice for group in groups]
    assert {seen.count(group) for group in seen} == {4}  # two captions, twice


def test_an_epoch_over_all_brings_every_unannotated_image_once(named):
    """12 images have a caption and 12 none; with 5 of the pairs alone, the images are more."""
    corpus = load(
        named / "named",
        "50pct-1cap",
        a3vse.Model.reads,
        {"image": "regions"},
        further=a3vse.Model.further,
        min_count=1,
    )
    few = replace(corpus, pairs={m: index[:5] for m, index in corpus.pairs.items()})
    assert [steps_over_all(few, size) for size in (4, 5, 6, 11)] == [3, 3, 2, 1]  # a lone one is left out
    assert steps_over_all(replace(few, unannotated=few.unannotated[:2]), 2) == 2
    bare = corpus.inputs["image"].gather(torch.from_numpy(corpus.unannotated)).features
    brought = [batch.unannotated["image"].features for batch in batches(few, 4, 0, 0, ("image",), steps=3)]
    assert sorted(torch.cat(brought).flatten(1).tolist()) == sorted(bare.flatten(1).tolist())
    for over, steps in (("all", 3), ("annotated", 1)):
        settings = a3vse.Settings(dim=4, word_dim=4, batch_size=4, epochs=1, epoch_over=over)
        history = train(a3vse.Model(settings, few.context), few, 0, torch.device("cpu"), BY_RECALL).history
        assert history.steps.tolist() == [steps]


def test_the_order_of_pairs_does_not_depend_on_what_is_brought_beside(named):
    """So that an ablation without un-annotated images sees the same batches of pairs."""
    corpus = load(named / "named", "50pct-1cap", READS, {"image": "raw"}, min_count=1)
    with_images = [batch.groups.tolist() for batch in batches(corpus, 5, 2, 1, ("image",))]
    assert with_images == [batch.groups.tolist() for batch in batches(corpus, 5, 2, 1)]


def words_of(corpus, index):
    tokens = corpus.inputs["semantics"].gather(torch.tensor([index]))
    return [corpus.vocabulary.words[i] for i in tokens.ids[0].tolist()][1:-1]


def test_semantics_are_regional_global_or_left_out(named):
    """Attribute and class of each region, the most confident first; or the image's concepts above .3."""
    options = {"further": a3vse.Model.further, "min_count": 1}
    reads, inputs = a3vse.Model.reads, {"image": "regions"}
    table = store.open_features(named / "named" / "features" / "image.regions").index
    first, second = table["class"][0]
    regional = load(named / "named", "50pct-1cap", reads, inputs, **options)
    assert words_of(regional, 0) == [second, "red", first]
    over = load(named / "named", "50pct-1cap", reads, inputs, semantics="global", **options)
    assert words_of(over, 0) == [second]
    without = load(named / "named", "50pct-1cap", reads, inputs, semantics="none", **options)
    assert "semantics" not in without.inputs
    assert "red" in regional.vocabulary.words
    assert "red" not in without.vocabulary.words


def test_without_semantics_no_image_is_brought(named):
    options = {"further": a3vse.Model.further, "semantics": "none", "min_count": 1}
    corpus = load(named / "named", "50pct-1cap", a3vse.Model.reads, {"image": "regions"}, **options)
    model = a3vse.Model(a3vse.Settings(dim=4, word_dim=4, semantics="none"), corpus.context)
    (batch,) = batches(corpus, 64, 0, 0, model.unannotated)
    assert batch.unannotated == {}
    assert model.loss(batch, 0.5, "model")["loss"].isfinite()


def job(model, split, inputs, **settings):
    return Job(dataset="named", split=split, model=model, seed=0, inputs=inputs, settings=settings)


def test_s_g_finds_what_is_named(named, tmp_path):
    """Without a pair: an image and its own captions share both concepts, and `crate` is a box."""
    corpus = load(named / "named", "none", sg.Model.reads, {"image": "regions"}, expansion="own")
    model = sg.Model(sg.Settings(expansion="own"), corpus.context)
    assert corpus.n_pairs == 0
    index = {m: corpus.inputs[m].where("test") for m in ("image", "text")}
    images, texts = (model.encode(m, next(corpus.items(m, index[m], 64)), "") for m in ("image", "text"))
    scores = model.score(images, texts)
    torch.testing.assert_close(scores.amax(0), torch.ones(16))  # .25 + .75
    own = scores[torch.arange(8).repeat_interleave(2), torch.arange(16)]
    torch.testing.assert_close(own, torch.ones(16))
    made = job("sg", "none", {"image": "regions"}, expansion="own")
    train_job(made, tmp_path, named)
    evaluate(made, tmp_path, named, "embedded")
    manifest = read_json(tmp_path / "manifest.json")
    assert manifest["fallbacks"] == ["concepts of words: the data set's own synonyms, not WordNet"]
    assert manifest["pairs"] == 0
    rows = {
        (row["aspect"], row["metric"]): row["value"]
        for row in read_json(tmp_path / "instance_retrieval" / "metrics.json")["numbers"]
    }
    assert rows["text-to-image", "recall@10"] == 100  # eight images


def test_word_embeddings_begin_with_vectors_of_a_file(named, tmp_path):
    path = tmp_path / "glove.txt"
    path.write_text("car 1 2 3 4\nkite 4 3 2 1\na 0 1 0 1\nand 1 0 0 1\n")
    settings = {"dim": 4, "word_dim": 4, "epochs": 1, "min_count": 1, "word_embedding": str(path), "lr": 1e-9}
    made = job("a3vse", "full", {"image": "regions"}, **settings)
    train_job(made, tmp_path / "run", named)
    manifest = read_json(tmp_path / "run" / "manifest.json")
    assert manifest["fallbacks"] == []
    assert (manifest["word_vectors"]["with_vector"], manifest["word_vectors"]["words"]) == (4, 8)
    assert len(manifest["data"]["word_vectors"]) == 64
    words = read_json(tmp_path / "run" / "vocabulary.json")["words"]
    model, _ = trained(made, tmp_path / "run", named)
    found = model.text.words.weight.detach()[words.index("car")]
    torch.testing.assert_close(found, torch.tensor([1.0, 2, 3, 4]), atol=1e-4, rtol=0)
    path.write_text("car 1 2 3 4\n")
    with pytest.raises(UserError, match=r"1 of 8 words have a vector in glove\.txt .*less than words_covered: 0\.3"):
        train_job(made, tmp_path / "few", named)
    few = made.model_copy(update={"settings": settings | {"words_covered": 0.1}})
    train_job(few, tmp_path / "few", named)
    (fallback,) = read_json(tmp_path / "few" / "manifest.json")["fallbacks"]
    assert fallback == "word vectors: 1 of 8 words have a vector in glove.txt (12% of all); the others are seeded"
    with pytest.raises(UserError, match="has vectors of 4 numbers, and the model's `word_dim` is 5"):
        train_job(made.model_copy(update={"settings": settings | {"word_dim": 5}}), tmp_path / "other", named)
    absent = made.model_copy(update={"settings": settings | {"word_embedding": "x.txt"}})
    with pytest.raises(UserError, match="no such file of word vectors"):
        train_job(absent, tmp_path / "absent", named)
    plain = made.model_copy(update={"settings": {**settings, "word_embedding": "seeded"}})
    train_job(plain, tmp_path / "plain", named)
    assert read_json(tmp_path / "plain" / "manifest.json")["fallbacks"] == ["word vectors: seeded, not GloVe"]


def test_the_classes_of_the_instance_loss_are_the_annotated_images(named, tmp_path):
    corpus = load(named / "named", "50pct-1cap", dpc.Model.reads, {"image": "raw"}, min_count=1)
    assert len(corpus.context.groups) == 12
    small = {
        "dim": 8,
        "word_dim": 4,
        "widths": (8, 8),
        "inner": (8, 8),
        "blocks": (1, 1),
        "epochs": 2,
        "epoch_steps": 0,
        "ranking_epochs": 2,
        "batch_size": 6,
    }
    made = job("dpc", "50pct-1cap", {"image": "raw"}, min_count=1, **small)
    train_job(made, tmp_path, named)
    evaluate(made, tmp_path, named, "embedded")
    history = pd.read_parquet(tmp_path / "history.parquet")
    assert history.stage.tolist() == ["instance"] * 2 + ["ranking"] * 2
    assert history["ranking"].isna().tolist() == [True, True, False, False]


def test_regions_without_names_are_told(named, tmp_path):
    import shutil

    shutil.copytree(named / "named", tmp_path / "named")
    target = tmp_path / "named" / "features" / "image.regions"
    store.save(target, store.open_features(target).index[["item_id"]], {"extractor": "made by hand"})
    with pytest.raises(UserError, match="has no column 'class'"):
        load(tmp_path / "named", "none", sg.Model.reads, {"image": "regions"}, expansion="own")
