"""Segments volumes with what a run has learned, and writes label volumes that lie where these do."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from rich.console import Console

from transeg.core.api.run_networks import load_adapting, load_trained
from transeg.core.claims import claimed
from transeg.core.data.decoded_image import Range
from transeg.core.data.images import fit_channels
from transeg.core.data.volume_file import AXIAL, LabelVolume, VolumeFile, is_volume, open_volume, volume_stem
from transeg.core.distributed.progress_bar import progress_bar
from transeg.core.errors import DataError, Failures, UsageError
from transeg.core.experiment.settings import parse_assignment
from transeg.core.inference.masks import class_map
from transeg.core.inference.pixel_size import PixelSize, rescale_factors, scale_reference
from transeg.core.inference.prediction import segment_image
from transeg.core.inference.reading import Reading
from transeg.core.inference.sliding_window import Inference
from transeg.core.inference.trained_model import TrainedModel
from transeg.core.inference.translator import Translator
from transeg.core.registry import Registry
from transeg.core.runs.run_folder import RunFolder

WHAT = "A NIfTI volume"
"""Needs nibabel."""

logger = logging.getLogger("transeg.data")


@dataclass(frozen=True, slots=True)
class _Slices:
    """How volumes are cut, and what their slices are given to.

    Attributes:
        axis: across which slices lie; see :class:`transeg.core.data.volume_file.VolumeFile`.
        range: intensities that become 0 and 1; None for each volume's own.
        inference: how a slice reaches the segmenter.
        translator: what sees it first, if anything translates.
        pixel_size: of its pixels, where the user says it.
        rescale: factor on it, where the user says it.
    """

    axis: int
    range: Range | None
    inference: Inference
    translator: Translator | None
    pixel_size: PixelSize | None
    rescale: float | None


def volumes_in(place: Path) -> list[Path]:
    """A NIfTI file, or those straight in a folder that holds nothing else to segment; none for anything else.

    Raises:
        UsageError: two of them would be written to one result.
    """
    if place.is_file():
        return [place] if is_volume(place) else []
    if not place.is_dir():
        return []
    files = sorted(path for path in place.iterdir() if is_volume(path) and not path.name.startswith("."))
    twice = [stem for stem, count in Counter(map(volume_stem, files)).items() if count > 1]
    if twice:
        raise UsageError(f"Several volumes in {place} are called {twice[0]}; their results would overwrite each other.")
    return files


def predict_volumes(
    run_dir: Path,
    volumes: Sequence[Path],
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
    failures: Failures,
) -> tuple[int, Path]:
    """Segment NIfTI volumes slice by slice, of which one is in memory at a time, and a byte for each voxel.

    Writes ``masks/<name>.nii.gz``, class numbers as uint8, with the shape and the affine of the volume and nothing else
    of its header. See :func:`transeg.core.api.image_files.predict_images` for what is not said here.

    Args:
        run_dir: of the run.
        volumes: the files.
        registry: where components come from.
        console: for progress.
        out: the folder.
        window: of the inference.
        flips: of the inference.
        device: to compute on.
        pixel_size: of the pixels of slices; by default what the affine says.
        translate_with: run that brings slices into the domain that the segmenter knows.
        direction: of that translation.
        rescale: factor on slices.
        assignments: ``axis`` and ``range`` of the dataset nifti; by default as the run was trained, else axial slices
            in each volume's own range.
        failures: get the volumes that cannot be read.

    Returns:
        How many volumes were segmented, and the folder.

    Raises:
        UsageError: an option does not fit.
    """
    axis, reading = _read_as(assignments)
    trained = load_trained(RunFolder(run_dir), registry, device)
    translator = load_adapting(translate_with, trained, registry, device, direction)
    known = scale_reference(trained.experiment, translator)
    if axis is None:
        axis = int(known.options.get("axis", AXIAL))
    slices = _Slices(
        axis, reading.within(known.range).range, trained.inference(window, flips), translator, pixel_size, rescale
    )
    found = []
    for path in volumes:
        with failures.collect():
            found.append(open_volume(path, WHAT))
    total = sum(volume.shape[axis] for volume in found)
    with (
        claimed(out, "predict", volumes),
        progress_bar(console, "segmenting", total, "slices") as advance,
    ):
        for volume in found:
            with failures.collect():
                labels = _segmented(trained, volume, slices, advance)
                labels.write(out / "masks" / f"{volume_stem(volume.path)}.nii.gz")
    return len(volumes) - len(failures.reasons), out


def _segmented(trained: TrainedModel, volume: VolumeFile, slices: _Slices, advance: Callable[[], None]) -> LabelVolume:
    """The labels of a volume.

    Raises:
        DataError: it is damaged, or has other channels than the run knows.
    """
    channels = trained.domains.target_channels if slices.translator is None else slices.translator.takes
    size = slices.pixel_size or volume.pixel_size_of(slices.axis)
    scale = rescale_factors(trained.experiment, slices.translator, size, slices.rescale)
    labels = LabelVolume(volume, slices.axis)
    said = partial(logger.debug, "%s %s.", volume.path)
    stem = volume_stem(volume.path)
    for index in range(volume.shape[slices.axis]):
        image = fit_channels(volume.image(slices.axis, index, slices.range), channels, said, alpha=False)
        if image is None:
            raise DataError(
                f"{volume.path} has {volume.channels} channels, but the run knows images of {channels}.",
                str(volume.path),
            )
        name = f"{stem}_{index:04d}"
        logits = segment_image(trained, image, slices.inference, translator=slices.translator, scale=scale, name=name)
        labels.put(index, class_map(logits))
        advance()
    return labels


def _read_as(assignments: Sequence[str]) -> tuple[int | None, Reading]:
    """The axis and the range behind `--set`, where they are said.

    Raises:
        UsageError: one of them cannot be that, or is something else.
    """
    axis, others = None, []
    for text in assignments:
        said = parse_assignment(text)
        if "axis" not in said:
            others.append(text)
            continue
        axis = said["axis"]
        if axis not in (0, 1, 2) or isinstance(axis, bool):
            raise UsageError(f"--set axis={axis} must be 0 for sagittal slices, 1 for coronal or 2 for axial ones.")
    reading = Reading.of(others)
    if reading.page is not None:
        raise UsageError("--set page is for images of several pages; of volumes, axis and range can be set.")
    return axis, reading
