"""In which numbers a training computes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from transeg.core.experiment.schema import Precision

HALF = {"bf16": torch.bfloat16, "fp16": torch.float16}
"""Precisions in which networks compute in 16 bits, wherever autocast takes that to be safe."""

DESCRIPTION = Path("/proc/cpuinfo")

UNITS = {
    "bf16": {"avx512_bf16", "amx_bf16", "bf16"},
    "fp16": {"avx512_fp16", "amx_fp16", "asimdhp"},
}
"""What Linux calls the parts of a CPU, of x86 or ARM, that compute in 16 bits."""


@contextmanager
def matmul_precision(precision: Precision) -> Iterator[None]:
    """Whether a GPU multiplies float32 in TensorFloat-32, for as long as this lasts: the flags are the process's."""
    before = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    shorter = precision == "tf32"
    torch.set_float32_matmul_precision("high" if shorter else "highest")
    torch.backends.cudnn.allow_tf32 = shorter
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before[0])
        torch.backends.cudnn.allow_tf32 = before[1]


def precision_warning(precision: Precision, device: torch.device) -> str:
    """What a user should know who chose a precision for a CPU that emulates it; '' where there is nothing to say.

    Args:
        precision: the chosen one.
        device: where the training runs.
    """
    if device.type != "cpu" or precision not in UNITS or not DESCRIPTION.exists():
        return ""
    if UNITS[precision] & set(DESCRIPTION.read_text(encoding="utf-8").split()):
        return ""
    return f"This CPU cannot compute in {precision} and emulates it, many times slower than fp32; say --precision fp32."
