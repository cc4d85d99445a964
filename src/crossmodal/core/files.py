"""Atomic writing of files, readers of JSON, text and Parquet files, and hashes and versions for manifests."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from crossmodal.core.console import progress
from crossmodal.core.errors import UserError

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

LARGE = 2**28  # bytes from which hashing a file takes long enough to be shown
PART = 2**22  # bytes that are hashed at once

_REASONS = {
    errno.ENOSPC: "no space is left on the disk; free some and run again",
    errno.EDQUOT: "the disk quota is used up; free some space and run again",
    errno.EROFS: "the file system is read-only; choose a folder that can be written",
    errno.EACCES: "permission is denied; change its permissions or those of its folder",
    errno.EPERM: "permission is denied; change its permissions or those of its folder",
    errno.ENAMETOOLONG: "a name in its path is too long; choose a shorter one",
    errno.EISDIR: "it is a folder; name a file",
    errno.ENOTDIR: "a part of its path is a file; choose another folder",
    errno.EEXIST: "a part of its path is a file; choose another folder",
    errno.ELOOP: "its links lead in a circle; choose another path",
}


def reason(error: OSError) -> str | None:
    """The advice for a path that cannot be used or a disk that cannot be written; None for any other error."""
    return _REASONS.get(error.errno or 0)


@contextmanager
def atomic_write(path: str | Path) -> Iterator[Path]:
    """A temporary name beside `path`, renamed to it when the block ends well and removed when it does not.

    The file has the mode that the umask gives, whichever library writes it.

    Raises
    ------
    UserError : the disk is full, or the folder cannot be written.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        _unlock(temporary)
        temporary.replace(path)
    except Exception as error:
        number = _number(error) or (errno.ENOSPC if _full(path.parent) else 0)
        if number in _REASONS:
            raise UserError(f"{path}: cannot be written: {_REASONS[number]}") from error
        raise
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def _unlock(path: Path) -> None:
    """Give a file that is its owner's alone, as safetensors makes all of its files, the mode that the umask gives."""
    if path.stat().st_mode & 0o077:
        return
    probe = path.with_name(f"{path.name}.mode")  # the umask itself can only be read by changing it, for all threads
    try:
        probe.touch()
        path.chmod(probe.stat().st_mode & 0o777)
    finally:
        probe.unlink(missing_ok=True)


def _number(error: Exception) -> int:
    """The system's error number, which safetensors gives in its message only."""
    match = re.search(r"os error (\d+)", str(error))
    return getattr(error, "errno", None) or (int(match[1]) if match else 0)


def _full(folder: Path) -> bool:
    """Whether the disk of a folder is full: NumPy and torch do not pass on the reason of a failed write."""
    with suppress(OSError):
        return shutil.disk_usage(folder).free < 2**16
    return False


def write_text(path: str | Path, text: str) -> None:
    """Write a UTF-8 text file, whole or not at all."""
    with atomic_write(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: str | Path, value: Any) -> None:
    """Write JSON with sorted keys, so that equal content gives equal bytes."""
    write_text(path, json.dumps(value, indent=2, sort_keys=True, allow_nan=False) + "\n")


def read_json(path: str | Path) -> Any:
    """The value in a JSON file.

    Raises
    ------
    UserError : the file cannot be opened, is no JSON or nested too deeply, or it has numbers or halves of characters
        (surrogates) that cannot be represented.
    """
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
    except OSError as error:
        raise unreadable(path, error) from None
    except ValueError as error:
        raise UserError(f"{path}: is not valid JSON ({error}); fetch or make the file again") from None
    return json_of(text, f"{path}:")


def unreadable(path: str | Path, error: OSError) -> UserError:
    """The error for a file that cannot be opened: it is missing, may not be read, or is a folder."""
    if isinstance(error, FileNotFoundError):
        return UserError(f"{path}: not found")
    return UserError(f"{path}: cannot be read ({error.strerror or error}); expected a file that may be read")


def json_of(text: str, where: str) -> Any:
    """The value of a JSON text.

    Parameters
    ----------
    where : the file, with a colon, or its line, for the error.

    Raises
    ------
    UserError : as `read_json`.
    """
    try:
        value = json.loads(text)
        if "\\ud" in text or "\\uD" in text:  # two surrogates are one character, but a single one cannot be written
            json.dumps(value, ensure_ascii=False).encode()
    except RecursionError:
        raise UserError(f"{where} is nested too deeply to be read; make the file again") from None
    except ValueError as error:  # not JSON, a number of thousands of digits, half a character
        raise UserError(f"{where} is not valid JSON ({error}); fetch or make the file again") from None
    return value


def read_record(path: str | Path) -> dict[str, Any]:
    """The object in a small JSON file, such as a manifest or a run's metrics, which may come from others.

    Raises
    ------
    UserError : as `read_json`; or the file has more than `limits.record_bytes`, or holds no object.
    """
    from crossmodal.core import limits

    check_small(path, "record_bytes", limits.current().record_bytes)
    value = read_json(path)
    if not isinstance(value, dict):
        raise UserError(f"{path}: expected an object, found {type(value).__name__}; make the file again")
    return value


