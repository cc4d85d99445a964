"""Search by a trained run: its answers are those that the run's own test ranks first."""

import json
import os
import shutil
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import yaml

from crossmodal import experiments
from crossmodal.cli import app
from crossmodal.core import registry
from crossmodal.core.errors import UserError
from crossmodal.core.files import read_parquet, sha256_bytes, sha256_file, write_json
from crossmodal.experiments import Job
from crossmodal.inference import encoding as encoded
from crossmodal.inference import onnx_export
from crossmodal.inference import run as trained
from crossmodal.inference import search as searching
from crossmodal.inference.onnx_encoder import open_exported, place, refusal
from crossmodal.inference.opened import OpenedRun
from crossmodal.inference.search import Query, rows_of
from crossmodal.language.tokens import Vocabulary
from crossmodal.models import base
from crossmodal.runs.evaluate import evaluate
from crossmodal.runs.train import train_job

SETTINGS = {"dim": 16, "word_dim": 8, "epochs": 2, "lr": 0.01, "lr_drop": 4, "batch_size": 16, "min_count": 1}


def search(plan, folder, query, *words, **options):
    """As the command line searches: each time anew, from the second time on by the exported encoder."""
    return searching.search(OpenedRun(folder, Path(plan.params.paths.data)), query, *words, exported=True, **options)


@pytest.fixture(scope="module")
def run(prepared, tmp_path_factory):
    """A trained and tested run of the toy data, and a plan that knows it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("work"))
        job = Job(dataset="toy", split="full", model="vsepp", seed=0, inputs={"image": "raw"}, settings=SETTINGS)
        folder = prepared.parent / "results" / "runs" / job.key
        train_job(job, folder, prepared)
        evaluate(job, folder, prepared, "embedded")
    params = {
        "papers": [],
        "seeds": [0],
        "paths": {"data": str(prepared), "results": str(prepared.parent / "results")},
        "datasets": {"toy": {"reader": "karpathy", "title": "Toy"}},
        "extractors": {"raw": {"extractor": "image", "network": "shufflenet_v2_x0_5", "weights": "seeded"}},
        "inputs": {"image": "raw"},
    }
    path = prepared.parent / "params.yaml"
    path.write_text(yaml.safe_dump(params))
    return folder, experiments.plan(experiments.load(path), prepared), path


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    """Exported encoders are kept in the working directory."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="module")
def queries(run):
    frame = read_parquet(run[0] / "instance_retrieval" / "examples.parquet")
    return frame[frame.protocol == "all"].set_index("query_id")


def test_an_item_has_the_answers_of_the_test(run, queries):
    for item in ("i50", "i55#1"):
        found = search(run[1], run[0], Query("", "", item))
        assert [answer.item_id for answer in found.answers] == list(queries.top[item])
        np.testing.assert_allclose([a.score for a in found.answers], queries.top_scores[item], rtol=1e-5)


def test_a_sentence_has_the_answers_of_its_own_words(run, queries, prepared):
    items = read_parquet(prepared / "toy" / "items.parquet").set_index("item_id")
    found = search(run[1], run[0], Query("text", items.source["i50#0"]), k=4)
    assert [answer.item_id for answer in found.answers] == list(queries.top["i50#0"])[:4]
    assert (found.to, found.gallery) == ("image", 12)
    assert found.answers[0].source.endswith(items.source[found.answers[0].item_id])


class Chosen(base.Settings):
    max_words: int = 9


@pytest.mark.parametrize("model", ["vsepp", "a3vse", "mfsr"])
def test_sentences_are_encoded_without_torch_from_the_second_time_on(tmp_path, model, caplog):
    """The exported encoder says what the model says, of sentences of any length; not of other weights."""
    reads = registry.reads(model)
    module = registry.module("models", model)
    chosen = {"vsepp": {}, "a3vse": {"dim": 8, "heads": 2}, "mfsr": {"dim": 12, "layers": 2, "image": 0}}[model]
    settings = module.Settings(word_dim=8, **({"dim": 16} | chosen))
    vocabulary = Vocabulary.build([["a", "red", "ball", "left", "of", "cup"]], min_count=1)
    shapes = {"image": (5, 6) if reads["image"] == "regions" else (6,)}
    torch.manual_seed(0)
    opened = trained.TrainedRun(
        Job(dataset="toy", split="full", model=model, seed=0, inputs={}, settings={}),
        module.Model(settings, base.Context(shapes, len(vocabulary))).eval(),
        vocabulary,
    )
    vocabulary.save(tmp_path / "vocabulary.json")
    write_json(tmp_path / "manifest.json", {"weights_sha256": "a"})
    assert open_exported(tmp_path, opened.job, "image") is None
    onnx_export.export(opened, tmp_path, "image")
    exported = open_exported(tmp_path, opened.job, "image")
    source = opened.source("text")
    for sentence in ("ball", "a red ball left of a cup", "a cup " * 20):
        expected = opened.encode("text", source.form.of_sentences(source, [sentence]), "image")[0].numpy()
        np.testing.assert_allclose(exported.encode(sentence), expected, atol=1e-5)
    with pytest.raises(UserError, match="has none of the"):
        exported.encode("xyzzy")
    write_json(tmp_path / "manifest.json", {"weights_sha256": "b"})
    assert open_exported(tmp_path, opened.job, "image") is None
    file = place(opened.job, "image")
    file.write_bytes(file.read_bytes()[:-100])
    assert open_exported(tmp_path, opened.job, "image") is None
    assert f"{file}: cannot be read" in caplog.text


