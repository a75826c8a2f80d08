"""Segments DICOM images with what a run has learned, and writes masks that say nothing of a patient.

Segmentation objects, which do, are written where they are asked for.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from rich.console import Console

from transeg.core.api.run_networks import load_adapting, load_trained
from transeg.core.claims import claimed
from transeg.core.data.dicom_frames import DicomFrame, dicom_frames
from transeg.core.data.dicom_header import is_dicom
from transeg.core.data.dicom_pixels import read_dicom
from transeg.core.data.dicom_seg_writing import encode_segmentation, segment_descriptions, segmentation_groups
from transeg.core.data.images import EXTENSIONS, fit_channels
from transeg.core.data.writing import write_together
from transeg.core.distributed.progress_bar import progress_bar
from transeg.core.errors import DataError, Failures, UsageError
from transeg.core.inference.large_image import to_uint8
from transeg.core.inference.masks import class_map, shown_mask
from transeg.core.inference.pixel_size import PixelSize, rescale_factors, scale_reference
from transeg.core.inference.prediction import segment_image
from transeg.core.inference.reading import Reading
from transeg.core.inference.visualization import draw_outlines
from transeg.core.registry import Registry
from transeg.core.runs.run_folder import RunFolder

WHAT = "A DICOM image"
"""Needs pydicom."""


def holds_dicom(place: Path) -> bool:
    """Whether a place is a DICOM file, or a folder that holds such files, also in folders below, and no image."""
    if place.is_file():
        return is_dicom(place)
    if not place.is_dir() or any(path.suffix.lower() in EXTENSIONS for path in place.iterdir()):
        return False
    return any(is_dicom(path) for path in place.rglob("*") if not path.name.startswith("."))


def predict_dicom(
    run_dir: Path,
    place: Path,
    registry: Registry,
    console: Console,
    *,
    out: Path,
    window: int | None,
    flips: bool,
    device: str | None,
    pixel_size: PixelSize | None = None,
    translate_with: Path | None = None,
    direction: str | None = None,
    rescale: float | None = None,
    assignments: Sequence[str] = (),
    overlays: bool = True,
    segmentations: bool = False,
    failures: Failures,
) -> tuple[int, Path]:
    """Segment DICOM images frame by frame.

    Writes ``masks/<name>.png``, and the images with the masks' outlines where wanted; names are those of
    :class:`transeg.core.data.dicom_frames.DicomFrame`. Where wanted, ``segmentations/<series>.dcm``, which belong to
    the patients: see :mod:`transeg.core.data.dicom_seg_writing`. What is not said here,
    :func:`transeg.core.api.image_files.predict_images` does.

    Args:
        run_dir: of the run.
        place: a file, or a folder.
        registry: where components come from.
        console: for progress.
        out: the folder.
        window: of the inference.
        flips: of the inference.
        device: to compute on.
        pixel_size: of all images; by default what each says.
        translate_with: run that brings images into the domain that the segmenter knows.
        direction: of that translation.
        rescale: factor on images.
        assignments: ``range`` of the dataset dicom; by default that of the run, else what files say.
        overlays: whether to write outlines.
        segmentations: whether to write DICOM-SEG.
        failures: get the files that cannot be read.

    Returns:
        How many images were segmented, and the folder.

    Raises:
        UsageError: an option does not fit.
    """
    reading = Reading.of(assignments)
    if reading.page is not None:
        raise UsageError("--set page is for images of several pages; all frames of a DICOM file are segmented.")
    frames, faults = dicom_frames(place, WHAT)
    failures.reasons += [fault.reason for fault in faults]
    trained = load_trained(RunFolder(run_dir), registry, device)
    translator = load_adapting(translate_with, trained, registry, device, direction)
    channels = trained.domains.target_channels if translator is None else translator.takes
    range_ = reading.within(scale_reference(trained.experiment, translator).range).range
    inference, names = trained.inference(window, flips), trained.domains.class_names
    objects = _Segmentations(frames, names, out / "segmentations") if segmentations else None
    series: dict[str, list[DicomFrame]] = defaultdict(list)
    for frame in frames:
        series[frame.series].append(frame)
    count = 0
    with (
        claimed(out, "predict", [frame.path for frame in frames]),
        progress_bar(console, "segmenting", len(frames)) as advance,
    ):
        for frame in frames:
            with failures.collect():
                image = _fitted(frame, read_dicom(frame, range_, tuple(series[frame.series])), channels)
                size = pixel_size or frame.pixel_size
                scale = rescale_factors(trained.experiment, translator, size, rescale)
                logits = segment_image(trained, image, inference, translator=translator, scale=scale, name=frame.name)
                mask = class_map(logits)
                pictures = {out / "masks" / f"{frame.name}.png": shown_mask(mask, len(names))}
                if overlays:
                    pictures[out / "overlays" / f"{frame.name}.png"] = draw_outlines(to_uint8(image), mask)
                write_together(pictures)
                count += 1
                if objects is not None:
                    objects.add(frame, mask)
            with failures.collect():
                if objects is not None:
                    objects.finish(frame)
            advance()
    return count, out


class _Segmentations:
    """Writes a segmentation once all its frames have been seen.

    Args:
        frames: all.
        names: of the classes, background first.
        folder: where it goes.
    """

    def __init__(self, frames: Sequence[DicomFrame], names: Sequence[str], folder: Path) -> None:
        self._descriptions = segment_descriptions(names)
        self._groups = segmentation_groups(frames)
        self._finished_by = {group[-1]: name for name, group in self._groups.items()}
        self._masks: dict[DicomFrame, np.ndarray] = {}
        self._folder = folder

    def add(self, frame: DicomFrame, mask: np.ndarray) -> None:
        """Keep a frame's mask ``(H, W)``."""
        self._masks[frame] = mask.astype(np.uint8)

    def finish(self, frame: DicomFrame) -> None:
        """Write what a frame is the last of, if it is; nothing of frames of which none could be segmented.

        Raises:
            DataError: it cannot be made.
        """
        name = self._finished_by.get(frame)
        if name is None:
            return
        group = self._groups[name]
        masks = {each: self._masks.pop(each) for each in group if each in self._masks}
        if masks:
            content = encode_segmentation(group, masks, self._descriptions)
            write_together({self._folder / f"{name}.dcm": content})


def _fitted(frame: DicomFrame, pixels: np.ndarray, channels: int) -> np.ndarray:
    """An image of the network's channels.

    Raises:
        DataError: it cannot be that.
    """
    image = fit_channels(pixels, channels, lambda _: None, alpha=False)
    if image is None:
        raise DataError(
            f"{frame.path} has {pixels.shape[2]} channels, but the run knows images of {channels}.", str(frame.path)
        )
    return image
