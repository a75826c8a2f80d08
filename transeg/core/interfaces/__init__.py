"""What a dataset, a segmenter, a loss, a generator and a strategy must be.

Images are ``(H, W, C)`` NumPy arrays inside a dataset and ``(N, C, H, W)`` float tensors scaled to [-1, 1]
everywhere else. Masks are integer label maps with background as class 0 and :data:`IGNORE` where nothing is known.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from transeg.core.conventions import IGNORE, Condition
from transeg.core.interfaces.strategies import NetworkKind, Stage, Strategy, Validation, View, stage_of

if TYPE_CHECKING:
    from transeg.core.interfaces.datasets import About, Dataset, Fault, Origin, Region, Sample, Writer, Written
    from transeg.core.interfaces.generators import Batch, Generator, Noise, Optimization, Phase, send
    from transeg.core.interfaces.losses import DistillationLoss, Loss
    from transeg.core.interfaces.segmenters import Segmenter

_MODULES = {
    "datasets": ("About", "Dataset", "Fault", "Origin", "Region", "Sample", "Writer", "Written"),
    "generators": ("Batch", "Generator", "Noise", "Optimization", "Phase", "send"),
    "losses": ("DistillationLoss", "Loss"),
    "segmenters": ("Segmenter",),
}
"""Imported when they are asked for: strategies are known, and said no to, before PyTorch is imported."""

__all__ = [
    "IGNORE",
    "About",
    "Batch",
    "Condition",
    "Dataset",
    "DistillationLoss",
    "Fault",
    "Generator",
    "Loss",
    "NetworkKind",
    "Noise",
    "Optimization",
    "Origin",
    "Phase",
    "Region",
    "Sample",
    "Segmenter",
    "Stage",
    "Strategy",
    "Validation",
    "View",
    "Writer",
    "Written",
    "send",
    "stage_of",
]


def __getattr__(name: str) -> Any:
    for module, names in _MODULES.items():
        if name in names:
            return getattr(import_module(f"{__name__}.{module}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
