"""Runs a command in a second process, so that a file which crashes or stalls a library costs only that one item.

A malicious file may crash a C library and with it the whole process, which no `try` can catch. On Linux the commands
that open other people's files therefore fork (`begin`): the first process waits, the second one works, and notes in
shared memory which file each of its threads has open (`holding`). If the second process dies, is stuck with a file or
grows too large, another one is started in its place. It first opens each of the noted files alone; a file that causes
the failure again is blamed, and opening it is an error from then on, as for any broken file.

Nothing is decoded twice or sent between processes, so that good files cost no time.
"""

from __future__ import annotations

import ctypes
import logging
import mmap
import os
import resource
import signal
import struct
import sys
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NoReturn

from crossmodal.core import limits
from crossmodal.core.errors import UserError, printable

log = logging.getLogger(__name__)

SLOTS, SLOT = 128, 4096  # files that can be open at a time; bytes for one of their names
HEAD = struct.Struct("dQ")  # seconds and bytes that an item may take, stored in the first slot
ALONE = HEAD.size  # offset of the flag that a suspect is being opened alone
NAME = 1000  # last characters of a name that are kept, since these distinguish files
HELD = struct.Struct("dI")  # the time at which a file was opened, and the length of its name
POLL = 0.1  # seconds
TRIES = 3  # deaths in a row for which no file can be blamed
CRASHES = {getattr(signal, name) for name in ("SIGSEGV", "SIGBUS", "SIGILL", "SIGFPE", "SIGABRT", "SIGSYS", "SIGKILL")}
ENDING = {signal.SIGINT, signal.SIGTERM, signal.SIGHUP}
PASSED_ON = {*ENDING, signal.SIGUSR1, signal.SIGUSR2}
SI_KERNEL = 0x80  # code of a signal that the terminal has sent to both processes
PR_SET_PDEATHSIG = 1

_journal: mmap.mmap | None = None
_free: deque[int] = deque()
_blamed: dict[str, str] = {}
_suspects: set[str] = set()
_thread = threading.local()


def suspects() -> set[str]:
    """Files that were open when the previous process died: each must be opened alone, before all else."""
    return set(_suspects)


@contextmanager
def holding(path: str | Path) -> Iterator[None]:
    """Note that a file is open, for a `with` block around its opening, decoding and whatever else may crash.

    Raises
    ------
    UserError : the file has ended a process before, or a process was stuck with it.
    """
    name = str(path)[-NAME:]
    if why := _blamed.get(name):
        raise UserError(f"{name}: {why}; mend or replace it, or leave it out")
    if _journal is None or getattr(_thread, "holds", False) or not _free:
        yield
        return
    alone = name in _suspects and len(_free) == SLOTS
    slot = _free.popleft()
    key = name.encode(errors="surrogateescape")
    _journal[slot + HELD.size : slot + HELD.size + len(key)] = key
    HELD.pack_into(_journal, slot, time.monotonic(), len(key))
    _thread.holds = True
    _journal[ALONE] = alone
    try:
        yield
    finally:
        _thread.holds = False
        HELD.pack_into(_journal, slot, 0.0, 0)
        if alone:
            _journal[ALONE] = 0
            _suspects.discard(name)
        _free.append(slot)


def bound(held: limits.Limits) -> None:
    """Set how much time and memory a file may take, for the process that waits."""
    if _journal is not None:
        HEAD.pack_into(_journal, 0, held.item_seconds, held.item_memory)


def begin() -> None:
    """Fork a second process that goes on working, while the first one watches it; returns in the second one only.

    It must be called before threads are started. On other systems than Linux it does nothing.
    """
    global _journal
    if sys.platform != "linux" or _journal is not None:
        return
    _journal = mmap.mmap(-1, (SLOTS + 1) * SLOT)
    bound(limits.current())
    _free.extend(SLOT * (n + 1) for n in range(SLOTS))
    _look_after()


# -- the process that waits -------------------------------------------------------------------------------------------


