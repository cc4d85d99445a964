"""Descriptions of pictures: the captions are those of the run's own test, with the attention that made them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from PIL import Image
from typer.testing import CliRunner

from crossmodal import experiments, library
from crossmodal.cli import app
from crossmodal.core.errors import UserError
from crossmodal.core.files import read_parquet, write_json
from crossmodal.experiments import Job
from crossmodal.inference import description
from crossmodal.inference.opened import OpenedRun
from crossmodal.models import base
from crossmodal.reporting.page import descriptions
from crossmodal.reporting.page.looks import looks
from crossmodal.runs.evaluate import evaluate
from crossmodal.runs.train import train_job

SETTINGS = {"dim": 16, "word_dim": 8, "epochs": 2, "lr": 0.02, "batch_size": 16, "min_count": 1, "beam": 2}
BOXES = [[0.0, 0.0, 10.0, 10.0], [10.0, 0.0, 20.0, 10.0], [0.0, 10.0, 10.0, 20.0], [10.0, 10.0, 20.0, 20.0]]


@pytest.fixture(scope="module")
def runs(prepared, tmp_path_factory):
    """Trained and tested captioners of the toy data by name, and a folder with a picture and parameters."""
    work = tmp_path_factory.mktemp("work")
    Image.new("RGB", (40, 30), (200, 30, 30)).save(work / "red.jpg")
    results = work / "results"
    folders = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(work)
        for model in ("nic", "updown", "vsepp"):
            settings = SETTINGS | ({"attention_dim": 8} if model == "updown" else {})
            settings = {k: v for k, v in settings.items() if model != "vsepp" or k != "beam"}
            inputs = {"image": "regions" if model == "updown" else "raw"}
            job = Job(dataset="toy", split="full", model=model, seed=0, inputs=inputs, settings=settings)
            folders[model] = results / "runs" / job.key
            train_job(job, folders[model], prepared)
            evaluate(job, folders[model], prepared, "embedded")
    params = {
        "papers": [],
        "seeds": [0],
        "paths": {"data": str(prepared), "results": str(results)},
        "datasets": {"toy": {"reader": "karpathy", "title": "Toy"}},
        "extractors": {"raw": {"extractor": "image", "network": "shufflenet_v2_x0_5", "weights": "seeded"}},
        "inputs": {"image": "raw"},
    }
    (work / "params.yaml").write_text(yaml.safe_dump(params))
    return folders, prepared, work


def opened(runs, model: str) -> OpenedRun:
    return OpenedRun(runs[0][model], runs[1])


@pytest.fixture
def boxed(runs):
    """The toy's regions with a box each, in the index, while a test runs."""
    path = runs[1] / "toy" / "features" / "image.regions.parquet"
    before = path.read_bytes(), path.with_suffix(".json").read_bytes()
    manifest = json.loads(before[1])
    frame = pd.read_parquet(path)
    frame.assign(boxes=[BOXES] * len(frame)).to_parquet(path)
    from crossmodal.core.files import sha256_file

    write_json(path.with_suffix(".json"), manifest | {"index_sha256": sha256_file(path)})
    yield
    path.write_bytes(before[0])
    path.with_suffix(".json").write_bytes(before[1])


@pytest.mark.parametrize("model", ["nic", "updown"])
def test_items_have_the_captions_of_the_test(runs, model):
    examples = read_parquet(runs[0][model] / "captioning" / "examples.parquet")
    for beam, protocol in ((None, "all"), (2, "all"), (1, "greedy")):
        expected = examples[examples.protocol == protocol].set_index("query_id").caption
        result = description.describe(opened(runs, model), items=["i50", "i59"], beam=beam)
        assert [one.caption for one in result.pictures] == [expected["i50"], expected["i59"]]
        assert (result.beam, result.pictures[0].item_id) == (beam or 2, "i50")


def test_attention_is_that_of_the_words_that_are_said(runs, boxed):
    """The weights are those of the model's own softmax, word by word; they sum to one over the four regions."""
    (one,) = description.describe(opened(runs, "updown"), items=["i51"], beam=1).pictures
    weights = np.array(one.attention)
    assert weights.shape == (len(one.words), 4)
    assert weights.sum(1) == pytest.approx(1, abs=2e-3)
    assert one.boxes == BOXES
    trained = opened(runs, "updown").trained
    features = np.load(runs[1] / "toy" / "features" / "image.regions.npy")[51:52]
    image = base.Regions(torch.from_numpy(features), torch.tensor([4]))
    with torch.inference_mode():
        state = trained.model.first_state(base.Batch({"image": image}))
        last = torch.tensor([trained.vocabulary.words.index("<start>")])
        for word, row in zip(one.words, one.attention, strict=True):
            _, state = trained.model.next_word(last, state)
            assert state["attention"][0].numpy() == pytest.approx(row, abs=1e-4)
            last = torch.tensor([trained.vocabulary.words.index(word)])


