"""Files written whole or not at all, and the hashes that manifests are made of."""

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
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from crossmodal.errors import UserError

if TYPE_CHECKING:
    import pandas as pd

_REASONS = {
    errno.ENOSPC: "no space is left on the disk; free some and run again",
    errno.EDQUOT: "the disk quota is used up; free some space and run again",
    errno.EROFS: "the file system is read-only; choose a folder that can be written",
    errno.EACCES: "the folder may not be written; change its permissions",
    errno.EPERM: "the folder may not be written; change its permissions",
}


def reason(error: OSError) -> str | None:
    """What to do about a disk that is full or may not be written; None for any other error."""
    return _REASONS.get(error.errno or 0)


@contextmanager
def whole(path: str | Path) -> Iterator[Path]:
    """A temporary name beside `path`, renamed to it when the block ends well and removed when it does not.

    Raises
    ------
    UserError : the disk is full, or the folder cannot be written.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        temporary.replace(path)
    except Exception as error:
        number = _number(error) or (errno.ENOSPC if _full(path.parent) else 0)
        if number in _REASONS:
            raise UserError(f"{path}: cannot be written: {_REASONS[number]}") from error
        raise
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def _number(error: Exception) -> int:
    """The system's error number; safetensors passes it on in words only."""
    said = re.search(r"os error (\d+)", str(error))
    return getattr(error, "errno", None) or (int(said[1]) if said else 0)


def _full(folder: Path) -> bool:
    """NumPy and torch do not pass on why the system refused to write."""
    with suppress(OSError):
        return shutil.disk_usage(folder).free < 2**16
    return False


def write_text(path: str | Path, text: str) -> None:
    with whole(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: str | Path, value: Any) -> None:
    """JSON with sorted keys, so that equal content is equal bytes."""
    write_text(path, json.dumps(value, indent=2, sort_keys=True, allow_nan=False) + "\n")


def read_json(path: str | Path) -> Any:
    """What a JSON file holds.

    Raises
    ------
    UserError : a file that is missing or no JSON, too deep, or with numbers or halves of characters that nothing holds.
    """
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise UserError(f"{path}: not found") from None
    except ValueError as error:
        raise UserError(f"{path}: is not valid JSON ({error}); fetch or make the file again") from None
    return json_of(text, f"{path}:")


def json_of(text: str, where: str) -> Any:
    """What a text of JSON says.

    Parameters
    ----------
    where : the file, with a colon, or its line, for the error.

    Raises
    ------
    UserError : as `read_json`.
    """
    try:
        value = json.loads(text)
        if "\\ud" in text or "\\uD" in text:  # a pair of such is a character, one alone can be written nowhere
            json.dumps(value, ensure_ascii=False).encode()
    except RecursionError:
        raise UserError(f"{where} is nested too deeply to be read; make the file again") from None
    except ValueError as error:  # not JSON, a number of thousands of digits, half a character
        raise UserError(f"{where} is not valid JSON ({error}); fetch or make the file again") from None
    return value


def read_record(path: str | Path) -> dict[str, Any]:
    """The object in a small JSON file, a manifest or a run's metrics, which another may have written.

    Raises
    ------
    UserError : as `read_json`; a file of more than `limits.record_bytes`, or that holds something else.
    """
    from crossmodal import limits

    check_small(path, "record_bytes", limits.current().record_bytes)
    value = read_json(path)
    if not isinstance(value, dict):
        raise UserError(f"{path}: expected an object, found {type(value).__name__}; make the file again")
    return value


def check_small(path: str | Path, name: str, most: int) -> None:
    """Refuse a file of more than `most` bytes, which `limits` calls `name`."""
    with suppress(OSError):  # a missing file is told of by who opens it
        if (size := Path(path).stat().st_size) > most:
            raise UserError(
                f"{path}: has {size:,} bytes, expected at most {most:,} (`limits.{name}` in params.yaml); make the "
                "file again"
            )


def read_lines(path: str | Path) -> list[str]:
    r"""The lines of a UTF-8 text file: they end at \n or \r\n alone, and a byte order mark is no part of the first.

    `str.splitlines` would cut at eight more characters, which sentences from the web hold.

    Raises
    ------
    OSError, UnicodeDecodeError : the file cannot be read, or is no UTF-8 text.
    """
    lines = Path(path).read_bytes().decode("utf-8-sig").split("\n")
    if lines[-1] == "":  # after the last line's end
        lines.pop()
    return [line.removesuffix("\r") for line in lines]


def is_count(text: str | bytes) -> bool:
    """Whether a text is a whole number from 0 on that 64 bits hold: no other digits than 0 to 9, and at most 18."""
    return len(text) <= 18 and text.isascii() and text.isdigit()


def write_parquet(path: str | Path, frame: pd.DataFrame) -> None:
    with whole(path) as temporary:
        frame.to_parquet(temporary, index=False)


def read_parquet(path: str | Path, columns: list[str] | None = None) -> pd.DataFrame:
    """A table, or some columns of it, as pandas reads it.

    Raises
    ------
    UserError : it is missing, damaged, lacks a column or would fill the memory (`packed.table`).
    """
    from crossmodal import packed

    try:
        return packed.table(path, columns, index=True).to_pandas()
    except UserError:
        raise
    except FileNotFoundError:
        raise UserError(f"{path}: not found; the step that makes it has not run") from None
    except Exception as error:  # what broken files raise is not documented
        told = " ".join(str(error).split()) or type(error).__name__
        raise UserError(f"{path}: cannot be read as Parquet ({told}); delete it and make it again") from None


def sha256_bytes(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def sha256_file(path: str | Path) -> str:
    with Path(path).open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def sha256_json(value: Any) -> str:
    """Hash of a JSON value that does not depend on the order of its keys."""
    return sha256_bytes(json.dumps(value, sort_keys=True, separators=(",", ":"), default=str).encode())


def library_versions(*names: str) -> dict[str, str]:
    """Installed versions of Python and the named distributions, for manifests."""
    return {"python": platform.python_version(), **{name: metadata.version(name) for name in names}}


def hardware() -> dict[str, Any]:
    """What a run ran on, for manifests."""
    found: dict[str, Any] = {"machine": platform.machine(), "system": platform.system(), "cores": os.cpu_count()}
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                found["cpu"] = line.split(":", 1)[1].strip()
                break
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        found["gpu"] = torch.cuda.get_device_name()
    return found


def commit(folder: Path | None = None) -> str:
    """`0123456789ab`, with ` and changes` where tracked files differ from it; empty where there is no git checkout."""
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
