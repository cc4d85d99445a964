"""Mutation testing: small faults are put into the source one by one, and the tests are asked to notice each of them.

One process imports torch and the other libraries once and is forked for each mutant; the child puts the changed module
in the place of the real one as it is imported, so no file is ever changed, and everything runs in a copy of the
checkout. A first run of the unchanged source, traced by coverage.py, tells which tests reach which line: a mutant runs
these, then the quick ones of the rest of the files they lie in, until one fails. Tests marked slow are left out, and a
program that a test starts as a process of its own runs the unchanged source.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import importlib
import importlib.machinery
import importlib.util
import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

import pytest
import yaml
from baseline import Baseline, measure, options
from mutations import Mutant, Place, places
from rich.console import Console
from rich.table import Table

HERE = Path(__file__).resolve().parent
CHECKOUT = HERE.parent
EQUIVALENT = "tests/mutants/equivalent.yaml"
SECONDS, TIMES = 10.0, 4.0  # processor time of a test on a mutant: 10 s and 4 x the longest of its file
WALL = 600.0  # by the clock, for one that waits for ever: so many seconds beside 40 x the tests' processor time
MEMORY = 12 * 2**30


@dataclass(frozen=True)
class Package:
    """The modules of a package, as patterns, and the tests that are asked about them."""

    modules: tuple[str, ...]
    tests: tuple[str, ...]


PACKAGES = {
    "evaluation": Package(("src/crossmodal/evaluation/**/*.py",), ("tests/evaluation",)),
    "models": Package(("src/crossmodal/models/*.py",), ("tests/models",)),
    "models/parts": Package(("src/crossmodal/models/parts/*.py",), ("tests/models",)),
    "training": Package(("src/crossmodal/training/*.py", "src/crossmodal/runs/*.py"), ("tests/training", "tests/runs")),
    "experiments": Package(
        ("src/crossmodal/experiments/*.py",),
        ("tests/experiments", "tests/test_plan.py", "tests/test_papers.py", "tests/test_papers_thesis.py"),
    ),
    "corpus": Package(("src/crossmodal/corpus/**/*.py",), ("tests/corpus", "tests/training")),
    "registry": Package(
        ("src/crossmodal/core/registry.py", "src/crossmodal/core/fingerprints.py"),
        (
            *("tests/core/test_registry.py", "tests/core/test_source_hashes.py", "tests/core/test_fingerprints.py"),
            *("tests/test_plan.py", "tests/features/test_entry_points.py"),
        ),
    ),
    "files": Package(
        ("src/crossmodal/core/files.py", "src/crossmodal/core/paths.py", "src/crossmodal/core/rows.py"),
        (
            *("tests/core/test_files.py", "tests/core/test_paths.py", "tests/core/test_rows.py"),
            *("tests/core/test_packed.py", "tests/released/test_arrays.py"),
        ),
    ),
}

KILLED, SURVIVED, TIMEOUT = "killed", "survived", "timeout"


# ---- the mutants


class Replaced(importlib.machinery.SourceFileLoader):
    """Loads one module from a changed source; a meta path finder for it as well."""

    def __init__(self, name: str, mutant: Mutant):
        super().__init__(name, str(Path(mutant.file).resolve()))
        self.changed = mutant.source

    def find_spec(self, name: str, path=None, target=None):
        if name != self.name:
            return None
        package = Path(self.path).name == "__init__.py"
        return importlib.util.spec_from_file_location(
            name, self.path, loader=self, submodule_search_locations=[str(Path(self.path).parent)] if package else None
        )

    def get_code(self, fullname):
        return compile(self.changed, self.path, "exec", dont_inherit=True)


class Only:
    """A pytest plugin: only the given tests, in the given order, none longer than it may, none after a failure."""

    def __init__(self, order: list[str], seconds: dict[str, float]):
        self.place = {test: i for i, test in enumerate(order)}
        self.longest: dict[str, float] = defaultdict(float)  # of each file: fixtures may fall to another test of it
        for test in order:
            file = test.split("::")[0]
            self.longest[file] = max(self.longest[file], seconds[test])
        signal.setitimer(signal.ITIMER_PROF, 3 * SECONDS)  # for the imports; SIGPROF ends the process

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, items):
        # A change may rename the cases of a test: then all are run.
        items[:] = sorted(
            (item for item in items if item.nodeid in self.place), key=lambda item: self.place[item.nodeid]
        ) or list(items)

    def pytest_runtest_logstart(self, nodeid):
        signal.setitimer(signal.ITIMER_PROF, SECONDS + TIMES * self.longest[nodeid.split("::")[0]])

    def pytest_runtest_logreport(self, report):
        if report.failed:
            os._exit(1)


@dataclass
class Running:
    mutant: Mutant
    scratch: Path
    until: float


def start(mutant: Mutant, order: list[str], seconds: dict[str, float], scratch: Path) -> int:
    """Fork a child that runs the tests on a mutant, and give its process number."""
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        os.setsid()
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        null = os.open(os.devnull, os.O_RDWR)
        for stream in (0, 1, 2):
            os.dup2(null, stream)
        resource.setrlimit(resource.RLIMIT_DATA, (MEMORY, MEMORY))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        parts = Path(mutant.file).relative_to("src").with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        sys.meta_path.insert(0, Replaced(name, mutant))
        files = list(dict.fromkeys(test.split("::")[0] for test in order))
        code = int(pytest.main([*options(scratch), *files], plugins=[Only(order, seconds)]))
    except BaseException:
        code = 1
    finally:
        os._exit(code)


def outcomes(queue: Iterable[Mutant], baseline: Baseline, scratch: Path, jobs: int) -> Iterator[tuple[Mutant, str]]:
    """What becomes of each mutant, with as many at once as there are jobs."""
    running: dict[int, Running] = {}
    queue, number, more = iter(queue), 0, True
    try:
        while running or more:
            while more and len(running) < jobs:
                mutant = next(queue, None)
                if mutant is None:
                    more = False
                    break
                order = baseline.order(mutant)
                if not order:  # no test reaches it
                    yield mutant, SURVIVED
                    continue
                number += 1
                place = scratch / f"mutant{number}"
                place.mkdir()
                pid = start(mutant, order, baseline.seconds, place)
                wall = WALL + 10 * TIMES * sum(baseline.seconds[test] for test in order)
                running[pid] = Running(mutant, place, time.monotonic() + wall)
            for pid, run in list(running.items()):
                done, status = os.waitpid(pid, os.WNOHANG)
                late = not done and time.monotonic() > run.until
                if not done and not late:
                    continue
                del running[pid]
                stop(pid, reap=late)
                shutil.rmtree(run.scratch, ignore_errors=True)
                code = None if late else os.waitstatus_to_exitcode(status)
                out_of_time = late or code in (-signal.SIGPROF, -signal.SIGKILL)
                yield run.mutant, TIMEOUT if out_of_time else SURVIVED if code in (0, 5) else KILLED
            time.sleep(0.005)
    finally:
        for pid in running:
            stop(pid, reap=True)


def stop(pid: int, reap: bool) -> None:
    """End a child and what its tests have started."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGKILL)
    if reap:
        os.waitpid(pid, 0)


