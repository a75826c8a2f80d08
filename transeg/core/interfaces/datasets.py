"""What a dataset must be, and what writes its layout."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np


@dataclass(frozen=True, slots=True)
class Sample:
    """One image of a dataset, decoded but not augmented.

    Attributes:
        image: ``(H, W, C)``, uint8, uint16 or float32 in [0, 1].
        mask: ``(H, W)`` integer label map, or None where there is no label.
        target: the paired image of the other domain, ``(H, W, C')``, or None.
        name: unique in its dataset; names the files written for this sample.
        group: subject, slide or video sequence; splits never cut a group.
        instances: ``(H, W)`` integer numbers of single objects (nuclei, glands), 0 where there is none, or None.
        depth: ``(H, W)`` float32 distance from the camera, or None.
        pixel_size: height and width of a pixel in micrometres, or None where it is not known.
        valid: ``(H, W)`` bool, true where the image shows anything: not in the black around an endoscope's scene. Of a
            target image, what is false teaches generators that heed it, and self-training, nothing. None where all is
            true; in a dataset all have it, or none.
    """

    image: np.ndarray
    mask: np.ndarray | None
    name: str
    group: str
    target: np.ndarray | None = None
    instances: np.ndarray | None = None
    depth: np.ndarray | None = None
    pixel_size: tuple[float, float] | None = None
    valid: np.ndarray | None = None

    @property
    def size(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return self.image.shape[0], self.image.shape[1]


class Region(NamedTuple):
    """A part of an image, in pixels."""

    top: int
    left: int
    height: int
    width: int


class Origin(NamedTuple):
    """What a sample is made of: samples of equal origins are equal, wherever and whenever they are decoded.

    Attributes:
        files: whose contents decide it.
        how: whatever else does: the options of the dataset, the sample's own name and group.
        reader: the class that decodes it; when the source of that changes, nothing decoded before counts.
    """

    files: tuple[Path, ...]
    how: str
    reader: type


@dataclass(frozen=True, slots=True)
class Fault:
    """Something wrong with one file of a dataset, as `toolkit data verify` reports it."""

    file: str
    reason: str


class Writer(ABC):
    """Writes samples in a dataset's layout, so that the dataset reads them again; built by ``Class(root, about)``.

    Several processes may write different samples of one tree side by side; one of them finishes it.
    """

    keeps_splits_apart: ClassVar[bool] = False
    """Whether samples of one name may be in several splits."""

    @abstractmethod
    def has(self, name: str, split: str) -> bool:
        """Whether a sample of that name is there already, whole."""

    @abstractmethod
    def add(self, sample: Sample, split: str) -> None:
        """Write a sample: whole or not at all.

        Args:
            sample: its labels are class numbers, and it has the classes and channels that were announced.
            split: `train`, `val` or `test`.

        Raises:
            DataError: the layout cannot hold it; a sentence that says why.
        """

    @abstractmethod
    def finish(self, samples: Sequence[Written]) -> None:
        """Write what describes the whole tree, once all samples are in it."""


@dataclass(frozen=True, slots=True)
class Written:
    """What is known of a sample that a :class:`Writer` has written."""

    name: str
    split: str
    group: str
    pixel_size: tuple[float, float] | None = None


@dataclass(frozen=True, slots=True)
class About:
    """What a :class:`Writer` must know before it sees a sample.

    Attributes:
        classes: names, background first.
        channels: of every image.
        name: of the dataset, for layouts that state one.
        domain: of the images, for layouts that name it; '' where there is one domain only.
    """

    classes: tuple[str, ...]
    channels: int
    name: str
    domain: str = ""


class Dataset(ABC):
    """Images of one or more domains, with masks where there are any.

    A dataset is built by ``Class(root, split, **options)``. One with several domains takes the option ``domain``.
    """

    classes: tuple[str, ...] = ("background", "foreground")
    """Class names, background first."""
    domains: ClassVar[tuple[str, ...]] = ()
    """Names of the domains, the usual source first; empty where there is one domain only. `*` alone stands for names
    that only the files know, and, as an option, for the only one there is."""
    paired: bool = False
    """Whether samples carry their counterpart in the other domain."""
    channels: int = 3
    """Channels of every image."""
    target_channels: int = 3
    """Channels of every counterpart, where there are counterparts."""
    writer: ClassVar[type[Writer] | None] = None
    """What writes its layout, for `toolkit data convert` and `toolkit translate`; None where nothing does."""

    faults: Sequence[Fault] = ()
    """What was found wrong when the files were listed; a run does not begin with any."""

    @classmethod
    def is_divided(cls, _root: Path, _options: Mapping[str, Any], /) -> bool:
        """Whether the files in a folder, or those who published them, say which split an image belongs to.

        Where they do not, the option ``ratio`` decides, and a run gives a folder the shares that its roles need.

        Args:
            _root: the folder.
            _options: of the dataset, those that were chosen.
        """
        return True

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def __getitem__(self, index: int) -> Sample:
        """Decode a sample.

        Raises:
            DataError: a file cannot be used; `toolkit data verify` reports what every index raises.
        """

    def size_of(self, index: int) -> tuple[int, int]:
        """Height and width of a sample, for windows; a dataset that need not decode it to tell says so here.

        Raises:
            DataError: as for decoding it.
        """
        return self[index].size

    def pixel_size_of(self, index: int) -> tuple[float, float] | None:
        """Height and width of a sample's pixels in micrometres; a dataset that need not decode it to tell says so here.

        Raises:
            DataError: as for decoding it.
        """
        return self[index].pixel_size

    def slice_distance_of(self, _index: int) -> float | None:
        """Micrometres from an image to the next, where images are slices of volumes, which are the groups; else None.

        Segmentations are then measured as volumes, too, in which slices are in the natural order of their names.
        """
        return None

    def group_of(self, index: int) -> str:
        """The group of a sample, for splits; a dataset that need not decode it to tell says so here.

        Raises:
            DataError: as for decoding it.
        """
        return self[index].group

    def files_of(self, index: int) -> Mapping[str, tuple[Path, ...]]:
        """The files that a sample is read from, by what they hold: ``image``, ``mask`` and others; for
        `toolkit data verify`, which names those of a folder that no sample is read from. Empty where it cannot tell.
        """
        origin = self.origin_of(index)
        return {} if origin is None else {"image": origin.files}

    def ranges_of(self, index: int) -> tuple[tuple[float, float] | None, tuple[float, float] | None]:
        """Intensities of a sample's image and counterpart that mean black and white, where its files say so: 12 bits in
        16, for instance. None where the range of their type does. A dataset that scales them itself says nothing.
        """
        return None, None

    def read_region(self, index: int, region: Region) -> Sample | None:
        """A part of a sample, for images larger than memory; None where the whole must be decoded for it.

        Args:
            index: of the sample.
            region: within it.

        Raises:
            DataError: as for decoding it.
        """
        return None

    def origin_of(self, index: int) -> Origin | None:
        """What a sample is made of, so that it may be kept decoded (``data.cache``); None where it may not."""
        return None

    def place_of(self, index: int) -> tuple[Path, str] | None:
        """Where an image lies: its file, and what tells it from the others in that file, '' where it is the only one.

        A run tells by it whether an image that it is tested on is one that it has seen. None where nothing tells it.
        """
        origin = self.origin_of(index)
        return None if origin is None or not origin.files else (origin.files[0], origin.how)
