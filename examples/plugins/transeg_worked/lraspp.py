"""A segmenter of another library, wrapped."""

from torch import Tensor, nn
from torchvision.models.segmentation import lraspp_mobilenet_v3_large

from transeg.core.interfaces import Segmenter


class LRASPP(Segmenter):
    """LR-ASPP on a MobileNetV3 (Howard et al., "Searching for MobileNetV3", arXiv:1905.02244), as torchvision has it.

    Small and fast; its logits are an eighth of the image's size, enlarged, so that thin objects get lost.

    Args:
        pretrained: whether its encoder begins with torchvision's weights of ImageNet, which are then downloaded.
    """

    mean = (0.485, 0.456, 0.406)  # the core normalises by these: the weights of torchvision are made for them
    std = (0.229, 0.224, 0.225)

    def __init__(self, in_channels: int, num_classes: int, *, pretrained: bool = False) -> None:
        super().__init__()
        self.pretrained = pretrained
        self.net = lraspp_mobilenet_v3_large(weights=None, weights_backbone=None, num_classes=num_classes)
        if in_channels != 3:
            first = self.net.backbone["0"][0]
            self.net.backbone["0"][0] = nn.Conv2d(in_channels, first.out_channels, 3, stride=2, padding=1, bias=False)

    def load_pretrained(self) -> None:
        """The core calls this before a training that begins with new weights; the constructor loads nothing."""
        if not self.pretrained:
            return
        from torchvision.models import MobileNet_V3_Large_Weights

        if self.net.backbone["0"][0].in_channels != 3:
            raise ValueError("the weights of ImageNet are for images of three channels; leave pretrained out")
        try:
            weights = MobileNet_V3_Large_Weights.IMAGENET1K_V1.get_state_dict(progress=False, check_hash=True)
        except OSError as error:
            raise ValueError(f"torchvision's weights cannot be downloaded: {error}") from error
        own = {name.removeprefix("features."): value for name, value in weights.items()}
        self.net.backbone.load_state_dict(own, strict=False)  # what is left over is the classifier of ImageNet

    def forward(self, image: Tensor) -> Tensor:
        return self.net(image)["out"]
