"""How far a generator moves what images show while a segmenter learns from them and from labels that stay."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np
from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch import Tensor

from transeg.core.evaluation.label_shift import label_shift
from transeg.core.inference.translator import to_pixels
from transeg.core.models.forward import to_signed_unit, translate_during_training
from transeg.core.training.tasks.joint_task import JointTask


class TranslationShiftHook(Hook):
    """Adds ``val/shift`` to a validation's metrics: the mean length of the shift of some images, in pixels.

    Args:
        task: whose generator translates.
        images: the source's, ``(C, h, w)`` as the networks take them.
    """

    priority = "HIGH"  # after the training's averages are out of the networks, before metrics are written

    def __init__(self, task: JointTask, images: Sequence[Tensor]) -> None:
        self._task = task
        self._images = images

    def after_val_epoch(self, runner: Runner, metrics: dict[str, float] | None = None) -> None:
        """Translate the images and look where their edges are; nothing of images too small to tell."""
        if metrics is None:
            return
        translate = partial(translate_during_training, self._task.generator)
        found = []
        with self._task.averages.in_place():
            for image in self._images:
                (translated,) = self._task.validate(translate, [image])
                shift = label_shift(to_pixels(to_signed_unit(image, image.device)), to_pixels(translated))
                found += [] if shift is None else [float(np.hypot(*shift))]
        if found:
            metrics["val/shift"] = float(np.mean(found))
