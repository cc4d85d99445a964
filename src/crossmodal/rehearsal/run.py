"""The rehearsal of all selected jobs: data, one process per job, a list of what is missing, and the plan of times."""

from __future__ import annotations

import heapq
import logging
import multiprocessing
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterable
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import asdict, dataclass, field
from itertools import groupby
from multiprocessing import forkserver
from pathlib import Path
from typing import Any

from crossmodal.core import cores
from crossmodal.core.console import progress
from crossmodal.core.errors import UserError, first_line
from crossmodal.core.files import write_json
from crossmodal.experiments import CONTROLS, Job, Plan
from crossmodal.experiments.tables import named_experiments
from crossmodal.rehearsal import data as prepared
from crossmodal.rehearsal.data import Missing, Prepared, Tried
from crossmodal.rehearsal.trial import ITEMS, LARGE, LARGE_ITEMS, LEAST, Trial, rehearse, work_of

log = logging.getLogger(__name__)

TOGETHER = 13 * 2**30  # bytes that the trials of two workers may take together, where the machine has as much


@dataclass
class Rehearsal:
    """The result of a rehearsal."""

    trials: dict[str, Trial] = field(default_factory=dict)  # by the key of the first seed's run
    data: dict[str, Prepared] = field(default_factory=dict)
    missing: list[Missing] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)  # data set: the reason why it cannot be tried
    begin: float = 0.0  # seconds that the processes of a run take to start
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
    workers : jobs at a time; 0: one per core.
    paced : whether times are measured for the plan.
    """
    began = time.perf_counter()
    workers = workers or cores.available()
    place = Path(plan.params.paths.results) / "rehearsal"
    # Set before the server starts, so that each job's process finds its imports loaded.
    multiprocessing.get_context("forkserver").set_forkserver_preload([
        "crossmodal.training.loop", "crossmodal.rehearsal.trial", "crossmodal.rehearsal.run"
    ])  # fmt: skip
    forkserver.ensure_running()
    shutil.rmtree(place / "runs", ignore_errors=True)
    first = {key: job for key, job in jobs.items() if job.seed == plan.params.seeds[0]}
    result = Rehearsal(seeds=len(plan.params.seeds), workers=workers, begin=_beginning() if paced else 0.0)
    names = dict.fromkeys(name for job in first.values() for name in (job.dataset, job.source) if name)
    tried: dict[tuple[str, str], Tried] = {}
    for name in names:
        here = [job for job in first.values() if job.dataset == name]
        wanted = {pair: None for job in here for pair in job.extractors}
        wanted |= {pair: None for job in first.values() if job.source == name for pair in job.source_inputs.items()}
        log.info("%s: %d arrays of features", name, len(wanted))
        try:
            prepared_data, missing = prepared.prepare(
                plan, name, wanted, [*(job.split for job in here), "full"], place, tried
            )
        except UserError as error:
            result.failed[name] = first_line(error)
            log.warning("%s: %s", name, result.failed[name])
            continue
        result.data[name] = prepared_data
        result.missing += missing
        for entry in missing:  # logged at once, since the trials take minutes
            log.warning("missing: %s: %s", entry.what, entry.message)
    able = [
        job for job in first.values() if job.dataset in result.data and (not job.source or job.source in result.data)
    ]
    _all(able, result, place, workers, paced)
    for what in dict.fromkeys(what for trial in result.trials.values() for what in trial.missing):
        result.missing.append(Missing("settings of models", what))
    result.seconds = time.perf_counter() - began
    for name in ("data", "runs"):  # gigabytes that are not needed any more
        shutil.rmtree(place / name, ignore_errors=True)
    write_json(place / "rehearsal.json", described(plan, jobs, result))
    return result


class Memory:
    """A budget of bytes that trials share. A request beyond what is left waits, unless no other trial is working."""

    def __init__(self, total: float):
        self._changed, self._left, self._working = threading.Condition(), total, 0

    def take(self, count: float) -> None:
        """Wait for `count` bytes, take them, and count as working."""
        with self._changed:
            self._changed.wait_for(lambda: count <= self._left or not self._working)
            self._left -= count
            self._working += 1

    def rest(self) -> None:
        """Count as working no longer, but keep the bytes."""
        self.give(0.0)

    def give(self, count: float) -> None:
        """Give `count` bytes back, and count as working no longer."""
        with self._changed:
            self._left += count
            self._working -= 1
            self._changed.notify_all()


def _all(able: list[Job], result: Rehearsal, place: Path, workers: int, paced: bool) -> None:
    """Try each job in a process of its own, and those that are initialised from another one after it."""
    context = multiprocessing.get_context("forkserver")
    memory = Memory(min(TOGETHER * max(1.0, workers / 2), 0.9 * _memory()))
    waiting: dict[str, list[tuple[int, Job]]] = {}
    ready: list[tuple[int, Job]] = []
    names = {job.key.rpartition("/")[0] for job in able}
    for numbered in enumerate(_ordered(able)):
        after = numbered[1].after
        (waiting.setdefault(after, []) if after in names else ready).append(numbered)
    measured: dict[str, str] = {}  # work to the run whose times are measured for it
    works = {job.key: _work(job) for job in able}
    running: dict[Future[Trial], Job] = {}
    with progress("rehearsing", len(able), unit="jobs") as advance, ThreadPoolExecutor(workers) as pool:
        while ready or running:
            while ready and len(running) < workers:
                _, job = heapq.heappop(ready)
                measured_here = measured.setdefault(works[job.key], job.key) == job.key
                arguments = (job, place, result.data[job.dataset].share, float(LEAST) if paced else 0.0, measured_here)
                running[pool.submit(_apart, context, memory, *arguments)] = job
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                job, trial = running.pop(future), future.result()
                result.trials[job.key] = trial
                if trial.failed and measured[works[job.key]] == job.key:
                    del measured[works[job.key]]  # the next one of this work is measured
                for numbered in waiting.pop(job.key.rpartition("/")[0], []):
                    heapq.heappush(ready, numbered)
                advance(note=trial.key)
                log.log(logging.WARNING if trial.failed else logging.INFO, "%s: %s", job.key, _told(trial, paced))
    for key, trial in result.trials.items():
        other = result.trials.get(measured.get(works[key], ""), trial)
        if paced and other is not trial and not trial.failed:
            trial.take_times(other)
    result.trials = {job.key: result.trials[job.key] for job in able}


def _ordered(able: list[Job]) -> list[Job]:
    """The jobs with those of each model spread evenly, to mix large and small; first those that others start from."""
    chained = {name for job in able for name in (job.after, job.key.rpartition("/")[0] if job.after else None) if name}
    placed = []
    by_model = sorted(able, key=lambda job: job.model)
    for _, group in groupby(by_model, key=lambda job: job.model):
        several = sorted(group, key=lambda job: job.key.rpartition("/")[0] not in chained)
        placed += [(number / len(several), job) for number, job in enumerate(several)]
    return [job for _, job in sorted(placed, key=lambda pair: pair[0])]


def _work(job: Job) -> str:
    """The work of a job's steps (`work_of`); for a job with invalid settings, its own key, which no other shares."""
    try:
        return work_of(job)
    except UserError:
        return job.key


