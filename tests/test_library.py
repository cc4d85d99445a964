"""Python access to trained runs and their numbers, and a run of an overlay that is named by its folder."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from PIL import Image
from typer.testing import CliRunner

import crossmodal
from crossmodal import experiments
from crossmodal.cli import app
from crossmodal.core.errors import UserError
from crossmodal.core.files import read_parquet, write_parquet
from tests.docs.documents import ROOT, blocks

COLOURS = {"red": (220, 30, 30), "green": (30, 200, 40), "blue": (30, 40, 220), "white": (240, 240, 240)}
SMALL = {"network": "shufflenet_v2_x0_5", "weights": "seeded", "resize": 32, "crop": 32, "batch_size": 4}
TABLE = {
    "reader": "table",
    "title": "Mine",
    "images": "{photographs}",
    "annotations": "{photographs}/captions.csv",
    "columns": {"partition": "split"},
    "inputs": {"image": "small"},
    "models": {"vsepp": {"dim": 8, "word_dim": 4, "epochs": 1, "batch_size": 8, "min_count": 1}},
}
OVERLAY = {
    "photographs": "nowhere",
    "paths": {"results": "results/flickr8k"},
    "papers": [],
    "datasets": {"flickr8k": TABLE},
}
RUN = "flickr8k/full/vsepp/seed0"


def call(*words: object, overlaid: bool = True) -> str:
    """The output of a command, with the parameters of the overlay or without."""
    before = ["--params", "params.yaml", "--params", "examples/flickr8k.yaml"] if overlaid else []
    done = CliRunner().invoke(app, [*before, *map(str, words)])
    if done.exception is not None:
        raise done.exception
    return done.stdout


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A project with two runs on 24 photographs: one of params.yaml, one of an overlay, on files that lie elsewhere."""
    photographs, project = tmp_path_factory.mktemp("photographs"), tmp_path_factory.mktemp("project")
    rows = []
    for n in range(24):
        colour = [*COLOURS][n % 4]
        Image.new("RGB", (32, 32), COLOURS[colour]).save(photographs / f"{n}.png")
        part = "train" if n < 16 else "val" if n < 20 else "test"
        rows += [(f"{n}.png", text, part) for text in (f"a {colour} square", f"all is {colour}")]
    pd.DataFrame(rows, columns=["image", "caption", "split"]).to_csv(photographs / "captions.csv", index=False)
    params = experiments.read_yaml(ROOT / "params.yaml")
    params["datasets"]["scenes"] = json.loads(json.dumps(TABLE).replace("{photographs}", "raw"))
    params["extractors"]["small"] = {"extractor": "image", **SMALL}
    (project / "params.yaml").write_text(yaml.safe_dump(params))
    shutil.copytree(photographs, project / "raw")
    (project / "papers").symlink_to(ROOT / "papers")
    (project / "examples").mkdir()
    (project / "examples" / "flickr8k.yaml").write_text(yaml.safe_dump(OVERLAY))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(project)
        for dataset, overlaid in (("scenes", False), ("flickr8k", True)):
            before = ("--config", f"photographs={photographs}") if overlaid else ()
            steps = [("prepare", dataset), ("tokenize", dataset), ("split", dataset, "full")]
            steps += [("extract", dataset, "small")]
            steps += [(step, f"{dataset}/full/vsepp/seed0") for step in ("train", "evaluate")]
            for step in steps:
                call(*before, *step, overlaid=overlaid)
    return project, photographs


@pytest.fixture
def project(made, monkeypatch):
    monkeypatch.chdir(made[0])
    return made[0]


@pytest.fixture
def run(project, made):
    return crossmodal.load(RUN, ["params.yaml", "examples/flickr8k.yaml"], {"photographs": str(made[1])})


