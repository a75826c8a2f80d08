"""Trackers: where a training's scalars and pictures go besides the run folder's own files.

Each is one of mmengine's visualisation backends; docs/decisions/trackers.md says what they write, and that none sends
anything unless it is asked to.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import TYPE_CHECKING, Any

import numpy as np

from transeg.core.errors import TransegError
from transeg.core.experiment.schema import Experiment, TrackingOptions
from transeg.core.files import read_json, write_json
from transeg.core.optional_packages import require
from transeg.core.runs.run_folder import RunFolder
from transeg.core.training.trackers.context import TrackerContext

if TYPE_CHECKING:
    from mmengine.visualization import BaseVisBackend

logger = logging.getLogger("transeg.trackers")

BACKENDS = {"tensorboard": "TensorboardBackend", "wandb": "WandbBackend", "mlflow": "MLflowBackend"}
"""The backend's class, in the module of the tracker's name."""
NEEDS = {"tensorboard": (), "wandb": ("wandb",), "mlflow": ("mlflow", "sqlalchemy", "alembic")}
"""Packages that a tracker imports; the extra of its name has them."""


class Trackers:
    """Hands on to several backends; one that fails gets nothing more, because no training is lost for a diary.

    Args:
        backends: by the tracker's name.
    """

    def __init__(self, backends: Mapping[str, BaseVisBackend]) -> None:
        self._backends = dict(backends)

    def scalars(self, values: Mapping[str, float], step: int) -> None:
        """Note values by name after a number of iterations."""
        self._each(lambda backend: backend.add_scalars(dict(values), step=step))

    def image(self, name: str, image: np.ndarray, step: int) -> None:
        """Note a picture ``(H, W, 3)``, uint8."""
        self._each(lambda backend: backend.add_image(name, image, step=step))

    def close(self) -> None:
        """Write what is still held back."""
        self._each(lambda backend: backend.close())

    def _each(self, call: Callable[[BaseVisBackend], Any]) -> None:
        for name, backend in list(self._backends.items()):
            try:
                call(backend)
            except Exception as error:
                del self._backends[name]
                logger.warning("The tracker %s failed and is left out from here on: %s", name, error)


def check_installed(options: TrackingOptions) -> None:
    """Whether the trackers' packages are there.

    Raises:
        UsageError: one of them is not.
    """
    for name in options.trackers:
        for package in NEEDS[name]:
            require(package, name, f"The tracker {name}")


def start_trackers(experiment: Experiment, run: RunFolder, folder: RunFolder, title: str, *, resume: bool) -> Trackers:
    """Begin the trackers of one training, or go on with those of the training that is resumed.

    Args:
        experiment: what is trained.
        run: the whole run's folder.
        folder: the training's; the run's own, or one in it.
        title: of the training.
        resume: whether the training goes on from where it was.

    Raises:
        TransegError: one cannot begin.
    """
    stored = read_json(folder.trackers) if resume and folder.trackers.exists() else {}
    backends: dict[str, BaseVisBackend] = {}
    for name in dict.fromkeys(experiment.tracking.trackers):
        place = TrackerContext(experiment.tracking, run, folder, title, stored.get(name))
        try:
            backends[name] = getattr(import_module(f"{__name__}.{name}"), BACKENDS[name])(place)
            backends[name].add_config(experiment)
        except Exception as error:
            raise TransegError(f"The tracker {name} cannot begin: {error}") from error
        if place.identifier is not None:
            stored[name] = place.identifier
            write_json(folder.trackers, stored)
    return Trackers(backends)
