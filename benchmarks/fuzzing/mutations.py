"""Mutations of files: of bytes anywhere, and of the parts of a format, with corrected lengths and checksums.

A mutation of a part reaches code behind the first checks of a reader; one of bytes mostly fails at a checksum.
"""

import random
import struct
import zlib
from collections.abc import Callable

__all__ = ["mutate"]

INTERESTING = (0, 1, 2, 3, 7, 8, 9, 16, 17, 31, 32, 63, 127, 128, 255, 256, 257, 4095, 32767, 32768, 65534, 65535)
INTERESTING_32 = (*INTERESTING, 65536, 2**24, 2**28, 2**31 - 1, 2**31, 2**32 - 1, 2**32 - 2)
_TIFF_TAGS = (254, 256, 257, 258, 259, 262, 266, 273, 274, 277, 278, 279, 284, 317, 320, 322, 324, 338, 339, 347, 42113)
_WEBP_CHUNKS = (b"VP8 ", b"VP8L", b"VP8X", b"ALPH", b"ANIM", b"ANMF", b"EXIF", b"XMP ", b"ICCP")
_Mutation = Callable[[bytearray, random.Random, bytes], bytearray]


def mutate(data: bytes, name: str, rng: random.Random, other: bytes) -> bytes:
    """Damage a file in one to four places.

    Args:
        data: The file.
        name: Its name; the suffix gives the format.
        rng: The random generator.
        other: Another file of the format, to take parts of.
    """
    suffix = name.rpartition(".")[2]
    structured = _STRUCTURED.get(suffix)
    mutated = bytearray(data)
    for _ in range(rng.choice((1, 1, 1, 2, 3, 4))):
        mutation = structured if structured is not None and rng.random() < 0.6 else rng.choice(_GENERIC)
        mutated = mutation(mutated, rng, other)
    return bytes(mutated)


def _flip(data: bytearray, rng: random.Random, _other: bytes) -> bytearray:
    for _ in range(rng.choice((1, 1, 2, 8))):
        if data:
            data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    return data


def _set(data: bytearray, rng: random.Random, _other: bytes) -> bytearray:
    width = rng.choice((1, 2, 4, 4, 8))
    if len(data) >= width:
        value = rng.choice(INTERESTING_32) % 2 ** (8 * width)
        at = rng.randrange(len(data) - width + 1)
        data[at : at + width] = value.to_bytes(width, rng.choice(("little", "big")))
    return data


def _truncate(data: bytearray, rng: random.Random, _other: bytes) -> bytearray:
    return data[: rng.randrange(len(data) + 1)]


def _delete(data: bytearray, rng: random.Random, _other: bytes) -> bytearray:
    at = rng.randrange(len(data) + 1)
    del data[at : at + rng.choice((1, 2, 4, 20, 200))]
    return data


def _insert(data: bytearray, rng: random.Random, _other: bytes) -> bytearray:
    at = rng.randrange(len(data) + 1)
    data[at:at] = rng.randbytes(rng.choice((1, 2, 4, 20, 200)))
    return data


def _repeat(data: bytearray, rng: random.Random, _other: bytes) -> bytearray:
    at, length = rng.randrange(len(data) + 1), rng.choice((1, 4, 12, 50, 300))
    data[at:at] = data[at : at + length] * rng.choice((1, 2, 20))
    return data


def _splice(data: bytearray, rng: random.Random, other: bytes) -> bytearray:
    cut, at = rng.randrange(len(data) + 1), rng.randrange(len(other) + 1)
    return data[:cut] + bytearray(other[at:])


def _number(data: bytearray, rng: random.Random, _other: bytes) -> bytearray:
    """Replace a number in text by another one."""
    digits = [at for at, byte in enumerate(data) if 48 <= byte <= 57]
    if digits:
        at = rng.choice(digits)
        new = rng.choice((b"0", b"-1", b"1e999", b"nan", b"99999999999999999999", b"1.5", b"", b"2147483648"))
        data[at : at + 1] = new
    return data