def test_the_import_is_light():
    code = "import crossmodal, sys; print({'torch', 'pandas', 'numpy', 'pydantic'} & set(sys.modules), dir(crossmodal))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("set() ")
    assert {"load", "metrics", "Run"} <= set(crossmodal.__dir__())
    assert (Path(crossmodal.__file__).parent / "py.typed").exists()
    with pytest.raises(AttributeError, match="has no attribute 'lod'"):
        _ = crossmodal.lod


def test_the_version():
    project = (ROOT / "pyproject.toml").read_text()
    assert f'version = "{crossmodal.__version__}"' in project
    assert CliRunner().invoke(app, ["--version"]).stdout == f"crossmodal {crossmodal.__version__}\n"


def test_a_run_says_what_it_is(run, project):
    assert (run.name, run.modalities) == (RUN, ("image", "text"))
    assert run.folder == Path("results/flickr8k/runs") / RUN
    assert run.config["settings"]["dim"] == 8
    assert run.config["inputs"] == {"image": "small"}
    assert run.manifest["pairs"] == 32
    table = run.metrics.set_index(["aspect", "metric"]).value
    content = json.loads((run.folder / "instance_retrieval" / "metrics.json").read_text())
    assert len(table) == len(content["numbers"])
    # Two of the four test images are as alike as the other two are, and ties count against the model.
    assert table["image-to-text", "recall@10"] == 100
    assert (run.metrics.n_gallery[run.metrics.aspect == "text-to-image"] == 4).all()


def test_what_is_encoded_is_what_the_evaluation_has_encoded(run, made):
    """Files of one's own, more than the extractor takes at once, and sentences get the vectors of the same items."""
    with np.load(run.folder / "instance_retrieval" / "embeddings.npz") as saved:
        arrays = {name: saved[name] for name in saved}
    items = read_parquet("data/flickr8k/items.parquet").set_index("item_id")
    files = [made[1] / name for name in items.source[arrays["image_ids"]]]
    images = run.encode(image=[*files, *files])
    assert (images.shape, images.dtype) == ((8, 8), np.float32)
    np.testing.assert_allclose(images, np.concatenate([arrays["image"]] * 2), atol=1e-5)
    texts = run.encode(text=list(items.source[arrays["text_ids"]]))
    np.testing.assert_allclose(texts, arrays["text"], atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(texts, axis=1), 1, atol=1e-5)
    np.testing.assert_array_equal(run.encode(text="a red square"), run.encode(text=["a red square"]))


def test_a_search_ranks_by_inner_products(run, made):
    vectors = run.encode(text=["all is blue"], to="image")
    found = run.search("all is blue", k=2)
    with np.load(run.folder / "instance_retrieval" / "embeddings.npz") as saved:
        scores = saved["image"] @ vectors[0]
        expected = saved["image_ids"][np.argsort(-scores, kind="stable")[:2]]
    assert [answer.item_id for answer in found.answers] == list(expected)
    np.testing.assert_allclose([answer.score for answer in found.answers], np.sort(scores)[::-1][:2], atol=1e-6)
    assert (found.to, found.gallery) == ("image", 4)
    assert Path(found.answers[0].source).parent == made[1]
    assert not Path(".encoders").exists()  # the model is held: no encoder is exported
    by_file = run.search(image=made[1] / "20.png", k=3)
    assert [a.score for a in by_file.answers] == sorted((a.score for a in by_file.answers), reverse=True)
    assert {a.modality for a in by_file.answers} == {"text"}
    every = run.search(item=found.answers[0].item_id, partition="all", k=48)
    assert every.gallery == len(every.answers) == 48


