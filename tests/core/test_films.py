"""Films are opened in formats that hold them, never as lists of other files, with frames of a bounded size."""

import os
from contextlib import nullcontext

import av
import numpy as np
import pytest

from crossmodal.core import films, limits, sounds
from crossmodal.core.errors import UserError
from crossmodal.datasets.drawing.media import mp4
from crossmodal.features import video
from crossmodal.reporting.page import thumbnails

PLAYLIST = "#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXT-X-VERSION:3\n#EXTINF:10,\n{}\n#EXT-X-ENDLIST\n"


def film(path, size=(64, 64)):
    mp4(path, [np.full((*size[::-1], 3), 128, np.uint8)] * 8, 8, "libx264")
    return path


@pytest.mark.parametrize(
    ("name", "text"), [("x.m3u8", PLAYLIST), ("x.mp4", PLAYLIST), ("x.mp4", "ffconcat version 1.0\nfile link.mp4\n")]
)
def test_a_list_of_other_files_is_no_film(tmp_path, name, text):
    private = film(tmp_path / "private.mp4")
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "link.mp4").symlink_to(private)
    (tmp_path / "set" / name).write_text(text.format(private))
    with pytest.raises(UserError, match="is truncated or no video"), films.opened(tmp_path / "set" / name):
        pass
    assert thumbnails.medium(tmp_path / "set" / name, "video").picture is None


def test_the_film_itself_is_opened(tmp_path):
    with films.opened(film(tmp_path / "x.mp4")) as (container, stream):
        assert len(list(container.decode(stream))) == 8
    assert thumbnails.medium(tmp_path / "x.mp4", "video").picture is not None


def test_frames_are_bounded_on_pages_too(tmp_path, monkeypatch):
    film(tmp_path / "x.mp4")
    monkeypatch.setattr(limits, "_limits", limits.Limits(frame_pixels=64 * 64 - 1))
    with pytest.raises(UserError, match="has frames of 64 x 64 pixels"), films.opened(tmp_path / "x.mp4"):
        pass
    assert thumbnails.medium(tmp_path / "x.mp4", "video").picture is None


def test_all_frames_of_a_film_together_are_bounded(tmp_path, monkeypatch):
    """Eight frames of 64 x 64 have 32,768 pixels, and eight packets."""
    path = film(tmp_path / "x.mp4")
    settings = video.Settings(network="resnet18", weights="none", frames=8, resize=16, crop=16)
    for most, opens in (({"film_pixels": 32_768, "packets": 8}, True), ({"film_pixels": 32_767}, False)):
        monkeypatch.setattr(limits, "_limits", limits.Limits(**most))
        assert (thumbnails.medium(path, "video").picture is not None) == opens
        with nullcontext() if opens else pytest.raises(UserError, match="32,768 pixels of its frames would have to be"):
            assert len(video.decode(path, settings).times) == 8
    monkeypatch.setattr(limits, "_limits", limits.Limits(packets=7))
    with pytest.raises(UserError, match="has more than 7 packets"):
        video.decode(path, settings)


def test_later_frames_may_not_be_larger(tmp_path, monkeypatch):
    for size in ((64, 64), (256, 256)):
        with av.open(str(tmp_path / f"{size[0]}.mjpeg"), "w") as container:
            video = container.add_stream("mjpeg", rate=5)
            video.width, video.height, video.pix_fmt = *size, "yuvj420p"
            for packet in [*video.encode(av.VideoFrame(*size, "yuvj420p")), *video.encode()]:
                container.mux(packet)
    both = tmp_path / "both.mjpeg"
    both.write_bytes((tmp_path / "64.mjpeg").read_bytes() * 3 + (tmp_path / "256.mjpeg").read_bytes() * 3)
    with films.opened(both) as (container, video):
        assert {frame.width for frame in container.decode(video)} == {64, 256}
    monkeypatch.setattr(limits, "_limits", limits.Limits(frame_pixels=128 * 128))
    with films.opened(both) as (container, video), pytest.raises(films.UNREADABLE):
        list(container.decode(video))


def test_a_list_of_other_files_is_no_sound(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with av.open("private.mka", "w") as container:
        sound = container.add_stream("pcm_s16le", rate=8000)
        frame = av.AudioFrame.from_ndarray(np.ones((1, 8000), np.int16), "s16", "mono")
        frame.sample_rate = 8000
        for packet in [*sound.encode(frame), *sound.encode()]:
            container.mux(packet)
    assert os.path.getsize("private.mka") > 16_000  # noqa: PTH202
    (tmp_path / "x.wav").write_text("ffconcat version 1.0\nfile private.mka\n")
    with pytest.raises(UserError, match="is damaged or no sound"):
        sounds.read(tmp_path / "x.wav")