def test_the_second_search_by_a_sentence_has_the_same_answers_and_no_torch(run, monkeypatch):
    first = search(run[1], run[0], Query("text", "worde wordc"), k=5)
    with monkeypatch.context() as patch:
        patch.setattr(trained, "open_run", None)
        second = search(run[1], run[0], Query("text", "worde wordc"), k=5)
    assert [a.item_id for a in second.answers] == [a.item_id for a in first.answers]
    np.testing.assert_allclose([a.score for a in second.answers], [a.score for a in first.answers], atol=1e-5)
    modules = "crossmodal.inference.search, crossmodal.reporting.page.search_results"
    code = f"import sys; import {modules}; print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "False\n"


def test_an_encoder_that_comes_to_other_vectors_is_not_kept(tmp_path, caplog):
    """As a trace does that holds fast to the length of its example."""

    class Odd(base.Model):
        def encode(self, modality, batch, partner):
            ids = batch.inputs["text"].ids
            return ids[:, :2].float() + int(ids.shape[1])

    vocabulary = Vocabulary.build([["a", "b"]], min_count=1)
    job = Job(dataset="toy", split="full", model="odd", seed=0, inputs={}, settings={})
    vocabulary.save(tmp_path / "vocabulary.json")
    write_json(tmp_path / "manifest.json", {"weights_sha256": "a"})
    with caplog.at_level("INFO"):
        onnx_export.export(trained.TrainedRun(job, Odd(Chosen(), base.Context({})), vocabulary), tmp_path, "image")
    assert "is not exported" in caplog.text
    assert open_exported(tmp_path, job, "image") is None


class Refused(base.Model):
    """A model whose encoder has no counterpart in ONNX."""

    def encode(self, modality, batch, partner):
        return torch.special.bessel_j0(batch.inputs["text"].ids.float())


def test_a_refusal_of_the_exporter_is_quiet_and_remembered(tmp_path, monkeypatch, capfd, caplog):
    vocabulary = Vocabulary.build([["a", "b"]], min_count=1)
    job = Job(dataset="toy", split="full", model="odd", seed=0, inputs={}, settings={})
    opened = trained.TrainedRun(job, Refused(base.Settings(), base.Context({})), vocabulary)
    vocabulary.save(tmp_path / "vocabulary.json")
    write_json(tmp_path / "manifest.json", {"weights_sha256": "a"})
    calls = []
    export = torch.onnx.export
    monkeypatch.setattr("torch.onnx.export", lambda *a, **k: calls.append(1) or export(*a, **k))
    with caplog.at_level("INFO"):
        onnx_export.export(opened, tmp_path, "image")
        onnx_export.export(opened, tmp_path, "image")
    assert len(calls) == 1
    assert capfd.readouterr() == ("", "")  # the exporter prints its graph to standard output
    assert "bessel_j0" in refusal(job, "image", "a")
    assert len([line for line in caplog.messages if "is not exported" in line]) == 1
    write_json(tmp_path / "manifest.json", {"weights_sha256": "b"})  # other weights are tried again
    assert refusal(job, "image", "b") is None
    onnx_export.export(opened, tmp_path, "image")
    assert len(calls) == 2
    place(job, "image").with_suffix(".json").write_text("{")
    assert refusal(job, "image", "b") is None


def test_other_items_are_encoded(run):
    """All of them, and the test items where there are no embeddings of the evaluation."""
    every = search(run[1], run[0], Query("", "", "i50#0"), partition="all", k=60)
    assert len(every.answers) == every.gallery == 60
    kept = search(run[1], run[0], Query("", "", "i50#0"), k=12)
    among = [answer.item_id for answer in every.answers if int(answer.item_id[1:]) >= 48]
    assert among == [answer.item_id for answer in kept.answers]
    with without_embeddings(run[0]):
        again = search(run[1], run[0], Query("", "", "i50#0"), k=12)
    assert [answer.item_id for answer in again.answers] == among


