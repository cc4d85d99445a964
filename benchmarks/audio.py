"""MFCC of clips of 5 s against bare reads of the same files and librosa's own MFCC, in the same run."""

from __future__ import annotations

import logging
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import librosa
import numpy as np
import pandas as pd
import soundfile
from common import alternate, peak, processor, save

from crossmodal.features import audio
from crossmodal.features.engine import extraction, store

COUNT, SECONDS, RATE, ROUNDS = 160, 5, 44100, 5
GOAL = 150  # clips per second


def draw(folder: Path, count: int, kind: str, channels: int = 1, seconds: float = SECONDS) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    names = [f"{n}.{kind}" for n in range(count)]
    noise = np.cumsum(rng.normal(0, 0.01, round(RATE * seconds)))
    for n, name in enumerate(names):
        hum = np.sin(np.arange(len(noise)) * (0.01 + 0.001 * n))
        soundfile.write(folder / name, np.stack([0.3 * hum + 0.1 * np.sin(noise)] * channels, 1), RATE)
    return pd.DataFrame({"item_id": names, "modality": "audio", "partition": "train", "source": names})


def by_librosa(path: Path, settings: audio.Settings) -> np.ndarray:
    waveform, _ = librosa.load(path, sr=settings.rate, res_type="polyphase")
    emphasised = librosa.effects.preemphasis(waveform, coef=settings.preemphasis)
    options = {
        "n_fft": settings.fft,
        "win_length": settings.length,
        "hop_length": settings.step,
        "n_mels": settings.mels,
    }
    found = librosa.feature.mfcc(
        y=emphasised, sr=settings.rate, n_mfcc=settings.coefficients, window=settings.window, center=False, **options
    )
    return found.mean(1)


def measure(kind: str, channels: int) -> dict:
    settings = audio.Settings()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        items = draw(folder, COUNT, kind, channels)
        paths = [folder / source for source in items.source]
        runs = iter(range(10**6))

        def ours() -> None:  # each time into a store of its own, or what is there would be found
            extraction.run(
                "audio", items, folder, settings, folder / str(next(runs)) / "audio.x", threads=2, modality="audio"
            )

        def reads() -> None:
            with ThreadPoolExecutor(2) as pool:
                list(pool.map(soundfile.read, paths))

        def librosas() -> None:
            with ThreadPoolExecutor(2) as pool:
                list(pool.map(lambda path: by_librosa(path, settings), paths))

        librosas()  # it compiles when first called
        seconds = alternate({"ours": ours, "bare reads": reads, "librosa": librosas}, ROUNDS)
        core = processor(ours, ROUNDS) / COUNT
        features = store.open_features(folder / "0" / "audio.x")
    rates = {case: COUNT / value for case, value in seconds.items()}
    times = {case: value / seconds["ours"] for case, value in seconds.items()}
    print(
        f"{kind}, {channels} channel(s): {rates['ours']:.0f} clips/s on two cores (goal {GOAL}; {2 / core:.0f} by the "
        f"cores' time alone), {times['librosa']:.1f} x the speed of librosa, {times['bare reads']:.2f} x that of "
        f"bare reads; {features.array.shape}"
    )
    return {"clips": COUNT, "seconds": seconds, "clips_a_second": rates, "core_seconds_a_clip": core}


def main() -> None:
    logging.disable(logging.WARNING)
    found = {f"{kind}, {channels}": measure(kind, channels) for kind, channels in (("wav", 1), ("wav", 2), ("ogg", 1))}
    found["peak_mib"] = {str(count): peak(__file__, count) for count in (500, 4000)}
    print("peak memory in MiB, by clips: ", found["peak_mib"])
    save("audio", found)


def run_once(count: int) -> None:
    """Extract `count` items that are one short clip, for the peak of memory."""
    with tempfile.TemporaryDirectory() as name:
        items = pd.concat([draw(Path(name), 1, "wav", seconds=0.5)] * count, ignore_index=True)
        items["item_id"] = [str(n) for n in range(count)]
        extraction.run(
            "audio", items, Path(name), audio.Settings(), Path(name) / "audio.x", threads=2, modality="audio"
        )


if __name__ == "__main__":
    run_once(int(sys.argv[2])) if "--peak" in sys.argv else main()
