"""Mel-frequency cepstral coefficients (MFCC) of sound clips: one vector per clip, the mean over its frames.

They follow Davis and Mermelstein (1980): energies of a filter bank on the mel scale, their logarithm, and its cosine
transform. How the 29-dimensional features of XMedia and XMediaNet were computed is not published; the defaults are
this package's own.
"""

from __future__ import annotations

from functools import lru_cache
from math import gcd
from typing import Any, Literal

import numpy as np
import pandas as pd
import scipy.fft
import scipy.sparse
from pydantic import Field, model_validator
from scipy.signal import firwin, get_window, resample_poly

from crossmodal.core import limits, sounds
from crossmodal.core.errors import UserError
from crossmodal.features.engine import extraction
from crossmodal.features.engine.extraction import Given, Item, Recipe, Work

BATCH = 8  # clips per batch
BLOCK = 1024  # frames transformed at once
SLOPE, KNEE, STEP = 200 / 3, 1000.0, np.log(6.4) / 27  # Slaney's scale: Hz per mel up to the knee, log Hz per mel above


class Settings(extraction.Settings):
    """Settings of the coefficients and of the sound that they are computed from."""

    rate: int = Field(22050, ge=100, description="samples per second to which every clip is resampled")
    preemphasis: float = Field(0.97, ge=0, lt=1, description="factor a of the pre-emphasis x[t] - a * x[t-1]")
    window: Literal["hamming", "hann", "boxcar"] = "hamming"
    frame: float = Field(0.025, gt=0, description="length of a frame in seconds")
    hop: float = Field(0.010, gt=0, description="seconds from one frame to the next")
    fft: int = Field(
        1024,
        ge=2,
        description="number of points of the Fourier transform; a frame is padded on both sides to this length",
    )
    mels: int = Field(40, ge=1, description="number of triangular bands")
    scale: Literal["slaney", "htk"] = Field(
        "slaney", description="mel scale; slaney: linear below 1 kHz; htk: logarithmic"
    )
    band_norm: Literal["slaney", "none"] = Field(
        "slaney", description="normalisation of the bands; slaney: equal areas; none: equal heights"
    )
    low: float = Field(0.0, ge=0, description="lower edge of the first band in Hz")
    high: float | None = Field(
        None, gt=0, description="upper edge of the last band in Hz; null: half the sampling rate"
    )
    floor: float = Field(
        1e-10, gt=0, description="lower bound of a band's energy, applied before the natural logarithm"
    )
    coefficients: int = Field(
        29, ge=1, description="number of coefficients of the orthonormal DCT-II, including the first (C0)"
    )
    silence: float = Field(
        1e-5, ge=0, description="largest half range of the samples with which a clip counts as silent"
    )
    standardise: bool = Field(
        True,
        description="whether each coefficient is scaled to mean 0 and standard deviation 1 over the training items",
    )
    shard: int = Field(2048, ge=1, description="number of clips after which results are written")

    @model_validator(mode="after")
    def _fitting(self) -> Settings:
        if self.coefficients > self.mels:
            raise ValueError(f"coefficients: {self.mels} bands (`mels`) give at most as many coefficients")
        if not 1 <= self.length <= self.fft:
            raise ValueError(f"fft: a frame is {self.length} samples long; expected 1 to {self.fft} (`fft`)")
        if self.step < 1:
            raise ValueError(f"hop: {self.hop} s are less than a sample at {self.rate} Hz")
        if not self.low < self.top <= self.rate / 2:
            raise ValueError(f"high: expected more than `low` ({self.low:g} Hz) and at most {self.rate / 2:g} Hz")
        return self

    @property
    def length(self) -> int:
        """Number of samples per frame."""
        return round(self.frame * self.rate)

    @property
    def step(self) -> int:
        """Number of samples from one frame to the next."""
        return round(self.hop * self.rate)

    @property
    def top(self) -> float:
        """Frequency in Hz at which the last band ends."""
        return self.high or self.rate / 2


# -- coefficients -----------------------------------------------------------------------------------------------------


