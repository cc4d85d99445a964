"""The registry of downloads: pydantic models of `origins.yaml`, and torchvision's weights by network name."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path, PurePosixPath
from typing import Literal
from urllib.parse import urlsplit

import yaml
from pydantic import BaseModel, ConfigDict, Field, model_validator

from crossmodal.core.errors import UserError, suggestion

REGISTRY = Path(__file__).with_name("origins.yaml")
TORCHVISION = "torchvision/"


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Check(_Strict):
    """A published checksum of a file."""

    sha256: str | None = Field(None, pattern="^[0-9a-f]{64}$")
    md5: str | None = Field(None, pattern="^[0-9a-f]{32}$")
    sha256_begins: str | None = Field(None, pattern="^[0-9a-f]{8,63}$")

    @model_validator(mode="after")
    def _one(self) -> Check:
        if len(self.model_dump(exclude_none=True)) != 1:
            raise ValueError("check: expected one of sha256, md5 and sha256_begins, or `none`")
        return self


class SourceFile(_Strict):
    """A file to download, and where it or its content goes."""

    url: str
    name: str = Field("", description="name of the file, where the address ends differently")
    folder: str = Field("", description="folder in which a file that is no archive is placed")
    unpack: str | None = Field(None, description="folder into which the whole archive is unpacked")
    members: dict[str, str] = Field(
        {}, description="mapping of files of an archive to the folders into which they are placed"
    )
    check: Check | Literal["none"]

    @property
    def file_name(self) -> str:
        """The name of the file: `name`, or the last part of the URL."""
        return self.name or PurePosixPath(urlsplit(self.url).path).name

    @property
    def is_archive(self) -> bool:
        """Whether the file is unpacked after the download."""
        return self.unpack is not None or bool(self.members)


class Origin(_Strict):
    """A data set or model that can be downloaded, or must be requested by hand."""

    title: str
    home: str
    licence: str
    about: str = Field("", description="total size, in words")
    files: list[SourceFile] = []
    by_hand: str = Field("", description="how to obtain data that are given out on request only")

    @model_validator(mode="after")
    def _one(self) -> Origin:
        if bool(self.files) == bool(self.by_hand):
            raise ValueError("expected either `files` or `by_hand`")
        return self


@cache
def origins(path: Path = REGISTRY) -> dict[str, Origin]:
    """{name: origin} of all entries of `origins.yaml`."""
    return {name: Origin.model_validate(value) for name, value in yaml.safe_load(path.read_text("utf-8")).items()}


def named(name: str, path: Path = REGISTRY) -> Origin:
    """The origin with the given name; `torchvision/resnet152` stands for the weights of that network.

    Raises
    ------
    UserError : the name is unknown, or the data must be requested by hand; the message explains how.
    """
    if name.startswith(TORCHVISION):
        return _weights(name.removeprefix(TORCHVISION))
    listed = origins(path)
    if name not in listed:
        hint = suggestion(name, listed)
        raise UserError(f"download {name!r}: is unknown{hint}; or torchvision/NETWORK, such as torchvision/resnet152")
    origin = listed[name]
    if origin.by_hand:
        raise UserError(
            f"download {name!r}: {origin.title} must be asked for by hand: {origin.by_hand} ({origin.home})"
        )
    return origin


def _weights(network: str) -> Origin:
    """torchvision's weights of a network, which go into torch's folder of checkpoints, where extractors find them."""
    import torch
    from torchvision.models import get_model_weights, list_models

    if network not in list_models():
        raise UserError(f"download '{TORCHVISION}{network}': no such network" + suggestion(network, list_models()))
    weights = next(candidate for candidate in get_model_weights(network) if candidate.name.endswith("V1"))
    # The name of a file ends with the first digits of its SHA-256, which torch's own loader also checks.
    begins = re.search(r"-([0-9a-f]{8,})\.pth$", weights.url)
    folder = Path(torch.hub.get_dir()) / "checkpoints"
    check = Check(sha256_begins=begins[1]) if begins else "none"
    return Origin(
        title=f"torchvision's {network}, {weights.name}",
        home="https://pytorch.org/vision/stable/models.html",
        licence="BSD 3-Clause (torchvision); trained on ImageNet, whose terms allow non-commercial research.",
        about=f"{weights.meta.get('_file_size', 0):.0f} MB",
        files=[SourceFile(url=weights.url, folder=str(folder), check=check)],
    )
