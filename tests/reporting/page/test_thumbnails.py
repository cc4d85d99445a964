"""Small copies of items: of the size they should have, of the kind that browsers play, nothing of broken files."""

from __future__ import annotations

import base64
import io
import logging
import subprocess
import sys
from pathlib import Path

import av
import numpy as np
import pytest
import soundfile
from PIL import Image

from crossmodal.datasets.drawing import media as files
from crossmodal.reporting.page.thumbnails import HEIGHT, SECONDS, medium


def decoded(uri: str, kind: str) -> io.BytesIO:
    head, data = uri.split(",", 1)
    assert head == f"data:{kind};base64"
    return io.BytesIO(base64.b64decode(data))


def test_pictures(tmp_path: Path) -> None:
    Image.new("RGB", (640, 480), "teal").save(tmp_path / "a.jpg")
    with Image.open(decoded(medium(tmp_path / "a.jpg", "image").picture, "image/jpeg")) as small:
        assert (small.format, small.size) == ("JPEG", (149, HEIGHT))


@pytest.mark.parametrize("rate", [8000, 44_100, 9999])
def test_sounds(tmp_path: Path, rate: int) -> None:
    seconds = SECONDS + 1
    wave = 0.5 * np.sin(2 * np.pi * 440 * np.arange(int(seconds * rate)) / rate)
    soundfile.write(tmp_path / "a.wav", wave, rate)
    made = medium(tmp_path / "a.wav", "audio")
    with soundfile.SoundFile(decoded(made.player, "audio/mpeg")) as file:
        heard, heard_rate = file.read(), file.samplerate
    assert len(heard) / heard_rate == pytest.approx(SECONDS, abs=0.15)
    middle = heard[heard_rate : 2 * heard_rate]
    assert np.argmax(np.abs(np.fft.rfft(middle))) == pytest.approx(440, abs=2)
    assert b"<svg" in decoded(made.picture, "image/svg+xml").getvalue()


def test_films(tmp_path: Path) -> None:
    shades = [np.full((96, 160, 3), 8 * i, np.uint8) for i in range(30)]
    files.mp4(tmp_path / "a.mp4", shades, 15, "libx264")
    made = medium(tmp_path / "a.mp4", "video")
    with av.open(decoded(made.player, "video/mp4")) as container:
        stream = container.streams.video[0]
        assert (stream.codec_context.name, stream.height, stream.width) == ("h264", HEIGHT, 186)
        shown = [frame.to_ndarray(format="gray").mean() for frame in container.decode(stream)]
    assert len(shown) == 20
    assert shown == sorted(shown)
    with Image.open(decoded(made.picture, "image/jpeg")) as poster:
        assert np.asarray(poster.convert("L")).mean() == pytest.approx(shown[10], abs=6)


def test_meshes(tmp_path: Path) -> None:
    corners = np.array([[x, y, z] for x in (0, 1) for y in (0, 1) for z in (0, 1)], float)
    import trimesh

    box = trimesh.convex.convex_hull(corners)
    files.off(tmp_path / "a.off", np.asarray(box.vertices), np.asarray(box.faces))
    with Image.open(decoded(medium(tmp_path / "a.off", "mesh").picture, "image/png")) as picture:
        assert picture.size == (HEIGHT, HEIGHT)
        pixels = np.asarray(picture.convert("RGBA")).astype(int)
    assert pixels[0, 0, 3] == 0
    inside = pixels[pixels[..., 3] == 255]
    assert 0.4 < len(inside) / HEIGHT**2 < 0.9
    assert len({shade // 8 for shade in inside[:, 2]}) >= 3  # three sides of a box, each in its own light


@pytest.mark.parametrize("kind", ["image", "audio", "video", "mesh"])
def test_what_cannot_be_read_is_left_out(tmp_path: Path, caplog, kind: str) -> None:
    (tmp_path / "b.bin").write_bytes(b"nothing of the sort")
    with caplog.at_level(logging.WARNING):
        for name in ("b.bin", "missing.bin"):
            assert medium(tmp_path / name, kind).picture is None
            assert name in caplog.text


@pytest.mark.parametrize("size", [(12_400_000, 4), (4, 12_400_000)])
def test_a_thin_picture_takes_no_more_than_its_pixels(tmp_path: Path, size: tuple[int, int]) -> None:
    """Without thinning it out first, the weights of the filter take five times the bytes of the picture."""
    Image.new("L", size).save(tmp_path / "a.png")
    program = (
        "import sys; from pathlib import Path; from PIL import Image; from crossmodal.core import files, pictures\n"
        "from crossmodal.reporting.page import thumbnails\n"
        "first = files.peak_memory_mib(); made = thumbnails.medium(Path(sys.argv[1]), 'image')\n"
        "assert made.picture; print(files.peak_memory_mib() - first)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, tmp_path / "a.png"], capture_output=True, text=True, check=True
    )
    assert float(done.stdout) < 500
