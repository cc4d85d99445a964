"""MS-COCO's own captions (`captions_train2014.json`): a list `images` and a list `annotations` with an `image_id` each.

The captions of the test images were never published, so that a `test` partition is drawn, or named by `lists`.
"""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from crossmodal.datasets import captioned
from crossmodal.datasets.captioned import Entry
from crossmodal.errors import UserError
from crossmodal.files import read_json


class Settings(captioned.Settings):
    pass


def make(settings: Settings, folder: Path, *, title: str) -> None:
    """Read the annotations and write `items.parquet` and `items.json` into `folder`.

    Raises
    ------
    UserError : files that are missing, malformed or contradict each other.
    """
    captioned.make("coco_captions", settings, folder, title, _entries(settings, folder.name))


def read(settings: Settings, dataset: str = "*") -> pd.DataFrame:
    """The items: all images in the files' order, then all captions. Raises UserError as `make`."""
    return captioned.frame_of(settings, settings.images, _entries(settings, dataset), dataset)[0]


def _entries(settings: Settings, dataset: str) -> list[tuple[Path, str | None, list[Entry]]]:
    return [(path, part, _read(path, dataset)) for path, part in captioned.files_of(settings)]


def _read(path: Path, dataset: str) -> list[Entry]:
    content = read_json(captioned.there(path, dataset, "COCO's captions_*.json"))
    lists = [content.get(key) if isinstance(content, dict) else None for key in ("images", "annotations")]
    if not all(isinstance(one, list) and one for one in lists):
        raise UserError(
            f"{path}: expected an object with lists `images` and `annotations`, as COCO's captions_*.json has"
            f"{captioned.reader_of(content)}"
        )
    entries: dict[object, Entry] = {}
    faults = captioned.Faults()
    for number, image in enumerate(lists[0]):
        if not isinstance(image, dict) or not isinstance(image.get("file_name"), str) or "id" not in image:
            faults.add(path, "image(s) lack `id` or `file_name`", f"images[{number}]")
        elif image["id"] in entries:
            faults.add(path, "image(s) have the id of another", f"images[{number}] ({image['id']})")
        else:
            entries[image["id"]] = Entry(f"images[{number}]", image["file_name"], [])
    for number, one in enumerate(lists[1]):
        if not isinstance(one, dict) or not isinstance(one.get("caption"), str):
            faults.add(path, "annotation(s) have no text `caption`", f"annotations[{number}]")
        elif one.get("image_id") not in entries:
            faults.add(path, "annotation(s) are of no listed image", f"annotations[{number}] ({one.get('image_id')})")
        else:
            entries[one["image_id"]].captions.append(one["caption"])
    faults.stop()
    return [*entries.values()]
