"""What a Runner trains: the training steps that strategies are made of."""

from transeg.core.training.masking import Masking
from transeg.core.training.mixing import classmix, cutmix
from transeg.core.training.tasks.joint_task import JointTask
from transeg.core.training.tasks.mean_teacher import MeanTeacher
from transeg.core.training.tasks.renewed_labels import RenewedLabels
from transeg.core.training.tasks.segmentation_task import SegmentationTask
from transeg.core.training.tasks.target_learning import TargetLearning
from transeg.core.training.tasks.task import Task
from transeg.core.training.tasks.translation_task import TranslationTask

__all__ = [
    "JointTask",
    "Masking",
    "MeanTeacher",
    "RenewedLabels",
    "SegmentationTask",
    "TargetLearning",
    "Task",
    "TranslationTask",
    "classmix",
    "cutmix",
]
