"""What a strategy must be: which networks are trained, in which stages, on what."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

if TYPE_CHECKING:
    from transeg.core.experiment.schema import Experiment
    from transeg.core.interfaces.datasets import Dataset
    from transeg.core.pipeline.products import Products
    from transeg.core.training.build import Build
    from transeg.core.training.parts import Parts
    from transeg.core.training.tasks.task import Task

BASELINE = "baseline"
"""The stage whose segmenter is tested beside the run's result."""
NetworkKind = Literal["generator", "segmenter"]
View = Literal["source", "target"]
"""How a segmenter is validated on images: `source`, as it is trained to see source images (translated, where a
generator trains with it); `target`, as they are."""


@dataclass(frozen=True)
class Stage:
    """One training of a run, declared before anything is trained.

    Attributes:
        name: unique in the run. The stage whose segmenter (or, without one, generator) is the run's result is trained
            in the run folder itself, every other one in a folder of its name.
        trains: which networks.
        begins: from which weights a network begins, instead of new ones: another stage's, or a run folder's, network.
        uses: earlier stages whose results it needs besides, as teachers or to make data.
        folds: whether, with ``folds``, it is trained once for each of them.
        changes: tables laid over the experiment that make the stage's own, as nested tables; None takes one away.
        strategy: whose stage it is, see :func:`stage_of`; '' for the one that declares it.
        title: what progress and plans call it; '' for its name.
    """

    name: str
    trains: tuple[NetworkKind, ...]
    begins: Mapping[NetworkKind, tuple[str | Path, NetworkKind]] = field(default_factory=dict)
    uses: tuple[str, ...] = ()
    folds: bool = False
    changes: Mapping[str, Any] = field(default_factory=dict)
    strategy: str = ""
    title: str = ""


def stage_of(strategy: str, name: str, trains: tuple[NetworkKind, ...], **rest: Any) -> Stage:
    """A stage whose data, validation and task are another strategy's, as a source-only baseline's are.

    The other strategy gets its default options.

    Args:
        strategy: name of the other.
        name: of the stage.
        trains: as for :class:`Stage`.
        rest: likewise.
    """
    return Stage(name, trains, strategy=strategy, **rest)


class Validation(NamedTuple):
    """Labelled images on which a stage's segmenter is measured while it trains.

    Attributes:
        label: what its measures are called, ``<label>/dice``; the first of a stage, which selects its best checkpoint,
            is always called ``val``.
        dataset: the images.
        view: how the segmenter sees them.
    """

    label: str
    dataset: Dataset
    view: View


class Strategy(ABC):
    """A way to train: its stages, and for each of them the data, the validation and the training step.

    Built by ``Class(**options)``: its options stand in ``[strategy]``, beside its name. Which networks and data it
    needs, and what it was published with, its table in ``registry.toml`` says. Its module must not import PyTorch
    before :meth:`data`, :meth:`validation` or :meth:`task` is called: what a run is going to do is said before that.
    """

    def check(self, experiment: Experiment) -> None:  # noqa: B027  # most have nothing to add
        """Whether the experiment suits the strategy, besides the networks and data that its manifest names.

        Raises:
            UsageError: it does not; a sentence.
        """

    @abstractmethod
    def stages(self, experiment: Experiment) -> list[Stage]:
        """What a run trains, in order; a pure function of the experiment and the strategy's options."""

    @abstractmethod
    def result(self, experiment: Experiment) -> dict[NetworkKind, str]:
        """Which stage's segmenter and generator are the run's result: what inference loads."""

    @abstractmethod
    def summary(self, experiment: Experiment) -> str:
        """What a run does, in a sentence without its full stop; see :func:`describe_translation`."""

    def selection(self, experiment: Experiment) -> str:
        """The images that select the best checkpoint where the experiment names none and has no folds, in words."""
        return "the validation images of the source"

    def trained_on(self, experiment: Experiment) -> tuple[str, str]:
        """What the segmenters of a run and of its baseline learn from, in a few words, for tables that compare them."""
        if experiment.generator is None:
            return "this run", "source only"
        return (
            ("translated", "source only") if experiment.generator.condition == "image" else ("+ synthetic", "real only")
        )

    def synthesis(self, experiment: Experiment, images: int) -> str:
        """What a run makes to learn from, in words for its plan; '' for nothing.

        Args:
            experiment: of the run.
            images: how many the source has.
        """
        return ""

    def data(self, stage: Stage, parts: Parts, products: Products) -> Parts:
        """The data sets of a stage; by default the run's.

        Args:
            stage: one of :meth:`stages`.
            parts: the run's data sets; the source may be None.
            products: results of earlier stages, and data sets made of them.
        """
        return parts

    def validation(self, stage: Stage, parts: Parts, products: Products) -> list[Validation]:
        """On what a stage that trains a segmenter is measured; the first selects its best checkpoint.

        Args:
            stage: one of :meth:`stages`.
            parts: what :meth:`data` gave.
            products: as there.
        """
        if parts.val is None:
            return []
        return [Validation("val", parts.val, "target" if parts.validates_target else "source")]

    @abstractmethod
    def task(self, stage: Stage, parts: Parts, build: Build) -> Task:
        """The training step of a stage.

        Args:
            stage: one of :meth:`stages`.
            parts: what :meth:`data` gave.
            build: makes the networks and losses that the experiment names.
        """


def describe_translation(experiment: Experiment) -> str:
    """What a generator does, in words: ``translated SOURCE into TARGET``."""
    data = experiment.data
    by_mask = experiment.generator is not None and experiment.generator.condition not in (None, "image")
    source = "" if data.source is None else data.source.short
    if by_mask:
        return f"made images from label maps of {source}"
    return f"translated {source}" + ("" if data.target is None else f" into {data.target.short}")
