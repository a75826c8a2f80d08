"""How far a run is, read from its folder while it goes on."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from transeg.core.errors import UsageError
from transeg.core.experiment.planned_stages import PlannedTraining, plan_trainings
from transeg.core.experiment.validation import read_experiment
from transeg.core.files import read_json
from transeg.core.registry import Registry
from transeg.core.runs.history import State, read_scalars, run_state, scalar_series
from transeg.core.runs.run_folder import RunFolder

RECENT = 20
"""Lines of ``metrics.jsonl`` that the speed is taken from."""


@dataclass(frozen=True)
class StageProgress:
    """One training of a run.

    Attributes:
        title: what is trained.
        done: iterations.
        total: iterations.
        losses: their values over time, by name.
        rates: the learning rates of now, by optimizer.
        scores: validation Dice by iteration.
        seconds_per_iteration: of late; None before anything was noted.
        left: seconds until this training ends, validation included; None where that cannot be said.
        preview: the latest picture, or None.
    """

    title: str
    done: int
    total: int
    losses: dict[str, list[float]]
    rates: dict[str, float]
    scores: list[tuple[int, float]]
    seconds_per_iteration: float | None
    left: float | None
    preview: Path | None

    @property
    def best(self) -> tuple[int, float] | None:
        """The first iteration with the highest validation Dice, and this."""
        return max(self.scores, key=lambda score: (score[1], -score[0])) if self.scores else None


@dataclass(frozen=True)
class RunProgress:
    """A run at one moment.

    Attributes:
        state: whether it goes on.
        stages: its trainings, in their order.
        current: the one that has begun last; None before any has.
        batch_size: images in an iteration.
    """

    state: State
    stages: list[StageProgress]
    current: StageProgress | None
    batch_size: int


def read_progress(path: Path, registry: Registry) -> RunProgress:
    """How far a run is.

    Raises:
        UsageError: the folder is there and holds something else.
    """
    folder = RunFolder(path)
    if path.exists() and not path.is_dir():
        raise UsageError(f"{path} is a file; name the folder of a run, as --run-dir did.")
    state = run_state(folder)  # before anything else is read: what a finished run holds is complete
    if not folder.experiment.exists():
        within = [*path.glob("*/experiment.toml"), *path.glob("*/*/experiment.toml")]
        if within:
            raise UsageError(f"{path} holds runs but is not one; name one of them, such as {max(within).parent}.")
        return RunProgress(state, [], None, 1)
    experiment = read_experiment(folder.experiment, registry)
    times = read_json(folder.times) if folder.times.exists() else {}
    trainings = plan_trainings(experiment, registry)
    stages = [_stage(folder, name, planned, times.get(name, {})) for name, planned in trainings.items()]
    begun = [stage for stage in stages if stage.done]
    return RunProgress(state, stages, begun[-1] if begun else None, experiment.joint_batch)


def _stage(folder: RunFolder, name: str, planned: PlannedTraining, spent: dict[str, float]) -> StageProgress:
    part = folder.part(name)
    lines = read_scalars(part.scalars)
    done = max((int(line["iteration"]) for line in lines), default=0)
    total = planned.iterations
    trained = [line for line in lines if "seconds_per_iteration" in line]
    kinds = list(trained[-1]) if trained else []
    speeds = [line["seconds_per_iteration"] for line in trained[-RECENT:]]
    speed = sum(speeds) / len(speeds) if speeds else None
    previews = sorted(part.previews.glob("*.png"), key=lambda picture: picture.stat().st_mtime)
    return StageProgress(
        planned.title,
        done,
        total,
        {key.removeprefix("train/"): scalar_series(trained, key)[1] for key in kinds if key.startswith("train/")},
        {key.removeprefix("lr/"): trained[-1][key] for key in kinds if key.startswith("lr/")},
        list(zip(*scalar_series(lines, "val/dice"), strict=True)),
        speed,
        None if speed is None else speed * (total - done) * _with_validation(spent),
        previews[-1] if previews else None,
    )


def _with_validation(spent: dict[str, float]) -> float:
    """How much longer a training takes than its iterations alone."""
    iterating = spent.get("training", 0.0) + spent.get("waiting for data", 0.0)
    beside = spent.get("validation", 0.0) + spent.get("pictures", 0.0)
    return 1 + beside / iterating if iterating else 1.0