def test_without_attention_there_is_none(runs):
    (one,) = description.describe(opened(runs, "nic"), items=["i51"]).pictures
    assert one.attention is None
    assert one.boxes is None


@pytest.mark.parametrize(
    ("model", "given", "message"),
    [
        ("vsepp", {"pictures": ["red.jpg"]}, "is evaluated on instance_retrieval and generates no captions; choose a"),
        ("nic", {"pictures": ["red.jpg"], "beam": 0}, "beam 0: expected 1, .* to 100"),
        ("nic", {"pictures": ["red.jpg"], "beam": 101}, "beam 101: expected 1, .* to 100"),
        ("nic", {}, "no picture is given to describe"),
        ("nic", {"items": ["i51#0"]}, "item 'i51#0': is of the modality text, and only images are described"),
        ("nic", {"items": ["nobody"]}, "holds no item 'nobody'"),
        ("nic", {"pictures": ["absent.jpg"]}, "image absent.jpg: no such file"),
        ("updown", {"pictures": ["red.jpg"]}, "image features were made elsewhere"),
    ],
)
def test_bad_input_is_one_error(runs, model, given, message, monkeypatch):
    monkeypatch.chdir(runs[2])
    with pytest.raises(UserError, match=message):
        description.describe(opened(runs, model), **given)


def test_a_control_describes_nothing(runs):
    job = Job(dataset="toy", split="full", model="chance", seed=0, inputs={}, settings={})
    with pytest.raises(UserError, match="is a control, which is not trained and describes nothing"):
        description.check(job)


def test_several_pictures_by_the_command_line(runs, monkeypatch, tmp_path):
    """Pictures of one's own go through the features' extractor; lines, JSON and page say the same."""
    folders, _, work = runs
    monkeypatch.chdir(work)
    calls = []

    def features(run, data, modality, sources):
        calls.append(list(sources))
        yield torch.zeros(len(sources), 15), {}

    from crossmodal.inference import encoding

    monkeypatch.setattr(encoding, "files_opened", features)
    (work / "note.txt").write_text("no picture")
    command = ["--params", "params.yaml", "describe", str(folders["nic"]), "red.jpg", "note.txt", "--item", "i51"]
    result = CliRunner().invoke(app, [*command, "--html", str(tmp_path / "page.html")])
    assert result.exit_code == 0, result.output
    lines = [line.split("\t") for line in result.stdout.splitlines()]
    assert [line[0] for line in lines] == ["red.jpg", "note.txt", "i51"]
    assert lines[0][1] == lines[1][1]
    assert calls == [["red.jpg", "note.txt"]]
    page = (tmp_path / "page.html").read_text()
    assert page.count("<article>") == 3
    assert page.count("data:image/jpeg") == 1
    assert "This system has no attention" in page
    told = json.loads(CliRunner().invoke(app, [*command, "--json"]).stdout)
    assert [one["caption"] for one in told["pictures"]] == [line[1] for line in lines]


def test_a_file_that_is_no_picture(runs, monkeypatch):
    """The extractor's own message, as of a search; features need no network to say so."""
    work = runs[2]
    monkeypatch.chdir(work)
    (work / "note.txt").write_text("no picture")
    from crossmodal.features.engine import extraction

    def features_of(extractor, settings, given, sources, manifest):
        raise UserError(f"{sources[0]}: is truncated or no image; delete it")

    monkeypatch.setattr(extraction, "features_of", features_of)
    with pytest.raises(UserError, match=r"image note.txt: cannot be read: is truncated or no image; name another file"):
        description.describe(opened(runs, "nic"), ["note.txt"])


def test_python_describes_too(runs, monkeypatch):
    monkeypatch.chdir(runs[2])
    run = library.Run(library.opened(experiments.load(Path("params.yaml")), runs[0]["nic"]))
    assert (
        run.describe(items=["i50"])[0].caption
        == description.describe(opened(runs, "nic"), items=["i50"]).pictures[0].caption
    )


