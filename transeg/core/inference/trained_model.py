"""The networks of a run folder, ready for inference."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor, nn

from transeg.core.analysis.counting import Counting
from transeg.core.builders.networks import build_generator, build_segmenter
from transeg.core.data.stain import stain_normaliser
from transeg.core.device import pick_device
from transeg.core.errors import TransegError, UsageError
from transeg.core.experiment.choices import GeneratorChoice, SegmenterChoice
from transeg.core.experiment.completion import load_experiment
from transeg.core.experiment.planned_stages import PlannedStage, result_stages
from transeg.core.experiment.schema import Experiment
from transeg.core.inference.conditioning import Conditioning
from transeg.core.inference.sliding_window import Inference
from transeg.core.interfaces import Generator, NetworkKind, Noise, Segmenter
from transeg.core.models import checkpoint
from transeg.core.models.ensemble import Ensemble
from transeg.core.models.forward import segment, translate
from transeg.core.models.fusion import fuse_for_inference
from transeg.core.models.training_state import load_lasting_state
from transeg.core.models.winograd import use_winograd
from transeg.core.registry import Registry
from transeg.core.runs.run_folder import RunFolder

BESIDE = "segmenter average"
"""Where checkpoints keep the average of a segmenter whose weights are used as they are."""


@dataclass(frozen=True)
class DomainProperties:
    """What networks must know of the data; checkpoints carry it, so that inference needs no data set."""

    class_names: tuple[str, ...]
    source_channels: int
    target_channels: int


def build_conditioning(choice: GeneratorChoice, domains: DomainProperties) -> Conditioning:
    """What a generator is given of the source."""
    return Conditioning(choice.condition or "image", len(domains.class_names), domains.source_channels)


@dataclass(frozen=True)
class TrainedModel:
    """What a run has learned: the best checkpoint's networks, in eval mode on their device."""

    experiment: Experiment
    domains: DomainProperties
    segmenter: Segmenter | None
    generator: Generator | None
    device: torch.device
    iteration: int

    @classmethod
    def load(cls, folder: RunFolder, registry: Registry, device: str | None = None, *, layers: bool = False) -> Self:
        """Read a run folder.

        Args:
            folder: of a run that has saved a checkpoint.
            registry: where its components come from.
            device: where the networks go; by default a GPU where there is one.
            layers: whether every layer of the segmenter must give what it gave in the training; otherwise only its
                logits do, and it is faster (:func:`transeg.core.models.fusion.fuse_for_inference`).

        Raises:
            UsageError: it is not a run folder, or has no checkpoint yet.
            TransegError: its checkpoint cannot be read.
        """
        experiment = stored_experiment(folder, registry)
        layers = layers or experiment.test_adaptation != "none"  # fused convolutions have no batch norms to adapt
        return cls.of_stages(folder, experiment, result_stages(experiment, registry), registry, device, layers=layers)

    @classmethod
    def of_stages(
        cls,
        run: RunFolder,
        experiment: Experiment,
        stages: Mapping[NetworkKind, PlannedStage],
        registry: Registry,
        device: str | None,
        *,
        layers: bool = False,
    ) -> Self:
        """The networks that stages of a run have trained.

        Args:
            run: its folder.
            experiment: what inference goes by: the run's, or a stage's own.
            stages: the stage of each network.
            registry: as for :meth:`load`.
            device: likewise.
            layers: likewise.

        Raises:
            UsageError: a stage has no checkpoint yet.
            TransegError: a checkpoint cannot be read.
        """
        states = {
            network: [_best(run.part(name), run) for name in planned.trainings()] for network, planned in stages.items()
        }
        last = states.get("segmenter") or states["generator"]
        domains = DomainProperties(**last[0]["domains"])
        place = torch.device(pick_device(device or "auto"))
        segmenter = generator = None
        if "segmenter" in states:
            choice = stages["segmenter"].experiment.segmenter
            assert choice is not None
            members = [_segmenter(choice, domains, each, registry, place, layers) for each in states["segmenter"]]
            segmenter = Ensemble(members).eval() if len(members) > 1 else members[0]
        if "generator" in states:
            chosen = stages["generator"].experiment.generator
            assert chosen is not None
            chosen = chosen.model_copy(update={"weights": None})
            given = build_conditioning(chosen, domains)
            generator = build_generator(chosen, given.channels, domains.target_channels, 0, registry)
            _fill(generator, states["generator"][0]["model"], "generator")
            use_winograd(generator)
        return cls(
            experiment,
            domains,
            segmenter,
            generator.to(place).eval() if generator else None,
            place,
            max(each["iteration"] for each in last),
        )

    def segment(self, image: Tensor, places: Tensor | None = None) -> Tensor:
        """``(N, C, H, W)`` in [-1, 1], on any device -> logits ``(N, K, H, W)``.

        Raises:
            UsageError: the run trained no segmenter.
        """
        if self.segmenter is None:
            raise UsageError("This run trained a generator alone, so it cannot segment; see `toolkit translate`.")
        return segment(self.segmenter, image)[0]

    def translate(
        self, image: Tensor, places: Tensor | None = None, *, direction: str | None = None, seed: int = 0
    ) -> Tensor:
        """What the generator is given, ``(N, C, H, W)``, -> ``(N, C', H, W)`` in [-1, 1].

        Args:
            image: see :attr:`given`.
            places: where windows begin in their image, ``(N, 2)``; None for whole images.
            direction: one of the generator's; by default from source to target.
            seed: of its chance; windows of one image share it.

        Raises:
            UsageError: the run trained no generator.
        """
        if self.generator is None:
            raise UsageError("This run trained a segmenter alone, so it cannot translate; see `toolkit predict`.")
        noise = Noise(torch.full((len(image),), seed), places)
        return translate(self.generator, image, direction or self.generator.directions[0], noise)

    @property
    def given(self) -> Conditioning:
        """What the generator is given of the source.

        Raises:
            UsageError: the run trained no generator.
        """
        if self.experiment.generator is None:
            raise UsageError("This run trained a segmenter alone, so it cannot translate; see `toolkit predict`.")
        return build_conditioning(self.experiment.generator, self.domains)

    def normalised(self, image: np.ndarray) -> np.ndarray:
        """``(H, W, C)`` with its stain normalised, where the networks were trained on such images."""
        options = self.experiment.data.stain
        return image if options is None else stain_normaliser(options.method, options.reference)(image)

    def counting(self) -> Counting | None:
        """How the run's tests count objects; None for not at all."""
        options = self.experiment.counting
        return None if options is None else Counting(options.method, options.min_area)

    def inference(self, window: int | None = None, flips: bool = False) -> Inference:
        """How images reach these networks: in windows of the given size, or of the size that they were trained on.

        Args:
            window: 0 for whole images.
            flips: see :class:`Inference`.
        """
        data = self.experiment.data
        wanted = (data.tile or 0) if window is None else window
        return Inference(data.inference_size, wanted, flips, joint_multiple(self.segmenter, self.generator))

    def inference_for_training(self) -> Inference:
        """How images reach the generator whose results are to be trained on: of the size that is cropped later."""
        return replace(self.inference(), size=self.experiment.data.load_size)


