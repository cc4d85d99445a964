"""Downloads the files of an origin with pooch: downloads are resumed, verified, unpacked and recorded.

`.downloads.json` in the folder of raw files records the SHA-256 and the unpacked files of each URL.
"""

from __future__ import annotations

import json
import logging
import shutil
import tarfile
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any

import pooch
import requests

from crossmodal.core.console import progress
from crossmodal.core.errors import UserError
from crossmodal.core.files import read_json, reason, sha256_file, write_json
from crossmodal.downloads.origins import Check, Origin, SourceFile

log = logging.getLogger(__name__)

RECORD = ".downloads.json"
CHUNK = 2**20  # bytes read at a time
PATIENCE = 60  # timeout in seconds


def fetch(origin: Origin, folder: Path) -> list[str]:
    """Download all files of an origin that do not exist yet.

    Parameters
    ----------
    folder : folder of raw files.

    Returns
    -------
    A message for each file.

    Raises
    ------
    UserError : a server does not answer, a download breaks off (the next call resumes it) or differs from the published
        file, an archive is damaged, or the disk is full. Finished files are kept.
    """
    folder.mkdir(parents=True, exist_ok=True)
    record: dict[str, Any] = read_json(folder / RECORD) if (folder / RECORD).exists() else {}
    messages = []
    for file in origin.files:
        if _is_there(file, folder, record):
            messages.append(f"{file.file_name}: is there already")
            continue
        path = _fetched(file, folder, record.get(file.url, {}))
        digest = sha256_file(path)
        expected = file.check
        _verify(path, digest, expected)
        entry = {"sha256": digest, "bytes": path.stat().st_size, "file": file.file_name}
        if file.is_archive:
            entry["unpacked"] = _unpacked(path, file, folder)
            path.unlink()
        record[file.url] = entry
        write_json(folder / RECORD, record)
        checked = "as published" if isinstance(expected, Check) else f"no checksum is published; SHA-256 {digest}"
        messages.append(f"{file.file_name}: {entry['bytes']:,} bytes, {checked}")
    return messages


def _target(file: SourceFile, folder: Path) -> Path:
    """The path to which the file itself is downloaded."""
    return folder / file.folder / file.file_name  # an absolute `file.folder` replaces `folder`


def _is_there(file: SourceFile, folder: Path, record: dict[str, Any]) -> bool:
    entry = record.get(file.url)
    if entry is None:
        return False
    if not file.is_archive:
        path = _target(file, folder)
        return path.is_file() and path.stat().st_size == entry["bytes"]
    return all((folder / name).exists() for name in entry["unpacked"])


def _fetched(file: SourceFile, folder: Path, before: dict[str, Any]) -> Path:
    """Download a file with pooch and a downloader that resumes partial files, and return its path."""
    target = _target(file, folder)
    target.parent.mkdir(parents=True, exist_ok=True)
    expected = _as_pooch(file.check, before)
    try:
        with _quiet():
            pooch.retrieve(file.url, expected, target.name, target.parent, downloader=Resumed(target))
    except requests.RequestException as error:
        raise UserError(f"{file.url}: cannot be fetched ({_told(error)}); run again to continue") from None
    except OSError as error:
        if reason(error) is None:
            raise
        raise UserError(f"{target}: cannot be written: {reason(error)}") from None
    except ValueError as error:
        if "hash" not in str(error):
            raise
        raise UserError(
            f"{file.url}: is not the file that is published: {' '.join(str(error).split())}; try again; if the error "
            "remains, its publishers have changed the file"
        ) from None
    return target


def _as_pooch(check: Check | str, before: dict[str, Any]) -> str | None:
    """A checksum in pooch's notation; without a published one, that recorded at an earlier download, or None."""
    if isinstance(check, Check):
        if check.sha256 or check.md5:
            return f"sha256:{check.sha256}" if check.sha256 else f"md5:{check.md5}"
        return None
    return f"sha256:{before['sha256']}" if "sha256" in before else None


def _verify(path: Path, digest: str, check: Check | str) -> None:
    """Check the beginning of a SHA-256, which pooch cannot."""
    if isinstance(check, Check) and check.sha256_begins and not digest.startswith(check.sha256_begins):
        path.unlink()
        raise UserError(
            f"{path}: is not the file that is published: its SHA-256 begins with {digest[:16]}, expected "
            f"{check.sha256_begins}; try again"
        )