def test_a_folder_of_ones_own_is_searched_as_the_test_items_are(run, made, tmp_path, monkeypatch, caplog):
    (tmp_path / "deep").mkdir()
    (tmp_path / ".hidden").mkdir()
    for n, place in ((20, "a.png"), (21, "deep/b.PNG"), (22, "c.png"), (23, "d.png"), (20, ".hidden/e.png")):
        shutil.copy(made[1] / f"{n}.png", tmp_path / place)
    (tmp_path / "broken.jpg").write_text("<html>404</html>")
    (tmp_path / "notes.txt").write_text("no picture")
    known = {a.item_id: a.score for a in run.search("all is blue", k=4).answers}
    found = run.search("all is blue", k=9, folder=tmp_path)
    assert "1 of 5 items are left out" in caplog.text
    names = {"20": "a.png", "21": "deep/b.PNG", "22": "c.png", "23": "d.png"}
    scores = {a.item_id: a.score for a in found.answers}
    assert scores == pytest.approx({names[item]: score for item, score in known.items()}, abs=1e-5)
    assert found.gallery == 4
    assert {Path(a.source) for a in found.answers} == {tmp_path / name for name in names.values()}

    def made_again(*_):
        raise AssertionError("the folder is read again")

    with monkeypatch.context() as patch:
        patch.setattr("crossmodal.inference.folder._made", made_again)
        assert run.search("all is blue", k=9, folder=tmp_path) == found
        shutil.copy(made[1] / "21.png", tmp_path / "new.png")
        with pytest.raises(AssertionError, match="is read again"):
            run.search("all is blue", folder=tmp_path)
    assert run.search("all is blue", folder=tmp_path).gallery == 5


@pytest.mark.parametrize(
    ("ask", "told"),
    [
        (lambda run: run.search("red", folder="gone"), "--folder gone: is no folder"),
        (lambda run: run.search("red", folder="papers"), r"has no image files \(\.jpg"),
        (lambda run: run.search(item="20", folder="raw"), "text items are no files"),
        (lambda run: run.encode(), "0 modalities are given to encode; expected one of image, text"),
        (lambda run: run.encode(text=["a"], image=["b"]), "2 modalities"),
        (lambda run: run.encode(text=[]), "empty list"),
        (lambda run: run.encode(audio=["a.wav"]), "reads image and text, not audio"),
        (lambda run: run.encode(image=["gone.jpg"]), r"image gone\.jpg: no such file"),
        (lambda run: run.encode(text=["a red square", "xyzzy"]), "has none of the"),
        (lambda run: run.encode(text=["a"], to="txt"), "compares text with image"),
        (lambda run: run.search(), "no queries are given"),
        (lambda run: run.search("a", item="20.png"), "2 queries are given"),
        (lambda run: run.search("red", partition="tests"), "partition 'tests': expected train, val, test, all"),
    ],
)
def test_what_cannot_be_done_is_one_error(run, ask, told):
    with pytest.raises(UserError, match=told):
        ask(run)


def test_a_run_that_is_not_there(project):
    with pytest.raises(UserError, match="did you mean 'vsepp'"):
        crossmodal.load("scenes/full/vsep/seed0")
    with pytest.raises(UserError, match=r"seed0/config\.yaml: not found; train the run first"):
        crossmodal.load("scenes/full/scan/seed0")
    with pytest.raises(UserError, match="results/flickr8k: holds no trained run"):
        crossmodal.load("results/flickr8k")
    control = crossmodal.load("scenes/full/chance/seed0")
    with pytest.raises(UserError, match="is a control"):
        control.search("a red ball")


