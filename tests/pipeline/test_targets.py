"""Targets asked for by their paths: runs of a user's own model, a figure of one's own, a bad path among good ones."""

import shutil
import sys

import pytest
import yaml

from tests import warm
from tests.on_world import on_world
from tests.pipeline.commands import ROOT, call, ok, snakemake
from tests.prepared import install

pytestmark = pytest.mark.slow
RUNS = "results/runs/world/full"
GOOD = [
    f"{RUNS}/{name}/instance_retrieval/metrics.json"
    for name in ("chance/seed0", "chance/seed1", "oracle/seed0", "mine/seed0")
]
BAD = f"{RUNS}/mcvs/seed0/instance_retrieval/metrics.json"  # reads text as vectors, which are not there
UNKNOWN = f"{RUNS}/vsep/seed0/instance_retrieval/metrics.json"
MINE = '''"""SCAN by another name: nothing here says what it reads."""
from crossmodal.models.scan import Model, Settings
'''
FIGURE = '''"""One sentence."""
from crossmodal.reporting.figures import base, canvas

class Figure(base.Figure):
    caption = "A sentence of one's own."

    def reads(self):
        return []

    def draw(self):
        return canvas.empty(canvas.figure(4, 1), "of one's own")
'''


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A tiny world, and a package beside this one with a model that inherits all it has."""
    folder = tmp_path_factory.mktemp("targets")
    shutil.copy(ROOT / "Snakefile", folder)
    for name in ("workflow", "profiles", "papers"):
        shutil.copytree(ROOT / name, folder / name)
    points = {"models": {"mine": "model"}, "figures": {"own": "figure"}}
    install(folder / "site", "mine", {"model": MINE, "figure": FIGURE}, points)
    params = on_world(papers=["mfsr"], seeds=[0])
    params["tracking"]["enabled"] = False
    params["datasets"]["world"] |= {"images": 80, "val": 20, "test": 20}
    for inputs in (params["inputs"], params["datasets"]["world"]["inputs"]):
        del inputs["text"]  # vectors of captions, which `BAD` lacks
    params["models"]["mine"] = {
        "dim": 8,
        "word_dim": 8,
        "epochs": 1,
        "batch_size": 16,
        "min_count": 1,
    }
    params["extractors"]["world"] |= {"resize": 64, "crop": 64}
    params["extractors"]["regions"] |= {"resize": 64}
    (folder / "params.yaml").write_text(yaml.safe_dump(params))
    return folder


def run(folder, *words):
    path = f"{ROOT / 'src'}:{folder / 'site'}"
    return warm.snakemake(folder, *words, PYTHONPATH=path, XDG_CACHE_HOME=str(folder / "cache"))


def test_a_bad_path_among_good_ones_is_named(project):
    for bad, words in (
        (BAD, "datasets.world.inputs: model 'mcvs' reads text features in the form 'vector'"),
        (UNKNOWN, "'vsepp'"),
    ):
        code, text = run(project, "-n", *GOOD, bad)
        assert code != 0
        assert words in text
        assert bad.removeprefix("results/runs/").removesuffix("/instance_retrieval/metrics.json") in text


def test_a_misspelt_target_is_named_with_those_there_are(project):
    code, text = run(project, "-n", "qiuck")
    assert code != 0
    assert "target 'qiuck' is unknown; did you mean 'quick'? (known: all, features, figures, inputs, quick" in text


def test_a_figure_of_ones_own_is_one_file(project):
    code, text = run(project, "-n", "quick")
    assert code == 0, text
    assert "output: results/quick/figures/own.svg" in text
    (page,) = [line for line in text.splitlines() if "input:" in line and "figures/annotation.svg" in line]
    assert "results/quick/figures/own.svg" in page  # the page is made after it
    code, text = run(project, "results/figures/own.svg")
    assert code == 0, text
    assert "of one's own" in (project / "results/figures/own.svg").read_text()
    path = {"PYTHONPATH": f"{ROOT / 'src'}:{project / 'site'}", "XDG_CACHE_HOME": str(project / "cache")}
    assert "own  (mine.figure)" in ok(project, "crossmodal", "list", "figures", **path)
    ok(project, "crossmodal", "figure", "own", "--quick", **path)
    assert (project / "results/quick/figures/own.svg").read_text() == (project / "results/figures/own.svg").read_text()
    code, text = call(project, "crossmodal", "figure", "onw", **path)
    assert code == 2
    assert "figure 'onw' is unknown; did you mean 'own'" in text


def test_with_keep_going_the_others_are_made(project):
    code, text = run(project, "--keep-going", *GOOD, BAD, UNKNOWN)
    assert code != 0  # not everything was made
    for target in GOOD:
        assert (project / target).exists(), text
    assert "world/full/mcvs/seed0: params.yaml: datasets.world.inputs: model 'mcvs' reads text" in text
    assert "did you mean 'vsepp'" in text
    assert not (project / BAD).exists()


def test_tables_are_made_of_the_runs_that_are_there(project):
    """Nothing is trained, and one line says how many runs are not made."""
    before = sorted(project.glob("results/runs/*/*/*/*"))
    code, text = run(project, "tables")
    assert code == 0, text
    assert sorted(project.glob("results/runs/*/*/*/*")) == before
    assert text.count("are not made yet") == 1
    table = (project / "results/tables/mfsr-table1.md").read_text()
    (oracle,) = [line for line in table.splitlines() if "| oracle" in line and "| here" in line]
    assert oracle.count("100.0") == 6
    code, text = run(project, "-n", "figures", "report")
    assert code == 0, text
    assert "rule train" not in text


def test_snakemakes_report_needs_no_cores(project):
    """It names the first file that is not there, as nothing of `quick` was made."""
    path = {"PYTHONPATH": f"{ROOT / 'src'}:{project / 'site'}", "XDG_CACHE_HOME": str(project / "cache")}
    code, text = call(project, sys.executable, "-m", "snakemake", "--report", "report.zip", "quick", **path)
    assert code != 0
    assert "marked for report but does not exist" in text
    assert "number of cores" not in text


def test_the_dag_is_built_again_without_torch(project):
    """Declarations are remembered: what is imported is seen by a folder of modules in which torch cannot be had."""
    blocked = project / "blocked" / "torch"
    blocked.mkdir(parents=True)
    (blocked / "__init__.py").write_text("raise ImportError('torch is not to be imported here')\n")
    code, text = run(project, "-n", *GOOD)
    assert code == 0, text
    path = f"{ROOT / 'src'}:{project / 'site'}:{project / 'blocked'}"
    code, text = snakemake(project, "-n", *GOOD, PYTHONPATH=path, XDG_CACHE_HOME=str(project / "cache"))
    assert code == 0, text
    empty = {"PYTHONPATH": path, "XDG_CACHE_HOME": str(project / "nothing")}
    code, text = snakemake(project, "-n", *GOOD, **empty)
    assert code != 0
    assert "torch is not to be imported here" in text
