"""Short videos whose frames can be told apart by hand: frame n is grey, of brightness 20 + 4 (n modulo 50)."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np

CODECS = {
    "mp4": ("libx264", {"g": "10", "qp": "1", "bf": "2"}),
    "mkv": ("libx264", {"g": "10", "qp": "1", "bf": "2", "x264-params": "open-gop=1"}),
    "webm": ("libvpx-vp9", {"g": "10", "cpu-used": "8", "deadline": "realtime", "crf": "4", "b": "0"}),
    "avi": ("mpeg4", {"g": "10", "qmin": "1", "qmax": "1", "bf": "2"}),
    "mov": ("mjpeg", {"qmin": "1", "qmax": "1"}),
}


def write(
    path: Path, count: int, *, ticks: list[int] | None = None, rate: int = 20, turned: int = 0, shade: int = 0
) -> Path:
    """A video of `count` frames by the codec of its suffix.

    `ticks` are when they begin and when the last one ends, in hundredths of a second; `turned`, the degrees by which a
    player turns them against the clock; `shade`, how much darker the lower half is.
    """
    codec, options = CODECS[path.suffix[1:]]
    options = {**options, "bf": "0"} if ticks else options
    with av.open(str(path), "w", options={"movflags": "faststart"} if path.suffix == ".mp4" else {}) as container:
        stream = container.add_stream(codec, rate=rate, options=options)
        stream.width, stream.height = 96, 64
        stream.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
        stream.codec_context.thread_count = 1
        if ticks is not None:
            stream.time_base = stream.codec_context.time_base = Fraction(1, 100)
        if turned:
            stream.set_display_rotation(turned)
        packets = [packet for n in range(count) for packet in stream.encode(_frame(n, ticks, turned, shade))]
        packets += stream.encode()
        for n, packet in enumerate(packets):
            if ticks:
                packet.duration = round(Fraction(ticks[n + 1] - ticks[n], 100) / packet.time_base)
            container.mux(packet)
    return path


def _frame(n: int, ticks: list[int] | None, turned: int, shade: int) -> av.VideoFrame:
    pixels = np.full((64, 96, 3), 20 + 4 * (n % 50), np.uint8)
    pixels[32:] -= np.minimum(shade, pixels[32:])
    if turned:
        pixels[:, :30] = 255
    frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
    if ticks:
        frame.pts, frame.time_base = ticks[n], Fraction(1, 100)
    return frame


def numbers(pixels) -> list[int]:
    """Which frames crops (F, 3, H, W) are of."""
    return [round((float(one.float().mean()) - 20) / 4) for one in pixels]
