"""Exported embeddings are those that the run's own test compares."""

import io
import json
import tarfile
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import yaml
from pyarrow import parquet
from typer.testing import CliRunner

from crossmodal.cli import app
from crossmodal.core.errors import UserError
from crossmodal.core.files import read_record
from crossmodal.experiments import Job
from crossmodal.inference import export as step
from crossmodal.inference.opened import OpenedRun
from crossmodal.runs.evaluate import evaluate
from crossmodal.runs.train import train_job

SETTINGS = {"dim": 8, "word_dim": 8, "epochs": 1, "batch_size": 16, "min_count": 1}
INPUTS = {"vsepp": "raw", "scan": "regions"}


@pytest.fixture(scope="module")
def runs(prepared, tmp_path_factory):
    """Folders of a run that compares vectors, which was evaluated, and of one that does not."""
    results = prepared.parent / "exported"
    folders = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("work"))
        for model, images in INPUTS.items():
            inputs = {"image": images}
            job = Job(dataset="toy", split="full", model=model, seed=0, inputs=inputs, settings=SETTINGS)
            folders[model] = results / "runs" / job.key
            train_job(job, folders[model], prepared)
            if model == "vsepp":
                evaluate(job, folders[model], prepared, "embedded")
    return folders


@pytest.mark.parametrize("partition", ["test", "train"])
def test_what_is_written_are_the_vectors_of_the_partition(runs, prepared, tmp_path, partition):
    run = OpenedRun(runs["vsepp"], prepared)
    paths = step.export(run, tmp_path, partition=partition)
    assert [path.name for path in paths] == ["image.parquet", "text.parquet"]
    image, text = (parquet.read_table(path) for path in paths)
    vectors = [np.stack(table["vector"].to_numpy()) for table in (image, text)]
    assert vectors[0].dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(vectors[0], axis=1), 1, atol=1e-5)
    items = pd.read_parquet(run.data / "items.parquet")
    for table, modality in ((image, "image"), (text, "text")):
        expected = items[(items.modality == modality) & (items.partition == partition)].item_id
        assert sorted(table["item_id"].to_pylist()) == sorted(expected)
    paths = step.export(run, tmp_path, partition=partition, kind="npy")
    assert [path.name for path in paths] == ["image.npy", "image.ids.txt", "text.npy", "text.ids.txt"]
    np.testing.assert_array_equal(np.load(tmp_path / "text.npy"), vectors[1])
    assert (tmp_path / "text.ids.txt").read_text().split("\n")[:-1] == text["item_id"].to_pylist()


def test_recalls_of_exported_vectors_are_those_that_the_run_reports(runs, prepared, tmp_path):
    """CLIP_benchmark counts pairs in the products of both matrices; so does this transcription."""
    run = OpenedRun(runs["vsepp"], prepared)
    step.export(run, tmp_path, kind="npy")
    step.clip_benchmark(run, tmp_path / "recalls.json")
    written = json.loads((tmp_path / "recalls.json").read_text())
    image, text = (np.load(tmp_path / f"{m}.npy") for m in ("image", "text"))
    ids = [(tmp_path / f"{m}.ids.txt").read_text().split() for m in ("image", "text")]
    positive = np.array([[caption.split("#")[0] == name for name in ids[0]] for caption in ids[1]])
    scores = text @ image.T
    for k in (1, 5, 10):
        first = np.argsort(-scores, axis=1)[:, :k]
        found = np.take_along_axis(positive, first, 1).any(1).mean()
        assert written["metrics"][f"image_retrieval_recall@{k}"] == pytest.approx(found)
        first = np.argsort(-scores.T, axis=1)[:, :k]
        found = np.take_along_axis(positive.T, first, 1).any(1).mean()
        assert written["metrics"][f"text_retrieval_recall@{k}"] == pytest.approx(found)
    told = {"dataset": "toy", "model": "vsepp", "pretrained": "full/seed0", "task": "zeroshot_retrieval"}
    assert told.items() <= written.items()


def test_hugging_face_folders_and_shards_hold_the_same_vectors(runs, prepared, tmp_path, monkeypatch):
    monkeypatch.setattr(step, "SHARD", 5)
    run = OpenedRun(runs["vsepp"], prepared)
    table = parquet.read_table(step.export(run, tmp_path)[0])
    ids, vectors = table["item_id"].to_pylist(), np.stack(table["vector"].to_numpy())
    folder = step.export(run, tmp_path, kind="hf")[0]
    assert folder == tmp_path / "image"
    assert read_record(folder / "state.json")["_data_files"] == [{"filename": "data-00000-of-00001.arrow"}]
    with pa.memory_map(str(folder / "data-00000-of-00001.arrow")) as file, pa.ipc.open_stream(file) as stream:
        assert stream.read_all().equals(table)
    shards = [path for path in step.export(run, tmp_path, kind="webdataset") if path.name.startswith("image")]
    assert [path.name for path in shards] == [f"image-00000{n}.tar" for n in range(3)]
    samples = {}
    for shard in shards:
        with tarfile.open(shard) as archive:
            for member in archive:
                samples[member.name] = archive.extractfile(member).read()
    assert len(samples) == 2 * len(ids)
    for n, item_id in enumerate(ids):
        assert json.loads(samples[f"{n:09d}.json"]) == {"item_id": item_id}
        np.testing.assert_array_equal(np.load(io.BytesIO(samples[f"{n:09d}.npy"])), vectors[n])


