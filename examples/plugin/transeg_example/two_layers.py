"""A segmenter of two convolutions."""

from torch import Tensor, nn

from transeg.core.interfaces import Segmenter


class TwoLayers(Segmenter):
    """The smallest network that may be called one.

    Args:
        width: channels between the two convolutions.
    """

    def __init__(self, in_channels: int, num_classes: int, *, width: int = 16) -> None:
        super().__init__()
        self.first = nn.Conv2d(in_channels, width, 5, padding=2)
        self.second = nn.Conv2d(width, num_classes, 5, padding=2)

    def forward(self, image: Tensor) -> Tensor:
        return self.second(self.first(image).relu())
