"""Opens all sounds: it defines which of them are read, how long a sound may be, and the range of its samples.

libsndfile reads what it knows, and FFmpeg the rest. Both detect the format by a file's content, whatever its name.
"""

from __future__ import annotations

import io
import re
from pathlib import Path

import av
import numpy as np
import soundfile

from crossmodal.core import limits, soundheaders
from crossmodal.core.errors import UserError

PACKETS = 2**18  # of a sound, each of which takes time: half an hour in packets of 7 ms
CHANGE = 4  # packets whose time a change of the samples' form takes
COSTS = {
    **dict.fromkeys(("alac", "wavpack", "tta", "dca"), 2),
    "opus": 4,
    **dict.fromkeys(("alac_16", "alac_20", "alac_24", "alac_32", "paf", "sds"), 4),
    **dict.fromkeys(("g721_32", "g723_24", "g723_40"), 25),
}
"""Time that decoding takes per sample, in units of that of usual codecs, by the names that libsndfile gives to formats
and codecs, and FFmpeg to codecs."""
USUAL = re.compile(r"pcm|float|double|[ua]law|dpcm|mpeg|mp[123]|e?ac3|aac|flac|vorbis|wmav|(adpcm_)?(ima|ms)_?")
UNUSUAL = 8  # the cost of a sample in any other codec: those of telephones, GSM and AMR among them
EXACT = 0.95  # of the length that a header states, which must be there
READ = 2**20  # samples read at once, before they are mixed to one channel
CUT_OFF = r"^[ \t]*(?:data|SSND)[ \t]*:[ \t]*(\d{1,18}) \(should be (\d{1,18})\)"  # in libsndfile's log
UNKNOWN = 2**31 - 2**16  # a length from here on in a header means that it was unknown when the header was written


def read(path: Path) -> tuple[np.ndarray, int]:
    """(T,) float32 samples (the mean of the channels) and the sampling rate in Hz, read by soundfile or else by PyAV.

    Raises
    ------
    UserError : the file is missing, truncated, too long or no sound, or holds no samples or non-finite ones.
    """
    try:
        if (size := path.stat().st_size) > 8 * limits.current().samples:
            raise _too_long(path, f"{size:,} bytes")
        data = path.read_bytes()
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); complete the sound folder and run again") from None
    if not data:
        raise UserError(f"{path}: is an empty file; fetch it again")
    data = soundheaders.with_length(data)
    try:
        file = None if soundheaders.lacks_its_length(data) else soundfile.SoundFile(_Bytes(data))
    except soundfile.SoundFileError:
        file = None
    if file is None:
        parts, rate = _by_av(path, data)
    else:
        with file:
            parts, rate = _by_soundfile(path, data, file)
    waveform = _joined(parts)
    if not len(waveform):
        raise UserError(f"{path}: holds no samples; expected a clip of sound")
    if not np.isfinite(waveform).all():
        raise UserError(f"{path}: holds samples that are not finite numbers; write the clip again")
    return waveform, rate


def _joined(parts: list[np.ndarray]) -> np.ndarray:
    """The parts one after the other; each is let go once it is copied, so that a long clip is not held twice."""
    if len(parts) == 1:
        return parts[0]
    out = np.empty(sum(map(len, parts)), np.float32)
    end = len(out)
    while parts:
        part = parts.pop()
        out[end - len(part) : end] = part
        end -= len(part)
    return out


class _Bytes(io.BytesIO):
    """A file in memory in which a position before its beginning, as a damaged header may state, means its beginning."""

    def seek(self, offset: int, whence: int = 0) -> int:
        try:
            return super().seek(offset, whence)
        except ValueError:  # soundfile cannot propagate the error and would print it
            return super().seek(0)