@pytest.mark.parametrize(
    ("pictures", "given", "message"),
    [
        ((["red.jpg", "red.jpg"],), {}, "expected the paths of pictures one by one, found list"),
        ((None,), {}, "expected the paths of pictures one by one, found NoneType"),
        ((), {"items": "i50"}, "items: expected a list of ids, found 'i50'"),
        ((), {"items": None}, "items: expected a list of ids, found None"),
        ((), {"items": ["i50"], "beam": "5"}, "beam '5': expected a whole number from 1 to 100"),
        ((), {"items": ["i50"], "beam": 2.0}, r"beam 2\.0: expected a whole number"),
        ((), {"items": ["i50"], "beam": True}, "beam True: expected a whole number"),
        ((".",), {}, r"image \.: is a folder; name the files in it"),
        (("",), {}, "image '': is a folder"),
        (("x" * 5000,), {}, "File name too long; name a file that is there"),
    ],
)
def test_arguments_of_other_types(runs, monkeypatch, pictures, given, message):
    monkeypatch.chdir(runs[2])
    run = library.Run(library.opened(experiments.load(Path("params.yaml")), runs[0]["nic"]))
    with pytest.raises(UserError, match=message):
        run.describe(*pictures, **given)


@pytest.mark.parametrize(
    ("page", "message"),
    [
        ("", "is a folder; name a file"),
        ("red.jpg", "is the file that is asked about; name another one"),
        ("red.jpg/page.html", "red.jpg is a file; name a file in a folder"),
    ],
)
def test_a_page_that_cannot_be_written_is_told_first(runs, monkeypatch, page, message):
    """Before anything is described, and what is there stays as it is."""
    folders, _, work = runs
    monkeypatch.chdir(work)
    before = (work / "red.jpg").read_bytes()
    command = ["--params", "params.yaml", "describe", str(folders["nic"]), "red.jpg", "--html", page]
    result = CliRunner().invoke(app, command)
    assert result.exit_code != 0
    assert result.stdout == ""
    assert isinstance(result.exception, UserError)
    assert message in str(result.exception)
    assert (work / "red.jpg").read_bytes() == before


def test_a_vocabulary_of_other_words(runs, tmp_path):
    """As many words, but others, would be said in the place of those that were learned."""
    shutil.copytree(runs[0]["nic"], tmp_path / "nic")
    path = tmp_path / "nic" / "vocabulary.json"
    kept = json.loads(path.read_text())
    kept["words"][4], kept["words"][5] = kept["words"][5], kept["words"][4]
    path.write_text(json.dumps(kept))
    with pytest.raises(UserError, match=r"vocabulary.json: is corrupted \(its SHA-256 is not the manifest's\)"):
        description.describe(OpenedRun(tmp_path / "nic", runs[1], None), items=["i50"])
    path.unlink()
    with pytest.raises(UserError, match=r"vocabulary.json: not found; train the run first"):
        description.describe(OpenedRun(tmp_path / "nic", runs[1], None), items=["i50"])


def test_a_run_that_says_nothing_is_told(runs, monkeypatch, caplog):
    from crossmodal.tasks.captions import references

    monkeypatch.chdir(runs[2])
    monkeypatch.setattr(references, "said", lambda *_, **__: [SimpleNamespace(words=[], attention=None)])
    result = description.describe(opened(runs, "nic"), items=["i50"])
    assert result.pictures[0].caption == ""
    assert "toy/full/nic/seed0: says no word of 1 of 1 pictures; train it longer" in caplog.text


def test_regions_are_lit_by_their_weight():
    """The heaviest weight of the whole caption is 1, a quarter of it .25, and what is below a twentieth is left out."""
    first, second = looks(["red", "boat"], [[0.8, 0.2, 0.0, 0.0], [0.1, 0.02, 0.0, 0.3]], BOXES)
    assert [(light.x, light.y, light.opacity, light.first) for light in first.lights] == [
        (10.0, 0.0, 0.25, False),
        (0.0, 0.0, 1.0, True),
    ]
    assert [(light.opacity, light.first) for light in second.lights] == [(0.125, False), (0.375, True)]
    assert (first.kept, second.kept) == pytest.approx((1.0, 0.42))
    with pytest.raises(ValueError, match="4 weights per word for 3 boxes"):
        looks(["a"], [[1, 0, 0, 0]], BOXES[:3])


def test_the_page_draws_each_word(runs, tmp_path):
    work = runs[2]
    one = description.Described(str(work / "red.jpg"), ["a", "<b>"], [[1.0, 0, 0, 0], [0, 0.4, 0, 0]], BOXES)
    blind = description.Described(str(work / "red.jpg"), [], [[1.0, 0, 0, 0]], None)
    result = description.Descriptions("toy/full/updown/seed0", 2, [one, blind])
    descriptions.write(result, tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text()
    assert page.count("<mask") == 2
    assert page.count('class="first"') == 2
    assert "&lt;b&gt;" in page
    assert "<b>" not in page
    assert ">40 %<" in page  # the share that is not on the sentinel
    assert "The boxes of its regions are not known" in page
