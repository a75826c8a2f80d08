"""The U-Nets that nnU-Net plans, built by its own library.

Isensee, Jaeger, Kohl, Petersen and Maier-Hein, Nature Methods 2021, arXiv:1904.08128; the residual encoder: Isensee et
al., MICCAI 2024, arXiv:2404.09556.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from dynamic_network_architectures.architectures.unet import PlainConvUNet, ResidualEncoderUNet
from torch import Tensor, nn

from transeg.core.interfaces import Segmenter
from transeg.plugins.segmenters.encoders import explain_errors

Normalization = Literal["zscore", "rescale_to_0_1", "rgb_to_0_1"]

NETWORKS: dict[str, Any] = {
    "PlainConvUNet": PlainConvUNet,
    "ResidualEncoderUNet": ResidualEncoderUNet,
}
NORMALIZATIONS: dict[str, Normalization] = {
    "ZScoreNormalization": "zscore",
    "RescaleTo01Normalization": "rescale_to_0_1",
    "RGBTo01Normalization": "rgb_to_0_1",
}
LAYERS = ("conv_op", "norm_op", "dropout_op", "nonlin")
"""Arguments of the networks that plans give as names of classes."""
WIDEST = 512
BLOCKS = 1, 3, 4, 6
"""Residual blocks of the first encoder stages; further ones have as many as the last."""
TINY = 1e-16
"""Added to a variance, so that an image of one value has a gradient; nothing beside nnU-Net's own floor."""


class NnUNet(Segmenter):
    """nnU-Net's U-Net: the network that its planner chose for a dataset, or would choose for ordinary 2D images.

    Choose it as the baseline that medical papers compare with, to go on from a model that nnU-Net has trained, or to
    put nnU-Net's network into the joint strategy. To train with nnU-Net itself (its augmentation, schedule and folds)
    say `toolkit nnunet train` instead. It needs the package (github.com/MIC-DKFZ/nnUNet): pip install
    'transeg[nnunet]'.

    Without `plans` it is what the planner gives for patches of 256 pixels: seven stages of 32 to 512 channels with
    instance norm; `residual` is the encoder of nnUNetPlannerResEncM. With `plans` it is what is in the file, which
    is read again whenever the run is used. Of the plans the network and the normalisation count; patch and batch size
    are data.size, data.tile and train.batch_size here.

    Weights of nnU-Net load: segmenter.weights=fold_0/checkpoint_final.pth, with the plans.json of the folder above.
    nnU-Net has an output for the background, so that two classes need segmenter.num_classes=2. With `aux` the inner
    stages of the decoder are trained, too, except the coarsest, as nnU-Net does (deep supervision); its weights are
    train.head_weights of 1, 1/2, 1/4 and so on.

    Args:
        in_channels: channels of the image.
        num_classes: output channels.
        architecture: `plain`, two convolutions in each stage, or `residual`, residual blocks in the encoder.
        base: channels of the finest stage; each further one has twice as many, up to 512.
        stages: resolutions, each half of the one before.
        plans: nnU-Net's plans.json or nnUNetPlans.json, instead of architecture, base and stages.
        configuration: which of the plans.
        normalization: `zscore` gives each channel of each image mean 0 and variance 1, `rescale_to_0_1` makes its
            values reach from 0 to 1, `rgb_to_0_1` divides 8-bit values by 255; by default what the plans say, else
            zscore.
        aux: train the decoder's inner stages, too.

    Raises:
        ValueError: base or stages are too small; the plans cannot be read, are for volumes, or name a network or
            normalisation that this cannot have.
    """

    key_map = ((r"^(module\.|_orig_mod\.)+", ""), (r"^decoder\.encoder\.", None))

    def __init__(
        self,
        in_channels: int,
        num_classes: int,
        *,
        architecture: Literal["plain", "residual"] = "plain",
        base: int = 32,
        stages: int = 7,
        plans: Path | None = None,
        configuration: str = "2d",
        normalization: Normalization | None = None,
        aux: bool = False,
    ) -> None:
        super().__init__()
        if plans is None:
            name, arguments = _planned(architecture, base, stages)
        else:
            planned = _configuration(plans, configuration)
            name, arguments = _network(planned)
            normalization = normalization or _normalization(planned)
        with explain_errors("the network of the plans cannot be built"):
            network = NETWORKS[name](
                input_channels=in_channels, num_classes=num_classes, deep_supervision=aux, **arguments
            )
            network.apply(network.initialize)
        self.encoder, self.decoder = network.encoder, network.decoder
        del self.decoder.encoder  # the same modules under a second name
        outputs = self.decoder.seg_layers
        self.heads = max(1, len(outputs) - 1) if aux else 1
        for index in range(len(outputs) - self.heads):
            outputs[index] = nn.Identity()  # not trained; the others keep their names
        strides = ((stride, stride) if isinstance(stride, int) else stride for stride in arguments["strides"])
        # instance norm needs two pixels at least
        self.size_multiple = 2 * math.lcm(*(math.prod(axis) for axis in zip(*strides, strict=True)))
        self._normalization = normalization or "zscore"
        if self._normalization == "rgb_to_0_1":
            self.mean, self.std = (0.0,), (1.0,)

    def forward(self, image: Tensor) -> Tensor | list[Tensor]:
        outputs = self.decoder(self.encoder(self._normalized(image)))
        if isinstance(outputs, Tensor):
            return outputs
        heads: list[Tensor] = outputs[: self.heads]
        return heads if self.training and self.heads > 1 else heads[0]

    def _normalized(self, image: Tensor) -> Tensor:
        if self._normalization == "rgb_to_0_1":
            return image
        image = image.float()
        if self._normalization == "rescale_to_0_1":
            low, high = image.amin((2, 3), keepdim=True), image.amax((2, 3), keepdim=True)
            return (image - low) / (high - low).clamp_min(TINY)
        centred = image - image.mean((2, 3), keepdim=True)
        return centred * (centred.square().mean((2, 3), keepdim=True) + TINY).rsqrt()