def _told(trial: Trial, paced: bool) -> str:
    """The outcome of a trial for the log."""
    if trial.failed or not paced:
        return trial.failed or "sound"
    return f"tried in {trial.took:.1f} s"


def _apart(
    context: Any, memory: Memory, job: Job, place: Path, share: dict[str, float], room: float, measured: bool
) -> Trial:
    """Run a trial in a process of its own, so that a crash ends this trial only."""
    near, far = context.Pipe()
    taken = float(LEAST)
    memory.take(taken)
    process = context.Process(target=_sent, args=(far, job, place, share, room, measured))
    process.start()
    far.close()
    try:
        while not isinstance(answer := near.recv(), Trial):
            memory.rest()
            memory.take(answer)
            taken += answer
            near.send("go on")
        trial = answer
    except EOFError:
        process.join()
        trial = Trial(job.key, failed=f"its process ended with {process.exitcode}; more memory may be needed")
    process.join()
    memory.give(taken)
    shutil.rmtree(place / "runs" / job.key / "encoded", ignore_errors=True)
    return trial


def _sent(pipe: Any, job: Job, place: Path, share: dict[str, float], room: float, measured: bool) -> None:
    logging.disable(logging.INFO)

    def ask(count: float) -> None:
        if count > 0:
            pipe.send(count)
            pipe.recv()

    pipe.send(rehearse(job, place, share, room, measured=measured, ask=ask))
    pipe.close()