def _by_soundfile(path: Path, data: bytes, file: soundfile.SoundFile) -> tuple[list[np.ndarray], int]:
    parts, n_samples = [], 0
    _check_rate(path, file.samplerate)
    each = file.channels * max(_cost(file.subtype), COSTS.get(file.format.lower(), 1))
    if file.frames < UNKNOWN:
        _check_length(path, file.frames, each)
    try:
        while len(block := file.read(READ // file.channels + 1, dtype="float32", always_2d=True)):
            parts.append(mono(block.T))
            n_samples += len(block)
            _check_length(path, n_samples, each)
    except soundfile.SoundFileError as error:
        raise UserError(f"{path}: is cut off or damaged ({error}); fetch it again") from None
    # libsndfile reads a truncated file as far as it goes; how the truncation shows depends on the format.
    for claimed, stored in re.findall(CUT_OFF, file.extra_info, re.MULTILINE):
        if int(stored) < int(claimed) < UNKNOWN:
            raise UserError(f"{path}: is cut off: {stored} of {claimed} bytes of sound are there; fetch it again")
    is_exact = file.format != "MP3" or soundheaders.says_its_length(data)
    if is_exact and n_samples < file.frames < UNKNOWN:
        raise UserError(f"{path}: is cut off: {n_samples} of {file.frames} samples are there; fetch it again")
    if file.format == "OGG" and (last := data.rfind(b"OggS")) >= 0 and not data[last + 5] & 4:
        raise UserError(f"{path}: is cut off: its last page is missing; fetch it again, or write it again if it plays")
    return parts, file.samplerate


def _check_rate(path: Path, rate: int) -> int:
    if not 0 < rate <= limits.current().sound_rate:
        raise UserError(
            f"{path}: has {rate:,} samples per second, expected at most {limits.current().sound_rate:,} "
            "(`limits.sound_rate` in params.yaml); its header is damaged"
        )
    return rate


def _cost(codec: str) -> int:
    name = codec.lower()
    return COSTS.get(name, 1 if USUAL.match(name) else UNUSUAL)


def _check_length(path: Path, count: int, each: int) -> None:
    """Refuse a sound of too many samples.

    Parameters
    ----------
    count : samples per channel.
    each : the number of channels times the cost of a sample in the codec.
    """
    held = limits.current()
    if count > held.samples:
        raise _too_long(path, f"{count:,} samples")
    if count * each > held.sound_values:
        raise UserError(
            f"{path}: has at least {count:,} samples, which count as {count * each:,} by its channels and "
            f"its codec, expected at most {held.sound_values:,} (`limits.sound_values` in params.yaml); shorten it, "
            "or write it as FLAC of one channel"
        )


def _check_packets(path: Path, count: int) -> None:
    if count > PACKETS:
        raise UserError(f"{path}: has more than {PACKETS:,} packets; cut it, or write it in larger ones")


def _too_long(path: Path, length: str) -> UserError:
    most = f"{limits.current().samples:,} samples (`limits.samples` in params.yaml)"
    return UserError(f"{path}: has {length}, expected at most {most}; shorten it")


def _by_av(path: Path, data: bytes) -> tuple[list[np.ndarray], int]:
    parts, rate, stated, n_samples, packets, form = [], 0, None, 0, 0, None
    try:
        with av.open(io.BytesIO(data), options={"protocol_whitelist": "none"}) as container:  # no playlist
            if not container.streams.audio:
                raise UserError(f"{path}: holds no sound; expected a clip that soundfile or FFmpeg can read")
            stream = container.streams.audio[0]
            cost = _cost(stream.codec_context.codec.canonical_name)
            if {"mov", "matroska"} & set(container.format.name.split(",")):  # other formats only estimate their length
                stated = container.duration / av.time_base if container.duration else None
                _check_packets(path, stream.frames)
                if stated and 0 < stream.rate <= limits.current().sound_rate:
                    _check_length(path, int(EXACT * stated * stream.rate), stream.channels * cost)
            floats = av.AudioResampler(format="fltp")  # changes the sample type only, not the channels or the rate
            waiting = av.AudioFifo()  # since what is done for each frame takes longer than to decode a short one
            for frame in container.decode(stream):
                channels = frame.layout.nb_channels
                before, form = form, (frame.format.name, channels, frame.sample_rate)
                changed = before not in (None, form)
                _check_packets(path, packets := packets + (CHANGE if changed else 1))
                rate = _check_rate(path, frame.sample_rate)
                _check_length(path, n_samples := n_samples + frame.samples, channels * cost)
                if changed:
                    parts += _taken(waiting, floats)
                    waiting = av.AudioFifo()
                frame.pts = None
                waiting.write(frame)
                if waiting.samples * channels >= READ:
                    parts += _taken(waiting, floats)
            parts += _taken(waiting, floats)
    except (av.FFmpegError, ValueError) as error:
        message = getattr(error, "strerror", None) or error
        raise UserError(f"{path}: is damaged or no sound ({message}); fetch it again") from None
    seconds = n_samples / (rate or 1)
    if stated and seconds < EXACT * stated - 0.1:
        raise UserError(f"{path}: is cut off: {seconds:.2f} s of {stated:.2f} s are there; fetch it again")
    return parts, rate


def _taken(waiting: av.AudioFifo, floats: av.AudioResampler) -> list[np.ndarray]:
    """All samples that wait, as the mean of their channels."""
    frame = waiting.read() if waiting.samples else None
    return [] if frame is None else [mono(part.to_ndarray()) for part in floats.resample(frame)]


def mono(block: np.ndarray) -> np.ndarray:
    """(t,) float32 mean of the channels of (C, t) samples."""
    if len(block) == 1:
        return block[0]
    total = block[0] + block[1]  # many times faster than a mean over so short an axis
    for channel in block[2:]:
        total += channel
    return total * np.float32(1 / len(block))
