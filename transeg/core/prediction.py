"""Segments or translates image files and writes the results."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
from torch import Tensor

from transeg.core.count_tables import ObjectTables
from transeg.core.data.images import (
    EXTENSIONS,
    lossless_suffix,
    read_binary_mask,
    read_image,
    read_label_map,
    write_image,
)
from transeg.core.errors import UsageError
from transeg.core.forward import classes, probabilities
from transeg.core.inference import Inference, at_size
from transeg.core.interfaces import IGNORE
from transeg.core.previews import overlay
from transeg.core.slides import eight_bits, is_large, predict_slide, translate_slide
from transeg.core.trained import Trained
from transeg.core.translation import as_pixels

Advance = Callable[[], None]


def image_files(path: Path) -> list[Path]:
    """An image file, or those in a folder, by name.

    Raises:
        UsageError: there is none, or two would be written to one result.
    """
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise UsageError(f"There is no image or folder {path}.")
    files = sorted(
        file for file in path.iterdir() if file.suffix.lower() in EXTENSIONS and not file.name.startswith(".")
    )
    if not files:
        raise UsageError(f"The folder {path} holds no image.")
    twice = [stem for stem, count in Counter(file.stem for file in files).items() if count > 1]
    if twice:
        raise UsageError(f"Several images in {path} are called {twice[0]}; their results would overwrite each other.")
    return files


def predict_files(
    trained: Trained,
    files: list[Path],
    out: Path,
    inference: Inference,
    with_probabilities: bool,
    advance: Advance,
    tables: ObjectTables | None = None,
) -> None:
    """Write masks, overlays and, where asked for, probabilities, all at each image's own size.

    Masks of one class are 0 and 255, of several classes their numbers. Probabilities are 16-bit PNG files, one for
    each class but background. Images too large for memory, in windows, give TIFF files; see
    :func:`transeg.core.slides.predict_slide`. ``tables`` get each mask to count its objects.
    """
    names = trained.domains.class_names
    for file in files:
        if is_large(trained, file, inference):
            predict_slide(trained, file, out, inference, with_probabilities)
            advance()
            continue
        image = read_image(file, trained.domains.target_channels)
        prepared = inference.prepare(trained.normalised(image))
        logits = at_size(inference.run(trained.segment, prepared, trained.device), *image.shape[:2])
        mask = classes(logits[None])[0].numpy().astype(np.uint8)
        write_image(out / "masks" / f"{file.stem}.png", mask * 255 if len(names) == 2 else mask)
        write_image(out / "overlays" / f"{file.stem}.png", overlay(eight_bits(image), mask))
        if tables is not None:
            tables.add(file.stem, mask)
        if with_probabilities:
            for name, values in zip(names[1:], probabilities(logits[None])[0], strict=True):
                suffix = "" if len(names) == 2 else f"-{name}"
                pixels = (values.numpy() * 65535).round().astype(np.uint16)
                write_image(out / "probabilities" / f"{file.stem}{suffix}.png", pixels)
        advance()


def translate_files(trained: Trained, files: list[Path], out: Path, inference: Inference, advance: Advance) -> None:
    """Write the translation of each image or label map, at its own size: 8-bit PNG, or TIFF where channels need it."""
    suffix = lossless_suffix(trained.domains.target_channels)
    for file in files:
        if is_large(trained, file, inference) and not trained.given.by_mask:
            translate_slide(trained, file, out, inference)
            advance()
            continue
        given, size = _given(trained, file, inference)
        result: Tensor = inference.run(trained.translate, given, trained.device)
        write_image(out / f"{file.stem}{suffix}", as_pixels(at_size(result, *size)))
        advance()


def _given(trained: Trained, file: Path, inference: Inference) -> tuple[Tensor, tuple[int, int]]:
    """What the generator is given of a file, and the file's height and width."""
    if not trained.given.by_mask:
        image = read_image(file, trained.domains.source_channels)
        return inference.prepare(trained.normalised(image)), image.shape[:2]
    count = len(trained.domains.class_names)
    known = {**{number: number for number in range(count)}, IGNORE: IGNORE}
    mask = read_binary_mask(file) if count == 2 else read_label_map(file, known)
    return trained.given.labels(mask, None, inference), mask.shape
