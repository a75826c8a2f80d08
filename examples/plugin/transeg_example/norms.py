"""A hook: the size of the weights over time, among the losses in metrics.jsonl."""

from typing import Any

from mmengine.hooks import Hook


class WeightNorms(Hook):
    """Adds `weight_norm` to what a training step reports."""

    priority = "HIGHEST"

    def after_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        """Measure."""
        outputs["weight_norm"] = sum(p.detach().norm() for p in runner.model.segmenter.parameters())
