"""Images and label maps that are in memory already, taken exactly as files of the same pixels would be read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from transeg.core.data.decoded_image import DecodedImage, Range
from transeg.core.data.decoding import with_channel_axis
from transeg.core.data.images import fit_channels, fit_type
from transeg.core.data.intensities import holds_for, to_unit
from transeg.core.data.labels import binarise, label_pixels, largest_of_channels, number_classes
from transeg.core.errors import DataError


def image_of_array(array: np.ndarray, channels: int, name: str, range_: Range | None = None) -> np.ndarray:
    """An image as :func:`transeg.core.data.images.read_unit_image` gives it.

    Args:
        array: ``(H, W)`` or ``(H, W, C)``; bool, uint8 or uint16, or floats in [0, 1].
        channels: wanted; grey is repeated to three, colour is mixed to one, an alpha channel is dropped.
        name: of the image, in what is said of it.
        range_: intensities that became 0 and 1 in images of its kind, where that is not the range of their type.

    Returns:
        ``(H, W, channels)``, uint8, uint16 or float32.

    Raises:
        DataError: it is no such array, or its channels cannot be brought to the wanted number.
    """
    try:
        pixels = with_channel_axis(_native(array))
        if holds_for(range_, pixels):
            pixels = to_unit(pixels, range_, _say_nothing)
        elif np.issubdtype(pixels.dtype, np.floating):
            pixels = _unit_floats(pixels)
        elif pixels.dtype not in (np.bool_, np.uint8, np.uint16):
            raise ValueError(f"has pixels of type {pixels.dtype}; convert it to 8 or 16 bits")
        fitting = fit_channels(fit_type(pixels), channels, _say_nothing, alpha=_has_alpha(pixels))
    except ValueError as fault:
        raise DataError(f"{name} {fault}.", name) from fault
    if fitting is None:
        first = "; channels come last, (H, W, C)" if pixels.shape[0] == channels else ""
        raise DataError(f"{name} has {pixels.shape[2]} channels, but the network takes {channels}{first}.", name)
    return fitting


def labels_of_array(array: np.ndarray, values: Mapping[int, int] | None, name: str) -> np.ndarray:
    """A label map as :func:`transeg.core.data.images.read_label_map` gives it, or ``read_binary_mask``.

    Args:
        array: ``(H, W)`` whole numbers or truth values.
        values: class of every value; None for black and white, or 0 and 1.
        name: of the label map, in what is said of it.

    Returns:
        ``(H, W)`` uint8 of classes.

    Raises:
        DataError: it is no such array, or has a value that stands for no class.
    """
    try:
        if not (array.dtype == np.bool_ or np.issubdtype(array.dtype, np.integer)):
            raise ValueError(f"has labels of type {array.dtype}; they are whole numbers")
        channels = with_channel_axis(_native(array))
        pixels = largest_of_channels(label_pixels(DecodedImage(channels, _has_alpha(channels)), _say_nothing).pixels)
        return binarise(pixels) if values is None else number_classes(pixels, values)
    except ValueError as fault:
        raise DataError(f"{name} {fault}.", name) from fault


def _has_alpha(pixels: np.ndarray) -> bool:
    """Whether the last channel counts as opacity: an array, unlike a file, cannot say so."""
    return pixels.shape[2] in (2, 4)


def _native(array: np.ndarray) -> np.ndarray:
    """In the byte order of this machine, as decoded files are."""
    kind: Any = array.dtype.newbyteorder("=")
    return array.astype(kind, copy=False)


def _unit_floats(pixels: np.ndarray) -> np.ndarray:
    """As float32, which files hold; a program's floats, unlike theirs, are easily on the scale of the bytes before.

    Raises:
        ValueError: they are not in [0, 1]; a clause.
    """
    least, most = float(pixels.min()), float(pixels.max())
    if not (np.isfinite(least) and np.isfinite(most)):
        raise ValueError("has values that are not finite (NaN or infinity); replace them")
    if not (least >= 0 and most <= 1):
        raise ValueError(f"has values from {least:g} to {most:g}; floats are in [0, 1], so divide by the largest")
    return pixels.astype(np.float32)


def _say_nothing(_what: str) -> None:
    """Of a whole folder of files, changes are said; who has an array can look at it."""
