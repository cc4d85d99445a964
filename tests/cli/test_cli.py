import logging
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from crossmodal import experiments
from crossmodal.cli import base
from crossmodal.core.errors import UserError
from crossmodal.core.files import write_text
from tests import warm

ROOT = Path(__file__).parents[2]


def crossmodal(*words, cwd):
    command = [sys.executable, "-m", "crossmodal", *words]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)


@pytest.fixture
def project(tmp_path):
    """params.yaml and papers/ of the project, to be spoilt."""
    shutil.copy(ROOT / "params.yaml", tmp_path)
    shutil.copytree(ROOT / "papers", tmp_path / "papers")

    def change(**blocks):
        params = yaml.safe_load((tmp_path / "params.yaml").read_text())
        (tmp_path / "params.yaml").write_text(yaml.safe_dump(experiments.merge(params, blocks)))
        return tmp_path

    return change


@pytest.mark.parametrize(
    ("blocks", "words"),
    [
        ({"seed": [1]}, ["seed: unknown key", "did you mean 'seeds'"]),
        ({"scale": "huge"}, ["scale", "'huge'"]),
        ({"papers": ["mfrs"]}, ["papers/mfrs.yaml", "did you mean 'mfsr'"]),
        ({"models": {"vsep": {}}}, ["'vsep'", "did you mean 'vsepp'"]),
        ({"inputs": {"image": "word"}}, ["'word'", "did you mean 'world'"]),
        ({"datasets": {"world": {"reader": "karpaty"}}}, ["'karpaty'", "did you mean 'karpathy'"]),
    ],
)
def test_mistakes_in_params_are_named(project, blocks, words):
    folder = project(**blocks)
    with pytest.raises(UserError) as error:
        experiments.plan(experiments.load(folder / "params.yaml"), folder / "papers")
    for word in words:
        assert word in str(error.value)


def test_a_models_own_setting_is_checked(project):
    folder = project(models={"vsepp": {"margn": 0.1}})
    plan = experiments.plan(experiments.load(folder / "params.yaml"), folder / "papers")
    with pytest.raises(UserError, match="did you mean 'margin'"):
        experiments.check_settings(plan)


def test_places_of_an_overlay_are_filled(project, tmp_path):
    folder = project()
    (tmp_path / "over.yaml").write_text("mine: /photographs\ndatasets: {flickr8k: {images: '{mine}/images'}}\n")
    params = experiments.load(folder / "params.yaml", [tmp_path / "over.yaml"])
    assert params.datasets["flickr8k"].settings["images"] == "/photographs/images"


def test_errors_are_one_line_and_exit_2(project):
    folder = project()
    for words, said in (
        (["prepare", "wrld"], "did you mean 'world'"),
        (["prepare", "flickr8k"], "datasets"),
        (["train", "world/full/vsep/seed0"], "did you mean 'vsepp'"),
        (["train", "world/full/vsepp/seed0"], "items.parquet"),
        (["evaluate", "world/full/vsepp/seed0"], "train the run first"),
    ):
        code, text = warm.command(folder, "crossmodal", *words)
        assert code == 2, words
        assert "Traceback" not in text
        assert said in text


def test_an_error_of_a_process_of_its_own(project):
    folder = project()
    done = crossmodal("prepare", "wrld", cwd=folder)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert "did you mean 'world'" in done.stderr


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["search", "x" * 300, "a ball"], "too long"),
        (["search", "round", "a ball"], "round"),
        (["search", "params.yaml/x", "a ball"], "params.yaml/x"),
        (["check", "--against", "x" * 300], "too long"),
        (["search", b"\xff", "a ball"], "names no run"),
    ],
    ids=["long run", "circle", "below a file", "long folder", "no text"],
)
def test_paths_that_cannot_be_opened_are_one_line(project, words, said):
    folder = project()
    (folder / "round").symlink_to("round")
    done = crossmodal(*words, cwd=folder)
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    assert said in done.stderr


def test_a_page_that_cannot_be_written_is_one_line(tmp_path):
    """A folder in place of a file, a file in place of a folder, a circle of links, a name that is too long."""
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").touch()
    (tmp_path / "round").symlink_to("round")
    for name, said in (("folder", "it is a folder"), ("file/x", "is a file"), ("round/x", "is a"), ("x" * 300, "long")):
        with pytest.raises(UserError, match=f"cannot be written: .*{said}"):
            write_text(tmp_path / name, "x")
    assert not [path for path in tmp_path.iterdir() if path.name.endswith(".part")]


def test_help_and_listings(project):
    folder = project()
    text = crossmodal("--help", cwd=folder).stdout
    for command in ("prepare", "extract", "train", "evaluate", "tables", "report", "track"):
        assert command in text
    runs = crossmodal("list", cwd=folder).stdout
    assert "scenes/10pct-5cap/vsepp/seed0  (quick)" in runs
    assert "vsepp" in crossmodal("list", "models", cwd=folder).stdout


def test_full_scale_has_the_papers_settings(project):
    folder = project(scale="full")
    jobs = experiments.plan(experiments.load(folder / "params.yaml"), folder / "papers").jobs
    job = jobs["coco/full/vsepp.batch24/seed0"]
    assert job.settings == {"batch_size": 24}  # the rest is VSE++'s own: one layer of 1024
    assert job.inputs == {"image": "resnet152"}
    assert job.folds == [1, 5]


def test_lines_of_the_log_hold_no_control_characters():
    record = logging.LogRecord(
        "x", logging.WARNING, "", 0, "%s: no small copy", ("a\x1b]8;;http://x\x07b\nnext",), None
    )
    line = base._Printable("%(asctime)s %(message)s", "%H:%M:%S").format(record)
    assert line[9:] == "a\N{REPLACEMENT CHARACTER}]8;;http://x\N{REPLACEMENT CHARACTER}b\n    next: no small copy"
