"""What a dataset, a segmenter, a loss and a generator must be.

Images are ``(H, W, C)`` NumPy arrays inside a dataset and ``(N, C, H, W)`` float tensors scaled to [-1, 1]
everywhere else. Masks are integer label maps with background as class 0 and :data:`IGNORE` where nothing is known.
"""

from transeg.core.conventions import IGNORE, Condition
from transeg.core.interfaces.datasets import About, Dataset, Fault, Origin, Region, Sample, Writer, Written
from transeg.core.interfaces.generators import Batch, Generator, Noise, Optimization, Phase
from transeg.core.interfaces.losses import DistillationLoss, Loss
from transeg.core.interfaces.segmenters import Segmenter

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
    "Noise",
    "Optimization",
    "Origin",
    "Phase",
    "Region",
    "Sample",
    "Segmenter",
    "Writer",
    "Written",
]
