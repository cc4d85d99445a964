"""Video features: the mean of the image extractor's features over frames that are evenly spaced in time.

The video features of XMedia and XMediaNet come from a convolutional network applied to frames, whose number is not
published. Sound, motion and the aspect ratio of pixels are ignored.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path

import av
import numpy as np
import torch
from PIL import Image
from pydantic import Field
from torch import Tensor, nn

from crossmodal.core import films, isolation
from crossmodal.core.errors import UserError
from crossmodal.features import image
from crossmodal.features.engine import extraction
from crossmodal.features.engine.extraction import Given, Recipe, Work
from crossmodal.features.networks import backbones

log = logging.getLogger(__name__)

SLACK = 0.5  # seconds by which a file may end before the duration in its header


class Settings(image.Settings):
    """The image extractor's settings, which apply to each frame; only `l2` applies to the mean."""

    frames: int = Field(8, ge=1, description="number of moments, evenly spaced in time, whose frames are averaged")


@dataclass(frozen=True)
class Clip:
    """The sampled frames of a video."""

    pixels: Tensor  # (F, C, H, W) uint8 crops, or (F, 10, C, H, W)
    weights: Tensor  # (F,) float32 share of the moments at which each frame is shown
    times: list[float]  # (F,) seconds since the first frame


def decode(path: Path, settings: Settings) -> Clip:
    """Decode the frames that are shown at the middles of `settings.frames` equal parts of a video's duration.

    Times are the frames' own timestamps, so that a variable frame rate or a missing duration does no harm. A frame that
    is shown at several of the moments (in a video of few frames) is decoded once and weighted accordingly. The rotation
    stated in the file is applied.

    Raises
    ------
    UserError : the file is missing, is no video or has no frames, or the container or decoder detects damage; a
        truncated video is refused, as a truncated photograph is.
    """
    packets, base = _packets(path)
    shown = [packet for packet in packets if packet.shown]
    stamps = [packet.pts for packet in shown]
    if stamps and None not in stamps and len(set(stamps)) == len(stamps):
        last = max(shown, key=lambda packet: packet.pts)
        chosen = spread(stamps, settings.frames, last.duration)
        frames = _decode_some(path, packets, {stamps[n] for n in chosen}, settings)
        if len(frames) == len(chosen):
            return _clip({n: frames[stamps[n]] for n in chosen}, chosen, [t * base for t in stamps], settings)
        log.debug("%s: has frames that its timestamps do not announce, and is decoded completely", path)
    seconds = [second for second, _ in _decode_all(path)]
    if not seconds:
        raise UserError(f"{path}: holds no video frames; leave it out or fetch it again")
    chosen = spread(seconds, settings.frames)
    frames = {n: _pixels(frame, settings) for n, (_, frame) in enumerate(_decode_all(path)) if n in chosen}
    return _clip(frames, chosen, seconds, settings)


def spread(times: Sequence[float], count: int, last: float = 0) -> dict[int, int]:
    """{index of a frame: number of the `count` moments at which it is shown}, in the order of time.

    The moments are the middles of `count` equal parts of the time from the first frame to the end of the last.

    Parameters
    ----------
    times : the start time of each frame, in any unit and order.
    last : the duration of the last frame; if it is 0 (unknown), the median duration of the others is used.
    """
    order = np.argsort(np.asarray(times), kind="stable")
    begins = np.asarray(times)[order] - min(times)
    gaps = np.diff(begins)
    length = begins[-1] + (last or (np.median(gaps) if len(gaps) else 1))
    moments = (2 * np.arange(count) + 1) * length / (2 * count)
    picked = np.searchsorted(begins, moments + 1e-9 * length, side="right") - 1  # counts frames that begin at a moment
    return {int(order[n]): int(m) for n, m in zip(*np.unique(picked, return_counts=True), strict=True)}


def _clip(frames: dict[int, Tensor], chosen: dict[int, int], seconds: list[float], settings: Settings) -> Clip:
    pixels = torch.stack([frames[n] for n in chosen])
    shares = torch.tensor([float(moments) for moments in chosen.values()]) / settings.frames
    first = min(seconds)
    return Clip(pixels, shares, [round(float(seconds[n] - first), 6) for n in chosen])


# -- reading ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Packet:
    pts: int | None
    duration: int
    key: bool
    shown: bool


def _packets(path: Path) -> tuple[list[_Packet], float]:
    """The packets of the video in decoding order, without decoding them, and the unit of the timestamps in seconds.

    Raises
    ------
    UserError : the file is truncated, as far as its container shows it.
    """
    packets, end = [], 0.0
    with films.opened(path) as (container, stream):
        base = float(stream.time_base)
        try:
            for number, packet in enumerate(container.demux()):
                films.check_packets(path, number)
                if packet.pts is not None:
                    end = max(end, float((packet.pts + (packet.duration or 0)) * packet.time_base))
                if packet.stream_index != stream.index or not packet.size:
                    continue
                if packet.is_corrupt:
                    raise _damaged(path, packet.pts, base, "it ends in the middle of a frame")
                shown = not packet.is_discard
                packets.append(_Packet(packet.pts, packet.duration or 0, packet.is_keyframe, shown))
        except films.UNREADABLE as error:
            raise _damaged(path, packets[-1].pts if packets else None, base, films.reason(error)) from None
        stated = container.duration
        if "matroska" in container.format.name and stated and end < stated / av.time_base - SLACK:
            raise UserError(f"{path}: ends after {end:.1f} of {stated / av.time_base:.1f} seconds; fetch it again")
    return packets, base


