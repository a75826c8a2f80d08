"""How large a tile says that it is, before it is decoded: decoders make room for whatever that is, and fill it."""

from __future__ import annotations

ENOUGH = 2**16
"""Bytes in which a tile has said its size."""
JPEG, JPEG_2000 = b"\xff\xd8", b"\xff\x4f\xff\x51"
FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
"""Markers of JPEG behind which there is a size."""
SCAN = 0xDA
"""The marker behind which pixels begin."""


def coded_size(begin: bytes) -> tuple[int, int] | None:
    """Height and width by the first bytes of a JPEG or JPEG 2000 tile; None where they do not say."""
    if begin.startswith(JPEG):
        return _size_of_jpeg(begin)
    place = begin.find(JPEG_2000)
    if place < 0 or len(begin) < place + 24:
        return None
    right, bottom, left, top = (int.from_bytes(begin[place + 8 + 4 * n : place + 12 + 4 * n], "big") for n in range(4))
    return bottom - top, right - left


def _size_of_jpeg(begin: bytes) -> tuple[int, int] | None:
    place = 2
    while place + 9 <= len(begin) and begin[place] == 0xFF:
        marker = begin[place + 1]
        if marker in FRAMES:
            height, width = (int.from_bytes(begin[place + at : place + at + 2], "big") for at in (5, 7))
            return height, width
        if marker == SCAN:
            return None
        place += 1 if marker == 0xFF else 2 + int.from_bytes(begin[place + 2 : place + 4], "big")
    return None
