"""The first run of mutation testing: what the tests do on the unchanged source, and which lines each one reaches."""

from __future__ import annotations

import ast
import os
import pickle
import sys
import time
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from mutations import Mutant

QUICK = 0.5  # seconds of processor time of a test that is run though it does not reach the changed line
SMALL = 5.0  # processor seconds of all tests of a file that is asked about what a module declares


@dataclass
class Baseline:
    """What the tests do on the unchanged source."""

    seconds: dict[str, float] = field(default_factory=dict)  # processor time of each test
    reached: dict[str, dict[int, set[str]]] = field(default_factory=dict)  # file to line to tests
    libraries: list[str] = field(default_factory=list)  # modules that are imported, without the project's own

    def order(self, mutant: Mutant) -> list[str]:
        """The tests of a mutant: those that reach it, then the quick ones of the rest of their files, quickest first.

        A test that does not reach a line may still depend on it, by what an earlier test has left in a cache.
        """
        lines, stem = self.reached.get(mutant.file, {}), f"/test_{Path(mutant.file).stem}.py"
        files: dict[str, list[str]] = defaultdict(list)
        for test in self.seconds:
            files[test.split("::")[0]].append(test)

        def total(file: str) -> float:
            return sum(self.seconds[test] for test in files[file])

        by_test = set().union(*(lines.get(line, ()) for line in statement(mutant.file, mutant.line)))
        if mutant.line in _outside_functions(mutant.file):  # traced in the test alone that imported the module first
            by_test = set().union(*lines.values())
            # Tests of bounds and defaults reach no line of a module, which its settings declare.
            by_test |= {t for file in files if file.endswith(stem) or total(file) < SMALL for t in files[file]}

        chosen = {test.split("::")[0] for test in by_test}
        chosen = sorted(chosen, key=lambda file: (not file.endswith(stem), total(file)))
        first = [t for file in chosen for t in sorted(set(files[file]) & by_test, key=self.seconds.__getitem__)]
        rest = [t for file in chosen for t in sorted(set(files[file]) - by_test, key=self.seconds.__getitem__)]
        return first + [test for test in rest if self.seconds[test] < QUICK]


def statement(file: str, line: int) -> range:
    """The lines of the innermost statement at a line; of one that holds others, its head."""
    best = range(line, line + 1)
    for node in ast.walk(ast.parse(Path(file).read_text())):
        if isinstance(node, ast.stmt):
            end = node.body[0].lineno - 1 if getattr(node, "body", None) else node.end_lineno
            if node.lineno <= line <= end:
                best = range(node.lineno, end + 1)
    return best


def _outside_functions(file: str) -> set[int]:
    """Lines that run as the module is imported."""
    text = Path(file).read_text()
    inside = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            inside |= set(range(node.body[0].lineno, node.end_lineno + 1))
    return set(range(1, len(text.splitlines()) + 1)) - inside


class Traced:
    """A pytest plugin: coverage by test, a fixture that outlives a test counted for each that asks for it."""

    def __init__(self, coverage):
        self.coverage, self.seconds, self.asked = coverage, {}, {}

    def pytest_collection_finish(self, session):
        for item in session.items:
            known = item._fixtureinfo.name2fixturedefs
            self.asked[item.nodeid] = {
                _fixture(each) for name in item.fixturenames for each in known.get(name, ()) if each.scope != "function"
            }

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item):
        self.coverage.switch_context(item.nodeid)
        self.now = item.nodeid
        began = time.process_time()
        try:
            return (yield)
        finally:
            self.seconds[item.nodeid] = time.process_time() - began

    @pytest.hookimpl(wrapper=True)
    def pytest_fixture_setup(self, fixturedef):
        if fixturedef.scope == "function":
            return (yield)
        before, self.now = self.now, _fixture(fixturedef)
        self.coverage.switch_context(self.now)
        try:
            return (yield)
        finally:
            self.now = before
            self.coverage.switch_context(before)


def _fixture(definition) -> str:
    return f"fixture {definition.baseid} {definition.argname}"


def measure(files: list[str], tests: tuple[str, ...], scratch: Path) -> Baseline:
    """Run the tests on the unchanged source in a child of its own."""
    told = scratch / "baseline.pickle"
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            code = _traced_run(files, tests, scratch, told)
        except BaseException as error:
            print(f"the first run failed: {error!r}", file=sys.stderr)
        finally:
            os._exit(code)
    _, status = os.waitpid(pid, 0)
    if os.waitstatus_to_exitcode(status) != 0:
        sys.exit("the tests fail on the unchanged source: make them pass first (their output is above)")
    return pickle.loads(told.read_bytes())


def _traced_run(files: list[str], tests: tuple[str, ...], scratch: Path, told: Path) -> int:
    from coverage import Coverage

    coverage = Coverage(data_file=None, include=[str(Path(file).resolve()) for file in files], config_file=False)
    traced = Traced(coverage)
    coverage.start()
    code = int(pytest.main([*options(scratch), *tests], plugins=[traced]))
    coverage.stop()
    data, found = coverage.get_data(), Baseline(dict(traced.seconds))
    by_fixture = defaultdict(set)
    for test, fixtures in traced.asked.items():
        for fixture in fixtures:
            by_fixture[fixture].add(test)
    for file in files:
        lines = data.contexts_by_lineno(str(Path(file).resolve()))
        found.reached[file] = {
            line: set().union(*(by_fixture.get(one, {one} & traced.asked.keys()) for one in contexts))
            for line, contexts in lines.items()
        }
    roots = tuple(
        {str(Path(path).resolve()) for path in sys.path if "site-packages" in path} | {str(Path(os.__file__).parent)}
    )
    for name, module in list(sys.modules.items()):
        origin = getattr(module, "__file__", None)
        if (
            origin
            and os.path.realpath(origin).startswith(roots)
            and name.split(".")[0] not in ("crossmodal", "__main__")
        ):
            found.libraries.append(name)
    told.write_bytes(pickle.dumps(found))
    return code


def options(scratch: Path) -> list[str]:
    """What pytest is told: nothing that a mutant's fate does not depend on, since it starts once for each."""
    quick = [f"-pno:{name}" for name in ("cacheprovider", "warnings", "unraisableexception", "threadexception")]
    drawn = ["-p_hypothesis_pytestplugin", "--hypothesis-seed=0"]
    return [*quick, *drawn, "--assert=plain", "-x", "-mnot slow", f"--basetemp={scratch / 'pytest'}"]
