"""What a generator is given of the source: its images, or its label maps as channels."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from transeg.core.inference.sliding_window import Inference
from transeg.core.interfaces import Batch, Condition, Sample


@dataclass(frozen=True)
class Conditioning:
    """Turns batches and samples into what a generator is given.

    Attributes:
        kind: images, label maps, or label maps with outlines.
        classes: number of classes, background included.
        image_channels: channels of the source's images.
    """

    kind: Condition
    classes: int
    image_channels: int

    @property
    def by_mask(self) -> bool:
        """Whether label maps are given, so that the source's own images are what is to be made."""
        return self.kind != "image"

    @property
    def outlines(self) -> bool:
        """Whether single objects are outlined."""
        return self.kind == "mask+boundary"

    @property
    def channels(self) -> int:
        """Of what is given."""
        return self.classes + self.outlines if self.by_mask else self.image_channels

    def batch(self, batch: Batch) -> Batch:
        """A training batch as the generator sees it: label maps as source, their images as target."""
        if not self.by_mask:
            return batch
        assert batch.source_mask is not None
        given = self.encode(batch.source_mask, batch.instances)
        return replace(batch, source=given, target=batch.source, target_valid=None)

    def sample(self, sample: Sample, inference: Inference) -> Tensor:
        """``(C, h, w)``: what is given of a sample, prepared as images are for inference.

        Label maps are resized by nearest neighbour; nothing of them is interpolated.
        """
        if not self.by_mask:
            return inference.prepare(sample.image)
        assert sample.mask is not None
        return self.labels(sample.mask, sample.instances, inference)

    def labels(self, mask: np.ndarray, instances: np.ndarray | None, inference: Inference) -> Tensor:
        """``(channels, h, w)`` of a label map ``(H, W)`` and its single objects; see :meth:`sample`."""

        def prepared(numbers: np.ndarray) -> Tensor:
            return torch.from_numpy(inference.prepare_mask(numbers).astype(np.int64))[None]

        return self.encode(prepared(mask), None if instances is None else prepared(instances))[0]

    def encode(self, mask: Tensor, instances: Tensor | None) -> Tensor:
        """Label maps as channels.

        Args:
            mask: ``(N, H, W)`` int64; a pixel of IGNORE is in no class.
            instances: ``(N, H, W)`` int64; without them, regions of one class are outlined.

        Returns:
            ``(N, channels, H, W)`` float32 of zeros and ones: a channel for each class and, with outlines, one that is
            1 where a neighbour above, below or beside belongs to another object (Wang et al., "High-Resolution Image
            Synthesis and Semantic Manipulation with Conditional GANs", arXiv:1711.11585, section 3.3).
        """
        numbers = torch.arange(self.classes, device=mask.device)[:, None, None]
        planes = (mask[:, None] == numbers).float()
        if not self.outlines:
            return planes
        return torch.cat((planes, find_boundaries(mask if instances is None else instances)[:, None].float()), 1)


def find_boundaries(numbers: Tensor) -> Tensor:
    """Where one of the four neighbours of a pixel has another number: ``(N, H, W)`` integer -> bool."""
    found = torch.zeros_like(numbers, dtype=torch.bool)
    below = numbers[:, 1:] != numbers[:, :-1]
    beside = numbers[:, :, 1:] != numbers[:, :, :-1]
    found[:, 1:] |= below
    found[:, :-1] |= below
    found[:, :, 1:] |= beside
    found[:, :, :-1] |= beside
    return found
