"""A dataset with a writer."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Literal
from urllib.parse import quote, unquote

import numpy as np

from transeg.core.errors import DataError
from transeg.core.files import replacing, write_text
from transeg.core.interfaces import IGNORE, About, Dataset, Origin, Sample, Writer, Written

SPLITS = ("train", "val", "test")


class NpzWriter(Writer):
    """Writes `SPLIT/NAME.npz`, and beside them `about.json`."""

    def __init__(self, root: Path, about: About) -> None:
        self._root = root
        self._about = about

    def has(self, name: str, split: str) -> bool:
        return self._path(name, split).exists()

    def add(self, sample: Sample, split: str) -> None:
        if sample.image.shape[2] != self._about.channels:
            raise DataError(f"{sample.name} has {sample.image.shape[2]} channels, not {self._about.channels}.")
        if sample.mask is None:
            raise DataError(f"{sample.name} has no mask.")
        if sample.mask[sample.mask != IGNORE].max(initial=0) >= len(self._about.classes):
            raise DataError(f"{sample.name} has a class above the {len(self._about.classes)} that there are.")
        with replacing(self._path(sample.name, split)) as unfinished, unfinished.open("wb") as file:
            np.savez_compressed(file, image=sample.image, mask=sample.mask, group=np.array(sample.group))

    def finish(self, samples: Sequence[Written]) -> None:
        write_text(self._root / "about.json", json.dumps({"classes": self._about.classes}))

    def _path(self, name: str, split: str) -> Path:
        return self._root / split / f"{quote(name, safe=' ')}.npz"


class NpzFolder(Dataset):
    """`train`, `val` and `test` with an archive for each image: `image` (H, W, C), `mask` (H, W) and its `group`.

    `about.json` beside them names the classes, and `toolkit data convert` writes all of it.

    Args:
        root: the folder.
        split: `train`, `val`, `test` or `all`.
    """

    writer = NpzWriter

    def __init__(self, root: Path, split: Literal["train", "val", "test", "all"]) -> None:
        about = Path(root) / "about.json"
        if not about.is_file():
            raise ValueError(f"{root} has no about.json, which names the classes")
        self.classes = tuple(json.loads(about.read_text(encoding="utf-8"))["classes"])
        folders = SPLITS if split == "all" else (split,)
        self._files = [path for folder in folders for path in sorted((Path(root) / folder).glob("*.npz"))]
        self.channels = self[0].image.shape[2] if self._files else 3

    def __len__(self) -> int:
        return len(self._files)

    def __getitem__(self, index: int) -> Sample:
        path = self._files[index]
        try:
            with np.load(path) as found:
                return Sample(found["image"], found["mask"], unquote(path.stem), str(found["group"]))
        except (OSError, ValueError, KeyError) as error:
            raise DataError(f"{path} cannot be read: {error}.", str(path)) from error

    def origin_of(self, index: int) -> Origin:
        return Origin((self._files[index],), "", type(self))
