"""The five-modality world: generated images, texts, sound clips, videos and meshes of twenty classes.

It is generated from a seed in the layout that `xmedia` reads, in XMedia's proportions (5,000 images, 5,000 texts, 1,000
sound clips, 500 videos, 500 meshes; a fifth of each is tested). No two items show the same object, except for an image
and its text. Some classes are similar: dog and wolf in shape and words, owl and wolf in sound, violin and guitar in
shape.
"""

from __future__ import annotations

import re
from contextlib import suppress
from functools import partial
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from crossmodal.core.files import atomic_write, write_text
from crossmodal.datasets import items, xmedia
from crossmodal.datasets.drawing import media, pictures, sentences, sounds
from crossmodal.datasets.drawing.classes import NAMES, instance
from crossmodal.datasets.drawing.work import clear, each

ENDINGS = {"video": "mp4", "mesh": "off", "audio": "wav", "image": "jpg", "text": "txt"}  # slowest first


class Settings(BaseModel):
    """Settings of the five-modality world."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    seed: int = Field(1, ge=0)
    images: int = Field(2000, ge=60, description="number of images, each of which has a text")
    audio: int = Field(400, ge=60, description="number of sound clips")
    videos: int = Field(200, ge=60)
    meshes: int = Field(200, ge=60)
    shortest: float = Field(1.5, ge=0.2, le=60, description="seconds of a sound clip or video")
    longest: float = Field(3.0, ge=0.2, le=60, description="seconds of a sound clip or video")
    val: float = Field(0.1, ge=0, le=0.5, description="share of each class's training items kept for validation")
    codec: media.Codec = Field("libx264", description="encoder of the videos")

    def count(self, modality: str) -> int:
        """Number of items of a modality."""
        return {"audio": self.audio, "video": self.videos, "mesh": self.meshes}.get(modality, self.images)


def source(modality: str, index: int) -> str:
    """Path of an item relative to the root; the class of item `index` is `NAMES[index % 20]`."""
    number, kind = divmod(index, len(NAMES))
    return f"{xmedia.FOLDERS[modality]}/{NAMES[kind]}/{number:04d}.{ENDINGS[modality]}"


def tested(index: int) -> bool:
    """Whether an item belongs to the test part, which has every fifth item of each class."""
    return index // len(NAMES) % 5 == 2


def _draw(settings: Settings, root: Path, place: tuple[str, int]) -> None:
    modality, index = place
    what = instance(settings.seed, modality, index)
    with atomic_write(root / source(modality, index)) as path:
        if modality == "image":
            media.jpeg(path, pictures.picture(what))
        elif modality == "text":
            path.write_text(sentences.text(what) + "\n", encoding="utf-8")
        elif modality == "audio":
            media.wav(path, sounds.clip(what, settings.shortest, settings.longest), sounds.RATE)
        elif modality == "video":
            moving = pictures.frames(what, settings.shortest, settings.longest)
            media.mp4(path, moving, pictures.FRAMES_A_SECOND, settings.codec)
        else:
            media.off(path, *pictures.mesh(what))


def _left_over(name: str, ending: str, count: int) -> bool:
    """Whether a file name is that of an item beyond the last one, or of a half-written file."""
    drawn = re.fullmatch(rf"(\d{{4,}})\.{ending}", name)
    return bool((drawn and int(drawn[1]) >= count) or re.fullmatch(rf"\.\d+\.{ending}\.\d+\.part", name))


def draw(settings: Settings, root: Path, *, workers: int | None = None) -> None:
    """Write the raw files of the five-modality world in the layout that `xmedia` reads.

    Parameters
    ----------
    workers : number of processes, by default up to one per core; the files do not depend on it.

    Raises
    ------
    UserError : the disk is full, the folder cannot be written, or PyAV lacks the encoder.
    """
    places = [(modality, index) for modality in ENDINGS for index in range(settings.count(modality))]
    for modality, ending in ENDINGS.items():
        for kind, name in enumerate(NAMES):
            count = len(range(kind, settings.count(modality), len(NAMES)))
            clear(root / xmedia.FOLDERS[modality] / name, partial(_left_over, ending=ending, count=count))
    each(partial(_draw, settings, root), places, workers)
    write_text(root / "categories.txt", "".join(f"{name}\n" for name in NAMES))
    ordered = [(modality, index) for modality in items.MODALITIES for index in range(settings.count(modality))]
    for part, wanted in (("train", False), ("test", True)):
        listed = [source(modality, index) for modality, index in ordered if tested(index) is wanted]
        write_text(root / f"{part}.txt", "".join(f"{line}\n" for line in listed))


def make(settings: Settings, folder: Path, *, title: str) -> None:
    """Generate the raw files in `folder/raw`, read them as XMedia, and write the items into `folder`.

    Raises
    ------
    UserError : for the same reasons as `draw`.
    """
    root = folder / "raw"
    with suppress(OSError):  # `draw` reports a folder that cannot be written
        (folder / "items.parquet").unlink(missing_ok=True)  # outdated as soon as the files are written again
    draw(settings, root)
    reading = xmedia.Settings(root=root, val=settings.val, seed=settings.seed)
    frame = xmedia.read(reading, folder.name)
    manifest = {"reader": "media_world", "title": title, **xmedia.manifest(reading, frame, folder)}
    items.write(frame, folder, {**manifest, "settings": settings.model_dump()})
