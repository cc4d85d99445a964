"""Which frames of a video are taken, by hand; their features against the image extractor's; bad files."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from crossmodal.core.errors import UserError
from crossmodal.features import image, video
from crossmodal.features.engine import extraction, store
from tests.features import clips

SHARED = Path(__file__).parents[3] / "shared" / "data" / "media" / "video"
SMALL = {"network": "shufflenet_v2_x0_5", "weights": "seeded", "resize": 40, "crop": 32, "precision": "fp32"}


def settings(**over) -> video.Settings:
    return video.Settings(**{**SMALL, **over})


def frame(names: list[str], modality: str = "video") -> pd.DataFrame:
    return pd.DataFrame({"item_id": names, "modality": modality, "source": names})


def run(folder: Path, names: list[str], target: Path, threads: int = 2, **over) -> store.Features:
    extraction.run("video", frame(names), folder, settings(**over), target, threads=threads, modality="video")
    return store.open_features(target)


# -- which frames -----------------------------------------------------------------------------------------------------


def test_spread_by_hand():
    assert video.spread(range(10), 5, last=1) == {1: 1, 3: 1, 5: 1, 7: 1, 9: 1}
    assert video.spread(range(10), 10) == dict.fromkeys(range(10), 1)
    assert video.spread(range(10), 1) == {5: 1}
    assert video.spread([0.0], 8) == {0: 8}
    assert video.spread([0, 1], 4) == {0: 2, 1: 2}
    assert video.spread([0, 1, 2], 8, last=1) == {0: 3, 1: 2, 2: 3}
    assert video.spread([0, 1, 2, 3], 4, last=12) == {1: 1, 3: 3}  # moments at 1.9, 5.6, 9.4, 13.1 of 15
    assert video.spread([20, 0, 10], 3, last=10) == {1: 1, 2: 1, 0: 1}  # in the order of decoding; told in that of time
    assert list(video.spread([20, 0, 10], 3)) == [1, 2, 0]


@pytest.mark.parametrize("suffix", list(clips.CODECS))
@pytest.mark.parametrize(("count", "frames", "expected"), [(40, 4, [5, 15, 25, 35]), (40, 1, [20]), (3, 2, [0, 2])])
def test_the_frames_of_each_container(tmp_path, monkeypatch, suffix, count, frames, expected):
    """Only what the frames depend on is decoded, yet they are those of decoding all, bit for bit."""
    path = clips.write(tmp_path / f"a.{suffix}", count)
    whole = {n: video._picture(one) for n, (_, one) in enumerate(video._decode_all(path))}
    assert len(whole) == count
    monkeypatch.setattr(video, "_decode_all", lambda path: pytest.fail("decoded whole"))
    clip = video.decode(path, settings(frames=frames))
    assert clips.numbers(clip.pixels) == expected
    assert clip.times == pytest.approx([n / 20 for n in expected], abs=2e-3)
    for pixels, n in zip(clip.pixels, expected, strict=True):
        assert torch.equal(pixels, image.transform(whole[n], settings()))


def test_every_frame_can_be_the_wanted_one(tmp_path):
    for suffix in ("mp4", "mkv"):
        path = clips.write(tmp_path / f"a.{suffix}", 25)
        packets, _ = video._packets(path)
        stamps = sorted(packet.pts for packet in packets)
        for n, stamp in enumerate(stamps):
            assert clips.numbers(video._decode_some(path, packets, {stamp}, settings()).values()) == [n]


def test_only_what_is_needed_is_decoded():
    packets = [video._Packet(n, 1, n % 10 == 0, True) for n in range(40)]
    assert video._needed(packets, {3, 25}) == {0, 1, 2, 3, 20, 21, 22, 23, 24, 25}
    assert video._needed(packets, {20}) == {20}
    leading = [
        video._Packet(pts, 1, key, True) for pts, key in [(0, True), (3, False), (6, True), (4, False), (7, False)]
    ]
    assert video._needed(leading, {4}) == {0, 1, 2, 3}
    assert video._needed(leading, {7}) == {2, 3, 4}


def test_a_varying_rate_is_spread_in_time(tmp_path):
    """Ten frames in the first half second, then one each half second: moments, not frames, are evenly spread."""
    ticks = [*range(0, 50, 5), 50, 100, 150, 200, 250, 300]
    path = clips.write(tmp_path / "a.mp4", 15, ticks=ticks)
    clip = video.decode(path, settings(frames=6))
    expected = [max(n for n, t in enumerate(ticks) if t <= moment) for moment in (25, 75, 125, 175, 225, 275)]
    assert clips.numbers(clip.pixels) == expected == [5, 10, 11, 12, 13, 14]
    assert clip.times == [0.25, 0.5, 1.0, 1.5, 2.0, 2.5]


def test_few_frames_count_as_long_as_they_are_shown(tmp_path):
    clips.write(tmp_path / "two.mp4", 2, ticks=[0, 100, 200])
    clips.write(tmp_path / "one.mp4", 1)
    clips.write(tmp_path / "many.mp4", 30)
    found = run(tmp_path, ["two.mp4", "one.mp4", "many.mp4"], tmp_path / "video.a", frames=8)
    assert found.index.frames.tolist() == [2, 1, 8]
    assert found.index.times[0].tolist() == [0, 1]
    clip = video.decode(tmp_path / "one.mp4", settings())
    assert clip.weights.tolist() == [1]


def test_a_file_without_length_or_stamps(tmp_path):
    """A bare H.264 stream tells neither; its frames are counted by decoding them."""
    whole = clips.write(tmp_path / "a.mp4", 40)
    with av.open(str(whole)) as source, av.open(str(tmp_path / "a.h264"), "w") as bare:
        stream = bare.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(source.streams.video[0]):
            if packet.size:
                packet.stream = stream
                bare.mux(packet)
    with av.open(str(tmp_path / "a.h264")) as container:
        assert container.streams.video[0].duration is None
        assert container.streams.video[0].frames == 0
    assert clips.numbers(video.decode(tmp_path / "a.h264", settings(frames=4)).pixels) == [5, 15, 25, 35]


def test_a_turned_video_is_turned_back(tmp_path):
    path = clips.write(tmp_path / "a.mp4", 3, turned=90)
    (picture,) = (video._picture(one) for n, (_, one) in enumerate(video._decode_all(path)) if n == 0)
    assert picture.size == (64, 96)
    bottom, top = np.array(picture)[-20:].mean(), np.array(picture)[:20].mean()
    assert bottom > 240  # the left edge, turned against the clock
    assert top < 40


# -- features ---------------------------------------------------------------------------------------------------------


def test_features_are_the_mean_of_the_image_extractors(tmp_path):
    names = []
    for n, path in enumerate([clips.write(tmp_path / "a.mp4", 40), clips.write(tmp_path / "b.avi", 20)]):
        pictures = [video._picture(one) for _, one in video._decode_all(path)]
        step = len(pictures) // 4
        for k in range(4):
            names.append(f"{n}-{k}.png")
            pictures[step // 2 + k * step].save(tmp_path / names[-1])
    bare = image.Settings(**SMALL, l2=False)
    extraction.run("image", frame(names, "image"), tmp_path, bare, tmp_path / "image.a", threads=1, modality="image")
    expected = np.array(store.open_features(tmp_path / "image.a").array).reshape(2, 4, -1).mean(1)
    found = run(tmp_path, ["a.mp4", "b.avi"], tmp_path / "video.a", frames=4, l2=False)
    np.testing.assert_allclose(found.array, expected, rtol=1e-4, atol=1e-6)
    unit = run(tmp_path, ["a.mp4", "b.avi"], tmp_path / "video.b", frames=4)
    np.testing.assert_allclose(unit.array, expected / np.linalg.norm(expected, axis=1, keepdims=True), atol=1e-5)
    assert unit.manifest["weights_sha256"] == store.open_features(tmp_path / "image.a").manifest["weights_sha256"]
    assert unit.manifest["settings"]["frames"] == 4
    ten = run(tmp_path, ["a.mp4"], tmp_path / "video.c", frames=2, crops="ten")
    assert ten.array.shape == (1, expected.shape[1])
    assert np.linalg.norm(ten.array[0]) == pytest.approx(1, abs=1e-5)


def test_other_items_are_refused(tmp_path):
    with pytest.raises(UserError, match="set `modality: video`"):
        extraction.run("video", frame(["a"]), tmp_path, settings(), tmp_path / "image.a", threads=1, modality="image")


def test_bits_do_not_depend_on_the_threads(tmp_path):
    names = [clips.write(tmp_path / f"{n}.mp4", 5 + 7 * n).name for n in range(5)]
    for threads in (1, 2):
        run(tmp_path, names, tmp_path / str(threads) / "video.a", threads=threads, batch_size=5, frames=3)
    assert (tmp_path / "1" / "video.a.npy").read_bytes() == (tmp_path / "2" / "video.a.npy").read_bytes()


# -- bad files --------------------------------------------------------------------------------------------------------


def sound(path: Path) -> None:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mp3", rate=44100, layout="mono")
        silence = av.AudioFrame.from_ndarray(np.zeros((1, 44100), np.float32), format="fltp", layout="mono")
        silence.rate = 44100
        container.mux([*stream.encode(silence), *stream.encode()])


def bad(folder: Path, harm: str) -> Path:
    suffix = {"cut_mkv": "mkv", "no_frames": "avi", "sound": "mp3"}.get(harm, "mp4")
    path = folder / f"{harm}.{suffix}"
    if harm == "missing":
        return path
    if harm == "sound":
        sound(path)
        return path
    clips.write(path, 60)
    data = bytearray(path.read_bytes())
    if harm.startswith("cut"):
        data = data[: int(0.6 * len(data))]
    elif harm == "flipped":
        start = 3 * len(data) // 4
        data[start : start + 200] = np.random.default_rng(0).bytes(200)
    elif harm.startswith("no_"):
        with av.open(str(path), "w") as container:
            container.add_stream("libx264" if harm == "no_frames" else "aac", rate=None)
            container.start_encoding()
        return path
    else:
        data = {"empty": b"", "text": b"no video " * 99}[harm]
    path.write_bytes(data)
    return path


@pytest.mark.parametrize(
    ("harm", "told"),
    [
        ("missing", "not found"),
        ("empty", "is truncated or no video"),
        ("text", "is truncated or no video"),
        ("sound", "has no video stream, only audio"),
        ("no_frames", "holds no video frames"),
        ("no_streams", "holds no video frames"),
        ("cut", r"is damaged \d\.\d\d s after its start"),
        ("cut_mkv", r"ends after 1\.\d of 3\.0 seconds"),
        ("flipped", r"is damaged \d\.\d\d s after its start"),
    ],
)
def test_a_bad_video_is_named_or_left_out(tmp_path, harm, told):
    path = bad(tmp_path, harm)
    with pytest.raises(UserError, match=rf"{path.name}: {told}"):
        video.decode(path, settings(frames=12))
    if harm == "cut":
        good = clips.write(tmp_path / "good.mp4", 5)
        found = run(tmp_path, [path.name, good.name], tmp_path / "video.a", on_error="skip")
        assert found.index.item_id.tolist() == ["good.mp4"]
        assert "is damaged" in found.manifest["skipped"][0]["reason"]
        with pytest.raises(UserError, match="is damaged"):
            run(tmp_path, [path.name, good.name], tmp_path / "video.b")


def test_a_picture_on_a_cover_is_no_video(tmp_path):
    Image.new("RGB", (64, 64), "red").save(tmp_path / "cover.png")
    with av.open(str(tmp_path / "a.mp4"), "w") as container, av.open(str(tmp_path / "cover.png")) as cover:
        stream = container.add_stream("aac", rate=44100, layout="mono")
        picture = container.add_stream_from_template(cover.streams.video[0])
        picture.disposition = av.stream.Disposition.attached_pic
        silence = av.AudioFrame.from_ndarray(np.zeros((1, 44100), np.float32), format="fltp", layout="mono")
        silence.rate = 44100
        for packet in cover.demux():
            if packet.size:
                packet.stream = picture
                container.mux(packet)
        container.mux([*stream.encode(silence), *stream.encode()])
    with pytest.raises(UserError, match="has no video stream"):
        video.decode(tmp_path / "a.mp4", settings())


# -- real videos ------------------------------------------------------------------------------------------------------


@pytest.mark.skipif(not SHARED.is_dir(), reason="no ../shared/data beside the checkout")
def test_real_videos(tmp_path):
    names = sorted(str(path.relative_to(SHARED)) for path in SHARED.glob("*/*.mp4"))
    found = run(SHARED, names, tmp_path / "video.a", resize=72, crop=64)
    assert found.index.frames.tolist() == [8] * 8
    assert len(np.unique(np.array(found.array), axis=0)) == 8
    path = SHARED / names[0]
    every = {round(second, 6): one for second, one in video._decode_all(path)}
    clip = video.decode(path, settings())
    for pixels, second in zip(clip.pixels, clip.times, strict=True):
        assert torch.equal(pixels, image.transform(video._picture(every[second]), settings()))
    seconds = len(every) / 24
    assert clip.times == pytest.approx([(k + 0.5) * seconds / 8 for k in range(8)], abs=1 / 24)
