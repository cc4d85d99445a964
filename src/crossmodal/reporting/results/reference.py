"""Reference sets: what runs of one machine gave, small enough to be committed, for others to compare with.

A set is a folder: `reference.json` (what it is of), `metrics.parquet` (every number once), `runs.parquet` (what each
run was made with), `claims.parquet` (the verdicts) and `tables/*.md` (those that a run fills). Equal results give equal
bytes.
"""

from __future__ import annotations

import json
import logging
import os
import re
import shutil
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import pandas as pd
from pydantic import BaseModel, ConfigDict

from crossmodal.core.errors import UserError
from crossmodal.core.files import (
    commit,
    json_of,
    read_parquet,
    read_record,
    read_rows,
    sha256_file,
    write_json,
    write_text,
)
from crossmodal.core.paths import check_part
from crossmodal.core.rows import readable
from crossmodal.experiments import Job, Plan, Scale, validated
from crossmodal.reporting.page.provenance import of_runs
from crossmodal.reporting.results import claims, measured, runs
from crossmodal.reporting.results.measured import Facts, Measured
from crossmodal.reporting.tables import verdicts
from crossmodal.reporting.tables.views import all_views
from crossmodal.reporting.tables.writers import to_md

log = logging.getLogger(__name__)

ABOUT, METRICS, RUNS, CLAIMS = "reference.json", "metrics.parquet", "runs.parquet", "claims.parquet"
VERDICT = ["paper", "claim", "dataset"]
CLAIM_TYPES = {name: kind for name, kind in claims.TYPES.items()
               if name not in ("says", "source", "kind", "published", "published_dataset")}  # fmt: skip
"""The columns of a set's claims: those that depend on runs, and the names of the claims, whose words papers/ have."""
RUN_TYPES = {"run": "string", "settings": "string", "data": "string", "source": "string", "threads": "int64",
             "machine": "string", "versions": "string"}  # fmt: skip
"""The columns of a set's runs: the fields of `Facts`, of which mappings are JSON."""
ADVICE = "take the set from the repository again, or write it again (crossmodal reference)"
_LEFT_OUT = re.compile(r"^(split|vocabulary|word_vectors|source\..*)$|\.index$")  # of a run rather than of its data set
SHOWN = 20  # failures of the quality control that a set lists


class Dataset(BaseModel):
    """A data set that the runs of a set have read."""

    model_config = ConfigDict(strict=True, frozen=True)

    title: str
    sha256: dict[str, str]
    """Hashes of its items and features, as manifests name them, where all runs have read the same."""


class About(BaseModel):
    """What `reference.json` says of a set."""

    model_config = ConfigDict(strict=True, frozen=True)

    name: str
    scope: Literal["quick", "all"]
    scale: Scale
    papers: list[str]
    seeds: list[int]
    datasets: dict[str, Dataset]
    machines: list[str]
    versions: dict[str, str]
    commits: list[str]
    """Those at which the runs were trained; `commit` is that at which the set was written."""
    commit: str
    first: str
    last: str
    fallbacks: dict[str, int]
    """What stood in for something better, with the number of runs."""
    runs: int
    numbers: int
    faults: list[str]
    """The first failures of the quality control, where the set was written in spite of them."""
    sha256: dict[str, str]
    """The hashes of the Parquet files."""


@dataclass(frozen=True)
class Reference:
    """A set that was read."""

    folder: Path
    about: About
    measured: Measured
    claims: pd.DataFrame


# -- writing ----------------------------------------------------------------------------------------------------------


