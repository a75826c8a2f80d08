"""What a trial's training hears of its study."""

from types import SimpleNamespace

import optuna
import pytest

from transeg.core.training.hooks.interrupt import InterruptHook
from transeg.tools.search.hook import StudyHook


@pytest.fixture
def hopeless():
    """A trial that its study would stop at any time."""

    class Always(optuna.pruners.BasePruner):
        def prune(self, study, trial):
            return True

    return optuna.create_study(pruner=Always()).ask()


def validate(trial, iteration, hook=None):
    runner = SimpleNamespace(iter=iteration, max_iters=4, hooks=[hook or InterruptHook()])
    StudyHook(trial, "dice", []).after_val_epoch(runner, {"val/dice": 0.5})


def test_a_hopeless_trial_is_stopped(hopeless):
    with pytest.raises(optuna.TrialPruned):
        validate(hopeless, 2)


def test_the_last_validation_stops_nothing(hopeless):
    validate(hopeless, 4)


def test_who_asked_to_stop_is_heard_first(hopeless):
    hook = InterruptHook()
    hook.asked = True
    validate(hopeless, 2, hook)
