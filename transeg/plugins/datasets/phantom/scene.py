"""The geometry of a colon with polyps, and what a camera in it sees.

The wall is a bent tube with haustral folds around the viewing axis; polyps are balls on it. Lengths are in radii of the
tube.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

FIELD_OF_VIEW = np.radians(120.0)
MOST_TURNED = 40.0
"""Degrees between the camera's axis and the tube's."""
NEAR, FAR = 0.1, 10.0
"""Distances between which a ray is followed."""
STEPS, BISECTIONS = 48, 6


@dataclass(frozen=True)
class Scene:
    """One colon.

    Attributes:
        shift: of the tube's axis from the camera, ``(2,)``.
        bend: growth of that shift with the square of the depth, ``(2,)``.
        lobes: strength and phase of the three-lobed cross-section.
        folds: height, distance and phase of the folds.
        centres: of the polyps, ``(P, 3)``.
        radii: of the polyps, ``(P,)``.
        gaze: turns the camera's axes into the scene's, ``(3, 3)``; the tube runs along z.
    """

    shift: np.ndarray
    bend: np.ndarray
    lobes: tuple[float, float]
    folds: tuple[float, float, float]
    centres: np.ndarray
    radii: np.ndarray
    gaze: np.ndarray


def draw_scene(rng: np.random.Generator) -> Scene:
    """A random colon with one to three polyps."""
    shift, bend = rng.uniform(-0.35, 0.35, 2), rng.uniform(-0.06, 0.06, 2)
    lobes = (float(rng.uniform(0.05, 0.15)), float(rng.uniform(0, 2 * np.pi)))
    folds = (float(rng.uniform(0.12, 0.25)), float(rng.uniform(0.9, 1.5)), float(rng.uniform(0, 2 * np.pi)))
    count = int(rng.integers(1, 4))
    depth, angle, radii = rng.uniform(0.6, 1.8, count), rng.uniform(0, 2 * np.pi, count), rng.uniform(0.3, 0.62, count)
    axis = shift[None] + bend[None] * depth[:, None] ** 2
    reach = 1 - rng.uniform(-0.2, 0.5, count) * radii  # from flat on the wall to nearly free of it
    centres = np.column_stack((axis + reach[:, None] * np.column_stack((np.cos(angle), np.sin(angle))), depth))
    gaze = _turned_towards(axis[0] + 0.5 * reach[0] * np.array([np.cos(angle[0]), np.sin(angle[0])]), rng)
    return Scene(shift, bend, lobes, folds, centres.astype(np.float32), radii.astype(np.float32), gaze)


def _turned_towards(place: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Look more or less away from the tube's axis, towards a place in it."""
    pitch, yaw = np.radians(rng.uniform(0, MOST_TURNED)) * np.array([place[1], place[0]]) / np.linalg.norm(place)
    return _rotation(-pitch, yaw).astype(np.float32)


def _rotation(about_x: float, about_y: float) -> np.ndarray:
    """``(3, 3)``: a turn about x, then one about y, by way of their quaternion, to the last bit as SciPy has it."""
    (sin_x, sin_y), (cos_x, cos_y) = np.sin((about_x / 2, about_y / 2)), np.cos((about_x / 2, about_y / 2))
    x, y, z, w = cos_y * sin_x, sin_y * cos_x, -sin_y * sin_x, cos_y * cos_x
    return np.array(
        [
            [x * x - y * y - z * z + w * w, 2 * (x * y - z * w), 2 * (x * z + y * w)],
            [2 * (x * y + z * w), -x * x + y * y - z * z + w * w, 2 * (y * z - x * w)],
            [2 * (x * z - y * w), 2 * (y * z + x * w), -x * x - y * y + z * z + w * w],
        ]
    )


@dataclass(frozen=True)
class CameraView:
    """What each pixel sees, ``(H, W, ...)`` float32.

    Attributes:
        points: where its ray ends, ``(H, W, 3)``, camera at the origin, z forward.
        normals: of the surface there, towards the camera.
        distance: from the camera.
        polyp: whether it is a polyp, bool.
    """

    points: np.ndarray
    normals: np.ndarray
    distance: np.ndarray
    polyp: np.ndarray


def render_view(scene: Scene, size: int) -> CameraView:
    """What a camera sees in a square image."""
    grid = ((np.arange(size, dtype=np.float32) + 0.5) / size * 2 - 1) * np.float32(np.tan(FIELD_OF_VIEW / 2))
    x, y = np.meshgrid(grid, grid)
    rays = np.stack((x, y, np.ones_like(x)), axis=-1) @ scene.gaze.T
    rays /= np.linalg.norm(rays, axis=-1, keepdims=True)
    points = rays * _first_hit(scene, rays.reshape(-1, 3)).reshape(size, size, 1)
    wall, polyps = _wall(scene, points), _polyps(scene, points)
    return CameraView(points, _normals(scene, points), np.linalg.norm(points, axis=-1), polyps > wall)


def _first_hit(scene: Scene, rays: np.ndarray) -> np.ndarray:
    """Distance ``(R,)`` at which each ray ``(R, 3)`` of unit length enters tissue: march until it has, then bisect."""
    distances = np.geomspace(NEAR, FAR, STEPS, dtype=np.float32)
    step = np.full(len(rays), STEPS - 1)
    going = np.arange(len(rays))
    for index, distance in enumerate(distances[1:-1], start=1):
        hit = _depth_inside(scene, rays[going] * distance) >= 0
        step[going[hit]] = index
        going = going[~hit]
    low, high = distances[step - 1], distances[step]
    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        hit = _depth_inside(scene, rays * middle[:, None]) >= 0
        low, high = np.where(hit, low, middle), np.where(hit, middle, high)
    return high


def _depth_inside(scene: Scene, points: np.ndarray) -> np.ndarray:
    """How deep points ``(..., 3)`` lie inside tissue; negative in the lumen."""
    return np.maximum(_wall(scene, points), _polyps(scene, points))


def _wall(scene: Scene, points: np.ndarray) -> np.ndarray:
    z = points[..., 2]
    x = points[..., 0] - scene.shift[0].astype(np.float32) - scene.bend[0].astype(np.float32) * z * z
    y = points[..., 1] - scene.shift[1].astype(np.float32) - scene.bend[1].astype(np.float32) * z * z
    angle = np.arctan2(y, x)
    height, period, phase = scene.folds
    strength, turn = scene.lobes
    lobes = np.cos(3 * angle + np.float32(turn))
    crest = np.maximum(np.cos(np.float32(2 * np.pi / period) * z + np.float32(phase)), 0) ** 4
    return np.hypot(x, y) - (1 - height * crest * (1 + 0.4 * lobes) + strength * lobes)


def _polyps(scene: Scene, points: np.ndarray) -> np.ndarray:
    depth = np.full(points.shape[:-1], -np.inf, dtype=np.float32)
    for centre, radius in zip(scene.centres, scene.radii, strict=True):
        x, y, z = (points[..., axis] - centre[axis] for axis in range(3))
        np.maximum(depth, radius - np.sqrt(x * x + y * y + z * z), out=depth)
    return depth


def _normals(scene: Scene, points: np.ndarray) -> np.ndarray:
    step = np.float32(2e-3)
    here = _depth_inside(scene, points)
    gradient = np.stack(
        [_depth_inside(scene, points + step * axis) - here for axis in np.eye(3, dtype=np.float32)], axis=-1
    )
    return -gradient / (np.linalg.norm(gradient, axis=-1, keepdims=True) + 1e-9)
