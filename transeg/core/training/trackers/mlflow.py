"""MLflow: a database in the run's folder ``mlflow/``, or the server that `tracking.uri` names."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.visualization import BaseVisBackend

from transeg.core.experiment.schema import Experiment
from transeg.core.experiment.settings import flat
from transeg.core.training.trackers.context import TrackerContext

PARAMS = 100
"""As many as MLflow takes at a time."""


class MLflowBackend(BaseVisBackend):
    """A run of an experiment; those of one transeg run have its name as the tag ``group``.

    mmengine's own writes into a folder of files, which MLflow 3 refuses, copies every JSON file of the run when it
    closes, drops the iteration of pictures, cannot go on with a run, and works on MLflow's global state.
    """

    def __init__(self, place: TrackerContext) -> None:
        super().__init__(str(place.run.path.resolve() / "mlflow"))
        self._place = place
        self._resumed = place.identifier is not None
        self._init_env()

    def _init_env(self) -> None:
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
        os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "WARNING")
        from mlflow import MlflowClient

        place, options = self._place, self._place.options
        folder = Path(self._save_dir)
        if options.uri is None:
            folder.mkdir(parents=True, exist_ok=True)
        self._client = MlflowClient(tracking_uri=options.uri or f"sqlite:///{folder / 'mlflow.db'}")
        if place.identifier is not None:
            self._client.update_run(place.identifier, status="RUNNING")
            return
        found = self._client.get_experiment_by_name(options.project)
        files = None if options.uri else (folder / "artifacts").as_uri()
        project = found.experiment_id if found else self._client.create_experiment(options.project, files)
        made = self._client.create_run(project, run_name=place.name, tags={"group": place.group})
        place.identifier = made.info.run_id

    @property
    def experiment(self) -> Any:
        """The client."""
        return self._client

    def add_config(self, config: Experiment) -> None:
        """Note all options; those of a resumed training stand already, and MLflow lets none be changed."""
        if self._resumed:
            return
        from mlflow.entities import Param

        params = [Param(key, str(value)) for key, value in flat(config.model_dump(mode="json")).items()]
        for begin in range(0, len(params), PARAMS):
            self._client.log_batch(self._place.identifier, params=params[begin : begin + PARAMS])
        self._client.log_text(self._place.identifier, config.to_toml(), "experiment.toml")

    def add_scalars(self, scalar_dict: dict[str, float], step: int = 0, file_path: str | None = None) -> None:
        """Note values by name."""
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        metrics = [Metric(name, value, now, step) for name, value in scalar_dict.items()]
        self._client.log_batch(self._place.identifier, metrics=metrics)

    def add_image(self, name: str, image: np.ndarray, step: int = 0) -> None:
        """Note a picture ``(H, W, 3)``, uint8."""
        self._client.log_image(self._place.identifier, image, key=name, step=step)

    def close(self) -> None:
        """Mark the run as finished."""
        self._client.set_terminated(self._place.identifier)
