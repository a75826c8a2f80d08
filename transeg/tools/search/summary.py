"""What a search has found: a table of its trials, what mattered, pictures, and the best experiment as a file."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import optuna
from optuna.importance import PedAnovaImportanceEvaluator
from optuna.trial import FrozenTrial, TrialState

from transeg.core.experiment.schema import Experiment
from transeg.core.files import replacing, write_text
from transeg.tools.search.plan import SearchFolder
from transeg.tools.search.space import Space
from transeg.tools.search.storage import silence_optuna
from transeg.tools.search.study import PLACE, best_trial, first_number, latest_trials
from transeg.tools.search.worker import failure_reason

STATES = {
    TrialState.COMPLETE: "complete",
    TrialState.PRUNED: "pruned",
    TrialState.FAIL: "failed",
    TrialState.RUNNING: "running",
    TrialState.WAITING: "waiting",
}


def write_summary(
    study: optuna.Study,
    space: Space,
    metric: str,
    folder: SearchFolder,
    experiment: Callable[[Mapping[str, Any]], Experiment],
) -> dict[str, Any]:
    """Write ``best.toml`` and the pictures, and say what the study has found.

    Args:
        study: whose trials they are.
        space: what was searched.
        metric: by which trials were judged.
        folder: where files go.
        experiment: the whole experiment of a trial's values, as the study holds them.

    Returns:
        ``study``, ``metric``, ``counts`` by state, ``trials`` (best first, then stopped ones, then the others),
        ``importances`` by option, the ``best`` trial or None, ``files``, ``search_dir``.
    """
    with folder.locked():  # who writes last has looked last
        sign = 1 if study.direction == optuna.study.StudyDirection.MAXIMIZE else -1
        trials = latest_trials(study)
        rows = sorted((_row(trial, space) for trial in trials), key=lambda row: _rank(row, sign))
        leader = best_trial(study)
        importances = _importances(study)
        files = _drawn(study, metric, bool(importances), folder)
        if leader is not None:
            head = f"# Trial {first_number(leader)} of {study.study_name}: validation {metric} {leader.value:.4f}\n"
            write_text(folder.best, head + experiment(leader.params).to_toml())
            files.append(folder.best)
    return {
        "study": study.study_name,
        "metric": metric,
        "counts": {name: sum(trial.state == state for trial in trials) for state, name in STATES.items()},
        "best": None if leader is None else _row(leader, space),
        "trials": rows,
        "importances": importances,
        "files": [str(path) for path in files],
        "search_dir": str(folder.path),
    }


def _row(trial: FrozenTrial, space: Space) -> dict[str, Any]:
    value = trial.value
    if trial.state == TrialState.PRUNED and trial.intermediate_values:
        value = trial.intermediate_values[trial.last_step]
    seconds = None if trial.duration is None else round(trial.duration.total_seconds(), 1)
    return {
        "number": first_number(trial),
        "state": STATES[trial.state],
        "value": value,
        "iteration": trial.last_step,
        "seconds": seconds,
        "options": {option: space[option].value(stored) for option, stored in trial.params.items()},
        "failure": failure_reason(trial) if trial.state == TrialState.FAIL else None,
        "place": trial.user_attrs.get(PLACE),
    }


def _rank(row: Mapping[str, Any], sign: int) -> tuple[int, float, int]:
    order = list(STATES.values()).index(row["state"])
    return order, -sign * (row["value"] or 0.0) if row["value"] is not None else 0.0, row["number"]


def _importances(study: optuna.Study) -> dict[str, float]:
    """How much of what trials reached depends on each option (PED-ANOVA, Watanabe et al., arXiv:2304.10255).

    Nothing where there are too few trials to say.
    """
    values = {t.value for t in study.get_trials(deepcopy=False, states=[TrialState.COMPLETE])}
    if len(values) < 2:
        return {}
    try:
        with silence_optuna():
            found = optuna.importance.get_param_importances(study, evaluator=PedAnovaImportanceEvaluator())
    except (ValueError, RuntimeError):  # all trials chose alike
        return {}
    return {option: float(share) for option, share in found.items()}


def _drawn(study: optuna.Study, metric: str, has_importances: bool, folder: SearchFolder) -> list[Path]:
    """Pictures of a study that has come to something."""
    if best_trial(study) is None:
        return []
    import matplotlib as mpl

    mpl.use("agg")  # pyplot, which Optuna draws with, would look for a screen
    from matplotlib import pyplot
    from optuna.visualization import matplotlib as drawing

    drawn = []
    with silence_optuna():
        axes = {folder.history: drawing.plot_optimization_history(study, target_name=f"validation {metric}")}
        if has_importances:
            axes[folder.importances] = drawing.plot_param_importances(study, evaluator=PedAnovaImportanceEvaluator())
    for path, axis in axes.items():
        try:
            with replacing(path) as unfinished:
                axis.figure.savefig(unfinished, dpi=120, bbox_inches="tight")
        finally:
            pyplot.close(axis.figure)
        drawn.append(path)
    return drawn