def drawn(found: list[Place], sample: int | None, seed: int, again: set[tuple[str, str]] | None) -> Iterator[Mutant]:
    """The mutants of some places: all, `sample` drawn ones, or those among (file, old line) asked `again`."""
    if again is not None:
        text = {file: " ".join(Path(file).read_text().split()) for file in {place.file for place in found}}
        again = {(file, old) for file, old in again if old in text.get(file, "")}
        lines = {file: Path(file).read_text().splitlines() for file in text}
        found = [p for p in found if any(f == p.file and lines[f][p.line - 1].strip() in old for f, old in again)]
    if sample is not None:
        random.Random(seed).shuffle(found)
    seen: set[tuple] = set()
    for place in found:
        mutant = place.mutant()
        if mutant is None or (*mutant.key, mutant.line) in seen:
            continue
        seen.add((*mutant.key, mutant.line))
        yield mutant
        if sample is not None and len(seen) == sample:
            return


# ---- the results


@dataclass(frozen=True)
class Judged:
    """Changes that no test can notice, each with its reason."""

    entries: list[dict]

    def reason(self, mutant: Mutant) -> str | None:
        """Why a mutant is equivalent; an entry without `new` speaks of every change of its line in all its files."""
        for entry in self.entries:
            new = entry.get("new")
            same = fnmatch(mutant.file, entry["file"]) and _plain(entry["old"]) == mutant.old
            if same and (new is None or _plain(new) == mutant.new):
                return entry["reason"]
        return None

    def stale(self) -> list[dict]:
        """Entries of lines that are no more."""
        gone = []
        for entry in self.entries:
            if not any(_plain(entry["old"]) in _plain(path.read_text()) for path in Path().glob(entry["file"])):
                gone.append(entry)
        return gone


