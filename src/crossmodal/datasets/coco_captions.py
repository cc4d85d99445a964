"""Reader of MS-COCO's own captions (`captions_train2014.json`): lists of `images` and `annotations` with `image_id`s.

The captions of the test images were never published, so that the `test` partition is drawn, or given by `lists`.
"""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from crossmodal.core.errors import UserError
from crossmodal.core.files import read_json
from crossmodal.datasets import captioned, items
from crossmodal.datasets.captioned import Entry


class Settings(captioned.Settings):
    """The block of a data set with MS-COCO's own annotations."""

    instances: captioned.Files = Field(
        [],
        description="instances_*.json of the same images; the categories of the objects in an image become its classes",
    )


def _entries(settings: Settings, dataset: str) -> list[tuple[Path, str | None, list[Entry]]]:
    labels = _labels(settings.instances, dataset)
    return [(path, part, _read(path, dataset, labels)) for path, part in captioned.files_of(settings)]


_READER = captioned.Reader("coco_captions", _entries)
make, read = _READER.make, _READER.read


def _labels(paths: list[Path], dataset: str) -> dict[object, str | None]:
    """{image id: its classes} from COCO's object annotations; None for an image without objects."""
    of: dict[object, set[str]] = {}
    for path in paths:
        content = read_json(captioned.existing_file(path, dataset, "COCO's instances_*.json", "instances"))
        try:
            names = {entry["id"]: entry["name"] for entry in content["categories"]}
            for image in content["images"]:
                of.setdefault(image["id"], set())
            for entry in content["annotations"]:
                of[entry["image_id"]].add(names[entry["category_id"]])
        except (KeyError, TypeError) as error:
            raise UserError(f"{path}: is no instances_*.json of COCO's: lacks or misnames {error}") from None
    return {image: items.encoded_labels(names) for image, names in of.items()}


def _read(path: Path, dataset: str, labels: dict[object, str | None]) -> list[Entry]:
    content = read_json(captioned.existing_file(path, dataset, "COCO's captions_*.json"))
    lists = [content.get(key) if isinstance(content, dict) else None for key in ("images", "annotations")]
    if not all(isinstance(annotation, list) and annotation for annotation in lists):
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
            label = labels.get(image["id"])
            entries[image["id"]] = Entry(f"images[{number}]", image["file_name"], [], label=label)
    for number, annotation in enumerate(lists[1]):
        if not isinstance(annotation, dict) or not isinstance(annotation.get("caption"), str):
            faults.add(path, "annotation(s) have no text `caption`", f"annotations[{number}]")
        elif annotation.get("image_id") not in entries:
            faults.add(
                path, "annotation(s) belong to no listed image", f"annotations[{number}] ({annotation.get('image_id')})"
            )
        else:
            entries[annotation["image_id"]].captions.append(annotation["caption"])
    faults.stop()
    return [*entries.values()]
