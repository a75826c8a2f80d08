"""What a Runner trains."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from transeg.core.distributed.collectives import rank_and_world_size
from transeg.core.experiment.schema import Experiment
from transeg.core.inference.sliding_window import Inference
from transeg.core.inference.trained_model import build_conditioning, joint_multiple
from transeg.core.interfaces import Optimization
from transeg.core.models.compilation import fuse_optimizers
from transeg.core.registry import Registry
from transeg.core.training.losses import build_loss
from transeg.core.training.parts import Parts
from transeg.core.training.schedules import LEARNING_RATE, with_warmup
from transeg.core.training.tasks.joint import JointTask
from transeg.core.training.tasks.segmentation import SegmentationTask
from transeg.core.training.tasks.task import Task
from transeg.core.training.tasks.translation import TranslationTask
from transeg.core.training.tasks.updates import Updates

__all__ = ["Task", "build_task", "validation_inference"]


def build_task(experiment: Experiment, parts: Parts, registry: Registry, extra_terms: Sequence[nn.Module] = ()) -> Task:
    """The task of an experiment of one stage: `supervised`, `translation` or `joint`.

    Args:
        experiment: its options.
        parts: its networks.
        registry: where losses come from.
        extra_terms: of the segmenter's loss; see :class:`SegmentationTask`.
    """
    train = experiment.train
    if parts.segmenter is None:
        assert parts.generator is not None
        assert experiment.generator is not None
        translation = TranslationTask(parts.generator, build_conditioning(experiment.generator, parts.domains))
        return _completed(translation, experiment, parts)
    assert experiment.loss is not None
    loss = build_loss(experiment.loss, registry, train.head_weights or ())
    modules = (parts.segmenter, loss, *extra_terms)
    parameters = [parameter for module in modules for parameter in module.parameters() if parameter.requires_grad]
    schedule = with_warmup(LEARNING_RATE[train.schedule], train.warmup)
    optimizer = torch.optim.Adam(parameters, lr=train.lr, weight_decay=train.weight_decay)
    optimization = Optimization(optimizer, schedule)
    if parts.generator is None:
        task = SegmentationTask(parts.segmenter, loss, optimization, extra_terms)
    else:
        assert experiment.joint is not None
        assert experiment.generator is not None
        given = build_conditioning(experiment.generator, parts.domains)
        share = experiment.data.synthetic_share
        step = train.batch_size * train.accumulation * rank_and_world_size()[1]
        epoch = max(1, experiment.data.samples_per_epoch // step)
        options = experiment.joint
        task = JointTask(
            parts.generator, parts.segmenter, loss, optimization, options, epoch, given, share, extra_terms
        )
    task.validates_target = parts.validates_target
    return _completed(task, experiment, parts)


def _completed(task: Task, experiment: Experiment, parts: Parts) -> Task:
    train, device = experiment.train, torch.device(experiment.device)
    task.inference = validation_inference(experiment, parts)
    task.updates = Updates(
        device,
        precision=train.precision,
        accumulation=train.accumulation,
        clip=train.clip,
        channels_last=train.channels_last,
        compiled=train.compile,
    )
    if train.channels_last:
        task.to(memory_format=torch.channels_last)
    fuse_optimizers((o.optimizer for o in task.optimizers().values()), train.fused, device)
    return task


def validation_inference(experiment: Experiment, parts: Parts) -> Inference:
    """How validation images reach the networks."""
    data = experiment.data
    multiple = joint_multiple(parts.segmenter, parts.generator)
    return Inference(data.inference_size, window=data.tile or 0, multiple=multiple)