_GENERIC: tuple[_Mutation, ...] = (_flip, _flip, _set, _set, _truncate, _delete, _insert, _repeat, _splice)


def _png(data: bytearray, rng: random.Random, other: bytes) -> bytearray:
    """Change, leave out, repeat, move or borrow a chunk; checksums are right afterwards, mostly."""
    chunks = _png_chunks(data)
    if not chunks:
        return _flip(data, rng, other)
    at = rng.randrange(len(chunks))
    action = rng.randrange(7)
    name, body = chunks[at]
    if action <= 2:
        if name == b"IDAT" and rng.random() < 0.7:
            body = _repacked(body, rng)
        else:
            body = bytes(rng.choice((_flip, _set, _truncate, _insert))(bytearray(body), rng, other))
        chunks[at] = name, body
    elif action == 3:
        del chunks[at]
    elif action == 4:
        chunks.insert(rng.randrange(len(chunks) + 1), chunks[at])
    elif action == 5:
        chunks.insert(rng.randrange(len(chunks) + 1), rng.choice(_png_chunks(bytearray(other)) or chunks))
    else:
        chunks[at] = rng.choice((b"IHDR", b"PLTE", b"tRNS", b"iCCP", b"eXIf", b"iTXt", b"zTXt", b"acTL")), body
    wrong = 0 if rng.random() < 0.95 else 1
    parts = (
        struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body) ^ wrong)
        for name, body in chunks
    )
    return bytearray(data[:8] + b"".join(parts))


def _png_chunks(data: bytearray) -> list[tuple[bytes, bytes]]:
    found, at = [], 8
    while at + 12 <= len(data) and len(found) < 200:
        length = int.from_bytes(data[at : at + 4], "big")
        found.append((bytes(data[at + 4 : at + 8]), bytes(data[at + 8 : at + 8 + length])))
        at += 12 + length
    return found


def _repacked(body: bytes, rng: random.Random) -> bytes:
    try:
        rows = bytearray(zlib.decompressobj().decompress(body, 2**20))
    except zlib.error:
        return body
    return zlib.compress(bytes(rng.choice((_flip, _set, _truncate, _insert, _repeat))(rows, rng, b"")))


def _tiff(data: bytearray, rng: random.Random, other: bytes) -> bytearray:
    """Change an entry of a directory: its tag, type, count or value; or where the next directory lies."""
    if len(data) < 16 or data[:2] not in (b"II", b"MM"):
        return _flip(data, rng, other)
    order = "<" if data[:2] == b"II" else ">"
    big = 43 in (data[2], data[3])
    try:
        start = struct.unpack_from(order + ("Q" if big else "I"), data, 8 if big else 4)[0]
        count = struct.unpack_from(order + ("Q" if big else "H"), data, start)[0]
    except (struct.error, OverflowError):
        return _flip(data, rng, other)
    head, entry, word = (8, 20, 8) if big else (2, 12, 4)
    if not 0 < count < 1000 or start + head + count * entry + word > len(data):
        return _set(data, rng, other)
    place = start + head + entry * rng.randrange(count)
    action = rng.randrange(7)
    if action == 0:
        struct.pack_into(order + "H", data, place, rng.choice(_TIFF_TAGS))
    elif action == 1:
        struct.pack_into(order + "H", data, place + 2, rng.choice((*range(19), 65535)))
    elif action == 2:
        struct.pack_into(order + ("Q" if big else "I"), data, place + 4, rng.choice(INTERESTING_32))
    elif action in (3, 4):
        at = place + 4 + word
        form = rng.choice(("H", "I")) if not big else "Q"
        near = struct.unpack_from(order + form, data, at)[0] + rng.choice((-1, 1, 2, 16))
        largest = 2 ** (16 if form == "H" else 32)
        struct.pack_into(order + form, data, at, rng.choice((near, *INTERESTING_32)) % largest)
    elif action == 5:
        last = start + head + count * entry
        struct.pack_into(order + ("Q" if big else "I"), data, last, rng.choice((start, 8, len(data) - 4, 1, 2**31)))
    else:
        first = start + head + entry * rng.randrange(count)
        data[place : place + entry] = data[first : first + entry]
    return data


