"""One trial: an experiment with chosen values, trained in a run folder of its own and judged by its validation."""

from __future__ import annotations

import math
import platform
import time
from collections.abc import Sequence
from dataclasses import dataclass

import optuna
from mmengine.hooks import Hook
from rich.console import Console

from transeg.core.device import release_memory
from transeg.core.errors import TransegError
from transeg.core.experiment.planned_stages import PlannedStage, plan_stages
from transeg.core.pipeline.launch import Prepared, launch
from transeg.core.registry import Registry
from transeg.core.runs.history import read_scalars
from transeg.core.runs.run_folder import RunFolder, is_locked
from transeg.tools.search.display import Display, DisplayHook
from transeg.tools.search.hook import StudyHook
from transeg.tools.search.matching import components_first, option_applies
from transeg.tools.search.overlay import COMPONENTS
from transeg.tools.search.plan import Plan, full_experiment, trial_experiment, trial_parts
from transeg.tools.search.study import PLACE, first_number


@dataclass(frozen=True)
class Objective:
    """Trains a trial.

    Args:
        plan: of the search.
        registry: where components come from.
        display: where the training is shown.
    """

    plan: Plan
    registry: Registry
    display: Display

    def __call__(self, trial: optuna.Trial) -> float:
        """Train, and return the best value of the metric over the validations.

        Raises:
            TrialPruned: the study has stopped it.
            TransegError: it failed, or was interrupted.
        """
        frozen = trial.study.get_trials(deepcopy=False)[trial.number]
        number = first_number(frozen)
        folder = self.plan.folder.trial(number)
        trial.set_user_attr(PLACE, f"{platform.node()}:{folder.path.resolve()}")
        chosen = self._chosen(trial)
        experiment = trial_experiment(full_experiment(chosen, self.plan.settings, self.plan.space, self.registry))
        metric = self.plan.study.metric
        hook = StudyHook(trial, metric, list(frozen.intermediate_values))

        def hooks(planned: PlannedStage) -> Sequence[Hook]:
            result = planned.folder == "."
            title = f"trial {number}" if result else f"trial {number}, {planned.stage.name}"
            shown = DisplayHook(self.display, title, metric)
            return [shown, hook] if result else [shown]

        try:
            folder.create()
            while is_locked(folder.lock):  # by a worker that seemed dead, and lets go when it validates
                time.sleep(1)
            stages = plan_stages(experiment, self.registry)
            prepared = Prepared(experiment, stages, *trial_parts(experiment, self.registry), folder, resume=True)
            launch(prepared, self.registry, Console(quiet=True), hooks)
            value = _best(folder, metric, self.plan.maximize)
        except optuna.TrialPruned:
            _forget(folder, "*.pt")
            raise
        finally:
            release_memory()
        _forget(folder, "last.pt")
        return value

    def _chosen(self, trial: optuna.Trial) -> dict[str, object]:
        """Values by option, as the study holds them; an option of another component than was chosen has none."""
        chosen: dict[str, object] = {}
        for option in components_first(self.plan.space):
            components = {kind: chosen[kind] for kind in COMPONENTS if kind in chosen}
            if option_applies(option, components, self.registry):
                chosen[option] = self.plan.space[option].suggest(trial, option)
        return chosen


def _best(folder: RunFolder, metric: str, maximize: bool) -> float:
    """The best value over the validations that a run has written down."""
    lines = read_scalars(folder.scalars)
    values = [line[key] for line in lines if math.isfinite(line.get(key := f"val/{metric}", math.nan))]
    if not values:
        raise TransegError(f"No validation had a value of {metric}.")
    return float(max(values) if maximize else min(values))


def _forget(folder: RunFolder, pattern: str) -> None:
    """Drop checkpoints that nothing will need again."""
    for path in folder.path.glob(f"**/checkpoints/{pattern}"):
        path.unlink(missing_ok=True)