@contextmanager
def without_embeddings(folder):
    held = folder / "instance_retrieval" / "embeddings.npz"
    held.rename(held.with_suffix(".away"))
    try:
        yield
    finally:
        held.with_suffix(".away").rename(held)


def test_what_was_kept_is_known_by_content_not_by_time(run, monkeypatch):
    """A copy, or a checkout of DVC, gives files other times; weights that were trained again have another hash."""
    folder = run[0]
    before = search(run[1], folder, Query("", "", "i50"))
    os.utime(folder / "instance_retrieval" / "embeddings.npz", (0, 0))
    monkeypatch.setattr(encoded, "partition_of", lambda *given: pytest.fail("items are encoded again"))
    assert search(run[1], folder, Query("", "", "i50")) == before
    metrics = json.loads((folder / "instance_retrieval" / "metrics.json").read_text())
    assert metrics["weights_sha256"] == sha256_file(folder / "model.safetensors")
    monkeypatch.undo()
    calls = []
    real = encoded.partition_of
    monkeypatch.setattr(encoded, "partition_of", lambda *given: calls.append(given) or real(*given))
    write_json(folder / "instance_retrieval" / "metrics.json", {**metrics, "weights_sha256": "0" * 64})
    try:
        assert [a.item_id for a in search(run[1], folder, Query("", "", "i50")).answers] == [
            a.item_id for a in before.answers
        ]
    finally:
        write_json(folder / "instance_retrieval" / "metrics.json", metrics)
    assert len(calls) == 1


def test_a_file_that_cannot_be_searched_for_is_no_data_sets(run, tmp_path):
    with pytest.raises(UserError, match=r"image .*gone\.jpg: no such file; name one that is there$"):
        search(run[1], run[0], Query("image", str(tmp_path / "gone.jpg")))
    (tmp_path / "page.jpg").write_text("<html>404</html>")
    with pytest.raises(UserError) as caught:
        search(run[1], run[0], Query("image", str(tmp_path / "page.jpg")))
    said = str(caught.value)
    assert said.startswith(f"image {tmp_path / 'page.jpg'}: cannot be read: ")
    assert said.endswith("; name another file")
    assert "folder" not in said.replace(str(tmp_path), "")


def test_scores_without_vectors_keep_the_models_order(run, monkeypatch):
    """A score that is not the same both ways: images are its first argument, whichever of them asks."""
    weight = torch.linspace(-1, 1, 16)

    def score(self, first, second):
        return (first * weight) @ second.roll(1, 1).T

    opened = trained.open_run(run[0])
    monkeypatch.setattr(type(opened.model), "score", score)
    monkeypatch.setattr(trained, "open_run", lambda folder: opened)
    with np.load(run[0] / "instance_retrieval" / "embeddings.npz") as kept:
        images, texts = (torch.from_numpy(kept[name]) for name in ("image", "text"))
        ids = {name: kept[f"{name}_ids"] for name in ("image", "text")}
    matrix = score(None, images, texts).numpy()
    row, column = list(ids["image"]).index("i50"), list(ids["text"]).index("i50#0")
    with without_embeddings(run[0]):
        of_image = search(run[1], run[0], Query("", "", "i50"), k=3)
        found = search(run[1], run[0], Query("", "", "i50#0"), k=3)
    assert [a.item_id for a in of_image.answers] == list(ids["text"][np.argsort(-matrix[row])[:3]])
    assert [a.item_id for a in found.answers] == list(ids["image"][np.argsort(-matrix[:, column])[:3]])
    assert type(opened.model).score is not base.Model.score


@pytest.mark.parametrize(
    ("query", "words", "told"),
    [
        (Query("mesh", "a.off"), {}, "reads image and text, not mesh"),
        (Query("text", "xyzzy"), {}, "has none of the"),
        (Query("", "", "i99"), {}, "holds no item 'i99'"),
        (Query("", "", "i50"), {"to": "texts"}, "did you mean 'text'"),
        (Query("image", "missing.jpg"), {}, "missing.jpg"),
    ],
)
def test_what_cannot_be_answered_is_told(run, query, words, told):
    with pytest.raises(UserError, match=told):
        search(run[1], run[0], query, **words)


def test_a_run_of_an_earlier_version_is_told(run, tmp_path):
    for name in ("config.yaml", "model.safetensors", "vocabulary.json"):
        (tmp_path / name).write_bytes((run[0] / name).read_bytes())
    manifest = json.loads((run[0] / "manifest.json").read_text())
    del manifest["context"]
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(UserError, match="train it again"):
        trained.open_run(tmp_path)


