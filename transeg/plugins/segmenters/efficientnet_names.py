"""Weights of EfficientNets by the names of EfficientNet-PyTorch and its relatives, as timm names them.

Both are published implementations of arXiv:1905.11946; EfficientNet-PyTorch numbers the blocks of all stages through.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

WHOLE = {"_conv_stem": "conv_stem", "_bn0": "bn1", "_conv_head": "conv_head", "_bn1": "bn2", "_fc": "classifier"}
EXCITATION = {"_se_reduce": "se.conv_reduce", "_se_expand": "se.conv_expand"}
EXPANDING = {
    "_expand_conv": "conv_pw",
    "_bn0": "bn1",
    "_depthwise_conv": "conv_dw",
    "_bn1": "bn2",
    "_project_conv": "conv_pwl",
    "_bn2": "bn3",
    **EXCITATION,
}
PLAIN = {"_depthwise_conv": "conv_dw", "_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2", **EXCITATION}
"""Of a block whose first convolution does not expand."""


def are_numbered_through(weights: Mapping[str, Tensor]) -> bool:
    """Whether weights have the names of EfficientNet-PyTorch."""
    return "_conv_stem.weight" in weights and "_blocks.0._depthwise_conv.weight" in weights


def named_by_stages(weights: Mapping[str, Tensor], stages: nn.Sequential) -> dict[str, Tensor]:
    """The same weights by timm's names.

    Args:
        weights: by those of EfficientNet-PyTorch.
        stages: of timm's network, each of several blocks.

    Raises:
        ValueError: they have other numbers of blocks.
    """
    blocks = [
        (f"blocks.{stage}.{number}", EXPANDING if hasattr(block, "conv_pwl") else PLAIN)
        for stage, group in enumerate(stages)
        for number, block in enumerate(group.children())
    ]
    count = 1 + max(int(name.split(".")[1]) for name in weights if name.startswith("_blocks."))
    if count != len(blocks):
        raise ValueError(f"it has {count} blocks, and the backbone {len(blocks)}")
    found: dict[str, Tensor] = {}
    for name, values in weights.items():
        first, *rest = name.split(".")
        if first == "_blocks":
            place, known = blocks[int(rest[0])]
            part, rest = rest[1], rest[2:]
            found[".".join((place, known.get(part, part), *rest))] = values
        else:
            found[".".join((WHOLE.get(first, first), *rest))] = values
    return found
