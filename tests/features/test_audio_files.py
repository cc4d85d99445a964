"""Sound files: formats, headers that lie or are cut off, and clips that are no use."""

from __future__ import annotations

import io
import struct
import time
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import soundfile
from pydantic import ValidationError

from crossmodal.core import limits, sounds
from crossmodal.core.errors import UserError
from crossmodal.features import audio
from tests.features.test_audio import RATE, tone, write


def encode(path: Path, samples: np.ndarray, rate: int, codec: str) -> Path:
    """Write a file that libsndfile does not read."""
    with av.open(path, "w") as container:
        stream = container.add_stream(codec, rate=rate, layout="mono")
        frame = av.AudioFrame.from_ndarray(samples[None], format="fltp", layout="mono")
        frame.sample_rate = rate
        fifo = av.AudioFifo()
        fifo.write(frame)
        while part := fifo.read(stream.frame_size or 1024, partial=True):
            container.mux(stream.encode(part))
        container.mux(stream.encode(None))
    return path


@pytest.mark.parametrize(
    ("name", "how", "near"),
    [
        ("a.wav", {"subtype": "PCM_16"}, 1e-4),
        ("a.wav", {"subtype": "FLOAT"}, 0),
        ("a.wav", {"subtype": "PCM_U8"}, 1e-2),
        ("a.flac", {}, 1e-4),
        ("a.aiff", {}, 1e-4),
        ("a.ogg", {}, 0.2),
        ("a.mp3", {}, 0.2),
    ],
)
def test_formats_of_soundfile(tmp_path, name, how, near):
    path = write(tmp_path / name, np.stack([tone(), tone()], 1), **how)
    waveform, rate = sounds.read(path)
    assert (waveform.dtype, rate) == (np.float32, RATE)
    assert len(waveform) == RATE
    assert np.abs(waveform - tone()).max() <= near


@pytest.mark.parametrize(("name", "codec"), [("a.m4a", "aac"), ("a.mka", "ac3"), ("a.aac", "aac")])
def test_formats_of_pyav(tmp_path, name, codec):
    path = encode(tmp_path / name, tone(44100), 44100, codec)
    waveform, rate = sounds.read(path)
    assert rate == 44100
    assert abs(len(waveform) - 44100) < 4000  # coders pad
    ours, expected = audio.mfcc(waveform, rate), audio.mfcc(tone(44100), 44100)
    assert np.corrcoef(ours, expected)[0, 1] > 0.9


def test_read_in_parts(tmp_path, monkeypatch):
    path = write(tmp_path / "a.wav", np.stack([tone(), -0.5 * tone()], 1), subtype="FLOAT")
    whole, _ = sounds.read(path)
    monkeypatch.setattr(sounds, "READ", 1000)
    np.testing.assert_array_equal(sounds.read(path)[0], whole)
    np.testing.assert_allclose(whole, 0.25 * tone(), atol=1e-7)


@pytest.mark.parametrize("name", ["a.wav", "a.flac", "a.aiff", "a.ogg", "a.mp3", "a.m4a", "a.mka"])
@pytest.mark.parametrize("share", [0.6, 0.01])
def test_files_that_are_cut_off(tmp_path, name, share):
    path = tmp_path / name
    if path.suffix in (".m4a", ".mka"):
        encode(path, tone(44100, 3), 44100, "aac" if path.suffix == ".m4a" else "ac3")
    else:
        write(path, tone(seconds=3))
    sounds.read(path)
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    with pytest.raises(UserError, match=f"{name}: (is|holds)"):
        sounds.read(path)


def put(data: bytes, before: bytes, number: int, order: str = "little", size: int = 4, skip: int = 0) -> bytes:
    """The file with another number behind the first occurrence of a name."""
    at = data.index(before) + len(before) + skip
    return data[:at] + number.to_bytes(size, order) + data[at + size :]


