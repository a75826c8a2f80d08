"""A training step on CUDA tensors where there is no GPU: what would break there, or make it wait, is found.

PyTorch's FakeTensorMode gives tensors of the GPU a type and a shape but no values. What is watched:

- tensors of different devices in one operation;
- the host waiting for the GPU: ``.item()``, ``.cpu()``, a tensor in an ``if``, an index by truth values;
- copies to the GPU during which the host waits: ``.to(device)`` without ``non_blocking``, ``torch.tensor(numbers,
  device=device)``;
- draws from a random generator of another device.

What it cannot see:

- The backward: ``backward`` and ``torch.autograd.grad`` are replaced by gradients of zeros, so that a wait or a mix of
  devices in the backward of a function of ours does not show.
- Values: nothing is computed on the GPU. What stays on the CPU is.
- The GradScaler's own question whether gradients overflowed, for which fp16 waits once in each phase, is answered no:
  a skipped step is not seen.
- Kernels: whether one is there for a type or a layout, what it costs in time and memory, and where it waits by itself,
  as linear algebra that checks for errors does.
- Whether host memory is pinned: a ``non_blocking`` copy from other memory waits as well.
- Several GPUs, compilation, and whatever is not in the step: hooks, validation, the loader.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self
from unittest.mock import patch

import numpy as np
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import (
    DynamicOutputShapeException,
    FakeTensor,
    FakeTensorMode,
    unset_fake_temporarily,
)
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from transeg.core.inference.sliding_window import _blend
from transeg.core.models.forward import shift_and_scale

GPU = torch.device("cuda", 0)
PACKAGE = str(Path(sys.modules["transeg"].__file__).parent)


class Findings:
    """What was found, each with the line of ours that it comes from.

    Attributes:
        lines: a sentence each, without repetitions, in order; filled only while :attr:`on`.
        on: whether anything is noted now.
    """

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.on = False

    def add(self, what: str) -> None:
        """Note something, with the place in the package that led to it."""
        frame = sys._getframe() if self.on else None
        while frame is not None and not frame.f_code.co_filename.startswith(PACKAGE):
            frame = frame.f_back
        if frame is not None:
            line = f"{what}: {Path(frame.f_code.co_filename).relative_to(PACKAGE)}, line {frame.f_lineno}"
            self.lines += [line] if line not in self.lines else []


class FakeGenerator(torch.Generator):
    """A random generator that knows on which device it was wanted."""

    def __new__(cls, device: torch.device | str | None = None) -> Self:
        made = super().__new__(cls)
        made.wanted = torch.device(device or "cpu").type
        return made


class _Calls(TorchFunctionMode):
    """Looks at what is called, before PyTorch takes it apart."""

    def __init__(self, findings: Findings) -> None:
        super().__init__()
        self._findings = findings

    def __torch_function__(self, function, types, args=(), kwargs=None):
        if function is Tensor.pin_memory:
            return args[0]
        if function is Tensor.numpy and isinstance(args[0], FakeTensor):
            if _device(args[0]).type == "cuda":
                raise TypeError("NumPy cannot have a tensor of the GPU.")
            return np.zeros(args[0].shape, str(args[0].dtype).removeprefix("torch."))
        made = function(*args, **(kwargs or {}))
        generator = (kwargs or {}).get("generator")
        if isinstance(made, Tensor) and isinstance(generator, FakeGenerator) and generator.wanted != _device(made).type:
            self._findings.add(f"a draw on {_device(made).type} from a generator of {generator.wanted}")
        return made


class _Operations(TorchDispatchMode):
    """Looks at what operations do with devices."""

    def __init__(self, findings: Findings) -> None:
        super().__init__()
        self._findings = findings

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        if operation is torch.ops.prim.device.default:  # asked so often that it takes half of the time otherwise
            return _device(args[0])
        kwargs = kwargs or {}
        if torch.is_inference_mode_enabled():  # which leaves it to this to take operations apart
            with self:
                made = operation.decompose(*args, **kwargs)
            if made is not NotImplemented:
                return made
        given = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        if _stays_on_cpu(given, kwargs):
            with unset_fake_temporarily():
                return operation(*args, **{key: value for key, value in kwargs.items() if key != "pin_memory"})
        name, on_gpu = operation.overloadpacket.__name__, any(_device(each).type == "cuda" for each in given)
        if name in ("_local_scalar_dense", "is_nonzero", "equal"):
            if on_gpu and not _of_scaler():
                self._findings.add("the host asks for a value of the GPU")
            return 0.0 if given[0].dtype.is_floating_point else False
        if on_gpu and name.startswith("index") and _truth_values(args[1]):
            self._findings.add("an index by truth values waits for the GPU")
        try:
            made = operation(*args, **kwargs)
        except DynamicOutputShapeException as error:
            raise AssertionError(f"How large a result is depends on values of the GPU: {error}") from error
        if name in ("_to_copy", "copy_"):
            self._look_at_copy(name, args, kwargs, made)
        return made

    def _look_at_copy(self, name, args, kwargs, made):
        source, to = _device(args[1] if name == "copy_" else args[0]).type, _device(made).type
        waits = not (kwargs.get("non_blocking") or (name == "copy_" and len(args) > 2 and args[2]))
        if waits and {source, to} == {"cpu", "cuda"}:
            self._findings.add(f"a copy from {source} to {to} waits")


def _truth_values(indices: Any) -> bool:
    """Whether an operation is given truth values for indices."""
    return isinstance(indices, list | tuple) and any(
        isinstance(each, Tensor) and each.dtype in (torch.bool, torch.uint8) for each in indices
    )


def _device(tensor: Tensor) -> torch.device:
    """Where a tensor is, without an operation."""
    return tensor.fake_device if isinstance(tensor, FakeTensor) else tensor.device


def _stays_on_cpu(given: list[Tensor], kwargs: dict[str, Any]) -> bool:
    """Whether an operation needs nothing but the CPU: then it is carried out."""
    device = torch.device(kwargs.get("device") or "cpu")
    return device.type == "cpu" and not any(isinstance(each, FakeTensor) for each in given)


def _of_scaler() -> bool:
    """Whether the GradScaler asks."""
    frame = sys._getframe()
    while frame is not None:
        if frame.f_code.co_filename.endswith("amp/grad_scaler.py"):
            return True
        frame = frame.f_back
    return False


@contextmanager
def fake_gpu() -> Iterator[Findings]:
    """Tensors may be on :data:`GPU` for as long as this lasts; gives what is found."""
    findings = Findings()
    _forget_constants()
    with (
        patch.object(torch, "Generator", FakeGenerator),
        patch.object(torch.Tensor, "backward", _backward),
        patch.object(torch.autograd, "grad", _grad),
        patch.object(torch.cuda.amp.common, "amp_definitely_not_available", lambda: False),
        patch.object(torch.cuda, "is_bf16_supported", lambda *_, **__: True),
        FakeTensorMode(allow_non_fake_inputs=True),
        _Operations(findings),
        _Calls(findings),
    ):
        yield findings
    _forget_constants()  # which are tensors without values


def _forget_constants():
    shift_and_scale.cache_clear()
    _blend.cache_clear()


def _backward(loss, *_, inputs, **__):
    assert loss.requires_grad
    assert loss.device == GPU
    for parameter in inputs:
        parameter.grad = torch.zeros_like(parameter)


def _grad(outputs, inputs, *_, **__):
    return tuple(torch.zeros_like(each) for each in ([inputs] if isinstance(inputs, Tensor) else inputs))


def move(module: nn.Module, optimizers: list[torch.optim.Optimizer]) -> None:
    """As ``module.to(GPU)``, with the parameters that optimizers hold; to be called on a fake GPU."""
    moved: dict[int, nn.Parameter] = {}
    for each in module.modules():
        for name, parameter in each._parameters.items():
            if parameter is not None:
                if id(parameter) not in moved:
                    there = torch.empty_like(parameter, device=GPU)
                    moved[id(parameter)] = nn.Parameter(there, requires_grad=parameter.requires_grad)
                each._parameters[name] = moved[id(parameter)]
        for name, buffer in each._buffers.items():
            if buffer is not None:
                each._buffers[name] = torch.empty_like(buffer, device=GPU)
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["params"] = [moved[id(parameter)] for parameter in group["params"]]
