"""The phantom as a dataset."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Literal

import numpy as np

from transeg.core.interfaces import Dataset, Sample
from transeg.plugins.datasets.phantom.appearance import render_clean, render_endoscopic
from transeg.plugins.datasets.phantom.scene import draw_scene, render_view

SPLITS = ("train", "val", "test")
SHARES = {"train": 1.0, "val": 0.1, "test": 0.2}


class Phantom(Dataset):
    """A procedural colon with polyps, rendered on demand: no file, no download.

    The two domains never show the same scene, and neither do the splits.

    Args:
        root: not read.
        split: `train`, `val`, `test` or `all`.
        domain: `clean`, a smooth render with exact masks; or `scope`, what an endoscope makes of it: specular
            highlights, vignette, colour cast, texture, blur and noise.
        count: images in the split `train`; `val` has a tenth and `test` a fifth of it.
        side: height and width in pixels.
        seed: of all scenes.
        depth: whether samples carry the distance from the camera, in tube radii.
    """

    classes = ("background", "polyp")
    domains = ("clean", "scope")

    def __init__(
        self,
        root: Path | None,
        split: Literal["train", "val", "test", "all"],
        *,
        domain: Literal["clean", "scope"] = "clean",
        count: int = 200,
        side: int = 96,
        seed: int = 0,
        depth: bool = False,
    ) -> None:
        if split != "all" and split not in SPLITS:
            raise ValueError(f"the phantom has the splits {', '.join(SPLITS)} and all, not {split!r}")
        if count < 1 or side < 16:
            raise ValueError(f"the phantom needs at least one image of 16 pixels, not {count} of {side}")
        chosen = SPLITS if split == "all" else (split,)
        self._keys = [(part, index) for part in chosen for index in range(max(1, round(count * SHARES[part])))]
        self._domain = domain
        self._side = side
        self._seed = seed
        self._depth = depth

    def __len__(self) -> int:
        return len(self._keys)

    def __getitem__(self, index: int) -> Sample:
        return _render(self._seed, self._domain, *self._keys[index], self._side, self._depth)

    def size_of(self, _index: int) -> tuple[int, int]:
        return self._side, self._side


@lru_cache(maxsize=4096)
def _render(seed: int, domain: str, split: str, index: int, side: int, depth: bool) -> Sample:
    """One image; the last 4096 are kept for all that a process does, as a search trains on the same again and again."""
    rng = np.random.default_rng((seed, Phantom.domains.index(domain), SPLITS.index(split), index))
    seen = render_view(draw_scene(rng), side)
    image = (render_clean if domain == "clean" else render_endoscopic)(seen, rng)
    name = f"{domain}-{split}-{index:04d}"
    return Sample(
        image=(image * 255).round().astype(np.uint8),
        mask=seen.polyp.astype(np.uint8),
        name=name,
        group=name,
        depth=seen.distance.astype(np.float32) if depth else None,
    )
