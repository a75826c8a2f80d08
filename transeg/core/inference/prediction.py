"""Segments or translates image files and writes the results."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from transeg.core.analysis.count_tables import ObjectTables
from transeg.core.analysis.fibre_tables import FibreTables
from transeg.core.data.images import (
    EXTENSIONS,
    read_binary_mask,
    read_image,
    read_label_map,
    resize,
    write_image,
)
from transeg.core.data.writing import image_suffix, write_atomically
from transeg.core.errors import UsageError
from transeg.core.inference.sliding_window import Inference, resize_result
from transeg.core.inference.trained_model import TrainedModel
from transeg.core.inference.translator import Translator, to_pixels, translation_seed
from transeg.core.inference.visualization import draw_outlines
from transeg.core.inference.whole_slide import is_large, predict_slide, to_uint8, translate_slide
from transeg.core.interfaces import IGNORE
from transeg.core.models.forward import to_classes, to_probabilities

Advance = Callable[[], None]


def list_image_files(path: Path) -> list[Path]:
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
    trained: TrainedModel,
    files: list[Path],
    out: Path,
    inference: Inference,
    with_probabilities: bool,
    advance: Advance,
    tables: Sequence[ObjectTables | FibreTables] = (),
    *,
    translator: Translator | None = None,
    scale: tuple[float, float] = (1.0, 1.0),
) -> None:
    """Write masks, overlays and, where asked for, probabilities, all at each image's own size.

    Masks of one class are 0 and 255, of several classes their numbers. Probabilities are 16-bit PNG files, one for
    each class but background. Images too large for memory, in windows, give TIFF files; see
    :func:`transeg.core.inference.whole_slide.predict_slide`. ``tables`` get each mask to count or
    measure what is in it. The height and width of images are multiplied by ``scale``, and images brought by
    ``translator`` into the domain that the segmenter knows; masks come back at the size of the file.
    """
    names = trained.domains.class_names
    for file in files:
        if translator is None and scale == (1, 1) and is_large(trained, file, inference):
            predict_slide(trained, file, out, inference, with_probabilities)
            advance()
            continue
        image = read_image(file, trained.domains.target_channels if translator is None else translator.takes)
        known = scale_image(image, scale)
        if translator is not None:
            known = translator(known, file.stem)
        prepared = inference.prepare(trained.normalised(known))
        logits = resize_result(inference.run(trained.segment, prepared, trained.device), *image.shape[:2])
        mask = to_classes(logits[None])[0].numpy().astype(np.uint8)
        write_image(out / "masks" / f"{file.stem}.png", mask * 255 if len(names) == 2 else mask)
        write_image(out / "overlays" / f"{file.stem}.png", draw_outlines(to_uint8(image), mask))
        for table in tables:
            table.add(file.stem, mask)
        if with_probabilities:
            for name, values in zip(names[1:], to_probabilities(logits[None])[0], strict=True):
                suffix = "" if len(names) == 2 else f"-{name}"
                pixels = (values.numpy() * 65535).round().astype(np.uint16)
                write_image(out / "probabilities" / f"{file.stem}{suffix}.png", pixels)
        advance()


def translate_files(
    translator: Translator, files: list[Path], out: Path, advance: Advance, scale: tuple[float, float] = (1.0, 1.0)
) -> None:
    """Write the translation of each image or label map, at its own size; images are seen at ``scale`` times that.

    Images keep their type: 8 bits, 16 bits or float32, as PNG where it holds that, else as TIFF.
    """
    trained = translator.trained
    for file in files:
        if trained.given.by_mask:
            made = _made_of_labels(trained, file, translator.inference)
        elif scale == (1, 1) and is_large(trained, file, translator.inference):
            translate_slide(translator, file, out)
            advance()
            continue
        else:
            image = read_image(file, translator.takes)
            made = resize(translator(scale_image(image, scale), file.stem), *image.shape[:2])
        write_atomically(out / f"{file.stem}{image_suffix(made)}", made)
        advance()


def _made_of_labels(trained: TrainedModel, file: Path, inference: Inference) -> np.ndarray:
    """``(H, W, C)`` uint8: the image that a label map becomes."""
    mask = read_labels(file, len(trained.domains.class_names))
    forward = partial(trained.translate, seed=translation_seed(file.stem))
    made = inference.run(forward, trained.given.labels(mask, None, inference), trained.device)
    return to_pixels(resize_result(made, *mask.shape))


def read_labels(file: Path, count: int) -> np.ndarray:
    """``(H, W)``: a label map of a given number of classes, in which those of two are black and white."""
    known = {**{number: number for number in range(count)}, IGNORE: IGNORE}
    return read_binary_mask(file) if count == 2 else read_label_map(file, known)


def scale_image(image: np.ndarray, scale: tuple[float, float]) -> np.ndarray:
    """``(H, W, C)`` with its height and width multiplied."""
    return resize(image, *(max(1, round(side * factor)) for side, factor in zip(image.shape, scale, strict=False)))
