"""Segments a video with what a run has learned, and writes one with outlines."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from rich.console import Console

from transeg.core.analysis.csv_files import CsvFiles
from transeg.core.analysis.tracking import TrackedObject, Tracker
from transeg.core.api.run_networks import load_adapting, load_trained
from transeg.core.claims import claimed
from transeg.core.data.decoded_image import Range
from transeg.core.data.images import fit_channels
from transeg.core.data.intensities import holds_for, to_unit
from transeg.core.data.video_frames import VideoFile
from transeg.core.distributed.progress_bar import progress_bar
from transeg.core.errors import DataError, UsageError
from transeg.core.files import replacing
from transeg.core.inference.masks import class_map
from transeg.core.inference.overlay_video import OverlayVideo
from transeg.core.inference.pixel_size import PixelSize, rescale_factors, scale_reference
from transeg.core.inference.prediction import segment_image
from transeg.core.inference.visualization import draw_numbers, draw_outlines
from transeg.core.registry import Registry
from transeg.core.runs.run_folder import RunFolder

WRITTEN = (".mp4", ".mkv", ".mov")
USUAL_RATE = Fraction(25)
"""Frames a second, where a video does not say."""
OF_OBJECT = ["frame", "seconds", "id", "class", "area", "centroid_x", "centroid_y", "left", "top", "width", "height"]

logger = logging.getLogger("transeg.data")


def predict_video(
    run_dir: Path,
    video: Path,
    registry: Registry,
    console: Console,
    *,
    out: Path,
    fps: float,
    start: float,
    end: float,
    window: int | None,
    flips: bool,
    device: str | None,
    pixel_size: PixelSize | None = None,
    translate_with: Path | None = None,
    direction: str | None = None,
    rescale: float | None = None,
) -> tuple[int, Path, Path]:
    """Segment the frames of a video, of which one is in memory at a time.

    Writes the frames with outlines at their own times, and beside that video two CSV files: ``<name>.csv`` with a line
    for each frame, its time, and for each class but background the area in pixels and the number of connected
    components; and ``<name>_objects.csv`` with a line for each of these components, with the number that it has in all
    frames in which :class:`~transeg.core.analysis.tracking.Tracker` knows it again. See
    :func:`transeg.core.api.image_files.predict_images` for what is not said here.

    Args:
        run_dir: of the run.
        video: the file.
        registry: where components come from.
        console: for progress.
        out: the video to write.
        fps: frames to segment a second; 0 for all.
        start: seconds, from where on.
        end: seconds, up to where; 0 for the end.
        window: of the inference.
        flips: of the inference.
        device: to compute on.
        pixel_size: of the video's pixels.
        translate_with: run that brings frames into the domain that the segmenter knows.
        direction: of that translation.
        rescale: factor on frames.

    Returns:
        How many frames were segmented, the table of frames and that of objects.

    Raises:
        UsageError: an option does not fit.
        DataError: the video cannot be decoded; nothing is written then.
    """
    if out.suffix.lower() not in WRITTEN:
        raise UsageError(f"{video} is a video, so --out {out} must be a file that ends in {' or '.join(WRITTEN)}.")
    if end and end <= start:
        raise UsageError(f"--to {end:g} must be later than --from {start:g}.")
    with VideoFile(video, "A video") as file:
        trained = load_trained(RunFolder(run_dir), registry, device)
        translator = load_adapting(translate_with, trained, registry, device, direction)
        channels = trained.domains.target_channels if translator is None else translator.takes
        scale = rescale_factors(trained.experiment, translator, pixel_size, rescale)
        range_ = scale_reference(trained.experiment, translator).range
        inference = trained.inference(window, flips)
        names = trained.domains.class_names[1:]
        header = ["seconds", *(f"{what}_{name}" for name in names for what in ("area", "components"))]
        rate = Fraction(fps).limit_denominator(1001) if fps else file.rate or USUAL_RATE
        total = max(0, round(((min(end, file.seconds) if end else file.seconds) - start) * rate))
        table, objects = out.with_suffix(".csv"), out.with_name(f"{out.stem}_objects.csv")
        tracker, count, first = Tracker(), 0, 0
        with (
            claimed(out.parent, "predict", [video], deep=False),
            CsvFiles() as tables,
            replacing(out) as unfinished,
            OverlayVideo(unfinished, rate, file.unit) as overlays,
            progress_bar(console, "segmenting", total, "frames") as advance,
        ):
            rows, of_objects = tables.begin(table, header), tables.begin(objects, OF_OBJECT)
            for frame in file.chosen(fps, start, end):
                pixels = frame.pixels()
                image = _fitted(pixels, channels, range_, video)
                logits = segment_image(trained, image, inference, translator=translator, scale=scale, name=count)
                mask = class_map(logits)
                first = first if count else frame.pts
                lasts = 0 if fps else frame.picture.duration or 0
                found = tracker.add(mask)
                overlays.add(draw_numbers(draw_outlines(pixels, mask), found), frame.pts - first, lasts)
                rows.writerow([f"{frame.seconds:.3f}", *_measures(mask, names)])
                of_objects.writerows(_object_row(count, frame.seconds, each, names) for each in found)
                count += 1
                advance()
            if not count:
                raise DataError(f"{video} has no frame between --from {start:g} and --to {end:g}.", str(video))
    return count, table, objects


def _fitted(pixels: np.ndarray, channels: int, range_: Range | None, video: Path) -> np.ndarray:
    """A frame as the network's images are: of its channels, on its scale."""
    said = partial(logger.debug, "%s %s.", video)
    image = fit_channels(pixels, channels, said, alpha=False)
    if image is None:
        raise UsageError(f"{video} has 3 channels, but the run knows images of {channels}.")
    return to_unit(image, range_ if holds_for(range_, image) else None, said)


def _measures(mask: np.ndarray, names: Sequence[str]) -> list[int]:
    """Of each class the area and the number of components."""
    found = []
    for label in range(1, len(names) + 1):
        region = (mask == label).astype(np.uint8)
        found += [int(region.sum()), cv2.connectedComponents(region, connectivity=8)[0] - 1]
    return found


def _object_row(frame: int, seconds: float, found: TrackedObject, names: Sequence[str]) -> list[Any]:
    """What :data:`OF_OBJECT` names; rows and columns of pixels count from 0."""
    centre = f"{found.column:.2f}", f"{found.row:.2f}"
    box = found.left, found.top, found.width, found.height
    return [frame, f"{seconds:.3f}", found.id, names[found.label - 1], found.area, *centre, *box]
