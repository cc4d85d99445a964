"""`crossmodal new`: what it writes of each kind passes the conformance suites and runs, and it overwrites nothing."""

from __future__ import annotations

import re
import shutil
import tomllib
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from PIL import Image
from typer.testing import CliRunner

from crossmodal import experiments
from crossmodal.cli import app, new
from crossmodal.core import registry
from crossmodal.core.errors import UserError
from crossmodal.core.files import read_json
from crossmodal.corpus.opening import load
from crossmodal.datasets import items
from crossmodal.experiments import Job
from crossmodal.reporting.figures import base as figures
from crossmodal.reporting.results import collect
from crossmodal.reporting.tables import writers
from crossmodal.runs.evaluate import evaluate
from crossmodal.runs.train import train_job
from crossmodal.tasks.base import tasks
from tests import warm
from tests.features import test_extractor_conformance as extractors
from tests.models import test_conformance as models
from tests.pipeline.commands import ROOT
from tests.prepared import install
from tests.tasks import test_conformance as asked

SMALL = {"epochs": 1, "batch_size": 16, "min_count": 1}
PAGES = {"model": ("model", "meanwords"), "dataset": ("dataset", "bars"), "extractor": ("extractor", "colours")}
MODULES = [kind for kind in new.KINDS if kind != "paper"]


def text_of(kind: str, name: str, folder: Path) -> str:
    return new.write(kind, name, folder / "written").read_text()


@pytest.fixture
def fresh(outside, tmp_path):
    """A function that writes the file of a kind under the name `fresh`, as a module of an installed package."""

    def make(kind: str) -> Path:
        points = {new.KINDS[kind].modules: {"fresh": "fresh"}}
        return outside("brand", {"fresh": text_of(kind, "fresh", tmp_path)}, points)

    return make


def trained(model: str, prepared: Path, folder: Path, **settings: object) -> Job:
    """A run of one epoch, tested under all its tasks."""
    job = Job(dataset="toy", split="full", model=model, seed=0, inputs={"image": "raw"}, settings=SMALL | settings)
    train_job(job, folder, prepared)
    evaluate(job, folder, prepared, "embedded")
    return job


def test_a_model(fresh, prepared, tmp_path, monkeypatch):
    fresh("model")
    models.test_encodings_and_scores("fresh")
    models.test_it_is_built_again_from_what_its_manifest_says("fresh")
    models.test_trains_saves_and_repeats("fresh")
    monkeypatch.chdir(tmp_path)
    trained("fresh", prepared, tmp_path / "run", dim=8, epochs=20, lr=0.05)
    numbers = read_json(tmp_path / "run" / "instance_retrieval" / "metrics.json")["numbers"]
    sizes = {n["aspect"]: (n["n_queries"], n["n_gallery"]) for n in numbers if n["metric"] == "recall@1"}
    assert sizes == {"image-to-text": (12, 36), "text-to-image": (36, 12)}
    (value,) = [n["value"] for n in numbers if (n["aspect"], n["metric"]) == ("text-to-image", "recall@5")]
    assert value > 60  # five of twelve at random are 42; captions name the coordinates above zero


def test_a_reader_of_a_data_set(fresh, tmp_path):
    fresh("dataset")
    (tmp_path / "images").mkdir()
    for n in range(10):
        Image.new("RGB", (4, 4), (n, 0, 0)).save(tmp_path / "images" / f"{n}.png")
    lines = [f"{n}.png|a picture of the shade {n}" for n in range(10)] + ["3.png|again the third"]
    (tmp_path / "captions.txt").write_text("\n".join(lines) + "\n")
    reader = registry.module("datasets", "fresh")
    settings = reader.Settings(images=tmp_path / "images", annotations=tmp_path / "captions.txt")
    reader.make(settings, tmp_path / "data" / "mine", title="Mine")
    frame = items.read(tmp_path / "data" / "mine")
    assert frame.modality.value_counts().to_dict() == {"text": 11, "image": 10}
    assert read_json(tmp_path / "data" / "mine" / "items.json")["reader"] == "fresh"
    (tmp_path / "captions.txt").write_text("0.png a picture\n")
    with pytest.raises(UserError, match="line 1"):
        reader.make(settings, tmp_path / "data" / "mine", title="Mine")