def _plain(text: str) -> str:
    return " ".join(str(text).split())


def study(name: str, asked: argparse.Namespace, scratch: Path, judged: Judged, results: Path) -> dict:
    """Mutation testing of one package, or of the modules of it that are asked for."""
    package = PACKAGES[name]
    files = sorted(str(path) for modules in package.modules for path in Path().glob(modules))
    if asked.modules:
        files = [file for file in files if Path(file).stem in asked.modules]
    kept = json.loads(results.read_text()) if results.exists() and asked.again else None
    say = Console(stderr=True, soft_wrap=True, highlight=False, markup=False)
    say.print(f"{name}: the tests on the unchanged source, traced")
    baseline = measure(files, package.tests, scratch)
    for library in baseline.libraries:
        with contextlib.suppress(Exception):
            importlib.import_module(library)
    gc.freeze()
    found = [place for file in files for place in places(file)]
    again = {(one["file"], one["old"]) for one in kept["survivors"]} if kept else None
    wanted = {(one["file"], one["old"], one["new"]) for one in kept["survivors"]} if kept else None
    counts: dict[str, Counter] = defaultdict(Counter)
    survivors, equivalents = [], []
    if kept:
        counts.update({module: Counter(values) for module, values in kept["modules"].items()})
        survivors = [one for one in kept["survivors"] if one["file"] not in files]
        for one in kept["survivors"]:
            if one["file"] in files:
                counts[one["file"]][SURVIVED] -= 1
        equivalents = kept["equivalents"]

    def queue() -> Iterator[Mutant]:
        for mutant in drawn(found, None if kept else asked.sample, asked.seed, again):
            if wanted is not None and mutant.key not in wanted:
                continue
            reason = judged.reason(mutant)
            if reason is None:
                yield mutant
            else:
                counts[mutant.file]["equivalent"] += 1
                equivalents.append({"file": mutant.file, "line": mutant.line, "old": mutant.old, "new": mutant.new})

    began, done = time.monotonic(), 0
    for mutant, outcome in outcomes(queue(), baseline, scratch, asked.jobs):
        done += 1
        counts[mutant.file][outcome] += 1
        if outcome == SURVIVED:
            survivors.append({"file": mutant.file, "line": mutant.line, "old": mutant.old, "new": mutant.new})
            say.print(f"survived {mutant.file}:{mutant.line}\n  - {mutant.old}\n  + {mutant.new}")
        if done % 50 == 0:
            say.print(f"{name}: {done} mutants, {(time.monotonic() - began) / done:.1f} s each")
    survivors.sort(key=lambda one: (one["file"], one["line"], one["new"]))
    total = sum(counts.values(), Counter())
    told = {
        "package": name,
        "sample": kept["sample"] if kept else asked.sample,
        "seed": kept["seed"] if kept else asked.seed,
        "seconds_per_mutant": kept["seconds_per_mutant"]
        if kept
        else round((time.monotonic() - began) / max(done, 1), 2),
        **_rates(total),
        "modules": {file: _rates(counts[file]) for file in sorted(counts)},
        "survivors": survivors,
        "equivalents": equivalents,
    }
    results.write_text(json.dumps(told, indent=1) + "\n")
    return told


