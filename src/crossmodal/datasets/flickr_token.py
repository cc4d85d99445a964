"""Reader of the original captions of Flickr8k and Flickr30K (`results_20130124.token`): `NAME#k`, a tab, a caption.

The partitions come from `lists`, such as `Flickr_8k.trainImages.txt` of Flickr8k, or are drawn.
"""

from __future__ import annotations

from pathlib import Path

from crossmodal.core.files import is_count
from crossmodal.datasets import captioned, table
from crossmodal.datasets.captioned import Entry


class Settings(captioned.Settings):
    pass


def _entries(settings: Settings, dataset: str) -> list[tuple[Path, str | None, list[Entry]]]:
    return [(path, part, _read(path, dataset)) for path, part in captioned.files_of(settings)]


_READER = captioned.Reader("flickr_token", _entries)
make, read = _READER.make, _READER.read


def _read(path: Path, dataset: str) -> list[Entry]:
    captioned.existing_file(path, dataset, "the file with NAME#k, a tab and a caption per line")
    entries, faults = [], captioned.Faults()
    for number, line in table.numbered_lines(path):
        key, tab, caption = line.partition("\t")
        name, mark, k = key.rpartition("#")
        if not (tab and mark and name and is_count(k.strip())):
            faults.add(path, "line(s) are not NAME#k, a tab and a caption", f"line {number} ({line[:40]!r})")
        else:
            entries.append(Entry(f"line {number}", name, [caption]))
    faults.stop()
    return entries
