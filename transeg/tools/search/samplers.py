"""Optuna's samplers and pruners, by name."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution
from optuna.pruners import BasePruner, HyperbandPruner, MedianPruner, NopPruner, SuccessiveHalvingPruner
from optuna.samplers import BaseSampler, BruteForceSampler, GPSampler, QMCSampler, RandomSampler, TPESampler
from optuna.storages import RetryHeartbeatStaleTrialCallback

from transeg.tools.search.storage import silence_optuna
from transeg.tools.search.study_options import Pruner, Sampler

SAMPLERS: dict[Sampler, Callable[[int], BaseSampler]] = {
    "tpe": lambda seed: TPESampler(seed=seed),
    "random": lambda seed: RandomSampler(seed=seed),
    "grid": lambda seed: BruteForceSampler(seed=seed),
    "gp": lambda seed: GPSampler(seed=seed),
}


class SeededByTrial(BaseSampler):
    """A sampler whose random numbers depend on how many trials were begun before; one begun again draws the same.

    So workers of one study draw different numbers, and a study that is interrupted goes on as it would have.

    Args:
        make: a sampler from a seed.
        seed: of the study.
    """

    def __init__(self, make: Callable[[int], BaseSampler], seed: int) -> None:
        self._make = make
        self._seed = seed
        self._sampler: BaseSampler = RandomSampler(seed=seed)

    def before_trial(self, study: optuna.Study, trial: optuna.trial.FrozenTrial) -> None:
        trials = study.get_trials(deepcopy=False)
        with silence_optuna():
            again = RetryHeartbeatStaleTrialCallback.retried_trial_number
            first = again(trial)
            number = trial.number if first is None else first
            before = sum(other.number < number and again(other) is None for other in trials)
            self._sampler = self._make(int(np.random.SeedSequence((self._seed, before)).generate_state(1)[0]))
        self._sampler.before_trial(study, trial)

    def infer_relative_search_space(
        self, study: optuna.Study, trial: optuna.trial.FrozenTrial
    ) -> dict[str, BaseDistribution]:
        space: dict[str, BaseDistribution] = self._sampler.infer_relative_search_space(study, trial)
        return space

    def sample_relative(
        self, study: optuna.Study, trial: optuna.trial.FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        values: dict[str, Any] = self._sampler.sample_relative(study, trial, search_space)
        return values

    def sample_independent(
        self,
        study: optuna.Study,
        trial: optuna.trial.FrozenTrial,
        param_name: str,
        param_distribution: BaseDistribution,
    ) -> Any:
        return self._sampler.sample_independent(study, trial, param_name, param_distribution)

    def after_trial(
        self,
        study: optuna.Study,
        trial: optuna.trial.FrozenTrial,
        state: optuna.trial.TrialState,
        values: Sequence[float] | None,
    ) -> None:
        self._sampler.after_trial(study, trial, state, values)


def build_sampler(name: Sampler, seed: int) -> BaseSampler:
    """A sampler by name.

    ``tpe``: Watanabe, arXiv:2304.11127; ``qmc``: Bergstra and Bengio, JMLR 13, 2012; ``grid`` visits every combination
    of discrete spaces.
    """
    if name == "qmc":  # one sequence for all workers, each of whose members goes to one of them
        return QMCSampler(seed=seed, scramble=True, warn_independent_sampling=False)
    return SeededByTrial(SAMPLERS[name], seed)


def build_pruner(name: Pruner, first: int, last: int) -> BasePruner:
    """A pruner by name.

    ``median`` (Golovin et al., KDD 2017, doi:10.1145/3097983.3098043) lets five trials end before it stops any.
    ``hyperband``: Li et al., arXiv:1603.06560; ``successive-halving``: Li et al., arXiv:1810.05934.

    Args:
        name: of the pruner.
        first: iterations before the first validation.
        last: iterations of a whole training.
    """
    if name == "median":
        return MedianPruner(n_startup_trials=5, n_warmup_steps=0)
    if name == "hyperband":
        return HyperbandPruner(min_resource=min(first, last), max_resource=last)
    if name == "successive-halving":
        return SuccessiveHalvingPruner(min_resource=min(first, last))
    return NopPruner()