def _rates(counts: Counter) -> dict[str, int]:
    return {name: counts[name] for name in (KILLED, TIMEOUT, SURVIVED, "equivalent")}


def rate(counts: dict[str, int]) -> float:
    """Per cent of the mutants that a test can notice which one notices; one that never ends is noticed."""
    noticed = counts[KILLED] + counts[TIMEOUT]
    return 100.0 * noticed / max(noticed + counts[SURVIVED], 1)


def summary(told: list[dict]) -> Table:
    table = Table("module", "killed", "timeouts", "survived", "equivalent", "% noticed", "s a mutant")
    for package in told:
        for name, counts in (*package["modules"].items(), (package["package"], package)):
            last = name == package["package"]
            cells = (str(counts[key]) for key in (KILLED, TIMEOUT, SURVIVED, "equivalent"))
            seconds = f"{package['seconds_per_mutant']:.1f}" if last else ""
            table.add_row(
                name.removeprefix("src/crossmodal/"),
                *cells,
                f"{rate(counts):.1f}",
                seconds,
                style="bold" if last else "",
                end_section=last,
            )
    return table


def copied(to: Path) -> Path:
    """The checkout's files, tracked or new, in another folder, with what lies beside it."""
    listed = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(listed, cwd=CHECKOUT, check=True, capture_output=True, text=True).stdout
    for name in filter(None, names.split("\0")):
        if (CHECKOUT / name).is_file():
            target = to / "checkout" / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(CHECKOUT / name, target)
    if (CHECKOUT.parent / "shared").exists():
        (to / "shared").symlink_to(CHECKOUT.parent / "shared")
    return to / "checkout"


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--only", default="", help="packages (evaluation) or modules (evaluation/ranking), by commas")
    options.add_argument("--sample", type=int, help="mutants drawn of each package (default: all)")
    options.add_argument("--seed", type=int, default=0)
    options.add_argument("--jobs", type=int, default=1)
    options.add_argument("--again", action="store_true", help="only those that survived, by the results file")
    asked = options.parse_args()
    chosen: dict[str, list[str]] = {}
    for one in filter(None, asked.only.split(",")) if asked.only else PACKAGES:
        package, module = (one, None) if one in PACKAGES else one.rpartition("/")[::2]
        if package not in PACKAGES:
            sys.exit(f"--only: {one!r} is no package, nor a module of one; expected some of {', '.join(PACKAGES)}")
        chosen.setdefault(package, []).extend([module] if module else [])
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that the copy is removed then too
    told = []
    with tempfile.TemporaryDirectory(prefix="mutants-") as folder:
        copy = copied(Path(folder))
        os.chdir(copy)
        sys.path.insert(0, str(copy / "src"))
        os.environ |= {
            "PYTHONPATH": str(copy / "src"),
            "HYPOTHESIS_STORAGE_DIRECTORY": str(Path(folder) / "hypothesis"),
            "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
        }
        judged = Judged(yaml.safe_load(Path(EQUIVALENT).read_text()) or [])
        for entry in judged.stale():
            print(f"{EQUIVALENT}: no line of {entry['file']} reads {entry['old']!r}: remove the entry", file=sys.stderr)
        for name, modules in chosen.items():
            asked.modules = modules
            results = HERE / "results" / f"mutants-{name.replace('/', '-')}.json"
            told.append(study(name, asked, Path(folder), judged, results))
    console = Console()
    Console(width=max(console.width, 110)).print(summary(told))
    sys.stdout.flush()
    os._exit(0)  # the libraries that were imported one by one have much to say when they are taken down


if __name__ == "__main__":
    main()