class Resumed:
    """A downloader for pooch that resumes `NAME.part` beside the target if the file on the server has not changed."""

    def __init__(self, target: Path):
        self.part = target.with_name(f"{target.name}.part")
        self.about = target.with_name(f"{target.name}.part.json")

    def __call__(self, url: str, output_file: str, pooch: Any, check_only: bool = False) -> None:
        """Download `url` to `output_file`; raises requests' errors, and ConnectionError if too few bytes arrive."""
        about = json.loads(self.about.read_text()) if self.about.exists() and self.part.exists() else {}
        have = self.part.stat().st_size if about.get("url") == url and about.get("version") else 0
        headers = {"Range": f"bytes={have}-", "If-Range": about["version"]} if have else {}
        headers["Accept-Encoding"] = "identity"  # compression would make the byte counts wrong
        with requests.get(url, headers=headers, stream=True, timeout=PATIENCE) as answer:
            if have and answer.status_code == 416:  # the partial file is already complete
                answer.close()
            else:
                answer.raise_for_status()
                answer.raw.enforce_content_length = False  # otherwise the last bytes before an interruption are lost
                self._write(url, answer, have if answer.status_code == 206 else 0)
        shutil.move(self.part, output_file)
        self.about.unlink(missing_ok=True)

    def _write(self, url: str, answer: requests.Response, have: int) -> None:
        # A weak ETag does not guarantee identical bytes.
        tag = answer.headers.get("ETag", "")
        version = tag if tag and not tag.startswith("W/") else answer.headers.get("Last-Modified", "")
        self.about.write_text(json.dumps({"url": url, "version": version}))
        length = answer.headers.get("Content-Length")
        total = None if length is None else have + int(length)
        if have:
            log.info("%s: resumes after %d bytes", self.part, have)
        shown = progress(self.part.stem, total, done=have, unit="bytes")
        with self.part.open("ab" if have else "wb") as stream, shown as advance:
            for chunk in answer.iter_content(CHUNK):
                stream.write(chunk)
                advance(len(chunk))
        size = self.part.stat().st_size
        if total is not None and size != total:
            raise requests.ConnectionError(f"{size} of {total} bytes came")


@contextmanager
def _quiet() -> Iterator[None]:
    """Suppress pooch's own log messages, since `fetch` returns a message for each file."""
    before = pooch.get_logger().level
    pooch.get_logger().setLevel(logging.ERROR)
    try:
        yield
    finally:
        pooch.get_logger().setLevel(before)


def _told(error: requests.RequestException) -> str:
    if error.response is not None:
        return f"the server says {error.response.status_code} {error.response.reason}"
    return str(error).split("(Caused by")[0].strip() or type(error).__name__


def _unpacked(path: Path, file: SourceFile, folder: Path) -> list[str]:
    """Unpack an archive via a temporary folder; returns the paths of its top-level entries, relative to `folder`."""
    try:
        with tempfile.TemporaryDirectory(dir=folder, prefix=".unpacking-") as name:
            inside = Path(name)
            if zipfile.is_zipfile(path):
                with zipfile.ZipFile(path) as archive:
                    archive.extractall(inside)  # strips `..` and roots from paths
            else:
                with tarfile.open(path) as archive:
                    archive.extractall(inside, filter=_member_of)
            if file.members:
                pairs = [(_member(inside, path, member), folder / to) for member, to in sorted(file.members.items())]
            else:
                pairs = [(member, folder / str(file.unpack)) for member in sorted(inside.iterdir())]
            return [str(_placed(source, into).relative_to(folder)) for source, into in pairs]
    except (zipfile.BadZipFile, tarfile.TarError, EOFError) as error:
        path.unlink(missing_ok=True)
        message = " ".join(str(error).split())
        raise UserError(
            f"{path}: is no archive, or damaged ({message}); it is removed: run again to fetch it"
        ) from None


def _member_of(member: tarfile.TarInfo, folder: str) -> tarfile.TarInfo | None:
    """A member as tarfile's filter `data` allows it, with the mode that the umask gives, as those of zip files have."""
    allowed = tarfile.data_filter(member, folder)
    return allowed and allowed.replace(mode=None, deep=False)


def _member(inside: Path, archive: Path, name: str) -> Path:
    target = inside / PurePosixPath(name)
    if not target.exists():
        raise UserError(f"{archive}: holds no {name}; its publishers have changed it")
    return target


def _placed(source: Path, into: Path) -> Path:
    """Move an unpacked entry into its folder: existing folders are merged, existing files replaced."""
    into.mkdir(parents=True, exist_ok=True)
    target = into / source.name
    if source.is_dir() and target.is_dir():
        for entry in sorted(source.iterdir()):
            _placed(entry, target)
    else:
        source.replace(target)
    return target
