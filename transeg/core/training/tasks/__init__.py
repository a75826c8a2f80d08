"""What a Runner trains: the training steps that strategies are made of."""

from transeg.core.training.tasks.joint import JointTask
from transeg.core.training.tasks.segmentation import SegmentationTask
from transeg.core.training.tasks.task import Task
from transeg.core.training.tasks.translation import TranslationTask

__all__ = ["JointTask", "SegmentationTask", "Task", "TranslationTask"]
