"""Weights & Biases: files in the run's folder ``wandb/``, sent only where `tracking.online` says so."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import numpy as np
from mmengine.visualization import BaseVisBackend

from transeg.core.experiment.schema import Experiment
from transeg.core.optional_packages import quiet_wandb
from transeg.core.training.trackers.context import TrackerContext

STEP = "iteration"


class WandbBackend(BaseVisBackend):
    """A run of a project, in the group that the trainings of one run make up.

    mmengine's own drops the iteration, so that a picture and the scalars of one iteration lie apart and a resumed
    training cannot be laid over itself; it also puts the files of the working directory into the run.
    """

    def __init__(self, place: TrackerContext) -> None:
        super().__init__(str(place.run.path.resolve()))
        place.identifier = place.identifier or uuid4().hex[:8]
        self._place = place
        self._init_env()

    def _init_env(self) -> None:
        wandb = quiet_wandb()
        online = self._place.options.online
        self._image = wandb.Image
        self._run = wandb.init(
            dir=self._save_dir,
            mode="online" if online else "offline",
            project=self._place.options.project,
            group=self._place.group,
            name=self._place.name,
            id=self._place.identifier,
            resume="allow" if online else None,  # offline it would only warn that it cannot know
            settings=wandb.Settings(console="off", silent=not online, disable_git=True, save_code=False),
        )
        self._run.define_metric(STEP)
        self._run.define_metric("*", step_metric=STEP)

    @property
    def experiment(self) -> Any:
        """The run."""
        return self._run

    def add_config(self, config: Experiment) -> None:
        """Note all options."""
        self._run.config.update(config.model_dump(mode="json"), allow_val_change=True)

    def add_scalars(self, scalar_dict: dict[str, float], step: int = 0, file_path: str | None = None) -> None:
        """Note values by name."""
        self._run.log({**scalar_dict, STEP: step})

    def add_image(self, name: str, image: np.ndarray, step: int = 0) -> None:
        """Note a picture ``(H, W, 3)``, uint8."""
        self._run.log({name: self._image(image), STEP: step})

    def close(self) -> None:
        """Finish the run."""
        self._run.finish()
