"""How good translated images are: beside their true counterparts, and as a set beside real images."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from torchmetrics.image.fid import FrechetInceptionDistance
    from torchmetrics.image.kid import KernelInceptionDistance

SIGMA, RADIUS = 1.5, 5
"""Of SSIM's Gaussian window: pixels within the radius count."""
SUBSET = 1000
"""Images in each of the subsets over which KID is averaged, as published; all at once where there are no more."""


def paired_image_metrics(made: Tensor, real: Tensor) -> dict[str, float]:
    """SSIM, PSNR and L1 of an image.

    Args:
        made: ``(C, H, W)`` in [-1, 1].
        real: the same.

    Returns:
        ``ssim`` (Wang et al., IEEE TIP 2004), ``psnr`` in decibels, and ``l1``, the mean absolute difference: all of
        intensities in [0, 1], whatever an image's own minimum and maximum are. At most 100 decibels, which is more than
        16 bits can tell.
    """
    from torchmetrics.functional.image import peak_signal_noise_ratio

    a, b = ((image.float() + 1) / 2 for image in (made, real))
    psnr = peak_signal_noise_ratio(a, b, data_range=1.0)
    return {"ssim": structural_similarity(a, b), "psnr": min(100.0, float(psnr)), "l1": float((a - b).abs().mean())}


def structural_similarity(a: Tensor, b: Tensor) -> float:
    """SSIM in a Gaussian window, averaged over the places where the whole window lies in the image.

    At the border, torchmetrics compares with mirrored pixels that nobody has made; scikit-image and MONAI
    leave the border out.

    Args:
        a: ``(C, H, W)`` in [0, 1].
        b: the same.

    Returns:
        NaN where a side is shorter than the window, 11 pixels.
    """
    from torchmetrics.functional.image import structural_similarity_index_measure

    if min(a.shape[1:]) <= 2 * RADIUS:
        return math.nan
    found = structural_similarity_index_measure(a[None], b[None], sigma=SIGMA, data_range=1.0, return_full_image=True)
    inside = found[1][..., RADIUS:-RADIUS, RADIUS:-RADIUS]
    return float(inside.mean())


def image_set_metrics(made: Tensor, real: Tensor) -> dict[str, float]:
    """FID and KID of two sets of images, from their features.

    Args:
        made: ``(N, D)``.
        real: ``(M, D)``; both sets have two images at least.

    Returns:
        ``fid`` (Heusel et al., arXiv:1706.08500), which is too large for few images; ``kid`` (Binkowski et al.,
        arXiv:1801.01401), which is not, and may be below zero.
    """
    from torchmetrics.image.fid import FrechetInceptionDistance
    from torchmetrics.image.kid import KernelInceptionDistance

    size = min(len(made), len(real), SUBSET)
    subsets = 1 if size == max(len(made), len(real)) else 100
    metrics: dict[str, Callable[[nn.Module], FrechetInceptionDistance | KernelInceptionDistance]] = {
        "fid": lambda given: FrechetInceptionDistance(feature=given),
        "kid": lambda given: KernelInceptionDistance(feature=given, subsets=subsets, subset_size=size),
    }
    values = {}
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():  # the subsets are drawn at random
        warnings.filterwarnings("ignore", message=".*save all extracted features")
        torch.default_generator.manual_seed(0)  # the CPU's alone: torch.manual_seed would begin a GPU's anew, too
        for name, make in metrics.items():
            metric = make(_Features(made.shape[1]))
            metric.update(made.double(), real=False)
            metric.update(real.double(), real=True)
            value = metric.compute()
            values[name] = float(value[0] if isinstance(value, tuple) else value)
    return values


class _Features(nn.Module):
    """Passes features on, where torchmetrics expects the network that makes them."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.num_features = size

    def forward(self, features: Tensor) -> Tensor:
        return features
