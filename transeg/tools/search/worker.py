"""A worker: trains trials of a study until there are enough, whatever becomes of other workers."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import FrameType

import optuna
from optuna.storages import RDBStorage
from optuna.trial import FrozenTrial, TrialState
from rich.console import Console

from transeg.core.errors import TransegError
from transeg.core.registry import Registry
from transeg.core.training.train import InterruptedRunError
from transeg.tools.search.display import Display
from transeg.tools.search.plan import Plan
from transeg.tools.search.storage import (
    DATABASE_ERRORS,
    GRACE,
    HEARTBEAT,
    database_errors,
    retry_callback,
    silence_optuna,
)
from transeg.tools.search.study import (
    FAILURE,
    SURPLUS,
    best_trial,
    first_number,
    latest_trials,
    record_first_heartbeats,
    started_trials,
)
from transeg.tools.search.trial import Objective

HOPELESS = 10
"""This many failed trials end a search, while none succeeds."""
GLANCE = 1.0
"""Seconds between two looks at the trials of other workers."""


@dataclass
class Worker:
    """Trains trials.

    Args:
        plan: of the search.
        storage: that the study is in.
        study: that is worked on.
        registry: where components come from.
        console: for progress.
        timeout: seconds after which no trial is begun; None for ever.

    Attributes:
        interrupted: whether a signal ended the work.
    """

    plan: Plan
    storage: RDBStorage
    study: optuna.Study
    registry: Registry
    console: Console
    timeout: float | None
    interrupted: bool = field(default=False, init=False)
    _start: float = field(default_factory=time.monotonic, init=False)
    _stoppable: bool = field(default=False, init=False)
    _present: int = field(default=0, init=False)
    _fault: Exception | None = field(default=None, init=False)

    def work(self) -> None:
        """Train until there are enough trials, none of which waits for a worker that has died.

        Raises:
            TransegError: the database cannot be reached any more, or every trial fails.
        """
        with (
            database_errors(self.plan.storage),
            Display(self.console, self.plan.study.trials) as display,
            self._signals(),
        ):
            objective = Objective(self.plan, self.registry, display)
            self._show(display)
            while self._wanted() or self._orphaned():
                self._optimize(objective, display)

    @contextmanager
    def _signals(self) -> Iterator[None]:
        """Let signals cut off trainings, and nothing between them: a trial half begun or half ended would be lost."""

        def note(_number: int, _frame: FrameType | None) -> None:
            self.interrupted = True
            if self._stoppable:
                raise KeyboardInterrupt

        before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    @contextmanager
    def _cut_off_by_signals(self) -> Iterator[None]:
        self._stoppable = True
        try:
            if self.interrupted:
                raise KeyboardInterrupt
            yield
        finally:
            self._stoppable = False

    def _optimize(self, objective: Objective, display: Display) -> None:
        """Train trials until enough are begun."""

        def ended(study: optuna.Study, trial: FrozenTrial) -> None:
            if SURPLUS not in trial.user_attrs:
                display.say(describe_trial(trial, self.plan.study.metric))
            if is_cut_off(trial):
                with silence_optuna():
                    retry_callback()(study, trial)
            if self._fault is not None:
                raise self._fault
            self._show(display)
            check_hopeless(self.study, self.plan.study.trials)
            if self.interrupted or not self._wanted():
                study.stop()

        try:
            self.study.optimize(lambda trial: self._judged(trial, objective), catch=(Exception,), callbacks=[ended])
        except (ValueError, AssertionError, optuna.exceptions.UpdateFinishedTrialError):  # when Optuna notices it
            trial = self.study.get_trials(deepcopy=False)[self._present]
            if trial.state != TrialState.FAIL:
                raise
            display.say(f"trial {first_number(trial)}: given to another worker, since this one seemed dead")

    def _judged(self, trial: optuna.Trial, objective: Objective) -> float:
        """What a trial reaches; where it fails, the study has the reason."""
        self._present = trial.number
        if self._is_surplus(trial):
            trial.set_user_attr(SURPLUS, True)
            raise TransegError("Another worker has begun the last trial.")
        try:
            with self._cut_off_by_signals():
                return objective(trial)
        except (InterruptedRunError, KeyboardInterrupt) as error:
            self.interrupted = True
            raise InterruptedRunError(str(error)) from error
        except (optuna.TrialPruned, optuna.exceptions.UpdateFinishedTrialError):
            raise
        except DATABASE_ERRORS as error:
            self._fault = error  # is not the trial's
            raise
        except Exception as error:
            trial.set_user_attr(FAILURE, _reason(error))
            raise

    def _wanted(self) -> bool:
        """Whether this worker is to begin another trial, or one that waits to be begun again."""
        return not self._over() and len(started_trials(self.study)) < self.plan.study.trials

    def _over(self) -> bool:
        late = self.timeout is not None and time.monotonic() - self._start >= self.timeout
        return self.interrupted or late

    def _orphaned(self) -> bool:
        """Watch the trials of other workers for as long as shows whether one of them has died, and left its trial."""
        end = time.monotonic() + GRACE + HEARTBEAT
        free_stale(self.study)
        record_first_heartbeats(self.storage, self.study)
        running = True
        while running and not self._over() and time.monotonic() < end:
            free_stale(self.study)
            if self._wanted():
                return True
            running = is_any_running(self.study)
            time.sleep(GLANCE if running else 0)
        return False

    def _is_surplus(self, trial: optuna.Trial) -> bool:
        """Whether several workers have begun the last trial at the same time, and this one came late."""
        return sum(other.number < trial.number for other in started_trials(self.study)) >= self.plan.study.trials

    def _show(self, display: Display) -> None:
        display.trials(len(ended_trials(self.study)), note_on_best(self.study))


def ended_trials(study: optuna.Study) -> list[FrozenTrial]:
    """The trials that count and have ended, other than to be begun again."""
    return [trial for trial in latest_trials(study) if trial.state.is_finished()]


def is_any_running(study: optuna.Study) -> bool:
    """Whether any worker trains, or has died so lately that it is not missed yet."""
    return any(trial.state == TrialState.RUNNING for trial in latest_trials(study))


def free_stale(study: optuna.Study) -> None:
    """Queue trials again whose workers have died."""
    with silence_optuna():
        optuna.storages.fail_stale_trials(study)


def note_on_best(study: optuna.Study) -> str:
    """The best value so far and whose it is; '' where there is none."""
    leader = best_trial(study)
    return "" if leader is None else f"best {leader.value:.4f} (trial {first_number(leader)})"


def check_hopeless(study: optuna.Study, wanted: int) -> None:
    """Whether it is of use to go on.

    Args:
        study: whose trials they are.
        wanted: how many there are to be.

    Raises:
        TransegError: many trials, or all, have failed, and none has not.
    """
    trials = started_trials(study)
    failed = [trial for trial in trials if trial.state == TrialState.FAIL]
    succeeded = any(trial.state in (TrialState.COMPLETE, TrialState.PRUNED) for trial in trials)
    if len(failed) >= min(HOPELESS, wanted) and not succeeded:
        raise TransegError(
            f"All of {len(failed)} trials have failed, the last one because: {failure_reason(failed[-1])}"
        )


def describe_trial(trial: FrozenTrial, metric: str) -> str:
    """What became of a trial."""
    name = f"trial {first_number(trial)}"
    if trial.state == TrialState.COMPLETE:
        return f"{name}: {metric} {trial.value:.4f}"
    if trial.state == TrialState.PRUNED:
        return (
            f"{name}: stopped at iteration {trial.last_step}, {metric} {trial.intermediate_values[trial.last_step]:.4f}"
        )
    return f"{name}: interrupted" if is_cut_off(trial) else f"{name} failed: {failure_reason(trial)}"


def is_cut_off(trial: FrozenTrial) -> bool:
    """Whether a trial that its worker has ended is to go on, since a signal ended it, or the database failed."""
    return trial.state == TrialState.FAIL and not {FAILURE, SURPLUS} & set(trial.user_attrs)


def failure_reason(trial: FrozenTrial) -> str:
    """Why a trial failed."""
    return str(trial.user_attrs.get(FAILURE, "its worker died, as often as it was begun."))


def _reason(error: Exception) -> str:
    """What went wrong, without the advice on how to resume a single run."""
    if isinstance(error, TransegError) and isinstance(error.__cause__, TransegError):
        error = error.__cause__
    return str(error) if isinstance(error, TransegError) else f"{type(error).__name__}: {error}"[:1000]
