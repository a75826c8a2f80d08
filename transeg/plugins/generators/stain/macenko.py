"""Two stains that mix in an image, found and exchanged after Macenko et al., "A Method for Normalizing Histology Slides
for Quantitative Analysis", ISBI 2009, doi:10.1109/ISBI.2009.5193250.

Everything is done for a batch at once, in shapes that no pixel changes, and with what a graph can be made of: the
eigenvector comes from the characteristic polynomial.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

LIGHT = 240.0
"""Intensity, of 255, that is seen through glass."""
EXTREME = 0.01
"""Share of the tissue beyond the angle of either stain, and of pixels with more than what counts as the most of it."""
LEAST_SINE = 0.02
"""Of the angle between two stains; below, there is but one."""
UNSEEN = (0.5626, 0.7201, 0.4062, 0.2159, 0.8012, 0.5581, 1.9705, 1.0308)
"""What is known of a target until one has been seen: the reference that the method is published with."""


def optical_density(image: Tensor) -> Tensor:
    """``(N, 3, H, W)`` in [-1, 1] -> ``(N, 3, P)``, about 0 for glass."""
    return -torch.log((image.flatten(2) * 127.5 + 128.5) / LIGHT)


def describe_stains(image: Tensor, tissue: Tensor) -> tuple[Tensor, Tensor]:
    """Haematoxylin, eosin, and how strong they are.

    Args:
        image: ``(N, 3, H, W)`` in [-1, 1].
        tissue: ``(N, P)`` bool, the pixels that tell stains.

    Returns:
        ``(N, 8)``: two unit vectors of optical density, then the most that there is of each; and ``(N,)`` bool, whether
        there are two stains at all.
    """
    density = optical_density(image)
    haematoxylin, eosin, two = _find_stains(density, tissue)
    amount = _unmixed(density, haematoxylin, eosin)
    everywhere = torch.ones_like(tissue)
    return torch.cat((haematoxylin, eosin, quantile(amount, 1 - EXTREME, everywhere)), 1), two


def exchange_stains(image: Tensor, own: Tensor, wanted: Tensor) -> Tensor:
    """Images ``(N, 3, H, W)`` in [-1, 1] with the wanted stains ``(N, 8)`` in the place of their own, as strong."""
    amount = _unmixed(optical_density(image), own[:, :3], own[:, 3:6])
    amount = amount / own[:, 6:, None].clamp(min=1e-6) * wanted[:, 6:, None]
    first, second = wanted[:, :6, None].chunk(2, 1)
    density = first * amount[:, :1] + second * amount[:, 1:]
    return (LIGHT * torch.exp(-density) / 127.5 - 1).view_as(image)


def _find_stains(density: Tensor, tissue: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Two stains, ``(N, 3)`` each, and whether they are two: the outermost in the plane in which densities lie."""
    weight = tissue.to(density.dtype)[:, None]
    count = weight.sum(-1, keepdim=True).clamp(min=2)
    mean = (density * weight).sum(-1, keepdim=True) / count
    apart = (density - mean) * weight
    normal = _least_direction((apart[:, :, None] * apart[:, None]).sum(-1) / (count - 1))
    mean = mean[:, :, 0]  # angles from it do not wrap: it lies between the stains
    along = F.normalize(mean - (mean * normal).sum(1, keepdim=True) * normal, dim=1)
    across = torch.linalg.cross(normal, along)
    angle = torch.atan2(_along(across, density), _along(along, density))[:, None]
    least, most = (quantile(angle, share, tissue) for share in (EXTREME, 1 - EXTREME))
    one, other = (along * end.cos() + across * end.sin() for end in (least, most))
    bluer = one[:, :1] > other[:, :1]  # haematoxylin takes more of the red light
    return torch.where(bluer, one, other), torch.where(bluer, other, one), (most - least).sin()[:, 0] > LEAST_SINE


def _unmixed(density: Tensor, first: Tensor, second: Tensor) -> Tensor:
    """How much of two stains ``(N, 3)`` there is in each pixel, by least squares: ``(N, 2, P)``."""
    along_first, along_second = _along(first, density), _along(second, density)
    cosine = (first * second).sum(1, keepdim=True)
    parts = torch.stack((along_first - cosine * along_second, along_second - cosine * along_first), 1)
    return parts / (1 - cosine.square()).clamp(min=LEAST_SINE**2)[:, None]


def _along(direction: Tensor, density: Tensor) -> Tensor:
    """How far densities ``(N, 3, P)`` go in a direction ``(N, 3)``: ``(N, P)``; no product of matrices, which would be
    of 16 bits where training is.
    """
    return (direction[:, :, None] * density).sum(1)


def quantile(values: Tensor, share: float, counted: Tensor) -> Tensor:
    """The value below which a share of those that count lies, between two of them where it must.

    Args:
        values: ``(N, K, P)``.
        share: in [0, 1].
        counted: ``(N, P)``.

    Returns:
        ``(N, K)``.
    """
    ascending = torch.where(counted[:, None], values, torch.full_like(values, math.inf)).sort(-1).values
    last = (counted.sum(-1) - 1).clamp(min=0)
    place = share * last.to(values.dtype)
    below = place.floor().long()
    ends = (below, torch.minimum(below + 1, last))
    low, high = (ascending.gather(-1, end[:, None, None].expand(-1, values.shape[1], -1))[:, :, 0] for end in ends)
    return torch.lerp(low, high, (place - below)[:, None].expand_as(low))


def _least_direction(matrix: Tensor) -> Tensor:
    """The unit eigenvector of the least eigenvalue of symmetric matrices: ``(N, 3, 3) -> (N, 3)``.

    Eigenvalues by Smith, "Eigenvalues of a Symmetric 3x3 Matrix", Communications of the ACM 1961. The product of the
    matrix less either of the other two eigenvalues leaves of any vector what lies along that of the least.
    """
    one = torch.eye(3, device=matrix.device, dtype=matrix.dtype)
    middle = matrix.diagonal(dim1=1, dim2=2).mean(1)[:, None, None]
    spread = ((matrix - middle * one).square().sum((1, 2), keepdim=True) / 6).sqrt().clamp(min=1e-12)
    a, b, c = ((matrix - middle * one) / spread).unbind(1)
    half = ((a * torch.linalg.cross(b, c)).sum(1) / 2).clamp(-1, 1)[:, None, None]
    turn = torch.acos(half) / 3
    greatest = middle + 2 * spread * torch.cos(turn)
    second = middle + 2 * spread * torch.cos(turn - 2 * math.pi / 3)
    columns = ((matrix - greatest * one)[:, :, :, None] * (matrix - second * one)[:, None]).sum(2)
    longest = columns.square().sum(1).argmax(1)
    return F.normalize(columns.gather(2, longest[:, None, None].expand(-1, 3, 1))[:, :, 0], dim=1, eps=1e-30)
