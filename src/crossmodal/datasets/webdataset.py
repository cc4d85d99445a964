"""Reader of WebDataset shards: .tar files, in which files of one name but for their endings are a sample.

A sample has a photograph (`KEY.jpg`, `.png`, `.webp`, ...) and captions: the lines of `KEY.txt`, or `caption` or
`captions` of `KEY.json`. Its class may be in `KEY.cls`. The split is that which begins a shard's name (`train-000.tar`)
or the name of its folder (`test/000.tar`).
"""

from __future__ import annotations

import re
import tarfile
from collections.abc import Iterator
from pathlib import Path

from crossmodal.core import limits, paths
from crossmodal.core.errors import UserError
from crossmodal.core.files import json_of
from crossmodal.datasets import captioned, embedded
from crossmodal.datasets.embedded import Sample
from crossmodal.datasets.folders import ENDINGS

IMAGES = tuple(ending[1:] for ending in ENDINGS)
TEXTS = ("txt", "text", "caption", "json", "cls")
KEYS = ("captions", "caption", "texts", "text")


class Settings(embedded.Settings):
    """`root` holds the shards; `splits` names the splits that begin their names or are their folders."""


def _samples(settings: Settings, dataset: str) -> tuple[list[Path], Iterator[Sample]]:
    advice = f"set datasets.{dataset}.root in params.yaml to the folder of the shards, unpacked from .gz"
    files = embedded.files_below(settings.root, (".tar",), advice)
    return files, (sample for file in files for sample in _of_shard(file, _split(settings, file)))


_READER = embedded.Reader("webdataset", _samples)
make, read = _READER.make, _READER.read


def _split(settings: Settings, file: Path) -> str | None:
    """The split of a shard, or None where its name and its folder say none that is known."""
    below = file.relative_to(settings.root)
    begin = below.name.removesuffix(".tar").rstrip("0123456789").rstrip("-_.")  # without the number of the shard
    names = [*below.parts[-2:-1], begin, re.split(r"[-_.]", below.name)[0]]
    return next((name for name in names if name and not embedded.partition_of(name, settings.splits)[1]), None)


def _of_shard(path: Path, split: str | None) -> Iterator[Sample]:
    """The samples of a shard, one after the other."""
    place, parts = "", {}
    for name, content in _members(path):
        folder, _, file = name.rpartition("/")
        stem, _, ending = file.partition(".")
        key = f"{folder}/{stem}" if folder else stem
        if key != place and parts:
            yield _sample(path, place, parts, split)
            parts = {}
        if ending.lower() in parts:
            raise UserError(f"{path}: {key!r} has two files with the ending {ending!r}; keep one of each")
        place, parts[ending.lower()] = key, content
    if parts:
        yield _sample(path, place, parts, split)


def _members(path: Path) -> Iterator[tuple[str, bytes]]:
    """The names and contents of a shard's files of the kinds that are read; other kinds are passed over."""
    try:
        with tarfile.open(path, "r:") as archive:
            for member in archive:
                where = f"{path}: {member.name[:200]!r}"
                paths.check_name(member.name, str(path))
                if member.isdir():
                    continue
                if not member.isreg() or member.issparse():
                    raise UserError(f"{where}: is a link, a device or a sparse file; expected plain files alone")
                ending = member.name.rpartition("/")[2].partition(".")[2].lower()
                if ending in IMAGES:
                    embedded.check_image(where, member.size)
                elif ending not in TEXTS:
                    continue
                elif member.size > (most := limits.current().line):
                    raise UserError(
                        f"{where}: holds a text of {member.size:,} bytes, expected at most {most:,} (`limits.line` in "
                        "params.yaml)"
                    )
                content = archive.extractfile(member).read()
                if len(content) != member.size:
                    raise UserError(f"{where}: is cut off; fetch the shard again")
                yield member.name.removeprefix("./"), content
                archive.members = []  # or the headers of all members stay in memory
            # The library takes a damaged header for the end of the archive, which is a block of zeros.
            archive.fileobj.seek(archive.offset)
            if archive.fileobj.read(tarfile.BLOCKSIZE).strip(b"\0"):
                raise UserError(f"{path}: is damaged at byte {archive.offset:,}; fetch the shard again")
    except UserError:
        raise
    except Exception as error:  # the library does not document what broken files raise
        raise UserError(f"{path}: cannot be read as a .tar shard ({error}); fetch it again") from None


def _sample(path: Path, key: str, parts: dict[str, bytes], split: str | None) -> Sample:
    ending = next((ending for ending in IMAGES if ending in parts), None)
    if ending is None:
        raise UserError(f"{path}: the sample {key!r} has no photograph ({', '.join(IMAGES)})")
    captions = [line for kind in TEXTS[:3] for line in _text(path, key, kind, parts).split("\n") if line.strip()]
    if "json" in parts:
        content = json_of(_text(path, key, "json", parts), f"{path}: {key}.json")
        value = next((content[name] for name in KEYS if name in content), []) if isinstance(content, dict) else None
        listed = captioned.text_of(value)
        if listed is None:
            raise UserError(f"{path}: {key}.json: expected an object whose {' or '.join(KEYS[:2])} is a text or texts")
        captions += [caption for caption in listed if caption not in captions]
    label = _text(path, key, "cls", parts).strip() or None
    return Sample(path, key, parts[ending], f"{key}.{ending}", captions, split, label)


def _text(path: Path, key: str, kind: str, parts: dict[str, bytes]) -> str:
    try:
        return parts.get(kind, b"").decode()
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: {key}.{kind} is no UTF-8 text ({error}); save it as UTF-8") from None
