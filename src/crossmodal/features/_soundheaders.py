"""Headers of sound files whose writer did not know yet how long the sound would be: a recorder that was killed, a pipe.

Such a header may say that there are no bytes of sound although they follow. libsndfile believes it, but reads to the
end of the file where the header says that the length is not known, which each format has a way to say.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

NOT_KNOWN = b"\xff\xff\xff\xff"
WAVES = (b"RIFF", b"RIFX", b"RF64", b"BW64")
LONG = (b"RF64", b"BW64")  # whose lengths lie in a chunk `ds64` of their own
W64_DATA = b"data" + bytes.fromhex("f3acd3118cd100c04f8edb8a")
LARGEST_FRAME = 2881  # bytes of an MP3 frame
OFFSETS = 8  # bytes of an AIFF chunk of sound before its samples


def with_length(data: bytes) -> bytes:
    """The file with a header that libsndfile reads to its end, where its own says that it holds no sound.

    A WAV file is written again from its chunks, also if one of an odd size lacks the byte that fills it up. A file
    that is in order or truly holds no sound comes back as it is.
    """
    if data[:4] in WAVES and data[8:12] == b"WAVE":
        return _wave(data)
    if data[:4] == b"FORM" and data[8:12] in (b"AIFF", b"AIFC"):
        for name, start, size in _chunks(data, ">"):
            if name == b"SSND" and size <= OFFSETS and _is_sound(data[start + OFFSETS :], ">"):
                return data[: start - 4] + NOT_KNOWN + data[start:]
    if data[:4] == b"riff" and (place := data.find(W64_DATA)) > 0:  # Wave64: sizes with their heads
        start = place + 24
        if int.from_bytes(data[start - 8 : start], "little") >= 2**62:
            size = (len(data) - place).to_bytes(8, "little")
            return data[:16] + len(data).to_bytes(8, "little") + data[24 : start - 8] + size + data[start:]
    if data[:4] in (b".snd", b"dns.") and data[8:12] == bytes(4):  # AU: place of the sound, its size
        start = int.from_bytes(data[4:8], "big" if data[:4] == b".snd" else "little")
        return data[:8] + NOT_KNOWN + data[12:] if len(data) > start else data
    return data


def says_its_length(data: bytes) -> bool:
    """Whether an MP3 file tells how many frames it has: else libsndfile guesses their number from the first one's size.

    A tag in the first frame (`Xing`, or `Info` of constant rate) has it where the lowest of its flags is set.
    """
    begin = 0
    if data[:3] == b"ID3" and len(data) >= 10:  # its size is in four bytes of seven bits
        begin = 10 + sum((byte & 127) << 7 * place for place, byte in enumerate(reversed(data[6:10])))
    first = data[begin : begin + LARGEST_FRAME]
    place = max(first.find(b"Xing"), first.find(b"Info"))
    return place >= 0 and len(first) >= place + 12 and first[place + 7] & 1 == 1 and any(first[place + 8 : place + 12])


def lacks_its_length(data: bytes) -> bool:
    """Whether this is a FLAC file that says 0 samples, which means "not known" and which libsndfile cannot read."""
    # The first block begins at byte 8; its last 36 bits of these are the number of samples (RFC 9639, section 8.2).
    return data[:4] == b"fLaC" and int.from_bytes(data[18:26], "big") % 2**36 == 0


def _wave(data: bytes) -> bytes:
    order = ">" if data[:4] == b"RIFX" else "<"
    others, in_order, length = b"", True, 0
    for name, start, size in _chunks(data, order):
        if name == b"data":
            declared = length if data[:4] in LONG and size == 2**32 - 1 else size
            open_ended = declared in (0, 2**64 - 1) and _is_sound(data[start:], order)
            if in_order and not open_ended:
                return data
            stated = NOT_KNOWN if open_ended else struct.pack(f"{order}I", size)
            form = b"RIFX" if order == ">" else b"RIFF"
            return form + NOT_KNOWN + b"WAVE" + others + b"data" + stated + data[start:]
        if name == b"ds64":  # sizes of the file and of the sound
            length = int.from_bytes(data[start + 8 : start + 16], "little")
            continue
        odd = size % 2
        in_order = in_order and not (odd and _begins_chunk(data, start + size))
        others += data[start - 8 : start + size] + bytes(odd)
    return data


def _chunks(data: bytes, order: str, start: int = 12) -> Iterator[tuple[bytes, int, int]]:
    """Name, place and size of each chunk; one of an odd size is followed by a byte that fills it up, or should be."""
    while start + 8 <= len(data):
        name, size = struct.unpack_from(f"{order}4sI", data, start)
        yield name, start + 8, size
        start += 8 + size
        start += size % 2 and not _begins_chunk(data, start)


def _begins_chunk(data: bytes, place: int) -> bool:
    """Whether a chunk's name stands at a place where a filling byte is expected, which is a zero."""
    name = data[place : place + 4]
    return len(name) == 4 and name.isascii() and name.decode().isprintable()


def _is_sound(data: bytes, order: str) -> bool:
    """Whether what follows a header is samples: neither nothing nor the chunks that may stand after the sound."""
    end = 0
    for name, start, size in _chunks(data, order, 0):
        if not (name.isascii() and name.decode().isprintable()):
            return True
        end = start + size
    return not len(data) - 1 <= end <= len(data)
