"""Each command of the README and the documentation parses: programs, sub-commands, options, targets, runs, files."""

from __future__ import annotations

import re
import shlex
import tomllib
from functools import cache
from pathlib import Path

import pytest
import typer

from crossmodal import downloads, experiments
from crossmodal.cli import app
from crossmodal.core import registry
from crossmodal.datasets import media_world
from crossmodal.experiments import named
from tests.docs.documents import FILES, ROOT, Block, blocks, spans

PLACEHOLDER = "mine"  # a data set of the reader's own
MAKEFILE = (ROOT / "Makefile").read_text()
TARGETS = set(re.findall(r"^([a-z]+):.*##", MAKEFILE, re.MULTILINE))
RULES = set(
    re.findall(
        r"^rule (\w+):",
        "\n".join(path.read_text() for path in [ROOT / "Snakefile", *(ROOT / "workflow" / "rules").glob("*.smk")]),
        re.MULTILINE,
    )
)
FOLDERS = ("src", "docs", "papers", "examples", "benchmarks", "tests", "profiles", "workflow", "requirements")
LINES = [(block, line) for block in blocks("sh") for line in block.text.replace("\\\n", " ").splitlines()]
COMMANDS = [
    (block, command.strip())
    for block, line in LINES
    for command in re.split(r"&&|;", re.sub(r"(^|\s)#.*", "", line))
    if command.strip()
]


@cache
def plan() -> experiments.Plan:
    return experiments.plan(experiments.load(ROOT / "params.yaml"), ROOT / "papers")


@cache
def program() -> object:
    return typer.main.get_command(app)


