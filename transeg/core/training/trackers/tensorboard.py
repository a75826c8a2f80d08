"""TensorBoard, in the folder of the training."""

from __future__ import annotations

from mmengine.visualization import TensorboardVisBackend

from transeg.core.experiment.schema import Experiment
from transeg.core.training.trackers.context import TrackerContext


class TensorboardBackend(TensorboardVisBackend):
    """mmengine's, which knows configurations as Python code alone."""

    def __init__(self, place: TrackerContext) -> None:
        super().__init__(str(place.folder.tensorboard))

    def add_config(self, config: Experiment) -> None:
        """Note the experiment as text."""
        self.experiment.add_text("experiment", f"```toml\n{config.to_toml()}```")
