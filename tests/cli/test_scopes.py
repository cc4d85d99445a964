"""Which results a command reads: those of all, or those of `quick` where no others are collected."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from crossmodal import cli, experiments
from crossmodal.cli import base, listing
from crossmodal.core import registry
from crossmodal.core.errors import UserError

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def plan() -> experiments.Plan:
    return experiments.plan(experiments.load(ROOT / "params.yaml"), ROOT / "papers")


def at(plan: experiments.Plan, results: Path) -> experiments.Plan:
    paths = plan.params.paths.model_copy(update={"results": str(results)})
    return experiments.Plan(plan.params.model_copy(update={"paths": paths}), plan.papers)


def test_quick_is_read_where_nothing_else_is_collected(plan, tmp_path, capsys) -> None:
    here = at(plan, tmp_path)
    assert base.scope_of(here, None)[1] == tmp_path  # there is nothing at all: the error names what is wanted
    assert base.scope_of(here, quick=True)[1] == tmp_path / "quick"
    assert capsys.readouterr().err == ""
    (tmp_path / "quick").mkdir()
    (tmp_path / "quick" / "metrics.parquet").touch()
    jobs, folder = base.scope_of(here, None)
    assert folder == tmp_path / "quick"
    assert {job.quick for job in jobs.values()} == {True}
    said = capsys.readouterr().err
    assert said == f"{tmp_path}: holds no collected results; {tmp_path / 'quick'} is read in its place\n"
    assert base.scope_of(here, quick=False) == (here.jobs, tmp_path)
    (tmp_path / "metrics.parquet").touch()
    assert base.scope_of(here, None) == (here.jobs, tmp_path)
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("command", ["tables", "table", "claims", "check", "report", "figure", "track", "collect"])
def test_the_workflow_says_which_it_means(command) -> None:
    """Both words are options, so that no step of `all` writes to results/quick because that is there."""
    rules = "\n".join(path.read_text() for path in (ROOT / "workflow" / "rules").glob("*.smk"))
    assert '"--quick" if wildcards.scope else "--no-quick"' in rules
    assert '"--quick" if wildcards.scope else ""' not in rules
    done = CliRunner().invoke(cli.app, [command, "--help"], env={"COLUMNS": "200", "NO_COLOR": "1"})
    assert "--no-quick" in done.output


def test_listing_of_modules(monkeypatch) -> None:
    rows = {row["name"]: row for row in json.loads(CliRunner().invoke(cli.app, ["list", "models", "--json"]).stdout)}
    assert {*rows} == {*registry.names("models")}
    assert rows["mfsr"]["reads"] == {"image": "vector", "text": "tokens"}
    assert rows["mfsr"]["tasks"] == ["instance_retrieval", "category_retrieval", "reconstruction"]
    assert rows["mfsr"]["about"].endswith("(Zhang and Wu, 2021).")
    assert (rows["mfsr"]["others"], rows["sm"]["others"]) == (False, True)
    monkeypatch.setenv("COLUMNS", "300")
    text = CliRunner().invoke(cli.app, ["list", "models"]).output
    assert "image as vector, text as vector; others by `modalities`" in text
    monkeypatch.setenv("COLUMNS", "80")
    narrow = CliRunner().invoke(cli.app, ["list", "models"]).output
    assert max(map(len, narrow.splitlines())) <= 80
    for kind in ("datasets", "extractors", "forms", "tasks", "figures"):
        rows = json.loads(CliRunner().invoke(cli.app, ["list", kind, "--json"]).stdout)
        assert all(row["about"] for row in rows)


def test_listings_import_no_torch(monkeypatch) -> None:
    code = (
        "import sys\nfrom typer.testing import CliRunner\nfrom crossmodal import cli\n"
        "for words in (['list', 'models'], ['list', 'runs'], ['list', 'figures'], ['--help']):\n"
        "    assert CliRunner().invoke(cli.app, words).exit_code == 0, words\n"
        "sys.exit(', '.join({'torch', 'pandas', 'scipy', 'matplotlib'} & set(sys.modules)) or 0)"
    )
    for name in registry.names("models"):
        registry.reads(name)  # declarations are read once per version of a model, and this may be the first time
    monkeypatch.chdir(ROOT)
    listing.planned(experiments.plan(experiments.load()))  # settings of data sets are checked once per change
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_an_impossible_setting_of_a_data_set_is_found_when_runs_are_listed(tmp_path, monkeypatch) -> None:
    params = experiments.load(ROOT / "params.yaml")
    mine = {"reader": "table", "title": "Mine", "annotations": "mine.csv", "images": "mine", "val": -3}
    own = experiments.from_config(experiments.merge(params.model_dump(), {"datasets": {"mine": mine}}))
    paper = {
        "title": "Mine",
        "name": "toy",
        "experiments": {"one": {"model": "vsepp", "dataset": "mine"}},
        "tables": [],
    }
    plan = experiments.Plan(own, {"toy": experiments.validated(experiments.Paper, paper, "toy.yaml")})
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=r"params.yaml: datasets.mine: val: .* greater than or equal to 0; found -3"):
        listing.planned(plan)
