"""What a task that learns from target images without labels is told of how."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING

from torch import Tensor, nn

from transeg.core.interfaces import Batch

if TYPE_CHECKING:
    from transeg.core.training.tasks.segmentation_task import SegmentationTask


class TargetLearning(nn.Module, ABC):
    """A way to learn from target images without labels, beside labelled ones.

    It is given the task that it belongs to, whose segmenter learns. What it holds itself is saved with the task.

    Attributes:
        decays: as those of :class:`transeg.core.training.tasks.task.Task`.
    """

    decays: Mapping[str, float] = {}

    def before_iteration(self, task: SegmentationTask) -> None:
        """Called with the task's ``iteration`` up to date, before a training step; nothing by default."""

    @abstractmethod
    def joined(
        self, losses: Mapping[str, Tensor], task: SegmentationTask, image: Tensor, batch: Batch
    ) -> dict[str, Tensor]:
        """The losses of a step by name: those on labelled images together with those on the target's.

        Args:
            losses: on labelled images.
            task: whose segmenter learns.
            image: labelled images as the segmenter has seen them, ``(N, C, H, W)`` in [-1, 1].
            batch: with a target.
        """
