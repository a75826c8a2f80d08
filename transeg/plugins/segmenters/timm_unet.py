"""A U-Net whose contracting path is any backbone of timm."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import timm
import torch
import torch.nn.functional as F
from timm.models import adapt_input_conv, load_state_dict
from torch import Tensor, nn

from transeg.core.interfaces import Segmenter
from transeg.plugins.segmenters.efficientnet_names import are_numbered_through, named_by_stages
from transeg.plugins.segmenters.encoders import explain_errors, freeze_idle, run_on_meta, suggest_names
from transeg.plugins.segmenters.layers import conv_block

SIZE_OPTIONS: tuple[Mapping[str, Any], ...] = ({}, {"dynamic_img_size": True}, {"strict_img_size": False})
"""What different families of timm ask for before they take images of any size."""


class BackboneUpStage(nn.Module):
    """A map enlarged twofold, joined with the backbone's of that size if there is one, and two convolutions."""

    def __init__(self, inputs: int, joined: int, outputs: int) -> None:
        super().__init__()
        self.conv = conv_block(inputs + joined, outputs)

    def forward(self, x: Tensor, skip: Tensor | None) -> Tensor:
        x = F.interpolate(x, scale_factor=2, mode="nearest")
        out: Tensor = self.conv(x if skip is None else torch.cat((x, skip), 1))
        return out


class TimmUNet(Segmenter):
    """U-Net whose contracting path is a backbone of timm.

    Choose it for a modern backbone, and for weights that are at hand as a file: a machine without a network needs no
    download. Where `smp` has many decoders, this has the plain one of the U-Net (arXiv:1505.04597) and the widest
    choice of backbones (Wightman, doi:10.5281/zenodo.4414861). The default, EfficientNet-B0 (arXiv:1905.11946), is
    small and quick: a quarter of the multiplications of `unet`, and a first map at stride 2, so that fine borders
    survive.

    Any backbone will do whose maps halve in size from one to the next and that takes images of any size: residual,
    dense and mobile networks, ConvNeXt, Swin, PVT and more. At resolutions of which the backbone has no map the
    decoder enlarges without one. Images are normalised as timm says for the backbone. Weights are downloaded or read
    before a training alone: a trained network needs neither.

    Args:
        in_channels: channels of the image.
        num_classes: output channels.
        backbone: timm's name, with a tag of weights after a dot if need be (`convnext_tiny.fb_in22k`).
        pretrained: download the backbone's weights.
        backbone_weights: file with weights of the backbone as timm publishes them, `.safetensors` or what
            ``torch.load`` reads with ``weights_only``; or those of an EfficientNet as EfficientNet-PyTorch names them.
        decoder_channels: channels of the decoder's stages, coarsest first and ending at the image's resolution; a
            backbone with fewer halvings uses the last ones.
        aux: train the decoder's stages at strides 2, 4 and 8 too, each through a head of its own.

    Raises:
        ValueError: the backbone is unknown or does not fit, or its weights are not available.
    """

    key_map = ((r"^(module\.)+", ""),)

    def __init__(
        self,
        in_channels: int,
        num_classes: int,
        *,
        backbone: str = "efficientnet_b0",
        pretrained: bool = False,
        backbone_weights: Path | None = None,
        decoder_channels: tuple[int, ...] = (256, 128, 64, 32, 16),
        aux: bool = False,
    ) -> None:
        super().__init__()
        if not timm.is_model(backbone):
            raise ValueError(f"timm has no backbone {backbone!r}{suggest_names(backbone, timm.list_models())}")
        if pretrained and backbone_weights is not None:
            raise ValueError("pretrained downloads weights and backbone_weights reads them from a file: give one")
        self._pretrained, self._file, self._in_channels = pretrained, backbone_weights, in_channels
        self._make, trunk = _backbone(backbone, in_channels)
        self.backbone = trunk
        self.mean, self.std = (tuple(trunk.pretrained_cfg[key]) for key in ("mean", "std"))
        strides, channels = trunk.feature_info.reduction(), trunk.feature_info.channels()
        self.size_multiple = max(strides)
        halvings = self.size_multiple.bit_length() - 1
        if len(decoder_channels) < halvings or min(decoder_channels) < 1:
            raise ValueError(f"decoder_channels must be {halvings} positive numbers for {backbone}, one per halving")
        maps = {stride: index for index, stride in enumerate(strides)}  # the last one of each stride
        self.joined = [maps.get(2**power) for power in reversed(range(halvings))]
        kept = [0 if index is None else channels[index] for index in self.joined]
        outputs = decoder_channels[-halvings:]
        inputs = (channels[-1], *outputs)
        self.decoder = nn.ModuleList(map(BackboneUpStage, inputs, kept, outputs))
        self.head = nn.Conv2d(outputs[-1], num_classes, 1)
        self.aux_heads = nn.ModuleList(nn.Conv2d(n, num_classes, 1) for n in (outputs[-2:-5:-1] if aux else ()))
        self.heads = 1 + len(self.aux_heads)
        freeze_idle(self, (in_channels, self.size_multiple, 2 * self.size_multiple))

    def load_pretrained(self) -> None:
        if self._pretrained:
            with explain_errors(
                "the pretrained weights of the backbone are not available (without a network, name a file that is at "
                "hand as backbone_weights)"
            ):
                self.backbone.load_state_dict(self._make(pretrained=True).state_dict())
        if self._file is not None:
            with explain_errors(f"the backbone's weights {self._file} cannot be used"):
                _load_file(self.backbone.model, self._file, self._in_channels)

    def forward(self, image: Tensor) -> Tensor | list[Tensor]:
        maps = self.backbone(image)
        decoded = [maps[-1]]
        for stage, index in zip(self.decoder, self.joined, strict=True):
            decoded.append(stage(decoded[-1], None if index is None else maps[index]))
        logits: Tensor = self.head(decoded[-1])
        if not (self.training and self.aux_heads):
            return logits
        return [logits, *(head(x) for head, x in zip(self.aux_heads, decoded[-2:-5:-1], strict=True))]


