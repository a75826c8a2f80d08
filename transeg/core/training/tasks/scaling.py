"""Batches at other sizes, for training at several scales."""

from __future__ import annotations

from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor

from transeg.core.interfaces import Batch


def scaled_batch(batch: Batch, scale: float, multiple: int) -> Batch:
    """A batch whose images and labels are resized alike.

    Images are interpolated with their corner pixels kept in the corners, as HarDNet-MSEG does (arXiv:2101.07172). It
    interpolates masks, too; here each pixel gets the label of the nearest one, so that labels stay labels.

    Args:
        batch: images ``(N, C, H, W)``.
        scale: of height and width; at 1 the batch is returned as it is.
        multiple: what the new height and width are rounded to a multiple of, one at least.
    """
    if scale == 1:
        return batch
    height, width = (max(1, round(side * scale / multiple)) * multiple for side in batch.source.shape[2:])

    def image(given: Tensor) -> Tensor:
        return F.interpolate(given, size=(height, width), mode="bilinear", align_corners=True)

    def labels(given: Tensor) -> Tensor:
        rows, columns = (
            torch.linspace(0, before - 1, after, device=given.device).round().long()
            for before, after in zip(given.shape[1:], (height, width), strict=True)
        )
        return given[:, rows[:, None], columns]

    return replace(
        batch,
        source=image(batch.source),
        source_mask=None if batch.source_mask is None else labels(batch.source_mask),
        target=None if batch.target is None else image(batch.target),
        instances=None if batch.instances is None else labels(batch.instances),
        target_valid=None if batch.target_valid is None else labels(batch.target_valid),
    )
