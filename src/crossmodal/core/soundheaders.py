"""Repair of sound files whose header was written before the length was known, by a killed recorder or into a pipe.

Such a header may state a length of 0 although sound follows, and libsndfile believes it. If the header instead states
that the length is unknown, for which each format has a special value, libsndfile reads to the end of the file.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

NOT_KNOWN = b"\xff\xff\xff\xff"
WAVES = (b"RIFF", b"RIFX", b"RF64", b"BW64")
LONG = (b"RF64", b"BW64")  # formats that keep their lengths in a separate chunk `ds64`
W64_DATA = b"data" + bytes.fromhex("f3acd3118cd100c04f8edb8a")
LARGEST_FRAME = 2881  # maximum number of bytes of an MP3 frame
CHUNKS = 1_000_000  # of a file that are looked at, in a second; recorders write some tens
OFFSETS = 8  # bytes before the samples in the sound chunk of AIFF


def with_length(data: bytes) -> bytes:
    """The file with a repaired header, which states an unknown length if the original wrongly states that of no sound.

    The header of a WAV file is rebuilt from its chunks, also if a chunk of odd size lacks its padding byte. A file that
    is correct or really holds no sound is returned unchanged.
    """
    if data[:4] in WAVES and data[8:12] == b"WAVE":
        return _wave(data)
    if data[:4] == b"FORM" and data[8:12] in (b"AIFF", b"AIFC"):
        sound = next(((start, size) for name, start, size in _chunks(data, ">") if name == b"SSND"), None)
        if sound is not None and sound[1] <= OFFSETS and _is_sound(data[sound[0] + OFFSETS :], ">"):
            return data[: sound[0] - 4] + NOT_KNOWN + data[sound[0] :]
    if data[:4] == b"riff" and (place := data.find(W64_DATA)) > 0:  # Wave64: sizes include headers
        start = place + 24
        if int.from_bytes(data[start - 8 : start], "little") >= 2**62:
            size = (len(data) - place).to_bytes(8, "little")
            return data[:16] + len(data).to_bytes(8, "little") + data[24 : start - 8] + size + data[start:]
    if data[:4] in (b".snd", b"dns.") and data[8:12] == bytes(4):  # AU: offset and size of the sound
        start = int.from_bytes(data[4:8], "big" if data[:4] == b".snd" else "little")
        return data[:8] + NOT_KNOWN + data[12:] if len(data) > start else data
    return data


def says_its_length(data: bytes) -> bool:
    """Whether an MP3 file states its number of frames; otherwise libsndfile estimates it from the first frame's size.

    The tag in the first frame (`Xing`, or `Info` for a constant rate) states it if the lowest of its flags is set.
    """
    begin = 0
    if data[:3] == b"ID3" and len(data) >= 10:  # the size of the ID3 tag is stored in four bytes of seven bits
        begin = 10 + sum((byte & 127) << 7 * place for place, byte in enumerate(reversed(data[6:10])))
    first = data[begin : begin + LARGEST_FRAME]
    place = max(first.find(b"Xing"), first.find(b"Info"))
    return place >= 0 and len(first) >= place + 12 and first[place + 7] & 1 == 1 and any(first[place + 8 : place + 12])


def lacks_its_length(data: bytes) -> bool:
    """Whether a FLAC file states 0 samples, which means an unknown length and which libsndfile cannot read."""
    # The last 36 bits of these bytes are the number of samples (RFC 9639, section 8.2).
    return data[:4] == b"fLaC" and int.from_bytes(data[18:26], "big") % 2**36 == 0


def _wave(data: bytes) -> bytes:
    order = ">" if data[:4] == b"RIFX" else "<"
    others, in_order, length = bytearray(), True, 0
    for name, start, size in _chunks(data, order):
        if name == b"data":
            declared = length if data[:4] in LONG and size == 2**32 - 1 else size
            open_ended = declared in (0, 2**64 - 1) and _is_sound(data[start:], order)
            if in_order and not open_ended:
                return data
            stated = NOT_KNOWN if open_ended else struct.pack(f"{order}I", size)
            form = b"RIFX" if order == ">" else b"RIFF"
            return form + NOT_KNOWN + b"WAVE" + bytes(others) + b"data" + stated + data[start:]
        if name == b"ds64":  # holds the sizes of the file and of the sound
            length = int.from_bytes(data[start + 8 : start + 16], "little")
            continue
        odd = size % 2
        in_order = in_order and not (odd and _begins_chunk(data, start + size))
        others += data[start - 8 : start + size] + bytes(odd)
    return data


def _chunks(data: bytes, order: str, start: int = 12) -> Iterator[tuple[bytes, int, int]]:
    """Yield (name, offset of the content, size) of the first chunks; the padding byte of odd ones may be missing."""
    for _ in range(CHUNKS):
        if start + 8 > len(data):
            return
        name, size = struct.unpack_from(f"{order}4sI", data, start)
        yield name, start + 8, size
        start += 8 + size
        start += size % 2 and not _begins_chunk(data, start)


def _begins_chunk(data: bytes, place: int) -> bool:
    """Whether a chunk's name stands at `place` instead of a padding byte, which would be zero."""
    name = data[place : place + 4]
    return len(name) == 4 and name.isascii() and name.decode().isprintable()


def _is_sound(data: bytes, order: str) -> bool:
    """Whether the data after a header is sound: it is not empty, and does not consist of further chunks."""
    end = 0
    for name, start, size in _chunks(data, order, 0):
        if not (name.isascii() and name.decode().isprintable()):
            return True
        end = start + size
    return not len(data) - 1 <= end <= len(data)
