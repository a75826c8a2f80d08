"""Segmenters made ready for inference: batch norm folded into convolutions, memory laid out for the device.

What is folded, how it is found and what it gains: docs/decisions/inference.md.
"""

from __future__ import annotations

import copy
import logging
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import convert_conv2d_weight_memory_format
from torch.nn.utils.fusion import fuse_conv_bn_weights
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from transeg.core.interfaces import Segmenter
from transeg.core.models.forward import segment
from transeg.core.models.winograd import use_winograd

SIDE = 64
"""Height and width of the image that a network is watched on."""
TOLERANCE = 1e-3
"""How far logits may move, as a share of the largest; what rounding moves them is a thousandth of that."""

Pair = tuple[nn.Conv2d | nn.ConvTranspose2d, nn.BatchNorm2d]

logger = logging.getLogger(__name__)


def fuse_for_inference(segmenter: Segmenter, channels: int, device: torch.device) -> Segmenter:
    """A copy for inference alone, on its device, with the same logits except for rounding.

    Args:
        segmenter: in eval mode, on the CPU.
        channels: of its images.
        device: where it will run.
    """
    network = fold_batch_norms(segmenter, channels).to(device)
    # PyTorch's instance norm copies channels-last activations there and back, which costs more than convolutions gain
    copies = any(isinstance(module, nn.InstanceNorm2d) for module in network.modules())
    if device.type == "cpu" and not copies:
        convert_conv2d_weight_memory_format(network, torch.channels_last)  # activations follow the weights
    use_winograd(network)
    return network


@torch.inference_mode(False)
@torch.no_grad()
def fold_batch_norms(segmenter: Segmenter, channels: int) -> Segmenter:
    """A copy without the batch norms that follow a convolution of their own.

    Module names stay; the output of such a convolution is now that of its batch norm. A network that fails on a small
    image, or whose logits change, is copied as it is.
    """
    network = copy.deepcopy(segmenter)
    image = torch.linspace(-1, 1, channels * SIDE * SIDE).view(1, channels, SIDE, SIDE)
    try:
        watch = OperatorTrace(network)
        expected = watch.run(image)
        fold_pairs(network, watch.pairs())
        if _alike(segment(network, image), expected):
            return network
        logger.debug("%s is not folded: its logits would change.", type(segmenter).__name__)
    except Exception as error:  # a network may do anything; it then runs as it is
        logger.debug("%s is not folded: %s: %s", type(segmenter).__name__, type(error).__name__, error)
    return copy.deepcopy(segmenter)


def fold_pairs(network: nn.Module, pairs: Sequence[Pair]) -> None:
    """Scale and shift each convolution as its batch norm does, and leave of that what else it holds: an activation."""
    for conv, norm in pairs:
        assert norm.running_mean is not None
        assert norm.running_var is not None
        conv.weight, conv.bias = fuse_conv_bn_weights(
            conv.weight,
            conv.bias,
            norm.running_mean,
            norm.running_var,
            norm.eps,
            norm.weight,
            norm.bias,
            transpose=isinstance(conv, nn.ConvTranspose2d),
        )
    rest = {norm: nn.Sequential(*norm.children()) for _, norm in pairs}
    for name, module in list(network.named_modules(remove_duplicate=False)):
        if module in rest:
            network.set_submodule(name, rest[module])


class OperatorTrace(TorchDispatchMode):
    """One forward pass in which it is seen who reads what.

    Args:
        network: the network, in eval mode.
    """

    def __init__(self, network: Segmenter) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._network = network
        convs = (module for module in network.modules() if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d)))
        self._by_weight = {id(conv.weight): conv for conv in convs}
        self._convolved: dict[int, nn.Conv2d | nn.ConvTranspose2d] = {}
        self._met: list[tuple[Pair, Tensor]] = []
        self._calls: Counter[nn.Module] = Counter()
        self._reads: Counter[int] = Counter()
        self._alive: list[Tensor] = []  # so that no id is given twice

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """Nothing is compiled while a network is watched; to say so, PyTorch would import its compiler for seconds."""
        return False

    def run(self, image: Tensor) -> list[Tensor]:
        """The logits of every head."""
        norms = [module for module in self._network.modules() if isinstance(module, nn.BatchNorm2d)]
        hooks = [norm.register_forward_hook(self._called) for norm in norms]
        try:
            with self:
                return segment(self._network, image)
        finally:
            for hook in hooks:
                hook.remove()

    def pairs(self) -> list[Pair]:
        """Convolutions that ran once, with weights of their own, for a batch norm alone that ran once."""
        return [(conv, norm) for (conv, norm), between in self._met if self._foldable(conv, norm, between)]

    def _foldable(self, conv: nn.Conv2d | nn.ConvTranspose2d, norm: nn.BatchNorm2d, between: Tensor) -> bool:
        own = [conv.weight] if conv.bias is None else [conv.weight, conv.bias]
        return (
            all(self._reads[id(tensor)] == 1 for tensor in (between, *own))
            and self._calls[norm] == 1
            and not norm.training
            and norm.running_mean is not None
            and (isinstance(conv, nn.Conv2d) or conv.groups == 1)
        )

    def _called(self, norm: nn.BatchNorm2d, inputs: tuple[Any, ...], _output: Any) -> None:
        self._calls[norm] += 1
        if inputs and id(inputs[0]) in self._convolved:
            self._met.append(((self._convolved[id(inputs[0])], norm), inputs[0]))

    def __torch_dispatch__(
        self, operation: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        self._reads.update(map(id, tensors))
        result = operation(*args, **(kwargs or {}))
        if operation is torch.ops.aten.convolution.default and id(args[1]) in self._by_weight:
            self._convolved[id(result)] = self._by_weight[id(args[1])]
            tensors.append(result)
        self._alive += tensors
        return result


def _alike(heads: list[Tensor], expected: list[Tensor]) -> bool:
    pairs = zip(heads, expected, strict=True)
    return all(bool((head - before).abs().max() <= TOLERANCE * before.abs().max()) for head, before in pairs)