def _beginning() -> float:
    """Processor seconds that the two processes of a run, for training and test, take to start."""
    before = os.times()
    for imported in ("crossmodal.runs.train, crossmodal.training.loop", "crossmodal.runs.evaluate"):
        subprocess.run([sys.executable, "-c", f"import crossmodal.cli, {imported}"], check=True)
    after = os.times()
    return after.children_user + after.children_system - before.children_user - before.children_system


def _memory() -> float:
    """Bytes of memory that are free."""
    for line in Path("/proc/meminfo").read_text().splitlines() if Path("/proc/meminfo").exists() else []:
        if line.startswith("MemAvailable:"):
            return float(line.split()[1]) * 1024
    return float(TOGETHER)


# -- the plan ---------------------------------------------------------------------------------------------------------


def tables_of(plan: Plan, jobs: dict[str, Job]) -> dict[str, list[str]]:
    """{table: keys of the first seed's runs that fill it}; `beside` has the remaining runs."""
    keys_of: dict[str, list[str]] = {}
    placed: set[str] = set()
    for name, (paper, table) in plan.tables.items():
        keys: dict[str, None] = {}
        for experiment in (e for row in table.rows for e in named_experiments(row)):
            while experiment is not None:  # and those that it is initialised from
                try:
                    key = plan.job(paper.experiments[experiment], plan.params.seeds[0], paper.name).key
                except UserError:
                    break
                keys |= {key: None} if key in jobs else {}
                experiment = paper.experiments[experiment].after
        if keys:
            keys_of[name] = [*keys]
            placed |= set(keys)
    rest = [k for k, job in jobs.items() if k not in placed and job.seed == plan.params.seeds[0]]
    return keys_of | ({"controls and what only figures show": rest} if rest else {})


def summed(rehearsal: Rehearsal, keys: Iterable[str]) -> dict[str, float]:
    """The number of runs, their steps, hours, peak memory and disk space, over all seeds."""
    trials = [rehearsal.trials[key] for key in keys if key in rehearsal.trials and not rehearsal.trials[key].failed]
    several = [rehearsal.seeds if trial.key.split("/")[2].split(".")[0] not in CONTROLS else 1 for trial in trials]
    return {
        "runs": sum(several),
        "failed": sum(1 for key in keys if key in rehearsal.trials and rehearsal.trials[key].failed),
        "steps": sum(
            n * sum(s["epochs"] * s["steps"] for s in trial.stages) for n, trial in zip(several, trials, strict=True)
        ),
        "hours": sum(n * (trial.seconds + rehearsal.begin) for n, trial in zip(several, trials, strict=True)) / 3600,
        "memory": max((trial.memory for trial in trials), default=0.0),
        "disk": sum(n * trial.disk for n, trial in zip(several, trials, strict=True)),
        "reckoned": sum(trial.reckoned for trial in trials),
    }


def described(plan: Plan, jobs: dict[str, Job], rehearsal: Rehearsal) -> dict[str, Any]:
    """The whole result for `rehearsal.json`."""
    tables = {name: summed(rehearsal, keys) for name, keys in tables_of(plan, jobs).items()}
    extraction = [
        {"dataset": name, **entry, "hours": entry["items"] * entry["seconds_per_item"] / 3600}
        for name, prepared_data in rehearsal.data.items()
        for entry in prepared_data.extraction
    ]
    return {
        "scale": plan.params.scale,
        "missing": [asdict(entry) for entry in rehearsal.missing],
        "failed": {**rehearsal.failed, **{k: t.failed for k, t in rehearsal.trials.items() if t.failed}},
        "data": {name: asdict(prepared_data) for name, prepared_data in rehearsal.data.items()},
        "extraction": extraction,
        "tables": tables,
        "total": summed(rehearsal, rehearsal.trials),
        "runs": {k: {**asdict(trial), "seconds": trial.seconds + rehearsal.begin}
                 for k, trial in rehearsal.trials.items()},
        "workers": rehearsal.workers,
        "seconds": rehearsal.seconds,
    }  # fmt: skip


