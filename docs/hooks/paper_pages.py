"""A page per paper, from papers/*.yaml and params.yaml: its tables, deviations, claims, experiments and settings."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from markdown_parts import cell, indented, table_of
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

from crossmodal.core import registry
from crossmodal.experiments import (
    CONTROLS,
    Claim,
    Experiment,
    Paper,
    Plan,
    Table,
    load,
    named_experiments,
    plan,
    read_papers,
)

ROOT = Path(__file__).parents[2]


def on_config(config: MkDocsConfig) -> None:
    (entry,) = (entry for entry in config.nav if "Papers" in entry)
    papers = [{_short(paper): f"papers/{name}.md"} for name, paper in _plan().papers.items()]
    entry["Papers"] = ["papers/index.md", *papers]


def on_files(files: Files, config: MkDocsConfig) -> Files:
    chosen = _plan()
    files.append(File.generated(config, "papers/index.md", content=index(chosen)))
    for name in chosen.papers:
        files.append(File.generated(config, f"papers/{name}.md", content=page(chosen, name)))
    return files


def _plan() -> Plan:
    """The plan of every file of papers/, whatever params.yaml chooses, except those of an overlay's own data sets."""
    params = load(ROOT / "params.yaml")
    names = [*params.papers, *sorted({path.stem for path in (ROOT / "papers").glob("*.yaml")} - {*params.papers})]
    datasets = {
        name: {one.dataset for one in paper.experiments.values()}
        for name, paper in read_papers(names, ROOT / "papers").items()
    }
    names = [name for name in names if datasets[name] <= set(params.datasets)]
    return plan(params.model_copy(update={"papers": names}), ROOT / "papers")


def index(chosen: Plan) -> str:
    """The list of papers, with what is filled in by runs of this project."""
    rows = [
        (
            f"[{cell(paper.title)}]({name}.md)",
            ", ".join(cell(str(part)) for part in (paper.authors, paper.venue, paper.year) if part),
            len(paper.tables),
            len(paper.experiments),
            len(paper.claims),
        )
        for name, paper in chosen.papers.items()
    ]
    return (
        "# Papers\n\nEach file of `papers/` holds the facts of one paper: its published tables, the experiments that "
        "fill their rows here, and the sentences that it claims. These pages are written from the same files when the "
        "documentation is built. How to add one: [your own paper or table](../howto/paper.md).\n\n"
        + table_of(("paper", "authors, venue, year", "tables", "experiments", "claims"), rows)
    )


def page(chosen: Plan, name: str) -> str:
    """The page of one paper."""
    paper = chosen.papers[name]
    printed = ", ".join(str(part) for part in (paper.venue, paper.year) if part)
    reference = " ".join(f"{part}." for part in (paper.authors, f"*{paper.title}*", printed) if part)
    reference += f" [doi:{paper.doi}](https://doi.org/{paper.doi})" if paper.doi else ""
    parts = [f"# {_short(paper)}", reference, _preface(name), "## What is reproduced", _tables(chosen, paper)]
    deviations = _deviations(paper)
    if deviations:
        parts += [
            "## Deviations",
            "How what is trained here differs from what was published, whatever the settings. The caption of each "
            "rendered table says the same beside the numbers.",
            deviations,
        ]
    if paper.claims:
        parts += [
            "## Claims",
            f"`crossmodal claims --paper {name}` tests these sentences on the runs that have been made and prints a "
            "verdict for each; [how a claim is tested](../claims.md).",
            _claims(paper),
        ]
    parts += ["## Systems and their settings", _systems(chosen, paper), "## Experiments", _experiments(chosen, paper)]
    return "\n\n".join(part for part in parts if part) + "\n"


def _short(paper: Paper) -> str:
    """A title that fits the navigation: the abbreviation of the paper's system, where its facts name one."""
    first = (ROOT / "papers" / f"{paper.name}.yaml").read_text(encoding="utf-8").partition("\n")[0]
    abbreviation = re.search(r"\(([A-Z][A-Za-z0-9+\-, ]+|[a-z][A-Z][A-Za-z0-9]+)\)", first)
    name = abbreviation[1] if abbreviation else paper.title
    return f"{name} ({paper.year})" if paper.year else name


def _preface(name: str) -> str:
    """The comment that a paper's file begins with, without its first sentence, which names the paper."""
    text = (ROOT / "papers" / f"{name}.yaml").read_text(encoding="utf-8")
    lines = re.match(r"(#.*\n)*", text)[0].splitlines()
    comment = " ".join(line.lstrip("# ") for line in lines)
    return comment.partition(". ")[2]


def _tables(chosen: Plan, paper: Paper) -> str:
    rows = []
    for table in paper.tables:
        ours = sum(bool(named_experiments(row)) for row in table.rows)
        dataset = cell(chosen.params.datasets[table.dataset].title) + _player(chosen, table)
        protocol = cell(f"{table.title}: {table.protocol}" if table.protocol else table.title)
        rows.append((f"`{paper.name}-{table.id}`", table.source, protocol, dataset, f"{ours} of {len(table.rows)}"))
    header = ("name", "source", "table and protocol", "data set", "rows that runs fill")
    notes = [f"- `{table.id}`: {table.note}" for table in paper.tables if table.note]
    after = "\n\nNotes of the tables:\n\n" + "\n".join(notes) if notes else ""
    return (
        "`crossmodal table NAME` shows a table in the terminal, once runs have been collected; a row without a run "
        "holds published numbers alone.\n\n" + table_of(header, rows) + after
    )