def write(
    plan: Plan, jobs: Mapping[str, Job], target: Path, name: str, into: Path, *, quick: bool, faults: Iterable[str] = ()
) -> Path:
    """Write the set `into/name` from collected results, in the place of an older one of that name; returns its folder.

    Parameters
    ----------
    jobs : those that were collected.
    target : holds `metrics.parquet`, `comparison.parquet` and `claims.parquet`.
    quick : whether the jobs are those of `quick`.
    faults : what is wrong with the results (`quality_control.check`), to be told by the set.

    Raises
    ------
    UserError : results are missing, or a folder of that name is no reference set.
    """
    check_part(name, "the name of a reference set")
    folder = into / name
    if folder.exists() and not (folder / ABOUT).is_file():
        raise UserError(f"{folder}: is there and has no {ABOUT}; choose another name, or remove it first")
    ours = measured.read(target, Path(plan.params.paths.results) / "runs", jobs)
    if ours.numbers.empty:
        raise UserError(f"{target / METRICS}: holds no numbers; make the runs and collect them first")
    verdict = claims.read(target / CLAIMS)
    manifests = {key: runs.manifest(Path(plan.params.paths.results) / "runs" / key) for key in ours.facts}
    new = into / f".{name}.{os.getpid()}.part"
    try:
        new.mkdir(parents=True)
        _write_table(new / METRICS, ours.numbers)
        _write_table(new / RUNS, _frame_of(ours.facts))
        _write_table(new / CLAIMS, verdict[[*CLAIM_TYPES]].sort_values(VERDICT, kind="stable"))
        _write_tables(plan, target, verdict, new / "tables")
        about = _about(plan, ours, manifests, name, quick=quick, faults=faults)
        about["sha256"] = {table: sha256_file(new / table) for table in (METRICS, RUNS, CLAIMS)}
        write_json(new / ABOUT, validated(About, about, str(new / ABOUT)).model_dump(mode="json"))
        if folder.exists():
            shutil.rmtree(folder)
        new.rename(folder)
    finally:
        shutil.rmtree(new, ignore_errors=True)
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    log.info("%s: %d numbers of %d runs, %d kB", folder, len(ours.numbers), len(ours.facts), round(size / 1000))
    return folder


def _write_table(path: Path, frame: pd.DataFrame) -> None:
    """Write a table whose bytes depend on its rows alone: pandas would add its version and an index."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pa.Table.from_pandas(frame, preserve_index=False).replace_schema_metadata(None)
    pq.write_table(table, path, compression="zstd")


def _frame_of(facts: Mapping[str, Facts]) -> pd.DataFrame:
    """The rows of `runs.parquet`; a control has no facts and no row."""
    trained = {key: asdict(one) for key, one in sorted(facts.items()) if one != Facts()}
    rows = [{"run": key} | {name: _stored(value) for name, value in one.items()} for key, one in trained.items()]
    return pd.DataFrame(rows, columns=[*RUN_TYPES]).astype(RUN_TYPES)


def _stored(value: Any) -> Any:
    return json.dumps(value, sort_keys=True) if isinstance(value, dict) else value


def _write_tables(plan: Plan, target: Path, verdict: pd.DataFrame, folder: Path) -> None:
    for view in all_views(plan, read_rows(target / "comparison.parquet")):
        if any(line.done for line in view.lines):
            write_text(folder / f"{view.id}.md", to_md(view))
    tested = verdicts.lines(plan, verdict[verdict.verdict != "not run"])
    if tested:
        write_text(folder / "claims.md", verdicts.to_md(tested))


def _about(
    plan: Plan,
    ours: Measured,
    manifests: Mapping[str, Mapping[str, Any]],
    name: str,
    *,
    quick: bool,
    faults: Iterable[str],
) -> dict[str, Any]:
    made = of_runs(manifests.values())
    listed = [str(fault) for fault in faults]
    hidden = [f"and {len(listed) - SHOWN} more"] if len(listed) > SHOWN else []
    fallbacks = Counter(str(text) for one in manifests.values() for text in one.get("fallbacks") or ())
    return {
        "name": name,
        "scope": "quick" if quick else "all",
        "scale": plan.params.scale,
        "papers": [*plan.papers],
        "seeds": sorted({int(seed) for seed in ours.numbers.seed}),
        "datasets": {
            one: {"title": plan.params.datasets[one].title, "sha256": _hashes(ours, one)}
            for one in sorted(set(ours.numbers.dataset))
        },
        **{key: made[key] for key in ("first", "last", "machines", "commits")},
        "versions": dict(made["versions"]),
        "commit": commit(),
        "fallbacks": dict(sorted(fallbacks.items())),
        "runs": len(ours.facts),
        "numbers": len(ours.numbers),
        "faults": listed[:SHOWN] + hidden,
    }


def _hashes(ours: Measured, dataset: str) -> dict[str, str]:
    """The hashes of a data set's items and features that all runs on it agree about."""
    values: dict[str, set[str]] = {}
    for key, facts in ours.facts.items():
        if key.startswith(f"{dataset}/"):
            for name, value in facts.data.items():
                values.setdefault(name, set()).add(value)
    return {name: of.pop() for name, of in sorted(values.items()) if len(of) == 1 and not _LEFT_OUT.search(name)}


