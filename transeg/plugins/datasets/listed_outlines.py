"""Datasets of which one file holds the outlines of many images."""

from __future__ import annotations

import os
import re
from abc import abstractmethod
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any, ClassVar, Literal

import numpy as np

from transeg.core.data.file_dataset import FileDataset, Pair, choose_split, group_by_folder
from transeg.core.data.images import EXTENSIONS
from transeg.core.data.listing import IMAGES, find_folder, is_left_by_system, natural_sort_key, plain_name
from transeg.core.data.splits import FOLDERS, RATIO
from transeg.core.errors import DataError
from transeg.core.interfaces import IGNORE, Fault, Origin
from transeg.plugins.datasets.outlines import ANNOTATIONS, Outlined, fill_objects

SPLIT_NAMES = {**FOLDERS, "valid": "val"}
"""Words for splits in the names of files and folders, and the split."""


@dataclass(frozen=True, slots=True)
class ListedImage:
    """What a file says of an image.

    Attributes:
        name: of its file, maybe with folders.
        size: height and width; None where the file does not say.
        split: that it belongs to; '' where the file does not say.
        annotations: its objects as the file has them, as values that can be hashed and pickled.
    """

    name: str
    size: tuple[int, int] | None
    split: str
    annotations: tuple[Any, ...]


@dataclass(frozen=True)
class ListedPair(Pair):
    """An image with what its file says of it; ``mask`` is that file."""

    annotations: tuple[Any, ...] = ()
    size: tuple[int, int] | None = None