def _decode_some(path: Path, packets: list[_Packet], wanted: set[int], settings: Settings) -> dict[int, Tensor]:
    """{timestamp: pixels} of the wanted frames; only the packets that they depend on are decoded."""
    send = _needed(packets, wanted)
    pixels: dict[int, Tensor] = {}
    decoded = 0

    def keep(frames: list[av.VideoFrame]) -> None:
        nonlocal decoded
        for frame in frames:
            decoded += frame.width * frame.height  # later frames may be larger than the first
            films.check_pixels(path, decoded)
            if frame.pts in wanted:
                if frame.is_corrupt:
                    raise _damaged(path, frame.pts, base, "a frame is incomplete")
                pixels[frame.pts] = _pixels(frame, settings)

    with films.opened(path) as (container, stream):
        base, codec, before, at = float(stream.time_base), stream.codec_context, None, None
        films.check_pixels(path, len(send) * codec.width * codec.height)
        try:
            codec.open(False)  # before `skip_frame` is set, which some decoders read only when they are opened
            for n, packet in enumerate(packet for packet in container.demux(stream) if packet.size):
                if n not in send:
                    continue
                if before is not None and before != n - 1:
                    keep(codec.decode(None))
                    codec.flush_buffers()
                before, at = n, packet.pts
                codec.skip_frame = "DEFAULT" if packet.pts in wanted else "NONREF"
                keep(codec.decode(packet))
                if n == max(send):
                    break
            keep(codec.decode(None))
        except films.UNREADABLE as error:
            raise _damaged(path, at, base, films.reason(error)) from None
    return pixels


def _needed(packets: list[_Packet], wanted: set[int]) -> set[int]:
    """Indices of the packets to decode: from a key frame to the last wanted packet before the next key frame."""
    keys = [n for n, packet in enumerate(packets) if packet.key] or [0]
    starts = [*keys, len(packets)]
    needed: set[int] = set()
    for number, (start, stop) in enumerate(pairwise(starts)):
        inside = [n for n in range(start, stop) if packets[n].pts in wanted]
        if not inside:
            continue
        needed.update(range(start, max(inside) + 1))
        # Frames shown before the key frame that they follow may depend on the frames before it.
        if number and any(packets[n].pts < packets[start].pts for n in inside):
            needed.update(range(starts[number - 1], start))
    return needed


def _decode_all(path: Path) -> Iterator[tuple[float, av.VideoFrame]]:
    """Yield (time in seconds, frame) of all frames; times follow from the frame rate if timestamps are missing."""
    with films.opened(path) as (container, stream):
        gap = float(1 / (stream.average_rate or stream.guessed_rate or 25))
        base, second = float(stream.time_base), -gap
        try:
            for frame in films.frames(path, container, stream):
                second = second + gap if frame.pts is None else frame.pts * base
                if frame.is_corrupt:
                    raise _damaged(path, frame.pts, base, "a frame is incomplete")
                yield second, frame
        except films.UNREADABLE as error:
            raise _damaged(path, round(second / base), base, films.reason(error)) from None


def _pixels(frame: av.VideoFrame, settings: Settings) -> Tensor:
    """The crops of a frame, made at once, since whole frames may take hundreds of megabytes each."""
    return image.transform(_picture(frame), settings)


def _picture(frame: av.VideoFrame) -> Image.Image:
    picture = frame.to_image()
    return picture.rotate(frame.rotation, expand=True) if frame.rotation else picture


def _damaged(path: Path, stamp: int | None, base: float, why: str) -> UserError:
    where = f" {max(0.0, stamp * base):.2f} s after its start" if stamp is not None else ""
    return UserError(f"{path}: is damaged{where} ({why}); fetch it again")


# -- computing --------------------------------------------------------------------------------------------------------


def recipe(settings: Settings, given: Given) -> Recipe:
    """Recipe for the (N, D) features of videos.

    The index keeps the number of `frames` used and their `times` in seconds.

    Raises
    ------
    UserError : a video or the weights cannot be read.
    """
    extraction.expect("video", given.modality, "video")
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model, facts = backbones.build(settings)
    sampling = {
        "moments": "middles of equal parts of the time",
        "pooling": "mean of the moments' frames, then the norm",
        "rotation": "as the file asks",
    }
    return Recipe(
        lambda listed: work(model, settings, device, [item.path for item in listed]),
        {**image.described(settings, facts), "sampling": sampling},
        packages=("av", "torchvision", "pillow"),
    )


def work(model: nn.Module, settings: Settings, device: torch.device, paths: list[Path]) -> Work:
    """How to read videos and compute their features with a network without its classifier; see `image.work`."""
    bare = settings.model_copy(update={"l2": False})

    def probe(path: Path) -> Tensor:
        with isolation.holding(path):
            return decode(path, settings).pixels[0]

    run, facts = image.runner(model, bare, device, [partial(probe, path) for path in paths])

    def compute(clips: list[Clip]) -> tuple[np.ndarray, dict[str, list]]:
        pixels = torch.cat([clip.pixels for clip in clips])
        frames = torch.cat([run(part) for part in pixels.split(settings.batch)])
        parts = frames.split([len(clip.pixels) for clip in clips])
        means = torch.stack([clip.weights @ part for clip, part in zip(clips, parts, strict=True)])
        out = nn.functional.normalize(means, dim=1) if settings.l2 else means
        index = {"frames": [len(clip.times) for clip in clips], "times": [clip.times for clip in clips]}
        return out.numpy(), index

    batch = max(1, settings.batch // settings.frames)
    return Work(lambda item: decode(item.path, settings), compute, batch, facts)
