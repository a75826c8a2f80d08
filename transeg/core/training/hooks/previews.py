"""Draws pictures while a training runs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from mmengine.hooks import Hook
from mmengine.runner import Runner

from transeg.core.data.images import read_image
from transeg.core.training.trackers import Trackers


class PreviewHook(Hook):
    """Calls for a picture at intervals and at the end, with the networks in eval mode.

    Args:
        draw: writes a picture to the path it is given.
        folder: where pictures go, named by iteration.
        trackers: get them, too.
        interval: iterations between two.
    """

    def __init__(self, draw: Callable[[Path], None], folder: Path, trackers: Trackers, interval: int) -> None:
        self._draw = draw
        self._folder = folder
        self._trackers = trackers
        self._interval = interval

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: dict[str, Any] | None = None
    ) -> None:
        """Draw where an interval ends."""
        done = batch_idx + 1
        if done % self._interval == 0 or done == runner.max_iters:
            runner.model.eval()
            path = self._folder / f"{done:06d}.png"
            self._draw(path)
            self._trackers.image("preview", read_image(path, 3), done)
