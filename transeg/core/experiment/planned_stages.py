"""What a run will train, known before it does: stages, each with an experiment and a folder of its own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, cast

from pydantic import BaseModel

from transeg.core.component_options import check_options
from transeg.core.errors import UsageError
from transeg.core.experiment.choices import Choice, StrategyChoice
from transeg.core.experiment.schema import Experiment
from transeg.core.interfaces import NetworkKind, Stage, Strategy
from transeg.core.interfaces.strategies import BASELINE
from transeg.core.registry import Registry


@dataclass(frozen=True)
class PlannedStage:
    """A stage of a run.

    Attributes:
        stage: as the strategy declares it.
        folder: within the run's; ``.`` for the run's own.
        experiment: its own: the run's with the stage's changes.
        gives: which of its networks are the run's result.
    """

    stage: Stage
    folder: str
    experiment: Experiment
    gives: tuple[NetworkKind, ...]

    @property
    def title(self) -> str:
        """What it trains, in words."""
        return self.stage.title or " and ".join(self.stage.trains)

    @property
    def folds(self) -> int:
        """How many segmenters it trains, each with other images held out; 0 where it trains one."""
        return self.experiment.members if self.stage.folds else 0

    def trainings(self) -> list[str]:
        """The folder of each of its trainings within the run's."""
        if not self.folds:
            return [self.folder]
        return [name if self.folder == "." else f"{self.folder}/{name}" for name in fold_names(self.folds)]


class PlannedTraining(NamedTuple):
    """One training of a run.

    Attributes:
        title: what it trains, in words.
        iterations: its length.
    """

    title: str
    iterations: int


def plan_trainings(experiment: Experiment, registry: Registry) -> dict[str, PlannedTraining]:
    """Each training of a run by its folder within the run's, in their order."""
    found = {}
    for planned in plan_stages(experiment, registry):
        for folder in planned.trainings():
            fold = folder.rpartition("/")[2].replace("-", " ")
            title = f"{planned.title}, {fold}" if planned.folds else planned.title
            found[folder] = PlannedTraining(title, planned.experiment.train.iterations)
    return found


def fold_names(folds: int) -> list[str]:
    """The parts of a folder that folds are trained in."""
    return [f"fold-{number}" for number in range(1, folds + 1)]


def build_strategy(choice: StrategyChoice, registry: Registry) -> Strategy:
    """A strategy with its options.

    Raises:
        UsageError: there is none of that name, or an option is wrong.
    """
    cls = registry.class_of("strategy", choice.name)
    return cast("Strategy", cls(**check_options(cls, choice.options, "strategy")))


def plan_stages(experiment: Experiment, registry: Registry) -> list[PlannedStage]:
    """The stages of a run, in order.

    Raises:
        UsageError: there is no such strategy, or what it declares contradicts itself.
    """
    strategy = build_strategy(experiment.strategy, registry)
    stages, result = strategy.stages(experiment), strategy.result(experiment)
    _check_declared(experiment.strategy.name, stages, result)
    main = result.get("segmenter") or result["generator"]
    return [
        PlannedStage(
            stage,
            "." if stage.name == main else stage.name,
            _stage_experiment(experiment, stage, registry),
            tuple(network for network, name in result.items() if name == stage.name),
        )
        for stage in stages
    ]


def result_stages(experiment: Experiment, registry: Registry) -> dict[NetworkKind, PlannedStage]:
    """The stages whose networks are the run's result, by network."""
    return {network: planned for planned in plan_stages(experiment, registry) for network in planned.gives}


def check_strategy(experiment: Experiment, registry: Registry) -> None:
    """Whether an experiment suits its strategy.

    Raises:
        UsageError: it does not.
    """
    strategy = build_strategy(experiment.strategy, registry)
    strategy.check(experiment)
    planned, name = plan_stages(experiment, registry), experiment.strategy.name
    whole = experiment.folds is not None and experiment.fold is None
    if (whole and not any(each.stage.folds for each in planned)) or (experiment.folds and experiment.segmenter is None):
        raise UsageError(f"The strategy {name} has no use for folds.")
    if experiment.baseline != "none" and BASELINE not in {each.stage.name for each in planned}:
        raise UsageError(f"The strategy {name} trains no baseline; leave --baseline out.")
    trained = {each.stage.trains for each in planned}
    if experiment.train.scales and (("segmenter",) not in trained or any(len(networks) > 1 for networks in trained)):
        raise UsageError(
            f"train.scales are for a segmenter that is trained by itself, and not as {name} trains it; leave them out."
        )


def _check_declared(strategy: str, stages: list[Stage], result: Mapping[NetworkKind, str]) -> None:
    """Whether stages use and begin from earlier ones alone, and the result is theirs."""
    trained: dict[str, tuple[NetworkKind, ...]] = {}
    for stage in stages:
        begun = [name for name, _ in stage.begins.values() if isinstance(name, str)]
        unknown = [name for name in (*begun, *stage.uses) if name not in trained]
        if unknown:
            raise UsageError(
                f"The strategy {strategy}: its stage {stage.name!r} needs {unknown[0]!r}, which is no earlier stage."
            )
        if stage.name in trained or not stage.name.replace("-", "").replace("_", "").isalnum():
            raise UsageError(f"The strategy {strategy}: a stage cannot be called {stage.name!r}; it names a folder.")
        trained[stage.name] = stage.trains
    for network, name in result.items():
        if network not in trained.get(name, ()):
            raise UsageError(f"The strategy {strategy}: no stage {name!r} trains the {network} of its result.")


def _stage_experiment(experiment: Experiment, stage: Stage, registry: Registry) -> Experiment:
    """The experiment of one stage: the run's with the stage's changes, and no baseline."""
    own = cast("Experiment", _changed(experiment, {**stage.changes, "baseline": "none"}))
    if not stage.strategy:
        return own
    cls = registry.load(registry.find("strategy", stage.strategy))
    choice = StrategyChoice(**{**check_options(cls, {}, "strategy"), "name": stage.strategy})
    return own.model_copy(update={"strategy": choice})


def _changed(value: Any, changes: Any) -> Any:
    """A table with others laid over it."""
    if not isinstance(changes, Mapping):
        return changes
    if isinstance(value, Choice):
        other = changes.get("name", value.name) != value.name
        return type(value)(**({} if other else value.model_dump()) | dict(changes))
    if isinstance(value, BaseModel):
        fields = type(value).model_fields
        unknown = changes.keys() - fields.keys()
        if unknown:
            raise UsageError(f"A stage changes {min(unknown)!r}, which {type(value).__name__} does not have.")
        return value.model_copy(update={name: _changed(getattr(value, name), each) for name, each in changes.items()})
    return changes
