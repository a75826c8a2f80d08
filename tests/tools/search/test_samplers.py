"""Samplers and pruners by name, on functions that cost nothing."""

from typing import get_args

import optuna
import pytest

from transeg.tools.search.samplers import build_pruner, build_sampler
from transeg.tools.search.storage import retry_callback, silence_optuna
from transeg.tools.search.study_options import Pruner, Sampler


@pytest.fixture(autouse=True)
def silent():
    optuna.logging.set_verbosity(optuna.logging.CRITICAL)


def chosen(name, seed, trials=8, study=None):
    with silence_optuna():
        study = study or optuna.create_study(sampler=build_sampler(name, seed))
        study.optimize(lambda trial: trial.suggest_float("x", 0, 1, step=0.001) ** 2, n_trials=trials)
    return [trial.params["x"] for trial in study.trials]


@pytest.mark.parametrize("name", get_args(Sampler))
def test_a_seed_decides_what_is_chosen(name):
    one, again, other = (chosen(name, seed) for seed in (0, 0, 1))
    assert one == again != other
    assert len(set(one)) == len(one)


@pytest.mark.parametrize("name", ["tpe", "random", "grid"])
def test_an_interruption_does_not_change_what_is_chosen(name):
    whole = chosen(name, 0, trials=5)
    with silence_optuna():
        study = optuna.create_study(sampler=build_sampler(name, 0))
    chosen(name, 0, 2, study)
    trial = study.ask()
    trial.suggest_float("x", 0, 1, step=0.001)
    study.tell(trial, state=optuna.trial.TrialState.FAIL)
    with silence_optuna():
        retry_callback()(study, study.trials[-1])
    values = chosen(name, 0, 3, study)
    assert [x for x, t in zip(values, study.trials, strict=True) if t.state.name == "COMPLETE"] == whole


@pytest.mark.parametrize("name", get_args(Pruner))
def test_hopeless_trials_are_stopped(name):
    """Twenty good trials, then hopeless ones: each pruner stops one of them, and none stops none."""
    study = optuna.create_study(
        study_name="it decides the brackets of hyperband", direction="maximize", pruner=build_pruner(name, 10, 90)
    )
    stopped = []
    for number in range(40):
        trial, value = study.ask(), 0.9 - number / 1000 if number < 20 else 0.1
        for step in range(10, 100, 10):
            trial.report(value, step)
            if trial.should_prune():
                stopped.append(number)
                break
        study.tell(trial, value)
    assert any(number >= 20 for number in stopped) == (name != "none")