def check_small(path: str | Path, name: str, most: int) -> None:
    """Refuse a file of more than `most` bytes, which `limits` calls `name`."""
    with suppress(OSError):  # whoever opens a missing file reports it
        if (size := Path(path).stat().st_size) > most:
            raise UserError(
                f"{path}: has {size:,} bytes, expected at most {most:,} (`limits.{name}` in params.yaml); make the "
                "file again"
            )


def read_lines(path: str | Path) -> list[str]:
    r"""The lines of a UTF-8 text file, which end at \n or \r\n only, without a byte order mark.

    `str.splitlines` would also split at eight other characters, which occur in sentences from the web.

    Raises
    ------
    OSError, UnicodeDecodeError : the file cannot be read, or is no UTF-8 text.
    """
    lines = Path(path).read_bytes().decode("utf-8-sig").split("\n")
    if lines[-1] == "":  # the text after the end of the last line
        lines.pop()
    return [line.removesuffix("\r") for line in lines]


def is_count(text: str | bytes) -> bool:
    """Whether a text is a non-negative integer of 64 bits: at most 18 digits, and only 0 to 9."""
    return len(text) <= 18 and text.isascii() and text.isdigit()


def write_parquet(path: str | Path, frame: pd.DataFrame) -> None:
    """Write a table without its index, whole or not at all."""
    with atomic_write(path) as temporary:
        frame.to_parquet(temporary, index=False)


def read_parquet(path: str | Path, columns: list[str] | None = None) -> pd.DataFrame:
    """A table, or some columns of it, as pandas reads it.

    Raises
    ------
    UserError : the file is missing, damaged, lacks a column or would fill the memory (`packed.table`).
    """
    return _read(path, columns, lambda table: table.to_pandas())


def read_rows(path: str | Path) -> list[dict[str, Any]]:
    """The rows of a small table as plain values, with None for a missing one; pandas is not imported.

    Raises
    ------
    UserError : as `read_parquet`.
    """
    return _read(path, None, lambda table: table.to_pylist(), as_rows=True)


def _read(
    path: str | Path, columns: list[str] | None, convert: Callable[[pa.Table], Any], *, as_rows: bool = False
) -> Any:
    from crossmodal.core import packed

    try:
        return convert(packed.table(path, columns, index=True, as_rows=as_rows))
    except UserError:
        raise
    except FileNotFoundError:
        raise UserError(f"{path}: not found; the step that makes it has not run") from None
    except Exception as error:  # what broken files raise is not documented
        message = " ".join(str(error).split()) or type(error).__name__
        raise UserError(f"{path}: cannot be read as Parquet ({message}); delete it and make it again") from None


def records_of(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """The rows of a data frame as plain values, with None for a missing one."""
    plain = frame.astype(object)
    return plain.where(plain.notna(), None).to_dict("records")


def sha256_bytes(data: bytes) -> str:
    """The SHA-256 of bytes, in hexadecimal digits."""
    return hashlib.sha256(data).hexdigest()


def sha256_file(path: str | Path) -> str:
    """The SHA-256 of a file's content, in hexadecimal digits; the progress is shown of a large file."""
    with Path(path).open("rb") as stream:
        size = os.fstat(stream.fileno()).st_size
        if size < LARGE:
            return hashlib.file_digest(stream, "sha256").hexdigest()
        digest = hashlib.sha256()
        with progress(f"hashing {path}", size, unit="bytes") as advance:
            while part := stream.read(PART):
                digest.update(part)
                advance(len(part))
        return digest.hexdigest()


def sha256_json(value: Any) -> str:
    """The hash of a JSON value, which does not depend on the order of its keys."""
    return sha256_bytes(json.dumps(value, sort_keys=True, separators=(",", ":"), default=str).encode())


def library_versions(*names: str) -> dict[str, str]:
    """Installed versions of Python and the named distributions, for manifests."""
    return {"python": platform.python_version(), **{name: metadata.version(name) for name in names}}


def hardware() -> dict[str, Any]:
    """The machine that a run was computed on, for manifests."""
    facts: dict[str, Any] = {"machine": platform.machine(), "system": platform.system(), "cores": os.cpu_count()}
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                facts["cpu"] = line.split(":", 1)[1].strip()
                break
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        facts["gpu"] = torch.cuda.get_device_name()
    return facts


def commit(folder: Path | None = None) -> str:
    """The short hash of the git commit, with ` and changes` if tracked files differ; empty outside a git checkout."""
    try:
        ask = ["git", "describe", "--always", "--exclude=*", "--abbrev=12", "--dirty= and changes"]
        done = subprocess.run(ask, cwd=folder, capture_output=True, text=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.strip()


def peak_memory_mib() -> float:
    """Peak resident memory of this process so far, in MiB."""
    with suppress(OSError):  # not `getrusage`, whose peak a process inherits from the one that started it
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM"):
                return round(int(line.split()[1]) / 2**10, 1)
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(peak / (2**20 if sys.platform == "darwin" else 2**10), 1)
