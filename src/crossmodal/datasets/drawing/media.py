"""Writers of drawn items as JPEG, WAV, MP4 and OFF files, whose bytes are reproducible."""

from __future__ import annotations

import io
from collections.abc import Iterable
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image

from crossmodal.core.errors import UserError

Codec = Literal["libx264", "mpeg4"]


def jpeg(path: Path, image: Image.Image) -> None:
    """Write an RGB picture."""
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=90)
    path.write_bytes(buffer.getvalue())


def wav(path: Path, wave: np.ndarray, rate: int) -> None:
    """Write (T,) int16 samples as a mono file of `rate` Hz."""
    import soundfile

    soundfile.write(path, wave, rate, subtype="PCM_16", format="WAV")


def mp4(path: Path, frames: Iterable[np.ndarray], rate: int, codec: Codec) -> None:
    """Write frames of (H, W, 3) uint8, with even H and W, as a video of `rate` frames per second.

    A single thread encodes it, and neither the time nor the library's version is stored, so that the bytes are
    reproducible.

    Raises
    ------
    UserError : the installed PyAV lacks the encoder.
    """
    import av

    if codec not in av.codecs_available:
        raise UserError(f"{path.name}: PyAV {av.__version__} has no encoder {codec!r}; set `codec` to the other one")
    # With its assembly code, x264 gives different bytes on different CPUs and even in different processes.
    options = {"preset": "ultrafast", "crf": "22", "x264-params": "no-asm=1"} if codec == "libx264" else {"qscale": "4"}
    with av.open(str(path), "w", format="mp4", options={"fflags": "+bitexact"}) as container:
        stream = None
        for frame in frames:
            if stream is None:
                stream = container.add_stream(
                    codec, rate=rate, options={**options, "threads": "1", "flags": "+bitexact"}
                )
                stream.height, stream.width, stream.pix_fmt = *frame.shape[:2], "yuv420p"
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())


def off(path: Path, vertices: np.ndarray, faces: np.ndarray) -> None:
    """Write a mesh of (V, 3) vertices and (F, 3) faces."""
    import trimesh

    solid = trimesh.Trimesh(vertices, faces, process=False)
    path.write_text(trimesh.exchange.off.export_off(solid, digits=5), encoding="ascii")
