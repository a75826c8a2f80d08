"""A worker: trains trials of a study until there are enough, whatever becomes of other workers."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

import optuna
from optuna.trial import FrozenTrial, TrialState
from rich.console import Console

from transeg.core.errors import TransegError
from transeg.core.registry import Registry
from transeg.core.search.display import Display
from transeg.core.search.plan import Plan
from transeg.core.search.storage import GRACE, HEARTBEAT, database_errors, quiet, retry
from transeg.core.search.study import FAILURE, SURPLUS, begun, best, counted, first_number
from transeg.core.search.trial import Objective
from transeg.core.train import InterruptedRunError

HOPELESS = 10
"""So many trials that fail, while none succeeds, end a search."""
GLANCE = 1.0
"""Seconds between two looks at the trials of other workers."""


@dataclass
class Worker:
    """Trains trials.

    Args:
        plan: of the search.
        study: that is worked on.
        registry: where components come from.
        console: for progress.
        timeout: seconds after which no trial is begun; None for ever.

    Attributes:
        interrupted: whether a signal ended the work.
    """

    plan: Plan
    study: optuna.Study
    registry: Registry
    console: Console
    timeout: float | None
    interrupted: bool = field(default=False, init=False)
    _start: float = field(default_factory=time.monotonic, init=False)

    def work(self) -> None:
        """Train until there are enough trials, none of which waits for a worker that has died.

        Raises:
            TransegError: the database cannot be reached any more, or every trial fails.
        """
        with database_errors(self.plan.storage), Display(self.console, self.plan.study.trials) as display:
            objective = Objective(self.plan, self.registry, display)
            self._show(display)
            try:
                while self._wanted() or self._orphaned():
                    self._optimize(objective, display)
            except KeyboardInterrupt:
                self.interrupted = True

    def _optimize(self, objective: Objective, display: Display) -> None:
        """Train trials until enough are begun."""

        def judged(trial: optuna.Trial) -> float:
            if self._is_surplus(trial):
                trial.set_user_attr(SURPLUS, True)
                raise TransegError("Another worker has begun the last trial.")
            try:
                return objective(trial)
            except (InterruptedRunError, KeyboardInterrupt) as error:
                self.interrupted = True
                raise InterruptedRunError(str(error)) from error
            except optuna.TrialPruned:
                raise
            except Exception as error:
                trial.set_user_attr(FAILURE, _reason(error))
                raise

        def ended(study: optuna.Study, trial: FrozenTrial) -> None:
            if SURPLUS not in trial.user_attrs:
                display.say(line(trial, self.plan.study.metric, self.interrupted))
            if self.interrupted:
                with quiet():
                    retry()(study, trial)
            self._show(display)
            self._check_hopeless()
            if self.interrupted or not self._wanted():
                study.stop()

        self.study.optimize(judged, catch=(Exception,), callbacks=[ended])

    def _wanted(self) -> bool:
        """Whether this worker is to begin another trial, or one that waits to be begun again."""
        return not self._over() and len(begun(self.study)) < self.plan.study.trials

    def _over(self) -> bool:
        late = self.timeout is not None and time.monotonic() - self._start >= self.timeout
        return self.interrupted or late

    def _orphaned(self) -> bool:
        """Watch the trials of other workers for as long as shows whether one of them has died, and left its trial."""
        end = time.monotonic() + GRACE + HEARTBEAT
        running = True
        while running and not self._over() and time.monotonic() < end:
            with quiet():
                optuna.storages.fail_stale_trials(self.study)
            if self._wanted():
                return True
            running = any(trial.state == TrialState.RUNNING for trial in counted(self.study))
            time.sleep(GLANCE if running else 0)
        return False

    def _is_surplus(self, trial: optuna.Trial) -> bool:
        """Whether several workers have begun the last trial at the same time, and this one came late."""
        return sum(other.number < trial.number for other in begun(self.study)) >= self.plan.study.trials

    def _show(self, display: Display) -> None:
        leader = best(self.study)
        note = "" if leader is None else f"best {leader.value:.4f} (trial {first_number(leader)})"
        display.trials(sum(trial.state.is_finished() for trial in counted(self.study)), note)

    def _check_hopeless(self) -> None:
        trials = begun(self.study)
        failed = [trial for trial in trials if trial.state == TrialState.FAIL]
        if len(failed) >= HOPELESS and not any(t.state in (TrialState.COMPLETE, TrialState.PRUNED) for t in trials):
            raise TransegError(f"All of {len(failed)} trials have failed, the last one because: {failure(failed[-1])}")


def line(trial: FrozenTrial, metric: str, interrupted: bool) -> str:
    """What became of a trial."""
    name = f"trial {first_number(trial)}"
    if trial.state == TrialState.COMPLETE:
        return f"{name}: {metric} {trial.value:.4f}"
    if trial.state == TrialState.PRUNED:
        return (
            f"{name}: stopped at iteration {trial.last_step}, {metric} {trial.intermediate_values[trial.last_step]:.4f}"
        )
    return f"{name}: interrupted" if interrupted else f"{name} failed: {failure(trial)}"


def failure(trial: FrozenTrial) -> str:
    """Why a trial failed."""
    return str(trial.user_attrs.get(FAILURE, "its worker died, as often as it was begun."))


def _reason(error: Exception) -> str:
    """What went wrong, without the advice on how to resume a single run."""
    if isinstance(error, TransegError) and isinstance(error.__cause__, TransegError):
        error = error.__cause__
    return str(error) if isinstance(error, TransegError) else f"{type(error).__name__}: {error}"[:1000]
