"""Networks that judge images: features for FID and KID, and the distance LPIPS. All weights are local files."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from transeg.core.errors import TransegError, UsageError, did_you_mean
from transeg.core.inference.trained_model import TrainedModel
from transeg.core.models.forward import segment
from transeg.core.models.layer_outputs import LayerOutputs, layers
from transeg.core.models.weights import load_weights
from transeg.core.registry import Registry
from transeg.core.runs.run_folder import RunFolder

Features = Callable[[Tensor], Tensor]
"""``(N, C, H, W)`` in [-1, 1] -> ``(N, D)``."""


def feature_network(choice: str, registry: Registry, device: torch.device) -> Features:
    """The network whose features FID and KID compare.

    Args:
        choice: ``inception:FILE``, the network of the published numbers with its weights; ``NAME:FILE``, any network of
            timm with its weights; or a run folder, for the segmenter's coarsest layer, which knows one's own images but
            gives numbers that cannot be compared with those of others.
        registry: where components come from.
        device: where it computes.

    Raises:
        UsageError: there is no such network or run.
        TransegError: its weights cannot be read.
    """
    if Path(choice, "experiment.toml").exists():
        return _of_run(RunFolder(Path(choice)), registry, device)
    name, _, file = choice.partition(":")
    if not file:
        raise UsageError(
            f"quality.features={choice!r} is neither a run folder nor a network with its weights, as in "
            f"inception:FILE or resnet50:FILE; weights are not downloaded."
        )
    path = Path(file).expanduser()
    if not path.is_file():
        raise UsageError(f"There is no file {path} with the weights of {name} (quality.features).")
    return _inception(path, device) if name == "inception" else _of_timm(name, path, device)


def perceptual_distance(path: Path, device: torch.device) -> Callable[[Tensor, Tensor], Tensor]:
    """LPIPS (Zhang et al., arXiv:1801.03924) on AlexNet.

    Args:
        path: AlexNet's weights, as torchvision publishes them; those of the comparison come with torchmetrics.
        device: where it computes.

    Returns:
        ``(N, 3, H, W)`` twice, in [-1, 1] -> ``(N,)``.

    Raises:
        TransegError: the file cannot be read, or holds something else.
    """
    from torchmetrics.functional.image.lpips import _LPIPS

    network = _LPIPS(pnet_rand=True, net="alex")
    stages = {2: "slice1", 5: "slice2", 8: "slice3", 10: "slice4", 12: "slice5"}
    key_map = [
        (rf"^features\.{index}\.", f"{next(name for end, name in stages.items() if index < end)}.{index}.")
        for index in range(12)
    ]
    load_weights(network.net, path, [*key_map, (r"^classifier\.", None)], "network of quality.lpips", whole=True)
    network = network.to(device).eval()
    return lambda made, real: network(made, real).flatten()


def _of_run(folder: RunFolder, registry: Registry, device: torch.device) -> Features:
    trained = TrainedModel.load(folder, registry, str(device), layers=True)
    network = trained.segmenter
    if network is None:
        raise UsageError(f"The run {folder.path} trained a generator alone, which has no features to compare.")
    channels = trained.domains.target_channels
    shapes = layers(copy.deepcopy(network).to("meta"), channels)
    coarsest = max(shapes, key=lambda layer: (layer.stride, layer.channels)).name
    taps = LayerOutputs(network, [coarsest], "The segmenter")

    def features(images: Tensor) -> Tensor:
        if images.shape[1] != channels:
            raise UsageError(f"The run {folder.path} takes images of {channels} channels, not {images.shape[1]}.")
        segment(network, images)
        return taps.outputs[coarsest].mean((2, 3))

    return features


def _of_timm(name: str, path: Path, device: torch.device) -> Features:
    import timm

    if not timm.is_model(name):
        raise UsageError(f"timm has no network {name!r} (quality.features).{did_you_mean(name, timm.list_models())}")
    network: nn.Module = timm.create_model(name, pretrained=False, num_classes=0)
    head = [(r"^(fc|classifier|head)\.(?!.*norm)", None)]
    load_weights(network, path, head, "network of quality.features", whole=True)
    network = network.to(device).eval()
    config: Any = network.pretrained_cfg
    mean, std = (torch.tensor(config[key], device=device).view(1, -1, 1, 1) for key in ("mean", "std"))
    return lambda images: network((_coloured(images) / 2 + 0.5 - mean) / std)


def _inception(path: Path, device: torch.device) -> Features:
    from torchmetrics.image.fid import NoTrainInceptionV3

    try:
        network = NoTrainInceptionV3("inception-v3-compat", ["2048"], str(path)).to(device)
    except ModuleNotFoundError as error:
        raise UsageError("quality.features=inception needs more: pip install 'transeg[fidelity]'.") from error
    except Exception as error:
        raise TransegError(f"{path} does not hold the weights of inception: {error}.") from error
    return lambda images: network(((_coloured(images) + 1) * 127.5).round().clamp(0, 255).byte())


def _coloured(images: Tensor) -> Tensor:
    """Three channels: grey is repeated, of more than three the first count."""
    return images[:, :3] if images.shape[1] >= 3 else images[:, :1].expand(-1, 3, -1, -1)