def test_an_extractor(fresh, tmp_path):
    fresh("extractor")
    cases = [extractors.Case(*case) for case in registry.module("features", "fresh").CASES]
    assert len(cases) == 2
    for number, case in enumerate(cases):
        (tmp_path / f"inputs{number}").mkdir()
        made = extractors.Extractor("fresh", case, tmp_path / f"inputs{number}")
        extractors.test_a_row_an_item(made)
        extractors.test_the_manifest_is_complete(made)
        place = tmp_path / f"again{number}"
        extractors.test_half_precision(made, place / "half")
        extractors.test_the_same_bits_again(made, place / "same")
        extractors.test_an_item_does_not_feel_its_batch(made, place / "batch", 1)
        extractors.test_another_order_is_the_same_rows_in_that_order(made, place / "order")
        extractors.test_no_items(made, place / "none")
        extractors.test_goes_on_after_a_kill_to_the_same_bits(made, place / "kill")
        for harm in ("spoil", "empty"):
            extractors.test_a_bad_item_stops_or_is_left_out(made, place / harm, harm)
        np.testing.assert_allclose(np.asarray(made.whole.array).sum(1), 3, rtol=1e-6)  # a whole for each channel


def test_a_task(fresh, prepared, tmp_path, monkeypatch):
    fresh("task")
    task = tasks()["fresh"]
    data = ("group", load(prepared / "toy", "full", dict.fromkeys(("image", "text"), "ids"), {}))
    asked.test_what_a_task_declares(task)
    asked.test_metrics(task)
    for control in ("chance", "oracle"):
        asked.test_controls_are_where_they_must_be(data, task, control, tmp_path / control)
    asked.test_examples_give_the_metrics_again(data, task, tmp_path / "examples")
    monkeypatch.chdir(tmp_path)
    job = trained("vsepp", prepared, tmp_path / "run", dim=8, word_dim=4)
    assert job.tasks == ("instance_retrieval", "fresh")
    kept = np.load(tmp_path / "run" / "instance_retrieval" / "embeddings.npz")
    scores = kept["text"] @ kept["image"].T  # 36 captions, three per image, of 12 images
    own = np.repeat(np.arange(12), 3)
    right = scores[np.arange(36), own] > scores[np.arange(36), (own + 1) % 12]
    (number,) = read_json(tmp_path / "run" / "fresh" / "metrics.json")["numbers"]
    assert number["value"] == pytest.approx(100 * right.mean())


def test_a_form(fresh, prepared):
    fresh("form")
    assert registry.form("fresh", "image") == {"array": "fresh", "files": [], "axes": 2, "outside": "numbers"}
    corpus = load(prepared / "toy", "full", {"image": "fresh", "text": "tokens"}, {"image": "raw"})
    found = corpus.inputs["image"].gather(torch.tensor([7, 3])).numpy()
    array = np.load(prepared / "toy" / "features" / "image.raw.npy")[[7, 3]]
    np.testing.assert_allclose(found, array / np.linalg.norm(array, axis=1, keepdims=True), rtol=1e-6)


def test_a_figure(fresh, tmp_path):
    fresh("figure")
    plan = experiments.plan(experiments.load(ROOT / "params.yaml"), ROOT / "papers")
    scope = figures.Scope(plan, {key: job for key, job in plan.jobs.items() if job.seed == 0}, str(tmp_path))
    figures.write("fresh", scope)
    assert ">a3vse<" in re.sub(r"\s", "", (tmp_path / "figures" / "fresh.svg").read_text())


