"""The rehearsal of all selected jobs: data, each job in a process of its own, what is missing, and the plan."""

from __future__ import annotations

import logging
import multiprocessing
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from multiprocessing import forkserver
from pathlib import Path
from typing import Any

from crossmodal.errors import UserError
from crossmodal.experiments import CONTROLS, Job, Plan
from crossmodal.experiments.tables import named_experiments
from crossmodal.files import write_json
from crossmodal.rehearsal import data as prepared
from crossmodal.rehearsal.data import Missing, Prepared, Tried
from crossmodal.rehearsal.trial import Trial, rehearse

log = logging.getLogger(__name__)

ROOM = 6 * 2**30  # bytes that one job's rehearsal may take, where the machine has as much for each


@dataclass
class Rehearsal:
    """What was found."""

    trials: dict[str, Trial] = field(default_factory=dict)  # by the key of the first seed's run
    data: dict[str, Prepared] = field(default_factory=dict)
    missing: list[Missing] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)  # data set: why nothing of it can be tried
    begin: float = 0.0  # seconds that a process takes to begin
    seeds: int = 1
    workers: int = 1
    seconds: float = 0.0

    @property
    def sound(self) -> bool:
        return not self.failed and not any(trial.failed for trial in self.trials.values())


def run(plan: Plan, jobs: dict[str, Job], workers: int = 0, *, paced: bool = True) -> Rehearsal:
    """Rehearse the first seed of each job; what fails is noted, and the others go on.

    Parameters
    ----------
    workers : jobs at a time; 0: one per core. paced : whether times are taken too, for the plan.
    """
    began = time.perf_counter()
    workers = workers or os.cpu_count() or 1
    place = Path(plan.params.paths.results) / "rehearsal"
    # Begun before anything else begins it: each job's process then has what it imports already.
    multiprocessing.get_context("forkserver").set_forkserver_preload([
        "crossmodal.training.loop", "crossmodal.rehearsal.trial", "crossmodal.rehearsal.run"
    ])  # fmt: skip
    forkserver.ensure_running()
    shutil.rmtree(place / "runs", ignore_errors=True)
    first = {key: job for key, job in jobs.items() if job.seed == plan.params.seeds[0]}
    found = Rehearsal(seeds=len(plan.params.seeds), workers=workers, begin=_beginning())
    names = dict.fromkeys(name for job in first.values() for name in (job.dataset, job.source) if name)
    tried: dict[tuple[str, str], Tried] = {}
    for name in names:
        here = [job for job in first.values() if job.dataset == name]
        wanted = {pair: None for job in here for pair in job.extractors}
        wanted |= {pair: None for job in first.values() if job.source == name for pair in job.source_inputs.items()}
        log.info("%s: %d arrays of features", name, len(wanted))
        try:
            made, missing = prepared.prepare(plan, name, wanted, [*(job.split for job in here), "full"], place, tried)
        except UserError as error:
            found.failed[name] = str(error).splitlines()[0]
            log.warning("%s: %s", name, found.failed[name])
            continue
        found.data[name] = made
        found.missing += missing
    able = [job for job in first.values() if job.dataset in found.data and (not job.source or job.source in found.data)]
    _all(able, found, place, workers, paced)
    for what in dict.fromkeys(what for trial in found.trials.values() for what in trial.missing):
        found.missing.append(Missing("settings of models", what))
    found.seconds = time.perf_counter() - began
    for name in ("data", "runs"):  # gigabytes of no further use
        shutil.rmtree(place / name, ignore_errors=True)
    write_json(place / "rehearsal.json", described(plan, jobs, found))
    return found


