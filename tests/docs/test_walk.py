"""The walk of a new user: every command and every Python block of the README and the documentation works.

Commands of `crossmodal` are run on a tiny project, and so are Python blocks; what takes minutes or hours is planned
with `-n`. What can be done with neither is named below with the reason. A command that no rule names fails: it is given
a sub-command in `RUN`, or a reason in `ELSEWHERE`.
"""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml
from PIL import Image
from typer.testing import CliRunner

from crossmodal.cli import app
from crossmodal.tasks.base import CONTROLS
from tests import warm
from tests.docs.documents import FILES, ROOT, Block, blocks
from tests.docs.library import arrays
from tests.docs.test_documented_commands import COMMANDS, braced, program

pytestmark = pytest.mark.slow

RUN = {
    "check", "claims", "collect", "describe", "download", "evaluate", "export", "extract", "features", "figure", "list",
    "measure", "prepare", "report", "search", "split", "table", "tables", "tokenize", "train",
}  # fmt: skip
"""Sub-commands that are run as they are written, on the tiny project."""

LONG = {"snakemake": "minutes to hours", "make": "minutes to hours, and it sets up an environment"}
"""Programs whose commands are planned (`-n`), with the reason."""

ELSEWHERE = {
    r"source .*": "the tests run in an environment of their own",
    r"(git clone|cd) .*": "the tests are in a clone already",
    r"pip install .*": "the tests run in an environment of their own",
    r"ruff .*": "`make test` runs it on the whole project",
    r"python -m pytest .*": "this is the test suite itself",
    r"dvc .*": "needs a repository of DVC: tests/pipeline/test_versions.py and test_remotes.py make one",
    r"crossmodal download \S.*": "fetches files from the net: tests/downloads runs it against a server of its own",
    r"crossmodal rehearse .*": "takes minutes: tests/rehearsal runs it",
    r"crossmodal track .*": "takes ten seconds: tests/reporting/tracking runs it",
    r"crossmodal reference .*": "of results that pass: tests/reporting/results/test_reference.py runs it",
    r"crossmodal check --against .*": "of all runs, which take hours: tests/reporting/results/test_quality_control.py",
    r"crossmodal new .*": "writes into the package",
    r"crossmodal .*(photographs=|results/flickr8k/).*": "needs photographs, which are not here: tests/inference",
    r"crossmodal search media_world/.*": "needs a run on five modalities, which take minutes: tests/inference",
    r"snakemake .*--report .*": "of all results, which take hours",
    r"snakemake .*--software-deployment-method conda": "needs conda",
}
"""Commands that are neither run nor planned here, with the reason; test_documented_commands.py parses them."""

BLOCKS_ELSEWHERE = {
    r"^src/crossmodal/\w+/\w+\.py\n": "a module of a how-to page, which test_documented_examples.py imports and runs",
    r"photographs|results/flickr8k/": "needs photographs, which are not here: tests/inference",
}
"""Python blocks that are not run here, by what stands in their title, a line of its own, or their text; the reason."""

GIVEN: dict[str, Callable[[], dict]] = {"docs/evaluation.md": arrays}
"""What the blocks of a page may use without having made it."""

INSTEAD = {"003471": "000007", "003400": "000007"}
"""The item that a command names among all scenes, and one of the few that are drawn here."""

SMALL = {"dim": 16, "word_dim": 16, "epochs": 1, "epoch_steps": 0, "batch_size": 16, "min_count": 1}
MODELS = ("vsepp",)
CAPTIONER = "scenes/full/nic/seed0"  # which `describe` needs
IMAGES = ["dog on a beach", "cat on a wall", "red car left of a house"]


