"""ONNX files with smaller numbers, by ONNX Runtime's own tools."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
from torch import Tensor

IN_INT8 = ["Conv", "ConvTranspose", "MatMul", "Gemm", "Add", "Concat", "MaxPool", "Relu"]
"""What computes in 8 bits, and what lies between; a sigmoid or softmax at the end needs more than 256 steps."""


def write_fp16(source: Path, path: Path) -> None:
    """Weights and activations in float16; inputs and outputs stay float32."""
    import onnx
    from onnxruntime.transformers.float16 import convert_float_to_float16

    model = convert_float_to_float16(onnx.load(source), keep_io_types=True)
    made: set[str] = set()
    # the converter casts a tensor anew for each reader, under one name, which is not a valid file
    for node in list(model.graph.node):
        if made.issuperset(node.output):
            model.graph.node.remove(node)
        made.update(node.output)
    onnx.save(model, path)


def write_int8(source: Path, path: Path, inputs: Sequence[str], samples: Iterable[Sequence[Tensor]]) -> None:
    """Convolutions and what lies between them in 8 bits, with ranges from what calibration images give.

    Static quantization with a scale for each channel of the weights (Jacob et al., arXiv:1712.05877; Krishnamoorthi,
    arXiv:1806.08342). Weights use 7 bits of 8, since processors without VNNI would overflow otherwise.

    Args:
        source: the file in float32.
        path: of the new one.
        inputs: names of the graph's inputs.
        samples: calibration images as these inputs.
    """
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Reader(CalibrationDataReader):
        def __init__(self) -> None:
            self._rows = _rows(inputs, samples)

        def get_next(self) -> dict[str, np.ndarray] | None:
            return next(self._rows, None)

    with tempfile.TemporaryDirectory() as folder:
        prepared = Path(folder) / "prepared.onnx"
        logging.getLogger().disabled, before = True, logging.getLogger().disabled  # it advises what is done here
        try:
            quant_pre_process(source, prepared, skip_symbolic_shape=True)
            quantize_static(
                prepared,
                path,
                Reader(),
                quant_format=QuantFormat.QDQ,
                per_channel=True,
                reduce_range=True,
                activation_type=QuantType.QUInt8,
                weight_type=QuantType.QInt8,
                op_types_to_quantize=IN_INT8,
            )
        finally:
            logging.getLogger().disabled = before


def _rows(inputs: Sequence[str], samples: Iterable[Sequence[Tensor]]) -> Iterator[dict[str, np.ndarray]]:
    for tensors in samples:
        yield {name: tensor.numpy() for name, tensor in zip(inputs, tensors, strict=True)}
