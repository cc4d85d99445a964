"""MFCC against librosa and by hand: rates, channels, and their extraction."""

from __future__ import annotations

import struct
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile

from crossmodal.core import soundheaders, sounds
from crossmodal.core.errors import UserError
from crossmodal.features import audio
from crossmodal.features.engine import extraction, store

SHARED = Path(__file__).parents[3] / "shared" / "data" / "media" / "audio"
RATE = 22050


def tone(rate: int = RATE, seconds: float = 1.0, hertz: float = 440.0) -> np.ndarray:
    """A falling tone in a little noise, quiet towards its end."""
    t = np.arange(round(rate * seconds)) / rate
    noise = np.random.default_rng(0).normal(0, 0.01, len(t))
    return ((np.sin(2 * np.pi * hertz * t * (1 - 0.2 * t / seconds)) * 0.5 + noise) * np.exp(-t)).astype(np.float32)


def by_librosa(waveform: np.ndarray, settings: audio.Settings) -> np.ndarray:
    librosa = pytest.importorskip("librosa")
    # librosa sets a frame in the middle of the transform and we at its start: the phase differs, the power does not.
    empty = settings.fft - settings.length
    waveform = np.pad(waveform.astype(np.float64), (empty // 2, empty - empty // 2))
    emphasised = librosa.effects.preemphasis(waveform, coef=settings.preemphasis, zi=np.zeros(1))
    mel = librosa.feature.melspectrogram(
        y=emphasised,
        sr=settings.rate,
        n_fft=settings.fft,
        win_length=settings.length,
        hop_length=settings.step,
        window=settings.window,
        center=False,
        power=2.0,
        n_mels=settings.mels,
        fmin=settings.low,
        fmax=settings.top,
        htk=settings.scale == "htk",
        norm="slaney" if settings.band_norm == "slaney" else None,
    )
    return librosa.feature.mfcc(S=np.log(np.maximum(mel, settings.floor)), n_mfcc=settings.coefficients).mean(1)


def write(path: Path, samples: np.ndarray, rate: int = RATE, **how) -> Path:
    soundfile.write(path, samples, rate, **how)
    return path


# -- coefficients -----------------------------------------------------------------------------------------------------

OTHERS = {
    "defaults": {},
    "htk, equal heights": {"scale": "htk", "band_norm": "none"},
    "hann, 16 kHz": {"window": "hann", "rate": 16000, "fft": 512, "mels": 26, "coefficients": 13},
    "a band of it": {"low": 100.0, "high": 7000.0, "preemphasis": 0.0, "hop": 0.0125, "fft": 2048},
}


@pytest.mark.parametrize("over", OTHERS.values(), ids=OTHERS)
def test_agrees_with_librosa(over):
    settings = audio.Settings(**over)
    waveform = tone(settings.rate, 1.3)
    ours = audio.mfcc(waveform, settings.rate, settings)
    assert ours.shape == (settings.coefficients,)
    assert ours.dtype == np.float32
    np.testing.assert_allclose(ours, by_librosa(waveform, settings), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("clip", ["dog/1-100032-A", "rain/1-17367-A", "clock/1-21934-A"])
def test_agrees_with_librosa_on_recordings(clip):
    if not SHARED.is_dir():
        pytest.skip(f"{SHARED} is not there")
    settings = audio.Settings()
    waveform, rate = sounds.read(SHARED / f"{clip}.ogg")
    waveform = audio.resampled(waveform, rate, RATE)
    energies = audio.log_mel(waveform, settings)
    assert len(energies) == 1 + (len(waveform) - 551) // 220
    np.testing.assert_allclose(audio.mfcc(waveform, RATE), by_librosa(waveform, settings), rtol=1e-3, atol=1e-3)


def test_one_frame_by_hand():
    """The definition, term by term, in float64 on one frame."""
    settings = audio.Settings()
    waveform = tone()[:551]
    x = waveform.astype(np.float64)
    x = np.append(x[0], x[1:] - 0.97 * x[:-1])
    n = np.arange(551)
    x *= 0.54 - 0.46 * np.cos(2 * np.pi * n / 551)
    power = np.array([abs(np.sum(x * np.exp(-2j * np.pi * k * n / 1024))) ** 2 for k in range(513)])
    mel = np.log(np.maximum(audio.filter_bank(settings).toarray().astype(np.float64) @ power, 1e-10))
    m = np.arange(40)
    expected = [np.sqrt(2 / 40) * np.sum(mel * np.cos(np.pi * k * (2 * m + 1) / 80)) for k in range(29)]
    expected[0] /= np.sqrt(2)
    np.testing.assert_allclose(audio.mfcc(waveform, RATE), expected, rtol=1e-4, atol=1e-4)


def test_bands_lie_where_the_scale_says():
    assert audio.mel_of(np.array([700.0]), "htk")[0] == pytest.approx(2595 * np.log10(2))
    assert audio.mel_of(np.array([200.0, 6400.0]), "slaney") == pytest.approx([3, 42])
    hertz = np.array([0.0, 60, 999, 1000, 1001, 8000])
    for scale in ("htk", "slaney"):
        np.testing.assert_allclose(audio.hertz_of(audio.mel_of(hertz, scale), scale), hertz, atol=1e-9)
    with pytest.raises(UserError, match="narrower than the 172"):
        audio.filter_bank(audio.Settings(fft=128, frame=0.005))


def test_twice_as_loud_raises_c0_alone():
    quiet, loud = audio.mfcc(tone(), RATE), audio.mfcc(2 * tone(), RATE)
    # log 4 in each of 40 bands, times the first basis vector's 1 / sqrt(40)
    np.testing.assert_allclose(loud - quiet, [np.sqrt(40) * np.log(4), *[0] * 28], atol=1e-3)


def test_channels_and_integers():
    mono = (tone() * 2**15).astype(np.int16)
    expected = audio.mfcc(mono / 2**15, RATE)
    np.testing.assert_allclose(audio.mfcc(mono, RATE), expected, atol=1e-4)
    np.testing.assert_allclose(audio.mfcc(np.stack([mono, mono]), RATE), expected, atol=1e-4)
    wide = np.stack([2 * tone(), np.zeros(RATE, np.float32)])
    np.testing.assert_allclose(audio.mfcc(wide, RATE), audio.mfcc(tone(), RATE), atol=1e-4)
    coarse = (tone() * 127 + 128).astype(np.uint8)
    np.testing.assert_allclose(audio.mfcc(coarse, RATE), audio.mfcc((coarse - 128.0) / 128, RATE), atol=1e-4)


@pytest.mark.parametrize("rate", [8000, 16000, 44100, 44056, 48000, 96000])
def test_a_tone_stays_itself_at_any_rate(rate):
    t = np.arange(rate) / rate
    out = audio.resampled(np.sin(2 * np.pi * 1000 * t).astype(np.float32), rate, RATE)
    assert out.dtype == np.float32
    assert abs(len(out) - RATE) <= 1
    expected = np.sin(2 * np.pi * 1000 * np.arange(len(out)) / RATE)
    assert np.abs(out - expected)[500:-500].max() < 3e-3


def test_what_lies_above_half_the_rate_is_taken_out():
    t = np.arange(44100) / 44100
    assert np.abs(audio.resampled(np.sin(2 * np.pi * 15000 * t).astype(np.float32), 44100, RATE))[500:-500].max() < 2e-3


def test_long_clips_in_blocks(monkeypatch):
    waveform = tone(seconds=3)
    whole = audio.log_mel(waveform, audio.Settings())
    monkeypatch.setattr(audio, "BLOCK", 7)
    np.testing.assert_array_equal(audio.log_mel(waveform, audio.Settings()), whole)


# -- extraction -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("clips")
    for n in range(6):
        write(folder / f"{n}.wav", tone(seconds=0.3, hertz=300 + 90 * n))
    write(folder / "silent.wav", np.zeros(RATE))
    write(folder / "short.flac", tone()[:300])
    (folder / "cut.wav").write_bytes((folder / "0.wav").read_bytes()[:5000])
    (folder / "empty.mp3").write_bytes(b"")
    return folder


GOOD = [f"{n}.wav" for n in range(6)]


def run(folder: Path, names: list[str], target: Path, threads: int = 2, parts: str = "train", **over) -> store.Features:
    frame = pd.DataFrame({"item_id": names, "modality": "audio", "partition": parts, "source": names})
    frame.loc[frame.index[-2:], "partition"] = "test"
    extraction.run("audio", frame, folder, audio.Settings(**over), target, threads=threads, modality="audio")
    return store.open_features(target)


def test_extraction_standardises_by_the_training_part(folder, tmp_path):
    plain = run(folder, GOOD, tmp_path / "audio.a", standardise=False)
    expected = np.stack([audio.mfcc(*sounds.read(folder / name)) for name in GOOD])
    np.testing.assert_array_equal(plain.array, expected)
    assert "standardised_by" not in plain.manifest
    features = run(folder, GOOD, tmp_path / "audio.b")
    np.testing.assert_allclose(features.array[:4].mean(0), 0, atol=1e-5)
    np.testing.assert_allclose(features.array[:4].std(0), 1, atol=1e-5)
    by = features.manifest["standardised_by"]
    np.testing.assert_allclose(features.array * by["sd"] + by["mean"], expected, rtol=1e-4, atol=1e-3)
    assert features.array.dtype == np.float32
    assert features.manifest["settings"]["preemphasis"] == 0.97
    assert {"av", "scipy", "soundfile"} <= features.manifest["versions"].keys()
    with pytest.raises(UserError, match="standardise: false"):
        run(folder, GOOD, tmp_path / "audio.c", parts="val")


def test_a_coefficient_that_never_changes(tmp_path):
    array = np.array([[1, 5], [3, 5], [7, 6]], np.float32)
    rows = pd.DataFrame({"partition": ["train", "train", "test"]})
    assert audio.standardise(array, rows)["standardised_by"]["sd"] == [1, 0]
    np.testing.assert_array_equal(array, [[-1, 0], [1, 0], [5, 1]])


def test_threads_and_order_do_not_matter(folder, tmp_path):
    one = run(folder, GOOD, tmp_path / "one" / "audio.a", threads=1, standardise=False)
    two = run(folder, GOOD[::-1], tmp_path / "two" / "audio.a", threads=2, shard=1, standardise=False)
    np.testing.assert_array_equal(one.array, two.array[::-1])


def test_bad_clips_stop_or_are_left_out(folder, tmp_path):
    names = ["0.wav", "silent.wav", "short.flac", "1.wav", "cut.wav", "empty.mp3", "gone.ogg", "2.wav", "3.wav"]
    with pytest.raises(UserError, match=r"silent\.wav: silence"):
        run(folder, names, tmp_path / "audio.a", threads=1)
    features = run(folder, names, tmp_path / "audio.a", on_error="skip")
    assert list(features.index.item_id) == GOOD[:4]
    told = {one["item_id"]: one["reason"] for one in features.manifest["skipped"]}
    assert set(told) == set(names) - set(GOOD)
    assert all(str(folder / name) in reason for name, reason in told.items())
    assert "13.6 ms" in told["short.flac"]
    with pytest.raises(UserError, match="band 0 of 400 is narrower"):
        run(folder, GOOD, tmp_path / "audio.b", mels=400)


def test_absurd_rates_are_refused_before_memory_is_taken():
    # 22050 / 7 = 3150 samples for each one; 999,983 is a prime number.
    with pytest.raises(UserError, match=r"would make 157,500,000 samples, expected at most 100,000,000"):
        audio.resampled(np.zeros(50_000, np.float32), 7, 22_050)
    with pytest.raises(UserError, match=r"as 999,983 to 22,050, expected numbers up to 200,000 \(`limits.sound_ratio`"):
        audio.resampled(np.zeros(3000, np.float32), 999_983, 22_050)
    assert len(audio.resampled(np.zeros(384, np.float32), 384_000, 22_050)) == 23  # 22.05, rounded up


def test_emphasis_does_not_depend_on_where_a_part_begins():
    wave = np.array([1, 2, 4, 8], np.float32)
    assert audio._emphasised(wave, 0, 3, 0.5).tolist() == [1, 1.5, 3]
    assert audio._emphasised(wave, 2, 4, 0.5).tolist() == [3, 6]
    assert sounds._joined([wave[:1], wave[1:]]).tolist() == [1, 2, 4, 8]


def test_a_header_of_very_many_chunks_takes_no_longer_than_its_bytes():
    chunks = (b"abcd" + bytes(4)) * 100_000
    data = b"RIFF" + bytes(4) + b"WAVE" + chunks + b"data" + bytes(4) + b"\x7f\x01" * 50
    started = time.process_time()
    mended = soundheaders.with_length(data)
    assert time.process_time() - started < 3  # ten or more if each chunk copies those before it
    assert mended == b"RIFF\xff\xff\xff\xffWAVE" + chunks + b"data\xff\xff\xff\xff" + b"\x7f\x01" * 50


def test_chunks_without_end_are_looked_at_once(monkeypatch):
    """Each of the chunks of sound was compared with all that follow: a file of 1 MB took hours."""
    looked = []
    monkeypatch.setattr(soundheaders, "_is_sound", lambda data, order: looked.append(len(data)))
    data = b"FORM" + struct.pack(">I", 0) + b"AIFF" + (b"SSND" + struct.pack(">I", 0)) * 3
    assert soundheaders.with_length(data) == data
    assert looked == [2 * 8 - soundheaders.OFFSETS]
    monkeypatch.setattr(soundheaders, "CHUNKS", 10)
    many = (b"abcd" + struct.pack("<I", 0)) * 15
    assert len([*soundheaders._chunks(many, "<", 0)]) == 10
    assert [*soundheaders._chunks(many[:20], "<", 0)] == [(b"abcd", 8, 0), (b"abcd", 16, 0)]