FULL = 2**32 - 1
UNFINISHED = {
    "a pipe": ("WAV", "PCM_16", lambda d: put(put(d, b"RIFF", FULL), b"data", FULL)),
    "a recorder that was killed": ("WAV", "PCM_16", lambda d: put(put(d, b"RIFF", 36), b"data", 0)),
    "sizes of zero": ("WAV", "FLOAT", lambda d: put(put(d, b"RIFF", 0), b"data", 0)),
    "half a sample at its end": ("WAV", "PCM_16", lambda d: put(d, b"data", 0) + b"\1"),
    "24 bits": ("WAVEX", "PCM_24", lambda d: put(d, b"data", 0)),
    "big-endian": ("RIFX", "PCM_16", lambda d: put(d, b"data", 0)),
    "more than 4 GB were foreseen": ("RF64", "PCM_16", lambda d: put(put(d, b"ds64", 0, skip=4), b"ds64", 0, skip=12)),
    "Wave64": ("W64", "PCM_16", lambda d: put(d, b"data", 24, size=8, skip=12)),
    "Wave64 of a pipe": (
        "W64",
        "PCM_16",
        lambda d: put(put(d, b"data", 2**63 - 1, size=8, skip=12), b"riff", 2**64 - 1, size=8, skip=12),
    ),
    "AIFF": ("AIFF", "PCM_16", lambda d: put(put(d, b"SSND", 8, "big"), b"COMM", 0, "big", skip=6)),
    "AU": ("AU", "PCM_16", lambda d: put(d, b".snd", 0, "big", skip=4)),
    "FLAC of a pipe": ("FLAC", "PCM_16", lambda d: d[:21] + bytes([d[21] & 0xF0]) + bytes(4) + d[26:]),
    "a chunk before it that is not filled up": (
        "WAV",
        "PCM_16",
        lambda d: d[:36] + b"LIST\x09\0\0\0INFOhello" + put(d[36:], b"data", 0),
    ),
    "the same in order": ("WAV", "PCM_16", lambda d: d[:36] + b"LIST\x09\0\0\0INFOhello" + d[36:]),
}


@pytest.mark.parametrize("name", UNFINISHED)
def test_a_header_that_was_written_before_the_length_was_known(tmp_path, name):
    form, subtype, change = UNFINISHED[name]
    how = {"format": "WAV", "endian": "BIG"} if form == "RIFX" else {"format": form}
    path = write(tmp_path / "a.bin", tone(), subtype=subtype, **how)
    expected, _ = soundfile.read(path, dtype="float32")
    data = path.read_bytes()
    path.write_bytes(change(data))
    assert path.read_bytes() != data
    waveform, rate = sounds.read(path)
    np.testing.assert_array_equal(waveform, expected)
    assert rate == RATE


@pytest.mark.parametrize("tagged", [True, False])
def test_an_mp3_without_the_number_of_its_frames(tmp_path, tagged):
    """As a pipe leaves it: libsndfile guesses its length, here as too large; it is not cut off for that."""

    class Pipe(io.RawIOBase):
        def __init__(self):
            self.written = bytearray()

        def writable(self):
            return True

        def write(self, data):
            self.written += bytes(data)
            return len(data)

    pipe, samples = Pipe(), tone(seconds=2)
    with av.open(pipe, "w", format="mp3", options={"write_xing": str(int(tagged))}) as container:
        stream = container.add_stream("libmp3lame", rate=RATE, layout="mono")
        frame = av.AudioFrame.from_ndarray(samples[None], format="fltp", layout="mono")
        frame.sample_rate = RATE
        for part in av.AudioResampler(stream.format, "mono", RATE, frame_size=stream.frame_size).resample(frame):
            container.mux(stream.encode(part))
        container.mux(stream.encode(None))
    (tmp_path / "a.mp3").write_bytes(pipe.written)
    waveform, _ = sounds.read(tmp_path / "a.mp3")
    assert abs(len(waveform) - len(samples)) < 3000  # coders pad


@pytest.mark.parametrize("after", [b"", b"LIST\x0c\0\0\0INFOISFT\0\0\0\0", b"ID3 \x03\0\0\0abc"])
def test_no_sound_before_what_stands_after_it(tmp_path, after):
    path = write(tmp_path / "none.wav", np.zeros(0, np.float32))
    path.write_bytes(path.read_bytes() + after)
    with pytest.raises(UserError, match="holds no samples"):
        sounds.read(path)


