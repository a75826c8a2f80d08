"""Trainings that runs of one sweep have in common: the first run trains, the others take over what it has made.

docs/decisions/sweep.md says which trainings are equal, and why each run keeps its own copy.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout
from rich.console import Console

from transeg.core.experiment.choices import StrategyChoice
from transeg.core.experiment.identity import Identity
from transeg.core.experiment.planned_stages import PlannedStage
from transeg.core.experiment.schema import Experiment
from transeg.core.files import read_json, replacing, write_json
from transeg.core.models.checkpoint import load_checkpoint
from transeg.core.runs.run_folder import RunFolder
from transeg.core.runs.timings import copy_seconds

TRAINING = ("training", "waiting for data", "validation", "pictures")
"""What the seconds of a training are spent on; those of tests and of translating are each run's own."""
AFTERWARDS = {"device", "test_adaptation"}
"""Options that no strategy makes data by: where a run is trained, and what its tests adapt."""


def training_key(
    planned: PlannedStage,
    stages: Sequence[PlannedStage],
    strategy: StrategyChoice,
    identity: Identity,
    experiment: Experiment,
) -> str | None:
    """What trainings of different runs have in common that come to the same result; None where it is not known.

    How that was made which a stage uses of earlier ones is the strategy's affair, and not in the stage's own
    experiment: such a stage is shared by runs that are alike in all but :data:`AFTERWARDS`. Folds are not shared, since
    the stage's identity does not name their held-out images.

    Args:
        planned: the stage.
        stages: all of the run.
        strategy: whose data, validation and task the stage has.
        identity: of the stage.
        experiment: of the whole run.
    """
    if planned.folds:
        return None
    own = [each for each in stages if not each.stage.strategy]
    role = "" if planned.stage.strategy or len(own) == 1 else planned.stage.name
    document = [identity.digest, strategy.model_dump(mode="json"), planned.stage.trains, role]
    if planned.stage.uses:
        document.append(experiment.model_dump(mode="json", exclude=AFTERWARDS))
    return hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()[:32]


@contextmanager
def shared_training(notes: Path, key: str, run: RunFolder, part: RunFolder, console: Console) -> Iterator[None]:
    """Keep equal trainings of other runs waiting for as long as this lasts, and begin where the last of them has ended.

    Whoever was killed lets go of the lock, and the next one goes on from its checkpoint.

    Args:
        notes: the folder in which runs note where they train what.
        key: see :func:`training_key`.
        run: the folder of the run.
        part: of the training in it.
        console: where it is said that another run is waited for.
    """
    notes.mkdir(parents=True, exist_ok=True)
    note = notes / f"{key}.json"
    lock = FileLock(notes / f"{key}.lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        console.print(f"Waiting for another run, which trains the same as is needed in {part.path}.", highlight=False)
        lock.acquire()
    try:
        if note.exists():
            last = read_json(note)
            _take_over(RunFolder(Path(last["run"])), last["part"], run, part)
        write_json(note, {"run": str(run.path.absolute()), "part": part.path.relative_to(run.path).as_posix()})
        yield
    finally:
        lock.release()


def _take_over(other: RunFolder, name: str, run: RunFolder, part: RunFolder) -> None:
    """Copy what another run has made of a training, where it has come further; the checkpoint to go on from comes last,
    so that a kill on the way changes nothing.
    """
    made = other.part(name)
    if made.path.absolute() == part.path.absolute() or _iteration(made) <= _iteration(part):
        return
    pictures = [(path, part.previews / path.name) for path in made.previews.glob("[0-9]*.png")]
    kept = [(made.scalars, part.scalars), (made.best, part.best), (made.last, part.last)]
    for path, place in (*pictures, *kept):
        if path.exists():
            with replacing(place) as unfinished:
                shutil.copyfile(path, unfinished)
    copy_seconds(other, made, run, part, TRAINING)


def _iteration(folder: RunFolder) -> int:
    """At which its last checkpoint was taken; -1 where there is none."""
    return int(load_checkpoint(folder.last)["iteration"]) if folder.last.exists() else -1
