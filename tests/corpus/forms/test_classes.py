"""Classes as a modality, a source of knowledge, and what is measured besides retrieval, on toy data."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch

from crossmodal.core.errors import UserError
from crossmodal.core.files import read_json, read_parquet, write_parquet
from crossmodal.corpus.batches import batches
from crossmodal.corpus.opening import load
from crossmodal.experiments import Job
from crossmodal.runs.evaluate import evaluate as run_test
from crossmodal.runs.train import train_job

ZERO_SHOT = {"image": "vector", "class": "classes"}
LABELS = list("abcdef")
ATTRIBUTES = np.eye(6)[:, :4] + 0.1


@pytest.fixture(scope="module")
def described(labelled):
    """The toy data with a table of classes, in another order than theirs."""
    order = [3, 0, 5, 1, 4, 2]
    table = pd.DataFrame(
        {
            "label": [LABELS[k] for k in order],
            "seen": [k != 5 for k in order],
            "text": [f"A bird with {LABELS[k]} wings." for k in order],
            "attributes": [ATTRIBUTES[k].tolist() for k in order],
        }
    )
    write_parquet(labelled / "kinds" / "classes.parquet", table)
    return labelled


def corpus_of(data, reads=None, **options):
    extractors = dict.fromkeys(("image", "text", "audio"), "raw")
    return load(data / "kinds", "full", reads or ZERO_SHOT, extractors, relevance="label", **options)


def job_of(model, **more) -> Job:
    common = {"dataset": "kinds", "split": "full", "model": model, "seed": 0, "settings": {}, "relevance": "label"}
    return Job(**{**common, "inputs": {"image": "raw"}, **more})


def test_every_class_is_told_at_the_test_and_the_seen_ones_before(described):
    classes = corpus_of(described).inputs["class"]
    names = {part: [name[-1] for name in classes.ids[classes.where(part)]] for part in ("train", "val", "test")}
    assert names == {"train": LABELS[:5], "val": LABELS[:5], "test": LABELS}
    test = torch.from_numpy(classes.where("test"))
    np.testing.assert_allclose(classes.gather(test), ATTRIBUTES, rtol=1e-6)
    assert classes.labels[classes.where("test")].tolist() == [0, 1, 2, 3, 4, 5]
    assert not {*classes.groups} & {
        *corpus_of(described).inputs["image"].groups
    }  # no item belongs to a class as to a pair


def test_rows_hold_the_class_of_their_image(described):
    corpus = corpus_of(described)
    assert corpus.context.shapes == {"image": (5,), "class": (4,)}
    assert corpus.context.n_classes == 5
    for batch in [*batches(corpus, 10, 0, 0), corpus.batch(torch.arange(corpus.n_pairs))]:
        expected = torch.from_numpy(ATTRIBUTES[batch.labels]).float()
        torch.testing.assert_close(batch.inputs["class"], expected)


def test_classes_are_known_by_the_words_of_their_texts(described, tmp_path):
    file = tmp_path / "glove.txt"
    file.write_text("".join(f"{name} {k}.0 1.0\n" for k, name in enumerate(LABELS)) + "bird 10.0 4.0\n")
    classes = corpus_of(described, class_vectors="words", word_vectors=str(file)).inputs["class"]
    found = classes.gather(torch.from_numpy(classes.where("test")))
    # "a bird with e wings": the vectors of a, bird and e; the others are not in the file.
    np.testing.assert_allclose(found[4], [(0 + 10 + 4) / 3, (1 + 4 + 1) / 3], rtol=1e-6)
    seeded = corpus_of(described, class_vectors="words", word_vectors="seeded").inputs["class"]
    assert seeded.tensor.shape == (6, 50)
    (tmp_path / "other.txt").write_text("zebra 1.0 2.0\n")
    with pytest.raises(UserError, match=r"has a vector of no word of 'A bird with a wings\.'"):
        corpus_of(described, class_vectors="words", word_vectors=str(tmp_path / "other.txt"))


def test_without_a_table_or_classes_the_reason_is_told(described, prepared):
    with pytest.raises(UserError, match="needs a data set with relevance: label"):
        load(prepared / "toy", "full", ZERO_SHOT, {"image": "raw"})
    path = described / "kinds" / "classes.parquet"
    table = read_parquet(path)
    path.unlink()
    try:
        with pytest.raises(UserError, match=r"classes\.parquet: not found"):
            corpus_of(described)
        write_parquet(path, table[table.label != "c"])
        with pytest.raises(UserError, match="lacks class 'c'"):
            corpus_of(described)
    finally:
        write_parquet(path, table)


def test_a_zero_shot_run_is_measured_on_seen_and_unseen_classes(described, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    job = job_of("conse", settings={"inverse_penalty": 1.0, "class_vectors": "words", "word_vectors": "seeded"})
    train_job(job, tmp_path / "run", described)
    run_test(job, tmp_path / "run", described, "embedded")
    rows = read_json(tmp_path / "run" / "category_retrieval" / "metrics.json")["numbers"]
    found = {(row["aspect"], row["protocol"], row["metric"]): row for row in rows}
    sizes = {p: found["image-to-class", p, "recall@1"] for p in ("all", "seen", "unseen")}
    assert {p: (row["n_queries"], row["n_gallery"]) for p, row in sizes.items()} == {
        "all": (18, 6), "seen": (10, 5), "unseen": (8, 1),
    }  # fmt: skip
    assert sizes["unseen"]["value"] == 100  # the only class there is
    assert found["class-to-image", "seen", "map@50"]["value"] > 50
    fallbacks = read_json(tmp_path / "run" / "manifest.json")["fallbacks"]
    assert any("seeded random vectors of the words" in one for one in fallbacks)


def test_batches_of_a_source_stand_beside_the_targets(described):
    source = corpus_of(described, {"image": "vector", "audio": "vector"})
    corpus = corpus_of(described, {"image": "vector", "text": "vector"}).transferring_from(source)
    assert corpus.context.source.shapes == {"image": (5,), "audio": (3,)}
    found = list(batches(corpus, 8, 0, 0))
    again = list(batches(corpus, 8, 0, 0))
    for batch, same in zip(found, again, strict=True):
        assert len(batch.source.labels) == 8
        assert set(batch.source.inputs) == {"image", "audio"}
        assert torch.equal(batch.source.inputs["audio"], same.source.inputs["audio"])
    assert len(found) > 2  # and the source's items came again


def test_a_run_transfers_and_one_without_a_source_says_so(described, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shared = {"inputs": {"image": "raw", "text": "raw"}, "settings": {"dim": 8, "epochs": 1, "batch_size": 10}}
    job = job_of("dckt", **shared, source="kinds", source_inputs={"image": "raw", "text": "raw"})
    train_job(job, tmp_path / "run", described)
    assert "source.items" in read_json(tmp_path / "run" / "manifest.json")["data"]
    run_test(job, tmp_path / "run", described, "embedded")
    with pytest.raises(UserError, match=r"model dckt on kinds: .* name it as the experiment's `source`"):
        train_job(job_of("dckt", **shared), tmp_path / "other", described)


def test_items_of_a_group_are_joined(described):
    corpus = corpus_of(described, {"image": "vector", "text": "vector"})
    joined = list(corpus.joined("test", 7))
    assert sum(len(batch.groups) for batch in joined) == 18
    places = {m: corpus.inputs[m].where("test") for m in corpus.inputs}
    for m in corpus.inputs:  # images and texts were made in the same order
        rows = corpus.inputs[m].gather(torch.from_numpy(places[m]))
        torch.testing.assert_close(torch.cat([batch.inputs[m] for batch in joined]), rows)


def test_what_a_system_measures_stands_among_its_numbers(described, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    inputs = {"image": "raw", "text": "raw"}
    job = job_of("bimodal", inputs=inputs, settings={"hidden": [8], "dim": 4, "epochs": 1, "batch_size": 10})
    train_job(job, tmp_path / "run", described)
    run_test(job, tmp_path / "run", described, "embedded")
    rows = read_json(tmp_path / "run" / "classification" / "metrics.json")["numbers"]
    accuracy = {row["aspect"]: row["value"] for row in rows if row["metric"] == "accuracy"}
    assert len(accuracy) == 7
    assert all(0 <= value <= 100 for value in accuracy.values())