def test_scores_of_trec_eval_by_hand():
    """One query with hits at 1 and 3 of 4 relevant items, one with a hit at 2 of 1."""
    hits = np.array([[1, 0, 1, 0, 0, 0, 0, 0, 0, 0], [0, 1, 0, 0, 0, 0, 0, 0, 0, 0]], bool)
    scores = step.mteb_scores(hits, np.array([4, 1]))
    half, third, fourth = (1 / np.log2(n) for n in (3, 4, 5))
    first = (1 + third) / (1 + half + third)
    assert scores["ndcg_at_3"] == pytest.approx((first + half) / 2)
    assert scores["ndcg_at_10"] == pytest.approx(((1 + third) / (1 + half + third + fourth) + half) / 2)
    assert scores["map_at_10"] == pytest.approx(((1 + 2 / 3) / 4 + 1 / 2) / 2)
    assert [scores[f"recall_at_{k}"] for k in (1, 3)] == pytest.approx([1 / 8, (1 / 2 + 1) / 2])
    assert [scores[f"cv_recall_at_{k}"] for k in (1, 3)] == pytest.approx([1 / 2, 1])
    assert scores["mrr_at_10"] == pytest.approx(3 / 4)


def test_results_of_mteb_are_those_of_the_run(runs, prepared, tmp_path):
    run = OpenedRun(runs["vsepp"], prepared)
    paths = step.mteb(run, tmp_path / "mteb")
    step.clip_benchmark(run, tmp_path / "recalls.json")
    recalls = json.loads((tmp_path / "recalls.json").read_text())["metrics"]
    assert [path.name for path in paths] == ["toyI2TRetrieval.json", "toyT2IRetrieval.json"]
    for path, way in zip(paths, ("text", "image"), strict=True):
        result = json.loads(path.read_text())
        (scores,) = result["scores"]["test"]
        assert result["task_name"] == path.stem
        assert scores["main_score"] == scores["ndcg_at_10"]
        for k in (1, 5, 10):
            assert scores[f"cv_recall_at_{k}"] == pytest.approx(recalls[f"{way}_retrieval_recall@{k}"])


def test_a_run_without_vectors_or_results_is_refused_in_one_line(runs, prepared, tmp_path):
    scan = OpenedRun(runs["scan"], prepared)
    with pytest.raises(UserError, match="toy/full/scan/seed0: compares image items by more than one vector each"):
        step.export(scan, tmp_path)
    with pytest.raises(UserError, match="not found; evaluate the run first"):
        step.clip_benchmark(scan, tmp_path / "recalls.json")
    with pytest.raises(UserError, match=r"examples\.parquet: not found; evaluate the run first"):
        step.mteb(scan, tmp_path / "mteb")
    with pytest.raises(UserError, match="partition 'tests': expected train, val, test, all"):
        step.export(OpenedRun(runs["vsepp"], prepared), tmp_path, partition="tests")
    assert not [*tmp_path.iterdir()]


def test_from_the_command_line(runs, prepared, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    params = {
        "papers": [],
        "seeds": [0],
        "paths": {"data": str(prepared), "results": str(prepared.parent / "exported")},
        "datasets": {"toy": {"reader": "karpathy", "title": "Toy"}},
        "extractors": {"raw": {"extractor": "image", "network": "shufflenet_v2_x0_5", "weights": "seeded"}},
        "inputs": {"image": "raw"},
    }
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(params))
    words = ["export", "toy/full/vsepp/seed0", "out", "--npy", "--clip-benchmark", "recalls.json", "--mteb", "out"]
    done = CliRunner().invoke(app, words, catch_exceptions=False)
    assert done.exit_code == 0
    assert [line.rsplit("/", 1)[-1] for line in done.output.split()] == [
        *("image.npy", "image.ids.txt", "text.npy", "text.ids.txt", "recalls.json"),
        *("toyI2TRetrieval.json", "toyT2IRetrieval.json"),
    ]
    assert read_record(tmp_path / "recalls.json")["language"] == "en"


@pytest.mark.parametrize(
    "tops", [[["t0"], ["t0", "t1"]], [["t0"], ["elsewhere"]], [None, None], [[["t0"]], [["t1"]]], [["t0"], []]]
)
def test_rankings_that_are_none_are_refused_in_one_line(tmp_path, tops):
    run = SimpleNamespace(folder=tmp_path, data=tmp_path, job=SimpleNamespace(dataset="toy", relevance="group"))
    rows = [
        ("i0", "image", "0", "test"),
        ("i1", "image", "1", "test"),
        ("t0", "text", "0", "test"),
        ("t1", "text", "1", "test"),
    ]
    pd.DataFrame(rows, columns=["item_id", "modality", "group_id", "partition"]).to_parquet(tmp_path / "items.parquet")
    (tmp_path / "instance_retrieval").mkdir()
    examples = {"protocol": "all", "aspect": "image-to-text", "query_id": ["i0", "i1"], "top": tops}
    pd.DataFrame(examples).to_parquet(tmp_path / "instance_retrieval" / "examples.parquet")
    with pytest.raises(
        UserError, match=r"examples\.parquet: has rankings of other items than .* evaluate the run again"
    ):
        step.mteb(run, tmp_path / "mteb")
    assert not (tmp_path / "mteb").exists()