def _backbone(name: str, in_channels: int) -> tuple[Callable[..., Any], Any]:
    """How to make the backbone, set to take images of any size, and one so made: an image's maps."""
    faults = []
    # the getter keeps the published names of the weights, and makes all maps channels-first
    usual = partial(timm.create_model, name, features_only=True, feature_cls="getter", in_chans=in_channels)
    for options in SIZE_OPTIONS:
        make = partial(usual, **options)
        try:
            backbone = make()
            _check_maps(backbone, in_channels)
        except Exception as error:
            faults.append(error)
        else:
            return make, backbone
    with explain_errors(
        f"the backbone {name} does not fit: it must make maps of images of any size, each half the last"
    ):
        raise faults[0]


def _check_maps(backbone: Any, in_channels: int) -> None:
    strides, channels = backbone.feature_info.reduction(), backbone.feature_info.channels()
    if any(stride.bit_count() != 1 for stride in strides):
        raise ValueError(f"its maps are at the strides {strides}")
    for height, width in ((1, 2), (3, 2)):
        sides = height * strides[-1], width * strides[-1]
        maps, _ = run_on_meta(backbone, (in_channels, *sides))
        expected = [(c, sides[0] // stride, sides[1] // stride) for c, stride in zip(channels, strides, strict=True)]
        if [m.shape[1:] for m in maps] != expected:
            raise ValueError(f"its maps of an image of {sides[0]}x{sides[1]} do not have the sizes that it states")


def _load_file(backbone: Any, file: Path, in_channels: int) -> None:
    if not file.is_file():
        raise ValueError("there is no such file")
    state = load_state_dict(str(file), weights_only=True)
    if are_numbered_through(state):
        if not backbone.pretrained_cfg["architecture"].startswith("tf_"):
            raise ValueError("such weights want TensorFlow's padding; choose a backbone with tf_ before it")
        state = named_by_stages(state, backbone.blocks)
    missing = sorted(backbone.state_dict().keys() - state.keys())
    if missing:
        raise ValueError(f"{len(missing)} of the backbone's tensors are not in the file, such as {missing[0]}")
    if in_channels != 3:
        convolutions = backbone.pretrained_cfg["first_conv"]
        for name in (convolutions,) if isinstance(convolutions, str) else convolutions:
            state[f"{name}.weight"] = adapt_input_conv(in_channels, state[f"{name}.weight"])
    backbone.load_state_dict(state, strict=False)