def _planned(architecture: str, base: int, stages: int) -> tuple[str, dict[str, Any]]:
    """What the planner gives for square 2D images with as many resolutions."""
    if base < 1 or stages < 2:
        raise ValueError(f"base must be at least 1 and stages at least 2, not {base} and {stages}")
    arguments: dict[str, Any] = {
        "n_stages": stages,
        "features_per_stage": [min(base * 2**stage, WIDEST) for stage in range(stages)],
        "conv_op": nn.Conv2d,
        "kernel_sizes": 3,
        "strides": [1] + [2] * (stages - 1),
        "conv_bias": True,
        "norm_op": nn.InstanceNorm2d,
        "norm_op_kwargs": {"eps": 1e-5, "affine": True},
        "nonlin": nn.LeakyReLU,
        "nonlin_kwargs": {"inplace": True},
    }
    if architecture == "plain":
        return "PlainConvUNet", arguments | {"n_conv_per_stage": 2, "n_conv_per_stage_decoder": 2}
    blocks = [BLOCKS[min(stage, len(BLOCKS) - 1)] for stage in range(stages)]
    return "ResidualEncoderUNet", arguments | {"n_blocks_per_stage": blocks, "n_conv_per_stage_decoder": 1}


def _configuration(path: Path, name: str) -> dict[str, Any]:
    """A configuration of a file of plans, complete and in today's form."""
    from nnunetv2.utilities.plans_handling.plans_handler import PlansManager  # it imports every reader of volumes

    try:
        plans = json.loads(path.read_text(encoding="utf-8"))
        known = list(plans["configurations"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path} cannot be read as nnU-Net's plans: {type(error).__name__}: {error}") from error
    if name not in known:
        raise ValueError(f"{path} has no configuration {name!r}; it has: {', '.join(known)}")
    with explain_errors(f"the configuration {name} of {path} is incomplete"):
        configuration: dict[str, Any] = PlansManager(plans).get_configuration(name).configuration
    return configuration


def _network(planned: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """Name and arguments of the planned network."""
    name = planned["architecture"]["network_class_name"].rpartition(".")[2]
    if name not in NETWORKS:
        raise ValueError(f"the plans are for the network {name}; there are {' and '.join(NETWORKS)} here")
    arguments = dict(planned["architecture"]["arch_kwargs"])
    arguments |= {key: _layer(arguments.get(key)) for key in LAYERS}
    if arguments["conv_op"] is not nn.Conv2d:
        raise ValueError("the plans are for volumes; choose a configuration for images, such as 2d")
    return name, arguments


def _layer(name: str | None) -> type[nn.Module] | None:
    """A layer of PyTorch by the name that plans give it; nothing else is imported because a file says so."""
    if name is None:
        return None
    layer = getattr(nn, name.rpartition(".")[2], None)
    if not (name.startswith("torch.nn.") and isinstance(layer, type) and issubclass(layer, nn.Module)):
        raise ValueError(f"the plans name a layer {name!r} that is not one of PyTorch's")
    return layer


def _normalization(planned: Mapping[str, Any]) -> Normalization:
    """How the planned network's images are normalised."""
    schemes = sorted(set(planned["normalization_schemes"]))
    if len(schemes) == 1 and schemes[0] in NORMALIZATIONS and not any(planned["use_mask_for_norm"]):
        return NORMALIZATIONS[schemes[0]]
    masked = " within a mask" if any(planned["use_mask_for_norm"]) else ""
    raise ValueError(
        f"the plans normalise by {', '.join(schemes)}{masked}; choose what comes next to it as normalization"
    )
