"""Two looks of the same colon: a clean render, and the picture of a scope."""

from __future__ import annotations

import numpy as np

from transeg.plugins.datasets.phantom.scene import CameraView


def render_clean(view: CameraView, rng: np.random.Generator) -> np.ndarray:
    """Smooth, evenly coloured surfaces under a lamp at the camera: ``(H, W, 3)`` in [0, 1]."""
    wall = np.array([0.86, 0.55, 0.50]) + rng.normal(0, 0.03, 3)
    polyp = np.array([0.80, 0.36, 0.33]) + rng.normal(0, 0.03, 3)
    colour = np.where(view.polyp[..., None], polyp, wall)
    facing, falloff = _light(view)
    return np.clip(colour * (0.12 + 1.5 * facing**0.8 * falloff)[..., None], 0, 1)


def render_endoscopic(view: CameraView, rng: np.random.Generator) -> np.ndarray:
    """Mottled mucosa with vessels and wet highlights, through a lens with vignette, colour cast, blur and noise."""
    wall = np.array([0.80, 0.46, 0.30]) + rng.normal(0, 0.03, 3)
    polyp = np.array([0.78, 0.34, 0.22]) + rng.normal(0, 0.03, 3)
    colour = np.where(view.polyp[..., None], polyp, wall)
    mottle = 1 + 0.06 * _waves(view.points, rng, 24, 3.0) + 0.05 * _waves(view.points, rng, 24, 14.0)
    vessels = np.exp(-((_waves(view.points, rng, 12, 2.2) / 0.10) ** 2)) * np.where(view.polyp, 0.09, 0.30)
    colour = colour * mottle[..., None] * (1 - vessels[..., None] * np.array([0.5, 1.0, 0.9]))
    facing, falloff = _light(view)
    image = colour * (0.03 + 2.0 * facing**1.2 * falloff)[..., None]
    image += 1.6 * _highlights(view, rng, falloff)[..., None]
    image *= np.array([1.05, 0.88, 0.62]) * rng.uniform(0.9, 1.1, 3) * rng.uniform(0.85, 1.2)
    return _through_lens(image, rng)


def _light(view: CameraView) -> tuple[np.ndarray, np.ndarray]:
    """How squarely each surface faces the lamp, and how far its light has spread."""
    towards = -view.points / view.distance[..., None]
    return np.abs((view.normals * towards).sum(-1)), 1 / (1 + 0.35 * view.distance**2)


def _highlights(view: CameraView, rng: np.random.Generator, falloff: np.ndarray) -> np.ndarray:
    """The lamp's mirror image on a wet, uneven surface."""
    ripple = np.stack([_waves(view.points, rng, 16, 9.0) for _ in range(3)], axis=-1)
    normals = view.normals + 0.18 * ripple
    normals /= np.linalg.norm(normals, axis=-1, keepdims=True)
    towards = -view.points / view.distance[..., None]
    mirror = np.abs((normals * towards).sum(-1)) ** 60
    return np.clip(2.2 * mirror * falloff - 0.25, 0, 1)


def _through_lens(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    from scipy.ndimage import gaussian_filter

    size = len(image)
    y, x = np.mgrid[-1 : 1 : size * 1j, -1 : 1 : size * 1j]
    image = image * np.clip(1.25 - 0.55 * (x * x + y * y), 0, 1)[..., None]
    blur = rng.uniform(0.4, 0.9) * size / 96
    image = gaussian_filter(image, (blur, blur, 0))
    image = np.clip(image, 0, None) ** 0.85 + rng.normal(0, 0.015, image.shape)
    return np.clip(image, 0, 1)


def _waves(points: np.ndarray, rng: np.random.Generator, count: int, frequency: float) -> np.ndarray:
    """Smooth noise of unit variance in space: a sum of plane waves, so that it sticks to surfaces."""
    vectors = rng.normal(0, frequency, (count, 3)).astype(np.float32)
    phases = rng.uniform(0, 2 * np.pi, count).astype(np.float32)
    return np.sin(points @ vectors.T + phases).sum(-1) * np.float32(np.sqrt(2 / count))
