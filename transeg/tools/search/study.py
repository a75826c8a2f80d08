"""The study that workers share: what it searches is recorded in it, and which of its trials count."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import optuna
from optuna.storages import RDBStorage, RetryHeartbeatStaleTrialCallback
from optuna.trial import FrozenTrial, TrialState

from transeg.core.errors import UsageError, did_you_mean
from transeg.core.experiment.deciding_options import difference
from transeg.core.experiment.schema import Experiment
from transeg.core.experiment.settings import Settings
from transeg.core.experiment.validation import validated
from transeg.core.experiment.versions import upgrade
from transeg.core.registry import Registry
from transeg.tools.search.plan import Plan
from transeg.tools.search.samplers import build_pruner, build_sampler
from transeg.tools.search.space import Space, parse_space
from transeg.tools.search.storage import silence_optuna

RECORD = "transeg"
"""The study's attribute that says what is searched."""
FAILURE = "failure"
"""A trial's attribute: why it failed."""
SURPLUS = "surplus"
"""A trial's attribute: it was begun by one worker too many."""
PLACE = "place"
"""A trial's attribute: the machine and the folder where it was trained."""


def join_study(
    storage: RDBStorage, plan: Plan, base: Experiment, images: Mapping[str, int], registry: Registry
) -> optuna.Study:
    """The study of a search, made where there is none.

    Args:
        storage: its database.
        plan: the search.
        base: the experiment with nothing chosen.
        images: how many there are in each role, by which other data under the same name are noticed.
        registry: where strategies come from.

    Raises:
        UsageError: the study of that name searches something else.
    """
    options = plan.study
    with silence_optuna():
        study = optuna.create_study(
            storage=storage,
            study_name=options.name,
            direction="maximize" if plan.maximize else "minimize",
            sampler=build_sampler(options.sampler, options.seed),
            pruner=build_pruner(options.pruner, base.train.val_interval, base.train.iterations),
            load_if_exists=True,
        )
    if RECORD not in study.user_attrs:
        if study.get_trials(deepcopy=False):
            raise UsageError(f"The study {options.name} is not one of `toolkit search`; choose another --study.")
        study.set_user_attr(RECORD, _record(plan, base, images))
    _check_same(study, plan, base, images, registry)
    return study


def load_study(storage: RDBStorage, name: str) -> tuple[optuna.Study, Settings, Space, str]:
    """A study as it is, with the settings, the space and the metric that are recorded in it.

    Raises:
        UsageError: there is no such study.
    """
    names = optuna.get_all_study_names(storage)
    if name not in names:
        raise UsageError(f"The database has no study {name!r}.{did_you_mean(name, names)}")
    study = optuna.load_study(study_name=name, storage=storage)
    if RECORD not in study.user_attrs:
        raise UsageError(f"The study {name} is not one of `toolkit search`.")
    record = study.user_attrs[RECORD]
    return study, record["settings"], parse_space(record["space"]), record["metric"]


def latest_trials(study: optuna.Study) -> list[FrozenTrial]:
    """The trials that count: of those that were interrupted and begun again, the last alone."""
    trials = study.get_trials(deepcopy=False)
    with silence_optuna():
        again = {number for trial in trials for number in RetryHeartbeatStaleTrialCallback.retry_history(trial)}
    return [trial for trial in trials if trial.number not in again and SURPLUS not in trial.user_attrs]


def started_trials(study: optuna.Study) -> list[FrozenTrial]:
    """The trials that count and do not wait to be begun again."""
    return [trial for trial in latest_trials(study) if trial.state != TrialState.WAITING]


def first_number(trial: FrozenTrial) -> int:
    """The number of a trial, however often it was begun again."""
    with silence_optuna():
        number = RetryHeartbeatStaleTrialCallback.retried_trial_number(trial)
    return trial.number if number is None else int(number)


def record_first_heartbeats(storage: RDBStorage, study: optuna.Study) -> None:
    """Give a sign of life for all that is running: a worker that died before its first one would never be missed."""
    number = storage.get_study_id_from_name(study.study_name)
    for trial in latest_trials(study):
        if trial.state == TrialState.RUNNING:
            storage.record_heartbeat(storage.get_trial_id_from_study_id_trial_number(number, trial.number))


def best_trial(study: optuna.Study) -> FrozenTrial | None:
    """The best of the trials that were trained to the end."""
    complete = [trial for trial in latest_trials(study) if trial.state == TrialState.COMPLETE]
    if not complete:
        return None
    sign = 1 if study.direction == optuna.study.StudyDirection.MAXIMIZE else -1
    return max(complete, key=lambda trial: (sign * (trial.value or 0.0), -trial.number))


def _record(plan: Plan, base: Experiment, images: Mapping[str, int]) -> dict[str, Any]:
    """What a study says of itself; how a worker tracks its runs is its own affair, and may hold a password."""
    return {
        "settings": {key: value for key, value in plan.settings.items() if key != "tracking"},
        "space": {option: domain.table() for option, domain in plan.space.items()},
        "experiment": base.model_dump(mode="json", exclude={"tracking"}, exclude_none=True),
        "metric": plan.study.metric,
        "images": dict(images),
    }


def _check_same(
    study: optuna.Study, plan: Plan, base: Experiment, images: Mapping[str, int], registry: Registry
) -> None:
    record, space, metric = study.user_attrs[RECORD], plan.space, plan.study.metric
    other = difference(validated(upgrade(record["experiment"], registry)), base)
    theirs = parse_space(record["space"])
    for option in sorted({*theirs, *space}):
        said = [repr(each[option]) if option in each else "not there" for each in (theirs, space)]
        if said[0] != said[1]:  # 1 is not 1.0 here
            other = other or f"the space of {option} is {theirs.get(option)} there and {space.get(option)} here"
    if record["metric"] != metric:
        other = other or f"the metric is {record['metric']} there and {metric} here"
    for role, count in record["images"].items():
        if images.get(role) != count:
            other = other or f"data.{role} has {count} images there and {images.get(role, 0)} here"
    if other:
        raise UsageError(
            f"The study {study.study_name} searches something else: {other}. Go on with the options that it was begun "
            f"with, or choose another --search-dir or --study."
        )