class ListedOutlines(FileDataset):
    """Images anywhere in a folder, and a file that lists them with their outlines, or one for each split.

    Args:
        root: the folder.
        split: `train`, `val`, `test` or `all`.
        annotations: the file, from the folder on; None to look for it.
        classes: names, background first; None for those in the files.
        ignore: name of what is unknown; None for nothing.
        channels: of the images.
        ratio: shares of train, val and test.
        seed: of the shuffle before images are shared out.

    Raises:
        ValueError: there is no such file, or there are several that are not for different splits; or there are more
            classes than a mask can number.
        DataError: a file cannot be used.
    """

    reads_pairs_alone = True
    ending: ClassVar[str]

    @classmethod
    def is_divided(cls, root: Path, options: Mapping[str, Any], /) -> bool:
        try:
            files = _find_lists(root, cls.ending, options.get("annotations"))
            pairs, _ = _pairs(root, {file: cls.parsed(file)[1] for file in files}, files)
        except (ValueError, DataError):
            return True  # which is told when it is built
        return all(pair.split for pair in pairs)

    def __init__(
        self,
        root: Path,
        split: Literal["train", "val", "test", "all"],
        *,
        annotations: str | None = None,
        classes: tuple[str, ...] | None = None,
        ignore: str | None = "__ignore__",
        channels: int = 3,
        ratio: tuple[float, float, float] = RATIO,
        seed: int = 0,
    ) -> None:
        files = _find_lists(root, self.ending, annotations)
        parsed = {file: self.parsed(file) for file in files}
        everything, faults = _pairs(root, {file: images for file, (_, images) in parsed.items()}, files)
        found = dict.fromkeys(name for names, _ in parsed.values() for name in names)
        self.channels = channels
        self.ignore = ignore
        self.classes = classes or ("background", *(name for name in found if name not in ("background", ignore)))
        if not 2 <= len(self.classes) <= IGNORE:
            raise ValueError(
                f"{root} has {len(self.classes) - 1} classes of objects; 1 to {IGNORE - 1} can be told apart"
            )
        super().__init__(choose_split(everything, split, lists=None, where="", ratio=ratio, seed=seed), faults)

    @classmethod
    def parsed(cls, path: Path) -> tuple[list[str], list[ListedImage]]:
        """What a file says: names of classes, and images.

        Raises:
            DataError: it cannot be used.
        """
        try:
            return cls.parse(path)
        except ValueError as error:
            raise DataError(f"{path} {error}.", str(path)) from error

    @classmethod
    @abstractmethod
    def parse(cls, path: Path) -> tuple[list[str], list[ListedImage]]:
        """As :meth:`parsed`.

        Raises:
            ValueError: it cannot be used; a clause that follows the file's name.
        """

    @abstractmethod
    def objects(self, annotations: Sequence[Any], size: tuple[int, int]) -> list[Outlined]:
        """The objects of an image of that height and width.

        Raises:
            ValueError: they are impossible; a clause that follows the file's name.
        """

    def labels(self, pair: Pair, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
        assert isinstance(pair, ListedPair)
        try:
            if pair.size not in (None, size):
                height, width = pair.size or size
                raise ValueError(f"says that it has {width}x{height} pixels, but it has {size[1]}x{size[0]}")
            return fill_objects(self.objects(pair.annotations, size), size, self.classes, self.ignore)
        except ValueError as error:
            raise DataError(f"Of {pair.image}, {pair.mask} {error}.", str(pair.mask)) from error

    def origin_of(self, index: int) -> Origin | None:
        origin = super().origin_of(index)  # which knows what the file says of the image, so that the rest may change
        return None if origin is None else origin._replace(files=self.pairs[index].pictures)


def _find_lists(root: Path, ending: str, chosen: str | None) -> dict[Path, str]:
    """Files that list images, and the split that each is for; '' where nothing says it.

    Raises:
        ValueError: there is none, or there are several that are not for different splits.
    """
    if chosen is not None:
        if not (root / chosen).is_file():
            raise ValueError(f"there is no file {root / chosen}")
        return {root / chosen: ""}
    divided = {folder: split for name, split in SPLIT_NAMES.items() if (folder := find_folder(root, name)) is not None}
    folders = {root: "", **divided}
    if (annotations := find_folder(root, *ANNOTATIONS)) is not None:
        folders[annotations] = ""
    found = {
        path: split
        for folder, split in folders.items()
        if folder.is_dir()
        for path in sorted(folder.iterdir())
        if path.suffix.lower() == ending and path.is_file() and not is_left_by_system(path.name)
    }
    outlines = {path: split for path, split in found.items() if path.name.lower().startswith("instances")}
    found = outlines or found  # beside them, COCO itself has captions and key points
    if not found:
        raise ValueError(f"{root} holds no {ending} file of annotations, nor does its folder annotations/")
    if len(found) == 1:
        return found
    splits = {path: split or _split_in(path.stem) for path, split in found.items()}
    if "" in splits.values() or len(set(splits.values())) < len(splits):
        names = ", ".join(path.relative_to(root).as_posix() for path in list(found)[:3])
        raise ValueError(
            f"{root} holds {len(found)} files of annotations ({names}{', ...' if len(found) > 3 else ''}); have train, "
            "val and test in their names, or say which one counts with the option annotations"
        )
    return splits


def _split_in(stem: str) -> str:
    """The split that a file's name says; '' where that is none or several."""
    said = {SPLIT_NAMES[word] for word in re.findall("[a-z]+", stem.lower()) if word in SPLIT_NAMES}
    return said.pop() if len(said) == 1 else ""


def _pairs(
    root: Path, listed: Mapping[Path, Sequence[ListedImage]], splits: Mapping[Path, str]
) -> tuple[list[ListedPair], list[Fault]]:
    """Images with what is said of them, in natural order, and what does not fit.

    Raises:
        ValueError: no listed image is there.
    """
    base = find_folder(root, *IMAGES) or root
    by_name: dict[str, list[Path]] = defaultdict(list)
    by_stem: dict[str, list[Path]] = defaultdict(list)
    for path in _image_files(root, find_folder(root, *ANNOTATIONS)):
        by_name[plain_name(path.name)].append(path)
        by_stem[plain_name(path.stem)].append(path)
    called = {**by_stem, **by_name}  # frames of videos are listed without an ending
    pairs: dict[str, ListedPair] = {}
    faults: list[Fault] = []
    for file, images in listed.items():
        for image in images:
            meant = _meant_file(image.name, called, file.parent)
            if meant is None:
                faults.append(Fault(str(file), f"{file} lists {image.name}, of which {root} holds no one image."))
                continue
            within = meant.relative_to(base if meant.is_relative_to(base) else root).with_suffix("").as_posix()
            name = within.replace("/", "_")
            if name in pairs:
                faults.append(
                    Fault(str(file), f"{file} lists {image.name}, but {pairs[name].image} is called so, too.")
                )
                continue
            split = image.split or splits[file] or SPLIT_NAMES.get(within.partition("/")[0].lower(), "")
            pairs[name] = ListedPair(
                meant,
                file,
                group_by_folder(within),
                called=name,
                split=split,
                annotations=image.annotations,
                size=image.size,
            )
    if not pairs:
        raise ValueError(f"{root} holds none of the images that {', '.join(map(str, listed))} lists")
    used = {pair.image for pair in pairs.values()}
    strays = [path for paths in by_name.values() for path in paths if path not in used]
    faults += [Fault(str(path), f"{path} is in no list of annotations.") for path in strays]
    return [pairs[name] for name in sorted(pairs, key=natural_sort_key)], faults


def _image_files(root: Path, annotations: Path | None) -> Iterable[Path]:
    """All but those among the annotations, where COCO has panoptic masks."""
    for folder, folders, names in os.walk(root):
        folders[:] = sorted(
            name for name in folders if not is_left_by_system(name) and Path(folder, name) != annotations
        )
        for name in sorted(names):
            path = Path(folder, name)
            if path.suffix.lower() in EXTENSIONS and not is_left_by_system(name):
                yield path


def _meant_file(name: str, by_name: Mapping[str, Sequence[Path]], near: Path) -> Path | None:
    """The image that a list means: that which shares the most folders with the name, then the one near the list."""
    wanted = PureWindowsPath(name).parts if "\\" in name else PurePosixPath(name).parts
    ranks: dict[tuple[int, bool], list[Path]] = defaultdict(list)
    for path in by_name.get(plain_name(wanted[-1]), ()) if wanted else ():
        shared = 0
        for part, said in zip(reversed(path.parts), reversed(wanted), strict=False):
            if plain_name(part) != plain_name(said):
                break
            shared += 1
        ranks[shared, path.is_relative_to(near)].append(path)
    best = ranks[max(ranks)] if ranks else []
    return best[0] if len(best) == 1 else None