def thin(folder: Path) -> None:
    """Leave in `quick` what the tiny project has run, and of A3VSE's tables one row."""
    for name in ("mfsr", "a3vse"):
        path = folder / f"{name}.yaml"
        paper = yaml.safe_load(path.read_text())
        if name == "a3vse":
            paper["tables"] = [{**paper["tables"][0], "rows": paper["tables"][0]["rows"][:1]}]
            kept = paper["tables"][0]["rows"][0]["experiment"].values()
            paper["experiments"] = {key: paper["experiments"][key] for key in kept}
            paper["claims"], paper["figures"] = [], {}
        for experiment in paper["experiments"].values():
            whole = "split" not in experiment and "variant" not in experiment
            experiment["quick"] = whole and experiment["model"] in (*MODELS, *CONTROLS)
        path.write_text(yaml.safe_dump(paper, sort_keys=False))


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clone with few scenes and a user's own pictures `mine`, after `snakemake quick` of a few runs."""
    folder = tmp_path_factory.mktemp("walk")
    shutil.copy(ROOT / "Snakefile", folder)
    for name in ("workflow", "profiles", "papers", "examples"):
        shutil.copytree(ROOT / name, folder / name)
    params = yaml.safe_load((ROOT / "params.yaml").read_text()) | {"papers": ["mfsr", "a3vse"], "seeds": [0]}
    params["datasets"]["scenes"] |= {"images": 60, "val": 12, "test": 12}
    params["datasets"]["mine"] = yaml.safe_load((ROOT / "examples" / "csv.yaml").read_text())["datasets"]["mine"]
    for name in ("scenes", "mine"):
        params["datasets"][name]["models"] |= dict.fromkeys((*MODELS, "nic"), SMALL)
    for name in ("scenes", "world"):
        params["extractors"][name] |= {"resize": 64, "crop": 64}
    (folder / "params.yaml").write_text(yaml.safe_dump(params))
    thin(folder / "papers")
    shutil.copy(folder / "papers" / "csv.yaml", folder / "papers" / "mine.yaml")
    pictures = folder / "raw" / "mine" / "images"
    pictures.mkdir(parents=True)
    lines = ["file,sentence"]
    for number in range(30):
        Image.new("RGB", (64, 64), (8 * number, 99, 255 - 8 * number)).save(pictures / f"{number}.png")
        lines.append(f"{number}.png,a {IMAGES[number % 3]}")
    (folder / "raw" / "mine" / "captions.csv").write_text("\n".join(lines) + "\n")
    Image.new("RGB", (64, 64), (200, 30, 30)).save(folder / "photo.jpg")
    with inside(folder):
        for dataset, extractor in (("scenes", "scenes"), ("mine", "world")):
            for step in (["prepare"], ["tokenize"], ["split", "full"], ["extract", extractor]):
                run(step[0], dataset, *step[1:])
            for model in MODELS:
                run("train", f"{dataset}/full/{model}/seed0")
            for model in (*MODELS, *(CONTROLS if dataset == "scenes" else ())):
                run("evaluate", f"{dataset}/full/{model}/seed0")
        run("--config", "papers=[captioning]", "train", CAPTIONER)
        for words in (["collect"], ["collect", "--quick"], ["claims", "--quick"]):
            run(*words)
    return folder


@contextlib.contextmanager
def inside(folder: Path) -> Iterator[None]:
    """In this folder, whatever parameters an earlier plan has named in the environment."""
    before = os.environ.pop("CROSSMODAL_PARAMS", None)
    try:
        with contextlib.chdir(folder):
            yield
    finally:
        if before is not None:
            os.environ["CROSSMODAL_PARAMS"] = before


