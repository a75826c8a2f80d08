"""Workers of one study that are interrupted, that die and that seem to, at moments that tests choose."""

import os
import signal

import optuna
import pytest
from filelock import FileLock
from rich.console import Console

from transeg.core.errors import TransegError
from transeg.core.registry import Registry
from transeg.tools.search import storage as storage_module
from transeg.tools.search import trial as trial_module
from transeg.tools.search import worker as worker_module
from transeg.tools.search.plan import Plan, SearchFolder
from transeg.tools.search.samplers import build_sampler
from transeg.tools.search.space import Range
from transeg.tools.search.storage import open_storage, silence_optuna, storage_url
from transeg.tools.search.study import first_number, latest_trials
from transeg.tools.search.study_options import StudyOptions
from transeg.tools.search.worker import Worker


@pytest.fixture(scope="module")
def database(tmp_path_factory):
    """With signs of life that need not come for longer than a second."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(storage_module, "HEARTBEAT", 1)
        patch.setattr(storage_module, "GRACE", 1)
        yield open_storage(storage_url("", tmp_path_factory.mktemp("database")))


@pytest.fixture
def search(database, tmp_path, monkeypatch):
    monkeypatch.setattr(worker_module, "GRACE", 4)
    monkeypatch.setattr(worker_module, "HEARTBEAT", 1)
    monkeypatch.setattr(worker_module, "GLANCE", 0.1)
    return Search(database, SearchFolder(tmp_path), monkeypatch)


class Search:
    """Works on a study of three trials whose training is a function of a trial."""

    def __init__(self, database, folder, monkeypatch):
        self.storage = database
        url = storage_url("", folder.path)
        self.plan = Plan({}, {"x": Range(0.0, 1.0)}, StudyOptions(name=str(folder.path), trials=3), folder, url)
        self._monkeypatch = monkeypatch

    @property
    def study(self):
        with silence_optuna():
            return optuna.create_study(
                storage=self.storage,
                study_name=self.plan.study.name,
                load_if_exists=True,
                sampler=build_sampler("random", 0),
            )

    def work(self, train=lambda trial: trial.suggest_float("x", 0, 1)):
        self._monkeypatch.setattr(worker_module, "Objective", lambda *_: train)
        worker = Worker(self.plan, self.storage, self.study, Registry(), Console(quiet=True), None)
        worker.work()
        return worker

    def states(self):
        return [trial.state.name for trial in self._in_order()]

    def values(self):
        return [trial.params["x"] for trial in self._in_order()]

    def _in_order(self):
        return sorted(latest_trials(self.study), key=first_number)


COMPLETE = ["COMPLETE"] * 3


@pytest.fixture(scope="module")
def uncut():
    """What three trials choose when nobody interrupts."""
    with silence_optuna():
        study = optuna.create_study(sampler=build_sampler("random", 0))
    study.optimize(lambda trial: trial.suggest_float("x", 0, 1), n_trials=3)
    return [trial.params["x"] for trial in study.trials]


def interrupt(number=signal.SIGINT):
    os.kill(os.getpid(), number)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("moment", ["before_trial", "after_trial"])
def test_a_signal_between_trainings_loses_no_trial(search, uncut, monkeypatch, moment, number):
    """While a trial is made, or its end noted, too."""
    cls = type(build_sampler("random", 0))
    usual = getattr(cls, moment)

    def interrupted(self, study, trial, *more):
        interrupt(number)
        usual(self, study, trial, *more)

    handler = signal.getsignal(signal.SIGINT)
    with monkeypatch.context() as patch:
        patch.setattr(cls, moment, interrupted)
        assert search.work().interrupted
    assert signal.getsignal(signal.SIGINT) is handler
    assert search.states() == ["WAITING" if moment == "before_trial" else "COMPLETE"]
    assert not search.work().interrupted
    assert search.states() == COMPLETE
    assert search.values() == uncut


def test_a_second_signal_loses_no_trial(search, uncut):
    def train(trial):
        trial.suggest_float("x", 0, 1)
        try:
            interrupt()
        finally:
            interrupt()

    assert search.work(train).interrupted
    assert search.states() == ["WAITING"]
    search.work()
    assert search.values() == uncut


def test_a_worker_that_dies_before_its_first_sign_of_life_is_missed(search, uncut):
    search.study.ask()
    search.work()
    assert search.states() == COMPLETE
    assert search.values() == uncut


def test_interruptions_are_no_deaths(search):
    """Whoever interrupts a trial often, and has a crash then, still gets its result."""

    def train(trial):
        trial.suggest_float("x", 0, 1)
        interrupt()

    for _ in range(storage_module.RETRIES + 1):
        assert search.work(train).interrupted
    search.study.ask()  # and dies
    search.work()
    assert search.states() == COMPLETE


def test_a_trial_that_always_takes_its_worker_along_has_failed(search):
    for _ in range(storage_module.RETRIES + 1):
        assert search.study.ask().number == len(search.study.trials) - 1
        died = search.study.trials[-1]
        storage_module._retry_dead(search.study, died)
        search.study.tell(died.number, state=optuna.trial.TrialState.FAIL)
    assert search.states() == ["FAIL"]


@pytest.mark.parametrize("report", [True, False])
def test_a_worker_that_seemed_dead_goes_on_with_another_trial(search, uncut, report):
    """A computer that slept gives no signs of life; others have begun its trial again meanwhile."""
    slept = []

    def train(trial):
        x = trial.suggest_float("x", 0, 1)
        if not slept:
            slept.append(trial.number)
            frozen = search.study.trials[trial.number]
            search.study.tell(trial.number, state=optuna.trial.TrialState.FAIL)
            storage_module._retry_dead(search.study, frozen)
            if report:
                trial.report(x, 1)
        return x

    search.work(train)
    assert search.states() == COMPLETE
    assert search.values() == uncut


def test_who_goes_on_with_a_trial_waits_for_whom_seemed_dead(search, monkeypatch):
    """Else it would fail, since another one trains into its folder."""
    folder = search.plan.folder.trial(0)
    folder.create()
    lock = FileLock(folder.lock)
    lock.acquire()
    begun = []

    class ReachedError(Exception):
        pass

    def wait(_seconds):
        assert not begun
        lock.release()

    def launch(*_):
        begun.append(lock.is_locked)
        raise ReachedError

    monkeypatch.setattr(trial_module.time, "sleep", wait)
    monkeypatch.setattr(trial_module, "launch", launch)
    monkeypatch.setattr(trial_module, "full_experiment", lambda *_: None)
    monkeypatch.setattr(trial_module, "trial_experiment", lambda _: None)
    monkeypatch.setattr(trial_module, "plan_stages", lambda *_: [])
    monkeypatch.setattr(trial_module, "trial_parts", lambda *_: (None, None))
    with pytest.raises(ReachedError):
        trial_module.Objective(search.plan, Registry(), None)(search.study.ask())
    assert begun == [False]


def test_a_database_that_fails_is_no_fault_of_the_trial(search):
    def train(trial):
        raise optuna.exceptions.StorageInternalError("It is away.")

    with pytest.raises(TransegError, match="cannot be used: It is away"):
        search.work(train)
    assert search.states() == ["WAITING"]


def test_a_sign_of_life_that_is_not_taken_down_is_not_the_last(search, monkeypatch):
    def fail(*_, **__):
        raise optuna.exceptions.StorageInternalError("It is away.")

    trial = search.study.ask()
    with monkeypatch.context() as patch:
        patch.setattr(optuna.storages.RDBStorage, "record_heartbeat", fail)
        search.storage.record_heartbeat(trial._trial_id)
    search.storage.record_heartbeat(trial._trial_id)


def test_a_search_of_few_trials_that_all_fail_has_failed(search):
    def train(trial):
        raise MemoryError("no room")

    with pytest.raises(TransegError, match="All of 3 trials have failed"):
        search.work(train)