def show(plan: Plan, jobs: dict[str, Job], rehearsal: Rehearsal, *, paced: bool = True) -> None:
    """Print what is missing, what failed, and (`paced`) the plan per table and in total."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    console = Console()
    if rehearsal.missing:
        console.print("[bold]Missing[/bold] (the runs need them; the rehearsal used substitutes)")
        for message, named in _together(rehearsal.missing).items():
            homes = sorted({entry.home for entry in named if entry.home})
            where = f"\n    available at {', '.join(homes)}" if homes else ""
            items_missing = ", ".join(dict.fromkeys(entry.what for entry in named))
            console.print(escape(f"  {items_missing}: {message}{where}"), highlight=False, soft_wrap=True)
    failed = {**rehearsal.failed, **{key: trial.failed for key, trial in rehearsal.trials.items() if trial.failed}}
    if failed:
        console.print("[bold red]Failed[/bold red]")
        for key, why in failed.items():
            console.print(escape(f"  {key}: {why}"), highlight=False, soft_wrap=True)
    if not paced:
        console.print(f"{len(rehearsal.trials)} runs tried, {len(failed)} failed, in {rehearsal.seconds:.0f} s")
        return
    table = Table(title=f"Plan at scale {plan.params.scale}, hours of one core or card of this machine, all seeds")
    for name in ("table", "runs", "steps", "hours", "memory, GiB", "disk, GiB"):
        table.add_column(name, justify="left" if name == "table" else "right")
    for name, keys in [*tables_of(plan, jobs).items(), ("total", [*rehearsal.trials])]:
        sums = summed(rehearsal, keys)
        about = "about " if sums["reckoned"] else ""
        table.add_row(
            name, f"{sums['runs']:,}" + (f" ({sums['failed']} failed)" if sums["failed"] else ""), f"{sums['steps']:,}",
            f"{about}{sums['hours']:,.1f}", f"{sums['memory'] / 2**30:.1f}", f"{sums['disk'] / 2**30:.2f}",
            end_section=False,
        )  # fmt: skip
    console.print(table)
    for name, prepared_data in rehearsal.data.items():
        for entry in prepared_data.extraction:
            hours = entry["items"] * entry["seconds_per_item"] / 3600
            size = entry["items"] * entry["bytes_per_item"] / 2**30
            what = f"features of {name}, {entry['array']}: {entry['items']:,} items"
            console.print(f"{what}, {hours:,.2f} h, {size:.2f} GiB")
        if prepared_data.origin == "small set":
            size = (
                "hours are of its published size"
                if prepared_data.known
                else "hours are of the small set: its size is unknown"
            )
            console.print(f"{name}: is not there; a small set in its layout was rehearsed, {size}")
    for line in _less(rehearsal):
        console.print(line, highlight=False, soft_wrap=True)


def _less(rehearsal: Rehearsal) -> list[str]:
    """One sentence per part of the rehearsal that was not done for every run."""
    sound = [trial for trial in rehearsal.trials.values() if not trial.failed]
    lines = []
    if any(trial.reckoned for trial in sound):
        lines.append("about: some batches were too large to be tried; their steps are estimated from smaller ones")
    if shared := sum(1 for trial in sound if trial.measured_by):
        lines.append(
            f"shared: {shared} of {len(sound)} runs were tried, but have the times of another one, from which they "
            "differ in nothing that changes the work of a step or of the test (seed, split of the captions, epochs, "
            "and the values of learning rates and of weights of losses)"
        )
    if names := sorted({trial.key.split("/")[2] for trial in sound if trial.large}):
        lines.append(
            f"large: {', '.join(names)}: of more than {LARGE // 10**6} million parameters; {LARGE_ITEMS} images in "
            f"place of {ITEMS} were ranked, and no checkpoint was written"
        )
    return lines


def _together(missing: list[Missing]) -> dict[str, list[Missing]]:
    """Missing things, grouped by their reason."""
    by_message: dict[str, list[Missing]] = {}
    for entry in missing:
        by_message.setdefault(entry.message, []).append(entry)
    return by_message
