"""What a segmenter must be."""

from __future__ import annotations

from typing import ClassVar

from torch import nn


class Segmenter(nn.Module):
    """A network from image to logits, built by ``Class(in_channels, num_classes, **options)``.

    ``num_classes`` is the number K of output channels: 1 means background against one class through a sigmoid, more
    mean a softmax with background as class 0. ``forward(image (N, C, H, W)) -> (N, K, H, W)`` logits; a network with
    auxiliary heads returns ``[final, auxiliary, ...]`` in training mode only, the auxiliary ones at any resolution:
    the core resizes them.
    """

    heads: int = 1
    """How many logits ``forward`` returns in training mode."""

    size_multiple: int = 1
    """Height and width must be multiples of this; the core pads and crops."""
    mean: tuple[float, ...] = (0.5,)
    """Per channel (or one for all), of intensities in [0, 1]: subtracted before the forward."""
    std: tuple[float, ...] = (0.5,)
    """Per channel (or one for all): divided by before the forward."""
    key_map: ClassVar[tuple[tuple[str, str | None], ...]] = ()
    """(pattern, replacement) pairs that turn published state-dict keys into ours; None drops the key."""

    def load_pretrained(self) -> None:
        """Load the weights that options of the network name: called before a training that begins with them.

        A constructor must leave this to it, because a trained network needs neither its first weights nor the
        connection or file that they came from.

        Raises:
            ValueError: they are not available; a clause that says why.
        """