def test_a_folder_is_enough_wherever_it_lies(project, made, tmp_path, monkeypatch):
    """Without the overlay: relative, absolute, and copied to where no folder says which run it is."""
    copy = tmp_path / "best"
    shutil.copytree(Path("results/flickr8k/runs") / RUN, copy)
    relative = Path("results/flickr8k/runs") / RUN
    answers = []
    for folder in (relative, relative.resolve(), f"./{relative}/", copy):
        words = ("search", folder, "a red square", "--json", "-k", 1)
        answers.append(json.loads(call(*words, overlaid=False))["answers"])
        rows = json.loads(call("measure", folder, "recall@2", "--json", overlaid=False))
        assert {row["metric"] for row in rows} == {"recall@2"}
    assert all(one[0]["item_id"] == answers[0][0]["item_id"] for one in answers)
    assert crossmodal.load(copy).name == RUN
    before = json.loads((copy / "instance_retrieval" / "metrics.json").read_text())
    shutil.rmtree(copy / "instance_retrieval")
    call("evaluate", copy, overlaid=False)
    assert json.loads((copy / "instance_retrieval" / "metrics.json").read_text()) == before
    weights = (copy / "model.safetensors").read_bytes()
    call("train", copy, "--fresh", overlaid=False)
    assert (copy / "model.safetensors").read_bytes() == weights
    # A page shows the files themselves, which lie where the overlay alone says that files of a data set may lie.
    page = ("search", relative, "a red square", "--html", "found.html")
    with pytest.raises(UserError, match=r"or the overlay that does so \(--params\)"):
        call(*page, overlaid=False)
    call("--config", f"photographs={made[1]}", *page)
    assert "red" in Path("found.html").read_text()


def test_a_folder_of_another_run_is_refused(project):
    other = Path("results/flickr8k/runs/flickr8k/full/vsepp/seed1")
    shutil.copytree(Path("results/flickr8k/runs") / RUN, other)
    try:
        with pytest.raises(UserError, match=f"is that of another run \\({RUN}\\)"):
            crossmodal.load(other)
    finally:
        shutil.rmtree(other)


def test_features_that_were_made_anew_are_not_taken_for_those_of_the_run(run, made):
    path = Path("data/flickr8k/features/image.small.json")
    before = path.read_text()
    path.write_text(json.dumps({**json.loads(before), "sha256": "0" * 64}))
    try:
        with pytest.raises(UserError, match="is of other features than flickr8k/full/vsepp/seed0 was trained with"):
            run.encode(image=[made[1] / "20.png"])
        assert run.encode(text=["red"]).shape == (1, 8)
    finally:
        path.write_text(before)


def test_all_numbers_as_a_table(project, tmp_path, caplog):
    """Those of everything; those of the quick form where it alone is there, which is said."""
    config = {"paths": {"results": str(tmp_path)}}
    with pytest.raises(UserError, match=r"metrics\.parquet: not found"):
        crossmodal.metrics(config=config)
    quick, whole = (pd.DataFrame({"metric": ["recall@1"], "value": [value]}) for value in (12.5, 50.0))
    write_parquet(tmp_path / "quick" / "metrics.parquet", quick)
    pd.testing.assert_frame_equal(crossmodal.metrics(config=config), quick)
    assert f"metrics.parquet: not found; these are the numbers of {tmp_path}/quick/metrics.parquet" in caplog.text
    caplog.clear()
    write_parquet(tmp_path / "metrics.parquet", whole)
    pd.testing.assert_frame_equal(crossmodal.metrics(config=config), whole)
    pd.testing.assert_frame_equal(crossmodal.metrics(quick=True, config=config), quick)
    assert caplog.text == ""


def test_the_page_runs_as_it_is_written(project, tmp_path, monkeypatch):
    """In a copy of the project with a photograph of one's own and a table of numbers."""
    shutil.copytree(project, tmp_path / "copy", symlinks=True)
    monkeypatch.chdir(tmp_path / "copy")
    Image.new("RGB", (32, 32), COLOURS["red"]).save("photo.jpg")
    about = {"dataset": "scenes", "split": "full", "model": "vsepp", "variant": "", "seed": 0}
    write_parquet("results/quick/metrics.parquet", crossmodal.load("scenes/full/vsepp/seed0").metrics.assign(**about))
    page = [block for block in blocks("python") if block.path.name == "python.md"]
    values: dict[str, object] = {}
    for block in page:
        exec(block.text, values)
    assert values["texts"].shape == (2, 8)
    assert values["scores"].shape == (2, 1)
    assert list(values["table"].index.names) == ["dataset", "split", "model", "variant", "protocol"]
    assert values["run"].name == RUN