def test_a_paper_of_twelve_lines(prepared, tmp_path, monkeypatch):
    """It is the one of the documentation, and its table is made of runs."""
    text = text_of("paper", "mine", tmp_path)
    assert len(text.splitlines()) == 12
    page = (ROOT / "docs" / "howto" / "paper.md").read_text()
    assert f"```yaml\n{text}```" in page
    monkeypatch.chdir(tmp_path)
    shutil.copytree(prepared / "toy", tmp_path / "data" / "world")
    world = {"reader": "world", "title": "small world", "inputs": {"image": "raw"}}
    world["models"] = {name: SMALL | {"dim": 8, "word_dim": 4} for name in ("vse0", "vsepp")}
    raw = {"extractor": "image", "network": "resnet18", "weights": "seeded"}
    params = {"papers": ["mine"], "seeds": [0], "datasets": {"world": world}, "extractors": {"raw": raw}}
    plan = experiments.plan(experiments.from_config(params), tmp_path / "written")
    runs = tmp_path / "results" / "runs"
    for key, job in plan.jobs.items():
        if not job.control:
            train_job(job, runs / key, tmp_path / "data")
        evaluate(job, runs / key, tmp_path / "data", "embedded")
    collect.write(plan, plan.jobs, runs, tmp_path / "results")
    writers.write(plan, tmp_path / "results")
    table = (tmp_path / "results" / "tables" / "mine-table1.md").read_text()
    assert "published" not in table.lower()
    assert "Here: the test items of small world (12 images and 36 captions to test on), ranked as a whole" in table
    cells = pd.read_csv(tmp_path / "results" / "tables" / "mine-table1.csv")
    assert cells.status.tolist() == ["done"] * 4


@pytest.mark.parametrize("kind", PAGES)
def test_the_pages_show_what_is_written(kind, tmp_path):
    page, name = PAGES[kind]
    text = (ROOT / "docs" / "howto" / f"{page}.md").read_text()
    assert f'```python title="src/{registry.PACKAGES[new.KINDS[kind].modules].replace(".", "/")}/{name}.py"\n' in text
    assert f"{text_of(kind, name, tmp_path)}```" in text
    assert f"crossmodal new {kind} {name}\n" in text


