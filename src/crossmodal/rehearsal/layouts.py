"""Small data sets written as published ones lie on the disk, so that what reads those is tried without them.

Each function writes the raw files of one layout below a folder and returns the settings of its reader that name them.
Pictures are a few scenes of the drawn world under many names; what is learned from them is of no interest.
"""

from __future__ import annotations

import io
import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from crossmodal.datasets import media_world, nuswide, world
from crossmodal.files import write_text

SCENES = 12


def _pictures(folder: Path) -> list[Path]:
    """Files of a few scenes, which the names of a layout are links to."""
    files = []
    for number in range(SCENES):
        buffer = io.BytesIO()
        world.draw_scene(0, number)[0].save(buffer, "JPEG", quality=90)
        folder.mkdir(parents=True, exist_ok=True)
        files.append(folder / f"{number}.jpg")
        files[-1].write_bytes(buffer.getvalue())
    return files


def _name(picture: Path, path: Path) -> None:
    """Give a picture another name."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    os.link(picture, path)


def _sentences(number: int) -> list[str]:
    """Five captions of a scene that has a look of its own."""
    return world.captions(0, number, world.scene(0, number))


def karpathy(folder: Path, settings: Mapping[str, Any], images: int = 1500, held: int = 100) -> dict[str, Any]:
    """Images of which `held` validate and as many are tested, each with five captions."""
    pictures = _pictures(folder / "pictures")
    entries = []
    for number in range(images):
        name = f"{number:06d}.jpg"
        _name(pictures[number % SCENES], folder / "images" / name)
        split = "val" if number >= images - held else "test" if number >= images - 2 * held else "train"
        sentences = [
            {"raw": one, "tokens": one.lower().replace(",", " ").rstrip(".").split()} for one in _sentences(number)
        ]
        entries.append({"filename": name, "split": split, "sentences": sentences})
    write_text(folder / "dataset.json", json.dumps({"dataset": "rehearsal", "images": entries}))
    return {"annotations": folder / "dataset.json", "images": folder / "images"}


def xmedia(folder: Path, settings: Mapping[str, Any]) -> dict[str, Any]:
    """The five-modality world, as small as it can be drawn."""
    small = media_world.Settings(images=200, audio=60, videos=60, meshes=60, shortest=0.3, longest=0.5)
    media_world.draw(small, folder)
    return {"root": folder}


def pascal(folder: Path, settings: Mapping[str, Any], classes: int = 20, images: int = 25) -> dict[str, Any]:
    """Photographs of each class in folders, and their sentences."""
    pictures = _pictures(folder / "pictures")
    for kind in range(classes):
        for number in range(images):
            place = f"class{kind:02d}/{number:03d}"
            _name(pictures[(kind + number) % SCENES], folder / "dataset" / f"{place}.jpg")
            write_text(folder / "sentence" / f"{place}.txt", "\n".join(_sentences(kind * images + number)) + "\n")
    return {"root": folder}


def cut_nuswide(folder: Path, settings: Mapping[str, Any], images: int = 30) -> dict[str, Any]:
    """The lists of images, of labels and of tags."""
    pictures = _pictures(folder / "pictures")
    names, tags = [], []
    labels: dict[str, list[str]] = {name: [] for name in nuswide.LARGEST}
    for kind, label in enumerate(nuswide.LARGEST):
        for number in range(images):
            code = kind * images + number
            names.append(f"{label}\\{code:04d}_{code}.jpg")
            _name(pictures[code % SCENES], folder / "Flickr" / names[-1].replace("\\", "/"))
            words = {word for word in _sentences(code)[0].lower().rstrip(".").split() if word.isalpha()}
            tags.append(f"{code} {' '.join(sorted(words))}")
            for other, column in labels.items():
                column.append(str(int(other == label)))
    write_text(folder / nuswide.LIST, "\n".join(names) + "\n")
    write_text(folder / nuswide.TAGS, "\n".join(tags) + "\n")
    for label, column in labels.items():
        write_text(folder / nuswide.LABELS / f"Labels_{label}.txt", "\n".join(column) + "\n")
    return {"root": folder, "images": None}


def cub(
    folder: Path, settings: Mapping[str, Any], classes: int = 200, unseen: int = 50, images: int = 8
) -> dict[str, Any]:
    """Birds of each class, some of them unseen, with attributes and ten sentences each."""
    pictures = _pictures(folder / "pictures")
    attributes = 12
    root = folder / "CUB_200_2011"
    names = [f"{kind + 1:03d}.Bird_{kind}" for kind in range(classes)]
    lines: dict[str, list[str]] = {key: [] for key in ("images", "image_class_labels", "train_test_split")}
    told = []
    for kind, name in enumerate(names):
        for number in range(images):
            image = kind * images + number + 1
            _name(pictures[image % SCENES], root / "images" / name / f"{number}.jpg")
            lines["images"].append(f"{image} {name}/{number}.jpg")
            lines["image_class_labels"].append(f"{image} {kind + 1}")
            lines["train_test_split"].append(f"{image} {int(number % 2 == 0)}")
            text = (_sentences(image) + _sentences(image + 1))[:10]
            write_text(folder / "text" / name / f"{number}.txt", "\n".join(text) + "\n")
            told += [f"{image} {a + 1} {int((kind + a) % 3 == 0)} 3 1.0" for a in range(attributes)]
    for key, rows in lines.items():
        write_text(root / f"{key}.txt", "\n".join(rows) + "\n")
    write_text(root / "classes.txt", "".join(f"{kind + 1} {name}\n" for kind, name in enumerate(names)))
    described = [f"{a + 1} has_part_{a}::colour_{a}\n" for a in range(attributes)]
    write_text(root / "attributes" / "attributes.txt", "".join(described))
    write_text(root / "attributes" / "image_attribute_labels.txt", "\n".join(told) + "\n")
    shares = [" ".join(str(round(100 * ((kind * 7 + a * 13) % 11) / 11, 1)) for a in range(attributes))
              for kind in range(classes)]  # fmt: skip
    write_text(root / "attributes" / "class_attribute_labels_continuous.txt", "\n".join(shares) + "\n")
    write_text(folder / "unseen.txt", "".join(f"{name}\n" for name in names[-unseen:]))
    return {"root": root, "captions": folder / "text", "unseen": folder / "unseen.txt"}


LAYOUTS: dict[str, Callable[..., dict[str, Any]]] = {
    "karpathy": karpathy,
    "xmedia": xmedia,
    "pascal": pascal,
    "nuswide": cut_nuswide,
    "cub": cub,
}
"""Reader to what writes a small data set for it."""