def with_other_average(trained: TrainedModel, run: RunFolder, registry: Registry) -> TrainedModel | None:
    """The same with the other weights of its segmenter that the run has kept: those that a moving average, such as a
    mean teacher, was taken of, where that is used; else the average that was kept beside them.

    Args:
        trained: of the run.
        run: its folder.
        registry: where its components come from.

    Returns:
        None where weights were kept without an average, and of folds.
    """
    planned = result_stages(trained.experiment, registry)["segmenter"]
    choice = planned.experiment.segmenter
    if planned.folds or choice is None:
        return None
    state = _kept(run.part(planned.folder), run)
    used = _own(state.get("averages", {}), "segmenter")
    beside = {} if used else state.get(BESIDE, {})
    if not used and not beside:
        return None
    weights = {"model": {**state["model"], **beside}}
    segmenter = _segmenter(choice, trained.domains, weights, registry, trained.device, layers=False)
    return replace(trained, segmenter=segmenter)


def stored_experiment(folder: RunFolder, registry: Registry) -> Experiment:
    """The experiment of a run folder.

    Raises:
        UsageError: it is none.
    """
    if not folder.experiment.exists():
        raise UsageError(f"{folder.path} is not a run folder: it has no experiment.toml.")
    return load_experiment(folder.experiment, registry)


