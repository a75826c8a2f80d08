"""What a run folder holds, as far as it is there: reports are written of interrupted runs, too."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from transeg.core.errors import TransegError, UsageError
from transeg.core.evaluation.statistics import bootstrap_intervals
from transeg.core.experiment.planned_stages import build_strategy, plan_trainings
from transeg.core.experiment.schema import Experiment
from transeg.core.experiment.validation import read_experiment
from transeg.core.files import read_json
from transeg.core.registry import Registry
from transeg.core.runs.evaluations import is_later, score_files
from transeg.core.runs.history import State, read_scalars, run_state
from transeg.core.runs.run_folder import RunFolder


@dataclass(frozen=True)
class Scores:
    """The images of a test set, one by one.

    Attributes:
        names: of the images.
        groups: of the images.
        values: each metric, ``(images,)``, NaN where it is undefined.
        bins: of :func:`~transeg.core.evaluation.metrics.calibration.calibration_bins` over all images; None where
            nothing gave probabilities.
        evaluation: name of the evaluation after the run that measured them; '' where the run did itself.
    """

    names: list[str]
    groups: list[str]
    values: dict[str, np.ndarray]
    bins: np.ndarray | None
    evaluation: str = ""

    def mean(self, metric: str) -> float | None:
        """Over the images where it is defined; None where there are none."""
        values = self.values.get(metric, np.empty(0))
        defined = values[~np.isnan(values)]
        return float(defined.mean()) if len(defined) else None

    def interval(self, metric: str) -> tuple[float, float] | None:
        """The 95 % interval of the mean; see :func:`~transeg.core.evaluation.statistics.bootstrap_intervals`."""
        if metric not in self.values:
            return None
        low, high = bootstrap_intervals(self.values[metric][:, None], self.groups)[0]
        return None if np.isnan(low) else (float(low), float(high))


@dataclass(frozen=True)
class Record:
    """A run folder.

    Attributes:
        folder: it.
        state: whether the run goes on.
        experiment: what was to be done.
        environment: what it was done with; empty where it is not there, as are the next three.
        sizes: ``images`` and ``parameters``; see :meth:`transeg.core.training.parts.Parts.sizes`.
        times: see :mod:`transeg.core.runs.timings`.
        metrics: what the run came to.
        trainings: what each of them trains, in words, by its folder within the run's.
        summary: what the run did, in a sentence without its full stop.
        trained_on: what its segmenter and that of its baseline learned from, in a few words.
        scalars: lines of ``metrics.jsonl`` of each training that has begun, by its name.
        scores: of each test set, in the order in which the run names them; what was measured later comes last.
    """

    folder: RunFolder
    state: State
    experiment: Experiment
    environment: dict[str, Any]
    sizes: dict[str, dict[str, int]]
    times: dict[str, dict[str, float]]
    metrics: dict[str, Any]
    trainings: dict[str, str]
    summary: str
    trained_on: tuple[str, str]
    scalars: dict[str, list[dict[str, float]]]
    scores: dict[str, Scores]

    @classmethod
    def read(cls, path: Path, registry: Registry) -> Record:
        """Read a run folder, whose strategy the registry knows.

        Raises:
            UsageError: it is none.
            TransegError: one of its files is damaged.
        """
        folder = RunFolder(path)
        if not folder.experiment.exists():
            raise UsageError(f"{path} is not a run folder: it has no experiment.toml.")
        state = run_state(folder)  # before anything else is read: what a finished run holds is complete
        experiment = read_experiment(folder.experiment, registry)
        trainings = {name: planned.title for name, planned in plan_trainings(experiment, registry).items()}
        strategy = build_strategy(experiment.strategy, registry)
        scores, named = read_scores(folder.path), list(experiment.data.test)
        metrics = _json(folder.metrics)
        said = [f"{label}: {words}" for label, words in metrics.get("transductive", {}).items()]
        lines = {name: read_scalars(folder.part(name).scalars) for name in trainings}
        return cls(
            folder,
            state,
            experiment,
            _json(folder.environment),
            _json(folder.parts),
            _json(folder.times),
            metrics,
            trainings,
            "; ".join([strategy.summary(experiment), *said]),
            strategy.trained_on(experiment),
            {name: found for name, found in lines.items() if found},
            {label: scores[label] for label in sorted(scores, key=lambda label: (*named, label).index(label))},
        )


def read_scores(run: Path) -> dict[str, Scores]:
    """Of every test set that a run was measured on; see :func:`transeg.core.runs.evaluations.score_files`.

    Raises:
        TransegError: a file is damaged, or of an older version.
    """
    return {label: _scores(path) for label, path in sorted(score_files(run).items())}


def _scores(path: Path) -> Scores:
    with path.open(newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file)
        rows, columns = list(reader), list(reader.fieldnames or [])
    if columns[:2] != ["name", "group"] or not rows:
        raise TransegError(f"{path} is damaged, or of an older version; write it again with: toolkit evaluate RUN")
    try:
        values = {column: np.array([float(row[column] or "nan") for row in rows]) for column in columns[2:]}
    except (ValueError, TypeError) as error:
        raise TransegError(f"{path} is damaged: {error}; write it again with: toolkit evaluate RUN") from error
    bins = path.parent / "calibration" / f"{path.stem}.json"
    pooled = np.array(read_json(bins)) if bins.exists() else None
    names, groups = ([row[column] for row in rows] for column in ("name", "group"))
    return Scores(names, groups, values, pooled, path.parent.name if is_later(path) else "")


def _json(path: Path) -> dict[str, Any]:
    return read_json(path) if path.exists() else {}
