"""The pages of reference results, one per set of results/reference, and the list of the sets."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
from markdown_parts import cell, indented, table_of
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

from crossmodal import experiments
from crossmodal.reporting.results.reference import About, read, read_about, sets_below

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "results" / "reference"
INDEX = "results/index.md"
SAYS = """## What the claims say

Each set's verdict on what the papers say of their systems, with the mean difference (or the rise) that was measured, in
the unit of the metric; [how a claim is tested](../claims.md). One seed is not enough for a verdict.
"""


def on_config(config: MkDocsConfig) -> None:
    (entry,) = (part for part in _entries(config.nav) if "Reference results" in part)
    entry["Reference results"] = [INDEX, *({path.name: f"results/{path.name}.md"} for path in sets_below(FOLDER))]


def on_files(files: Files, config: MkDocsConfig) -> Files:
    sets = {path: read_about(path) for path in sets_below(FOLDER)}
    files.append(File.generated(config, INDEX, content=index(sets)))
    for path, about in sets.items():
        files.append(File.generated(config, f"results/{path.name}.md", content=page(path, about)))
    return files


def _entries(nav: list) -> list[dict]:
    """The sections of the navigation, at any depth."""
    found = []
    for entry in nav:
        if isinstance(entry, dict):
            found.append(entry)
            found += [one for below in entry.values() if isinstance(below, list) for one in _entries(below)]
    return found


def index(sets: dict[Path, About]) -> str:
    """The list of the sets, or a sentence where there is none."""
    about = (
        "# Reference results\n\nThe folder `results/reference/` holds what runs of this project gave on one machine: "
        "every number, the verdicts on the papers' claims and the tables. `crossmodal check --against "
        "results/reference` compares the results of another machine with them; [how it judges](../howto/results.md"
        "#reference-results).\n\n"
    )
    if not sets:
        return about + "There is no set yet: `crossmodal reference NAME` writes one from collected results.\n"
    rows = [
        (
            f"[{cell(path.name)}]({path.name}.md)",
            f"{one.scope}, scale `{one.scale}`",
            cell(", ".join(dataset.title for dataset in one.datasets.values())),
            ", ".join(map(str, one.seeds)),
            one.runs,
            f"{one.numbers:,}",
            cell("; ".join(one.machines)),
        )
        for path, one in sets.items()
    ]
    listed = table_of(("set", "of", "data sets", "seeds", "runs", "numbers", "machine"), rows)
    return "\n\n".join([about + listed, *claims_by_set(sets)]) + "\n"


def claims_by_set(sets: dict[Path, About]) -> list[str]:
    """What each paper claims, and the verdict of each set on it, with the difference or the rise that was measured."""
    told = []
    for path, about in sets.items():
        for row in read(path).claims.itertuples():
            known = about.datasets.get(row.dataset)
            measured = "" if pd.isna(row.ours) else f" ({row.ours:+.1f})"
            on = known.title if known else row.dataset
            told.append((row.paper, row.claim, on, path.name, f"{row.verdict}{measured}"))
    frame = pd.DataFrame(told, columns=["paper", "claim", "on", "set", "verdict"]).drop_duplicates()
    names = [path.name for path in sets]
    parts = []
    for paper, rows in frame.groupby("paper"):
        says = _sentences(paper)
        by_set = rows.pivot_table("verdict", ["claim", "on"], "set", aggfunc="; ".join, sort=False).reindex(
            columns=names
        )
        table = [
            [cell(says.get(claim, claim)), cell(on), *map(cell, verdicts)]
            for (claim, on), verdicts in zip(by_set.index, by_set.fillna("–").to_numpy(), strict=True)
        ]
        parts.append(f"### {cell(paper)}\n\n" + table_of(("claim", "on", *map(cell, names)), table))
    if parts:
        parts.insert(0, SAYS)
    return parts


def _sentences(paper: str) -> dict[str, str]:
    """The claims of a paper in words, by their names; nothing of a paper that is not in papers/ any more."""
    if not (ROOT / "papers" / f"{paper}.yaml").is_file():
        return {}
    return {claim.id: claim.says for claim in experiments.read_papers([paper], ROOT / "papers")[paper].claims}


def page(folder: Path, about: About) -> str:
    """One set: what it was made of and with, and its tables."""
    facts = [
        ("scope", f"`{about.scope}`, scale `{about.scale}`"),
        ("papers", ", ".join(f"`{cell(name)}`" for name in about.papers)),
        ("data sets", cell("; ".join(f"{one.title} ({name})" for name, one in about.datasets.items()))),
        ("seeds", ", ".join(map(str, about.seeds))),
        ("runs, numbers", f"{about.runs:,}, {about.numbers:,}"),
        ("machine", cell("; ".join(about.machines))),
        ("libraries", cell(", ".join(f"{name} {version}" for name, version in about.versions.items()))),
        ("commit", cell(", ".join(about.commits))),
        ("trained", cell(f"{about.first} to {about.last}")),
    ]
    parts = [f"# {cell(about.name)}", table_of(("what", "which"), facts)]
    if about.faults:
        parts.append('!!! warning "Incomplete"\n\n' + indented("\n".join(f"- {cell(line)}" for line in about.faults)))
    if about.fallbacks:
        listed = "\n".join(f"- {cell(what)}: {count} of the runs" for what, count in about.fallbacks.items())
        parts.append(f"## Fallbacks\n\nWhat stood in for something better:\n\n{listed}")
    tables = sorted((folder / "tables").glob("*.md"), key=lambda path: (path.stem != "claims", path.stem))
    if tables:
        parts.append("## Claims and tables\n\nAs `crossmodal tables` and `crossmodal claims` wrote them.")
    parts += [_folded(path) for path in tables]
    return "\n\n".join(parts) + "\n"


def _folded(path: Path) -> str:
    """A table in a note that opens, under its own title."""
    title, _, body = path.read_text(encoding="utf-8").removeprefix("### ").partition("\n")
    name = "" if path.stem == "claims" else f"{path.stem}: "
    escaped = cell(f"{name}{title}").replace('"', "'")
    return f'??? note "{escaped}"\n\n' + indented(body.strip())
