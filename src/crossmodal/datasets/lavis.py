"""Reader of the annotations of LAVIS and BLIP (`coco_karpathy_train.json`): objects with an `image` and its `caption`.

The files for validation and test have a list of captions per image, the training file has one object per caption.
"""

from __future__ import annotations

from pathlib import Path

from crossmodal.core.errors import UserError
from crossmodal.core.files import read_json
from crossmodal.datasets import captioned
from crossmodal.datasets.captioned import Entry


class Settings(captioned.Settings):
    pass


def _entries(settings: Settings, dataset: str) -> list[tuple[Path, str | None, list[Entry]]]:
    return [(path, part, _read(path, dataset)) for path, part in captioned.files_of(settings)]


_READER = captioned.Reader("lavis", _entries)
make, read = _READER.make, _READER.read


def _read(path: Path, dataset: str) -> list[Entry]:
    content = read_json(captioned.existing_file(path, dataset, "a *_karpathy_*.json"))
    if not isinstance(content, list) or not content:
        raise UserError(
            f"{path}: expected a list of objects with `image` and `caption`, as LAVIS's and BLIP's files have"
            f"{captioned.reader_of(content)}"
        )
    entries, faults = [], captioned.Faults()
    for number, record in enumerate(content):
        place = f"entry {number}"
        captions = captioned.text_of(record.get("caption")) if isinstance(record, dict) else None
        if captions is None or not isinstance(record.get("image"), str):
            faults.add(path, "entries lack a text `image` or a `caption` (a text or a list of texts)", place)
            continue
        entries.append(Entry(place, record["image"], captions, record.get("split")))
    faults.stop()
    return entries
