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
from torch.fx import config

from transeg.tools.export.graph import Graph

Run = Callable[[Sequence[Tensor]], Tensor]
"""Inputs of a graph, in their order -> its output."""

FILES = {"onnx": "model.onnx", "torchscript": "model.torchscript", "torch-export": "model.pt2"}
"""Names of the files of graphs, by format."""
ROWS, SIDES = 2, (67, 101)
"""Of the example that a graph is recorded with: different from each other and from every multiple, so that no network
meets a size that is alike by chance."""


class GraphWriter:
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
        """
        write = {"onnx": self._onnx, "torchscript": self._torchscript, "torch-export": self._torch_export}[form]
        with _quiet(), _without_traces(), torch.no_grad():
            write(path)

    def example(self) -> tuple[Tensor, ...]:
        """Inputs that a graph is recorded with."""
        draw = torch.Generator().manual_seed(0)
        first = torch.rand(ROWS, self._graph.channels, *SIDES, generator=draw)
        if self._graph.by_mask:
            first = (first[:, 0] * 2).long()
        return first, *self._graph.draws.of(torch.arange(ROWS), *SIDES)

    def _exported(self) -> Any:
        if self._program is None:
            shapes = [dict.fromkeys(axes, torch.export.Dim.DYNAMIC) for axes in self._axes()]
            self._program = torch.export.export(self._graph, self.example(), dynamic_shapes=_nested(shapes))
            for node in self._program.graph.nodes:
                node.meta.pop("stack_trace", None)  # older PyTorch notes them nonetheless
            _simplify_relu6(self._program.graph)
        return self._program

    def _axes(self) -> list[dict[int, str]]:
        """Of each input, the axes that may have any length, by what they are called in files."""
        image = {0: "batch", 2: "height", 3: "width"}
        labels = {0: "batch", 1: "height", 2: "width"}
        each = {"image": image, "labels": labels, "noise": image, "latent": {0: "batch"}}
        return [each[name] for name in self._graph.inputs]

    def _onnx(self, path: Path) -> None:
        program = torch.onnx.export(
            self._exported(),
            dynamic_shapes=_nested(self._axes()),
            dynamo=True,
            verbose=False,
            input_names=self._graph.inputs,
            output_names=[self._graph.output],
            optimize=False,
        )
        assert program is not None
        _simplify(program.model)
        for node in program.model.graph.all_nodes():
            node.metadata_props.clear()  # which file and line of Python on this machine a node comes from
        program.save(path, external_data=False)

    def _torchscript(self, path: Path) -> None:
        torch.jit.trace(self._graph, self.example(), check_trace=False).save(str(path))

    def _torch_export(self, path: Path) -> None:
        torch.export.save(self._exported(), path)


def _simplify_relu6(graph: Any) -> None:
    """Replace ReLU6, on which HarDNet-MSEG spends two thirds of its way to ONNX, by clamps, which give the same values.

    One in place is replaced where nothing else can see its input.
    """
    ops = torch.ops.aten
    for node in graph.nodes:
        if node.target not in (ops.hardtanh.default, ops.hardtanh_.default) or len(node.args) != 3:
            continue
        before = node.args[0]
        schema = getattr(before.target, "_schema", None)
        fresh = schema is not None and all(each.alias_info is None for each in schema.returns)
        if node.target is ops.hardtanh.default or (fresh and len(before.users) == 1):
            node.target = ops.clamp.default


def _simplify(model: Any) -> None:
    """Fold what is constant and drop what does nothing, in place.

    As PyTorch asks onnxscript to, but without its rule for splits, which goes through the whole graph for each node:
    half of the way of SynDiff to ONNX.
    """
    from onnx_ir.passes import Sequential, common
    from onnxscript import optimizer, rewriter
    from onnxscript.rewriter.rules import common as rules

    useful = (
        rules.collapse_slice_rule,
        rules.collapse_slice2_rule,
        rules.max_min_rule,
        rules.min_max_rule,
        rules.no_op_expand_rule,
        rules.no_op_transpose_rule,
        rules.normalize_pad_format_conv_rule,
        rules.fuse_pad_into_conv_rule,
        rules.reshape_reshape_rule,
        rules.unsqueeze_unsqueeze_rule,
    )
    common.InlinePass()(model)
    optimizer.fold_constants(model)
    rewriter.rewrite(model, useful)
    optimizer.fold_constants(model)
    Sequential(
        common.RemoveUnusedNodesPass(),
        common.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0),
        common.DeduplicateInitializersPass(),
        common.CommonSubexpressionEliminationPass(),
        common.OutputFixPass(),
        common.NameFixPass(),
    )(model)


def _nested(each: Sequence[Any]) -> tuple[Any, ...]:
    """One thing for each input, as the graph's ``(image, *draws)`` is seen from outside."""
    first, *draws = each
    return (first, tuple(draws)) if draws else (first,)


def open_graph(form: str, path: Path, inputs: Sequence[str]) -> Run:
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


@contextmanager
def _without_traces() -> Iterator[None]:
    """Without the lines of Python that nodes come from: noting them takes a seventh of the time, and they name folders
    of this machine.
    """
    before = getattr(config, "do_not_emit_stack_traces", False)
    config.do_not_emit_stack_traces = True
    try:
        yield
    finally:
        config.do_not_emit_stack_traces = before


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