@pytest.mark.parametrize(("block", "command"), COMMANDS, ids=[f"{b}-{c[:40]}" for b, c in COMMANDS])
def test_a_command_parses(block: Block, command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    name, *words = shlex.split(command)
    CHECKS[name](words)


def check_make(words: list[str]) -> None:
    variables = {word.partition("=")[0] for word in words if "=" in word}
    targets = [word for word in words if "=" not in word]
    assert targets
    assert set(targets) <= TARGETS
    assert all(f"$({name})" in MAKEFILE or f"$(or $({name})," in MAKEFILE for name in variables)


def check_crossmodal(words: list[str]) -> None:
    """Parsed as it would be, but not run; what names a data set, extractor, table, paper or run must exist."""
    command, words, overlays = program(), [*words], []
    while words[0] in ("--params", "--config"):
        option, value, *words = words
        if option == "--params":
            overlays.append(Path(value))
        else:
            assert experiments.config_of([value]).keys() <= {
                key for path in overlays for key in experiments.read_yaml(path)
            }
    name = words[0]
    while hasattr(command, "commands"):
        if words[0].startswith("-"):
            assert words[0] in {option for one in command.params for option in one.opts} | {"--help"}
            return
        command, words = command.commands[words[0]], words[1:]
    values = command.make_context(name, list(words)).params
    known = overlaid(*overlays) if overlays else plan()
    datasets = {*known.params.datasets, PLACEHOLDER}
    assert values.get("dataset", PLACEHOLDER) in datasets
    assert values.get("extractor", "world") in known.params.extractors
    assert values.get("paper") in {None, "", *known.papers}
    if name == "table":
        assert values["name"] in known.tables
    if name == "download" and values["name"]:
        assert downloads.named(values["name"])
    if name == "list":
        assert values["what"] in ("runs", "extractors", *registry.KINDS)
    if "run" in values:
        check_run(values["run"], known)
    for modality in ("image", "audio", "video", "mesh"):
        if name == "search" and values[modality] is not None:
            assert is_drawn(values[modality]), values[modality]
            assert modality in named.job_of(plan(), values["run"]).modalities
    for part in values.get("only") or ():
        assert any(part in run for run in full().jobs)


def is_drawn(path: Path) -> bool:
    """Whether a file is one that the default settings of a drawn world write."""
    data, world, raw, *below = path.parts
    assert (data, raw) == ("data", "raw")
    if world in ("world", "scenes"):
        return below[0] == "images" and int(Path(below[1]).stem) < plan().params.datasets[world].settings["images"]
    settings = media_world.Settings(**plan().params.datasets["media_world"].settings)
    return "/".join(below) in {
        media_world.source(modality, index)
        for modality in ("image", "audio", "video", "mesh")
        for index in range(settings.count(modality))
    }


@cache
def full() -> experiments.Plan:
    """The plan at scale full, which rehearsals are shown for."""
    params = experiments.load(ROOT / "params.yaml").model_copy(update={"scale": "full"})
    return experiments.plan(params, ROOT / "papers")


@cache
def overlaid(*files: Path) -> experiments.Plan:
    return experiments.plan(experiments.load(files[0], files[1:]), ROOT / "papers")


def check_run(run: str, known: experiments.Plan | None = None) -> None:
    """A run that the plan has, or the folder of one that the example of that name has."""
    if folder := re.fullmatch(r"results/(\w+)/runs/(.+)", run):
        named.job_of(overlaid(ROOT / "params.yaml", ROOT / "examples" / f"{folder[1]}.yaml"), folder[2])
    elif not run.startswith(f"{PLACEHOLDER}/"):
        named.job_of(known or plan(), run)
    else:
        assert re.fullmatch(r"mine/\w+/(\w+)/seed\d+", run)[1] in registry.names("models")


def check_snakemake(words: list[str]) -> None:
    from snakemake.cli import get_argument_parser

    values = get_argument_parser().parse_args(words)
    overlays = values.configfile or []
    assert all(Path(path).is_file() for path in overlays)
    assert not values.workflow_profile or (Path(values.workflow_profile) / "config.yaml").is_file()
    settings = {key for path in overlays for key in experiments.read_yaml(path)} | set(experiments.Params.model_fields)
    assert {key.partition("=")[0] for key in values.config or ()} <= settings
    for target in (one for word in values.targets for one in braced(word)):
        check_target(target, [Path(path) for path in overlays])


def braced(word: str) -> list[str]:
    """`a{b,c}` as the shell expands it."""
    match = re.fullmatch(r"(.*)\{(.*)\}(.*)", word)
    return [f"{match[1]}{one}{match[3]}" for one in match[2].split(",")] if match else [word]


def check_target(target: str, overlays: list[Path]) -> None:
    if run := re.fullmatch(r"results/(?:\w+/)?runs/(.+)/(\w+)/metrics\.json", target):
        assert run[2] in registry.names("tasks")
        if overlays:
            named.job_of(overlaid(*overlays), run[1])
        else:
            check_run(run[1])
    elif features := re.fullmatch(r"data/(\w+)/features/(\w+)\.(\w+)\.json", target):
        assert (features[2], features[3]) in plan().extractors_of(features[1])
    elif figure := re.fullmatch(r"results/(?:quick/)?figures/(\w+)\.svg", target):
        assert figure[1] in registry.names("figures")
    else:
        assert target in RULES


def check_python(words: list[str]) -> None:
    assert words[:2] == ["-m", "pytest"]
    assert all(Path(word).exists() for word in words[2:] if not word.startswith("-"))


def check_pip(words: list[str]) -> None:
    assert words == ["install", "."]


def check_ruff(words: list[str]) -> None:
    assert words in (["check", "."], ["format", "--check", "."])


def check_dvc(words: list[str]) -> None:
    from dvc.cli.parser import get_main_parser

    get_main_parser().parse_args(words)


def check_source(words: list[str]) -> None:
    assert words == [".venv/bin/activate"]
    assert "VENV   := .venv\n" in MAKEFILE


CHECKS = {
    "make": check_make,
    "crossmodal": check_crossmodal,
    "snakemake": check_snakemake,
    "python": check_python,
    "pip": check_pip,
    "ruff": check_ruff,
    "dvc": check_dvc,
    "source": check_source,
}


def test_the_check_refuses_what_does_not_exist() -> None:
    for check, words in (
        (check_make, ["demos"]),
        (check_make, ["bench", "SIZE=3"]),
        (check_crossmodal, ["table", "a3vse-table9"]),
        (check_crossmodal, ["extract", "world", "tf-idf"]),
        (check_crossmodal, ["search", "scenes/full/vsepp/seed0", "--image", "data/scenes/raw/images/009999.jpg"]),
        (check_snakemake, ["--cores", "1", "everything"]),
    ):
        with pytest.raises(AssertionError):
            check(words)
    with pytest.raises(KeyError):
        check_crossmodal(["rank"])
    with pytest.raises(Exception, match="--fast"):
        check_crossmodal(["train", "world/full/vsepp/seed0", "--fast"])


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_what_sentences_name_exists(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Commands, make's targets, extras and files of the repository that stand between backticks."""
    monkeypatch.chdir(ROOT)
    for span in spans(path):
        if span.startswith("crossmodal ") and re.fullmatch(r"crossmodal [a-z -]+( [A-Z]+)?", span):
            command = program()
            for word in span.split()[1:]:
                if word.startswith("-"):
                    assert word in {option for one in command.params for option in one.opts} | {"--help"}, span
                elif hasattr(command, "commands"):
                    assert word in command.commands, span
                    command = command.commands[word]
        elif target := re.fullmatch(r"make ([a-z]+).*", span):
            assert target[1] in TARGETS, span
        elif extra := re.fullmatch(r"pip install 'crossmodal\[(.+)\]'", span):
            project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
            assert extra[1] in project["optional-dependencies"], span
        elif re.fullmatch(
            r"(src|docs|papers|examples|benchmarks|tests|profiles|workflow|requirements)/[\w./*-]+", span
        ):
            assert "NAME" in span or list(ROOT.glob(span.rstrip("/"))), span


def test_the_drawing_names_commands_and_kinds_that_there_are() -> None:
    drawing = (ROOT / "docs" / "assets" / "house.svg").read_text(encoding="utf-8")
    named = re.findall(r'class="house-code">crossmodal ([a-z, ]+)<', drawing)
    commands = [command for line in named for command in line.split(", ")]
    assert len(commands) == 9
    assert set(commands) <= set(program().commands)
    kinds = re.findall(r"you add [a-z ]+: (\w+)/NAME\.(?:py|yaml)", drawing)
    assert {"models", "datasets", "features", "papers"} <= set(kinds) <= {*registry.KINDS, "papers"}


def test_the_files_that_rules_make_are_explained() -> None:
    """In results/README.md: what each rule leaves in a run's folder and in results/."""
    rules = "\n".join(path.read_text() for path in (ROOT / "workflow" / "rules").glob("*.smk"))
    rules = re.sub(r"^ +rule (encode|rank_shard):.*?(?=^ *rule |\Z)", "", rules, flags=re.MULTILINE | re.DOTALL)
    names = set(re.findall(r"f\"\{RUN\}/(?:\{\{task\}\}/)?([\w.]+)\"", rules)) - {
        "encoded"
    }  # taken away once they are gathered
    names |= set(re.findall(r"f\"\{SCOPE\}([\w.]+)\"", rules))
    assert {"examples.parquet", "metrics.parquet", "report.html"} <= names
    text = (ROOT / "results" / "README.md").read_text(encoding="utf-8")
    assert {name for name in names if f"`{name}`" not in text} == set()
