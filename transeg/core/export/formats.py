"""Graphs as files of other runtimes, and these files run."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from transeg.core.errors import TransegError
from transeg.core.export.graph import Graph

Run = Callable[[Sequence[Tensor]], Tensor]
"""Inputs of a graph, in their order -> its output."""

FILES = {"onnx": "model.onnx", "torchscript": "model.torchscript", "torch-export": "model.pt2"}
"""Names of the files of graphs, by format."""
ROWS, SIDES = 2, (67, 101)
"""Of the example that a graph is recorded with: different from each other and from every multiple, so that no network
meets a size that is alike by chance."""


class Writer:
    """Writes a graph in several formats.

    Args:
        graph: in eval mode.
    """

    def __init__(self, graph: Graph) -> None:
        self._graph = graph
        self._program: Any = None

    def write(self, form: str, path: Path) -> None:
        """Write a file.

        Args:
            form: a key of :data:`FILES`.
            path: of the file.

        Raises:
            TransegError: the network holds what cannot leave PyTorch.
        """
        write = {"onnx": self._onnx, "torchscript": self._torchscript, "torch-export": self._torch_export}[form]
        try:
            with _quiet(), torch.no_grad():
                write(path)
        except TransegError:
            raise
        except Exception as error:  # a network may hold anything, and every converter fails in its own way
            raise TransegError(f"This {self._graph.part} cannot leave PyTorch as {form}: {_reason(error)}") from error

    def example(self) -> tuple[Tensor, ...]:
        """Inputs that a graph is recorded with."""
        draw = torch.Generator().manual_seed(0)
        first = torch.rand(ROWS, self._graph.channels, *SIDES, generator=draw)
        if self._graph.by_mask:
            first = (first[:, 0] * 2).long()
        return first, *self._graph.draws.of(torch.arange(ROWS), *SIDES)

    def _exported(self) -> Any:
        if self._program is None:
            self._program = torch.export.export(self._graph, self.example(), dynamic_shapes=self._shapes())
        return self._program

    def _shapes(self) -> tuple[Any, ...]:
        dynamic = torch.export.Dim.DYNAMIC
        first = {0: dynamic, 1: dynamic, 2: dynamic} if self._graph.by_mask else {0: dynamic, 2: dynamic, 3: dynamic}
        each = {"noise": {0: dynamic, 2: dynamic, 3: dynamic}, "latent": {0: dynamic}}
        draws = tuple(each[name] for name in self._graph.draws.inputs)
        return (first, draws) if draws else (first,)

    def _onnx(self, path: Path) -> None:
        program = torch.onnx.export(
            self._exported(),
            dynamo=True,
            verbose=False,
            input_names=self._graph.inputs,
            output_names=[self._graph.output],
        )
        assert program is not None
        program.save(path, external_data=False)

    def _torchscript(self, path: Path) -> None:
        torch.jit.trace(self._graph, self.example(), check_trace=False).save(str(path))

    def _torch_export(self, path: Path) -> None:
        torch.export.save(self._exported(), path)


def opened(form: str, path: Path, inputs: Sequence[str]) -> Run:
    """A file of a graph, ready to run on the CPU in its own runtime.

    Args:
        form: a key of :data:`FILES`.
        path: of the file.
        inputs: names of the graph's inputs.
    """
    if form == "onnx":
        return _session(path, inputs)
    with _quiet():
        module = torch.jit.load(str(path)) if form == "torchscript" else torch.export.load(path).module()
    return partial(_called, module)


@torch.inference_mode()
def _called(module: Any, inputs: Sequence[Tensor]) -> Tensor:
    with _quiet():
        return module(*inputs)


def _session(path: Path, inputs: Sequence[str]) -> Run:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])

    def run(tensors: Sequence[Tensor]) -> Tensor:
        (result,) = session.run(None, {name: t.numpy() for name, t in zip(inputs, tensors, strict=True)})
        return torch.from_numpy(result)

    return run


def _reason(error: BaseException) -> str:
    """What stands at the root of a converter's error, in a line."""
    while error.__cause__ is not None:
        error = error.__cause__
    said = next((line for line in str(error).splitlines() if line.strip()), "")
    return f"{type(error).__name__}: {said[:300]}"


@contextmanager
def _quiet() -> Iterator[None]:
    """Without what converters say of themselves, which is nothing that a user can mend."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "torch.export", "onnxscript", "onnx_ir", "root")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