def _all(able: list[Job], found: Rehearsal, place: Path, workers: int, paced: bool) -> None:
    """Each job in a process of its own; those that begin from another one after it."""
    context = multiprocessing.get_context("forkserver")
    room = min(ROOM, _memory() / workers) if paced else 0.0
    from rich.console import Console
    from rich.progress import Progress

    waves: list[list[Job]] = []
    for job in able:  # one that begins from another is planned after it
        depth = 0
        origin = job.after
        while origin is not None:
            depth += 1
            origin = next((one.after for one in able if one.key.rpartition("/")[0] == origin), None)
        waves += [[] for _ in range(depth + 1 - len(waves))]
        waves[depth].append(job)
    with Progress(console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty()) as progress:
        task = progress.add_task("rehearsing", total=len(able))
        with ThreadPoolExecutor(workers) as pool:
            for wave in waves:
                shares = [found.data[job.dataset].share for job in wave]
                for trial in pool.map(lambda job, share: _apart(context, job, place, share, room), wave, shares):
                    found.trials[trial.key] = trial
                    progress.update(task, advance=1, description=trial.key)
                    hours = f"{trial.seconds / 3600:.2f} h, {trial.memory / 2**30:.1f} GiB" if paced else "sound"
                    told = trial.failed or hours
                    log.log(logging.WARNING if trial.failed else logging.INFO, "%s: %s", trial.key, told)


def _apart(context: Any, job: Job, place: Path, share: dict[str, float], room: float) -> Trial:
    """A trial in a process of its own, whose death is its own."""
    near, far = context.Pipe(duplex=False)
    process = context.Process(target=_sent, args=(far, job, place, share, room))
    process.start()
    far.close()
    try:
        trial = near.recv()
    except EOFError:
        process.join()
        trial = Trial(job.key, failed=f"its process ended with {process.exitcode}; more memory may be needed")
    process.join()
    shutil.rmtree(place / "runs" / job.key / "encoded", ignore_errors=True)
    return trial


def _sent(pipe: Any, job: Job, place: Path, share: dict[str, float], room: float) -> None:
    logging.disable(logging.INFO)
    pipe.send(rehearse(job, place, share, room))
    pipe.close()


def _beginning() -> float:
    """Seconds of the processor that a run's process takes before it opens its data."""
    began = time.perf_counter()
    subprocess.run(
        [sys.executable, "-c", "import crossmodal.runs.train, crossmodal.runs.evaluate, crossmodal.training.loop"],
        check=True,
    )
    return time.perf_counter() - began


def _memory() -> float:
    """Bytes of memory that are free."""
    for line in Path("/proc/meminfo").read_text().splitlines() if Path("/proc/meminfo").exists() else []:
        if line.startswith("MemAvailable:"):
            return float(line.split()[1]) * 1024
    return float(ROOM)


# -- the plan ---------------------------------------------------------------------------------------------------------


def tables_of(plan: Plan, jobs: dict[str, Job]) -> dict[str, list[str]]:
    """Table to the keys of the first seed's runs that fill it; `beside` has the rest."""
    found: dict[str, list[str]] = {}
    placed: set[str] = set()
    for name, (paper, table) in plan.tables.items():
        keys: dict[str, None] = {}
        for experiment in (e for row in table.rows for e in named_experiments(row)):
            while experiment is not None:  # and what it begins from
                try:
                    key = plan.job(paper.experiments[experiment], plan.params.seeds[0], paper.name).key
                except UserError:
                    break
                keys |= {key: None} if key in jobs else {}
                experiment = paper.experiments[experiment].after
        if keys:
            found[name] = [*keys]
            placed |= set(keys)
    rest = [k for k, job in jobs.items() if k not in placed and job.seed == plan.params.seeds[0]]
    return found | ({"controls and what only figures show": rest} if rest else {})


def summed(found: Rehearsal, keys: Iterable[str]) -> dict[str, float]:
    """Runs, steps, hours, memory at most and disk of runs, over all seeds."""
    trials = [found.trials[key] for key in keys if key in found.trials and not found.trials[key].failed]
    several = [found.seeds if trial.key.split("/")[2].split(".")[0] not in CONTROLS else 1 for trial in trials]
    begin = 2 * found.begin  # the training's process and the test's
    return {
        "runs": sum(several),
        "failed": sum(1 for key in keys if key in found.trials and found.trials[key].failed),
        "steps": sum(
            n * sum(s["epochs"] * s["steps"] for s in trial.stages) for n, trial in zip(several, trials, strict=True)
        ),
        "hours": sum(n * (trial.seconds + begin) for n, trial in zip(several, trials, strict=True)) / 3600,
        "memory": max((trial.memory for trial in trials), default=0.0),
        "disk": sum(n * trial.disk for n, trial in zip(several, trials, strict=True)),
        "reckoned": sum(trial.reckoned for trial in trials),
    }


