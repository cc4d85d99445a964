"""The progress of long work in a log and on a terminal."""

import logging
import os
import pty
import subprocess
import sys

from crossmodal.core import console


class Clock:
    now = 100.0

    def __call__(self):
        return self.now


def lines(caplog, steps, seconds, **given):
    """The lines that are logged while each of `steps` steps of one unit takes `seconds`."""
    clock = Clock()
    shown = console.Progress("world", steps, clock=clock, **given)
    with caplog.at_level(logging.INFO):
        for _ in range(steps):
            clock.now += seconds
            shown.advance()
    shown.close()
    return [record.getMessage() for record in caplog.records]


def test_short_work_says_nothing(caplog):
    assert lines(caplog, 9, 1.0) == []


def test_long_work_has_few_lines_with_the_time_that_is_left(caplog):
    told = lines(caplog, 400, 1.0)
    # Gaps are as long as the time before them, at most two minutes: after 10, 20, 40, 80, 160, 280 and 400 seconds.
    assert [line.split(": ")[1].split(" of ")[0] for line in told] == ["10", "20", "40", "80", "160", "280", "400"]
    assert told[0] == "world: 10 of 400 items, about 6 min 30 s left"  # 390 seconds
    assert told[-1] == "world: 400 of 400 items, about 0.0 s left"


def test_work_that_an_earlier_process_did_is_not_part_of_the_speed(caplog):
    clock = Clock()
    shown = console.Progress("world", 1000, done=900, clock=clock)
    clock.now += 20
    with caplog.at_level(logging.INFO):
        shown.advance(10)  # one in two seconds
    assert caplog.messages == ["world: 910 of 1,000 items, about 3 min 0 s left"]


def test_a_fallback_says_its_time_as_soon_as_it_can_be_told(caplog):
    told = lines(caplog, 475, 1.0, warning="a seeded random encoder")
    assert told[0] == "world: about 7 min 55 s in all for this: a seeded random encoder"
    assert caplog.records[0].levelname == "WARNING"
    assert sum("seeded" in line for line in told) == 1


def test_work_of_unknown_length_and_bytes(caplog):
    clock = Clock()
    shown = console.Progress("file.tsv", None, unit="bytes", clock=clock)
    clock.now += 11
    with caplog.at_level(logging.INFO):
        shown.advance(2_500_000)
    assert caplog.messages == ["file.tsv: 2.5 MB"]


def test_tracked_gives_the_values():
    assert list(console.tracked("abc", "letters")) == ["a", "b", "c"]
    assert list(console.tracked(iter(()), "none")) == []


SCRIPT = """
import logging, sys, time
from crossmodal.core.console import progress, tracked
logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
with progress("outer work", 3) as advance:
    for _ in range(3):
        time.sleep(0.4)
        for _ in tracked(range(2), "inner work", unit="blocks"):
            time.sleep(0.4)
        logging.info("a line of the log")
        advance()
logging.info("the end")
"""


def test_bars_on_a_terminal_nest_and_leave_the_log_whole():
    terminal, child = pty.openpty()
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "100"}
    environment.pop("CROSSMODAL_QUIET", None)
    with subprocess.Popen([sys.executable, "-c", SCRIPT], stderr=child, env=environment) as process:
        os.close(child)
        text = b""
        while True:
            try:
                part = os.read(terminal, 4096)
            except OSError:  # the terminal is closed
                break
            if not part:
                break
            text += part
    os.close(terminal)
    assert process.returncode == 0
    text = text.decode()
    assert all(part in text for part in ("outer work", "inner work", "2 of 3 items"))
    assert text.count("a line of the log") == 3
    assert text.rstrip().endswith("the end")