def mfcc(waveform: np.ndarray, rate: int, settings: Settings | None = None) -> np.ndarray:
    """(29,) float32 coefficients averaged over the frames, C0 first; not standardised.

    Parameters
    ----------
    waveform : (T,) samples, or (C, T) channels, which are averaged. Integers are scaled to -1 ... 1, floats are not.
    rate : sampling rate in Hz; if it differs from that of the settings, the clip is resampled (`resampled`).

    Raises
    ------
    UserError : the clip has no samples or non-finite ones, is silent, or is shorter than one frame.
    """
    settings = settings or Settings()
    waveform = np.asarray(waveform)
    if np.issubdtype(waveform.dtype, np.integer):
        half = np.float32(2 ** (8 * waveform.dtype.itemsize - 1))
        unsigned = np.issubdtype(waveform.dtype, np.unsignedinteger)
        waveform = (waveform.astype(np.float32) - half * unsigned) / half
    waveform = waveform.astype(np.float32, copy=False)
    if waveform.ndim == 2:
        waveform = sounds.mono(waveform)
    if waveform.ndim != 1 or not waveform.size:
        raise UserError(f"a clip of shape {waveform.shape}: expected samples (T,) or channels (C, T)")
    if not np.isfinite(waveform).all():
        raise UserError("samples that are not finite numbers; expected real sound")
    if float(waveform.max()) - float(waveform.min()) <= 2 * settings.silence:
        raise UserError(
            f"silence: no sample differs from the others by more than {settings.silence:g} (`silence`); leave the "
            "clip out"
        )
    waveform = resampled(waveform, rate, settings.rate)
    if len(waveform) < settings.length:
        raise UserError(
            f"a clip of {len(waveform) / settings.rate * 1000:.1f} ms; "
            f"expected at least one frame of {settings.frame * 1000:g} ms (`frame`)"
        )
    energies = log_mel(waveform, settings)
    # The transform is linear, so that the transform of the mean is the mean of the transforms.
    return scipy.fft.dct(energies.mean(0, dtype=np.float64), norm="ortho")[: settings.coefficients].astype(np.float32)


