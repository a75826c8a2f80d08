"""Segments and translates image files with what a run has learned."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

from rich.console import Console

from transeg.core.analysis.count_tables import ObjectTables
from transeg.core.analysis.counting import Counting
from transeg.core.analysis.fibre_tables import FibreTables
from transeg.core.analysis.morphometry import MorphometryOptions
from transeg.core.api.dice_estimates import DiceEstimates, run_calibration
from transeg.core.api.run_networks import load_adapting, load_trained
from transeg.core.claims import claimed
from transeg.core.distributed.progress_bar import progress_bar
from transeg.core.errors import DataError, Failures, UsageError
from transeg.core.inference.adaptation import Adaptation, BatchNormAdaptation
from transeg.core.inference.large_image import is_large
from transeg.core.inference.pixel_size import PixelSize, rescale_factors, scale_reference
from transeg.core.inference.polygon_files import polygon_documents
from transeg.core.inference.prediction import list_image_files, predict_files, prepared_images, translate_files
from transeg.core.inference.reading import Reading
from transeg.core.inference.sliding_window import Inference
from transeg.core.inference.trained_model import TrainedModel, with_other_average
from transeg.core.inference.translator import Translator
from transeg.core.registry import Registry
from transeg.core.runs.run_folder import RunFolder


def predict_images(
    run_dir: Path,
    images: Path,
    registry: Registry,
    console: Console,
    *,
    out: Path,
    probabilities: bool,
    window: int | None,
    flips: bool,
    device: str | None,
    counting: Counting | None = None,
    morphometry: MorphometryOptions | None = None,
    pixel_size: PixelSize | None = None,
    translate_with: Path | None = None,
    direction: str | None = None,
    rescale: float | None = None,
    assignments: Sequence[str] = (),
    overlays: bool = True,
    polygons: str | None = None,
    adapt: Adaptation = "none",
    estimate: float | None = None,
    failures: Failures,
) -> tuple[int, Path, dict[str, Any] | None]:
    """Segment image files; see :func:`transeg.core.inference.prediction.predict_files`. Gives the number of masks, the
    folder, and where ``estimate`` says below which Dice a mask is of no use what
    :meth:`transeg.core.api.dice_estimates.DiceEstimates.summary` does.

    Where objects are counted, :class:`transeg.core.analysis.count_tables.ObjectTables` lie in the folder, too, and
    where fibres are measured :class:`transeg.core.analysis.fibre_tables.FibreTables`, and where ``polygons`` names one
    of :data:`transeg.core.inference.polygon_files.FORMATS` what that module writes. Images of a foreign domain are
    first translated with the run ``translate_with``. See :func:`transeg.core.inference.pixel_size.rescale_factors` for
    how images are resampled before, and :class:`transeg.core.inference.reading.Reading` for ``assignments``. With
    ``adapt``, all files are one group for :class:`transeg.core.inference.adaptation.BatchNormAdaptation`.
    """
    reading = Reading.of(assignments)
    files = list_image_files(images)
    trained = load_trained(RunFolder(run_dir), registry, device, layers=adapt != "none")
    translator = load_adapting(translate_with, trained, registry, device, direction)
    scale = rescale_factors(trained.experiment, translator, pixel_size, rescale)
    reading = reading.within(scale_reference(trained.experiment, translator).range)
    inference = trained.inference(window, flips)
    names = trained.domains.class_names
    measuring = morphometry.of(names) if morphometry is not None else None
    adapting = None if adapt == "none" else BatchNormAdaptation(trained, adapt, inference)
    wholly = (
        ("--count", counting),
        ("--morphometry", measuring),
        (f"--format {polygons}", polygons),
        (f"--adapt {adapt}", adapting),
        ("--estimate", estimate),
    )
    for option, wanted in wholly:
        large = _large(trained, files, inference) if wanted is not None else []
        if large:
            raise UsageError(f"{option}: {large[0]} is too large to be taken whole; cut it into smaller images.")
    calibration = other = None
    if estimate is not None:
        run = RunFolder(run_dir)
        calibration = run_calibration(run, trained, inference, registry, console, adapting=adapting, adapt=adapt)
        other = with_other_average(trained, run, registry) if adapting is None else None
    with claimed(out, "predict", files), ExitStack() as stack:
        if adapting is not None:
            adapting(prepared_images(trained, files, inference, reading, translator, scale))
        tables: list[ObjectTables | FibreTables] = []
        if counting is not None:
            tables.append(stack.enter_context(ObjectTables(counting, out, names)))
        if measuring is not None:
            tables.append(stack.enter_context(FibreTables(measuring, out)))
        estimates = None
        if calibration is not None and estimate is not None:
            estimates = stack.enter_context(DiceEstimates(calibration, estimate, out, names, inference, other))
        documents = None
        if polygons is not None:
            documents = stack.enter_context(polygon_documents(polygons, out, names, files, pixel_size))
        advance = stack.enter_context(progress_bar(console, "segmenting", len(files)))
        predict_files(
            trained,
            files,
            out,
            inference,
            probabilities,
            advance,
            tables,
            failures=failures,
            reading=reading,
            translator=translator,
            scale=scale,
            overlays=overlays,
            polygons=documents,
            pixel_size=pixel_size,
            look=None if estimates is None else estimates.add,
        )
    return len(files) - len(failures.reasons), out, None if estimates is None else estimates.summary()


def _large(trained: TrainedModel, files: Sequence[Path], inference: Inference) -> list[Path]:
    """Images that are too large to be taken whole; those that cannot be read are told of later."""
    large = []
    for file in files:
        with suppress(DataError):
            if is_large(trained, file, inference):
                large.append(file)
    return large


def translate_images(
    run_dir: Path,
    images: Path,
    registry: Registry,
    console: Console,
    *,
    out: Path,
    window: int | None,
    direction: str | None,
    device: str | None,
    pixel_size: PixelSize | None = None,
    rescale: float | None = None,
    assignments: Sequence[str] = (),
    failures: Failures,
) -> int:
    """Translate image files; see :func:`transeg.core.inference.prediction.translate_files`. Gives the number of those
    that were.
    """
    reading = Reading.of(assignments)
    files = list_image_files(images)
    trained = load_trained(RunFolder(run_dir), registry, device)
    translator = Translator.of(trained, run_dir, direction=direction, window=window)
    scale = rescale_factors(translator.trained.experiment, translator, pixel_size, rescale)
    reading = reading.within(scale_reference(translator.trained.experiment, translator).range)
    with claimed(out, "translate", files), progress_bar(console, "translating", len(files)) as advance:
        translate_files(translator, files, out, advance, scale, failures=failures, reading=reading)
    return len(files) - len(failures.reasons)
