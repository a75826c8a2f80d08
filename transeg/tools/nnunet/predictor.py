"""Segments images with a model that nnU-Net has trained."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console

from transeg.core.api.evaluating import labelled_datasets
from transeg.core.claims import claimed
from transeg.core.data.images import read_unit_image, resize_mask
from transeg.core.data.writing import file_name, write_together
from transeg.core.device import pick_device
from transeg.core.distributed.progress_bar import progress_bar
from transeg.core.errors import Failures, TransegError, UsageError
from transeg.core.evaluation.measurement import measure_masks
from transeg.core.files import read_json
from transeg.core.inference.large_image import to_uint8
from transeg.core.inference.pixel_size import PixelSize, rescale_factors
from transeg.core.inference.prediction import list_image_files, scale_image
from transeg.core.inference.translator import Translator
from transeg.core.inference.visualization import draw_outlines
from transeg.core.interfaces import Dataset
from transeg.core.models.checkpoint import load_safely
from transeg.core.optional_packages import require
from transeg.core.registry import Registry

UNSCALED = (1.0, 1.0)


@dataclass
class NNUNetModel:
    """A model of nnU-Net, ready to segment.

    Attributes:
        channels: of the images that it takes.
        classes: how many, background included.
    """

    predictor: Any
    spacing: list[float]
    channels: int
    classes: int

    @classmethod
    def load(cls, folder: Path, folds: Sequence[str], checkpoint: str, device: str) -> NNUNetModel:
        """Of a folder that nnU-Net's trainer has written, or one of `toolkit nnunet train`.

        Args:
            folder: the folder.
            folds: whose networks are averaged; all that are there where none is named.
            checkpoint: `final` or `best`.
            device: where the networks go.

        Raises:
            UsageError: there is no such model or fold, or the model is for volumes.
            TransegError: a checkpoint holds code, or does not fit.
        """
        from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
        from nnunetv2.utilities.find_objects import recursive_find_trainer_class_by_name
        from nnunetv2.utilities.label_handling.label_handling import determine_num_input_channels
        from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

        folder = _model_folder(folder)
        saved = [load_safely(path, numpy_numbers=True) for path in _checkpoints(folder, folds, checkpoint)]
        described = read_json(folder / "dataset.json")
        plans = PlansManager(read_json(folder / "plans.json"))
        try:
            configuration = plans.get_configuration(saved[0]["init_args"]["configuration"])
            if len(configuration.patch_size) != 2:
                raise UsageError(f"The model {folder} is for volumes; images need one of the configuration 2d.")
            channels = determine_num_input_channels(plans, configuration, described)
            trainer = recursive_find_trainer_class_by_name(saved[0]["trainer_name"])
            outputs = plans.get_label_manager(described).num_segmentation_heads
            network = trainer.build_network_architecture(
                plans, configuration, channels, outputs, enable_deep_supervision=False
            )
            weights = [one["network_weights"] for one in saved]
            network.load_state_dict(weights[0])
            axes = saved[0].get("inference_allowed_mirroring_axes")
            with contextlib.redirect_stdout(io.StringIO()):  # it talks about devices
                predictor = nnUNetPredictor(device=torch.device(device), allow_tqdm=False)
            predictor.manual_initialization(
                network.to(device), plans, configuration, weights, described, saved[0]["trainer_name"], axes
            )
        except (KeyError, TypeError, RuntimeError) as error:
            reason = str(error).strip().partition("\n")[0].rstrip(".:")
            raise TransegError(f"{folder} holds no model that nnU-Net can use: {reason}.") from error
        spacing = np.asarray(plans.original_median_spacing_after_transp)[plans.transpose_backward].tolist()
        classes = sum(name != "ignore" for name in described["labels"])
        return cls(predictor, spacing, channels, classes)

    def segment(self, image: np.ndarray) -> np.ndarray:
        """``(H, W, C)`` of raw intensities -> ``(H, W)`` uint8 of classes: windows that overlap by half, mirrored."""
        pixels = image.astype(np.float32).transpose(2, 0, 1)[:, None]
        with contextlib.redirect_stdout(io.StringIO()):
            mask = self.predictor.predict_single_npy_array(pixels, {"spacing": self.spacing})
        return np.asarray(mask)[0].astype(np.uint8)


def predict_with_nnunet(
    model_folder: Path,
    images: Path | None,
    registry: Registry,
    console: Console,
    *,
    out: Path,
    folds: Sequence[str],
    checkpoint: str,
    tests: Sequence[str],
    split: str | None,
    assignments: Sequence[str],
    translate_with: Path | None,
    direction: str | None,
    pixel_size: PixelSize | None,
    rescale: float | None,
    device: str | None,
    failures: Failures,
) -> tuple[int, dict[str, Any]]:
    """Segment image files, or the images of labelled datasets, which are measured then.

    Args:
        model_folder: see :meth:`NNUNetModel.load`.
        images: a file or folder; None for ``tests``.
        registry: where datasets come from.
        console: for progress.
        out: gets ``masks/`` and ``overlays/``; for each dataset in a folder of its name, and its CSV file.
        folds: see :meth:`NNUNetModel.load`.
        checkpoint: likewise.
        tests: datasets as on the command line.
        split: of the datasets; None for their tests.
        assignments: options of the datasets.
        translate_with: a run whose generator first brings images into the domain that the model knows.
        direction: of the translation; None for source to target.
        pixel_size: of image files, in micrometres; see :func:`transeg.core.inference.pixel_size.rescale_factors`.
        rescale: what their height and width are multiplied by first; datasets are resampled by their own options.
        device: None for a GPU where there is one.
        failures: get the image files that cannot be read; the others are segmented all the same.

    Returns:
        The number of masks, and the table of each dataset by its name.

    Raises:
        UsageError: nnU-Net is not installed, or something is missing or does not fit.
    """
    require("nnunetv2", "nnunet", "`toolkit nnunet`")
    if (images is None) == (not tests):
        raise UsageError("Name images to segment, or labelled datasets with --test to measure on: one of the two.")
    files = list_image_files(images) if images is not None else []
    datasets = labelled_datasets(tests, split or "test", assignments, registry)
    model = NNUNetModel.load(model_folder, folds, checkpoint, pick_device(device or "auto"))
    translator = None
    if translate_with is not None:
        translator = Translator.adapting(translate_with, registry, device, direction=direction, channels=model.channels)
        scale = rescale_factors(translator.trained.experiment, translator, pixel_size, rescale) if files else UNSCALED
    else:
        scale = UNSCALED if rescale is None else (rescale, rescale)
    takes = model.channels if translator is None else translator.takes
    for label, dataset in datasets.items():
        if len(dataset.classes) != model.classes or dataset.channels != takes:
            raise UsageError(
                f"{label} has {len(dataset.classes)} classes and images of {dataset.channels} channels, but "
                f"{'the model' if translator is None else 'model and generator'} know {model.classes} and {takes}."
            )

    def segment(name: str, image: np.ndarray, folder: Path, scale: tuple[float, float]) -> None:
        known = scale_image(image, scale)
        mask = model.segment(known if translator is None else translator(known, name))
        mask = resize_mask(mask, *image.shape[:2])
        shown = mask * 255 if model.classes == 2 else mask
        overlay = draw_outlines(to_uint8(image), mask)
        write_together({folder / "masks" / f"{name}.png": shown, folder / "overlays" / f"{name}.png": overlay})

    count = len(files) + sum(map(len, datasets.values()))
    with claimed(out, "nnunet predict", files), progress_bar(console, "segmenting", count) as advance:
        for file in files:
            with failures.collect():
                segment(file.stem, read_unit_image(file, takes), out, scale)
            advance()
        for label, dataset in datasets.items():
            for sample in (dataset[index] for index in range(len(dataset))):
                segment(file_name(sample.name), sample.image, out / label, UNSCALED)
                advance()
        return count - len(failures.reasons), _measured(out, datasets)


def _measured(out: Path, datasets: dict[str, Dataset]) -> dict[str, Any]:
    table: dict[str, Any] = {}
    for label, dataset in datasets.items():
        table |= measure_masks(out / label / "masks", {label: dataset}, out)
    return table


def _model_folder(folder: Path) -> Path:
    """The folder with the plans of a model.

    Raises:
        UsageError: there is none, or several.
    """
    found = [folder] if (folder / "plans.json").is_file() else sorted(_below(folder))
    if not found:
        raise UsageError(
            f"{folder} holds no model of nnU-Net: neither plans.json "
            "nor nnUNet_results/, as `toolkit nnunet train` writes it."
        )
    if len(found) > 1:
        raise UsageError(f"{folder} holds several models; name one: {', '.join(map(str, found))}.")
    return found[0]


def _below(folder: Path) -> Iterator[Path]:
    return (path.parent for path in folder.glob("nnUNet_results/*/*/plans.json"))


def _checkpoints(folder: Path, folds: Sequence[str], checkpoint: str) -> list[Path]:
    """The files of the folds.

    Raises:
        UsageError: one of them is not there, or none at all.
    """
    name = f"checkpoint_{checkpoint}.pth"
    there = {path.parent.name.removeprefix("fold_"): path for path in sorted(folder.glob(f"fold_*/{name}"))}
    chosen = folds or [fold for fold in there if fold != "all"] or list(there)
    missing = [fold for fold in chosen if fold not in there]
    if missing or not chosen:
        known = f"there are: {', '.join(there)}" if there else "there is none"
        what = f"of fold {missing[0]}" if missing else "of any fold"
        raise UsageError(f"{folder} has no {name} {what}; {known}.")
    return [there[fold] for fold in chosen]