@pytest.mark.parametrize("content", [b"junk", None])
def test_a_table_of_others_that_is_none_is_one_line(tmp_path, content):
    path = tmp_path / "items.parquet"
    path.write_bytes(content) if content else pd.DataFrame({"item_id": ["a"]}).to_parquet(path)
    with pytest.raises(UserError, match=r"items\.parquet: (cannot be read|lacks the column\(s\) modality, source)"):
        rows_of(tmp_path, ["a"])


def test_kept_vectors_that_are_none_are_one_line(run, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(run[0], folder)
    kept = dict(np.load(folder / "instance_retrieval" / "embeddings.npz"))
    for name, odd in (("image", kept["image"][:-1]), ("image", kept["image"][None]), ("image_ids", np.array("a"))):
        np.savez(folder / "instance_retrieval" / "embeddings.npz", **{**kept, name: odd})
        with pytest.raises(UserError, match=r"embeddings\.npz: is truncated or damaged"):
            OpenedRun(folder, folder).saved("image", "text")


def test_weights_that_are_none_are_one_line(run, tmp_path):
    for name in ("config.yaml", "vocabulary.json"):
        (tmp_path / name).write_bytes((run[0] / name).read_bytes())
    (tmp_path / "model.safetensors").write_bytes(b"junk")
    manifest = json.loads((run[0] / "manifest.json").read_text())
    (tmp_path / "manifest.json").write_text(json.dumps(manifest | {"weights_sha256": sha256_bytes(b"junk")}))
    with pytest.raises(UserError, match=r"model\.safetensors: does not fit"):
        trained.open_run(tmp_path)
    (tmp_path / "manifest.json").write_text("{}")
    with pytest.raises(UserError, match="is corrupted"):
        trained.open_run(tmp_path)


def test_the_command(run, queries, tmp_path):
    from typer.testing import CliRunner

    def call(*words):
        return CliRunner().invoke(app, ["--params", str(run[2]), "search", str(run[0]), *words])

    page = tmp_path / "found.html"
    said = call("--item", "i50", "-k", "2", "--html", str(page))
    assert [line.split("\t")[2] for line in said.stdout.splitlines()] == list(queries.top["i50"])[:2]
    told = json.loads(call("--item", "i50#0", "--json", "-k", "1").stdout)
    assert told["answers"][0]["item_id"] == queries.top["i50#0"][0]
    captions = pd.Series(list(queries.top["i50"])[:2])
    for caption in captions:
        assert caption in page.read_text()
    assert isinstance(call("a", "--item", "i50").exception, UserError)


def test_a_page_of_ones_own_folder_shows_no_file_of_the_data_set(run, tmp_path, monkeypatch):
    """A data set whose files lie where no parameters name them has nothing to do with the answers."""
    from typer.testing import CliRunner

    def refused(data):
        raise UserError("lies elsewhere")

    def answered(opened, query, to, **options):
        answers = [searching.Answer("a.jpg", "image", 0.5, str(tmp_path / "a.jpg"))]
        return searching.Found("toy", query, "image", 1, answers)

    monkeypatch.setattr(searching, "check_root", refused)
    monkeypatch.setattr(searching, "search", answered)

    def call(*words):
        words = (*words, "--folder", str(tmp_path), "--html", str(tmp_path / "found.html"))
        return CliRunner().invoke(app, ["--params", str(run[2]), "search", str(run[0]), *words])

    assert call("a dog").exit_code == 0
    assert "a.jpg" in (tmp_path / "found.html").read_text()
    assert "lies elsewhere" in str(call("--item", "i50").exception)


@pytest.mark.parametrize("odd", [{"source": [None]}, {"source": [1]}, {"source": [["a.png"]]}, {"modality": [None]}])
def test_an_item_of_others_without_a_text_as_its_source_is_one_line(tmp_path, odd):
    frame = pd.DataFrame({"item_id": ["a"], "modality": ["image"], "source": ["a.png"]} | odd)
    frame.to_parquet(tmp_path / "items.parquet")
    write_json(tmp_path / "items.json", {"root": "."})
    with pytest.raises(UserError, match=r"items\.parquet: the item 'a' has no modality or source that is text"):
        rows_of(tmp_path, ["a"])


@pytest.mark.parametrize(("sentence", "said"), [(" ", "is empty; write what to search for"), ("a \udcff", "in UTF-8")])
def test_a_sentence_without_words_or_of_other_bytes_is_refused(run, sentence, said):
    with pytest.raises(UserError, match=f"the sentence .*{said}"):
        search(run[1], run[0], Query("text", sentence))
