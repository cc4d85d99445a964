"""Limits on the resources of a file before it is refused; hostile files exceed them, but real data do not.

They are the settings `limits` in params.yaml, for users who do have such data. One set of them holds in a process.
"""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

GIB = 2**30


class Limits(BaseModel):
    """The block `limits` of params.yaml."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    pixels: int = Field(
        50_000_000, ge=1, description="pixels of a picture; a picture of 50 million pixels takes 150 MB in each thread"
    )
    frame_pixels: int = Field(
        36_000_000, ge=1, description="pixels of a frame of a video; a frame of 8K has 35 million at most"
    )
    film_pixels: int = Field(
        5 * 10**9,
        ge=1,
        description="pixels of all frames of a video that are decoded for one item; eight frames in full HD, each with "
        "the 250 before it that it depends on, have 4 billion",
    )
    packets: int = Field(2**19, ge=1, description="packets of all streams of a video: two hours with sound")
    sound_rate: int = Field(1_000_000, ge=1, description="samples per second of a sound")
    sound_ratio: int = Field(
        200_000,
        ge=1,
        description="the larger of the smallest whole numbers whose ratio is that of a sound's rate to its features'",
    )
    samples: int = Field(
        100_000_000, ge=1, description="samples per channel of a sound: half an hour at 48,000 per second"
    )
    sound_values: int = Field(
        200_000_000,
        ge=1,
        description="samples of all channels of a sound, of which each counts as 2 to 25 where its codec is that much "
        "slower than usual ones (Opus 4, GSM 8): two channels of `samples`, or 50 minutes of a telephone",
    )
    mesh_bytes: int = Field(GIB // 4, ge=1, description="bytes of the file of a mesh")
    faces: int = Field(2_000_000, ge=1, description="faces of a mesh")
    outline: int = Field(
        400_000_000,
        ge=1,
        description="rows of pixels that the edges of a mesh cross in its 100 silhouettes: those of 20,000 loose "
        "triangles of its whole size, or of millions of small ones",
    )
    corners: int = Field(2000, ge=3, description="corners of one face of a mesh")
    unpacked: int = Field(GIB // 4, ge=1, description="bytes to which compressed data of any ratio may expand")
    ratio: float = Field(
        200,
        ge=1,
        description="ratio of unpacked to packed bytes above which more than `unpacked` bytes count as a "
        "decompression bomb",
    )
    whole_bytes: int = Field(
        3 * GIB // 4,
        ge=1,
        description="bytes of an array that is read as a whole, such as labels, twice, since rows are chosen from it; "
        "or of an .npy file that is stored or read column by column, all of which each row reads",
    )
    line: int = Field(2**24, ge=1, description="bytes of a line of a text file")
    caption_words: int = Field(
        10_000, ge=1, description="words of a caption with which others are compared, which takes their product in time"
    )
    word_dim: int = Field(100_000, ge=1, description="numbers of a word vector")
    record_bytes: int = Field(
        2**25,
        ge=1,
        description="bytes of a small JSON file: metrics of a run, or a manifest of a run, of items or of features",
    )
    yaml_bytes: int = Field(
        2**21, ge=1, description="bytes of a YAML file: settings, a paper, or a run's `config.yaml`"
    )
    files: int = Field(
        2_000_000, ge=1, description="files and folders below a folder that is read or searched as a whole"
    )
    yaml_nodes: int = Field(50_000, ge=1, description="values of a YAML file, including those that aliases repeat")
    item_seconds: float = Field(
        300, gt=0, description="seconds for opening one file, after which the process counts as stuck"
    )
    item_memory: int = Field(
        4 * GIB, ge=2**20, lt=2**63, description="bytes by which the process may grow while it opens one file"
    )
    links: Literal["within", "anywhere"] = Field(
        "within", description="where a link in a data set's folder may lead: within that folder, or anywhere"
    )


_limits = Limits()


def current() -> Limits:
    """The limits that hold in this process."""
    return _limits


def use(limits: Limits) -> None:
    """Set the limits of this process."""
    global _limits
    _limits = limits


def is_bomb(packed: int, unpacked: int) -> bool:
    """Whether few bytes unpack to so many that the file must be meant to fill the memory."""
    return unpacked > _limits.unpacked and unpacked > _limits.ratio * max(packed, 1)
