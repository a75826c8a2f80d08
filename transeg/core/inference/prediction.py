"""Segments or translates image files and writes the results."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path

import numpy as np
from torch import Tensor

from transeg.core.analysis.count_tables import ObjectTables
from transeg.core.analysis.fibre_tables import FibreTables
from transeg.core.data.images import (
    EXTENSIONS,
    read_binary_mask,
    read_label_map,
    resize,
)
from transeg.core.data.unread_endings import describe_unread, say_unread
from transeg.core.data.writing import image_suffix, write_atomically, write_together
from transeg.core.errors import DataError, Failures, UsageError
from transeg.core.inference.adaptation import ENOUGH, evenly
from transeg.core.inference.large_image import is_large, predict_large_image, to_uint8, translate_large_image
from transeg.core.inference.masks import class_map, shown_mask
from transeg.core.inference.overlapping import WorkBehind, read_ahead
from transeg.core.inference.pixel_size import PixelSize
from transeg.core.inference.predicted_objects import Documents, predicted_objects
from transeg.core.inference.reading import Reading
from transeg.core.inference.sliding_window import Inference, resize_result
from transeg.core.inference.trained_model import TrainedModel
from transeg.core.inference.translator import Translator, to_pixels, translation_seed
from transeg.core.inference.visualization import draw_outlines
from transeg.core.interfaces import IGNORE
from transeg.core.models.forward import to_probabilities

Advance = Callable[[], None]
LookAt = Callable[[str, Tensor, Tensor], None]
"""Is given an image's name, the image as the network takes it ``(C, h, w)``, and logits ``(K, H, W)`` of its own size.
"""


def list_image_files(path: Path) -> list[Path]:
    """An image file, or those in a folder, by name.

    Raises:
        UsageError: there is none, or two would be written to one result.
    """
    if path.is_file():
        if unread := describe_unread(path):
            raise UsageError(f"{path} {unread}.")
        return [path]
    if not path.is_dir():
        raise UsageError(f"There is no image or folder {path}.")
    files = sorted(
        file for file in path.iterdir() if file.suffix.lower() in EXTENSIONS and not file.name.startswith(".")
    )
    if not files:
        unread = describe_unread(path)
        raise UsageError(f"The folder {path} {unread or 'holds no image'}.")
    say_unread(path)
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
    failures: Failures,
    reading: Reading,
    translator: Translator | None = None,
    scale: tuple[float, float] = (1.0, 1.0),
    overlays: bool = True,
    polygons: Documents | None = None,
    pixel_size: PixelSize | None = None,
    look: LookAt | None = None,
) -> None:
    """Write masks, overlays and, where asked for, probabilities, all at each image's own size.

    Masks of one class are 0 and 255, of several classes their numbers. Overlays are JPEG files of images that come in
    colour and 8 bits, as photographs do, else PNG. Probabilities are 16-bit PNG files, one for
    each class but background. Images too large for memory, in windows, give TIFF files; see
    :func:`transeg.core.inference.large_image.predict_large_image`. ``tables`` get each mask to count or
    measure what is in it. The height and width of images are multiplied by ``scale``, and images brought by
    ``translator`` into the domain that the segmenter knows; masks come back at the size of the file. Files that cannot
    be read are left to ``failures``. ``polygons`` makes what is written of the objects in each mask beside it.
    TIFF files say how large pixels are: ``pixel_size``, else what the image says. ``look`` is shown each image that is
    taken whole, in order.

    Files are read ahead and written behind in threads, in order; on a GPU, images of one size are segmented together.
    """
    look = look or (lambda *_: None)
    by_bands = translator is None and scale == (1, 1) and reading.page is None
    channels = trained.domains.target_channels if translator is None else translator.takes

    def read(file: Path) -> np.ndarray | None:
        return None if by_bands and is_large(trained, file, inference) else reading.image(file, channels)

    def write(file: Path, image: np.ndarray | None, mask: np.ndarray, logits: Tensor | None) -> None:
        results = _results(file, image, mask, logits, trained, out, with_probabilities, polygons)
        write_together(results)
        for table in tables:
            table.add(file.stem, mask)

    def segment(group: Sequence[tuple[Path, np.ndarray, Tensor]]) -> None:
        results = inference.run_together(trained.segment, [prepared for _, _, prepared in group], trained.device)
        for (file, image, prepared), result in zip(group, results, strict=True):
            logits = resize_result(result, *image.shape[:2])
            look(file.stem, prepared, logits)
            shown, kept = image if overlays else None, logits if with_probabilities or polygons is not None else None
            behind(partial(write, file, shown, class_map(logits), kept))

    group: list[tuple[Path, np.ndarray, Tensor]] = []
    with WorkBehind() as behind, read_ahead(read, files) as images:
        for file, found in images:
            with failures.collect():
                image = found.result()
                if image is None:
                    behind.finish()
                    predict_large_image(
                        trained,
                        file,
                        out,
                        inference,
                        with_probabilities,
                        reading.range,
                        overlays=overlays,
                        pixel_size=pixel_size,
                    )
                else:
                    prepared = prepare_image(trained, image, inference, translator, scale, file.stem)
                    if group and not inference.fits(prepared, [other for _, _, other in group], trained.device):
                        segment(group)
                        group = []
                    group.append((file, image, prepared))
            advance()
        if group:
            segment(group)


def _results(
    file: Path,
    image: np.ndarray | None,
    mask: np.ndarray,
    logits: Tensor | None,
    trained: TrainedModel,
    out: Path,
    with_probabilities: bool,
    polygons: Documents | None,
) -> dict[Path, np.ndarray | bytes]:
    """What is written of an image, by its files; no overlay where no image is given."""
    names = trained.domains.class_names
    written: dict[Path, np.ndarray | bytes] = {out / "masks" / f"{file.stem}.png": shown_mask(mask, len(names))}
    if image is not None:
        suffix = ".jpg" if image.dtype == np.uint8 and image.shape[2] == 3 else ".png"
        written[out / "overlays" / f"{file.stem}{suffix}"] = draw_outlines(to_uint8(image), mask)
    if logits is None:
        return written
    probabilities = to_probabilities(logits[None])[0].cpu().numpy()
    for name, values in zip(names[1:], probabilities, strict=True) if with_probabilities else ():
        suffix = "" if len(names) == 2 else f"-{name}"
        pixels = (values * 65535).round().astype(np.uint16)
        written[out / "probabilities" / f"{file.stem}{suffix}.png"] = pixels
    if polygons is not None:
        written |= polygons(file, mask.shape[:2], list(predicted_objects(mask, probabilities)))
    return written


def translate_files(
    translator: Translator,
    files: list[Path],
    out: Path,
    advance: Advance,
    scale: tuple[float, float] = (1.0, 1.0),
    *,
    failures: Failures,
    reading: Reading,
) -> None:
    """Write the translation of each image or label map, at its own size; images are seen at ``scale`` times that.

    Images keep their type: 8 bits, 16 bits or float32, as PNG where it holds that, else as TIFF. Files that cannot be
    read are left to ``failures``.
    """
    trained = translator.trained
    by_mask = trained.given.by_mask
    by_bands = not by_mask and scale == (1, 1) and reading.page is None

    def read(file: Path) -> np.ndarray | None:
        if by_mask:
            return read_labels(file, len(trained.domains.class_names))
        if by_bands and is_large(trained, file, translator.inference):
            return None
        return reading.image(file, translator.takes)

    def make(file: Path, image: np.ndarray) -> np.ndarray:
        if by_mask:
            return image_of_labels(trained, image, translator.inference, file.stem)
        return translate_image(translator, image, file.stem, scale)

    with WorkBehind() as behind, read_ahead(read, files) as images:
        for file, found in images:
            with failures.collect():
                image = found.result()
                if image is None:
                    behind.finish()
                    translate_large_image(translator, file, out, reading.range)
                else:
                    made = make(file, image)
                    behind(partial(write_atomically, out / f"{file.stem}{image_suffix(made)}", made))
            advance()


def prepared_images(
    trained: TrainedModel,
    files: Sequence[Path],
    inference: Inference,
    reading: Reading,
    translator: Translator | None,
    scale: tuple[float, float],
) -> Iterator[Tensor]:
    """Some of the files, evenly among all, as the segmenter takes them; those that cannot be read are left out."""
    channels = trained.domains.target_channels if translator is None else translator.takes
    for index in evenly(len(files), ENOUGH):
        with suppress(DataError):  # it is named where it is to be segmented
            image = reading.image(files[index], channels)
            yield prepare_image(trained, image, inference, translator, scale, files[index].stem)


def segment_image(
    trained: TrainedModel,
    image: np.ndarray,
    inference: Inference,
    *,
    translator: Translator | None = None,
    scale: tuple[float, float] = (1.0, 1.0),
    name: str | int = "",
) -> Tensor:
    """``(H, W, C)`` -> logits ``(K, H, W)`` on the CPU.

    Args:
        trained: its segmenter.
        image: uint8, uint16 or float32 in [0, 1], of the channels that the first network takes.
        inference: how it reaches the segmenter.
        translator: brings it into the domain that the segmenter knows.
        scale: what its height and width are multiplied by before.
        name: decides the chance of the translation; see :func:`translation_seed`.
    """
    prepared = prepare_image(trained, image, inference, translator, scale, name)
    return resize_result(inference.run(trained.segment, prepared, trained.device), *image.shape[:2]).cpu()


def prepare_image(
    trained: TrainedModel,
    image: np.ndarray,
    inference: Inference,
    translator: Translator | None,
    scale: tuple[float, float],
    name: str | int,
) -> Tensor:
    """``(H, W, C)`` -> ``(C, h, w)`` as the segmenter takes it, on the CPU; see :func:`segment_image`."""
    known = scale_image(image, scale)
    if translator is not None:
        known = translator(known, name)
    return inference.prepare(trained.normalised(known))


def translate_image(
    translator: Translator, image: np.ndarray, name: str | int, scale: tuple[float, float] = (1.0, 1.0)
) -> np.ndarray:
    """``(H, W, C)`` -> ``(H, W, C')`` of the same type, seen at ``scale`` times its size; see :class:`Translator`."""
    return resize(translator(scale_image(image, scale), name), *image.shape[:2])


def image_of_labels(trained: TrainedModel, labels: np.ndarray, inference: Inference, name: str | int) -> np.ndarray:
    """The image ``(H, W, C)`` uint8 that a label map ``(H, W)`` becomes; see :func:`translation_seed` for the name."""
    forward = partial(trained.translate, seed=translation_seed(name))
    made = inference.run(forward, trained.given.labels(labels, None, inference), trained.device)
    return to_pixels(resize_result(made, *labels.shape))


def read_labels(file: Path, count: int) -> np.ndarray:
    """``(H, W)``: a label map of a given number of classes, in which those of two are black and white."""
    values = label_values(count)
    return read_binary_mask(file) if values is None else read_label_map(file, values)


def label_values(count: int) -> dict[int, int] | None:
    """The class of every value in a label map of a given number of classes; None where it is black and white."""
    return None if count == 2 else {**{number: number for number in range(count)}, IGNORE: IGNORE}


def scale_image(image: np.ndarray, scale: tuple[float, float]) -> np.ndarray:
    """``(H, W, C)`` with its height and width multiplied."""
    return resize(image, *(max(1, round(side * factor)) for side, factor in zip(image.shape, scale, strict=False)))