def resampled(waveform: np.ndarray, rate: int, target: int) -> np.ndarray:
    """Resample (T,) samples from `rate` to `target` Hz, to (ceil(T * target / rate),) samples.

    The polyphase filter is that of `scipy.signal.resample_poly`, with a Kaiser window.

    Raises
    ------
    UserError : the rate is not positive, the resampled clip would exceed `limits.samples`, or the filter between two
        rates that have hardly a divisor in common `limits.sound_ratio`.
    """
    if rate <= 0:
        raise UserError(f"a sampling rate of {rate}; expected a number of samples per second")
    if rate == target:
        return waveform
    common = gcd(int(rate), target)
    up, down = target // common, int(rate) // common
    held = limits.current()
    if (count := -(-len(waveform) * up // down)) > held.samples:
        raise UserError(
            f"{rate:,} samples per second, of which {target:,} would make {count:,} samples, expected at most "
            f"{held.samples:,} (`limits.samples` in params.yaml); cut it, or mend the rate in its header"
        )
    if max(up, down) > held.sound_ratio:
        raise UserError(
            f"{rate:,} samples per second, which are to {target:,} as {down:,} to {up:,}, expected numbers up to "
            f"{held.sound_ratio:,} (`limits.sound_ratio` in params.yaml); write it with a usual rate"
        )
    return resample_poly(waveform, up, down, window=_low_pass(max(up, down)))


@lru_cache(8)
def _low_pass(ratio: int) -> np.ndarray:
    """SciPy's default filter, cached because its design takes longer than the filtering for odd rates."""
    return firwin(20 * ratio + 1, 1 / ratio, window=("kaiser", 5.0)).astype(np.float32)


def log_mel(waveform: np.ndarray, settings: Settings) -> np.ndarray:
    """(F, mels) float32 natural logarithms of the bands' energies, from (T,) samples at the settings' rate.

    Only frames that lie entirely in the clip are used; none is padded at the ends.
    """
    window = get_window(settings.window, settings.length).astype(np.float32)
    bands = filter_bank(settings)
    count = (len(waveform) - settings.length) // settings.step + 1
    out = np.empty((count, settings.mels), np.float32)
    for start in range(0, count, BLOCK):
        stop = (min(start + BLOCK, count) - 1) * settings.step + settings.length
        part = _emphasised(waveform, start * settings.step, stop, settings.preemphasis)
        frames = np.lib.stride_tricks.sliding_window_view(part, settings.length)[:: settings.step]
        spectrum = scipy.fft.rfft(frames * window, settings.fft)
        power = spectrum.real**2 + spectrum.imag**2
        # The bank is sparse since a band has few bins; its sums also do not depend on the BLAS and its threads.
        out[start : start + BLOCK] = (bands @ np.ascontiguousarray(power.T)).T
    return np.log(np.maximum(out, np.float32(settings.floor), out=out), out=out)


def _emphasised(waveform: np.ndarray, start: int, stop: int, factor: float) -> np.ndarray:
    """The samples from `start` to `stop`, each less `factor` times the one before it; the first of all is kept."""
    part = waveform[start:stop].copy()
    first = max(start, 1)
    part[first - start :] += np.float32(-factor) * waveform[first - 1 : stop - 1]
    return part


def mel_of(hertz: np.ndarray, scale: str) -> np.ndarray:
    """Convert Hz to mel: by HTK's 2595 log10(1 + f / 700), or as Slaney's Auditory Toolbox (linear below 1 kHz)."""
    if scale == "htk":
        return 2595 * np.log10(1 + hertz / 700)
    return np.where(hertz < KNEE, hertz / SLOPE, KNEE / SLOPE + np.log(np.maximum(hertz, KNEE) / KNEE) / STEP)


def hertz_of(mel: np.ndarray, scale: str) -> np.ndarray:
    """Convert mel to Hz, the inverse of `mel_of`."""
    if scale == "htk":
        return 700 * (10 ** (mel / 2595) - 1)
    return np.where(mel < KNEE / SLOPE, mel * SLOPE, KNEE * np.exp((mel - KNEE / SLOPE) * STEP))


@lru_cache(8)
def filter_bank(settings: Settings) -> scipy.sparse.csr_array:
    """(mels, fft // 2 + 1) float32 triangular bands, evenly spaced on the mel scale.

    Each band extends from the peak of the previous one to the peak of the next one.

    Raises
    ------
    UserError : a band is so narrow that it holds no bin of the transform.
    """
    ends = mel_of(np.array([settings.low, settings.top]), settings.scale)
    corners = hertz_of(np.linspace(*ends, settings.mels + 2), settings.scale)
    bins = np.arange(settings.fft // 2 + 1) * (settings.rate / settings.fft)
    left, peak, right = corners[:-2, None], corners[1:-1, None], corners[2:, None]
    bank = np.maximum(0, np.minimum((bins - left) / (peak - left), (right - bins) / (right - peak)))
    if settings.band_norm == "slaney":
        bank *= 2 / (right - left)
    empty = np.flatnonzero(~bank.any(1))
    if len(empty):
        raise UserError(
            f"extractors.*.mels: band {empty[0]} of {settings.mels} is narrower than the {bins[1]:.1f} Hz of a bin; "
            "set a smaller `mels` or a larger `fft`"
        )
    return scipy.sparse.csr_array(bank.astype(np.float32))


# -- extraction -------------------------------------------------------------------------------------------------------


def recipe(settings: Settings, given: Given) -> Recipe:
    """Recipe for the (N, 29) coefficients of sound clips.

    Raises
    ------
    UserError : the settings contradict each other, a clip is bad, or no training clip exists to standardise by.
    """
    filter_bank(settings)  # reports impossible settings before any clip is read

    def load(item: Item) -> np.ndarray:
        waveform, rate = sounds.read(item.path)
        try:
            return mfcc(waveform, rate, settings)
        except UserError as error:
            raise UserError(f"{item.path}: {error}") from None

    return Recipe(
        lambda listed: Work(load, np.stack, BATCH, {"device": "cpu"}),
        {"pooling": "mean over the frames", "resampling": "scipy.signal.resample_poly"},
        finish=standardise if settings.standardise else None,
        again=restandardise if settings.standardise else None,
        packages=("av", "scipy", "soundfile"),
    )


def standardise(array: np.ndarray, rows: pd.DataFrame) -> dict[str, Any]:
    """Standardise each column of `array` in place to mean 0 and standard deviation 1 over the training items.

    A column that is constant over the training items is only shifted.

    Returns
    -------
    The means and standard deviations, for the manifest.

    Raises
    ------
    UserError : no item is of the training part.
    """
    train = (rows.partition == "train").to_numpy() if "partition" in rows else np.ones(len(rows), bool)
    if not train.any():
        raise UserError("items.parquet: no clip of the partition `train`; set `standardise: false` or add some")
    values = array[train].astype(np.float64)
    mean, sd = values.mean(0), values.std(0)
    array[:] = (array - mean) / np.where(sd > 0, sd, 1)
    return {"standardised_by": {"partition": "train", "mean": mean.tolist(), "sd": sd.tolist()}}


def restandardise(array: np.ndarray, manifest: dict[str, Any]) -> np.ndarray:
    """Standardise further rows by the means and standard deviations that `standardise` recorded in the manifest."""
    mean, sd = (np.array(manifest["standardised_by"][key]) for key in ("mean", "sd"))
    return (array - mean) / np.where(sd > 0, sd, 1)
