"""A decoded sample in a file: what :mod:`transeg.core.data.cache` keeps."""

from __future__ import annotations

import json
import mmap
import os
import struct
import zlib
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np

from transeg.core.interfaces import Sample

MAGIC = b"transeg1"
PREFIX = struct.Struct("<8sIIQ")
"""What a file begins with: magic number, checksum of all that follows, length of the header, length of the file."""
ALIGNMENT = 64
MAPPED = 2**20
"""Bytes from which on a file is mapped; smaller ones are read, since each that is mapped costs an open file."""

PLAIN = "biuf"
"""Kinds of numbers: truth values, integers and floats."""

Buffer = bytes | memoryview


def encode_sample(sample: Sample) -> list[Buffer] | None:
    """A sample as the content of a file, in parts; None where it has an array of no plain numbers."""
    described: dict[str, Any] = {}
    parts: list[Buffer] = []
    end = 0
    for name, value in ((field.name, getattr(sample, field.name)) for field in fields(sample)):
        if not isinstance(value, np.ndarray):
            described[name] = value
            continue
        if value.dtype.kind not in PLAIN:
            return None
        array = np.ascontiguousarray(value)
        described[name] = {"type": array.dtype.str, "shape": array.shape, "start": end}
        parts += [array.reshape(-1).view(np.uint8).data, bytes(-array.nbytes % ALIGNMENT)]
        end += -(-array.nbytes // ALIGNMENT) * ALIGNMENT
    header = json.dumps(described).encode()
    header += b" " * (-(PREFIX.size + len(header)) % ALIGNMENT)
    checksum = zlib.crc32(header)
    for part in parts:
        checksum = zlib.crc32(part, checksum)
    return [PREFIX.pack(MAGIC, checksum, len(header), PREFIX.size + len(header) + end), header, *parts]


def open_sample(path: Path, *, check: bool) -> tuple[Sample, os.stat_result]:
    """The sample in a file, and the file's state. Its arrays may be written to, which does not change the file.

    Args:
        path: the file.
        check: look at every byte; without, at its length.

    Raises:
        OSError: it cannot be read.
        ValueError: it is damaged.
    """
    with path.open("rb", buffering=0) as file:
        state = os.fstat(file.fileno())
        data: Any
        if state.st_size >= MAPPED:
            data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
        else:
            data = bytearray(state.st_size)
            file.readinto(data)
    if len(data) < PREFIX.size:
        raise ValueError("it is too short")
    magic, checksum, length, size = PREFIX.unpack_from(data)
    if magic != MAGIC or size != len(data):
        raise ValueError("its header or length differs")
    with memoryview(data) as view:
        if check and zlib.crc32(view[PREFIX.size :]) != checksum:
            raise ValueError("its checksum differs")
    start = PREFIX.size + length
    described = json.loads(bytes(data[PREFIX.size : start]))
    arrays = {}
    for name, value in described.items():
        if isinstance(value, dict):
            if np.dtype(value["type"]).kind not in PLAIN:
                raise ValueError("it holds something other than numbers")
            arrays[name] = np.ndarray(value["shape"], value["type"], data, start + value["start"])
    pixel_size = described.pop("pixel_size")
    return Sample(**described | arrays, pixel_size=pixel_size and tuple(pixel_size)), state