def test_files_that_are_no_sound(tmp_path):
    with pytest.raises(UserError, match=r"missing\.wav: cannot be read"):
        sounds.read(tmp_path / "missing.wav")
    for name, data, told in (
        ("empty.wav", b"", "is an empty file"),
        ("page.wav", b"<html>404</html>" * 9, "damaged or no sound"),
    ):
        (tmp_path / name).write_bytes(data)
        with pytest.raises(UserError, match=told):
            sounds.read(tmp_path / name)
    with pytest.raises(UserError, match="holds no samples"):
        sounds.read(write(tmp_path / "none.wav", np.zeros(0, np.float32)))
    bad = tone()
    bad[100] = np.nan
    with pytest.raises(UserError, match="not finite"):
        sounds.read(write(tmp_path / "nan.wav", bad, subtype="FLOAT"))


def test_clips_of_no_use():
    for waveform, told in (
        (np.zeros(RATE), "silence"),
        (np.full(RATE, 0.3), "silence"),
        (np.stack([tone(), -tone()]), "silence"),
        (np.zeros(0), "expected samples"),
        (np.zeros((2, 0)), "expected samples"),
        (np.zeros((1, 2, RATE)), "expected samples"),
        (tone()[:550], "25.0 ms; expected at least one frame of 25 ms|24.9 ms"),
        (np.append(tone(), np.inf), "not finite"),
    ):
        with pytest.raises(UserError, match=told):
            audio.mfcc(waveform, RATE)
    with pytest.raises(UserError, match="rate of 0"):
        audio.mfcc(tone(), 0)
    assert audio.mfcc(tone()[:551], RATE).shape == (29,)


@pytest.mark.parametrize(
    ("over", "told"),
    [
        ({"coefficients": 41}, "at most as many"),
        ({"fft": 512}, "a frame is 551 samples"),
        ({"high": 12000}, "at most 11025 Hz"),
        ({"low": 5000, "high": 4000}, "more than `low`"),
        ({"hop": 1e-6}, "less than a sample"),
        ({"melz": 4}, "Extra inputs"),
    ],
)
def test_settings_that_do_not_fit(over, told):
    with pytest.raises(ValidationError, match=told):
        audio.Settings(**over)


def packets(path: Path, count: int, samples: int = 1) -> Path:
    """A sound in packets of so many equal samples each."""
    with av.open(path, "w") as container:
        stream = container.add_stream("pcm_s16le", rate=8000, layout="mono")
        for number in range(count):
            packet = av.Packet(number.to_bytes(2, "little") * samples)
            packet.stream, packet.time_base = stream, Fraction(1, 8000)
            packet.pts = packet.dts = number * samples
            container.mux(packet)
    return path


def test_the_time_that_a_sound_takes_grows_with_its_packets_alone(tmp_path):
    """Their samples were added up anew for each packet, so that half an hour took minutes."""
    path = packets(tmp_path / "a.mka", 30_000)
    began = time.process_time()
    waveform, _ = sounds.read(path)
    assert time.process_time() - began < 6
    np.testing.assert_allclose(waveform, np.arange(30_000) / 2**15)


def test_a_sound_of_too_many_packets(tmp_path, monkeypatch):
    monkeypatch.setattr(sounds, "PACKETS", 100)
    assert len(sounds.read(packets(tmp_path / "a.mka", 100))[0]) == 100
    with pytest.raises(UserError, match=r"b\.mka: has more than 100 packets"):
        sounds.read(packets(tmp_path / "b.mka", 101))


def test_a_sound_of_too_many_samples_in_packets(tmp_path, monkeypatch):
    monkeypatch.setattr(limits, "_limits", limits.Limits(samples=5000))
    assert len(sounds.read(packets(tmp_path / "a.mka", 50, 100))[0]) == 5000
    with pytest.raises(UserError, match=r"b\.mka: has 5,100 samples, expected at most 5,000"):
        sounds.read(packets(tmp_path / "b.mka", 51, 100))


