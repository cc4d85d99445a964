"""Reference sets: written and read back, equal bytes of equal results, which one suits, and damaged files."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pandas as pd
import pytest
from typer.testing import CliRunner

from crossmodal import cli
from crossmodal.core.errors import UserError
from crossmodal.experiments import Plan
from crossmodal.reporting.results import claims, collect, measured, reference


def at(plan: Plan, results: Path, **over: object) -> Plan:
    paths = plan.params.paths.model_copy(update={"results": str(results)})
    return Plan(plan.params.model_copy(update={"paths": paths, **over}), plan.papers)


@pytest.fixture(scope="module")
def here(plan: Plan, made: Path, tmp_path_factory: pytest.TempPathFactory) -> Plan:
    results = Path(shutil.copytree(made, tmp_path_factory.mktemp("reference") / "results"))
    claims.write(at(plan, results), plan.jobs, results)
    return at(plan, results)


def write(plan: Plan, into: Path, name: str = "all", **options: object) -> Path:
    results = Path(plan.params.paths.results)
    return reference.write(plan, plan.jobs, results, name, into, quick=False, **options)


@pytest.fixture(scope="module")
def written(here: Plan, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(here, tmp_path_factory.mktemp("sets"))


def test_a_set_is_read_as_it_was_written(here: Plan, written: Path) -> None:
    results = Path(here.params.paths.results)
    ours, found = measured.read(results, results / "runs", here.jobs), reference.read(written)
    pd.testing.assert_frame_equal(found.measured.numbers, ours.numbers, check_exact=True)
    assert found.measured.facts == ours.facts
    assert found.about.seeds == [0, 1, 2]
    assert (found.about.runs, found.about.numbers) == (len(here.jobs), len(ours.numbers))
    assert found.about.datasets["world"].sha256 == {"items": "d" * 64, "image.world": "f" * 64}
    tables = {path.stem for path in (written / "tables").iterdir()}
    assert "mfsr-table1" in tables
    assert tables < {*here.tables}  # those that no run fills are left out
    assert {path.name for path in written.iterdir()} == {*(reference.ABOUT, reference.METRICS), "tables",
                                                         *(reference.RUNS, reference.CLAIMS)}  # fmt: skip


def test_equal_results_give_equal_bytes(here: Plan, written: Path, tmp_path: Path) -> None:
    again = write(here, tmp_path, "all")
    files = [path.relative_to(written) for path in written.rglob("*") if path.is_file()]
    assert len(files) > 5
    assert [path for path in files if (written / path).read_bytes() != (again / path).read_bytes()] == []


def test_an_older_set_is_replaced_whole_and_another_folder_is_not(here: Plan, tmp_path: Path) -> None:
    old = write(here, tmp_path, faults=["a run is missing"] * 30)
    assert reference.read_about(old).faults == ["a run is missing"] * reference.SHOWN + ["and 10 more"]
    (old / "tables" / "stale.md").touch()
    write(here, tmp_path)
    assert not (old / "tables" / "stale.md").exists()
    assert reference.read_about(old).faults == []
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").touch()
    with pytest.raises(UserError, match=r"mine: is there and has no reference\.json; choose another name"):
        write(here, tmp_path, "mine")
    with pytest.raises(UserError, match=r"the name of a reference set: '\.\./x'"):
        write(here, tmp_path, "../x")
    assert {path.name for path in tmp_path.iterdir()} == {"all", "mine"}


def test_nothing_is_left_where_results_are_missing(here: Plan, tmp_path: Path) -> None:
    results = Path(shutil.copytree(here.params.paths.results, tmp_path / "results"))
    (results / "comparison.parquet").unlink()
    with pytest.raises(UserError, match=r"comparison.parquet: not found"):
        write(at(here, results), tmp_path / "sets")
    assert [*(tmp_path / "sets").iterdir()] == []


@pytest.mark.parametrize("name", [reference.ABOUT, reference.METRICS, reference.RUNS, reference.CLAIMS])
def test_damaged_files_are_one_clear_error(written: Path, tmp_path: Path, name: str) -> None:
    folder = Path(shutil.copytree(written, tmp_path / "set"))
    whole = (folder / name).read_bytes()
    (folder / name).write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match=name):
        reference.read(folder)
    (folder / name).unlink()
    with pytest.raises(UserError, match=rf"{name}: not found"):
        reference.read(folder)


def test_a_table_of_another_set_is_noticed(written: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(written, tmp_path / "set"))
    frame = pd.read_parquet(folder / reference.METRICS)
    frame.assign(value=frame.value + 1).to_parquet(folder / reference.METRICS)
    with pytest.raises(UserError, match=r"metrics.parquet: is not the file that .*reference.json names; take the set"):
        reference.read(folder)
    frame.drop(columns="protocol").to_parquet(folder / reference.METRICS)
    with pytest.raises(UserError, match=r"metrics.parquet: .*has no column protocol"):
        reference.read(folder)
    about = json.loads((folder / reference.ABOUT).read_text()) | {"seeds": "all"}
    (folder / reference.ABOUT).write_text(json.dumps(about))
    with pytest.raises(UserError, match=r"reference.json: seeds"):
        reference.read(folder)


def test_the_sets_that_suit(here: Plan, written: Path, tmp_path: Path) -> None:
    sets = tmp_path / "sets"
    shutil.copytree(written, sets / "all")
    for name, over in {"quick": {"scope": "quick"}, "real": {"scale": "full"}, "own": {"papers": ["mine"]}}.items():
        shutil.copytree(written, sets / name)
        about = json.loads((sets / name / reference.ABOUT).read_text()) | over
        (sets / name / reference.ABOUT).write_text(json.dumps(about))
    named = [one.folder.name for one in reference.chosen(here, sets, quick=False)]
    assert named == ["all"]
    assert [one.folder.name for one in reference.chosen(here, sets, quick=True)] == ["quick"]
    assert [one.folder.name for one in reference.chosen(here, sets / "own", quick=False)] == ["own"]  # as it is named
    found = reference.chosen(here, sets, quick=False)
    assert {one.folder.name for one in reference.beside(found)} == {"quick", "real", "own"}
    (sets / "own" / reference.METRICS).write_bytes(b"")
    assert {one.folder.name for one in reference.beside(found)} == {"quick", "real"}
    shutil.rmtree(sets / "all")
    with pytest.raises(
        UserError, match=r"no set suits .*\(all, scale embedded, papers mfsr, a3vse\).* own: all, scale"
    ):
        reference.chosen(here, sets, quick=False)
    with pytest.raises(UserError, match=r"has neither a folder `runs` nor reference\.json"):
        reference.chosen(here, tmp_path / "nowhere", quick=False)


def test_the_commands_write_a_set_and_check_against_it(here: Plan, tmp_path: Path, monkeypatch) -> None:
    results = Path(shutil.copytree(here.params.paths.results, tmp_path / "results"))
    plan = at(here, results)
    monkeypatch.setattr(cli.results, "read_plan", lambda: plan)
    monkeypatch.chdir(tmp_path)
    sets = tmp_path / "sets"
    done = CliRunner().invoke(cli.app, ["reference", "all", "--no-quick", "--into", str(sets)])
    assert (done.exit_code, done.stdout.strip()) == (0, str(sets / "all"))
    check = ["check", "--no-quick", "--against"]
    done = CliRunner().invoke(cli.app, [*check, str(sets)])
    assert done.exit_code == 0
    assert f"Agrees with {sets / 'all'}" in " ".join(done.stdout.split())
    path = results / "runs/world/full/vse0/seed1/instance_retrieval/metrics.json"
    content = json.loads(path.read_text())
    next(one for one in content["numbers"] if one["metric"] == "recall_sum")["value"] -= 200.0
    path.write_text(json.dumps(content))
    collect.write(plan, plan.jobs, results / "runs", results)
    done = CliRunner().invoke(cli.app, [*check, str(sets / "all")])
    assert done.exit_code == 1
    assert "Does not agree with" in done.stdout
    assert (
        CliRunner().invoke(cli.app, [*check, str(here.params.paths.results)]).exit_code == 1
    )  # a whole folder, exactly
    shutil.rmtree(results / "runs/world/full/vse0/seed1")
    collect.write(plan, plan.jobs, results / "runs", results)
    refused = CliRunner().invoke(cli.app, ["reference", "some", "--no-quick", "--into", str(sets)])
    assert "quality control fails: mfsr table1: row 'VSE0" in str(refused.exception)
    assert "--partial" in str(refused.exception)
    assert not (sets / "some").exists()
    more = ["--partial", "--into", str(sets)]
    assert CliRunner().invoke(cli.app, ["reference", "some", "--no-quick", *more]).exit_code == 0
    assert "2 of 3 seeds of world/full/vse0" in reference.read_about(sets / "some").faults[0]


def test_sets_are_committed_and_cleaning_keeps_them() -> None:
    root = Path(__file__).parents[3]
    ignored = ["git", "check-ignore", "-q"]
    assert subprocess.run([*ignored, "results/reference/all/metrics.parquet"], cwd=root, check=False).returncode == 1
    assert subprocess.run([*ignored, "results/metrics.parquet"], cwd=root, check=False).returncode == 0
    clean = (root / "Makefile").read_text().split("\nclean:")[1]
    assert "! -name reference -exec rm" in clean