# -- reading ----------------------------------------------------------------------------------------------------------


def read_about(folder: Path) -> About:
    """What a set says of itself.

    Raises
    ------
    UserError : `reference.json` is missing or damaged.
    """
    path = folder / ABOUT
    return validated(About, read_record(path), str(path))


def read(folder: Path) -> Reference:
    """The set in a folder.

    Raises
    ------
    UserError : a file is missing or damaged, or is another one than `reference.json` names.
    """
    about = read_about(folder)
    numbers = _table(folder, METRICS, measured.TYPES, about)
    rows = _table(folder, RUNS, RUN_TYPES, about)
    with readable(folder / RUNS, ADVICE):
        facts = {row["run"]: _facts(row, folder / RUNS) for row in rows.to_dict("records")}
        keys = measured.keys_of(numbers).unique()
    tested = _table(folder, CLAIMS, CLAIM_TYPES, about)
    return Reference(folder, about, Measured(numbers, {key: facts.get(key, Facts()) for key in keys}), tested)


def _table(folder: Path, name: str, types: Mapping[str, str], about: About) -> pd.DataFrame:
    path = folder / name
    frame = read_parquet(path, [*types])
    with readable(path, ADVICE):
        frame = frame.astype(types)
    if sha256_file(path) != about.sha256.get(name):
        raise UserError(f"{path}: is not the file that {folder / ABOUT} names; {ADVICE}")
    return frame


def _facts(row: Mapping[str, Any], path: Path) -> Facts:
    mappings = {name: json_of(row[name], f"{path}: {name}:") for name in ("settings", "data", "machine", "versions")}
    if wrong := [name for name, value in mappings.items() if not isinstance(value, dict)]:
        raise UserError(f"{path}: {wrong[0]}: expected an object; {ADVICE}")
    return Facts(**mappings, source=row["source"], threads=int(row["threads"]))


def is_set(folder: Path) -> bool:
    """Whether a folder holds a reference set."""
    return (folder / ABOUT).is_file()


def sets_below(folder: Path) -> list[Path]:
    """The reference sets in a folder, by name; empty where the folder does not exist."""
    return sorted(path.parent for path in folder.glob(f"*/{ABOUT}") if not path.parent.name.startswith("."))


def chosen(plan: Plan, folder: Path, *, quick: bool) -> list[Reference]:
    """The set in a folder, or those of the sets below it that suit what is collected here.

    A set suits if it is of the same scale, of the same scope (`quick` or all) and of a paper that is chosen here.

    Raises
    ------
    UserError : there is none, or none suits.
    """
    if is_set(folder):
        return [read(folder)]
    sets = {path: read_about(path) for path in sets_below(folder)}
    if not sets:
        raise UserError(
            f"{folder}: has neither a folder `runs` nor {ABOUT}, and no reference sets below it; expected another "
            "results folder to compare the runs with, or one that `crossmodal reference` has written"
        )
    scope = "quick" if quick else "all"
    here = _described(scope, plan.params.scale, plan.papers)
    alike = {path: about for path, about in sets.items() if (about.scope, about.scale) == (scope, plan.params.scale)}
    suited = [path for path, about in alike.items() if {*about.papers} & {*plan.papers}]
    if not suited:
        there = [f"{path.name}: {_described(one.scope, one.scale, one.papers)}" for path, one in sets.items()]
        raise UserError(
            f"{folder}: no set suits what is collected here ({here}); name one of them, or collect other results. "
            f"There are {'; '.join(there)}"
        )
    return [read(path) for path in suited]


def _described(scope: str, scale: str, papers: Iterable[str]) -> str:
    return f"{scope}, scale {scale}, papers {', '.join(papers)}"


def beside(references: Iterable[Reference]) -> list[Reference]:
    """The other sets in the folders of some: their seeds tell of the spread too. A damaged one is left out."""
    references = list(references)
    taken, others = {one.folder.resolve() for one in references}, []
    for parent in dict.fromkeys(one.folder.resolve().parent for one in references):
        for folder in sets_below(parent):
            if folder not in taken:
                try:
                    others.append(read(folder))
                except UserError as error:
                    log.warning("%s: left out of the spread of seeds", error)
    return others