def test_a_sound_of_many_channels_or_of_a_slow_codec_is_refused_by_its_header(tmp_path, monkeypatch):
    """Half an hour of FLAC in eight channels took 6 s, and as many samples of G.721 a minute."""
    read = []
    monkeypatch.setattr(soundfile.SoundFile, "read", lambda file, *given, **kept: read.append(1))
    for name, how, samples, channels, cost in (
        ("a.wav", {"subtype": "PCM_16"}, 1000, 8, 1),
        ("b.wav", {"subtype": "GSM610"}, 3200, 1, 8),
        ("c.au", {"subtype": "G721_32"}, 1200, 1, 25),
        ("d.paf", {"subtype": "PCM_24"}, 1000, 2, 4),
    ):
        path = write(tmp_path / name, np.zeros((samples, channels), np.float32), 8000, **how)
        frames = soundfile.info(path).frames
        monkeypatch.setattr(limits, "_limits", limits.Limits(sound_values=frames * channels * cost - 1))
        with pytest.raises(UserError, match=rf"{name}: has at least {frames:,} samples.*`limits\.sound_values`"):
            sounds.read(path)
        assert not read
    monkeypatch.undo()
    assert limits.current().sound_values >= 2 * limits.current().samples  # sounds of two channels in a usual codec
    monkeypatch.setattr(limits, "_limits", limits.Limits(sound_values=8000))
    assert len(sounds.read(tmp_path / "a.wav")[0]) == 1000


def test_a_sound_whose_header_tells_too_little_is_read_up_to_the_limit(tmp_path, monkeypatch):
    monkeypatch.setattr(limits, "_limits", limits.Limits(sound_values=5000))
    assert len(sounds.read(packets(tmp_path / "a.mka", 50, 100))[0]) == 5000
    path = packets(tmp_path / "b.mka", 500, 100)
    data = path.read_bytes()
    place = data.index(b"\x44\x89\x88") + 3  # Matroska's length of the whole in milliseconds
    path.write_bytes(data[:place] + struct.pack(">d", 10) + data[place + 8 :])
    decoded, mono = [], sounds.mono
    monkeypatch.setattr(sounds, "READ", 100)
    monkeypatch.setattr(sounds, "mono", lambda block: decoded.append(block.shape[1]) or mono(block))
    with pytest.raises(UserError, match=r"b\.mka: has at least 5,100 samples, which count as 5,100"):
        sounds.read(path)
    assert sum(decoded) == 5000
    path.write_bytes(data)
    decoded.clear()
    with pytest.raises(UserError, match=r"b\.mka: has at least 47,5\d\d samples"):
        sounds.read(path)
    assert not decoded


def test_short_packets_are_taken_many_at_a_time(tmp_path, monkeypatch):
    """What was done for each packet took five times as long as to decode it."""
    taken, mono = [], sounds.mono
    monkeypatch.setattr(sounds, "mono", lambda block: taken.append(block.shape[1]) or mono(block))
    assert len(sounds.read(packets(tmp_path / "a.mka", 3000))[0]) == 3000
    assert taken == [3000]


def test_a_sound_whose_channels_change_in_between(tmp_path):
    """Two AAC files one after the other: of one channel, and of two."""
    for name, layout in (("a", "mono"), ("b", "stereo")):
        with av.open(tmp_path / f"{name}.aac", "w", format="adts") as container:
            stream = container.add_stream("aac", rate=RATE, layout=layout)
            samples = np.tile(tone(seconds=1), (1 + (layout == "stereo"), 1))
            frame = av.AudioFrame.from_ndarray(samples, format="fltp", layout=layout)
            frame.sample_rate = RATE
            container.mux([*stream.encode(frame), *stream.encode(None)])
    alone = [sounds.read(tmp_path / f"{name}.aac")[0] for name in ("a", "b")]
    (tmp_path / "c.aac").write_bytes(b"".join((tmp_path / f"{name}.aac").read_bytes() for name in ("a", "b")))
    both, _ = sounds.read(tmp_path / "c.aac")
    assert len(both) == len(alone[0]) + len(alone[1])
    np.testing.assert_allclose(both[: len(alone[0])], alone[0], atol=1e-6)
