"""Which images a run has seen, so that no result is measured on them unawares."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from transeg.core.builders.datasets import build_dataset, validation_split
from transeg.core.builders.folds import Subset
from transeg.core.errors import TransegError, UsageError
from transeg.core.experiment.schema import Experiment
from transeg.core.interfaces import Dataset
from transeg.core.registry import Registry
from transeg.core.runs.run_folder import RunFolder

UNLABELLED = "target"
"""The role in which a run sees images without their labels; in all others it learns from labels, or selects by them."""
BLOCK, BLOCKS = 65536, 64
"""Bytes that are read of a large file at so many places to tell it from others of its size."""

REMEDY = (
    "Name other images to test on, or leave these out; a test that names the source's own folder, and no split of it, "
    "gets images of its own."
)

USES = {
    "source": "trained on with their labels",
    "synthetic": "trained on with their labels",
    "val": "used with their labels to select the best checkpoint",
    UNLABELLED: "seen in training without labels, as target",
}


@dataclass(frozen=True, slots=True)
class SeenImage:
    """An image that a run has seen.

    Attributes:
        role: what it was for: `source`, `val`, `synthetic` or `target`.
        name: of its file.
        within: what tells it from others in its file; '' where it is the only one.
        size: of the file, in bytes.
        digest: of the file's content; '' for one that is still there to be read.
        file: where it is, while that is known.
    """

    role: str
    name: str
    within: str
    size: int
    digest: str = ""
    file: Path | None = None


class SeenImages:
    """Images that a run has seen, found again by their content, wherever they lie.

    Args:
        images: all of them.
    """

    def __init__(self, images: Sequence[SeenImage]) -> None:
        self._images = sorted(images, key=lambda image: image.role == UNLABELLED)  # of two, the labelled one counts
        self._by_size: dict[int, list[SeenImage]] = {}
        self._by_file: dict[tuple[Path, str], SeenImage] = {}
        for image in self._images:
            self._by_size.setdefault(image.size, []).append(image)
            if image.file is not None:
                self._by_file.setdefault((image.file, image.within), image)
        self._by_content: dict[int, dict[tuple[str, str], SeenImage]] = {}
        self._digests: dict[tuple[int, int], str] = {}

    @classmethod
    def of(cls, datasets: Mapping[str, Dataset | None]) -> Self:
        """Those of data sets that tell where their images lie, by role."""
        there = [
            SeenImage(role, file.name, within, file.stat().st_size, file=file)
            for role, dataset in datasets.items()
            if dataset is not None
            for _, file, within in _places(dataset)
        ]
        return cls(there)

    @classmethod
    def read(cls, stored: Mapping[str, Sequence[Sequence[Any]]]) -> Self:
        """As :meth:`stored` gives them."""
        return cls([SeenImage(role, *row) for role, rows in stored.items() for row in rows])

    def stored(self) -> dict[str, list[list[Any]]]:
        """Name, place in the file, size and digest of the file of every image, by role; every file is looked into."""
        rows: dict[str, list[list[Any]]] = {}
        for image in self._images:
            rows.setdefault(image.role, []).append([image.name, image.within, image.size, self._digest_of(image)])
        return rows

    def __bool__(self) -> bool:
        return bool(self._images)

    def among(self, dataset: Dataset) -> dict[int, SeenImage]:
        """The images of a data set that have been seen, by index. Only files of equal sizes are looked into."""
        found = {index: self._find(file, within) for index, file, within in _places(dataset)} if self else {}
        return {index: image for index, image in found.items() if image is not None}

    def _find(self, file: Path, within: str) -> SeenImage | None:
        same = self._by_file.get((file, within))
        if same is not None:
            return same
        size = file.stat().st_size
        if size not in self._by_size:
            return None
        if size not in self._by_content:
            alike: dict[tuple[str, str], SeenImage] = {}
            for image in self._by_size[size]:
                alike.setdefault((self._digest_of(image), image.within), image)
            self._by_content[size] = alike
        return self._by_content[size].get((self._digest(file), within))

    def _digest_of(self, image: SeenImage) -> str:
        if image.digest or image.file is None:
            return image.digest
        return self._digest(image.file)

    def _digest(self, file: Path) -> str:
        """Of what a file holds: of the whole, or of blocks spread over it, which two images do not share by chance."""
        stat = file.stat()
        links = stat.st_dev, stat.st_ino
        if links not in self._digests:
            digest = hashlib.sha256(str(stat.st_size).encode())
            with file.open("rb") as opened:
                if stat.st_size <= BLOCK * BLOCKS:
                    digest.update(opened.read())
                else:
                    for number in range(BLOCKS):
                        opened.seek(number * (stat.st_size - BLOCK) // (BLOCKS - 1))
                        digest.update(opened.read(BLOCK))
            self._digests[links] = digest.hexdigest()[:16]
        return self._digests[links]


def check_unseen(tests: Mapping[str, Dataset], seen: SeenImages, *, transductive: bool) -> dict[str, str]:
    """Whether tests hold images that a run has seen.

    Args:
        tests: by name.
        seen: the images.
        transductive: whether those that are seen without labels, as target, may be among them.

    Returns:
        In words, which tests have images that are seen without labels.

    Raises:
        UsageError: there are images that must not be there.
    """
    said: dict[str, str] = {}
    for label, dataset in tests.items():
        among = seen.among(dataset)
        labelled = {index: image for index, image in among.items() if image.role != UNLABELLED}
        if labelled:
            raise UsageError(f"{_sentence(label, dataset, labelled)} {REMEDY}")
        if among and not transductive:
            raise UsageError(
                f"{_sentence(label, dataset, among)} Say --transductive to have the result called so, or name others."
            )
        if among:
            said[label] = (
                f"transductive: {len(among)} of {len(dataset)} test images were seen in training, without their labels"
            )
    return said


def recall_seen(folder: RunFolder, experiment: Experiment, registry: Registry) -> SeenImages:
    """The images that a run has seen: as it has written down, or, of one that has not, those of its folders that are
    still there.
    """
    if folder.seen.exists():
        return SeenImages.read(json.loads(folder.seen.read_text(encoding="utf-8")))
    found: dict[str, Dataset | None] = {}
    data = experiment.data
    for role in ("source", "val", "synthetic", "target"):
        choice = getattr(data, role)
        try:
            found[role] = None if choice is None else build_dataset(choice, role, registry)
            if role == "val" and choice is None:
                found[role] = validation_split(data.source, registry)
        except TransegError:  # moved, or not installed here
            continue
    return SeenImages.of(found)


def unseen_rest(dataset: Dataset, seen: SeenImages, *, transductive: bool) -> Dataset:
    """A data set without the groups of which a run has seen an image; itself where that leaves none or takes none.

    Args:
        dataset: of a folder that the run may have divided.
        seen: the images.
        transductive: whether those that were seen without labels stay.
    """
    among = seen.among(dataset).items()
    groups = {dataset.group_of(index) for index, image in among if not (transductive and image.role == UNLABELLED)}
    if not groups:
        return dataset
    rest = [index for index in range(len(dataset)) if dataset.group_of(index) not in groups]
    return Subset([(dataset, index) for index in rest]) if rest else dataset


def _places(dataset: Dataset) -> Iterator[tuple[int, Path, str]]:
    """Where images lie, by index, of those that tell."""
    for index in range(len(dataset)):
        place = dataset.place_of(index)
        if place is not None:
            yield index, *place


def _sentence(label: str, dataset: Dataset, among: Mapping[int, SeenImage]) -> str:
    index, image = next(iter(among.items()))
    place = dataset.place_of(index)
    assert place is not None
    copy = f", whose content {image.name} has" if image.name != place[0].name else ""
    return (
        f"{len(among)} of {len(dataset)} test images of {label} are also {USES[image.role]}, such as {place[0]}{copy}; "
        "a result on them would flatter."
    )
