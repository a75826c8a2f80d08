"""The folder that a run writes."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from transeg.core.errors import UsageError
from transeg.core.files import probe, sweep_unfinished


class RunFolder:
    """Names of everything in a run folder, and reading and writing of its small files."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.experiment = path / "experiment.toml"
        self.stages = path / "stages.json"
        self.environment = path / "environment.json"
        self.parts = path / "parts.json"
        self.seen = path / "seen.json"
        self.times = path / "times.json"
        self.checkpoints = path / "checkpoints"
        self.last = self.checkpoints / "last.pt"
        self.best = self.checkpoints / "best.pt"
        self.scalars = path / "metrics.jsonl"
        self.metrics = path / "metrics.json"
        self.calibration = path / "calibration.json"
        self.previews = path / "previews"
        self.tensorboard = path / "tensorboard"
        self.trackers = path / "trackers.json"
        self.evaluation = path / "evaluation"
        self.evaluations = path / "evaluations"
        self.lock = path / ".lock"

    def part(self, name: str) -> RunFolder:
        """A training that belongs to this run, in a folder of its own."""
        return RunFolder(self.path / name)

    def has_checkpoint(self) -> bool:
        """Whether there is one of any of the run's trainings."""
        return self.last.exists() or any(self.path.glob("*/checkpoints/last.pt"))

    @property
    def go_on(self) -> str:
        """How an unfinished run goes on, as a sentence."""
        return f"Go on with: toolkit run --run-dir {self.path} --resume"

    def create(self) -> None:
        """Make the folder.

        Raises:
            UsageError: it cannot be made or written to, or holds what a run would write over.
        """
        self.check_foreign()
        try:
            probe(self.path)
        except OSError as error:
            raise UsageError(
                f"The run folder {self.path} cannot be written: {error.strerror}; choose another with --run-dir."
            ) from error

    def check_foreign(self) -> None:
        """Whether what a run writes would take the place of anything that no run has written: the first file of one is
        ``experiment.toml``.

        Raises:
            UsageError: it would.
        """
        own = [self.stages, self.environment, self.parts, self.times, self.checkpoints, self.scalars, self.metrics]
        own += [self.previews, self.tensorboard, self.trackers, self.evaluation]
        found = [] if self.experiment.exists() else [path for path in own if os.path.lexists(path)]
        if found:
            raise UsageError(
                f"{found[0]} is there already and belongs to no run, for {self.path} has no experiment.toml; choose "
                "another --run-dir."
            )

    def sweep(self) -> None:
        """Remove what killed processes have left unfinished; call it with the lock held."""
        sweep_unfinished(self.path)
        for path in self.path.rglob("checkpoints/.*.pt.*"):  # as earlier releases called them
            path.unlink(missing_ok=True)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other processes from training into the same folder.

        Raises:
            UsageError: one already does.
        """
        try:
            with FileLock(self.lock, timeout=1):  # who asks whether it is held, holds it for an instant
                yield
        except Timeout as error:
            raise UsageError(
                f"Another process is training into {self.path}; wait for it or choose another folder."
            ) from error


def is_locked(lock: Path) -> bool:
    """Whether a process holds a lock; of somebody else's folder, where one may not write, nobody can say so."""
    if not lock.exists():
        return False
    try:
        with FileLock(lock, timeout=0):
            return False
    except Timeout:
        return True
    except OSError:
        return False