def _look_after() -> None:
    global _suspects
    fruitless = 0
    while True:
        child = _start()
        if child is None:
            return
        status, why, held = _wait(child, 2**fruitless)
        number = os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0
        if number not in CRASHES:
            _leave(status)  # with the status of the process that worked
        why = why or f"ends the process that reads it ({_named(number)})"
        if _journal[ALONE] and len(held) == 1:
            _blamed[held[0]] = why
            _suspects.discard(held[0])
            fruitless = 0
            continue
        fruitless += 1
        if not held or fruitless > TRIES:
            _give_up(number, held)
        _suspects = set(held)
        _say(f"{', '.join(held[:3])}{' ...' if len(held) > 3 else ''}: {why}; opened alone once more, to be sure")


def _start() -> int | None:
    """Fork; returns the id of the new process, or None in the new process itself."""
    _journal[ALONE] = 0
    for n in range(SLOTS):
        HELD.pack_into(_journal, SLOT * (n + 1), 0.0, 0)
    parent, mask = os.getpid(), {*PASSED_ON, signal.SIGCHLD}
    before = signal.pthread_sigmask(signal.SIG_BLOCK, mask)
    child = os.fork()
    if child:
        return child
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)  # a killed command leaves no process behind
    if os.getppid() != parent:
        os._exit(1)
    signal.pthread_sigmask(signal.SIG_SETMASK, before)
    with suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
    return None


def _wait(child: int, patience: int) -> tuple[int, str, list[str]]:
    """Wait for a process: its status, the reason if it was killed from here, and the files that were open then.

    Parameters
    ----------
    patience : factor on the bounds of files that are open together, which grows after good ones were suspected.
    """
    why, caught, grown, used, ending = "", [], {}, _resident(child), 0
    while True:
        received = signal.sigtimedwait({*PASSED_ON, signal.SIGCHLD}, POLL)
        if received is not None and received.si_signo in PASSED_ON:
            ending = received.si_signo if received.si_signo in ENDING else ending
            if received.si_code != SI_KERNEL:
                os.kill(child, received.si_signo)
        done, status = os.waitpid(child, os.WNOHANG)
        held = _held()
        if done:
            crashed = os.WIFSIGNALED(status) and os.WTERMSIG(status) in CRASHES
            return ending if crashed and ending else status, why, caught or [name for name, _ in held]
        if why:
            continue
        seconds, memory = (most * (1 if _journal[ALONE] else patience) for most in HEAD.unpack_from(_journal, 0))
        before, used = used, _resident(child)
        grown = {hold: grown.get(hold, before) for hold in held}
        for hold, least in grown.items():
            if time.monotonic() - hold[1] > seconds:
                why = f"takes more than {seconds:g} s (`limits.item_seconds` in params.yaml)"
            elif used - least > memory:
                why = f"takes more than {memory:,} bytes of memory (`limits.item_memory` in params.yaml)"
        if why:
            caught = [name for name, _ in held]
            os.kill(child, signal.SIGKILL)


def _held() -> list[tuple[str, float]]:
    """(name, time of opening) of each open file."""
    held = []
    for slot in range(SLOT, SLOT * (SLOTS + 1), SLOT):
        began, length = HELD.unpack_from(_journal, slot)
        if began:
            start = slot + HELD.size
            held.append((_journal[start : start + length].decode(errors="surrogateescape"), began))
    return held


def _resident(process: int) -> int:
    """Bytes of a process's own memory, without mapped files."""
    with suppress(OSError, ValueError, IndexError):
        fields = Path(f"/proc/{process}/statm").read_text().split()
        return (int(fields[1]) - int(fields[2])) * mmap.PAGESIZE
    return 0


def _named(number: int) -> str:
    name = signal.Signals(number).name
    return f"{name}, as the system does where memory is short" if number == signal.SIGKILL else name


def _say(text: str) -> None:
    print(printable(text), file=sys.stderr, flush=True)


def _give_up(number: int, held: list[str]) -> NoReturn:
    read = f"while these were read, each of which can be read alone: {', '.join(held[:5])}" if held else "by no file"
    _say(f"error: the process was ended by {_named(number)}, {read}; run it again with fewer threads or more memory")
    os._exit(2)


def _leave(status: int) -> NoReturn:
    """Exit with a status in the form of `os.waitpid`."""
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {number})
        os.kill(os.getpid(), number)
    os._exit(os.WEXITSTATUS(status))
