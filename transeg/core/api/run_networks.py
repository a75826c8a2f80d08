"""The networks of a run folder, on the device of this process."""

from __future__ import annotations

from pathlib import Path

import torch

from transeg.core.device import keep_freed_memory, pick_device
from transeg.core.distributed.collectives import rank_device
from transeg.core.inference.trained_model import TrainedModel
from transeg.core.inference.translator import Translator
from transeg.core.registry import Registry
from transeg.core.runs.run_folder import RunFolder


def load_trained(folder: RunFolder, registry: Registry, device: str | None, *, layers: bool = False) -> TrainedModel:
    """Read a run folder; see :meth:`transeg.core.inference.trained_model.TrainedModel.load`.

    Args:
        folder: of the run.
        registry: where its components come from.
        device: where the networks go; None for a GPU where there is one. Of several processes each takes its own.
        layers: whether every layer of the segmenter is there, as adapting it needs.
    """
    place = rank_device(torch.device(pick_device(device or "auto")))
    trained = TrainedModel.load(folder, registry, str(place), layers=layers)
    if trained.device.type == "cpu":
        keep_freed_memory()
    return trained


def load_adapting(
    run: Path | None, trained: TrainedModel, registry: Registry, device: str | None, direction: str | None
) -> Translator | None:
    """What brings images into the domain that a segmenter knows; see :meth:`Translator.adapting`.

    Args:
        run: whose generator that is; None for images of that domain.
        trained: the segmenter.
        registry: where the run's components come from.
        device: as for :func:`load_trained`.
        direction: of the translation; None for source to target.
    """
    if run is None:
        return None
    channels = trained.domains.target_channels
    return Translator.adapting(run, registry, device, direction=direction, channels=channels)