def described(plan: Plan, jobs: dict[str, Job], found: Rehearsal) -> dict[str, Any]:
    """All of it for `rehearsal.json`."""
    tables = {name: summed(found, keys) for name, keys in tables_of(plan, jobs).items()}
    extraction = [
        {"dataset": name, **one, "hours": one["items"] * one["seconds_per_item"] / 3600}
        for name, made in found.data.items()
        for one in made.extraction
    ]
    return {
        "scale": plan.params.scale,
        "missing": [asdict(one) for one in found.missing],
        "failed": {**found.failed, **{k: t.failed for k, t in found.trials.items() if t.failed}},
        "data": {name: asdict(made) for name, made in found.data.items()},
        "extraction": extraction,
        "tables": tables,
        "total": summed(found, found.trials),
        "runs": {k: {**asdict(trial), "seconds": trial.seconds + 2 * found.begin} for k, trial in found.trials.items()},
        "workers": found.workers,
        "seconds": found.seconds,
    }  # fmt: skip


def show(plan: Plan, jobs: dict[str, Job], found: Rehearsal, *, paced: bool = True) -> None:
    """Print what is missing, what failed, and (`paced`) the plan per table and in total."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    console = Console()
    if found.missing:
        console.print("[bold]Missing[/bold] (a rehearsal does without; the runs do not)")
        for message, named in _together(found.missing).items():
            homes = sorted({one.home for one in named if one.home})
            where = f"\n    to be had at {', '.join(homes)}" if homes else ""
            told = ", ".join(dict.fromkeys(one.what for one in named))
            console.print(escape(f"  {told}: {message}{where}"), highlight=False, soft_wrap=True)
    failed = {**found.failed, **{key: trial.failed for key, trial in found.trials.items() if trial.failed}}
    if failed:
        console.print("[bold red]Failed[/bold red]")
        for key, why in failed.items():
            console.print(escape(f"  {key}: {why}"), highlight=False, soft_wrap=True)
    if not paced:
        console.print(f"{len(found.trials)} runs tried, {len(failed)} failed, in {found.seconds:.0f} s")
        return
    table = Table(title=f"Plan at scale {plan.params.scale}, hours of one core or card of this machine, all seeds")
    for name in ("table", "runs", "steps", "hours", "memory, GiB", "disk, GiB"):
        table.add_column(name, justify="left" if name == "table" else "right")
    for name, keys in [*tables_of(plan, jobs).items(), ("total", [*found.trials])]:
        one = summed(found, keys)
        about = "about " if one["reckoned"] else ""
        table.add_row(
            name, f"{one['runs']:,}" + (f" ({one['failed']} failed)" if one["failed"] else ""), f"{one['steps']:,}",
            f"{about}{one['hours']:,.1f}", f"{one['memory'] / 2**30:.1f}", f"{one['disk'] / 2**30:.2f}",
            end_section=False,
        )  # fmt: skip
    console.print(table)
    for name, made in found.data.items():
        for one in made.extraction:
            hours = one["items"] * one["seconds_per_item"] / 3600
            size = one["items"] * one["bytes_per_item"] / 2**30
            console.print(f"features of {name}, {one['array']}: {one['items']:,} items, {hours:,.2f} h, {size:.2f} GiB")
        if made.origin == "small set":
            size = (
                "hours are of its published size" if made.known else "hours are of the small set: its size is unknown"
            )
            console.print(f"{name}: is not there; a small set in its layout was rehearsed, {size}")
    if any(trial.reckoned for trial in found.trials.values()):
        console.print("about: some batches were too large to be tried; their steps are reckoned from smaller ones")


def _together(missing: list[Missing]) -> dict[str, list[Missing]]:
    """What is missing for one and the same reason."""
    found: dict[str, list[Missing]] = {}
    for one in missing:
        found.setdefault(one.message, []).append(one)
    return found
