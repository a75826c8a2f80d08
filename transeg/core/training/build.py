"""Makes the networks and losses of a stage, new for each."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from transeg.core.builders.networks import build_generator, build_segmenter
from transeg.core.data.augmentation import split_appearance
from transeg.core.distributed.collectives import rank_and_world_size
from transeg.core.errors import UsageError
from transeg.core.experiment.augmentation_presets import PRESETS
from transeg.core.experiment.choices import Choice
from transeg.core.experiment.schema import Experiment
from transeg.core.inference.conditioning import Conditioning
from transeg.core.inference.trained_model import DomainProperties, build_conditioning
from transeg.core.interfaces import Generator, NetworkKind, Optimization, Segmenter
from transeg.core.models.training_state import load_lasting_state
from transeg.core.registry import Registry
from transeg.core.training.appearance_changes import STRONG, AppearanceChanges
from transeg.core.training.distillation import Distillation, Teacher, build_distillation
from transeg.core.training.losses import LossSum, build_loss
from transeg.core.training.schedules import LEARNING_RATE, with_warmup


class Build:
    """Makes what a stage's experiment names.

    A task keeps what it trains as ``generator`` and ``segmenter``: checkpoints hold them by these names.

    Args:
        experiment: of the stage.
        domains: what the networks must know of the data.
        registry: where components come from.
        teachers: frozen segmenters to distil from.
        begins: reads the weights that a network begins with, by their names in it.
        ready: networks that are built already, with the choice of each; one is given away once, and then removed.

    Attributes:
        experiment: of the stage.
        distillation: what :meth:`terms` has made, to be closed after the training.
    """

    def __init__(
        self,
        experiment: Experiment,
        domains: DomainProperties,
        registry: Registry,
        teachers: Sequence[Teacher] = (),
        begins: Mapping[NetworkKind, Callable[[], Mapping[str, Tensor]]] | None = None,
        ready: dict[NetworkKind, tuple[Choice | None, nn.Module]] | None = None,
    ) -> None:
        self.experiment = experiment
        self.distillation: Distillation | None = None
        self._domains = domains
        self._registry = registry
        self._teachers = teachers
        self._begins = begins or {}
        self._ready = {} if ready is None else ready

    def generator(self) -> Generator:
        """A new generator, the same at every call.

        Raises:
            UsageError: the experiment names none.
        """

        def make(choice: Any, _: bool) -> Generator:
            channels, made = self.conditioning().channels, self._domains.target_channels
            return build_generator(choice, channels, made, self.experiment.seed, self._registry)

        return cast("Generator", self._network("generator", self.experiment.generator, make))

    def segmenter(self) -> Segmenter:
        """A new segmenter, the same at every call.

        Raises:
            UsageError: the experiment names none.
        """

        def make(choice: Any, pretrained: bool) -> Segmenter:
            channels, classes = self._domains.target_channels, len(self._domains.class_names)
            seed = self.experiment.seed
            return build_segmenter(choice, channels, classes, seed, self._registry, pretrained=pretrained)

        return cast("Segmenter", self._network("segmenter", self.experiment.segmenter, make))

    def conditioning(self) -> Conditioning:
        """What the generator is given of the source."""
        assert self.experiment.generator is not None
        return build_conditioning(self.experiment.generator, self._domains)

    def appearance(self) -> AppearanceChanges | None:
        """What changes images on their way from a generator to a segmenter that train together; None for nothing."""
        _, changes = split_appearance(self.experiment.augmentation.transforms or ())
        return AppearanceChanges(changes, self.experiment.seed) if changes else None

    def strong_view(self) -> AppearanceChanges:
        """What makes the strong view of an image: the experiment's own changes of appearance, or those of the preset
        `strong` where it has none.
        """
        _, own = split_appearance(self.experiment.augmentation.transforms or ())
        _, strong = split_appearance(PRESETS["strong"])
        return AppearanceChanges(own or strong, self.experiment.seed, STRONG)

    def loss(self) -> LossSum:
        """The segmentation loss."""
        assert self.experiment.loss is not None
        return build_loss(self.experiment.loss, self._registry, self.experiment.train.head_weights or ())

    def terms(self, segmenter: Segmenter) -> list[nn.Module]:
        """Further terms of the segmenter's loss: what it learns from teachers, where there are any."""
        channels = self._domains.target_channels
        self.distillation = build_distillation(self.experiment, segmenter, self._teachers, channels, self._registry)
        return [] if self.distillation is None else [self.distillation]

    def optimization(self, *modules: nn.Module) -> Optimization:
        """Adam over what modules train, with the schedule of ``[train]``."""
        train = self.experiment.train
        parameters = [each for module in modules for each in module.parameters() if each.requires_grad]
        optimizer = torch.optim.Adam(parameters, lr=train.lr, betas=train.betas, weight_decay=train.weight_decay)
        return Optimization(optimizer, with_warmup(LEARNING_RATE[train.schedule], train.warmup))

    def _network(self, kind: NetworkKind, choice: Choice | None, make: Callable[[Any, bool], nn.Module]) -> nn.Module:
        """The network of a kind: the one that is built already, a new one, or one with weights to begin from."""
        if choice is None:
            raise UsageError(f"The strategy {self.experiment.strategy.name} trains a {kind} where there is none.")
        known, built = self._ready.get(kind, (None, None))
        weights = self._begins.get(kind)
        if weights is not None:
            network = make(choice.model_copy(update={"weights": None}), False)
            try:
                load_lasting_state(network, weights())
            except RuntimeError as error:
                raise UsageError(f"The {kind} that the stage begins from does not fit this one: {error}") from error
        elif built is not None and known == choice:
            network = self._ready.pop(kind)[1]
        else:
            network = make(choice, True)
        if self.experiment.train.sync_batch_norm and rank_and_world_size()[1] > 1:
            return _with_shared_batch_norm(network)
        return network


def _with_shared_batch_norm(network: nn.Module) -> nn.Module:
    """A network with batch norms whose statistics are those of all ranks; names in its checkpoints stay.

    timm's conversion knows timm's own norms, which have an activation in them: PyTorch's would drop that.
    """
    from timm.layers import convert_sync_batchnorm

    return cast("nn.Module", convert_sync_batchnorm(network))


def check_batch_norms(*networks: nn.Module | None) -> None:
    """Whether the batch norms of networks can be replaced by those that ranks share.

    Raises:
        UsageError: one is of a class that would lose what it does besides.
    """
    from timm.layers import BatchNormAct2d

    for network in networks:
        for norm in () if network is None else network.modules():
            own = isinstance(norm, _BatchNorm) and type(norm).forward is not _BatchNorm.forward
            if own and not isinstance(norm, BatchNormAct2d):
                raise UsageError(
                    f"The batch norms of {type(network).__name__} are of a kind of its own ({type(norm).__name__}), "
                    "whose statistics processes cannot share; leave out train.sync_batch_norm, or choose other norms "
                    "where it has an option for them."
                )
