"""Where a tracker keeps a training."""

from __future__ import annotations

from dataclasses import dataclass

from transeg.core.experiment.schema import TrackingOptions
from transeg.core.runs.run_folder import RunFolder


@dataclass
class TrackerContext:
    """What a tracker must know to begin.

    Attributes:
        options: of the experiment.
        run: the whole run's folder, where trackers of several trainings write side by side.
        folder: the training's.
        title: of the training.
        identifier: under which the tracker knows the training; a tracker that has such a thing sets it where it is
            None, and goes on with it where it is not.
    """

    options: TrackingOptions
    run: RunFolder
    folder: RunFolder
    title: str
    identifier: str | None

    @property
    def group(self) -> str:
        """The run's name."""
        return self.run.path.resolve().name

    @property
    def name(self) -> str:
        """The training's name."""
        return f"{self.group} {self.title}"
