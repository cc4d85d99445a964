"""The progress of long work: a bar on a terminal, a line now and then in a log, both with the time that is left.

Every step that may take more than some seconds shows its progress through this module. It also mutes libraries that
print by themselves.
"""

from __future__ import annotations

import ctypes
import logging
import os
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sized
from contextlib import contextmanager, suppress
from typing import Any, TypeVar

from crossmodal.core.display import readable_seconds

log = logging.getLogger(__name__)

PATIENCE = 0.5  # seconds of work without a bar, so that short work does not flicker
FRAME = 0.1  # seconds between two changes of a bar, at least
FIRST = 10.0  # seconds until the first line in a log; each further gap is as long as all the time before
GAP = 120.0  # seconds between two lines, at most
ESTIMATE = 5.0  # seconds of work after which the time of the whole can be told

One = TypeVar("One")


def on_terminal() -> bool:
    """Whether bars are drawn: standard error is a terminal, and CROSSMODAL_QUIET is not set."""
    return sys.stderr.isatty() and not os.environ.get("CROSSMODAL_QUIET")


class Progress:
    """How much of some work is done. `advance` is called from one thread only."""

    def __init__(
        self,
        name: str,
        total: int | None = None,
        done: int = 0,
        unit: str = "items",
        warning: str = "",
        clock: Callable[[], float] = time.monotonic,
    ):
        """
        Parameters
        ----------
        name : what is worked on.
        total : amount of work; None if it is not known in advance.
        done : amount that an earlier process has done.
        unit : what is counted; `bytes` are shown as MB.
        warning : what the user should know of the work, said again as soon as its time can be estimated.
        clock : the time in seconds.
        """
        self.name, self.total, self.done, self.unit, self.warning = name, total, done, unit, warning
        self.before, self.clock, self.began, self.next = done, clock, clock(), FIRST
        self.note = ""
        self._terminal, self._drawn, self._task = on_terminal(), 0.0, None

    def advance(self, n: int = 1, note: str = "") -> None:
        """Count `n` more as done; `note` replaces what stands behind the bar."""
        self.done += n
        self.note = note or self.note
        seconds = self.clock() - self.began
        if self.warning and seconds >= ESTIMATE and (left := self.left(seconds)):
            log.warning("%s: about %s in all for this: %s", self.name, readable_seconds(seconds + left), self.warning)
            self.warning = ""
        if self._terminal:
            if seconds >= max(PATIENCE, self._drawn + FRAME):
                self._drawn = seconds
                self._draw()
        elif seconds >= self.next:
            self.next = seconds + min(seconds, GAP)
            log.info("%s", self.line(seconds))

    def left(self, seconds: float) -> float | None:
        """Estimate of the seconds that are left after `seconds`; None as long as nothing is done."""
        new = self.done - self.before
        return None if self.total is None or new <= 0 else max(0, self.total - self.done) * seconds / new

    def count(self) -> str:
        """What is done of what: `1,200 of 30,000 items`."""
        scale, digits, unit = (1e6, 1, "MB") if self.unit == "bytes" else (1, 0, self.unit)
        of = "" if self.total is None else f" of {self.total / scale:,.{digits}f}"
        return f"{self.done / scale:,.{digits}f}{of} {unit}"

    def line(self, seconds: float) -> str:
        """The line of a log after `seconds`."""
        left = self.left(seconds)
        return f"{self.name}: {self.count()}" + ("" if left is None else f", about {readable_seconds(left)} left")

    def _draw(self) -> None:
        if self._task is None:
            self._task = _bars.add(self)
        _bars.update(self._task, self)

    def close(self) -> None:
        """Remove the bar."""
        if self._task is not None:
            _bars.remove(self._task)
            self._task = None


class _Bars:
    """The bars of this process, one below the other: work inside of other work has a bar of its own."""

    def __init__(self) -> None:
        self.shown: Any = None
        self.count = 0
        self.lock = threading.Lock()
        self.handlers: list[logging.StreamHandler] = []

    def add(self, of: Progress) -> Any:
        with self.lock:
            self._start()
            self.count += 1
            return self.shown.add_task(of.name, total=of.total, completed=of.before, told="")

    def _start(self) -> None:
        if self.shown is None:
            from rich.console import Console
            from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

            told = TextColumn("{task.fields[told]}")
            columns = (TextColumn("{task.description}"), BarColumn(), told, TimeRemainingColumn())
            real = sys.stderr
            self.shown = Progress(*columns, console=Console(stderr=True), transient=True)
            self.shown.start()  # from here on `sys.stderr` writes above the bars, and so must the log
            listed = [one for one in logging.getLogger().handlers if isinstance(one, logging.StreamHandler)]
            self.handlers = [one for one in listed if one.stream is real]
            for handler in self.handlers:
                handler.setStream(sys.stderr)

    def update(self, task: Any, of: Progress) -> None:
        told = " · ".join(filter(None, (of.count(), of.note)))
        self.shown.update(task, completed=of.done, told=told)

    def remove(self, task: Any) -> None:
        with self.lock:
            self.shown.remove_task(task)
            self.count -= 1
            if not self.count:
                self.shown.stop()
                self.shown = None
                for handler in self.handlers:
                    handler.setStream(sys.stderr)


_bars = _Bars()


@contextmanager
def progress(
    name: str, total: int | None = None, *, done: int = 0, unit: str = "items", warning: str = ""
) -> Iterator[Callable[..., None]]:
    """Show the progress of the block; yields the function that counts, `Progress.advance`.

    Parameters
    ----------
    name, total, done, unit, warning : as for `Progress`.
    """
    shown = Progress(name, total, done, unit, warning)
    try:
        yield shown.advance
    finally:
        shown.close()


def tracked(values: Iterable[One], name: str, total: int | None = None, unit: str = "items") -> Iterator[One]:
    """The values, with the progress of the loop over them."""
    if total is None and isinstance(values, Sized):
        total = len(values)
    with progress(name, total, unit=unit) as advance:
        for value in values:
            yield value
            advance()


@contextmanager
def muted() -> Iterator[None]:
    """Discard whatever a block prints, also from libraries in C, which write to the descriptors themselves."""
    streams = (sys.stdout, sys.stderr)
    _flush(*streams)
    kept = [os.dup(descriptor) for descriptor in (1, 2)]
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        for descriptor in (1, 2):
            os.dup2(nowhere, descriptor)
        yield
    finally:
        _flush(*streams)
        for descriptor, old in zip((1, 2), kept, strict=True):
            os.dup2(old, descriptor)
            os.close(old)
        os.close(nowhere)


def _flush(*streams: Any) -> None:
    """Write out the buffers of Python's streams and, where it can be reached, of the C library."""
    for stream in streams:
        with suppress(OSError, ValueError):
            stream.flush()
    with suppress(OSError, AttributeError, TypeError):
        ctypes.CDLL(None).fflush(None)