def trained_weights(run: RunFolder, network: NetworkKind, registry: Registry) -> dict[str, Tensor]:
    """The weights of a run's network by their names in it; of folds, those of the first.

    Raises:
        UsageError: the run has no such network, or no checkpoint yet.
    """
    stages = result_stages(stored_experiment(run, registry), registry)
    if network not in stages:
        raise UsageError(f"The run {run.path} trained no {network}.")
    return stage_weights(run, stages[network], network)


def trained_identity(run: RunFolder, network: NetworkKind, registry: Registry) -> str:
    """The identity of the training that has given a run its network.

    Raises:
        UsageError: as :func:`trained_weights`.
    """
    stages = result_stages(stored_experiment(run, registry), registry)
    if network not in stages:
        raise UsageError(f"The run {run.path} trained no {network}.")
    return str(_best(run.part(stages[network].trainings()[0]), run)["identity"])


def stage_weights(run: RunFolder, planned: PlannedStage, network: NetworkKind) -> dict[str, Tensor]:
    """The weights that a stage of a run has given a network, by their names in it; of folds, those of the first.

    Raises:
        UsageError: it has no checkpoint yet.
    """
    return _own(_best(run.part(planned.trainings()[0]), run)["model"], network)


def trained_domains(run: RunFolder, registry: Registry) -> DomainProperties:
    """What the networks of a run know of the data.

    Raises:
        UsageError: it is no run folder, or has no checkpoint yet.
    """
    stages = result_stages(stored_experiment(run, registry), registry)
    last = stages.get("segmenter") or stages["generator"]
    return DomainProperties(**_best(run.part(last.trainings()[0]), run)["domains"])


def joint_multiple(*networks: Segmenter | Generator | None) -> int:
    """What height and width must be multiples of for all of them."""
    return math.lcm(*(network.size_multiple for network in networks if network is not None))


def _segmenter(
    choice: SegmenterChoice,
    domains: DomainProperties,
    state: dict[str, Any],
    registry: Registry,
    device: torch.device,
    layers: bool,
) -> Segmenter:
    """The segmenter of a checkpoint in eval mode; see :meth:`TrainedModel.load`."""
    bare = choice.model_copy(update={"weights": None})
    channels, classes = domains.target_channels, len(domains.class_names)
    segmenter = build_segmenter(bare, channels, classes, 0, registry, pretrained=False)
    _fill(segmenter, state["model"], "segmenter")
    segmenter = segmenter.eval()
    return segmenter.to(device) if layers else fuse_for_inference(segmenter, channels, device)


def _best(folder: RunFolder, run: RunFolder) -> dict[str, Any]:
    """The checkpoint for inference of a training that belongs to a run, with averaged weights where there are any."""
    state = _kept(folder, run)
    return {**state, "model": {**state["model"], **state.get("averages", {})}}


def _kept(folder: RunFolder, run: RunFolder) -> dict[str, Any]:
    """The same as it is stored."""
    for path in (folder.best, folder.last):
        if path.exists():
            return checkpoint.load_checkpoint(path)
    raise UsageError(f"{folder.path} has no checkpoint yet; train it with: toolkit run --run-dir {run.path} --resume")


def _own(state: Mapping[str, Tensor], part: str) -> dict[str, Tensor]:
    return {key.removeprefix(f"{part}."): tensor for key, tensor in state.items() if key.startswith(f"{part}.")}


def _fill(network: nn.Module, state: dict[str, Tensor], part: str) -> None:
    try:
        load_lasting_state(network, _own(state, part))
    except RuntimeError as error:
        raise TransegError(f"The checkpoint does not fit the {part} of its experiment.toml: {error}") from error
