"""Small inputs of each modality for the conformance test: n items, each its own, and how one of them is spoilt."""

from __future__ import annotations

import wave
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from crossmodal.core import registry
from crossmodal.features.engine import extraction, store
from tests.features import clips

WORDS = [
    "a",
    "red",
    "dog",
    "runs",
    "over",
    "the",
    "green",
    "hill",
    "and",
    "two",
    "small",
    "cats",
    "sit",
    "near",
    "that",
    "old",
    "house",
    "by",
    "night",
]


@dataclass(frozen=True)
class Maker:
    """`make` writes item n into a folder and returns its `source`; `spoil` returns the source of a damaged one."""

    make: Callable[[Path, int], str]
    spoil: Callable[[Path, str], str]
    empty: Callable[[Path, str], str]


def image(folder: Path, n: int) -> str:
    coarse = np.random.default_rng(n).integers(0, 256, (5, 7, 3), np.uint8)
    Image.fromarray(coarse).resize((90 + 5 * n, 120 - 3 * n), Image.Resampling.BICUBIC).save(folder / f"{n}.jpg")
    return f"{n}.jpg"


def text(folder: Path, n: int) -> str:
    return " ".join(np.random.default_rng(n).choice(WORDS, 5 + n, replace=True))


def video(folder: Path, n: int) -> str:
    return clips.write(folder / f"{n}.mp4", 3 + 5 * n, shade=10 * n).name


def audio(folder: Path, n: int) -> str:
    """Half a second of a tone with some noise."""
    time = np.arange(8000) / 16000
    tone = np.sin(2 * np.pi * 200 * (n + 1) * time) + np.random.default_rng(n).normal(0, 0.05, len(time))
    with wave.open(str(folder / f"{n}.wav"), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(16000)
        file.writeframes((8000 * tone).astype("<i2").tobytes())
    return f"{n}.wav"


def mesh(folder: Path, n: int) -> str:
    """A box of other proportions each time."""
    corners = np.array([[x, y, z] for x in (0, 1) for y in (0, 1) for z in (0, 1)]) * [1, 1 + n, 2 + n / 2]
    faces = [[0, 1, 3, 2], [4, 6, 7, 5], [0, 4, 5, 1], [2, 3, 7, 6], [0, 2, 6, 4], [1, 5, 7, 3]]
    lines = ["OFF", f"8 {2 * len(faces)} 0", *(" ".join(map(str, corner)) for corner in corners)]
    for a, b, c, d in faces:
        lines += [f"3 {a} {b} {c}", f"3 {a} {c} {d}"]
    (folder / f"{n}.off").write_text("\n".join(lines) + "\n")
    return f"{n}.off"


def row(folder: Path, n: int) -> str:
    """An array of one row per file."""
    np.save(folder / f"{n}.npy", np.random.default_rng(n).normal(size=(1, 6)))
    return f"{n}.npy#/0"


def released(folder: Path, n: int) -> str:
    """Regions of one image per file, as MCAN's and others' are."""
    rng = np.random.default_rng(n)
    count = 2 + n % 3
    np.savez(folder / f"{n}.jpg.npz", x=rng.normal(size=(count, 6)), bbox=rng.random((count, 4)), num_bbox=count)
    return f"{n}.jpg"


def of_released(spoil: Callable[[Path, str], str]) -> Callable[[Path, str], str]:
    return lambda folder, source: spoil(folder, f"{source}.npz").removesuffix(".npz")


def of_row(spoil: Callable[[Path, str], str]) -> Callable[[Path, str], str]:
    return lambda folder, source: f"{spoil(folder, source.partition('#')[0])}#/0"


def cut(folder: Path, source: str) -> str:
    """The file without its last third."""
    data = (folder / source).read_bytes()
    (folder / f"cut-{source}").write_bytes(data[: 2 * len(data) // 3])
    return f"cut-{source}"


def nothing(folder: Path, source: str) -> str:
    (folder / f"empty-{source}").write_bytes(b"")
    return f"empty-{source}"


MAKERS = {
    "image": Maker(image, cut, nothing),
    "text": Maker(text, lambda folder, source: "\t \n", lambda folder, source: ""),
    "video": Maker(video, cut, nothing),
    "audio": Maker(audio, cut, nothing),
    "mesh": Maker(mesh, cut, nothing),
    "released": Maker(released, of_released(cut), of_released(nothing)),
    "row": Maker(row, of_row(cut), of_row(nothing)),
}


def extracted(extractor: str, folder: Path, modality: str, sources: list[str], **settings: object) -> store.Features:
    """Features of training items in the precision fp32, which an extractor of towers writes into `folder`."""
    rows = pd.DataFrame(
        {"item_id": [f"i{n}" for n in range(len(sources))], "modality": modality, "partition": "train"}
    ).assign(source=sources)
    module = registry.module("features", extractor)
    validated = module.Settings.model_validate({"precision": "fp32", **settings})
    target = folder / f"{modality}.{len(list(folder.iterdir()))}"
    extraction.run(extractor, rows, folder, validated, target, threads=2, modality=modality)
    return store.open_features(target)
