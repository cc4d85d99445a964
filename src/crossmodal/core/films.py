"""Opens all films: it defines which formats are read, and how large a frame may be.

FFmpeg detects the format by a file's content, whatever its name, and the playlists among its formats open further
files, anywhere. Therefore only formats that hold the film itself are tried.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import av
from av.container import InputContainer
from av.stream import Disposition
from av.video.stream import VideoStream

from crossmodal.core import limits
from crossmodal.core.errors import UserError

# FFmpeg's names of the formats of films.
FORMATS = (
    *("mov", "mp4", "m4a", "3gp", "3g2", "mj2", "matroska", "webm", "avi", "asf", "flv", "mpeg", "mpegts", "mpegvideo"),
    *("m4v", "h264", "hevc", "vvc", "av1", "obu", "ivf", "ogg", "rm", "nut", "mxf", "dv", "mjpeg", "gif", "apng"),
    *("yuv4mpegpipe", "swf", "wtv", "nsv", "roq", "bink", "smk", "vob", "h261", "h263", "vc1"),
    *("wav", "w64", "mp3", "flac", "aac", "aiff", "caf"),  # which are told apart from damaged films
)
UNREADABLE = (av.FFmpegError, OSError, ValueError)

av.logging.set_level(av.logging.PANIC)  # exceptions already carry FFmpeg's messages on bad files


@contextmanager
def opened(path: Path) -> Iterator[tuple[InputContainer, VideoStream]]:
    """The container and its first video stream (cover pictures do not count), decoded by the calling thread only.

    Raises
    ------
    UserError : the file is missing, no film of `FORMATS`, without video, or with frames of more than
        `limits.frame_pixels`.
    """
    most = limits.current().frame_pixels
    options = {"format_whitelist": ",".join(FORMATS), "protocol_whitelist": "file"}
    try:
        container = av.open(str(path), options=options)
    except FileNotFoundError:
        raise UserError(f"{path}: not found; complete the video folder and run again") from None
    except UNREADABLE as error:
        raise UserError(f"{path}: is truncated or no video ({reason(error)}); fetch it again") from None
    with container:
        videos = [s for s in container.streams.video if not s.disposition & Disposition.attached_pic]
        if not videos:
            others = ", ".join(sorted({stream.type for stream in container.streams}))
            told = f"has no video stream, only {others}" if others else "holds no video frames"
            raise UserError(f"{path}: {told}; leave it out or fetch it again")
        codec = videos[0].codec_context
        if codec is None:
            raise UserError(f"{path}: is coded in a way that FFmpeg does not know; convert it to H.264")
        if codec.width * codec.height > most:
            raise UserError(
                f"{path}: has frames of {codec.width} x {codec.height} pixels, expected at most {most / 10**6:g} "
                "million (`limits.frame_pixels` in params.yaml); scale it down"
            )
        codec.thread_count = 1
        codec.options = {"max_pixels": str(most)}  # later frames may be larger than the first
        yield container, videos[0]


def frames(path: Path, container: InputContainer, stream: VideoStream) -> Iterator[av.VideoFrame]:
    """All frames of an opened film.

    Raises
    ------
    UserError : they have more than `limits.film_pixels` in all.
    """
    pixels = 0
    for frame in container.decode(stream):
        pixels += frame.width * frame.height
        check_pixels(path, pixels)
        yield frame


def check_pixels(path: Path, pixels: int) -> None:
    """Refuse a film of which more than `limits.film_pixels` would be decoded.

    Raises
    ------
    UserError : there are more.
    """
    if pixels > (most := limits.current().film_pixels):
        raise UserError(
            f"{path}: {pixels:,} pixels of its frames would have to be decoded, expected at most {most:,} "
            "(`limits.film_pixels` in params.yaml); scale it down, or write it again with more key frames"
        )


def check_packets(path: Path, count: int) -> None:
    """Refuse a film of more than `limits.packets`.

    Raises
    ------
    UserError : there are more.
    """
    if count > (most := limits.current().packets):
        raise UserError(f"{path}: has more than {most:,} packets (`limits.packets` in params.yaml); cut it into clips")


def reason(error: Exception) -> str:
    """What FFmpeg says of an error."""
    return getattr(error, "strerror", None) or str(error)
