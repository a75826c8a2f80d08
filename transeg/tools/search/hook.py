"""Tells a trial's validations to its study, and stops the training where the study says so."""

from __future__ import annotations

import math
from collections.abc import Collection
from typing import Any

import optuna
from mmengine.hooks import Hook
from mmengine.runner import Runner

from transeg.core.errors import UsageError, did_you_mean
from transeg.core.training.hooks.interrupt import InterruptHook


class StudyHook(Hook):
    """Reports each validation, and raises `optuna.TrialPruned` where the trial is not worth going on with.

    The last validation prunes nothing: what it costs is paid. Nor does one in which the user has asked to stop, which
    would go unheard: the next one prunes.

    Args:
        trial: of the study.
        metric: that is reported.
        reported: iterations of which the study knows already, because an interrupted training does them again.
    """

    priority = "LOWEST"  # after what writes the validation down

    def __init__(self, trial: optuna.Trial, metric: str, reported: Collection[int]) -> None:
        self._trial = trial
        self._metric = metric
        self._reported = set(reported)

    def after_val_epoch(self, runner: Runner, metrics: dict[str, Any] | None = None) -> None:
        """Report, and stop where told to."""
        known = {key.removeprefix("val/"): value for key, value in (metrics or {}).items()}
        if self._metric not in known:
            raise UsageError(f"Validation knows no {self._metric}.{did_you_mean(self._metric, known)}")
        value, step = known[self._metric], runner.iter
        if value is None or not math.isfinite(value):
            return
        if step not in self._reported:
            self._trial.report(float(value), step)
            self._reported.add(step)
        stopping = any(isinstance(hook, InterruptHook) and hook.asked for hook in runner.hooks)
        if step < runner.max_iters and not stopping and self._trial.should_prune():
            raise optuna.TrialPruned(f"at iteration {step} of {runner.max_iters}, with {self._metric} {value:.4f}")
