"""Measures segmentations of labelled datasets: those of a trained segmenter, and mask files from anywhere."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from transeg.core.analysis.count_tables import CountAgreement
from transeg.core.analysis.counting import Counting
from transeg.core.analysis.video_alarms import AlarmRule
from transeg.core.analysis.video_tables import VideoAgreement
from transeg.core.data.file_dataset import mask_values
from transeg.core.data.images import read_binary_mask, read_label_map
from transeg.core.data.listing import files_by_stem
from transeg.core.data.writing import file_name
from transeg.core.distributed.collectives import broadcast_from_first
from transeg.core.errors import DataError, Failures, UsageError
from transeg.core.evaluation.metrics.image_metrics import image_metrics
from transeg.core.evaluation.scores import DetailedScore, evaluate, in_one_unit, score_labels, summarize, write_csv
from transeg.core.evaluation.volume_agreement import VolumeAgreement
from transeg.core.files import write_json
from transeg.core.inference.adaptation import Adaptation, BatchNormAdaptation
from transeg.core.inference.sliding_window import Inference
from transeg.core.inference.trained_model import TrainedModel
from transeg.core.interfaces import Dataset
from transeg.core.registry import Registry

logger = logging.getLogger(__name__)


def measure_segmenter(
    trained: TrainedModel,
    datasets: Mapping[str, Dataset],
    folder: Path,
    inference: Inference,
    advance: Callable[[], None],
    registry: Registry,
    counting: Counting | None = None,
    failures: Failures | None = None,
    named: Collection[str] = (),
    alarms: AlarmRule | None = None,
    adaptation: Adaptation = "none",
) -> dict[str, Any]:
    """Measure a trained segmenter on labelled datasets.

    Args:
        trained: the networks.
        datasets: by the name that they have in the table.
        folder: gets a CSV file with a line for each image of each dataset, in ``calibration/`` what
            :func:`~transeg.core.evaluation.metrics.calibration.calibration_bins` gives for all of them together, and
            where objects are counted one more line, with a picture, in ``counts/``; where groups are videos, a line
            for each in ``videos/``; where they are volumes, one in ``<label>_volumes.csv``.
        inference: how images reach the network.
        advance: called after each image.
        registry: where the metrics of plugins come from.
        counting: how objects are counted; None for not at all.
        failures: see :func:`transeg.core.evaluation.scores.evaluate`.
        named: metrics that are measured on request alone, beside those that the experiment names.
        alarms: what counts as an alarm in videos, which are the groups; None where images are no frames.
        adaptation: what the segmenter's batch norms take over from each group of images; it needs its ``layers``.

    Returns:
        See :func:`transeg.core.evaluation.scores.summarize`, for each dataset; and as ``counts`` what
        :meth:`transeg.core.analysis.count_tables.CountAgreement.summary` says, and as ``videos`` what
        :meth:`transeg.core.analysis.video_tables.VideoAgreement.summary` does, and of volumes as ``volumes`` what
        :meth:`transeg.core.evaluation.volume_agreement.VolumeAgreement.summary` does.
    """
    table = {}
    names, workers = trained.domains.class_names, trained.experiment.data.workers
    metrics = image_metrics(registry, named={*trained.experiment.metrics, *named})
    adapt = None if adaptation == "none" else BatchNormAdaptation(trained, adaptation, inference)
    for label, dataset in datasets.items():
        counts = CountAgreement(counting, names) if counting is not None else None
        videos = VideoAgreement(alarms, names) if alarms is not None else None
        volumes = VolumeAgreement.of(dataset, names)
        scores = evaluate(
            trained.segment,
            dataset,
            inference,
            trained.device,
            workers,
            advance,
            counts,
            metrics,
            failures,
            videos,
            None if adapt is None else adapt.following(dataset),
            volumes,
        )
        table[label] = broadcast_from_first(partial(_written, label, scores, names, counts, folder, videos, volumes))
    if adapt is not None:
        adapt.restore()
    return table


def measure_masks(
    masks: Path,
    datasets: Mapping[str, Dataset],
    folder: Path,
    advance: Callable[[], None] = lambda: None,
    *,
    values: Sequence[int] | None = None,
    suffix: str = "",
    counting: Counting | None = None,
) -> dict[str, Any]:
    """Measure mask files on labelled datasets.

    A mask is that of the sample whose name its own begins with, as `toolkit predict` and nnU-Net name them. Its values
    stand for classes only as the options say, never by what else is in the file: all of an image may be myelin.

    Args:
        masks: folder of mask files, of the images' own sizes.
        datasets: by the name that they have in the table.
        folder: see :func:`measure_segmenter`.
        advance: called after each image.
        values: of the pixels, what stands for the classes in their order; by default 0, 1, 2, ... for several classes,
            and for two what lies above half of the range is the foreground.
        suffix: what follows the sample's name in those of the masks, before the extension.
        counting: how objects are counted; None for not at all.

    Returns:
        As :func:`measure_segmenter`, without what takes probabilities.

    Raises:
        UsageError: there is no such folder, an image has no mask in it, or there are more values than classes.
        DataError: a mask cannot be read, or is of another size than its image.
    """
    table = {}
    files = mask_files(masks, suffix)
    used = set()
    for label, dataset in datasets.items():
        try:
            known = mask_values(dataset.classes, values, None)
        except ValueError as error:
            raise UsageError(f"--values: {error}.") from error
        counts = CountAgreement(counting, dataset.classes) if counting is not None else None
        scores = []
        for index in range(len(dataset)):
            sample = dataset[index]
            path = files.get(file_name(sample.name))
            if path is None:
                raise UsageError(f"{masks} has no mask {file_name(sample.name)}{suffix}.* of an image of {label}.")
            if sample.mask is None:
                raise DataError(f"{sample.name} has no mask, so nothing can be measured on it.")
            used.add(path)
            found = _read(path, known, sample.mask.shape)
            truth = sample.mask.astype(np.int64)
            labels = torch.from_numpy(found.astype(np.int64))
            scores.append(
                score_labels(
                    sample.name,
                    sample.group,
                    labels,
                    torch.from_numpy(truth),
                    len(dataset.classes),
                    sample.pixel_size,
                )
            )
            if counts is not None:
                counts.add(sample.name, sample.group, found, truth, sample.instances)
            advance()
        table[label] = _written(label, scores, dataset.classes, counts, folder)
    unused = [path.name for path in files.values() if path not in used]
    if unused:
        logger.warning("Masks in %s that are of no measured image: %d, such as %s.", masks, len(unused), unused[0])
    return table


def mask_files(folder: Path, suffix: str = "") -> dict[str, Path]:
    """The mask files of a folder by the name of what they are masks of.

    Args:
        folder: of masks.
        suffix: what follows that in their names, before the extension; other files do not count.

    Raises:
        UsageError: there is no such folder, it holds no mask, or two of one name.
    """
    try:
        files, faults = files_by_stem(folder)
    except ValueError as error:
        raise UsageError(f"The masks cannot be read: {error}.") from error
    if faults:
        raise UsageError(faults[0].reason)
    found = {stem.removesuffix(suffix): path for stem, path in files.items() if stem.endswith(suffix)}
    if not found:
        named = f" whose name ends in {suffix!r}" if suffix else ""
        raise UsageError(f"The folder {folder} holds no mask{named}.")
    return found


def _read(path: Path, values: Mapping[int, int] | None, size: tuple[int, ...]) -> np.ndarray:
    """``(H, W)`` uint8 of classes."""
    try:
        mask = read_binary_mask(path) if values is None else read_label_map(path, values)
    except DataError as error:
        raise DataError(f"{error} --values says what stands for the classes.", str(path)) from error
    if mask.shape != size:
        (height, width), (rows, columns) = size, mask.shape
        raise DataError(f"{path} has {columns}x{rows} pixels, but its image has {width}x{height}.", str(path))
    return mask


def _written(
    label: str,
    scores: Sequence[DetailedScore],
    names: Sequence[str],
    counts: CountAgreement | None,
    folder: Path,
    videos: VideoAgreement | None = None,
    volumes: VolumeAgreement | None = None,
) -> dict[str, Any]:
    """The table of a dataset, whose single images go into files."""
    scores = in_one_unit(scores, label)
    write_csv(scores, names, folder / f"{label}.csv")
    bins = [image.calibration for image in scores if image.calibration is not None]
    if bins:
        write_json(folder / "calibration" / f"{label}.json", np.sum(bins, 0).tolist())
    table = summarize(scores, names)
    if counts is not None:
        counts.write(folder / "counts", label)
        table["counts"] = counts.summary()
    if videos is not None:
        videos.write(folder / "videos", label)
        table["videos"] = videos.summary()
    if volumes is not None:
        volumes.write(folder / f"{label}_volumes.csv")
        table["volumes"] = volumes.summary()
    return table
