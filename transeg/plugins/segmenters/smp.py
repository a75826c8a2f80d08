"""Decoders and encoders of segmentation-models-pytorch."""

from __future__ import annotations

from functools import partial
from typing import Literal, get_args

import segmentation_models_pytorch as smp
import timm
from torch import Tensor, nn

from transeg.core.interfaces import Segmenter
from transeg.plugins.segmenters.encoders import explain_errors, freeze_idle, suggest_names

Decoder = Literal[
    "unet",
    "unetplusplus",
    "manet",
    "linknet",
    "fpn",
    "pspnet",
    "deeplabv3",
    "deeplabv3plus",
    "pan",
    "upernet",
    "segformer",
]

TIMM = "tu-"
"""Stands before the name of an encoder of timm."""

HALVES = ("inception", "xception", "timm-tf_efficientnet_lite")
"""Encoders whose weights were trained on intensities from -1 to 1."""


class SMP(Segmenter):
    """Any decoder of segmentation-models-pytorch on any of its encoders.

    Choose it for encoders that were pretrained on ImageNet, which help most where labels are few, and to compare
    architectures on the same encoder. It needs the package (Iakubovskii, github.com/qubvel-org), whose checkpoints
    load: pip install 'transeg[smp]'.

    Encoders are the package's own (`resnet18`, `efficientnet-b0`, `mit_b0`, ...) and, after `tu-`, those of timm
    (`tu-convnext_tiny`). Nothing is downloaded unless `pretrained` names weights, and then before a training alone.
    Images are normalised as the encoder's published weights need it.

    The architectures: U-Net (arXiv:1505.04597), UNet++ (arXiv:1807.10165), MA-Net (doi:10.1109/ACCESS.2020.3025372),
    LinkNet (arXiv:1707.03718), FPN (arXiv:1901.02446), PSPNet (arXiv:1612.01105), DeepLabV3 (arXiv:1706.05587) and
    V3+ (arXiv:1802.02611), PAN (arXiv:1805.10180), UPerNet (arXiv:1807.10221), SegFormer (arXiv:2105.15203).

    Args:
        in_channels: channels of the image.
        num_classes: output channels.
        decoder: the architecture.
        encoder: name of the encoder.
        pretrained: name of the encoder's weights to download, such as `imagenet`; by default none. Of timm's encoders
            `imagenet` means those that the encoder's name says after a dot, else the usual ones.
        aux: train the encoder's fourth and fifth map too (strides 8 and 16; PSPNet has the former alone), each
            through a 1x1 convolution.

    Raises:
        ValueError: there is no such decoder, encoder or weights, they do not fit together, or a download failed.
    """

    size_multiple = 32
    key_map = (
        (r"^(module\.|model\.)+", ""),
        (r"^classification_head\.", None),
        # how DeepLabV3's decoder was numbered in older versions
        (r"^decoder\.0\.", "decoder.aspp."),
        (r"^decoder\.1\.", "decoder.conv."),
        (r"^decoder\.2\.", "decoder.bn."),
    )

    def __init__(
        self,
        in_channels: int,
        num_classes: int,
        *,
        decoder: Decoder = "unet",
        encoder: str = "resnet18",
        pretrained: str | None = None,
        aux: bool = False,
    ) -> None:
        super().__init__()
        _check(decoder, encoder, pretrained)
        self._make = partial(smp.create_model, decoder, encoder, in_channels=in_channels, classes=num_classes)
        self._weights = True if pretrained and encoder.startswith(TIMM) else pretrained
        misfit = f"the decoder {decoder} does not fit the encoder {encoder}"
        with explain_errors(misfit):
            network = self._make(encoder_weights=None)
        self.encoder = network.encoder
        self.decoder = network.decoder
        self.segmentation_head = network.segmentation_head
        tapped = network.encoder.out_channels[3:5] if aux else ()
        self.aux_heads = nn.ModuleList(nn.Conv2d(channels, num_classes, 1) for channels in tapped)
        self.heads = 1 + len(self.aux_heads)
        if decoder == "pan":
            self.size_multiple = 128  # its attention halves the map at stride 16 three times more
        self.mean, self.std = _statistics(encoder, pretrained)
        with explain_errors(misfit):
            freeze_idle(self, (in_channels, self.size_multiple, 2 * self.size_multiple))

    def load_pretrained(self) -> None:
        if self._weights is not None:
            with explain_errors(
                "the pretrained weights of the encoder are not available (without a network, timm-unet takes a file "
                "that is at hand, as backbone_weights)"
            ):
                self.encoder.load_state_dict(self._make(encoder_weights=self._weights).encoder.state_dict())

    def forward(self, image: Tensor) -> Tensor | list[Tensor]:
        maps = self.encoder(image)
        logits: Tensor = self.segmentation_head(self.decoder(maps))
        if not (self.training and self.aux_heads):
            return logits
        return [logits, *(head(x) for head, x in zip(self.aux_heads, maps[3:5], strict=True))]


def _check(decoder: str, encoder: str, pretrained: str | None) -> None:
    if decoder not in get_args(Decoder):
        raise ValueError(f"there is no decoder {decoder!r}{suggest_names(decoder, get_args(Decoder))}")
    own = smp.encoders.encoders
    if encoder not in own and not (encoder.startswith(TIMM) and timm.is_model(encoder.removeprefix(TIMM))):
        names = [*own, *(TIMM + name for name in timm.list_models())]
        raise ValueError(f"there is no encoder {encoder!r}{suggest_names(encoder, names)}")
    weights = own[encoder]["pretrained_settings"] if encoder in own else ("imagenet",)
    if pretrained is not None and pretrained not in weights:
        raise ValueError(f"{encoder} has no weights {pretrained!r}; it has: {', '.join(weights)}")


def _statistics(encoder: str, pretrained: str | None) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of the intensities that an encoder's weights were trained with."""
    if encoder.startswith(TIMM):
        published = timm.get_pretrained_cfg(encoder.removeprefix(TIMM))
        return tuple(published.mean), tuple(published.std)
    if pretrained == "advprop" or encoder.startswith(HALVES):
        return (0.5,) * 3, (0.5,) * 3
    if encoder.startswith("dpn"):
        return (124 / 255, 117 / 255, 104 / 255), (1 / (0.0167 * 255),) * 3
    return (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
