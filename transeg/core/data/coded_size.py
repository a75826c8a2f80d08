"""How large a tile says that it is, before it is decoded: decoders make room for whatever that is, and fill it."""

from __future__ import annotations

from tifffile import COMPRESSION

CODED = frozenset(
    {
        COMPRESSION.JPEG,
        COMPRESSION.JPEG2000,
        COMPRESSION.JPEG_2000_LOSSY,
        COMPRESSION.APERIO_JP2000_RGB,
        COMPRESSION.APERIO_JP2000_YCBC,
    }
)
"""Ways to store tiles in which each says its size; what others hold may look like it by chance."""
ENOUGH = 2**16
"""Bytes in which a tile has said its size."""
JPEG, JPEG_2000, CONTAINER = b"\xff\xd8", b"\xff\x4f\xff\x51", b"\0\0\0\x0cjP  "
FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
"""Markers of JPEG behind which there is a size."""
SCAN = 0xDA
"""The marker behind which pixels begin."""


def check_coded(begin: bytes, size: tuple[int, int]) -> None:
    """Whether a tile of one of the ways in :data:`CODED` is as large as it should be.

    Args:
        begin: its first bytes, :data:`ENOUGH` of them.
        size: height and width that it may have.

    Raises:
        ValueError: it says that it is larger.
    """
    found = coded_size(begin)
    if found is not None and (found[0] > size[0] or found[1] > size[1]):
        most = f"{size[1]}x{size[0]}"
        raise ValueError(f"a tile says that it has {found[1]}x{found[0]} pixels, and {most} is the most it may have")


def coded_size(begin: bytes) -> tuple[int, int] | None:
    """Height and width by the first bytes of a JPEG or JPEG 2000 tile; None where they do not say."""
    if begin.startswith(JPEG):
        return _size_of_jpeg(begin)
    place = begin.find(JPEG_2000) if begin.startswith((JPEG_2000, CONTAINER)) else -1
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
