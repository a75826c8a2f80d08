"""The rule by which reference numbers were made: weights from key names, inputs from fixed seeds."""

import json
import math
import zlib
from pathlib import Path

import torch
import torch.nn.functional as F

REFERENCE = Path(__file__).parent / "reference"


def read(name):
    return json.loads((REFERENCE / f"{name}.json").read_text())


def fill_state(state, prefix="", gain=1.0):
    """Overwrite every tensor of a state dict with numbers derived from its key."""
    for key, tensor in state.items():
        generator = torch.Generator().manual_seed(zlib.crc32((prefix + key).encode()))
        shape = tensor.shape
        if key.endswith("num_batches_tracked"):
            tensor.zero_()
        elif key.endswith("running_var"):
            tensor.copy_(0.5 + torch.rand(shape, generator=generator))
        elif key.endswith("running_mean"):
            tensor.copy_(0.1 * torch.randn(shape, generator=generator))
        elif tensor.ndim >= 2:
            tensor.copy_(torch.randn(shape, generator=generator) * (gain * math.sqrt(1 / math.prod(shape[1:]))))
        elif key.endswith("weight"):
            tensor.copy_(0.75 + 0.5 * torch.rand(shape, generator=generator))
        else:
            tensor.copy_(0.1 * torch.randn(shape, generator=generator))
    return state


def fill(network, prefix="", gain=1.0):
    network.load_state_dict(fill_state(network.state_dict(), prefix, gain))
    return network


def named(name, *shape):
    """Normal draws that belong to a name."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(zlib.crc32(f"{name}/seed0".encode())))


def smooth(name, count, size):
    """Images without detail that belong to a name, ``(count, 1, size, size)`` in [-1, 1]."""
    coarse = named(name, count, 1, 8, 8)
    return F.interpolate(coarse, (size, size), mode="bilinear", align_corners=False).clamp(-1, 1)


class Draws:
    """Inputs in the order in which a fixture lists them."""

    def __init__(self):
        self.generator = torch.Generator().manual_seed(0)

    def image(self, *shape):
        return 2 * torch.rand(shape, generator=self.generator) - 1

    def normal(self, *shape):
        return torch.randn(shape, generator=self.generator)


def deviation(tensor, expected):
    """The largest difference from a summarised tensor, relative to its spread."""
    assert list(tensor.shape) == expected["shape"]
    flat = tensor.detach().double().flatten()
    scale = max(expected["std"], expected["abs_mean"])
    values = max(abs(flat[i].item() - v) for i, v in zip(expected["idx"], expected["values"], strict=True))
    return max(values, abs(flat.mean().item() - expected["mean"]), abs(flat.std().item() - expected["std"])) / scale


def relative(value, expected):
    return abs(float(torch.as_tensor(value).detach()) - expected) / max(abs(expected), 1e-12)
