"""Networks leave PyTorch, for images of any size and number."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from unittest import SkipTest

import torch
from torch import Tensor

from transeg.core.errors import UsageError
from transeg.core.inference.conditioning import Conditioning
from transeg.core.models.forward import segment
from transeg.core.models.fusion import fold_batch_norms
from transeg.testing.subject import Subject
from transeg.tools.export.check import TOLERANCE
from transeg.tools.export.draws import record_draws
from transeg.tools.export.formats import FILES, GraphWriter, Run, open_graph
from transeg.tools.export.graph import Graph, SegmentationGraph, TranslationGraph

Reference = Callable[..., Tensor]

SIZES = ((1, 64, 64), (3, 70, 45), (2, 33, 101))
"""Number, height and width of images."""


def exports_to_torchscript(subject: Subject) -> None:
    """TorchScript computes what it computes, for images of any size and number."""
    _exports(subject, "torchscript")


def exports_to_torch_export_and_onnx(subject: Subject) -> None:
    """A file of torch.export, and ONNX Runtime, compute what it computes, for images of any size and number.

    Both are made of one trace, which may take a minute.
    """
    missing = [package for package in ("onnx", "onnxruntime", "onnxscript") if find_spec(package) is None]
    _exports(subject, "torch-export", *([] if missing else ["onnx"]))
    if missing:
        raise SkipTest(f"for ONNX, {missing[0]} is not installed: pip install 'transeg[export]'")


def _exports(subject: Subject, *forms: str) -> None:
    graph, reference = (_segmentation if subject.component.kind == "segmenter" else _translation)(subject)
    writer = GraphWriter(graph.eval())
    for form in forms:
        path = subject.scratch() / FILES[form]
        writer.write(form, path)
        _compare(subject, form, graph, reference, open_graph(form, path, graph.inputs))


def _compare(subject: Subject, form: str, graph: Graph, reference: Reference, run: Run) -> None:
    for count, height, width in SIZES:
        image = torch.rand(count, 3, height, width, generator=torch.Generator().manual_seed(count))
        inputs = image, *graph.draws.of(torch.arange(count), height, width)
        with torch.inference_mode():
            expected, found = reference(*inputs), run(inputs)
        mend = "Let forward depend on shapes through tensors alone: no int(), no `if` on sizes, no loops over pixels."
        subject.expect(
            found.shape == expected.shape,
            f"{form} to give {tuple(expected.shape)} for {count} images of {height} x {width}",
            tuple(found.shape),
            mend,
        )
        # norms of single images over the few pixels of a deepest stage make rounding larger: 2e-4 in nnunet
        gap = (found - expected).abs().max().item()
        subject.expect(gap <= TOLERANCE, f"a difference of {TOLERANCE:g} at most in {form}", f"{gap:.3g}", mend)


def _segmentation(subject: Subject) -> tuple[Graph, Reference]:
    segmenter = subject.build(3, 1).eval()
    graph = Graph(None, SegmentationGraph(fold_batch_norms(segmenter, 3), 3, sigmoid=True), 3)
    return graph, lambda image: segment(segmenter, image * 2 - 1)[0].sigmoid()


def _translation(subject: Subject) -> tuple[Graph, Reference]:
    generator = subject.build(3, 3).eval()
    direction = generator.directions[-1]
    try:
        draws = record_draws(generator, 3, direction)
    except UsageError as error:
        raise SkipTest(str(error)) from error
    graph = Graph(TranslationGraph(generator, direction, Conditioning("image", 2, 3), draws), None, 3)
    return graph, lambda *inputs: graph(*inputs)


CHECKS = (exports_to_torchscript, exports_to_torch_export_and_onnx)
SLOW = (exports_to_torch_export_and_onnx,)