def run(*words: str) -> str:
    """Everything printed by a command of `crossmodal`, which must end well."""
    done = CliRunner().invoke(app, list(words), catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.output


def command_of(words: list[str]) -> str:
    """The sub-command among the words after `crossmodal`; empty if there are options alone."""
    return next((word for word in words if word in program().commands), "")


def reason_of(command: str) -> str | None:
    """Why a command is neither run nor planned here; None if it is."""
    return next((why for pattern, why in ELSEWHERE.items() if re.fullmatch(pattern, command)), None)


UNIQUE = list(dict.fromkeys(command for _, command in COMMANDS))
PLACES = {command: [str(block) for block, one in COMMANDS if one == command] for command in UNIQUE}


def of(program_name: str) -> list[str]:
    return [one for one in UNIQUE if one.split()[0] == program_name and reason_of(one) is None]


def header_commands() -> list[str]:
    """The commands in the comments at the head of examples/*.yaml."""
    texts = [path.read_text().replace("\\\n#", "") for path in sorted((ROOT / "examples").glob("*.yaml"))]
    return [line for text in texts for line in re.findall(r"^# +(snakemake .*)$", text, re.MULTILINE)]


def plan_of(command: str) -> str:
    """The command without what does not change its plan."""
    return re.sub(r" (--cores \S+|--resources \S+|-n)(?= |$)", "", " ".join(command.split()))


SNAKEMAKE = list(dict.fromkeys([*of("snakemake"), *header_commands()]))


@pytest.mark.parametrize("command", UNIQUE)
def test_a_command_is_in_a_list(command: str) -> None:
    """It is run or planned here, or there is a reason why not."""
    name, *words = shlex.split(command)
    if reason_of(command) is None and name not in LONG:
        where = f"{', '.join(PLACES.get(command, ()))}: `{command}`"
        assert name == "crossmodal", f"{where}: add a rule for {name} to LONG or ELSEWHERE of {Path(__file__).name}"
        only_options = not command_of(words) and all(word.startswith("-") for word in words)
        assert command_of(words) in RUN or only_options, (
            f"{where}: add its sub-command to RUN, or a reason to ELSEWHERE"
        )


@pytest.mark.parametrize("command", of("crossmodal"))
def test_a_command_runs(command: str, project: Path) -> None:
    for item, instead in INSTEAD.items():
        command = command.replace(item, instead)
    words = shlex.split(command)[1:]
    with inside(project):
        assert run(*words) or command_of(words) not in ("list", "table", "search", "measure", "download")


@pytest.fixture(scope="module")
def plans(project: Path) -> dict[str, tuple[int, str]]:
    """Exit code and output of the dry run of each Snakemake command, by what it plans."""
    first = {plan_of(command): command for command in reversed(SNAKEMAKE)}
    commands = [[word for one in shlex.split(command)[1:] for word in braced(one)] for command in first.values()]
    asked = [words if {"--unlock", "-n"} & {*words} else ["-n", *words] for words in commands]
    answers = [warm.command(project, "snakemake", *words) for words in asked]
    return dict(zip(first, answers, strict=True))


@pytest.mark.parametrize("command", SNAKEMAKE)
def test_a_command_is_planned(command: str, plans: dict[str, tuple[int, str]]) -> None:
    code, text = plans[plan_of(command)]
    assert code == 0, text
    assert "--unlock" in command or "This was a dry-run" in text or "Nothing to be done" in text, text


@pytest.mark.parametrize("command", of("make"))
def test_a_target_is_planned(command: str) -> None:
    done = subprocess.run([*shlex.split(command), "--dry-run"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout


def pages_of(language: str) -> dict[str, list[Block]]:
    """The blocks of each page that are run here, in their order."""
    pages: dict[str, list[Block]] = {}
    for block in blocks(language):
        if not any(re.search(pattern, f"{block.title}\n{block.text}") for pattern in BLOCKS_ELSEWHERE):
            pages.setdefault(str(block.path.relative_to(ROOT)), []).append(block)
    return pages


PYTHON = pages_of("python")


@pytest.mark.parametrize("page", PYTHON)
def test_the_python_of_a_page_runs(page: str, project: Path) -> None:
    """The blocks one after the other, as in one session: a later one may use what an earlier one made."""
    values = {"__name__": "__main__", **GIVEN.get(page, dict)()}
    with inside(project):
        for block in PYTHON[page]:
            exec(compile("\n" * block.line + block.text, str(block.path), "exec"), values)


def test_no_block_escapes() -> None:
    """Each fence of a document opens or closes a block that is found, of a language that is known."""
    known = {"sh", "python", "yaml", "toml", "text", "json"}
    for path in FILES:
        text = path.read_text(encoding="utf-8")
        fences = re.findall(r"^[ >]*(?:```|~~~)", text, re.MULTILINE)
        found = [block for language in known for block in blocks(language) if block.path == path]
        assert len(fences) == 2 * len(found), f"{path.relative_to(ROOT)}: a block begins with ```LANGUAGE, of {known}"


def test_a_new_command_needs_a_rule() -> None:
    for command in ("crossmodal rank scenes", "kubectl apply", "crossmodal --params x.yaml rank"):
        with pytest.raises(AssertionError, match=r"to (RUN|LONG)"):
            test_a_command_is_in_a_list(command)
    for command in ("crossmodal --version", "crossmodal --params x.yaml list runs", "snakemake all", "dvc repro"):
        test_a_command_is_in_a_list(command)