# -- the command ------------------------------------------------------------------------------------------------------


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    """Folders in which the command writes as it does in a checkout."""
    for kind in MODULES:
        folder = tmp_path.joinpath("src", *registry.PACKAGES[new.KINDS[kind].modules].split("."))
        folder.mkdir(parents=True)
        (folder / "__init__.py").touch()
    (tmp_path / "params.yaml").touch()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(*words: str) -> str:
    done = CliRunner().invoke(app, ["new", *words], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.output


@pytest.mark.parametrize("kind", new.KINDS)
def test_where_it_is_written_and_what_is_next(checkout, kind):
    modules = new.KINDS[kind].modules
    place = "papers/mine.yaml" if kind == "paper" else f"src/{registry.PACKAGES[modules].replace('.', '/')}/mine.py"
    said = run(kind, "mine")
    assert said.startswith(f"{place} written: ")
    assert (checkout / place).read_text()
    assert "NAME" not in said
    assert "NAME" not in (checkout / place).read_text()
    assert f"Try it:\n\n    {new.KINDS[kind].try_.replace('NAME', 'mine')}\n" in said
    (page,) = re.findall(r"What can be changed: (\S+)", said)
    assert (ROOT / page).is_file()
    for path in re.findall(r"python -m pytest (\S+) -k mine", said):
        assert (ROOT / path).is_file()
    (checkout / place).write_text("changed")
    with pytest.raises(UserError, match=r"mine\.\w+: is there already, and is kept as it is; choose another name"):
        run(kind, "mine")
    assert (checkout / place).read_text() == "changed"


def test_in_a_package_of_ones_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "theirs" / "deep"
    folder.mkdir(parents=True)
    for one in (folder, folder.parent):
        (one / "__init__.py").touch()
    said = run("task", "mine", "--to", "theirs/deep")
    assert tomllib.loads("\n".join(said.splitlines()[4:6])) == {
        "project": {"entry-points": {"crossmodal.tasks": {"mine": "theirs.deep.mine"}}}
    }
    assert '"PACKAGE.mine"' in run("task", "mine", "--to", "elsewhere")
    assert (tmp_path / "elsewhere" / "mine.py").read_text() == (folder / "mine.py").read_text()
    for kind, wanted in (("model", "src/crossmodal/models/__init__.py"), ("paper", "params.yaml")):
        with pytest.raises(UserError, match=f"{wanted}: not found, .* or name a folder with --to"):
            run(kind, "mine")


@pytest.mark.parametrize(
    ("words", "error"),
    [
        (["modle", "mine"], "new 'modle': is no kind; did you mean 'model'"),
        (["model", "vsepp"], r"'vsepp': there is a model of that name \(crossmodal\.models\.vsepp\); choose another"),
        (["model", "Mine"], "'Mine': cannot be the name of a model; expected small letters"),
        (["dataset", "my-own"], "'my-own': cannot be the name of a dataset"),
        (["figure", "_mine"], "cannot be the name"),
        (["task", "../mine"], "cannot be the name"),
        (["model", "lambda"], "cannot be the name .* no word of Python's own"),
        (["model", "2words"], "a letter first"),
    ],
)
def test_names_are_checked(checkout, words, error):
    before = sorted(checkout.rglob("*"))
    with pytest.raises(UserError, match=error):
        run(*words)
    assert sorted(checkout.rglob("*")) == before


def test_a_name_of_a_helper_is_taken(checkout):
    (checkout / "src/crossmodal/models/parts").mkdir()
    with pytest.raises(UserError, match="src/crossmodal/models/parts: is there already"):
        run("model", "parts")


@pytest.mark.slow
def test_the_commands_to_try_are_steps_of_the_dag(tmp_path):
    """All of them at once, where settings are as the command says."""
    shutil.copy(ROOT / "Snakefile", tmp_path)
    for name in ("workflow", "profiles", "papers"):
        shutil.copytree(ROOT / name, tmp_path / name)
    texts = {kind: text_of(kind, f"my_{kind}", tmp_path) for kind in new.KINDS}
    (tmp_path / "papers" / "my_paper.yaml").write_text(texts.pop("paper"))
    modules = {f"my_{kind}": text for kind, text in texts.items()}
    points = {new.KINDS[kind].modules: {f"my_{kind}": f"my_{kind}"} for kind in texts}
    install(tmp_path / "site", "brand", modules, points)
    params = experiments.read_yaml(ROOT / "params.yaml")
    targets, config = [], {}
    for kind, about in new.KINDS.items():
        params = experiments.merge(params, yaml.safe_load(about.settings.replace("NAME", f"my_{kind}") or "{}"))
        program, *words = re.findall(r"'[^']*'|\S+", about.try_.replace("NAME", f"my_{kind}"))
        if program == "snakemake":
            targets.append(words[2])
            config |= dict(word.strip("'").split("=") for word in words[4:])
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(params))
    path = {"PYTHONPATH": f"{ROOT / 'src'}:{tmp_path / 'site'}", "XDG_CACHE_HOME": str(tmp_path / "cache")}
    given = [f"{key}={value}" for key, value in config.items()]
    assert given == ["papers=[my_paper]", "seeds=[0]"]
    code, said = warm.snakemake(tmp_path, "-n", *targets, "--config", *given, **path)
    assert code == 0, said
    for target in [*targets, "results/tables/my_paper-table1.md"]:
        assert target == "all" or target in said, target


def test_the_templates_are_part_of_what_is_installed():
    """Data files of the package, as its build takes them, and all of them are linted as Python or read as YAML."""
    wheel = pytest.importorskip("hatchling.builders.wheel", reason="hatchling is not installed")
    taken = {Path(file.distribution_path) for file in wheel.WheelBuilder(str(ROOT)).recurse_included_files()}
    wanted = {Path("crossmodal/cli/templates", path.name) for path in new.TEMPLATES.iterdir()}
    assert len(wanted) == len(new.KINDS)
    assert wanted <= taken
    ruff = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["ruff"]
    assert ruff["extension"] == {"template": "python"}
    assert {path.suffix for path in wanted} == {".template", ".yaml"}