def _player(chosen: Plan, table: Table) -> str:
    player = chosen.dataset_of(table.dataset)
    return "" if player == table.dataset else f" (at scale `embedded`: {chosen.params.datasets[player].title})"


def _deviations(paper: Paper) -> str:
    places: dict[str, list[str]] = {}
    for table in paper.tables:
        for row in table.rows:
            for text in (row.differs, row.note):
                if text:
                    label = f"{row.group}: {row.label}" if row.group else row.label
                    places.setdefault(text, []).append(f"`{table.id}` {label}")
    return "\n".join(
        f"- {_sentence(text)}  \n  <small>{cell('; '.join(dict.fromkeys(labels)))}</small>"
        for text, labels in places.items()
    )


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:] + ("" if text.endswith((".", "!", "?")) else ".")


def _claims(paper: Paper) -> str:
    rows = []
    for claim in paper.claims:
        compared = [" › ".join(_code(side.experiment) for side in pair) for pair in claim.pairs]
        compared += [" → ".join(map(_code, names)) for names in _by_dataset(paper, claim)]
        compared += [f"{_code(name)}: {count}" for name, count in claim.counts.items()]
        if len(compared) > 3:
            compared = [*compared[:2], f"and {len(compared) - 2} more"]
        rows.append((cell(claim.says), cell(claim.source), f"`{claim.kind}`", "<br>".join(compared)))
    return table_of(("claim", "source", "kind", "compares"), rows)


def _by_dataset(paper: Paper, claim: Claim) -> list[list[str]]:
    """The experiments along which a claim's numbers rise or fall: there is one claim for each published data set."""
    names: dict[str, list[str]] = {}
    for side in claim.rows:
        names.setdefault(paper.experiments[side.experiment].dataset, []).append(side.experiment)
    return list(names.values())


def _systems(chosen: Plan, paper: Paper) -> str:
    """The settings of each system: its defaults, what params.yaml sets over them, and those of the stand-in."""
    parts = [
        "A system's defaults are the published settings; `models` of `params.yaml` and an experiment's own settings "
        "win over them. Where a drawn data set plays the published one, its smaller settings are taken instead. A "
        "link leads to the system's module, whose docstrings say what is not in the paper."
    ]
    for model in dict.fromkeys(experiment.model for experiment in paper.experiments.values()):
        if model in CONTROLS:
            continue
        experiments = [one for one in paper.experiments.values() if one.model == model]
        parts.append(_system(chosen, model, experiments))
    return "\n\n".join(parts)


def _system(chosen: Plan, model: str, experiments: Sequence[Experiment]) -> str:
    published = dict.fromkeys(one.dataset for one in experiments)
    players = dict.fromkeys(chosen.dataset_of(name) for name in published if chosen.dataset_of(name) != name)
    fields = registry.module("models", model).Settings.model_fields
    over = chosen.params.settings_on(next(iter(published)), model)
    drawn = {key: value for name in players for key, value in chosen.params.settings_on(name, model).items()}
    rows = []
    for key, field in fields.items():
        default = None if field.is_required() else field.get_default(call_default_factory=True)
        ours = over.get(key, default)
        small = drawn.get(key, ours)
        rows.append((f"`{key}`", _code(ours), _code(small) if small != ours else "", cell(field.description or "")))
    small_title = ", ".join(chosen.params.datasets[name].title for name in players) or "stand-in"
    table = table_of(("setting", "published data sets", small_title, "meaning"), rows)
    module = registry.names("models")[model].rpartition(".")[2]
    link = f"[`{registry.names('models')[model]}`](../reference/models/{module}.md)"
    body = f"{link}\n\n{table}" if rows else f"{link}\n\nIt has no settings."
    return f'??? note "{model}"\n\n' + indented(body)


def _experiments(chosen: Plan, paper: Paper) -> str:
    rows = []
    for name, one in paper.experiments.items():
        settings = [_settings("", one.settings), _settings("published data set", one.published)]
        settings += [_settings("stand-in", one.stand_in), _settings("", {"source": one.source} if one.source else {})]
        first = f"`{one.after}`" if one.after else ""
        own = "<br>".join(text for text in settings if text)
        rows.append((f"`{name}`", f"`{one.model}`", f"`{one.dataset}`", f"`{one.split}`", own, first))
    header = ("experiment", "system", "data set", "annotation", "settings of its own", "begins from")
    table = table_of(header, rows)
    return (
        f"Each is run once per seed ({', '.join(map(str, chosen.params.seeds))} in `params.yaml`).\n\n"
        f'??? note "{len(rows)} experiments"\n\n' + indented(table)
    )


def _settings(where: str, values: dict[str, Any]) -> str:
    text = ", ".join(f"{key}: {_plain(value)}" for key, value in values.items())
    return (f"{where}: " if where and text else "") + (f"`{text}`" if text else "")


def _plain(value: Any) -> str:
    if isinstance(value, bool) or value is None:
        return {True: "true", False: "false", None: "none"}[value]
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_plain, value))}]"
    return str(value)


def _code(value: Any) -> str:
    text = _plain(value)
    return f"`{text}`" if text else ""
