"""Small data sets in the layouts of published ones, so that their readers can be tried without the published files.

Each function writes the raw files of one layout below a folder and returns the reader's settings that name them.
The images are a few scenes of the drawn world under many names, since nothing useful has to be learned from them.
"""

from __future__ import annotations

import io
import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from crossmodal.core.files import write_text
from crossmodal.datasets import media_world, nuswide, world

SCENES = 12


def _pictures(folder: Path) -> list[Path]:
    """Write a few scenes; the file names of a layout become links to them."""
    files = []
    for number in range(SCENES):
        buffer = io.BytesIO()
        world.draw_scene(0, number)[0].save(buffer, "JPEG", quality=90)
        folder.mkdir(parents=True, exist_ok=True)
        files.append(folder / f"{number}.jpg")
        files[-1].write_bytes(buffer.getvalue())
    return files


def _name(picture: Path, path: Path) -> None:
    """Give an image file another name."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    os.link(picture, path)


def _sentences(number: int) -> list[str]:
    """Five captions of a distinct scene."""
    return world.captions(0, number, world.scene(0, number))


def karpathy(folder: Path, settings: Mapping[str, Any], images: int = 1500, held: int = 100) -> dict[str, Any]:
    """Write images with five captions each, of which `held` are for validation and as many for the test."""
    pictures = _pictures(folder / "pictures")
    entries = []
    for number in range(images):
        name = f"{number:06d}.jpg"
        _name(pictures[number % SCENES], folder / "images" / name)
        split = "val" if number >= images - held else "test" if number >= images - 2 * held else "train"
        sentences = [
            {"raw": sentence, "tokens": sentence.lower().replace(",", " ").rstrip(".").split()}
            for sentence in _sentences(number)
        ]
        entries.append({"filename": name, "split": split, "sentences": sentences})
    write_text(folder / "dataset.json", json.dumps({"dataset": "rehearsal", "images": entries}))
    return {"annotations": folder / "dataset.json", "images": folder / "images"}


def xmedia(folder: Path, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Draw the five-modality world in its smallest size."""
    small = media_world.Settings(images=200, audio=60, videos=60, meshes=60, shortest=0.3, longest=0.5)
    media_world.draw(small, folder)
    return {"root": folder}


def pascal(folder: Path, settings: Mapping[str, Any], classes: int = 20, images: int = 25) -> dict[str, Any]:
    """Write photographs in one folder per class, and their sentences."""
    pictures = _pictures(folder / "pictures")
    for kind in range(classes):
        for number in range(images):
            place = f"class{kind:02d}/{number:03d}"
            _name(pictures[(kind + number) % SCENES], folder / "dataset" / f"{place}.jpg")
            write_text(folder / "sentence" / f"{place}.txt", "\n".join(_sentences(kind * images + number)) + "\n")
    return {"root": folder}


def cut_nuswide(folder: Path, settings: Mapping[str, Any], images: int = 30) -> dict[str, Any]:
    """Write the lists of images, labels and tags."""
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
    """Write birds of seen and unseen classes, with attributes and ten sentences each."""
    pictures = _pictures(folder / "pictures")
    attributes = 12
    root = folder / "CUB_200_2011"
    names = [f"{kind + 1:03d}.Bird_{kind}" for kind in range(classes)]
    lines: dict[str, list[str]] = {key: [] for key in ("images", "image_class_labels", "train_test_split")}
    attribute_lines = []
    for kind, name in enumerate(names):
        for number in range(images):
            image = kind * images + number + 1
            _name(pictures[image % SCENES], root / "images" / name / f"{number}.jpg")
            lines["images"].append(f"{image} {name}/{number}.jpg")
            lines["image_class_labels"].append(f"{image} {kind + 1}")
            lines["train_test_split"].append(f"{image} {int(number % 2 == 0)}")
            text = (_sentences(image) + _sentences(image + 1))[:10]
            write_text(folder / "text" / name / f"{number}.txt", "\n".join(text) + "\n")
            attribute_lines += [f"{image} {a + 1} {int((kind + a) % 3 == 0)} 3 1.0" for a in range(attributes)]
    for key, rows in lines.items():
        write_text(root / f"{key}.txt", "\n".join(rows) + "\n")
    write_text(root / "classes.txt", "".join(f"{kind + 1} {name}\n" for kind, name in enumerate(names)))
    described = [f"{a + 1} has_part_{a}::colour_{a}\n" for a in range(attributes)]
    write_text(root / "attributes" / "attributes.txt", "".join(described))
    write_text(root / "attributes" / "image_attribute_labels.txt", "\n".join(attribute_lines) + "\n")
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
"""Reader to the function that writes a small data set for it."""