def _jpeg(data: bytearray, rng: random.Random, other: bytes) -> bytearray:
    """Change, leave out or repeat a marker's segment, or its length."""
    segments, at = [], 2
    while at + 4 <= len(data) and data[at] == 0xFF and len(segments) < 100:
        length = int.from_bytes(data[at + 2 : at + 4], "big")
        segments.append((at, 2 + length))
        if data[at + 1] == 0xDA:  # start of scan
            break
        at += 2 + length
    if not segments:
        return _flip(data, rng, other)
    at, length = rng.choice(segments)
    action = rng.randrange(5)
    if action == 0:
        data[at + 2 : at + 4] = rng.choice(INTERESTING).to_bytes(2, "big")
    elif action == 1:
        del data[at : at + length]
    elif action == 2:
        data[at:at] = data[at : at + length]
    else:
        body = rng.choice((_flip, _set))(data[at + 4 : at + length], rng, other)
        data[at + 4 : at + length] = body
    return data


def _boxes(data: bytearray, rng: random.Random, other: bytes) -> bytearray:
    """Change a box of an ISO media file (AVIF, HEIC), at any depth: its size, its name, its body."""
    found: list[tuple[int, int]] = []
    pending = [(0, len(data))]
    while pending and len(found) < 200:
        at, end = pending.pop()
        while at + 8 <= end:
            size = int.from_bytes(data[at : at + 4], "big")
            if size < 8 or at + size > end:
                break
            found.append((at, size))
            if data[at + 4 : at + 8] in (b"meta", b"iprp", b"ipco", b"iinf", b"iref"):
                skip = {b"meta": 12, b"iinf": 14, b"iref": 12}.get(bytes(data[at + 4 : at + 8]), 8)
                pending.append((at + skip, at + size))
            at += size
    if not found:
        return _flip(data, rng, other)
    at, size = rng.choice(found)
    action = rng.randrange(5)
    if action == 0:
        data[at : at + 4] = rng.choice((size - 1, size + 1, *INTERESTING_32)).to_bytes(4, "big")
    elif action == 1:
        data[at + 4 : at + 8] = rng.choice((b"ispe", b"pixi", b"irot", b"colr", b"Exif", b"mdat", b"free", b"hvcC"))
    elif action == 2:
        del data[at : at + size]
    else:
        data[at + 8 : at + size] = rng.choice((_flip, _set))(data[at + 8 : at + size], rng, other)
    return data


def _riff(data: bytearray, rng: random.Random, other: bytes) -> bytearray:
    """Change a chunk of a RIFF file (WebP)."""
    found, at = [], 12
    while at + 8 <= len(data) and len(found) < 100:
        size = int.from_bytes(data[at + 4 : at + 8], "little")
        found.append((at, size))
        at += 8 + size + size % 2
    if not found:
        return _flip(data, rng, other)
    at, size = rng.choice(found)
    action = rng.randrange(5)
    if action == 0:
        data[at + 4 : at + 8] = rng.choice((size - 1 if size else 0, size + 1, *INTERESTING_32)).to_bytes(4, "little")
    elif action == 1:
        data[at : at + 4] = rng.choice(_WEBP_CHUNKS)
    elif action == 2:
        del data[at : at + 8 + size + size % 2]
    else:
        data[at + 8 : at + 8 + size] = rng.choice((_flip, _set))(data[at + 8 : at + 8 + size], rng, other)
    return data


def _text(data: bytearray, rng: random.Random, other: bytes) -> bytearray:
    return rng.choice((_number, _number, _flip, _delete, _splice))(data, rng, other)


_STRUCTURED: dict[str, _Mutation] = {
    "png": _png,
    "tif": _tiff,
    "dng": _tiff,
    "jpg": _jpeg,
    "avif": _boxes,
    "heic": _boxes,
    "webp": _riff,
    "txt": _text,
    "csv": _text,
    "toml": _text,
    "jsonl": _text,
    "npy": _number,
}
